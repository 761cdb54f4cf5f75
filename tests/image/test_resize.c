/* Resampling against the two-dimensional formula in double, on random odd sizes. */
#include "image/pictures.h"
#include "image/resize.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Two passes of at most 4 (area: about 10) products of values below 1 with weights below 1.3 each, in float: the
 * rounding is some 2^-24 per term.  A wrong a, centre or border changes random pictures by more than 1e-3. */
static const double TOLERANCE = 4e-6;
static const double MUTATION = 1e-3;

/* ---- the definition ---------------------------------------------------------------------------------------------- */

static double kernel(oas_filter filter, double a, double x)
{
    x = fabs(x);
    if (filter == OAS_FILTER_BILINEAR)
        return x < 1 ? 1 - x : 0;
    if (x <= 1)
        return (a + 2) * x * x * x - (a + 3) * x * x + 1;
    return x < 2 ? a * x * x * x - 5 * a * x * x + 8 * a * x - 4 * a : 0;
}

/* The weight of input j in output i before the border is replicated. */
static double weight(const oas_resize_spec *s, int i, int j, int in, int out, double centre)
{
    if (s->filter == OAS_FILTER_AREA) {
        double left = (double)i * in / out, right = (double)(i + 1) * in / out;
        double covered = fmin(right, j + 1.0) - fmax(left, j);
        return covered > 0 ? covered / (right - left) : 0;
    }
    return kernel(s->filter, s->a, (i + centre) * in / out - centre - j);
}

static double direct(const oas_resize_spec *s, const float *in, int x, int y, int c, double centre)
{
    double sum = 0;
    for (int j = -3; j < s->in_height + 3; j++) {
        double wy = weight(s, y, j, s->in_height, s->out_height, centre);
        int row = j < 0 ? 0 : j < s->in_height ? j : s->in_height - 1;
        for (int i = -3; wy != 0 && i < s->in_width + 3; i++) {
            int column = i < 0 ? 0 : i < s->in_width ? i : s->in_width - 1;
            sum += wy * weight(s, x, i, s->in_width, s->out_width, centre) *
                   (double)in[((size_t)row * (size_t)s->in_width + (size_t)column) * (size_t)s->channels + (size_t)c];
        }
    }
    return sum;
}

