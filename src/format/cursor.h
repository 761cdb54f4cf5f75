/*
 * Reading little-endian bytes one after the other without ever leaving them.  Failure is sticky: once something did not
 * fit, `failed` stays set, everything further reads as 0, and the caller checks once.
 */
#ifndef OAS_FORMAT_CURSOR_H
#define OAS_FORMAT_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct cursor {
    const unsigned char *data;
    size_t size, at; /* at <= size */
    bool failed;
} cursor;

static inline size_t oas_cursor_left(const cursor *c)
{
    return c->size - c->at;
}

/* The next n bytes, or NULL. */
static inline const unsigned char *oas_cursor_take(cursor *c, uint64_t n)
{
    if (c->failed || n > oas_cursor_left(c)) {
        c->failed = true;
        return NULL;
    }
    const unsigned char *here = c->data + c->at;
    c->at += (size_t)n;
    return here;
}

/* A whole number of n <= 8 bytes. */
static inline uint64_t oas_cursor_number(cursor *c, unsigned n)
{
    const unsigned char *b = oas_cursor_take(c, n);
    uint64_t value = 0;
    for (unsigned i = 0; b && i < n; i++)
        value |= (uint64_t)b[i] << 8 * i;
    return value;
}

#endif
