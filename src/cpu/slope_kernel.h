/*
 * The loops of cpu/slope.h, written so that a compiler makes vectors of them.  Included by one file per level, which
 * defines SLOPE, the name of its function.
 */
#include "cpu/slope.h"
#include "cpu/vectorizable.h"

static inline float sigmoid(float x)
{
    return 1.f / (1.f + exp_of(-x));
}

/* tanh(z) = 2 sigmoid(2z) - 1, z = c (x + a x^3), so that gelu(x) = x sigmoid(2z). */
static inline float gelu_slope(float x)
{
    float s = sigmoid(1.5957691216f * (x + 0.044715f * x * x * x));
    return s + x * s * (1.f - s) * 1.5957691216f * (1.f + 0.134145f * x * x);
}

static inline float silu_slope(float x)
{
    float s = sigmoid(x);
    return s * (1.f + x * (1.f - s));
}

#define LOOPS(name, type, store)                                                                                       \
    static void name(oas_activation act, const float *restrict u, const float *restrict dy, type *restrict e, int64_t n) \
    {                                                                                                                  \
        if (act == OAS_GELU_TANH)                                                                                      \
            for (int64_t i = 0; i < n; i++)                                                                            \
                e[i] = store(dy[i] * gelu_slope(u[i]));                                                                \
        else if (act == OAS_SILU)                                                                                      \
            for (int64_t i = 0; i < n; i++)                                                                            \
                e[i] = store(dy[i] * silu_slope(u[i]));                                                                \
        else if (act == OAS_RELU)                                                                                      \
            for (int64_t i = 0; i < n; i++)                                                                            \
                e[i] = store(u[i] > 0.f ? dy[i] : 0.f);                                                                \
        else                                                                                                           \
            for (int64_t i = 0; i < n; i++)                                                                            \
                e[i] = store(dy[i]);                                                                                   \
    }

LOOPS(slope_f32, float, (float))
LOOPS(slope_bf16, uint16_t, round_bf16)

void SLOPE(oas_activation act, const float *u, const float *dy, void *e, oas_dtype type, int64_t n)
{
    if (type == OAS_BF16)
        slope_bf16(act, u, dy, e, n);
    else
        slope_f32(act, u, dy, e, n);
}
