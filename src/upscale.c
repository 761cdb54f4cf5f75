/*
 * The data path: frames in, frames out.
 *
 *     send      a frame waits; the scene detector says whether a new shot begins with it
 *     receive   advances until a finished frame is there:
 *       project   the next 4 frames (1 at the start of a shot), upscaled, become one more latent of the grid c
 *       restore   when enough latents are new, or the shot ends: every window of the grid, blended into z_high
 *       decode    each latent that no further window touches becomes 4 frames (1 at the start)
 *       finish    crop, colour correction, strength
 *
 * Time in a shot, with windows of 5 latents that share 2:
 *
 *     latents      0 1 2 3 4 5 6 7 8 9
 *     window 0     |-------|               after it 0..2 are final, 3 and 4 wait
 *     window 1           |-------|         3 and 4 are blended; 3..5 become final
 *     last             |-------|           moved back so that it is full; only what waits changes
 *
 * Frames are upscaled twice, for projecting and for decoding: that is cheap, holding large frames is not.
 */
#include "upscale.h"

#include "cpu/peak.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

typedef struct waiting {
    oasis_frame frame;
    bool starts_shot;
} waiting;

struct oasis_upscaler {
    oasis_model *model;
    oasis_options options;
    upscale_sizes sizes;
    upscale_memory planned;
    upscale_work work; /* per output frame */
    double peak;       /* FLOP/s measured by oasis_upscaler_calibrate, or 0 */
    device *device;
    graph graph, exact; /* exact: fp32, for windows that were not finite; without an arena until then */
    oas_resizer *resizer, *alpha_resizer;
    oas_scene *scenes;
    oas_resize_spec resize_spec;
    atomic_bool cancelled; /* lock-free, so that a signal handler may set it */
    oasis_status status; /* sticky after an error */
    oasis_message message;

    /* Frames that wait or belong to latents not decoded yet: a ring. */
    waiting *queue;
    int queue_size, queue_first, queue_count;
    bool ended; /* no more frames will come */

    /* The current shot. */
    int64_t projected;     /* frames of the queue's first ones that are in the grid already */
    int64_t shot_latents;  /* latents projected since the shot began */
    int64_t restored;      /* latents that a window has seen */
    int64_t final;         /* latents whose z_high will not change */
    int64_t decoded;       /* latents decoded */
    int64_t first_held;    /* the shot's index of the first latent held in c and z */
    float *c, *z, *window; /* [held][grid_height][grid_width][in_dim or latent_channels]; window: one window in time */
    int held_most;
    decoder_state *states; /* one per tile, and behind them that of the whole frame */

    /* Finished frames. */
    oasis_frame ready[OAS_LATENT_FRAMES];
    int ready_first, ready_count;
    float *correction; /* scratch of the colour correction */
    oasis_statistics statistics;
    double seconds_resize, seconds_finish;
};

/* ---- opening and closing --------------------------------------------------------------------------------------------- */

static oasis_status open_image_parts(oasis_upscaler *u, oasis_message *message)
{
    const upscale_sizes *s = &u->sizes;
    bool bicubic = u->model->file.config.upscale == OAS_UPSCALE_BICUBIC;
    u->resize_spec = (oas_resize_spec){.in_width = s->in_width,
                                       .in_height = s->in_height,
                                       .out_width = s->out_width,
                                       .out_height = s->out_height,
                                       .padded_width = s->padded_width,
                                       .padded_height = s->padded_height,
                                       .channels = 3,
                                       .filter = bicubic ? OAS_FILTER_BICUBIC : OAS_FILTER_BILINEAR,
                                       .a = -0.75};
    OAS_TRY(oas_resizer_new(&u->resizer, &u->resize_spec, message));
    if (u->options.scene_cuts)
        OAS_TRY(oas_scene_new(&u->scenes, s->in_width, s->in_height, message));
    size_t scratch = oas_color_fix_scratch(u->options.color_fix, s->out_width, s->out_height, u->device->pool);
    if (scratch > 0 && !(u->correction = oas_alloc(scratch, sizeof(float))))
        return oas_fail_memory(message, scratch * sizeof(float), "the colour correction");
    return OASIS_OK;
}

