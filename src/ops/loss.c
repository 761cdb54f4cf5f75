/*
 * Losses: one number from frames y and their truth t, both [B,T,H,W,C] float (the first two of any shape).  All are means,
 * so that a weight means the same at every size; the result is weight times the mean.
 *
 *   loss_charbonnier   sqrt((y-t)^2 + eps^2)
 *   loss_mse           (y-t)^2, without t: y^2
 *   loss_motion        |(y' - y) - (t' - t)| of neighbouring frames y, y'
 *   loss_spectrum      | |F y| - |F t| | of the Fourier transforms F of square blocks, scaled to keep the norm
 *   loss_gradient      |d'| of the differences d' of neighbouring pixels of y-t, at full, half, quarter... resolution
 */
#include "ops/loss.h"

#include "tensor/sampler.h"

#include <math.h>
#include <string.h>

extern const op oas_op_loss_charbonnier, oas_op_loss_mse, oas_op_loss_motion, oas_op_loss_spectrum,
    oas_op_loss_gradient;

static tensor *apply_loss(graph *g, const op *o, tensor *y, tensor *t, const struct loss_param *p)
{
    tensor *in[] = {y, t};
    return oas_apply(g, o, in, p, sizeof *p);
}

/* Frames of equal shape and float. */
static bool loss_shape(graph *g, node *n)
{
    const tensor *y = n->in[0], *t = n->in[1];
    if (y->dtype != OAS_F32 || (t && (t->dtype != OAS_F32 || !oas_shape_equal(&y->shape, &t->shape))))
        return oas_op_refuse(g, "%s: %s and truth %s must be of one shape and fp32", n->op->name,
                             oas_shape_text(&y->shape).text, t ? oas_shape_text(&t->shape).text : "nothing");
    n->out->shape = OAS_SHAPE1(1);
    n->out->dtype = OAS_F32;
    return true;
}

size_t oas_loss_keep(const node *n)
{
    return oas_bytes(n->in[0]);
}

static void loss_slab(void *arg, int64_t slab, int worker)
{
    const struct loss_task *task = arg;
    task->sums[slab] = task->part(task, slab, task->scratch + worker * task->scratch_each);
}

oasis_status oas_loss_run(graph *g, const node *n, int64_t slabs, size_t scratch_each, oas_loss_part *part)
{
    scratch_each = (scratch_each + 15) / 16 * 16;
    struct loss_task task = {.n = n, .p = OAS_PARAM(struct loss_param, n), .y = oas_f32(n->in[0]), .part = part};
    task.t = n->in[1] ? oas_f32(n->in[1]) : NULL;
    task.derivative = n->keep;
    task.sums = oas_scratch(g, (size_t)slabs * sizeof *task.sums);
    task.scratch_each = (int64_t)scratch_each;
    task.scratch = oas_scratch(g, scratch_each * sizeof(float) * (size_t)oas_pool_workers(oas_graph_pool(g)) + 1);
    if (g->status < 0 || g->planning)
        return g->status;
    if (task.derivative)
        memset(task.derivative, 0, oas_bytes(n->in[0]));
    oas_pool_run(oas_graph_pool(g), slabs, loss_slab, &task);
    double sum = 0;
    for (int64_t s = 0; s < slabs; s++)
        sum += task.sums[s];
    *oas_f32(n->out) = (float)sum;
    return OASIS_OK;
}

size_t oas_loss_scratch(graph *g, int64_t slabs, size_t scratch_each)
{
    size_t workers = (size_t)oas_pool_workers(oas_graph_pool(g));
    size_t sums = oas_aligned((size_t)slabs * sizeof(double));
    return sums + (scratch_each + 15) / 16 * 16 * sizeof(float) * workers + 1;
}

/* Forward kept the derivative.  So dy += derivative times the result's gradient. */
struct keep_task {
    float *dy;
    const float *derivative;
    float factor;
    int64_t count;
};

enum { LOSS_SLAB = 1 << 15 };

static void keep_slab(void *arg, int64_t slab, int worker)
{
    (void)worker;
    const struct keep_task *t = arg;
    int64_t begin = slab * LOSS_SLAB, end = begin + LOSS_SLAB < t->count ? begin + LOSS_SLAB : t->count;
    for (int64_t i = begin; i < end; i++)
        t->dy[i] += t->factor * t->derivative[i];
}

