/* Grids: patterns of known amplitude, and pictures that have none. */
#include "metrics/clips.h"

#include <oasis/metrics.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SIDE = 192, PERIODS = 4 };

static const char *const names[PERIODS] = {"grid_2", "grid_4", "grid_8", "grid_16"};

/* Whole grey levels on plain grey: sums in double alone. */
static const double TIGHT = 1e-4;
/* Bytes at random have a mean amplitude of 12 levels at each frequency; its mean over 1,280 overlapping pieces (about half
 * as many that are independent) varies by 0.5 / sqrt(640) of that, the sum over four harmonics by 4 sqrt(1.5) of this. */
static const double OF_NOISE = 3 * 12 * 0.5 / 25 * 4.9;

static double value_of(const char *name, const oasis_frame *f, int threads)
{
    oasis_metrics_options o;
    oasis_metrics *m = NULL;
    oasis_message why = {""};
    oasis_metric_result r;
    oasis_metrics_options_init(&o);
    o.names = name;
    o.threads = threads;
    if (oasis_metrics_open(&m, &o, f->width, f->height, false, &why) != OASIS_OK)
        fail_msg("%s", why.text);
    assert_int_equal(oasis_metrics_push(m, f, NULL), OASIS_OK);
    oasis_metrics_result(m, 0, &r);
    oasis_metrics_close(&m);
    return r.mean;
}

/* Adds to all channels `bytes` times +1 and -1 by turns of `period` / 2 pixels; along x, or along y too. */
static void add_stripes(oasis_frame *f, int period, double bytes, bool both)
{
    for (int i = 0; i < f->width * f->height; i++) {
        int x = i % f->width, y = i / f->width, sign = 2 * x / period % 2 ? -1 : 1;
        double value = bytes * sign + (both ? bytes * (2 * y / period % 2 ? -1 : 1) : 0);
        for (int c = 0; c < 3; c++)
            f->rgb[3 * i + c] += (float)(value / 255);
    }
}

static oasis_frame plain(void)
{
    oasis_frame f;
    assert_int_equal(oasis_frame_new(&f, SIDE, SIDE, false), OASIS_OK);
    for (int i = 0; i < SIDE * SIDE * 3; i++)
        f.rgb[i] = 128 / 255.f;
    return f;
}

/* The sum of the amplitudes of all harmonics of stripes of +1 and -1: 2 / n / sin(pi m / n) for m odd, n pixels a period. */
static double stripes_amplitude(int period)
{
    double sum = 0;
    for (int m = 1; m < period / 2 || m == 1; m += 2)
        sum += 4. / period / sin(3.141592653589793 * m / period);
    return period == 2 ? sum * 1.1107207345395915 : sum;
}

static void test_stripes(void **unused)
{
    (void)unused;
    for (int p = 0; p < PERIODS; p++)
        for (int both = 0; both < 2; both++) {
            oasis_frame f = plain();
            int period = 2 << p;
            add_stripes(&f, period, 5, both);
            for (int q = 0; q < PERIODS; q++) {
                double expected = q == p ? 5 * stripes_amplitude(period) * (both ? 1 : 0.5) : 0;
                double got = value_of(names[q], &f, 2);
                if (fabs(got - expected) > TIGHT)
                    fail_msg("%s of stripes of %d pixels: %g, expected %g", names[q], period, got, expected);
            }
            oasis_frame_free(&f);
        }
}

/* Noise has none, and stripes are found in it; the same bits for any number of threads. */
static void test_noise(void **unused)
{
    (void)unused;
    oasis_frame f = random_frame(SIDE, SIDE, 7);
    for (int p = 0; p < PERIODS; p++) {
        double got = value_of(names[p], &f, 1);
        assert_true(fabs(got) < OF_NOISE);
        assert_true(got == value_of(names[p], &f, 3));
    }
    oasis_frame_free(&f);
}

/* A smooth picture: a weak grid of 4 pixels shows, and only there. */
static void test_picture(void **unused)
{
    (void)unused;
    oasis_frame f = textured(SIDE, SIDE, 0, 0);
    double before[PERIODS];
    for (int p = 0; p < PERIODS; p++)
        before[p] = value_of(names[p], &f, 2);
    add_stripes(&f, 4, 1, true);
    for (int p = 0; p < PERIODS; p++) {
        double more = value_of(names[p], &f, 2) - before[p];
        assert_true(p == 1 ? more > 0.8 : fabs(more) < 0.05);
    }
    oasis_frame_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stripes),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_picture),
    };
    return cmocka_run_group_tests_name("metrics/grid", tests, NULL, NULL);
}