static oasis_status open_buffers(oasis_upscaler *u, oasis_message *message)
{
    const upscale_sizes *s = &u->sizes;
    const model_config *c = &u->model->file.config;
    size_t cells = (size_t)s->grid_width * (size_t)s->grid_height;
    u->held_most = 2 * s->window_latents;
    u->queue_size = (u->held_most + 2) * OAS_LATENT_FRAMES;
    u->queue = oas_alloc((size_t)u->queue_size, sizeof *u->queue);
    u->c = oas_alloc(cells * (size_t)u->held_most, (size_t)c->in_dim * sizeof(float));
    u->z = oas_alloc(cells * (size_t)u->held_most, (size_t)c->latent_channels * sizeof(float));
    u->window = oas_alloc(cells * (size_t)s->window_latents, (size_t)c->latent_channels * sizeof(float));
    u->states = oas_alloc((size_t)(s->tile_rows * s->tile_columns) + 1, sizeof *u->states);
    if (!u->queue || !u->c || !u->z || !u->window || !u->states)
        return oas_fail_memory(message, u->planned.grids, "the latents");
    if (!oas_arena_new(&u->graph.memory, u->planned.arena))
        return oas_fail_memory(message, u->planned.arena, "the network's activations");
    return OASIS_OK;
}

static oasis_status open_upscaler(oasis_upscaler *u, int width, int height, oasis_message *message)
{
    OAS_TRY(oas_device_new(&u->device, u->options.threads, message));
    OAS_TRY(oas_upscale_plan(&u->sizes, &u->planned, &u->work, u->model, u->device, &u->options, width, height, message));
    u->graph = (graph){.device = u->device,
                       .backend = u->device->level == OAS_LEVEL_C ? OAS_REF : OAS_CPU,
                       .compute = u->sizes.compute,
                       .cancel = &u->cancelled};
    OAS_TRY(open_image_parts(u, message));
    return open_buffers(u, message);
}

oasis_status oasis_upscaler_open(oasis_upscaler **out, oasis_model *model, const oasis_options *options, int width,
                                 int height, oasis_message *message)
{
    oasis_upscaler *u = oas_alloc(1, sizeof *u);
    if (!u)
        return oas_fail_memory(message, sizeof *u, "an upscaler");
    u->model = model;
    oasis_options_init(&u->options);
    if (options) {
        size_t known = options->size < sizeof *options ? options->size : sizeof *options;
        memcpy(&u->options, options, known);
    }
    oasis_status s = open_upscaler(u, width, height, message);
    if (s < 0) {
        oasis_upscaler_close(&u);
        return s;
    }
    *out = u;
    return OASIS_OK;
}

void oasis_upscaler_close(oasis_upscaler **out)
{
    oasis_upscaler *u = *out;
    if (!u)
        return;
    for (int i = 0; i < u->queue_count; i++)
        oasis_frame_free(&u->queue[(u->queue_first + i) % u->queue_size].frame);
    for (int i = 0; i < u->ready_count; i++)
        oasis_frame_free(&u->ready[u->ready_first + i]);
    for (int i = 0; u->states && i <= u->sizes.tile_rows * u->sizes.tile_columns; i++)
        oas_state_free(&u->states[i]);
    oas_free(u->states);
    oas_free(u->queue);
    oas_free(u->c);
    oas_free(u->z);
    oas_free(u->window);
    oas_free(u->correction);
    oas_arena_free(&u->graph.memory);
    oas_arena_free(&u->exact.memory);
    oas_resizer_free(&u->resizer);
    oas_resizer_free(&u->alpha_resizer);
    oas_scene_free(&u->scenes);
    oas_device_free(&u->device);
    oas_free(u);
    *out = NULL;
}

/* ---- frames in --------------------------------------------------------------------------------------------------------- */

static waiting *queued(const oasis_upscaler *u, int64_t i)
{
    return &u->queue[(u->queue_first + i) % u->queue_size];
}

