/* Routing texts: read line by line, each kind of line by its own function; printed back. */
#include "format/routing.h"

#include "base/filemap.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WORDS = 10, MAX_LINE = 512 };

static const char *const mode_names[OAS_ROUTING_MODES] = {"fixed", "ratio", "budget", "threshold"};
static const int mode_numbers[OAS_ROUTING_MODES] = {0, 3, 3, 2};

/* The line being read. */
typedef struct line {
    const char *where;
    int number;
    int words;
    char *word[MAX_WORDS]; /* into `text` */
    char text[MAX_LINE];
    bool seen_layers, seen_window;
    oasis_message *message;
} line;

static oasis_status fail_words(const line *l, const char *expected)
{
    return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: \"%s\" with %d words behind it, expected \"%s\"",
                    l->where, l->number, l->word[0], l->words - 1, expected);
}

/* A whole number min .. max from a word.  `what` names it. */
static oasis_status read_int(const line *l, int word, const char *what, int min, int max, int *out)
{
    const char *text = l->word[word];
    size_t digits = strspn(text, "0123456789");
    long value = digits > 0 && digits < 10 && !text[digits] ? strtol(text, NULL, 10) : -1;
    if (value < min || value > max)
        return oas_fail(l->message, OASIS_E_FORMAT,
                        "%s, line %d: %s is \"%.40s\", expected a whole number from %d to %d", l->where, l->number,
                        what, text, min, max);
    *out = (int)value;
    return OASIS_OK;
}

/* A decimal number min .. max, with a point in every locale. */
static oasis_status read_number(const line *l, int word, const char *what, double min, double max, double *out)
{
    double v;
    if (!oas_json_number(l->word[word], &v) || v < min || v > max)
        return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: %s is \"%.40s\", expected a number from %g to %g",
                        l->where, l->number, what, l->word[word], min, max);
    *out = v;
    return OASIS_OK;
}

/* ---- the kinds of lines ------------------------------------------------------------------------------------------ */

static oasis_status read_model(line *l, routing *r)
{
    if (l->words != 2)
        return fail_words(l, "model NAME");
    if (strlen(l->word[1]) >= sizeof r->model)
        return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: a model name of %zu bytes, expected at most %zu",
                        l->where, l->number, strlen(l->word[1]), sizeof r->model - 1);
    strcpy(r->model, l->word[1]);
    return OASIS_OK;
}

static oasis_status read_layers(line *l, routing *r)
{
    if (l->words != 4 || strcmp(l->word[2], "heads") != 0)
        return fail_words(l, "layers N heads N");
    if (l->seen_layers)
        return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: a second \"layers\" line", l->where, l->number);
    OAS_TRY(read_int(l, 1, "the number of layers", 1, OAS_ROUTING_MAX_LAYERS, &r->layers));
    OAS_TRY(read_int(l, 3, "the number of heads", 1, OAS_MAX_HEADS, &r->heads));
    r->layer = oas_alloc((size_t)r->layers, sizeof *r->layer);
    if (!r->layer)
        return oas_fail_memory(l->message, (size_t)r->layers * sizeof *r->layer, "a routing");
    l->seen_layers = true;
    return OASIS_OK;
}

static oasis_status read_window(line *l, routing *r)
{
    static const char *const names[3] = {"frames of the window", "rows of the window", "columns of the window"};
    if (l->words != 6 || strcmp(l->word[4], "border") != 0)
        return fail_words(l, "window T H W border truncate");
    if (l->seen_window)
        return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: a second \"window\" line", l->where, l->number);
    if (strcmp(l->word[5], "truncate") != 0)
        return oas_fail(l->message, OASIS_E_UNSUPPORTED,
                        "%s, line %d: border \"%.40s\" cannot be computed, expected truncate", l->where, l->number,
                        l->word[5]);
    for (int i = 0; i < 3; i++) {
        OAS_TRY(read_int(l, 1 + i, names[i], 1, OAS_ROUTING_MAX_WINDOW, &r->window[i]));
        if (r->window[i] % 2 == 0)
            return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: %s are %d, expected an odd number", l->where,
                            l->number, names[i], r->window[i]);
    }
    l->seen_window = true;
    return OASIS_OK;
}

