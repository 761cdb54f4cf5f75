/*
 * Noise, new in every frame and independent from pixel to pixel: Gaussian or Poisson (even chances), of colour or grey
 * (40 %: the same for all three channels).
 *
 *     place    Gaussian sigma (of 255)   Poisson scale
 *     first    1..30                     0.05..3
 *     second   1..25                     0.05..2.5
 *
 * Poisson: x' = x + scale * (P(x v) / v - x) with x quantised to 8 bits and v the number of its levels that occur, as a
 * power of two; grey noise takes x as luma.  x is in [0, 1], or in [0, 255] in the other domain (doc: oasis/degrade.h),
 * where the noise is sqrt(255) times weaker.
 */
#include "degrade/gpu.h"
#include "degrade/stage.h"

#include "base/memory.h"

#include <math.h>

enum { ROWS_PER_SLAB = 16, LEVELS = 256 };

struct noise {
    bool poisson, grey;
    double v;                   /* of the tables */
    oas_poisson tables[LEVELS]; /* by level, made when first met */
};

struct noise_task {
    const stage *s;
    const struct noise *n;
    const picture *in;
    picture *out;
    float strength;
};

static oasis_status noise_draw(stage *s, oasis_message *message)
{
    struct noise *n = oas_alloc(1, sizeof *n);
    if (!n)
        return oas_fail_memory(message, sizeof *n, "noise");
    s->state = n;
    bool first = s->place == OAS_FIRST;
    n->poisson = oas_rng_uniform(&s->rng) >= 0.5;
    n->grey = oas_rng_uniform(&s->rng) < 0.4;
    oas_stage_note_text(s, "kind", n->poisson ? "poisson" : "gaussian");
    oas_stage_note_text(s, "channels", n->grey ? "grey" : "colour");
    if (n->poisson)
        oas_stage_walk(s, "scale", 0.05, first ? 3 : 2.5, 0.005);
    else
        oas_stage_walk(s, "sigma", 1, first ? 30 : 25, 0.1);
    return OASIS_OK;
}

/* ---- Gaussian ---------------------------------------------------------------------------------------------------- */

static void gaussian_slab(void *task, int64_t slab, int worker)
{
    (void)worker;
    const struct noise_task *t = task;
    int width = t->in->width;
    for (int64_t y = slab * ROWS_PER_SLAB; y < (slab + 1) * ROWS_PER_SLAB && y < t->in->height; y++) {
        oas_rng rng = oas_stage_rng(t->s, (int)y);
        const float *in = t->in->rgb + (size_t)y * (size_t)width * 3;
        float *out = t->out->rgb + (size_t)y * (size_t)width * 3, e = 0;
        for (int i = 0; i < width * 3; i++) {
            if (!t->n->grey || i % 3 == 0)
                e = t->strength * (float)oas_rng_normal(&rng);
            out[i] = in[i] + e;
        }
    }
}

/* ---- Poisson ----------------------------------------------------------------------------------------------------- */

static unsigned char luma_level(const float *rgb)
{
    return oas_to_byte(0.299f * rgb[0] + 0.587f * rgb[1] + 0.114f * rgb[2]);
}

/* Makes the tables of the levels that occur. */
static oasis_status tables_make(stage *s, struct noise *n, const picture *in, oasis_message *message)
{
    bool met[LEVELS] = {false};
    int count = 0;
    size_t pixels = (size_t)in->width * (size_t)in->height;
    for (size_t i = 0; i < pixels; i++) {
        if (n->grey)
            met[luma_level(in->rgb + 3 * i)] = true;
        for (size_t c = 0; c < 3 && !n->grey; c++)
            met[oas_to_byte(in->rgb[3 * i + c])] = true;
    }
    for (int l = 0; l < LEVELS; l++)
        count += met[l];
    double v = 1;
    while (v < count)
        v *= 2;
    if (v != n->v)
        for (int l = 0; l < LEVELS; l++)
            oas_poisson_free(&n->tables[l]);
    n->v = v;
    double unit = s->options->poisson == OASIS_POISSON_BYTE ? 1 : 1. / 255;
    for (int l = 0; l < LEVELS; l++)
        if (met[l] && !n->tables[l].cumulated && !oas_poisson_new(&n->tables[l], l * unit * v))
            return oas_fail_memory(message, LEVELS * sizeof(double), "Poisson noise");
    return OASIS_OK;
}

