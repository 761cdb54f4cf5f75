/*
 * Stretches that a GPU gets as one launch: recorded at their second run, replayed afterwards, called where recording is
 * refused; and an upscaler with and without them, which gives the same bits, and with windows that are not finite.  Without
 * a GPU all is skipped.
 */
#include "ops/op.h"
#include "tensor/ops.h"
#include "tensor/replay.h"
#include "upscale.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "identity/overflow.h"

enum { N = 96, RUNS = 5 };
static const char MODEL[] = OASIS_SOURCE_DIR "/models/oasis-nano.safetensors";

typedef struct fixture {
    device *gpu;
    graph g;
    replays replays;
    tensor memory; /* on the GPU, beyond a pass */
    int calls;     /* of a stretch's function */
    atomic_bool cancel;
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    oasis_message why = {""};
    *state = f;
    if (!f || oas_cuda_count() == 0)
        return f ? 0 : -1;
    if (oas_device_open(&f->gpu, "cuda", 1, &why) < 0)
        fail_msg("%s", why.text);
    f->g = oas_device_graph(f->gpu, OAS_F32);
    f->g.cancel = &f->cancel;
    f->memory = (tensor){.shape = OAS_SHAPE1(N), .dtype = OAS_F32};
    assert_true(oas_graph_open(&f->g, 1 << 20) && oas_graph_own(&f->g, &f->memory));
    assert_int_equal(oas_graph_zero(&f->g, f->memory.data, oas_bytes(&f->memory)), OASIS_OK);
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    if (f->gpu) {
        oas_replays_free(&f->g, &f->replays);
        oas_tensor_disown(&f->memory);
        oas_graph_close(&f->g);
        oas_device_free(&f->gpu);
    }
    free(f);
    return 0;
}

/* ---- one stretch --------------------------------------------------------------------------------------------------------- */

typedef struct stretch {
    fixture *f;
    tensor *x;
} stretch;

/* memory += x; the result is memory + 2 x + a constant that lies on the host. */
static tensor *accumulate(graph *g, void *arg)
{
    static float values[N];
    static tensor constant = {.shape = {1, {N}}, .dtype = OAS_F32, .data = values};
    const stretch *s = arg;
    for (int i = 0; i < N; i++)
        values[i] = (float)i;
    s->f->calls++;
    tensor *sum = oas_axpy(g, &s->f->memory, 1, s->x); /* a new tensor: axpy does not work in place on the memory */
    if (!sum)
        return NULL;
    oas_graph_copy(g, s->f->memory.data, sum->data, oas_bytes(sum));
    return oas_axpy(g, oas_axpy(g, sum, 1, s->x), 1, &constant);
}

/* Twice x, by an op that only the CPU has. */
static bool double_shape(graph *g, node *n)
{
    (void)g;
    n->out->shape = n->in[0]->shape;
    n->out->dtype = OAS_F32;
    return true;
}

static oasis_status double_ref(graph *g, const node *n)
{
    (void)g;
    for (int64_t i = 0; i < oas_count(&n->out->shape); i++)
        oas_f32(n->out)[i] = 2 * oas_f32(n->in[0])[i];
    return OASIS_OK;
}

static const op double_op = {
    .name = "double", .stage = "passes", .n_in = 1, .shape = double_shape, .forward = {[OAS_REF] = double_ref}};

static tensor *on_the_host(graph *g, void *arg)
{
    const stretch *s = arg;
    s->f->calls++;
    return oas_apply(g, &double_op, &(tensor *){s->x}, "", 1);
}

/* Runs it on x = run + i/8 after a reset, and gives value i of the result, i = 3. */
static float value_of(fixture *f, oas_replay_fn *fn, const char *name, int run)
{
    enum { AT = 3 };
    float x[N], y[N];
    pack_key key = {{0}};
    strncpy((char *)key.bytes, name, sizeof key.bytes - 1);
    for (int i = 0; i < N; i++)
        x[i] = (float)run + (float)i / 8;
    oas_graph_reset(&f->g);
    stretch s = {f, oas_tensor(&f->g, OAS_F32, OAS_SHAPE1(N))};
    oas_graph_upload(&f->g, s.x, x);
    tensor *result = oas_replay(&f->g, &f->replays, &key, fn, &s);
    if (!result)
        return -1;
    assert_int_equal(oas_count(&result->shape), N);
    if (oas_graph_download(&f->g, y, result) < 0)
        fail_msg("%s", f->g.message.text);
    return y[AT];
}

