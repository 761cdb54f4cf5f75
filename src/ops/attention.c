/*
 * Routed attention: every head of a layer sees the keys that the route gives it.
 *
 *   global   all tokens of the sample
 *   intra    the tokens of the query's own frame
 *   window   the tokens at most (window-1)/2 frames, rows and columns away; what lies outside the grid does not exist
 *
 *   s_ij = q_i . k_j / sqrt(hd);   lse_i = ln sum_{j seen} exp(s_ij);   out_i = sum_{j seen} exp(s_ij - lse_i) v_j
 *
 * keep: lse, float [heads, N].  Source: OASIS, arXiv 2509.23980, section 3.2.  The fast kernels are in cpu/attention.c.
 */
#include "cpu/attention.h"
#include "cpu/attention_backward.h"
#include "cuda/attention.h"
#include "ops/op.h"
#include "tensor/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct attention_param {
    token_grid grid;
    const route_layer *route;
} attention_param;

extern const op oas_op_attention;

bool oas_route_sees(oas_head_kind kind, const int window[3], const token_grid *grid, int64_t query, int64_t key)
{
    int64_t plane = grid->height * grid->width;
    switch (kind) {
    case OAS_HEAD_GLOBAL: return true;
    case OAS_HEAD_INTRA: return query / plane == key / plane;
    case OAS_HEAD_WINDOW:
        return llabs(query / plane - key / plane) <= window[0] / 2 &&
               llabs(query % plane / grid->width - key % plane / grid->width) <= window[1] / 2 &&
               llabs(query % grid->width - key % grid->width) <= window[2] / 2;
    }
    return false;
}

tensor *oas_attention(graph *g, tensor *q, tensor *k, tensor *v, const token_grid *grid, const route_layer *route)
{
    attention_param param = {.grid = *grid, .route = route};
    return oas_apply(g, &oas_op_attention, (tensor *[]){q, k, v}, &param, sizeof param);
}

static bool grid_has(const token_grid *grid, int64_t tokens)
{
    const int64_t sizes[4] = {grid->batch, grid->frames, grid->height, grid->width};
    for (int i = 0; i < 4; i++) {
        if (sizes[i] <= 0 || tokens % sizes[i] != 0)
            return false;
        tokens /= sizes[i];
    }
    return tokens == 1;
}

static bool route_is_valid(graph *g, const route_layer *route)
{
    if (route->heads < 1 || route->heads > OAS_MAX_HEADS)
        return oas_op_refuse(g, "attention: the route has %d heads, expected 1 to %d", route->heads, OAS_MAX_HEADS);
    bool windows = false;
    for (int h = 0; h < route->heads; h++) {
        char kind = route->kind[h];
        if (kind != OAS_HEAD_GLOBAL && kind != OAS_HEAD_INTRA && kind != OAS_HEAD_WINDOW)
            return oas_op_refuse(g, "attention: head %d of the route has kind %d, expected 'g', 'i' or 'w'", h, kind);
        windows = windows || kind == OAS_HEAD_WINDOW;
    }
    const int *w = route->window;
    if (windows && (w[0] < 1 || w[1] < 1 || w[2] < 1 || w[0] % 2 == 0 || w[1] % 2 == 0 || w[2] % 2 == 0))
        return oas_op_refuse(g, "attention: the window is %dx%dx%d, expected odd sizes", w[0], w[1], w[2]);
    return true;
}

