/*
 * Moving pixels and frames of [B,T,H,W,C].
 *   repeat_pixels  every pixel four times: [B,T,2H,2W,C]
 *   stack_frames   the last kt frames side by side in the channels, causally: [B,T,H,W,C*kt]
 *   join_frames    the frames of one after those of the other
 *   join_channels  the channels of one after those of the other
 */
#include "cuda/layout.h"
#include "ops/op.h"
#include "tensor/sampler.h"

#include <string.h>

extern const op oas_op_repeat_pixels, oas_op_stack_frames, oas_op_join_frames, oas_op_join_channels;

/* Bytes of a pixel, row, or frame. */
static size_t part_bytes(const tensor *t, int parts)
{
    size_t bytes = oas_dtype_size(t->dtype);
    for (int i = 0; i < parts; i++)
        bytes *= (size_t)oas_last(t, i);
    return bytes;
}

/* ---- repeat pixels --------------------------------------------------------------------------------------------------- */

tensor *oas_repeat_pixels(graph *g, tensor *x)
{
    return oas_apply(g, &oas_op_repeat_pixels, &x, "", 1);
}

static bool repeat_shape(graph *g, node *n)
{
    if (n->in[0]->shape.rank != 5)
        return oas_op_refuse(g, "repeat_pixels: %s has not five sizes", oas_shape_text(&n->in[0]->shape).text);
    n->out->shape = n->in[0]->shape;
    n->out->shape.size[2] *= 2;
    n->out->shape.size[3] *= 2;
    n->out->dtype = n->in[0]->dtype;
    return true;
}

/* One row of the input makes two of the output. */
static void repeat_row(void *arg, int64_t row, int worker)
{
    (void)worker;
    const node *n = arg;
    size_t pixel = part_bytes(n->in[0], 1), wide = part_bytes(n->out, 2);
    const char *from = (const char *)n->in[0]->data + (size_t)row * part_bytes(n->in[0], 2);
    char *to = (char *)n->out->data + (size_t)row * 2 * wide;
    for (int64_t i = 0; i < oas_last(n->in[0], 1); i++, from += pixel) {
        memcpy(to + (size_t)(2 * i) * pixel, from, pixel);
        memcpy(to + (size_t)(2 * i + 1) * pixel, from, pixel);
    }
    memcpy(to + wide, to, wide);
}

static oasis_status repeat_run(graph *g, const node *n)
{
    const tensor *x = n->in[0];
    oas_pool_run(oas_graph_pool(g), oas_count(&x->shape) / (oas_last(x, 0) * oas_last(x, 1)), repeat_row,
                 (void *)(uintptr_t)n);
    return OASIS_OK;
}

/* dx += the sum of the four copies' dy. */
static oasis_status repeat_backward(graph *g, const node *n)
{
    const int64_t *s = n->out->shape.size;
    float *dx = oas_gradient_of(n->in[0]);
    const float *dy = oas_gradient_of(n->out);
    for (int64_t row = 0; row < s[0] * s[1] * s[2] && dx && !g->planning; row++)
        for (int64_t column = 0; column < s[3]; column++)
            for (int64_t c = 0; c < s[4]; c++)
                dx[(row / 2 * (s[3] / 2) + column / 2) * s[4] + c] += dy[(row * s[3] + column) * s[4] + c];
    return OASIS_OK;
}

static oasis_status repeat_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const int64_t *s = n->in[0]->shape.size;
    if (g->planning)
        return OASIS_OK;
    return c->tables.layout->repeat_pixels(c, oas_array(n->out), oas_array(n->in[0]), s[0] * s[1] * s[2], s[3], s[4]);
}

static oasis_status repeat_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const int64_t *s = n->in[0]->shape.size;
    if (g->planning || !n->in[0]->grad)
        return OASIS_OK;
    return c->tables.layout->repeat_pixels_backward(c, oas_gradient_of(n->in[0]), oas_gradient_of(n->out),
                                                    s[0] * s[1] * s[2], s[3], s[4]);
}

