/* 16 floats as two halves of AVX2, for the kernels of this folder; what each function does: cpu/vector_c.h. */
#ifndef OAS_CPU_X86_VECTOR_AVX2_H
#define OAS_CPU_X86_VECTOR_AVX2_H

#include "tensor/tensor.h"

#include <immintrin.h>
#include <string.h>

enum { LANES = 16 };

typedef struct vec {
    __m256 low, high;
} vec;

static inline vec v_set(float x)
{
    __m256 a = _mm256_set1_ps(x);
    return (vec){a, a};
}

static inline vec v_load(const float *p)
{
    return (vec){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

static inline void v_store(float *p, vec a)
{
    _mm256_storeu_ps(p, a.low);
    _mm256_storeu_ps(p + 8, a.high);
}

static inline vec v_max(vec a, vec b)
{
    return (vec){_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}

static inline vec v_add(vec a, vec b)
{
    return (vec){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}

static inline vec v_mul(vec a, vec b)
{
    return (vec){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}

static inline vec v_over(vec a, vec b)
{
    return (vec){_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}

static inline vec v_fma(vec a, vec b, vec c)
{
    return (vec){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

static inline __m256 lanes_of(unsigned mask)
{
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)mask), bit), bit));
}

static inline vec v_select(uint16_t mask, vec yes, vec no)
{
    return (vec){_mm256_blendv_ps(no.low, yes.low, lanes_of(mask)),
                 _mm256_blendv_ps(no.high, yes.high, lanes_of(mask >> 8u))};
}

static inline float v_top(vec a)
{
    __m256 x = _mm256_max_ps(a.low, a.high);
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_shuffle_ps(y, y, 1)));
}

static inline float v_sum(vec a)
{
    __m256 x = _mm256_add_ps(a.low, a.high);
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
}

/* The polynomial of vector_avx512.h; what is below 2^-126 becomes 2^-126. */
static inline __m256 exp2_half(__m256 x)
{
    x = _mm256_max_ps(x, _mm256_set1_ps(-126.f));
    __m256 whole = _mm256_floor_ps(x), f = _mm256_sub_ps(x, whole);
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(1.8775767e-3f), f, _mm256_set1_ps(8.9893406e-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(5.5826318e-2f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(2.4015361e-1f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(6.9315308e-1f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0.99999994f));
    __m256i power = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), power));
}

static inline vec v_exp2(vec x)
{
    return (vec){exp2_half(x.low), exp2_half(x.high)};
}

static inline __m256 widen(__m128i bf16)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bf16), 16));
}

static inline vec v_load_values(const void *p, oas_dtype dtype, int n)
{
    float block[LANES] = {0};
    if (n < LANES)
        p = memcpy(block, p, (size_t)n * oas_dtype_size(dtype));
    if (dtype == OAS_F32)
        return v_load(p);
    const __m128i *half = p;
    return (vec){widen(_mm_loadu_si128(half)), widen(_mm_loadu_si128(half + 1))};
}

/* bf16 of 8 floats, to nearest, ties to even; NaN stays NaN. */
static inline __m128i round_bf16(__m256 a)
{
    __m256i bits = _mm256_castps_si256(a);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    __m256 nan = _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
    rounded = _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet), nan));
    rounded = _mm256_srli_epi32(rounded, 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}

static inline void v_store_values(void *p, oas_dtype dtype, vec a, int n)
{
    float block[LANES];
    void *to = n == LANES ? p : block;
    if (dtype == OAS_F32) {
        v_store(to, a);
    } else {
        _mm_storeu_si128((__m128i *)to, round_bf16(a.low));
        _mm_storeu_si128((__m128i *)to + 1, round_bf16(a.high));
    }
    if (n < LANES)
        memcpy(p, block, (size_t)n * oas_dtype_size(dtype));
}

static inline __m256 rotate_half(__m256 a, __m256 angle)
{
    __m256 swapped = _mm256_permute_ps(a, 0xb1), sine = _mm256_movehdup_ps(angle);
    return _mm256_fmaddsub_ps(a, _mm256_moveldup_ps(angle), _mm256_mul_ps(swapped, sine));
}

static inline vec v_rotate(vec a, vec angle)
{
    return (vec){rotate_half(a.low, angle.low), rotate_half(a.high, angle.high)};
}

/* Of bf16, the aligned pair that holds the value is read. */
static inline __m256 gather_half(const void *p, oas_dtype dtype, const int32_t *index)
{
    __m256i at = _mm256_loadu_si256((const __m256i *)(const void *)index);
    if (dtype == OAS_F32)
        return _mm256_i32gather_ps(p, at, 4);
    __m256i pair = _mm256_i32gather_epi32(p, _mm256_srli_epi32(at, 1), 4);
    __m256i even = _mm256_slli_epi32(_mm256_andnot_si256(at, _mm256_set1_epi32(1)), 4);
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_sllv_epi32(pair, even), _mm256_set1_epi32((int)0xffff0000u)));
}

static inline vec v_gather(const void *p, oas_dtype dtype, const int32_t *index)
{
    return (vec){gather_half(p, dtype, index), gather_half(p, dtype, index + 8)};
}

/* Through memory: each vector is stored as a row, and columns are read back. */
static inline void transpose(vec *a)
{
    float rows[LANES][LANES], columns[LANES][LANES];
    for (int i = 0; i < LANES; i++)
        v_store(rows[i], a[i]);
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++)
            columns[j][i] = rows[i][j];
    for (int i = 0; i < LANES; i++)
        a[i] = v_load(columns[i]);
}

#endif
