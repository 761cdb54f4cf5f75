/*
 * Moving values between space, time and channels.
 *
 *   space_to_depth   a block of t x h x w pixels of C channels becomes one position of C*t*h*w channels
 *   depth_to_space   the inverse
 *   channels         some of the channels
 *   frames           some of the frames
 */
#include "cuda/layout.h"
#include "cuda/passes.h"
#include "ops/op.h"
#include "tensor/sampler.h"

#include <string.h>

extern const op oas_op_space_to_depth, oas_op_depth_to_space, oas_op_channels, oas_op_frames;

struct block_param {
    block_factor f;
    int32_t order, front, out; /* front: copies of frame 0, or frames dropped */
};

/* Where, in a block's channels, the value of channel c at (i, j, k) lies. */
static int64_t block_channel(const struct block_param *p, int64_t channels, int64_t c, int i, int j, int k)
{
    int64_t place = ((int64_t)i * p->f.h + j) * p->f.w + k;
    return p->order == OAS_CHANNEL_SLOW ? c * p->f.t * p->f.h * p->f.w + place : place * channels + c;
}

/* One row of positions or pixels as a repeating rearrangement of a row of the input (cpu/passes.h). */
enum { MOST_INDICES = 8192 };

typedef struct row_plan {
    int64_t period, step; /* of the output and the input; several blocks, so that whole vectors repeat */
    int32_t index[MOST_INDICES];
} row_plan;

/* How many blocks of `values` values repeat together: their values are a multiple of 16. */
static int64_t blocks_together(int64_t values)
{
    int64_t blocks = 1;
    while (values * blocks % 16 != 0)
        blocks *= 2;
    return blocks;
}

/* Repeats the first `values` indices of a plan, `step` input values further each time. */
static void repeat(row_plan *plan, int64_t values, int64_t step)
{
    int64_t blocks = blocks_together(values);
    plan->period = values * blocks;
    plan->step = step * blocks;
    for (int64_t i = values; i < plan->period; i++)
        plan->index[i] = plan->index[i - values] + (int32_t)step;
}

/* ---- space to depth ------------------------------------------------------------------------------------------------ */

tensor *oas_space_to_depth(graph *g, tensor *x, block_factor f, oas_channel_order order, int front, oas_dtype out)
{
    struct block_param p = {f, (int32_t)order, front, (int32_t)out};
    return oas_apply(g, &oas_op_space_to_depth, &x, &p, sizeof p);
}

static bool to_depth_shape(graph *g, node *n)
{
    const tensor *x = n->in[0];
    const struct block_param *p = OAS_PARAM(struct block_param, n);
    const int64_t *s = x->shape.size;
    if (x->shape.rank != 5 || (s[1] + p->front) % p->f.t != 0 || s[2] % p->f.h != 0 || s[3] % p->f.w != 0)
        return oas_op_refuse(g, "space_to_depth: %s with %d more frames is not made of blocks of %dx%dx%d",
                             oas_shape_text(&x->shape).text, p->front, p->f.t, p->f.h, p->f.w);
    n->out->shape =
        OAS_SHAPE5(s[0], (s[1] + p->front) / p->f.t, s[2] / p->f.h, s[3] / p->f.w, s[4] * p->f.t * p->f.h * p->f.w);
    n->out->dtype = (oas_dtype)p->out;
    return true;
}

static oasis_status to_depth_ref(graph *g, const node *n)
{
    (void)g;
    const struct block_param *p = OAS_PARAM(struct block_param, n);
    const int64_t *in = n->in[0]->shape.size, *out = n->out->shape.size;
    const float *x = oas_f32(n->in[0]);
    float *y = oas_f32(n->out);
    for (int64_t frame = 0; frame < in[0] * (in[1] + p->front); frame++) {
        int64_t b = frame / (in[1] + p->front), t = frame % (in[1] + p->front);
        int64_t source = t < p->front ? 0 : t - p->front;
        for (int64_t row = 0; row < in[2]; row++) {
            for (int64_t col = 0; col < in[3]; col++) {
                const float *from = x + (((b * in[1] + source) * in[2] + row) * in[3] + col) * in[4];
                float *to = y + (((b * out[1] + t / p->f.t) * out[2] + row / p->f.h) * out[3] + col / p->f.w) * out[4];
                for (int64_t c = 0; c < in[4]; c++)
                    to[block_channel(p, in[4], c, (int)(t % p->f.t), (int)(row % p->f.h), (int)(col % p->f.w))] =
                        from[c];
            }
        }
    }
    return OASIS_OK;
}

