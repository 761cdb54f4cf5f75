/*
 * Blur: a kernel of one of seven kinds; the last one is always a sinc (ringing and overshoot of players and scalers).
 *
 *     place    applied  sigma     angle   beta generalised / plateau   omega
 *     first    always   0.2..3    +-pi    0.5..4 / 1..2                pi/3 (window < 13) or pi/5 .. pi
 *     second   80 %     0.2..1.5  same    same                         same
 *     last     80 %     -         -       -                            pi/3 .. pi
 */
#include "degrade/gpu.h"
#include "degrade/kernel.h"

#include "base/memory.h"

#include <string.h>

_Static_assert((int)OAS_CUDA_FILTER_SIDE == (int)OAS_KERNEL_SIDE, "the GPU takes every kernel");

static const double PI = 3.14159265358979323846;

struct blur {
    kernel_shape shape;                       /* values that no walk has stay 0 */
    int sigma_x, sigma_y, angle, beta, omega; /* indices of walks, -1 = none */
    blur_kernel kernel;
    bool made;
};

static const char *const kind_names[KERNEL_KINDS] = {
    "gaussian iso", "gaussian aniso", "generalised iso", "generalised aniso", "plateau iso", "plateau aniso", "sinc",
};
static const double kind_weights[KERNEL_KINDS] = {0.405, 0.225, 0.108, 0.027, 0.108, 0.027, 0.1};

static void draw_gaussian(stage *s, struct blur *b, double most)
{
    kernel_kind k = b->shape.kind;
    b->sigma_x = oas_stage_walk(s, "sigma_x", 0.2, most, 0.02);
    if (k == KERNEL_ANISO || k == KERNEL_GENERALISED_ANISO || k == KERNEL_PLATEAU_ANISO) {
        b->sigma_y = oas_stage_walk(s, "sigma_y", 0.2, most, 0.02);
        b->angle = oas_stage_walk(s, "angle", -PI, PI, 0.31416);
    }
    if (k == KERNEL_GENERALISED_ISO || k == KERNEL_GENERALISED_ANISO)
        b->beta = oas_stage_walk(s, "beta", 0.5, 4, 0.05);
    if (k == KERNEL_PLATEAU_ISO || k == KERNEL_PLATEAU_ANISO)
        b->beta = oas_stage_walk(s, "beta", 1, 2, 0.1);
}

static oasis_status blur_draw(stage *s, oasis_message *message)
{
    static const double applied[OAS_PLACES] = {1, 0.8, 0.8}, most[OAS_PLACES] = {3, 1.5, 0};
    s->active = oas_rng_uniform(&s->rng) < applied[s->place];
    if (!s->active)
        return OASIS_OK;
    struct blur *b = oas_alloc(1, sizeof *b);
    if (!b)
        return oas_fail_memory(message, sizeof *b, "a blur kernel");
    s->state = b;
    b->sigma_x = b->sigma_y = b->angle = b->beta = b->omega = -1;
    b->shape.kind =
        s->place == OAS_LAST ? KERNEL_SINC : (kernel_kind)oas_rng_choice(&s->rng, kind_weights, KERNEL_KINDS);
    b->shape.side = 7 + 2 * oas_rng_below(&s->rng, 8);
    oas_stage_note_text(s, "kind", kind_names[b->shape.kind]);
    oas_stage_note_number(s, "side", b->shape.side);
    if (b->shape.kind == KERNEL_SINC)
        b->omega = oas_stage_walk(s, "omega", s->place == OAS_LAST || b->shape.side < 13 ? PI / 3 : PI / 5, PI, 0.0628);
    else
        draw_gaussian(s, b, most[s->place]);
    return OASIS_OK;
}

static double walked(const stage *s, int index)
{
    return index < 0 ? 0 : s->walks[index].value;
}

/* The kernel of this frame. */
static const blur_kernel *kernel_now(stage *s)
{
    struct blur *b = s->state;
    if (!b->made || s->options->temporal_step > 0) {
        b->shape.sigma_x = walked(s, b->sigma_x);
        b->shape.sigma_y = walked(s, b->sigma_y);
        b->shape.angle = walked(s, b->angle);
        b->shape.beta = walked(s, b->beta);
        b->shape.omega = walked(s, b->omega);
        oas_kernel_make(&b->kernel, &b->shape);
        b->made = true;
    }
    return &b->kernel;
}

static oasis_status blur_apply(stage *s, const picture *in, picture *out, oasis_message *message)
{
    OAS_TRY(oas_picture_size(out, in->width, in->height, message));
    return oas_filter(kernel_now(s), s->pool, in, &s->scratch, out, message);
}

static oasis_status blur_apply_gpu(stage *s, const picture *in, picture *out, oasis_message *message)
{
    const blur_kernel *k = kernel_now(s);
    degrade_gpu *g = s->gpu;
    const struct cuda_degrade *gpu = g->cuda->tables.degrade;
    int width = in->width, height = in->height;
    OAS_TRY(oas_picture_size_on_gpu(out, width, height, message));
    cuda_filter f = {.across = k->side, .down = k->separable ? 1 : k->side};
    if (!k->separable) {
        memcpy(f.weight, k->weight, (size_t)(k->side * k->side) * sizeof *f.weight);
        return oas_gpu_put(gpu->filter(g->cuda, out->device, in->device, width, height, &f), "blur", message);
    }
    memcpy(f.weight, k->across, (size_t)k->side * sizeof *f.weight);
    OAS_TRY(oas_gpu_floats(g->cuda, &g->mid, &g->mid_capacity, (size_t)width * (size_t)height * 3, message));
    OAS_TRY(oas_gpu_put(gpu->filter(g->cuda, g->mid, in->device, width, height, &f), "blur", message));
    f.down = f.across;
    f.across = 1;
    return oas_gpu_put(gpu->filter(g->cuda, out->device, g->mid, width, height, &f), "blur", message);
}

static void blur_close(stage *s)
{
    oas_free(s->state);
}

const degradation oas_degradation_blur = {
    .name = "blur",
    .draw = blur_draw,
    .apply = blur_apply,
    .apply_gpu = blur_apply_gpu,
    .close = blur_close,
};
