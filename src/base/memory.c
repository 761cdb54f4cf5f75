/* Checked allocation and the stack arena. */
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

bool oas_mul_overflows(size_t a, size_t b, size_t *result)
{
    *result = a * b;
    return b != 0 && a > SIZE_MAX / b;
}

bool oas_add_overflows(size_t a, size_t b, size_t *result)
{
    *result = a + b;
    return *result < a;
}

void *oas_alloc_unset(size_t n, size_t size)
{
    size_t bytes, rounded;
    if (oas_mul_overflows(n, size, &bytes) || oas_add_overflows(bytes, OAS_ALIGN - 1, &rounded))
        return NULL;
    rounded -= rounded % OAS_ALIGN;
    return aligned_alloc(OAS_ALIGN, rounded > 0 ? rounded : OAS_ALIGN);
}

void *oas_alloc(size_t n, size_t size)
{
    void *block = oas_alloc_unset(n, size);
    if (block)
        memset(block, 0, n * size);
    return block;
}

void oas_free(void *block)
{
    free(block);
}

char *oas_text_copy(const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = oas_alloc(n, 1);
    if (copy)
        memcpy(copy, text, n);
    return copy;
}

/*
 * Large arenas lie in large pages where the system gives them: passes over activations miss the table of pages less.
 * Not so frames, which come and go: clearing large pages for each costs more than it saves.
 */
enum { LARGE_ARENA = 4 << 20, LARGE_PAGE = 2 << 20 };

static void *large_block(size_t size)
{
    size_t rounded;
    if (oas_add_overflows(size, LARGE_PAGE - 1, &rounded))
        return NULL;
    rounded -= rounded % LARGE_PAGE;
    void *block = aligned_alloc(LARGE_PAGE, rounded);
#ifdef MADV_HUGEPAGE
    if (block)
        madvise(block, rounded, MADV_HUGEPAGE); /* a hint: nothing depends on its success */
#endif
    return block;
}

void *oas_alloc_large(size_t bytes)
{
    return bytes >= LARGE_ARENA ? large_block(bytes) : oas_alloc_unset(bytes, 1);
}

bool oas_arena_new(arena *a, size_t size)
{
    *a = (arena){.size = size, .base = size < LARGE_ARENA ? oas_alloc_unset(size, 1) : large_block(size)};
    a->failed = a->base == NULL;
    return !a->failed;
}

void oas_arena_count(arena *a)
{
    *a = (arena){.size = SIZE_MAX, .counting = true};
}

void oas_arena_free(arena *a)
{
    oas_free(a->base);
    *a = (arena){0};
}

void *oas_arena_take(arena *a, size_t size)
{
    size_t rounded, end;
    if (a->failed || oas_add_overflows(size, OAS_ALIGN - 1, &rounded) ||
        oas_add_overflows(a->used, rounded - rounded % OAS_ALIGN, &end) || end > a->size) {
        a->failed = true;
        return NULL;
    }
    unsigned char *block = a->counting ? NULL : a->base + a->used;
    a->used = end;
    if (a->peak < end)
        a->peak = end;
    return block;
}
