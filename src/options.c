/*
 * Options from text.  In: a table of rows, the struct it is for, a name and a text.  Out: the field, or a sentence that
 * says what was found and what is allowed.  Knows nothing of command lines (cli/args.c) and of what the values mean.
 *
 * Numbers are read here and not by strtod, which takes a decimal comma in half of Europe.
 */
#include <oasis/options.h>

#include "base/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(f) offsetof(oasis_options, f)

_Static_assert(sizeof(oasis_dtype_choice) == sizeof(int), "a CHOICE is stored as an int");
_Static_assert(sizeof(oasis_color_fix) == sizeof(int), "a CHOICE is stored as an int");

static const char any_device[] = "auto"; /* the default is this very text */

static const oasis_option upscale_rows[] = {
    {"scale", 's', NULL, OASIS_OPTION_NUMBER, FIELD(scale), 1, 8, NULL, "X", "4",
     "enlarge width and height X times, fractions too", "Size"},
    {"size", 0, NULL, OASIS_OPTION_SIZE, FIELD(width), 2, 32768, NULL, "WxH", NULL,
     "exact size of the output in pixels, in place of --scale", "Size"},
    {"resolution", 0, NULL, OASIS_OPTION_INT, FIELD(short_side), 0, 32768, NULL, "N", "0",
     "shorter side of the output in pixels, in place of --scale; 0 = by --scale", "Size"},
    {"strength", 0, NULL, OASIS_OPTION_NUMBER, FIELD(strength), 0, 1, NULL, "A", "1",
     "how much of the network's change is applied: 0 = plain enlargement, 1 = all", "Picture"},
    {"color-fix", 0, "color_fix", OASIS_OPTION_CHOICE, FIELD(color_fix), 0, 0, "none|wavelet|adain", "KIND", "none",
     "take the broad colours from the input", "Picture"},
    {"scene-cuts", 0, NULL, OASIS_OPTION_FLAG, FIELD(scene_cuts), 0, 0, NULL, NULL, "true",
     "forget the past where the picture changes at once", "Picture"},
    {"dtype", 0, NULL, OASIS_OPTION_CHOICE, FIELD(dtype), 0, 0, "auto|fp32|bf16", "TYPE", "auto",
     "number format of the network; auto = bf16 where the processor computes it", "Computing"},
    {"device", 0, NULL, OASIS_OPTION_TEXT, FIELD(device), 0, 0, NULL, "DEVICE", any_device,
     "what computes: cpu, cuda, cuda:N (GPU N, from 0 on), or auto: a GPU if there is one", "Computing"},
    {"threads", 'j', NULL, OASIS_OPTION_INT, FIELD(threads), 0, 1024, NULL, "N", "0",
     "threads that compute; 0 = as many as there are processors; the result does not depend on it", "Computing"},
    {"mem", 0, NULL, OASIS_OPTION_BYTES, FIELD(memory), 0, 0x1p50, NULL, "SIZE", "0",
     "memory the run may use on the device, such as 1500M or 2G; 0 = 60 % of what is free, 90 % of a GPU's", "Computing"},
    {"window-frames", 0, NULL, OASIS_OPTION_INT, FIELD(window_frames), 0, 1025, NULL, "N", "0",
     "frames the network sees at once, one more than a multiple of 4; 0 = as planned", "Computing"},
    {"window-size", 0, NULL, OASIS_OPTION_INT, FIELD(window_size), 0, 32768, NULL, "N", "0",
     "side of what the network sees at once, output pixels, a multiple of 16; 0 = as planned", "Computing"},
    {.name = NULL},
};

void oasis_options_init(oasis_options *options)
{
    *options = (oasis_options){
        .size = sizeof *options,
        .scale = 4,
        .strength = 1,
        .color_fix = OASIS_COLOR_FIX_NONE,
        .dtype = OASIS_DTYPE_AUTO,
        .scene_cuts = true,
        .device = any_device,
    };
}

const oasis_option *oasis_upscale_options(void)
{
    return upscale_rows;
}

const oasis_option *oasis_option_find(const oasis_option *table, const char *name)
{
    for (const oasis_option *o = table; name && o->name; o++)
        if (strcmp(o->name, name) == 0 || (o->alias && strcmp(o->alias, name) == 0))
            return o;
    return NULL;
}

/* ---- reading numbers; each takes a cursor, moves it past what it read, and returns false when there is nothing ------ */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* value = value * 10 + digit; false when that leaves int64_t. */
static bool append_digit(int64_t *value, char digit)
{
    int d = digit - '0';
    if (*value > (INT64_MAX - d) / 10)
        return false;
    *value = *value * 10 + d;
    return true;
}

