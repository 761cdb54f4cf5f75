/*
 * Small ops of channels.
 *   norm_affine   y = LN(x) * gain + bias                      Wan's norm before cross-attention
 *   add_repeated  y = x + b b b ...                            a table for every sample, an offset of channels
 *   soft_clamp    y = limit tanh(x / limit)                    the first layer of TAEHV
 */
#include "cuda/passes.h"
#include "ops/op.h"
#include "tensor/sampler.h"

#include <math.h>

extern const op oas_op_norm_affine, oas_op_add_repeated, oas_op_soft_clamp;

/* ---- layer norm with weights --------------------------------------------------------------------------------------- */

struct affine_param {
    float eps;
};

tensor *oas_norm_affine(graph *g, tensor *x, tensor *gain, tensor *bias, float eps)
{
    tensor *in[] = {x, gain, bias};
    struct affine_param p = {eps};
    return oas_apply(g, &oas_op_norm_affine, in, &p, sizeof p);
}

static bool affine_shape(graph *g, node *n)
{
    const tensor *x = n->in[0];
    for (int i = 1; i < 3; i++)
        if (oas_count(&n->in[i]->shape) != oas_last(x, 0) || n->in[i]->dtype != OAS_F32 || x->dtype != OAS_F32)
            return oas_op_refuse(g, "norm_affine: %s %s does not fit tokens %s", i == 1 ? "gain" : "bias",
                                 oas_shape_text(&n->in[i]->shape).text, oas_shape_text(&x->shape).text);
    n->out->shape = x->shape;
    n->out->dtype = g->compute;
    return true;
}

/* Mean and 1/deviation of a row. */
static void row_statistics(const float *x, int64_t d, float eps, double *mean, double *r)
{
    double sum = 0, square = 0;
    for (int64_t i = 0; i < d; i++)
        sum += (double)x[i];
    *mean = sum / (double)d;
    for (int64_t i = 0; i < d; i++)
        square += ((double)x[i] - *mean) * ((double)x[i] - *mean);
    *r = 1 / sqrt(square / (double)d + (double)eps);
}

static oasis_status affine_ref(graph *g, const node *n)
{
    (void)g;
    int64_t d = oas_last(n->in[0], 0);
    const float *gain = oas_f32(n->in[1]), *bias = oas_f32(n->in[2]);
    for (int64_t row = 0, rows = oas_rows(n->in[0]); row < rows; row++) {
        const float *x = oas_f32(n->in[0]) + row * d;
        float *y = oas_f32(n->out) + row * d;
        double mean, r;
        row_statistics(x, d, OAS_PARAM(struct affine_param, n)->eps, &mean, &r);
        for (int64_t i = 0; i < d; i++)
            y[i] = (float)(((double)x[i] - mean) * r) * gain[i] + bias[i];
    }
    return OASIS_OK;
}

/*
 * Forward was y = u gain + bias, u = (x - mean) r.  So dgain += dy u, dbias += dy, and with w = dy gain
 *   dx += r (w - mean(w) - u mean(w u))
 */
static oasis_status affine_backward(graph *g, const node *n)
{
    if (g->planning)
        return OASIS_OK;
    int64_t d = oas_last(n->in[0], 0);
    const float *gain = oas_f32(n->in[1]);
    float *dgain = oas_gradient_of(n->in[1]);
    float *dbias = oas_gradient_of(n->in[2]);
    for (int64_t row = 0, rows = oas_rows(n->in[0]); row < rows; row++) {
        const float *x = oas_f32(n->in[0]) + row * d, *dy = oas_gradient_of(n->out) + row * d;
        double mean, r, sum_w = 0, sum_wu = 0;
        row_statistics(x, d, OAS_PARAM(struct affine_param, n)->eps, &mean, &r);
        for (int64_t i = 0; i < d; i++) {
            double u = ((double)x[i] - mean) * r, w = (double)dy[i] * (double)gain[i];
            sum_w += w;
            sum_wu += w * u;
            if (dgain)
                dgain[i] += (float)((double)dy[i] * u);
            if (dbias)
                dbias[i] += dy[i];
        }
        float *dx = n->in[0]->grad ? oas_f32(n->in[0]->grad) + row * d : NULL;
        for (int64_t i = 0; dx && i < d; i++) {
            double u = ((double)x[i] - mean) * r, w = (double)dy[i] * (double)gain[i];
            dx[i] += (float)(r * (w - (sum_w + u * sum_wu) / (double)d));
        }
    }
    return OASIS_OK;
}

