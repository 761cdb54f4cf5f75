/*
 * Kernels over rows, included once per level (channel.c, x86/channel_*.c) after a header of vectors.  The file that
 * includes it defines KERNEL, the name of the table defined here.
 */
#include "cpu/channel.h"

#include <math.h>

#if defined(__GNUC__)
#define ROW_INLINE static inline __attribute__((always_inline))
#else
#define ROW_INLINE static inline
#endif

static const float LOG2_E = 1.44269504f, LEAST_LENGTH = 1e-12f, LEAST_EXPONENT = -87.f;

ROW_INLINE int lanes_left(int64_t i, int64_t n)
{
    return n - i < LANES ? (int)(n - i) : LANES;
}

ROW_INLINE void norm_typed(char *y, const char *x, const oas_dtype dtype, const float *gamma, float root, const bool silu,
                           int64_t n)
{
    const int64_t element = (int64_t)oas_dtype_size(dtype);
    vec square = v_set(0.f), one = v_set(1.f);
    for (int64_t i = 0; i < n; i += LANES) {
        vec v = v_load_values(x + i * element, dtype, lanes_left(i, n));
        square = v_fma(v, v, square);
    }
    float length = sqrtf(v_sum(square));
    vec r = v_set(root / (length > LEAST_LENGTH ? length : LEAST_LENGTH));
    for (int64_t i = 0; i < n; i += LANES) {
        int count = lanes_left(i, n);
        vec v = v_mul(v_load_values(x + i * element, dtype, count), r);
        v = v_mul(v, v_load_values(gamma + i, OAS_F32, count));
        if (silu)
            v = v_over(v, v_add(one, v_exp2(v_mul(v_max(v, v_set(LEAST_EXPONENT)), v_set(-LOG2_E)))));
        v_store_values(y + i * element, dtype, v, count);
    }
}

static void norm(void *y, const void *x, oas_dtype dtype, const float *gamma, float root, bool silu, int64_t n)
{
    if (dtype == OAS_BF16 && silu)
        norm_typed(y, x, OAS_BF16, gamma, root, true, n);
    else if (dtype == OAS_BF16)
        norm_typed(y, x, OAS_BF16, gamma, root, false, n);
    else if (silu)
        norm_typed(y, x, OAS_F32, gamma, root, true, n);
    else
        norm_typed(y, x, OAS_F32, gamma, root, false, n);
}

ROW_INLINE void softmax_typed(char *w, const oas_dtype dtype, float *s, int64_t n)
{
    const int64_t element = (int64_t)oas_dtype_size(dtype), whole = n / LANES * LANES;
    vec most = v_set(-INFINITY), sum = v_set(0.f), scale = v_set(LOG2_E);
    for (int64_t i = 0; i < whole; i += LANES)
        most = v_max(most, v_load(s + i));
    float top = v_top(most);
    for (int64_t i = whole; i < n; i++)
        top = s[i] > top ? s[i] : top;
    vec shift = v_set(-top * LOG2_E);
    for (int64_t i = 0; i < n; i += LANES) {
        int count = lanes_left(i, n);
        vec v = v_exp2(v_fma(v_load_values(s + i, OAS_F32, count), scale, shift));
        if (count < LANES)
            v = v_select((uint16_t)((1u << count) - 1), v, v_set(0.f));
        sum = v_add(sum, v);
        v_store_values(s + i, OAS_F32, v, count);
    }
    vec factor = v_set(1.f / v_sum(sum));
    for (int64_t i = 0; i < n; i += LANES) {
        int count = lanes_left(i, n);
        v_store_values(w + i * element, dtype, v_mul(v_load_values(s + i, OAS_F32, count), factor), count);
    }
}

static void softmax(void *w, oas_dtype dtype, float *s, int64_t n)
{
    if (dtype == OAS_BF16)
        softmax_typed(w, OAS_BF16, s, n);
    else
        softmax_typed(w, OAS_F32, s, n);
}

extern const oas_channel_kernels KERNEL;
const oas_channel_kernels KERNEL = {norm, softmax};