/* [+-]digits */
static bool read_integer(const char **text, int64_t *value)
{
    const char *p = *text;
    bool negative = *p == '-';
    if (*p == '-' || *p == '+')
        p++;
    if (!is_digit(*p))
        return false;
    *value = 0;
    for (; is_digit(*p); p++)
        if (!append_digit(value, *p))
            return false;
    if (negative)
        *value = -*value;
    *text = p;
    return true;
}

/*
 * [+-]digits[.digits][e[+-]digits], no "inf", no "nan", no hexadecimal.  Up to 18 digits count; the nearest double for
 * up to 15 digits and exponents within 22, which covers what people type, and within 2 units in the last place else.
 */
static bool read_number(const char **text, double *value)
{
    const char *p = *text;
    bool negative = *p == '-';
    if (*p == '-' || *p == '+')
        p++;
    if (!is_digit(p[*p == '.']))
        return false;
    int64_t digits = 0, exponent = 0, shift = 0;
    for (bool fraction = false; is_digit(*p) || (*p == '.' && !fraction); p++) {
        if (*p == '.') {
            fraction = true;
            continue;
        }
        bool kept = digits < INT64_C(100000000000000000) && append_digit(&digits, *p);
        shift += kept ? -(int)fraction : !fraction;
    }
    if ((*p == 'e' || *p == 'E') && is_digit(p[1 + (p[1] == '-' || p[1] == '+')])) {
        p++;
        if (!read_integer(&p, &exponent) || exponent > 9999 || exponent < -9999)
            return false;
    }
    exponent += shift;
    double power = pow(10, (double)llabs(exponent));
    double v = exponent < 0 ? (double)digits / power : (double)digits * (digits ? power : 1);
    if (!isfinite(v))
        return false;
    *value = negative ? -v : v;
    *text = p;
    return true;
}

/* A number with an optional K, M, G or T, powers of 1024. */
static bool read_bytes(const char **text, double *value)
{
    if (!read_number(text, value))
        return false;
    static const char units[] = "KMGT";
    char unit = **text;
    const char *found = unit ? strchr(units, unit >= 'a' && unit <= 'z' ? unit - 'a' + 'A' : unit) : NULL;
    if (found) {
        for (ptrdiff_t i = 0; i <= found - units; i++)
            *value *= 1024;
        ++*text;
    }
    return true;
}

/* Seconds, MM:SS or HH:MM:SS, the last with a fraction; minutes and seconds after a colon are below 60. */
static bool read_time(const char **text, double *value)
{
    const char *p = *text;
    double seconds = 0;
    for (int part = 0; part < 3; part++) {
        int64_t whole;
        const char *end = p;
        if (part < 2 && read_integer(&end, &whole) && *end == ':') {
            if (whole < 0 || (part > 0 && whole >= 60))
                return false;
            seconds = (seconds + (double)whole) * 60;
            p = end + 1;
            continue;
        }
        double last;
        if (!read_number(&p, &last) || (part > 0 && !(last >= 0 && last < 60)))
            return false;
        *value = seconds + last;
        *text = p;
        return true;
    }
    return false;
}

/* The index of `text` among words separated by '|', or -1. */
static int find_choice(const char *choices, const char *text)
{
    size_t length = strlen(text);
    int index = 0;
    for (const char *word = choices; word; index++) {
        size_t n = strcspn(word, "|");
        if (n == length && strncmp(word, text, n) == 0)
            return index;
        word = word[n] ? word + n + 1 : NULL;
    }
    return -1;
}

/* ---- setting ------------------------------------------------------------------------------------------------------ */

static bool in_range(const oasis_option *o, double value)
{
    return (o->min == 0 && o->max == 0) || (value >= o->min && value <= o->max);
}

/* "option --scale: found "9", expected a number from 1 to 8". */
static oasis_status refuse(const oasis_option *o, const char *text, const char *what, oasis_message *message)
{
    if (o->min == 0 && o->max == 0)
        return oas_fail(message, OASIS_E_ARGUMENT, "option --%s: found \"%s\", expected %s", o->name, text, what);
    return oas_fail(message, OASIS_E_ARGUMENT, "option --%s: found \"%s\", expected %s from %.15g to %.15g", o->name,
                    text, what, o->min, o->max);
}

static oasis_status set_flag(const oasis_option *o, void *field, const char *text, oasis_message *message)
{
    bool value = !text || strcmp(text, "true") == 0;
    if (!value && strcmp(text, "false") != 0)
        return refuse(o, text, "true or false", message);
    memcpy(field, &value, sizeof value);
    return OASIS_OK;
}

