/*
 * Forward attention on tensor cores: for each stage of keys and values
 *
 *     s = q k^T;   m' = max(m, max s);   p = exp(scale (s - m'));   out = out exp(scale (m - m')) + p v;   m = m'
 *
 * and in the end out / sum p.  Scores, sums and out are float in registers; p is rounded to bf16 for its product.
 */
#include "cuda/attention_softmax.cuh"

/*
 * WARPS warps; SPLIT of them share 16*MT queries and compute HD/SPLIT channels of their results each (their scores are
 * the same: wide heads would not fit into registers).
 */
template <class WALK, int HD, int MT, int WARPS, int SPLIT>
static __global__ void __launch_bounds__(WARPS * 32) forward_kernel(const attention_args a)
{
    constexpr int THREADS = WARPS * 32, GROUPS = WALK::GROUPS, WIDTH = HD / SPLIT, STAGE = WALK::STAGE * HD;
    static_assert(WALK::ROWS == WARPS / SPLIT * MT * 16, "each warp owns its rows");
    OAS_DYNAMIC_SHARED(uint16_t, own);
    uint16_t *buffer = own + WALK::ROWS * HD;
    attention_place place(a, blockIdx.x);
    WALK walk(a, place.tile);
    int warp = (int)threadIdx.x / 32, row = warp / SPLIT * MT * 16, channel = warp % SPLIT * WIDTH;
    int64_t column = place.head * a.head_dim, others = place.segment * a.other_rows * a.stride + column;
    const uint16_t *q = (const uint16_t *)a.own[0] + place.segment * a.own_rows * a.stride + column;
    const uint16_t *k = (const uint16_t *)a.other[0] + others, *v = (const uint16_t *)a.other[1] + others;
    float out[MT][WIDTH / 8][4], unit = a.scale * LOG2_E;
    softmax_rows<MT> rows;
    OAS_UNROLL
    for (int m = 0; m < MT; m++) {
        rows.top[m][0] = rows.top[m][1] = -INFINITY;
        rows.total[m][0] = rows.total[m][1] = 0.f;
    }
    clear<MT, WIDTH>(out);
    walk.template copy_own<HD, THREADS>(own, q, a.stride, a.head_dim);
    walk.template copy_stage<HD, THREADS>(buffer, 0, k, v, a.stride, a.head_dim);
    oas_async_commit();
    int stages = walk.stages();
    for (int stage = 0; stage < stages; stage++) {
        const uint16_t *keys = buffer + stage % WALK::BUFFERS * 2 * STAGE, *values = keys + STAGE;
        oas_async_wait<0>();
        __syncthreads();
        if (WALK::BUFFERS == 2 && stage + 1 < stages) {
            uint16_t *next = buffer + (stage + 1) % 2 * 2 * STAGE;
            walk.template copy_stage<HD, THREADS>(next, stage + 1, k, v, a.stride, a.head_dim);
            oas_async_commit();
        }
        int blocks = walk.enter(stage, row);
        for (int i = 0; i < blocks; i++) {
            typename WALK::block block = walk.at(i);
            float s[MT][GROUPS][4];
            multiply_rows<HD, MT, GROUPS>(s, own + row * HD, keys, block);
            if (a.bias)
                walk.template add_bias<MT>(s, block, a.bias, 1.f / a.scale);
            walk.template hide<MT>(s, block);
            weigh<MT, GROUPS, WIDTH>(s, rows, out, unit);
            uint32_t p[MT][GROUPS / 2][4];
            to_left<MT, GROUPS>(p, s);
            multiply_columns<HD, MT, GROUPS, WIDTH>(out, p, values, channel / 8, block);
        }
        if (WALK::BUFFERS == 1 && stage + 1 < stages) {
            __syncthreads();
            walk.template copy_stage<HD, THREADS>(buffer, stage + 1, k, v, a.stride, a.head_dim);
            oas_async_commit();
        }
    }
    store_rows<WALK, MT, WIDTH>(a, walk, place, row, channel, rows, out);
}

/* ---- host ---------------------------------------------------------------------------------------------------------- */

template <class WALK, int HD, int MT, int WARPS, int SPLIT>
static oasis_status launch(oas_cuda *c, const attention_args *part)
{
    attention_args a = *part;
    a.tiles = part_tiles(&a, WALK::ROWS);
    size_t bytes = (size_t)(WALK::ROWS + WALK::BUFFERS * 2 * WALK::STAGE) * HD * sizeof(uint16_t);
    if (bytes > (size_t)c->shared_bytes) /* wide heads, on chips other than those of data centers */
        return oas_attention_forward_plain(c, part);
    auto kernel = forward_kernel<WALK, HD, MT, WARPS, SPLIT>;
    if (!OAS_ALLOW_SHARED(kernel, bytes))
        return OASIS_E_DEVICE;
    OAS_LAUNCH(c, kernel, part_blocks(&a), WARPS * 32, bytes, a);
    return oas_launched();
}

/* 128 queries to a block when that still gives every processor its block: each key is then read once for 32 queries. */
template <int HD> static oasis_status launch_head(oas_cuda *c, const attention_args *a)
{
    if (part_has_window(a))
        return launch<window_walk<64>, HD, 1, 4, 1>(c, a);
    int64_t blocks = (int64_t)part_tiles(a, 128) * a->heads * a->segments;
    if (blocks >= c->processors)
        return launch<linear_walk<128, 64, 64>, HD, 2, 4, 1>(c, a);
    return launch<linear_walk<64, 64, 64>, HD, 1, 4, 1>(c, a);
}

oasis_status oas_attention_forward_tiles(oas_cuda *c, const attention_args *a)
{
    if (part_suits_groups(c, a))
        return oas_attention_forward_groups(c, a);
    if (a->head_dim <= 32)
        return launch_head<32>(c, a);
    if (a->head_dim <= 64)
        return launch_head<64>(c, a);
    if (a->head_dim <= 128)
        return launch_head<128>(c, a);
    if (a->head_dim <= 256)
        return launch<linear_walk<64, 32, 32>, 256, 1, 8, 2>(c, a);
    return launch<linear_walk<64, 32, 32>, 384, 1, 8, 2>(c, a);
}
