/*
 * The default model on the GPU (or the emulated one) against the CPU: stage by stage in fp32 and bf16, decoded latent by
 * latent, and whole frames through an upscaler, in one window and in several, with the same bits in a second run.
 * Without a GPU all is skipped.
 */
#include "cpu/device.h"
#include "model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* fp32: sums in another order through eight blocks and the decoder.  bf16: eight bits, rounded after every op. */
static const double TOLERANCE_FP32 = 1e-4, TOLERANCE_BF16 = 2e-2;

enum { FRAMES = 5, SIDE = 64, IN = 20 };

/* In the folder that OASIS_SOURCE names, for test programs that were built elsewhere, or where it was built. */
static const char *model_path(void)
{
    static char path[4096];
    const char *folder = getenv("OASIS_SOURCE");
    snprintf(path, sizeof path, "%s/models/oasis-nano.safetensors", folder ? folder : OASIS_SOURCE_DIR);
    return path;
}

struct fixture {
    oasis_model *model;
    device *cpu, *gpu;
    float *pixels;
};

static int setup(void **state)
{
    static struct fixture f;
    oasis_message why = {""};
    *state = &f;
    if (oas_cuda_count() == 0)
        return 0;
    if (oasis_model_open(&f.model, model_path(), &why) < 0 || oas_device_open(&f.cpu, "cpu", 2, &why) < 0 ||
        oas_device_open(&f.gpu, "cuda", 2, &why) < 0)
        fail_msg("%s", why.text);
    f.pixels = malloc((size_t)FRAMES * SIDE * SIDE * 3 * sizeof *f.pixels);
    assert_non_null(f.pixels);
    for (int i = 0; i < FRAMES * SIDE * SIDE * 3; i++) {
        int x = i / 3 % SIDE, y = i / 3 / SIDE % SIDE, t = i / 3 / SIDE / SIDE;
        f.pixels[i] = (float)(0.5 * sin(0.3 * (x + t) + i % 3) * cos(0.2 * y) + 0.3 * sin(0.9 * x - 0.7 * y));
    }
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    oas_device_free(&f->cpu);
    oas_device_free(&f->gpu);
    oasis_model_close(&f->model); /* its forms on the GPU may outlive the device */
    free(f->pixels);
    return 0;
}

static float *on_host(graph *g, const tensor *t, int64_t *count)
{
    if (!t || g->status < 0)
        fail_msg("%s", g->message.text);
    *count = oas_count(&t->shape);
    float *values = malloc((size_t)*count * sizeof *values);
    assert_non_null(values);
    assert_int_equal(t->dtype, OAS_F32);
    assert_int_equal(oas_graph_download(g, values, t), OASIS_OK);
    return values;
}

typedef struct results {
    float *c, *z, *frames;
    int64_t n[3];
} results;

/* Projection, restoration and frames; every stage from the CPU's fp32 result of the one before (NULL: its own). */
static results run(struct fixture *f, device *d, oas_dtype compute, const results *from)
{
    graph g = oas_device_graph(d, compute);
    results r;
    assert_true(oas_graph_open(&g, (size_t)192 << 20));
    tensor *pixels = oas_tensor(&g, OAS_F32, OAS_SHAPE5(1, FRAMES, SIDE, SIDE, 3));
    oas_graph_upload(&g, pixels, f->pixels);
    tensor *c = oas_project(&g, f->model, pixels, true);
    r.c = on_host(&g, c, &r.n[0]);
    oas_graph_upload(&g, c, from ? from->c : r.c);
    tensor *z = oas_restore(&g, f->model, c);
    r.z = on_host(&g, z, &r.n[1]);
    oas_graph_upload(&g, z, from ? from->z : r.z);
    decoder_state state = {0};
    tensor *first = oas_decode(&g, f->model, &state, oas_frames(&g, z, 0, 1), oas_frames(&g, pixels, 0, 1));
    tensor *rest = oas_decode(&g, f->model, &state, oas_frames(&g, z, 1, 1), oas_frames(&g, pixels, 1, FRAMES - 1));
    r.frames = on_host(&g, oas_join_frames(&g, first, rest), &r.n[2]);
    oas_state_free(&state);
    oas_graph_close(&g);
    return r;
}

