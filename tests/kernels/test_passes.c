/*
 * The passes of every level this machine has against formulas in double, on any sizes, with guard bytes behind inputs
 * (by the end of the block) and around outputs.
 */
#include "cpu/passes.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Norm of the difference over norm of the result: a few roundings to 2^-24, sums over 16 lanes, 2^x good to 1.5e-7. */
static const double TOLERANCE_F32 = 1e-6;
/* One rounding to 8 bits: at most 2^-8 of each value, beside which float's errors vanish. */
static const double TOLERANCE_BF16 = 3.92e-3;

enum { GUARD = 0x5a, GUARD_BYTES = 64, MOST = 1200 };

static uint64_t state = 1;

static uint32_t draw(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static float draw_value(float size)
{
    return ((float)draw() / 1073741824.f - 1.f) * size;
}

/* n values of a type in a block that ends with them, and the same as doubles. */
static void *draw_values(oas_dtype dtype, int64_t n, float size, double *values)
{
    void *block = malloc((size_t)n * oas_dtype_size(dtype));
    assert_non_null(block);
    for (int64_t i = 0; i < n; i++) {
        float value = draw_value(size);
        uint16_t rounded = oas_to_bf16(value);
        if (dtype == OAS_F32)
            ((float *)block)[i] = value;
        else
            ((uint16_t *)block)[i] = rounded;
        values[i] = dtype == OAS_F32 ? (double)value : (double)oas_from_bf16(rounded);
    }
    return block;
}

/* An output of n values between guards. */
typedef struct guarded {
    unsigned char *block;
    size_t bytes;
} guarded;

static void *guard(guarded *g, oas_dtype dtype, int64_t n)
{
    g->bytes = (size_t)n * oas_dtype_size(dtype);
    g->block = malloc(g->bytes + 2 * GUARD_BYTES);
    assert_non_null(g->block);
    memset(g->block, GUARD, g->bytes + 2 * GUARD_BYTES);
    return g->block + GUARD_BYTES;
}

static double error_of(const void *got, oas_dtype dtype, const double *expected, int64_t n)
{
    double error = 0, norm = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        double value =
            dtype == OAS_F32 ? (double)((const float *)got)[i] : (double)oas_from_bf16(((const uint16_t *)got)[i]);
        error += (value - expected[i]) * (value - expected[i]);
        norm += expected[i] * expected[i];
    }
    return sqrt(error / norm);
}

/* Checks guards and values and frees the output; a changed expectation must not pass. */
static void check(guarded *g, oas_dtype dtype, double *expected, int64_t n, const char *what, int level)
{
    for (int i = 0; i < GUARD_BYTES; i++) {
        assert_int_equal(g->block[i], GUARD);
        assert_int_equal(g->block[GUARD_BYTES + g->bytes + (size_t)i], GUARD);
    }
    const void *got = g->block + GUARD_BYTES;
    double tolerance = dtype == OAS_F32 ? TOLERANCE_F32 : TOLERANCE_BF16;
    double error = error_of(got, dtype, expected, n);
    if (!(error <= tolerance))
        fail_msg("%s at %s, %s, %d values: error %g, allowed %g", what, oas_cpu_level_name((oas_cpu_level)level),
                 oas_dtype_name(dtype), (int)n, error, tolerance);
    int64_t largest = 0;
    for (int64_t i = 0; i < n; i++)
        if (fabs(expected[i]) > fabs(expected[largest]))
            largest = i;
    expected[largest] = expected[largest] * 1.5 + 1e-3;
    assert_true(error_of(got, dtype, expected, n) > tolerance);
    free(g->block);
}

static const int SIZES[] = {1, 2, 15, 16, 17, 31, 32, 48, 66, 256, 300};
enum { N_SIZES = (int)(sizeof SIZES / sizeof SIZES[0]) };

#define EACH_LEVEL_SIZE_TYPE(level, n, type)                                                                           \
    for (int level = 0; level <= (int)oas_cpu_detect(); level++)                                                       \
        for (int index = 0; index < N_SIZES; index++)                                                                  \
            for (int type = 0; type < OAS_DTYPES; type++)                                                              \
                for (int64_t n = SIZES[index], once = 1; once; once = 0)

