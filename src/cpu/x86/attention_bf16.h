/* What the attention kernels on bf16 share: units are pairs of values (cpu/attention_template.h says what these do). */
#ifndef OAS_CPU_X86_ATTENTION_BF16_H
#define OAS_CPU_X86_ATTENTION_BF16_H

#include "cpu/x86/vector_avx512.h"

/* The polynomial's largest relative error over [0, 1) is 2.7e-6: weights are rounded by up to 2^-8 afterwards. */
static inline vec weight_exp2(vec x)
{
    vec f = v_fraction(x);
    vec p = v_fma(v_set(1.3534168e-2f), f, v_set(5.2011464e-2f));
    p = v_fma(p, f, v_set(2.4144275e-1f));
    p = v_fma(p, f, v_set(6.9300383e-1f));
    return v_scale(v_fma(p, f, v_set(1.0000026f)), x);
}

static inline vec load_units(const void *p, oas_dtype dtype, int values)
{
    (void)dtype;
    __mmask32 mask = (__mmask32)((1ull << values) - 1);
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, p));
}

/* A lane of the result is one channel of two keys. */
static inline vec load_keys(const void *const *rows, size_t offset, oas_dtype dtype, int values)
{
    (void)dtype;
    __mmask16 mask = (__mmask16)((1u << values) - 1);
    __m512i pair[2];
    for (int i = 0; i < 2; i++)
        pair[i] = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, (const char *)rows[i] + offset));
    return _mm512_castsi512_ps(_mm512_or_si512(pair[0], _mm512_slli_epi32(pair[1], 16)));
}

/* 32 weights are one vector of units. */
static inline void store_weights(float *s, int64_t stride, vec first, vec second)
{
    (void)stride;
    v_store(s, (vec)_mm512_cvtne2ps_pbh(second, first));
}

static inline void store_values(void *p, oas_dtype dtype, vec a, int values)
{
    (void)dtype;
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << values) - 1), (__m256i)_mm512_cvtneps_pbh(a));
}

#endif
