/*
 * Clips from files.  A base clip, a quarter larger each way than what is asked for, is read, filmed or drawn, and
 * degraded; `reuse` clips are cut from it (oasis_clip_base), and it is kept for as long as they need it.
 *
 * Any number of threads may ask.  Who needs a base that is not there makes it; who needs one that is being made waits.
 */
#include "base/memory.h"
#include "base/rng.h"
#include "base/status.h"
#include "dataset/caption.h"
#include "dataset/part.h"
#include "dataset/scene.h"
#include "dataset/store.h"
#include "image/resize.h"

#include <oasis/dataset.h>
#include <oasis/degrade.h>
#include <pthread.h>
#include <string.h>

enum {
    STREAM_BASE = 200,
    STREAM_CROP,
    SIZE_STEP = 16,
    CROP_STEP = 4,
    MIDDLE_FRAMES = 3 /* more, for clips from the middle of a shot */
};

static const double BICUBIC_A = -0.75;

/* Frames of a base clip. */
typedef struct frame_list {
    oasis_frame *frame;
    int n;
} frame_list;

/* What tells base clips apart. */
typedef struct base_key {
    uint64_t number, seed;
    int frames, width, height; /* as asked for */
} base_key;

typedef struct base {
    base_key key;
    bool used, ready; /* used: key is valid; ready: frames are */
    bool text;        /* it says something: not to be mirrored */
    int users;        /* who makes it or cuts from it */
    frame_list truth, low;
} base;

struct oasis_dataset {
    const oasis_train_options *options;
    oas_store *store;
    base *bases;
    int count;
    oasis_degrader **idle; /* room for one of every thread: what they have of a GPU is not taken for every base */
    int n_idle, most_idle;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

oasis_status oasis_dataset_open(oasis_dataset **out, const oasis_train_options *options, oasis_message *message)
{
    oasis_dataset *d = oas_alloc(1, sizeof *d);
    if (!d)
        return oas_fail_memory(message, sizeof *d, "the training data");
    d->options = options;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->changed, NULL);
    /* All that are still to be used, those got ready ahead, one for every thread, and one for clips to look at. */
    d->count = (options->reuse - 1) * options->mix + 3 * oasis_train_data_threads(options) + 2;
    d->bases = oas_alloc((size_t)d->count, sizeof *d->bases);
    d->most_idle = oasis_train_data_threads(options) + 1;
    d->idle = oas_alloc((size_t)d->most_idle, sizeof *d->idle);
    oasis_status s = d->bases && d->idle
                         ? OASIS_OK
                         : oas_fail_memory(message, (size_t)d->count * sizeof *d->bases, "the training data");
    if (s == OASIS_OK)
        s = oas_store_new(&d->store, options, message);
    if (s < 0)
        oasis_dataset_close(&d);
    else
        *out = d;
    return s;
}

void oasis_dataset_count(const oasis_dataset *d, int64_t *videos, int64_t *pictures)
{
    *videos = oas_store_videos(d->store);
    *pictures = oas_store_pictures(d->store);
}

static void free_frames(frame_list *l)
{
    for (int i = 0; i < l->n; i++)
        oasis_frame_free(&l->frame[i]);
    oas_free(l->frame);
    *l = (frame_list){NULL, 0};
}

static oasis_status new_frames(frame_list *l, int n, int width, int height, oasis_message *message)
{
    *l = (frame_list){oas_alloc((size_t)n, sizeof *l->frame), n};
    oasis_status s = l->frame ? OASIS_OK : OASIS_E_MEMORY;
    for (int i = 0; i < n && s == OASIS_OK; i++)
        s = oasis_frame_new(&l->frame[i], width, height, false);
    if (s < 0) {
        l->n = l->frame ? n : 0;
        free_frames(l);
        return oas_fail_memory(message, (size_t)n * (size_t)width * (size_t)height * 12, "the frames of a clip");
    }
    return OASIS_OK;
}