static oasis_status set_integer(const oasis_option *o, void *field, const char *text, oasis_message *message)
{
    bool wide = o->type == OASIS_OPTION_INT64;
    int64_t value;
    const char *end = text;
    bool fits = read_integer(&end, &value) && *end == 0 && in_range(o, (double)value) &&
                (wide || (value >= INT32_MIN && value <= INT32_MAX));
    if (!fits)
        return refuse(o, text, "a whole number", message);
    int narrow = (int)value;
    memcpy(field, wide ? (const void *)&value : &narrow, wide ? sizeof value : sizeof narrow);
    return OASIS_OK;
}

static oasis_status set_number(const oasis_option *o, void *field, const char *text, oasis_message *message)
{
    double value;
    const char *end = text;
    bool is_time = o->type == OASIS_OPTION_TIME;
    if (!(is_time ? read_time(&end, &value) : read_number(&end, &value)) || *end != 0 || !in_range(o, value))
        return refuse(o, text, is_time ? "seconds or HH:MM:SS" : "a number", message);
    memcpy(field, &value, sizeof value);
    return OASIS_OK;
}

static oasis_status set_bytes(const oasis_option *o, void *field, const char *text, oasis_message *message)
{
    double value;
    const char *end = text;
    if (!read_bytes(&end, &value) || *end != 0 || !in_range(o, value) || !(value >= 0 && value < 0x1p63))
        return refuse(o, text, "a size such as 1500M or 2G, in bytes", message);
    int64_t bytes = (int64_t)value;
    memcpy(field, &bytes, sizeof bytes);
    return OASIS_OK;
}

static oasis_status set_size(const oasis_option *o, void *field, const char *text, oasis_message *message)
{
    int64_t width, height;
    const char *end = text;
    bool fits = read_integer(&end, &width) && *end++ == 'x' && read_integer(&end, &height) && *end == 0 &&
                in_range(o, (double)width) && in_range(o, (double)height) && width >= INT32_MIN && width <= INT32_MAX &&
                height >= INT32_MIN && height <= INT32_MAX;
    if (!fits)
        return refuse(o, text, "WIDTHxHEIGHT with both", message);
    int size[2] = {(int)width, (int)height};
    memcpy(field, size, sizeof size);
    return OASIS_OK;
}

static oasis_status set_choice(const oasis_option *o, void *field, const char *text, oasis_message *message)
{
    int value = find_choice(o->choices, text);
    if (value < 0)
        return oas_fail(message, OASIS_E_ARGUMENT, "option --%s: found \"%s\", expected one of %s", o->name, text,
                        o->choices);
    memcpy(field, &value, sizeof value);
    return OASIS_OK;
}

static oasis_status set_list(const oasis_option *o, void *field, const char *text, oasis_message *message)
{
    oasis_text_list *list = field;
    if (list->count >= OASIS_MAX_LIST)
        return oas_fail(message, OASIS_E_ARGUMENT, "option --%s: found more than %d values, expected at most that many",
                        o->name, (int)OASIS_MAX_LIST);
    list->text[list->count++] = text;
    return OASIS_OK;
}

oasis_status oasis_option_set(const oasis_option *table, void *object, const char *name, const char *text,
                              oasis_message *message)
{
    const oasis_option *o = oasis_option_find(table, name);
    if (!o)
        return oas_fail(message, OASIS_E_ARGUMENT, "unknown option --%s", name ? name : "");
    if (!text && o->type != OASIS_OPTION_FLAG)
        return oas_fail(message, OASIS_E_ARGUMENT, "option --%s: found no value, expected %s", o->name,
                        o->value ? o->value : "one");
    void *field = (char *)object + o->offset;
    switch (o->type) {
    case OASIS_OPTION_FLAG: return set_flag(o, field, text, message);
    case OASIS_OPTION_INT:
    case OASIS_OPTION_INT64: return set_integer(o, field, text, message);
    case OASIS_OPTION_NUMBER:
    case OASIS_OPTION_TIME: return set_number(o, field, text, message);
    case OASIS_OPTION_TEXT: memcpy(field, &text, sizeof text); return OASIS_OK;
    case OASIS_OPTION_CHOICE: return set_choice(o, field, text, message);
    case OASIS_OPTION_SIZE: return set_size(o, field, text, message);
    case OASIS_OPTION_BYTES: return set_bytes(o, field, text, message);
    case OASIS_OPTION_LIST: return set_list(o, field, text, message);
    }
    return oas_fail(message, OASIS_E_ARGUMENT, "option --%s: its table gives type %d, which does not exist", o->name,
                    (int)o->type);
}
