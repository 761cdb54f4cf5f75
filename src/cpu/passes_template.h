/*
 * The passes, included once per level (passes.c, x86/passes_*.c) after a header of vectors.  The file that includes it
 * defines KERNEL, the name of the table defined here; or OWN_TABLE, and makes the table itself from these functions.
 *
 * Functions that take types at run time call an inline body with constant types, so that the choice is made once.
 */
#include "cpu/passes.h"

#include <math.h>
#include <string.h>

#if defined(__GNUC__)
#define PASS_INLINE static inline __attribute__((always_inline))
#else
#define PASS_INLINE static inline
#endif

/* How many of the 16 lanes at i are below n. */
PASS_INLINE int lanes_at(int64_t i, int64_t n)
{
    return n - i < LANES ? (int)(n - i) : LANES;
}

PASS_INLINE const void *value_at(const void *p, oas_dtype dtype, int64_t i)
{
    return (const char *)p + i * (int64_t)oas_dtype_size(dtype);
}

PASS_INLINE void *place_at(void *p, oas_dtype dtype, int64_t i)
{
    return (char *)p + i * (int64_t)oas_dtype_size(dtype);
}

/* ---- types ------------------------------------------------------------------------------------------------------ */

PASS_INLINE void convert_typed(void *to, const oas_dtype to_type, const void *from, const oas_dtype from_type,
                               int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        int count = lanes_at(i, n);
        v_store_values(place_at(to, to_type, i), to_type, v_load_values(value_at(from, from_type, i), from_type, count),
                       count);
    }
}

static void convert(void *to, oas_dtype to_type, const void *from, oas_dtype from_type, int64_t n)
{
    if (to_type == from_type)
        memmove(to, from, (size_t)n * oas_dtype_size(to_type));
    else if (to_type == OAS_BF16)
        convert_typed(to, OAS_BF16, from, OAS_F32, n);
    else
        convert_typed(to, OAS_F32, from, OAS_BF16, n);
}

/* ---- norms ------------------------------------------------------------------------------------------------------ */

PASS_INLINE void modulate_typed(void *y, const oas_dtype dtype, const float *x, const float *shift, const float *scale,
                                int64_t n, float eps)
{
    vec sum = v_set(0.f), square = v_set(0.f), one = v_set(1.f);
    for (int64_t i = 0; i < n; i += LANES)
        sum = v_add(sum, v_load_values(x + i, OAS_F32, lanes_at(i, n)));
    vec minus_mean = v_set(-v_sum(sum) / (float)n);
    for (int64_t i = 0; i < n; i += LANES) {
        int count = lanes_at(i, n);
        vec t = v_add(v_load_values(x + i, OAS_F32, count), minus_mean);
        if (count < LANES)
            t = v_select((uint16_t)((1u << count) - 1), t, v_set(0.f));
        square = v_fma(t, t, square);
    }
    vec r = v_set(1.f / sqrtf(v_sum(square) / (float)n + eps));
    for (int64_t i = 0; i < n; i += LANES) {
        int count = lanes_at(i, n);
        vec t = v_mul(v_add(v_load_values(x + i, OAS_F32, count), minus_mean), r);
        t = v_fma(t, v_add(one, v_load_values(scale + i, OAS_F32, count)), v_load_values(shift + i, OAS_F32, count));
        v_store_values(place_at(y, dtype, i), dtype, t, count);
    }
}

static void norm_modulate(void *y, oas_dtype dtype, const float *x, const float *shift, const float *scale, int64_t n,
                          float eps)
{
    if (dtype == OAS_BF16)
        modulate_typed(y, OAS_BF16, x, shift, scale, n, eps);
    else
        modulate_typed(y, OAS_F32, x, shift, scale, n, eps);
}

PASS_INLINE void rope_typed(void *y, const void *x, const oas_dtype dtype, const float *gain, const float *rope,
                            int64_t head, int64_t n, float eps)
{
    vec square = v_set(0.f);
    for (int64_t i = 0; i < n; i += LANES) {
        vec t = v_load_values(value_at(x, dtype, i), dtype, lanes_at(i, n));
        square = v_fma(t, t, square);
    }
    vec r = v_set(1.f / sqrtf(v_sum(square) / (float)n + eps));
    for (int64_t begin = 0; begin < n; begin += head)
        for (int64_t i = 0; i < head; i += LANES) {
            int count = lanes_at(i, head);
            vec t = v_mul(v_load_values(value_at(x, dtype, begin + i), dtype, count), r);
            t = v_mul(t, v_load_values(gain + begin + i, OAS_F32, count));
            t = v_rotate(t, v_load_values(rope + i, OAS_F32, count));
            v_store_values(place_at(y, dtype, begin + i), dtype, t, count);
        }
}

static void rms_norm_rope(void *y, const void *x, oas_dtype dtype, const float *gain, const float *rope, int64_t head,
                          int64_t n, float eps)
{
    if (dtype == OAS_BF16)
        rope_typed(y, x, OAS_BF16, gain, rope, head, n, eps);
    else
        rope_typed(y, x, OAS_F32, gain, rope, head, n, eps);
}

/* ---- elementwise ------------------------------------------------------------------------------------------------ */

PASS_INLINE void gated_typed(float *y, const float *x, const void *b, const oas_dtype b_type, const float *gate,
                             const float *constant, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        int count = lanes_at(i, n);
        vec t = v_load_values(x + i, OAS_F32, count), u = v_load_values(value_at(b, b_type, i), b_type, count);
        t = gate ? v_fma(u, v_load_values(gate + i, OAS_F32, count), t) : v_add(t, u);
        t = constant ? v_add(t, v_load_values(constant + i, OAS_F32, count)) : t;
        v_store_values(y + i, OAS_F32, t, count);
    }
}

