/*
 * The model of the first release against the reference program's tensors, stage by stage (tests/data/golden-nano.safetensors: 9
 * frames of 64x96, fp32, computed with exactly the bf16 weights of tests/data/bootstrap-nano.safetensors).
 */
#include "cpu/device.h"
#include "format/safetensors.h"
#include "model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* fp32: sums of up to 2,304 products in another order, through eight blocks and the decoder; 4e-7 is usual. */
static const double TOLERANCE_FP32 = 1e-5;
/* bf16: eight bits of mantissa, rounding errors that add up over the blocks. */
static const double TOLERANCE_BF16 = 1e-2;

static const char GOLDEN[] = OASIS_SOURCE_DIR "/tests/data/golden-nano.safetensors";
static const char MODEL[] = OASIS_SOURCE_DIR "/tests/data/bootstrap-nano.safetensors";

struct fixture {
    weight_file *golden;
    oasis_model *model;
    device *device;
    graph graph;
};

static int setup(void **state)
{
    static struct fixture f;
    oasis_message why = {""};
    if (oas_weight_file_open(&f.golden, GOLDEN, &why) < 0 || oasis_model_open(&f.model, MODEL, &why) < 0 ||
        oas_device_new(&f.device, 2, &why) < 0)
        fail_msg("%s", why.text);
    if (!oas_arena_new(&f.graph.memory, (size_t)256 << 20))
        return -1;
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    oas_arena_free(&f->graph.memory);
    oas_device_free(&f->device);
    oasis_model_close(&f->model);
    oas_weight_file_close(&f->golden);
    return 0;
}

/* A golden tensor with its channels moved last: [C,F,h,w] ('c') and [T,C,H,W] ('t') become [1,F,h,w,C]. */
static float *golden(const struct fixture *f, const char *name, char channels_at, shape *s)
{
    const stored *t = oas_weight_file_find(f->golden, name);
    assert_non_null(t);
    int64_t n = oas_stored_count(t);
    float *from = malloc((size_t)n * sizeof *from), *to = malloc((size_t)n * sizeof *to);
    assert_true(from && to);
    oas_stored_floats(t, 0, n, from);
    if (channels_at == 0) {
        *s = (shape){.rank = t->rank};
        memcpy(s->size, t->size, sizeof s->size);
        free(to);
        return from;
    }
    int c = channels_at == 'c' ? 0 : 1;
    int64_t channels = t->size[c], frames = t->size[1 - c], plane = t->size[2] * t->size[3];
    *s = OAS_SHAPE5(1, frames, t->size[2], t->size[3], channels);
    for (int64_t k = 0; k < channels; k++)
        for (int64_t i = 0; i < frames; i++)
            for (int64_t p = 0; p < plane; p++)
                to[(i * plane + p) * channels + k] = from[(c == 0 ? k * frames + i : i * channels + k) * plane + p];
    free(from);
    return to;
}

static double relative_error(const float *a, const float *b, int64_t n)
{
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / norm);
}

/* The error of a computed tensor, of whatever type, against a golden one. */
static double compare(const struct fixture *f, const tensor *t, const char *name, char channels_at)
{
    shape s;
    float *expected = golden(f, name, channels_at, &s);
    int64_t n = oas_count(&t->shape);
    assert_int_equal(n, oas_count(&s));
    float *got = malloc((size_t)n * sizeof *got);
    assert_non_null(got);
    oas_convert(got, OAS_F32, t->data, t->dtype, n);
    double error = relative_error(got, expected, n);
    print_message("    %-10s %.2e\n", name, error);
    free(expected);
    free(got);
    return error;
}

/* Watches the transformer's stages go by: after every second add_gated a block is done. */
struct watcher {
    const struct fixture *f;
    int residuals;
    double worst;
};

static void watch(void *user, const node *n)
{
    struct watcher *w = user;
    const char *stage = NULL;
    if (strcmp(n->op->name, "add_gated") == 0) {
        w->residuals++;
        stage = w->residuals == 2 ? "block0" : w->residuals == 4 ? "block1" : w->residuals == 16 ? "block7" : NULL;
    }
    if (strcmp(n->op->name, "linear") == 0 && n->in[1] == w->f->model->dit.patch.weight)
        stage = "tokens";
    if (strcmp(n->op->name, "linear") == 0 && n->in[1] == w->f->model->dit.head.weight)
        stage = "head";
    if (stage)
        w->worst = fmax(w->worst, compare(w->f, n->out, stage, 0));
}