static oasis_status read_timestep(line *l, routing *r)
{
    if (l->words != 2)
        return fail_words(l, "timestep T");
    return read_number(l, 1, "the timestep", 0, 1000, &r->timestep);
}

static oasis_status read_mode(line *l, routing *r)
{
    for (int m = 0; m < OAS_ROUTING_MODES && l->words > 1; m++) {
        if (strcmp(l->word[1], mode_names[m]) != 0)
            continue;
        if (l->words != 2 + mode_numbers[m])
            return fail_words(l, m == OAS_ROUTING_FIXED       ? "mode fixed"
                                 : m == OAS_ROUTING_THRESHOLD ? "mode threshold W I"
                                                              : "mode ratio|budget G I W");
        r->mode = (routing_mode)m;
        for (int i = 0; i < mode_numbers[m]; i++)
            OAS_TRY(read_number(l, 2 + i, "a number of the mode", 0, m == OAS_ROUTING_THRESHOLD ? 1 : 1e6,
                                &r->mode_value[i]));
        return OASIS_OK;
    }
    return oas_fail(l->message, OASIS_E_FORMAT,
                    "%s, line %d: unknown mode \"%.40s\", expected fixed, ratio, budget or threshold", l->where,
                    l->number, l->words > 1 ? l->word[1] : "");
}

static oasis_status read_clips(line *l, routing *r)
{
    if (l->words != 6 || strcmp(l->word[2], "queries") != 0 || strcmp(l->word[4], "sha256") != 0)
        return fail_words(l, "clips N queries N sha256 DIGITS");
    OAS_TRY(read_int(l, 1, "the number of clips", 1, 1000000, &r->clips));
    OAS_TRY(read_int(l, 3, "the number of queries", 1, 100000000, &r->queries));
    if (strlen(l->word[5]) != sizeof r->digest - 1 || strspn(l->word[5], "0123456789abcdef") != sizeof r->digest - 1)
        return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: sha256 \"%.80s\", expected 64 hexadecimal digits",
                        l->where, l->number, l->word[5]);
    strcpy(r->digest, l->word[5]);
    return OASIS_OK;
}

static oasis_status read_route(line *l, routing *r)
{
    int layer = 0;
    if (l->words != 3)
        return fail_words(l, "route LAYER LETTERS");
    if (!l->seen_layers || !l->seen_window)
        return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: a route before the \"%s\" line", l->where, l->number,
                        l->seen_layers ? "window" : "layers");
    OAS_TRY(read_int(l, 1, "the layer of a route", 0, r->layers - 1, &layer));
    route_layer *route = &r->layer[layer];
    if (route->heads)
        return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: a second route for layer %d", l->where, l->number,
                        layer);
    if (strlen(l->word[2]) != (size_t)r->heads)
        return oas_fail(l->message, OASIS_E_FORMAT,
                        "%s, line %d: layer %d has %zu letters, expected one for each of %d heads", l->where, l->number,
                        layer, strlen(l->word[2]), r->heads);
    for (int h = 0; h < r->heads; h++) {
        char kind = l->word[2][h];
        if (kind != OAS_HEAD_GLOBAL && kind != OAS_HEAD_INTRA && kind != OAS_HEAD_WINDOW)
            return oas_fail(l->message, OASIS_E_FORMAT,
                            "%s, line %d: layer %d, head %d has the letter 0x%02x, expected g, i or w", l->where,
                            l->number, layer, h, (unsigned)(unsigned char)kind);
        route->kind[h] = kind;
    }
    route->heads = r->heads;
    memcpy(route->window, r->window, sizeof route->window);
    return OASIS_OK;
}

