/*
 * The degrader: draws a pipeline of stages, sends frames through it one at a time, and collects what comes out.
 *
 *     send -> stage 0 -> ... -> video ~~> ... -> fit -> ... -> 8 bits -> receive
 *
 * Stages that answer at once hand the picture on; video codecs keep it, and what they give back later goes on from
 * there.
 */
#include "degrade/degrade.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

#define OAS_DEGRADATION(name) extern const degradation oas_degradation_##name;
#include "degrade/degradations.def"
#undef OAS_DEGRADATION

enum { MAX_SIDE = 32768 };

/* ---- options ----------------------------------------------------------------------------------------------------- */

#define FIELD(f) offsetof(oasis_degrade_options, f)

_Static_assert(sizeof(oasis_poisson_domain) == sizeof(int), "a CHOICE is stored as an int");

static const char cpu[] = "cpu"; /* the default is this very text */

static const oasis_option option_rows[] = {
    {"scale", 's', NULL, OASIS_OPTION_NUMBER, FIELD(scale), 1, 16, NULL, "X", "4",
     "make width and height X times smaller, fractions too", "Degradation"},
    {"seed", 0, NULL, OASIS_OPTION_INT64, FIELD(seed), 0, 0, NULL, "N", "0",
     "what everything random follows from; the same seed gives the same bits", "Degradation"},
    {"temporal-step", 0, NULL, OASIS_OPTION_NUMBER, FIELD(temporal_step), 0, 100, NULL, "K", "0",
     "how fast parameters walk from frame to frame: 0 = not at all, 1 = as published", "Degradation"},
    {"video", 0, NULL, OASIS_OPTION_FLAG, FIELD(video), 0, 0, NULL, NULL, "true", "with the losses of H.264 and MPEG-4",
     "Degradation"},
    {"poisson", 0, NULL, OASIS_OPTION_CHOICE, FIELD(poisson), 0, 0, "unit|byte", "DOMAIN", "unit",
     "strength of Poisson noise: unit as Real-ESRGAN, byte 16 times weaker, as DOVE", "Degradation"},
    {"fast-video", 0, NULL, OASIS_OPTION_FLAG, FIELD(fast_video), 0, 0, NULL, NULL, "false",
     "H.264 by the preset veryfast in place of medium", "Degradation"},
    {"threads", 'j', NULL, OASIS_OPTION_INT, FIELD(threads), 0, 1024, NULL, "N", "0",
     "threads that compute; 0 = as many as there are processors; the result does not depend on it", "Degradation"},
    {"device", 0, NULL, OASIS_OPTION_TEXT, FIELD(device), 0, 0, NULL, "DEVICE", cpu,
     "cpu, cuda, cuda:N (GPU N, from 0 on), or auto: a GPU if there is one; for blur, resize and noise", "Degradation"},
    {.name = NULL},
};

const oasis_option *oasis_degrade_option_rows(void)
{
    return option_rows;
}

void oasis_degrade_options_init(oasis_degrade_options *options)
{
    *options = (oasis_degrade_options){.size = sizeof *options, .scale = 4, .video = true, .device = cpu};
}