oasis_status oasis_upscaler_send(oasis_upscaler *u, oasis_frame *frame)
{
    if (u->status < 0)
        return u->status;
    if (!frame) {
        u->ended = true;
        return OASIS_OK;
    }
    if (u->ended)
        return oas_fail(&u->message, OASIS_E_ARGUMENT, "a frame was sent after the end");
    if (frame->width != u->sizes.in_width || frame->height != u->sizes.in_height || !frame->rgb)
        return oas_fail(&u->message, OASIS_E_ARGUMENT, "frame %lld is %dx%d; this upscaler was opened for %dx%d",
                        (long long)u->statistics.frames_in, frame->width, frame->height, u->sizes.in_width,
                        u->sizes.in_height);
    if (u->queue_count == u->queue_size)
        return OASIS_AGAIN;
    bool changed = u->scenes && oas_scene_push(u->scenes, frame->rgb);
    *queued(u, u->queue_count) = (waiting){*frame, changed && u->statistics.frames_in > 0};
    u->queue_count++;
    u->statistics.frames_in++;
    *frame = (oasis_frame){0};
    return OASIS_OK;
}

/* Frames of the current shot that are in the queue but not in the grid, and whether more of the shot may come. */
static int64_t unprojected(const oasis_upscaler *u, bool *shot_ends)
{
    int64_t n = 0;
    for (int64_t i = u->projected; i < u->queue_count; i++, n++) {
        if (queued(u, i)->starts_shot) {
            *shot_ends = true;
            return n;
        }
    }
    *shot_ends = u->ended;
    return n;
}

/* ---- project ------------------------------------------------------------------------------------------------------------ */

/*
 * Upscales `frames` frames of the queue from index `first` on; past `last` the last one is repeated.
 * Returns [1, frames, padded_height, padded_width, 3] in [-1, 1].
 */
static tensor *enlarged(oasis_upscaler *u, int64_t first, int64_t frames, int64_t last)
{
    const upscale_sizes *s = &u->sizes;
    tensor *pixels = oas_tensor(&u->graph, OAS_F32, OAS_SHAPE5(1, frames, s->padded_height, s->padded_width, 3));
    double start = oas_now();
    size_t each = (size_t)s->padded_height * (size_t)s->padded_width * 3;
    for (int64_t i = 0; pixels && i < frames; i++) {
        int64_t source = first + i < last ? first + i : last;
        oas_resize(u->resizer, u->device->pool, queued(u, source)->frame.rgb, (float *)pixels->data + (size_t)i * each,
                   2.f, -1.f);
    }
    u->seconds_resize += oas_now() - start;
    return pixels;
}

static oasis_status graph_status(oasis_upscaler *u, const graph *g)
{
    return g->status < 0 ? oas_fail(&u->message, g->status, "%s", g->message.text) : OASIS_OK;
}

/* Where latent i of the shot lies in a held buffer of `channels`. */
static float *held(const oasis_upscaler *u, float *buffer, int64_t latent, int channels)
{
    size_t cells = (size_t)u->sizes.grid_width * (size_t)u->sizes.grid_height;
    return buffer + (size_t)(latent - u->first_held) * cells * (size_t)channels;
}

/* Drops held latents that neither a window nor the decoder will look at again, when room is needed. */
static void make_room(oasis_upscaler *u)
{
    const model_config *config = &u->model->file.config;
    if (u->shot_latents - u->first_held < u->held_most)
        return;
    int64_t keep = u->shot_latents - u->sizes.window_latents; /* the last window may begin here */
    if (keep > u->decoded)
        keep = u->decoded;
    size_t cells = (size_t)u->sizes.grid_width * (size_t)u->sizes.grid_height;
    size_t count = (size_t)(u->shot_latents - keep) * cells;
    memmove(u->c, held(u, u->c, keep, config->in_dim), count * (size_t)config->in_dim * sizeof(float));
    memmove(u->z, held(u, u->z, keep, config->latent_channels),
            count * (size_t)config->latent_channels * sizeof(float));
    u->first_held = keep;
}

