/*
 * Distances between features of pictures.
 *   loss_features  sum over channels of w (a/|a| - b/|b|)^2, the mean over pixels
 *   loss_dists     DISTS of one map: 1 - similarity of means (alpha) and of structure (beta), summed over channels
 */
#include "ops/loss.h"
#include "tensor/sampler.h"

#include <math.h>

extern const op oas_op_loss_features, oas_op_loss_dists;

/* Both in floats, of one shape, and `weights` weights. */
static bool distance_shape(graph *g, node *n, int64_t weights)
{
    const tensor *a = n->in[0], *b = n->in[1], *w = n->in[2];
    if (a->dtype != OAS_F32 || b->dtype != OAS_F32 || !oas_shape_equal(&a->shape, &b->shape))
        return oas_op_refuse(g, "%s: %s and %s must be of one shape and fp32", n->op->name,
                             oas_shape_text(&a->shape).text, oas_shape_text(&b->shape).text);
    if (w && (w->dtype != OAS_F32 || oas_count(&w->shape) != weights))
        return oas_op_refuse(g, "%s: weights %s instead of %lld in fp32", n->op->name, oas_shape_text(&w->shape).text,
                             (long long)weights);
    n->out->shape = OAS_SHAPE1(1);
    n->out->dtype = OAS_F32;
    return true;
}

/* ---- directions of features ------------------------------------------------------------------------------------------ */

tensor *oas_loss_features(graph *g, tensor *a, tensor *b, tensor *channel_weights, float weight)
{
    struct loss_param p = {.weight = weight};
    return oas_apply(g, &oas_op_loss_features, (tensor *[]){a, b, channel_weights}, &p, sizeof p);
}

static bool features_shape(graph *g, node *n)
{
    return distance_shape(g, n, oas_last(n->in[0], 0));
}

enum { FEATURE_SLAB = 256 }; /* rows */

/* Added to lengths, as LPIPS does. */
static const double LENGTH_EPS = 1e-10;
/* Features so short have no direction that a gradient could turn. */
static const double LEAST_LENGTH = 1e-4;

static double length_of(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/*
 * With r = |a|, n = r + eps, e = a/n - b/|b| and q = 2 w e: the derivative of the sum of w e^2 for a is
 * (q - (q . a) a / (r n)) / n.
 */
static double features_part(const struct loss_task *task, int64_t slab, float *scratch)
{
    (void)scratch;
    const tensor *x = task->n->in[0];
    const float *w = task->n->in[2] ? oas_f32(task->n->in[2]) : NULL;
    int64_t d = oas_last(x, 0), rows = oas_rows(x), begin = slab * FEATURE_SLAB;
    int64_t end = begin + FEATURE_SLAB < rows ? begin + FEATURE_SLAB : rows;
    double factor = (double)task->p->weight / (double)rows, sum = 0;
    for (int64_t row = begin; row < end; row++) {
        const float *a = task->y + row * d, *b = task->t + row * d;
        double r = length_of(a, d), n = r + LENGTH_EPS, m = length_of(b, d) + LENGTH_EPS, along = 0;
        for (int64_t c = 0; c < d; c++) {
            double e = (double)a[c] / n - (double)b[c] / m, q = (w ? (double)w[c] : 1.) * e;
            sum += q * e;
            along += 2 * q * (double)a[c];
        }
        for (int64_t c = 0; task->derivative && r > LEAST_LENGTH && c < d; c++) {
            double e = (double)a[c] / n - (double)b[c] / m, q = 2 * (w ? (double)w[c] : 1.) * e;
            task->derivative[row * d + c] = (float)(factor * (q - along * (double)a[c] / (r * n)) / n);
        }
    }
    return sum * factor;
}

static int64_t feature_slabs(const node *n)
{
    return (oas_rows(n->in[0]) + FEATURE_SLAB - 1) / FEATURE_SLAB;
}

static oasis_status features_ref(graph *g, const node *n)
{
    return oas_loss_run(g, n, feature_slabs(n), 0, features_part);
}

static size_t features_scratch(graph *g, const node *n)
{
    return oas_loss_scratch(g, feature_slabs(n), 0);
}

/* Weights of channels are about 1. */
static void near_one(tensor *w)
{
    for (int64_t i = 0; w && w->data && i < oas_count(&w->shape); i++)
        oas_f32(w)[i] += 1.f;
}

static oasis_status features_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t rows = oas_rows(n->in[0]), d = oas_last(n->in[0], 0);
    cuda_loss l;
    if (!oas_loss_cuda_of(g, n, c->tables.losses->features_bytes(c, rows, d), &l))
        return g->status;
    return c->tables.losses->features(c, &l, n->in[2] ? oas_f32(n->in[2]) : NULL, rows, d);
}

