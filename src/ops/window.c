/*
 * Windows that move over pictures [B,T,H,W,C].
 *   crop      a rectangle of every frame
 *   unfold    every window's pixels side by side in the channels, so that oas_linear is a convolution of any stride
 *   max_pool  the maximum of every window
 *   l2_pool   the root of the blurred square, at every second pixel
 *
 * Backward goes by rows of the input: each collects from the windows that saw it, so that threads do not meet.
 */
#include "cuda/layout.h"
#include "ops/op.h"
#include "tensor/sampler.h"

#include <math.h>
#include <string.h>

extern const op oas_op_crop, oas_op_unfold, oas_op_max_pool, oas_op_l2_pool;

/* Of crop: height, width in h, w.  Of windows: `h` is the side. */
struct window_param {
    int32_t h, w, stride, pad, ceil;
};

static tensor *apply_window(graph *g, const op *o, tensor *x, struct window_param p)
{
    return oas_apply(g, o, &x, &p, sizeof p);
}

/* Runs `slab` over all rows of all frames of t. */
static oasis_status for_rows(graph *g, const node *n, const tensor *t, oas_slab_fn *slab)
{
    const int64_t *s = t->shape.size;
    if (!g->planning)
        oas_pool_run(oas_graph_pool(g), s[0] * s[1] * s[2], slab, (void *)(uintptr_t)n);
    return OASIS_OK;
}

/* Value i of a tensor. */
static float value_at(const tensor *t, int64_t i)
{
    return t->dtype == OAS_F32 ? ((const float *)t->data)[i] : oas_from_bf16(((const uint16_t *)t->data)[i]);
}

/* ---- crop ------------------------------------------------------------------------------------------------------------ */

tensor *oas_crop(graph *g, tensor *x, tensor *place, int height, int width)
{
    const struct window_param p = {.h = height, .w = width};
    return oas_apply(g, &oas_op_crop, (tensor *[]){x, place}, &p, sizeof p);
}

static bool crop_shape(graph *g, node *n)
{
    const struct window_param *p = OAS_PARAM(struct window_param, n);
    const tensor *x = n->in[0];
    const int64_t *s = x->shape.size;
    if (x->shape.rank != 5 || p->h < 1 || p->w < 1 || p->h > s[2] || p->w > s[3])
        return oas_op_refuse(g, "crop: %dx%d are not in %s", p->w, p->h, oas_shape_text(&x->shape).text);
    if (!oas_is_place(g, n, n->in[1]))
        return false;
    n->out->shape = OAS_SHAPE5(s[0], s[1], p->h, p->w, s[4]);
    n->out->dtype = x->dtype;
    return true;
}

/* The first value of the input that row `row` of the output shows. */
static int64_t crop_begin(const node *n, int64_t row)
{
    const struct window_param *p = OAS_PARAM(struct window_param, n);
    const int64_t *s = n->in[0]->shape.size;
    int64_t top = oas_place_at(n->in[1], 0, s[2] - p->h), left = oas_place_at(n->in[1], 1, s[3] - p->w);
    return ((row / p->h * s[2] + top + row % p->h) * s[3] + left) * s[4];
}

static void crop_row(void *arg, int64_t row, int worker)
{
    (void)worker;
    const node *n = arg;
    size_t size = oas_dtype_size(n->out->dtype), bytes = (size_t)(oas_last(n->out, 1) * oas_last(n->out, 0)) * size;
    memcpy((char *)n->out->data + (size_t)row * bytes, (const char *)n->in[0]->data + (size_t)crop_begin(n, row) * size,
           bytes);
}

static oasis_status crop_run(graph *g, const node *n)
{
    return for_rows(g, n, n->out, crop_row);
}

static void crop_back_row(void *arg, int64_t row, int worker)
{
    (void)worker;
    const node *n = arg;
    int64_t count = oas_last(n->out, 1) * oas_last(n->out, 0);
    float *dx = oas_gradient_of(n->in[0]) + crop_begin(n, row);
    const float *dy = oas_gradient_of(n->out) + row * count;
    for (int64_t i = 0; i < count; i++)
        dx[i] += dy[i];
}

