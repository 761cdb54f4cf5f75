/* Flow on pictures that move as is known, and the warping error by closed forms. */
#include "metrics/clips.h"
#include "metrics/flow.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { W = 120, H = 90, N = W * H };

/* ---- flow -------------------------------------------------------------------------------------------------------- */

static void paint(float *luma, double zoom, double turn, double dx, double dy)
{
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            double u = x - W / 2., v = y - H / 2.;
            double a = zoom * (cos(turn) * u - sin(turn) * v) + W / 2. + dx;
            double b = zoom * (sin(turn) * u + cos(turn) * v) + H / 2. + dy;
            luma[y * W + x] = (float)(255 * texture(a, b, 0));
        }
}

/* The mean distance between the field and the true motion, pixels, without a margin that entered the picture. */
static double flow_error(const flow_field *f, double zoom, double turn, double dx, double dy)
{
    enum { MARGIN = 14 };
    double sum = 0;
    int n = 0;
    for (int y = MARGIN; y < H - MARGIN; y++)
        for (int x = MARGIN; x < W - MARGIN; x++, n++) {
            /* pixel p of the first is at q in the second: M (q - c) + d = p - c */
            double u = x - W / 2. - dx, v = y - H / 2. - dy;
            double qx = (cos(turn) * u + sin(turn) * v) / zoom + W / 2.,
                   qy = (cos(turn) * v - sin(turn) * u) / zoom + H / 2.;
            sum += hypot(qx - x - (double)f->u[y * W + x], qy - y - (double)f->v[y * W + x]);
        }
    return sum / n;
}

/* Pixels; bilinear interpolation of this texture is wrong by about as much. */
static const double FLOW_ERROR = 0.06;

static void test_flow(void **unused)
{
    (void)unused;
    static const double motions[][4] = {
        {1, 0, 0, 0},  {1, 0, 1, 0},    {1, 0, -0.5, 0.25}, {1, 0, 3.3, -2.6},
        {1, 0, -9, 6}, {1.02, 0, 0, 0}, {1, 0.03, 1, -1},
    };
    float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b);
    flow_field f = {malloc(N * sizeof(float)), malloc(N * sizeof(float))},
               g = {malloc(N * sizeof(float)), malloc(N * sizeof(float))};
    oas_pool *pool = NULL;
    oas_flow *flow = NULL;
    assert_int_equal(oas_pool_new(&pool, 3, NULL), OASIS_OK);
    assert_int_equal(oas_flow_new(&flow, W, H, NULL), OASIS_OK);
    paint(a, 1, 0, 0, 0);
    for (size_t i = 0; i < sizeof motions / sizeof *motions; i++) {
        const double *m = motions[i];
        paint(b, m[0], m[1], m[2], m[3]);
        assert_int_equal(oas_flow_run(flow, NULL, a, b, &f, NULL), OASIS_OK);
        assert_int_equal(oas_flow_run(flow, pool, a, b, &g, NULL), OASIS_OK);
        assert_memory_equal(f.u, g.u, N * sizeof(float));
        assert_memory_equal(f.v, g.v, N * sizeof(float));
        double e = flow_error(&f, m[0], m[1], m[2], m[3]);
        if (!(e < FLOW_ERROR))
            fail_msg("motion %zu: off by %g pixels", i, e);
        /* the same field taken for a motion a quarter of a pixel further is far off */
        assert_true(flow_error(&f, m[0], m[1], m[2] + 0.25, m[3]) > 3 * FLOW_ERROR);
    }
    oas_flow_free(&flow);
    oas_pool_free(&pool);
    free(a);
    free(b);
    free(f.u);
    free(f.v);
    free(g.u);
    free(g.v);
}