static bool features_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    shape size = OAS_SHAPE5(1, 1 + i, oas_sample_size(s, 1, 4), oas_sample_size(s, 1, 4), 3 + 7 * i);
    *(struct loss_param *)(void *)n->param = (struct loss_param){.weight = (float)oas_count(&size)};
    n->in[0] = oas_sample_floats(s, size, 1);
    n->in[1] = oas_sample_floats(s, size, 1);
    n->in[2] = i ? oas_sample_floats(s, OAS_SHAPE1(size.size[4]), 0.5f) : NULL;
    near_one(n->in[2]);
    return true;
}

const op oas_op_loss_features = {
    .name = "loss_features",
    .stage = "losses",
    .n_in = 3,
    .optional = 1u << 2,
    .constant = 1u << 1 | 1u << 2,
    .shape = features_shape,
    .keep = oas_loss_keep,
    .scratch = features_scratch,
    .forward = {[OAS_REF] = features_ref, [OAS_CPU] = features_ref, [OAS_CUDA] = features_cuda},
    .backward = {[OAS_REF] = oas_loss_backward, [OAS_CPU] = oas_loss_backward, [OAS_CUDA] = oas_loss_cuda_backward},
    .sample = features_sample,
    .tolerance = 1e-6f,
    .tolerance_bf16 = 1e-6f,
};

/* ---- DISTS ----------------------------------------------------------------------------------------------------------- */

tensor *oas_loss_dists(graph *g, tensor *a, tensor *b, tensor *alpha_beta, float weight)
{
    struct loss_param p = {.weight = weight};
    return oas_apply(g, &oas_op_loss_dists, (tensor *[]){a, b, alpha_beta}, &p, sizeof p);
}

static bool dists_shape(graph *g, node *n)
{
    if (n->in[0]->shape.rank != 5)
        return oas_op_refuse(g, "loss_dists: %s is not [B,T,H,W,C]", oas_shape_text(&n->in[0]->shape).text);
    return distance_shape(g, n, 2 * oas_last(n->in[0], 0));
}

/* c1 and c2 of the definition. */
static const double DISTS_C = 1e-6;

enum { SUMS = 5 }; /* of a channel: a, b, a^2, b^2, a b */

static void add_sums(const float *a, const float *b, int64_t d, double *sums)
{
    for (int64_t c = 0; c < d; c++) {
        double x = (double)a[c], y = (double)b[c];
        sums[SUMS * c] += x;
        sums[SUMS * c + 1] += y;
        sums[SUMS * c + 2] += x * x;
        sums[SUMS * c + 3] += y * y;
        sums[SUMS * c + 4] += x * y;
    }
}

/*
 * alpha (1 - S1) + beta (1 - S2) of a channel from its sums over n pixels, S1 = (2 ma mb + c) / (ma^2 + mb^2 + c), S2 =
 * (2 cov + c) / (va + vb + c).  Leaves in sums the derivative for a value x of a, whose partner is y, as p + q x + r y.
 */