static int64_t value_slabs(const node *n)
{
    return (oas_count(&n->in[0]->shape) + LOSS_SLAB - 1) / LOSS_SLAB;
}

oasis_status oas_loss_backward(graph *g, const node *n)
{
    if (g->planning)
        return OASIS_OK;
    struct keep_task t = {oas_gradient_of(n->in[0]), n->keep, *oas_gradient_of(n->out), oas_count(&n->in[0]->shape)};
    oas_pool_run(oas_graph_pool(g), value_slabs(n), keep_slab, &t);
    return OASIS_OK;
}

static size_t values_scratch(graph *g, const node *n)
{
    return oas_loss_scratch(g, value_slabs(n), 0);
}

/* ---- on the GPU ---------------------------------------------------------------------------------------------------- */

bool oas_loss_cuda_of(graph *g, const node *n, size_t partial_bytes, cuda_loss *l)
{
    void *partial = oas_scratch(g, partial_bytes);
    if (g->planning || g->status < 0)
        return false;
    *l = (cuda_loss){.y = oas_f32(n->in[0]), .t = n->in[1] ? oas_f32(n->in[1]) : NULL, .derivative = n->keep};
    l->sum = oas_f32(n->out);
    l->partial = partial;
    l->weight = (double)OAS_PARAM(struct loss_param, n)->weight;
    return true;
}

static cuda_pictures pictures_of(const node *n)
{
    const int64_t *s = n->in[0]->shape.size;
    return (cuda_pictures){s[0] * s[1], s[1], s[2], s[3], s[4]};
}

oasis_status oas_loss_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning || !n->in[0]->grad)
        return OASIS_OK;
    return c->tables.passes->add_times(c, oas_gradient_of(n->in[0]), 1.f, oas_gradient_of(n->out), n->keep,
                                       oas_count(&n->in[0]->shape));
}

/* ---- Charbonnier --------------------------------------------------------------------------------------------------- */

tensor *oas_loss_charbonnier(graph *g, tensor *y, tensor *t, float eps, float weight)
{
    return apply_loss(g, &oas_op_loss_charbonnier, y, t, &(struct loss_param){.weight = weight, .eps = eps});
}

static double charbonnier_part(const struct loss_task *task, int64_t slab, float *scratch)
{
    (void)scratch;
    int64_t count = oas_count(&task->n->in[0]->shape), begin = slab * LOSS_SLAB;
    int64_t end = begin + LOSS_SLAB < count ? begin + LOSS_SLAB : count;
    double sum = 0, factor = (double)task->p->weight / (double)count;
    float eps = task->p->eps * task->p->eps;
    for (int64_t i = begin; i < end; i++) {
        float d = task->y[i] - task->t[i], root = sqrtf(d * d + eps);
        sum += (double)root;
        if (task->derivative)
            task->derivative[i] = (float)factor * d / root;
    }
    return sum * factor;
}

static oasis_status charbonnier_ref(graph *g, const node *n)
{
    return oas_loss_run(g, n, value_slabs(n), 0, charbonnier_part);
}

static oasis_status charbonnier_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t count = oas_count(&n->in[0]->shape);
    cuda_loss l;
    if (!oas_loss_cuda_of(g, n, c->tables.losses->values_bytes(c, count), &l))
        return g->status;
    return c->tables.losses->charbonnier(c, &l, OAS_PARAM(struct loss_param, n)->eps, count);
}

static bool charbonnier_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    shape size = OAS_SHAPE5(1, oas_sample_size(s, 1, 3), oas_sample_size(s, 1, 5), oas_sample_size(s, 1, 5), 3);
    *(struct loss_param *)(void *)n->param =
        (struct loss_param){.weight = (float)oas_count(&size) / 2.f, .eps = i == 2 ? 1.f : 0.1f};
    n->in[0] = oas_sample_floats(s, size, 1);
    n->in[1] = oas_sample_floats(s, size, 1);
    return true;
}

const op oas_op_loss_charbonnier = {
    .name = "loss_charbonnier",
    .sample = charbonnier_sample,
    OAS_LOSS_OP(loss_shape, values_scratch, charbonnier_ref, charbonnier_cuda),
};

/* ---- mean square --------------------------------------------------------------------------------------------------- */

