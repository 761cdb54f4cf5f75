/* Functions of one float without branches or calls, so that compilers turn loops over them into vector code. */
#ifndef OAS_OPS_MATH_H
#define OAS_OPS_MATH_H

#include <math.h>
#include <stdint.h>

/*
 * e^x within 3e-7 of itself for -87 <= x <= 88; what lies outside is moved to that border.  x = n ln 2 + r with
 * |r| <= ln 2 / 2; e^r by its series to r^6 (the rest is below 2e-7), 2^n by its bits.
 */
static inline float oas_exp(float x)
{
    const float log2_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    x = x < -87.f ? -87.f : x;
    x = x > 88.f ? 88.f : x;
    int32_t n = (int32_t)(x * log2_e + (x < 0.f ? -0.5f : 0.5f));
    float r = x - (float)n * ln2_high - (float)n * ln2_low;
    float p = 1.f + r * (1.f + r * (0.5f + r * (1.f / 6 + r * (1.f / 24 + r * (1.f / 120 + r * (1.f / 720))))));
    union {
        int32_t i;
        float f;
    } power = {.i = (n + 127) * (1 << 23)};
    return p * power.f;
}

#endif