static oasis_status project(oasis_upscaler *u, int64_t given)
{
    bool start = u->shot_latents == 0;
    int64_t frames = start ? 1 : OAS_LATENT_FRAMES;
    int64_t here = given < frames ? given : frames;
    make_room(u);
    oas_graph_reset(&u->graph);
    tensor *c = oas_project(&u->graph, u->model, enlarged(u, u->projected, frames, u->projected + here - 1), start);
    OAS_TRY(graph_status(u, &u->graph));
    memcpy(held(u, u->c, u->shot_latents, u->model->file.config.in_dim), c->data, oas_bytes(c));
    if (start)
        u->statistics.shots++;
    u->shot_latents++;
    u->projected += here;
    return OASIS_OK;
}

/* ---- restore ------------------------------------------------------------------------------------------------------------ */

static bool all_finite(const float *values, int64_t n)
{
    /* A sum of differences is NaN as soon as one value is not finite; the loop has no branch. */
    float probe = 0;
    for (int64_t i = 0; i < n; i++)
        probe += values[i] - values[i];
    return probe == 0.f;
}

/* The values of one window of the grid: [1, latents, rows, columns, in_dim]. */
static tensor *cut_out(oasis_upscaler *u, graph *g, int64_t first, int64_t latents, int row, int column)
{
    const upscale_sizes *s = &u->sizes;
    int channels = u->model->file.config.in_dim;
    tensor *w = oas_tensor(g, OAS_F32, OAS_SHAPE5(1, latents, s->rows.window, s->columns.window, channels));
    size_t run = (size_t)s->columns.window * (size_t)channels;
    for (int64_t i = 0; w && i < latents * s->rows.window; i++) {
        const float *from = held(u, u->c, first + i / s->rows.window, channels) +
                            ((size_t)(row + i % s->rows.window) * (size_t)s->grid_width + (size_t)column) * (size_t)channels;
        memcpy((float *)w->data + (size_t)i * run, from, run * sizeof(float));
    }
    return w;
}

/* Computes a window once more in fp32; its arena is made at the first need. */
static tensor *restore_exactly(oasis_upscaler *u, int64_t first, int64_t latents, int row, int column)
{
    graph *g = &u->exact;
    if (!g->memory.base) {
        upscale_sizes sizes = u->sizes;
        upscale_memory memory;
        upscale_work work;
        sizes.compute = OAS_F32;
        if (oas_upscale_measure(&sizes, &memory, &work, u->model, u->device, &u->message) < 0)
            return NULL;
        *g = (graph){.device = u->device, .backend = u->graph.backend, .compute = OAS_F32, .cancel = &u->cancelled};
        if (!oas_arena_new(&g->memory, memory.arena)) {
            oas_fail_memory(&u->message, memory.arena, "computing a window in fp32");
            return NULL;
        }
    }
    oas_graph_reset(g);
    u->statistics.windows_recomputed++;
    return oas_restore(g, u->model, cut_out(u, g, first, latents, row, column));
}

/* Adds a window's z to the sum over windows, by its weight at every position. */
static void add_window(oasis_upscaler *u, const tensor *z, int64_t latents, int row, int column)
{
    const upscale_sizes *s = &u->sizes;
    int channels = u->model->file.config.latent_channels;
    const float *from = z->data;
    for (int64_t f = 0; f < latents; f++) {
        for (int y = 0; y < s->rows.window; y++) {
            int grid_y = oas_cut_start(&s->rows, row) + y, grid_x = oas_cut_start(&s->columns, column);
            float down = oas_cut_weight(&s->rows, row, grid_y);
            float *to = u->window + (((size_t)f * (size_t)s->grid_height + (size_t)grid_y) * (size_t)s->grid_width +
                                     (size_t)grid_x) * (size_t)channels;
            for (int x = 0; x < s->columns.window; x++) {
                float weight = down * oas_cut_weight(&s->columns, column, grid_x + x);
                for (int i = 0; i < channels; i++)
                    *to++ += weight * *from++;
            }
        }
    }
}