static bool attention_shape(graph *g, node *n)
{
    const attention_param *p = OAS_PARAM(attention_param, n);
    const tensor *q = n->in[0];
    if (!route_is_valid(g, p->route))
        return false;
    for (int i = 1; i < 3; i++)
        if (!oas_shape_equal(&q->shape, &n->in[i]->shape) || q->dtype != n->in[i]->dtype)
            return oas_op_refuse(g, "attention: %s is %s %s, expected %s %s like q", i == 1 ? "k" : "v",
                                 oas_dtype_name(n->in[i]->dtype), oas_shape_text(&n->in[i]->shape).text,
                                 oas_dtype_name(q->dtype), oas_shape_text(&q->shape).text);
    const token_grid *t = &p->grid;
    if (q->shape.rank != 2 || !grid_has(t, q->shape.size[0]))
        return oas_op_refuse(g, "attention: q is %s, expected [N, heads*hd] with N = %lld*%lld*%lld*%lld",
                             oas_shape_text(&q->shape).text, (long long)t->batch, (long long)t->frames,
                             (long long)t->height, (long long)t->width);
    if (q->shape.size[1] < 1 || q->shape.size[1] % p->route->heads != 0)
        return oas_op_refuse(g, "attention: a width of %lld does not divide into %d heads", (long long)q->shape.size[1],
                             p->route->heads);
    n->out->shape = q->shape;
    n->out->dtype = q->dtype;
    return true;
}

static size_t attention_keep(const node *n)
{
    return (size_t)n->in[0]->shape.size[0] * (size_t)OAS_PARAM(attention_param, n)->route->heads * sizeof(float);
}

/* How many pairs (query, key) of `size` places in a row are at most radius apart. */
static double pairs_within(int64_t size, int64_t radius)
{
    double n = (double)size, r = radius < size ? (double)radius : n - 1;
    return n * (2 * r + 1) - r * (r + 1);
}

static double attention_flops(const node *n)
{
    const attention_param *p = OAS_PARAM(attention_param, n);
    const token_grid *t = &p->grid;
    double plane = (double)(t->height * t->width), frames = (double)t->frames, pairs = 0;
    for (int h = 0; h < p->route->heads; h++)
        switch ((oas_head_kind)p->route->kind[h]) {
        case OAS_HEAD_GLOBAL: pairs += frames * frames * plane * plane; break;
        case OAS_HEAD_INTRA: pairs += frames * plane * plane; break;
        case OAS_HEAD_WINDOW:
            pairs += pairs_within(t->frames, p->route->window[0] / 2) *
                     pairs_within(t->height, p->route->window[1] / 2) * pairs_within(t->width, p->route->window[2] / 2);
            break;
        }
    return 4 * pairs * (double)t->batch * (double)(n->in[0]->shape.size[1] / p->route->heads);
}

/* ---- the definition ------------------------------------------------------------------------------------------------ */

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* One head of one sample as rows: value c of token i is at [i*stride + c]. */
typedef struct head_rows {
    oas_head_kind kind;
    const int *window;
    const token_grid *grid;
    int64_t tokens, stride, hd;
    double scale;
} head_rows;

static head_rows head_of(const node *n, int head)
{
    const attention_param *p = OAS_PARAM(attention_param, n);
    int64_t stride = n->in[0]->shape.size[1], hd = stride / p->route->heads;
    return (head_rows){.kind = (oas_head_kind)p->route->kind[head],
                       .window = p->route->window,
                       .grid = &p->grid,
                       .tokens = n->in[0]->shape.size[0] / p->grid.batch,
                       .stride = stride,
                       .hd = hd,
                       .scale = 1 / sqrt((double)hd)};
}

/* ln sum_{j seen by i} exp(s_ij); `q` is the query's row. */
static double log_sum_exp(const head_rows *r, int64_t i, const float *q, const float *k)
{
    double top = -INFINITY, total = 0;
    for (int64_t j = 0; j < r->tokens; j++) {
        if (!oas_route_sees(r->kind, r->window, r->grid, i, j))
            continue;
        double s = r->scale * dot(q, k + j * r->stride, r->hd);
        if (s > top) {
            total *= exp(top - s);
            top = s;
        }
        total += exp(s - top);
    }
    return top + log(total);
}

enum { REF_CHANNELS = 64 }; /* that are summed at once, so that no scratch is needed */

