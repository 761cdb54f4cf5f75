/*
 * Measuring the parts of oasis against the machine's own peak, in one run.
 *
 * Every figure goes through the ops that networks use, so that what is measured is what runs.  A time is the median of
 * repetitions that fill about half a second; fractions are of the peak that was measured in the same run.
 */
#include "bench.h"

#include "cpu/peak.h"
#include "tensor/sampler.h"
#include "upscale.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void oas_bench_report(bench *b, oasis_bench_row row)
{
    if (!b->stopped && !b->row(b->user, &row))
        b->stopped = true;
}

/* ---- timing one op ------------------------------------------------------------------------------------------------------ */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

enum { MOST_RUNS = 101 };

double oas_bench_seconds(bench *b, bench_call *call, void *arg)
{
    double times[MOST_RUNS], begin = oas_now();
    int n = 0;
    graph *g = &b->graph;
    const int calls = g->cuda ? 10 : 1; /* a GPU is kept busy, so that what is timed is not how fast calls are made */
    while (n < MOST_RUNS && (n < 3 || oas_now() - begin < 0.5)) {
        size_t mark = oas_graph_mark(g);
        double start = oas_now();
        for (int i = 0; i < calls; i++) {
            if (!call(g, arg))
                return -1;
            oas_graph_release(g, mark);
        }
        if (g->cuda && oas_cuda_wait(g->cuda, b->message) < 0)
            return -1;
        times[n++] = (oas_now() - start) / calls;
        if (times[n - 1] > 3)
            break;
    }
    qsort(times, (size_t)n, sizeof *times, compare_doubles);
    return times[n / 2];
}

bool oas_bench_begin(bench *b, oas_dtype compute, size_t bytes)
{
    graph *g = &b->graph;
    oas_graph_close(g);
    *g = oas_device_graph(b->device, compute);
    if (oas_graph_open(g, bytes))
        return true;
    oas_fail_memory(b->message, bytes, "measuring");
    g->status = OASIS_E_MEMORY;
    return false;
}

size_t oas_bench_plan(bench *b, oas_dtype compute, bench_call *call, void *arg, double *flops)
{
    graph g = oas_device_graph(b->device, compute);
    g.planning = true;
    oas_arena_count(&g.memory);
    if (!oas_arena_new(&g.headers, 4 << 20))
        return 0;
    call(&g, arg);
    if (g.status < 0)
        oas_fail(b->message, b->graph.status = g.status, "%s", g.message.text);
    *flops = g.flops;
    oas_arena_free(&g.headers);
    return g.status < 0 ? 0 : g.memory.peak;
}

/* ---- stages --------------------------------------------------------------------------------------------------------------- */

static tensor *call_dense(graph *g, void *arg);

struct dense_call {
    tensor *x;
    linear layer;
};

/* A GPU's peak is that of its largest product. */
static double gpu_peak(bench *b, oas_dtype type)
{
    const int64_t n = type == OAS_F32 ? 4096 : 8192;
    parameter_set weights = {.create = true, .path = "bench"};
    if (!oas_bench_begin(b, type, (size_t)(n * n) * 16 + (64 << 20)))
        return 1;
    sampler s = {.graph = &b->graph, .activation = type};
    struct dense_call c = {oas_sample_activation(&s, OAS_SHAPE2(n, n), 1), {NULL, NULL}};
    c.layer.weight = oas_parameter(&weights, OAS_MATRIX, OAS_SHAPE2(n, n), "w");
    double t = weights.status < 0 ? -1 : oas_bench_seconds(b, call_dense, &c);
    oas_parameters_free(&weights);
    return t > 0 ? 2. * (double)(n * n * n) / t : 1;
}

static void bench_peak(bench *b)
{
    const char *detail = b->device->cuda ? "the largest product" : "multiply-adds on registers";
    for (oas_dtype t = OAS_F32; t < OAS_DTYPES; t++) {
        if (t == OAS_F32 || oas_device_has_bf16(b->device))
            oas_bench_report(b, (oasis_bench_row){"peak", "peak_gflops", detail, oas_dtype_name(t), "GFLOP/s",
                                                  b->peak[t] * 1e-9, b->peak[t] * 1e-9});
    }
}