tensor *oas_loss_mse(graph *g, tensor *y, tensor *t, float weight)
{
    return apply_loss(g, &oas_op_loss_mse, y, t, &(struct loss_param){.weight = weight});
}

static double mse_part(const struct loss_task *task, int64_t slab, float *scratch)
{
    (void)scratch;
    int64_t count = oas_count(&task->n->in[0]->shape), begin = slab * LOSS_SLAB;
    int64_t end = begin + LOSS_SLAB < count ? begin + LOSS_SLAB : count;
    double sum = 0, factor = (double)task->p->weight / (double)count;
    for (int64_t i = begin; i < end; i++) {
        float d = task->y[i] - (task->t ? task->t[i] : 0.f);
        sum += (double)(d * d);
        if (task->derivative)
            task->derivative[i] = 2.f * (float)factor * d;
    }
    return sum * factor;
}

static oasis_status mse_ref(graph *g, const node *n)
{
    return oas_loss_run(g, n, value_slabs(n), 0, mse_part);
}

static oasis_status mse_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t count = oas_count(&n->in[0]->shape);
    cuda_loss l;
    if (!oas_loss_cuda_of(g, n, c->tables.losses->values_bytes(c, count), &l))
        return g->status;
    return c->tables.losses->mse(c, &l, count);
}

static bool mse_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    shape size = OAS_SHAPE2(oas_sample_size(s, 1, 9), oas_sample_size(s, 1, 20));
    *(struct loss_param *)(void *)n->param = (struct loss_param){.weight = (float)oas_count(&size) / 2.f};
    n->in[0] = oas_sample_floats(s, size, 1);
    n->in[1] = i < 2 ? oas_sample_floats(s, size, 1) : NULL;
    return true;
}

const op oas_op_loss_mse = {
    .name = "loss_mse",
    .optional = 1u << 1,
    .sample = mse_sample,
    OAS_LOSS_OP(loss_shape, values_scratch, mse_ref, mse_cuda),
};

/* ---- motion -------------------------------------------------------------------------------------------------------- */

tensor *oas_loss_motion(graph *g, tensor *y, tensor *t, float weight)
{
    return apply_loss(g, &oas_op_loss_motion, y, t, &(struct loss_param){.weight = weight});
}

static bool pictures_shape(graph *g, node *n)
{
    if (n->in[0]->shape.rank != 5)
        return oas_op_refuse(g, "%s: %s is not [B,T,H,W,C]", n->op->name, oas_shape_text(&n->in[0]->shape).text);
    return loss_shape(g, n);
}

static int64_t motion_slabs(const node *n)
{
    return n->in[0]->shape.size[0] * n->in[0]->shape.size[2];
}

/* One row of one sample, all its frames. */
static double motion_part(const struct loss_task *task, int64_t slab, float *scratch)
{
    (void)scratch;
    const int64_t *s = task->n->in[0]->shape.size;
    int64_t row = s[3] * s[4], frame = s[2] * row, first = slab / s[2] * s[1] * frame + slab % s[2] * row;
    double sum = 0, terms = (double)(s[0] * (s[1] - 1) * frame);
    float factor = s[1] > 1 ? (float)((double)task->p->weight / terms) : 0.f;
    for (int64_t f = 0; f + 1 < s[1]; f++) {
        for (int64_t i = first + f * frame; i < first + f * frame + row; i++) {
            float d = (task->y[i + frame] - task->y[i]) - (task->t[i + frame] - task->t[i]);
            float slope = d > 0.f ? factor : d < 0.f ? -factor : 0.f;
            sum += (double)fabsf(d);
            if (task->derivative) {
                task->derivative[i + frame] += slope;
                task->derivative[i] -= slope;
            }
        }
    }
    return sum * (double)factor;
}

static size_t motion_scratch(graph *g, const node *n)
{
    return oas_loss_scratch(g, motion_slabs(n), 0);
}

static oasis_status motion_ref(graph *g, const node *n)
{
    return oas_loss_run(g, n, motion_slabs(n), 0, motion_part);
}

static oasis_status motion_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    cuda_pictures p = pictures_of(n);
    cuda_loss l;
    if (!oas_loss_cuda_of(g, n, c->tables.losses->motion_bytes(c, &p), &l))
        return g->status;
    return c->tables.losses->motion(c, &l, &p);
}

