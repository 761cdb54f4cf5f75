/*
 * What the table of ops does not ask of attention: the FLOPs are those of the pairs that are seen, the log-sum-exps are
 * kept, samples of a batch and frames do not see each other, and every wrong route is refused with a sentence.
 */
#include "cpu/device.h"
#include "tensor/ops.h"
#include "tensor/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { ARENA = 16 << 20, HD = 8, HEADS = 3 };

static const token_grid GRID = {2, 3, 5, 7};
static const route_layer ROUTE = {HEADS, {'g', 'i', 'w'}, {3, 5, 5}};

typedef struct fixture {
    device *device;
    graph graph;
    sampler sampler;
    tensor *q, *k, *v;
} fixture;

static int setup(void **state)
{
    static fixture f;
    if (oas_device_new(&f.device, 2, NULL) < 0 || !oas_arena_new(&f.graph.memory, ARENA))
        return -1;
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    oas_arena_free(&f->graph.memory);
    oas_device_free(&f->device);
    return 0;
}

/* An empty graph with inputs for GRID and ROUTE. */
static fixture *start(void **state, oas_backend backend)
{
    fixture *f = *state;
    oas_graph_reset(&f->graph);
    f->graph.device = f->device;
    f->graph.backend = backend;
    f->graph.compute = OAS_F32;
    f->graph.flops = 0;
    f->sampler = (sampler){.graph = &f->graph, .activation = OAS_F32, .state = 5};
    shape size = OAS_SHAPE2(oas_grid_tokens(&GRID), HEADS * HD);
    f->q = oas_sample_floats(&f->sampler, size, 2);
    f->k = oas_sample_floats(&f->sampler, size, 2);
    f->v = oas_sample_floats(&f->sampler, size, 2);
    return f;
}

static int64_t sample_tokens(void)
{
    return GRID.frames * GRID.height * GRID.width;
}

static void flops_count_the_pairs_seen(void **state)
{
    fixture *f = start(state, OAS_CPU);
    double pairs = 0;
    for (int h = 0; h < HEADS; h++)
        for (int64_t i = 0; i < sample_tokens(); i++)
            for (int64_t j = 0; j < sample_tokens(); j++)
                pairs += oas_route_sees((oas_head_kind)ROUTE.kind[h], ROUTE.window, &GRID, i, j);
    assert_non_null(oas_attention(&f->graph, f->q, f->k, f->v, &GRID, &ROUTE));
    assert_true(fabs(f->graph.flops - 4 * pairs * HD * (double)GRID.batch) < 0.5);
}

/* ln sum exp over what a query sees, in double. */
static double log_sum_exp(const fixture *f, int head, int64_t query)
{
    const float *q = f->q->data, *k = f->k->data;
    int64_t n = sample_tokens(), first = query / n * n;
    double sum = 0;
    for (int64_t j = 0; j < n; j++) {
        double s = 0;
        for (int c = 0; c < HD; c++)
            s += (double)q[query * HEADS * HD + head * HD + c] * (double)k[(first + j) * HEADS * HD + head * HD + c];
        if (oas_route_sees((oas_head_kind)ROUTE.kind[head], ROUTE.window, &GRID, query % n, j))
            sum += exp(s / sqrt(HD));
    }
    return log(sum);
}

static void log_sum_exps_are_kept(void **state)
{
    for (int backend = OAS_REF; backend <= OAS_CPU; backend++) {
        fixture *f = start(state, (oas_backend)backend);
        f->graph.recording = true;
        f->q->needs_grad = true;
        assert_non_null(oas_attention(&f->graph, f->q, f->k, f->v, &GRID, &ROUTE));
        f->graph.recording = false;
        assert_non_null(f->graph.tape);
        const float *lse = f->graph.tape->keep;
        int64_t all = oas_grid_tokens(&GRID);
        for (int h = 0; h < HEADS; h++)
            for (int64_t i = 0; i < all; i++)
                assert_true(fabs((double)lse[h * all + i] - log_sum_exp(f, h, i)) < 1e-5);
    }
}

/* Changing one key changes exactly the queries that see it, in its own sample and head. */
static void a_key_reaches_those_who_see_it(void **state)
{
    fixture *f = start(state, OAS_CPU);
    int64_t n = sample_tokens(), all = 2 * n, key = n + n / 2;
    tensor *before = oas_attention(&f->graph, f->q, f->k, f->v, &GRID, &ROUTE);
    for (int c = 0; c < HEADS * HD; c++)
        ((float *)f->v->data)[key * HEADS * HD + c] += 100;
    tensor *after = oas_attention(&f->graph, f->q, f->k, f->v, &GRID, &ROUTE);
    assert_true(before && after);
    for (int h = 0; h < HEADS; h++)
        for (int64_t i = 0; i < all; i++) {
            size_t at = (size_t)(i * HEADS * HD + h * HD);
            bool same = memcmp((float *)before->data + at, (float *)after->data + at, HD * sizeof(float)) == 0;
            bool sees = i >= n && oas_route_sees((oas_head_kind)ROUTE.kind[h], ROUTE.window, &GRID, i - n, key - n);
            assert_int_equal(same, !sees);
        }
}

static void refuse(void **state, const token_grid *grid, const route_layer *route, const char *part)
{
    fixture *f = start(state, OAS_CPU);
    assert_null(oas_attention(&f->graph, f->q, f->k, f->v, grid, route));
    assert_int_equal(f->graph.status, OASIS_E_ARGUMENT);
    if (!strstr(f->graph.message.text, part))
        fail_msg("\"%s\" does not say \"%s\"", f->graph.message.text, part);
    f->graph.status = OASIS_OK;
}

static void wrong_routes_are_refused(void **state)
{
    token_grid grid = GRID;
    route_layer route = ROUTE;
    route.heads = 0;
    refuse(state, &GRID, &route, "0 heads");
    route.heads = OAS_MAX_HEADS + 1;
    refuse(state, &GRID, &route, "65 heads");
    route = ROUTE;
    route.heads = 5;
    memset(route.kind, 'g', 5);
    refuse(state, &GRID, &route, "does not divide");
    route = ROUTE;
    route.kind[1] = 'x';
    refuse(state, &GRID, &route, "head 1");
    route = ROUTE;
    route.window[2] = 4;
    refuse(state, &GRID, &route, "3x5x4");
    grid.width = 8;
    refuse(state, &grid, &ROUTE, "2*3*5*8");
    grid = (token_grid){-2, -3, 5, 7};
    refuse(state, &grid, &ROUTE, "-2*-3*5*7");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flops_count_the_pairs_seen),
        cmocka_unit_test(log_sum_exps_are_kept),
        cmocka_unit_test(a_key_reaches_those_who_see_it),
        cmocka_unit_test(wrong_routes_are_refused),
    };
    return cmocka_run_group_tests_name("ops/attention", tests, setup, teardown);
}