static tensor *call_dense(graph *g, void *arg)
{
    struct dense_call *c = arg;
    return oas_linear(g, c->x, &c->layer, OAS_LINEAR, NULL, g->compute);
}

/* A product with weights packed beforehand, as a model's are. */
static void bench_dense_one(bench *b, oas_dtype type, int64_t m, int64_t k, int64_t n, const char *name,
                            const char *detail)
{
    size_t bytes = (size_t)(m * k + m * n + k * n) * 8 + (64 << 20);
    parameter_set weights = {.create = true, .path = "bench"};
    if (b->stopped || !oas_bench_begin(b, type, bytes))
        return;
    sampler s = {.graph = &b->graph, .activation = type};
    struct dense_call c = {oas_sample_activation(&s, OAS_SHAPE2(m, k), 1), {NULL, NULL}};
    c.layer.weight = oas_parameter(&weights, OAS_MATRIX, OAS_SHAPE2(n, k), "w");
    c.layer.bias = oas_parameter(&weights, OAS_VECTOR, OAS_SHAPE1(n), "b");
    double t = weights.status < 0 ? -1 : oas_bench_seconds(b, call_dense, &c);
    double rate = 2. * (double)m * (double)k * (double)n / t;
    if (t > 0)
        oas_bench_report(b, (oasis_bench_row){"dense", name, detail, oas_dtype_name(type), "of peak",
                                              rate / b->peak[type], rate * 1e-9});
    oas_parameters_free(&weights);
}

static void bench_dense(bench *b)
{
    for (oas_dtype t = OAS_F32; t < OAS_DTYPES; t++) {
        if (t == OAS_BF16 && !oas_device_has_bf16(b->device))
            continue;
        bench_dense_one(b, t, 4096, 1536, 1536, "dense_fraction", "4096 x 1536 to 1536");
        bench_dense_one(b, t, 4096, 1536, 8960, "dense_fraction", "4096 x 1536 to 8960");
        bench_dense_one(b, t, 4096, 8960, 1536, "dense_fraction", "4096 x 8960 to 1536");
        bench_dense_one(b, t, 4096, 256, 256, "dense_small_fraction", "4096 x 256 to 256");
        bench_dense_one(b, t, 4096, 256, 1024, "dense_small_fraction", "4096 x 256 to 1024");
        bench_dense_one(b, t, 4096, 1024, 256, "dense_small_fraction", "4096 x 1024 to 256");
        bench_dense_one(b, t, 4096, 1024, 1024, "dense_small_fraction", "4096 x 1024 to 1024");
    }
}

struct conv_call {
    tensor *x;
    conv layer;
};

static tensor *call_conv(graph *g, void *arg)
{
    struct conv_call *c = arg;
    return oas_conv(g, c->x, &c->layer, NULL, OAS_LINEAR, NULL);
}

static void bench_conv_one(bench *b, oas_dtype type, int64_t height, int64_t width, int64_t channels,
                           const char *detail)
{
    size_t bytes = (size_t)(2 * height * width * channels) * 8 + (64 << 20);
    parameter_set weights = {.create = true, .path = "bench"};
    if (b->stopped || !oas_bench_begin(b, type, bytes))
        return;
    sampler s = {.graph = &b->graph, .activation = type};
    struct conv_call c = {oas_sample_activation(&s, OAS_SHAPE5(1, 2, height, width, channels), 1), {NULL, NULL}};
    c.layer.weight = oas_parameter(&weights, OAS_MATRIX, OAS_SHAPE4(channels, channels, 3, 3), "w");
    c.layer.bias = oas_parameter(&weights, OAS_VECTOR, OAS_SHAPE1(channels), "b");
    double t = weights.status < 0 ? -1 : oas_bench_seconds(b, call_conv, &c);
    double rate = 2. * 2. * (double)(height * width) * 9. * (double)channels * (double)channels / t;
    if (t > 0)
        oas_bench_report(b, (oasis_bench_row){"conv", "conv_fraction", detail, oas_dtype_name(type), "of peak",
                                              rate / b->peak[type], rate * 1e-9});
    oas_parameters_free(&weights);
}

static oas_dtype best_type(const bench *b)
{
    return oas_device_has_bf16(b->device) ? OAS_BF16 : OAS_F32;
}

struct decode_call {
    const oasis_model *model;
    tensor *z, *pixels;
    decoder_state state;
};