static bool motion_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    shape size = OAS_SHAPE5(1 + i / 2, 2 + i, oas_sample_size(s, 1, 4), oas_sample_size(s, 1, 4), 3);
    *(struct loss_param *)(void *)n->param = (struct loss_param){.weight = (float)oas_count(&size) / 2.f};
    n->in[0] = oas_sample_floats(s, size, 4);
    n->in[1] = oas_sample_floats(s, size, 4);
    return true;
}

const op oas_op_loss_motion = {
    .name = "loss_motion",
    .sample = motion_sample,
    OAS_LOSS_OP(pictures_shape, motion_scratch, motion_ref, motion_cuda),
};

/* ---- spectrum ------------------------------------------------------------------------------------------------------ */

enum { LANES = 16, MOST_BLOCK = 32 }; /* blocks, of any channel, that are transformed side by side */

tensor *oas_loss_spectrum(graph *g, tensor *y, tensor *t, int block, tensor *shift, float weight)
{
    struct loss_param p = {.weight = weight, .block = block};
    tensor *in[] = {y, t, shift};
    return oas_apply(g, &oas_op_loss_spectrum, in, &p, sizeof p);
}

static bool spectrum_shape(graph *g, node *n)
{
    const struct loss_param *p = OAS_PARAM(struct loss_param, n);
    const int64_t *s = n->in[0]->shape.size;
    bool power = p->block > 1 && p->block <= MOST_BLOCK && (p->block & (p->block - 1)) == 0;
    if (!pictures_shape(g, n))
        return false;
    if (!power || s[2] < p->block || s[3] < p->block)
        return oas_op_refuse(g, "loss_spectrum: no block of %d in %s", p->block, oas_shape_text(&n->in[0]->shape).text);
    return oas_is_place(g, n, n->in[2]);
}

static int64_t shift_y(const node *n)
{
    return oas_place_at(n->in[2], 0, n->in[0]->shape.size[2] - OAS_PARAM(struct loss_param, n)->block);
}

static int64_t shift_x(const node *n)
{
    return oas_place_at(n->in[2], 1, n->in[0]->shape.size[3] - OAS_PARAM(struct loss_param, n)->block);
}

static int64_t blocks_down(const node *n)
{
    const struct loss_param *p = OAS_PARAM(struct loss_param, n);
    return (n->in[0]->shape.size[2] - shift_y(n)) / p->block;
}

static int64_t blocks_across(const node *n)
{
    const struct loss_param *p = OAS_PARAM(struct loss_param, n);
    return (n->in[0]->shape.size[3] - shift_x(n)) / p->block;
}

static int64_t spectrum_slabs(const node *n)
{
    return n->in[0]->shape.size[0] * n->in[0]->shape.size[1] * blocks_down(n);
}

/* Scratch of a worker: real and imaginary parts of LANES blocks, and the roots of unity. */
static size_t spectrum_floats(const node *n)
{
    size_t block = (size_t)OAS_PARAM(struct loss_param, n)->block;
    return 2 * block * block * LANES + 2 * block;
}

/* Butterfly of two elements, all lanes:  a' = a + w b;  b' = a - w b. */
static void butterfly(float *a_re, float *a_im, float *b_re, float *b_im, float w_re, float w_im)
{
    for (int l = 0; l < LANES; l++) {
        float re = b_re[l] * w_re - b_im[l] * w_im, im = b_re[l] * w_im + b_im[l] * w_re;
        b_re[l] = a_re[l] - re;
        b_im[l] = a_im[l] - im;
        a_re[l] += re;
        a_im[l] += im;
    }
}

static void swap_lanes(float *a, float *b)
{
    for (int l = 0; l < LANES; l++) {
        float t = a[l];
        a[l] = b[l];
        b[l] = t;
    }
}

/* The transform of n elements, `step` elements apart, in place (Cooley and Tukey); sign -1 forward, 1 inverse. */
static void transform(float *re, float *im, int n, int step, const float *roots, float sign)
{
    int64_t each = (int64_t)step * LANES;
    for (int i = 1, j = 0; i < n; i++) {
        int bit = n >> 1;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j ^= bit;
        if (i < j) {
            swap_lanes(re + i * each, re + j * each);
            swap_lanes(im + i * each, im + j * each);
        }
    }
    for (int half = 1; half < n; half *= 2)
        for (int i = 0; i < n; i += 2 * half)
            for (int k = 0; k < half; k++) {
                int64_t a = (i + k) * each, b = (i + k + half) * each;
                butterfly(re + a, im + a, re + b, im + b, roots[2 * k * (n / half / 2)],
                          sign * roots[2 * k * (n / half / 2) + 1]);
            }
}