static bool repeat_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    n->in[0] = oas_sample_activation(s, OAS_SHAPE5(1, oas_sample_size(s, 1, 3), oas_sample_size(s, 1, 7),
                                                   oas_sample_size(s, 1, 7), oas_sample_size(s, 1, 20)), 1);
    return true;
}

const op oas_op_repeat_pixels = {
    .name = "repeat_pixels",
    .stage = "passes",
    .n_in = 1,
    .shape = repeat_shape,
    .forward = {[OAS_REF] = repeat_run, [OAS_CPU] = repeat_run, [OAS_CUDA] = repeat_cuda},
    .backward = {[OAS_REF] = repeat_backward, [OAS_CUDA] = repeat_cuda_backward},
    .sample = repeat_sample,
    .tolerance = 1e-7f,
    .tolerance_bf16 = 1e-7f,
};

/* ---- stack frames ---------------------------------------------------------------------------------------------------- */

struct stack_param {
    int32_t frames;
};

tensor *oas_stack_frames(graph *g, tensor *x, tensor *history, int frames)
{
    tensor *in[] = {x, history};
    struct stack_param p = {frames};
    return oas_apply(g, &oas_op_stack_frames, in, &p, sizeof p);
}

static bool stack_shape(graph *g, node *n)
{
    const tensor *x = n->in[0], *h = n->in[1];
    int32_t frames = OAS_PARAM(struct stack_param, n)->frames;
    shape past = x->shape;
    past.size[1] = frames - 1;
    if (x->shape.rank != 5 || frames < 2 || (h && (!oas_shape_equal(&h->shape, &past) || h->dtype != x->dtype)))
        return oas_op_refuse(g, "stack_frames: history %s does not fit %d frames of %s",
                             h ? oas_shape_text(&h->shape).text : "none", frames, oas_shape_text(&x->shape).text);
    n->out->shape = x->shape;
    n->out->shape.size[4] *= frames;
    n->out->dtype = x->dtype;
    return true;
}

/* Frame t of sample b of values `data`, reaching back into those of the history; NULL = zeros. */
static char *stacked_frame(const tensor *x, const tensor *history, int64_t b, int64_t t, char *data, char *past)
{
    int64_t frames = x->shape.size[1];
    size_t bytes = part_bytes(x, 3);
    if (t >= 0)
        return data ? data + (size_t)(b * frames + t) * bytes : NULL;
    int64_t kept = history ? history->shape.size[1] : 0;
    return past ? past + (size_t)(b * kept + kept + t) * bytes : NULL;
}

/* One row of one frame; channel c of the k-th frame, the oldest first, becomes c*kt + k. */
static void stack_row(void *arg, int64_t row, int worker)
{
    (void)worker;
    const node *n = arg;
    const tensor *x = n->in[0], *h = n->in[1];
    int64_t kt = OAS_PARAM(struct stack_param, n)->frames, frames = x->shape.size[1], height = x->shape.size[2];
    int64_t count = oas_last(x, 1) * oas_last(x, 0), frame = row / height;
    size_t element = oas_dtype_size(x->dtype);
    char *to = (char *)n->out->data + (size_t)row * part_bytes(n->out, 2);
    for (int64_t k = 0; k < kt; k++) {
        const char *from = stacked_frame(x, h, frame / frames, frame % frames + k - kt + 1, x->data, h ? h->data : NULL);
        if (from)
            from += (size_t)(row % height) * part_bytes(x, 2);
        for (int64_t i = 0; i < count; i++) {
            if (element == sizeof(float))
                ((float *)(void *)to)[i * kt + k] = from ? ((const float *)(const void *)from)[i] : 0.f;
            else
                ((uint16_t *)(void *)to)[i * kt + k] = from ? ((const uint16_t *)(const void *)from)[i] : 0;
        }
    }
}

