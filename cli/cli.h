/*
 * The command line: what its files share.  Each command is a file that defines one `command` and a line in main.c; its
 * options are tables of rows (oasis/options.h), from which parsing, help, man page and completions are made.
 *
 * Results go to standard output, everything else to standard error; the two are never mixed.  Only the public headers
 * of the libraries are used here.
 */
#ifndef OAS_CLI_CLI_H
#define OAS_CLI_CLI_H

#include <jansson.h>
#include <oasis/oasis.h>
#include <oasis/options.h>
#include <oasis/video.h>

/* What the program ends with; 128 + the signal's number when a signal stopped it. */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,  /* at run time: disk full, encoder refused, ... */
    EXIT_USAGE = 2,   /* the command line is wrong */
    EXIT_INPUT = 3,   /* the input is missing, damaged or of no known kind */
    EXIT_MODEL = 4,   /* the model is missing or wrong */
    EXIT_MACHINE = 5, /* device or memory do not suffice */
    EXIT_PARTIAL = 6  /* some files of several failed */
};

/* ---- commands (main.c) --------------------------------------------------------------------------------------------- */

enum { MAX_TABLES = 4, MAX_WORDS = 2 };

typedef const oasis_option *option_table(void);

typedef struct command {
    const char *name;
    const char *words;                 /* names of the positional words, as in usage: "IN OUT"; NULL = it takes none */
    int max_words;                     /* at most MAX_WORDS */
    const char *summary;               /* one line without a period */
    const char *description;           /* paragraphs for help and man page, separated by an empty line */
    option_table *tables[MAX_TABLES];  /* as many as there are, then NULL */
    bool hidden;                       /* works, but is not listed */
    int (*run)(int argc, char **argv); /* argv[0] is the first word after the command's; returns an exit_code */
} command;

extern const command *const cli_commands[]; /* ends with NULL; the first one is the default */

const command *cli_find_command(const char *name);

/* ---- arguments (args.c) -------------------------------------------------------------------------------------------- */

typedef struct word_list {
    const char *text[MAX_WORDS];
    int count;
} word_list;

/*
 * Parses a command's arguments.
 *   objects  [number of tables]: the struct each table writes to
 *   exit     the code to end with when the result is false (help was asked for, or the usage is wrong: already said)
 * Accepted: --name VALUE, --name=VALUE, --flag, --no-flag, -x VALUE, -xVALUE, -ab, FFmpeg's -name VALUE, and "--" before
 * words that begin with a dash; "-" alone is a word.
 */
bool cli_parse(const command *c, void *const objects[], int argc, char **argv, word_list *words, int *exit);

/* A word that is no option, no file and no path cannot be an input: a command mistyped.  Says so. */
bool cli_is_mistyped_command(const char *word);

/* The nearest of several names, or NULL when none is near: start with best = {NULL, 0}, then offer each. */
typedef struct nearest {
    const char *name;
    int distance;
} nearest;
void cli_nearest_offer(nearest *best, const char *wanted, const char *candidate);

/* ---- help and what is generated (help.c, generate.c) --------------------------------------------------------------- */

void cli_print_overview(FILE *to);
void cli_print_help(const command *c, FILE *to);

/* Bounded text: appends, and ends in "..." when it does not fit. */
typedef struct text_buffer {
    char text[256];
} text_buffer;

/* "-s, --scale X" or "    --[no-]audio". */
text_buffer cli_option_spelling(const oasis_option *o);

/* Not for flags that are off, and not for 0, which the row's own words explain ("0 = as planned"). */
bool cli_shows_default(const oasis_option *o);

/* ---- models (models.c) --------------------------------------------------------------------------------------------- */

#define CLI_DEFAULT_MODEL "oasis-nano"

/*
 * Opens a model by path or by name (README: "Where models are looked for").
 *   name    NULL = CLI_DEFAULT_MODEL
 *   folder  looked in before the usual ones, or NULL
 *   path    [size], receives where it was found
 */
oasis_status cli_open_model(oasis_model **model, const char *name, const char *folder, char *path, size_t size,
                            oasis_message *message);

/* Gives the model the decoder of a file, by path or by a model's name; NULL: nothing. */
oasis_status cli_set_decoder(oasis_model *model, const char *name, const char *folder, oasis_message *message);

/* ---- stopping, progress, messages (signals.c, progress.c) ---------------------------------------------------------- */

/* From here on the first SIGINT, SIGTERM or SIGHUP is only noted; the second ends the program at once. */
void cli_catch_signals(void);

/* The number of the signal that came, or 0. */
int cli_signal(void);

/* Writes "oasis: SENTENCE" to standard error. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The exit code for a status that nothing more is known about. */
int cli_exit_code(oasis_status status);

typedef struct progress_line {
    bool silent;
    bool started, terminal; /* set by the first call */
    double last;            /* seconds of the job at the last line */
    int drawn;              /* columns on the terminal's line */
} progress_line;

/* An oasis_progress_fn; `user` is a zeroed progress_line.  Asks the job to stop once a signal has come. */
bool cli_progress(void *user, const oasis_progress *progress);

/* Clears the line, so that other text can follow. */
void cli_progress_end(progress_line *line);

/* "12 s", "3:07", "1:02:03". */
text_buffer cli_duration(double seconds);

/* "1.5 GiB", "200 KiB", "17 bytes"; "44.5 G", "17" with a unit of the caller's behind it. */
text_buffer cli_bytes(int64_t bytes);
text_buffer cli_count(double count);

/* ---- JSON (json.c) ------------------------------------------------------------------------------------------------- */

enum { CLI_JSON_SCHEMA = 1 };

/* {"schema", "command", "version"}: every object that is printed begins so.  NULL when memory is short. */
json_t *cli_json_new(const char *command_name);

/* A text as JSON; bytes that are not UTF-8 (in file names) become '?'; NULL gives null. */
json_t *cli_json_text(const char *text);

/* A number, or null when it is not finite. */
json_t *cli_json_number(double value);

json_t *cli_json_media(const oasis_media_info *info);
json_t *cli_json_model(const oasis_model_info *info, const char *path);
json_t *cli_json_plan(const oasis_plan *plan);
json_t *cli_json_statistics(const oasis_statistics *statistics);

/* "error": {"status", "message", "exit_code"}. */
json_t *cli_json_error(oasis_status status, const char *message, int exit_code);

/* Prints the object to standard output and frees it.  Returns an exit_code: EXIT_DONE, or EXIT_FAILED when the object
 * is NULL or cannot be written. */
int cli_json_print(json_t *object);

#endif