static oasis_status read_stat(line *l, routing *r)
{
    const double largest = 1e6;
    int layer = 0, head = 0;
    if (l->words != 7)
        return fail_words(l, "stat LAYER HEAD D_I D_W SD_I SD_W");
    if (!l->seen_layers)
        return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: a stat before the \"layers\" line", l->where,
                        l->number);
    OAS_TRY(read_int(l, 1, "the layer of a stat", 0, r->layers - 1, &layer));
    OAS_TRY(read_int(l, 2, "the head of a stat", 0, r->heads - 1, &head));
    if (!r->stat && !(r->stat = oas_alloc((size_t)r->layers * (size_t)r->heads, sizeof *r->stat)))
        return oas_fail_memory(l->message, (size_t)(r->layers * r->heads) * sizeof *r->stat, "routing statistics");
    route_stat *s = &r->stat[layer * r->heads + head];
    if (s->known)
        return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: a second stat for layer %d, head %d", l->where,
                        l->number, layer, head);
    OAS_TRY(read_number(l, 3, "D_I", 0, largest, &s->intra));
    OAS_TRY(read_number(l, 4, "D_W", 0, largest, &s->window));
    OAS_TRY(read_number(l, 5, "sd_I", 0, largest, &s->sd_intra));
    OAS_TRY(read_number(l, 6, "sd_W", 0, largest, &s->sd_window));
    s->known = true;
    return OASIS_OK;
}

static const struct {
    const char *word;
    oasis_status (*read)(line *l, routing *r);
} kinds[] = {{"model", read_model}, {"layers", read_layers}, {"window", read_window}, {"timestep", read_timestep},
             {"mode", read_mode},   {"clips", read_clips},   {"route", read_route},   {"stat", read_stat}};

/* ---- the text ---------------------------------------------------------------------------------------------------- */

/* Cuts a line into words. */
static oasis_status cut_line(line *l, const char *text, size_t size)
{
    if (size >= sizeof l->text)
        return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: %zu bytes, expected at most %d", l->where, l->number,
                        size, MAX_LINE - 1);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < 0x20 || (unsigned char)text[i] > 0x7e)
            return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: byte 0x%02x, expected printable ASCII", l->where,
                            l->number, (unsigned)(unsigned char)text[i]);
    memcpy(l->text, text, size);
    l->text[size] = '\0';
    l->words = 0;
    char *rest = l->text;
    for (char *word = strtok_r(rest, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        if (l->words == MAX_WORDS)
            return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: more than %d words", l->where, l->number,
                            MAX_WORDS);
        l->word[l->words++] = word;
    }
    return OASIS_OK;
}

static oasis_status read_line(line *l, routing *r)
{
    if (l->number == 1) {
        if (l->words == 0)
            return oas_fail(l->message, OASIS_E_FORMAT, "%s, line 1: \"\" is not a routing", l->where);
        if (l->words != 2 || strcmp(l->word[0], "oasis-routing") != 0)
            return oas_fail(l->message, OASIS_E_FORMAT, "%s, line 1: not a routing, expected \"oasis-routing 1\"",
                            l->where);
        if (strcmp(l->word[1], "1") != 0)
            return oas_fail(l->message, OASIS_E_UNSUPPORTED,
                            "%s, line 1: version \"%.40s\", this program reads version 1", l->where, l->word[1]);
        return OASIS_OK;
    }
    if (l->words == 0)
        return OASIS_OK;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(l->word[0], kinds[i].word) == 0)
            return kinds[i].read(l, r);
    return oas_fail(l->message, OASIS_E_FORMAT, "%s, line %d: unknown word \"%.40s\"", l->where, l->number, l->word[0]);
}

