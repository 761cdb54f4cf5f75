/*
 * What adversarial training adds.
 *   loss_score     weight times the mean of f(sign (a - b)) of scores: linear, hinge or softplus
 *   spectral_norm  w / (u^T w v)
 */
#include "ops/loss.h"
#include "tensor/sampler.h"

#include <math.h>

extern const op oas_op_loss_score, oas_op_spectral_norm;

/* ---- scores ---------------------------------------------------------------------------------------------------------- */

/* In loss_param: eps is the sign, levels the kind. */
tensor *oas_loss_score(graph *g, tensor *a, tensor *b, oas_score_loss kind, float sign, float weight)
{
    struct loss_param p = {.weight = weight, .eps = sign, .levels = (int32_t)kind};
    return oas_apply(g, &oas_op_loss_score, (tensor *[]){a, b}, &p, sizeof p);
}

static bool score_shape(graph *g, node *n)
{
    const tensor *a = n->in[0], *b = n->in[1];
    if (a->dtype != OAS_F32 || (b && (b->dtype != OAS_F32 || !oas_shape_equal(&a->shape, &b->shape))))
        return oas_op_refuse(g, "loss_score: %s and %s must be of one shape and fp32", oas_shape_text(&a->shape).text,
                             b ? oas_shape_text(&b->shape).text : "nothing");
    n->out->shape = OAS_SHAPE1(1);
    n->out->dtype = OAS_F32;
    return true;
}

enum { SCORE_SLAB = 1 << 12 };

static int64_t score_slabs(const node *n)
{
    return (oas_count(&n->in[0]->shape) + SCORE_SLAB - 1) / SCORE_SLAB;
}

/* f(t); *slope receives f'(t). */
static double score_value(int32_t kind, double t, double *slope)
{
    switch ((oas_score_loss)kind) {
    case OAS_SCORE_HINGE: *slope = t < 1 ? -1 : 0; return t < 1 ? 1 - t : 0;
    case OAS_SCORE_SOFTPLUS: *slope = -1 / (1 + exp(t)); return t > 0 ? log1p(exp(-t)) : -t + log1p(exp(t));
    case OAS_SCORE_LINEAR:
    case OAS_SCORE_LOSSES: break;
    }
    *slope = -1;
    return -t;
}

static double score_part(const struct loss_task *task, int64_t slab, float *scratch)
{
    (void)scratch;
    int64_t count = oas_count(&task->n->in[0]->shape), begin = slab * SCORE_SLAB;
    int64_t end = begin + SCORE_SLAB < count ? begin + SCORE_SLAB : count;
    double sum = 0, factor = (double)task->p->weight / (double)count, sign = (double)task->p->eps;
    for (int64_t i = begin; i < end; i++) {
        double slope, d = (double)task->y[i] - (task->t ? (double)task->t[i] : 0.);
        sum += score_value(task->p->levels, sign * d, &slope);
        if (task->derivative)
            task->derivative[i] = (float)(factor * sign * slope);
    }
    return sum * factor;
}

static oasis_status score_ref(graph *g, const node *n)
{
    return oas_loss_run(g, n, score_slabs(n), 0, score_part);
}

static size_t score_scratch(graph *g, const node *n)
{
    return oas_loss_scratch(g, score_slabs(n), 0);
}

/* The result depends on a - b: what a gains, b loses. */
static oasis_status score_backward(graph *g, const node *n)
{
    float *db = oas_gradient_of(n->in[1]), d = g->planning ? 0.f : *oas_gradient_of(n->out);
    for (int64_t i = 0, count = oas_count(&n->in[0]->shape); db && !g->planning && i < count; i++)
        db[i] -= d * ((const float *)n->keep)[i];
    return oas_gradient_of(n->in[0]) ? oas_loss_backward(g, n) : OASIS_OK;
}

