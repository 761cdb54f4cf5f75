/* Element types: sizes, names, and values as floats. */
#include "format/stored.h"

#include "base/memory.h"
#include "tensor/q8.h"
#include "tensor/tensor.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} dtypes[OAS_STORED_DTYPES] = {
    [OAS_STORED_F64] = {"F64", 8},         [OAS_STORED_F32] = {"F32", 4},
    [OAS_STORED_F16] = {"F16", 2},         [OAS_STORED_BF16] = {"BF16", 2},
    [OAS_STORED_F8_E4M3] = {"F8_E4M3", 1}, [OAS_STORED_F8_E5M2] = {"F8_E5M2", 1},
    [OAS_STORED_I64] = {"I64", 8},         [OAS_STORED_I32] = {"I32", 4},
    [OAS_STORED_I16] = {"I16", 2},         [OAS_STORED_I8] = {"I8", 1},
    [OAS_STORED_U64] = {"U64", 8},         [OAS_STORED_U32] = {"U32", 4},
    [OAS_STORED_U16] = {"U16", 2},         [OAS_STORED_U8] = {"U8", 1},
    [OAS_STORED_BOOL] = {"BOOL", 1},       [OAS_STORED_Q8_0] = {"Q8_0", OAS_Q8_BYTES},
};

const char *oas_stored_dtype_name(stored_dtype dtype)
{
    return dtypes[dtype].name;
}

size_t oas_stored_block_bytes(stored_dtype dtype)
{
    return dtypes[dtype].bytes;
}

int64_t oas_stored_block_values(stored_dtype dtype)
{
    return dtype == OAS_STORED_Q8_0 ? OAS_Q8_BLOCK : 1;
}

bool oas_stored_extent(const stored *w, int64_t *values, size_t *bytes)
{
    size_t n = 1;
    bool empty = false;
    for (int i = 0; i < w->rank; i++) {
        if (w->size[i] < 0)
            return false;
        /* A zero must not hide an overflow of the other sizes: strides are products of them. */
        empty = empty || w->size[i] == 0;
        if (w->size[i] > 0 && oas_mul_overflows(n, (size_t)w->size[i], &n))
            return false;
    }
    size_t block = (size_t)oas_stored_block_values(w->dtype), total;
    if (n > INT64_MAX || oas_mul_overflows(n, dtypes[w->dtype].bytes, &total) || total > INT64_MAX)
        return false;
    if (block > 1 && (w->rank == 0 || w->size[w->rank - 1] % (int64_t)block != 0))
        return false;
    *values = empty ? 0 : (int64_t)n;
    *bytes = empty ? 0 : n / block * dtypes[w->dtype].bytes;
    return true;
}

int64_t oas_stored_count(const stored *w)
{
    int64_t values = 0;
    size_t bytes;
    return oas_stored_extent(w, &values, &bytes) ? values : 0;
}

bool oas_stored_aligned(const stored *w)
{
    size_t align = w->dtype == OAS_STORED_Q8_0 ? 2 : dtypes[w->dtype].bytes;
    return (uintptr_t)w->data % align == 0;
}

stored_shape oas_stored_shape(int rank, const int64_t *size)
{
    stored_shape s;
    size_t at = (size_t)snprintf(s.text, sizeof s.text, "[");
    for (int i = 0; i < rank && at < sizeof s.text; i++)
        at += (size_t)snprintf(s.text + at, sizeof s.text - at, "%s%lld", i ? ", " : "", (long long)size[i]);
    if (at < sizeof s.text)
        snprintf(s.text + at, sizeof s.text - at, "]");
    return s;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* A small float with `e` exponent and `m` mantissa bits, bias 2^(e-1) - 1. */
static float small_float(unsigned bits, int e, int m)
{
    int exponent = (int)(bits >> m) & ((1 << e) - 1), bias = (1 << (e - 1)) - 1;
    float mantissa = (float)(bits & ((1u << m) - 1)), sign = bits >> (e + m) & 1 ? -1.0f : 1.0f;
    if (exponent == (1 << e) - 1)
        return mantissa != 0 ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexpf(mantissa, 1 - bias - m);
    return sign * ldexpf(mantissa + (float)(1 << m), exponent - bias - m);
}

/* E4M3 has no infinities: only all ones is not a number. */
static float f8_e4m3(unsigned bits)
{
    unsigned magnitude = bits & 0x7f;
    if (magnitude == 0x7f)
        return NAN;
    if (magnitude >= 0x78)
        return (bits & 0x80 ? -1.0f : 1.0f) * ldexpf((float)((magnitude & 7) + 8), 15 - 7 - 3);
    return small_float(bits, 4, 3);
}

/* One value of the types of one or two bytes that C has no name for. */
static float narrow(stored_dtype dtype, const unsigned char *b)
{
    switch (dtype) {
    case OAS_STORED_F16: return small_float((unsigned)b[0] | (unsigned)b[1] << 8, 5, 10);
    case OAS_STORED_BF16: return oas_from_bf16((uint16_t)(b[0] | b[1] << 8));
    case OAS_STORED_F8_E4M3: return f8_e4m3(b[0]);
    case OAS_STORED_F8_E5M2: return small_float(b[0], 5, 2);
    default: return b[0] != 0 ? 1.0f : 0.0f; /* BOOL */
    }
}

#define READ(type)                                                                                                     \
    do {                                                                                                               \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            type v;                                                                                                    \
            memcpy(&v, from + (size_t)i * sizeof v, sizeof v);                                                         \
            to[i] = (float)v;                                                                                          \
        }                                                                                                              \
        return;                                                                                                        \
    } while (0)

void oas_stored_floats(const stored *w, int64_t first, int64_t n, float *to)
{
    if (w->dtype == OAS_STORED_Q8_0) {
        oas_q8_floats(w->data, first, n, to);
        return;
    }
    const unsigned char *from = (const unsigned char *)w->data + (size_t)first * dtypes[w->dtype].bytes;
    switch (w->dtype) {
    case OAS_STORED_F64: READ(double);
    case OAS_STORED_F32:
        if (n > 0)
            memcpy(to, from, (size_t)n * sizeof *to);
        return;
    case OAS_STORED_I64: READ(int64_t);
    case OAS_STORED_I32: READ(int32_t);
    case OAS_STORED_I16: READ(int16_t);
    case OAS_STORED_I8: READ(int8_t);
    case OAS_STORED_U64: READ(uint64_t);
    case OAS_STORED_U32: READ(uint32_t);
    case OAS_STORED_U16: READ(uint16_t);
    case OAS_STORED_U8: READ(uint8_t);
    default: break;
    }
    for (int64_t i = 0; i < n; i++)
        to[i] = narrow(w->dtype, from + (size_t)i * dtypes[w->dtype].bytes);
}