/* Rows of positions: of all batches and frames. */
static void to_depth_stretch(const graph *g, const node *n, int64_t begin, int64_t end)
{
    const struct block_param *p = OAS_PARAM(struct block_param, n);
    const int64_t *in = n->in[0]->shape.size, *out = n->out->shape.size;
    oas_dtype from = n->in[0]->dtype, to = n->out->dtype;
    row_plan plan;
    for (int64_t i = begin; i < end; i++) {
        int64_t y = i % out[2], frame = i / out[2] % out[1], b = i / out[2] / out[1], first = 0;
        for (int t = 0; t < p->f.t; t++) {
            int64_t at = frame * p->f.t + t, source = at < p->front ? 0 : at - p->front;
            if (t == 0)
                first = source;
            for (int64_t k = 0; k < (int64_t)p->f.h * p->f.w * in[4]; k++) {
                int64_t row = k / (p->f.w * in[4]), col = k / in[4] % p->f.w, c = k % in[4];
                plan.index[block_channel(p, in[4], c, t, (int)row, (int)col)] =
                    (int32_t)((((source - first) * in[2] + row) * in[3] + col) * in[4] + c);
            }
        }
        repeat(&plan, out[4], p->f.w * in[4]);
        size_t read = (size_t)(((b * in[1] + first) * in[2] + y * p->f.h) * in[3] * in[4]);
        size_t written = (size_t)(i * out[3] * out[4]) * oas_dtype_size(to);
        oas_graph_passes(g)->rearrange(
            (char *)n->out->data + written, to, (const char *)n->in[0]->data + read * oas_dtype_size(from), from,
            oas_count(&n->in[0]->shape) - (int64_t)read, NULL, plan.index, plan.period, plan.step, out[3] * out[4]);
    }
}

static oasis_status to_depth_cpu(graph *g, const node *n)
{
    const int64_t *out = n->out->shape.size;
    oas_for_stretches(g, n, out[0] * out[1] * out[2], (size_t)(out[3] * out[4]) * 8, to_depth_stretch);
    return OASIS_OK;
}

/* Tables of indices are small, and values of bf16 lie in whole pairs. */
static bool to_depth_accepts(const graph *g, const node *n)
{
    (void)g;
    const int64_t *in = n->in[0]->shape.size, values = oas_last(n->out, 0);
    return values * blocks_together(values) <= MOST_INDICES && in[1] * in[2] * in[3] * in[4] < INT32_MAX &&
           (n->in[0]->dtype == OAS_F32 || in[4] % 2 == 0);
}

/* Row `slab` of the input, all its frames: what forward read from it flows back. */
static void to_depth_backward_slab(void *arg, int64_t slab, int worker)
{
    (void)worker;
    const node *n = arg;
    const struct block_param *p = OAS_PARAM(struct block_param, n);
    const int64_t *in = n->in[0]->shape.size, *out = n->out->shape.size;
    float *dx = oas_gradient_of(n->in[0]);
    const float *dy = oas_gradient_of(n->out);
    int64_t b = slab / in[2], row = slab % in[2];
    for (int64_t t = 0; t < in[1] + p->front; t++) {
        int64_t source = t < p->front ? 0 : t - p->front;
        for (int64_t col = 0; col < in[3]; col++) {
            float *to = dx + (((b * in[1] + source) * in[2] + row) * in[3] + col) * in[4];
            const float *from =
                dy + (((b * out[1] + t / p->f.t) * out[2] + row / p->f.h) * out[3] + col / p->f.w) * out[4];
            for (int64_t c = 0; c < in[4]; c++)
                to[c] += from[block_channel(p, in[4], c, (int)(t % p->f.t), (int)(row % p->f.h), (int)(col % p->f.w))];
        }
    }
}