void oasis_dataset_close(oasis_dataset **out)
{
    oasis_dataset *d = *out;
    if (!d)
        return;
    for (int i = 0; d->bases && i < d->count; i++) {
        free_frames(&d->bases[i].truth);
        free_frames(&d->bases[i].low);
    }
    while (d->n_idle > 0)
        oasis_degrader_close(&d->idle[--d->n_idle]);
    oas_free(d->idle);
    oas_free(d->bases);
    oas_store_free(&d->store);
    pthread_cond_destroy(&d->changed);
    pthread_mutex_destroy(&d->lock);
    oas_free(d);
    *out = NULL;
}

/* ---- making a base clip -------------------------------------------------------------------------------------------- */

static oasis_status read_video(oasis_dataset *d, oas_rng *rng, frame_list *to, oasis_message *message)
{
    taken t = {0};
    float **rows = oas_alloc((size_t)to->n, sizeof *rows);
    if (!rows)
        return oas_fail_memory(message, (size_t)to->n * sizeof *rows, "the frames of a clip");
    for (int i = 0; i < to->n; i++)
        rows[i] = to->frame[i].rgb;
    int width = to->frame[0].width, height = to->frame[0].height,
        number = oas_rng_below(rng, oas_store_videos(d->store));
    oasis_status s = oas_store_take(d->store, false, number, to->n, rng, &t, message);
    if (s == OASIS_OK) {
        part p = oas_part_draw(rng, t.m->width, t.m->height, width, height, d->options->video_shrink);
        s = oas_part_read(t.m, t.first, to->n, &p, rows, width, height, 3, message);
    }
    oas_store_release(d->store, &t);
    oas_free(rows);
    return s;
}

static oasis_status film_picture(oasis_dataset *d, bool pattern, oas_rng *rng, frame_list *to, oasis_message *message)
{
    const scene_chances chances = {.parallax = d->options->parallax, .cutouts = d->options->cutouts};
    taken t = {0};
    if (!pattern)
        OAS_TRY(oas_store_take(d->store, true, oas_rng_below(rng, oas_store_pictures(d->store)), 1, rng, &t, message));
    oasis_status s = oas_scene_film(t.m, &chances, to->frame, to->n, rng, message);
    oas_store_release(d->store, &t);
    return s;
}

static double draw_scale(const oasis_train_options *o, oas_rng *rng)
{
    double u = oas_rng_uniform(rng), between = oas_rng_between(rng, 1.5, 3.5);
    if (o->scale > 0)
        return o->scale < 1 ? 1 : o->scale;
    return u < 0.6 ? 4 : u < 0.9 ? between : 1;
}

/* One that has degraded before, or NULL. */
static oasis_degrader *take_degrader(oasis_dataset *d)
{
    pthread_mutex_lock(&d->lock);
    oasis_degrader *degrader = d->n_idle > 0 ? d->idle[--d->n_idle] : NULL;
    pthread_mutex_unlock(&d->lock);
    return degrader;
}

static void give_degrader(oasis_dataset *d, oasis_degrader *degrader)
{
    pthread_mutex_lock(&d->lock);
    if (degrader && d->n_idle < d->most_idle) {
        d->idle[d->n_idle++] = degrader;
        degrader = NULL;
    }
    pthread_mutex_unlock(&d->lock);
    oasis_degrader_close(&degrader);
}

/* Degrades the frames and enlarges them to their size again, as upscaling does before the network. */
static oasis_status degrade(oasis_dataset *d, const oasis_clip_request *request, uint64_t seed, oas_rng *rng,
                            const frame_list *truth, frame_list *low, oasis_message *message)
{
    oasis_degrade_options how;
    oasis_degrade_options_init(&how);
    how.scale = draw_scale(d->options, rng);
    how.seed = (int64_t)(seed >> 11);
    how.temporal_step = request->temporal_step;
    how.device = request->device;
    how.fast_video = true;
    how.threads = 1; /* other clips are made at the same time */
    oasis_frame *small = oas_alloc((size_t)truth->n, sizeof *small);
    if (!small)
        return oas_fail_memory(message, (size_t)truth->n * sizeof *small, "the frames of a clip");
    oas_resizer *r = NULL;
    oasis_degrader *degrader = take_degrader(d);
    oasis_status s = oasis_degrader_clip(&degrader, &how, truth->frame, truth->n, small, message);
    give_degrader(d, degrader);
    if (s == OASIS_OK) {
        oas_resize_spec spec = {
            .in_width = small[0].width, .in_height = small[0].height, .channels = 3, .a = BICUBIC_A};
        spec.out_width = truth->frame[0].width;
        spec.out_height = truth->frame[0].height;
        s = oas_resizer_new(&r, &spec, message);
    }
    for (int i = 0; i < truth->n && s == OASIS_OK; i++)
        oas_resize(r, NULL, small[i].rgb, low->frame[i].rgb, 1, 0);
    oas_resizer_free(&r);
    for (int i = 0; i < truth->n; i++)
        oasis_frame_free(&small[i]);
    oas_free(small);
    return s;
}

