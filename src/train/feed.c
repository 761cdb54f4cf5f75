/*
 * Clips ahead of time: threads ask the source for them, upscale the degraded frames as upscaling does, and put both into
 * a ring, each clip in the place of its number.  They are given out in order, so that which clip comes when depends on
 * its number alone, whatever the number of threads.
 *
 * A base takes many times as long as a clip cut from it.  In the order of clips alone, a ring of a few dozen would let
 * only two or three bases be made at a time, so threads get bases ready first, as many ahead as there are threads.
 */
#include "base/memory.h"
#include "image/resize.h"
#include "train/train.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static const double BICUBIC_A = -0.75;

typedef struct slot {
    clip clip;
    bool ready;
} slot;

struct feed {
    const oasis_train_options *options;
    oasis_clip_fn *source;
    void *user;
    uint64_t first;       /* clips of the run are counted from there */
    uint64_t next, given; /* this rank's, from 0 on: the next one to make; the next one to give out */
    uint64_t ahead;       /* and the next one whose base to get ready, if it is the first of one */
    int prepared;         /* bases got ready, or being, whose first clip is not begun */
    uint64_t bad;         /* the first one that could not be made, UINT64_MAX: none */
    slot *ring;           /* its k-th clip lies in ring[k % size] */
    float *storage;
    int size, wanted, threads; /* threads that there shall be, and that run */
    bool stop;
    oasis_status status; /* of `bad` */
    oasis_message message;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t *thread;
};

int oas_clip_frames(const oasis_train_options *o)
{
    return o->frames + (o->middle > 0 ? OAS_FRAMES_BEFORE : 0);
}

size_t oas_clip_floats(const oasis_train_options *o)
{
    return (size_t)oas_clip_frames(o) * (size_t)o->width * (size_t)o->height * 3;
}

int oas_ranks(const oasis_train_options *o)
{
    return o->ranks ? o->ranks->count : 1;
}

int oas_rank(const oasis_train_options *o)
{
    return o->ranks ? o->ranks->rank : 0;
}

uint64_t oas_clip_index(const oasis_train_options *o, uint64_t first, uint64_t k)
{
    uint64_t batch = (uint64_t)o->batch, all = batch * (uint64_t)oas_ranks(o);
    return first + k / batch * all + batch * (uint64_t)oas_rank(o) + k % batch;
}

double oas_temporal_step(const oasis_train_options *o, int64_t step)
{
    if (step < o->consistent_steps)
        return 0;
    double ramp = o->ramp_steps > 0 ? (double)(step - o->consistent_steps) / (double)o->ramp_steps : 1;
    return o->temporal_step * (ramp < 1 ? ramp : 1);
}

/* Frames that have the clip's size already, in [-1,1]. */
static void convert(const oasis_train_options *o, const oasis_frame *frames, int n, float *to)
{
    size_t each = (size_t)o->width * (size_t)o->height * 3;
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < each; k++)
            to[(size_t)i * each + k] = 2.f * frames[i].rgb[k] - 1.f;
}

/* Frames of any size to the clip's, in [-1,1]. */
static oasis_status enlarge(const oasis_train_options *o, const oasis_frame *frames, int n, float *to,
                            oasis_message *message)
{
    oas_resize_spec spec = {.in_width = frames[0].width, .in_height = frames[0].height, .out_width = o->width};
    spec.out_height = o->height;
    spec.channels = 3;
    spec.filter = OAS_FILTER_BICUBIC;
    spec.a = BICUBIC_A;
    oas_resizer *r = NULL;
    OAS_TRY(oas_resizer_new(&r, &spec, message));
    for (int i = 0; i < n; i++)
        oas_resize(r, NULL, frames[i].rgb, to + (size_t)i * (size_t)o->width * (size_t)o->height * 3, 2, -1);
    oas_resizer_free(&r);
    return OASIS_OK;
}