static oasis_status check(const oasis_degrade_options *o, int width, int height, oasis_message *message)
{
    if (o->size != sizeof *o)
        return oas_fail(message, OASIS_E_ARGUMENT,
                        "degrade: options of %zu bytes, expected %zu; fill them with oasis_degrade_options_init",
                        o->size, sizeof *o);
    if (width < 1 || height < 1 || width > MAX_SIDE || height > MAX_SIDE)
        return oas_fail(message, OASIS_E_ARGUMENT, "degrade: frames of %dx%d, expected sides of 1 to %d", width, height,
                        MAX_SIDE);
    if (!(o->scale >= 1 && o->scale <= 16) || !(o->temporal_step >= 0 && o->temporal_step <= 100) || o->threads < 0 ||
        o->threads > 1024 || (o->poisson != OASIS_POISSON_UNIT && o->poisson != OASIS_POISSON_BYTE))
        return oas_fail(
            message, OASIS_E_ARGUMENT,
            "degrade: scale %g (1 to 16), temporal step %g (0 to 100), threads %d (0 to 1024) or Poisson domain "
            "%d (0 or 1) is out of range",
            o->scale, o->temporal_step, o->threads, (int)o->poisson);
    return OASIS_OK;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static oasis_status add(oasis_degrader *d, const degradation *kind, int place)
{
    stage *s = &d->stages[d->n_stages];
    *s = (stage){.kind = kind,
                 .place = place,
                 .active = true,
                 .id = (uint32_t)d->n_stages + 1,
                 .options = &d->options,
                 .pool = d->pool,
                 .gpu = d->gpu,
                 .in_width = d->width,
                 .in_height = d->height,
                 .out_width = d->out_width,
                 .out_height = d->out_height};
    s->rng = oas_rng_at((uint64_t)d->options.seed, s->id, 0, 0);
    d->n_stages++;
    return kind->draw(s, &d->message);
}

/* The order of the stages; whether the last codec comes before or after the final size is drawn. */
static oasis_status add_all(oasis_degrader *d)
{
    static const degradation *const orders[] = {&oas_degradation_blur, &oas_degradation_resize, &oas_degradation_noise,
                                                &oas_degradation_jpeg};
    for (int k = 0; k < 4; k++)
        OAS_TRY(add(d, orders[k], OAS_FIRST));
    OAS_TRY(add(d, &oas_degradation_video, OAS_FIRST));
    for (int k = 0; k < 4; k++)
        OAS_TRY(add(d, orders[k], OAS_SECOND));
    oas_rng rng = oas_rng_at((uint64_t)d->options.seed, 0, 0, 0);
    bool video_first = oas_rng_uniform(&rng) < 0.5;
    if (video_first)
        OAS_TRY(add(d, &oas_degradation_video, OAS_LAST));
    OAS_TRY(add(d, &oas_degradation_fit, OAS_LAST));
    OAS_TRY(add(d, &oas_degradation_blur, OAS_LAST));
    if (!video_first)
        OAS_TRY(add(d, &oas_degradation_video, OAS_LAST));
    return OASIS_OK;
}

static int scaled(int side, double scale)
{
    long n = lround(side / scale);
    return n < 1 ? 1 : (int)n;
}

/* Lets go of what belongs to a clip. */
static void clear(oasis_degrader *d)
{
    for (int i = 0; i < d->n_stages; i++)
        oas_stage_free(&d->stages[i]);
    while (d->first) {
        passenger *p = d->first;
        d->first = p->next;
        oasis_frame_free(&p->frame);
        oas_free(p);
    }
    d->last = d->empty = NULL;
    d->n_stages = 0;
    d->frames = 0;
    d->ended = false;
    d->failed = OASIS_OK;
}

/* Lets go of the GPU, and of the memory that copies with it run to and from. */
static void leave_gpu(oasis_degrader *d)
{
    if (d->gpu)
        oas_cuda_wait(d->gpu->cuda, NULL);
    oas_picture_free(&d->now);
    oas_picture_free(&d->next);
    d->now.cuda = d->next.cuda = NULL;
    oas_gpu_free(&d->gpu);
    d->device = -1;
}

static oasis_status use_device(oasis_degrader *d, const char *name)
{
    int device;
    OAS_TRY(oas_cuda_named(name ? name : cpu, &device, &d->message));
    if (device != d->device) {
        leave_gpu(d);
        if (device < 0)
            return OASIS_OK;
        OAS_TRY(oas_gpu_new(&d->gpu, device, &d->message));
        d->now.cuda = d->next.cuda = d->gpu->cuda;
        d->device = device;
    }
    if (d->gpu)
        oas_cuda_use(d->gpu->cuda);
    return OASIS_OK;
}

/* Begins a clip, with what the one before has left. */
static oasis_status begin(oasis_degrader *d, const oasis_degrade_options *options, int width, int height)
{
    clear(d);
    if (!d->pool || d->options.threads != options->threads) {
        oas_pool_free(&d->pool);
        OAS_TRY(oas_pool_new(&d->pool, options->threads, &d->message));
    }
    d->options = *options;
    d->options.device = NULL; /* the text is the caller's */
    d->width = width;
    d->height = height;
    d->out_width = scaled(width, options->scale);
    d->out_height = scaled(height, options->scale);
    OAS_TRY(use_device(d, options->device));
    return add_all(d);
}

/* *degrader NULL: a new one.  After a failure there is none. */
static oasis_status open_or_begin(oasis_degrader **degrader, const oasis_degrade_options *options, int width,
                                  int height, oasis_message *message)
{
    oasis_degrade_options defaults;
    oasis_degrade_options_init(&defaults);
    if (!options)
        options = &defaults;
    OAS_TRY(check(options, width, height, message));
    oasis_degrader *d = *degrader;
    if (!d) {
        d = oas_alloc(1, sizeof *d);
        if (!d)
            return oas_fail_memory(message, sizeof *d, "a degrader");
        d->device = -1;
    }
    oasis_status status = begin(d, options, width, height);
    if (status < 0) {
        oas_fail(message, status, "%s", d->message.text);
        oasis_degrader_close(&d);
    }
    *degrader = d;
    return status;
}

oasis_status oasis_degrader_open(oasis_degrader **degrader, const oasis_degrade_options *options, int width, int height,
                                 oasis_message *message)
{
    oasis_degrader *d = NULL;
    oasis_status status = open_or_begin(&d, options, width, height, message);
    if (status >= 0)
        *degrader = d;
    return status;
}

void oasis_degrader_close(oasis_degrader **degrader)
{
    oasis_degrader *d = *degrader;
    if (!d)
        return;
    clear(d);
    leave_gpu(d);
    oas_pool_free(&d->pool);
    oas_free(d);
    *degrader = NULL;
}

void oasis_degrader_size(const oasis_degrader *degrader, int *width, int *height)
{
    *width = degrader->out_width;
    *height = degrader->out_height;
}

const char *oasis_degrader_message(const oasis_degrader *degrader)
{
    return degrader->message.text;
}

/* ---- frames ------------------------------------------------------------------------------------------------------ */

/* The finished picture to the frame that waits for it. */
static oasis_status arrive(oasis_degrader *d)
{
    passenger *p = d->empty;
    oasis_frame pixels;
    OAS_TRY(oas_picture_bring(&d->now, false, &d->message));
    oasis_status status = oasis_frame_new(&pixels, d->now.width, d->now.height, false);
    if (status < 0)
        return oas_fail_memory(&d->message, (size_t)d->now.width * (size_t)d->now.height * 12, "a degraded frame");
    size_t n = (size_t)d->now.width * (size_t)d->now.height * 3;
    for (size_t i = 0; i < n; i++)
        pixels.rgb[i] = (float)oas_to_byte(d->now.rgb[i]) / 255.f;
    p->frame.width = pixels.width;
    p->frame.height = pixels.height;
    p->frame.rgb = pixels.rgb;
    p->ready = true;
    d->empty = p->next;
    return OASIS_OK;
}

/* d->now through a stage that answers at once, where that stage computes. */
static oasis_status apply(oasis_degrader *d, stage *s)
{
    bool on_gpu = d->gpu && s->kind->apply_gpu;
    OAS_TRY(oas_picture_bring(&d->now, on_gpu, &d->message));
    OAS_TRY((on_gpu ? s->kind->apply_gpu : s->kind->apply)(s, &d->now, &d->next, &d->message));
    picture swap = d->now;
    d->now = d->next;
    d->next = swap;
    return oas_stage_step(s, &d->message);
}

/* Takes d->now through stage i and all after it, as far as it gets. */
static oasis_status run_from(oasis_degrader *d, int i)
{
    for (; i < d->n_stages; i++) {
        stage *s = &d->stages[i];
        if (!s->active)
            continue;
        if (s->kind->push) {
            OAS_TRY(oas_picture_bring(&d->now, false, &d->message));
            OAS_TRY(s->kind->push(s, &d->now, &d->message));
            OAS_TRY(oas_stage_step(s, &d->message));
            oasis_status status;
            while ((status = s->kind->pull(s, &d->now, &d->message)) == OASIS_OK)
                OAS_TRY(run_from(d, i + 1));
            return status < 0 ? status : OASIS_OK;
        }
        OAS_TRY(apply(d, s));
    }
    return arrive(d);
}

static oasis_status run_out(oasis_degrader *d)
{
    for (int i = 0; i < d->n_stages; i++) {
        stage *s = &d->stages[i];
        if (!s->active || !s->kind->push)
            continue;
        OAS_TRY(s->kind->push(s, NULL, &d->message));
        oasis_status status;
        while ((status = s->kind->pull(s, &d->now, &d->message)) == OASIS_OK)
            OAS_TRY(run_from(d, i + 1));
        OAS_TRY(status);
    }
    return OASIS_OK;
}

static oasis_status send_frame(oasis_degrader *d, const oasis_frame *frame)
{
    if (d->ended)
        return frame ? oas_fail(&d->message, OASIS_E_ARGUMENT, "degrade: a frame after the last one") : OASIS_OK;
    if (!frame) {
        d->ended = true;
        return run_out(d);
    }
    if (frame->width != d->width || frame->height != d->height || !frame->rgb)
        return oas_fail(&d->message, OASIS_E_ARGUMENT, "degrade: a frame of %dx%d, expected %dx%d as at opening",
                        frame->width, frame->height, d->width, d->height);
    passenger *p = oas_alloc(1, sizeof *p);
    if (!p)
        return oas_fail_memory(&d->message, sizeof *p, "a frame being degraded");
    p->frame = (oasis_frame){.pts = frame->pts, .duration = frame->duration, .opaque = frame->opaque};
    if (d->last)
        d->last->next = p;
    d->last = p;
    if (!d->first)
        d->first = p;
    if (!d->empty)
        d->empty = p;
    OAS_TRY(oas_picture_size(&d->now, frame->width, frame->height, &d->message));
    memcpy(d->now.rgb, frame->rgb, (size_t)frame->width * (size_t)frame->height * 3 * sizeof *frame->rgb);
    d->frames++;
    return run_from(d, 0);
}

oasis_status oasis_degrader_send(oasis_degrader *degrader, const oasis_frame *frame)
{
    OAS_TRY(degrader->failed);
    if (degrader->gpu)
        oas_cuda_use(degrader->gpu->cuda); /* another thread may have opened it */
    oasis_status status = send_frame(degrader, frame);
    if (status < 0)
        degrader->failed = status;
    return status;
}

oasis_status oasis_degrader_receive(oasis_degrader *degrader, oasis_frame *frame)
{
    OAS_TRY(degrader->failed);
    passenger *p = degrader->first;
    if (!p)
        return degrader->ended ? OASIS_END : OASIS_AGAIN;
    if (!p->ready)
        return OASIS_AGAIN;
    *frame = p->frame;
    degrader->first = p->next;
    if (!degrader->first)
        degrader->last = NULL;
    oas_free(p);
    return OASIS_OK;
}

/* ---- a clip ------------------------------------------------------------------------------------------------------ */

static oasis_status clip(oasis_degrader *d, const oasis_frame *in, int n, oasis_frame *out)
{
    int done = 0;
    for (int i = 0; i <= n; i++) {
        OAS_TRY(oasis_degrader_send(d, i < n ? &in[i] : NULL));
        oasis_status status;
        while (done < n && (status = oasis_degrader_receive(d, &out[done])) == OASIS_OK)
            done++;
    }
    return done == n ? OASIS_OK : oas_fail(&d->message, OASIS_E_UNSUPPORTED, "degrade: %d frames came of %d", done, n);
}

oasis_status oasis_degrader_clip(oasis_degrader **degrader, const oasis_degrade_options *options, const oasis_frame *in,
                                 int n, oasis_frame *out, oasis_message *message)
{
    if (n < 1)
        return oas_fail(message, OASIS_E_ARGUMENT, "degrade: a clip of %d frames", n);
    memset(out, 0, (size_t)n * sizeof *out);
    OAS_TRY(open_or_begin(degrader, options, in[0].width, in[0].height, message));
    oasis_status status = clip(*degrader, in, n, out);
    if (status < 0) {
        oas_fail(message, status, "%s", (*degrader)->message.text);
        for (int i = 0; i < n; i++)
            oasis_frame_free(&out[i]);
    }
    return status;
}

oasis_status oasis_degrade_clip(const oasis_degrade_options *options, const oasis_frame *in, int n, oasis_frame *out,
                                oasis_message *message)
{
    oasis_degrader *d = NULL;
    oasis_status status = oasis_degrader_clip(&d, options, in, n, out, message);
    oasis_degrader_close(&d);
    return status;
}
