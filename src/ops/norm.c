/*
 * Norms of tokens.
 *   norm_modulate   y = LN(x) * (1 + m[scale]) + m[shift]          Wan block, norms without weights
 *   rms_norm_rope   y = rope(x / rms(x) * gain)                     q and k, all heads together
 */
#include "cuda/passes.h"
#include "ops/op.h"
#include "tensor/sampler.h"

#include <math.h>

/* ---- layer norm and modulation ------------------------------------------------------------------------------------- */

struct modulate_param {
    int32_t shift, scale;
    float eps;
};

extern const op oas_op_norm_modulate, oas_op_rms_norm_rope;

tensor *oas_norm_modulate(graph *g, tensor *x, tensor *m, int shift, int scale, float eps)
{
    tensor *in[] = {x, m};
    struct modulate_param p = {shift, scale, eps};
    return oas_apply(g, &oas_op_norm_modulate, in, &p, sizeof p);
}

static bool modulate_shape(graph *g, node *n)
{
    const tensor *x = n->in[0], *m = n->in[1];
    const struct modulate_param *p = OAS_PARAM(struct modulate_param, n);
    int64_t rows = oas_count(&m->shape) / oas_last(m, 0);
    if (x->dtype != OAS_F32 || m->dtype != OAS_F32 || oas_last(m, 0) != oas_last(x, 0) || p->shift >= rows ||
        p->scale >= rows)
        return oas_op_refuse(g, "norm_modulate: table %s, rows %d and %d, does not fit tokens %s",
                             oas_shape_text(&m->shape).text, p->shift, p->scale, oas_shape_text(&x->shape).text);
    n->out->shape = x->shape;
    n->out->dtype = g->compute;
    return true;
}

static void modulate_row(const float *x, const float *shift, const float *scale, float *y, int64_t d, float eps)
{
    double sum = 0, square = 0;
    for (int64_t i = 0; i < d; i++)
        sum += (double)x[i];
    double mean = sum / (double)d;
    for (int64_t i = 0; i < d; i++)
        square += ((double)x[i] - mean) * ((double)x[i] - mean);
    float r = (float)(1. / sqrt(square / (double)d + (double)eps)), m = (float)mean;
    for (int64_t i = 0; i < d; i++)
        y[i] = (x[i] - m) * r * (1.f + scale[i]) + shift[i];
}

static oasis_status modulate_ref(graph *g, const node *n)
{
    (void)g;
    const struct modulate_param *p = OAS_PARAM(struct modulate_param, n);
    int64_t d = oas_last(n->in[0], 0), rows = oas_rows(n->in[0]);
    const float *x = oas_f32(n->in[0]), *m = oas_f32(n->in[1]);
    for (int64_t i = 0; i < rows; i++)
        modulate_row(x + i * d, m + p->shift * d, m + p->scale * d, oas_f32(n->out) + i * d, d, p->eps);
    return OASIS_OK;
}

enum { SUM_LEAST_ROWS = 16, SUM_MOST_ROWS = 4096 }; /* of a slab in backward */

/* A task that goes over rows. */
struct norm_task {
    const node *n;
    column_sums sums;
    float *scratch; /* one row per worker */
};

/*
 * With u = (x - mean) r, forward was y = u (1 + scale) + shift.  So, with e = dy (1 + scale):
 *   dshift += dy;  dscale += dy u;  dx += r (e - mean(e) - u mean(e u))
 */
static void modulate_row_backward(const float *x, const float *scale, const float *dy, float *dx, float *dshift,
                                  float *dscale, int64_t d, float eps)
{
    double sum = 0, square = 0, sum_e = 0, sum_eu = 0;
    for (int64_t i = 0; i < d; i++)
        sum += (double)x[i];
    float mean = (float)(sum / (double)d);
    for (int64_t i = 0; i < d; i++)
        square += (double)((x[i] - mean) * (x[i] - mean));
    float r = (float)(1. / sqrt(square / (double)d + (double)eps));
    for (int64_t i = 0; i < d; i++) {
        float u = (x[i] - mean) * r, e = dy[i] * (1.f + scale[i]);
        sum_e += (double)e;
        sum_eu += (double)(e * u);
        dshift[i] += dy[i];
        dscale[i] += dy[i] * u;
    }
    float mean_e = (float)(sum_e / (double)d), mean_eu = (float)(sum_eu / (double)d);
    for (int64_t i = 0; dx && i < d; i++)
        dx[i] += r * (dy[i] * (1.f + scale[i]) - mean_e - (x[i] - mean) * r * mean_eu);
}

