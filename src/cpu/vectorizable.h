/*
 * Functions of one value without branches, so that a compiler makes vectors of loops over them.  No contraction is needed
 * or allowed (the project compiles with -std=c11): the bits are the same at every level.
 */
#ifndef OAS_CPU_VECTORIZABLE_H
#define OAS_CPU_VECTORIZABLE_H

#include <stdint.h>
#include <string.h>

/* e^x within 3e-7: 2^n times a polynomial on [-ln2/2, ln2/2].  Below -87 it is about 1e-38. */
static inline float exp_of(float x)
{
    float clamped = x < -87.f ? -87.f : x > 87.f ? 87.f : x;
    float n = clamped * 1.44269504f + 12582912.f; /* adding 1.5 * 2^23 rounds to a whole number */
    uint32_t bits; /* unsigned: a NaN gives any bits, which must wrap */
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
    uint32_t scale_bits = (bits - 0x4B400000u + 127u) << 23;
    float scale;
    memcpy(&scale, &scale_bits, sizeof scale);
    return p * scale;
}

/* NaN is not looked for: it becomes an infinity or a NaN, and the step is found out by its loss. */
static inline uint16_t round_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

#endif
