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
    const oasis_bench_row row = {stage, name, detail, oas_dtype_name(type), unit, value, rate * 1e-9};
    if (!b->stopped && !b->row(b->user, &row))
        b->stopped = true;
}

/* ---- the transformer ------------------------------------------------------------------------------------------------- */

static shape window_shape(const bench *b)
{
    enum { P = OAS_LATENT_PIXELS };
    return OAS_SHAPE5(1, LATENTS, HEIGHT / P, WIDTH / P, b->model->file.config.in_dim);
}

/* Bytes of a pass, the window included; *flops counts its work.  0 after a failure. */
static size_t plan_transformer(bench *b, oas_dtype type, double *flops)
{
    graph g = oas_device_graph(b->device, type);
    g.planning = true;
    oas_arena_count(&g.memory);
    if (!oas_arena_new(&g.headers, 4 << 20))
        return 0;
    oas_restore(&g, b->model, oas_tensor(&g, OAS_F32, window_shape(b)));
    if (g.status < 0)
        oas_fail(b->message, b->graph.status = g.status, "%s", g.message.text);
    *flops = g.flops;
    oas_arena_free(&g.headers);
    return g.status < 0 ? 0 : g.memory.peak;
}

/* Seconds of `calls` passes one after the other; below 0 after a failure. */
static double passes_seconds(bench *b, tensor *window, int calls)
{
    graph *g = &b->graph;
    double start = oas_now();
    for (int i = 0; i < calls; i++) {
        size_t mark = oas_graph_mark(g);
        if (!oas_restore(g, b->model, window))
            return -1;
        oas_graph_release(g, mark);
    }
    if (g->cuda && oas_cuda_wait(g->cuda, b->message) < 0)
        return -1;
    return oas_now() - start;
}

/* Each op waited for: what share of the time each kind takes, and the rate of the linear layers. */
static void report_stages(bench *b, tensor *window, oas_dtype type)
{
    graph *g = &b->graph;
    memset(g->stages, 0, sizeof g->stages);
    g->timed = true;
    double seconds = passes_seconds(b, window, 1);
    g->timed = false;
    if (seconds <= 0)
        return;
    for (int i = 0; i < OAS_MAX_STAGES && g->stages[i].name; i++) {
        const stage_time *s = &g->stages[i];
        double rate = s->seconds > 0 ? s->flops / s->seconds : 0;
        report(b, "transformer", "transformer_stage_share", s->name, type, "of time", s->seconds / seconds, rate);
        if (strcmp(s->name, "dense") == 0)
            report(b, "transformer", "transformer_dense_fraction", "linear layers", type, "of peak",
                   rate / b->peak[type], rate);
    }
}

/* ---- heads ------------------------------------------------------------------------------------------------------------- */

enum { HEADS = 4, HEAD_WIDTH = 128 };

/* Seconds of four heads of a kind on the window's tokens, or below 0. */
static double heads_seconds(bench *b, oas_dtype type, char kind, double *flops)
{
    const token_grid grid = {1, LATENTS, HEIGHT / OAS_PIXEL_STEP, WIDTH / OAS_PIXEL_STEP};
    const route_layer route = {.heads = HEADS, .kind = {kind, kind, kind, kind}, .window = {3, 5, 5}};
    const shape s = OAS_SHAPE2(oas_grid_tokens(&grid), HEADS * HEAD_WIDTH);
    const double enough = 0.2;
    graph *g = &b->graph;
    oas_graph_close(g);
    *g = oas_device_graph(b->device, type);
    if (b->stopped || !oas_graph_open(g, (size_t)1 << 30))
        return -1;
    sampler r = {.graph = g, .activation = type};
    tensor *q = oas_sample_activation(&r, s, 1), *k = oas_sample_activation(&r, s, 1),
           *v = oas_sample_activation(&r, s, 1);
    int calls = 1;
    for (;;) {
        double start = oas_now();
        g->flops = 0;
        for (int i = 0; i < calls; i++) {
            size_t mark = oas_graph_mark(g);
            if (!oas_attention(g, q, k, v, &grid, &route))
                return -1;
            oas_graph_release(g, mark);
        }
        if (g->cuda && oas_cuda_wait(g->cuda, b->message) < 0)
            return -1;
        double t = oas_now() - start;
        *flops = g->flops / calls;
        if (t >= enough)
            return t / calls;
        calls *= 4;
    }
}