static void modulate_backward_slab(void *arg, int64_t slab, int worker)
{
    (void)worker;
    const struct norm_task *t = arg;
    const node *n = t->n;
    const struct modulate_param *p = OAS_PARAM(struct modulate_param, n);
    int64_t d = oas_last(n->out, 0), rows = oas_rows(n->out), begin = slab * t->sums.slab;
    int64_t end = begin + t->sums.slab < rows ? begin + t->sums.slab : rows;
    float *dx = oas_gradient_of(n->in[0]), *sum = t->sums.partial + slab * 2 * d;
    for (int64_t i = begin; i < end; i++)
        modulate_row_backward(oas_f32(n->in[0]) + i * d, oas_f32(n->in[1]) + p->scale * d,
                              oas_gradient_of(n->out) + i * d, dx ? dx + i * d : NULL, sum, sum + d, d, p->eps);
}

static oasis_status modulate_backward(graph *g, const node *n)
{
    const struct modulate_param *p = OAS_PARAM(struct modulate_param, n);
    struct norm_task t = {.n = n};
    int64_t d = oas_last(n->out, 0);
    float *dm = oas_gradient_of(n->in[1]);
    if (!oas_column_sums(g, &t.sums, oas_rows(n->out), 2 * d, SUM_LEAST_ROWS, SUM_MOST_ROWS))
        return g->status;
    oas_pool_run(oas_graph_pool(g), t.sums.slabs, modulate_backward_slab, &t);
    oas_column_add(&t.sums, 0, d, dm ? dm + p->shift * d : NULL);
    oas_column_add(&t.sums, d, d, dm ? dm + p->scale * d : NULL);
    return OASIS_OK;
}

static void modulate_stretch(const graph *g, const node *n, int64_t begin, int64_t end)
{
    const struct modulate_param *p = OAS_PARAM(struct modulate_param, n);
    const oas_passes *pass = oas_graph_passes(g);
    int64_t d = oas_last(n->in[0], 0);
    const float *x = oas_f32(n->in[0]), *m = oas_f32(n->in[1]);
    char *y = n->out->data;
    for (int64_t i = begin; i < end; i++)
        pass->norm_modulate(y + i * d * (int64_t)oas_dtype_size(n->out->dtype), n->out->dtype, x + i * d,
                            m + p->shift * d, m + p->scale * d, d, p->eps);
}

static oasis_status modulate_cpu(graph *g, const node *n)
{
    oas_for_stretches(g, n, oas_rows(n->in[0]), (size_t)oas_last(n->in[0], 0) * 8, modulate_stretch);
    return OASIS_OK;
}

static oasis_status modulate_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const struct modulate_param *p = OAS_PARAM(struct modulate_param, n);
    int64_t d = oas_last(n->out, 0);
    if (g->planning)
        return OASIS_OK;
    const float *m = oas_f32(n->in[1]);
    return c->tables.passes->layer_norm(c, oas_array(n->out), oas_array(n->in[0]), m + p->scale * d, m + p->shift * d,
                                        1.f, p->eps, oas_rows(n->out), d);
}

static oasis_status modulate_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const struct modulate_param *p = OAS_PARAM(struct modulate_param, n);
    int64_t d = oas_last(n->out, 0), rows = oas_rows(n->out);
    void *partial = oas_scratch(g, c->tables.passes->norm_bytes(c, rows, d));
    if (g->planning || g->status < 0)
        return g->status;
    const float *scale = oas_f32(n->in[1]) + p->scale * d;
    float *dm = oas_gradient_of(n->in[1]);
    return c->tables.passes->layer_norm_backward(c, oas_gradient_of(n->in[0]), dm ? dm + p->scale * d : NULL,
                                                 dm ? dm + p->shift * d : NULL, oas_array(n->in[0]), scale,
                                                 oas_gradient_of(n->out), 1.f, p->eps, rows, d, partial);
}

static bool modulate_sample(sampler *s, int i, node *n)
{
    if (i >= 6)
        return false;
    /* The last two are wide: a thread of a GPU has two stretches of a row, or more than it holds. */
    int64_t d = i == 0 ? 1 : i < 4 ? oas_sample_size(s, 2, 300) : oas_sample_size(s, i == 4 ? 2049 : 4097, i * 1000);
    *(struct modulate_param *)(void *)n->param = (struct modulate_param){i % 3, 5 - i, 1e-6f};
    n->in[0] = oas_sample_floats(s, OAS_SHAPE2(oas_sample_size(s, 1, i < 4 ? 40 : 3), d), 3);
    n->in[1] = oas_sample_floats(s, OAS_SHAPE3(1, 6, d), 1);
    return true;
}

const op oas_op_norm_modulate = {
    .name = "norm_modulate",
    .stage = "passes",
    .n_in = 2,
    .shape = modulate_shape,
    .forward = {[OAS_REF] = modulate_ref, [OAS_CPU] = modulate_cpu, [OAS_CUDA] = modulate_cuda},
    .backward = {[OAS_REF] = modulate_backward, [OAS_CPU] = modulate_backward, [OAS_CUDA] = modulate_cuda_backward},
    .sample = modulate_sample,
    .tolerance = 2e-6f,
    .tolerance_bf16 = 3e-3f,
};

