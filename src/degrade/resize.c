/*
 * Resizing: up, down or not at all, by a filter that does not antialias, to even sides; and `fit`, the same to the size
 * that the clip must have in the end.
 *
 *     place    up / down / keep   factor
 *     first    20 / 70 / 10 %     0.15 .. 1.5
 *     second   30 / 40 / 30 %     0.3 .. 1.2, of the size at hand
 */
#include "image/resize.h"

#include "base/memory.h"
#include "degrade/gpu.h"
#include "degrade/stage.h"

#include <math.h>

enum { LEAST_SIDE = 2, MOST_SIDE = 32768 };

static const double BICUBIC_A = -0.75; /* OpenCV's */

static const char *const filter_names[3] = {"bicubic", "bilinear", "area"};

struct resize {
    oas_filter filter;
    int factor; /* index of the walk, -1: kept */
    oas_resizer *resizer;
    oas_resize_spec spec; /* of the resizer */
};

static oasis_status resample_gpu(const struct resize *r, degrade_gpu *g, const picture *in, int width, int height,
                                 picture *out, oasis_message *message)
{
    cuda_sampling how = {in->width, in->height, width, height, (int32_t)r->filter, BICUBIC_A};
    OAS_TRY(oas_picture_size_on_gpu(out, width, height, message));
    OAS_TRY(oas_gpu_floats(g->cuda, &g->mid, &g->mid_capacity, (size_t)in->height * (size_t)width * 3, message));
    return oas_gpu_put(g->cuda->tables.degrade->resample(g->cuda, out->device, g->mid, in->device, &how), "resize",
                       message);
}

static oasis_status resample(struct resize *r, oas_pool *pool, const picture *in, int width, int height, picture *out,
                             oasis_message *message)
{
    oas_resize_spec spec = {.in_width = in->width,
                            .in_height = in->height,
                            .out_width = width,
                            .out_height = height,
                            .channels = 3,
                            .filter = r->filter,
                            .a = BICUBIC_A};
    OAS_TRY(oas_picture_size(out, width, height, message));
    const oas_resize_spec *old = &r->spec;
    if (!r->resizer || old->in_width != in->width || old->in_height != in->height || old->out_width != width ||
        old->out_height != height) {
        oas_resizer_free(&r->resizer);
        OAS_TRY(oas_resizer_new(&r->resizer, &spec, message));
        r->spec = spec;
    }
    oas_resize(r->resizer, pool, in->rgb, out->rgb, 1, 0);
    return OASIS_OK;
}

static oasis_status new_state(stage *s, oasis_message *message)
{
    struct resize *r = oas_alloc(1, sizeof *r);
    if (!r)
        return oas_fail_memory(message, sizeof *r, "resizing");
    s->state = r;
    r->filter = (oas_filter)oas_rng_below(&s->rng, 3);
    r->factor = -1;
    oas_stage_note_text(s, "filter", filter_names[r->filter]);
    return OASIS_OK;
}

static void resize_close(stage *s)
{
    struct resize *r = s->state;
    if (r)
        oas_resizer_free(&r->resizer);
    oas_free(r);
}

/* ---- by a factor ------------------------------------------------------------------------------------------------- */

static oasis_status resize_draw(stage *s, oasis_message *message)
{
    static const double directions[2][3] = {{0.2, 0.7, 0.1}, {0.3, 0.4, 0.3}};
    static const double low[2] = {0.15, 0.3}, high[2] = {1.5, 1.2}, step[2] = {0.015, 0.03};
    int p = s->place == OAS_FIRST ? 0 : 1;
    int direction = oas_rng_choice(&s->rng, directions[p], 3);
    s->active = direction < 2;
    if (!s->active)
        return OASIS_OK;
    OAS_TRY(new_state(s, message));
    double factor = direction == 0 ? oas_rng_between(&s->rng, 1, high[p]) : oas_rng_between(&s->rng, low[p], 1);
    ((struct resize *)s->state)->factor = oas_stage_walk_from(s, "factor", factor, low[p], high[p], step[p]);
    return OASIS_OK;
}

static int even_side(int side, double factor)
{
    double half = floor(side * factor / 2);
    return half < LEAST_SIDE / 2 ? LEAST_SIDE : half > MOST_SIDE / 2 ? MOST_SIDE : 2 * (int)half;
}

static double factor_now(const stage *s)
{
    return s->walks[((const struct resize *)s->state)->factor].value;
}

static oasis_status resize_apply(stage *s, const picture *in, picture *out, oasis_message *message)
{
    double factor = factor_now(s);
    return resample(s->state, s->pool, in, even_side(in->width, factor), even_side(in->height, factor), out, message);
}

static oasis_status resize_apply_gpu(stage *s, const picture *in, picture *out, oasis_message *message)
{
    double factor = factor_now(s);
    return resample_gpu(s->state, s->gpu, in, even_side(in->width, factor), even_side(in->height, factor), out,
                        message);
}

const degradation oas_degradation_resize = {
    .name = "resize",
    .draw = resize_draw,
    .apply = resize_apply,
    .apply_gpu = resize_apply_gpu,
    .close = resize_close,
};

/* ---- to the final size ------------------------------------------------------------------------------------------- */

static oasis_status fit_draw(stage *s, oasis_message *message)
{
    return new_state(s, message);
}

static oasis_status fit_apply(stage *s, const picture *in, picture *out, oasis_message *message)
{
    return resample(s->state, s->pool, in, s->out_width, s->out_height, out, message);
}

static oasis_status fit_apply_gpu(stage *s, const picture *in, picture *out, oasis_message *message)
{
    return resample_gpu(s->state, s->gpu, in, s->out_width, s->out_height, out, message);
}

const degradation oas_degradation_fit = {
    .name = "fit",
    .draw = fit_draw,
    .apply = fit_apply,
    .apply_gpu = fit_apply_gpu,
    .close = resize_close,
};
