/*
 * Measuring a large model at 1280x720, 33 frames at a time: its transformer alone, and whole steps.
 */
#include "bench.h"

#include "tensor/sampler.h"
#include "upscale.h"

#include <string.h>

enum { WIDTH = 1280, HEIGHT = 720, SCALE = 4, FRAMES = 33, LATENTS = (FRAMES - 1) / OAS_LATENT_FRAMES + 1 };

static const char WINDOW[] = "a window of 33 frames of 1280 x 720";

static void report(bench *b, const char *stage, const char *name, const char *detail, oas_dtype type, const char *unit,
                   double value, double rate)
{
    oas_bench_report(b, (oasis_bench_row){stage, name, detail, oas_dtype_name(type), unit, value, rate * 1e-9});
}

/* ---- the transformer ------------------------------------------------------------------------------------------------- */

struct restore_call {
    const oasis_model *model;
    tensor *window;
};

static tensor *call_restore(graph *g, void *arg)
{
    const struct restore_call *c = arg;
    return oas_restore(g, c->model, c->window);
}

static shape window_shape(const oasis_model *model)
{
    enum { P = OAS_LATENT_PIXELS };
    return OAS_SHAPE5(1, LATENTS, HEIGHT / P, WIDTH / P, model->file.config.in_dim);
}

static tensor *plan_restore(graph *g, void *arg)
{
    return oas_restore(g, arg, oas_tensor(g, OAS_F32, window_shape(arg)));
}

/* Each op waited for: what share of the time each kind takes, and the rate of the linear layers. */
static void report_stages(bench *b, struct restore_call *c, oas_dtype type)
{
    graph *g = &b->graph;
    memset(g->stages, 0, sizeof g->stages);
    g->timed = true;
    double start = oas_now();
    bool ok = call_restore(g, c) != NULL;
    double seconds = oas_now() - start;
    g->timed = false;
    for (int i = 0; ok && i < OAS_MAX_STAGES && g->stages[i].name; i++) {
        const stage_time *s = &g->stages[i];
        double rate = s->seconds > 0 ? s->flops / s->seconds : 0;
        report(b, "transformer", "transformer_stage_share", s->name, type, "of time", s->seconds / seconds, rate);
        if (strcmp(s->name, "dense") == 0)
            report(b, "transformer", "transformer_dense_fraction", "linear layers", type, "of peak",
                   rate / b->peak[type], rate);
    }
}

/* ---- heads ------------------------------------------------------------------------------------------------------------- */

static void report_heads(bench *b, oas_dtype type)
{
    static const char kinds[] = {OAS_HEAD_GLOBAL, OAS_HEAD_INTRA, OAS_HEAD_WINDOW};
    static const char *const details[] = {"4 global heads of 128, 9 x 45 x 80", "4 own-frame heads", "4 window heads"};
    const token_grid grid = {1, LATENTS, HEIGHT / OAS_PIXEL_STEP, WIDTH / OAS_PIXEL_STEP};
    double seconds[3], flops;
    for (int i = 0; i < 3; i++) {
        seconds[i] = oas_bench_heads(b, type, kinds[i], 4, &grid, &flops);
        if (seconds[i] > 0)
            report(b, "transformer", "heads_s", details[i], type, "s", seconds[i], flops / seconds[i]);
    }
    if (seconds[0] > 0 && seconds[2] > 0)
        report(b, "transformer", "heads_window_speedup", "over global, 3x5x5 at 9 x 45 x 80", type, "times",
               seconds[0] / seconds[2], 0);
}

void oas_bench_transformer(bench *b)
{
    oas_dtype type = oas_device_has_bf16(b->device) ? OAS_BF16 : OAS_F32;
    double flops = 0;
    size_t bytes = b->stopped ? 0 : oas_bench_plan(b, type, plan_restore, b->model, &flops);
    if (bytes == 0 || !oas_bench_begin(b, type, bytes + (1 << 20)))
        return;
    sampler s = {.graph = &b->graph, .activation = OAS_F32};
    struct restore_call c = {b->model, oas_sample_floats(&s, window_shape(b->model), 1)};
    size_t mark = oas_graph_mark(&b->graph);
    bool ok = c.window && call_restore(&b->graph, &c); /* weights go to where they are used */
    oas_graph_release(&b->graph, mark);
    double t = ok ? oas_bench_seconds(b, call_restore, &c) : -1;
    if (t <= 0)
        return;
    report(b, "transformer", "transformer_s", WINDOW, type, "s", t, flops / t);
    report(b, "transformer", "transformer_fraction", "the same", type, "of peak", flops / t / b->peak[type], flops / t);
    report_stages(b, &c, type);
    report_heads(b, type);
}