static oasis_status stack_run(graph *g, const node *n)
{
    const tensor *x = n->in[0];
    oas_pool_run(oas_graph_pool(g), oas_count(&x->shape) / (oas_last(x, 0) * oas_last(x, 1)), stack_row,
                 (void *)(uintptr_t)n);
    return OASIS_OK;
}

/* Every copy gives its gradient to the frame it came from. */
static oasis_status stack_backward(graph *g, const node *n)
{
    const tensor *x = n->in[0], *h = n->in[1];
    int64_t kt = OAS_PARAM(struct stack_param, n)->frames, frames = x->shape.size[1];
    int64_t plane = oas_last(x, 2) * oas_last(x, 1) * oas_last(x, 0);
    const float *dy = oas_gradient_of(n->out);
    for (int64_t f = 0; f < x->shape.size[0] * frames && !g->planning; f++) {
        for (int64_t k = 0; k < kt; k++) {
            float *to = (float *)(void *)stacked_frame(x, h, f / frames, f % frames + k - kt + 1,
                                                       (char *)oas_gradient_of(x), (char *)oas_gradient_of(h));
            for (int64_t i = 0; to && i < plane; i++)
                to[i] += dy[(f * plane + i) * kt + k];
        }
    }
    return OASIS_OK;
}

static oasis_status stack_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const int64_t *s = n->in[0]->shape.size;
    if (g->planning)
        return OASIS_OK;
    return c->tables.layout->stack_frames(c, oas_array(n->out), oas_array(n->in[0]), oas_array(n->in[1]), s[0], s[1],
                                          s[2] * s[3] * s[4], OAS_PARAM(struct stack_param, n)->frames);
}

static oasis_status stack_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const int64_t *s = n->in[0]->shape.size;
    if (g->planning)
        return OASIS_OK;
    return c->tables.layout->stack_frames_backward(c, oas_gradient_of(n->in[0]), oas_gradient_of(n->in[1]),
                                                   oas_gradient_of(n->out), s[0], s[1], s[2] * s[3] * s[4],
                                                   OAS_PARAM(struct stack_param, n)->frames);
}

static bool stack_sample(sampler *s, int i, node *n)
{
    if (i >= 4)
        return false;
    int64_t h = oas_sample_size(s, 1, 5), w = oas_sample_size(s, 1, 5), c = oas_sample_size(s, 1, 20);
    *(struct stack_param *)(void *)n->param = (struct stack_param){3};
    n->in[0] = oas_sample_activation(s, OAS_SHAPE5(1 + i % 2, 1 + i, h, w, c), 1);
    n->in[1] = i % 2 ? oas_sample_activation(s, OAS_SHAPE5(1 + i % 2, 2, h, w, c), 1) : NULL;
    return true;
}

const op oas_op_stack_frames = {
    .name = "stack_frames",
    .stage = "passes",
    .n_in = 2,
    .optional = 1u << 1,
    .shape = stack_shape,
    .forward = {[OAS_REF] = stack_run, [OAS_CPU] = stack_run, [OAS_CUDA] = stack_cuda},
    .backward = {[OAS_REF] = stack_backward, [OAS_CUDA] = stack_cuda_backward},
    .sample = stack_sample,
    .tolerance = 1e-7f,
    .tolerance_bf16 = 1e-7f,
};

/* ---- join frames ----------------------------------------------------------------------------------------------------- */

tensor *oas_join_frames(graph *g, tensor *a, tensor *b)
{
    return oas_apply(g, &oas_op_join_frames, (tensor *[]){a, b}, "", 1);
}

static bool join_shape(graph *g, node *n)
{
    const tensor *a = n->in[0], *b = n->in[1];
    shape other = b->shape;
    if (other.rank > 1)
        other.size[1] = a->shape.size[1];
    if (a->shape.rank != 5 || !oas_shape_equal(&a->shape, &other) || a->dtype != b->dtype)
        return oas_op_refuse(g, "join_frames: %s cannot follow %s", oas_shape_text(&b->shape).text,
                             oas_shape_text(&a->shape).text);
    n->out->shape = a->shape;
    n->out->shape.size[1] += b->shape.size[1];
    n->out->dtype = a->dtype;
    return true;
}

