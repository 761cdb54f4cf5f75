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
#include "cuda/passes.h"

#include <math.h>
#include <string.h>

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
    size_t frame = (size_t)s->out_width * (size_t)s->out_height * 3;
    if (s->looks_back && !u->device->cuda && !(u->before = oas_alloc_unset(frame, sizeof(float))))
        return oas_fail_memory(message, frame * sizeof(float), "a frame");
    return OASIS_OK;
}

/* Storage for latents where the graph computes, zeroed. */
static bool open_latents(oasis_upscaler *u, tensor *t, int latents, int channels)
{
    const upscale_sizes *s = &u->sizes;
    t->dtype = OAS_F32;
    t->shape = OAS_SHAPE5(1, latents, s->grid_height, s->grid_width, channels);
    return oas_graph_own(&u->graph, t) && oas_graph_zero(&u->graph, t->data, oas_bytes(t)) == OASIS_OK;
}

static oasis_status open_buffers(oasis_upscaler *u, oasis_message *message)
{
    const upscale_sizes *s = &u->sizes;
    const model_config *c = &u->model->file.config;
    u->held_most = 2 * s->window_latents;
    u->queue_size = (u->held_most + 2) * OAS_LATENT_FRAMES;
    u->queue = oas_alloc((size_t)u->queue_size, sizeof *u->queue);
    bool latents = open_latents(u, &u->c, u->held_most, c->in_dim) &&
                   open_latents(u, &u->z, u->held_most, c->latent_channels) &&
                   open_latents(u, &u->window, s->window_latents, c->latent_channels);
    u->blends = oas_packed_new();
    u->states = oas_alloc((size_t)(s->tile_rows * s->tile_columns) + 1, sizeof *u->states);
    if (!u->queue || !latents || !u->blends || !u->states)
        return oas_fail_memory(message, u->planned.grids, "the latents");
    if (!oas_graph_open(&u->graph, u->planned.arena))
        return oas_fail_memory(message, u->planned.arena, "the network's activations");
    return u->device->cuda ? oas_open_transfers(u, message) : OASIS_OK;
}

static oasis_status open_upscaler(oasis_upscaler *u, int width, int height, oasis_message *message)
{
    OAS_TRY(oas_device_open(&u->device, u->options.device, u->options.threads, message));
    u->device_name = oas_device_name(u->device);
    u->options.device = u->device_name.text;
    int64_t limit = oas_device_limit(u->device, &u->options);
    OAS_TRY(
        oas_upscale_plan(&u->sizes, &u->planned, &u->work, u->model, u->device, &u->options, width, height, message));
    oas_nominal_rates(u->device, u->sizes.compute, &u->rates);
    u->memory_limit = limit;
    u->graph = oas_device_graph(u->device, u->sizes.compute);
    u->graph.cancel = &u->cancelled;
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
    oas_replays_free(&u->graph, &u->replays);
    for (int i = 0; i < u->queue_count; i++)
        oasis_frame_free(&u->queue[(u->queue_first + i) % u->queue_size].frame);
    for (int i = 0; i < u->ready_count; i++)
        oasis_frame_free(&u->ready[u->ready_first + i]);
    oas_close_transfers(u);
    for (int i = 0; u->states && i <= u->sizes.tile_rows * u->sizes.tile_columns; i++)
        oas_state_free(&u->states[i]);
    oas_free(u->states);
    oas_free(u->queue);
    oas_tensor_disown(&u->c);
    oas_tensor_disown(&u->z);
    oas_tensor_disown(&u->window);
    oas_packed_free(&u->blends);
    oas_free(u->before);
    oas_free(u->correction);
    oas_graph_close(&u->graph);
    oas_graph_close(&u->exact);
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
    bool changed = u->scenes && oas_scene_push(u->scenes, u->device->pool, frame->rgb);
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
    graph *g = &u->graph;
    tensor *pixels = oas_tensor(g, OAS_F32, OAS_SHAPE5(1, frames, s->padded_height, s->padded_width, 3));
    double start = oas_now();
    size_t each = (size_t)s->padded_height * (size_t)s->padded_width * 3;
    bool there = g->cuda && u->resize_spec.filter == OAS_FILTER_BICUBIC;
    float *host = g->cuda && !there ? oas_alloc_unset(each, sizeof *host) : NULL;
    for (int64_t i = 0; pixels && i < frames; i++) {
        const float *from = queued(u, first + i < last ? first + i : last)->frame.rgb;
        if (there) {
            oas_enlarge_on_gpu(u, from, (float *)pixels->data + (size_t)i * each);
        } else if (!g->cuda) {
            oas_resize(u->resizer, u->device->pool, from, (float *)pixels->data + (size_t)i * each, 2.f, -1.f);
        } else if (host) {
            oas_resize(u->resizer, u->device->pool, from, host, 2.f, -1.f);
            oas_graph_upload_part(g, pixels, (size_t)i * each * sizeof *host, host, each * sizeof *host);
        } else {
            oas_graph_fail(g, OASIS_E_MEMORY, "out of memory: an enlarged frame");
        }
    }
    oas_free(host);
    u->seconds_resize += oas_now() - start;
    return pixels;
}