static void transform_block(float *re, float *im, int n, const float *roots, float sign)
{
    for (int i = 0; i < n; i++)
        transform(re + (int64_t)i * n * LANES, im + (int64_t)i * n * LANES, n, 1, roots, sign);
    for (int i = 0; i < n; i++)
        transform(re + (int64_t)i * LANES, im + (int64_t)i * LANES, n, n, roots, sign);
}

/* Blocks this small have no direction, and dividing by their amplitude would be noise. */
static const float LEAST_AMPLITUDE = 1e-6f;

/*
 * Element k of the transform Z of y + i t, and its mirror m = -k: Y = (Z_k + conj Z_m) / 2, T = (Z_k - conj Z_m) / 2i.
 * Gives the sum over lanes of both elements, which are alike, and puts sign(|Y| - |T|) Y / |Y| in place of Z, as the
 * derivative wants.
 */
static double compare_amplitudes(float *re, float *im, int64_t k, int64_t m, int lanes, float scale)
{
    double sum = 0;
    for (int l = 0; l < LANES; l++) {
        float *zr = re + k * LANES + l, *zi = im + k * LANES + l, *mr = re + m * LANES + l, *mi = im + m * LANES + l;
        float yr = 0.5f * (*zr + *mr), yi = 0.5f * (*zi - *mi), tr = 0.5f * (*zi + *mi), ti = 0.5f * (*mr - *zr);
        float a = sqrtf(yr * yr + yi * yi), difference = a - sqrtf(tr * tr + ti * ti);
        float slope = a < LEAST_AMPLITUDE || l >= lanes ? 0.f : (difference > 0.f ? 1.f : -1.f) / a;
        sum += l < lanes ? (double)fabsf(difference) : 0.;
        *zr = *mr = slope * yr;
        *zi = slope * yi;
        *mi = k == m ? *zi : -*zi;
    }
    return (k == m ? 1. : 2.) * sum * (double)scale;
}

/* Copies LANES blocks in (y real, t imaginary), or with `out` the real part back as a derivative. */
static void move_blocks(const struct loss_task *task, int64_t slab, int64_t lane, int lanes, float *re, float *im,
                        float *out, float factor)
{
    const int64_t *s = task->n->in[0]->shape.size;
    int64_t n = task->p->block, down = blocks_down(task->n), frame = slab / down;
    int64_t from = shift_x(task->n), top = frame * s[2] + shift_y(task->n) + slab % down * n;
    for (int64_t l = 0; l < LANES; l++) {
        int64_t block = (lane + l) / s[4], c = (lane + l) % s[4], left = from + block * n;
        for (int64_t i = 0; i < n * n; i++) {
            int64_t at = ((top + i / n) * s[3] + left + i % n) * s[4] + c;
            if (out && l < lanes)
                out[at] = factor * re[i * LANES + l];
            if (!out) {
                re[i * LANES + l] = l < lanes ? task->y[at] : 0.f;
                im[i * LANES + l] = l < lanes ? task->t[at] : 0.f;
            }
        }
    }
}

/* One row of blocks of one frame.  |F| scaled by 1/n keeps the norm; its adjoint is the unscaled inverse times 1/n. */
static double spectrum_part(const struct loss_task *task, int64_t slab, float *scratch)
{
    const int64_t *s = task->n->in[0]->shape.size;
    int n = task->p->block;
    int64_t size = (int64_t)n * n, lanes = blocks_across(task->n) * s[4];
    float *re = scratch, *im = re + size * LANES, *roots = im + size * LANES;
    double terms = (double)(spectrum_slabs(task->n) * lanes * size), sum = 0;
    for (int k = 0; k < n / 2; k++) {
        roots[2 * k] = (float)cos(6.283185307179586 * k / n);
        roots[2 * k + 1] = (float)sin(6.283185307179586 * k / n);
    }
    for (int64_t lane = 0; lane < lanes; lane += LANES) {
        int used = lanes - lane < LANES ? (int)(lanes - lane) : LANES;
        move_blocks(task, slab, lane, used, re, im, NULL, 0);
        transform_block(re, im, n, roots, -1.f);
        for (int64_t k = 0; k < size; k++) {
            int64_t mirror = (n - k / n) % n * n + (n - k % n) % n;
            if (k <= mirror)
                sum += compare_amplitudes(re, im, k, mirror, used, 1.f / (float)n);
        }
        if (!task->derivative)
            continue;
        transform_block(re, im, n, roots, 1.f);
        move_blocks(task, slab, lane, used, re, im, task->derivative, (float)((double)task->p->weight / terms / n));
    }
    return sum * (double)task->p->weight / terms;
}

