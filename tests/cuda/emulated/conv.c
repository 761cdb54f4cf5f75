/* The convolutions of cuda/conv.h by plain loops, for the emulated build. */
#include "cuda/conv.h"

#include "base/memory.h"
#include "cuda/emulated/heap.h"
#include "cuda/emulated/record.h"
#include "tensor/tensor.h"

#include <stdlib.h>

static float value(const void *data, int32_t type, int64_t i)
{
    return type == OAS_F32 ? ((const float *)data)[i] : oas_from_bf16(((const uint16_t *)data)[i]);
}

static void store(void *data, int32_t type, int64_t i, double sum)
{
    if (type == OAS_F32)
        ((float *)data)[i] = (float)sum;
    else
        ((uint16_t *)data)[i] = oas_to_bf16((float)sum);
}

/*
 * Visits every product of an output value, an input value and a weight, by index: result[index of `to`] += a * b.  The
 * three directions differ in which of the three is summed into.
 */
enum { TO_Y, TO_X, TO_W };

struct visit {
    cuda_convolution size;
    int to;
    int64_t count;
    void *result;
    const void *a, *b;
};

static void visit(void *arg)
{
    const struct visit *v = arg;
    const cuda_convolution *s = &v->size;
    const void *a = v->a, *b = v->b;
    const int to = v->to;
    double *sums = oas_alloc((size_t)v->count, sizeof *sums);
    if (!sums)
        abort();
    oas_emulated_heap_open();
    int64_t frames = s->frames + s->kt - 1, taps = s->kt * s->k * s->k;
    for (int64_t y = 0; y < s->batch * s->frames * s->height * s->width * s->out; y++) {
        int64_t o = y % s->out, column = y / s->out % s->width, row = y / s->out / s->width % s->height;
        int64_t f = y / s->out / s->width / s->height, t = f % s->frames, sample = f / s->frames;
        for (int64_t tap = 0; tap < taps; tap++) {
            int64_t r = row + tap / s->k % s->k - s->k / 2, q = column + tap % s->k - s->k / 2;
            if (r < 0 || r >= s->height || q < 0 || q >= s->width)
                continue;
            int64_t x = (((sample * frames + t + tap / s->k / s->k) * s->height + r) * s->width + q) * s->in;
            int64_t w = (o * taps + tap) * s->in;
            for (int64_t i = 0; i < s->in; i++) {
                if (to == TO_Y)
                    sums[y] += (double)value(a, s->type, x + i) * (double)value(b, s->type, w + i);
                else if (to == TO_X)
                    sums[x + i] += (double)value(a, s->type, y) * (double)value(b, s->type, w + i);
                else
                    sums[w + i] += (double)value(a, s->type, y) * (double)value(b, s->type, x + i);
            }
        }
    }
    for (int64_t i = 0; i < v->count; i++)
        store(v->result, s->type, i, sums[i]);
    oas_emulated_heap_close();
    oas_free(sums);
}

static oasis_status put(oas_cuda *c, const cuda_convolution *s, int to, void *result, int64_t count, const void *a,
                        const void *b)
{
    oas_emulated_put(c, visit, &(struct visit){*s, to, count, result, a, b}, sizeof(struct visit));
    return OASIS_OK;
}

static oasis_status forward(oas_cuda *c, const cuda_convolution *s, void *y, const void *x, const void *w)
{
    return put(c, s, TO_Y, y, s->batch * s->frames * s->height * s->width * s->out, x, w);
}

static oasis_status to_input(oas_cuda *c, const cuda_convolution *s, void *dx, const void *dy, const void *w)
{
    return put(c, s, TO_X, dx, s->batch * (s->frames + s->kt - 1) * s->height * s->width * s->in, dy, w);
}

static oasis_status to_weight(oas_cuda *c, const cuda_convolution *s, void *dw, const void *dy, const void *x)
{
    return put(c, s, TO_W, dw, s->out * s->kt * s->k * s->k * s->in, dy, x);
}

void oas_cuda_conv_free(oas_cuda *c)
{
    (void)c;
}

const struct cuda_conv oas_cuda_conv = {.forward = forward, .to_input = to_input, .to_weight = to_weight};