static oasis_status affine_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning)
        return OASIS_OK;
    return c->tables.passes->layer_norm(c, oas_array(n->out), oas_array(n->in[0]), oas_f32(n->in[1]), oas_f32(n->in[2]),
                                        0.f, OAS_PARAM(struct affine_param, n)->eps, oas_rows(n->out),
                                        oas_last(n->out, 0));
}

static oasis_status affine_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t d = oas_last(n->out, 0), rows = oas_rows(n->out);
    void *partial = oas_scratch(g, c->tables.passes->norm_bytes(c, rows, d));
    if (g->planning || g->status < 0)
        return g->status;
    return c->tables.passes->layer_norm_backward(
        c, oas_gradient_of(n->in[0]), oas_gradient_of(n->in[1]), oas_gradient_of(n->in[2]), oas_array(n->in[0]),
        oas_f32(n->in[1]), oas_gradient_of(n->out), 0.f, OAS_PARAM(struct affine_param, n)->eps, rows, d, partial);
}

static bool affine_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    int64_t d = oas_sample_size(s, 2, 200);
    *(struct affine_param *)(void *)n->param = (struct affine_param){1e-6f};
    n->in[0] = oas_sample_floats(s, OAS_SHAPE2(oas_sample_size(s, 1, 40), d), 3);
    n->in[1] = oas_sample_floats(s, OAS_SHAPE1(d), 1);
    n->in[2] = oas_sample_floats(s, OAS_SHAPE1(d), 1);
    return true;
}

const op oas_op_norm_affine = {
    .name = "norm_affine",
    .stage = "passes",
    .n_in = 3,
    .shape = affine_shape,
    .forward = {[OAS_REF] = affine_ref, [OAS_CUDA] = affine_cuda},
    .backward = {[OAS_REF] = affine_backward, [OAS_CUDA] = affine_cuda_backward},
    .sample = affine_sample,
    .tolerance = 2e-6f,
    .tolerance_bf16 = 3e-3f,
};

/* ---- x + b, repeated ------------------------------------------------------------------------------------------------ */

tensor *oas_add_repeated(graph *g, tensor *x, tensor *b)
{
    tensor *in[] = {x, b};
    return oas_apply(g, &oas_op_add_repeated, in, "", 1);
}

static bool repeated_shape(graph *g, node *n)
{
    const tensor *x = n->in[0], *b = n->in[1];
    if (x->dtype != OAS_F32 || b->dtype != OAS_F32 || oas_count(&x->shape) % oas_count(&b->shape) != 0)
        return oas_op_refuse(g, "add_repeated: %s is no whole number of %s", oas_shape_text(&x->shape).text,
                             oas_shape_text(&b->shape).text);
    n->out->shape = x->shape;
    n->out->dtype = OAS_F32;
    return true;
}

static oasis_status repeated_ref(graph *g, const node *n)
{
    (void)g;
    int64_t run = oas_count(&n->in[1]->shape);
    const float *b = oas_f32(n->in[1]);
    for (int64_t at = 0, count = oas_count(&n->out->shape); at < count; at += run) {
        const float *x = oas_f32(n->in[0]) + at;
        float *y = oas_f32(n->out) + at;
        for (int64_t i = 0; i < run; i++)
            y[i] = x[i] + b[i];
    }
    return OASIS_OK;
}

/* dx += dy; db += the sum of dy over repetitions. */
static oasis_status repeated_backward(graph *g, const node *n)
{
    if (g->planning)
        return OASIS_OK;
    int64_t run = oas_count(&n->in[1]->shape), count = oas_count(&n->out->shape);
    const float *dy = oas_gradient_of(n->out);
    float *dx = oas_gradient_of(n->in[0]), *db = oas_gradient_of(n->in[1]);
    for (int64_t i = 0; i < count; i++) {
        if (dx)
            dx[i] += dy[i];
        if (db)
            db[i % run] += dy[i];
    }
    return OASIS_OK;
}

static oasis_status repeated_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning)
        return OASIS_OK;
    return c->tables.passes->add_repeated(c, oas_array(n->out), oas_array(n->in[0]), oas_array(n->in[1]),
                                          oas_count(&n->in[1]->shape), oas_count(&n->out->shape));
}