/* Values of a latent in a buffer. */
static size_t latent_floats(const tensor *buffer)
{
    return (size_t)oas_count(&buffer->shape) / (size_t)buffer->shape.size[1];
}

/* Where latent i of the shot lies in a held buffer. */
static float *held(const oasis_upscaler *u, const tensor *buffer, int64_t latent)
{
    return (float *)buffer->data + (size_t)(latent - u->first_held) * latent_floats(buffer);
}

/* One latent of a buffer as a tensor. */
static tensor *latent_at(graph *g, const tensor *buffer, float *at)
{
    tensor *t = oas_tensor_header(g);
    if (!t)
        return NULL;
    *t = *buffer;
    t->shape.size[1] = 1;
    t->data = at;
    return t;
}

/* Drops held latents that neither a window nor the decoder will look at again, when room is needed. */
static void make_room(oasis_upscaler *u)
{
    graph *g = &u->graph;
    if (u->shot_latents - u->first_held < u->held_most)
        return;
    int64_t keep = u->shot_latents - u->sizes.window_latents; /* the last window may begin here */
    if (keep > u->decoded)
        keep = u->decoded;
    size_t count = (size_t)(u->shot_latents - keep) * sizeof(float);
    oas_graph_copy(g, u->c.data, held(u, &u->c, keep), count * latent_floats(&u->c));
    oas_graph_copy(g, u->z.data, held(u, &u->z, keep), count * latent_floats(&u->z));
    u->first_held = keep;
}

static oasis_status project(oasis_upscaler *u, int64_t given)
{
    bool start = u->shot_latents == 0;
    int64_t frames = start ? 1 : OAS_LATENT_FRAMES;
    int64_t here = given < frames ? given : frames;
    oas_graph_reset(&u->graph);
    make_room(u);
    tensor *pixels = enlarged(u, u->projected, frames, u->projected + here - 1);
    tensor *c = oas_run_network(u, (network_call){.kind = NETWORK_PROJECT, .pixels = pixels, .start = start});
    OAS_TRY(oas_graph_status(u, &u->graph));
    oas_graph_copy(&u->graph, held(u, &u->c, u->shot_latents), c->data, oas_bytes(c));
    OAS_TRY(oas_graph_status(u, &u->graph));
    if (start)
        u->statistics.shots++;
    u->shot_latents++;
    u->projected += here;
    return OASIS_OK;
}

/* ---- restore ------------------------------------------------------------------------------------------------------------ */

/* Where a window's mark lies on the GPU: not 0 when it has a value that is not finite. */
static int32_t *mark_at(const oasis_upscaler *u, int window)
{
    return (int32_t *)u->marks.device + window;
}