static void attend(const head_rows *r, const float *q, const float *k, const float *v, float *out, float *lse)
{
    for (int64_t i = 0; i < r->tokens; i++) {
        const float *qi = q + i * r->stride;
        double norm = log_sum_exp(r, i, qi, k);
        if (lse)
            lse[i] = (float)norm;
        for (int64_t begin = 0; begin < r->hd; begin += REF_CHANNELS) {
            int64_t count = r->hd - begin < REF_CHANNELS ? r->hd - begin : REF_CHANNELS;
            double sum[REF_CHANNELS] = {0};
            for (int64_t j = 0; j < r->tokens; j++) {
                if (!oas_route_sees(r->kind, r->window, r->grid, i, j))
                    continue;
                double p = exp(r->scale * dot(qi, k + j * r->stride, r->hd) - norm);
                for (int64_t c = 0; c < count; c++)
                    sum[c] += p * (double)v[j * r->stride + begin + c];
            }
            for (int64_t c = 0; c < count; c++)
                out[i * r->stride + begin + c] = (float)sum[c];
        }
    }
}

static oasis_status attention_ref(graph *g, const node *n)
{
    (void)g;
    const attention_param *p = OAS_PARAM(attention_param, n);
    int64_t all = n->in[0]->shape.size[0];
    const float *q = oas_f32(n->in[0]), *k = oas_f32(n->in[1]), *v = oas_f32(n->in[2]);
    float *out = oas_f32(n->out), *lse = n->keep;
    for (int64_t b = 0; b < p->grid.batch; b++)
        for (int h = 0; h < p->route->heads; h++) {
            head_rows r = head_of(n, h);
            int64_t at = b * r.tokens * r.stride + h * r.hd;
            attend(&r, q + at, k + at, v + at, out + at, lse ? lse + h * all + b * r.tokens : NULL);
        }
    return OASIS_OK;
}

/* Where a gradient is added; each may be NULL. */
typedef struct head_gradients {
    float *q, *k, *v;
} head_gradients;

/*
 * Forward was out_i = sum_j p_ij v_j with p_ij = exp(s_ij - lse_i), s_ij = scale q_i.k_j.  So
 *   dv_j += p_ij dout_i;   ds_ij = p_ij (dout_i.v_j - dout_i.out_i);   dq_i += scale ds_ij k_j;   dk_j += scale ds_ij q_i
 */
static void attend_backward(const head_rows *r, const float *q, const float *k, const float *v, const float *out,
                            const float *lse, const float *dout, head_gradients d)
{
    for (int64_t i = 0; i < r->tokens; i++) {
        int64_t a = i * r->stride;
        double mean = dot(dout + a, out + a, r->hd);
        for (int64_t j = 0; j < r->tokens; j++) {
            if (!oas_route_sees(r->kind, r->window, r->grid, i, j))
                continue;
            int64_t b = j * r->stride;
            double weight = exp(r->scale * dot(q + a, k + b, r->hd) - (double)lse[i]);
            float p = (float)weight;
            float ds = (float)(r->scale * weight * (dot(dout + a, v + b, r->hd) - mean));
            for (int64_t c = 0; c < r->hd; c++) {
                if (d.v)
                    d.v[b + c] += p * dout[a + c];
                if (d.q)
                    d.q[a + c] += ds * k[b + c];
                if (d.k)
                    d.k[b + c] += ds * q[a + c];
            }
        }
    }
}

static float *gradient_at(const tensor *t, int64_t at)
{
    return t->grad ? oas_f32(t->grad) + at : NULL;
}

static oasis_status attention_ref_backward(graph *g, const node *n)
{
    if (g->planning)
        return OASIS_OK;
    const attention_param *p = OAS_PARAM(attention_param, n);
    const float *q = oas_f32(n->in[0]), *k = oas_f32(n->in[1]), *v = oas_f32(n->in[2]), *out = oas_f32(n->out);
    const float *dout = oas_f32(n->out->grad), *lse = n->keep;
    for (int64_t b = 0; b < p->grid.batch; b++)
        for (int h = 0; h < p->route->heads; h++) {
            head_rows r = head_of(n, h);
            int64_t at = b * r.tokens * r.stride + h * r.hd;
            head_gradients d = {gradient_at(n->in[0], at), gradient_at(n->in[1], at), gradient_at(n->in[2], at)};
            attend_backward(&r, q + at, k + at, v + at, out + at, lse + h * n->in[0]->shape.size[0] + b * r.tokens,
                            dout + at, d);
        }
    return OASIS_OK;
}