static size_t spectrum_scratch(graph *g, const node *n)
{
    return oas_loss_scratch(g, spectrum_slabs(n), spectrum_floats(n));
}

static oasis_status spectrum_ref(graph *g, const node *n)
{
    return oas_loss_run(g, n, spectrum_slabs(n), spectrum_floats(n), spectrum_part);
}

static oasis_status spectrum_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const struct loss_param *p = OAS_PARAM(struct loss_param, n);
    cuda_pictures pictures = pictures_of(n);
    cuda_loss l;
    if (!oas_loss_cuda_of(g, n, c->tables.losses->spectrum_bytes(c, &pictures, p->block), &l))
        return g->status;
    return c->tables.losses->spectrum(c, &l, &pictures, p->block, n->in[2] ? oas_f32(n->in[2]) : NULL);
}

static bool spectrum_sample(sampler *s, int i, node *n)
{
    static const int blocks[] = {2, 4, 8, 16};
    if (i >= 4)
        return false;
    int b = blocks[i];
    shape size = OAS_SHAPE5(1, 1 + i % 2, b + i, b * (1 + (i < 2)) + 1, i == 2 ? 1 : 3);
    *(struct loss_param *)(void *)n->param = (struct loss_param){.weight = (float)oas_count(&size) / 2.f, .block = b};
    n->in[0] = oas_sample_floats(s, size, 4);
    n->in[1] = oas_sample_floats(s, size, 2);
    n->in[2] = i > 0 ? oas_sample_place(s, i / 2, i % 2) : NULL;
    return true;
}

const op oas_op_loss_spectrum = {
    .name = "loss_spectrum",
    .sample = spectrum_sample,
    .optional = 1u << 2,
    OAS_LOSS_OP_OF(3, spectrum_shape, spectrum_scratch, spectrum_ref, spectrum_cuda),
};

/* ---- gradient ------------------------------------------------------------------------------------------------------ */

enum { MOST_LEVELS = 6 };

tensor *oas_loss_gradient(graph *g, tensor *y, tensor *t, int levels, float weight)
{
    struct loss_param p = {.weight = weight, .levels = levels};
    return apply_loss(g, &oas_op_loss_gradient, y, t, &p);
}

static bool gradient_shape(graph *g, node *n)
{
    const struct loss_param *p = OAS_PARAM(struct loss_param, n);
    if (!pictures_shape(g, n))
        return false;
    const int64_t *s = n->in[0]->shape.size;
    if (p->levels < 1 || p->levels > MOST_LEVELS || s[2] >> (p->levels - 1) < 2 || s[3] >> (p->levels - 1) < 2)
        return oas_op_refuse(g, "loss_gradient: %s has no %d levels of resolution",
                             oas_shape_text(&n->in[0]->shape).text, p->levels);
    return true;
}

/* Differences of all levels, and their derivatives: at most 4/3 of a frame each. */
static size_t gradient_floats(const node *n)
{
    const int64_t *s = n->in[0]->shape.size;
    return (size_t)(s[2] * s[3] * s[4] * 8 / 3 + 16);
}

static int64_t frames_of(const node *n)
{
    return n->in[0]->shape.size[0] * n->in[0]->shape.size[1];
}

