/*
 * Attention to keys that are given apart from the queries: a prompt's, or all pixels of a frame for one wide head.
 *
 *   s_ij = q_i . k_j / sqrt(hd) + bias_j;   out_i = sum_j softmax_j(s_ij) v_j     in each group, head by head
 *
 * One key may stand for n equal ones: its bias is ln n.  Fast: two products by oneDNN for slabs of queries, so that any
 * head width is possible; the keys of one head are prepared once for all slabs.
 */
#include "cpu/channel.h"
#include "cpu/dnnl.h"
#include "cuda/attention.h"
#include "ops/op.h"
#include "tensor/sampler.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

struct attend_param {
    int32_t groups, heads;
};

extern const op oas_op_attend;

tensor *oas_attend(graph *g, tensor *q, tensor *k, tensor *v, tensor *bias, int64_t groups, int heads)
{
    tensor *in[] = {q, k, v, bias};
    struct attend_param p = {(int32_t)groups, heads};
    return oas_apply(g, &oas_op_attend, in, &p, sizeof p);
}

static bool attend_shape(graph *g, node *n)
{
    const tensor *q = n->in[0], *k = n->in[1], *v = n->in[2], *bias = n->in[3];
    const struct attend_param *p = OAS_PARAM(struct attend_param, n);
    if (q->shape.rank != 2 || k->shape.rank != 2 || p->groups < 1 || p->heads < 1 || oas_last(q, 0) != oas_last(k, 0) ||
        oas_last(q, 0) % p->heads != 0 || oas_rows(q) % p->groups != 0 || oas_rows(k) % p->groups != 0 ||
        q->dtype != k->dtype)
        return oas_op_refuse(g, "attend: keys %s do not fit queries %s of %d groups and %d heads",
                             oas_shape_text(&k->shape).text, oas_shape_text(&q->shape).text, p->groups, p->heads);
    if (!oas_shape_equal(&k->shape, &v->shape) || v->dtype != k->dtype)
        return oas_op_refuse(g, "attend: values %s instead of %s", oas_shape_text(&v->shape).text,
                             oas_shape_text(&k->shape).text);
    if (bias && (oas_count(&bias->shape) != oas_rows(k) / p->groups || bias->dtype != OAS_F32))
        return oas_op_refuse(g, "attend: bias %s does not fit keys %s", oas_shape_text(&bias->shape).text,
                             oas_shape_text(&k->shape).text);
    n->out->shape = q->shape;
    n->out->dtype = q->dtype;
    return true;
}

/* Log-sum-exps, float [heads, queries]; the GPU's way back needs them. */
static size_t attend_keep(const node *n)
{
    return (size_t)oas_rows(n->in[0]) * (size_t)OAS_PARAM(struct attend_param, n)->heads * sizeof(float);
}

static double attend_flops(const node *n)
{
    const struct attend_param *p = OAS_PARAM(struct attend_param, n);
    return 4. * (double)oas_count(&n->in[0]->shape) * (double)(oas_rows(n->in[1]) / p->groups);
}

/* ---- the definition ------------------------------------------------------------------------------------------------ */

/* One head of one group: value c of row i is at [i*stride + c]. */
typedef struct attend_head {
    int64_t queries, keys, stride, hd, q_at, k_at;
    double scale;
    const float *q, *k, *v, *bias;
} attend_head;

