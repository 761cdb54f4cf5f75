/*
 * Forward attention by products of warpgroups, for GPUs of compute capability 9.0: the same sums in the same order as in
 * attention_forward.cu, but keys and values go from shared memory to the tensor cores without passing registers.  Each
 * group of four warps owns 64 queries; while one weighs its scores, the others' products run.
 */
#include "cuda/attention_group.cuh"
#include "cuda/attention_softmax.cuh"

template <int HD, int GROUPS>
static __global__ void __launch_bounds__(GROUPS * GROUP_THREADS, GROUPS == 2 ? 2 : 1) forward_groups(const attention_args a)
{
    constexpr int THREADS = GROUPS * GROUP_THREADS, ROWS_BYTES = HD / 64 * TILE_BYTES, STAGE = 2 * ROWS_BYTES;
    typedef linear_walk<GROUPS * GROUP_ROWS, STAGE_ROWS, STAGE_ROWS> walk_type;
    OAS_DYNAMIC_SHARED(unsigned char, shared);
    int thread = (int)threadIdx.x, group = thread / GROUP_THREADS, row = thread / 32 * 16;
    unsigned char *aligned = shared + (1024 - (uintptr_t)shared % 1024) % 1024;
    unsigned char *own = aligned + group * ROWS_BYTES, *buffer = aligned + GROUPS * ROWS_BYTES;
    attention_place place(a, blockIdx.x);
    walk_type walk(a, place.tile);
    int64_t column = place.head * a.head_dim, others = place.segment * a.other_rows * a.stride + column;
    const uint16_t *q = (const uint16_t *)a.own[0] + place.segment * a.own_rows * a.stride + column;
    const uint16_t *k = (const uint16_t *)a.other[0] + others, *v = (const uint16_t *)a.other[1] + others;
    int first = walk.begin + group * GROUP_ROWS, keys = a.other_rows;
    if (first < a.own_rows)
        copy_tiles<HD, GROUP_THREADS>(own, q + first * a.stride, a.stride, a.own_rows - first, a.head_dim,
                                      thread % GROUP_THREADS);
    copy_tiles<HD, THREADS>(buffer, k, a.stride, keys, a.head_dim, thread);
    copy_tiles<HD, THREADS>(buffer + ROWS_BYTES, v, a.stride, keys, a.head_dim, thread);
    oas_async_commit();
    float out[1][HD / 8][4], s[1][8][4], unit = a.scale * LOG2_E;
    softmax_rows<1> rows = {{{-INFINITY, -INFINITY}}, {{0.f, 0.f}}};
    clear<1, HD>(out);
    int stages = walk.stages();
    for (int stage = 0; stage < stages; stage++) {
        unsigned char *now = buffer + stage % 2 * STAGE, *next = buffer + (stage + 1) % 2 * STAGE;
        oas_async_wait<0>();
        oas_group_see_copies();
        __syncthreads();
        if (stage + 1 < stages) {
            int64_t at = (stage + 1) * STAGE_ROWS, from = at * a.stride;
            copy_tiles<HD, THREADS>(next, k + from, a.stride, keys - (int)at, a.head_dim, thread);
            copy_tiles<HD, THREADS>(next + ROWS_BYTES, v + from, a.stride, keys - (int)at, a.head_dim, thread);
            oas_async_commit();
        }
        oas_group_settle<8>(s[0]);
        oas_group_begin();
        group_scores<HD>(s[0], own, now);
        oas_group_end();
        oas_group_wait();
        oas_group_settle<8>(s[0]);
        walk.enter(stage, row);
        linear_block block = walk.at(0);
        if (a.bias)
            walk.template add_bias<1>(s, block, a.bias, 1.f / a.scale);
        walk.template hide<1>(s, block);
        weigh<1, 8, HD>(s, rows, out, unit);
        uint32_t p[1][4][4];
        to_left<1, 8>(p, s);
        oas_group_settle<HD / 8>(out[0]);
        oas_group_begin();
        group_sums<HD>(out[0], p[0], now + ROWS_BYTES);
        oas_group_end();
        oas_group_wait();
        oas_group_settle<HD / 8>(out[0]);
    }
    store_rows<walk_type, 1, HD>(a, walk, place, row, 0, rows, out);
}

/* ---- host ---------------------------------------------------------------------------------------------------------- */

bool oas_attention_has_groups(const oas_cuda *c)
{
    return oas_has_groups(c);
}

template <int HD, int GROUPS> static oasis_status launch(oas_cuda *c, const attention_args *part)
{
    attention_args a = *part;
    a.tiles = part_tiles(&a, GROUPS * GROUP_ROWS);
    size_t bytes = 1024 + (size_t)(GROUPS + 4) * HD / 64 * TILE_BYTES;
    auto kernel = forward_groups<HD, GROUPS>;
    if (!OAS_ALLOW_SHARED(kernel, bytes))
        return OASIS_E_DEVICE;
    OAS_LAUNCH(c, kernel, part_blocks(&a), GROUPS * GROUP_THREADS, bytes, a);
    return oas_launched();
}

/* The time of a launch in units of a group's: a processor computes two blocks of two groups at once, or one of three. */
static int64_t time_of(const oas_cuda *c, const attention_args *a, int groups)
{
    int64_t blocks = (int64_t)part_tiles(a, groups * GROUP_ROWS) * a->heads * a->segments, at_once = groups == 2 ? 2 : 1;
    return (blocks + c->processors * at_once - 1) / (c->processors * at_once) * groups * at_once;
}

template <int HD> static oasis_status launch_head(oas_cuda *c, const attention_args *a)
{
    return time_of(c, a, 3) < time_of(c, a, 2) ? launch<HD, 3>(c, a) : launch<HD, 2>(c, a);
}

oasis_status oas_attention_forward_groups(oas_cuda *c, const attention_args *a)
{
    return a->head_dim <= 64 ? launch_head<64>(c, a) : launch_head<128>(c, a);
}