/* Forward copied every value to one place, those of frame 0 to front+1. */
static oasis_status to_depth_backward(graph *g, const node *n)
{
    const int64_t *in = n->in[0]->shape.size;
    if (!g->planning)
        oas_pool_run(oas_graph_pool(g), in[0] * in[2], to_depth_backward_slab, (void *)(uintptr_t)n);
    return OASIS_OK;
}

/* The blocks of both ways, of pixels of the given shape. */
static cuda_blocks blocks_of(const struct block_param *p, const shape *pixels, bool copies)
{
    const int64_t *s = pixels->size;
    return (cuda_blocks){s[0],  s[1], s[2], s[3], s[4], p->f.t, p->f.h, p->f.w, p->front, p->order == OAS_CHANNEL_FAST,
                         copies};
}

static oasis_status to_depth_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning)
        return OASIS_OK;
    cuda_blocks b = blocks_of(OAS_PARAM(struct block_param, n), &n->in[0]->shape, true);
    return c->tables.layout->space_to_depth(c, oas_array(n->out), oas_array(n->in[0]), &b, false);
}

static oasis_status to_depth_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning || !n->in[0]->grad)
        return OASIS_OK;
    cuda_blocks b = blocks_of(OAS_PARAM(struct block_param, n), &n->in[0]->shape, true);
    return c->tables.layout->depth_to_space(c, oas_array(n->in[0]->grad), oas_array(n->out->grad), oas_array(NULL), &b,
                                            true);
}

/* A case's blocks; channels 0: by chance. */
typedef struct block_sample {
    block_factor f;
    oas_channel_order order;
    int64_t channels;
} block_sample;

static bool to_depth_sample(sampler *s, int i, node *n)
{
    static const block_sample cases[] = {
        {{1, 2, 2}, OAS_CHANNEL_SLOW, 0}, {{4, 8, 8}, OAS_CHANNEL_FAST, 3},  {{1, 8, 8}, OAS_CHANNEL_SLOW, 3},
        {{1, 4, 4}, OAS_CHANNEL_FAST, 3}, {{2, 1, 3}, OAS_CHANNEL_SLOW, 0},  {{1, 1, 1}, OAS_CHANNEL_FAST, 3},
        {{1, 2, 2}, OAS_CHANNEL_SLOW, 3}, {{1, 4, 4}, OAS_CHANNEL_SLOW, 3},  {{4, 8, 8}, OAS_CHANNEL_SLOW, 3},
        {{3, 4, 4}, OAS_CHANNEL_SLOW, 3}, {{1, 2, 2}, OAS_CHANNEL_SLOW, 24}, {{1, 2, 2}, OAS_CHANNEL_FAST, 12},
        {{4, 1, 1}, OAS_CHANNEL_FAST, 40}};
    if (i >= 2 * (int)(sizeof cases / sizeof *cases))
        return false;
    block_factor f = cases[i / 2].f;
    int64_t channels = cases[i / 2].channels;
    int front = i % 2 ? f.t - 1 : 0;
    *(struct block_param *)(void *)n->param =
        (struct block_param){f, (int32_t)cases[i / 2].order, front, (int32_t)s->activation};
    shape size = OAS_SHAPE5(oas_sample_size(s, 1, 2), 2 * f.t - front, f.h * oas_sample_size(s, 1, 4),
                            f.w * oas_sample_size(s, 1, 5), channels ? channels : oas_sample_size(s, 1, 65));
    n->in[0] = i % 3 ? oas_sample_floats(s, size, 1) : oas_sample_activation(s, size, 1);
    return true;
}

