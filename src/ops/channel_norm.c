/*
 * RMS norm over the channels of a pixel, and an activation:  y = act(x / max(|x|, 1e-12) * sqrt(C) * gamma).
 * The least length is of |x| itself, not of its square.  Source: Wan2.1 vae.py by way of doc/formulas.md.
 */
#include "cpu/channel.h"
#include "cuda/passes.h"
#include "ops/op.h"
#include "tensor/sampler.h"

#include <math.h>

struct channel_norm_param {
    int32_t act;
};

extern const op oas_op_channel_norm;

static const double LEAST_LENGTH = 1e-12;

tensor *oas_channel_norm(graph *g, tensor *x, tensor *gamma, oas_activation act, bool in_place)
{
    /* The third input is only a storage that the result may take over. */
    tensor *in[] = {x, gamma, in_place ? x : NULL};
    struct channel_norm_param p = {(int32_t)act};
    return oas_apply(g, &oas_op_channel_norm, in, &p, sizeof p);
}

static bool channel_norm_shape(graph *g, node *n)
{
    const tensor *x = n->in[0], *gamma = n->in[1];
    if (oas_count(&gamma->shape) != oas_last(x, 0) || gamma->dtype != OAS_F32)
        return oas_op_refuse(g, "channel_norm: gain %s does not fit %s", oas_shape_text(&gamma->shape).text,
                             oas_shape_text(&x->shape).text);
    if (n->in[2] && !oas_shape_equal(&n->in[2]->shape, &x->shape))
        return oas_op_refuse(g, "channel_norm: the storage %s is not that of %s", oas_shape_text(&n->in[2]->shape).text,
                             oas_shape_text(&x->shape).text);
    n->out->shape = x->shape;
    n->out->dtype = x->dtype;
    return true;
}

/* sqrt(C) / max(|x|, 1e-12). */
static double inverse_length(const float *x, int64_t channels)
{
    double square = 0;
    for (int64_t i = 0; i < channels; i++)
        square += (double)x[i] * (double)x[i];
    return sqrt((double)channels) / fmax(sqrt(square), LEAST_LENGTH);
}

static oasis_status channel_norm_ref(graph *g, const node *n)
{
    (void)g;
    oas_activation act = (oas_activation)OAS_PARAM(struct channel_norm_param, n)->act;
    int64_t channels = oas_last(n->in[0], 0);
    const float *gamma = oas_f32(n->in[1]);
    for (int64_t row = 0, rows = oas_rows(n->in[0]); row < rows; row++) {
        const float *x = oas_f32(n->in[0]) + row * channels;
        float *y = oas_f32(n->out) + row * channels;
        double r = inverse_length(x, channels);
        for (int64_t i = 0; i < channels; i++)
            y[i] = oas_act(act, (float)((double)x[i] * r * (double)gamma[i]));
    }
    return OASIS_OK;
}

/*
 * Forward was y = act(v), v = u gamma, u = x sqrt(C)/|x|.  With dv = act'(v) dy and w = dv gamma:
 *   dgamma += dv u;   dx += (sqrt(C)/|x|) (w - u mean(w u)), the second term missing where |x| was at its least
 */
static oasis_status channel_norm_backward(graph *g, const node *n)
{
    oas_activation act = (oas_activation)OAS_PARAM(struct channel_norm_param, n)->act;
    int64_t channels = oas_last(n->in[0], 0);
    const float *gamma = oas_f32(n->in[1]);
    float *dgamma = oas_gradient_of(n->in[1]), *all_dx = oas_gradient_of(n->in[0]);
    for (int64_t row = 0, rows = oas_rows(n->in[0]); row < rows && !g->planning; row++) {
        const float *x = oas_f32(n->in[0]) + row * channels;
        const float *dy = oas_gradient_of(n->out) + row * channels;
        double r = inverse_length(x, channels), mean = 0;
        for (int64_t i = 0; i < channels; i++) {
            double u = (double)x[i] * r;
            double dv = (double)dy[i] * (double)oas_act_slope(act, (float)(u * (double)gamma[i]));
            mean += dv * (double)gamma[i] * u / (double)channels;
            if (dgamma)
                dgamma[i] += (float)(dv * u);
        }
        if (r * LEAST_LENGTH >= sqrt((double)channels))
            mean = 0;
        for (int64_t i = 0; all_dx && i < channels; i++) {
            double u = (double)x[i] * r;
            double dv = (double)dy[i] * (double)oas_act_slope(act, (float)(u * (double)gamma[i]));
            all_dx[row * channels + i] += (float)(r * (dv * (double)gamma[i] - u * mean));
        }
    }
    return OASIS_OK;
}

