/*
 * Measuring heads: the model runs on a clip, and at every attention some queries' log-sum-exps are taken over all keys,
 * over those of their frame, and over those of the window.
 */
#include "train/profile.h"

#include "base/json.h"
#include "base/memory.h"
#include "base/newfile.h"
#include "base/rng.h"
#include "base/sha256.h"
#include "cpu/device.h"
#include "format/safetensors.h"
#include "image/resize.h"
#include "model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STREAM_QUERIES = 300, HEADER_BYTES = 8 << 20 };

static const double BICUBIC_A = -0.75;

struct oasis_profiler {
    oasis_profile_options options;
    oasis_model *model;
    device *device;
    int layers, heads, clips, capacity;
    head_distance *measured; /* [clips, layers * heads] */
    char *kind;              /* [layers * heads]; 0 before assignment */
    head_distance *mean, *deviation;
    sha256 digest;           /* of all pixels measured so far */
};

#define FIELD(name) offsetof(oasis_profile_options, name)

static const oasis_option rows[] = {
    {"mode", 0, NULL, OASIS_OPTION_CHOICE, FIELD(mode), 0, 0, "ratio|budget|threshold", "KIND", "ratio",
     "deal heads out by shares in each layer, by shares over all layers, or by their own mass", "Heads"},
    {"global", 0, NULL, OASIS_OPTION_NUMBER, FIELD(global), 0, 1, NULL, "X", "0.25", "share of heads that see everything",
     "Heads"},
    {"intra", 0, NULL, OASIS_OPTION_NUMBER, FIELD(intra), 0, 1, NULL, "X", "0.25",
     "share of heads that see their frame; as threshold the least mass", "Heads"},
    {"window", 0, NULL, OASIS_OPTION_NUMBER, FIELD(window), 0, 1, NULL, "X", "0.5",
     "share of heads that see a window; as threshold the least mass", "Heads"},
    {"queries", 0, NULL, OASIS_OPTION_INT, FIELD(queries), 1, 1000000, NULL, "N", "256",
     "queries drawn for each clip and layer", "Measuring"},
    {"seed", 0, NULL, OASIS_OPTION_INT64, FIELD(seed), 0, 9e15, NULL, "N", "1", "of the queries", "Measuring"},
    {"threads", 'j', NULL, OASIS_OPTION_INT, FIELD(threads), 0, 1024, NULL, "N", "0",
     "compute threads; 0 = as many as the process may use", "Measuring"},
    {"size", 0, NULL, OASIS_OPTION_SIZE, FIELD(width), 16, 4096, NULL, "WxH", "256x256",
     "largest part of the upscaled picture that is looked at", "Measuring"},
    {.name = NULL},
};

const oasis_option *oasis_profile_option_rows(void)
{
    return rows;
}

void oasis_profile_options_init(oasis_profile_options *o)
{
    memset(o, 0, sizeof *o);
    o->size = sizeof *o;
    for (const oasis_option *row = rows; row->name; row++)
        oasis_option_set(rows, o, row->name, row->default_text, NULL);
}

static oasis_status open_all(oasis_profiler *p, const char *path, oasis_message *message)
{
    const oasis_profile_options *o = &p->options;
    if (o->mode < 2 && fabs(o->global + o->intra + o->window - 1) > 1e-6)
        return oas_fail(message, OASIS_E_ARGUMENT, "shares of %g global, %g intra and %g window heads add up to %g instead "
                        "of 1", o->global, o->intra, o->window, o->global + o->intra + o->window);
    OAS_TRY(oasis_model_open(&p->model, path, message));
    OAS_TRY(oas_device_new(&p->device, o->threads, message));
    p->layers = p->model->file.config.num_layers;
    p->heads = p->model->file.config.num_heads;
    size_t n = (size_t)(p->layers * p->heads);
    p->kind = oas_alloc(n, 1);
    p->mean = oas_alloc(n, sizeof *p->mean);
    p->deviation = oas_alloc(n, sizeof *p->deviation);
    return p->kind && p->mean && p->deviation ? OASIS_OK : oas_fail_memory(message, n * 33, "a profile");
}