const op oas_op_space_to_depth = {
    .name = "space_to_depth",
    .stage = "passes",
    .n_in = 1,
    .shape = to_depth_shape,
    .accepts = to_depth_accepts,
    .forward = {[OAS_REF] = to_depth_ref, [OAS_CPU] = to_depth_cpu, [OAS_CUDA] = to_depth_cuda},
    .backward = {[OAS_REF] = to_depth_backward, [OAS_CPU] = to_depth_backward, [OAS_CUDA] = to_depth_cuda_backward},
    .sample = to_depth_sample,
    .tolerance = 1e-7f,
    .tolerance_bf16 = 3e-3f,
};

/* ---- depth to space ------------------------------------------------------------------------------------------------ */

tensor *oas_depth_to_space(graph *g, tensor *x, block_factor f, oas_channel_order order, int drop, tensor *add,
                           oas_dtype out)
{
    tensor *in[] = {x, add};
    struct block_param p = {f, (int32_t)order, drop, (int32_t)out};
    return oas_apply(g, &oas_op_depth_to_space, in, &p, sizeof p);
}

static bool to_space_shape(graph *g, node *n)
{
    const tensor *x = n->in[0], *add = n->in[1];
    const struct block_param *p = OAS_PARAM(struct block_param, n);
    const int64_t *s = x->shape.size;
    int64_t block = (int64_t)p->f.t * p->f.h * p->f.w;
    if (x->shape.rank != 5 || s[4] % block != 0 || s[1] * p->f.t <= p->front)
        return oas_op_refuse(g, "depth_to_space: %s does not make blocks of %dx%dx%d with %d frames dropped",
                             oas_shape_text(&x->shape).text, p->f.t, p->f.h, p->f.w, p->front);
    n->out->shape = OAS_SHAPE5(s[0], s[1] * p->f.t - p->front, s[2] * p->f.h, s[3] * p->f.w, s[4] / block);
    n->out->dtype = (oas_dtype)p->out;
    if (add && !oas_shape_equal(&add->shape, &n->out->shape))
        return oas_op_refuse(g, "depth_to_space: cannot add %s to %s", oas_shape_text(&add->shape).text,
                             oas_shape_text(&n->out->shape).text);
    return true;
}

static oasis_status to_space_ref(graph *g, const node *n)
{
    (void)g;
    const struct block_param *p = OAS_PARAM(struct block_param, n);
    const int64_t *in = n->in[0]->shape.size, *out = n->out->shape.size;
    const float *x = oas_f32(n->in[0]), *add = n->in[1] ? oas_f32(n->in[1]) : NULL;
    float *y = oas_f32(n->out);
    for (int64_t frame = 0; frame < out[0] * out[1]; frame++) {
        int64_t b = frame / out[1], t = frame % out[1] + p->front;
        for (int64_t row = 0; row < out[2]; row++) {
            for (int64_t col = 0; col < out[3]; col++) {
                const float *from =
                    x + (((b * in[1] + t / p->f.t) * in[2] + row / p->f.h) * in[3] + col / p->f.w) * in[4];
                int64_t to = ((frame * out[2] + row) * out[3] + col) * out[4];
                for (int64_t c = 0; c < out[4]; c++)
                    y[to + c] =
                        from[block_channel(p, out[4], c, (int)(t % p->f.t), (int)(row % p->f.h), (int)(col % p->f.w))] +
                        (add ? add[to + c] : 0.f);
            }
        }
    }
    return OASIS_OK;
}

