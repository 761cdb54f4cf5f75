/* Row kernels of every level against doubles: odd lengths, both types, in place, nothing written beyond the end. */
#include "cpu/channel.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Float sums of up to 1000 terms and e^x good to 3e-7; bf16 results are rounded by up to 2^-9. */
static const double TOLERANCE_FP32 = 2e-6, TOLERANCE_BF16 = 2.5e-3;

enum { MOST = 1000, GUARD = 64 };
static const int64_t lengths[] = {1, 3, 16, 17, 96, 200, 384, MOST};

static float draw(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) / 8388608.f - 1.f;
}

static double worst(const void *got, oas_dtype dtype, const double *expected, int64_t n)
{
    double difference = 0, norm = 1e-30;
    float value;
    for (int64_t i = 0; i < n; i++) {
        oas_convert(&value, OAS_F32, (const char *)got + (size_t)i * oas_dtype_size(dtype), dtype, 1);
        difference += ((double)value - expected[i]) * ((double)value - expected[i]);
        norm += expected[i] * expected[i];
    }
    return sqrt(difference / norm);
}

static void check(oas_cpu_level level, oas_dtype dtype, int64_t n, bool silu)
{
    const oas_channel_kernels *k = oas_channel_kernels_for(level);
    const double tolerance = dtype == OAS_F32 ? TOLERANCE_FP32 : TOLERANCE_BF16;
    uint32_t seed = (uint32_t)n;
    static float x[MOST], gamma[MOST], scores[MOST];
    static double expected[MOST];
    static unsigned char row[MOST * sizeof(float) + GUARD];
    size_t bytes = (size_t)n * oas_dtype_size(dtype);
    memset(row, 0xa5, sizeof row);
    for (int64_t i = 0; i < n; i++) {
        x[i] = 5 * draw(&seed);
        gamma[i] = draw(&seed);
        scores[i] = 20 * draw(&seed);
    }
    oas_convert(row, dtype, x, OAS_F32, n);
    oas_convert(x, OAS_F32, row, dtype, n);
    double square = 0, total = 0;
    for (int64_t i = 0; i < n; i++)
        square += (double)x[i] * (double)x[i];
    for (int64_t i = 0; i < n; i++) {
        double v = (double)x[i] * sqrt((double)n) / sqrt(square) * (double)gamma[i];
        expected[i] = silu ? v / (1 + exp(-v)) : v;
    }
    k->norm(row, row, dtype, gamma, sqrtf((float)n), silu, n);
    assert_true(worst(row, dtype, expected, n) < tolerance);
    for (int64_t i = 0; i < n; i++)
        total += exp((double)scores[i]);
    for (int64_t i = 0; i < n; i++)
        expected[i] = exp((double)scores[i]) / total;
    k->softmax(row, dtype, scores, n);
    assert_true(worst(row, dtype, expected, n) < tolerance);
    for (size_t i = bytes; i < bytes + GUARD; i++)
        assert_int_equal(row[i], 0xa5);
}

static void test_all(void **state)
{
    (void)state;
    for (int level = OAS_LEVEL_C; level <= (int)oas_cpu_detect(); level++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            for (int kind = 0; kind < 4; kind++)
                check((oas_cpu_level)level, kind & 1 ? OAS_BF16 : OAS_F32, lengths[i], kind & 2);
}

/* A row of zeros stays zero: the least length keeps it from dividing by nothing. */
static void test_zeros(void **state)
{
    (void)state;
    float x[20] = {0}, gamma[20] = {1};
    oas_channel_kernels_for(OAS_LEVEL_C)->norm(x, x, OAS_F32, gamma, 4, true, 20);
    for (int i = 0; i < 20; i++)
        assert_true(x[i] == 0.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all), cmocka_unit_test(test_zeros)};
    return cmocka_run_group_tests_name("kernels/channel", tests, NULL, NULL);
}