static oasis_status join_run(graph *g, const node *n)
{
    (void)g;
    char *to = n->out->data;
    for (int64_t sample = 0; sample < n->out->shape.size[0]; sample++) {
        for (int i = 0; i < 2; i++) {
            size_t bytes = part_bytes(n->in[i], 4);
            memcpy(to, (const char *)n->in[i]->data + (size_t)sample * bytes, bytes);
            to += bytes;
        }
    }
    return OASIS_OK;
}

static oasis_status join_backward(graph *g, const node *n)
{
    const float *dy = oas_gradient_of(n->out);
    for (int64_t sample = 0; sample < n->out->shape.size[0] && !g->planning; sample++) {
        for (int i = 0; i < 2; i++) {
            int64_t count = oas_count(&n->in[i]->shape) / n->in[i]->shape.size[0];
            float *dx = oas_gradient_of(n->in[i]);
            for (int64_t k = 0; dx && k < count; k++)
                dx[sample * count + k] += dy[k];
            dy += count;
        }
    }
    return OASIS_OK;
}

static oasis_status join_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const int64_t *s = n->out->shape.size;
    for (int64_t i = 0, first = 0; i < 2 && !g->planning; first += n->in[i++]->shape.size[1]) {
        int64_t count = n->in[i]->shape.size[1];
        OAS_TRY(c->tables.layout->frames(c, oas_array(n->out), s[1], first, oas_array(n->in[i]), count, 0, count, s[0],
                                         s[2] * s[3] * s[4], false));
    }
    return OASIS_OK;
}

static oasis_status join_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const int64_t *s = n->out->shape.size;
    for (int64_t i = 0, first = 0; i < 2 && !g->planning; first += n->in[i++]->shape.size[1]) {
        int64_t count = n->in[i]->shape.size[1];
        if (n->in[i]->grad)
            OAS_TRY(c->tables.layout->frames(c, oas_array(n->in[i]->grad), count, 0, oas_array(n->out->grad), s[1],
                                             first, count, s[0], s[2] * s[3] * s[4], true));
    }
    return OASIS_OK;
}

static bool join_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    int64_t h = oas_sample_size(s, 1, 5), c = oas_sample_size(s, 1, 20);
    n->in[0] = oas_sample_activation(s, OAS_SHAPE5(1 + i % 2, 1 + i, h, 2, c), 1);
    n->in[1] = oas_sample_activation(s, OAS_SHAPE5(1 + i % 2, 2, h, 2, c), 1);
    return true;
}

const op oas_op_join_frames = {
    .name = "join_frames",
    .stage = "passes",
    .n_in = 2,
    .shape = join_shape,
    .forward = {[OAS_REF] = join_run, [OAS_CPU] = join_run, [OAS_CUDA] = join_cuda},
    .backward = {[OAS_REF] = join_backward, [OAS_CUDA] = join_cuda_backward},
    .sample = join_sample,
    .tolerance = 1e-7f,
    .tolerance_bf16 = 1e-7f,
};

/* ---- join channels --------------------------------------------------------------------------------------------------- */

tensor *oas_join_channels(graph *g, tensor *a, tensor *b)
{
    return oas_apply(g, &oas_op_join_channels, (tensor *[]){a, b}, "", 1);
}

static bool join_channels_shape(graph *g, node *n)
{
    const tensor *a = n->in[0], *b = n->in[1];
    shape other = b->shape;
    other.size[other.rank - 1] = oas_last(a, 0);
    if (!oas_shape_equal(&a->shape, &other) || a->dtype != b->dtype)
        return oas_op_refuse(g, "join_channels: %s cannot stand beside %s", oas_shape_text(&b->shape).text,
                             oas_shape_text(&a->shape).text);
    n->out->shape = a->shape;
    n->out->shape.size[a->shape.rank - 1] += oas_last(b, 0);
    n->out->dtype = a->dtype;
    return true;
}