/* The sum of |a neighbour's difference| of a picture, and its derivative times `factor` into slope. */
static double neighbour_differences(const float *d, float *slope, int64_t h, int64_t w, int64_t c, float factor)
{
    double sum = 0;
    for (int64_t i = 0; i < h * w; i++) {
        for (int axis = 0; axis < 2; axis++) {
            if (axis ? i / w + 1 == h : i % w + 1 == w)
                continue;
            const float *a = d + i * c, *b = a + (axis ? w : 1) * c;
            float *sa = slope + i * c, *sb = sa + (axis ? w : 1) * c;
            for (int64_t k = 0; k < c; k++) {
                float step = b[k] - a[k], s = step > 0.f ? factor : step < 0.f ? -factor : 0.f;
                sum += (double)fabsf(step);
                sb[k] += s;
                sa[k] -= s;
            }
        }
    }
    return sum * (double)factor;
}

/* Half the size by means of four, or with `back` the derivative of that. */
static void halve(float *fine, float *coarse, int64_t h, int64_t w, int64_t c, bool back)
{
    for (int64_t y = 0; y < h / 2; y++)
        for (int64_t x = 0; x < w / 2; x++)
            for (int64_t k = 0; k < c; k++) {
                float *small = coarse + (y * (w / 2) + x) * c + k, *big = fine + (2 * y * w + 2 * x) * c + k;
                if (back) {
                    for (int64_t i = 0; i < 4; i++)
                        big[(i / 2 * w + i % 2) * c] += 0.25f * *small;
                } else {
                    *small = 0.25f * (big[0] + big[c] + big[w * c] + big[(w + 1) * c]);
                }
            }
}

/* One frame. */
static double gradient_part(const struct loss_task *task, int64_t frame, float *scratch)
{
    const int64_t *s = task->n->in[0]->shape.size;
    int64_t c = s[4], size = s[2] * s[3] * c, half = (int64_t)gradient_floats(task->n) / 2, offset[MOST_LEVELS];
    float *d = scratch, *slope = scratch + half;
    double sum = 0;
    memset(slope, 0, (size_t)half * sizeof *slope);
    for (int64_t i = 0; i < size; i++)
        d[i] = task->y[frame * size + i] - task->t[frame * size + i];
    for (int level = 0; level < task->p->levels; level++) {
        int64_t h = s[2] >> level, w = s[3] >> level, terms = frames_of(task->n) * c * (h * (w - 1) + (h - 1) * w);
        offset[level] = level == 0 ? 0 : offset[level - 1] + (s[2] >> (level - 1)) * (s[3] >> (level - 1)) * c;
        if (level > 0)
            halve(d + offset[level - 1], d + offset[level], s[2] >> (level - 1), s[3] >> (level - 1), c, false);
        double factor = (double)task->p->weight / (double)(task->p->levels * terms);
        sum += neighbour_differences(d + offset[level], slope + offset[level], h, w, c, (float)factor);
    }
    for (int level = task->p->levels - 1; level > 0; level--)
        halve(slope + offset[level - 1], slope + offset[level], s[2] >> (level - 1), s[3] >> (level - 1), c, true);
    if (task->derivative)
        memcpy(task->derivative + frame * size, slope, (size_t)size * sizeof *slope);
    return sum;
}

static size_t gradient_scratch(graph *g, const node *n)
{
    return oas_loss_scratch(g, frames_of(n), gradient_floats(n));
}

static oasis_status gradient_ref(graph *g, const node *n)
{
    return oas_loss_run(g, n, frames_of(n), gradient_floats(n), gradient_part);
}

static oasis_status gradient_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int32_t levels = OAS_PARAM(struct loss_param, n)->levels;
    cuda_pictures p = pictures_of(n);
    cuda_loss l;
    if (!oas_loss_cuda_of(g, n, c->tables.losses->gradient_bytes(c, &p, levels), &l))
        return g->status;
    return c->tables.losses->gradient(c, &l, &p, levels);
}

static bool gradient_sample(sampler *s, int i, node *n)
{
    if (i >= 4)
        return false;
    shape size = OAS_SHAPE5(1, 1 + i % 2, 4 + i, 5 + i, i ? 3 : 1);
    *(struct loss_param *)(void *)n->param =
        (struct loss_param){.weight = (float)oas_count(&size), .levels = 1 + i / 2};
    n->in[0] = oas_sample_floats(s, size, 4);
    n->in[1] = oas_sample_floats(s, size, 4);
    return true;
}

const op oas_op_loss_gradient = {
    .name = "loss_gradient",
    .sample = gradient_sample,
    OAS_LOSS_OP(gradient_shape, gradient_scratch, gradient_ref, gradient_cuda),
};
