/*
 * Options as tables: one row gives an option's name, type, range, default and help.  The same row parses text, checks
 * ranges, prints --help, the man page and the shell completions, so that none of them can disagree.
 *
 *     oasis_options o;
 *     oasis_options_init(&o);
 *     oasis_option_set(oasis_upscale_options(), &o, "scale", "2.5", &why);
 *
 * A table is an array that ends with a row whose name is NULL; `offset` is that of the field in the struct the table is
 * for.  Numbers are read with a decimal point in every locale.
 */
#ifndef OASIS_OPTIONS_H
#define OASIS_OPTIONS_H

#include <oasis/oasis.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum oasis_option_type {
    OASIS_OPTION_FLAG,   /* bool; no value on the command line, "true" or "false" in text */
    OASIS_OPTION_INT,    /* int */
    OASIS_OPTION_INT64,  /* int64_t */
    OASIS_OPTION_NUMBER, /* double */
    OASIS_OPTION_TEXT,   /* const char *; the pointer given is stored, not a copy */
    OASIS_OPTION_CHOICE, /* int (an enum); `choices` are its words from 0 on, separated by '|' */
    OASIS_OPTION_SIZE,   /* two ints, WIDTHxHEIGHT; `offset` is the first one's */
    OASIS_OPTION_BYTES,  /* int64_t; "1500M", "2G", plain bytes; K, M, G, T are powers of 1024 */
    OASIS_OPTION_TIME,   /* double, seconds; "12.5" or "HH:MM:SS.mmm" */
    OASIS_OPTION_LIST    /* oasis_text_list; may be given more than once */
} oasis_option_type;

enum { OASIS_MAX_LIST = 64 };

/* The values of an option that may be given more than once; pointers as given, not copies. */
typedef struct oasis_text_list {
    int count;
    const char *text[OASIS_MAX_LIST];
} oasis_text_list;

typedef struct oasis_option {
    const char *name;         /* long name without dashes: "scale" */
    char letter;              /* short name, or 0 */
    const char *alias;        /* another spelling accepted ("c:v"), or NULL */
    oasis_option_type type;
    size_t offset;            /* of the field in the struct */
    double min, max;          /* inclusive range of numbers, sizes, bytes and times; both 0 = any */
    const char *choices;      /* for OASIS_OPTION_CHOICE, else NULL */
    const char *value;        /* name of the value in help: "FILE"; NULL for flags */
    const char *default_text; /* as help shows it, or NULL */
    const char *help;         /* one sentence without a period */
    const char *group;        /* heading in help: "Output" */
} oasis_option;

/* The row of that name or alias (without dashes), or NULL. */
OASIS_API const oasis_option *oasis_option_find(const oasis_option *table, const char *name);

/*
 * Reads `text` into the field of `object` that the option names.  A FLAG takes "true"/"false" (NULL counts as true).
 * Fails with OASIS_E_ARGUMENT: unknown name, not a number, out of range, not one of the choices; the message names the
 * option, what was found and what is allowed.  On failure the object is unchanged.
 */
OASIS_API oasis_status oasis_option_set(const oasis_option *table, void *object, const char *name, const char *text,
                                        oasis_message *message);

/* The rows for oasis_options. */
OASIS_API const oasis_option *oasis_upscale_options(void);

#ifdef __cplusplus
}
#endif
#endif
