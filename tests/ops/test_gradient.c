/*
 * The backward of every op of the table, by the cases the op names itself: the definition against central differences of
 * its forward, the fast function against the definition, the same bits for any number of threads, recording changes no
 * bit of the result, the plan of a step is exact.
 */
#include "cpu/device.h"
#include "tensor/ops.h"
#include "tensor/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ARENA = 96 << 20, MOST_CASES = 40, ELEMENTS = 6 };

/* Half of the distance of a central difference of functions of order one, in float results. */
static const float STEP = 1e-2f;
/* Relative to 1 + |gradient|: third derivatives times h^2/6, about 1e-4, and the rounding of float results over 2 h. */
static const double TOLERANCE = 2e-3;
/* Where the differences with h and h/2 disagree by more than this, the function has a corner there (ReLU): not compared. */
static const double CORNER = 1e-3;

struct fixture {
    device *one, *three;
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

/* Draws case i and wants the gradient of every input that may have one; false when there are no more. */
static bool draw(graph *g, const op *o, int i, device *d, oas_backend backend, oas_dtype type, node *n)
{
    oas_graph_reset(g);
    g->device = d;
    g->backend = backend;
    g->compute = type;
    g->recording = true;
    sampler s = {.graph = g, .activation = type};
    *n = (node){.op = o};
    oas_sampler_start(&s, o, i);
    if (!o->sample(&s, i, n))
        return false;
    for (int k = 0; k < o->n_in; k++)
        if (n->in[k] && !(o->constant >> k & 1))
            n->in[k]->needs_grad = true;
    return true;
}

/* Makes the gradients beforehand: what ops then do is add, also where a residual would take its result's over. */
static void make_gradients(graph *g, const node *n)
{
    for (int k = 0; k < n->op->n_in; k++)
        if (n->in[k] && n->in[k]->needs_grad)
            assert_non_null(oas_gradient(g, n->in[k]));
}

/* Weights of the projection that makes one number of an output. */
static tensor *projection(graph *g, const tensor *out)
{
    sampler s = {.graph = g, .state = 4711};
    return oas_sample_floats(&s, out->shape, 1);
}

static double projected(graph *g, const op *o, node *n, const tensor *p)
{
    size_t mark = g->memory.used;
    g->recording = false;
    node copy = *n;
    tensor in_place;
    if (o->in_place && n->in[o->in_place - 1]) { /* must not overwrite the input */
        in_place = *oas_tensor(g, n->in[o->in_place - 1]->dtype, n->in[o->in_place - 1]->shape);
        memcpy(in_place.data, n->in[o->in_place - 1]->data, oas_bytes(&in_place));
        copy.in[o->in_place - 1] = &in_place;
    }
    tensor *out = oas_apply(g, o, copy.in, n->param, sizeof n->param);
    assert_non_null(out);
    double sum = 0;
    for (int64_t i = 0; i < oas_count(&out->shape); i++)
        sum += (double)((float *)out->data)[i] * (double)((float *)p->data)[i];
    oas_arena_release(&g->memory, mark);
    return sum;
}

/* The derivative of the projection along `direction` (NULL: along value `at` alone), by differences of size h. */
static double difference(graph *g, const op *o, node *n, const tensor *p, int input, const float *direction, int64_t at,
                         float h)
{
    tensor *x = n->in[input];
    float *values = x->data;
    int64_t count = oas_count(&x->shape), first = direction ? 0 : at, last = direction ? count : at + 1;
    size_t mark = g->memory.used;
    tensor *saved = oas_tensor(g, OAS_F32, x->shape);
    memcpy(saved->data, values, oas_bytes(saved));
    double side[2];
    for (int k = 0; k < 2; k++) {
        for (int64_t i = first; i < last; i++)
            values[i] = ((float *)saved->data)[i] + (k ? -h : h) * (direction ? direction[i] : 1.f);
        side[k] = projected(g, o, n, p);
    }
    memcpy(values, saved->data, oas_bytes(saved));
    oas_arena_release(&g->memory, mark);
    return (side[0] - side[1]) / (2. * (double)h);
}

/* The worst error of one input's gradient times `factor`; counts corners. */
static double input_error(graph *g, const op *o, node *n, const tensor *p, int input, double factor, int *tried,
                          int *corners)
{
    const tensor *x = n->in[input];
    const float *gradient = x->grad->data;
    int64_t count = oas_count(&x->shape);
    sampler s = {.graph = g, .state = 99};
    tensor *direction = oas_sample_floats(&s, x->shape, 1);
    double worst = 0;
    for (int e = 0; e < ELEMENTS; e++) {
        int64_t at = oas_sample_size(&s, 0, count - 1);
        const float *along = e == 0 ? direction->data : NULL;
        float h = e == 0 ? STEP / 4.f : STEP;
        double expected = difference(g, o, n, p, input, along, at, h);
        double finer = difference(g, o, n, p, input, along, at, h / 2);
        double got = along ? 0 : factor * (double)gradient[at];
        double scale = 1 + fabs(expected);
        for (int64_t i = 0; along && i < count; i++) {
            got += factor * (double)gradient[i] * (double)along[i];
            scale += fabs((double)gradient[i]) * 1e-2; /* the terms cancel, their errors do not */
        }
        ++*tried;
        if (fabs(expected - finer) > CORNER * scale)
            ++*corners;
        else
            worst = fmax(worst, fabs(got - expected) / scale);
    }
    return worst;
}

/* The worst error over all inputs of case i; below 0 when there is no such case. */
static double case_error(graph *g, const op *o, int i, double factor, int *tried, int *corners)
{
    node n;
    if (!draw(g, o, i, NULL, OAS_REF, OAS_F32, &n))
        return -1;
    make_gradients(g, &n);
    tensor *out = oas_apply(g, o, n.in, n.param, sizeof n.param);
    tensor *p = out ? projection(g, out) : NULL;
    if (!p || oas_backward(g, out, p) < 0)
        fail_msg("%s, case %d: %s", o->name, i, g->message.text);
    double worst = 0;
    for (int k = 0; k < o->n_in; k++)
        if (n.in[k] && n.in[k]->grad)
            worst = fmax(worst, input_error(g, o, &n, p, k, factor, tried, corners));
    return worst;
}

/* Differences cost two forwards each: cases beyond this many multiply-adds are left to the comparison with REF. */
static bool small_enough(graph *g, const op *o, int i)
{
    node n;
    if (!draw(g, o, i, NULL, OAS_REF, OAS_F32, &n))
        return true;
    tensor out = {.data = NULL};
    n.out = &out;
    return o->shape(g, &n) && (!o->flops || o->flops(&n) < 4e6);
}

static void test_differences(void **state)
{
    struct fixture *f = *state;
    for (const op *const *o = oas_ops; *o; o++) {
        if (!(*o)->backward[OAS_REF])
            fail_msg("%s has no backward", (*o)->name);
        int tried = 0, corners = 0, cases = 0;
        double worst = 0;
        for (int i = 0; i < MOST_CASES; i++) {
            if (!small_enough(&f->graph, *o, i))
                continue;
            double error = case_error(&f->graph, *o, i, 1, &tried, &corners);
            if (error < 0)
                break;
            if (!(error <= TOLERANCE))
                fail_msg("%s, case %d: the gradient is off by %.2e, allowed %.2e", (*o)->name, i, error, TOLERANCE);
            worst = fmax(worst, error);
            cases++;
        }
        print_message("    %-16s %2d cases, %3d differences, %2d at corners, worst %.1e\n", (*o)->name, cases, tried,
                      corners, worst);
        assert_true(cases > 0 && corners * 4 <= tried);
    }
}

/* A gradient that is 2 % too large must show. */
static void test_differences_notice(void **state)
{
    struct fixture *f = *state;
    for (const op *const *o = oas_ops; *o; o++) {
        int tried = 0, corners = 0;
        double worst = 0;
        for (int i = 0; i < MOST_CASES; i++)
            if (small_enough(&f->graph, *o, i))
                worst = fmax(worst, case_error(&f->graph, *o, i, 1.02, &tried, &corners));
        if (!(worst > TOLERANCE))
            fail_msg("%s: gradients 1.02 times too large go unnoticed", (*o)->name);
    }
}

/* All gradients of case i, one after the other; NULL when there is no such case.  `made`: added to what was made before. */
static float *gradients(graph *g, const op *o, int i, device *d, oas_backend backend, oas_dtype type, bool made,
                        int64_t *count)
{
    node n;
    if (!draw(g, o, i, d, backend, type, &n))
        return NULL;
    if (made)
        make_gradients(g, &n);
    tensor *out = oas_apply(g, o, n.in, n.param, sizeof n.param);
    tensor *p = out ? projection(g, out) : NULL;
    if (!p || oas_backward(g, out, p) < 0)
        fail_msg("%s, case %d: %s", o->name, i, g->message.text);
    *count = 0;
    for (int k = 0; k < o->n_in; k++)
        *count += n.in[k] && n.in[k]->grad ? oas_count(&n.in[k]->shape) : 0;
    float *all = malloc((size_t)*count * sizeof *all), *to = all;
    assert_non_null(all);
    for (int k = 0; k < o->n_in; k++) {
        if (!n.in[k] || !n.in[k]->grad)
            continue;
        memcpy(to, n.in[k]->grad->data, oas_bytes(n.in[k]->grad));
        to += oas_count(&n.in[k]->shape);
    }
    return all;
}

static double relative_error(const float *a, const float *b, int64_t n)
{
    double d = 0, norm = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(d / norm);
}

static void compare_type(struct fixture *f, const op *o, oas_dtype type, double tolerance)
{
    double worst = 0;
    for (int i = 0; i < MOST_CASES; i++) {
        int64_t n, m;
        float *expected = gradients(&f->graph, o, i, NULL, OAS_REF, type, true, &n);
        if (!expected)
            break;
        float *got = gradients(&f->graph, o, i, f->one, OAS_CPU, type, true, &m);
        float *threads = gradients(&f->graph, o, i, f->three, OAS_CPU, type, true, &m);
        assert_int_equal(n, m);
        assert_memory_equal(got, threads, (size_t)n * sizeof *got);
        double error = relative_error(got, expected, n);
        if (!(error <= tolerance))
            fail_msg("%s backward, case %d in %s: error %.2e, allowed %.2e", o->name, i, oas_dtype_name(type), error,
                     tolerance);
        worst = fmax(worst, error);
        free(expected);
        free(got);
        free(threads);
    }
    print_message("    %-16s %-5s worst %.1e of %.1e\n", o->name, oas_dtype_name(type), worst, tolerance);
}

/* fp32: float sums of up to thousands of terms against each other.  bf16: du is rounded to 8 bits before the products. */
static const double FAST_FP32 = 1e-5, FAST_BF16 = 1e-2;

static void test_fast_is_definition(void **state)
{
    struct fixture *f = *state;
    for (const op *const *o = oas_ops; *o; o++) {
        compare_type(f, *o, OAS_F32, FAST_FP32);
        if (oas_device_has_bf16(f->one))
            compare_type(f, *o, OAS_BF16, FAST_BF16);
    }
}

/* A residual that takes the gradient of the result over has the one that it would get by adding to zeros. */
static void test_passing_on(void **state)
{
    struct fixture *f = *state;
    int ops = 0;
    for (const op *const *o = oas_ops; *o; o++) {
        ops += (*o)->passes_on > 0;
        for (int i = 0; i < MOST_CASES && (*o)->passes_on; i++) {
            for (int backend = OAS_REF; backend <= OAS_CPU; backend++) {
                device *d = backend == OAS_REF ? NULL : f->three;
                int64_t n, m;
                float *added = gradients(&f->graph, *o, i, d, (oas_backend)backend, OAS_F32, true, &n);
                float *taken = gradients(&f->graph, *o, i, d, (oas_backend)backend, OAS_F32, false, &m);
                assert_int_equal(added != NULL, taken != NULL);
                for (int64_t k = 0; added && k < n; k++)
                    assert_true(n == m && added[k] == taken[k]); /* which 0 and -0 are */
                free(added);
                free(taken);
            }
        }
    }
    assert_true(ops > 0);
}

/* Values of x's gradient, all of which must be `factor` times p's. */
static void expect_gradient(const tensor *x, const tensor *p, float factor)
{
    assert_non_null(x->grad);
    assert_true(oas_shape_equal(&x->grad->shape, &x->shape));
    for (int64_t i = 0; i < oas_count(&x->shape); i++)
        assert_true(((float *)x->grad->data)[i] == factor * ((float *)p->data)[i]);
}

/* Residuals in places where a gradient cannot simply be taken over.  Factors are powers of two: sums are exact. */
static void test_residuals(void **state)
{
    struct fixture *f = *state;
    graph *g = &f->graph;
    const shape s = OAS_SHAPE2(6, 4), other = OAS_SHAPE3(2, 3, 4);
    for (int part = 0; part < 4; part++) {
        oas_graph_reset(g);
        g->device = f->three, g->backend = OAS_CPU, g->compute = OAS_F32, g->recording = true;
        sampler r = {.graph = g, .state = 5};
        tensor *x = oas_sample_floats(&r, s, 1), *a = oas_sample_floats(&r, s, 1);
        tensor *p = oas_sample_floats(&r, part == 3 ? other : s, 1), *y = NULL;
        x->needs_grad = a->needs_grad = true;
        if (part == 0) /* x is the other summand, too */
            y = oas_axpy(g, x, 2, x);
        else if (part == 1) /* x is used again: (x + a) / 2 + x */
            y = oas_axpy(g, x, 0.5f, oas_axpy(g, x, 1, a));
        else if (part == 2) /* the sum is a residual, and used again: h + h / 2, h = x + a */
            y = oas_axpy(g, x, 1, a), y = oas_axpy(g, y, 0.5f, y);
        else /* x has another shape there */
            y = oas_axpy(g, oas_view(g, x, other), 1, oas_view(g, a, other));
        assert_non_null(y);
        assert_int_equal(oas_backward(g, y, p), OASIS_OK);
        static const float of_x[] = {3, 1.5f, 1.5f, 1}, of_a[] = {0, 0.5f, 1.5f, 1};
        expect_gradient(x, p, of_x[part]);
        if (part > 0)
            expect_gradient(a, p, of_a[part]);
    }
    g->recording = false;
}

/* The result of case i with and without recording. */
static void test_recording_changes_nothing(void **state)
{
    struct fixture *f = *state;
    graph *g = &f->graph;
    for (const op *const *o = oas_ops; *o; o++) {
        for (int i = 0; i < MOST_CASES; i++) {
            node n;
            void *bytes[2];
            size_t size = 0;
            for (int k = 0; k < 2; k++) {
                if (!draw(g, *o, i, f->three, OAS_CPU, oas_device_has_bf16(f->one) ? OAS_BF16 : OAS_F32, &n))
                    break;
                g->recording = k;
                tensor *out = oas_apply(g, *o, n.in, n.param, sizeof n.param);
                assert_non_null(out);
                assert_int_equal(g->tape != NULL, k);
                size = oas_bytes(out);
                bytes[k] = malloc(size);
                assert_non_null(bytes[k]);
                memcpy(bytes[k], out->data, size);
            }
            if (size == 0)
                break;
            assert_memory_equal(bytes[0], bytes[1], size);
            free(bytes[0]);
            free(bytes[1]);
        }
    }
    g->recording = false;
}

/* A planned step, forward and backward, takes the bytes that it takes when it runs. */
static void test_plan_is_exact(void **state)
{
    struct fixture *f = *state;
    for (const op *const *o = oas_ops; *o; o++) {
        for (int i = 0; i < MOST_CASES; i++) {
            node n;
            graph *g = &f->graph;
            if (!draw(g, *o, i, f->three, OAS_CPU, OAS_F32, &n))
                break;
            graph plan = {.device = f->three, .backend = OAS_CPU, .compute = OAS_F32, .planning = true, .recording = true};
            oas_arena_count(&plan.memory);
            assert_true(oas_arena_new(&plan.headers, 1 << 16));
            tensor *planned = oas_apply(&plan, *o, n.in, n.param, sizeof n.param);
            if (!planned || oas_backward(&plan, planned, NULL) < 0)
                fail_msg("%s, case %d: %s", (*o)->name, i, plan.message.text);
            for (int k = 0; k < (*o)->n_in; k++)
                if (n.in[k])
                    n.in[k]->grad = NULL;
            size_t before = g->memory.peak = g->memory.used;
            tensor *out = oas_apply(g, *o, n.in, n.param, sizeof n.param);
            assert_true(out && oas_backward(g, out, NULL) == OASIS_OK);
            if (plan.memory.peak != g->memory.peak - before)
                fail_msg("%s, case %d: %zu bytes planned, %zu taken", (*o)->name, i, plan.memory.peak,
                         g->memory.peak - before);
            oas_arena_free(&plan.headers);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_differences),        cmocka_unit_test(test_differences_notice),
        cmocka_unit_test(test_fast_is_definition), cmocka_unit_test(test_recording_changes_nothing),
        cmocka_unit_test(test_plan_is_exact),      cmocka_unit_test(test_passing_on),
        cmocka_unit_test(test_residuals),
    };
    return cmocka_run_group_tests_name("ops/gradient", tests, setup, teardown);
}