static tensor *golden_pixels(struct fixture *f)
{
    shape s;
    float *values = golden(f, "pixels", 't', &s);
    tensor *pixels = oas_tensor(&f->graph, OAS_F32, s);
    memcpy(pixels->data, values, oas_bytes(pixels));
    free(values);
    return pixels;
}

/* The worst error over all stages and the output, decoded whole or latent by latent. */
static double worst_error(struct fixture *f, oas_backend backend, oas_dtype compute, bool streamed)
{
    graph *g = &f->graph;
    struct watcher w = {.f = f};
    oas_graph_reset(g);
    g->device = backend == OAS_REF ? NULL : f->device;
    g->backend = backend;
    g->compute = compute;
    g->watch = watch;
    g->watch_user = &w;
    tensor *pixels = golden_pixels(f);
    tensor *c = oas_project(g, f->model, pixels, true);
    assert_int_equal(g->status, OASIS_OK);
    double worst = compare(f, c, "z_low", 'c');
    tensor *z = oas_restore(g, f->model, c);
    if (g->status < 0)
        fail_msg("%s", g->message.text);
    assert_int_equal(w.residuals, 16);
    worst = fmax(fmax(worst, w.worst), compare(f, z, "z_high", 'c'));
    g->watch = NULL;
    tensor *out = oas_tensor(g, OAS_F32, pixels->shape);
    decoder_state state = {0};
    if (!streamed)
        out = oas_decode(g, f->model, NULL, z, pixels);
    for (int64_t i = 0, frame = 0; streamed && i < z->shape.size[1]; i++) {
        int64_t count = i == 0 ? 1 : OAS_LATENT_FRAMES;
        tensor *part = oas_decode(g, f->model, &state, oas_frames(g, z, i, 1), oas_frames(g, pixels, frame, count));
        assert_non_null(part);
        memcpy((char *)out->data + (size_t)frame * (oas_bytes(out) / (size_t)out->shape.size[1]), part->data,
               oas_bytes(part));
        frame += count;
    }
    if (g->status < 0)
        fail_msg("%s", g->message.text);
    oas_state_free(&state);
    return fmax(worst, compare(f, out, "output", 't'));
}

static void test_reference(void **state)
{
    assert_true(worst_error(*state, OAS_REF, OAS_F32, false) < TOLERANCE_FP32);
}

static void test_fast_fp32(void **state)
{
    assert_true(worst_error(*state, OAS_CPU, OAS_F32, false) < TOLERANCE_FP32);
}

static void test_streamed(void **state)
{
    assert_true(worst_error(*state, OAS_CPU, OAS_F32, true) < TOLERANCE_FP32);
}

static void test_bf16(void **state)
{
    struct fixture *f = *state;
    if (!oas_device_has_bf16(f->device))
        skip();
    assert_true(worst_error(f, OAS_CPU, OAS_BF16, true) < TOLERANCE_BF16);
}

/* The tolerances notice a wrong network: one head of one layer routed otherwise, shift and scale swapped. */
static void test_mutations(void **state)
{
    struct fixture *f = *state;
    route_layer *route = &f->model->file.routing.layer[3];
    char kind = route->kind[1];
    route->kind[1] = OAS_HEAD_WINDOW;
    assert_true(worst_error(f, OAS_CPU, OAS_F32, false) > 10 * TOLERANCE_FP32);
    route->kind[1] = kind;
    float *m = f->model->dit.blocks[2].modulation->data;
    int d = f->model->dit.config.dim;
    for (int i = 0; i < d; i++) {
        float t = m[i];
        m[i] = m[d + i];
        m[d + i] = t;
    }
    assert_true(worst_error(f, OAS_CPU, OAS_F32, false) > 10 * TOLERANCE_FP32);
    for (int i = 0; i < d; i++) {
        float t = m[i];
        m[i] = m[d + i];
        m[d + i] = t;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference), cmocka_unit_test(test_fast_fp32), cmocka_unit_test(test_streamed),
        cmocka_unit_test(test_bf16),      cmocka_unit_test(test_mutations),
    };
    return cmocka_run_group_tests_name("golden/nano", tests, setup, teardown);
}