/* Forward copied; the gradient goes back to where it came from. */
static oasis_status crop_backward(graph *g, const node *n)
{
    return for_rows(g, n, n->out, crop_back_row);
}

/* Sizes of the input, and of the rectangle, as the kernels want them. */
static void crop_sizes(const node *n, int64_t size[4], int64_t rectangle[2])
{
    const struct window_param *p = OAS_PARAM(struct window_param, n);
    const int64_t *s = n->in[0]->shape.size;
    size[0] = s[0] * s[1], size[1] = s[2], size[2] = s[3], size[3] = s[4];
    rectangle[0] = p->h, rectangle[1] = p->w;
}

static oasis_status crop_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t size[4], rectangle[2];
    crop_sizes(n, size, rectangle);
    return g->planning
               ? OASIS_OK
               : c->tables.layout->crop(c, oas_array(n->out), oas_array(n->in[0]), size, oas_f32(n->in[1]), rectangle);
}

static oasis_status crop_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t size[4], rectangle[2];
    crop_sizes(n, size, rectangle);
    if (g->planning || !n->in[0]->grad)
        return OASIS_OK;
    return c->tables.layout->crop_backward(c, oas_gradient_of(n->in[0]), oas_gradient_of(n->out), size,
                                           oas_f32(n->in[1]), rectangle);
}

static bool crop_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    *(struct window_param *)(void *)n->param = (struct window_param){.h = 3, .w = 4};
    n->in[0] = oas_sample_activation(s, OAS_SHAPE5(1 + i % 2, 2, 3 + i, 4 + 3 * i, oas_sample_size(s, 1, 5)), 1);
    n->in[1] = oas_sample_place(s, i, 2 * i);
    return true;
}

const op oas_op_crop = {
    .name = "crop",
    .stage = "passes",
    .n_in = 2,
    .constant = 1u << 1,
    .shape = crop_shape,
    .forward = {[OAS_REF] = crop_run, [OAS_CPU] = crop_run, [OAS_CUDA] = crop_cuda},
    .backward = {[OAS_REF] = crop_backward, [OAS_CPU] = crop_backward, [OAS_CUDA] = crop_cuda_backward},
    .sample = crop_sample,
    .tolerance = 1e-7f,
    .tolerance_bf16 = 1e-7f,
};

/* ---- windows --------------------------------------------------------------------------------------------------------- */

/* Where windows begin along one axis: how many there are. */
static int64_t windows_along(const struct window_param *p, int64_t size)
{
    int64_t room = size + 2 * p->pad - p->h;
    return room < 0 && !p->ceil ? 0 : (room + (p->ceil ? p->stride - 1 : 0)) / p->stride + 1;
}

/* Checks, and sets the output's shape but for the channels. */
static bool window_shape(graph *g, node *n)
{
    const struct window_param *p = OAS_PARAM(struct window_param, n);
    const tensor *x = n->in[0];
    const int64_t *s = x->shape.size;
    bool sane = x->shape.rank == 5 && p->h > 0 && p->stride > 0 && p->pad >= 0 && p->pad < p->h;
    if (!sane || windows_along(p, s[2]) < 1 || windows_along(p, s[3]) < 1)
        return oas_op_refuse(g, "%s: windows of %dx%d every %d pixels do not fit into %s", n->op->name, p->h, p->h,
                             p->stride, oas_shape_text(&x->shape).text);
    n->out->shape = OAS_SHAPE5(s[0], s[1], windows_along(p, s[2]), windows_along(p, s[3]), s[4]);
    n->out->dtype = x->dtype;
    return true;
}

/* The windows begin .. end-1 of `count` that see position `at`. */
static void windows_of(const struct window_param *p, int64_t at, int64_t count, int64_t *begin, int64_t *end)
{
    int64_t first = at + p->pad - p->h + 1;
    *begin = first <= 0 ? 0 : (first + p->stride - 1) / p->stride;
    *end = (at + p->pad) / p->stride + 1;
    *end = *end < count ? *end : count;
}

