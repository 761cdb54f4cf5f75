/*
 * Kernels over one row of values, for networks of pixels: the norm of a pixel's channels, and softmax.  They know rows,
 * not layers.  Sums run in float over 16 lanes, which are added in a fixed order.
 */
#ifndef OAS_CPU_CHANNEL_H
#define OAS_CPU_CHANNEL_H

#include "cpu/level.h"
#include "tensor/tensor.h"

typedef struct oas_channel_kernels {
    /* y = f(x * root / max(|x|, 1e-12) * gamma), n values of one type; f(v) = v or, with `silu`, v / (1 + e^-v).
     * y may be x. */
    void (*norm)(void *y, const void *x, oas_dtype dtype, const float *gamma, float root, bool silu, int64_t n);

    /* w_i = e^(s_i - top) / sum of all, rounded to `dtype`; s is overwritten, and w may be s. */
    void (*softmax)(void *w, oas_dtype dtype, float *s, int64_t n);
} oas_channel_kernels;

/* The best kernels of a level; never NULL. */
const oas_channel_kernels *oas_channel_kernels_for(oas_cpu_level level);

#endif
