/*
 * Norms of tokens.
 *   norm_modulate   y = LN(x) * (1 + m[scale]) + m[shift]          Wan block, norms without weights
 *   rms_norm_rope   y = rope(x / rms(x) * gain)                     q and k, all heads together
 */
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

static bool modulate_sample(sampler *s, int i, node *n)
{
    if (i >= 4)
        return false;
    int64_t d = i == 0 ? 1 : oas_sample_size(s, 2, 300);
    *(struct modulate_param *)(void *)n->param = (struct modulate_param){i % 3, 5 - i, 1e-6f};
    n->in[0] = oas_sample_floats(s, OAS_SHAPE2(oas_sample_size(s, 1, 40), d), 3);
    n->in[1] = oas_sample_floats(s, OAS_SHAPE3(1, 6, d), 1);
    return true;
}

const op oas_op_norm_modulate = {
    .name = "norm_modulate",
    .stage = "passes",
    .n_in = 2,
    .shape = modulate_shape,
    .forward = {[OAS_REF] = modulate_ref},
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

static bool rope_sample(sampler *s, int i, node *n)
{
    if (i >= 4)
        return false;
    int64_t head = 2 * oas_sample_size(s, 1, 40), heads = oas_sample_size(s, 1, 5), tokens = oas_sample_size(s, 1, 12);
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
    .forward = {[OAS_REF] = rope_ref},
    .sample = rope_sample,
    .tolerance = 2e-6f,
    .tolerance_bf16 = 6e-3f,
};