/* As the kernels want them. */
static cuda_windows cuda_windows_of(const node *n)
{
    const struct window_param *p = OAS_PARAM(struct window_param, n);
    const int64_t *s = n->in[0]->shape.size, *o = n->out->shape.size;
    return (cuda_windows){s[0] * s[1], s[2], s[3], s[4], o[2], o[3], p->h, p->stride, p->pad};
}

/* ---- unfold ---------------------------------------------------------------------------------------------------------- */

tensor *oas_unfold(graph *g, tensor *x, int side, int stride, int pad)
{
    return apply_window(g, &oas_op_unfold, x, (struct window_param){.h = side, .stride = stride, .pad = pad});
}

static bool unfold_shape(graph *g, node *n)
{
    const struct window_param *p = OAS_PARAM(struct window_param, n);
    if (!window_shape(g, n))
        return false;
    n->out->shape.size[4] *= (int64_t)p->h * p->h;
    return true;
}

/* One row of windows. */
static void unfold_row(void *arg, int64_t row, int worker)
{
    (void)worker;
    const node *n = arg;
    const struct window_param *p = OAS_PARAM(struct window_param, n);
    const tensor *x = n->in[0];
    const int64_t *s = x->shape.size, *o = n->out->shape.size;
    int64_t taps = (int64_t)p->h * p->h, frame = row / o[2], y0 = row % o[2] * p->stride - p->pad;
    for (int64_t i = 0; i < o[3] * taps; i++) {
        int64_t tap = i % taps, y = y0 + tap / p->h, left = i / taps * p->stride - p->pad + tap % p->h;
        bool inside = y >= 0 && left >= 0 && y < s[2] && left < s[3];
        int64_t from = ((frame * s[2] + y) * s[3] + left) * s[4], to = (row * o[3] + i / taps) * o[4] + tap;
        for (int64_t c = 0; c < s[4]; c++) {
            if (x->dtype == OAS_F32)
                ((float *)n->out->data)[to + c * taps] = inside ? ((const float *)x->data)[from + c] : 0.f;
            else
                ((uint16_t *)n->out->data)[to + c * taps] = inside ? ((const uint16_t *)x->data)[from + c] : 0;
        }
    }
}

static oasis_status unfold_run(graph *g, const node *n)
{
    return for_rows(g, n, n->out, unfold_row);
}

/* One row of the input. */
static void unfold_back_row(void *arg, int64_t row, int worker)
{
    (void)worker;
    const node *n = arg;
    const struct window_param *p = OAS_PARAM(struct window_param, n);
    const int64_t *s = n->in[0]->shape.size, *o = n->out->shape.size;
    int64_t taps = (int64_t)p->h * p->h, frame = row / s[2], y = row % s[2], begin, end;
    float *dx = oas_gradient_of(n->in[0]) + row * s[3] * s[4];
    windows_of(p, y, o[2], &begin, &end);
    for (int64_t down = begin; down < end; down++) {
        int64_t i = y + p->pad - down * p->stride;
        for (int64_t across = 0; across < o[3]; across++) {
            const float *dy = oas_gradient_of(n->out) + ((frame * o[2] + down) * o[3] + across) * o[4] + i * p->h;
            for (int64_t j = 0; j < p->h; j++) {
                int64_t left = across * p->stride - p->pad + j;
                for (int64_t c = 0; left >= 0 && left < s[3] && c < s[4]; c++)
                    dx[left * s[4] + c] += dy[c * taps + j];
            }
        }
    }
}

/* Forward copied every pixel into the windows that see it; their gradients add up. */
static oasis_status unfold_backward(graph *g, const node *n)
{
    return for_rows(g, n, n->in[0], unfold_back_row);
}

static oasis_status unfold_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    cuda_windows w = cuda_windows_of(n);
    return g->planning ? OASIS_OK : c->tables.layout->unfold(c, oas_array(n->out), oas_array(n->in[0]), &w);
}

static oasis_status unfold_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    cuda_windows w = cuda_windows_of(n);
    if (g->planning || !n->in[0]->grad)
        return OASIS_OK;
    return c->tables.layout->unfold_backward(c, oas_gradient_of(n->in[0]), oas_gradient_of(n->out), &w);
}