/* ---- whole steps ----------------------------------------------------------------------------------------------------- */

/* The first are not timed: they bring weights to the GPU, choose kernels and record what is then launched as one. */
enum { FIRST = 3, SHOTS = FIRST + 3 };

/* A picture that moves, of another shot another one. */
static void draw(oasis_frame *f, int shot, int t)
{
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++) {
            int u = (x + 2 * t) / 40, v = (y + t) / (shot % 2 ? 45 : 20);
            float checker = (float)((u + v * (1 + shot % 2)) % (2 + shot % 2)) / 2.f,
                  fine = (float)((x * 7 + y) % 13) / 130.f;
            for (int c = 0; c < 3; c++)
                f->rgb[((size_t)y * (size_t)f->width + (size_t)x) * 3 + (size_t)c] =
                    shot % 2 ? 0.9f - 0.6f * checker - fine : 0.05f + 0.7f * checker + fine * (float)(c + 1) / 3;
        }
}

static oasis_status draw_shots(oasis_frame *frame)
{
    oasis_status s = OASIS_OK;
    for (int i = 0; i < SHOTS * FRAMES && s == OASIS_OK; i++) {
        s = oasis_frame_new(&frame[i], WIDTH / SCALE, HEIGHT / SCALE, false);
        if (s == OASIS_OK)
            draw(&frame[i], i / FRAMES, i % FRAMES);
    }
    return s;
}

static void report_step(bench *b, const oasis_plan *plan, const oasis_statistics *done, double seconds)
{
    oas_dtype type = plan->bf16 ? OAS_BF16 : OAS_F32;
    const int frames = (SHOTS - FIRST) * FRAMES;
    if (done->shots != SHOTS || plan->windows != 1 || plan->window_frames != FRAMES) {
        b->graph.status =
            oas_fail(b->message, OASIS_E_UNSUPPORTED,
                     "a step was to be %d shots of one window; there were %lld shots, and windows of %d frames, %d "
                     "to a frame, for want of memory",
                     SHOTS, (long long)done->shots, plan->window_frames, plan->windows);
        return;
    }
    report(b, "step", "step_fps", "33 frames of 320 x 180 to 1280 x 720, raw to raw", type, "frames/s",
           frames / seconds, 0);
    report(b, "step", "step_s", "the same, 33 frames", type, "s", seconds / (SHOTS - FIRST), 0);
    double flops, planned;
    oasis_plan_shot(plan, FRAMES, &flops, &planned);
    report(b, "step", "step_predicted_over_measured_s", "time of 33 frames, planned", type, "times",
           planned * (SHOTS - FIRST) / seconds, 0);
    report(b, "step", "step_planned_bytes", "held by the upscaler, frames and weights included", type, "bytes",
           (double)done->peak_bytes, 0);
    oas_bench_parts(b, "step", oas_dtype_name(type), done);
    if (b->device->cuda) {
        size_t available, total;
        oas_cuda_memory(b->device->cuda, &available, &total);
        report(b, "step", "step_gpu_bytes", "of the GPU taken, by others too", type, "bytes",
               (double)(total - available), 0);
    }
}

void oas_bench_step(bench *b)
{
    oasis_options o;
    oasis_upscaler *u = NULL;
    oasis_plan plan;
    oasis_statistics done;
    oasis_frame frame[SHOTS * FRAMES] = {{0}};
    device_name name = oas_device_name(b->device);
    if (b->stopped)
        return;
    oas_graph_close(&b->graph); /* its memory is not the upscaler's */
    b->graph = oas_device_graph(b->device, OAS_F32);
    oasis_options_init(&o);
    o.device = name.text;
    o.threads = oas_pool_workers(b->device->pool);
    o.window_frames = FRAMES;
    o.window_size = WIDTH;
    oasis_status s = oasis_upscaler_open(&u, b->model, &o, WIDTH / SCALE, HEIGHT / SCALE, b->message);
    if (s == OASIS_OK && draw_shots(frame) < 0)
        s = oas_fail_memory(b->message, sizeof(float) * WIDTH * HEIGHT, "measured frames");
    if (s == OASIS_OK)
        oasis_upscaler_calibrate(u);
    double seconds = s == OASIS_OK ? oas_bench_clip(b, u, frame, SHOTS * FRAMES, FIRST * FRAMES) : -1;
    if (seconds > 0 && !b->stopped) {
        oasis_upscaler_plan(u, &plan);
        oasis_upscaler_statistics(u, &done);
        report_step(b, &plan, &done, seconds);
    } else if (s < 0) {
        b->graph.status = s;
    }
    oasis_upscaler_close(&u);
    for (int i = 0; i < SHOTS * FRAMES; i++)
        oasis_frame_free(&frame[i]);
}
