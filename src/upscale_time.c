/*
 * How long a frame will take: the planned work of each network, divided by what the machine does of it in a second.
 *
 *     project   a group of frames, whole
 *     restore   a window, as many ops as fit into OPS_SECONDS.  Where a layer of it takes longer than LAYER_SECONDS,
 *               attention is measured apart: a head or a few of each kind, at their own size or as much of it as takes
 *               HEAD_SECONDS; and the rest with as many tokens as it takes REST_SECONDS for, with heads that see nothing
 *     decode    a latent's frames, or as much of their area as takes about DECODE_SECONDS
 *
 * Each runs twice; the first run makes oneDNN's jobs, packs weights and touches memory.  Nothing but the printed time
 * depends on what is measured.  On a GPU a trial measures (upscale_trial.c).
 */
#include "cuda/cuda.h"
#include "upscale.h"

#include <limits.h>
#include <math.h>
#include <string.h>

static const double LAYER_SECONDS = 0.3, DECODE_SECONDS = 0.3, OPS_SECONDS = 0.5, HEAD_SECONDS = 0.4, REST_SECONDS = 1;
static const double PREPARED_BYTES = 0.5e9; /* of weights in a second, nominally */

void oas_nominal_rates(const device *d, oas_dtype compute, upscale_rates *rates)
{
    /* Of a core: dense, convolution, attention, and bytes of passes. */
    static const stage_work nominal[OAS_LEVELS] = {[OAS_LEVEL_C] = {2e9, 2e9, 2e9, 1e9},
                                                   [OAS_LEVEL_AVX2] = {95e9, 95e9, 65e9, 6e9},
                                                   [OAS_LEVEL_AVX512] = {190e9, 190e9, 130e9, 10e9},
                                                   [OAS_LEVEL_AVX512BF16] = {370e9, 370e9, 260e9, 12e9},
                                                   [OAS_LEVEL_AMX] = {1000e9, 450e9, 600e9, 12e9}};
    /* A multiprocessor of an H100 in products; the others as parts of that. */
    static const double of_gpu[OAS_DTYPES] = {[OAS_F32] = 0.4e12, [OAS_BF16] = 5e12};
    if (d->cuda) {
        double peak = of_gpu[compute] * d->cuda->processors;
        stage_work all = {.dense = 0.72 * peak, .conv = 0.80 * peak, .attention = 0.50 * peak, .passes = 0.025 * peak};
        *rates = (upscale_rates){all, all, all, all.passes, .prepared_bytes = PREPARED_BYTES};
        return;
    }
    oas_cpu_level level = d->level;
    if (compute == OAS_F32 && level > OAS_LEVEL_AVX512)
        level = OAS_LEVEL_AVX512;
    double cores = oas_pool_workers(d->pool);
    stage_work all = nominal[level];
    all.dense *= cores;
    all.conv *= cores;
    all.attention *= cores;
    all.passes *= cores;
    *rates = (upscale_rates){all, all, all, all.passes, .prepared_bytes = PREPARED_BYTES};
}

/* ---- running a network for a while ------------------------------------------------------------------------------------- */

typedef struct probe {
    graph g;
    const upscale_sizes *sizes;
    const oasis_model *model;
    decoder_state state;
    int64_t latents, rows, columns; /* of the window or picture at hand */
    int ops, most_ops;              /* run so far; after which to stop */
    double deadline;
    atomic_bool stop;
} probe;

typedef tensor *probe_call(probe *p);

static void count_op(void *user, const node *n)
{
    (void)n;
    probe *p = user;
    if (++p->ops >= p->most_ops || oas_now() > p->deadline)
        atomic_store(&p->stop, true);
}

/* Values that differ, as those of pictures do: on equal ones some processors are faster. */
static tensor *some_values(graph *g, shape s)
{
    tensor *t = oas_tensor(g, OAS_F32, s);
    for (int64_t i = 0, n = t ? oas_count(&s) : 0; i < n; i++)
        ((float *)t->data)[i] = (float)((uint64_t)i * 2654435761u >> 7 & 1023) / 512.f - 1.f;
    return t;
}

