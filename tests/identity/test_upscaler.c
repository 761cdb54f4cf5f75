/*
 * Laws of the pipeline, with the default model on small pictures: as many frames out as in, what the caller attached to
 * them kept, the same bits for any number of threads and any rhythm of calls, windows and tiles that change nothing where
 * they must not, shots that do not know of each other, failures that are sentences.
 */
#include "model.h"
#include "upscale.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "identity/overflow.h"

static const char MODEL[] = OASIS_SOURCE_DIR "/models/oasis-nano.safetensors";

/* Two ways of computing the same in fp32, values in [0,1]: sums in another order. */
static const double SAME = 2e-5;

struct fixture {
    oasis_model *model;
};

static int setup(void **state)
{
    static struct fixture f;
    oasis_message why = {""};
    if (oasis_model_open(&f.model, MODEL, &why) < 0)
        fail_msg("%s", why.text);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    oasis_model_close(&((struct fixture *)*state)->model);
    return 0;
}

/* Frame i of a moving pattern; another `scene` looks quite different. */
static void paint(oasis_frame *frame, int i, int scene)
{
    for (int y = 0; y < frame->height; y++) {
        for (int x = 0; x < frame->width; x++) {
            float *p = frame->rgb + (y * frame->width + x) * 3;
            float u = (float)(x + i) * (scene ? 0.9f : 0.31f), v = (float)(y - i) * (scene ? 1.3f : 0.23f);
            p[0] = 0.5f + 0.4f * sinf(u) * cosf(v);
            p[1] = scene ? 0.9f - 0.2f * cosf(u) : 0.3f + 0.2f * sinf(v);
            p[2] = scene ? 0.1f : 0.5f + 0.4f * cosf(u + v);
        }
    }
    frame->pts = 1000 + 40 * i;
    frame->duration = 40 + i;
    frame->opaque = (void *)(uintptr_t)(i + 1);
}

struct clip {
    int width, height, frames, cut; /* from frame `cut` on another scene; 0 = none */
};

/* What came out: all frames one after the other. */
struct result {
    int frames, width, height;
    float *rgb;
    oasis_status status;
    oasis_message message;
    oasis_plan plan;
    oasis_statistics statistics;
};

static size_t frame_values(const struct result *r)
{
    return (size_t)r->width * (size_t)r->height * 3;
}

static void send_one(oasis_upscaler *u, const struct clip *clip, int i)
{
    oasis_frame frame;
    assert_int_equal(oasis_frame_new(&frame, clip->width, clip->height, false), OASIS_OK);
    paint(&frame, i, clip->cut > 0 && i >= clip->cut);
    assert_int_equal(oasis_upscaler_send(u, &frame), OASIS_OK);
    assert_null(frame.rgb);
}

/* Upscales a clip; `ahead` frames are sent before each receive (where there is room). */
static struct result run(oasis_model *model, const oasis_options *options, struct clip clip, int ahead)
{
    struct result r = {0};
    oasis_upscaler *u = NULL;
    r.status = oasis_upscaler_open(&u, model, options, clip.width, clip.height, &r.message);
    if (r.status < 0)
        return r;
    oasis_upscaler_plan(u, &r.plan);
    r.width = r.plan.width;
    r.height = r.plan.height;
    r.rgb = malloc((size_t)clip.frames * frame_values(&r) * sizeof *r.rgb);
    assert_non_null(r.rgb);
    int sent = 0;
    for (;;) {
        oasis_frame frame;
        for (int k = 0; k < ahead && sent < clip.frames; k++)
            send_one(u, &clip, sent++);
        oasis_status s = oasis_upscaler_receive(u, &frame);
        if (s == OASIS_AGAIN) {
            if (sent < clip.frames)
                send_one(u, &clip, sent++);
            else
                assert_int_equal(oasis_upscaler_send(u, NULL), OASIS_OK);
            continue;
        }
        if (s != OASIS_OK) {
            r.status = s;
            snprintf(r.message.text, sizeof r.message.text, "%s", oasis_upscaler_message(u));
            break;
        }
        assert_true(r.frames < clip.frames);
        assert_int_equal(frame.pts, 1000 + 40 * r.frames);
        assert_int_equal(frame.duration, 40 + r.frames);
        assert_int_equal((uintptr_t)frame.opaque, r.frames + 1);
        memcpy(r.rgb + (size_t)r.frames * frame_values(&r), frame.rgb, frame_values(&r) * sizeof *r.rgb);
        oasis_frame_free(&frame);
        r.frames++;
    }
    oasis_upscaler_statistics(u, &r.statistics);
    oasis_upscaler_close(&u);
    assert_null(u);
    return r;
}