static oasis_status check_frames(const oasis_clip_request *r, const oasis_frame *truth, const oasis_frame *low,
                                 oasis_message *message)
{
    for (int i = 0; i < r->frames; i++)
        if (!truth[i].rgb || truth[i].width != r->width || truth[i].height != r->height || !low[i].rgb ||
            low[i].width != low[0].width || low[i].height != low[0].height)
            return oas_fail(message, OASIS_E_ARGUMENT,
                            "clip %llu: frame %d is %dx%d and %dx%d degraded, asked for %dx%d",
                            (unsigned long long)r->index, i, truth[i].width, truth[i].height, low[i].width,
                            low[i].height, r->width, r->height);
    return OASIS_OK;
}

oasis_status oas_clip_make(const oasis_train_options *o, oasis_clip_fn *source, void *user, const oasis_clip_request *r,
                           const clip *to, oasis_message *message)
{
    oasis_frame *frames = oas_alloc(2 * (size_t)r->frames, sizeof *frames);
    if (!frames)
        return oas_fail_memory(message, 2 * (size_t)r->frames * sizeof *frames, "a clip");
    oasis_frame *low = frames + r->frames;
    oasis_status s = source(user, r, frames, low, message);
    if (s == OASIS_OK)
        s = check_frames(r, frames, low, message);
    if (s == OASIS_OK && low[0].width == o->width && low[0].height == o->height)
        convert(o, low, r->frames, to->low);
    else if (s == OASIS_OK)
        s = enlarge(o, low, r->frames, to->low, message);
    if (s == OASIS_OK)
        convert(o, frames, r->frames, to->truth);
    for (int i = 0; i < 2 * r->frames; i++)
        oasis_frame_free(&frames[i]);
    oas_free(frames);
    return s;
}

uint64_t oasis_clip_base(const oasis_train_options *o, uint64_t index)
{
    uint64_t reuse = (uint64_t)o->reuse, newest = index / reuse, back = index % reuse * (uint64_t)o->mix;
    return newest < back ? newest : newest - back;
}

int oas_feed_clips(const oasis_train_options *o)
{
    return 2 * o->batch + oasis_train_data_threads(o) + 1;
}

const char *oas_clip_device(const oasis_train_options *o)
{
    return o->data_device ? "cpu" : o->device ? o->device : "auto";
}

/* What to ask the source for clip `index`.  All clips of a base are degraded as its first one asks. */
static oasis_clip_request request(const oasis_train_options *o, uint64_t index)
{
    uint64_t per_step = (uint64_t)o->batch * (uint64_t)o->accumulate * (uint64_t)oas_ranks(o);
    oasis_clip_request r = {.index = index, .seed = (uint64_t)o->seed, .frames = oas_clip_frames(o)};
    r.width = o->width, r.height = o->height;
    r.device = oas_clip_device(o);
    r.temporal_step = oas_temporal_step(o, (int64_t)(oasis_clip_base(o, index) * (uint64_t)o->reuse / per_step));
    return r;
}

static uint64_t index_of(const feed *f, uint64_t k)
{
    return oas_clip_index(f->options, f->first, k);
}

/* Does the feed make clip `index` of the run? */
static bool is_own(const feed *f, uint64_t index)
{
    uint64_t batch = (uint64_t)f->options->batch, all = batch * (uint64_t)oas_ranks(f->options);
    return index >= f->first && (index - f->first) % all / batch == (uint64_t)oas_rank(f->options);
}

/* Is clip k the first one of the feed that is cut from its base?  The clips of a base b: see oasis_clip_base. */
static bool begins_base(const feed *f, uint64_t k)
{
    const oasis_train_options *o = f->options;
    uint64_t index = index_of(f, k), reuse = (uint64_t)o->reuse, b = oasis_clip_base(o, index);
    for (uint64_t r = 0; r < reuse; r++) {
        const uint64_t other[] = {b * reuse + r, (b + r * (uint64_t)o->mix) * reuse + r};
        for (int i = 0; i < 2; i++)
            if (other[i] < index && is_own(f, other[i]) && oasis_clip_base(o, other[i]) == b)
                return false;
    }
    return reuse > 1;
}

