/*
 * What upscaling takes on a GPU: measured by upscaling.  A made-up shot goes through an upscaler, and the time of its
 * later windows in time is cut into that of each network, by the GPU's own clocks, and the rest, for which the GPU
 * waits: pictures on their way, the search for cuts, the host.  The first window shows what is made only once.
 *
 *     frames out   0 | window 0 | window 1 | window 2 | window 3 | ...
 *                    first      from here on: a step each; those in which all networks are recorded count
 *
 * A picture of which a step takes longer than STEP_SECONDS, nominally, is not tried whole: another upscaler tries a
 * smaller one, and rates carry over.
 */
#include "upscale.h"

#include <math.h>
#include <string.h>

static const double STEP_SECONDS = 0.5;
static const double FRAME_BYTES = 1e9; /* of the frames that are tried, at most */
static const double ENOUGH_SECONDS = 0.25, PATIENCE_SECONDS = 5;

enum { WARM_STEPS = 3, MOST_STEPS = 8 }; /* within WARM_STEPS all is recorded that can be; then at most MOST_STEPS */

typedef struct trial {
    int64_t step; /* frames from one window in time to the next */
    int steps;    /* at most */
    oasis_frame *frames;
    int64_t count, sent, got;
    int64_t measured;      /* frames, in whole steps; 0 = none */
    double first, seconds; /* until the first frame came; for those measured */
} trial;

/* All frames that `steps` steps take, after the first window. */
static int64_t frames_of(const upscale_sizes *s, int steps)
{
    return (int64_t)oas_window_frames(s) + (int64_t)(steps + 1) * oas_step_frames(s);
}

static double frame_bytes(const upscale_sizes *s)
{
    return 3. * sizeof(float) * s->in_width * s->in_height;
}

/* ---- frames ------------------------------------------------------------------------------------------------------ */

/* Squares and noise, which move by a pixel from frame to frame. */
static bool draw_frames(trial *t, const oasis_upscaler *u)
{
    enum { SQUARE = 16 };
    size_t width = (size_t)u->sizes.in_width, pixels = width * (size_t)u->sizes.in_height;
    float *picture = oas_alloc_unset((pixels + (size_t)t->count) * 3, sizeof *picture);
    t->frames = oas_alloc((size_t)t->count, sizeof *t->frames);
    for (size_t i = 0; picture && i < (pixels + (size_t)t->count) * 3; i++) {
        size_t x = i / 3 % width, y = i / 3 / width;
        float noise = (float)((uint64_t)i * 2654435761u >> 7 & 1023) / 1024.f;
        picture[i] = ((x / SQUARE + y / SQUARE) % 2 ? 0.65f : 0.15f) + 0.2f * noise;
    }
    bool ok = picture && t->frames;
    for (int64_t i = 0; ok && i < t->count; i++) {
        oasis_frame *f = &t->frames[i];
        ok = oas_frame_new_unset(f, u->sizes.in_width, u->sizes.in_height, false) == OASIS_OK;
        if (ok)
            oas_pool_copy(u->device->pool, f->rgb, picture + i * 3, pixels * 3 * sizeof *picture);
    }
    oas_free(picture);
    return ok;
}

static bool send_next(oasis_upscaler *u, trial *t)
{
    bool more = t->sent < t->count;
    if (oasis_upscaler_send(u, more ? &t->frames[t->sent++] : NULL) < 0)
        return false;
    if (more) /* all are one shot */
        u->queue[(u->queue_first + u->queue_count - 1) % u->queue_size].starts_shot = false;
    return true;
}

static bool receive_until(oasis_upscaler *u, trial *t, int64_t wanted)
{
    while (t->got < wanted) {
        oasis_frame f;
        oasis_status s = oasis_upscaler_receive(u, &f);
        if (s == OASIS_OK) {
            t->got++;
            oasis_frame_free(&f);
        } else if (s != OASIS_AGAIN || !send_next(u, t)) {
            return false;
        }
    }
    return true;
}

/* ---- a trial ----------------------------------------------------------------------------------------------------- */