static tensor *some_pixels(probe *p, int64_t frames)
{
    return some_values(&p->g, OAS_SHAPE5(1, frames, p->rows * OAS_LATENT_PIXELS, p->columns * OAS_LATENT_PIXELS, 3));
}

static tensor *call_project(probe *p)
{
    return oas_project(&p->g, p->model, some_pixels(p, OAS_LATENT_FRAMES), false);
}

static tensor *call_restore(probe *p)
{
    int64_t channels = p->model->file.config.in_dim;
    return oas_restore(&p->g, p->model, some_values(&p->g, OAS_SHAPE5(1, p->latents, p->rows, p->columns, channels)));
}

static tensor *call_decode(probe *p)
{
    int64_t channels = p->model->file.config.latent_channels, frames = p->state.started ? OAS_LATENT_FRAMES : 1;
    return oas_decode(&p->g, p->model, &p->state, some_values(&p->g, OAS_SHAPE5(1, 1, p->rows, p->columns, channels)),
                      some_pixels(p, frames));
}

/* Runs the first ops of a network; returns their seconds, or 0 after a failure. */
static double run(probe *p, probe_call *call)
{
    graph *g = &p->g;
    oas_graph_reset(g);
    memset(g->stages, 0, sizeof g->stages);
    atomic_store(&p->stop, false);
    p->ops = 0;
    tensor *values = some_values(g, OAS_SHAPE1(1));
    double start = oas_now();
    bool ok = values && (call(p) || g->status == OASIS_E_CANCELLED) && p->ops > 0;
    return ok ? oas_now() - start : 0;
}

/* One rate, where anything of the kind was done. */
static void set_rate(double *rate, double done, double seconds)
{
    if (done > 0 && seconds > 0)
        *rate = done / seconds;
}

/* Rates of the stages; and what the first run takes longer than the second, by the weights that it prepares. */
static void measure(probe *p, probe_call *call, stage_work *rates, double *prepared_bytes)
{
    p->most_ops = INT_MAX;
    p->deadline = oas_now() + OPS_SECONDS;
    double prepared = (double)oas_model_packed_bytes(p->model), first = run(p, call);
    if (first <= 0)
        return;
    prepared = (double)oas_model_packed_bytes(p->model) - prepared;
    p->most_ops = p->ops;
    p->deadline = INFINITY;
    double second = run(p, call);
    if (second <= 0)
        return;
    /* Never less than nominal: the first run also waits for the file, and for memory that nobody has used before. */
    if (prepared > (first - second) * *prepared_bytes)
        set_rate(prepared_bytes, prepared, first - second);
    for (int i = 0; i < OAS_MAX_STAGES && p->g.stages[i].name; i++) {
        const stage_time *s = &p->g.stages[i];
        if (strcmp(s->name, "dense") == 0)
            set_rate(&rates->dense, s->flops, s->seconds);
        else if (strcmp(s->name, "conv") == 0)
            set_rate(&rates->conv, s->flops, s->seconds);
        else if (strcmp(s->name, "attention") == 0)
            set_rate(&rates->attention, s->flops, s->seconds);
        else
            set_rate(&rates->passes, s->bytes, s->seconds);
    }
}

double oas_work_flops(const stage_work *w)
{
    return w->dense + w->conv + w->attention;
}

double oas_work_seconds(const stage_work *w, const stage_work *rate)
{
    return w->dense / rate->dense + w->conv / rate->conv + w->attention / rate->attention + w->passes / rate->passes;
}

/* A side, times sqrt(part) where the part is below 1, even, and at least `least` where there is as much. */
static int64_t shortened(int side, double part, int least)
{
    int64_t wanted = part < 1 ? (int64_t)(side * sqrt(part)) / 2 * 2 : side;
    wanted = wanted > least ? wanted : least;
    return wanted < side ? wanted : side;
}

