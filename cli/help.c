/* Help from the tables: the overview of commands, and the options of one. */
#include "cli.h"

#include <string.h>

enum { HELP_COLUMN = 26, HELP_WIDTH = 100 };

text_buffer cli_option_spelling(const oasis_option *o)
{
    text_buffer b;
    bool on = o->type == OASIS_OPTION_FLAG && o->default_text && strcmp(o->default_text, "true") == 0;
    char letter[8] = "    ";
    if (o->letter)
        snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(b.text, sizeof b.text, "%s--%s%s%s%s", letter, on ? "[no-]" : "", o->name, o->value ? " " : "",
             o->value ? o->value : "");
    return b;
}

bool cli_shows_default(const oasis_option *o)
{
    return o->default_text && strcmp(o->default_text, "0") != 0 &&
           !(o->type == OASIS_OPTION_FLAG && strcmp(o->default_text, "false") == 0);
}

/* Prints words from `column` on, breaking lines at HELP_WIDTH. */
static void print_wrapped(FILE *to, const char *text, int column, int at)
{
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (at > column && at + 1 + n > HELP_WIDTH) {
            fprintf(to, "\n%*s", column, "");
            at = column;
        } else if (at > column) {
            fputc(' ', to);
            at++;
        }
        fprintf(to, "%.*s", n, text);
        at += n;
        text += n;
        text += strspn(text, " ");
    }
    fputc('\n', to);
}

static void print_option(FILE *to, const oasis_option *o)
{
    char text[512];
    bool shown = cli_shows_default(o);
    const char *value = o->type == OASIS_OPTION_FLAG ? "on" : o->default_text;
    snprintf(text, sizeof text, "%s%s%s%s%s%s", o->help, o->choices ? ": " : "", o->choices ? o->choices : "",
             shown ? " (default " : "", shown ? value : "", shown ? ")" : "");
    text_buffer spelling = cli_option_spelling(o);
    int at = fprintf(to, "  %s", spelling.text);
    if (at > HELP_COLUMN - 2) {
        fputc('\n', to);
        at = 0;
    }
    fprintf(to, "%*s", HELP_COLUMN - at, "");
    print_wrapped(to, text, HELP_COLUMN, HELP_COLUMN);
}

/* All rows of a group, from every table of the command. */
static void print_group(FILE *to, const command *c, const char *group)
{
    fprintf(to, "\n%s:\n", group);
    for (int i = 0; i < MAX_TABLES && c->tables[i]; i++)
        for (const oasis_option *o = c->tables[i](); o->name; o++)
            if (strcmp(o->group, group) == 0)
                print_option(to, o);
}

static bool group_was_printed(const command *c, int table, const oasis_option *row)
{
    for (int i = 0; i <= table; i++)
        for (const oasis_option *o = c->tables[i](); o->name && o != row; o++)
            if (strcmp(o->group, row->group) == 0)
                return true;
    return false;
}

void cli_print_help(const command *c, FILE *to)
{
    fprintf(to, "Usage: oasis %s%s%s%s\n\n", c->name, c->tables[0] ? " [OPTIONS]" : "", c->words ? " " : "",
            c->words ? c->words : "");
    for (const char *p = c->description; *p;) {
        char paragraph[1024];
        size_t n = strcspn(p, "\n");
        snprintf(paragraph, sizeof paragraph, "%.*s", (int)n, p);
        print_wrapped(to, paragraph, 0, 0);
        p += n + (p[n] == '\n');
    }
    for (int i = 0; i < MAX_TABLES && c->tables[i]; i++)
        for (const oasis_option *o = c->tables[i](); o->name; o++)
            if (!group_was_printed(c, i, o))
                print_group(to, c, o->group);
}

void cli_print_overview(FILE *to)
{
    fprintf(to,
            "oasis %s: video super-resolution\n\n"
            "Usage: oasis [upscale] [OPTIONS] IN OUT\n"
            "       oasis COMMAND ...\n\nCommands:\n",
            oasis_version());
    for (const command *const *c = cli_commands; *c; c++)
        if (!(*c)->hidden)
            fprintf(to, "  %-12s%s\n", (*c)->name, (*c)->summary);
    fprintf(to, "\n'oasis help COMMAND' says more.\n");
}

static int run_help(int argc, char **argv)
{
    word_list words;
    int code;
    if (!cli_parse(cli_find_command("help"), NULL, argc, argv, &words, &code))
        return code;
    if (words.count == 0) {
        cli_print_overview(stdout);
        return EXIT_DONE;
    }
    const command *c = cli_find_command(words.text[0]);
    if (!c) {
        cli_error("there is no command \"%s\"; 'oasis help' lists them", words.text[0]);
        return EXIT_USAGE;
    }
    cli_print_help(c, stdout);
    return EXIT_DONE;
}

const command cli_command_help = {
    .name = "help",
    .words = "[COMMAND]",
    .max_words = 1,
    .summary = "explain a command and its options",
    .description = "Explains a command and its options.",
    .run = run_help,
};
