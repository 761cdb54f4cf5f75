/*
 * All ops of the table, by the cases they name themselves: the fast function against the definition in fp32 and bf16,
 * the same bits for any number of threads, wrong shapes refused with a sentence, recording changes nothing, the plan
 * asks for the memory that running takes.
 */
#include "cpu/device.h"
#include "tensor/sampler.h"
#include "tensor/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ARENA = 64 << 20, MOST_CASES = 40 };

struct fixture {
    device *one, *three; /* threads */
    graph graph;
};

static int setup(void **state)
{
    static struct fixture f;
    oasis_message why = {""};
    if (oas_device_new(&f.one, 1, &why) < 0 || oas_device_new(&f.three, 3, &why) < 0)
        fail_msg("%s", why.text);
    *state = &f;
    return oas_arena_new(&f.graph.memory, ARENA) ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    oas_arena_free(&f->graph.memory);
    oas_device_free(&f->one);
    oas_device_free(&f->three);
    return 0;
}

/* Draws case i of an op into n; false when there are no more. */
static bool draw(graph *g, const op *o, int i, oas_dtype activation, node *n)
{
    sampler s = {.graph = g, .activation = activation};
    *n = (node){.op = o};
    oas_sampler_start(&s, o, i);
    return o->sample(&s, i, n);
}

/* Runs case i and gives its result as floats, n values; NULL when there are no more cases. */
static float *result(graph *g, const op *o, int i, device *d, oas_backend backend, oas_dtype type, int64_t *count)
{
    node n;
    oas_graph_reset(g);
    g->device = d;
    g->backend = backend;
    g->compute = type;
    if (!draw(g, o, i, type, &n))
        return NULL;
    tensor *out = oas_apply(g, o, n.in, n.param, sizeof n.param);
    if (!out)
        fail_msg("%s, case %d: %s", o->name, i, g->message.text);
    *count = oas_count(&out->shape);
    float *values = malloc((size_t)*count * sizeof *values);
    assert_non_null(values);
    oas_convert(values, OAS_F32, out->data, out->dtype, *count);
    return values;
}

static double relative_error(const float *a, const float *b, int64_t n)
{
    double difference = 0, norm = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / norm);
}

static void compare_type(struct fixture *f, const op *o, oas_dtype type, double tolerance)
{
    double worst = 0;
    int cases = 0;
    for (int i = 0; i < MOST_CASES; i++, cases++) {
        int64_t n, m;
        float *expected = result(&f->graph, o, i, NULL, OAS_REF, type, &n);
        if (!expected)
            break;
        float *got = result(&f->graph, o, i, f->one, OAS_CPU, type, &m);
        float *threads = result(&f->graph, o, i, f->three, OAS_CPU, type, &m);
        assert_int_equal(n, m);
        assert_memory_equal(got, threads, (size_t)n * sizeof *got);
        double error = relative_error(got, expected, n);
        if (!(error <= tolerance))
            fail_msg("%s, case %d in %s: error %.2e, allowed %.2e", o->name, i, oas_dtype_name(type), error, tolerance);
        worst = fmax(worst, error);
        free(expected);
        free(got);
        free(threads);
    }
    if (cases == 0)
        fail_msg("%s has no test cases", o->name);
    print_message("    %-16s %-5s %2d cases, worst %.1e of %.1e\n", o->name, oas_dtype_name(type), cases, worst, tolerance);
}

static void test_fast_is_definition(void **state)
{
    struct fixture *f = *state;
    for (const op *const *o = oas_ops; *o; o++) {
        assert_non_null((*o)->forward[OAS_REF]);
        assert_non_null((*o)->sample);
        compare_type(f, *o, OAS_F32, (double)(*o)->tolerance);
        if (oas_device_has_bf16(f->one))
            compare_type(f, *o, OAS_BF16, (double)(*o)->tolerance_bf16);
    }
}

/* A tolerance that notices nothing would be worse than none: one value changed in an input must show. */
static void test_tolerances_notice(void **state)
{
    struct fixture *f = *state;
    graph *g = &f->graph;
    for (const op *const *o = oas_ops; *o; o++) {
        int64_t n;
        float *expected = result(g, *o, 1, NULL, OAS_REF, OAS_F32, &n);
        node mutant;
        oas_graph_reset(g);
        assert_true(draw(g, *o, 1, OAS_F32, &mutant));
        float *values = mutant.in[0]->data;
        for (int64_t i = 0; i < oas_count(&mutant.in[0]->shape); i++)
            values[i] = values[i] * 1.01f + (i == 0 ? 0.01f : 0.f);
        g->device = f->one;
        g->backend = OAS_CPU;
        tensor *out = oas_apply(g, *o, mutant.in, mutant.param, sizeof mutant.param);
        assert_non_null(out);
        if (!(relative_error(out->data, expected, n) > (double)(*o)->tolerance))
            fail_msg("%s does not notice a changed input", (*o)->name);
        free(expected);
    }
}