static void test_replays(void **state)
{
    fixture *f = *state;
    if (!f->gpu)
        skip();
    float memory = 0;
    for (int run = 0; run < RUNS; run++) {
        float x = (float)run + 3.f / 8;
        memory += x;
        assert_float_equal(value_of(f, accumulate, "sum", run), memory + x + 3, 0);
    }
    /* Called for the first run and for the recording. */
    assert_int_equal(f->calls, 2);
    assert_int_equal(f->replays.recorded, 1);
    assert_int_equal(f->replays.replayed, RUNS - 1);
    assert_int_equal(f->replays.refused, 0);
    assert_int_equal(f->replays.calls, RUNS);
    double flops = f->g.flops;
    value_of(f, accumulate, "sum", 0);
    assert_true(f->g.flops >= flops); /* counted as if it had been called */
}

static void test_keys(void **state)
{
    fixture *f = *state;
    if (!f->gpu)
        skip();
    for (int run = 0; run < 3; run++) {
        value_of(f, accumulate, "one", run);
        value_of(f, accumulate, "other", run);
    }
    assert_int_equal(f->calls, 4);
    assert_int_equal(f->replays.recorded, 2);
    /* Where the arena stands elsewhere, the addresses of a recording do not hold. */
    oas_graph_reset(&f->g);
    assert_non_null(oas_scratch(&f->g, 256));
    stretch s = {f, oas_tensor(&f->g, OAS_F32, OAS_SHAPE1(N))};
    float x[N] = {0};
    oas_graph_upload(&f->g, s.x, x);
    assert_non_null(oas_replay(&f->g, &f->replays, &(pack_key){"one"}, accumulate, &s));
    assert_int_equal(f->calls, 5);
}

/* What an op does on the host cannot be recorded: the stretch is called each time, and its results are right. */
static void test_refusal(void **state)
{
    fixture *f = *state;
    if (!f->gpu)
        skip();
    for (int run = 0; run < RUNS; run++)
        assert_float_equal(value_of(f, on_the_host, "host", run), 2 * ((float)run + 3.f / 8), 0);
    assert_int_equal(f->calls, RUNS + 1); /* once for the attempt to record */
    assert_int_equal(f->replays.refused, 1);
    assert_int_equal(f->replays.recorded, 0);
    assert_int_equal(f->replays.replayed, 0);
}

static void test_plain(void **state)
{
    fixture *f = *state;
    if (!f->gpu)
        skip();
    f->replays.off = true;
    for (int run = 0; run < RUNS; run++)
        value_of(f, accumulate, "sum", run);
    assert_int_equal(f->calls, RUNS);
    f->replays.off = false;
    f->g.timed = true;
    for (int run = 0; run < RUNS; run++)
        value_of(f, accumulate, "sum", run);
    assert_int_equal(f->calls, 2 * RUNS);
    assert_int_equal(f->replays.recorded, 0);
}

static void test_cancel(void **state)
{
    fixture *f = *state;
    if (!f->gpu)
        skip();
    for (int i = 0; i < 4; i++) {
        /* Before the first run, the recording, a replay, and not at all. */
        atomic_store(&f->cancel, i < 3);
        float value = value_of(f, accumulate, "sum", i);
        assert_int_equal(f->g.status, i < 3 ? OASIS_E_CANCELLED : OASIS_OK);
        assert_true(i == 3 || value == -1);
        atomic_store(&f->cancel, false);
        assert_true(value_of(f, accumulate, "sum", i) >= 0);
    }
    assert_int_equal(f->replays.recorded, 1);
}

/* ---- an upscaler --------------------------------------------------------------------------------------------------------- */

enum { FRAMES = 21, SIDE = 20, SHOT = 7 };

static void paint(oasis_frame *frame, int index)
{
    int shot = index / SHOT;
    assert_int_equal(oasis_frame_new(frame, SIDE, SIDE, false), OASIS_OK);
    for (int i = 0; i < SIDE * SIDE * 3; i++)
        frame->rgb[i] = (float)(0.15 + 0.3 * shot + 0.1 * sin(0.4 * (i / 3 % SIDE) * (shot + 1) + 0.2 * index));
}

static oasis_upscaler *opened(oasis_model *model, oasis_dtype_choice dtype)
{
    oasis_options o;
    oasis_upscaler *u = NULL;
    oasis_message why = {""};
    oasis_options_init(&o);
    o.scale = 2;
    o.window_frames = 5;
    o.device = "cuda";
    o.dtype = dtype;
    if (oasis_upscaler_open(&u, model, &o, SIDE, SIDE, &why) < 0)
        fail_msg("%s", why.text);
    return u;
}