static void mark_window(oasis_upscaler *u, graph *g, const tensor *z, int window)
{
    oasis_status s =
        g->status < 0 ? g->status
                      : g->cuda->tables.passes->not_finite(g->cuda, mark_at(u, window), z->data, oas_count(&z->shape));
    if (s < 0)
        oas_graph_fail(g, s, "looking at the transformer's result on the GPU failed");
}

static bool all_finite(oasis_upscaler *u, graph *g, const tensor *z, int window)
{
    if (g->cuda) {
        int32_t mark = 0;
        oas_graph_zero(g, mark_at(u, window), sizeof mark);
        mark_window(u, g, z, window);
        if (g->status == OASIS_OK && oas_cuda_download(g->cuda, &mark, mark_at(u, window), sizeof mark) < 0)
            oas_graph_fail(g, OASIS_E_DEVICE, "the mark of a window could not be copied from the GPU");
        return g->status == OASIS_OK && mark == 0;
    }
    const float *values = z->data;
    /* A sum of differences is NaN as soon as one value is not finite; the loop has no branch. */
    float probe = 0;
    for (int64_t i = 0, n = oas_count(&z->shape); i < n; i++)
        probe += values[i] - values[i];
    return probe == 0.f;
}

/* Copies a window of one latent out of the grid, or back into it. */
static void copy_window(graph *g, const upscale_sizes *s, float *grid, float *window, int64_t channels, int row,
                        int column, bool back)
{
    size_t cell = (size_t)channels * sizeof(float), run = (size_t)s->columns.window * cell,
           step = (size_t)s->grid_width * cell;
    float *at = grid + ((size_t)row * (size_t)s->grid_width + (size_t)column) * (size_t)channels;
    if (back)
        oas_graph_copy_rows(g, at, step, window, run, run, (size_t)s->rows.window);
    else
        oas_graph_copy_rows(g, window, run, at, step, run, (size_t)s->rows.window);
}

/* Row and column of a window in the cut. */
typedef struct window_place {
    int row, column; /* of the cut */
    int y, x;        /* where it begins in the grid */
} window_place;

static window_place place_of(const upscale_sizes *s, int window)
{
    window_place at = {.row = window / s->columns.count, .column = window % s->columns.count};
    at.y = oas_cut_start(&s->rows, at.row);
    at.x = oas_cut_start(&s->columns, at.column);
    return at;
}

/* The values of `count` windows of the grid: [count, latents, rows, columns, in_dim]. */
static tensor *cut_out(oasis_upscaler *u, graph *g, int64_t first, int64_t latents, int window, int count)
{
    const upscale_sizes *s = &u->sizes;
    int64_t channels = oas_last(&u->c, 0);
    tensor *w = oas_tensor(g, OAS_F32, OAS_SHAPE5(count, latents, s->rows.window, s->columns.window, channels));
    size_t each = w ? (size_t)oas_count(&w->shape) / (size_t)(count * latents) : 0;
    for (int64_t i = 0; w && i < count * latents; i++) {
        window_place at = place_of(s, window + (int)(i / latents));
        copy_window(g, s, held(u, &u->c, first + i % latents), (float *)w->data + (size_t)i * each, channels, at.y,
                    at.x, false);
    }
    return w;
}

/* Computes a window once more in fp32; its arena is made at the first need. */
static tensor *restore_exactly(oasis_upscaler *u, int64_t first, int64_t latents, int window)
{
    graph *g = &u->exact;
    if (!g->memory.base) {
        upscale_sizes sizes = u->sizes;
        upscale_memory memory;
        upscale_work work;
        sizes.compute = OAS_F32;
        sizes.at_once = 1;
        if (oas_upscale_measure(&sizes, &memory, &work, u->model, u->device, &u->message) < 0)
            return NULL;
        *g = oas_device_graph(u->device, OAS_F32);
        g->cancel = &u->cancelled;
        if (!oas_graph_open(g, memory.arena)) {
            oas_fail_memory(&u->message, memory.arena, "computing a window in fp32");
            return NULL;
        }
    }
    oas_graph_reset(g);
    u->statistics.windows_recomputed++;
    return oas_restore(g, u->model, cut_out(u, g, first, latents, window, 1));
}