/* A quarter larger, in whole steps. */
static int larger(int side)
{
    return (side + side / 4 + SIZE_STEP - 1) / SIZE_STEP * SIZE_STEP;
}

size_t oasis_dataset_memory(const oasis_dataset *d)
{
    const oasis_train_options *o = d->options;
    size_t frames = (size_t)o->frames + (o->middle > 0 ? MIDDLE_FRAMES : 0);
    size_t each = frames * (size_t)larger(o->width) * (size_t)larger(o->height) * 2 * 3 * sizeof(float);
    return (size_t)d->count * each + (size_t)(o->cache * 1048576.);
}

static oasis_status make_base(oasis_dataset *d, base *b, const oasis_clip_request *request, oasis_message *message)
{
    const oasis_train_options *o = d->options;
    const base_key *k = &b->key;
    oas_rng rng = oas_rng_at(k->seed, STREAM_BASE, (uint32_t)k->number, (uint32_t)(k->number >> 32));
    int width = larger(k->width), height = larger(k->height);
    OAS_TRY(new_frames(&b->truth, k->frames, width, height, message));
    OAS_TRY(new_frames(&b->low, k->frames, width, height, message));
    double kind = oas_rng_uniform(&rng), other = oas_rng_uniform(&rng), text = oas_rng_uniform(&rng);
    bool video = oas_store_pictures(d->store) == 0 || (oas_store_videos(d->store) > 0 && other < o->video_share);
    if (kind >= o->patterns && video)
        OAS_TRY(read_video(d, &rng, &b->truth, message));
    else
        OAS_TRY(film_picture(d, kind < o->patterns, &rng, &b->truth, message));
    b->text = text < o->text;
    if (b->text)
        OAS_TRY(oas_caption(b->truth.frame, k->frames, &rng, message));
    if (o->stage != OASIS_STAGE_DIFFUSION)
        return degrade(d, request, oas_rng_derive(k->seed, k->number), &rng, &b->truth, &b->low, message);
    for (int i = 0; i < k->frames; i++) /* nobody will look at them: degrading takes longest */
        memcpy(b->low.frame[i].rgb, b->truth.frame[i].rgb, (size_t)width * (size_t)height * 3 * sizeof(float));
    return OASIS_OK;
}

/* ---- having base clips --------------------------------------------------------------------------------------------- */

static bool same_key(const base_key *a, const base_key *b)
{
    return a->number == b->number && a->seed == b->seed && a->frames == b->frames && a->width == b->width &&
           a->height == b->height;
}

/* The base, or else a place for it: a free one, or that of the lowest number that nobody uses.  Under the lock. */
static base *find_place(oasis_dataset *d, const base_key *key)
{
    base *place = NULL;
    for (int i = 0; i < d->count; i++) {
        base *b = &d->bases[i];
        if (b->used && same_key(&b->key, key))
            return b;
        if (b->users == 0 && (!place || (place->used && (!b->used || b->key.number < place->key.number))))
            place = b;
    }
    return place;
}