/* Rows of pixels: of all batches and frames. */
static void to_space_stretch(const graph *g, const node *n, int64_t begin, int64_t end)
{
    const struct block_param *p = OAS_PARAM(struct block_param, n);
    const int64_t *in = n->in[0]->shape.size, *out = n->out->shape.size;
    oas_dtype from = n->in[0]->dtype, to = n->out->dtype;
    row_plan plan;
    for (int64_t i = begin; i < end; i++) {
        int64_t y = i % out[2], frame = i / out[2], b = frame / out[1], t = frame % out[1] + p->front;
        for (int64_t k = 0; k < p->f.w * out[4]; k++)
            plan.index[k] =
                (int32_t)block_channel(p, out[4], k % out[4], (int)(t % p->f.t), (int)(y % p->f.h), (int)(k / out[4]));
        repeat(&plan, p->f.w * out[4], in[4]);
        size_t read = (size_t)(((b * in[1] + t / p->f.t) * in[2] + y / p->f.h) * in[3] * in[4]);
        int64_t at = i * out[3] * out[4];
        oas_graph_passes(g)->rearrange((char *)n->out->data + (size_t)at * oas_dtype_size(to), to,
                                       (const char *)n->in[0]->data + read * oas_dtype_size(from), from,
                                       oas_count(&n->in[0]->shape) - (int64_t)read,
                                       n->in[1] ? oas_f32(n->in[1]) + at : NULL, plan.index, plan.period, plan.step,
                                       out[3] * out[4]);
    }
}

static oasis_status to_space_cpu(graph *g, const node *n)
{
    const int64_t *out = n->out->shape.size;
    oas_for_stretches(g, n, out[0] * out[1] * out[2], (size_t)(out[3] * out[4]) * 8, to_space_stretch);
    return OASIS_OK;
}

static bool to_space_accepts(const graph *g, const node *n)
{
    (void)g;
    int64_t values = OAS_PARAM(struct block_param, n)->f.w * oas_last(n->out, 0);
    bool pairs = n->in[0]->dtype == OAS_F32 || oas_last(n->in[0], 0) % 2 == 0;
    return values * blocks_together(values) <= MOST_INDICES && pairs && (!n->in[1] || n->in[1]->dtype == OAS_F32);
}

/* Row `slab` of the output. */
static void to_space_backward_slab(void *arg, int64_t slab, int worker)
{
    (void)worker;
    const node *n = arg;
    const struct block_param *p = OAS_PARAM(struct block_param, n);
    const int64_t *in = n->in[0]->shape.size, *out = n->out->shape.size;
    float *dx = oas_gradient_of(n->in[0]), *dadd = oas_gradient_of(n->in[1]);
    const float *dy = oas_gradient_of(n->out) + slab * out[3] * out[4];
    int64_t row = slab % out[2], frame = slab / out[2], b = frame / out[1], t = frame % out[1] + p->front;
    for (int64_t i = 0; dadd && i < out[3] * out[4]; i++)
        dadd[slab * out[3] * out[4] + i] += dy[i];
    for (int64_t col = 0; dx && col < out[3]; col++) {
        float *to = dx + (((b * in[1] + t / p->f.t) * in[2] + row / p->f.h) * in[3] + col / p->f.w) * in[4];
        for (int64_t c = 0; c < out[4]; c++)
            to[block_channel(p, out[4], c, (int)(t % p->f.t), (int)(row % p->f.h), (int)(col % p->f.w))] +=
                dy[col * out[4] + c];
    }
}

/* Forward read every value of a block at most once, and added `add`. */
static oasis_status to_space_backward(graph *g, const node *n)
{
    const int64_t *out = n->out->shape.size;
    if (!g->planning)
        oas_pool_run(oas_graph_pool(g), out[0] * out[1] * out[2], to_space_backward_slab, (void *)(uintptr_t)n);
    return OASIS_OK;
}

static oasis_status to_space_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning)
        return OASIS_OK;
    cuda_blocks b = blocks_of(OAS_PARAM(struct block_param, n), &n->out->shape, false);
    return c->tables.layout->depth_to_space(c, oas_array(n->out), oas_array(n->in[0]), oas_array(n->in[1]), &b, false);
}

