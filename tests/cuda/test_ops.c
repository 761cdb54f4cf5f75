/*
 * Every op of the table on the GPU, by the cases it names itself, against the definition on the host: forward in fp32
 * and bf16, the gradients of every input, the same bits when it runs again (emulated: with threads in the opposite
 * order), weights that lie on the host, and that a plan asks for the memory that running takes.  Ops without a CUDA
 * function go the way over the CPU.  Without a GPU all is skipped.
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

enum { ARENA = 96 << 20, MOST_CASES = 40 };

/* Of gradients: float sums of up to thousands of terms in another order; in bf16, e is rounded to 8 bits before products. */
static const double BACKWARD_FP32 = 2e-5, BACKWARD_BF16 = 1e-2;

/*
 * Products and convolutions are the libraries': biases, and results before bias and residual, are rounded to bf16.  A
 * convolution's bias is added to such a result, so that some kinks of relu fall on the other side on the way back.
 */
static const double LIBRARY_FORWARD_BF16 = 4e-3, CONV_BACKWARD_BF16 = 4e-2;

static double forward_tolerance_bf16(const op *o)
{
    bool library = strcmp(o->name, "linear") == 0 || strcmp(o->name, "conv") == 0;
    return library ? LIBRARY_FORWARD_BF16 : (double)o->tolerance_bf16;
}

static double backward_tolerance_bf16(const op *o)
{
    return strcmp(o->name, "conv") == 0 ? CONV_BACKWARD_BF16 : BACKWARD_BF16;
}

struct fixture {
    device *device;
    graph host, gpu;
    const char *only; /* OASIS_TEST_OP: the one op to look at */
    int wrong;        /* of the running test */
};

static int setup(void **state)
{
    static struct fixture f;
    oasis_message why = {""};
    *state = &f;
    f.only = getenv("OASIS_TEST_OP");
    if (oas_cuda_count() == 0)
        return 0;
    if (oas_device_open(&f.device, "cuda", 2, &why) < 0)
        fail_msg("%s", why.text);
    f.host = (graph){.backend = OAS_REF};
    f.gpu = oas_device_graph(f.device, OAS_F32);
    return oas_graph_open(&f.host, ARENA) && oas_graph_open(&f.gpu, ARENA) ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (!f->device)
        return 0;
    oas_graph_close(&f->host);
    oas_graph_close(&f->gpu);
    oas_device_free(&f->device);
    return 0;
}

/* Draws case i of an op on the host; false when there are no more. */
static bool draw(struct fixture *f, const op *o, int i, oas_dtype type, node *n)
{
    graph *g = &f->host;
    oas_graph_reset(g);
    g->compute = type;
    sampler s = {.graph = g, .activation = type};
    *n = (node){.op = o};
    oas_sampler_start(&s, o, i);
    return o->sample(&s, i, n);
}

/* An emulated GPU takes a second for what a real one does in a microsecond: there, large cases of an op are left out. */
static bool too_large(struct fixture *f, const node *drawn)
{
    static const double MOST_FLOPS = 5e6;
    if (strcmp(oas_cuda_built(), "emulated") != 0 || f->only || !drawn->op->flops)
        return false;
    node n = *drawn;
    tensor out = {.shape = {.rank = 0}};
    n.out = &out;
    return drawn->op->shape(&f->host, &n) && drawn->op->flops(&n) > MOST_FLOPS;
}

/* Inputs in blocks of their own, so that what lies behind them is not theirs. */
struct inputs {
    tensor header[OAS_MAX_INPUTS];
    node node;
};

static void to_gpu(struct fixture *f, const node *n, struct inputs *in)
{
    oas_graph_reset(&f->gpu);
    in->node = *n;
    for (int i = 0; i < n->op->n_in; i++) {
        if (!n->in[i])
            continue;
        in->header[i] = (tensor){.shape = n->in[i]->shape, .dtype = n->in[i]->dtype};
        assert_true(oas_graph_own(&f->gpu, &in->header[i]));
        assert_int_equal(oas_graph_upload(&f->gpu, &in->header[i], n->in[i]->data), OASIS_OK);
        in->node.in[i] = &in->header[i];
    }
}

static void free_inputs(struct inputs *in)
{
    for (int i = 0; i < in->node.op->n_in; i++)
        if (in->node.in[i])
            oas_tensor_disown(&in->header[i]);
}