static oasis_status restore_window(oasis_upscaler *u, int64_t first, int64_t latents, int row, int column)
{
    int y = oas_cut_start(&u->sizes.rows, row), x = oas_cut_start(&u->sizes.columns, column);
    oas_graph_reset(&u->graph);
    tensor *z = oas_restore(&u->graph, u->model, cut_out(u, &u->graph, first, latents, y, x));
    OAS_TRY(graph_status(u, &u->graph));
    u->statistics.windows++;
    if (!all_finite(z->data, oas_count(&z->shape)) && u->graph.compute != OAS_F32) {
        z = restore_exactly(u, first, latents, y, x);
        if (!z)
            return u->exact.status < 0 ? graph_status(u, &u->exact) : OASIS_E_MEMORY;
    }
    if (!all_finite(z->data, oas_count(&z->shape)))
        return oas_fail(&u->message, OASIS_E_MODEL,
                        "the network gives values that are not finite, in fp32 too, near frame %lld; the model or the "
                        "input is unusable", (long long)u->statistics.frames_out);
    add_window(u, z, latents, row, column);
    return OASIS_OK;
}

/* Blends the window's sum into z: what is final stays, what waited is mixed, what is new is taken over. */
static void blend_in_time(oasis_upscaler *u, int64_t first, int64_t latents)
{
    int channels = u->model->file.config.latent_channels;
    size_t each = (size_t)u->sizes.grid_width * (size_t)u->sizes.grid_height * (size_t)channels;
    int64_t shared = u->restored - u->final;
    for (int64_t i = u->final > first ? u->final : first; i < first + latents; i++) {
        const float *fresh = u->window + (size_t)(i - first) * each;
        float *z = held(u, u->z, i, channels);
        if (i >= u->restored) {
            memcpy(z, fresh, each * sizeof(float));
            continue;
        }
        float later = (float)(i - u->final) / (float)shared;
        for (size_t k = 0; k < each; k++)
            z[k] = (1.f - later) * z[k] + later * fresh[k];
    }
}

/* All windows in space over the latents first .. first+latents-1. */
static oasis_status restore(oasis_upscaler *u, int64_t first, int64_t latents, bool last)
{
    const upscale_sizes *s = &u->sizes;
    size_t cells = (size_t)s->grid_width * (size_t)s->grid_height * (size_t)latents;
    memset(u->window, 0, cells * (size_t)u->model->file.config.latent_channels * sizeof(float));
    for (int row = 0; row < s->rows.count; row++)
        for (int column = 0; column < s->columns.count; column++)
            OAS_TRY(restore_window(u, first, latents, row, column));
    blend_in_time(u, first, latents);
    u->restored = first + latents;
    u->final = last ? u->restored : u->restored - s->shared_latents;
    return OASIS_OK;
}

/* ---- decode and finish --------------------------------------------------------------------------------------------------- */

/* Copies an area of pixels [1,T,H,W,3] out of (or, with `into`, its inner part back into) the whole. */
static void copy_area(float *to, int to_width, int to_x, int to_y, const float *from, int from_width, int from_x,
                      int from_y, int width, int height)
{
    for (int y = 0; y < height; y++)
        memcpy(to + ((size_t)(to_y + y) * (size_t)to_width + (size_t)to_x) * 3,
               from + ((size_t)(from_y + y) * (size_t)from_width + (size_t)from_x) * 3, (size_t)width * 3 * sizeof(float));
}