static void restart_clocks(oasis_upscaler *u)
{
    for (int i = 0; i < NETWORKS; i++) {
        oas_cuda_clock_close(u->device->cuda, &u->clocks[i]);
        u->clocks[i] = (cuda_clock){0};
        u->flops[i] = 0;
    }
}

/* What changes in a step in which a network is called in whole, or recorded. */
static int64_t unsettled(const replays *r)
{
    return r->calls - r->replayed + r->recorded;
}

/*
 * A step ends when the first frame of a window's results is there, which is always the same time after the host has
 * waited for that window.
 */
static void try_steps(oasis_upscaler *u, trial *t)
{
    const upscale_sizes *s = &u->sizes;
    int64_t due = frames_of(s, -1) - (int64_t)s->shared_latents * OAS_LATENT_FRAMES + 1;
    double start = oas_now(), begin = 0;
    bool settled = false, ok = receive_until(u, t, 1);
    t->first = oas_now() - start;
    ok = ok && receive_until(u, t, due);
    for (int i = 1; ok && i <= t->steps && t->seconds < ENOUGH_SECONDS; i++) {
        int64_t before = unsettled(&u->replays);
        if (!settled) {
            restart_clocks(u);
            begin = oas_now();
        }
        ok = receive_until(u, t, due += t->step);
        double end = oas_now();
        settled = settled || i >= WARM_STEPS || end - start > PATIENCE_SECONDS || unsettled(&u->replays) == before;
        if (ok && settled) {
            t->measured += t->step;
            t->seconds = end - begin;
        }
    }
    if (!ok)
        t->measured = 0;
}

/* As it was when it was opened, but for what is kept of networks. */
static void forget(oasis_upscaler *u)
{
    graph *g = &u->graph;
    oasis_message unheard;
    oas_cuda_wait(g->cuda, &unheard);
    for (int i = 0; i < u->queue_count; i++)
        oasis_frame_free(&u->queue[(u->queue_first + i) % u->queue_size].frame);
    for (int i = 0; i < u->ready_count; i++)
        oasis_frame_free(&u->ready[u->ready_first + i]);
    for (int64_t i = 0; i < u->coming_count; i++) {
        oas_cuda_block_wait(g->cuda, &u->down[(u->coming_first + i) % u->transfers], &unheard);
        oasis_frame_free(&u->coming[(u->coming_first + i) % u->transfers]);
    }
    u->queue_first = u->queue_count = u->ready_first = u->ready_count = 0;
    oas_cuda_block_wait(g->cuda, &u->marks, &unheard);
    u->marked.latents = 0;
    u->coming_count = u->projected = 0;
    u->ended = false;
    oas_start_shot(u);
    restart_clocks(u);
    oas_graph_reset(g);
    memset(g->stages, 0, sizeof g->stages);
    g->flops = 0;
    u->replays.calls = u->replays.replayed = 0;
    u->statistics = (oasis_statistics){0};
    u->seconds_resize = u->seconds_finish = u->seconds_restore = u->seconds_decode = 0;
    u->status = OASIS_OK;
    u->message = (oasis_message){""};
    if (!u->scenes)
        return;
    oas_scene_free(&u->scenes);
    u->status = oas_scene_new(&u->scenes, u->sizes.in_width, u->sizes.in_height, &u->message);
}

/* ---- rates ------------------------------------------------------------------------------------------------------- */

/* Rates at which `frames` times that work would have taken as many seconds; their proportions stay. */
static void scale_rates(stage_work *rates, const stage_work *work, int64_t frames, double seconds)
{
    double factor = (double)frames * oas_work_seconds(work, rates) / seconds;
    if (!(seconds > 0 && factor > 0 && isfinite(factor)))
        return;
    rates->dense *= factor;
    rates->conv *= factor;
    rates->attention *= factor;
    rates->passes *= factor;
}