static void test_wrong_shapes(void **state)
{
    struct fixture *f = *state;
    graph *g = &f->graph;
    for (const op *const *o = oas_ops; *o; o++) {
        node n;
        for (int i = 1; i < (*o)->n_in; i++) {
            oas_graph_reset(g);
            assert_true(draw(g, *o, 1, OAS_F32, &n));
            sampler s = {.graph = g};
            if (!n.in[i])
                continue;
            n.in[i] = oas_sample_floats(&s, OAS_SHAPE5(1, 1, 2, 1, 7919), 1);
            if (oas_apply(g, *o, n.in, n.param, sizeof n.param))
                fail_msg("%s takes %s as input %d", (*o)->name, oas_shape_text(&n.in[i]->shape).text, i);
            assert_int_equal(g->status, OASIS_E_ARGUMENT);
            assert_true(strncmp(g->message.text, (*o)->name, strlen((*o)->name)) == 0);
        }
        oas_graph_reset(g);
        assert_true(draw(g, *o, 1, OAS_F32, &n));
        n.in[0] = NULL;
        assert_null(oas_apply(g, *o, n.in, n.param, sizeof n.param));
        assert_int_equal(g->status, OASIS_E_ARGUMENT);
    }
    oas_graph_reset(g);
}

/* Planning a case and running it take the same bytes of the arena, scratch included. */
static void test_plan_is_exact(void **state)
{
    struct fixture *f = *state;
    for (const op *const *o = oas_ops; *o; o++) {
        for (int i = 0; i < MOST_CASES; i++) {
            node n;
            graph *g = &f->graph;
            oas_graph_reset(g);
            g->device = f->three;
            g->backend = OAS_CPU;
            g->compute = OAS_F32;
            if (!draw(g, *o, i, OAS_F32, &n))
                break;
            graph plan = {.device = f->three, .backend = OAS_CPU, .compute = OAS_F32, .planning = true};
            oas_arena_count(&plan.memory);
            assert_true(oas_arena_new(&plan.headers, 1 << 16));
            assert_non_null(oas_apply(&plan, *o, n.in, n.param, sizeof n.param));
            size_t before = g->memory.peak = g->memory.used;
            assert_non_null(oas_apply(g, *o, n.in, n.param, sizeof n.param));
            if (plan.memory.peak != g->memory.peak - before)
                fail_msg("%s, case %d: %zu bytes planned, %zu taken", (*o)->name, i, plan.memory.peak,
                         g->memory.peak - before);
            oas_arena_free(&plan.headers);
        }
    }
}

/* An arena that is too small is a status with a sentence. */
static void test_small_arena(void **state)
{
    struct fixture *f = *state;
    for (const op *const *o = oas_ops; *o; o++) {
        node n;
        graph *g = &f->graph;
        oas_graph_reset(g);
        g->device = f->one;
        g->backend = OAS_CPU;
        g->compute = OAS_F32;
        assert_true(draw(g, *o, 1, OAS_F32, &n));
        for (size_t room = 0; room < 4096; room += 64) {
            g->memory.size = g->memory.used + room;
            size_t mark = oas_graph_mark(g);
            tensor *out = oas_apply(g, *o, n.in, n.param, sizeof n.param);
            if (!out) {
                assert_int_equal(g->status, OASIS_E_MEMORY);
                assert_true(strlen(g->message.text) > 20);
            }
            g->status = OASIS_OK;
            g->memory.failed = false;
            oas_graph_release(g, mark);
        }
        g->memory.size = ARENA;
    }
    oas_graph_reset(&f->graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fast_is_definition), cmocka_unit_test(test_tolerances_notice),
        cmocka_unit_test(test_wrong_shapes),       cmocka_unit_test(test_plan_is_exact),
        cmocka_unit_test(test_small_arena),
    };
    return cmocka_run_group_tests_name("ops/table", tests, setup, teardown);
}
