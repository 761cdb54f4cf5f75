/* Scaling of channels by numbers that stay: latents to mean 0 and deviation 1. */
#include "cuda/passes.h"
#include "ops/op.h"
#include "tensor/sampler.h"

extern const op oas_op_scale_channels;

tensor *oas_scale_channels(graph *g, tensor *x, tensor *scale)
{
    tensor *in[] = {x, scale};
    return oas_apply(g, &oas_op_scale_channels, in, "", 1);
}

static bool scale_shape(graph *g, node *n)
{
    const tensor *x = n->in[0], *s = n->in[1];
    if (x->dtype != OAS_F32 || s->dtype != OAS_F32 || s->shape.rank != 2 || s->shape.size[0] != 2 ||
        oas_last(s, 0) != oas_last(x, 0))
        return oas_op_refuse(g, "scale_channels: %s is not 2 numbers for each channel of %s",
                             oas_shape_text(&s->shape).text, oas_shape_text(&x->shape).text);
    n->out->shape = x->shape;
    n->out->dtype = OAS_F32;
    return true;
}

static oasis_status scale_ref(graph *g, const node *n)
{
    (void)g;
    int64_t c = oas_last(n->in[0], 0);
    const float *x = oas_f32(n->in[0]), *add = oas_f32(n->in[1]), *factor = add + c;
    float *y = oas_f32(n->out);
    for (int64_t i = 0, count = oas_count(&n->out->shape); i < count; i++)
        y[i] = (x[i] + add[i % c]) * factor[i % c];
    return OASIS_OK;
}

/* dx += factor dy. */
static oasis_status scale_backward(graph *g, const node *n)
{
    if (g->planning)
        return OASIS_OK;
    int64_t c = oas_last(n->in[0], 0);
    const float *dy = oas_gradient_of(n->out), *factor = oas_f32(n->in[1]) + c;
    float *dx = oas_gradient_of(n->in[0]);
    for (int64_t i = 0, count = oas_count(&n->out->shape); dx && i < count; i++)
        dx[i] += factor[i % c] * dy[i];
    return OASIS_OK;
}

static oasis_status scale_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t channels = oas_last(n->in[0], 0);
    if (g->planning)
        return OASIS_OK;
    const float *add = oas_f32(n->in[1]);
    return c->tables.passes->scale_channels(c, oas_f32(n->out), oas_f32(n->in[0]), add, add + channels,
                                            oas_rows(n->out), channels);
}

static oasis_status scale_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t channels = oas_last(n->in[0], 0);
    float *dx = oas_gradient_of(n->in[0]);
    if (g->planning || !dx)
        return OASIS_OK;
    return c->tables.passes->add_times_gate(c, dx, oas_array(n->out->grad), oas_f32(n->in[1]) + channels,
                                            oas_rows(n->out), channels);
}

static bool scale_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    int64_t c = oas_sample_size(s, 1, 40);
    n->in[0] = oas_sample_floats(s, OAS_SHAPE3(oas_sample_size(s, 1, 5), oas_sample_size(s, 1, 9), c), 1);
    n->in[1] = oas_sample_floats(s, OAS_SHAPE2(2, c), 1);
    return true;
}

const op oas_op_scale_channels = {
    .name = "scale_channels",
    .stage = "passes",
    .n_in = 2,
    .constant = 1u << 1,
    .shape = scale_shape,
    .forward = {[OAS_REF] = scale_ref, [OAS_CPU] = scale_ref, [OAS_CUDA] = scale_cuda},
    .backward = {[OAS_REF] = scale_backward, [OAS_CPU] = scale_backward, [OAS_CUDA] = scale_cuda_backward},
    .sample = scale_sample,
    .tolerance = 1e-6f,
    .tolerance_bf16 = 1e-6f,
};