/* ---- RMS norm and rotation ----------------------------------------------------------------------------------------- */

struct rope_param {
    float eps;
};

tensor *oas_rms_norm_rope(graph *g, tensor *x, tensor *gain, tensor *rope, float eps)
{
    tensor *in[] = {x, gain, rope};
    struct rope_param p = {eps};
    return oas_apply(g, &oas_op_rms_norm_rope, in, &p, sizeof p);
}

static bool rope_shape(graph *g, node *n)
{
    const tensor *x = n->in[0], *gain = n->in[1], *rope = n->in[2];
    if (oas_count(&gain->shape) != oas_last(x, 0) || gain->dtype != OAS_F32 || rope->dtype != OAS_F32 ||
        rope->shape.rank != 2 || oas_last(rope, 0) % 2 != 0 || oas_last(x, 0) % oas_last(rope, 0) != 0 ||
        oas_rows(x) % rope->shape.size[0] != 0)
        return oas_op_refuse(g, "rms_norm_rope: gain %s and angles %s do not fit tokens %s",
                             oas_shape_text(&gain->shape).text, oas_shape_text(&rope->shape).text,
                             oas_shape_text(&x->shape).text);
    n->out->shape = x->shape;
    n->out->dtype = g->compute;
    return true;
}

static void rope_row(const float *x, const float *gain, const float *rope, float *y, int64_t d, int64_t head, float eps)
{
    double square = 0;
    for (int64_t i = 0; i < d; i++)
        square += (double)x[i] * (double)x[i];
    float r = (float)(1. / sqrt(square / (double)d + (double)eps));
    for (int64_t i = 0; i < d; i += 2) {
        float a = x[i] * r * gain[i], b = x[i + 1] * r * gain[i + 1];
        float c = rope[i % head], s = rope[i % head + 1];
        y[i] = a * c - b * s;
        y[i + 1] = a * s + b * c;
    }
}

static oasis_status rope_ref(graph *g, const node *n)
{
    (void)g;
    int64_t d = oas_last(n->in[0], 0), rows = oas_rows(n->in[0]);
    int64_t head = oas_last(n->in[2], 0), period = n->in[2]->shape.size[0];
    const float *x = oas_f32(n->in[0]), *gain = oas_f32(n->in[1]), *rope = oas_f32(n->in[2]);
    for (int64_t i = 0; i < rows; i++)
        rope_row(x + i * d, gain, rope + i % period * head, oas_f32(n->out) + i * d, d, head,
                 OAS_PARAM(struct rope_param, n)->eps);
    return OASIS_OK;
}

/*
 * With r = 1 / sqrt(mean(x^2) + eps), forward was u = x r gain, then (a,b) -> (a cos - b sin, a sin + b cos).  So the
 * gradient of u is dy turned back, and
 *   dgain += du x r;  dx += r du gain - x r^3 / d sum(du gain x)
 */
static void rope_row_backward(const float *x, const float *gain, const float *rope, const float *dy, float *dx,
                              float *dgain, float *du, int64_t d, int64_t head, float eps)
{
    double square = 0, along = 0;
    for (int64_t i = 0; i < d; i += 2) {
        float c = rope[i % head], s = rope[i % head + 1];
        du[i] = dy[i] * c + dy[i + 1] * s;
        du[i + 1] = dy[i + 1] * c - dy[i] * s;
    }
    for (int64_t i = 0; i < d; i++) {
        square += (double)(x[i] * x[i]);
        along += (double)(du[i] * gain[i] * x[i]);
    }
    float r = (float)(1. / sqrt(square / (double)d + (double)eps)), back = (float)(along / (double)d) * r * r * r;
    for (int64_t i = 0; i < d; i++) {
        dgain[i] += du[i] * x[i] * r;
        if (dx)
            dx[i] += r * du[i] * gain[i] - x[i] * back;
    }
}

static void rope_backward_slab(void *arg, int64_t slab, int worker)
{
    const struct norm_task *t = arg;
    const node *n = t->n;
    int64_t d = oas_last(n->out, 0), rows = oas_rows(n->out), begin = slab * t->sums.slab;
    int64_t end = begin + t->sums.slab < rows ? begin + t->sums.slab : rows;
    int64_t head = oas_last(n->in[2], 0), period = n->in[2]->shape.size[0];
    float *dx = oas_gradient_of(n->in[0]), *tmp = t->scratch + worker * 2 * d;
    for (int64_t i = begin; i < end; i++)
        rope_row_backward(oas_floats(n->in[0], i * d, d, tmp), oas_f32(n->in[1]), oas_f32(n->in[2]) + i % period * head,
                          oas_gradient_of(n->out) + i * d, dx ? dx + i * d : NULL, t->sums.partial + slab * d, tmp + d,
                          d, head, OAS_PARAM(struct rope_param, n)->eps);
}