/* Attention of heads of one kind over a window of the probe's size; what it did is in *done. */
static bool attend(probe *p, const route_layer *route, stage_time *done)
{
    graph *g = &p->g;
    const dit_config *c = &p->model->dit.config;
    const token_grid grid = {1, p->latents, p->rows / 2, p->columns / 2};
    oas_graph_reset(g);
    memset(g->stages, 0, sizeof g->stages);
    shape s = OAS_SHAPE2(grid.frames * grid.height * grid.width, route->heads * (c->dim / c->heads));
    tensor *x = g->planning ? oas_tensor(g, OAS_F32, s) : some_values(g, s);
    x = oas_cast(g, x, g->compute);
    x = oas_attention(g, x, x, x, &grid, route);
    *done = *oas_graph_stage(g, "attention");
    return x && g->status == OASIS_OK;
}

/* The rate of attention in windows that are too large to run: that of each kind of heads, by the work that it has. */
static void measure_heads(probe *p, double nominal, double *rate)
{
    enum { LEAST_SIDE = 16, WORKERS_A_HEAD = 4 };
    const upscale_sizes *s = p->sizes;
    const dit *d = &p->model->dit;
    graph planning = oas_device_graph(p->g.device, p->g.compute), real = p->g;
    atomic_store(&p->stop, false);
    p->most_ops = INT_MAX;
    p->deadline = INFINITY;
    planning.planning = true;
    oas_arena_count(&planning.memory);
    bool ok = oas_arena_new(&planning.headers, 1 << 20);
    double all = 0, seconds = 0;
    for (const char *kind = "giw"; *kind && ok; kind++) {
        route_layer route = d->routes[0];
        int64_t heads = 0, workers = oas_pool_workers(p->g.device->pool);
        for (int layer = 0; layer < d->config.layers; layer++)
            for (int h = 0; h < d->routes[layer].heads; h++)
                heads += d->routes[layer].kind[h] == *kind;
        if (heads == 0)
            continue;
        route.heads = (int)(workers > WORKERS_A_HEAD ? workers / WORKERS_A_HEAD : 1);
        if (route.heads > d->config.heads)
            route.heads = d->config.heads;
        memset(route.kind, *kind, sizeof route.kind);
        stage_time whole, part;
        p->g = planning;
        p->rows = s->rows.window;
        p->columns = s->columns.window;
        ok = attend(p, &route, &whole);
        /* Pairs of tokens grow with the square of the area. */
        double share = sqrt(HEAD_SECONDS * nominal / whole.flops);
        p->g = real;
        p->rows = shortened(s->rows.window, share, LEAST_SIDE);
        p->columns = shortened(s->columns.window, share, LEAST_SIDE);
        ok = ok && attend(p, &route, &part) && part.seconds > 0;
        double work = whole.flops * (double)heads / route.heads;
        all += work;
        seconds += ok ? work * part.seconds / part.flops : 0;
    }
    p->g = real;
    oas_arena_free(&planning.headers);
    if (ok)
        set_rate(rate, all, seconds);
}

/* The rates of windows of which a layer takes that many seconds, nominally. */
static void measure_large(probe *p, const upscale_work *work, double layer, upscale_rates *rates)
{
    enum { LEAST_SIDE = 16 };
    const upscale_sizes *s = p->sizes;
    const stage_work *w = &work->window, *r = &rates->restore;
    double nominal = r->attention, part = 1 - w->attention / r->attention / oas_work_seconds(w, r);
    const oasis_model *model = p->model;
    oasis_model blind = *model;
    route_layer *routes = oas_alloc((size_t)blind.dit.config.layers, sizeof *routes);
    for (int i = 0; routes && i < blind.dit.config.layers; i++) {
        routes[i] = blind.dit.routes[i];
        memset(routes[i].kind, OAS_HEAD_WINDOW, sizeof routes[i].kind);
        routes[i].window[0] = routes[i].window[1] = routes[i].window[2] = 1;
    }
    if (routes) {
        blind.dit.routes = routes;
        p->model = &blind;
    }
    p->rows = shortened(s->rows.window, REST_SECONDS / (layer * part), LEAST_SIDE);
    p->columns = shortened(s->columns.window, REST_SECONDS / (layer * part), LEAST_SIDE);
    measure(p, call_restore, &rates->restore, &rates->prepared_bytes);
    p->model = model;
    measure_heads(p, nominal, &rates->restore.attention);
    oas_free(routes);
}

