/*
 * Gradients of whole networks: pixels to frames through projection, transformer and decoder, and through the encoder,
 * along random directions of all weights at once against differences; with and without checkpoints; on any number of
 * threads; the plan of a step.
 */
#include "cpu/device.h"
#include "net/encoder_small.h"
#include "train/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ARENA = 128 << 20 };

/* Relative to the size of the directional derivative: h^2 of the third derivative, and float rounding over 2 h. */
static const double TOLERANCE = 5e-3;
static const float STEP = 2e-3f;

struct fixture {
    device *one, *three;
    graph g;
};

static int setup(void **state)
{
    static struct fixture f;
    oasis_message why = {""};
    if (oas_device_new(&f.one, 1, &why) < 0 || oas_device_new(&f.three, 3, &why) < 0)
        fail_msg("%s", why.text);
    *state = &f;
    return oas_arena_new(&f.g.memory, ARENA) ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    oas_arena_free(&f->g.memory);
    oas_device_free(&f->one);
    oas_device_free(&f->three);
    return 0;
}

/* The loss that all tests take. */
static tensor *loss_of(graph *g, const oasis_model *m, const encoder *e)
{
    tensor *low = tiny_clip(g, true), *truth = tiny_clip(g, false);
    tensor *z = oas_restore(g, m, oas_project(g, m, low, true));
    tensor *y = oas_decode(g, m, NULL, z, low);
    tensor *loss = oas_loss_charbonnier(g, y, truth, 0.1f, 20);
    loss = oas_axpy(g, loss, 1, oas_loss_mse(g, z, NULL, 1));
    return oas_axpy(g, loss, 1, e ? oas_loss_mse(g, oas_decode(g, m, NULL, oas_encode(g, e, truth), low), truth, 5) : loss);
}

static void start(struct fixture *f, device *d, oas_dtype compute)
{
    oas_graph_reset(&f->g);
    f->g.device = d;
    f->g.backend = d ? OAS_CPU : OAS_REF;
    f->g.compute = compute;
}

/* All gradients, one parameter after the other; freed by the caller. */
static float *gradients(struct fixture *f, oasis_model *m, const encoder *e, int64_t *count)
{
    graph *g = &f->g;
    *count = 0;
    for (int i = 0; i < m->parameters.count; i++) {
        m->parameters.items[i]->tensor.grad = NULL;
        *count += oas_count(&m->parameters.items[i]->tensor.shape);
    }
    g->recording = true;
    for (int i = 0; i < m->parameters.count; i++)
        assert_non_null(oas_gradient(g, &m->parameters.items[i]->tensor));
    tensor *loss = loss_of(g, m, e);
    if (!loss || oas_backward(g, loss, NULL) < 0)
        fail_msg("%s", g->message.text);
    g->recording = false;
    float *all = malloc((size_t)*count * sizeof *all), *to = all;
    assert_non_null(all);
    for (int i = 0; i < m->parameters.count; i++) {
        const tensor *t = &m->parameters.items[i]->tensor;
        memcpy(to, t->grad->data, oas_bytes(t->grad));
        to += oas_count(&t->shape);
    }
    return all;
}

static double moved_loss(struct fixture *f, oasis_model *m, const encoder *e, const float *direction, float h)
{
    const float *d = direction;
    for (int i = 0; i < m->parameters.count; i++) {
        tensor *t = &m->parameters.items[i]->tensor;
        for (int64_t k = 0; k < oas_count(&t->shape); k++)
            ((float *)t->data)[k] += h * *d++;
    }
    start(f, f->one, OAS_F32);
    tensor *loss = loss_of(&f->g, m, e);
    assert_non_null(loss);
    return (double)*(float *)loss->data;
}

static void check_directions(struct fixture *f, oasis_model *m, const encoder *e)
{
    int64_t n;
    start(f, f->one, OAS_F32);
    float *g = gradients(f, m, e, &n);
    float *d = malloc((size_t)n * sizeof *d);
    assert_non_null(d);
    uint64_t state = 5;
    for (int k = 0; k < 4; k++) {
        double along = 0, size = 0;
        for (int64_t i = 0; i < n; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            d[i] = (float)((double)(state >> 33) / 1073741824. - 1.) * 0.1f;
            along += (double)g[i] * (double)d[i];
            size += (double)g[i] * (double)g[i] * 0.01 / 3;
        }
        double up = moved_loss(f, m, e, d, STEP), down = moved_loss(f, m, e, d, -2.f * STEP);
        moved_loss(f, m, e, d, STEP);
        double measured = (up - down) / (2. * (double)STEP), error = fabs(measured - along) / (sqrt(size) + 1e-3);
        print_message("    direction %d: %.5f, measured %.5f, error %.1e\n", k, along, measured, error);
        assert_true(error < TOLERANCE);
        assert_true(fabs(measured - 1.05 * along) / (sqrt(size) + 1e-3) > TOLERANCE || fabs(along) < 0.2 * sqrt(size));
    }
    free(g);
    free(d);
}