/* ---- fast ---------------------------------------------------------------------------------------------------------- */

static bool attention_accepts(const graph *g, const node *n)
{
    (void)g;
    return n->in[0]->shape.size[1] / OAS_PARAM(attention_param, n)->route->heads <= OAS_ATTENTION_MAX_HEAD_DIM;
}

/* Writes one job per head; pointers stay NULL while the graph plans. */
static attention_task task_of(const node *n, attention_job *job)
{
    const attention_param *p = OAS_PARAM(attention_param, n);
    const token_grid *t = &p->grid;
    const tensor *q = n->in[0];
    int64_t hd = q->shape.size[1] / p->route->heads;
    for (int h = 0; h < p->route->heads; h++) {
        job[h] = (attention_job){.groups = t->batch, .frames = t->frames, .height = t->height, .width = t->width};
        if (p->route->kind[h] == OAS_HEAD_INTRA) {
            job[h].groups = t->batch * t->frames;
            job[h].frames = 1;
        } else if (p->route->kind[h] == OAS_HEAD_WINDOW) {
            memcpy(job[h].window, p->route->window, sizeof job[h].window);
        }
        if (!n->out->data)
            continue;
        size_t at = (size_t)(h * hd) * oas_dtype_size(q->dtype);
        job[h].q = (const char *)q->data + at;
        job[h].k = (const char *)n->in[1]->data + at;
        job[h].v = (const char *)n->in[2]->data + at;
        job[h].out = (char *)n->out->data + at;
        job[h].lse = n->keep ? (float *)n->keep + h * q->shape.size[0] : NULL;
    }
    return (attention_task){q->dtype, (int)hd, q->shape.size[1], p->route->heads, job};
}

static size_t attention_scratch(graph *g, const node *n)
{
    attention_job job[OAS_MAX_HEADS];
    attention_task task = task_of(n, job);
    return oas_attention_scratch(g->device->level, &task, oas_pool_workers(g->device->pool));
}

static oasis_status attention_cpu(graph *g, const node *n)
{
    attention_job job[OAS_MAX_HEADS];
    attention_task task = task_of(n, job);
    void *scratch = oas_scratch(g, attention_scratch(g, n));
    if (!scratch)
        return g->status;
    oas_attention_run(g->device->level, &task, g->device->pool, scratch);
    return OASIS_OK;
}

/* The gradient of head h of an input; NULL = not wanted. */
static float *head_gradient(const tensor *t, int64_t at)
{
    float *gradient = oas_gradient_of(t);
    return gradient ? gradient + at : NULL;
}

static oasis_status attention_cpu_backward(graph *g, const node *n)
{
    attention_job forward[OAS_MAX_HEADS];
    attention_back_job job[OAS_MAX_HEADS];
    attention_task task = task_of(n, forward);
    for (int h = 0; h < task.jobs; h++) {
        const attention_job *f = &forward[h];
        int64_t at = (int64_t)h * task.head_dim;
        job[h] = (attention_back_job){.groups = f->groups, .frames = f->frames, .height = f->height, .width = f->width};
        memcpy(job[h].window, f->window, sizeof job[h].window);
        if (g->planning)
            continue;
        job[h].q = f->q, job[h].k = f->k, job[h].v = f->v, job[h].out = f->out, job[h].lse = f->lse;
        job[h].dout = oas_gradient_of(n->out) + at;
        job[h].dq = head_gradient(n->in[0], at);
        job[h].dk = head_gradient(n->in[1], at);
        job[h].dv = head_gradient(n->in[2], at);
    }
    attention_back_task back = {task.dtype, task.head_dim, task.stride, task.jobs, job};
    return oas_attention_backward(g, &back);
}

