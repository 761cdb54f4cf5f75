/*
 * The way back through attention.  Per head and group:
 *
 *     copy q, k, v, dout to rows without gaps;  t_i = dout_i . out_i
 *     for each block of queries:   s = q k^T,  dp = dout v^T,  p and e,  dv += p^T dout,  dk += e^T q,  dq = e k
 *
 * Dense heads see all keys of their group.  A window head's block is some rows of one frame; its keys are the rows and
 * frames near by, gathered, and a mask leaves out those too far in a row.
 */
#include "cpu/attention_backward.h"

#include "cpu/device.h"
#include "cpu/dnnl.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

weigh_back_fn oas_weigh_back_plain;
#define WEIGH_BACK oas_weigh_back_plain
#include "cpu/attention_backward_kernel.h"

enum { BLOCK_QUERIES = 64 };

/* How a head is cut. */
typedef struct head_plan {
    const attention_back_job *job;
    int64_t tokens;              /* of a group */
    int64_t rows;                /* of a window head's block, 0 = dense */
    int64_t queries, keys;       /* of a block, padded: the sizes of the products */
    const dnnl_job *scores, *to_keys, *to_queries;
} head_plan;

/* A worker's scratch for the largest head. */
typedef struct head_scratch {
    char *q, *k, *v, *dout;      /* [tokens + padding, head_dim] */
    float *dq, *dk, *dv, *t;
    float *s, *dp, *mask;        /* [queries, keys]; mask [keys] */
    char *p, *e;                 /* [queries, keys] */
    char *near_k, *near_v;       /* [keys, head_dim] of a window head's block */
    float *near_dk, *near_dv;
    char *block_q, *block_dout;  /* [queries, head_dim] */
    void *dnnl;
} head_scratch;

typedef struct back {
    graph *g;
    const attention_back_task *task;
    head_plan *plan;             /* one per job */
    size_t element, each, dnnl_bytes;
    int64_t most_tokens, most_queries, most_keys;
    char *memory;
    weigh_back_fn *weigh;
    atomic_int status;
} back;

static int64_t least_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Lays the scratch out from `base` (NULL: only counts); returns its bytes. */
static size_t lay_out(const back *b, char *base, head_scratch *s)
{
    size_t hd = (size_t)b->task->head_dim, tokens = (size_t)b->most_tokens, queries = (size_t)b->most_queries;
    size_t keys = (size_t)b->most_keys, e = b->element, f = sizeof(float), used = 0;
    const struct {
        void *pointer;
        size_t bytes;
    } parts[] = {{&s->q, tokens * hd * e},        {&s->k, tokens * hd * e},     {&s->v, tokens * hd * e},
                 {&s->dout, tokens * hd * e},     {&s->dq, queries * hd * f},   {&s->dk, tokens * hd * f},
                 {&s->dv, tokens * hd * f},       {&s->t, tokens * f},          {&s->s, queries * keys * f},
                 {&s->dp, queries * keys * f},    {&s->mask, keys * f},         {&s->p, queries * keys * e},
                 {&s->e, queries * keys * e},     {&s->near_k, keys * hd * e},  {&s->near_v, keys * hd * e},
                 {&s->near_dk, keys * hd * f},    {&s->near_dv, keys * hd * f}, {&s->block_q, queries * hd * e},
                 {&s->block_dout, queries * hd * e}, {&s->dnnl, b->dnnl_bytes}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        void *at = base ? base + used : NULL;
        memcpy(parts[i].pointer, &at, sizeof at);
        used += oas_aligned(parts[i].bytes);
    }
    return used;
}

static const dnnl_job *product(back *b, int kind, int64_t rows, int64_t in, int64_t out, bool add)
{
    dnnl_spec spec = {.product = kind, .rows = rows, .in = in, .out = out, .residual = add};
    spec.in_type = (int32_t)b->task->dtype;
    spec.out_type = OAS_F32;
    spec.width = kind == OAS_WEIGHT_GRADIENT ? out : 0;
    const dnnl_job *job = oas_dnnl_job(b->g->device->dnnl, &spec, b->g);
    if (job && oas_dnnl_scratch_bytes(job) > b->dnnl_bytes)
        b->dnnl_bytes = oas_dnnl_scratch_bytes(job);
    return job;
}

