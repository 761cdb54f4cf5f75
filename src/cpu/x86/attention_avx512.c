/* The attention kernel on floats with AVX-512. */
#include "cpu/attention_kernel.h"
#include "cpu/x86/vector_avx512.h"

#define KERNEL oas_attention_avx512
#define KEYS_PER_UNIT 1
#define ROWS 14
#define PANELS 2
#define WINDOW_STEP 8
#define WINDOW_BLOCKS 3

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

static inline vec v_mac(vec acc, vec a, vec b)
{
    return _mm512_fmadd_ps(a, b, acc);
}

static inline vec load_units(const void *p, oas_dtype dtype, int values)
{
    return v_load_values(p, dtype, values);
}

static inline vec load_keys(const void *const *rows, size_t offset, oas_dtype dtype, int values)
{
    return v_load_values((const char *)rows[0] + offset, dtype, values);
}

static inline void store_weights(float *s, int64_t stride, vec first, vec second)
{
    v_store(s, first);
    v_store(s + stride, second);
}

static inline void store_values(void *p, oas_dtype dtype, vec a, int values)
{
    v_store_values(p, dtype, a, values);
}

#include "cpu/attention_template.h"