static oasis_status rope_backward(graph *g, const node *n)
{
    struct norm_task t = {.n = n};
    int64_t d = oas_last(n->out, 0);
    t.scratch = oas_scratch(g, (size_t)oas_pool_workers(oas_graph_pool(g)) * 2 * (size_t)d * sizeof(float));
    if (!oas_column_sums(g, &t.sums, oas_rows(n->out), d, SUM_LEAST_ROWS, SUM_MOST_ROWS))
        return g->status;
    oas_pool_run(oas_graph_pool(g), t.sums.slabs, rope_backward_slab, &t);
    oas_column_add(&t.sums, 0, d, oas_gradient_of(n->in[1]));
    return OASIS_OK;
}

static void rope_stretch(const graph *g, const node *n, int64_t begin, int64_t end)
{
    const oas_passes *pass = oas_graph_passes(g);
    int64_t d = oas_last(n->in[0], 0), head = oas_last(n->in[2], 0), period = n->in[2]->shape.size[0];
    int64_t row = d * (int64_t)oas_dtype_size(n->in[0]->dtype);
    for (int64_t i = begin; i < end; i++)
        pass->rms_norm_rope((char *)n->out->data + i * row, (const char *)n->in[0]->data + i * row, n->in[0]->dtype,
                            oas_f32(n->in[1]), oas_f32(n->in[2]) + i % period * head, head, d,
                            OAS_PARAM(struct rope_param, n)->eps);
}

static oasis_status rope_cpu(graph *g, const node *n)
{
    oas_for_stretches(g, n, oas_rows(n->in[0]), (size_t)oas_last(n->in[0], 0) * 8, rope_stretch);
    return OASIS_OK;
}

static oasis_status rope_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const tensor *rope = n->in[2];
    if (g->planning)
        return OASIS_OK;
    return c->tables.passes->rms_norm_rope(c, oas_array(n->out), oas_array(n->in[0]), oas_f32(n->in[1]), oas_f32(rope),
                                           rope->shape.size[0], oas_last(rope, 0), OAS_PARAM(struct rope_param, n)->eps,
                                           oas_rows(n->out), oas_last(n->out, 0));
}

static oasis_status rope_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const tensor *rope = n->in[2];
    int64_t d = oas_last(n->out, 0), rows = oas_rows(n->out);
    void *partial = oas_scratch(g, c->tables.passes->norm_bytes(c, rows, d));
    if (g->planning || g->status < 0)
        return g->status;
    return c->tables.passes->rms_norm_rope_backward(c, oas_gradient_of(n->in[0]), oas_gradient_of(n->in[1]),
                                                    oas_array(n->in[0]), oas_f32(n->in[1]), oas_f32(rope),
                                                    oas_gradient_of(n->out), rope->shape.size[0], oas_last(rope, 0),
                                                    OAS_PARAM(struct rope_param, n)->eps, rows, d, partial);
}

static bool rope_accepts(const graph *g, const node *n)
{
    (void)g;
    return n->in[0]->dtype == n->out->dtype;
}

static bool rope_sample(sampler *s, int i, node *n)
{
    if (i >= 5)
        return false;
    int64_t head = 2 * oas_sample_size(s, 1, 40), heads = i < 4 ? oas_sample_size(s, 1, 5) : 4200 / head,
            tokens = oas_sample_size(s, 1, i < 4 ? 12 : 3);
    *(struct rope_param *)(void *)n->param = (struct rope_param){1e-6f};
    n->in[0] = oas_sample_activation(s, OAS_SHAPE2(tokens * (1 + i % 2), head * heads), 2);
    n->in[1] = oas_sample_floats(s, OAS_SHAPE1(head * heads), 1);
    n->in[2] = oas_sample_floats(s, OAS_SHAPE2(tokens, head), 1);
    return true;
}

const op oas_op_rms_norm_rope = {
    .name = "rms_norm_rope",
    .stage = "passes",
    .n_in = 3,
    .shape = rope_shape,
    .accepts = rope_accepts,
    .forward = {[OAS_REF] = rope_ref, [OAS_CPU] = rope_cpu, [OAS_CUDA] = rope_cuda},
    .backward = {[OAS_REF] = rope_backward, [OAS_CPU] = rope_backward, [OAS_CUDA] = rope_cuda_backward},
    .constant = 1u << 2, /* the angles */
    .sample = rope_sample,
    .tolerance = 2e-6f,
    .tolerance_bf16 = 6e-3f,
};