static oasis_status read_lines(routing *r, const char *text, size_t size, const char *where, oasis_message *message)
{
    line l = {.where = where, .message = message};
    if (size > OAS_ROUTING_MAX_BYTES)
        return oas_fail(message, OASIS_E_FORMAT, "%s: %zu bytes, expected at most %d", where, size,
                        OAS_ROUTING_MAX_BYTES);
    if (size == 0)
        return oas_fail(message, OASIS_E_FORMAT, "%s: is empty", where);
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t n = end ? (size_t)(end - text) - at : size - at;
        l.number++;
        OAS_TRY(cut_line(&l, text + at, n));
        OAS_TRY(read_line(&l, r));
        at += n + 1;
    }
    if (!l.seen_layers)
        return oas_fail(message, OASIS_E_FORMAT, "%s: has no \"layers\" line", where);
    for (int i = 0; i < r->layers; i++)
        if (!r->layer[i].heads)
            return oas_fail(message, OASIS_E_FORMAT, "%s: has no route for layer %d of %d", where, i, r->layers);
    return OASIS_OK;
}

oasis_status oas_routing_read(routing *r, const char *text, size_t size, const char *where, oasis_message *message)
{
    *r = (routing){.timestep = -1};
    oasis_status status = read_lines(r, text, size, where, message);
    if (status != OASIS_OK)
        oas_routing_free(r);
    return status;
}

void oas_routing_free(routing *r)
{
    oas_free(r->layer);
    oas_free(r->stat);
    *r = (routing){.timestep = -1};
}

oasis_status oas_routing_open(routing *r, const char *path, int layers, int heads, oasis_message *message)
{
    filemap map;
    OAS_TRY(oas_filemap_open(&map, path, message));
    oasis_status s = oas_routing_read(r, (const char *)map.data, map.size, path, message);
    oas_filemap_close(&map);
    if (s != OASIS_OK || (r->layers == layers && r->heads == heads))
        return s;
    s = oas_fail(message, OASIS_E_FORMAT, "%s: routes %d layers of %d heads, the transformer has %d of %d", path,
                 r->layers, r->heads, layers, heads);
    oas_routing_free(r);
    return s;
}

static void add_stat(text_buffer *text, const route_stat *s)
{
    const double value[] = {s->intra, s->window, s->sd_intra, s->sd_window};
    for (size_t i = 0; i < sizeof value / sizeof value[0]; i++) {
        oas_text_add(text, " ");
        oas_json_add_number(text, value[i]);
    }
    oas_text_add(text, "\n");
}

char *oas_routing_text(const routing *r)
{
    text_buffer text = {0};
    oas_text_add(&text, "oasis-routing 1\n");
    if (r->model[0])
        oas_text_add(&text, "model %s\n", r->model);
    oas_text_add(&text, "layers %d heads %d\n", r->layers, r->heads);
    oas_text_add(&text, "window %d %d %d border truncate\n", r->window[0], r->window[1], r->window[2]);
    if (r->timestep >= 0) {
        oas_text_add(&text, "timestep ");
        oas_json_add_number(&text, r->timestep);
        oas_text_add(&text, "\n");
    }
    oas_text_add(&text, "mode %s", mode_names[r->mode]);
    for (int i = 0; i < mode_numbers[r->mode]; i++) {
        oas_text_add(&text, " ");
        oas_json_add_number(&text, r->mode_value[i]);
    }
    oas_text_add(&text, "\n");
    if (r->clips)
        oas_text_add(&text, "clips %d queries %d sha256 %s\n", r->clips, r->queries, r->digest);
    for (int i = 0; i < r->layers; i++)
        oas_text_add(&text, "route %d %.*s\n", i, r->heads, r->layer[i].kind);
    for (int i = 0; r->stat && i < r->layers * r->heads; i++)
        if (r->stat[i].known) {
            oas_text_add(&text, "stat %d %d", i / r->heads, i % r->heads);
            add_stat(&text, &r->stat[i]);
        }
    if (text.failed) {
        oas_text_free(&text);
        return NULL;
    }
    return text.data;
}

void oas_routing_count(const routing *r, int64_t count[3])
{
    memset(count, 0, 3 * sizeof *count);
    for (int i = 0; i < r->layers; i++)
        for (int h = 0; h < r->heads; h++)
            count[r->layer[i].kind[h] == OAS_HEAD_GLOBAL ? 0 : r->layer[i].kind[h] == OAS_HEAD_INTRA ? 1 : 2]++;
}
