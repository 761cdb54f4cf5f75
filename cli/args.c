/* Arguments by the option tables: from argv to the fields of structs, or a sentence about what is wrong. */
#include "cli.h"

#include <string.h>
#include <unistd.h>

/* An option as found on the command line. */
typedef struct match {
    const oasis_option *row, *table; /* row NULL: none found */
    void *object;
    bool negated; /* spelled --no-NAME */
} match;

static bool name_is(const char *name, const char *text, size_t length)
{
    return name && strlen(name) == length && strncmp(name, text, length) == 0;
}

static match find_long(const command *c, void *const objects[], const char *text, size_t length)
{
    for (int negated = 0; negated < 2; negated++) {
        if (negated && (length < 4 || strncmp(text, "no-", 3) != 0))
            break;
        const char *name = text + (negated ? 3 : 0);
        size_t n = length - (negated ? 3 : 0);
        for (int i = 0; i < MAX_TABLES && c->tables[i]; i++)
            for (const oasis_option *o = c->tables[i](); o->name; o++)
                if ((name_is(o->name, name, n) || name_is(o->alias, name, n)) &&
                    (!negated || o->type == OASIS_OPTION_FLAG))
                    return (match){o, c->tables[i](), objects[i], negated != 0};
    }
    return (match){NULL, NULL, NULL, false};
}

static match find_letter(const command *c, void *const objects[], char letter)
{
    for (int i = 0; i < MAX_TABLES && c->tables[i]; i++)
        for (const oasis_option *o = c->tables[i](); o->name; o++)
            if (o->letter && o->letter == letter)
                return (match){o, c->tables[i](), objects[i], false};
    return (match){NULL, NULL, NULL, false};
}

/* Edits (insert, delete, replace, swap neighbours) between two short names. */
static int distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    int d[LONGEST + 1][LONGEST + 1];
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > LONGEST || m > LONGEST)
        return LONGEST;
    for (int i = 0; i <= n; i++)
        for (int j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

void cli_nearest_offer(nearest *best, const char *wanted, const char *candidate)
{
    size_t length = strlen(wanted);
    bool begins = length >= 3 && strncmp(candidate, wanted, length) == 0;
    int d = begins ? 1 : distance(wanted, candidate);
    int limit = length < 4 ? 1 : length < 8 ? 2 : 3;
    if (d <= limit && (!best->name || d < best->distance))
        *best = (nearest){candidate, d};
}

bool cli_is_mistyped_command(const char *word)
{
    nearest best = {NULL, 0};
    if (word[0] == '-' || strpbrk(word, "./%") || access(word, F_OK) == 0)
        return false;
    for (const command *const *c = cli_commands; *c; c++)
        if (!(*c)->hidden)
            cli_nearest_offer(&best, word, (*c)->name);
    cli_error("\"%s\" is neither a command nor a file%s%s%s; 'oasis help' lists the commands", word,
              best.name ? " (did you mean \"" : "", best.name ? best.name : "", best.name ? "\"?)" : "");
    return true;
}

/* "unknown option --skale: did you mean --scale?" */
static bool refuse_unknown(const command *c, const char *word, size_t length)
{
    char wanted[64];
    size_t dashes = strspn(word, "-");
    snprintf(wanted, sizeof wanted, "%.*s", (int)(length - dashes), word + dashes);
    nearest best = {NULL, 0};
    for (int i = 0; i < MAX_TABLES && c->tables[i]; i++)
        for (const oasis_option *o = c->tables[i](); o->name; o++)
            cli_nearest_offer(&best, wanted, o->name);
    if (best.name)
        cli_error("unknown option %.*s: did you mean --%s?", (int)length, word, best.name);
    else
        cli_error("unknown option %.*s; 'oasis help %s' lists the options", (int)length, word, c->name);
    return false;
}

static bool set(const match *m, const char *text)
{
    oasis_message message;
    if (oasis_option_set(m->table, m->object, m->row->name, text, &message) >= 0)
        return true;
    cli_error("%s", message.text);
    return false;
}

/* Sets from `inline_text` ("=VALUE" or "-xVALUE") or the next word; *used counts words taken. */
static bool set_from(const match *m, const char *inline_text, int left, char **next, int *used)
{
    if (m->row->type == OASIS_OPTION_FLAG) {
        if (m->negated && inline_text) {
            cli_error("option --no-%s takes no value", m->row->name);
            return false;
        }
        return set(m, m->negated ? "false" : inline_text ? inline_text : "true");
    }
    if (inline_text)
        return set(m, inline_text);
    if (left < 1)
        return set(m, NULL);
    ++*used;
    return set(m, next[0]);
}

/* -x, -xVALUE or flags together, as in -qy. */
static bool parse_letters(const command *c, void *const objects[], const char *word, int left, char **next, int *used)
{
    for (const char *p = word + 1; *p; p++) {
        match m = find_letter(c, objects, *p);
        if (!m.row)
            return refuse_unknown(c, word, strlen(word));
        if (m.row->type != OASIS_OPTION_FLAG)
            return set_from(&m, p[1] ? p + 1 : NULL, left, next, used);
        if (!set(&m, "true"))
            return false;
    }
    return true;
}

static bool parse_option(const command *c, void *const objects[], const char *word, int left, char **next, int *used)
{
    bool is_long = word[1] == '-';
    const char *name = word + (is_long ? 2 : 1);
    size_t length = strcspn(name, "=");
    /* One dash and a whole name is FFmpeg's way: -crf 18, -c:v libx264. */
    if (is_long || length > 1) {
        match m = find_long(c, objects, name, length);
        if (m.row)
            return set_from(&m, name[length] == '=' ? name + length + 1 : NULL, left, next, used);
        if (is_long)
            return refuse_unknown(c, word, length + 2);
    }
    return parse_letters(c, objects, word, left, next, used);
}

bool cli_parse(const command *c, void *const objects[], int argc, char **argv, word_list *words, int *exit)
{
    bool only_words = false;
    words->count = 0;
    *exit = EXIT_USAGE;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (only_words || word[0] != '-' || word[1] == 0) {
            if (words->count == c->max_words) {
                cli_error("unexpected \"%s\": 'oasis %s' takes %s%s", word, c->name,
                          c->max_words ? "no more than " : "no words", c->max_words ? c->words : "");
                return false;
            }
            words->text[words->count++] = word;
        } else if (strcmp(word, "--") == 0) {
            only_words = true;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            cli_print_help(c, stdout);
            *exit = EXIT_DONE;
            return false;
        } else {
            int used = 0;
            if (!parse_option(c, objects, word, argc - i - 1, argv + i + 1, &used))
                return false;
            i += used;
        }
    }
    return true;
}