static void norm_modulate(void **unused)
{
    (void)unused;
    EACH_LEVEL_SIZE_TYPE(level, n, type)
    {
        double x[MOST], shift[MOST], scale[MOST], y[MOST], mean = 0, variance = 0;
        float *fx = draw_values(OAS_F32, n, 3, x), *fshift = draw_values(OAS_F32, n, 1, shift);
        float *fscale = draw_values(OAS_F32, n, 1, scale);
        for (int64_t i = 0; i < n; i++)
            fx[i] += 2.f;
        for (int64_t i = 0; i < n; i++)
            mean += (double)fx[i] / (double)n;
        for (int64_t i = 0; i < n; i++)
            variance += ((double)fx[i] - mean) * ((double)fx[i] - mean) / (double)n;
        for (int64_t i = 0; i < n; i++)
            y[i] = ((double)fx[i] - mean) / sqrt(variance + 1e-6) * (1 + scale[i]) + shift[i];
        guarded g;
        oas_passes_for((oas_cpu_level)level)
            ->norm_modulate(guard(&g, (oas_dtype)type, n), (oas_dtype)type, fx, fshift, fscale, n, 1e-6f);
        check(&g, (oas_dtype)type, y, n, "norm_modulate", level);
        free(fx);
        free(fshift);
        free(fscale);
    }
}

static void rms_norm_rope(void **unused)
{
    (void)unused;
    EACH_LEVEL_SIZE_TYPE(level, half, type)
    {
        int64_t head = 2 * half, heads = head > 200 ? 1 : 3, n = head * heads;
        double x[MOST], gain[MOST], rope[MOST], y[MOST], square = 0;
        void *dx = draw_values((oas_dtype)type, n, 3, x);
        float *fgain = draw_values(OAS_F32, n, 1, gain), *frope = draw_values(OAS_F32, head, 1, rope);
        for (int64_t i = 0; i < n; i++)
            square += x[i] * x[i] / (double)n;
        double r = 1 / sqrt(square + 1e-6);
        for (int64_t i = 0; i < n; i += 2) {
            double a = x[i] * r * gain[i], b = x[i + 1] * r * gain[i + 1], c = rope[i % head], s = rope[i % head + 1];
            y[i] = a * c - b * s;
            y[i + 1] = a * s + b * c;
        }
        guarded g;
        oas_passes_for((oas_cpu_level)level)
            ->rms_norm_rope(guard(&g, (oas_dtype)type, n), dx, (oas_dtype)type, fgain, frope, head, n, 1e-6f);
        check(&g, (oas_dtype)type, y, n, "rms_norm_rope", level);
        free(dx);
        free(fgain);
        free(frope);
    }
}

static void add_gated_and_axpy(void **unused)
{
    (void)unused;
    EACH_LEVEL_SIZE_TYPE(level, n, type)
    {
        double x[MOST], b[MOST], gate[MOST], y[MOST];
        const oas_passes *pass = oas_passes_for((oas_cpu_level)level);
        float *fx = draw_values(OAS_F32, n, 1, x), *fgate = draw_values(OAS_F32, n, 1, gate);
        void *db = draw_values((oas_dtype)type, n, 1, b);
        guarded g;
        for (int with = 0; with < 4; with++) { /* the gate, the constant, both */
            for (int64_t i = 0; i < n; i++)
                y[i] = x[i] + b[i] * (with & 1 ? gate[i] : 1) + (with & 2 ? x[i] : 0);
            pass->add_gated(guard(&g, OAS_F32, n), fx, db, (oas_dtype)type, with & 1 ? fgate : NULL,
                            with & 2 ? fx : NULL, n);
            check(&g, OAS_F32, y, n, "add_gated", level);
        }
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] + (double)-0.4f * gate[i];
        pass->axpy(guard(&g, OAS_F32, n), fx, -0.4f, fgate, n);
        check(&g, OAS_F32, y, n, "axpy", level);
        free(fx);
        free(fgate);
        free(db);
    }
}

static double function_of(oas_pass_function f, double x)
{
    if (f == OAS_PASS_RELU)
        return x > 0 ? x : 0;
    if (f == OAS_PASS_SILU)
        return x / (1 + exp(-x));
    return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979324) * (x + 0.044715 * x * x * x)));
}

