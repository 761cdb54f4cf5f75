/* Shapes, types and conversion between types. */
#include "tensor/tensor.h"

#include "tensor/q8.h"

#include <stdio.h>
#include <string.h>

const char *oas_dtype_name(oas_dtype dtype)
{
    return dtype == OAS_F32 ? "fp32" : dtype == OAS_BF16 ? "bf16" : "q8_0";
}

int64_t oas_count(const shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++)
        n *= s->size[i];
    return n;
}

size_t oas_bytes(const tensor *t)
{
    size_t n = (size_t)oas_count(&t->shape);
    return t->dtype == OAS_Q8_0 ? n / OAS_Q8_BLOCK * OAS_Q8_BYTES : n * oas_dtype_size(t->dtype);
}

shape oas_shape(int rank, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e)
{
    return (shape){.rank = rank, .size = {a, b, c, d, e}};
}

bool oas_shape_equal(const shape *a, const shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->size[i] != b->size[i])
            return false;
    return true;
}

shape_text oas_shape_text(const shape *s)
{
    shape_text t = {"["};
    size_t used = 1;
    for (int i = 0; i < s->rank && used < sizeof t.text; i++) {
        int n = snprintf(t.text + used, sizeof t.text - used, "%s%lld", i ? ", " : "", (long long)s->size[i]);
        used += (size_t)n;
    }
    if (used < sizeof t.text)
        snprintf(t.text + used, sizeof t.text - used, "]");
    return t;
}

/* Blocks to either type, a short stretch at a time. */
static void unpack(void *to, oas_dtype to_dtype, const void *blocks, int64_t n)
{
    enum { STRETCH = 1024 };
    float values[STRETCH];
    if (to_dtype == OAS_F32) {
        oas_q8_floats(blocks, 0, n, to);
        return;
    }
    for (int64_t at = 0; at < n; at += STRETCH) {
        int64_t some = n - at < STRETCH ? n - at : STRETCH;
        oas_q8_floats(blocks, at, some, values);
        oas_convert((uint16_t *)to + at, to_dtype, values, OAS_F32, some);
    }
}

void oas_convert(void *to, oas_dtype to_dtype, const void *from, oas_dtype from_dtype, int64_t n)
{
    if (from_dtype == OAS_Q8_0) {
        unpack(to, to_dtype, from, n);
    } else if (to_dtype == from_dtype) {
        memcpy(to, from, (size_t)n * oas_dtype_size(to_dtype));
    } else if (to_dtype == OAS_BF16) {
        const float *f = from;
        uint16_t *t = to;
        for (int64_t i = 0; i < n; i++)
            t[i] = oas_to_bf16(f[i]);
    } else {
        const uint16_t *f = from;
        float *t = to;
        for (int64_t i = 0; i < n; i++)
            t[i] = oas_from_bf16(f[i]);
    }
}