static oasis_status to_space_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning)
        return OASIS_OK;
    cuda_blocks b = blocks_of(OAS_PARAM(struct block_param, n), &n->out->shape, false);
    cuda_array dy = oas_array(n->out->grad);
    if (n->in[1] && n->in[1]->grad)
        OAS_TRY(c->tables.passes->add(c, oas_gradient_of(n->in[1]), dy, oas_count(&n->out->shape)));
    return n->in[0]->grad ? c->tables.layout->space_to_depth(c, oas_array(n->in[0]->grad), dy, &b, true) : OASIS_OK;
}

static bool to_space_sample(sampler *s, int i, node *n)
{
    static const block_sample cases[] = {
        {{1, 2, 2}, OAS_CHANNEL_SLOW, 0},  {{4, 1, 1}, OAS_CHANNEL_FAST, 0}, {{1, 4, 4}, OAS_CHANNEL_SLOW, 0},
        {{2, 1, 3}, OAS_CHANNEL_FAST, 0},  {{1, 1, 1}, OAS_CHANNEL_SLOW, 0}, {{1, 2, 2}, OAS_CHANNEL_SLOW, 24},
        {{1, 2, 2}, OAS_CHANNEL_SLOW, 3},  {{1, 4, 4}, OAS_CHANNEL_SLOW, 3}, {{2, 8, 8}, OAS_CHANNEL_SLOW, 3},
        {{4, 1, 1}, OAS_CHANNEL_FAST, 40}, {{1, 2, 2}, OAS_CHANNEL_FAST, 12}};
    if (i >= 2 * (int)(sizeof cases / sizeof *cases))
        return false;
    block_factor f = cases[i / 2].f;
    int drop = i % 2 ? f.t - 1 : 0;
    oas_dtype out = i % 3 == 1 ? OAS_F32 : s->activation;
    *(struct block_param *)(void *)n->param = (struct block_param){f, (int32_t)cases[i / 2].order, drop, (int32_t)out};
    int64_t batch = oas_sample_size(s, 1, 2), frames = oas_sample_size(s, 1, 3);
    int64_t c = cases[i / 2].channels ? cases[i / 2].channels : oas_sample_size(s, 1, 50);
    int64_t h = oas_sample_size(s, 1, 5), w = oas_sample_size(s, 1, 5);
    n->in[0] = oas_sample_activation(s, OAS_SHAPE5(batch, frames, h, w, c * f.t * f.h * f.w), 1);
    if (i % 3)
        n->in[1] = oas_sample_floats(s, OAS_SHAPE5(batch, frames * f.t - drop, h * f.h, w * f.w, c), 1);
    return true;
}

const op oas_op_depth_to_space = {
    .name = "depth_to_space",
    .stage = "passes",
    .n_in = 2,
    .optional = 1u << 1,
    .shape = to_space_shape,
    .accepts = to_space_accepts,
    .forward = {[OAS_REF] = to_space_ref, [OAS_CPU] = to_space_cpu, [OAS_CUDA] = to_space_cuda},
    .backward = {[OAS_REF] = to_space_backward, [OAS_CPU] = to_space_backward, [OAS_CUDA] = to_space_cuda_backward},
    .sample = to_space_sample,
    .tolerance = 1e-7f,
    .tolerance_bf16 = 3e-3f,
};

/* ---- channels ------------------------------------------------------------------------------------------------------ */

struct range_param {
    int64_t begin, count;
    int32_t out;
};

tensor *oas_channels(graph *g, tensor *x, int64_t begin, int64_t count, oas_dtype out)
{
    struct range_param p = {begin, count, (int32_t)out};
    return oas_apply(g, &oas_op_channels, &x, &p, sizeof p);
}

static bool channels_shape(graph *g, node *n)
{
    const struct range_param *p = OAS_PARAM(struct range_param, n);
    const tensor *x = n->in[0];
    if (p->begin < 0 || p->count < 1 || p->begin + p->count > oas_last(x, 0))
        return oas_op_refuse(g, "channels: %lld from %lld are not in %s", (long long)p->count, (long long)p->begin,
                             oas_shape_text(&x->shape).text);
    n->out->shape = x->shape;
    n->out->shape.size[x->shape.rank - 1] = p->count;
    n->out->dtype = (oas_dtype)p->out;
    return true;
}