static void join_channels_stretch(const graph *g, const node *n, int64_t begin, int64_t end)
{
    (void)g;
    size_t first = part_bytes(n->in[0], 1), second = part_bytes(n->in[1], 1);
    char *to = (char *)n->out->data + (size_t)begin * (first + second);
    for (int64_t i = begin; i < end; i++, to += first + second) {
        memcpy(to, (const char *)n->in[0]->data + (size_t)i * first, first);
        memcpy(to + first, (const char *)n->in[1]->data + (size_t)i * second, second);
    }
}

static oasis_status join_channels_run(graph *g, const node *n)
{
    oas_for_stretches(g, n, oas_rows(n->out), 2 * part_bytes(n->out, 1), join_channels_stretch);
    return OASIS_OK;
}

static void join_channels_back(const graph *g, const node *n, int64_t begin, int64_t end)
{
    (void)g;
    int64_t all = oas_last(n->out, 0), first = oas_last(n->in[0], 0);
    for (int k = 0; k < 2; k++) {
        float *dx = oas_gradient_of(n->in[k]);
        const float *dy = oas_gradient_of(n->out) + (k ? first : 0);
        int64_t count = k ? all - first : first;
        for (int64_t i = begin; dx && i < end; i++)
            for (int64_t c = 0; c < count; c++)
                dx[i * count + c] += dy[i * all + c];
    }
}

/* Forward copied each value once. */
static oasis_status join_channels_backward(graph *g, const node *n)
{
    if (!g->planning)
        oas_for_stretches(g, n, oas_rows(n->out), 3 * sizeof(float) * (size_t)oas_last(n->out, 0), join_channels_back);
    return OASIS_OK;
}

/* To the kernels a row is a sample, and every channel a frame. */
static oasis_status join_channels_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t all = oas_last(n->out, 0), rows = oas_rows(n->out);
    for (int64_t i = 0, first = 0; i < 2 && !g->planning; first += oas_last(n->in[i++], 0)) {
        int64_t count = oas_last(n->in[i], 0);
        OAS_TRY(c->tables.layout->frames(c, oas_array(n->out), all, first, oas_array(n->in[i]), count, 0, count, rows,
                                         1, false));
    }
    return OASIS_OK;
}

static oasis_status join_channels_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t all = oas_last(n->out, 0), rows = oas_rows(n->out);
    for (int64_t i = 0, first = 0; i < 2 && !g->planning; first += oas_last(n->in[i++], 0)) {
        int64_t count = oas_last(n->in[i], 0);
        if (n->in[i]->grad)
            OAS_TRY(c->tables.layout->frames(c, oas_array(n->in[i]->grad), count, 0, oas_array(n->out->grad), all,
                                             first, count, rows, 1, true));
    }
    return OASIS_OK;
}

static bool join_channels_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    int64_t rows = oas_sample_size(s, 1, 30);
    n->in[0] = oas_sample_activation(s, OAS_SHAPE2(rows, oas_sample_size(s, 1, 20)), 1);
    n->in[1] = oas_sample_activation(s, OAS_SHAPE2(rows, oas_sample_size(s, 1, 20)), 1);
    return true;
}

const op oas_op_join_channels = {
    .name = "join_channels",
    .stage = "passes",
    .n_in = 2,
    .shape = join_channels_shape,
    .forward = {[OAS_REF] = join_channels_run, [OAS_CPU] = join_channels_run, [OAS_CUDA] = join_channels_cuda},
    .backward = {[OAS_REF] = join_channels_backward,
                 [OAS_CPU] = join_channels_backward,
                 [OAS_CUDA] = join_channels_cuda_backward},
    .sample = join_channels_sample,
    .tolerance = 1e-7f,
    .tolerance_bf16 = 1e-7f,
};
