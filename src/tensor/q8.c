/* Blocks of Q8_0, and half floats. */
#include "tensor/q8.h"

#include <math.h>
#include <string.h>

typedef union bits {
    uint32_t u;
    float f;
} bits;

float oas_from_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
    bits v;
    if (magnitude < 0x400) /* subnormal: units of 2^-24 */
        v.f = (float)magnitude * 0x1p-24f;
    else
        v.u =
            (magnitude << 13) + (magnitude >= 0x7c00 ? 0x70000000u : 0x38000000u); /* the exponent's bias: 127 for 15 */
    v.u |= sign;
    return v.f;
}

uint16_t oas_to_f16(float value)
{
    bits v = {.f = value};
    uint16_t sign = (uint16_t)(v.u >> 16 & 0x8000);
    v.u &= 0x7fffffff;
    if (v.u > 0x7f800000)
        return sign | 0x7e00;
    if (v.f >= 65520.f) /* half way between the largest half float and what would follow it */
        return sign | 0x7c00;
    if (v.f < 0x1p-14f)
        return (uint16_t)(sign | (uint16_t)lrintf(v.f * 0x1p24f));
    return (uint16_t)(sign | (uint16_t)((v.u - 0x38000000u + 0xfffu + (v.u >> 13 & 1u)) >> 13));
}

static uint16_t scale_of(const unsigned char *block)
{
    return (uint16_t)(block[0] | block[1] << 8);
}

void oas_q8_floats(const void *blocks, int64_t first, int64_t n, float *to)
{
    for (int64_t i = first; i < first + n;) {
        const unsigned char *block = (const unsigned char *)blocks + (size_t)(i / OAS_Q8_BLOCK) * OAS_Q8_BYTES;
        const signed char *q = (const signed char *)block + 2;
        float d = oas_from_f16(scale_of(block));
        int from = (int)(i % OAS_Q8_BLOCK);
        int until = first + n - i < OAS_Q8_BLOCK - from ? from + (int)(first + n - i) : OAS_Q8_BLOCK;
        if (until - from == OAS_Q8_BLOCK) {
            for (int k = 0; k < OAS_Q8_BLOCK; k++) /* a constant length, for the compiler */
                to[k] = d * (float)q[k];
        } else {
            for (int k = from; k < until; k++)
                to[k - from] = d * (float)q[k];
        }
        to += until - from;
        i += until - from;
    }
}

bool oas_q8_pack(const float *from, int64_t blocks, void *to)
{
    const float most = 127;
    unsigned char *block = to;
    for (int64_t b = 0; b < blocks; b++, from += OAS_Q8_BLOCK, block += OAS_Q8_BYTES) {
        float largest = 0;
        for (int k = 0; k < OAS_Q8_BLOCK; k++) {
            if (!isfinite(from[k]))
                return false;
            largest = fmaxf(largest, fabsf(from[k]));
        }
        uint16_t half = oas_to_f16(largest / most);
        float d = oas_from_f16(half);
        if (!isfinite(d))
            return false;
        block[0] = (unsigned char)half;
        block[1] = (unsigned char)(half >> 8);
        for (int k = 0; k < OAS_Q8_BLOCK; k++) {
            /* A scale rounded down would ask for 128. */
            float q = d > 0 ? fminf(fmaxf(rintf(from[k] / d), -most), most) : 0;
            block[2 + k] = (unsigned char)(signed char)q;
        }
    }
    return true;
}
