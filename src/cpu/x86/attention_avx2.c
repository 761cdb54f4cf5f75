/* The attention kernel on floats with AVX2; bf16 is converted where rows are packed and stored. */
#include "cpu/attention_kernel.h"

#include <immintrin.h>
#include <string.h>

typedef struct vec {
    __m256 low, high;
} vec;

#define KERNEL oas_attention_avx2
#define KEYS_PER_UNIT 1
#define ROWS 6
#define PANELS 1
#define WINDOW_STEP 4
#define WINDOW_BLOCKS 1

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

static inline vec v_fma(vec a, vec b, vec c)
{
    return (vec){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

static inline vec v_mac(vec acc, vec a, vec b)
{
    return v_fma(a, b, acc);
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

/* As in attention_avx512.c; below 2^-126 the result is 2^-126 times a little, which no sum of weights >= 1 notices. */
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

static inline vec load_units(const void *p, oas_dtype dtype, int values)
{
    float block[LANES] = {0};
    if (values < LANES)
        p = memcpy(block, p, (size_t)values * oas_dtype_size(dtype));
    if (dtype == OAS_F32)
        return v_load(p);
    const __m128i *half = p;
    return (vec){widen(_mm_loadu_si128(half)), widen(_mm_loadu_si128(half + 1))};
}

static inline vec load_keys(const void *const *rows, size_t offset, oas_dtype dtype, int values)
{
    return load_units((const char *)rows[0] + offset, dtype, values);
}

static inline void store_weights(float *s, int64_t stride, vec first, vec second)
{
    v_store(s, first);
    v_store(s + stride, second);
}

static inline void store_values(void *p, oas_dtype dtype, vec a, int values)
{
    float block[LANES];
    v_store(block, a);
    oas_convert(p, dtype, block, OAS_F32, values);
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

#include "cpu/attention_template.h"