oasis_status oasis_profiler_open(oasis_profiler **out, const char *model, const oasis_profile_options *options,
                                 oasis_message *message)
{
    oasis_profiler *p = oas_alloc(1, sizeof *p);
    if (!p)
        return oas_fail_memory(message, sizeof *p, "a profile");
    p->options = *options;
    oas_sha256_begin(&p->digest);
    oasis_status s = open_all(p, model, message);
    if (s < 0)
        oasis_profiler_close(&p);
    else
        *out = p;
    return s;
}

void oasis_profiler_close(oasis_profiler **out)
{
    oasis_profiler *p = *out;
    if (!p)
        return;
    oasis_model_close(&p->model);
    oas_device_free(&p->device);
    oas_free(p->measured);
    oas_free(p->kind);
    oas_free(p->mean);
    oas_free(p->deviation);
    oas_free(p);
    *out = NULL;
}

void oasis_profiler_size(const oasis_profiler *p, int *layers, int *heads, int *clips)
{
    *layers = p->layers;
    *heads = p->heads;
    *clips = p->clips;
}

/* ---- one clip ------------------------------------------------------------------------------------------------------ */

/* Watches attention go by. */
typedef struct watcher {
    oasis_profiler *p;
    token_grid grid;
    int layer;
    head_distance *sums; /* [layers * heads] */
    float *k;            /* keys as floats */
    oas_pool *pool;
    const node *n;
} watcher;

/* All queries of one head. */
static void measure_head(void *arg, int64_t head, int worker)
{
    (void)worker;
    const watcher *w = arg;
    const tensor *q = w->n->in[0];
    int64_t stride = q->shape.size[1], hd = stride / w->p->heads;
    oas_rng rng = oas_rng_at((uint64_t)w->p->options.seed, STREAM_QUERIES, (uint32_t)w->p->clips, (uint32_t)w->layer);
    head_distance sum = {0, 0};
    for (int i = 0; i < w->p->options.queries; i++) {
        float row[512];
        int64_t query = oas_rng_below(&rng, (int)oas_grid_tokens(&w->grid));
        size_t at = (size_t)(query * stride + head * hd);
        oas_convert(row, OAS_F32, (const char *)q->data + at * oas_dtype_size(q->dtype), q->dtype, hd);
        query_sums s = oas_query_sums(row, w->k + head * hd, hd, stride, &w->grid, query,
                                      w->p->model->dit.routes[w->layer].window);
        sum.intra += s.all - s.intra;
        sum.window += s.all - s.window;
    }
    w->sums[w->layer * w->p->heads + head] =
        (head_distance){sum.intra / w->p->options.queries, sum.window / w->p->options.queries};
}

static void watch(void *user, const node *n)
{
    watcher *w = user;
    if (strcmp(n->op->name, "attention") != 0 || w->layer >= w->p->layers)
        return;
    const tensor *k = n->in[1];
    oas_convert(w->k, OAS_F32, k->data, k->dtype, oas_count(&k->shape));
    w->n = n;
    oas_pool_run(w->pool, w->p->heads, measure_head, w);
    w->layer++;
}

static bool make_room(oasis_profiler *p)
{
    size_t n = (size_t)(p->layers * p->heads);
    if (p->clips < p->capacity)
        return true;
    int capacity = p->capacity ? 2 * p->capacity : 16;
    head_distance *measured = oas_alloc((size_t)capacity * n, sizeof *measured);
    if (!measured)
        return false;
    if (p->clips)
        memcpy(measured, p->measured, (size_t)p->clips * n * sizeof *measured);
    oas_free(p->measured);
    p->measured = measured;
    p->capacity = capacity;
    return true;
}