static attend_head head_of(const node *n, int64_t group, int64_t head)
{
    const struct attend_param *p = OAS_PARAM(struct attend_param, n);
    attend_head h = {.stride = oas_last(n->in[0], 0), .bias = n->in[3] ? oas_f32(n->in[3]) : NULL};
    h.hd = h.stride / p->heads;
    h.queries = oas_rows(n->in[0]) / p->groups;
    h.keys = oas_rows(n->in[1]) / p->groups;
    h.q_at = group * h.queries * h.stride + head * h.hd;
    h.k_at = group * h.keys * h.stride + head * h.hd;
    h.scale = 1 / sqrt((double)h.hd);
    h.q = oas_f32(n->in[0]) + h.q_at;
    h.k = oas_f32(n->in[1]) + h.k_at;
    h.v = oas_f32(n->in[2]) + h.k_at;
    return h;
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static double score(const attend_head *h, int64_t i, int64_t j)
{
    return h->scale * dot(h->q + i * h->stride, h->k + j * h->stride, h->hd) + (h->bias ? (double)h->bias[j] : 0.);
}

static double log_sum_exp(const attend_head *h, int64_t i)
{
    double top = -INFINITY, total = 0;
    for (int64_t j = 0; j < h->keys; j++) {
        double s = score(h, i, j);
        if (s > top) {
            total *= exp(top - s);
            top = s;
        }
        total += exp(s - top);
    }
    return top + log(total);
}

static oasis_status attend_ref(graph *g, const node *n)
{
    (void)g;
    const struct attend_param *p = OAS_PARAM(struct attend_param, n);
    memset(n->out->data, 0, oas_bytes(n->out));
    for (int64_t job = 0; job < (int64_t)p->groups * p->heads; job++) {
        attend_head h = head_of(n, job / p->heads, job % p->heads);
        for (int64_t i = 0; i < h.queries; i++) {
            double norm = log_sum_exp(&h, i);
            float *out = oas_f32(n->out) + h.q_at + i * h.stride;
            for (int64_t j = 0; j < h.keys; j++) {
                double weight = exp(score(&h, i, j) - norm);
                for (int64_t c = 0; c < h.hd; c++)
                    out[c] += (float)(weight * (double)h.v[j * h.stride + c]);
            }
        }
    }
    return OASIS_OK;
}

static float *gradient_at(const tensor *t, int64_t at)
{
    return t && t->grad ? oas_f32(t->grad) + at : NULL;
}

/*
 * Forward was out_i = sum_j p_ij v_j, p_ij = exp(s_ij - lse_i).  So
 *   dv_j += p_ij dout_i;   ds_ij = p_ij (dout_i.v_j - dout_i.out_i);   dq_i += scale ds_ij k_j;
 *   dk_j += scale ds_ij q_i;   dbias_j += ds_ij
 */
static void attend_head_backward(const node *n, const attend_head *h)
{
    const float *out = oas_f32(n->out) + h->q_at, *dout = oas_gradient_of(n->out) + h->q_at;
    float *dq = gradient_at(n->in[0], h->q_at), *dk = gradient_at(n->in[1], h->k_at);
    float *dv = gradient_at(n->in[2], h->k_at), *dbias = gradient_at(n->in[3], 0);
    for (int64_t i = 0; i < h->queries; i++) {
        int64_t a = i * h->stride;
        double norm = log_sum_exp(h, i), mean = dot(dout + a, out + a, h->hd);
        for (int64_t j = 0; j < h->keys; j++) {
            int64_t b = j * h->stride;
            double weight = exp(score(h, i, j) - norm), ds = weight * (dot(dout + a, h->v + b, h->hd) - mean);
            if (dbias)
                dbias[j] += (float)ds;
            for (int64_t c = 0; c < h->hd; c++) {
                if (dv)
                    dv[b + c] += (float)weight * dout[a + c];
                if (dq)
                    dq[a + c] += (float)(h->scale * ds) * h->k[b + c];
                if (dk)
                    dk[b + c] += (float)(h->scale * ds) * h->q[a + c];
            }
        }
    }
}

static oasis_status attend_backward(graph *g, const node *n)
{
    if (g->planning)
        return OASIS_OK;
    const struct attend_param *p = OAS_PARAM(struct attend_param, n);
    for (int64_t job = 0; job < (int64_t)p->groups * p->heads; job++) {
        attend_head h = head_of(n, job / p->heads, job % p->heads);
        attend_head_backward(n, &h);
    }
    return OASIS_OK;
}

/* ---- fast ---------------------------------------------------------------------------------------------------------- */

enum { ATTEND_ROWS = 64 }; /* queries of a slab: their scores of 14,400 keys are 3.7 MB */

/* What a slab needs of memory, and the products for whole slabs and for the last one. */
struct attend_jobs {
    int64_t slabs, last_rows;
    const dnnl_job *score[2], *mix[2];                   /* [0] whole, [1] last */
    size_t keys, score_weights, mix_weights;             /* bytes, for one head at a time */
    size_t queries, scores, weights, out, library, each; /* bytes, per worker */
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static bool attend_prepare(graph *g, const node *n, struct attend_jobs *j)
{
    const struct attend_param *p = OAS_PARAM(struct attend_param, n);
    int64_t queries = oas_rows(n->in[0]) / p->groups, keys = oas_rows(n->in[1]) / p->groups;
    int64_t hd = oas_last(n->in[0], 0) / p->heads;
    int32_t type = (int32_t)n->in[0]->dtype;
    size_t element = oas_dtype_size(n->in[0]->dtype);
    *j = (struct attend_jobs){.slabs = (queries + ATTEND_ROWS - 1) / ATTEND_ROWS};
    j->last_rows = queries - (j->slabs - 1) * ATTEND_ROWS;
    dnnl_spec score = {.in_type = type, .out_type = OAS_F32, .bias = n->in[3] != NULL, .in = hd, .out = keys};
    dnnl_spec mix = {.in_type = type, .out_type = type, .in = keys, .out = hd};
    for (int i = 0; i < 2; i++) {
        score.rows = mix.rows = i == 0 && j->slabs > 1 ? ATTEND_ROWS : j->last_rows;
        j->score[i] = oas_dnnl_job(g->device->dnnl, &score, g);
        j->mix[i] = oas_dnnl_job(g->device->dnnl, &mix, g);
        if (!j->score[i] || !j->mix[i])
            return false;
        j->library = larger(j->library, larger(oas_dnnl_scratch_bytes(j->score[i]), oas_dnnl_scratch_bytes(j->mix[i])));
        j->score_weights = larger(j->score_weights, oas_aligned(oas_dnnl_weight_bytes(j->score[i])));
        j->mix_weights = larger(j->mix_weights, oas_aligned(oas_dnnl_weight_bytes(j->mix[i])));
    }
    j->keys = oas_aligned((size_t)(keys * hd) * element);
    j->queries = j->out = oas_aligned((size_t)(ATTEND_ROWS * hd) * element);
    j->scores = oas_aligned((size_t)(ATTEND_ROWS * keys) * sizeof(float));
    j->weights = type == OAS_F32 ? 0 : oas_aligned((size_t)(ATTEND_ROWS * keys) * element);
    j->library = oas_aligned(j->library);
    j->each = j->queries + j->scores + j->weights + j->out + j->library;
    return true;
}

static size_t attend_scratch(graph *g, const node *n)
{
    struct attend_jobs j;
    if (!attend_prepare(g, n, &j))
        return 0;
    return j.keys + 2 * (j.score_weights + j.mix_weights) + j.each * (size_t)oas_pool_workers(g->device->pool);
}

struct attend_task {
    graph *g;
    const node *n;
    struct attend_jobs jobs;
    int64_t q_at, k_at; /* of the head at hand, values */
    unsigned char *keys, *scratch;
    const void *score_weights[2], *mix_weights[2];
    atomic_int status;
};

/* Copies `rows` rows of a head to rows without gaps. */
static void copy_rows(const tensor *t, int64_t at, int64_t rows, int64_t stride, int64_t hd, void *to)
{
    size_t element = oas_dtype_size(t->dtype);
    for (int64_t i = 0; i < rows; i++)
        memcpy((char *)to + (size_t)(i * hd) * element, (const char *)t->data + (size_t)(at + i * stride) * element,
               (size_t)hd * element);
}

/* Scales the rows of queries, so that the product gives scores. */
static void scale_rows(void *rows, oas_dtype type, int64_t n, float scale)
{
    if (type == OAS_F32) {
        for (int64_t i = 0; i < n; i++)
            ((float *)rows)[i] *= scale;
        return;
    }
    uint16_t *b = rows;
    for (int64_t i = 0; i < n; i++)
        b[i] = oas_to_bf16(oas_from_bf16(b[i]) * scale);
}

static void attend_slab(void *arg, int64_t slab, int worker)
{
    struct attend_task *t = arg;
    const struct attend_jobs *j = &t->jobs;
    const tensor *q = t->n->in[0], *out = t->n->out;
    const struct attend_param *p = OAS_PARAM(struct attend_param, t->n);
    int64_t stride = oas_last(q, 0), hd = stride / p->heads, keys = oas_rows(t->n->in[1]) / p->groups;
    int which = slab == j->slabs - 1;
    int64_t rows = which ? j->last_rows : ATTEND_ROWS, at = t->q_at + slab * ATTEND_ROWS * stride;
    unsigned char *queries = t->scratch + (size_t)worker * j->each, *scores = queries + j->queries;
    unsigned char *result = scores + j->scores + j->weights, *library = result + j->out;
    unsigned char *weights = j->weights ? scores + j->scores : scores;
    dnnl_cache *dnnl = t->g->device->dnnl;
    copy_rows(q, at, rows, stride, hd, queries);
    scale_rows(queries, q->dtype, rows * hd, (float)(1 / sqrt((double)hd)));
    oasis_status s = oas_dnnl_run(dnnl, j->score[which], worker, queries, t->score_weights[which],
                                  t->n->in[3] ? t->n->in[3]->data : NULL, scores, library);
    if (s == OASIS_OK) {
        const oas_channel_kernels *kernels = oas_channel_kernels_for(t->g->device->level);
        size_t row_bytes = (size_t)keys * oas_dtype_size(q->dtype);
        for (int64_t i = 0; i < rows; i++)
            kernels->softmax(weights + (size_t)i * row_bytes, q->dtype, (float *)(void *)scores + i * keys, keys);
        s = oas_dnnl_run(dnnl, j->mix[which], worker, weights, t->mix_weights[which], NULL, result, library);
    }
    if (s < 0)
        atomic_store(&t->status, (int)s);
    size_t element = oas_dtype_size(q->dtype);
    for (int64_t i = 0; i < rows; i++)
        memcpy((char *)out->data + (size_t)(at + i * stride) * element, result + (size_t)(i * hd) * element,
               (size_t)hd * element);
}

/* [rows, columns] to [columns, rows]. */
static void transpose(const tensor *t, int64_t at, int64_t rows, int64_t stride, int64_t columns, void *to)
{
    if (t->dtype == OAS_F32) {
        const float *from = (const float *)t->data + at;
        for (int64_t i = 0; i < rows; i++)
            for (int64_t c = 0; c < columns; c++)
                ((float *)to)[c * rows + i] = from[i * stride + c];
        return;
    }
    const uint16_t *from = (const uint16_t *)t->data + at;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < columns; c++)
            ((uint16_t *)to)[c * rows + i] = from[i * stride + c];
}

/* Prepares the keys and values of one head as weights of the two products. */
static oasis_status prepare_head(struct attend_task *t, unsigned char *own)
{
    const struct attend_param *p = OAS_PARAM(struct attend_param, t->n);
    const tensor *k = t->n->in[1], *v = t->n->in[2];
    int64_t stride = oas_last(k, 0), hd = stride / p->heads, keys = oas_rows(k) / p->groups;
    tensor plain = {.dtype = k->dtype, .data = t->keys, .shape = OAS_SHAPE2(keys, hd)};
    copy_rows(k, t->k_at, keys, stride, hd, t->keys);
    for (int i = 0; i < 2; i++, own += t->jobs.score_weights)
        OAS_TRY(oas_dnnl_weights(t->g->device->dnnl, t->jobs.score[i], &plain, 0, own, &t->score_weights[i]));
    plain.shape = OAS_SHAPE2(hd, keys);
    transpose(v, t->k_at, keys, stride, hd, t->keys);
    for (int i = 0; i < 2; i++, own += t->jobs.mix_weights)
        OAS_TRY(oas_dnnl_weights(t->g->device->dnnl, t->jobs.mix[i], &plain, 0, own, &t->mix_weights[i]));
    return OASIS_OK;
}

static oasis_status attend_cpu(graph *g, const node *n)
{
    const struct attend_param *p = OAS_PARAM(struct attend_param, n);
    struct attend_task t = {.g = g, .n = n};
    if (!attend_prepare(g, n, &t.jobs))
        return OASIS_E_DEVICE;
    const struct attend_jobs *j = &t.jobs;
    t.keys = oas_scratch(g, j->keys);
    unsigned char *own = oas_scratch(g, 2 * (j->score_weights + j->mix_weights));
    t.scratch = oas_scratch(g, j->each * (size_t)oas_pool_workers(g->device->pool));
    if (g->status < 0)
        return g->status;
    int64_t stride = oas_last(n->in[0], 0), hd = stride / p->heads;
    int64_t queries = oas_rows(n->in[0]) / p->groups, keys = oas_rows(n->in[1]) / p->groups;
    for (int64_t job = 0; job < (int64_t)p->groups * p->heads; job++) {
        int64_t group = job / p->heads, head = job % p->heads;
        t.q_at = group * queries * stride + head * hd;
        t.k_at = group * keys * stride + head * hd;
        OAS_TRY(prepare_head(&t, own));
        oas_pool_run(g->device->pool, j->slabs, attend_slab, &t);
        OAS_TRY((oasis_status)atomic_load(&t.status));
    }
    return OASIS_OK;
}

/* ---- on a GPU ------------------------------------------------------------------------------------------------------ */

static bool attend_accepts_cuda(const graph *g, const node *n)
{
    (void)g;
    int heads = OAS_PARAM(struct attend_param, n)->heads;
    return heads <= CUDA_ATTENTION_MAX_HEADS && oas_last(n->in[0], 0) / heads <= CUDA_ATTENTION_MAX_HEAD_DIM;
}

static cuda_attention_task cuda_task_of(const node *n)
{
    const struct attend_param *p = OAS_PARAM(struct attend_param, n);
    const tensor *q = n->in[0], *k = n->in[1];
    cuda_attention_task t = {.dtype = (int32_t)q->dtype, .heads = p->heads, .batch = p->groups, .lse = n->keep};
    t.head_dim = (int32_t)(oas_last(q, 0) / p->heads);
    t.queries = oas_rows(q) / p->groups, t.keys = oas_rows(k) / p->groups;
    t.q = q->data, t.k = k->data, t.v = n->in[2]->data, t.out = n->out->data;
    t.bias = n->in[3] ? oas_f32(n->in[3]) : NULL;
    return t;
}

static oasis_status attend_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    cuda_attention_task t = cuda_task_of(n);
    return g->planning ? OASIS_OK : c->tables.attention->forward(c, &t);
}