void oas_measure_rates(const upscale_sizes *s, const upscale_work *work, const oasis_model *model, device *d,
                       const arena *memory, upscale_rates *rates)
{
    enum { LEAST_SIDE = 16 }; /* latents */
    double unused = PREPARED_BYTES;
    probe p = {.sizes = s, .model = model, .rows = s->grid_height, .columns = s->grid_width};
    p.g = (graph){.memory = *memory,
                  .device = d,
                  .backend = d->level == OAS_LEVEL_C ? OAS_REF : OAS_CPU,
                  .compute = s->compute,
                  .watch = count_op,
                  .watch_user = &p,
                  .cancel = &p.stop};
    measure(&p, call_project, &rates->project, &unused);

    double windows = (double)s->rows.count * s->columns.count;
    double layer = oas_work_seconds(&work->window, &rates->restore) / windows / model->dit.config.layers;
    p.latents = s->window_latents;
    p.rows = s->rows.window;
    p.columns = s->columns.window;
    if (layer > LAYER_SECONDS)
        measure_large(&p, work, layer, rates);
    else
        measure(&p, call_restore, &rates->restore, &rates->prepared_bytes);

    double part = DECODE_SECONDS / (oas_work_seconds(&work->decode, &rates->decode) * OAS_LATENT_FRAMES);
    p.rows = shortened(s->grid_height, part / (s->tile_rows * s->tile_columns), LEAST_SIDE);
    p.columns = shortened(s->grid_width, part / (s->tile_rows * s->tile_columns), LEAST_SIDE);
    p.most_ops = INT_MAX;
    p.deadline = INFINITY;
    if (run(&p, call_decode) > 0) /* the one frame with which a shot starts */
        measure(&p, call_decode, &rates->decode, &unused);
    oas_state_free(&p.state);
}

double oas_estimate_seconds(const upscale_work *work, const upscale_rates *rates)
{
    return oas_work_seconds(&work->project, &rates->project) + oas_work_seconds(&work->restore, &rates->restore) +
           oas_work_seconds(&work->decode, &rates->decode) + work->picture_bytes / rates->picture_bytes;
}

/*
 * Of the transformer over a shot of `latents`: whole windows, the last moved back so that it is full; in a shot that is
 * shorter than one, a part that is in proportion and one that grows with pairs of latents, as global heads see them.
 */
static double of_windows(const oasis_plan *p, int64_t latents, double window, double latent)
{
    int64_t full = (p->window_frames - 1) / OAS_LATENT_FRAMES + 1, step = p->step_frames / OAS_LATENT_FRAMES;
    if (latents >= full)
        return window * (double)(1 + (latents - full + step - 1) / step);
    double pairs = full > 1 ? (window - (double)full * latent) / (double)(full * (full - 1)) : 0;
    return (double)latents * latent + (double)(latents * (latents - 1)) * pairs;
}

void oasis_plan_shot(const oasis_plan *p, int64_t frames, double *flops, double *seconds)
{
    *flops = *seconds = 0;
    if (frames < 1 || p->step_frames < 1)
        return;
    int64_t groups = (frames - 1 + OAS_LATENT_FRAMES - 1) / OAS_LATENT_FRAMES;
    double later = (double)(groups * OAS_LATENT_FRAMES);
    *flops = of_windows(p, 1 + groups, p->window_flops, p->latent_flops) + p->start_flops +
             later * (p->flops_per_frame - p->window_flops / p->step_frames);
    *seconds = of_windows(p, 1 + groups, p->window_seconds, p->latent_seconds) + p->start_seconds +
               later * (p->seconds_per_frame - p->window_seconds / p->step_frames);
}