/* What tells one window's weights from another's, and what they are made from. */
struct blend {
    cut rows, columns;
    int row, column, channels;
};

static oasis_status make_blend(void *arg, void *to)
{
    const struct blend *b = arg;
    float *weight = to;
    for (int y = 0; y < b->rows.window; y++) {
        float down = oas_cut_weight(&b->rows, b->row, oas_cut_start(&b->rows, b->row) + y);
        for (int x = 0; x < b->columns.window; x++) {
            float both = down * oas_cut_weight(&b->columns, b->column, oas_cut_start(&b->columns, b->column) + x);
            for (int i = 0; i < b->channels; i++)
                *weight++ = both;
        }
    }
    return OASIS_OK;
}

/* Adds a window's z [1,latents,rows,columns,channels] to the sum over windows, by its weight at every position. */
static void add_window(oasis_upscaler *u, graph *g, tensor *z, int64_t latents, int window)
{
    const upscale_sizes *s = &u->sizes;
    window_place at = place_of(s, window);
    struct blend b = {s->rows, s->columns, at.row, at.column, u->model->file.config.latent_channels};
    int64_t each = (int64_t)latent_floats(z), channels = oas_last(z, 0);
    pack_key key = {"blend"};
    memcpy(key.bytes + 8, &window, sizeof window);
    tensor *weight = oas_graph_table(g, u->blends, &key, OAS_SHAPE2(1, each), make_blend, &b);
    tensor *sum = oas_tensor(g, OAS_F32, z->shape);
    for (int64_t f = 0; sum && f < latents; f++)
        copy_window(g, s, (float *)u->window.data + (size_t)f * latent_floats(&u->window),
                    (float *)sum->data + f * each, channels, at.y, at.x, false);
    const shape flat = OAS_SHAPE2(latents, each);
    sum = oas_add_gated(g, oas_view(g, sum, flat), oas_view(g, z, flat), weight, 0, NULL);
    for (int64_t f = 0; sum && f < latents; f++)
        copy_window(g, s, (float *)u->window.data + (size_t)f * latent_floats(&u->window),
                    (float *)sum->data + f * each, channels, at.y, at.x, true);
}

/* One window's z of several. */
static tensor *z_of(graph *g, tensor *z, int64_t i)
{
    tensor *one = oas_tensor_header(g);
    if (!one)
        return NULL;
    *one = *z;
    one->shape.size[0] = 1;
    one->data = (float *)z->data + i * oas_count(&one->shape);
    return one;
}

static oasis_status not_finite(oasis_upscaler *u)
{
    return oas_fail(&u->message, OASIS_E_MODEL,
                    "the network gives values that are not finite, in fp32 too, near frame %lld; the model or the "
                    "input is unusable",
                    (long long)u->statistics.frames_out);
}

/* The z of a window that was not finite, in fp32, into *z, of the graph *g. */
static oasis_status restore_again(oasis_upscaler *u, int64_t first, int64_t latents, int window, tensor **z, graph **g)
{
    if (u->graph.compute == OAS_F32)
        return not_finite(u);
    *z = restore_exactly(u, first, latents, window);
    *g = &u->exact;
    if (!*z)
        return u->exact.status < 0 ? oas_graph_status(u, &u->exact) : OASIS_E_MEMORY;
    bool finite = all_finite(u, &u->exact, *z, window);
    OAS_TRY(oas_graph_status(u, &u->exact));
    return finite ? OASIS_OK : not_finite(u);
}

/*
 * `count` windows from `window` on, added to the sum over windows; one that is not finite in fp32.  `marks` says which are
 * not, and then there is one window; NULL: that is not known, and found out at once, or, on a GPU, only marked.
 */