/* One tile of a frame: cuts out of x and pixels with their halo, decodes, writes the tile's part of `result`. */
static oasis_status decode_tile(oasis_upscaler *u, int tile, const tensor *pixels, const tensor *x, tensor *result)
{
    enum { P = OAS_LATENT_PIXELS };
    const upscale_sizes *s = &u->sizes;
    graph *g = &u->graph;
    int64_t channels = oas_last(x, 0);
    size_t cell = (size_t)channels * oas_dtype_size(x->dtype);
    tile_area a = oas_upscale_tile(s, u->model->decoder.kind->halo, tile);
    int64_t frames = pixels->shape.size[1];
    size_t whole = (size_t)s->padded_width * (size_t)s->padded_height * 3;
    size_t part_each = (size_t)(a.with_rows * P) * (size_t)(a.with_columns * P) * 3;
    tensor *piece = oas_tensor(g, x->dtype, OAS_SHAPE5(1, 1, a.with_rows, a.with_columns, channels));
    tensor *part = oas_tensor(g, OAS_F32, OAS_SHAPE5(1, frames, a.with_rows * P, a.with_columns * P, 3));
    OAS_TRY(graph_status(u, g));
    for (int y = 0; y < a.with_rows; y++)
        memcpy((char *)piece->data + (size_t)y * (size_t)a.with_columns * cell,
               (const char *)x->data + ((size_t)(a.from_row + y) * (size_t)s->grid_width + (size_t)a.from_column) * cell,
               (size_t)a.with_columns * cell);
    for (int64_t f = 0; f < frames; f++)
        copy_area((float *)part->data + (size_t)f * part_each, a.with_columns * P, 0, 0,
                  (const float *)pixels->data + (size_t)f * whole, s->padded_width, a.from_column * P, a.from_row * P,
                  a.with_columns * P, a.with_rows * P);
    tensor *out = oas_decode_tile(g, u->model, &u->states[tile], piece, part);
    OAS_TRY(graph_status(u, g));
    for (int64_t f = 0; f < frames; f++)
        copy_area((float *)result->data + (size_t)f * whole, s->padded_width, a.column * P, a.row * P,
                  (const float *)out->data + (size_t)f * part_each, a.with_columns * P, (a.column - a.from_column) * P,
                  (a.row - a.from_row) * P, a.columns * P, a.rows * P);
    return OASIS_OK;
}

/* [padded] in [-1,1] to the frame's size in [0,1]. */
static void crop(const upscale_sizes *s, const float *from, float *to)
{
    for (int y = 0; y < s->out_height; y++) {
        const float *row = from + (size_t)y * (size_t)s->padded_width * 3;
        for (int i = 0; i < s->out_width * 3; i++)
            *to++ = 0.5f * row[i] + 0.5f;
    }
}

static oasis_status enlarge_alpha(oasis_upscaler *u, const oasis_frame *source, oasis_frame *out)
{
    if (!u->alpha_resizer) {
        oas_resize_spec spec = u->resize_spec;
        spec.channels = 1;
        spec.padded_width = spec.padded_height = 0;
        OAS_TRY(oas_resizer_new(&u->alpha_resizer, &spec, &u->message));
    }
    oas_resize(u->alpha_resizer, u->device->pool, source->alpha, out->alpha, 1.f, 0.f);
    for (size_t i = 0; i < (size_t)out->width * (size_t)out->height; i++)
        out->alpha[i] = fminf(fmaxf(out->alpha[i], 0.f), 1.f);
    return OASIS_OK;
}

/* Makes the output frame of one decoded frame and puts it into the ready list. */
static oasis_status finish(oasis_upscaler *u, const oasis_frame *source, const float *decoded, const float *enlarged_input)
{
    const upscale_sizes *s = &u->sizes;
    oasis_frame *out = &u->ready[u->ready_count];
    double start = oas_now();
    if (oasis_frame_new(out, s->out_width, s->out_height, source->alpha != NULL) < 0)
        return oas_fail_memory(&u->message, (size_t)s->out_width * (size_t)s->out_height * 12, "a finished frame");
    u->ready_count++;
    out->pts = source->pts;
    out->duration = source->duration;
    out->opaque = source->opaque;
    crop(s, decoded, out->rgb);
    if (u->options.color_fix != OASIS_COLOR_FIX_NONE || u->options.strength < 1) {
        float *before = oas_scratch(&u->graph, (size_t)s->out_width * (size_t)s->out_height * 3 * sizeof(float));
        OAS_TRY(graph_status(u, &u->graph));
        crop(s, enlarged_input, before);
        if (u->options.color_fix != OASIS_COLOR_FIX_NONE)
            oas_color_fix(u->options.color_fix, u->device->pool, s->out_width, s->out_height, out->rgb, before,
                          u->correction);
        float strength = (float)u->options.strength;
        for (size_t i = 0; i < (size_t)s->out_width * (size_t)s->out_height * 3; i++)
            out->rgb[i] = before[i] + strength * (out->rgb[i] - before[i]);
    }
    u->seconds_finish += oas_now() - start;
    return source->alpha ? enlarge_alpha(u, source, out) : OASIS_OK;
}