static float *direct_all(const oas_resize_spec *s, const float *in, float scale, float offset, double centre)
{
    float *out = malloc((size_t)s->padded_width * (size_t)s->padded_height * (size_t)s->channels * sizeof *out);
    size_t n = 0;
    for (int y = 0; y < s->padded_height; y++)
        for (int x = 0; x < s->padded_width; x++)
            for (int c = 0; c < s->channels; c++) {
                int px = x < s->out_width ? x : s->out_width - 1, py = y < s->out_height ? y : s->out_height - 1;
                out[n++] = (float)((double)scale * direct(s, in, px, py, c, centre) + (double)offset);
            }
    return out;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

enum { GUARD = 16 };
static const float GUARD_VALUE = 12345.f;

static float *resized(const oas_resize_spec *s, oas_pool *pool, const float *in, float scale, float offset)
{
    oasis_message why;
    oas_resizer *r = NULL;
    assert_int_equal(oas_resizer_new(&r, s, &why), OASIS_OK);
    size_t n = (size_t)s->padded_width * (size_t)s->padded_height * (size_t)s->channels;
    float *out = malloc((n + 2 * GUARD) * sizeof *out);
    for (size_t i = 0; i < n + 2 * GUARD; i++)
        out[i] = GUARD_VALUE;
    oas_resize(r, pool, in, out + GUARD, scale, offset);
    for (size_t i = 0; i < GUARD; i++)
        assert_true(out[i] == GUARD_VALUE && out[GUARD + n + i] == GUARD_VALUE);
    memmove(out, out + GUARD, n * sizeof *out);
    oas_resizer_free(&r);
    return out;
}

static oas_resize_spec random_spec(uint32_t *state, oas_filter filter)
{
    oas_resize_spec s = {.filter = filter, .a = next_random(state) % 2 ? -0.75 : -0.5};
    s.in_width = next_between(state, 1, 33);
    s.in_height = next_between(state, 1, 33);
    s.out_width = next_between(state, 1, 50);
    s.out_height = next_between(state, 1, 50);
    s.padded_width = s.out_width + next_between(state, 0, 17);
    s.padded_height = s.out_height + next_between(state, 0, 17);
    s.channels = next_random(state) % 3 ? 3 : next_between(state, 1, 4);
    return s;
}

static void test_formula(void **unused)
{
    (void)unused;
    uint32_t state = 1;
    for (int i = 0; i < 90; i++) {
        oas_resize_spec s = random_spec(&state, (oas_filter)(i % 3));
        float *in = random_picture(&state, (size_t)s.in_width * (size_t)s.in_height * (size_t)s.channels);
        float scale = i % 2 ? 2.f : 1.f, offset = i % 2 ? -1.f : 0.f;
        float *want = direct_all(&s, in, scale, offset, 0.5);
        float *got = resized(&s, NULL, in, scale, offset);
        size_t n = (size_t)s.padded_width * (size_t)s.padded_height * (size_t)s.channels;
        double d = largest_difference(got, want, n);
        if (d > TOLERANCE)
            fail_msg("%dx%d to %dx%d, filter %d: differs by %g", s.in_width, s.in_height, s.out_width, s.out_height,
                     (int)s.filter, d);
        free(in);
        free(want);
        free(got);
    }
}

/* The tolerance would catch another a, and centres on whole pixels. */
static void test_mutations(void **unused)
{
    (void)unused;
    uint32_t state = 7;
    oas_resize_spec s = {.in_width = 15,
                         .in_height = 9,
                         .out_width = 37,
                         .out_height = 31,
                         .padded_width = 37,
                         .padded_height = 31,
                         .channels = 3,
                         .filter = OAS_FILTER_BICUBIC,
                         .a = -0.75};
    float *in = random_picture(&state, 15 * 9 * 3);
    float *got = resized(&s, NULL, in, 1, 0);
    float *centre = direct_all(&s, in, 1, 0, 0);
    s.a = -0.7;
    float *other = direct_all(&s, in, 1, 0, 0.5);
    assert_true(largest_difference(got, centre, 37 * 31 * 3) > MUTATION);
    assert_true(largest_difference(got, other, 37 * 31 * 3) > MUTATION);
    free(in);
    free(got);
    free(centre);
    free(other);
}

/* A picture of its own size comes back bit for bit, and constants stay what they are. */
static void test_identities(void **unused)
{
    (void)unused;
    uint32_t state = 3;
    for (int filter = 0; filter < 3; filter++) {
        oas_resize_spec s = {.in_width = 19,
                             .in_height = 7,
                             .out_width = 19,
                             .out_height = 7,
                             .padded_width = 19,
                             .padded_height = 7,
                             .channels = 3,
                             .filter = (oas_filter)filter,
                             .a = -0.75};
        float *in = random_picture(&state, 19 * 7 * 3);
        float *out = resized(&s, NULL, in, 1, 0);
        assert_memory_equal(in, out, 19 * 7 * 3 * sizeof *in);
        free(in);
        free(out);
        oas_resize_spec one = {.in_width = 1,
                               .in_height = 1,
                               .out_width = 5,
                               .out_height = 3,
                               .padded_width = 16,
                               .padded_height = 16,
                               .channels = 3,
                               .filter = (oas_filter)filter,
                               .a = -0.75};
        const float colour[3] = {0.25f, 0.5f, 1.f};
        out = resized(&one, NULL, colour, 1, 0);
        for (size_t i = 0; i < 16 * 16 * 3; i++)
            assert_true(fabs((double)out[i] - (double)colour[i % 3]) <= TOLERANCE);
        free(out);
    }
}

static void test_threads(void **unused)
{
    (void)unused;
    uint32_t state = 5;
    oas_resize_spec s = {.in_width = 61,
                         .in_height = 47,
                         .out_width = 200,
                         .out_height = 150,
                         .padded_width = 208,
                         .padded_height = 160,
                         .channels = 3,
                         .filter = OAS_FILTER_BICUBIC,
                         .a = -0.75};
    float *in = random_picture(&state, 61 * 47 * 3);
    float *alone = resized(&s, NULL, in, 2, -1);
    for (int threads = 1; threads <= 5; threads += 2) {
        oas_pool *pool = NULL;
        assert_int_equal(oas_pool_new(&pool, threads, NULL), OASIS_OK);
        float *out = resized(&s, pool, in, 2, -1);
        assert_memory_equal(out, alone, 208 * 160 * 3 * sizeof *out);
        free(out);
        oas_pool_free(&pool);
    }
    free(in);
    free(alone);
}

static void test_refusals(void **unused)
{
    (void)unused;
    const oas_resize_spec good = {.in_width = 4,
                                  .in_height = 4,
                                  .out_width = 8,
                                  .out_height = 8,
                                  .channels = 3,
                                  .filter = OAS_FILTER_BICUBIC,
                                  .a = -0.75};
    oas_resizer *r = NULL;
    oas_resize_spec bad[6] = {good, good, good, good, good, good};
    bad[0].in_width = 0;
    bad[1].out_height = 32769;
    bad[2].padded_width = 7;
    bad[3].channels = 17;
    bad[4].a = 0.5;
    bad[5].filter = (oas_filter)3;
    for (int i = 0; i < 6; i++) {
        oasis_message why = {{0}};
        assert_int_equal(oas_resizer_new(&r, &bad[i], &why), OASIS_E_ARGUMENT);
        assert_null(r);
        assert_non_null(strstr(why.text, "resize"));
        assert_int_equal(oas_resizer_bytes(&bad[i]), 0);
    }
    assert_true(oas_resizer_bytes(&good) > 4 * 8 * 3 * sizeof(float));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula), cmocka_unit_test(test_mutations), cmocka_unit_test(test_identities),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