static void report_heads(bench *b, oas_dtype type)
{
    static const char kinds[] = {OAS_HEAD_GLOBAL, OAS_HEAD_INTRA, OAS_HEAD_WINDOW};
    static const char *const details[] = {"4 global heads of 128, 9 x 45 x 80", "4 own-frame heads", "4 window heads"};
    double seconds[3], flops;
    for (int i = 0; i < 3; i++) {
        seconds[i] = heads_seconds(b, type, kinds[i], &flops);
        if (seconds[i] > 0)
            report(b, "transformer", "heads_s", details[i], type, "s", seconds[i], flops / seconds[i]);
    }
    if (seconds[0] > 0 && seconds[2] > 0)
        report(b, "transformer", "heads_window_speedup", "over global, 3x5x5 at 9 x 45 x 80", type, "times",
               seconds[0] / seconds[2], 0);
}

void oas_bench_transformer(bench *b)
{
    const double enough = 0.5; /* seconds of a repetition */
    oas_dtype type = oas_device_has_bf16(b->device) ? OAS_BF16 : OAS_F32;
    double flops = 0, best = -1;
    size_t bytes = b->stopped ? 0 : plan_transformer(b, type, &flops);
    graph *g = &b->graph;
    if (bytes == 0)
        return;
    oas_graph_close(g);
    *g = oas_device_graph(b->device, type);
    if (!oas_graph_open(g, bytes + (1 << 20))) {
        g->status = oas_fail_memory(b->message, bytes, "measuring the transformer");
        return;
    }
    sampler s = {.graph = g, .activation = OAS_F32};
    tensor *window = oas_sample_floats(&s, window_shape(b), 1);
    double once = window ? passes_seconds(b, window, 1) : -1; /* weights go to where they are used */
    if (once > 0 && (once = passes_seconds(b, window, 1)) <= 0)
        return;
    int calls = once < enough ? (int)(enough / once) + 1 : 1;
    for (int i = 0; i < 3 && once > 0 && !b->stopped; i++) {
        double t = passes_seconds(b, window, calls) / calls;
        best = t > 0 && (best < 0 || t < best) ? t : best;
    }
    if (best <= 0)
        return;
    report(b, "transformer", "transformer_s", WINDOW, type, "s", best, flops / best);
    report(b, "transformer", "transformer_fraction", "the same", type, "of peak", flops / best / b->peak[type],
           flops / best);
    report_stages(b, window, type);
    report_heads(b, type);
}

/* ---- whole steps ----------------------------------------------------------------------------------------------------- */

enum { SHOTS = 4 }; /* the first is not timed: it brings weights to the GPU and chooses kernels */

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

/* All frames, in and out.  *seconds: from when the last frame of the first shot is out until the last is. */
static oasis_status run_shots(bench *b, oasis_upscaler *u, oasis_frame *frame, double *seconds)
{
    oasis_status s = OASIS_OK;
    double start = 0;
    int sent = 0, got = 0;
    while (s >= 0 && got < SHOTS * FRAMES && !b->stopped) {
        oasis_frame out;
        s = oasis_upscaler_receive(u, &out);
        if (s == OASIS_OK) {
            got++;
            oasis_frame_free(&out);
            start = got == FRAMES ? oas_now() : start;
        } else if (s == OASIS_AGAIN) {
            s = oasis_upscaler_send(u, sent < SHOTS * FRAMES ? &frame[sent] : NULL);
            sent++;
        }
    }
    *seconds = oas_now() - start;
    return s < 0 ? oas_fail(b->message, s, "%s", oasis_upscaler_message(u)) : OASIS_OK;
}

static void report_step(bench *b, const oasis_plan *plan, const oasis_statistics *done, double seconds)
{
    oas_dtype type = plan->bf16 ? OAS_BF16 : OAS_F32;
    const int frames = (SHOTS - 1) * FRAMES;
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
    report(b, "step", "step_s", "the same, 33 frames", type, "s", seconds / (SHOTS - 1), 0);
    report(b, "step", "step_planned_bytes", "held by the upscaler, frames and weights included", type, "bytes",
           (double)done->peak_bytes, 0);
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
    double seconds = 0;
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
        s = run_shots(b, u, frame, &seconds);
    if (s == OASIS_OK && !b->stopped) {
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