static double similarity(double *sums, double n, double alpha, double beta)
{
    double ma = sums[0] / n, mb = sums[1] / n, va = sums[2] / n - ma * ma, vb = sums[3] / n - mb * mb;
    double cov = sums[4] / n - ma * mb, means = ma * ma + mb * mb + DISTS_C, spread = va + vb + DISTS_C;
    double s1 = (2 * ma * mb + DISTS_C) / means, s2 = (2 * cov + DISTS_C) / spread;
    double q = beta * 2 * s2 / (spread * n), r = -beta * 2 / (spread * n);
    sums[0] = -alpha * (2 * mb - 2 * s1 * ma) / (means * n) - q * ma - r * mb;
    sums[1] = q;
    sums[2] = r;
    return alpha * (1 - s1) + beta * (1 - s2);
}

/* One frame. */
static double dists_part(const struct loss_task *task, int64_t frame, float *scratch)
{
    const int64_t *s = task->n->in[0]->shape.size;
    const float *w = oas_f32(task->n->in[2]);
    int64_t d = s[4], pixels = s[2] * s[3], first = frame * pixels * d;
    double *sums = (double *)(void *)scratch, factor = (double)task->p->weight / (double)(s[0] * s[1]), value = 0;
    for (int64_t i = 0; i < SUMS * d; i++)
        sums[i] = 0;
    for (int64_t i = 0; i < pixels; i++)
        add_sums(task->y + first + i * d, task->t + first + i * d, d, sums);
    for (int64_t c = 0; c < d; c++)
        value += similarity(sums + SUMS * c, (double)pixels, (double)w[c], (double)w[d + c]);
    for (int64_t i = 0; task->derivative && i < pixels * d; i++) {
        const double *k = sums + SUMS * (i % d);
        task->derivative[first + i] =
            (float)(factor * (k[0] + k[1] * (double)task->y[first + i] + k[2] * (double)task->t[first + i]));
    }
    return value * factor;
}

static size_t dists_floats(const node *n)
{
    return (size_t)(oas_last(n->in[0], 0) * SUMS * 2);
}

static int64_t dists_slabs(const node *n)
{
    return n->in[0]->shape.size[0] * n->in[0]->shape.size[1];
}

static oasis_status dists_ref(graph *g, const node *n)
{
    return oas_loss_run(g, n, dists_slabs(n), dists_floats(n), dists_part);
}

static size_t dists_scratch(graph *g, const node *n)
{
    return oas_loss_scratch(g, dists_slabs(n), dists_floats(n));
}

static oasis_status dists_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const int64_t *s = n->in[0]->shape.size;
    cuda_pictures p = {s[0] * s[1], s[1], s[2], s[3], s[4]};
    cuda_loss l;
    if (!oas_loss_cuda_of(g, n, c->tables.losses->dists_bytes(c, &p), &l))
        return g->status;
    return c->tables.losses->dists(c, &l, oas_f32(n->in[2]), &p);
}

static bool dists_sample(sampler *s, int i, node *n)
{
    if (i >= 3)
        return false;
    shape size = OAS_SHAPE5(1, 1 + i, oas_sample_size(s, 3, 5), oas_sample_size(s, 3, 5), 1 + 3 * i);
    *(struct loss_param *)(void *)n->param = (struct loss_param){.weight = (float)oas_count(&size)};
    n->in[0] = oas_sample_floats(s, size, 1);
    n->in[1] = oas_sample_floats(s, size, 1);
    n->in[2] = oas_sample_floats(s, OAS_SHAPE1(2 * size.size[4]), 0.5f);
    near_one(n->in[2]);
    near_one(n->in[0]); /* means away from zero, where the similarity of means is steep */
    near_one(n->in[1]);
    return true;
}

const op oas_op_loss_dists = {
    .name = "loss_dists",
    .stage = "losses",
    .n_in = 3,
    .constant = 1u << 1 | 1u << 2,
    .shape = dists_shape,
    .keep = oas_loss_keep,
    .scratch = dists_scratch,
    .forward = {[OAS_REF] = dists_ref, [OAS_CPU] = dists_ref, [OAS_CUDA] = dists_cuda},
    .backward = {[OAS_REF] = oas_loss_backward, [OAS_CPU] = oas_loss_backward, [OAS_CUDA] = oas_loss_cuda_backward},
    .sample = dists_sample,
    .tolerance = 1e-6f,
    .tolerance_bf16 = 1e-6f,
};