static bool plan_head(back *b, const attention_back_job *job, head_plan *p)
{
    int64_t hd = b->task->head_dim;
    *p = (head_plan){.job = job, .tokens = job->frames * job->height * job->width};
    p->queries = least_of(BLOCK_QUERIES, p->tokens);
    p->keys = p->tokens;
    if (job->window[0] > 0) {
        p->rows = least_of(most_of(1, BLOCK_QUERIES / job->width), job->height);
        p->queries = p->rows * job->width;
        p->keys = least_of(job->window[0], job->frames) * least_of(p->rows + job->window[1] - 1, job->height) * job->width;
    }
    p->scores = product(b, OAS_TIMES_TRANSPOSED, p->queries, hd, p->keys, false);
    p->to_keys = product(b, OAS_WEIGHT_GRADIENT, p->queries, hd, p->keys, true);
    p->to_queries = product(b, OAS_TIMES_PLAIN, p->queries, p->keys, hd, false);
    b->most_tokens = most_of(b->most_tokens, p->tokens);
    b->most_queries = most_of(b->most_queries, p->queries);
    b->most_keys = most_of(b->most_keys, p->keys);
    return p->scores && p->to_keys && p->to_queries;
}

/* Rows of a head, without gaps. */
static void copy_rows(const back *b, const void *from, int64_t rows, char *to)
{
    size_t row = (size_t)b->task->head_dim * b->element, stride = (size_t)b->task->stride * b->element;
    for (int64_t i = 0; i < rows; i++)
        memcpy(to + (size_t)i * row, (const char *)from + (size_t)i * stride, row);
}

static void copy_dout(const back *b, const head_plan *p, int64_t first, head_scratch *s)
{
    int64_t hd = b->task->head_dim, stride = b->task->stride;
    const char *out = (const char *)p->job->out + (size_t)(first * stride) * b->element;
    for (int64_t i = 0; i < p->tokens; i++) {
        const float *dout = p->job->dout + (first + i) * stride;
        oas_convert(s->dout + (size_t)(i * hd) * b->element, b->task->dtype, dout, OAS_F32, hd);
        oas_convert(s->near_dk, OAS_F32, out + (size_t)(i * stride) * b->element, b->task->dtype, hd);
        float t = 0;
        for (int64_t c = 0; c < hd; c++)
            t += dout[c] * s->near_dk[c];
        s->t[i] = t;
    }
}

static void run_product(back *b, const dnnl_job *job, int worker, const void *x, const void *w, float *y,
                        const head_scratch *s)
{
    oasis_status status = oas_dnnl_run(b->g->device->dnnl, job, worker, x, w, NULL, y, s->dnnl);
    if (status < 0)
        atomic_store(&b->status, (int)status);
}

static void add_rows(const back *b, const float *from, int64_t rows, float *to)
{
    for (int64_t i = 0; to && i < rows; i++)
        for (int64_t c = 0; c < b->task->head_dim; c++)
            to[i * b->task->stride + c] += from[i * b->task->head_dim + c];
}

/* A block's products: queries and their dout, keys and values with their gradients. */
typedef struct block {
    const char *q, *dout, *k, *v;
    float *dk, *dv;
    int64_t first, count; /* tokens of the group; count queries are there, the rest is padding */
} block;