static oasis_options fp32(double scale)
{
    oasis_options o;
    oasis_options_init(&o);
    o.scale = scale;
    o.dtype = OASIS_DTYPE_FP32;
    o.threads = 2;
    return o;
}

static double greatest_difference(const struct result *a, const struct result *b)
{
    assert_int_equal(a->frames, b->frames);
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    double most = 0;
    for (size_t i = 0; i < (size_t)a->frames * frame_values(a); i++)
        most = fmax(most, fabs((double)a->rgb[i] - (double)b->rgb[i]));
    return most;
}

static void expect_same_bits(const struct result *a, const struct result *b)
{
    assert_int_equal(a->frames, b->frames);
    assert_memory_equal(a->rgb, b->rgb, (size_t)a->frames * frame_values(a) * sizeof *a->rgb);
}

static void expect_end(const struct result *r, int frames)
{
    if (r->status != OASIS_END)
        fail_msg("%s", r->message.text);
    assert_int_equal(r->frames, frames);
    assert_int_equal(r->statistics.frames_in, frames);
    assert_int_equal(r->statistics.frames_out, frames);
}

/* The work that was done is what the plan said of a shot of that length. */
static void expect_planned_work(const struct result *r, int frames)
{
    /* Shorter than a window, the plan takes all heads for global ones: window heads see less than in proportion. */
    const double tolerance = frames >= r->plan.window_frames ? 1e-6 : 0.01;
    double planned, seconds, done = 0;
    oasis_plan_shot(&r->plan, frames, &planned, &seconds);
    for (int i = 0; i < r->statistics.n_stages; i++)
        done += r->statistics.stages[i].flops;
    assert_true(seconds > 0 && done > 0);
    assert_true(fabs(planned - done) <= tolerance * done);
}

static void test_every_length(void **state)
{
    struct fixture *f = *state;
    oasis_options o = fp32(2);
    o.window_frames = 9; /* 3 latents that share 2: short clips reach every case of the last window */
    for (int frames = 1; frames <= 30; frames++) {
        struct result r = run(f->model, &o, (struct clip){8, 8, frames, 0}, 1);
        expect_end(&r, frames);
        expect_planned_work(&r, frames);
        free(r.rgb);
    }
    struct result none = run(f->model, &o, (struct clip){8, 8, 0, 0}, 0);
    assert_int_equal(none.status, OASIS_END);
    free(none.rgb);
}

static void test_sizes(void **state)
{
    struct fixture *f = *state;
    static const struct {
        int width, height;
        double scale;
        int out_width, out_height;
    } cases[] = {{1, 1, 4, 4, 4},    {1, 1, 1, 1, 1},    {17, 9, 2, 34, 18},       {33, 31, 1, 33, 31},
                 {20, 14, 1.5, 30, 21}, {13, 7, 3.3, 43, 23}, {5, 64, 8, 40, 512}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oasis_options o = fp32(cases[i].scale);
        struct result r = run(f->model, &o, (struct clip){cases[i].width, cases[i].height, 2, 0}, 0);
        expect_end(&r, 2);
        assert_int_equal(r.width, cases[i].out_width);
        assert_int_equal(r.height, cases[i].out_height);
        free(r.rgb);
    }
    oasis_options o = fp32(4);
    o.short_side = 50;
    struct result r = run(f->model, &o, (struct clip){20, 14, 1, 0}, 0);
    assert_int_equal(r.height, 50);
    assert_int_equal(r.width, 71);
    free(r.rgb);
    o.width = 41, o.height = 33;
    r = run(f->model, &o, (struct clip){20, 14, 1, 0}, 0);
    assert_int_equal(r.width, 41);
    assert_int_equal(r.height, 33);
    free(r.rgb);
}

