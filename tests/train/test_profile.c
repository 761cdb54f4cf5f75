/* Profiling heads: log-sum-exps against the whole softmax, the rules of dealing out, and a model through all of it. */
#include "train/profile.h"

#include "model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { FRAMES = 3, ROWS = 4, COLUMNS = 5, TOKENS = FRAMES * ROWS * COLUMNS, WIDTH = 6, QUERY = 27 };

/* Float products of a few terms, double sums. */
static const double TOLERANCE = 1e-6;

/* -ln of the mass near a query is the difference of log-sum-exps, for every query, borders included. */
static void test_mass(void **state)
{
    (void)state;
    const token_grid grid = {1, FRAMES, ROWS, COLUMNS};
    const int window[3] = {3, 3, 3}, other[3] = {3, 3, 1};
    float q[WIDTH], k[TOKENS * WIDTH];
    for (int i = 0; i < TOKENS * WIDTH; i++)
        k[i] = (float)sin(1.7 * i) * 2;
    for (int query = 0; query < TOKENS; query++) {
        double sum[3] = {0, 0, 0};
        for (int c = 0; c < WIDTH; c++)
            q[c] = (float)cos(0.9 * c + query);
        for (int j = 0; j < TOKENS; j++) {
            double s = 0;
            for (int c = 0; c < WIDTH; c++)
                s += (double)(q[c] * k[j * WIDTH + c]);
            double e = exp(s / sqrt(WIDTH));
            int f = abs(j / (ROWS * COLUMNS) - query / (ROWS * COLUMNS));
            int y = abs(j / COLUMNS % ROWS - query / COLUMNS % ROWS), x = abs(j % COLUMNS - query % COLUMNS);
            sum[0] += e;
            sum[1] += f == 0 ? e : 0;
            sum[2] += f <= 1 && y <= 1 && x <= 1 ? e : 0;
        }
        query_sums s = oas_query_sums(q, k, WIDTH, WIDTH, &grid, query, window);
        assert_true(fabs(s.all - s.intra + log(sum[1] / sum[0])) < TOLERANCE);
        assert_true(fabs(s.all - s.window + log(sum[2] / sum[0])) < TOLERANCE);
        query_sums wrong = oas_query_sums(q, k, WIDTH, WIDTH, &grid, query, other);
        assert_true(fabs(s.window - wrong.window) > 100 * TOLERANCE);
    }
}

static void test_rules(void **state)
{
    (void)state;
    oasis_profile_options o;
    oasis_profile_options_init(&o);
    /* Layer 0: windows are heads 1 and 3; of 0 and 2, head 2 looks at its frame.  Layer 1: ties go to the lower head. */
    const head_distance d[8] = {{0.5, 3}, {2, 0.1}, {0.2, 1}, {0.1, 0.2}, {1, 1}, {1, 1}, {1, 1}, {1, 1}};
    char kind[9] = {0};
    oas_assign_heads(&o, d, 2, 4, kind);
    assert_string_equal(kind, "gwiwwwig");
    o.mode = 1;
    oas_assign_heads(&o, d, 2, 4, kind);
    assert_string_equal(kind, "iwwwwigg");
    o.mode = 2;
    o.window = 0.8;
    o.intra = 0.5;
    oas_assign_heads(&o, d, 2, 4, kind);
    assert_string_equal(kind, "iwiwgggg");
}

static void test_model(void **state)
{
    (void)state;
    static const char model_path[] = OASIS_SOURCE_DIR "/tests/data/bootstrap-nano.safetensors";
    char folder[] = "/tmp/oasis-profile-XXXXXX", path[64], plot[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    snprintf(plot, sizeof plot, "%s/plot.svg", folder);
    oasis_profile_options o;
    oasis_profile_options_init(&o);
    o.queries = 8;
    o.width = o.height = 64;
    oasis_profiler *p = NULL;
    oasis_message why = {""};
    if (oasis_profiler_open(&p, model_path, &o, &why) < 0)
        fail_msg("%s", why.text);
    oasis_frame frames[5];
    for (int clip = 0; clip < 2; clip++) {
        for (int f = 0; f < 5; f++) {
            assert_int_equal(oasis_frame_new(&frames[f], 24, 20, false), OASIS_OK);
            for (int i = 0; i < 24 * 20 * 3; i++)
                frames[f].rgb[i] = (float)(0.5 + 0.4 * sin(0.3 * i + f + clip));
        }
        if (oasis_profiler_add(p, frames, 5, 4, &why) < 0)
            fail_msg("%s", why.text);
        for (int f = 0; f < 5; f++)
            oasis_frame_free(&frames[f]);
    }
    int layers, heads, clips;
    oasis_profiler_size(p, &layers, &heads, &clips);
    assert_int_equal(layers * heads, 32);
    assert_int_equal(clips, 2);
    oasis_head_profile found[32];
    double stability;
    assert_int_equal(oasis_profiler_assign(p, found, &stability, &why), OASIS_OK);
    assert_true(stability >= 0 && stability <= 1);
    int windows = 0;
    for (int i = 0; i < 32; i++) {
        assert_true(found[i].intra >= -1e-9 && found[i].window >= -1e-9);
        windows += found[i].kind == 'w';
    }
    assert_int_equal(windows, 16);
    if (oasis_profiler_write(p, path, &why) < 0 || oasis_profiler_plot(p, plot, &why) < 0)
        fail_msg("%s", why.text);
    routing text;
    if (oasis_profiler_write_routing(p, plot, &why) < 0 || oas_routing_open(&text, plot, layers, heads, &why) < 0)
        fail_msg("%s", why.text);
    for (int i = 0; i < 32; i++)
        assert_int_equal(text.layer[i / 4].kind[i % 4], found[i].kind);
    oas_routing_free(&text);
    oasis_profiler_close(&p);
    oasis_model *model = NULL;
    if (oasis_model_open(&model, path, &why) < 0)
        fail_msg("%s", why.text);
    for (int i = 0; i < 32; i++)
        assert_int_equal(model->file.routing.layer[i / 4].kind[i % 4], found[i].kind);
    assert_true(fabs(model->file.routing.stat[5].window - found[5].window) < 1e-4);
    oasis_model_close(&model);
    o.window = 0.9;
    assert_int_equal(oasis_profiler_open(&p, model_path, &o, &why), OASIS_E_ARGUMENT);
    unlink(path);
    unlink(plot);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mass), cmocka_unit_test(test_rules),
                                       cmocka_unit_test(test_model)};
    return cmocka_run_group_tests_name("train/profile", tests, NULL, NULL);
}