/* A result as floats on the host. */
static float *floats_of(graph *g, const tensor *t)
{
    int64_t n = oas_count(&t->shape);
    void *bytes = malloc(oas_bytes(t) + 1);
    float *values = malloc((size_t)n * sizeof *values + 1);
    assert_true(bytes && values);
    assert_int_equal(oas_graph_download(g, bytes, t), OASIS_OK);
    oas_convert(values, OAS_F32, bytes, t->dtype, n);
    free(bytes);
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

static void set_order(const char *order)
{
    setenv("OASIS_EMULATED_ORDER", order, 1);
}

/* Says what is wrong, and goes on: one run on a borrowed GPU shows everything. */
static void complain(struct fixture *f, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("    WRONG: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    f->wrong++;
}

static float *forward_on_gpu(struct fixture *f, const node *drawn, oas_dtype type, const char *order)
{
    struct inputs in;
    to_gpu(f, drawn, &in);
    f->gpu.compute = type;
    f->gpu.recording = false;
    set_order(order);
    tensor *out = oas_apply(&f->gpu, drawn->op, in.node.in, drawn->param, sizeof drawn->param);
    if (!out)
        fail_msg("%s: %s", drawn->op->name, f->gpu.message.text);
    float *values = floats_of(&f->gpu, out);
    free_inputs(&in);
    return values;
}

static bool left_out(const struct fixture *f, const op *o)
{
    return f->only && strcmp(f->only, o->name) != 0;
}

static void compare_forward(struct fixture *f, const op *o, oas_dtype type, double tolerance)
{
    double worst = 0;
    int cases = 0;
    for (int i = 0; i < MOST_CASES; i++, cases++) {
        node n;
        if (!draw(f, o, i, type, &n))
            break;
        if (too_large(f, &n))
            continue;
        float *got = forward_on_gpu(f, &n, type, "forwards"), *again = forward_on_gpu(f, &n, type, "backwards");
        tensor *out = oas_apply(&f->host, o, n.in, n.param, sizeof n.param);
        if (!out)
            fail_msg("%s, case %d: %s", o->name, i, f->host.message.text);
        int64_t count = oas_count(&out->shape);
        float *expected = floats_of(&f->host, out);
        if (memcmp(got, again, (size_t)count * sizeof *got) != 0)
            complain(f, "%s, case %d in %s: other bits when it runs again", o->name, i, oas_dtype_name(type));
        double error = relative_error(got, expected, count);
        if (!(error <= tolerance))
            complain(f, "%s, case %d in %s: error %.2e, allowed %.2e", o->name, i, oas_dtype_name(type), error,
                     tolerance);
        worst = fmax(worst, error);
        free(got);
        free(again);
        free(expected);
    }
    assert_true(cases > 0);
    print_message("    %-16s %-5s %s %2d cases, worst %.1e of %.1e\n", o->name, oas_dtype_name(type),
                  o->forward[OAS_CUDA] ? "    " : "host", cases, worst, tolerance);
}

static void test_forward(void **state)
{
    struct fixture *f = *state;
    if (!f->device)
        skip();
    f->wrong = 0;
    for (const op *const *o = oas_ops; *o; o++) {
        if (left_out(f, *o))
            continue;
        compare_forward(f, *o, OAS_F32, (double)(*o)->tolerance);
        compare_forward(f, *o, OAS_BF16, forward_tolerance_bf16(*o));
    }
    assert_int_equal(f->wrong, 0);
}

/* ---- gradients ------------------------------------------------------------------------------------------------------- */

/* Weights of the projection that makes one number of an output, on the host. */
static tensor *projection(graph *g, shape s)
{
    sampler draw_from = {.graph = g, .state = 4711};
    return oas_sample_floats(&draw_from, s, 1);
}

/* Runs a node both ways on g; all gradients, one after the other, on the host. */
static float *gradients(struct fixture *f, graph *g, node *n, int64_t *count)
{
    const op *o = n->op;
    for (int k = 0; k < o->n_in; k++)
        if (n->in[k] && !(o->constant >> k & 1))
            n->in[k]->needs_grad = true;
    for (int k = 0; k < o->n_in; k++) /* beforehand, so that a residual adds to its own, too */
        if (n->in[k] && n->in[k]->needs_grad && !oas_gradient(g, n->in[k]))
            fail_msg("%s: %s", o->name, g->message.text);
    g->recording = true;
    tensor *out = oas_apply(g, o, n->in, n->param, sizeof n->param);
    if (!out)
        fail_msg("%s: %s", o->name, g->message.text);
    tensor *p = projection(&f->host, out->shape), *there = p;
    assert_non_null(p);
    if (g != &f->host) {
        there = oas_tensor(g, OAS_F32, out->shape);
        oas_graph_upload(g, there, p->data);
    }
    if (oas_backward(g, out, there) < 0)
        fail_msg("%s: %s", o->name, g->message.text);
    g->recording = false;
    *count = 0;
    for (int k = 0; k < o->n_in; k++)
        *count += n->in[k] && n->in[k]->grad ? oas_count(&n->in[k]->shape) : 0;
    float *all = malloc((size_t)*count * sizeof *all + 1), *to = all;
    assert_non_null(all);
    for (int k = 0; k < o->n_in; k++) {
        if (!n->in[k] || !n->in[k]->grad)
            continue;
        oas_graph_download(g, to, n->in[k]->grad);
        to += oas_count(&n->in[k]->shape);
    }
    return all;
}

static float *gradients_on_gpu(struct fixture *f, const node *drawn, oas_dtype type, const char *order, int64_t *count)
{
    struct inputs in;
    to_gpu(f, drawn, &in);
    f->gpu.compute = type;
    set_order(order);
    float *all = gradients(f, &f->gpu, &in.node, count);
    free_inputs(&in);
    return all;
}

static void compare_backward(struct fixture *f, const op *o, oas_dtype type, double tolerance)
{
    double worst = 0;
    for (int i = 0; i < MOST_CASES; i++) {
        node n;
        int64_t count, other;
        if (!draw(f, o, i, type, &n))
            break;
        if (too_large(f, &n))
            continue;
        float *got = gradients_on_gpu(f, &n, type, "forwards", &count);
        float *again = gradients_on_gpu(f, &n, type, "backwards", &other);
        float *expected = gradients(f, &f->host, &n, &other);
        assert_int_equal(count, other);
        if (memcmp(got, again, (size_t)count * sizeof *got) != 0)
            complain(f, "%s backward, case %d in %s: other bits when it runs again", o->name, i, oas_dtype_name(type));
        double error = relative_error(got, expected, count);
        if (!(error <= tolerance))
            complain(f, "%s backward, case %d in %s: error %.2e, allowed %.2e", o->name, i, oas_dtype_name(type), error,
                     tolerance);
        worst = fmax(worst, error);
        free(got);
        free(again);
        free(expected);
    }
    print_message("    %-16s %-5s %s worst %.1e of %.1e\n", o->name, oas_dtype_name(type),
                  o->backward[OAS_CUDA] ? "    " : "host", worst, tolerance);
}

static void test_backward(void **state)
{
    struct fixture *f = *state;
    if (!f->device)
        skip();
    f->wrong = 0;
    for (const op *const *o = oas_ops; *o; o++) {
        if (left_out(f, *o))
            continue;
        compare_backward(f, *o, OAS_F32, BACKWARD_FP32);
        compare_backward(f, *o, OAS_BF16, backward_tolerance_bf16(*o));
    }
    assert_int_equal(f->wrong, 0);
}

/* ---- memory ----------------------------------------------------------------------------------------------------------- */

/* A planned step, forward and backward, takes the bytes that it takes when it runs; weights on the host cost scratch. */
static void test_plan_is_exact(void **state)
{
    struct fixture *f = *state;
    if (!f->device)
        skip();
    for (const op *const *o = oas_ops; *o; o++) {
        for (int i = 0; i < 2 * MOST_CASES && !left_out(f, *o); i++) {
            node n;
            struct inputs in;
            if (!draw(f, *o, i / 2, i % 2 ? OAS_BF16 : OAS_F32, &n))
                break;
            if (too_large(f, &n))
                continue;
            to_gpu(f, &n, &in);
            graph *g = &f->gpu, plan = oas_device_graph(f->device, i % 2 ? OAS_BF16 : OAS_F32);
            g->compute = plan.compute;
            g->memory.peak = 0;
            plan.planning = plan.recording = g->recording = true;
            oas_arena_count(&plan.memory);
            assert_true(oas_arena_new(&plan.headers, 1 << 16));
            node *run = &in.node;
            for (int k = 0; k < (*o)->n_in; k++)
                if (n.in[k])
                    run->in[k]->needs_grad = !((*o)->constant >> k & 1);
            if (n.in[1]) {
                oas_tensor_disown(run->in[1]); /* a weight on the host */
                run->in[1]->place = OAS_HOST;
                run->in[1]->data = n.in[1]->data;
            }
            tensor *planned = oas_apply(&plan, *o, run->in, n.param, sizeof n.param);
            if (!planned || oas_backward(&plan, planned, NULL) < 0)
                fail_msg("%s, case %d: %s", (*o)->name, i / 2, plan.message.text);
            for (int k = 0; k < (*o)->n_in; k++)
                if (run->in[k])
                    run->in[k]->grad = NULL;
            tensor *out = oas_apply(g, *o, run->in, n.param, sizeof n.param);
            if (!out || oas_backward(g, out, NULL) < 0)
                fail_msg("%s, case %d: %s", (*o)->name, i / 2, g->message.text);
            if (plan.memory.peak != g->memory.peak)
                fail_msg("%s, case %d: %zu bytes planned, %zu taken", (*o)->name, i / 2, plan.memory.peak,
                         g->memory.peak);
            g->recording = false;
            oas_arena_free(&plan.headers);
            if (n.in[1])
                run->in[1] = NULL;
            free_inputs(&in);
        }
    }
}

/* The way over the host gives what the CPU gives, for an op that has a CUDA function, too. */
static void test_over_the_host(void **state)
{
    struct fixture *f = *state;
    if (!f->device)
        skip();
    for (const op *const *o = oas_ops; *o; o++) {
        op without = **o;
        without.forward[OAS_CUDA] = without.backward[OAS_CUDA] = NULL;
        if (left_out(f, *o) || strcmp((*o)->name, "loss_spectrum") == 0) /* slow, and like the others */
            continue;
        compare_forward(f, &without, OAS_F32, (double)(*o)->tolerance);
        compare_backward(f, &without, OAS_BF16, BACKWARD_BF16);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_backward),
        cmocka_unit_test(test_plan_is_exact),
        cmocka_unit_test(test_over_the_host),
    };
    return cmocka_run_group_tests_name("cuda/ops", tests, setup, teardown);
}