/* The base, ready, with this thread among its users. */
static oasis_status take_base(oasis_dataset *d, const base_key *key, const oasis_clip_request *request, base **out,
                              oasis_message *message)
{
    pthread_mutex_lock(&d->lock);
    base *b = find_place(d, key);
    while (!b || (b->used && same_key(&b->key, key) && !b->ready)) {
        pthread_cond_wait(&d->changed, &d->lock);
        b = find_place(d, key);
    }
    b->users++;
    bool there = b->used && same_key(&b->key, key);
    if (!there) {
        b->key = *key;
        b->used = true;
        b->ready = false;
    }
    pthread_mutex_unlock(&d->lock);
    *out = b;
    if (there)
        return OASIS_OK;
    free_frames(&b->truth);
    free_frames(&b->low);
    oasis_status s = make_base(d, b, request, message);
    pthread_mutex_lock(&d->lock);
    b->ready = s == OASIS_OK;
    b->used = b->ready;
    b->users -= !b->ready;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    return s;
}

static void give_base(oasis_dataset *d, base *b)
{
    pthread_mutex_lock(&d->lock);
    b->users--;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

/* ---- a clip -------------------------------------------------------------------------------------------------------- */

/* How a clip lies in its base clip. */
typedef struct view {
    int x, y;
    bool mirrored, upside_down, backwards;
} view;

static void take(const frame_list *from, const view *v, int i, oasis_frame *to)
{
    const oasis_frame *f = &from->frame[v->backwards ? from->n - 1 - i : i];
    for (int y = 0; y < to->height; y++) {
        const float *row =
            f->rgb + ((size_t)(v->y + (v->upside_down ? to->height - 1 - y : y)) * (size_t)f->width + (size_t)v->x) * 3;
        float *out = to->rgb + (size_t)y * (size_t)to->width * 3;
        if (!v->mirrored) {
            memcpy(out, row, (size_t)to->width * 3 * sizeof *out);
            continue;
        }
        for (int x = to->width - 1; x >= 0; x--, out += 3)
            for (int c = 0; c < 3; c++)
                out[c] = row[3 * x + c];
    }
}

/* Places are multiples of CROP_STEP, so that the pixels before enlarging lie as they do when a whole frame is enlarged. */
static view draw_view(const oasis_clip_request *r, uint64_t seed, bool text)
{
    oas_rng rng = oas_rng_at(seed, STREAM_CROP, (uint32_t)r->index, (uint32_t)(r->index >> 32));
    view v = {.x = CROP_STEP * oas_rng_below(&rng, (larger(r->width) - r->width) / CROP_STEP + 1)};
    v.y = CROP_STEP * oas_rng_below(&rng, (larger(r->height) - r->height) / CROP_STEP + 1);
    v.backwards = oas_rng_uniform(&rng) < 0.5;
    v.mirrored = oas_rng_uniform(&rng) < 0.5 && !text;
    v.upside_down = oas_rng_uniform(&rng) < 0.1 && !text;
    return v;
}

oasis_status oasis_dataset_clip(void *dataset, const oasis_clip_request *r, oasis_frame *truth, oasis_frame *low,
                                oasis_message *message)
{
    oasis_dataset *d = dataset;
    base_key key = {.seed = r->seed, .frames = r->frames, .width = r->width, .height = r->height};
    key.number = r->validation ? r->index : oasis_clip_base(d->options, r->index);
    if (r->validation)
        key.seed = oas_rng_derive(r->seed, UINT64_MAX);
    base *b = NULL;
    OAS_TRY(take_base(d, &key, r, &b, message));
    if (r->prepare) {
        give_base(d, b);
        return OASIS_OK;
    }
    view v = draw_view(r, key.seed, b->text);
    oasis_status s = OASIS_OK;
    for (int i = 0; i < r->frames && s == OASIS_OK; i++) {
        if (oasis_frame_new(&truth[i], r->width, r->height, false) < 0 ||
            oasis_frame_new(&low[i], r->width, r->height, false) < 0) {
            s = oas_fail_memory(message, (size_t)r->width * (size_t)r->height * 24, "a clip");
            break;
        }
        take(&b->truth, &v, i, &truth[i]);
        take(&b->low, &v, i, &low[i]);
    }
    give_base(d, b);
    return s;
}