static void test_threads_and_rhythm(void **state)
{
    struct fixture *f = *state;
    const struct clip clip = {60, 40, 14, 0};
    for (int dtype = OASIS_DTYPE_AUTO; dtype <= OASIS_DTYPE_FP32; dtype++) {
        oasis_options o = fp32(4);
        o.dtype = (oasis_dtype_choice)dtype;
        o.window_size = 128;
        struct result two = run(f->model, &o, clip, 0);
        expect_end(&two, clip.frames);
        assert_true(two.plan.windows > 1);
        o.threads = 1;
        struct result one = run(f->model, &o, clip, 3);
        o.threads = 5;
        struct result five = run(f->model, &o, clip, 1);
        expect_same_bits(&two, &one);
        expect_same_bits(&two, &five);
        free(one.rgb), free(two.rgb), free(five.rgb);
    }
}

/* z_high of the clip by the rule of decisions 12, written down once more: windows of `window` latents that share 2. */
static tensor *stitch(graph *g, const oasis_model *model, tensor *c, int64_t window)
{
    int64_t latents = c->shape.size[1], known = 0;
    tensor *z = oas_tensor(g, OAS_F32, c->shape);
    z->shape.size[4] = model->file.config.latent_channels;
    size_t each = oas_bytes(z) / (size_t)latents / sizeof(float);
    for (int64_t first = 0; known < latents; first += window - 2) {
        if (first + window > latents)
            first = latents > window ? latents - window : 0;
        int64_t count = latents < window ? latents : window;
        const float *fresh = oas_restore(g, model, oas_frames(g, c, first, count))->data;
        for (int64_t i = first; i < first + count; i++) {
            float later = i >= known ? 1.f : i < known - 2 ? 0.f : (float)(i - (known - 2)) / 2.f;
            float *to = (float *)z->data + (size_t)i * each;
            for (size_t k = 0; k < each; k++)
                to[k] = (i < known ? (1 - later) * to[k] : 0) + later * fresh[(size_t)(i - first) * each + k];
        }
        known = first + count;
    }
    return z;
}

/* One window in space is the network applied to the whole clip, windows in time stitched as latents. */
static void check_network(oasis_model *model, struct clip clip, int window_latents)
{
    oasis_options o = fp32(1);
    o.window_frames = 4 * window_latents - 3;
    struct result r = run(model, &o, clip, 0);
    expect_end(&r, clip.frames);
    assert_int_equal(r.plan.windows, 1);
    device *d = NULL;
    oasis_message why;
    assert_int_equal(oas_device_new(&d, 1, &why), OASIS_OK);
    graph g = {.device = d, .backend = OAS_CPU, .compute = OAS_F32};
    assert_true(oas_arena_new(&g.memory, (size_t)128 << 20));
    tensor *pixels = oas_tensor(&g, OAS_F32, OAS_SHAPE5(1, clip.frames, clip.height, clip.width, 3));
    oasis_frame frame;
    assert_int_equal(oasis_frame_new(&frame, clip.width, clip.height, false), OASIS_OK);
    for (int i = 0; i < clip.frames; i++) {
        paint(&frame, i, 0);
        for (size_t k = 0; k < frame_values(&r); k++)
            ((float *)pixels->data)[(size_t)i * frame_values(&r) + k] = 2 * frame.rgb[k] - 1;
    }
    oasis_frame_free(&frame);
    tensor *z = stitch(&g, model, oas_project(&g, model, pixels, true), window_latents);
    tensor *out = oas_decode(&g, model, NULL, z, pixels);
    assert_non_null(out);
    double most = 0;
    for (size_t i = 0; i < (size_t)clip.frames * frame_values(&r); i++)
        most = fmax(most, fabs(0.5 * (double)((float *)out->data)[i] + 0.5 - (double)r.rgb[i]));
    assert_true(most < SAME);
    oas_arena_free(&g.memory);
    oas_device_free(&d);
    free(r.rgb);
}

static void test_is_the_network(void **state)
{
    struct fixture *f = *state;
    check_network(f->model, (struct clip){64, 48, 9, 0}, 5);  /* one window */
    check_network(f->model, (struct clip){32, 32, 17, 0}, 3); /* three that just fit */
    check_network(f->model, (struct clip){32, 32, 41, 0}, 5); /* 11 latents: the last window is moved back */
}

