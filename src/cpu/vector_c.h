/*
 * 16 floats in plain C, for kernels on any machine.  x86/vector_avx2.h and x86/vector_avx512.h define the same names,
 * so that one template serves all levels; a file includes one of them.
 */
#ifndef OAS_CPU_VECTOR_C_H
#define OAS_CPU_VECTOR_C_H

#include "tensor/tensor.h"

#include <math.h>
#include <string.h>

enum { LANES = 16 };

typedef struct vec {
    float lane[LANES];
} vec;

static inline vec v_set(float x)
{
    vec r;
    for (int i = 0; i < LANES; i++)
        r.lane[i] = x;
    return r;
}

static inline vec v_load(const float *p)
{
    vec r;
    memcpy(&r, p, sizeof r);
    return r;
}

static inline void v_store(float *p, vec a)
{
    memcpy(p, &a, sizeof a);
}

static inline vec v_max(vec a, vec b)
{
    for (int i = 0; i < LANES; i++)
        a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}

static inline vec v_add(vec a, vec b)
{
    for (int i = 0; i < LANES; i++)
        a.lane[i] += b.lane[i];
    return a;
}

static inline vec v_mul(vec a, vec b)
{
    for (int i = 0; i < LANES; i++)
        a.lane[i] *= b.lane[i];
    return a;
}

/* a / b, for b of 1 to 2^126, within a rounding or two. */
static inline vec v_over(vec a, vec b)
{
    for (int i = 0; i < LANES; i++)
        a.lane[i] /= b.lane[i];
    return a;
}

/* a * b + c */
static inline vec v_fma(vec a, vec b, vec c)
{
    for (int i = 0; i < LANES; i++)
        a.lane[i] = a.lane[i] * b.lane[i] + c.lane[i];
    return a;
}

static inline vec v_select(uint16_t mask, vec yes, vec no)
{
    for (int i = 0; i < LANES; i++)
        yes.lane[i] = mask >> i & 1 ? yes.lane[i] : no.lane[i];
    return yes;
}

/* The largest lane. */
static inline float v_top(vec a)
{
    float top = a.lane[0];
    for (int i = 1; i < LANES; i++)
        top = a.lane[i] > top ? a.lane[i] : top;
    return top;
}

/* The sum of the lanes. */
static inline float v_sum(vec a)
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            a.lane[i] += a.lane[i + half];
    return a.lane[0];
}

/* 2^x, 0 for -inf; x at most 127. */
static inline vec v_exp2(vec x)
{
    for (int i = 0; i < LANES; i++)
        x.lane[i] = exp2f(x.lane[i]);
    return x;
}

/* The first n <= 16 values at p as floats, zeros behind. */
static inline vec v_load_values(const void *p, oas_dtype dtype, int n)
{
    vec r = v_set(0.f);
    oas_convert(r.lane, OAS_F32, p, dtype, n);
    return r;
}

/* Stores the first n <= 16 lanes, rounded to nearest, ties to even. */
static inline void v_store_values(void *p, oas_dtype dtype, vec a, int n)
{
    oas_convert(p, dtype, a.lane, OAS_F32, n);
}

/* Rotates pairs of lanes: (a, b), (cos, sin) -> (a cos - b sin, a sin + b cos). */
static inline vec v_rotate(vec a, vec angle)
{
    vec r;
    for (int i = 0; i < LANES; i += 2) {
        r.lane[i] = a.lane[i] * angle.lane[i] - a.lane[i + 1] * angle.lane[i + 1];
        r.lane[i + 1] = a.lane[i] * angle.lane[i + 1] + a.lane[i + 1] * angle.lane[i];
    }
    return r;
}

/* Lane i = value index[i] of an array; values next to one that is asked for may be read, if its index is even. */
static inline vec v_gather(const void *p, oas_dtype dtype, const int32_t *index)
{
    vec r;
    for (int i = 0; i < LANES; i++)
        r.lane[i] = dtype == OAS_F32 ? ((const float *)p)[index[i]] : oas_from_bf16(((const uint16_t *)p)[index[i]]);
    return r;
}

/* Transposes 16 vectors. */
static inline void transpose(vec *a)
{
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < i; j++) {
            float t = a[i].lane[j];
            a[i].lane[j] = a[j].lane[i];
            a[j].lane[i] = t;
        }
}

#endif
