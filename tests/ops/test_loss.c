/* Losses against closed forms, and that their blocks and levels mean what ops.h says. */
#include "tensor/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { SIZE = 16 };

/* Float results of sums of some hundred terms. */
static const double TOLERANCE = 1e-5;

static const double TURN = 6.283185307179586;

static tensor *pictures(graph *g, int frames, double (*value)(int t, int y, int x))
{
    tensor *p = oas_tensor(g, OAS_F32, OAS_SHAPE5(1, frames, SIZE, SIZE, 1));
    assert_non_null(p);
    float *to = p->data;
    for (int t = 0; t < frames; t++)
        for (int i = 0; i < SIZE * SIZE; i++)
            *to++ = (float)value(t, i / SIZE, i % SIZE);
    return p;
}

static double zero(int t, int y, int x)
{
    (void)t, (void)y, (void)x;
    return 0;
}

static double wave(int t, int y, int x)
{
    (void)t;
    return cos(TURN * (2 * y + 3 * x) / 8. + 0.3);
}

static double moved_wave(int t, int y, int x)
{
    return wave(t, y + 1, x + 1);
}

static double ramp(int t, int y, int x)
{
    return 3 * x + 2 * y + 5 * t;
}

static double value_of(graph *g, const tensor *loss)
{
    if (!loss)
        fail_msg("%s", g->message.text);
    return (double)*(float *)loss->data;
}

static void test_values(void **state)
{
    (void)state;
    graph g = {.backend = OAS_REF};
    assert_true(oas_arena_new(&g.memory, 4 << 20));
    tensor *nothing = pictures(&g, 3, zero), *slope = pictures(&g, 3, ramp), *w = pictures(&g, 3, wave);
    tensor *moved = pictures(&g, 3, moved_wave);
    tensor *shift = oas_tensor(&g, OAS_F32, OAS_SHAPE1(2));
    oas_graph_upload(&g, shift, (const float[]){3, 5});
    /* A wave of frequency (2, 3) in blocks of 8 has amplitude 8/2 at two of 64 places, wherever it starts. */
    assert_float_equal(value_of(&g, oas_loss_spectrum(&g, w, nothing, 8, NULL, 1)), 1. / 8, TOLERANCE);
    assert_float_equal(value_of(&g, oas_loss_spectrum(&g, w, nothing, 8, shift, 2)), 2. / 8, TOLERANCE);
    assert_float_equal(value_of(&g, oas_loss_spectrum(&g, w, moved, 8, NULL, 1)), 0, TOLERANCE);
    assert_true(value_of(&g, oas_loss_charbonnier(&g, w, moved, 1e-3f, 1)) > 0.5);
    /* 3 across and 2 down at full size, twice that at half, as many of each. */
    assert_float_equal(value_of(&g, oas_loss_gradient(&g, slope, nothing, 1, 1)), 2.5, TOLERANCE);
    assert_float_equal(value_of(&g, oas_loss_gradient(&g, slope, nothing, 2, 1)), 3.75, TOLERANCE);
    assert_float_equal(value_of(&g, oas_loss_motion(&g, slope, nothing, 1)), 5, TOLERANCE);
    assert_float_equal(value_of(&g, oas_loss_mse(&g, w, NULL, 1)), 0.5, TOLERANCE);
    assert_float_equal(value_of(&g, oas_loss_charbonnier(&g, slope, slope, 0.25f, 4)), 1, TOLERANCE);
    oas_arena_free(&g.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values)};
    return cmocka_run_group_tests_name("ops/loss", tests, NULL, NULL);
}