static bool unfold_sample(sampler *s, int i, node *n)
{
    static const struct window_param cases[] = {
        {.h = 3, .stride = 2}, {.h = 3, .stride = 1, .pad = 1}, {.h = 5, .stride = 4, .pad = 2}, {.h = 2, .stride = 3}};
    if (i >= (int)(sizeof cases / sizeof *cases))
        return false;
    *(struct window_param *)(void *)n->param = cases[i];
    n->in[0] = oas_sample_activation(
        s, OAS_SHAPE5(1, 2, oas_sample_size(s, 3, 9), oas_sample_size(s, 3, 9), oas_sample_size(s, 1, 5)), 1);
    return true;
}

const op oas_op_unfold = {
    .name = "unfold",
    .stage = "passes",
    .n_in = 1,
    .shape = unfold_shape,
    .forward = {[OAS_REF] = unfold_run, [OAS_CPU] = unfold_run, [OAS_CUDA] = unfold_cuda},
    .backward = {[OAS_REF] = unfold_backward, [OAS_CPU] = unfold_backward, [OAS_CUDA] = unfold_cuda_backward},
    .sample = unfold_sample,
    .tolerance = 1e-7f,
    .tolerance_bf16 = 1e-7f,
};

/* ---- maxima ---------------------------------------------------------------------------------------------------------- */

enum { CHANNELS = 64 }; /* that are handled together */

tensor *oas_max_pool(graph *g, tensor *x, int side, int stride, bool ceil)
{
    return apply_window(g, &oas_op_max_pool, x, (struct window_param){.h = side, .stride = stride, .ceil = ceil});
}

static bool max_shape(graph *g, node *n)
{
    const struct window_param *p = OAS_PARAM(struct window_param, n);
    if (p->h > 15 || p->stride > p->h) /* a place in a window is kept in a byte; windows begin inside */
        return oas_op_refuse(g, "max_pool: windows of %d pixels every %d are not offered", p->h, p->stride);
    return window_shape(g, n);
}

/* Which pixel of its window the maximum was, for every output. */
static size_t max_keep(const node *n)
{
    return (size_t)oas_count(&n->out->shape);
}

/* Maxima over a window of `count` channels, from value `from` on; the first of equals. */
static void window_maximum(const node *n, int64_t frame, int64_t top, int64_t left, int64_t c, int64_t count,
                           float *best, uint8_t *place)
{
    const tensor *x = n->in[0];
    const int64_t *s = x->shape.size;
    int32_t side = OAS_PARAM(struct window_param, n)->h;
    for (int32_t tap = 0; tap < side * side; tap++) {
        int64_t row = top + tap / side, column = left + tap % side;
        if (row >= s[2] || column >= s[3])
            continue;
        int64_t from = ((frame * s[2] + row) * s[3] + column) * s[4] + c;
        for (int64_t k = 0; k < count; k++) {
            float v = value_at(x, from + k);
            if (tap == 0 || !(v <= best[k])) { /* NaN goes through */
                best[k] = v;
                place[k] = (uint8_t)tap;
            }
        }
    }
}

static void max_row(void *arg, int64_t row, int worker)
{
    (void)worker;
    const node *n = arg;
    const struct window_param *p = OAS_PARAM(struct window_param, n);
    const int64_t *o = n->out->shape.size;
    size_t size = oas_dtype_size(n->out->dtype);
    for (int64_t i = 0; i < o[3]; i++) {
        for (int64_t c = 0; c < o[4]; c += CHANNELS) {
            float best[CHANNELS];
            uint8_t place[CHANNELS];
            int64_t count = o[4] - c < CHANNELS ? o[4] - c : CHANNELS, at = (row * o[3] + i) * o[4] + c;
            window_maximum(n, row / o[2], row % o[2] * p->stride, i * p->stride, c, count, best, place);
            oas_convert((char *)n->out->data + (size_t)at * size, n->out->dtype, best, OAS_F32, count);
            if (n->keep)
                memcpy((uint8_t *)n->keep + at, place, (size_t)count);
        }
    }
}