static void activate(void **unused)
{
    (void)unused;
    static const float RANGES[] = {0.01f, 8, 300}; /* near zero, where it bends, where exp would overflow */
    EACH_LEVEL_SIZE_TYPE(level, n, type)
    for (int i = 0; i < 2 * (OAS_PASS_RELU + 1); i++) {
        oas_pass_function f = (oas_pass_function)(i / 2);
        oas_dtype to = i % 2 ? OAS_F32 : OAS_BF16;
        double x[MOST], y[MOST];
        void *dx = draw_values((oas_dtype)type, n, RANGES[index % 3], x);
        bool any = false; /* one negative value may give nothing to compare */
        for (int64_t k = 0; k < n; k++) {
            y[k] = function_of(f, x[k]);
            any = any || fabs(y[k]) > 1e-4;
        }
        guarded g;
        oas_passes_for((oas_cpu_level)level)->activate(guard(&g, to, n), to, dx, (oas_dtype)type, f, n);
        if (any)
            check(&g, to, y, n, "activate", level);
        else
            free(g.block);
        free(dx);
    }
}

/* Conversions are exact: they must agree with oas_convert bit by bit, infinities, NaN and ties included. */
static void convert(void **unused)
{
    (void)unused;
    static const uint32_t SPECIAL[] = {0x7f800000u, 0xff800000u, 0x7fc00001u, 0x3f808000u, 0x3f818000u,
                                       0x3f808001u, 0x7f7fffffu, 0x80000000u, 0x00000001u};
    EACH_LEVEL_SIZE_TYPE(level, n, to)
    {
        double ignored[MOST];
        oas_dtype from = to == OAS_BF16 ? OAS_F32 : OAS_BF16;
        void *x = draw_values(from, n, 100, ignored);
        if (from == OAS_F32)
            memcpy(x, SPECIAL, (size_t)(n < 9 ? n : 9) * sizeof(float));
        guarded g, expected;
        oas_passes_for((oas_cpu_level)level)->convert(guard(&g, (oas_dtype)to, n), (oas_dtype)to, x, from, n);
        oas_convert(guard(&expected, (oas_dtype)to, n), (oas_dtype)to, x, from, n);
        assert_memory_equal(g.block, expected.block, g.bytes + 2 * GUARD_BYTES);
        free(g.block);
        free(expected.block);
        free(x);
    }
}

/* Blocks of `values` permuted values, some far apart, up to the last value of the input. */
static void rearrange(void **unused)
{
    (void)unused;
    static const int VALUES[] = {2, 16, 24, 48, 64, 192};
    EACH_LEVEL_SIZE_TYPE(level, blocks, types)
    for (int v = 0; v < 6 * 3; v++) {
        int64_t period = VALUES[v % 6], rows = v / 6 + 1, step = period, width = blocks % 7 * 3 + 1;
        int64_t count = blocks % 9 + 1, row = (count + width) * step, size = row * (rows - 1) + count * step;
        int64_t n = count * period - (v % 2 && period > 3 ? 3 : 0);
        oas_dtype from = types ? OAS_BF16 : OAS_F32, to = v % 4 < 2 ? OAS_BF16 : OAS_F32;
        int32_t places[192];
        double *x = malloc((size_t)size * sizeof *x), more[MOST * 2], *y = malloc((size_t)n * sizeof *y);
        assert_true(x && y);
        void *dx = draw_values(from, size, 1, x);
        float *add = draw_values(OAS_F32, n, 1, more);
        for (int64_t i = 0; i < period; i++)
            places[i] = (int32_t)((i * 5 + v) % period % step + (i % rows) * row);
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i / period * step + places[i % period]] + (v % 3 ? more[i] : 0);
        guarded g;
        oas_passes_for((oas_cpu_level)level)
            ->rearrange(guard(&g, to, n), to, dx, from, size, v % 3 ? add : NULL, places, period, step, n);
        check(&g, to, y, n, "rearrange", level);
        free(dx);
        free(add);
        free(x);
        free(y);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_modulate), cmocka_unit_test(rms_norm_rope), cmocka_unit_test(add_gated_and_axpy),
        cmocka_unit_test(activate),      cmocka_unit_test(convert),       cmocka_unit_test(rearrange),
    };
    return cmocka_run_group_tests_name("kernels/passes", tests, NULL, NULL);
}
