/*
 * The plan of an upscaler: sizes, windows, decoder tiles, memory, FLOPs.
 *
 * Networks are planned by running them with shapes only, so that the figures are those of the code that will run.
 */
#include "upscale.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    SHARED_LATENTS = 2, /* of windows in time (decisions 12) */
    SHARED_GRID = 4,    /* least latents shared by windows in space */
    DEFAULT_WINDOW_FRAMES = 17,
    DEFAULT_WINDOW_SIZE = 256,              /* pixels; or the trained size where that is larger */
    LEAST_WINDOW_SIZE = 6 * OAS_PIXEL_STEP, /* pixels; three times the shared part */
    MOST_SIDE = 32768,
    MOST_TILES = 64
};

size_t oas_upscale_total(const upscale_memory *m)
{
    return m->arena + m->grids + m->states + m->frames + m->transfers + m->weights;
}

/* A number of /proc/meminfo in bytes, or 0. */
static int64_t available_memory(void)
{
    int64_t bytes = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    while (f && fgets(line, sizeof line, f)) {
        long long kib;
        if (sscanf(line, "MemAvailable: %lld kB", &kib) == 1)
            bytes = (int64_t)kib * 1024;
    }
    if (f)
        fclose(f);
    if (bytes == 0)
        bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    return bytes;
}

static bool read_number(const char *path, int64_t *value)
{
    FILE *f = fopen(path, "re");
    long long v = 0;
    bool ok = f && fscanf(f, "%lld", &v) == 1;
    if (f)
        fclose(f);
    *value = v;
    return ok;
}

int64_t oas_free_memory(void)
{
    int64_t bytes = available_memory(), limit, used;
    if (read_number("/sys/fs/cgroup/memory.max", &limit) && read_number("/sys/fs/cgroup/memory.current", &used) &&
        limit - used < bytes)
        bytes = limit > used ? limit - used : 0;
    return bytes;
}

int64_t oas_memory_limit(const oasis_options *options)
{
    return options->memory > 0 ? options->memory : oas_free_memory() / 10 * 6;
}

static int rounded(double x)
{
    return (int)(x + 0.5);
}

static oasis_status choose_output(upscale_sizes *s, const oasis_options *o, oasis_message *message)
{
    if (s->in_width < 1 || s->in_height < 1 || s->in_width > MOST_SIDE || s->in_height > MOST_SIDE)
        return oas_fail(message, OASIS_E_ARGUMENT, "the input is %dx%d pixels; sides of 1 to %d are possible",
                        s->in_width, s->in_height, MOST_SIDE);
    double scale = o->scale;
    if ((o->width > 0) != (o->height > 0))
        return oas_fail(message, OASIS_E_ARGUMENT, "the output size %dx%d needs both width and height", o->width,
                        o->height);
    if (o->width > 0) {
        s->out_width = o->width;
        s->out_height = o->height;
    } else {
        if (o->short_side > 0)
            scale = (double)o->short_side / (s->in_width < s->in_height ? s->in_width : s->in_height);
        s->out_width = rounded(s->in_width * scale);
        s->out_height = rounded(s->in_height * scale);
    }
    double across = (double)s->out_width / s->in_width, down = (double)s->out_height / s->in_height;
    const double most = 8.001, least = 0.999; /* 8 and 1, with room for rounding to whole pixels */
    bool fits = across <= most && down <= most && across >= least && down >= least;
    if (o->width == 0 && o->short_side == 0)
        fits = scale >= 1 && scale <= 8;
    if (!fits || s->out_width > MOST_SIDE || s->out_height > MOST_SIDE)
        return oas_fail(message, OASIS_E_ARGUMENT,
                        "%dx%d to %dx%d is an enlargement of %.3g by %.3g; 1 to 8 is possible, up to %d pixels a side",
                        s->in_width, s->in_height, s->out_width, s->out_height, across, down, MOST_SIDE);
    s->padded_width = (s->out_width + OAS_PIXEL_STEP - 1) / OAS_PIXEL_STEP * OAS_PIXEL_STEP;
    s->padded_height = (s->out_height + OAS_PIXEL_STEP - 1) / OAS_PIXEL_STEP * OAS_PIXEL_STEP;
    s->grid_width = s->padded_width / OAS_LATENT_PIXELS;
    s->grid_height = s->padded_height / OAS_LATENT_PIXELS;
    return OASIS_OK;
}