static oasis_status max_run(graph *g, const node *n)
{
    return for_rows(g, n, n->out, max_row);
}

static void max_back_row(void *arg, int64_t row, int worker)
{
    (void)worker;
    const node *n = arg;
    const struct window_param *p = OAS_PARAM(struct window_param, n);
    const int64_t *s = n->in[0]->shape.size, *o = n->out->shape.size;
    int64_t frame = row / s[2], y = row % s[2], begin, end;
    float *dx = oas_gradient_of(n->in[0]) + row * s[3] * s[4];
    windows_of(p, y, o[2], &begin, &end);
    for (int64_t down = begin; down < end; down++) {
        int64_t first = (frame * o[2] + down) * o[3] * o[4], tap = (y - down * p->stride) * p->h;
        const float *dy = oas_gradient_of(n->out) + first;
        const uint8_t *place = (const uint8_t *)n->keep + first;
        for (int64_t i = 0; i < o[3] * o[4]; i++)
            if (place[i] >= tap && place[i] < tap + p->h)
                dx[(i / o[4] * p->stride + place[i] - tap) * o[4] + i % o[4]] += dy[i];
    }
}

/* The gradient goes to the pixel that was the maximum. */
static oasis_status max_backward(graph *g, const node *n)
{
    return for_rows(g, n, n->in[0], max_back_row);
}

static oasis_status max_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    cuda_windows w = cuda_windows_of(n);
    return g->planning ? OASIS_OK : c->tables.layout->max_pool(c, oas_array(n->out), n->keep, oas_array(n->in[0]), &w);
}

static oasis_status max_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    cuda_windows w = cuda_windows_of(n);
    if (g->planning || !n->in[0]->grad)
        return OASIS_OK;
    return c->tables.layout->max_pool_backward(c, oas_gradient_of(n->in[0]), n->keep, oas_gradient_of(n->out), &w);
}

static bool max_sample(sampler *s, int i, node *n)
{
    static const struct window_param cases[] = {{.h = 3, .stride = 2, .ceil = 1},
                                                {.h = 3, .stride = 2},
                                                {.h = 2, .stride = 2},
                                                {.h = 3, .stride = 2, .ceil = 1}};
    if (i >= (int)(sizeof cases / sizeof *cases))
        return false;
    *(struct window_param *)(void *)n->param = cases[i];
    /* Far apart, so that few maxima are near to changing place. */
    n->in[0] = oas_sample_activation(s, OAS_SHAPE5(1, 2, 5 + i % 2, 4 + i, i == 3 ? 70 : 3), 30);
    return true;
}

const op oas_op_max_pool = {
    .name = "max_pool",
    .stage = "passes",
    .n_in = 1,
    .shape = max_shape,
    .keep = max_keep,
    .forward = {[OAS_REF] = max_run, [OAS_CPU] = max_run, [OAS_CUDA] = max_cuda},
    .backward = {[OAS_REF] = max_backward, [OAS_CPU] = max_backward, [OAS_CUDA] = max_cuda_backward},
    .sample = max_sample,
    .tolerance = 1e-7f,
    .tolerance_bf16 = 1e-7f,
};

/* ---- blurred squares ------------------------------------------------------------------------------------------------- */

/* Under the root, as the definition has it: nothing is divided by zero. */
static const float L2_LEAST = 1e-12f;

/* The outer product of (1, 2, 1) / 4 with itself. */
static const float HANN[9] = {0.0625f, 0.125f, 0.0625f, 0.125f, 0.25f, 0.125f, 0.0625f, 0.125f, 0.0625f};

tensor *oas_l2_pool(graph *g, tensor *x)
{
    return apply_window(g, &oas_op_l2_pool, x, (struct window_param){.h = 3, .stride = 2, .pad = 1});
}