/* ---- on a GPU ------------------------------------------------------------------------------------------------------ */

static bool attention_accepts_cuda(const graph *g, const node *n)
{
    (void)g;
    int heads = OAS_PARAM(attention_param, n)->route->heads;
    return heads <= CUDA_ATTENTION_MAX_HEADS && n->in[0]->shape.size[1] / heads <= CUDA_ATTENTION_MAX_HEAD_DIM;
}

static cuda_attention_task cuda_task_of(const node *n)
{
    const attention_param *p = OAS_PARAM(attention_param, n);
    const tensor *q = n->in[0];
    cuda_attention_task t = {.dtype = (int32_t)q->dtype, .heads = p->route->heads, .lse = n->keep};
    t.head_dim = (int32_t)(q->shape.size[1] / p->route->heads);
    t.q = q->data, t.k = n->in[1]->data, t.v = n->in[2]->data, t.out = n->out->data;
    t.kind = p->route->kind;
    t.batch = p->grid.batch, t.frames = p->grid.frames, t.height = p->grid.height, t.width = p->grid.width;
    for (int i = 0; i < 3; i++)
        t.window[i] = p->route->window[i];
    return t;
}

static oasis_status attention_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    cuda_attention_task t = cuda_task_of(n);
    return g->planning ? OASIS_OK : c->tables.attention->forward(c, &t);
}

static oasis_status attention_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    cuda_attention_back b = {.forward = cuda_task_of(n)};
    b.scratch = oas_scratch(g, c->tables.attention->backward_scratch(&b));
    if (g->planning || g->status < 0)
        return g->status;
    b.dout = oas_gradient_of(n->out);
    b.dq = oas_gradient_of(n->in[0]);
    b.dk = oas_gradient_of(n->in[1]);
    b.dv = oas_gradient_of(n->in[2]);
    return c->tables.attention->backward(c, &b);
}

static bool attention_sample(sampler *s, int i, node *n)
{
    /* Frames, rows, columns: one token, narrower than the window, odd, some tiles; all kinds of heads. */
    static const token_grid grids[] = {{1, 1, 1, 2}, {1, 2, 3, 3}, {2, 3, 5, 7}, {1, 5, 9, 11}, {1, 2, 12, 12}};
    static const route_layer route = {4, {'g', 'i', 'w', 'w'}, {3, 5, 5}};
    static const int64_t widths[] = {8, 16, 64, 128};
    if (i >= 2 * (int)(sizeof grids / sizeof *grids))
        return false;
    token_grid grid = grids[i / 2];
    shape size = OAS_SHAPE2(oas_grid_tokens(&grid), route.heads * widths[i % 4]);
    *(attention_param *)(void *)n->param = (attention_param){.grid = grid, .route = &route};
    for (int k = 0; k < 3; k++)
        n->in[k] = oas_sample_activation(s, size, 2);
    return true;
}

const op oas_op_attention = {
    .name = "attention",
    .stage = "attention",
    .n_in = 3,
    .shape = attention_shape,
    .keep = attention_keep,
    .flops = attention_flops,
    .accepts = attention_accepts,
    .accepts_cuda = attention_accepts_cuda,
    .scratch = attention_scratch,
    .forward = {[OAS_REF] = attention_ref, [OAS_CPU] = attention_cpu, [OAS_CUDA] = attention_cuda},
    .backward =
        {[OAS_REF] = attention_ref_backward, [OAS_CPU] = attention_cpu_backward, [OAS_CUDA] = attention_cuda_backward},
    .sample = attention_sample,
    /* fp32 weights and sums over up to thousands of keys, and exp good to 3e-7. */
    .tolerance = 2e-5f,
    /* Weights and results rounded to bf16, each by 2^-8 at most and far less in the mean: together below 2^-8. */
    .tolerance_bf16 = 4e-3f,
};