/* Decodes the next final latent; its frames leave the queue. */
static oasis_status decode(oasis_upscaler *u)
{
    const upscale_sizes *s = &u->sizes;
    graph *g = &u->graph;
    int64_t frames = u->decoded == 0 ? 1 : OAS_LATENT_FRAMES;
    int64_t real = u->projected < frames ? u->projected : frames; /* the rest repeats the shot's last frame */
    size_t whole = (size_t)s->padded_width * (size_t)s->padded_height * 3;
    const float *z = held(u, u->z, u->decoded, u->model->file.config.latent_channels);
    oas_graph_reset(g);
    tensor *pixels = enlarged(u, 0, frames, real - 1), *result;
    OAS_TRY(graph_status(u, g));
    int tiles = s->tile_rows * s->tile_columns, channels = u->model->file.config.latent_channels;
    tensor *latent = oas_tensor(g, OAS_F32, OAS_SHAPE5(1, 1, s->grid_height, s->grid_width, channels));
    OAS_TRY(graph_status(u, g));
    memcpy(latent->data, z, oas_bytes(latent));
    if (tiles == 1) {
        result = oas_decode(g, u->model, &u->states[0], latent, pixels);
    } else {
        result = oas_tensor(g, OAS_F32, pixels->shape);
        const tensor *x = oas_decode_begin(g, u->model, &u->states[tiles], latent);
        OAS_TRY(graph_status(u, g));
        for (int tile = 0; tile < tiles; tile++) {
            size_t mark = oas_graph_mark(g);
            OAS_TRY(decode_tile(u, tile, pixels, x, result));
            oas_graph_release(g, mark);
        }
    }
    OAS_TRY(graph_status(u, g));
    u->ready_first = u->ready_count = 0;
    for (int64_t i = 0; i < real; i++) {
        oasis_frame *source = &queued(u, i)->frame;
        size_t mark = oas_graph_mark(g);
        OAS_TRY(finish(u, source, (const float *)result->data + (size_t)i * whole,
                       (const float *)pixels->data + (size_t)i * whole));
        oas_graph_release(g, mark);
        oasis_frame_free(source);
    }
    u->queue_first = (int)((u->queue_first + real) % u->queue_size);
    u->queue_count -= (int)real;
    u->projected -= real;
    u->decoded++;
    return OASIS_OK;
}

/* ---- the order of things ------------------------------------------------------------------------------------------------- */

static void start_shot(oasis_upscaler *u)
{
    u->shot_latents = u->restored = u->final = u->decoded = u->first_held = 0;
    for (int i = 0; i <= u->sizes.tile_rows * u->sizes.tile_columns; i++)
        oas_state_restart(&u->states[i]);
    if (u->queue_count > 0)
        queued(u, 0)->starts_shot = false;
}

