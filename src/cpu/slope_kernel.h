/*
 * The loops of cpu/slope.h, written so that a compiler makes vectors of them.  Included by one file per level, which
 * defines SLOPE, the name of its function.
 */
#include "cpu/slope.h"

#include <string.h>

/* e^x within 3e-7: 2^n times a polynomial on [-ln2/2, ln2/2].  Below -87 it is about 1e-38. */
static inline float exp_of(float x)
{
    float clamped = x < -87.f ? -87.f : x > 87.f ? 87.f : x;
    float n = clamped * 1.44269504f + 12582912.f; /* adding 1.5 * 2^23 rounds to a whole number */
    int32_t bits;
    memcpy(&bits, &n, sizeof bits);
    n -= 12582912.f;
    float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
    int32_t scale_bits = (bits - 0x4B400000 + 127) << 23;
    float scale;
    memcpy(&scale, &scale_bits, sizeof scale);
    return p * scale;
}

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

/* NaN is not looked for: it becomes an infinity or a NaN, and the step is found out by its loss. */
static inline uint16_t round_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
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