static tensor *call_decode(graph *g, void *arg)
{
    struct decode_call *c = arg;
    return oas_decode(g, c->model, &c->state, c->z, c->pixels);
}

enum { WIDTH = 1280, HEIGHT = 720 };

/* One latent, its input included. */
static tensor *plan_decode(graph *g, void *arg)
{
    const oasis_model *model = arg;
    decoder_state state = {.started = true};
    tensor *z = oas_tensor(g, OAS_F32, OAS_SHAPE5(1, 1, HEIGHT / 8, WIDTH / 8, model->file.config.latent_channels));
    tensor *y =
        oas_decode(g, model, &state, z, oas_tensor(g, OAS_F32, OAS_SHAPE5(1, OAS_LATENT_FRAMES, HEIGHT, WIDTH, 3)));
    oas_state_free(&state);
    return y;
}

/* The model's decoder on one latent of a 1280x720 picture, after the first one. */
static void bench_decoder(bench *b)
{
    oas_dtype type = best_type(b);
    double flops = 0;
    size_t bytes = b->stopped ? 0 : oas_bench_plan(b, type, plan_decode, b->model, &flops);
    if (bytes == 0 || !oas_bench_begin(b, type, bytes + (1 << 20)))
        return;
    sampler s = {.graph = &b->graph, .activation = OAS_F32};
    struct decode_call c = {.model = b->model};
    c.z = oas_sample_floats(&s, OAS_SHAPE5(1, 1, HEIGHT / 8, WIDTH / 8, b->model->file.config.latent_channels), 1);
    c.pixels = oas_sample_floats(&s, OAS_SHAPE5(1, OAS_LATENT_FRAMES, HEIGHT, WIDTH, 3), 1);
    tensor first = c.pixels ? *c.pixels : (tensor){0};
    first.shape.size[1] = 1;
    tensor *all = c.pixels;
    c.pixels = &first;
    size_t mark = oas_graph_mark(&b->graph);
    bool ok = all && call_decode(&b->graph, &c);
    oas_graph_release(&b->graph, mark);
    c.pixels = all;
    double t = ok ? oas_bench_seconds(b, call_decode, &c) : -1;
    if (t > 0)
        oas_bench_report(b, (oasis_bench_row){"conv", "decoder_fraction", "the model's decoder, 4 frames of 1280 x 720",
                                              oas_dtype_name(type), "of peak", flops / t / b->peak[type],
                                              flops / t * 1e-9});
    oas_state_free(&c.state);
}

static void bench_conv(bench *b)
{
    for (oas_dtype t = OAS_F32; t < OAS_DTYPES; t++) {
        if (t == OAS_BF16 && !oas_device_has_bf16(b->device))
            continue;
        bench_conv_one(b, t, 180, 320, 64, "3x3, 64 channels, 180 x 320");
        bench_conv_one(b, t, 180, 320, 128, "3x3, 128 channels, 180 x 320");
    }
    bench_decoder(b);
}

struct attention_call {
    tensor *q, *k, *v;
    token_grid grid;
    route_layer route;
};

static tensor *call_attention(graph *g, void *arg)
{
    struct attention_call *c = arg;
    return oas_attention(g, c->q, c->k, c->v, &c->grid, &c->route);
}

double oas_bench_heads(bench *b, oas_dtype type, char kind, int heads, const token_grid *grid, double *flops)
{
    enum { HEAD_WIDTH = 128 };
    struct attention_call c = {.grid = *grid, .route = {.heads = heads, .window = {3, 5, 5}}};
    memset(c.route.kind, kind, (size_t)heads);
    shape s = OAS_SHAPE2(oas_grid_tokens(&c.grid), heads * HEAD_WIDTH);
    /* Queries, keys, values, results, and as much again twice over for what kernels put beside them. */
    size_t bytes = (size_t)oas_count(&s) * sizeof(float) * 12 + (64 << 20);
    if (b->stopped || !oas_bench_begin(b, type, bytes))
        return -1;
    sampler r = {.graph = &b->graph, .activation = type};
    c.q = oas_sample_activation(&r, s, 1);
    c.k = oas_sample_activation(&r, s, 1);
    c.v = oas_sample_activation(&r, s, 1);
    double t = oas_bench_seconds(b, call_attention, &c);
    b->graph.flops = 0;
    *flops = call_attention(&b->graph, &c) ? b->graph.flops : 0;
    return t;
}