/* Cuts the grid into windows of at most that many pixels. */
static void cut_windows(upscale_sizes *s, int rows, int columns)
{
    s->rows = oas_cut(s->grid_height, rows / OAS_LATENT_PIXELS, SHARED_GRID, 2);
    s->columns = oas_cut(s->grid_width, columns / OAS_LATENT_PIXELS, SHARED_GRID, 2);
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

/* As the options say, else about the size the model was trained at. */
static oasis_status choose_windows(upscale_sizes *s, const oasis_options *o, const model_config *c,
                                   oasis_message *message)
{
    int frames = o->window_frames, side = o->window_size;
    if (frames < 0 || (frames > 0 && frames % OAS_LATENT_FRAMES != 1))
        return oas_fail(message, OASIS_E_ARGUMENT,
                        "a window of %d frames is not possible; it must be 4n+1: 5, 9, 13, ...", frames);
    if (side != 0 && (side % OAS_PIXEL_STEP != 0 || side < LEAST_WINDOW_SIZE))
        return oas_fail(message, OASIS_E_ARGUMENT,
                        "a window of %d pixels is not possible; it must be a multiple of %d, "
                        "at least %d",
                        side, OAS_PIXEL_STEP, LEAST_WINDOW_SIZE);
    s->window_latents = ((frames > 0 ? frames : DEFAULT_WINDOW_FRAMES) - 1) / OAS_LATENT_FRAMES + 1;
    s->shared_latents = s->window_latents > SHARED_LATENTS ? SHARED_LATENTS : s->window_latents - 1;
    if (side > 0)
        cut_windows(s, side, side);
    else
        cut_windows(s, larger(DEFAULT_WINDOW_SIZE, c->trained_window[1]),
                    larger(DEFAULT_WINDOW_SIZE, c->trained_window[2]));
    return OASIS_OK;
}

/*
 * A GPU computes windows together up to about as many tokens as fill it: a window of the usual size alone leaves most of it
 * idle.  All calls have equally many, so that they are one recording.
 */
static int windows_at_once(const upscale_sizes *s, int most)
{
    int windows = s->rows.count * s->columns.count, n = windows < most ? windows : most;
    while (n > 1 && windows % n != 0)
        n--;
    return n > 1 ? n : 1;
}

static int most_at_once(const upscale_sizes *s, const device *d)
{
    enum { TOKENS = 1 << 15, PATCH = 2 * 2 };
    int64_t tokens = (int64_t)s->window_latents * s->rows.window * s->columns.window / PATCH;
    return d->cuda ? (int)(TOKENS / tokens) : 1;
}

/*
 * So it decodes several latents together, as long as their frames are no more than fill it; a decoder that takes much
 * memory fills it with one.
 */
static int most_latents(const upscale_sizes *s, const device *d)
{
    const int64_t pixels = (int64_t)16 * 1280 * 720;
    int64_t n = pixels / ((int64_t)s->padded_width * s->padded_height * OAS_LATENT_FRAMES);
    return !d->cuda || n < 1 ? 1 : n < s->window_latents ? (int)n : s->window_latents;
}

static bool fewer_latents(upscale_sizes *s, const upscale_memory *m, bool too_much)
{
    const size_t most = (size_t)2 << 30;
    if (s->latents_at_once == 1 || (m->decode <= most && !too_much))
        return false;
    s->latents_at_once /= 2;
    return true;
}

/* Makes windows a quarter smaller on their longer side; false when they are as small as they may be. */
static bool shrink_windows(upscale_sizes *s)
{
    int rows = s->rows.window * OAS_LATENT_PIXELS, columns = s->columns.window * OAS_LATENT_PIXELS;
    int *longer = rows > columns ? &rows : &columns;
    *longer = *longer * 3 / 4 / OAS_PIXEL_STEP * OAS_PIXEL_STEP;
    if (*longer < LEAST_WINDOW_SIZE)
        return false;
    cut_windows(s, rows, columns);
    return true;
}

/* Cuts the longer side of the decoder's tiles once more; false when they would be little more than their halos. */
static bool shrink_tiles(upscale_sizes *s, int halo)
{
    int tall = s->grid_height / s->tile_rows, wide = s->grid_width / s->tile_columns;
    if (larger(tall, wide) / 2 < 2 * halo || s->tile_rows * s->tile_columns >= MOST_TILES)
        return false;
    if (tall > wide)
        s->tile_rows++;
    else
        s->tile_columns++;
    return true;
}

tile_area oas_upscale_tile(const upscale_sizes *s, int halo, int tile)
{
    int y = tile / s->tile_columns, x = tile % s->tile_columns;
    tile_area a;
    a.row = (int)((int64_t)s->grid_height * y / s->tile_rows);
    a.column = (int)((int64_t)s->grid_width * x / s->tile_columns);
    a.rows = (int)((int64_t)s->grid_height * (y + 1) / s->tile_rows) - a.row;
    a.columns = (int)((int64_t)s->grid_width * (x + 1) / s->tile_columns) - a.column;
    int last_row = a.row + a.rows + halo, last_column = a.column + a.columns + halo;
    a.from_row = a.row > halo ? a.row - halo : 0;
    a.from_column = a.column > halo ? a.column - halo : 0;
    a.with_rows = (last_row < s->grid_height ? last_row : s->grid_height) - a.from_row;
    a.with_columns = (last_column < s->grid_width ? last_column : s->grid_width) - a.from_column;
    return a;
}

void oas_take_work(graph *g, stage_work *work, double times)
{
    for (int i = 0; i < OAS_MAX_STAGES && g->stages[i].name; i++) {
        const stage_time *s = &g->stages[i];
        if (strcmp(s->name, "dense") == 0)
            work->dense += times * s->flops;
        else if (strcmp(s->name, "conv") == 0)
            work->conv += times * s->flops;
        else if (strcmp(s->name, "attention") == 0)
            work->attention += times * s->flops;
        else
            work->passes += times * s->bytes;
    }
    memset(g->stages, 0, sizeof g->stages);
}

/* Ends one step of the plan: keeps the largest arena, adds its work `times` over.  False when it failed. */
static bool plan_step(graph *g, upscale_memory *m, stage_work *work, double times, const tensor *result)
{
    if (!result || g->status < 0)
        return false;
    m->step = g->memory.peak;
    if (m->step > m->arena)
        m->arena = m->step;
    g->memory.peak = 0;
    oas_take_work(g, work, times);
    oas_graph_reset(g);
    return true;
}

/* Where a group's frames are wanted at their size: the pixels of a group of frames. */
static tensor *pixels_of(graph *g, int64_t frames, int64_t height, int64_t width)
{
    return oas_tensor(g, OAS_F32, OAS_SHAPE5(1, frames, height, width, 3));
}

static tensor *latents_of(graph *g, const upscale_sizes *s, const oasis_model *model, int64_t n)
{
    return oas_tensor(g, OAS_F32, OAS_SHAPE5(1, n, s->grid_height, s->grid_width, model->file.config.latent_channels));
}

static tensor *latent_of(graph *g, const upscale_sizes *s, const oasis_model *model)
{
    return latents_of(g, s, model, 1);
}

/* A call of the decoder that gave so many latents' frames. */
static bool plan_decoded(graph *g, upscale_memory *m, stage_work *work, decoder_state *state, tensor *result,
                         int latents)
{
    m->states += state->bytes;
    oas_state_free(state);
    return plan_step(g, m, work, 1. / (latents * OAS_LATENT_FRAMES), result);
}

static bool plan_whole(graph *g, const upscale_sizes *s, upscale_memory *m, stage_work *work, const oasis_model *model)
{
    decoder_state state = {.started = true};
    int n = s->latents_at_once;
    tensor *pixels = pixels_of(g, (int64_t)n * OAS_LATENT_FRAMES, s->padded_height, s->padded_width);
    bool ok = plan_decoded(g, m, work, &state, oas_decode(g, model, &state, latents_of(g, s, model, n), pixels), n);
    m->decode = m->step;
    return ok;
}

/* What every tile is cut from, and the result that they fill, come first in the arena. */
static bool plan_tile(graph *g, const upscale_sizes *s, upscale_memory *m, stage_work *work, const oasis_model *model,
                      int tile, const tensor *whole)
{
    tile_area a = oas_upscale_tile(s, model->decoder.kind->halo, tile);
    decoder_state state = {.started = true};
    pixels_of(g, OAS_LATENT_FRAMES, s->padded_height, s->padded_width);
    pixels_of(g, OAS_LATENT_FRAMES, s->padded_height, s->padded_width);
    latent_of(g, s, model);
    oas_tensor(g, whole->dtype, whole->shape);
    tensor *piece = oas_tensor(g, whole->dtype, OAS_SHAPE5(1, 1, a.with_rows, a.with_columns, oas_last(whole, 0)));
    tensor *part = pixels_of(g, OAS_LATENT_FRAMES, a.with_rows * OAS_LATENT_PIXELS, a.with_columns * OAS_LATENT_PIXELS);
    return plan_decoded(g, m, work, &state, piece ? oas_decode_tile(g, model, &state, piece, part) : NULL, 1);
}

static bool plan_tiles(graph *g, const upscale_sizes *s, upscale_memory *m, stage_work *work, const oasis_model *model)
{
    decoder_state state = {0};
    pixels_of(g, OAS_LATENT_FRAMES, s->padded_height, s->padded_width);
    pixels_of(g, OAS_LATENT_FRAMES, s->padded_height, s->padded_width);
    tensor *x = oas_decode_begin(g, model, &state, latent_of(g, s, model));
    tensor whole = x ? *x : (tensor){0};
    bool ok = plan_decoded(g, m, work, &state, x, 1);
    for (int i = 0; ok && i < s->tile_rows * s->tile_columns; i++)
        ok = plan_tile(g, s, m, work, model, i, &whole);
    return ok;
}

/* A window's part of the sum, and the sum with it added. */
static tensor *plan_blend(graph *g, tensor *z)
{
    tensor *sum = z ? oas_tensor(g, OAS_F32, z->shape) : NULL;
    return oas_axpy(g, sum, 1, z);
}

/* A latent that two windows in time share. */
static tensor *plan_in_time(graph *g, tensor *z)
{
    return oas_axpy(g, z, 1, oas_axpy(g, z, -1, z));
}

/* A fraction of some work. */
static stage_work part_of(const stage_work *w, double part)
{
    return (stage_work){w->dense * part, w->conv * part, w->attention * part, w->passes * part};
}

/* The first frame of a shot, which is a latent of its own.  It needs no more memory than the groups that follow. */
static bool plan_start(graph *g, const upscale_sizes *s, upscale_work *work, const oasis_model *model)
{
    upscale_memory unused = {0};
    decoder_state state = {0};
    tensor *pixels = pixels_of(g, 1, s->padded_height, s->padded_width);
    bool ok = plan_step(g, &unused, &work->start_project, 1, oas_project(g, model, pixels, true));
    pixels = pixels_of(g, 1, s->padded_height, s->padded_width);
    ok = ok &&
         plan_step(g, &unused, &work->start_decode, 1, oas_decode(g, model, &state, latent_of(g, s, model), pixels));
    oas_state_free(&state);
    return ok;
}

static bool plan_networks(graph *g, const upscale_sizes *s, upscale_memory *m, upscale_work *work,
                          const oasis_model *model)
{
    tensor *pixels = pixels_of(g, OAS_LATENT_FRAMES, s->padded_height, s->padded_width);
    bool ok = plan_step(g, m, &work->project, 1. / OAS_LATENT_FRAMES, oas_project(g, model, pixels, false));
    tensor *window = oas_tensor(
        g, OAS_F32,
        OAS_SHAPE5(s->at_once, s->window_latents, s->rows.window, s->columns.window, model->file.config.in_dim));
    double windows = (double)s->rows.count * s->columns.count / s->at_once; /* calls */
    ok = ok && plan_step(g, m, &work->window, windows, plan_blend(g, oas_restore(g, model, window)));
    work->restore = part_of(&work->window, 1. / oas_step_frames(s));
    m->restore = m->step;
    tensor *latent =
        oas_tensor(g, OAS_F32, OAS_SHAPE5(s->at_once, 1, s->rows.window, s->columns.window, model->file.config.in_dim));
    ok = ok && plan_step(g, m, &work->first, windows, plan_blend(g, oas_restore(g, model, latent)));
    ok = ok && plan_step(g, m, &work->restore, 0, plan_in_time(g, latent_of(g, s, model)));
    ok = ok && (s->tile_rows * s->tile_columns > 1 ? plan_tiles : plan_whole)(g, s, m, &work->decode, model);
    ok = ok && plan_start(g, s, work, model);
    /* Upscaling twice, and the finished frame. */
    work->picture_bytes += 3. * (double)s->padded_width * s->padded_height * 3 * sizeof(float);
    return ok;
}

static size_t picture_bytes(int64_t width, int64_t height)
{
    return (size_t)width * (size_t)height * 3 * sizeof(float);
}

static void plan_buffers(const upscale_sizes *s, upscale_memory *m, const oasis_model *model, const device *d)
{
    const model_config *c = &model->file.config;
    size_t cell = (size_t)s->grid_width * (size_t)s->grid_height * sizeof(float);
    int held = 2 * s->window_latents;
    m->grids = cell * (size_t)held * (size_t)(c->in_dim + c->latent_channels);
    /* Sources of all latents at hand and of one more group; results of a group; colour correction of one frame. */
    m->frames = picture_bytes(s->in_width, s->in_height) * (size_t)((held + 2) * OAS_LATENT_FRAMES) +
                picture_bytes(s->out_width, s->out_height) * (OAS_LATENT_FRAMES + 2);
    if (d->cuda)
        m->transfers =
            (size_t)oas_transfers(s) * (picture_bytes(s->in_width, s->in_height) +
                                        picture_bytes(s->out_width, s->out_height) * (s->looks_back ? 2 : 1));
    m->weights = oas_model_prepared_bytes(model, s->compute, d->level != OAS_LEVEL_C);
}

oasis_status oasis_output_size(const oasis_options *options, int width, int height, int *output_width,
                               int *output_height, oasis_message *message)
{
    upscale_sizes s = {.in_width = width, .in_height = height};
    OAS_TRY(choose_output(&s, options, message));
    *output_width = s.out_width;
    *output_height = s.out_height;
    return OASIS_OK;
}

oasis_status oas_upscale_measure(const upscale_sizes *s, upscale_memory *m, upscale_work *work,
                                 const oasis_model *model, device *d, oasis_message *message)
{
    *m = (upscale_memory){0};
    *work = (upscale_work){0};
    graph g = oas_device_graph(d, s->compute);
    g.planning = true;
    oas_arena_count(&g.memory);
    if (!oas_arena_new(&g.headers, 4 << 20))
        return oas_fail_memory(message, 4 << 20, "the plan");
    bool ok = plan_networks(&g, s, m, work, model);
    oas_arena_free(&g.headers);
    plan_buffers(s, m, model, d);
    return ok ? OASIS_OK : oas_fail(message, g.status, "%s", g.message.text);
}

static oasis_status choose_dtype(upscale_sizes *s, const oasis_options *o, const device *d, oasis_message *message)
{
    bool has = oas_device_has_bf16(d);
    if (o->dtype == OASIS_DTYPE_BF16 && !has)
        return oas_fail(message, OASIS_E_UNSUPPORTED,
                        "bf16 was asked for, but this CPU (kernels: %s) does not compute it; use fp32 or auto",
                        oas_cpu_level_name(d->level));
    s->compute = has && o->dtype != OASIS_DTYPE_FP32 ? OAS_BF16 : OAS_F32;
    return OASIS_OK;
}

int64_t oas_device_limit(const device *d, const oasis_options *o)
{
    size_t available, total;
    if (!d->cuda || o->memory > 0)
        return oas_memory_limit(o);
    oas_cuda_memory(d->cuda, &available, &total);
    return (int64_t)(available / 10 * 9);
}

oasis_status oas_upscale_plan(upscale_sizes *s, upscale_memory *m, upscale_work *work, const oasis_model *model,
                              device *d, const oasis_options *o, int width, int height, oasis_message *message)
{
    *s = (upscale_sizes){.in_width = width, .in_height = height, .tile_rows = 1, .tile_columns = 1};
    s->looks_back = o->color_fix != OASIS_COLOR_FIX_NONE || o->strength < 1;
    OAS_TRY(choose_dtype(s, o, d, message));
    OAS_TRY(choose_output(s, o, message));
    OAS_TRY(choose_windows(s, o, &model->file.config, message));
    int64_t limit = oas_device_limit(d, o);
    s->at_once = windows_at_once(s, most_at_once(s, d));
    s->latents_at_once = most_latents(s, d);
    for (;;) {
        OAS_TRY(oas_upscale_measure(s, m, work, model, d, message));
        bool fits = (int64_t)oas_upscale_total(m) + o->memory_reserved <= limit;
        if (fewer_latents(s, m, !fits))
            continue;
        if (fits)
            return OASIS_OK;
        /* Fewer windows at once; then whichever of windows and tiles takes the most is made smaller, windows only where the
         * user left them to us. */
        if (s->at_once > 1 && m->restore >= m->arena) {
            s->at_once = windows_at_once(s, s->at_once - 1);
            continue;
        }
        bool windows_first = m->restore >= m->arena, windows_free = o->window_size == 0;
        if (!(windows_first && windows_free && shrink_windows(s)) && !shrink_tiles(s, model->decoder.kind->halo) &&
            !(windows_free && shrink_windows(s)))
            break;
    }
    return oas_fail(
        message, OASIS_E_MEMORY,
        "%dx%d needs %.0f MiB even in %d tiles, and %.0f MiB are allowed; give more with --mem, or ask for a "
        "smaller output",
        s->out_width, s->out_height, (double)((int64_t)oas_upscale_total(m) + o->memory_reserved) / 1048576.,
        s->tile_rows * s->tile_columns, (double)limit / 1048576.);
}