/* The middle of the enlarged frames, [1,T,height,width,3] in [-1,1]. */
static oasis_status enlarge(tensor *pixels, const oasis_frame *frames, int width, int height, oasis_message *message)
{
    const int64_t *s = pixels->shape.size;
    oas_resize_spec spec = {.in_width = frames[0].width, .in_height = frames[0].height, .out_width = width};
    spec.out_height = height;
    spec.channels = 3;
    spec.filter = OAS_FILTER_BICUBIC;
    spec.a = BICUBIC_A;
    oas_resizer *r = NULL;
    float *whole = oas_alloc((size_t)width * (size_t)height, 3 * sizeof *whole);
    oasis_status status = whole ? oas_resizer_new(&r, &spec, message)
                                : oas_fail_memory(message, (size_t)width * (size_t)height * 12, "a frame");
    int64_t left = (width - s[3]) / 2, top = (height - s[2]) / 2;
    for (int64_t t = 0; status == OASIS_OK && t < s[1]; t++) {
        if (frames[t].width != frames[0].width || frames[t].height != frames[0].height) {
            status = oas_fail(message, OASIS_E_ARGUMENT, "frame %lld is %dx%d, the first one %dx%d", (long long)t,
                              frames[t].width, frames[t].height, frames[0].width, frames[0].height);
            break;
        }
        oas_resize(r, NULL, frames[t].rgb, whole, 2, -1);
        for (int64_t y = 0; y < s[2]; y++)
            memcpy((float *)pixels->data + (t * s[2] + y) * s[3] * 3, whole + ((top + y) * width + left) * 3,
                   (size_t)s[3] * 3 * sizeof *whole);
    }
    oas_resizer_free(&r);
    oas_free(whole);
    return status;
}

static int64_t fitting(int64_t size, int64_t most)
{
    int64_t n = size < most ? size : most;
    return n / OAS_PIXEL_STEP * OAS_PIXEL_STEP;
}

/* What a clip of that shape takes of the arena; 0 after a failure. */
static size_t planned(const oasis_profiler *p, shape s)
{
    graph g = {.device = p->device, .backend = OAS_CPU, .compute = OAS_F32, .planning = true};
    oas_arena_count(&g.memory);
    if (!oas_arena_new(&g.headers, HEADER_BYTES))
        return 0;
    tensor *pixels = oas_tensor(&g, OAS_F32, s);
    oas_restore(&g, p->model, oas_project(&g, p->model, pixels, true));
    oas_arena_free(&g.headers);
    return g.status < 0 ? 0 : g.memory.peak;
}

static oasis_status measure(oasis_profiler *p, graph *g, shape s, const oasis_frame *frames, double scale,
                            oasis_message *message)
{
    tensor *pixels = oas_tensor(g, OAS_F32, s);
    if (!pixels)
        return oas_fail(message, g->status, "%s", g->message.text);
    OAS_TRY(enlarge(pixels, frames, (int)lround(frames[0].width * scale), (int)lround(frames[0].height * scale), message));
    watcher w = {.p = p, .grid = {1, (s.size[1] + 3) / 4, s.size[2] / OAS_PIXEL_STEP, s.size[3] / OAS_PIXEL_STEP}};
    w.sums = p->measured + (size_t)p->clips * (size_t)(p->layers * p->heads);
    w.pool = p->device->pool;
    w.k = oas_alloc((size_t)(oas_grid_tokens(&w.grid) * p->model->file.config.dim), sizeof *w.k);
    if (!w.k)
        return oas_fail_memory(message, 0, "the keys of a layer");
    g->watch = watch;
    g->watch_user = &w;
    oas_restore(g, p->model, oas_project(g, p->model, pixels, true));
    oas_free(w.k);
    if (g->status < 0)
        return oas_fail(message, g->status, "%s", g->message.text);
    oas_sha256_add(&p->digest, pixels->data, oas_bytes(pixels));
    p->clips++;
    return OASIS_OK;
}