static void l2_row(void *arg, int64_t row, int worker)
{
    (void)worker;
    const node *n = arg;
    const tensor *x = n->in[0];
    const int64_t *s = x->shape.size, *o = n->out->shape.size;
    int64_t frame = row / o[2];
    size_t size = oas_dtype_size(n->out->dtype);
    for (int64_t i = 0; i < o[3]; i++) {
        for (int64_t c = 0; c < o[4]; c += CHANNELS) {
            float sum[CHANNELS] = {0};
            int64_t count = o[4] - c < CHANNELS ? o[4] - c : CHANNELS, at = (row * o[3] + i) * o[4] + c;
            for (int tap = 0; tap < 9; tap++) {
                int64_t y = row % o[2] * 2 - 1 + tap / 3, left = i * 2 - 1 + tap % 3;
                int64_t from = ((frame * s[2] + y) * s[3] + left) * s[4] + c;
                for (int64_t k = 0; k < count && y >= 0 && left >= 0 && y < s[2] && left < s[3]; k++) {
                    float v = value_at(x, from + k);
                    sum[k] += HANN[tap] * v * v;
                }
            }
            for (int64_t k = 0; k < count; k++)
                sum[k] = sqrtf(sum[k] + L2_LEAST);
            oas_convert((char *)n->out->data + (size_t)at * size, n->out->dtype, sum, OAS_F32, count);
        }
    }
}

static oasis_status l2_run(graph *g, const node *n)
{
    return for_rows(g, n, n->out, l2_row);
}

static void l2_back_row(void *arg, int64_t row, int worker)
{
    (void)worker;
    const node *n = arg;
    const struct window_param *p = OAS_PARAM(struct window_param, n);
    const tensor *x = n->in[0];
    const int64_t *s = x->shape.size, *o = n->out->shape.size;
    int64_t frame = row / s[2], y = row % s[2], top, bottom;
    windows_of(p, y, o[2], &top, &bottom);
    for (int64_t left = 0; left < s[3]; left++) {
        int64_t first, last;
        windows_of(p, left, o[3], &first, &last);
        for (int64_t window = 0; window < (bottom - top) * (last - first); window++) {
            int64_t down = top + window / (last - first), across = first + window % (last - first);
            int64_t out = ((frame * o[2] + down) * o[3] + across) * o[4], in = (row * s[3] + left) * s[4];
            float weight = HANN[(y + 1 - 2 * down) * 3 + left + 1 - 2 * across];
            for (int64_t c = 0; c < s[4]; c++)
                oas_gradient_of(x)[in + c] +=
                    oas_gradient_of(n->out)[out + c] * weight * value_at(x, in + c) / value_at(n->out, out + c);
        }
    }
}

/* Forward was y = sqrt(sum of h x^2).  So dx += dy h x / y over the windows that see x. */
static oasis_status l2_backward(graph *g, const node *n)
{
    return for_rows(g, n, n->in[0], l2_back_row);
}

static oasis_status l2_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    cuda_windows w = cuda_windows_of(n);
    return g->planning ? OASIS_OK : c->tables.layout->l2_pool(c, oas_array(n->out), oas_array(n->in[0]), &w);
}

static oasis_status l2_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    cuda_windows w = cuda_windows_of(n);
    if (g->planning || !n->in[0]->grad)
        return OASIS_OK;
    return c->tables.layout->l2_pool_backward(c, oas_gradient_of(n->in[0]), oas_array(n->out), oas_array(n->in[0]),
                                              oas_gradient_of(n->out), &w);
}

static bool l2_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    *(struct window_param *)(void *)n->param = (struct window_param){.h = 3, .stride = 2, .pad = 1};
    n->in[0] = oas_sample_activation(s, OAS_SHAPE5(1, 2, 3 + i, 6 - i, i == 2 ? 70 : 3), 2);
    return true;
}

const op oas_op_l2_pool = {
    .name = "l2_pool",
    .stage = "passes",
    .n_in = 1,
    .shape = window_shape,
    .forward = {[OAS_REF] = l2_run, [OAS_CPU] = l2_run, [OAS_CUDA] = l2_cuda},
    .backward = {[OAS_REF] = l2_backward, [OAS_CPU] = l2_backward, [OAS_CUDA] = l2_cuda_backward},
    .sample = l2_sample,
    .tolerance = 1e-6f,
    .tolerance_bf16 = 4e-3f,
};