static void poisson_slab(void *task, int64_t slab, int worker)
{
    (void)worker;
    const struct noise_task *t = task;
    const struct noise *n = t->n;
    int width = t->in->width;
    /* In the byte domain the noise comes out on the scale of 255. */
    double unit = t->s->options->poisson == OASIS_POISSON_BYTE ? 1 : 1. / 255, back = unit < 1 ? 1 : 1. / 255;
    for (int64_t y = slab * ROWS_PER_SLAB; y < (slab + 1) * ROWS_PER_SLAB && y < t->in->height; y++) {
        oas_rng rng = oas_stage_rng(t->s, (int)y);
        const float *in = t->in->rgb + (size_t)y * (size_t)width * 3;
        float *out = t->out->rgb + (size_t)y * (size_t)width * 3, e = 0;
        for (int i = 0; i < width * 3; i++) {
            if (!n->grey || i % 3 == 0) {
                int level = n->grey ? luma_level(in + i) : oas_to_byte(in[i]);
                e = t->strength * (float)((oas_poisson_draw(&n->tables[level], &rng) / n->v - level * unit) * back);
            }
            out[i] = in[i] + e;
        }
    }
}

static float strength_now(const stage *s)
{
    const struct noise *n = s->state;
    return (float)(n->poisson ? s->walks[0].value : s->walks[0].value / 255);
}

static oasis_status noise_apply(stage *s, const picture *in, picture *out, oasis_message *message)
{
    struct noise *n = s->state;
    OAS_TRY(oas_picture_size(out, in->width, in->height, message));
    if (n->poisson)
        OAS_TRY(tables_make(s, n, in, message));
    struct noise_task t = {s, n, in, out, strength_now(s)};
    oas_pool_run(s->pool, (in->height + ROWS_PER_SLAB - 1) / ROWS_PER_SLAB, n->poisson ? poisson_slab : gaussian_slab,
                 &t);
    return OASIS_OK;
}

static oasis_status noise_apply_gpu(stage *s, const picture *in, picture *out, oasis_message *message)
{
    const struct noise *n = s->state;
    degrade_gpu *g = s->gpu;
    const struct cuda_degrade *gpu = g->cuda->tables.degrade;
    oas_rng rng = oas_stage_rng(s, 0);
    cuda_noise how = {.key = {rng.key[0], rng.key[1]}, .stream = rng.counter[3], .frame = rng.counter[2]};
    how.width = in->width;
    how.height = in->height;
    how.strength = strength_now(s);
    how.grey = n->grey;
    OAS_TRY(oas_picture_size_on_gpu(out, in->width, in->height, message));
    if (!n->poisson)
        return oas_gpu_put(gpu->gaussian(g->cuda, out->device, in->device, &how), "add noise", message);
    const cuda_poisson *tables;
    OAS_TRY(oas_gpu_poisson(g, s->options->poisson, &tables, message));
    return oas_gpu_put(gpu->poisson(g->cuda, out->device, in->device, &how, tables, g->levels), "add noise", message);
}

static void noise_close(stage *s)
{
    struct noise *n = s->state;
    for (int l = 0; n && l < LEVELS; l++)
        oas_poisson_free(&n->tables[l]);
    oas_free(n);
}

const degradation oas_degradation_noise = {
    .name = "noise",
    .draw = noise_draw,
    .apply = noise_apply,
    .apply_gpu = noise_apply_gpu,
    .close = noise_close,
};