/* With sigma 0 the transformer has no say: any windows, in space and time, must give the same. */
static void test_windows_add_up(void **state)
{
    struct fixture *f = *state;
    const struct clip clip = {80, 56, 23, 0};
    double sigma = f->model->file.config.sigma;
    oasis_options o = fp32(4);
    o.window_size = 512;
    o.window_frames = 33;
    f->model->file.config.sigma = 0;
    struct result whole = run(f->model, &o, clip, 0);
    o.window_size = 96;
    o.window_frames = 9;
    struct result parts = run(f->model, &o, clip, 0);
    f->model->file.config.sigma = sigma;
    struct result other = run(f->model, &o, clip, 0);
    assert_int_equal(whole.plan.windows, 1);
    assert_true(parts.plan.windows > 10 && parts.statistics.windows > 2 * parts.plan.windows);
    assert_true(greatest_difference(&whole, &parts) < SAME);
    assert_true(greatest_difference(&parts, &other) > 100 * SAME); /* it would notice */
    free(whole.rgb), free(parts.rgb), free(other.rgb);
}

/* A small memory limit makes the decoder work in tiles with exact halos. */
static void test_tiles_are_exact(void **state)
{
    struct fixture *f = *state;
    const struct clip clip = {160, 100, 6, 0};
    oasis_options o = fp32(4);
    struct result whole = run(f->model, &o, clip, 0);
    expect_end(&whole, clip.frames);
    o.memory = whole.plan.peak_bytes * 9 / 10;
    struct result tiles = run(f->model, &o, clip, 0);
    expect_end(&tiles, clip.frames);
    assert_int_equal(whole.plan.tiles, 1);
    assert_true(tiles.plan.tiles > 1 && tiles.plan.peak_bytes <= o.memory);
    assert_true(greatest_difference(&whole, &tiles) < SAME);
    free(whole.rgb), free(tiles.rgb);
    o.memory = 1 << 20;
    struct result refused = run(f->model, &o, clip, 0);
    assert_int_equal(refused.status, OASIS_E_MEMORY);
    assert_non_null(strstr(refused.message.text, "--mem"));
}

/* Two shots give what each gives alone. */
static void test_cut(void **state)
{
    struct fixture *f = *state;
    oasis_options o = fp32(2);
    const struct clip both = {48, 32, 17, 10};
    struct result r = run(f->model, &o, both, 0);
    expect_end(&r, 17);
    assert_int_equal(r.statistics.shots, 2);
    struct result first = run(f->model, &o, (struct clip){48, 32, 10, 0}, 0);
    assert_memory_equal(r.rgb, first.rgb, 10 * frame_values(&r) * sizeof *r.rgb);
    o.scene_cuts = false;
    struct result without = run(f->model, &o, both, 0);
    assert_int_equal(without.statistics.shots, 1);
    assert_true(greatest_difference(&r, &without) > SAME);
    free(r.rgb), free(first.rgb), free(without.rgb);
}

static void test_strength(void **state)
{
    struct fixture *f = *state;
    oasis_options o = fp32(1);
    o.strength = 0;
    const struct clip clip = {32, 32, 2, 0};
    struct result r = run(f->model, &o, clip, 0);
    oasis_frame frame;
    assert_int_equal(oasis_frame_new(&frame, 32, 32, false), OASIS_OK);
    paint(&frame, 1, 0);
    for (size_t i = 0; i < frame_values(&r); i++)
        assert_true(fabsf(frame.rgb[i] - r.rgb[frame_values(&r) + i]) < 1e-6f);
    oasis_frame_free(&frame);
    o.strength = 1;
    o.color_fix = OASIS_COLOR_FIX_WAVELET;
    struct result fixed = run(f->model, &o, clip, 0);
    expect_end(&fixed, 2);
    free(r.rgb), free(fixed.rgb);
}

/*
 * A hidden value that is finite in fp32 and infinite in bf16, times a weight of 0: the window is NaN in bf16, and right
 * when it is computed again.  With a NaN in a bias nothing helps, and that is said.
 */