oasis_status oasis_profiler_add(oasis_profiler *p, const oasis_frame *frames, int n, double scale, oasis_message *message)
{
    if (n < 1 || !(scale >= 1 && scale <= 16))
        return oas_fail(message, OASIS_E_ARGUMENT, "a clip of %d frames at scale %g: at least 1 frame, scale 1 to 16", n, scale);
    int64_t height = fitting((int64_t)lround(frames[0].height * scale), p->options.height);
    int64_t width = fitting((int64_t)lround(frames[0].width * scale), p->options.width);
    if (height < OAS_PIXEL_STEP || width < OAS_PIXEL_STEP)
        return oas_fail(message, OASIS_E_ARGUMENT, "a clip of %dx%d at scale %g: at least %d pixels each way are needed",
                        frames[0].width, frames[0].height, scale, OAS_PIXEL_STEP);
    shape s = OAS_SHAPE5(1, (n - 1) / OAS_LATENT_FRAMES * OAS_LATENT_FRAMES + 1, height, width, 3);
    graph g = {.device = p->device, .backend = OAS_CPU, .compute = OAS_F32};
    size_t bytes = planned(p, s);
    if (!make_room(p) || bytes == 0 || !oas_arena_new(&g.memory, bytes))
        return oas_fail_memory(message, bytes, "profiling a clip");
    oasis_status status = measure(p, &g, s, frames, scale, message);
    oas_arena_free(&g.memory);
    return status;
}

/* ---- the result ---------------------------------------------------------------------------------------------------- */

/* Means and deviations over the clips first, first + step, ...; deviation may be NULL. */
static void summarise(const oasis_profiler *p, int first, int step, head_distance *mean, head_distance *deviation)
{
    int n = p->layers * p->heads, count = (p->clips - first + step - 1) / step;
    for (int i = 0; i < n; i++) {
        head_distance sum = {0, 0}, square = {0, 0};
        for (int c = first; c < p->clips; c += step) {
            const head_distance *d = &p->measured[(size_t)c * (size_t)n + (size_t)i];
            sum.intra += d->intra / count;
            sum.window += d->window / count;
            square.intra += d->intra * d->intra / count;
            square.window += d->window * d->window / count;
        }
        mean[i] = sum;
        if (deviation)
            deviation[i] = (head_distance){sqrt(fmax(0, square.intra - sum.intra * sum.intra)),
                                           sqrt(fmax(0, square.window - sum.window * sum.window))};
    }
}

/* Share of heads to which the two halves of the clips give the same kind. */
static double halves_agree(const oasis_profiler *p)
{
    int n = p->layers * p->heads, same = 0;
    head_distance *mean = oas_alloc((size_t)n, sizeof *mean);
    char *kind = oas_alloc(2, (size_t)n);
    for (int half = 0; mean && kind && half < 2; half++) {
        summarise(p, half, 2, mean, NULL);
        oas_assign_heads(&p->options, mean, p->layers, p->heads, kind + half * n);
    }
    for (int i = 0; kind && i < n; i++)
        same += kind[i] == kind[n + i];
    oas_free(mean);
    oas_free(kind);
    return (double)same / n;
}

/* The routing that was found, in the model. */
static void take_routing(oasis_profiler *p)
{
    routing *r = &p->model->file.routing;
    static const routing_mode modes[] = {OAS_ROUTING_RATIO, OAS_ROUTING_BUDGET, OAS_ROUTING_THRESHOLD};
    int all = p->options.mode == 0 ? p->heads : p->layers * p->heads;
    r->mode = modes[p->options.mode];
    r->mode_value[0] = p->options.window;
    r->mode_value[1] = p->options.intra;
    r->mode_value[2] = 0;
    if (p->options.mode < 2) {
        r->mode_value[2] = round(p->options.window * all);
        r->mode_value[1] = round(p->options.intra * all);
        r->mode_value[0] = all - r->mode_value[1] - r->mode_value[2];
    }
    r->clips = p->clips;
    r->queries = p->options.queries;
    sha256 all_pixels = p->digest;
    oas_sha256_end(&all_pixels, r->digest);
    for (int i = 0; i < p->layers * p->heads; i++) {
        r->layer[i / p->heads].kind[i % p->heads] = p->kind[i];
        if (r->stat)
            r->stat[i] = (route_stat){true, p->mean[i].intra, p->mean[i].window, p->deviation[i].intra,
                                      p->deviation[i].window};
    }
}

