/*
 * The way back through attention by products of warpgroups, for GPUs of compute capability 9.0: the formulas, owners and
 * order of sums of attention_backward.cu.
 */
#include "cuda/attention_gradient.cuh"
#include "cuda/attention_group.cuh"

enum { GROUPS = 2, ROWS = GROUPS * GROUP_ROWS, THREADS = GROUPS * GROUP_THREADS };

typedef linear_walk<ROWS, STAGE_ROWS, STAGE_ROWS> group_walk;

/*
 * Where a block's tiles lie in shared memory: each group's two own tiles, then twice a stage's two.  Tiles have
 * HD/64 * TILE_BYTES bytes.
 */
template <int HD> struct group_memory {
    static constexpr int TILE = HD / 64 * TILE_BYTES, STAGE = 2 * TILE;
    static constexpr int BYTES = 1024 + (GROUPS + 2) * STAGE;
    unsigned char *own, *stages;

    __device__ group_memory(unsigned char *shared)
    {
        unsigned char *aligned = shared + (1024 - (uintptr_t)shared % 1024) % 1024;
        own = aligned + (int)threadIdx.x / GROUP_THREADS * STAGE;
        stages = aligned + GROUPS * STAGE;
    }
};

/* Copies the own rows of two arrays, and the first stage of two others. */
template <int HD>
__device__ static inline void copy_first(const attention_args &a, const group_memory<HD> &memory, const group_walk &walk,
                                         const uint16_t *const own[2], const uint16_t *const other[2])
{
    int thread = (int)threadIdx.x, first = walk.begin + thread / GROUP_THREADS * GROUP_ROWS;
    OAS_UNROLL
    for (int i = 0; i < 2; i++) {
        if (first < a.own_rows)
            copy_tiles<HD, GROUP_THREADS>(memory.own + i * memory.TILE, own[i] + first * a.stride, a.stride,
                                          a.own_rows - first, a.head_dim, thread % GROUP_THREADS);
        copy_tiles<HD, THREADS>(memory.stages + i * memory.TILE, other[i], a.stride, a.other_rows, a.head_dim, thread);
    }
    oas_async_commit();
}

/* Waits for a stage and begins to copy the next one; returns where it lies. */
template <int HD>
__device__ static inline const unsigned char *next_stage(const attention_args &a, const group_memory<HD> &memory,
                                                         const uint16_t *const other[2], int stage, int stages)
{
    oas_async_wait<0>();
    oas_group_see_copies();
    __syncthreads();
    if (stage + 1 < stages) {
        int at = (stage + 1) * STAGE_ROWS;
        OAS_UNROLL
        for (int i = 0; i < 2; i++)
            copy_tiles<HD, THREADS>(memory.stages + (stage + 1) % 2 * memory.STAGE + i * memory.TILE,
                                    other[i] + at * a.stride, a.stride, a.other_rows - at, a.head_dim,
                                    (int)threadIdx.x);
        oas_async_commit();
    }
    return memory.stages + stage % 2 * memory.STAGE;
}

/* s and dp: both own tiles times both of a stage. */
template <int HD>
__device__ static inline void two_scores(float s[1][8][4], float dp[1][8][4], const group_memory<HD> &memory,
                                         const unsigned char *stage)
{
    oas_group_settle<8>(s[0]);
    oas_group_settle<8>(dp[0]);
    oas_group_begin();
    group_scores<HD>(s[0], memory.own, stage);
    group_scores<HD>(dp[0], memory.own + memory.TILE, stage + memory.TILE);
    oas_group_end();
    oas_group_wait();
    oas_group_settle<8>(s[0]);
    oas_group_settle<8>(dp[0]);
}

/* Where the rows of this head and segment begin in an array. */
__device__ static inline const uint16_t *rows_at(const attention_args &a, const attention_place &place, const void *data,
                                                 int rows)
{
    return (const uint16_t *)data + place.segment * rows * a.stride + place.head * a.head_dim;
}

/* own q and dout, other k and v */
template <int HD> static __global__ void __launch_bounds__(THREADS) dq_groups(const attention_args a)
{
    OAS_DYNAMIC_SHARED(unsigned char, shared);
    group_memory<HD> memory(shared);
    attention_place place(a, blockIdx.x);
    group_walk walk(a, place.tile);
    const uint16_t *own[2] = {rows_at(a, place, a.own[0], a.own_rows), rows_at(a, place, a.own[1], a.own_rows)};
    const uint16_t *other[2] = {rows_at(a, place, a.other[0], a.other_rows), rows_at(a, place, a.other[1], a.other_rows)};
    copy_first<HD>(a, memory, walk, own, other);
    int row = (int)threadIdx.x / 32 * 16, stages = walk.stages();
    row_pair mates = rows_of(walk, row);
    float lse[2], delta[2], unit = a.scale * LOG2_E, sum[1][HD / 8][4], s[1][8][4], dp[1][8][4];
    row_statistics(lse, delta, a, place, mates);
    clear<1, HD>(sum);
    for (int stage = 0; stage < stages; stage++) {
        const unsigned char *keys = next_stage<HD>(a, memory, other, stage, stages);
        two_scores<HD>(s, dp, memory, keys);
        walk.enter(stage, row);
        linear_block block = walk.at(0);
        if (a.bias)
            walk.template add_bias<1>(s, block, a.bias, 1.f / a.scale);
        walk.template hide<1>(s, block);
        OAS_UNROLL
        for (int g = 0; g < 8; g++)
            OAS_UNROLL
            for (int e = 0; e < 4; e++)
                s[0][g][e] = oas_exp2(fmaf(s[0][g][e], unit, -lse[e / 2])) * (dp[0][g][e] - delta[e / 2]);
        uint32_t left[1][4][4];
        to_left<1, 8>(left, s);
        oas_group_settle<HD / 8>(sum[0]);
        oas_group_begin();
        group_sums<HD>(sum[0], left[0], keys);
        oas_group_end();
        oas_group_wait();
        oas_group_settle<HD / 8>(sum[0]);
    }
    add_rows<HD>(a, place, mates, (float *)a.result[0], a.scale, sum);
}