static oasis_status attend_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    cuda_attention_back b = {.forward = cuda_task_of(n), .wants_bias = n->in[3] && n->in[3]->grad};
    b.scratch = oas_scratch(g, c->tables.attention->backward_scratch(&b));
    if (g->planning || g->status < 0)
        return g->status;
    b.dout = oas_gradient_of(n->out);
    b.dq = oas_gradient_of(n->in[0]);
    b.dk = oas_gradient_of(n->in[1]);
    b.dv = oas_gradient_of(n->in[2]);
    b.dbias = n->in[3] ? oas_gradient_of(n->in[3]) : NULL;
    return c->tables.attention->backward(c, &b);
}

static bool attend_sample(sampler *s, int i, node *n)
{
    /* Groups, queries, keys, heads, width of a head: several slabs, one key, a wide head, many keys. */
    static const int64_t sizes[][5] = {{2, 70, 33, 3, 32}, {1, 5, 1, 2, 8}, {3, 20, 20, 1, 384}, {1, 130, 513, 2, 16}};
    if (i >= 2 * (int)(sizeof sizes / sizeof *sizes))
        return false;
    const int64_t *z = sizes[i / 2];
    *(struct attend_param *)(void *)n->param = (struct attend_param){(int32_t)z[0], (int32_t)z[3]};
    n->in[0] = oas_sample_activation(s, OAS_SHAPE2(z[0] * z[1], z[3] * z[4]), 2);
    n->in[1] = oas_sample_activation(s, OAS_SHAPE2(z[0] * z[2], z[3] * z[4]), 2);
    n->in[2] = oas_sample_activation(s, OAS_SHAPE2(z[0] * z[2], z[3] * z[4]), 1);
    n->in[3] = i % 2 ? oas_sample_floats(s, OAS_SHAPE1(z[2]), 2) : NULL;
    return true;
}

const op oas_op_attend = {
    .name = "attend",
    .stage = "attention",
    .n_in = 4,
    .optional = 1u << 3,
    .shape = attend_shape,
    .keep = attend_keep,
    .accepts_cuda = attend_accepts_cuda,
    .flops = attend_flops,
    .scratch = attend_scratch,
    .forward = {[OAS_REF] = attend_ref, [OAS_CPU] = attend_cpu, [OAS_CUDA] = attend_cuda},
    .backward = {[OAS_REF] = attend_backward, [OAS_CUDA] = attend_cuda_backward},
    .sample = attend_sample,
    .tolerance = 5e-6f, /* float sums of hundreds of terms, exp good to 3e-7 */
    /* Queries scaled, weights and results rounded to bf16: scores of up to 10 are wrong by up to 2^-9 of themselves. */
    .tolerance_bf16 = 1.5e-2f,
};