static oasis_status score_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const struct loss_param *p = OAS_PARAM(struct loss_param, n);
    int64_t count = oas_count(&n->in[0]->shape);
    cuda_loss l;
    if (!oas_loss_cuda_of(g, n, c->tables.losses->values_bytes(c, count), &l))
        return g->status;
    return c->tables.losses->score(c, &l, p->levels, p->eps, count);
}

static oasis_status score_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (!g->planning && n->in[1] && n->in[1]->grad)
        OAS_TRY(c->tables.passes->add_times(c, oas_gradient_of(n->in[1]), -1.f, oas_gradient_of(n->out), n->keep,
                                            oas_count(&n->in[0]->shape)));
    return oas_loss_cuda_backward(g, n);
}

static bool score_sample(sampler *s, int i, node *n)
{
    if (i >= 2 * OAS_SCORE_LOSSES)
        return false;
    shape size = OAS_SHAPE3(oas_sample_size(s, 1, 4), oas_sample_size(s, 1, 5), oas_sample_size(s, 1, 5));
    *(struct loss_param *)(void *)n->param = (struct loss_param){
        .weight = (float)oas_count(&size), .eps = i % 2 ? 1.f : -1.f, .levels = i % OAS_SCORE_LOSSES};
    n->in[0] = oas_sample_floats(s, size, 3);
    n->in[1] = i < OAS_SCORE_LOSSES ? oas_sample_floats(s, size, 3) : NULL;
    return true;
}

const op oas_op_loss_score = {
    .name = "loss_score",
    .stage = "losses",
    .n_in = 2,
    .optional = 1u << 1,
    .shape = score_shape,
    .keep = oas_loss_keep,
    .scratch = score_scratch,
    .forward = {[OAS_REF] = score_ref, [OAS_CPU] = score_ref, [OAS_CUDA] = score_cuda},
    .backward = {[OAS_REF] = score_backward, [OAS_CPU] = score_backward, [OAS_CUDA] = score_cuda_backward},
    .sample = score_sample,
    .tolerance = 1e-6f,
    .tolerance_bf16 = 1e-6f,
};

/* ---- spectral norm --------------------------------------------------------------------------------------------------- */

tensor *oas_spectral_norm(graph *g, tensor *w, tensor *u, tensor *v)
{
    return oas_apply(g, &oas_op_spectral_norm, (tensor *[]){w, u, v}, "", 1);
}

static bool spectral_shape(graph *g, node *n)
{
    const tensor *w = n->in[0], *u = n->in[1], *v = n->in[2];
    if (w->dtype != OAS_F32 || u->dtype != OAS_F32 || v->dtype != OAS_F32 || oas_count(&u->shape) != w->shape.size[0] ||
        oas_count(&v->shape) * w->shape.size[0] != oas_count(&w->shape))
        return oas_op_refuse(g, "spectral_norm: vectors %s and %s do not fit the weight %s, or are not fp32",
                             oas_shape_text(&u->shape).text, oas_shape_text(&v->shape).text,
                             oas_shape_text(&w->shape).text);
    n->out->shape = w->shape;
    n->out->dtype = OAS_F32;
    return true;
}

/* Weights so small have no norm to speak of; a zero weight stays zero. */
static const double LEAST_NORM = 1e-12;

static double spectral_value(const node *n)
{
    const float *w = oas_f32(n->in[0]), *u = oas_f32(n->in[1]), *v = oas_f32(n->in[2]);
    int64_t rows = oas_count(&n->in[1]->shape), columns = oas_count(&n->in[2]->shape);
    double sum = 0;
    for (int64_t r = 0; r < rows; r++) {
        double row = 0;
        for (int64_t c = 0; c < columns; c++)
            row += (double)w[r * columns + c] * (double)v[c];
        sum += row * (double)u[r];
    }
    return fabs(sum) < LEAST_NORM ? LEAST_NORM : sum;
}