/* own k and v, other q and dout */
template <int HD> static __global__ void __launch_bounds__(THREADS) dkv_groups(const attention_args a)
{
    OAS_DYNAMIC_SHARED(unsigned char, shared);
    group_memory<HD> memory(shared);
    float *statistics = (float *)(void *)(memory.stages + 2 * memory.STAGE);
    attention_place place(a, blockIdx.x);
    group_walk walk(a, place.tile);
    const uint16_t *own[2] = {rows_at(a, place, a.own[0], a.own_rows), rows_at(a, place, a.own[1], a.own_rows)};
    const uint16_t *other[2] = {rows_at(a, place, a.other[0], a.other_rows), rows_at(a, place, a.other[1], a.other_rows)};
    copy_first<HD>(a, memory, walk, own, other);
    copy_statistics<group_walk, THREADS>(statistics, a, walk, place, 0);
    int thread = (int)threadIdx.x, row = thread / 32 * 16, stages = walk.stages();
    row_pair mates = rows_of(walk, row);
    float unit = a.scale * LOG2_E, dk[1][HD / 8][4], dv[1][HD / 8][4], s[1][8][4], dp[1][8][4], row_sum[2] = {0.f, 0.f};
    clear<1, HD>(dk);
    clear<1, HD>(dv);
    for (int stage = 0; stage < stages; stage++) {
        const unsigned char *queries = next_stage<HD>(a, memory, other, stage, stages);
        float *now = statistics + stage % 2 * 2 * STAGE_ROWS, *next = statistics + (stage + 1) % 2 * 2 * STAGE_ROWS;
        float next_statistic = 0.f;
        if (thread < 2 * STAGE_ROWS && stage + 1 < stages)
            next_statistic = statistic(a, walk, place, stage + 1, thread);
        two_scores<HD>(s, dp, memory, queries);
        walk.enter(stage, row);
        linear_block block = walk.at(0);
        if (a.bias)
            add_row_bias<8>(s, a, mates);
        walk.template hide<1>(s, block);
        weigh_back<8, STAGE_ROWS>(s, dp, now, block, unit);
        uint32_t p[1][4][4], e[1][4][4];
        to_left<1, 8>(p, s);
        to_left<1, 8>(e, dp);
        OAS_UNROLL
        for (int g = 0; g < 8; g++)
            OAS_UNROLL
            for (int i = 0; i < 4; i++)
                row_sum[i / 2] += dp[0][g][i];
        oas_group_settle<HD / 8>(dv[0]);
        oas_group_settle<HD / 8>(dk[0]);
        oas_group_begin();
        group_sums<HD>(dv[0], p[0], queries + memory.TILE);
        group_sums<HD>(dk[0], e[0], queries);
        oas_group_end();
        if (thread < 2 * STAGE_ROWS)
            next[thread] = next_statistic;
        oas_group_wait();
        oas_group_settle<HD / 8>(dv[0]);
        oas_group_settle<HD / 8>(dk[0]);
    }
    if (a.result[0])
        add_rows<HD>(a, place, mates, (float *)a.result[0], a.scale, dk);
    if (a.result[1])
        add_rows<HD>(a, place, mates, (float *)a.result[1], 1.f, dv);
    store_row_sums(a, place, mates, row_sum);
}

/* ---- host ---------------------------------------------------------------------------------------------------------- */

static oasis_status launch(oas_cuda *c, const attention_args *part, void (*kernel)(const attention_args), int bytes)
{
    attention_args a = *part;
    a.tiles = part_tiles(&a, ROWS);
    if (!OAS_ALLOW_SHARED(kernel, bytes))
        return OASIS_E_DEVICE;
    OAS_LAUNCH(c, kernel, part_blocks(&a), THREADS, (size_t)bytes, a);
    return oas_launched();
}

oasis_status oas_attention_dq_groups(oas_cuda *c, const attention_args *a)
{
    return a->head_dim <= 64 ? launch(c, a, dq_groups<64>, group_memory<64>::BYTES)
                             : launch(c, a, dq_groups<128>, group_memory<128>::BYTES);
}

oasis_status oas_attention_dkv_groups(oas_cuda *c, const attention_args *a)
{
    constexpr int statistics = 4 * STAGE_ROWS * (int)sizeof(float);
    return a->head_dim <= 64 ? launch(c, a, dkv_groups<64>, group_memory<64>::BYTES + statistics)
                             : launch(c, a, dkv_groups<128>, group_memory<128>::BYTES + statistics);
}