/* Of one head at 5x45x80 tokens. */
static double attention_seconds(bench *b, oas_dtype type, char kind, double *flops)
{
    return oas_bench_heads(b, type, kind, 1, &(token_grid){1, 5, 45, 80}, flops);
}

static void bench_attention(bench *b)
{
    for (oas_dtype t = OAS_F32; t < OAS_DTYPES; t++) {
        const char *type = oas_dtype_name(t);
        double flops, peak = b->peak[t];
        if (t == OAS_BF16 && !oas_device_has_bf16(b->device))
            continue;
        double global = attention_seconds(b, t, OAS_HEAD_GLOBAL, &flops);
        if (global > 0)
            oas_bench_report(b, (oasis_bench_row){"attention", "attention_global_fraction",
                                                  "one head of 128, 18000 tokens", type, "of peak",
                                                  flops / global / peak, flops / global * 1e-9});
        double intra = attention_seconds(b, t, OAS_HEAD_INTRA, &flops);
        if (intra > 0)
            oas_bench_report(b, (oasis_bench_row){"attention", "attention_intra_fraction",
                                                  "one head of 128, 5 x 3600 tokens", type, "of peak",
                                                  flops / intra / peak, flops / intra * 1e-9});
        double window = attention_seconds(b, t, OAS_HEAD_WINDOW, &flops);
        if (global > 0 && window > 0)
            oas_bench_report(b,
                             (oasis_bench_row){"attention", "window_speedup_over_global", "3x5x5 at 5 x 45 x 80 tokens",
                                               type, "times", global / window, flops / window * 1e-9});
    }
}

struct block_call {
    dit net;
    tensor *c;
};

static tensor *call_block(graph *g, void *arg)
{
    struct block_call *c = arg;
    return oas_dit(g, &c->net, c->c);
}

/* One block of Wan2.1-1.3B's width at 18,000 tokens, patch embedding and head included: seconds, or below 0. */
static double bench_block_one(bench *b, const char *kinds, const char *name, const char *detail, double *flops)
{
    static const dit_config config = {.in_dim = 16,
                                      .latent_channels = 16,
                                      .dim = 1536,
                                      .ffn_dim = 8960,
                                      .heads = 12,
                                      .layers = 1,
                                      .eps = 1e-6f,
                                      .rope_theta = 10000.f};
    oas_dtype type = best_type(b);
    parameter_set weights = {.create = true, .path = "bench"};
    route_layer route = {.heads = config.heads, .window = {3, 5, 5}};
    struct block_call c;
    memcpy(route.kind, kinds, (size_t)config.heads);
    if (b->stopped || oas_dit_bind(&c.net, &config, &route, &weights) < 0 ||
        !oas_bench_begin(b, type, (size_t)2 << 30)) {
        oas_parameters_free(&weights);
        return -1;
    }
    sampler s = {.graph = &b->graph, .activation = OAS_F32};
    for (int i = 0; i < weights.count; i++) {
        float *values = weights.items[i]->tensor.data;
        for (int64_t k = 0, n = oas_count(&weights.items[i]->tensor.shape); k < n; k++)
            values[k] = (float)((k * 2654435761u >> 7) % 1000) * 4e-5f - 0.02f;
    }
    c.c = oas_sample_floats(&s, OAS_SHAPE5(1, 5, 90, 160, 16), 1);
    *flops = 0;
    double t = c.c && oas_bench_plan(b, type, call_block, &c, flops) > 0 ? oas_bench_seconds(b, call_block, &c) : -1;
    if (t > 0)
        oas_bench_report(b, (oasis_bench_row){"block", name, detail, oas_dtype_name(type), "s", t, *flops / t * 1e-9});
    oas_dit_free(&c.net);
    oas_parameters_free(&weights);
    return t;
}

