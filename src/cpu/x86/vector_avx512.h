/* 16 floats of AVX-512, for the kernels of this folder; what each function does: cpu/vector_c.h. */
#ifndef OAS_CPU_X86_VECTOR_AVX512_H
#define OAS_CPU_X86_VECTOR_AVX512_H

#include "tensor/tensor.h"

#include <immintrin.h>

enum { LANES = 16 };

typedef __m512 vec;

static inline vec v_set(float x)
{
    return _mm512_set1_ps(x);
}

static inline vec v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void v_store(float *p, vec a)
{
    _mm512_storeu_ps(p, a);
}

static inline vec v_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}

static inline vec v_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}

static inline vec v_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

/* One step of Newton's on the processor's 14 bits: within 2^-23 of the quotient, in half the time of a division. */
static inline vec v_over(vec a, vec b)
{
    vec r = _mm512_rcp14_ps(b);
    r = _mm512_mul_ps(r, _mm512_fnmadd_ps(b, r, _mm512_set1_ps(2.f)));
    return _mm512_mul_ps(a, r);
}

static inline vec v_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vec v_select(uint16_t mask, vec yes, vec no)
{
    return _mm512_mask_mov_ps(no, mask, yes);
}

static inline float v_top(vec a)
{
    return _mm512_reduce_max_ps(a);
}

static inline float v_sum(vec a)
{
    return _mm512_reduce_add_ps(a);
}

/* 2^floor(x) * p, where p approximates 2^f for the fraction f; underflows to 0 gradually. */
static inline vec v_scale(vec p, vec x)
{
    return _mm512_scalef_ps(p, x);
}

/* x - floor(x); 0 for -inf. */
static inline vec v_fraction(vec x)
{
    return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

/* The polynomial's largest relative error over [0, 1) is 8e-8 (least squares, weights moved to the extremes). */
static inline vec v_exp2(vec x)
{
    vec f = v_fraction(x);
    vec p = v_fma(v_set(1.8775767e-3f), f, v_set(8.9893406e-3f));
    p = v_fma(p, f, v_set(5.5826318e-2f));
    p = v_fma(p, f, v_set(2.4015361e-1f));
    p = v_fma(p, f, v_set(6.9315308e-1f));
    return v_scale(v_fma(p, f, v_set(0.99999994f)), x);
}

static inline vec v_load_values(const void *p, oas_dtype dtype, int n)
{
    __mmask16 mask = (__mmask16)((1u << n) - 1);
    if (dtype == OAS_F32)
        return n == LANES ? v_load(p) : _mm512_maskz_loadu_ps(mask, p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p)), 16));
}

/* bf16 of 16 floats, to nearest, ties to even, in the low halves; NaN stays NaN. */
static inline __m512i v_round_bf16(vec a)
{
    __m512i bits = _mm512_castps_si512(a);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_srli_epi32(rounded, 16);
}

static inline void v_store_values(void *p, oas_dtype dtype, vec a, int n)
{
    __mmask16 mask = (__mmask16)((1u << n) - 1);
    if (dtype == OAS_F32)
        _mm512_mask_storeu_ps(p, mask, a);
    else
        _mm256_mask_storeu_epi16(p, mask, _mm512_cvtepi32_epi16(v_round_bf16(a)));
}

static inline vec v_rotate(vec a, vec angle)
{
    vec swapped = _mm512_permute_ps(a, 0xb1), sine = _mm512_movehdup_ps(angle);
    return _mm512_fmaddsub_ps(a, _mm512_moveldup_ps(angle), _mm512_mul_ps(swapped, sine));
}

/* Of bf16, the aligned pair that holds the value is read. */
static inline vec v_gather(const void *p, oas_dtype dtype, const int32_t *index)
{
    __m512i at = _mm512_loadu_si512(index);
    if (dtype == OAS_F32)
        return _mm512_i32gather_ps(at, p, 4);
    __m512i pair = _mm512_i32gather_epi32(_mm512_srli_epi32(at, 1), p, 4);
    __m512i even = _mm512_slli_epi32(_mm512_andnot_si512(at, _mm512_set1_epi32(1)), 4);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_sllv_epi32(pair, even), _mm512_set1_epi32((int)0xffff0000u)));
}

/* Pairs of rows, then pairs of pairs, within quarters; then the quarters themselves. */
static inline void transpose(vec *a)
{
    vec b[16];
    for (int i = 0; i < 16; i += 4) {
        vec x = _mm512_unpacklo_ps(a[i], a[i + 1]), y = _mm512_unpackhi_ps(a[i], a[i + 1]);
        vec z = _mm512_unpacklo_ps(a[i + 2], a[i + 3]), w = _mm512_unpackhi_ps(a[i + 2], a[i + 3]);
        b[i] = _mm512_shuffle_ps(x, z, 0x44);
        b[i + 1] = _mm512_shuffle_ps(x, z, 0xee);
        b[i + 2] = _mm512_shuffle_ps(y, w, 0x44);
        b[i + 3] = _mm512_shuffle_ps(y, w, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        vec x = _mm512_shuffle_f32x4(b[i], b[i + 4], 0x88), y = _mm512_shuffle_f32x4(b[i], b[i + 4], 0xdd);
        vec z = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0x88), w = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0xdd);
        a[i] = _mm512_shuffle_f32x4(x, z, 0x88);
        a[i + 8] = _mm512_shuffle_f32x4(x, z, 0xdd);
        a[i + 4] = _mm512_shuffle_f32x4(y, w, 0x88);
        a[i + 12] = _mm512_shuffle_f32x4(y, w, 0xdd);
    }
}

#endif
