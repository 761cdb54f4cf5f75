/*
 * Kernels of the cheap passes between products: each reads and writes a stretch of memory once.  They know rows, not
 * layers; ops/ cuts the work into slabs.  Sums run in float over 16 lanes, which are added in a fixed order.
 *
 * `dtype` may be either type everywhere; results are rounded to nearest, ties to even.  n is any number of values.
 */
#ifndef OAS_CPU_PASSES_H
#define OAS_CPU_PASSES_H

#include "cpu/level.h"
#include "tensor/tensor.h"

typedef enum oas_pass_function { OAS_PASS_GELU_TANH, OAS_PASS_SILU, OAS_PASS_RELU } oas_pass_function;

typedef struct oas_passes {
    /* to[i] = from[i] in another type.  `to` may be `from` when the types are the same. */
    void (*convert)(void *to, oas_dtype to_type, const void *from, oas_dtype from_type, int64_t n);

    /* y = (x - mean) / sqrt(variance + eps) * (1 + scale) + shift, one row of n. */
    void (*norm_modulate)(void *y, oas_dtype dtype, const float *x, const float *shift, const float *scale, int64_t n,
                          float eps);

    /*
     * u = x / sqrt(mean(x^2) + eps) * gain over one row of n; then in every head of `head` values the adjacent pairs
     * (a, b) become (a cos - b sin, a sin + b cos), with (cos, sin) the pair of `rope`, [head].  x, y of one type;
     * y may be x.  head is even and divides n.
     */
    void (*rms_norm_rope)(void *y, const void *x, oas_dtype dtype, const float *gain, const float *rope, int64_t head,
                          int64_t n, float eps);

    /* y = x + b * gate + constant (gate NULL: 1, constant NULL: 0); y may be x. */
    void (*add_gated)(float *y, const float *x, const void *b, oas_dtype b_type, const float *gate,
                      const float *constant, int64_t n);

    /* y = x + a * b; y may be x. */
    void (*axpy)(float *y, const float *x, float a, const float *b, int64_t n);

    /* y = f(x); y may be x where the types are the same. */
    void (*activate)(void *y, oas_dtype y_type, const void *x, oas_dtype x_type, oas_pass_function f, int64_t n);

    /*
     * A repeating rearrangement: y[i] = x[i / period * step + index[i % period]] (+ add[i] unless add is NULL), for
     * i < n.  Fastest when period is a multiple of 16.  x has `size` values, which may all be read; of bf16, size and
     * step are even.
     */
    void (*rearrange)(void *y, oas_dtype y_type, const void *x, oas_dtype x_type, int64_t size, const float *add,
                      const int32_t *index, int64_t period, int64_t step, int64_t n);
} oas_passes;

/* The best kernels of a level; never NULL. */
const oas_passes *oas_passes_for(oas_cpu_level level);

#endif