static void bench_block(bench *b)
{
    static const char *const kinds[] = {"gggggggggggg", "ggggiiiiwwww", "ggiiiiwwwwww"};
    static const char *const names[][3] = {
        {"wan_block_global_s", NULL, "Wan-1.3B block, 18000 tokens, all heads global"},
        {"wan_block_444_s", "wan_block_444_over_predicted", "Wan-1.3B block, 18000 tokens, heads 4/4/4"},
        {"wan_block_246_s", "wan_block_246_over_predicted", "Wan-1.3B block, 18000 tokens, heads 2/4/6"}};
    double seconds[3], flops[3];
    for (int i = 0; i < 3; i++) {
        seconds[i] = bench_block_one(b, kinds[i], names[i][0], names[i][2], &flops[i]);
        if (i > 0 && seconds[0] > 0 && seconds[i] > 0)
            oas_bench_report(b, (oasis_bench_row){"block", names[i][1],
                                                  "share of the all-global time, over the share of its FLOPs",
                                                  oas_dtype_name(best_type(b)), "times",
                                                  seconds[i] / seconds[0] / (flops[i] / flops[0]), 0});
    }
}

/* Frames of moving noise. */
static oasis_frame *noise(bench *b, int width, int height, int frames)
{
    oasis_frame *list = oas_alloc((size_t)frames, sizeof *list);
    oasis_status s = list ? OASIS_OK : OASIS_E_MEMORY;
    for (int k = 0; k < frames && s == OASIS_OK; k++) {
        s = oasis_frame_new(&list[k], width, height, false);
        for (int i = 0; s == OASIS_OK && i < width * height * 3; i++)
            list[k].rgb[i] = (float)((i / 3 + k) % 97) / 96.f;
    }
    if (s < 0)
        b->graph.status = oas_fail_memory(b->message, (size_t)frames * (size_t)(width * height) * 12, "noise");
    return list;
}

static void free_noise(oasis_frame *list, int frames)
{
    for (int k = 0; list && k < frames; k++)
        oasis_frame_free(&list[k]);
    oas_free(list);
}

double oas_bench_clip(bench *b, oasis_upscaler *u, oasis_frame *list, int frames, int skipped)
{
    oasis_status s = OASIS_OK;
    double start = oas_now();
    int sent = 0, got = 0;
    while (s >= 0 && got < frames && !b->stopped) {
        oasis_frame f;
        s = oasis_upscaler_receive(u, &f);
        if (s == OASIS_OK) {
            got++;
            oasis_frame_free(&f);
            start = got == skipped ? oas_now() : start;
        } else if (s == OASIS_AGAIN) {
            s = oasis_upscaler_send(u, sent < frames ? &list[sent] : NULL);
            sent++;
        }
    }
    if (s < 0) {
        oas_fail(b->message, s, "%s", oasis_upscaler_message(u));
        b->graph.status = s;
        return -1;
    }
    return oas_now() - start;
}

void oas_bench_parts(bench *b, const char *stage, const char *type, const oasis_statistics *done)
{
    for (int i = 0; i < done->n_stages; i++) {
        const oasis_stage_time *t = &done->stages[i];
        double rate = t->seconds > 0 ? t->flops / t->seconds : 0;
        oas_bench_report(b, (oasis_bench_row){stage, "part_s", t->name, type, "s", t->seconds, rate * 1e-9});
    }
}

enum { CLIP = 65, GPU_CLIP = 321 }; /* on a GPU the first CLIP frames are not counted: they make what is kept */

/* Frames a second of an upscaler of its own, or below 0; `apart`: with a launch for every op. */
static double bench_upscaler(bench *b, bool apart, oasis_plan *plan, oasis_statistics *done)
{
    enum { IN_WIDTH = 320, IN_HEIGHT = 180 };
    oasis_options o;
    oasis_upscaler *u = NULL;
    oasis_options_init(&o);
    device_name name = oas_device_name(b->device);
    o.device = name.text;
    o.threads = oas_pool_workers(b->device->pool);
    o.scene_cuts = false;
    oasis_status s = oasis_upscaler_open(&u, b->model, &o, IN_WIDTH, IN_HEIGHT, b->message);
    if (s < 0) {
        b->graph.status = s;
        return -1;
    }
    u->replays.off = apart;
    oasis_upscaler_calibrate(u);
    oasis_upscaler_plan(u, plan);
    int frames = b->device->cuda ? GPU_CLIP : CLIP, skipped = b->device->cuda ? CLIP : 0;
    oasis_frame *list = noise(b, IN_WIDTH, IN_HEIGHT, frames);
    double t = b->graph.status < 0 ? -1 : oas_bench_clip(b, u, list, frames, skipped);
    oasis_upscaler_statistics(u, done);
    free_noise(list, frames);
    oasis_upscaler_close(&u);
    return t > 0 ? (frames - skipped) / t : -1;
}