static void run_block(back *b, const head_plan *p, int worker, const head_scratch *s, const block *k, int64_t group,
                      void (*mask)(const head_plan *p, const block *k, int64_t query, float *to))
{
    int64_t first = group * p->tokens + k->first;
    run_product(b, p->scores, worker, k->q, k->k, s->s, s);
    run_product(b, p->scores, worker, k->dout, k->v, s->dp, s);
    for (int64_t i = 0; i < p->queries; i++) {
        size_t at = (size_t)(i * p->keys);
        if (i >= k->count) { /* padding */
            memset(s->p + at * b->element, 0, (size_t)p->keys * b->element);
            memset(s->e + at * b->element, 0, (size_t)p->keys * b->element);
            continue;
        }
        weigh_back w = {(float)(1 / sqrt((double)b->task->head_dim)), p->job->lse[first + i], s->t[k->first + i], NULL};
        if (mask) {
            mask(p, k, i, s->mask);
            w.mask = s->mask;
        }
        b->weigh(&w, s->s + at, s->dp + at, s->p + at * b->element, s->e + at * b->element, b->task->dtype, p->keys);
    }
    run_product(b, p->to_keys, worker, s->p, k->dout, k->dv, s);
    run_product(b, p->to_keys, worker, s->e, k->q, k->dk, s);
    run_product(b, p->to_queries, worker, s->e, k->k, s->dq, s);
    add_rows(b, s->dq, k->count, p->job->dq ? p->job->dq + first * b->task->stride : NULL);
}

/* The queries first .. first+count-1 of the group as a block, padded with zeros. */
static void take_queries(const back *b, const head_plan *p, const head_scratch *s, block *k)
{
    size_t row = (size_t)b->task->head_dim * b->element, used = (size_t)k->count * row, all = (size_t)p->queries * row;
    k->q = s->q + (size_t)k->first * row;
    k->dout = s->dout + (size_t)k->first * row;
    if (k->count == p->queries)
        return;
    memcpy(s->block_q, k->q, used);
    memset(s->block_q + used, 0, all - used);
    memcpy(s->block_dout, k->dout, used);
    memset(s->block_dout + used, 0, all - used);
    k->q = s->block_q;
    k->dout = s->block_dout;
}

static void dense_blocks(back *b, const head_plan *p, int64_t group, int worker, const head_scratch *s)
{
    for (int64_t first = 0; first < p->tokens; first += p->queries) {
        block k = {.k = s->k, .v = s->v, .dk = s->dk, .dv = s->dv, .first = first};
        k.count = least_of(p->queries, p->tokens - first);
        take_queries(b, p, s, &k);
        run_block(b, p, worker, s, &k, group, NULL);
    }
}

/* The frames and rows that the block of rows y0 .. of frame f can see; their keys lie frame by frame, row by row. */
typedef struct surroundings {
    int64_t f0, f1, y0, y1; /* ends are outside */
} surroundings;

static surroundings around(const head_plan *p, int64_t first)
{
    const attention_back_job *j = p->job;
    int64_t plane = j->height * j->width, f = first / plane, y = first % plane / j->width;
    return (surroundings){most_of(0, f - j->window[0] / 2), least_of(j->frames, f + j->window[0] / 2 + 1),
                          most_of(0, y - j->window[1] / 2), least_of(j->height, y + p->rows + j->window[1] / 2)};
}

static void window_mask(const head_plan *p, const block *k, int64_t query, float *to)
{
    const attention_back_job *j = p->job;
    surroundings a = around(p, k->first);
    int64_t y = k->first % (j->height * j->width) / j->width + query / j->width, x = query % j->width, n = 0;
    for (int64_t f = a.f0; f < a.f1; f++)
        for (int64_t row = a.y0; row < a.y1; row++)
            for (int64_t c = 0; c < j->width; c++)
                to[n++] = llabs(row - y) <= j->window[1] / 2 && llabs(c - x) <= j->window[2] / 2 ? 1.f : 0.f;
    for (; n < p->keys; n++)
        to[n] = 0.f;
}

