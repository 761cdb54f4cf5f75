/* JSON in and out. */
#include "base/json.h"

#include "base/memory.h"

#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every value but the first of its container follows a comma, every key is followed by a colon, and every container
 * costs a bracket: their number bounds the number of values, whatever is inside texts. */
static size_t count_values(const char *text, size_t size)
{
    size_t n = 1;
    for (size_t i = 0; i < size; i++)
        n += text[i] == ',' || text[i] == ':' || text[i] == '[' || text[i] == '{';
    return n;
}

oasis_status oas_json_read(json_t **json, const char *text, size_t size, const char *where, oasis_message *message)
{
    *json = NULL;
    size_t values = count_values(text, size);
    if (values > OAS_JSON_MAX_VALUES)
        return oas_fail(message, OASIS_E_FORMAT, "%s: JSON of up to %zu values, expected at most %d", where, values,
                        OAS_JSON_MAX_VALUES);
    json_error_t error;
    json_t *read = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    /* jansson does not always say that memory was short; then it says nothing at all. */
    if (!read && (json_error_code(&error) == json_error_out_of_memory || !error.text[0]))
        return oas_fail_memory(message, size, "JSON");
    if (!read)
        return oas_fail(message, OASIS_E_FORMAT, "%s: not valid JSON at line %d, column %d: %s", where, error.line,
                        error.column, error.text);
    if (!json_is_object(read)) {
        const char *found = oas_json_type_name(read);
        json_decref(read);
        return oas_fail(message, OASIS_E_FORMAT, "%s: JSON with %s %s on the outside, expected an object", where,
                        strchr("aio", found[0]) ? "an" : "a", found);
    }
    *json = read;
    return OASIS_OK;
}

const char *oas_json_type_name(const json_t *value)
{
    if (!value)
        return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "object";
    case JSON_ARRAY: return "array";
    case JSON_STRING: return "string";
    case JSON_INTEGER: return "integer";
    case JSON_REAL: return "fraction";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    }
    return "nothing";
}

bool oas_json_number(const char *text, double *value)
{
    char copy[80] = "";
    size_t minus = text[0] == '-', whole = minus + strspn(text + minus, "0123456789");
    size_t point = text[whole] == '.', part = point ? strspn(text + whole + 1, "0123456789") : 0;
    const char *power = text + whole + point + part;
    size_t sign = 0; /* bytes of "e", "e-" or "e+" */
    if (power[0] == 'e' || power[0] == 'E')
        sign = power[1] == '-' || power[1] == '+' ? 2 : 1;
    size_t digits = sign ? strspn(power + sign, "0123456789") : 0;
    if (whole == minus || point != (part > 0) || (sign > 0) != (digits > 0) || power[sign + digits])
        return false;
    int n = snprintf(copy, sizeof copy, "%.*s%s%.*s%s", (int)whole, text, point ? localeconv()->decimal_point : "",
                     (int)part, text + whole + point, power);
    *value = strtod(copy, NULL);
    return n < (int)sizeof copy && isfinite(*value);
}

/* Makes room for `more` bytes and the end mark. */
static bool reserve(text_buffer *text, size_t more)
{
    size_t need, doubled;
    if (text->failed || oas_add_overflows(text->length, more, &need) || oas_add_overflows(need, 1, &need) ||
        oas_mul_overflows(need, 2, &doubled)) {
        text->failed = true;
        return false;
    }
    if (need <= text->capacity)
        return true;
    char *grown = oas_alloc(doubled, 1);
    if (!grown) {
        text->failed = true;
        return false;
    }
    if (text->data)
        memcpy(grown, text->data, text->length);
    oas_free(text->data);
    text->data = grown;
    text->capacity = doubled;
    return true;
}

void oas_text_add(text_buffer *text, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    if (n < 0)
        text->failed = true;
    else if (reserve(text, (size_t)n)) {
        vsnprintf(text->data + text->length, (size_t)n + 1, format, again);
        text->length += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

void oas_text_free(text_buffer *text)
{
    oas_free(text->data);
    *text = (text_buffer){0};
}

/* The length of the UTF-8 sequence that begins here, of at most `room` bytes; 0 when there is none. */
static size_t utf8_length(const unsigned char *s, size_t room)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : 0;
    if (s[0] >= 0xf0 && s[0] < 0xf5)
        n = 4;
    if (n > room)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool surrogate = s[0] == 0xed && s[1] >= 0xa0, beyond = s[0] == 0xf4 && s[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : n;
}

bool oas_text_is_utf8(const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        size_t n = utf8_length((const unsigned char *)text + at, length - at);
        if (n == 0)
            return false;
        at += n;
    }
    return true;
}

void oas_json_add_text(text_buffer *text, const char *value)
{
    oas_text_add(text, "\"");
    const unsigned char *end = (const unsigned char *)value + strlen(value);
    for (const unsigned char *s = (const unsigned char *)value; s < end;) {
        size_t n = utf8_length(s, (size_t)(end - s));
        if (n == 0)
            oas_text_add(text, "\\ufffd");
        else if (*s == '"' || *s == '\\')
            oas_text_add(text, "\\%c", *s);
        else if (*s == '\n')
            oas_text_add(text, "\\n");
        else if (*s < 0x20 || *s == 0x7f)
            oas_text_add(text, "\\u%04x", *s);
        else
            oas_text_add(text, "%.*s", (int)n, (const char *)s);
        s += n ? n : 1;
    }
    oas_text_add(text, "\"");
}

void oas_json_add_number(text_buffer *text, double value)
{
    if (!isfinite(value)) {
        oas_text_add(text, "null");
        return;
    }
    char digits[40];
    for (int precision = 15; precision <= 17; precision++) { /* 17 digits always suffice */
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    char *end = digits; /* what is no digit is the locale's decimal mark, of one byte or more */
    for (const char *s = digits; *s; s++)
        if (strchr("0123456789+-e", *s))
            *end++ = *s;
        else if (end == digits || end[-1] != '.')
            *end++ = '.';
    /* An integer -0 would be read as 0. */
    oas_text_add(text, "%.*s%s", (int)(end - digits), digits, value == 0 && signbit(value) ? ".0" : "");
}