oasis_status oasis_profiler_assign(oasis_profiler *p, oasis_head_profile *heads, double *stability, oasis_message *message)
{
    int n = p->layers * p->heads;
    routing *r = &p->model->file.routing;
    if (p->clips == 0)
        return oas_fail(message, OASIS_E_ARGUMENT, "no clip has been measured");
    if (!r->stat)
        r->stat = oas_alloc((size_t)n, sizeof *r->stat);
    summarise(p, 0, 1, p->mean, p->deviation);
    oas_assign_heads(&p->options, p->mean, p->layers, p->heads, p->kind);
    take_routing(p);
    *stability = p->clips > 1 ? halves_agree(p) : -1;
    for (int i = 0; heads && i < n; i++)
        heads[i] = (oasis_head_profile){p->mean[i].intra, p->mean[i].window, p->deviation[i].intra, p->deviation[i].window,
                                        p->kind[i]};
    return OASIS_OK;
}

oasis_status oasis_profiler_write(const oasis_profiler *p, const char *path, oasis_message *message)
{
    const weight_file *w = p->model->file.weights;
    size_t count = oas_weight_file_count(w), used = 0;
    const stored_note *old;
    size_t notes = oas_weight_file_notes(w, &old);
    stored *entry = oas_alloc(count, sizeof *entry);
    stored_note *note = oas_alloc(notes + 1, sizeof *note);
    char *text = oas_routing_text(&p->model->file.routing);
    oasis_status s = OASIS_OK;
    if (!entry || !note || !text) {
        s = oas_fail_memory(message, count * sizeof *entry, "the model to write");
    } else {
        for (size_t i = 0; i < count; i++)
            entry[i] = *oas_weight_file_at(w, i);
        for (size_t i = 0; i < notes; i++)
            if (strcmp(old[i].key, "routing") != 0)
                note[used++] = old[i];
        note[used++] = (stored_note){"routing", text};
        const safetensors_file file = {.entry = entry, .count = count, .note = note, .notes = used};
        s = oas_safetensors_write(path, &file, message);
    }
    oas_free(text);
    oas_free(note);
    oas_free(entry);
    return s;
}

oasis_status oasis_profiler_write_routing(const oasis_profiler *p, const char *path, oasis_message *message)
{
    char *text = oas_routing_text(&p->model->file.routing);
    oasis_status s = text ? oas_newfile_put(path, text, strlen(text), message) : oas_fail_memory(message, 0, "the routing");
    oas_free(text);
    return s;
}

oasis_status oasis_profiler_plot(const oasis_profiler *p, const char *path, oasis_message *message)
{
    enum { CELL = 44, EDGE = 60 };
    text_buffer t = {0};
    oas_text_add(&t, "<svg xmlns='http://www.w3.org/2000/svg' font-family='sans-serif' font-size='11' width='%d' height='%d'>"
                 "<rect width='100%%' height='100%%' fill='white'/><text x='8' y='20'>D of window / own frame; red global, "
                 "blue own frame, green window</text>\n", EDGE + p->heads * CELL + 300, EDGE + p->layers * CELL + 20);
    for (int i = 0; i < p->layers * p->heads; i++) {
        int x = EDGE + i % p->heads * CELL, y = 40 + i / p->heads * CELL;
        const char *color = p->kind[i] == OAS_HEAD_WINDOW ? "#9d9" : p->kind[i] == OAS_HEAD_INTRA ? "#9bf" : "#f99";
        oas_text_add(&t, "<rect x='%d' y='%d' width='%d' height='%d' fill='%s'/><text x='%d' y='%d'>%.2f</text>"
                     "<text x='%d' y='%d'>%.2f</text>\n", x, y, CELL - 2, CELL - 2, color, x + 6, y + 18, p->mean[i].window,
                     x + 6, y + 33, p->mean[i].intra);
        if (i % p->heads == 0)
            oas_text_add(&t, "<text x='8' y='%d'>layer %d</text>\n", y + 25, i / p->heads);
    }
    oas_text_add(&t, "</svg>\n");
    oasis_status s = t.failed ? oas_fail_memory(message, t.length, "the drawing")
                              : oas_newfile_put(path, t.data, t.length, message);
    oas_text_free(&t);
    return s;
}
