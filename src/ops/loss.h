/*
 * What losses share.  A loss is one number; forward also keeps its derivative for every value of in[0], so that backward
 * is one product.  Its work is cut into slabs: each gives its share of the result, and they are added in order.
 */
#ifndef OAS_OPS_LOSS_H
#define OAS_OPS_LOSS_H

#include "cuda/losses.h"
#include "cuda/passes.h"
#include "ops/op.h"

struct loss_param {
    float weight, eps;
    int32_t block, levels;
};

/* One loss at work: every slab gives its sum, and where `derivative` is there, writes that of its own values. */
struct loss_task {
    const node *n;
    const struct loss_param *p;
    const float *y, *t; /* in[0], in[1]; t NULL where it is missing */
    float *derivative;  /* like y, zeroed; NULL when nobody wants it */
    double *sums;       /* one per slab */
    float *scratch;
    int64_t scratch_each; /* floats per worker */
    double (*part)(const struct loss_task *task, int64_t slab, float *scratch);
};

/* The share of a slab, with `scratch` of its own. */
typedef double oas_loss_part(const struct loss_task *task, int64_t slab, float *scratch);

/* Runs the slabs and adds their sums in order.  scratch_each: floats that a worker wants. */
oasis_status oas_loss_run(graph *g, const node *n, int64_t slabs, size_t scratch_each, oas_loss_part *part);

/* The scratch that oas_loss_run takes, for the plan. */
size_t oas_loss_scratch(graph *g, int64_t slabs, size_t scratch_each);

/* Room for the derivative; and the way back: the gradient of in[0] grows by the derivative times that of the result. */
size_t oas_loss_keep(const node *n);
oasis_status oas_loss_backward(graph *g, const node *n);

/*
 * The same on the GPU: what a loss takes there, with so much scratch; false when the graph failed or plans (then there is
 * nothing to do).
 */
bool oas_loss_cuda_of(graph *g, const node *n, size_t partial_bytes, cuda_loss *l);
oasis_status oas_loss_cuda_backward(graph *g, const node *n);

/* The common fields of a descriptor: of y against its truth alone, and of n inputs, the first of which takes gradients. */
#define OAS_LOSS_OP(shape_of, scratch_of, ref, cuda) OAS_LOSS_OP_OF(2, shape_of, scratch_of, ref, cuda)
#define OAS_LOSS_OP_OF(n, shape_of, scratch_of, ref, cuda)                                                             \
    .stage = "losses", .n_in = n, .shape = shape_of, .keep = oas_loss_keep, .scratch = scratch_of,                     \
    .constant = ~1u, .forward = {[OAS_REF] = ref, [OAS_CPU] = ref, [OAS_CUDA] = cuda},                                 \
    .backward = {[OAS_REF] = oas_loss_backward, [OAS_CPU] = oas_loss_backward, [OAS_CUDA] = oas_loss_cuda_backward},   \
    .tolerance = 1e-6f, .tolerance_bf16 = 1e-6f

#endif