/* Gets the next base ready; false: enough are.  Under the lock, which it leaves meanwhile. */
static bool prepare(feed *f)
{
    if (f->options->reuse < 2 || f->prepared >= f->wanted)
        return false;
    uint64_t k = f->ahead < f->next ? f->next : f->ahead, end = k + (uint64_t)f->options->reuse;
    while (k < end && !begins_base(f, k))
        k++;
    if (k == end)
        return false;
    f->ahead = k + 1;
    oasis_clip_request r = request(f->options, index_of(f, k));
    r.prepare = true;
    f->prepared++;
    pthread_mutex_unlock(&f->lock);
    oasis_message unheard = {""}; /* what fails here fails again when the clip is made, and is told then */
    f->source(f->user, &r, NULL, NULL, &unheard);
    pthread_mutex_lock(&f->lock);
    return true;
}

/* Makes clip k in its place of the ring.  Under the lock, which it leaves meanwhile. */
static void make(feed *f, uint64_t k)
{
    slot *to = &f->ring[k % (uint64_t)f->size];
    f->prepared -= k < f->ahead && begins_base(f, k); /* it was got ready ahead */
    pthread_mutex_unlock(&f->lock);
    oasis_message why = {""};
    oasis_clip_request r = request(f->options, index_of(f, k));
    oasis_status s = oas_clip_make(f->options, f->source, f->user, &r, &to->clip, &why);
    pthread_mutex_lock(&f->lock);
    to->ready = s == OASIS_OK;
    if (s != OASIS_OK && k < f->bad) {
        f->bad = k;
        f->status = s < 0 ? s : OASIS_E_IO;
        f->message = why;
    }
    pthread_cond_broadcast(&f->changed);
}

static void *run(void *arg)
{
    feed *f = arg;
    pthread_mutex_lock(&f->lock);
    while (!f->stop && f->bad == UINT64_MAX) {
        if (prepare(f))
            continue;
        if (f->next + 1 < f->given + (uint64_t)f->size) /* one stays with who took it */
            make(f, f->next++);
        else
            pthread_cond_wait(&f->changed, &f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

oasis_status oas_feed_new(feed **out, const oasis_train_options *o, oasis_clip_fn *source, void *user, uint64_t first,
                          oasis_message *message)
{
    feed *f = oas_alloc(1, sizeof *f);
    if (!f)
        return oas_fail_memory(message, sizeof *f, "the feed of clips");
    size_t floats = oas_clip_floats(o);
    *f = (feed){.options = o, .source = source, .user = user, .first = first, .bad = UINT64_MAX};
    f->size = oas_feed_clips(o);
    f->wanted = oasis_train_data_threads(o);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    f->ring = oas_alloc((size_t)f->size, sizeof *f->ring);
    f->storage = oas_alloc_unset(2 * (size_t)f->size * floats, sizeof *f->storage);
    f->thread = oas_alloc((size_t)f->wanted, sizeof *f->thread);
    bool ok = f->ring && f->storage && f->thread;
    for (int i = 0; ok && i < f->size; i++) {
        f->ring[i].clip.low = f->storage + 2 * (size_t)i * floats;
        f->ring[i].clip.truth = f->ring[i].clip.low + floats;
    }
    for (int i = 0; ok && i < f->wanted; i++) {
        ok = pthread_create(&f->thread[i], NULL, run, f) == 0;
        f->threads += ok;
    }
    if (!ok) {
        size_t bytes = 2 * floats * sizeof(float) * (size_t)f->size;
        oas_feed_free(&f);
        return oas_fail_memory(message, bytes, "the feed of clips");
    }
    *out = f;
    return OASIS_OK;
}

oasis_status oas_feed_next(feed *f, clip *next, oasis_message *message)
{
    pthread_mutex_lock(&f->lock);
    slot *from = &f->ring[f->given % (uint64_t)f->size];
    while (!from->ready && f->given != f->bad)
        pthread_cond_wait(&f->changed, &f->lock);
    oasis_status s = from->ready ? OASIS_OK : f->status;
    if (s == OASIS_OK) {
        *next = from->clip;
        from->ready = false;
        f->given++;
    } else if (message) {
        *message = f->message;
    }
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    return s;
}

void oas_feed_free(feed **out)
{
    feed *f = *out;
    if (!f)
        return;
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    for (int i = 0; i < f->threads; i++)
        pthread_join(f->thread[i], NULL);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    oas_free(f->thread);
    oas_free(f->ring);
    oas_free(f->storage);
    oas_free(f);
    *out = NULL;
}