static oasis_status spectral_ref(graph *g, const node *n)
{
    (void)g;
    double norm = spectral_value(n);
    const float *w = oas_f32(n->in[0]);
    float *y = oas_f32(n->out), factor = (float)(1 / norm);
    for (int64_t i = 0, count = oas_count(&n->out->shape); i < count; i++)
        y[i] = w[i] * factor;
    return OASIS_OK;
}

/* With s = u^T w v, forward was y = w / s.  So dw += (dy - <dy, y> u v^T) / s. */
static oasis_status spectral_backward(graph *g, const node *n)
{
    if (g->planning)
        return OASIS_OK;
    const float *y = oas_f32(n->out), *dy = oas_gradient_of(n->out), *u = oas_f32(n->in[1]), *v = oas_f32(n->in[2]);
    float *dw = oas_gradient_of(n->in[0]);
    int64_t columns = oas_count(&n->in[2]->shape), count = oas_count(&n->out->shape);
    double along = 0, norm = spectral_value(n);
    for (int64_t i = 0; i < count; i++)
        along += (double)dy[i] * (double)y[i];
    for (int64_t i = 0; i < count; i++)
        dw[i] += (float)(((double)dy[i] - along * (double)u[i / columns] * (double)v[i % columns]) / norm);
    return OASIS_OK;
}

static oasis_status spectral_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t rows = oas_count(&n->in[1]->shape), columns = oas_count(&n->in[2]->shape);
    void *partial = oas_scratch(g, c->tables.passes->spectral_bytes(c, rows, columns));
    if (g->planning || g->status < 0)
        return g->status;
    return c->tables.passes->spectral_norm(c, oas_f32(n->out), oas_f32(n->in[0]), oas_f32(n->in[1]), oas_f32(n->in[2]),
                                           rows, columns, partial);
}

static oasis_status spectral_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t rows = oas_count(&n->in[1]->shape), columns = oas_count(&n->in[2]->shape);
    void *partial = oas_scratch(g, c->tables.passes->spectral_bytes(c, rows, columns));
    if (g->planning || g->status < 0 || !n->in[0]->grad)
        return g->status;
    return c->tables.passes->spectral_norm_backward(c, oas_gradient_of(n->in[0]), oas_f32(n->out), oas_f32(n->in[0]),
                                                    oas_f32(n->in[1]), oas_f32(n->in[2]), oas_gradient_of(n->out), rows,
                                                    columns, partial);
}

/* Positive weights and vectors, so that u^T w v is about 1. */
static bool spectral_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    int64_t rows = oas_sample_size(s, 1, 9), columns = oas_sample_size(s, 1, 5);
    n->in[0] = oas_sample_floats(s, OAS_SHAPE3(rows, columns, 9), 0.4f);
    n->in[1] = oas_sample_floats(s, OAS_SHAPE1(rows), 0.4f);
    n->in[2] = oas_sample_floats(s, OAS_SHAPE1(9 * columns), 0.4f);
    for (int k = 0; k < 3 && n->in[k] && n->in[k]->data; k++)
        for (int64_t j = 0, count = oas_count(&n->in[k]->shape); j < count; j++) {
            float *x = oas_f32(n->in[k]) + j;
            *x = (1.f + *x) / (k ? (float)count : 1.f);
        }
    return true;
}

const op oas_op_spectral_norm = {
    .name = "spectral_norm",
    .stage = "passes",
    .n_in = 3,
    .shape = spectral_shape,
    .constant = 1u << 1 | 1u << 2,
    .forward = {[OAS_REF] = spectral_ref, [OAS_CPU] = spectral_ref, [OAS_CUDA] = spectral_cuda},
    .backward = {[OAS_REF] = spectral_backward, [OAS_CPU] = spectral_backward, [OAS_CUDA] = spectral_cuda_backward},
    .sample = spectral_sample,
    .tolerance = 1e-6f,
    .tolerance_bf16 = 1e-6f,
};