static void take_rates(const oasis_upscaler *u, const trial *t, upscale_rates *rates)
{
    double seconds[NETWORKS], rest = t->seconds;
    for (int i = 0; i < NETWORKS; i++) {
        seconds[i] = oas_cuda_clock_seconds(u->device->cuda, &u->clocks[i]);
        rest -= seconds[i];
    }
    const upscale_work *w = &u->work;
    scale_rates(&rates->project, &w->project, t->measured, seconds[NETWORK_PROJECT]);
    scale_rates(&rates->restore, &w->restore, t->measured, seconds[NETWORK_RESTORE]);
    scale_rates(&rates->decode, &w->decode, t->measured,
                seconds[NETWORK_DECODE] + seconds[NETWORK_BEGIN] + seconds[NETWORK_TILE]);
    if (rest > 0)
        rates->picture_bytes = w->picture_bytes * (double)t->measured / rest;
    /* What the first window took longer: weights go up, libraries choose their ways. */
    double usual = t->seconds * (double)frames_of(&u->sizes, -1) / (double)t->measured;
    if (t->first > usual)
        rates->prepared_bytes = (double)u->planned.weights / (t->first - usual);
}

static void try_upscaler(oasis_upscaler *u, upscale_rates *rates)
{
    const upscale_sizes *s = &u->sizes;
    trial t = {.step = oas_step_frames(s)};
    double step = oas_estimate_seconds(&u->work, rates) * (double)t.step;
    double room = FRAME_BYTES / (frame_bytes(s) * (double)t.step) - WARM_STEPS - 1; /* for steps */
    double more = fmin(fmin(ENOUGH_SECONDS / step, room), MOST_STEPS);
    t.steps = WARM_STEPS - 1 + (more > 1 ? (int)more : 1);
    t.count = frames_of(s, t.steps);
    if (draw_frames(&t, u))
        try_steps(u, &t);
    if (t.measured > 0)
        take_rates(u, &t, rates);
    for (int64_t i = t.sent; t.frames && i < t.count; i++)
        oasis_frame_free(&t.frames[i]);
    oas_free(t.frames);
    forget(u);
}

/* ---- smaller pictures -------------------------------------------------------------------------------------------- */

/* What part of the picture's area is tried; 1 = all of it. */
static double part_to_try(const oasis_upscaler *u)
{
    const upscale_sizes *s = &u->sizes;
    double step = oas_estimate_seconds(&u->work, &u->rates) * (double)oas_step_frames(s);
    return fmin(1, fmin(STEP_SECONDS / step, FRAME_BYTES / (frame_bytes(s) * (double)frames_of(s, WARM_STEPS))));
}

/* A side of the input, shortened so that the result's has at least so many pixels (or all there are). */
static int shortened(int side, int result, double part, int *short_result)
{
    enum { LEAST_RESULT = 256 };
    double scale = (double)result / side;
    int shorter = (int)ceil(fmax(side * sqrt(part), LEAST_RESULT / scale));
    if (shorter > side)
        shorter = side;
    *short_result = (int)(shorter * scale + 1e-9);
    return shorter;
}

/* By another upscaler, for whose time this one's arena makes room. */
static void try_smaller(oasis_upscaler *u, double part)
{
    oasis_options o = u->options;
    oasis_upscaler *small = NULL;
    oasis_message unheard;
    int width = shortened(u->sizes.in_width, u->sizes.out_width, part, &o.width);
    int height = shortened(u->sizes.in_height, u->sizes.out_height, part, &o.height);
    bool off = u->replays.off;
    oas_replays_free(&u->graph, &u->replays);
    oas_graph_close(&u->graph);
    if (oasis_upscaler_open(&small, u->model, &o, width, height, &unheard) == OASIS_OK) {
        small->graph.cancel = &u->cancelled;
        small->replays.off = off;
        try_upscaler(small, &u->rates);
    }
    oasis_upscaler_close(&small);
    u->replays.off = off;
    if (!oas_graph_open(&u->graph, u->planned.arena))
        u->status = oas_fail_memory(&u->message, u->planned.arena, "the network's activations");
}

void oas_try_on_gpu(oasis_upscaler *u)
{
    if (u->statistics.frames_in > 0 || u->status < 0)
        return; /* a made-up shot would fall in between */
    double part = part_to_try(u);
    if (part < 1)
        try_smaller(u, part);
    else
        try_upscaler(u, &u->rates);
}