/* Copies the keys and values around a block, or with `back` adds their gradients to those of the head. */
static void move_near(const back *b, const head_plan *p, int64_t first, const head_scratch *s, bool backwards)
{
    const attention_back_job *j = p->job;
    surroundings a = around(p, first);
    int64_t hd = b->task->head_dim, run = (a.y1 - a.y0) * j->width, n = 0;
    for (int64_t f = a.f0; f < a.f1; f++, n += run) {
        int64_t from = (f * j->height + a.y0) * j->width;
        size_t row = (size_t)hd * b->element;
        for (int64_t i = 0; backwards && i < run * hd; i++) {
            s->dk[from * hd + i] += s->near_dk[n * hd + i];
            s->dv[from * hd + i] += s->near_dv[n * hd + i];
        }
        if (!backwards) {
            memcpy(s->near_k + (size_t)n * row, s->k + (size_t)from * row, (size_t)run * row);
            memcpy(s->near_v + (size_t)n * row, s->v + (size_t)from * row, (size_t)run * row);
        }
    }
    if (backwards)
        return;
    memset(s->near_k + (size_t)(n * hd) * b->element, 0, (size_t)((p->keys - n) * hd) * b->element);
    memset(s->near_v + (size_t)(n * hd) * b->element, 0, (size_t)((p->keys - n) * hd) * b->element);
    memset(s->near_dk, 0, (size_t)(p->keys * hd) * sizeof(float));
    memset(s->near_dv, 0, (size_t)(p->keys * hd) * sizeof(float));
}

static void window_blocks(back *b, const head_plan *p, int64_t group, int worker, const head_scratch *s)
{
    const attention_back_job *j = p->job;
    for (int64_t f = 0; f < j->frames; f++) {
        for (int64_t y = 0; y < j->height; y += p->rows) {
            block k = {.k = s->near_k, .v = s->near_v, .dk = s->near_dk, .dv = s->near_dv};
            k.first = (f * j->height + y) * j->width;
            k.count = least_of(p->rows, j->height - y) * j->width;
            move_near(b, p, k.first, s, false);
            take_queries(b, p, s, &k);
            run_block(b, p, worker, s, &k, group, window_mask);
            move_near(b, p, k.first, s, true);
        }
    }
}

/* A head of a group. */
static void back_slab(void *arg, int64_t slab, int worker)
{
    back *b = arg;
    const head_plan *p = b->plan;
    while (slab >= p->job->groups)
        slab -= (p++)->job->groups;
    head_scratch s;
    lay_out(b, b->memory + (size_t)worker * b->each, &s);
    int64_t first = slab * p->tokens, hd = b->task->head_dim;
    size_t at = (size_t)(first * b->task->stride) * b->element;
    copy_rows(b, (const char *)p->job->q + at, p->tokens, s.q);
    copy_rows(b, (const char *)p->job->k + at, p->tokens, s.k);
    copy_rows(b, (const char *)p->job->v + at, p->tokens, s.v);
    copy_dout(b, p, first, &s);
    memset(s.dk, 0, (size_t)(p->tokens * hd) * sizeof(float));
    memset(s.dv, 0, (size_t)(p->tokens * hd) * sizeof(float));
    (p->rows ? window_blocks : dense_blocks)(b, p, slab, worker, &s);
    add_rows(b, s.dk, p->tokens, p->job->dk ? p->job->dk + first * b->task->stride : NULL);
    add_rows(b, s.dv, p->tokens, p->job->dv ? p->job->dv + first * b->task->stride : NULL);
}

static weigh_back_fn *choose(oas_cpu_level level)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (level >= OAS_LEVEL_AVX2)
        return level >= OAS_LEVEL_AVX512 ? oas_weigh_back_avx512 : oas_weigh_back_avx2;
#endif
    (void)level;
    return oas_weigh_back_plain;
}

oasis_status oas_attention_backward(graph *g, const attention_back_task *task)
{
    back b = {.g = g, .task = task, .element = oas_dtype_size(task->dtype), .weigh = choose(g->device->level)};
    b.plan = oas_graph_small(g, (size_t)task->jobs * sizeof *b.plan);
    int64_t slabs = 0;
    for (int i = 0; b.plan && i < task->jobs; i++) {
        if (!plan_head(&b, &task->job[i], &b.plan[i]))
            return g->status < 0 ? g->status : OASIS_E_DEVICE;
        slabs += task->job[i].groups;
    }
    head_scratch nothing;
    b.each = lay_out(&b, NULL, &nothing);
    b.memory = oas_scratch(g, b.each * (size_t)oas_pool_workers(g->device->pool));
    if (g->status < 0 || g->planning)
        return g->status;
    oas_pool_run(g->device->pool, slabs, back_slab, &b);
    return (oasis_status)atomic_load(&b.status);
}