static oasis_status repeated_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t count = oas_count(&n->out->shape), run = oas_count(&n->in[1]->shape);
    void *partial = n->in[1]->grad ? oas_scratch(g, c->tables.passes->column_sum_bytes(c, count / run, run)) : NULL;
    if (g->planning || g->status < 0)
        return g->status;
    cuda_array dy = oas_array(n->out->grad);
    if (n->in[0]->grad)
        OAS_TRY(c->tables.passes->add(c, oas_gradient_of(n->in[0]), dy, count));
    if (!partial)
        return OASIS_OK;
    return c->tables.passes->column_sum(c, oas_gradient_of(n->in[1]), dy, count / run, run, partial);
}

static bool repeated_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    int64_t d = oas_sample_size(s, 2, 100), rows = oas_sample_size(s, 1, 30);
    n->in[0] = oas_sample_floats(s, OAS_SHAPE3(1, rows, d), 1);
    n->in[1] = oas_sample_floats(s, i ? OAS_SHAPE1(d) : OAS_SHAPE2(rows, d), 1);
    return true;
}

const op oas_op_add_repeated = {
    .name = "add_repeated",
    .stage = "passes",
    .n_in = 2,
    .in_place = 1,
    .shape = repeated_shape,
    .forward = {[OAS_REF] = repeated_ref, [OAS_CUDA] = repeated_cuda},
    .backward = {[OAS_REF] = repeated_backward, [OAS_CUDA] = repeated_cuda_backward},
    .passes_on = 1,
    .sample = repeated_sample,
    .tolerance = 1e-7f,
    .tolerance_bf16 = 1e-7f,
};

/* ---- soft clamp ------------------------------------------------------------------------------------------------------ */

struct clamp_param {
    float limit;
};

tensor *oas_soft_clamp(graph *g, tensor *x, float limit)
{
    struct clamp_param p = {limit};
    return oas_apply(g, &oas_op_soft_clamp, &x, &p, sizeof p);
}

static bool clamp_shape(graph *g, node *n)
{
    (void)g;
    n->out->shape = n->in[0]->shape;
    n->out->dtype = n->in[0]->dtype;
    return true;
}

static oasis_status clamp_ref(graph *g, const node *n)
{
    (void)g;
    float limit = OAS_PARAM(struct clamp_param, n)->limit;
    const float *x = oas_f32(n->in[0]);
    for (int64_t i = 0, count = oas_count(&n->out->shape); i < count; i++)
        oas_f32(n->out)[i] = limit * tanhf(x[i] / limit);
    return OASIS_OK;
}

/* dx += dy (1 - (y/limit)^2). */
static oasis_status clamp_backward(graph *g, const node *n)
{
    if (g->planning)
        return OASIS_OK;
    float limit = OAS_PARAM(struct clamp_param, n)->limit;
    const float *y = oas_f32(n->out), *dy = oas_gradient_of(n->out);
    float *dx = oas_gradient_of(n->in[0]);
    for (int64_t i = 0, count = oas_count(&n->out->shape); dx && i < count; i++)
        dx[i] += dy[i] * (1 - y[i] / limit * (y[i] / limit));
    return OASIS_OK;
}

static oasis_status clamp_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning)
        return OASIS_OK;
    return c->tables.passes->soft_clamp(c, oas_array(n->out), oas_array(n->in[0]),
                                        OAS_PARAM(struct clamp_param, n)->limit, oas_count(&n->out->shape));
}

static oasis_status clamp_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning || !n->in[0]->grad)
        return OASIS_OK;
    return c->tables.passes->soft_clamp_backward(c, oas_gradient_of(n->in[0]), oas_array(n->out),
                                                 oas_gradient_of(n->out), OAS_PARAM(struct clamp_param, n)->limit,
                                                 oas_count(&n->out->shape));
}

static bool clamp_sample(sampler *s, int i, node *n)
{
    if (i >= 2)
        return false;
    *(struct clamp_param *)(void *)n->param = (struct clamp_param){3};
    n->in[0] = oas_sample_activation(s, OAS_SHAPE2(oas_sample_size(s, 1, 30), 16), 5);
    return true;
}

const op oas_op_soft_clamp = {
    .name = "soft_clamp",
    .stage = "passes",
    .n_in = 1,
    .shape = clamp_shape,
    .forward = {[OAS_REF] = clamp_ref, [OAS_CUDA] = clamp_cuda},
    .backward = {[OAS_REF] = clamp_backward, [OAS_CUDA] = clamp_cuda_backward},
    .sample = clamp_sample,
    .tolerance = 1e-6f,
    .tolerance_bf16 = 4e-3f,
};