static oasis_status channels_ref(graph *g, const node *n)
{
    (void)g;
    const struct range_param *p = OAS_PARAM(struct range_param, n);
    int64_t width = oas_last(n->in[0], 0);
    for (int64_t i = 0, rows = oas_rows(n->in[0]); i < rows; i++)
        memcpy(oas_f32(n->out) + i * p->count, oas_f32(n->in[0]) + i * width + p->begin,
               (size_t)p->count * sizeof(float));
    return OASIS_OK;
}

/* Forward copied the range; its gradient goes back there. */
static oasis_status channels_backward(graph *g, const node *n)
{
    const struct range_param *p = OAS_PARAM(struct range_param, n);
    int64_t width = oas_last(n->in[0], 0);
    float *dx = oas_gradient_of(n->in[0]);
    const float *dy = oas_gradient_of(n->out);
    for (int64_t i = 0, rows = oas_rows(n->in[0]); !g->planning && i < rows; i++)
        for (int64_t c = 0; c < p->count; c++)
            dx[i * width + p->begin + c] += dy[i * p->count + c];
    return OASIS_OK;
}

static void channels_stretch(const graph *g, const node *n, int64_t begin, int64_t end)
{
    const struct range_param *p = OAS_PARAM(struct range_param, n);
    oas_dtype from = n->in[0]->dtype, to = n->out->dtype;
    int64_t width = oas_last(n->in[0], 0);
    const char *x = (const char *)n->in[0]->data + (size_t)p->begin * oas_dtype_size(from);
    for (int64_t i = begin; i < end; i++)
        oas_graph_passes(g)->convert((char *)n->out->data + (size_t)(i * p->count) * oas_dtype_size(to), to,
                                     x + (size_t)(i * width) * oas_dtype_size(from), from, p->count);
}

static oasis_status channels_cpu(graph *g, const node *n)
{
    oas_for_stretches(g, n, oas_rows(n->in[0]), (size_t)OAS_PARAM(struct range_param, n)->count * 8, channels_stretch);
    return OASIS_OK;
}

static oasis_status channels_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const struct range_param *p = OAS_PARAM(struct range_param, n);
    if (g->planning)
        return OASIS_OK;
    return c->tables.layout->channels(c, oas_array(n->out), oas_array(n->in[0]), oas_rows(n->out),
                                      oas_last(n->in[0], 0), p->begin, p->count);
}

static oasis_status channels_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const struct range_param *p = OAS_PARAM(struct range_param, n);
    if (g->planning || !n->in[0]->grad)
        return OASIS_OK;
    return c->tables.layout->channels_backward(c, oas_gradient_of(n->in[0]), oas_gradient_of(n->out), oas_rows(n->out),
                                               oas_last(n->in[0], 0), p->begin, p->count);
}

static bool channels_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    int64_t all = oas_sample_size(s, 2, 64), begin = i ? oas_sample_size(s, 0, all - 1) : 0;
    *(struct range_param *)(void *)n->param =
        (struct range_param){begin, oas_sample_size(s, 1, all - begin), (int32_t)s->activation};
    n->in[0] = oas_sample_floats(s, OAS_SHAPE3(oas_sample_size(s, 1, 9), oas_sample_size(s, 1, 9), all), 1);
    return true;
}

const op oas_op_channels = {
    .name = "channels",
    .stage = "passes",
    .n_in = 1,
    .shape = channels_shape,
    .forward = {[OAS_REF] = channels_ref, [OAS_CPU] = channels_cpu, [OAS_CUDA] = channels_cuda},
    .backward = {[OAS_REF] = channels_backward, [OAS_CPU] = channels_backward, [OAS_CUDA] = channels_cuda_backward},
    .sample = channels_sample,
    .tolerance = 1e-7f,
    .tolerance_bf16 = 3e-3f,
};

/* ---- frames -------------------------------------------------------------------------------------------------------- */