/* Does the next thing that can be done.  OASIS_AGAIN: nothing without another frame; OASIS_END: nothing is left. */
static oasis_status advance(oasis_upscaler *u)
{
    bool shot_ends;
    int64_t given = unprojected(u, &shot_ends), window = u->sizes.window_latents;
    int64_t due = u->restored == 0 ? window : u->restored + window - u->sizes.shared_latents;
    if (u->decoded < u->final)
        return decode(u);
    if (u->shot_latents == due)
        return restore(u, u->shot_latents - window, window, shot_ends && given == 0);
    if (given >= (u->shot_latents == 0 ? 1 : OAS_LATENT_FRAMES) || (shot_ends && given > 0))
        return project(u, given);
    if (!shot_ends)
        return OASIS_AGAIN;
    if (u->shot_latents > u->restored) {
        int64_t latents = u->shot_latents < window ? u->shot_latents : window;
        return restore(u, u->shot_latents - latents, latents, true);
    }
    if (u->restored > u->final) {
        u->final = u->restored;
        return OASIS_OK;
    }
    if (u->queue_count == 0 && u->ended)
        return OASIS_END;
    start_shot(u);
    return OASIS_OK;
}

oasis_status oasis_upscaler_receive(oasis_upscaler *u, oasis_frame *frame)
{
    while (u->status >= 0 && u->ready_count == 0) {
        oasis_status s = atomic_load(&u->cancelled) ? oas_fail(&u->message, OASIS_E_CANCELLED, "cancelled") : advance(u);
        if (s < 0)
            u->status = s;
        else if (s != OASIS_OK)
            return s;
    }
    if (u->status < 0)
        return u->status;
    *frame = u->ready[u->ready_first];
    u->ready[u->ready_first++] = (oasis_frame){0};
    u->ready_count--;
    u->statistics.frames_out++;
    return OASIS_OK;
}

const char *oasis_upscaler_message(const oasis_upscaler *u)
{
    return u->message.text;
}

void oasis_upscaler_cancel(oasis_upscaler *u)
{
    atomic_store(&u->cancelled, true);
}

void oasis_upscaler_calibrate(oasis_upscaler *u)
{
    u->peak = oas_peak(u->device->level, u->sizes.compute, u->device->pool);
}

/* ---- what it says about itself -------------------------------------------------------------------------------------------- */

void oasis_upscaler_plan(const oasis_upscaler *u, oasis_plan *plan)
{
    const upscale_sizes *s = &u->sizes;
    int frames = (s->window_latents - 1) * OAS_LATENT_FRAMES + 1;
    *plan = (oasis_plan){.width = s->out_width,
                         .height = s->out_height,
                         .window_frames = frames,
                         .window_height = s->rows.window * OAS_LATENT_PIXELS,
                         .window_width = s->columns.window * OAS_LATENT_PIXELS,
                         .windows = s->rows.count * s->columns.count,
                         .tiles = s->tile_rows * s->tile_columns,
                         .delay = frames + 1,
                         .bf16 = s->compute == OAS_BF16,
                         .threads = oas_pool_workers(u->device->pool),
                         .weight_bytes = (int64_t)u->planned.weights,
                         .peak_bytes = (int64_t)oas_upscale_total(&u->planned) + u->options.memory_reserved,
                         .reserved_bytes = u->options.memory_reserved,
                         .limit_bytes = oas_memory_limit(&u->options),
                         .flops_per_frame = u->work.dense + u->work.conv + u->work.attention};
    plan->seconds_per_frame = oas_estimate_seconds(s, &u->work, u->device, u->peak);
}

static void add_stage(oasis_statistics *s, const char *name, double seconds, double flops)
{
    if (s->n_stages < OASIS_MAX_STAGES)
        s->stages[s->n_stages++] = (oasis_stage_time){name, seconds, flops};
}

void oasis_upscaler_statistics(const oasis_upscaler *u, oasis_statistics *statistics)
{
    *statistics = u->statistics;
    statistics->n_stages = 0;
    add_stage(statistics, "resize", u->seconds_resize, 0);
    for (int i = 0; i < OAS_MAX_STAGES && u->graph.stages[i].name; i++) {
        const stage_time *t = &u->graph.stages[i];
        add_stage(statistics, t->name, t->seconds, t->flops);
    }
    add_stage(statistics, "finish", u->seconds_finish, 0);
    statistics->peak_bytes = (int64_t)(u->graph.memory.size + u->exact.memory.size + u->planned.grids + u->planned.states +
                                       u->planned.frames + oas_parameters_packed_bytes(&u->model->parameters));
}
