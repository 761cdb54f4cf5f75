/*
 * Attention: cuts a layer into the parts whose heads see alike, a launch for each, and picks the kernels: cuDNN's where it
 * has a fused one (global and own-frame heads of bf16), or ours.  Also what the way back needs before and after its
 * kernels: delta_i = dout_i . out_i, dout in bf16, the sums for dbias.
 */
#include "cuda/attention_part.cuh"
#include "cuda/fused.h"

#include <math.h>
#include <string.h>

enum { TILE_CHANNELS = 384, TILE_CHANNELS_WINDOW = 128, TILE_CHANNELS_BACK = 128 };

/* Does a part of this kind run on tensor cores? */
static bool has_tiles(const attention_args *a, int most)
{
    return a->dtype == 1 && a->head_dim % 8 == 0 && a->head_dim <= most;
}

static bool forward_has_tiles(const attention_args *a)
{
    return has_tiles(a, part_has_window(a) ? TILE_CHANNELS_WINDOW : TILE_CHANNELS);
}

/* ---- parts --------------------------------------------------------------------------------------------------------- */

static void set_apart(attention_args *a, const cuda_attention_task *t)
{
    a->segments = t->batch;
    a->own_rows = (int32_t)t->queries;
    a->other_rows = (int32_t)t->keys;
    a->bias = t->bias;
    a->heads = t->heads;
    for (int h = 0; h < t->heads; h++)
        a->head[h] = (unsigned char)h;
}

static void set_routed(attention_args *a, const cuda_attention_task *t, char kind)
{
    a->segments = kind == 'i' ? t->batch * t->frames : t->batch;
    a->own_rows = a->other_rows = (int32_t)((kind == 'i' ? 1 : t->frames) * t->height * t->width);
    a->frames = (int32_t)t->frames;
    a->height = (int32_t)t->height;
    a->width = (int32_t)t->width;
    for (int i = 0; i < 3 && kind == 'w'; i++)
        a->reach[i] = t->window[i] / 2;
}

int oas_attention_parts(attention_args part[PARTS], const cuda_attention_task *t)
{
    attention_args common;
    memset(&common, 0, sizeof common);
    common.own[0] = t->q;
    common.other[0] = t->k;
    common.other[1] = t->v;
    common.result[0] = t->out;
    common.lse = t->lse;
    common.stride = (int64_t)t->heads * t->head_dim;
    common.queries = t->batch * (t->kind ? t->frames * t->height * t->width : t->queries);
    common.head_dim = t->head_dim;
    common.dtype = t->dtype;
    common.scale = (float)(1 / sqrt((double)t->head_dim));
    common.reach[0] = common.reach[1] = common.reach[2] = -1;
    if (!t->kind) {
        part[0] = common;
        set_apart(&part[0], t);
        return 1;
    }
    int parts = 0;
    for (const char *kind = "giw"; *kind; kind++) {
        attention_args *a = &part[parts];
        *a = common;
        set_routed(a, t, *kind);
        for (int h = 0; h < t->heads; h++) {
            char own = t->kind[h] == 'i' && t->frames == 1 ? 'g' : t->kind[h]; /* one frame: the same */
            if (own == *kind)
                a->head[a->heads++] = (unsigned char)h;
        }
        parts += a->heads > 0;
    }
    return parts;
}

/* The number of heads from slot `first` on that lie at equal steps. */
static int run_of_heads(const attention_args *a, int first)
{
    int n = 1;
    while (first + n < a->heads && a->head[first + n] - a->head[first + n - 1] == a->head[first + 1] - a->head[first])
        n++;
    return n;
}

/* Run by run of heads, by the library; OASIS_E_UNSUPPORTED: it has no way, and not all is done. */
static oasis_status forward_fused(oas_cuda *c, const attention_args *a)
{
    oasis_status s = OASIS_OK;
    for (int slot = 0, n; slot < a->heads && s == OASIS_OK; slot += n) {
        n = run_of_heads(a, slot);
        int64_t head = a->head[slot], at = head * a->head_dim, next = n > 1 ? a->head[slot + 1] : head + 1;
        const cuda_fused f = {.q = (const uint16_t *)a->own[0] + at,
                              .k = (const uint16_t *)a->other[0] + at,
                              .v = (const uint16_t *)a->other[1] + at,
                              .out = (uint16_t *)a->result[0] + at,
                              .lse = a->lse ? a->lse + head * a->queries : NULL,
                              .segments = a->segments,
                              .heads = n,
                              .rows = a->own_rows,
                              .keys = a->other_rows,
                              .head_dim = a->head_dim,
                              .stride = a->stride,
                              .head_step = (next - head) * a->head_dim,
                              .lse_step = (next - head) * a->queries,
                              .scale = a->scale};
        s = oas_cuda_fused(c, &f);
    }
    return s;
}

/* Enough work for every processor: less is faster by our own kernels, which need no plan. */
static bool suits_fused(const oas_cuda *c, const attention_args *a)
{
    int64_t blocks = (int64_t)part_tiles(a, 128) * a->heads * a->segments;
    return !part_has_window(a) && !a->bias && has_tiles(a, TILE_CHANNELS_WINDOW) && a->head_dim > 32 &&
           blocks >= c->processors;
}

static oasis_status forward_part(oas_cuda *c, const attention_args *a)
{
    oasis_status s = suits_fused(c, a) ? forward_fused(c, a) : OASIS_E_UNSUPPORTED;
    if (s != OASIS_E_UNSUPPORTED)
        return s;
    return forward_has_tiles(a) ? oas_attention_forward_tiles(c, a) : oas_attention_forward_plain(c, a);
}