static void add_gated(float *y, const float *x, const void *b, oas_dtype b_type, const float *gate,
                      const float *constant, int64_t n)
{
    if (b_type == OAS_BF16)
        gated_typed(y, x, b, OAS_BF16, gate, constant, n);
    else
        gated_typed(y, x, b, OAS_F32, gate, constant, n);
}

static void axpy(float *y, const float *x, float a, const float *b, int64_t n)
{
    vec factor = v_set(a);
    for (int64_t i = 0; i < n; i += LANES) {
        int count = lanes_at(i, n);
        v_store_values(y + i, OAS_F32,
                       v_fma(factor, v_load_values(b + i, OAS_F32, count), v_load_values(x + i, OAS_F32, count)),
                       count);
    }
}

/* x / (1 + 2^(-log2(e) t)), which is x times the logistic function of t; t is bounded so that 2^ stays finite. */
PASS_INLINE vec times_logistic(vec x, vec t)
{
    vec power = v_mul(v_max(t, v_set(-87.f)), v_set(-1.44269504f));
    return v_over(x, v_add(v_set(1.f), v_exp2(power)));
}

/* (1 + tanh(u)) / 2 is the logistic function of 2u, so tanh-GELU is x logistic(2 sqrt(2/pi) (x + 0.044715 x^3)). */
PASS_INLINE vec function_of(vec x, const oas_pass_function f)
{
    if (f == OAS_PASS_RELU)
        return v_max(x, v_set(0.f));
    if (f == OAS_PASS_SILU)
        return times_logistic(x, x);
    vec cubic = v_fma(v_mul(x, x), v_set(0.0713548163f), v_set(1.59576912f));
    return times_logistic(x, v_mul(x, cubic));
}

PASS_INLINE void activate_typed(void *y, const oas_dtype y_type, const void *x, const oas_dtype x_type,
                                const oas_pass_function f, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        int count = lanes_at(i, n);
        vec t = function_of(v_load_values(value_at(x, x_type, i), x_type, count), f);
        v_store_values(place_at(y, y_type, i), y_type, t, count);
    }
}

PASS_INLINE void activate_by(void *y, oas_dtype y_type, const void *x, oas_dtype x_type, const oas_pass_function f,
                             int64_t n)
{
    if (x_type == OAS_BF16 && y_type == OAS_BF16)
        activate_typed(y, OAS_BF16, x, OAS_BF16, f, n);
    else if (x_type == OAS_BF16)
        activate_typed(y, OAS_F32, x, OAS_BF16, f, n);
    else if (y_type == OAS_BF16)
        activate_typed(y, OAS_BF16, x, OAS_F32, f, n);
    else
        activate_typed(y, OAS_F32, x, OAS_F32, f, n);
}

static void activate(void *y, oas_dtype y_type, const void *x, oas_dtype x_type, oas_pass_function f, int64_t n)
{
    if (f == OAS_PASS_RELU)
        activate_by(y, y_type, x, x_type, OAS_PASS_RELU, n);
    else if (f == OAS_PASS_SILU)
        activate_by(y, y_type, x, x_type, OAS_PASS_SILU, n);
    else
        activate_by(y, y_type, x, x_type, OAS_PASS_GELU_TANH, n);
}

/* ---- rearrangement ---------------------------------------------------------------------------------------------- */

/* One by one: where index or memory of a whole vector may not be there. */
static void rearrange_rest(void *y, oas_dtype y_type, const void *x, oas_dtype x_type, const float *add,
                           const int32_t *index, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float value;
        oas_convert(&value, OAS_F32, value_at(x, x_type, index[i]), x_type, 1);
        if (add)
            value += add[i];
        oas_convert(place_at(y, y_type, i), y_type, &value, OAS_F32, 1);
    }
}

PASS_INLINE void rearrange_typed(void *y, const oas_dtype y_type, const void *x, const oas_dtype x_type,
                                 const float *add, const int32_t *index, int64_t period, int64_t step, int64_t n)
{
    for (int64_t begin = 0, from = 0; begin < n; begin += period, from += step) {
        int64_t end = begin + period < n ? begin + period : n, i = begin;
        const void *block = value_at(x, x_type, from);
        for (; i + LANES <= end; i += LANES) {
            vec t = v_gather(block, x_type, index + (i - begin));
            if (add)
                t = v_add(t, v_load(add + i));
            v_store_values(place_at(y, y_type, i), y_type, t, LANES);
        }
        rearrange_rest(place_at(y, y_type, i), y_type, block, x_type, add ? add + i : NULL, index + (i - begin),
                       end - i);
    }
}

static void gather(void *y, oas_dtype y_type, const void *x, oas_dtype x_type, int64_t size, const float *add,
                   const int32_t *index, int64_t period, int64_t step, int64_t n)
{
    (void)size;
    if (x_type == OAS_BF16 && y_type == OAS_BF16)
        rearrange_typed(y, OAS_BF16, x, OAS_BF16, add, index, period, step, n);
    else if (x_type == OAS_BF16)
        rearrange_typed(y, OAS_F32, x, OAS_BF16, add, index, period, step, n);
    else if (y_type == OAS_BF16)
        rearrange_typed(y, OAS_BF16, x, OAS_F32, add, index, period, step, n);
    else
        rearrange_typed(y, OAS_F32, x, OAS_F32, add, index, period, step, n);
}

#ifndef OWN_TABLE
extern const oas_passes KERNEL;
const oas_passes KERNEL = {convert, norm_modulate, rms_norm_rope, add_gated, axpy, activate, gather};
#endif