/* Sizes that no level divides, and flat pictures, where nothing can be seen to move. */
static void test_flow_sizes(void **unused)
{
    (void)unused;
    static const int sizes[][2] = {{16, 16}, {17, 40}, {33, 31}, {1, 1}, {5, 70}};
    for (int i = 0; i < 5; i++) {
        int w = sizes[i][0], h = sizes[i][1];
        size_t n = (size_t)(w * h);
        float *a = calloc(n, sizeof *a), *b = calloc(n, sizeof *b);
        flow_field f = {malloc(n * sizeof(float)), malloc(n * sizeof(float))};
        oas_flow *flow = NULL;
        assert_int_equal(oas_flow_new(&flow, w, h, NULL), OASIS_OK);
        for (size_t k = 0; k < n; k++)
            b[k] = 20;
        assert_int_equal(oas_flow_run(flow, NULL, a, b, &f, NULL), OASIS_OK);
        for (size_t k = 0; k < n; k++)
            assert_true(f.u[k] == 0 && f.v[k] == 0);
        oas_flow_free(&flow);
        free(a);
        free(b);
        free(f.u);
        free(f.v);
    }
}

/* ---- warping error ----------------------------------------------------------------------------------------------- */

static void fill(flow_field *f, float u, float v)
{
    for (int i = 0; i < N; i++) {
        f->u[i] = u;
        f->v[i] = v;
    }
}

static double warp_error(const oasis_frame *a, const oasis_frame *b, const flow_field *f, const flow_field *back)
{
    double error, again;
    oas_pool *pool = NULL;
    assert_int_equal(oas_pool_new(&pool, 3, NULL), OASIS_OK);
    assert_int_equal(oas_warp_error(NULL, W, H, a->rgb, b->rgb, f, back, &error, NULL), OASIS_OK);
    assert_int_equal(oas_warp_error(pool, W, H, a->rgb, b->rgb, f, back, &again, NULL), OASIS_OK);
    assert_true(error == again);
    oas_pool_free(&pool);
    return error;
}

static void test_warp(void **unused)
{
    (void)unused;
    flow_field f = {malloc(N * sizeof(float)), malloc(N * sizeof(float))};
    flow_field back = {malloc(N * sizeof(float)), malloc(N * sizeof(float))};
    oasis_frame a = random_frame(W, H, 3), b = random_frame(W, H, 4);

    /* Whole pixels: what was at (x, y) is at (x + 5, y - 3), to the bit. */
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            if (x + 5 < W && y - 3 >= 0)
                memcpy(b.rgb + ((y - 3) * W + x + 5) * 3, a.rgb + (y * W + x) * 3, 3 * sizeof(float));
    fill(&f, 5, -3);
    fill(&back, -5, 3);
    assert_true(warp_error(&a, &b, &f, &back) == 0);
    fill(&f, 5, -2); /* a pixel off: noise against noise */
    fill(&back, -5, 2);
    assert_true(fabs(warp_error(&a, &b, &f, &back) - 1. / 6) < 0.01); /* variance of a difference of two uniforms */

    /* Half a pixel: the mean of two neighbours instead of the value, the bilinear residue. */
    double residue = 0;
    for (int y = 0; y < H; y++)
        for (int x = 0; x + 1 < W; x++)
            for (int c = 0; c < 3; c++) {
                const float *p = a.rgb + (y * W + x) * 3 + c;
                residue += pow(((double)p[3] - (double)p[0]) / 2, 2) / (3. * H * (W - 1));
            }
    fill(&f, 0.5f, 0);
    fill(&back, -0.5f, 0);
    assert_true(fabs(warp_error(&a, &a, &f, &back) - residue) < 1e-6);
    assert_true(residue > 0.03);

    /* Flows that contradict each other by more than the rule allows: nothing counts. */
    fill(&f, 3, 0);
    fill(&back, 0, 0);
    assert_true(warp_error(&a, &b, &f, &back) == 0);
    fill(&back, -2.5f, 0); /* 0.25 <= 0.01 (9 + 6.25) + 0.5 */
    assert_true(warp_error(&a, &b, &f, &back) > 0);
    /* A rim of motion in the middle: 2 pixels of 120 columns do not count (the difference to the right and its own). */
    fill(&f, 0, 0);
    fill(&back, 0, 0);
    for (int y = 0; y < H; y++)
        for (int x = W / 2; x < W; x++)
            f.u[y * W + x] = back.u[y * W + x] = 0.3f;
    oasis_frame flat = random_frame(W, H, 3);
    for (int i = 0; i < N * 3; i++)
        flat.rgb[i] = i / 3 % W == W / 2 - 1 ? 1.f : 0.f; /* differs from black only where the rim is */
    for (int i = 0; i < N * 3; i++)
        b.rgb[i] = 0;
    assert_true(warp_error(&flat, &b, &f, &back) == 0);
    fill(&f, 0, 0);
    fill(&back, 0, 0);
    assert_true(fabs(warp_error(&flat, &b, &f, &back) - 1. / W) < 1e-9);
    free(f.u);
    free(f.v);
    free(back.u);
    free(back.v);
    oasis_frame_free(&a);
    oasis_frame_free(&b);
    oasis_frame_free(&flat);
}