static oasis_status forward(oas_cuda *c, const cuda_attention_task *task)
{
    attention_args part[PARTS];
    int parts = oas_attention_parts(part, task);
    oasis_status s = OASIS_OK;
    for (int i = 0; i < parts && s == OASIS_OK; i++)
        s = forward_part(c, &part[i]);
    return s;
}

/* ---- the way back -------------------------------------------------------------------------------------------------- */

/* delta [heads, rows] = dout . out of a head; dout in bf16 into `narrow`, or NULL.  A warp per row and head. */
static __global__ void delta_kernel(cuda_array out, const float *dout, float *delta, uint16_t *narrow,
                                    int64_t rows, int heads, int head_dim)
{
    int64_t job = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32;
    if (job >= rows * heads)
        return;
    int64_t row = job / heads, head = job % heads, at = job * head_dim;
    float sum = 0.f;
    for (int c = lane; c < head_dim; c += 32) {
        float d = dout[at + c];
        sum += d * oas_load(&out, at + c);
        if (narrow)
            narrow[at + c] = oas_bf16_store(d);
    }
    sum = oas_warp_sum(sum);
    if (lane == 0)
        delta[head * rows + row] = sum;
}

/* dbias_j += the sums of segments and heads, in order. */
static __global__ void bias_kernel(float *dbias, const float *sums, int64_t keys, int64_t parts)
{
    int64_t key = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (key >= keys)
        return;
    float sum = 0.f;
    for (int64_t i = 0; i < parts; i++)
        sum += sums[i * keys + key];
    dbias[key] += sum;
}

/* How scratch is cut: delta, sums for dbias, dout in bf16; offsets in bytes. */
struct back_scratch {
    size_t sums, narrow, bytes;
};

static back_scratch cut_scratch(const cuda_attention_back *b)
{
    attention_args part[PARTS];
    int parts = oas_attention_parts(part, &b->forward);
    back_scratch s;
    s.sums = (size_t)(part[0].queries * b->forward.heads) * sizeof(float);
    size_t sums = b->wants_bias || b->dbias ? (size_t)(part[0].segments * part[0].heads * part[0].other_rows) * sizeof(float) : 0;
    s.narrow = (s.sums + sums + 63) / 64 * 64;
    bool wants = false;
    for (int i = 0; i < parts; i++)
        wants = wants || has_tiles(&part[i], TILE_CHANNELS_BACK);
    s.bytes = s.narrow + (wants ? (size_t)(part[0].queries * part[0].stride) * sizeof(uint16_t) : 0);
    return s;
}

static size_t backward_scratch(const cuda_attention_back *back)
{
    return cut_scratch(back).bytes;
}

/* Both kernels of a part. */
static oasis_status part_backward(oas_cuda *c, const cuda_attention_back *b, const attention_args *part,
                                  const float *delta, float *sums, const uint16_t *narrow)
{
    bool tiles = has_tiles(part, TILE_CHANNELS_BACK);
    const void *dout = tiles ? (const void *)narrow : (const void *)b->dout;
    attention_args a = *part;
    a.delta = delta;
    a.own[1] = dout;
    a.result[0] = b->dq;
    oasis_status s = OASIS_OK;
    if (b->dq)
        s = tiles ? oas_attention_dq_tiles(c, &a) : oas_attention_dq_plain(c, &a);
    if (s != OASIS_OK || (!b->dk && !b->dv && !b->dbias))
        return s;
    a.own[0] = part->other[0];
    a.own[1] = part->other[1];
    a.other[0] = part->own[0];
    a.other[1] = dout;
    a.own_rows = part->other_rows;
    a.other_rows = part->own_rows;
    a.result[0] = b->dk;
    a.result[1] = b->dv;
    a.row_sums = b->dbias ? sums : NULL;
    return tiles ? oas_attention_dkv_tiles(c, &a) : oas_attention_dkv_plain(c, &a);
}

static oasis_status backward(oas_cuda *c, const cuda_attention_back *b)
{
    const cuda_attention_task *t = &b->forward;
    attention_args part[PARTS];
    int parts = oas_attention_parts(part, t);
    back_scratch cut = cut_scratch(b);
    float *delta = (float *)b->scratch, *sums = (float *)(void *)((char *)b->scratch + cut.sums);
    uint16_t *narrow = cut.bytes > cut.narrow ? (uint16_t *)(void *)((char *)b->scratch + cut.narrow) : NULL;
    enum { WARPS = 8, THREADS = WARPS * 32 };
    cuda_array out = {t->out, t->dtype};
    int64_t rows = part[0].queries, jobs = rows * t->heads;
    OAS_LAUNCH(c, delta_kernel, (unsigned)((jobs + WARPS - 1) / WARPS), THREADS, 0, out, b->dout, delta, narrow, rows,
               t->heads, t->head_dim);
    oasis_status s = oas_launched();
    for (int i = 0; i < parts && s == OASIS_OK; i++)
        s = part_backward(c, b, &part[i], delta, sums, narrow);
    if (s == OASIS_OK && b->dbias) {
        int64_t keys = part[0].other_rows;
        OAS_LAUNCH(c, bias_kernel, (unsigned)((keys + THREADS - 1) / THREADS), THREADS, 0, b->dbias, sums, keys,
                   part[0].segments * part[0].heads);
        s = oas_launched();
    }
    return s;
}

extern "C" const struct cuda_attention oas_cuda_attention = {forward, backward_scratch, backward};
