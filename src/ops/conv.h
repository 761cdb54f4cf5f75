/* What the convolution's files share. */
#ifndef OAS_OPS_CONV_H
#define OAS_OPS_CONV_H

#include "ops/op.h"

struct conv_param {
    int32_t act;
};

/* Stacked weights [out, kt*in, k, k] hold the newest frame first; others [out, in, kt, k, k] the oldest. */
static inline bool oas_conv_stacked(const tensor *weight)
{
    return weight->shape.rank == 4;
}

/* kt */
static inline int64_t oas_conv_frames(const tensor *x, const tensor *weight)
{
    return oas_conv_stacked(weight) ? weight->shape.size[1] / oas_last(x, 0) : weight->shape.size[2];
}

enum { OAS_CONV_MOST_FRAMES = 8 };

/* Frame t of sample b, reaching back into the history; NULL = zeros. */
const char *oas_conv_frame_at(const tensor *x, const tensor *history, int64_t b, int64_t t);

/* By our own kernel, where it knows such a convolution: conv_direct.c */
bool oas_conv_is_direct(const graph *g, const node *n);
size_t oas_conv_direct_scratch(const graph *g, const node *n);
op_fn oas_conv_direct;

/* On the GPU: conv_cuda.c */
bool oas_conv_accepts_cuda(const graph *g, const node *n);
op_fn oas_conv_cuda, oas_conv_cuda_backward;

#endif
