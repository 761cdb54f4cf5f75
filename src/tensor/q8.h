/*
 * Q8_0, a type of weights: 32 neighbours of a row share a scale.
 *
 *     block   | d: half float | q: 32 signed bytes |     values d q, 34 bytes
 *
 * A matrix [out, in] is out * in / 32 blocks, in order; `in` is a multiple of 32.  Source: ggml's type of that name.
 */
#ifndef OAS_TENSOR_Q8_H
#define OAS_TENSOR_Q8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OAS_Q8_BLOCK = 32, OAS_Q8_BYTES = 34 };

/* A half float, subnormals, infinities and NaN included; and the nearest half float, ties to even. */
float oas_from_f16(uint16_t half);
uint16_t oas_to_f16(float value);

/* Values first .. first+n-1 of a row of blocks, which may lie at any address. */
void oas_q8_floats(const void *blocks, int64_t first, int64_t n, float *to);

/*
 * Writes `blocks` blocks of the values from[0 .. 32 blocks - 1].  d is the largest magnitude over 127, rounded to a half
 * float, and q = round(value / d).  False where a value is not finite or beyond what a half float's scale can hold.
 */
bool oas_q8_pack(const float *from, int64_t blocks, void *to);

#endif