static oasis_status restore_some(oasis_upscaler *u, int64_t first, int64_t latents, int window, int count,
                                 const int32_t *marks)
{
    bool exactly = marks && marks[window];
    graph *g = &u->graph;
    tensor *z = NULL;
    oas_graph_reset(g);
    if (!exactly) {
        tensor *c = cut_out(u, g, first, latents, window, count);
        z = oas_run_network(u, (network_call){.kind = NETWORK_RESTORE, .x = c, .part = (int)latents, .windows = count});
        OAS_TRY(oas_graph_status(u, g));
    }
    if (!marks) {
        u->statistics.windows += count;
        for (int i = 0; g->cuda && i < count; i++)
            mark_window(u, g, z_of(g, z, i), window + i);
        exactly = !g->cuda && !all_finite(u, g, z, window);
    }
    if (exactly)
        OAS_TRY(restore_again(u, first, latents, window, &z, &g));
    for (int i = 0; i < count && g->status >= 0; i++) {
        size_t mark = oas_graph_mark(g);
        tensor *one = z_of(g, z, i);
        if (one)
            add_window(u, g, one, latents, window + i);
        oas_graph_release(g, mark);
    }
    return oas_graph_status(u, g);
}

/* All windows in space, blended. */
static oasis_status restore_windows(oasis_upscaler *u, int64_t first, int64_t latents, const int32_t *marks)
{
    const upscale_sizes *s = &u->sizes;
    oas_graph_reset(&u->graph);
    oas_graph_zero(&u->graph, u->window.data, oas_bytes(&u->window));
    if (!marks && u->graph.cuda)
        oas_graph_zero(&u->graph, u->marks.device, u->marks.bytes);
    OAS_TRY(oas_graph_status(u, &u->graph));
    int windows = s->rows.count * s->columns.count, count = marks ? 1 : s->at_once;
    for (int window = 0; window < windows; window += count)
        OAS_TRY(restore_some(u, first, latents, window, count, marks));
    return OASIS_OK;
}

/* Blends the window's sum into z: what is final stays, what waited is mixed, what is new is taken over. */
static oasis_status blend_in_time(oasis_upscaler *u, int64_t first, int64_t latents)
{
    graph *g = &u->graph;
    size_t each = latent_floats(&u->z);
    int64_t shared = u->restored - u->final;
    oas_graph_reset(g);
    for (int64_t i = u->final > first ? u->final : first; i < first + latents; i++) {
        float *fresh = (float *)u->window.data + (size_t)(i - first) * each, *z = held(u, &u->z, i);
        if (i >= u->restored) {
            oas_graph_copy(g, z, fresh, each * sizeof(float));
            continue;
        }
        float later = (float)(i - u->final) / (float)shared;
        size_t mark = oas_graph_mark(g);
        tensor *old = latent_at(g, &u->z, z), *change = oas_axpy(g, latent_at(g, &u->window, fresh), -1, old);
        tensor *mixed = oas_axpy(g, old, later, change);
        if (mixed)
            oas_graph_copy(g, z, mixed->data, each * sizeof(float));
        oas_graph_release(g, mark);
    }
    return oas_graph_status(u, g);
}

static oasis_status take_over(oasis_upscaler *u, const restored_windows *r)
{
    OAS_TRY(blend_in_time(u, r->first, r->latents));
    u->restored = r->first + r->latents;
    u->final = r->last ? u->restored : u->restored - u->sizes.shared_latents;
    return OASIS_OK;
}

static oasis_status restore(oasis_upscaler *u, restored_windows r)
{
    double start = oas_now();
    OAS_TRY(restore_windows(u, r.first, r.latents, NULL));
    if (u->graph.cuda) {
        oasis_status s = oas_cuda_block_down(u->graph.cuda, &u->marks);
        u->marked = r;
        return s < 0 ? oas_fail(&u->message, s, "the marks of windows could not be copied from the GPU") : s;
    }
    OAS_TRY(take_over(u, &r));
    u->seconds_restore += oas_now() - start;
    return OASIS_OK;
}

/* May the caller send a frame before he gets one? */
static bool takes_frames(const oasis_upscaler *u)
{
    int64_t inside = u->statistics.frames_in - u->statistics.frames_out;
    return !u->ended && u->queue_count < u->queue_size && inside < oas_delay(u);
}

