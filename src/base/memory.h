/*
 * Memory: checked, aligned blocks for handles, and a stack arena for everything a step of the network computes.
 */
#ifndef OAS_BASE_MEMORY_H
#define OAS_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OAS_ALIGN = 64 }; /* of every block: a cache line, and the widest vector */

/* So many bytes, rounded up to whole steps of OAS_ALIGN. */
static inline size_t oas_aligned(size_t bytes)
{
    return (bytes + OAS_ALIGN - 1) / OAS_ALIGN * OAS_ALIGN;
}

/* n * size bytes, zeroed, aligned to OAS_ALIGN; NULL when the product overflows or memory is short.  Freed by oas_free. */
void *oas_alloc(size_t n, size_t size);
void *oas_alloc_unset(size_t n, size_t size); /* the same, not zeroed: pages cost nothing until they are written */
void *oas_alloc_large(size_t bytes); /* not zeroed, in large pages where the system gives them: for what lives long */
void oas_free(void *block);

/* A copy of a text, or NULL. */
char *oas_text_copy(const char *text);

/*
 * a * b and a + b; true on overflow, and then *result is not to be used.
 */
bool oas_mul_overflows(size_t a, size_t b, size_t *result);
bool oas_add_overflows(size_t a, size_t b, size_t *result);

/*
 * Arena: blocks are taken from one stretch of memory and given back all at once, down to a mark.
 *
 *     | model step ......... | block ....... | free ................ |
 *     0                      mark            used                    size
 *
 * A counting arena has no memory: it hands out NULL, and learns how large the arena must be.  That is how a plan is
 * made.  Failure is sticky: once a block did not fit, `failed` stays set, so that a caller may check once at the end.
 */
typedef struct arena {
    unsigned char *base; /* NULL in a counting arena */
    size_t size, used, peak;
    bool counting, failed;
} arena;

/* Makes an arena of `size` bytes.  Returns false when memory is short. */
bool oas_arena_new(arena *a, size_t size);
void oas_arena_count(arena *a); /* makes a counting arena */
void oas_arena_free(arena *a);

/* `size` bytes aligned to OAS_ALIGN, not cleared; NULL in a counting arena or on failure. */
void *oas_arena_take(arena *a, size_t size);

static inline size_t oas_arena_mark(const arena *a)
{
    return a->used;
}

/* Gives back all that was taken after the mark. */
static inline void oas_arena_release(arena *a, size_t mark)
{
    a->used = mark;
}

#endif