/* All frames one after the other, shots of SHOT frames; NULL after a failure. */
static float *upscaled(oasis_upscaler *u, int frames, size_t *count)
{
    oasis_plan plan;
    oasis_upscaler_plan(u, &plan);
    size_t each = (size_t)plan.width * (size_t)plan.height * 3;
    float *all = malloc((size_t)frames * each * sizeof *all);
    oasis_status s = OASIS_OK;
    assert_non_null(all);
    *count = 0;
    for (int sent = 0; s >= 0 && s != OASIS_END;) {
        oasis_frame frame = {0};
        s = oasis_upscaler_receive(u, &frame);
        if (s == OASIS_AGAIN) {
            if (sent < frames)
                paint(&frame, sent);
            assert_int_equal(oasis_upscaler_send(u, sent < frames ? &frame : NULL), OASIS_OK);
            sent++;
        } else if (s == OASIS_OK) {
            memcpy(all + *count, frame.rgb, each * sizeof *all);
            *count += each;
            oasis_frame_free(&frame);
            /* What delay promises. */
            assert_true(sent <= (int)(*count / each) - 1 + plan.delay || sent > frames);
        }
    }
    if (s == OASIS_END) {
        assert_int_equal(*count, (size_t)frames * each);
        return all;
    }
    free(all);
    return NULL;
}

static oasis_model *model_of(void)
{
    oasis_message why = {""};
    oasis_model *model = NULL;
    if (oasis_model_open(&model, MODEL, &why) < 0)
        fail_msg("%s", why.text);
    return model;
}