/*
 * A GPU's windows are looked at when all are on their way, since waiting for each would leave it idle in between; where a
 * mark is set, which is rare, all are computed again.  While they are on their way, frames may come and go.
 */
static oasis_status take_marked(oasis_upscaler *u)
{
    const restored_windows r = u->marked;
    int windows = u->sizes.rows.count * u->sizes.columns.count;
    const int32_t *marks = u->marks.host;
    bool any = false;
    if (!oas_cuda_block_done(u->device->cuda, &u->marks) && (takes_frames(u) || u->coming_count > 0))
        return OASIS_AGAIN;
    OAS_TRY(oas_cuda_block_wait(u->device->cuda, &u->marks, &u->message));
    for (int i = 0; i < windows; i++)
        any |= marks[i] != 0;
    if (any)
        OAS_TRY(restore_windows(u, r.first, r.latents, marks));
    u->marked.latents = 0;
    return take_over(u, &r);
}

/* ---- decode and finish --------------------------------------------------------------------------------------------------- */

/* Copies an area of cells of `cell` bytes from one picture to another. */
static void copy_area(graph *g, void *to, int to_width, int to_x, int to_y, const void *from, int from_width,
                      int from_x, int from_y, int width, int height, size_t cell)
{
    oas_graph_copy_rows(g, (char *)to + ((size_t)to_y * (size_t)to_width + (size_t)to_x) * cell,
                        (size_t)to_width * cell,
                        (const char *)from + ((size_t)from_y * (size_t)from_width + (size_t)from_x) * cell,
                        (size_t)from_width * cell, (size_t)width * cell, (size_t)height);
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
    OAS_TRY(oas_graph_status(u, g));
    copy_area(g, piece->data, a.with_columns, 0, 0, x->data, s->grid_width, a.from_column, a.from_row, a.with_columns,
              a.with_rows, cell);
    for (int64_t f = 0; f < frames; f++)
        copy_area(g, (float *)part->data + (size_t)f * part_each, a.with_columns * P, 0, 0,
                  (const float *)pixels->data + (size_t)f * whole, s->padded_width, a.from_column * P, a.from_row * P,
                  a.with_columns * P, a.with_rows * P, 3 * sizeof(float));
    tensor *out = oas_run_network(
        u, (network_call){.kind = NETWORK_TILE, .state = &u->states[tile], .part = tile, .x = piece, .pixels = part});
    OAS_TRY(oas_graph_status(u, g));
    for (int64_t f = 0; f < frames; f++)
        copy_area(g, (float *)result->data + (size_t)f * whole, s->padded_width, a.column * P, a.row * P,
                  (const float *)out->data + (size_t)f * part_each, a.with_columns * P, (a.column - a.from_column) * P,
                  (a.row - a.from_row) * P, a.columns * P, a.rows * P, 3 * sizeof(float));
    return oas_graph_status(u, g);
}