tensor *oas_frames(graph *g, tensor *x, int64_t begin, int64_t count)
{
    struct range_param p = {begin, count, 0};
    return oas_apply(g, &oas_op_frames, &x, &p, sizeof p);
}

static bool frames_shape(graph *g, node *n)
{
    const struct range_param *p = OAS_PARAM(struct range_param, n);
    const tensor *x = n->in[0];
    if (x->shape.rank < 2 || p->begin < 0 || p->count < 1 || p->begin + p->count > x->shape.size[1])
        return oas_op_refuse(g, "frames: %lld from %lld are not in %s", (long long)p->count, (long long)p->begin,
                             oas_shape_text(&x->shape).text);
    n->out->shape = x->shape;
    n->out->shape.size[1] = p->count;
    n->out->dtype = x->dtype;
    return true;
}

/* Copies whole frames, of whatever type. */
static oasis_status frames_copy(graph *g, const node *n)
{
    (void)g;
    const struct range_param *p = OAS_PARAM(struct range_param, n);
    const tensor *x = n->in[0];
    size_t frame = oas_bytes(x) / (size_t)(x->shape.size[0] * x->shape.size[1]);
    for (int64_t b = 0; b < x->shape.size[0]; b++)
        memcpy((char *)n->out->data + (size_t)(b * p->count) * frame,
               (const char *)x->data + (size_t)(b * x->shape.size[1] + p->begin) * frame, (size_t)p->count * frame);
    return OASIS_OK;
}

/* Forward copied the frames; their gradient goes back there. */
static oasis_status frames_backward(graph *g, const node *n)
{
    const struct range_param *p = OAS_PARAM(struct range_param, n);
    const tensor *x = n->in[0];
    int64_t frame = oas_count(&x->shape) / (x->shape.size[0] * x->shape.size[1]);
    for (int64_t b = 0; !g->planning && b < x->shape.size[0]; b++) {
        float *dx = oas_gradient_of(x) + (b * x->shape.size[1] + p->begin) * frame;
        const float *dy = oas_gradient_of(n->out) + b * p->count * frame;
        for (int64_t i = 0; i < p->count * frame; i++)
            dx[i] += dy[i];
    }
    return OASIS_OK;
}

static oasis_status frames_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const struct range_param *p = OAS_PARAM(struct range_param, n);
    const int64_t *s = n->in[0]->shape.size;
    if (g->planning)
        return OASIS_OK;
    return c->tables.layout->frames(c, oas_array(n->out), p->count, 0, oas_array(n->in[0]), s[1], p->begin, p->count,
                                    s[0], oas_count(&n->in[0]->shape) / (s[0] * s[1]), false);
}

static oasis_status frames_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const struct range_param *p = OAS_PARAM(struct range_param, n);
    const int64_t *s = n->in[0]->shape.size;
    if (g->planning || !n->in[0]->grad)
        return OASIS_OK;
    return c->tables.layout->frames(c, oas_array(n->in[0]->grad), s[1], p->begin, oas_array(n->out->grad), p->count, 0,
                                    p->count, s[0], oas_count(&n->in[0]->shape) / (s[0] * s[1]), true);
}

static bool frames_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    *(struct range_param *)(void *)n->param = (struct range_param){i, 2, 0};
    n->in[0] = oas_sample_activation(s, OAS_SHAPE4(oas_sample_size(s, 1, 2), 4, oas_sample_size(s, 1, 9), 5), 1);
    return true;
}

const op oas_op_frames = {
    .name = "frames",
    .stage = "passes",
    .n_in = 1,
    .shape = frames_shape,
    .forward = {[OAS_REF] = frames_copy, [OAS_CPU] = frames_copy, [OAS_CUDA] = frames_cuda},
    .backward = {[OAS_REF] = frames_backward, [OAS_CPU] = frames_backward, [OAS_CUDA] = frames_cuda_backward},
    .sample = frames_sample,
    .tolerance = 1e-7f,
    .tolerance_bf16 = 1e-7f,
};
