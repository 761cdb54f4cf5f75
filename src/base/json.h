/*
 * JSON (RFC 8259): jansson reads it, a growing text writes it.
 *
 * Reading is strict: UTF-8, no duplicate keys, nothing behind the value, and a cap on the number of values, so that a
 * small file cannot make a large tree.  Writing never prints what is not JSON: NaN and infinities become null.
 */
#ifndef OAS_BASE_JSON_H
#define OAS_BASE_JSON_H

#include "base/status.h"

#include <jansson.h>

enum { OAS_JSON_MAX_VALUES = 2000000 }; /* about 200 MB as jansson holds them */

/*
 * Reads `size` bytes of JSON, an object on the outside.  `where` names the text in messages ("FILE: header").
 * On OASIS_OK *json is owned by the caller (json_decref).  Fails with OASIS_E_FORMAT: the sentence names line and
 * column; OASIS_E_MEMORY.  Where memory runs out within a token, jansson 2.14 may take that for a mistake in the text,
 * or lose a character: checks of the values see a damaged file then.
 */
oasis_status oas_json_read(json_t **json, const char *text, size_t size, const char *where, oasis_message *message);

/* "object", "array", "string", "integer", "fraction", "true", "false" or "null". */
const char *oas_json_type_name(const json_t *value);

/* Reads a text that is one JSON number, with a point in every locale.  False when it is none, or not finite. */
bool oas_json_number(const char *text, double *value);

/* Whether `length` bytes are UTF-8 as RFC 3629 has it: no overlong forms, no surrogates. */
bool oas_text_is_utf8(const char *text, size_t length);

/* Text that grows.  Failure is sticky: a text that ran out of memory has `failed` set and takes nothing more. */
typedef struct text_buffer {
    char *data; /* terminated, NULL while empty; freed by oas_text_free */
    size_t length, capacity;
    bool failed;
} text_buffer;

void oas_text_add(text_buffer *text, const char *format, ...) OAS_PRINTF(2, 3);
void oas_text_free(text_buffer *text);

/* Adds a text in quotes, with the escapes that JSON needs; bytes that are not UTF-8 become U+FFFD. */
void oas_json_add_text(text_buffer *text, const char *value);

/* Adds a number with as many digits as bring the same double back, with a point in every locale; null if not finite. */
void oas_json_add_number(text_buffer *text, double value);

#endif