/* ---- fast ---------------------------------------------------------------------------------------------------------- */

struct norm_task {
    const node *n;
    const oas_channel_kernels *kernels;
    int64_t slab;
};

static void norm_slab(void *arg, int64_t slab, int worker)
{
    (void)worker;
    const struct norm_task *t = arg;
    const tensor *x = t->n->in[0], *y = t->n->out;
    bool silu = OAS_PARAM(struct channel_norm_param, t->n)->act == OAS_SILU;
    int64_t channels = oas_last(x, 0), rows = oas_rows(x), last = (slab + 1) * t->slab;
    size_t row_bytes = (size_t)channels * oas_dtype_size(x->dtype);
    for (int64_t row = slab * t->slab; row < rows && row < last; row++)
        t->kernels->norm((char *)y->data + (size_t)row * row_bytes, (const char *)x->data + (size_t)row * row_bytes, x->dtype,
                         oas_f32(t->n->in[1]), sqrtf((float)channels), silu, channels);
}

static oasis_status channel_norm_cpu(graph *g, const node *n)
{
    int64_t rows = oas_rows(n->in[0]);
    struct norm_task t = {.n = n, .kernels = oas_channel_kernels_for(g->device->level), .slab = oas_slab_rows(rows, 64, 4096)};
    oas_pool_run(oas_graph_pool(g), (rows + t.slab - 1) / t.slab, norm_slab, &t);
    return OASIS_OK;
}

static bool channel_norm_accepts(const graph *g, const node *n)
{
    (void)g;
    int32_t act = OAS_PARAM(struct channel_norm_param, n)->act;
    return (act == OAS_SILU || act == OAS_LINEAR) && n->in[0]->dtype == n->out->dtype;
}

static oasis_status channel_norm_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning)
        return OASIS_OK;
    return c->tables.passes->channel_norm(c, oas_array(n->out), oas_array(n->in[0]), oas_f32(n->in[1]),
                                          OAS_PARAM(struct channel_norm_param, n)->act, oas_rows(n->out),
                                          oas_last(n->out, 0));
}

static oasis_status channel_norm_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t channels = oas_last(n->out, 0), rows = oas_rows(n->out);
    void *partial = oas_scratch(g, c->tables.passes->norm_bytes(c, rows, channels));
    if (g->planning || g->status < 0)
        return g->status;
    return c->tables.passes->channel_norm_backward(
        c, oas_gradient_of(n->in[0]), oas_gradient_of(n->in[1]), oas_array(n->in[0]), oas_f32(n->in[1]),
        oas_gradient_of(n->out), OAS_PARAM(struct channel_norm_param, n)->act, rows, channels, partial);
}

static bool channel_norm_sample(sampler *s, int i, node *n)
{
    static const int64_t channels[] = {96, 33, 1, 384};
    static const oas_activation acts[] = {OAS_SILU, OAS_LINEAR, OAS_SILU, OAS_GELU_TANH};
    if (i >= 4)
        return false;
    *(struct channel_norm_param *)(void *)n->param = (struct channel_norm_param){(int32_t)acts[i]};
    n->in[0] = oas_sample_activation(s, OAS_SHAPE5(1, 2, oas_sample_size(s, 1, 9), oas_sample_size(s, 1, 30), channels[i]), 3);
    n->in[1] = oas_sample_floats(s, OAS_SHAPE4(channels[i], 1, 1, 1), 1);
    return true;
}

const op oas_op_channel_norm = {
    .name = "channel_norm",
    .stage = "passes",
    .n_in = 3,
    .optional = 1u << 2,
    .constant = 1u << 2,
    .in_place = 3,
    .shape = channel_norm_shape,
    .accepts = channel_norm_accepts,
    .forward = {[OAS_REF] = channel_norm_ref, [OAS_CPU] = channel_norm_cpu, [OAS_CUDA] = channel_norm_cuda},
    .backward = {[OAS_REF] = channel_norm_backward, [OAS_CUDA] = channel_norm_cuda_backward},
    .sample = channel_norm_sample,
    .tolerance = 2e-6f,
    .tolerance_bf16 = 3e-3f,
};
