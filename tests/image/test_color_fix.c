/* Colour correction against its formulas written out pixel by pixel. */
#include "image/color_fix.h"
#include "image/pictures.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Five blurs and a sum of values below 2 in float; AdaIN rounds once.  Leaving out a level, or zero borders instead of
 * replicated ones, changes random pictures by more than 1e-3. */
static const double TOLERANCE = 2e-6;
static const double MUTATION = 1e-3;

static size_t at(int x, int y, int c, int width, int height)
{
    x = x < 0 ? 0 : x < width ? x : width - 1;
    y = y < 0 ? 0 : y < height ? y : height - 1;
    return ((size_t)y * (size_t)width + (size_t)x) * 3 + (size_t)c;
}

/* The low frequencies in double, with the two-dimensional kernel. */
static double *low(const float *picture, int width, int height, int levels)
{
    static const double tap[3] = {1, 2, 1};
    size_t n = (size_t)width * (size_t)height * 3;
    double *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b);
    for (size_t i = 0; i < n; i++)
        a[i] = (double)picture[i];
    for (int level = 0; level < levels; level++) {
        int d = 1 << level;
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
                for (int c = 0; c < 3; c++) {
                    double sum = 0;
                    for (int k = 0; k < 9; k++)
                        sum += tap[k / 3] * tap[k % 3] / 16 *
                               a[at(x + (k % 3 - 1) * d, y + (k / 3 - 1) * d, c, width, height)];
                    b[at(x, y, c, width, height)] = sum;
                }
        double *swap = a;
        a = b;
        b = swap;
    }
    free(b);
    return a;
}

static float *wavelet(const float *rgb, const float *reference, int width, int height, int levels)
{
    size_t n = (size_t)width * (size_t)height * 3;
    double *x = low(rgb, width, height, levels), *y = low(reference, width, height, levels);
    float *out = malloc(n * sizeof *out);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)((double)rgb[i] - x[i] + y[i]);
    free(x);
    free(y);
    return out;
}

static float *fixed(oasis_color_fix kind, oas_pool *pool, const float *rgb, const float *reference, int width,
                    int height)
{
    size_t n = (size_t)width * (size_t)height * 3;
    float *out = malloc(n * sizeof *out);
    float *scratch = malloc((oas_color_fix_scratch(kind, width, height, pool) + 1) * sizeof *scratch);
    memcpy(out, rgb, n * sizeof *out);
    oas_color_fix(kind, pool, width, height, out, reference, scratch);
    free(scratch);
    return out;
}

static void test_wavelet(void **unused)
{
    (void)unused;
    static const int sizes[][2] = {{1, 1}, {2, 5}, {17, 3}, {31, 33}, {40, 70}, {70, 40}};
    uint32_t state = 11;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int w = sizes[i][0], h = sizes[i][1];
        size_t n = (size_t)w * (size_t)h * 3;
        float *rgb = random_picture(&state, n), *reference = random_picture(&state, n);
        float *want = wavelet(rgb, reference, w, h, OAS_COLOR_FIX_LEVELS);
        float *four = wavelet(rgb, reference, w, h, OAS_COLOR_FIX_LEVELS - 1);
        float *got = fixed(OASIS_COLOR_FIX_WAVELET, NULL, rgb, reference, w, h);
        assert_true(largest_difference(got, want, n) <= TOLERANCE);
        if (w > 2)
            assert_true(largest_difference(got, four, n) > MUTATION);
        free(rgb);
        free(reference);
        free(want);
        free(four);
        free(got);
    }
}

static void test_adain(void **unused)
{
    (void)unused;
    enum { W = 37, H = 41, N = W * H };
    uint32_t state = 13;
    float *rgb = random_picture(&state, N * 3), *reference = random_picture(&state, N * 3);
    for (int i = 0; i < N * 3; i++)
        reference[i] = 0.2f * (float)(i % 3) + 0.3f * reference[i];
    float *got = fixed(OASIS_COLOR_FIX_ADAIN, NULL, rgb, reference, W, H);
    for (int c = 0; c < 3; c++) {
        double mean[3] = {0}, variance[3] = {0}, worst = 0;
        const float *of[3] = {rgb, reference, got};
        for (int k = 0; k < 3; k++) {
            for (int i = 0; i < N; i++)
                mean[k] += (double)of[k][i * 3 + c] / N;
            for (int i = 0; i < N; i++)
                variance[k] += pow((double)of[k][i * 3 + c] - mean[k], 2) / N;
        }
        for (int i = 0; i < N; i++) {
            double want =
                ((double)rgb[i * 3 + c] - mean[0]) / sqrt(variance[0] + 1e-5) * sqrt(variance[1] + 1e-5) + mean[1];
            worst = fmax(worst, fabs(want - (double)got[i * 3 + c]));
        }
        assert_true(worst <= TOLERANCE);
        assert_true(fabs(mean[2] - mean[1]) <= TOLERANCE);
        assert_true(fabs(mean[0] - mean[1]) > MUTATION); /* there was something to correct */
    }
    free(rgb);
    free(reference);
    free(got);
}

/* A flat picture has no deviation: it must become the reference's mean, not infinite. */
static void test_flat(void **unused)
{
    (void)unused;
    float rgb[5 * 4 * 3], reference[5 * 4 * 3];
    for (int i = 0; i < 5 * 4 * 3; i++) {
        rgb[i] = 0.75f;
        reference[i] = 0.25f;
    }
    for (int kind = OASIS_COLOR_FIX_NONE; kind <= OASIS_COLOR_FIX_ADAIN; kind++) {
        float *got = fixed((oasis_color_fix)kind, NULL, rgb, reference, 5, 4);
        for (int i = 0; i < 5 * 4 * 3; i++)
            assert_true(fabs((double)got[i] - (kind == OASIS_COLOR_FIX_NONE ? 0.75 : 0.25)) <= TOLERANCE);
        free(got);
    }
}

static void test_threads(void **unused)
{
    (void)unused;
    enum { W = 45, H = 83, N = W * H * 3 };
    uint32_t state = 17;
    float *rgb = random_picture(&state, N), *reference = random_picture(&state, N);
    oas_pool *pool = NULL;
    assert_int_equal(oas_pool_new(&pool, 3, NULL), OASIS_OK);
    for (int kind = OASIS_COLOR_FIX_WAVELET; kind <= OASIS_COLOR_FIX_ADAIN; kind++) {
        float *one = fixed((oasis_color_fix)kind, NULL, rgb, reference, W, H);
        float *three = fixed((oasis_color_fix)kind, pool, rgb, reference, W, H);
        assert_memory_equal(one, three, N * sizeof *one);
        free(one);
        free(three);
    }
    oas_pool_free(&pool);
    free(rgb);
    free(reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wavelet),
        cmocka_unit_test(test_adain),
        cmocka_unit_test(test_flat),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