static void free_results(results *r)
{
    free(r->c);
    free(r->z);
    free(r->frames);
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

static void test_stages(void **state)
{
    struct fixture *f = *state;
    if (!f->gpu)
        skip();
    results expected = run(f, f->cpu, OAS_F32, NULL);
    for (oas_dtype type = OAS_F32; type < OAS_DTYPES; type++) {
        results got = run(f, f->gpu, type, &expected);
        double tolerance = type == OAS_F32 ? TOLERANCE_FP32 : TOLERANCE_BF16;
        double error[3] = {relative_error(got.c, expected.c, got.n[0]), relative_error(got.z, expected.z, got.n[1]),
                           relative_error(got.frames, expected.frames, got.n[2])};
        print_message("    %s: projected %.1e, restored %.1e, frames %.1e\n", oas_dtype_name(type), error[0], error[1],
                      error[2]);
        for (int i = 0; i < 3; i++)
            assert_true(error[i] < tolerance);
        free_results(&got);
    }
    free_results(&expected);
}

/* ---- upscaling --------------------------------------------------------------------------------------------------------- */

static void send(oasis_upscaler *u, int frame)
{
    oasis_frame in;
    assert_int_equal(oasis_frame_new(&in, IN, IN, false), OASIS_OK);
    for (int i = 0; i < IN * IN * 3; i++)
        in.rgb[i] =
            (float)(0.5 + 0.3 * sin(0.7 * (i / 3 % IN) + frame) * cos(0.5 * (i / 3 / IN)) + 0.1 * sin(i % 3 + 0.9 * i));
    if (oasis_upscaler_send(u, &in) != OASIS_OK)
        fail_msg("%s", oasis_upscaler_message(u));
}

/* All frames, one after the other. */
static float *upscaled(struct fixture *f, const oasis_options *o, size_t *count)
{
    oasis_upscaler *u = NULL;
    oasis_message why = {""};
    oasis_plan plan;
    if (oasis_upscaler_open(&u, f->model, o, IN, IN, &why) < 0)
        fail_msg("%s", why.text);
    oasis_upscaler_plan(u, &plan);
    size_t each = (size_t)plan.width * (size_t)plan.height * 3;
    float *all = malloc(FRAMES * each * sizeof *all);
    assert_non_null(all);
    *count = 0;
    for (int sent = 0;;) {
        oasis_frame out = {0};
        oasis_status s = oasis_upscaler_receive(u, &out);
        if (s == OASIS_AGAIN && sent < FRAMES) {
            send(u, sent++);
        } else if (s == OASIS_AGAIN) {
            oasis_upscaler_send(u, NULL);
        } else if (s == OASIS_OK) {
            memcpy(all + *count, out.rgb, each * sizeof *all);
            *count += each;
            oasis_frame_free(&out);
        } else if (s == OASIS_END) {
            break;
        } else {
            fail_msg("%s", oasis_upscaler_message(u));
        }
    }
    assert_int_equal(*count, FRAMES * each);
    oasis_upscaler_close(&u);
    return all;
}

static void compare_upscalers(struct fixture *f, oasis_options o)
{
    size_t n, m;
    o.device = "cpu";
    o.dtype = OASIS_DTYPE_FP32;
    float *expected = upscaled(f, &o, &n);
    o.device = "cuda";
    setenv("OASIS_EMULATED_ORDER", "forwards", 1);
    float *got = upscaled(f, &o, &m);
    setenv("OASIS_EMULATED_ORDER", "backwards", 1);
    float *again = upscaled(f, &o, &m);
    assert_int_equal(n, m);
    assert_memory_equal(got, again, n * sizeof *got);
    double error = relative_error(got, expected, (int64_t)n);
    print_message("    frames %.1e\n", error);
    assert_true(error < TOLERANCE_FP32);
    free(expected);
    free(got);
    free(again);
}

static void test_upscaler(void **state)
{
    struct fixture *f = *state;
    if (!f->gpu)
        skip();
    oasis_options o;
    oasis_options_init(&o);
    o.scale = 3;
    o.window_frames = 5;
    compare_upscalers(f, o);
    o.strength = 0.7;
    o.color_fix = OASIS_COLOR_FIX_WAVELET;
    o.width = 100;
    o.height = 110; /* not a multiple of anything */
    o.window_size = 96;
    compare_upscalers(f, o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stages),
        cmocka_unit_test(test_upscaler),
    };
    return cmocka_run_group_tests_name("cuda/network", tests, setup, teardown);
}