static void test_not_finite(void **state)
{
    (void)state;
    oasis_model *model = NULL;
    assert_int_equal(oasis_model_open(&model, MODEL, NULL), OASIS_OK);
    make_overflow(model);
    oasis_options o = fp32(2);
    const struct clip clip = {32, 24, 2, 0};
    struct result exact = run(model, &o, clip, 0);
    expect_end(&exact, 2);
    assert_int_equal(exact.statistics.windows_recomputed, 0);
    o.dtype = OASIS_DTYPE_AUTO;
    struct result again = run(model, &o, clip, 0);
    expect_end(&again, 2);
    if (again.plan.bf16) {
        assert_int_equal(again.statistics.windows_recomputed, again.statistics.windows);
        assert_true(greatest_difference(&exact, &again) < 0.02); /* the decoder still computes in bf16 */
    }
    make_nan(model);
    struct result failed = run(model, &o, clip, 0);
    assert_int_equal(failed.status, OASIS_E_MODEL);
    assert_non_null(strstr(failed.message.text, "not finite"));
    free(exact.rgb), free(again.rgb), free(failed.rgb);
    oasis_model_close(&model);
}

static void test_refusals(void **state)
{
    struct fixture *f = *state;
    static const struct {
        oasis_options change;
        const char *says;
    } cases[] = {{{.scale = 0.5}, "enlargement"},        {{.scale = 8.5}, "enlargement"},
                 {{.width = 64}, "both width and height"}, {{.scale = 2, .window_frames = 6}, "4n+1"},
                 {{.scale = 2, .window_size = 100}, "multiple of 16"}, {{.width = 8, .height = 8}, "enlargement"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oasis_options o = fp32(cases[i].change.scale > 0 ? cases[i].change.scale : 4);
        o.width = cases[i].change.width;
        o.height = cases[i].change.height;
        o.window_frames = cases[i].change.window_frames;
        o.window_size = cases[i].change.window_size;
        struct result r = run(f->model, &o, (struct clip){16, 16, 1, 0}, 0);
        assert_int_equal(r.status, OASIS_E_ARGUMENT);
        if (!strstr(r.message.text, cases[i].says))
            fail_msg("'%s' does not say '%s'", r.message.text, cases[i].says);
    }
    oasis_options o = fp32(2);
    oasis_upscaler *u = NULL;
    oasis_frame frame;
    assert_int_equal(oasis_upscaler_open(&u, f->model, &o, 16, 16, NULL), OASIS_OK);
    assert_int_equal(oasis_frame_new(&frame, 17, 16, false), OASIS_OK);
    assert_int_equal(oasis_upscaler_send(u, &frame), OASIS_E_ARGUMENT);
    assert_non_null(strstr(oasis_upscaler_message(u), "17x16"));
    assert_non_null(frame.rgb); /* still the caller's */
    oasis_frame_free(&frame);
    oasis_upscaler_cancel(u);
    assert_int_equal(oasis_upscaler_receive(u, &frame), OASIS_E_CANCELLED);
    oasis_upscaler_close(&u);
}

/* The queue takes a bounded number of frames, and then asks to be emptied. */
static void test_bounded(void **state)
{
    struct fixture *f = *state;
    oasis_options o = fp32(1);
    oasis_upscaler *u = NULL;
    oasis_frame frame;
    int sent = 0;
    assert_int_equal(oasis_upscaler_open(&u, f->model, &o, 16, 16, NULL), OASIS_OK);
    for (;; sent++) {
        assert_int_equal(oasis_frame_new(&frame, 16, 16, false), OASIS_OK);
        if (oasis_upscaler_send(u, &frame) == OASIS_AGAIN)
            break;
        assert_true(sent < 1000);
    }
    oasis_frame_free(&frame);
    assert_int_equal(oasis_upscaler_receive(u, &frame), OASIS_OK);
    oasis_frame_free(&frame);
    oasis_upscaler_close(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_length),   cmocka_unit_test(test_sizes),           cmocka_unit_test(test_threads_and_rhythm),
        cmocka_unit_test(test_is_the_network), cmocka_unit_test(test_windows_add_up),  cmocka_unit_test(test_tiles_are_exact),
        cmocka_unit_test(test_cut),            cmocka_unit_test(test_strength),        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_bounded),
    };
    return cmocka_run_group_tests_name("identity/upscaler", tests, setup, teardown);
}