/* ---- the metrics ------------------------------------------------------------------------------------------------- */

static double metric_of(const char *name, oasis_flow_source source, double clip_step, double reference_step,
                        double noise)
{
    oasis_metrics_options o;
    oasis_metrics *m = NULL;
    oasis_metric_result r;
    uint32_t state = 5;
    oasis_metrics_options_init(&o);
    o.names = name;
    o.flow = source;
    assert_int_equal(oasis_metrics_open(&m, &o, W, H, reference_step < 100, NULL), OASIS_OK);
    for (int i = 0; i < 3; i++) {
        oasis_frame a = textured(W, H, clip_step * i, 0), b = textured(W, H, reference_step * i, 0);
        for (int k = 0; k < N * 3; k++)
            a.rgb[k] += (float)(noise * (next_uniform(&state) - 0.5));
        assert_int_equal(oasis_metrics_push(m, &a, reference_step < 100 ? &b : NULL), OASIS_OK);
        oasis_frame_free(&a);
        oasis_frame_free(&b);
    }
    oasis_metrics_result(m, 0, &r);
    assert_int_equal(r.count, 2);
    assert_non_null(strstr(r.note, "own flow"));
    oasis_metrics_close(&m);
    return r.mean;
}

static void test_metrics(void **unused)
{
    (void)unused;
    enum { NONE = 1000 };
    double still = metric_of("ewarp", OASIS_FLOW_GT, 0, 0, 0), moving = metric_of("ewarp", OASIS_FLOW_GT, 2, 2, 0);
    assert_true(still == 0);
    assert_true(moving < 0.1); /* of 1000: a hundredth RMS, from edges and rounding to 8 bits */
    /* Flicker of 8-bit noise, uniform +-0.05: the variance of a difference of two. */
    double flicker = metric_of("ewarp", OASIS_FLOW_GT, 0, 0, 0.1);
    assert_true(fabs(flicker - 1000 * 2 * 0.01 / 12) < 0.1);
    /* A clip that stands while the reference moves is not warped well; by its own flow it looks perfect. */
    assert_true(metric_of("ewarp", OASIS_FLOW_GT, 0, 3, 0) > 10 * moving);
    assert_true(metric_of("ewarp", OASIS_FLOW_SELF, 0, 3, 0) == 0);
    assert_true(metric_of("ewarp", OASIS_FLOW_GT, 2, NONE, 0) < 0.1);
    assert_true(metric_of("tof", OASIS_FLOW_GT, 2, 2, 0) == 0);
    assert_true(fabs(metric_of("tof", OASIS_FLOW_GT, 1, 3, 0) - 2) < 0.2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flow),
        cmocka_unit_test(test_flow_sizes),
        cmocka_unit_test(test_warp),
        cmocka_unit_test(test_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