static void test_upscaler(void **state)
{
    fixture *f = *state;
    if (!f->gpu)
        skip();
    oasis_model *model = model_of();
    float *frames[2];
    size_t n[2];
    for (int on = 0; on < 2; on++) {
        oasis_upscaler *u = opened(model, OASIS_DTYPE_AUTO);
        u->replays.off = !on;
        frames[on] = upscaled(u, FRAMES, &n[on]);
        if (!frames[on])
            fail_msg("%s", oasis_upscaler_message(u));
        assert_int_equal(u->statistics.shots, FRAMES / SHOT);
        assert_int_equal(u->statistics.windows_recomputed, 0);
        assert_int_equal(u->replays.refused, 0);
        /* Of 9 calls of each of projecting and decoding, and at least 3 windows, the first of each kind are called. */
        assert_true(on ? u->replays.replayed >= 9 : u->replays.replayed == 0);
        oasis_upscaler_close(&u);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(frames[0], frames[1], n[0] * sizeof(float));
    free(frames[0]);
    free(frames[1]);
    oasis_model_close(&model);
}

/* ---- a trial ------------------------------------------------------------------------------------------------------------ */

static float *frames_of(oasis_upscaler *u, size_t *count)
{
    float *frames = upscaled(u, FRAMES, count);
    if (!frames)
        fail_msg("%s", oasis_upscaler_message(u));
    assert_int_equal(u->statistics.frames_in, FRAMES);
    assert_int_equal(u->statistics.frames_out, FRAMES);
    assert_int_equal(u->statistics.shots, FRAMES / SHOT);
    return frames;
}

/* How much longer it takes than a plan with some rates said. */
static double ratio(const oasis_upscaler *u, const upscale_rates *before)
{
    return oas_estimate_seconds(&u->work, &u->rates) / oas_estimate_seconds(&u->work, before);
}

/* All rates of a network differ from before, by one factor. */
static void expect_scaled(const stage_work *now, const stage_work *before)
{
    static const double ROUNDED = 1e-9;
    double factor = now->dense / before->dense;
    assert_true(factor > 0 && factor != 1);
    assert_true(fabs(now->conv / before->conv / factor - 1) < ROUNDED);
    assert_true(fabs(now->attention / before->attention / factor - 1) < ROUNDED);
    assert_true(fabs(now->passes / before->passes / factor - 1) < ROUNDED);
}

static void expect_measured(const oasis_upscaler *u, const upscale_rates *before)
{
    expect_scaled(&u->rates.project, &before->project);
    expect_scaled(&u->rates.restore, &before->restore);
    expect_scaled(&u->rates.decode, &before->decode);
    assert_true(u->rates.picture_bytes > 0 && u->rates.picture_bytes != before->picture_bytes);
    assert_true(u->rates.prepared_bytes > 0);
}

/*
 * A trial measures, leaves no trace in what is upscaled after it, measures a smaller picture where the whole one would take
 * too long, and changes no rate where it fails or comes too late.
 */
static void test_trial(void **state)
{
    fixture *f = *state;
    if (!f->gpu)
        skip();
    oasis_model *model = model_of();
    size_t n, m;
    oasis_upscaler *plain = opened(model, OASIS_DTYPE_AUTO), *u = opened(model, OASIS_DTYPE_AUTO);
    float *expected = frames_of(plain, &n);
    upscale_rates before = u->rates;
    oasis_upscaler_calibrate(u);
    expect_measured(u, &before);
    assert_true(u->replays.recorded > 0); /* of its own networks */
    assert_int_equal(u->statistics.frames_in, 0);
    assert_int_equal(u->queue_count, 0);
    float *got = frames_of(u, &m);
    assert_int_equal(n, m);
    assert_memory_equal(got, expected, n * sizeof *got);
    free(got);
    before = u->rates;
    oasis_upscaler_calibrate(u); /* too late */
    assert_memory_equal(&u->rates, &before, sizeof before);
    oasis_upscaler_close(&u);
    oasis_upscaler_close(&plain);
    free(expected);
    oasis_model_close(&model);
}

static void test_smaller_trial(void **state)
{
    enum { WIDE = 300 };
    static const double SLOW = 1e9;
    fixture *f = *state;
    if (!f->gpu)
        skip();
    oasis_model *model = model_of();
    oasis_options o;
    oasis_upscaler *u = NULL;
    oasis_message why = {""};
    oasis_options_init(&o);
    o.scale = 1;
    o.window_frames = 5;
    o.window_size = 96;
    o.device = "cuda";
    if (oasis_upscaler_open(&u, model, &o, WIDE, SIDE, &why) < 0)
        fail_msg("%s", why.text);
    /* As if it took very long: only the networks' proportions are kept. */
    stage_work *const rates[] = {&u->rates.project, &u->rates.restore, &u->rates.decode};
    for (int i = 0; i < 3; i++) {
        rates[i]->dense /= SLOW;
        rates[i]->conv /= SLOW;
        rates[i]->attention /= SLOW;
        rates[i]->passes /= SLOW;
    }
    upscale_rates before = u->rates;
    oasis_upscaler_cancel(u); /* a failure */
    oasis_upscaler_calibrate(u);
    assert_memory_equal(&u->rates, &before, sizeof before);
    atomic_store(&u->cancelled, false);
    oasis_upscaler_calibrate(u);
    expect_measured(u, &before);
    assert_true(ratio(u, &before) < 1);
    assert_int_equal(u->replays.recorded, 0); /* of this one's networks */
    assert_non_null(u->graph.memory.base);
    oasis_upscaler_close(&u);
    oasis_model_close(&model);
}

/*
 * A hidden value that is finite in fp32 and infinite in bf16, times a weight of 0: each window is NaN in bf16, and computed
 * again; the sum over windows must have forgotten the first.  With a NaN in a bias nothing helps.
 */
static void test_not_finite(void **state)
{
    enum { FEW = 5 };
    static const float TOLERANCE = 0.02f; /* the decoder still computes in bf16 */
    fixture *f = *state;
    if (!f->gpu)
        skip();
    oasis_model *model = model_of();
    make_overflow(model);
    size_t n, m;
    oasis_upscaler *u = opened(model, OASIS_DTYPE_FP32);
    float *exact = upscaled(u, FEW, &n);
    assert_non_null(exact);
    assert_int_equal(u->statistics.windows_recomputed, 0);
    oasis_upscaler_close(&u);
    u = opened(model, OASIS_DTYPE_AUTO);
    float *again = upscaled(u, FEW, &m);
    assert_non_null(again);
    assert_true(u->statistics.windows > 0);
    assert_int_equal(u->statistics.windows_recomputed, u->statistics.windows);
    oasis_upscaler_close(&u);
    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(exact[i] - again[i]) < TOLERANCE);
    oasis_model_close(&model);
    model = model_of();
    make_nan(model);
    u = opened(model, OASIS_DTYPE_AUTO);
    assert_null(upscaled(u, FEW, &n));
    assert_non_null(strstr(oasis_upscaler_message(u), "not finite"));
    oasis_upscaler_close(&u);
    oasis_model_close(&model);
    free(exact);
    free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_replays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_upscaler, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trial, setup, teardown),
        cmocka_unit_test_setup_teardown(test_smaller_trial, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_finite, setup, teardown),
    };
    return cmocka_run_group_tests_name("cuda/replay", tests, NULL, NULL);
}