/* Decodes the next final latents; their frames leave the queue. */
static oasis_status decode(oasis_upscaler *u)
{
    const upscale_sizes *s = &u->sizes;
    graph *g = &u->graph;
    int64_t left = u->final - u->decoded, latents = left < s->latents_at_once ? left : s->latents_at_once;
    int64_t frames = latents * OAS_LATENT_FRAMES - (u->decoded == 0 ? OAS_LATENT_FRAMES - 1 : 0);
    if (g->cuda && u->coming_count + frames > u->transfers)
        return OASIS_AGAIN;
    int64_t real = u->projected < frames ? u->projected : frames; /* the rest repeats the shot's last frame */
    size_t whole = (size_t)s->padded_width * (size_t)s->padded_height * 3;
    const float *z = held(u, &u->z, u->decoded);
    oas_graph_reset(g);
    tensor *pixels = enlarged(u, 0, frames, real - 1), *result;
    OAS_TRY(oas_graph_status(u, g));
    int tiles = s->tile_rows * s->tile_columns, channels = u->model->file.config.latent_channels;
    tensor *latent = oas_tensor(g, OAS_F32, OAS_SHAPE5(1, latents, s->grid_height, s->grid_width, channels));
    OAS_TRY(oas_graph_status(u, g));
    double start = oas_now();
    oas_graph_copy(g, latent->data, z, oas_bytes(latent));
    if (tiles == 1) {
        result = oas_run_network(
            u,
            (network_call){
                .kind = NETWORK_DECODE, .state = &u->states[0], .part = (int)latents, .x = latent, .pixels = pixels});
    } else {
        result = oas_tensor(g, OAS_F32, pixels->shape);
        const tensor *x =
            oas_run_network(u, (network_call){.kind = NETWORK_BEGIN, .state = &u->states[tiles], .x = latent});
        OAS_TRY(oas_graph_status(u, g));
        for (int tile = 0; tile < tiles; tile++) {
            size_t mark = oas_graph_mark(g);
            OAS_TRY(decode_tile(u, tile, pixels, x, result));
            oas_graph_release(g, mark);
        }
    }
    OAS_TRY(oas_graph_status(u, g));
    u->seconds_decode += oas_now() - start;
    u->ready_first = u->ready_count = 0;
    for (int64_t i = 0; i < real; i++)
        OAS_TRY(oas_finish_frame(u, &queued(u, i)->frame, (const float *)result->data + (size_t)i * whole,
                                 (const float *)pixels->data + (size_t)i * whole));
    u->queue_first = (int)((u->queue_first + real) % u->queue_size);
    u->queue_count -= (int)real;
    u->projected -= real;
    u->decoded += latents;
    return OASIS_OK;
}

/* ---- the order of things ------------------------------------------------------------------------------------------------- */

void oas_start_shot(oasis_upscaler *u)
{
    u->shot_latents = u->restored = u->final = u->decoded = u->first_held = 0;
    for (int i = 0; i <= u->sizes.tile_rows * u->sizes.tile_columns; i++)
        oas_state_restart(&u->states[i]);
    if (u->queue_count > 0)
        queued(u, 0)->starts_shot = false;
}

/*
 * Does the next thing that can be done.  OASIS_AGAIN: nothing before another frame was sent, or one taken that is on its way
 * from the GPU; OASIS_END: nothing is left.
 */
static oasis_status advance(oasis_upscaler *u)
{
    bool shot_ends;
    int64_t given = unprojected(u, &shot_ends), window = u->sizes.window_latents;
    int64_t due = u->restored == 0 ? window : u->restored + window - u->sizes.shared_latents;
    if (u->marked.latents > 0)
        return take_marked(u);
    if (u->decoded < u->final)
        return decode(u);
    if (u->shot_latents == due)
        return restore(u, (restored_windows){u->shot_latents - window, window, shot_ends && given == 0});
    if (given >= (u->shot_latents == 0 ? 1 : OAS_LATENT_FRAMES) || (shot_ends && given > 0))
        return project(u, given);
    if (!shot_ends)
        return OASIS_AGAIN;
    if (u->shot_latents > u->restored) {
        int64_t latents = u->shot_latents < window ? u->shot_latents : window;
        return restore(u, (restored_windows){u->shot_latents - latents, latents, true});
    }
    if (u->restored > u->final) {
        u->final = u->restored;
        return OASIS_OK;
    }
    if (u->queue_count == 0 && u->ended)
        return OASIS_END;
    oas_start_shot(u);
    return OASIS_OK;
}

oasis_status oasis_upscaler_receive(oasis_upscaler *u, oasis_frame *frame)
{
    while (u->status >= 0 && u->ready_count == 0) {
        oasis_status s;
        if (atomic_load(&u->cancelled))
            s = oas_fail(&u->message, OASIS_E_CANCELLED, "cancelled");
        else
            s = advance(u);
        if ((s == OASIS_AGAIN || s == OASIS_END) && oas_frame_due(u, !takes_frames(u)))
            s = oas_take_frame(u);
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