static void test_model(void **state)
{
    oasis_model *m = tiny_model(true);
    check_directions(*state, m, NULL);
    oasis_model_close(&m);
}

static void test_encoder(void **state)
{
    oasis_model *m = tiny_model(false);
    encoder e;
    oas_encoder_bind(&e, TINY_LATENT, &m->parameters);
    assert_int_equal(m->parameters.status, OASIS_OK);
    uint64_t s = 3;
    for (int i = 0; i < m->parameters.count; i++) {
        tensor *t = &m->parameters.items[i]->tensor;
        t->needs_grad = true;
        int64_t n = oas_count(&t->shape);
        for (int64_t k = 0; strncmp(t->name, "encoder.", 8) == 0 && k < n; k++) {
            s = s * 6364136223846793005u + 1442695040888963407u;
            ((float *)t->data)[k] = (float)((double)(s >> 33) / 1073741824. - 1.) * (float)sqrt(1.5 * (double)t->shape.size[0] / (double)n);
        }
    }
    check_directions(*state, m, &e);
    oasis_model_close(&m);
}

/* The same bits with and without checkpoints, and on one thread and three. */
static void test_same_bits(void **state)
{
    struct fixture *f = *state;
    oas_dtype compute = oas_device_has_bf16(f->one) ? OAS_BF16 : OAS_F32;
    oasis_model *m = tiny_model(true);
    int64_t n;
    start(f, f->one, compute);
    float *plain = gradients(f, m, NULL, &n);
    start(f, f->three, compute);
    f->g.checkpointing = true;
    float *checkpointed = gradients(f, m, NULL, &n);
    f->g.checkpointing = false;
    assert_memory_equal(plain, checkpointed, (size_t)n * sizeof *plain);
    free(plain);
    free(checkpointed);
    oasis_model_close(&m);
}

/* Checkpoints drop what blocks compute inside: the transformer's forward takes less than half. */
static void test_checkpoints_save(void **state)
{
    struct fixture *f = *state;
    oasis_model *m = tiny_model(true);
    size_t used[2];
    for (int k = 0; k < 2; k++) {
        start(f, f->one, OAS_F32);
        f->g.recording = true;
        f->g.checkpointing = k;
        tensor *c = oas_project(&f->g, m, tiny_clip(&f->g, true), true);
        size_t before = f->g.memory.used;
        assert_non_null(oas_restore(&f->g, m, c));
        used[k] = f->g.memory.used - before;
        f->g.recording = f->g.checkpointing = false;
    }
    assert_true(used[1] * 2 < used[0]);
    oasis_model_close(&m);
}

/* A step takes the memory that its plan says. */
static void test_plan(void **state)
{
    struct fixture *f = *state;
    oasis_model *m = tiny_model(true);
    for (int checkpointing = 0; checkpointing < 2; checkpointing++) {
        int64_t n;
        graph plan = {.device = f->three, .backend = OAS_CPU, .compute = OAS_F32, .planning = true, .recording = true};
        plan.checkpointing = checkpointing;
        oas_arena_count(&plan.memory);
        assert_true(oas_arena_new(&plan.headers, 4 << 20));
        start(f, f->three, OAS_F32);
        f->g.memory.peak = 0;
        f->g.checkpointing = checkpointing;
        free(gradients(f, m, NULL, &n));
        f->g.checkpointing = false;
        for (int i = 0; i < m->parameters.count; i++) {
            m->parameters.items[i]->tensor.grad = NULL;
            oas_gradient(&plan, &m->parameters.items[i]->tensor);
        }
        const shape clip = OAS_SHAPE5(1, TINY_FRAMES, TINY_SIDE, TINY_SIDE, 3);
        tensor *low = oas_tensor(&plan, OAS_F32, clip), *truth = oas_tensor(&plan, OAS_F32, clip);
        tensor *z = oas_restore(&plan, m, oas_project(&plan, m, low, true));
        tensor *loss = oas_loss_charbonnier(&plan, oas_decode(&plan, m, NULL, z, low), truth, 0.1f, 20);
        loss = oas_axpy(&plan, loss, 1, oas_loss_mse(&plan, z, NULL, 1));
        loss = oas_axpy(&plan, loss, 1, loss);
        assert_true(loss && oas_backward(&plan, loss, NULL) == OASIS_OK);
        assert_int_equal(plan.memory.peak, f->g.memory.peak);
        oas_arena_free(&plan.headers);
    }
    oasis_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_encoder),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_checkpoints_save),
        cmocka_unit_test(test_plan),
    };
    return cmocka_run_group_tests_name("train/network", tests, setup, teardown);
}
