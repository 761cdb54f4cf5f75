/*
 * A part of an attention layer: the heads that see alike, which one launch computes.
 */
#ifndef OAS_CUDA_ATTENTION_PART_CUH
#define OAS_CUDA_ATTENTION_PART_CUH

#include "cuda/attention.h"
#include "cuda/kernel.cuh"

#include <math.h>

/*
 * What a kernel gets.  The heads of a part attend within segments; each has own_rows rows on the side that the threads
 * own (forward: queries) and other_rows on the other.
 */
struct attention_args {
    const void *own[2], *other[2]; /* forward q; k, v.  dq: q, dout; k, v.  dk and dv: k, v; q, dout */
    void *result[2];               /* out; dq; dk, dv: NULL = not wanted */
    float *lse;                    /* [heads, all queries]; forward: written, or NULL */
    const float *delta;            /* [heads, all queries]: dout . out */
    const float *bias;             /* [keys], or NULL */
    float *row_sums;               /* [segments, heads of the part, keys]: sums for dbias, or NULL */
    int64_t stride;                /* values from row to row */
    int64_t queries;               /* of all segments */
    int64_t segments;
    int32_t own_rows, other_rows;  /* of a segment */
    int32_t tiles;                 /* of a segment */
    int32_t frames, height, width; /* of a segment of window heads */
    int32_t reach[3];              /* window/2; -1: every key */
    int32_t head_dim, dtype;
    int32_t heads;                 /* of the part */
    float scale;                   /* 1 / sqrt(head_dim) */
    unsigned char head[CUDA_ATTENTION_MAX_HEADS];
};

/* Which tile, head and segment a block of threads (or a warp) works on. */
struct attention_place {
    int tile, slot, head;
    int64_t segment;

    __device__ attention_place(const attention_args &a, int64_t index)
    {
        tile = (int)(index % a.tiles);
        index /= a.tiles;
        slot = (int)(index % a.heads);
        segment = index / a.heads;
        head = a.head[slot];
    }
};

/* ---- launchers: the host's side; fn(c, a) puts one part's work on the stream ----------------------------------------- */

enum { PARTS = 3, WINDOW_TILE = 8 };

/* Cuts a task into at most PARTS parts; returns how many. */
int oas_attention_parts(attention_args part[PARTS], const cuda_attention_task *task);

static inline bool part_has_window(const attention_args *a)
{
    return a->reach[0] >= 0;
}

oasis_status oas_attention_forward_tiles(oas_cuda *c, const attention_args *a);

/* By warpgroups: parts that suit them, see part_suits_groups. */
bool oas_attention_has_groups(const oas_cuda *c);
oasis_status oas_attention_forward_groups(oas_cuda *c, const attention_args *a);
oasis_status oas_attention_dq_groups(oas_cuda *c, const attention_args *a);
oasis_status oas_attention_dkv_groups(oas_cuda *c, const attention_args *a);

oasis_status oas_attention_dq_tiles(oas_cuda *c, const attention_args *a);
oasis_status oas_attention_dkv_tiles(oas_cuda *c, const attention_args *a);
oasis_status oas_attention_forward_plain(oas_cuda *c, const attention_args *a);
oasis_status oas_attention_dq_plain(oas_cuda *c, const attention_args *a);
oasis_status oas_attention_dkv_plain(oas_cuda *c, const attention_args *a);

/* Tiles of a segment with so many own rows each; window heads: of WINDOW_TILE squared. */
static inline int32_t part_tiles(const attention_args *a, int32_t rows)
{
    if (!part_has_window(a))
        return (a->own_rows + rows - 1) / rows;
    return a->frames * ((a->height + WINDOW_TILE - 1) / WINDOW_TILE) * ((a->width + WINDOW_TILE - 1) / WINDOW_TILE);
}

/* Heads of 33 to 128 channels without a window, and enough work for every processor. */
static inline bool part_suits_groups(const oas_cuda *c, const attention_args *a)
{
    int64_t blocks = (int64_t)part_tiles(a, 128) * a->heads * a->segments;
    return !part_has_window(a) && a->head_dim > 32 && a->head_dim <= 128 && blocks >= c->processors &&
           oas_attention_has_groups(c);
}

static inline unsigned part_blocks(const attention_args *a)
{
    return (unsigned)(a->segments * a->heads * a->tiles);
}

#endif