static void bench_model(bench *b)
{
    oasis_plan plan;
    oasis_statistics done;
    double fps = b->stopped ? -1 : bench_upscaler(b, false, &plan, &done);
    if (fps < 0)
        return;
    const char *type = plan.bf16 ? "bf16" : "fp32";
    double flops = plan.flops_per_frame, planned = plan.seconds_per_frame;
    if (!b->device->cuda) { /* a GPU's first frames are not counted */
        oasis_plan_shot(&plan, CLIP, &flops, &planned);
        flops /= CLIP;
        planned /= CLIP;
    }
    double rate = flops * fps;
    oas_bench_report(b, (oasis_bench_row){"model", "model_720p_fps", "320 x 180 to 1280 x 720, network alone", type,
                                          "frames/s", fps, rate * 1e-9});
    oas_bench_report(b, (oasis_bench_row){"model", "model_720p_fraction", "the same", type, "of peak",
                                          rate / b->peak[plan.bf16 ? OAS_BF16 : OAS_F32], rate * 1e-9});
    oas_bench_report(b, (oasis_bench_row){"model", "predicted_over_measured_s", "time per frame, planned", type,
                                          "times", planned * fps, 0});
    oas_bench_report(b, (oasis_bench_row){"model", "model_peak_bytes", "held by the upscaler", type, "bytes",
                                          (double)done.peak_bytes, 0});
    if (b->device->cuda)
        oas_bench_parts(b, "model", type, &done);
    double apart = b->device->cuda && !b->stopped ? bench_upscaler(b, true, &plan, &done) : -1;
    if (apart > 0)
        oas_bench_report(b, (oasis_bench_row){"model", "model_one_launch_speedup", "over a launch for every op", type,
                                              "times", fps / apart, 0});
}

static const struct {
    const char *name;
    void (*run)(bench *b);
    bool within; /* another stage measures it too: only when asked for by name */
} stages[] = {{"peak", bench_peak, false},      {"dense", bench_dense, false},
              {"conv", bench_conv, false},      {"attention", bench_attention, false},
              {"block", bench_block, false},    {"model", bench_model, false},
              {"decoder", bench_decoder, true}, {"transformer", oas_bench_transformer, true},
              {"step", oas_bench_step, true}};

enum { N_STAGES = sizeof stages / sizeof *stages };

const char *const *oasis_bench_stages(void)
{
    static const char *const names[] = {"peak",  "dense",   "conv",        "attention", "block",
                                        "model", "decoder", "transformer", "step",      NULL};
    _Static_assert(sizeof names / sizeof *names == N_STAGES + 1, "a name for each stage");
    return names;
}

oasis_status oasis_bench(oasis_model *model, const char *stage, const char *where, int threads, oasis_bench_fn *row,
                         void *user, oasis_message *message)
{
    oasis_message unheard;
    bench b = {.model = model, .row = row, .user = user, .message = message ? message : &unheard};
    bool known = stage == NULL;
    for (int i = 0; i < N_STAGES; i++)
        known = known || strcmp(stage, stages[i].name) == 0;
    if (!known)
        return oas_fail(
            message, OASIS_E_ARGUMENT,
            "there is no stage '%s' to measure; stages are peak, dense, conv, attention, block, model, decoder, "
            "transformer, step",
            stage);
    OAS_TRY(oas_device_open(&b.device, where, threads, message));
    for (oas_dtype t = OAS_F32; t < OAS_DTYPES; t++)
        b.peak[t] = b.device->cuda ? gpu_peak(&b, t) : oas_peak(b.device->level, t, b.device->pool);
    for (int i = 0; i < N_STAGES && !b.stopped && b.graph.status >= 0; i++)
        if (stage ? strcmp(stage, stages[i].name) == 0 : !stages[i].within)
            stages[i].run(&b);
    oasis_status s = b.stopped ? oas_fail(message, OASIS_E_CANCELLED, "cancelled") : b.graph.status;
    if (s < 0 && b.graph.message.text[0])
        oas_fail(message, s, "%s", b.graph.message.text);
    oas_graph_close(&b.graph);
    oas_device_free(&b.device);
    return s;
}
