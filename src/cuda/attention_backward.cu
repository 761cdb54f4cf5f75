/*
 * The way back through attention on tensor cores, from the log-sum-exps of forward:
 *
 *   p_ij = exp(s_ij - lse_i);   e_ij = p_ij (dout_i . v_j - delta_i);   delta_i = dout_i . out_i
 *   dq_i += scale sum_j e_ij k_j;   dk_j += scale sum_i e_ij q_i;   dv_j += sum_i p_ij dout_i;   dbias_j += sum_i e_ij
 *
 * One kernel owns queries and walks over keys, the other owns keys and walks over queries, both computing p and e anew:
 * so every sum has one owner and one order, and nothing is added atomically.  p and e are rounded to bf16 for their
 * products.
 */
#include "cuda/attention_gradient.cuh"

/* ---- dq: own q and dout, other k and v ------------------------------------------------------------------------------ */

template <class WALK, int HD> static __global__ void __launch_bounds__(128) dq_kernel(const attention_args a)
{
    constexpr int THREADS = 128, GROUPS = WALK::GROUPS, STAGE = WALK::STAGE * HD;
    static_assert(WALK::ROWS == 64, "a warp owns 16 rows");
    OAS_DYNAMIC_SHARED(uint16_t, own_q);
    uint16_t *own_dout = own_q + 64 * HD, *buffer = own_dout + 64 * HD;
    attention_place place(a, blockIdx.x);
    WALK walk(a, place.tile);
    int row = (int)threadIdx.x / 32 * 16;
    int64_t column = place.head * a.head_dim, mine = place.segment * a.own_rows * a.stride + column;
    int64_t others = place.segment * a.other_rows * a.stride + column;
    const uint16_t *k = (const uint16_t *)a.other[0] + others, *v = (const uint16_t *)a.other[1] + others;
    walk.template copy_own<HD, THREADS>(own_q, (const uint16_t *)a.own[0] + mine, a.stride, a.head_dim);
    walk.template copy_own<HD, THREADS>(own_dout, (const uint16_t *)a.own[1] + mine, a.stride, a.head_dim);
    walk.template copy_stage<HD, THREADS>(buffer, 0, k, v, a.stride, a.head_dim);
    oas_async_commit();
    row_pair mates = rows_of(walk, row);
    float lse[2], delta[2], unit = a.scale * LOG2_E, sum[1][HD / 8][4];
    row_statistics(lse, delta, a, place, mates);
    clear<1, HD>(sum);
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
            float s[1][GROUPS][4], dp[1][GROUPS][4];
            multiply_rows<HD, 1, GROUPS>(s, own_q + row * HD, keys, block);
            multiply_rows<HD, 1, GROUPS>(dp, own_dout + row * HD, values, block);
            if (a.bias)
                walk.template add_bias<1>(s, block, a.bias, 1.f / a.scale);
            walk.template hide<1>(s, block);
            OAS_UNROLL
            for (int g = 0; g < GROUPS; g++)
                OAS_UNROLL
                for (int e = 0; e < 4; e++)
                    s[0][g][e] = oas_exp2(fmaf(s[0][g][e], unit, -lse[e / 2])) * (dp[0][g][e] - delta[e / 2]);
            uint32_t left[1][GROUPS / 2][4];
            to_left<1, GROUPS>(left, s);
            multiply_columns<HD, 1, GROUPS, HD>(sum, left, keys, 0, block);
        }
        if (WALK::BUFFERS == 1 && stage + 1 < stages) {
            __syncthreads();
            walk.template copy_stage<HD, THREADS>(buffer, stage + 1, k, v, a.stride, a.head_dim);
            oas_async_commit();
        }
    }
    add_rows<HD>(a, place, mates, (float *)a.result[0], a.scale, sum);
}

/* ---- dk and dv: own k and v, other q and dout ------------------------------------------------------------------------ */

template <class WALK, int HD> static __global__ void __launch_bounds__(128) dkv_kernel(const attention_args a)
{
    constexpr int THREADS = 128, GROUPS = WALK::GROUPS, STAGE = WALK::STAGE * HD;
    static_assert(WALK::ROWS == 64, "a warp owns 16 rows");
    static_assert(WALK::BUFFERS == 1 || THREADS == 2 * WALK::STAGE, "each thread copies one statistic");
    OAS_DYNAMIC_SHARED(uint16_t, own_k);
    uint16_t *own_v = own_k + 64 * HD, *buffer = own_v + 64 * HD;
    float *statistics = (float *)(void *)(buffer + WALK::BUFFERS * 2 * STAGE);
    attention_place place(a, blockIdx.x);
    WALK walk(a, place.tile);
    int row = (int)threadIdx.x / 32 * 16;
    int64_t column = place.head * a.head_dim, mine = place.segment * a.own_rows * a.stride + column;
    int64_t others = place.segment * a.other_rows * a.stride + column;
    const uint16_t *q = (const uint16_t *)a.other[0] + others, *dout = (const uint16_t *)a.other[1] + others;
    walk.template copy_own<HD, THREADS>(own_k, (const uint16_t *)a.own[0] + mine, a.stride, a.head_dim);
    walk.template copy_own<HD, THREADS>(own_v, (const uint16_t *)a.own[1] + mine, a.stride, a.head_dim);
    walk.template copy_stage<HD, THREADS>(buffer, 0, q, dout, a.stride, a.head_dim);
    oas_async_commit();
    copy_statistics<WALK, THREADS>(statistics, a, walk, place, 0);
    row_pair mates = rows_of(walk, row);
    float unit = a.scale * LOG2_E, dk[1][HD / 8][4], dv[1][HD / 8][4], row_sum[2] = {0.f, 0.f};
    clear<1, HD>(dk);
    clear<1, HD>(dv);
    int stages = walk.stages();
    for (int stage = 0; stage < stages; stage++) {
        int at = stage % WALK::BUFFERS;
        const uint16_t *queries = buffer + at * 2 * STAGE, *douts = queries + STAGE;
        float next_statistic = 0.f;
        oas_async_wait<0>();
        __syncthreads();
        if (WALK::BUFFERS == 2 && stage + 1 < stages) {
            uint16_t *next = buffer + (at ^ 1) * 2 * STAGE;
            walk.template copy_stage<HD, THREADS>(next, stage + 1, q, dout, a.stride, a.head_dim);
            oas_async_commit();
            next_statistic = statistic(a, walk, place, stage + 1, (int)threadIdx.x);
        }
        int blocks = walk.enter(stage, row);
        for (int i = 0; i < blocks; i++) {
            typename WALK::block block = walk.at(i);
            float s[1][GROUPS][4], dp[1][GROUPS][4];
            multiply_rows<HD, 1, GROUPS>(s, own_k + row * HD, queries, block);
            multiply_rows<HD, 1, GROUPS>(dp, own_v + row * HD, douts, block);
            if (a.bias)
                add_row_bias<GROUPS>(s, a, mates);
            walk.template hide<1>(s, block);
            weigh_back<GROUPS, WALK::STAGE>(s, dp, statistics + at * 2 * WALK::STAGE, block, unit);
            uint32_t left[1][GROUPS / 2][4];
            to_left<1, GROUPS>(left, s);
            multiply_columns<HD, 1, GROUPS, HD>(dv, left, douts, 0, block);
            OAS_UNROLL
            for (int g = 0; g < GROUPS; g++)
                OAS_UNROLL
                for (int e = 0; e < 4; e++)
                    row_sum[e / 2] += dp[0][g][e];
            to_left<1, GROUPS>(left, dp);
            multiply_columns<HD, 1, GROUPS, HD>(dk, left, queries, 0, block);
        }
        if (WALK::BUFFERS == 2) {
            statistics[(at ^ 1) * 2 * WALK::STAGE + (int)threadIdx.x] = next_statistic;
        } else if (stage + 1 < stages) {
            __syncthreads();
            walk.template copy_stage<HD, THREADS>(buffer, stage + 1, q, dout, a.stride, a.head_dim);
            oas_async_commit();
            copy_statistics<WALK, THREADS>(statistics, a, walk, place, stage + 1);
        }
    }
    if (a.result[0])
        add_rows<HD>(a, place, mates, (float *)a.result[0], a.scale, dk);
    if (a.result[1])
        add_rows<HD>(a, place, mates, (float *)a.result[1], 1.f, dv);
    store_row_sums(a, place, mates, row_sum);
}

/* ---- host ---------------------------------------------------------------------------------------------------------- */

template <class WALK, int HD> static size_t shared_bytes(bool statistics)
{
    size_t rows = 2 * WALK::ROWS + WALK::BUFFERS * 2 * WALK::STAGE;
    return rows * HD * sizeof(uint16_t) + (statistics ? WALK::BUFFERS * 2 * WALK::STAGE * sizeof(float) : 0);
}

template <class WALK, int HD> static oasis_status launch_dq(oas_cuda *c, const attention_args *part)
{
    attention_args a = *part;
    a.tiles = part_tiles(&a, WALK::ROWS);
    size_t bytes = shared_bytes<WALK, HD>(false);
    auto kernel = dq_kernel<WALK, HD>;
    if (!OAS_ALLOW_SHARED(kernel, bytes))
        return OASIS_E_DEVICE;
    OAS_LAUNCH(c, kernel, part_blocks(&a), 128, bytes, a);
    return oas_launched();
}

template <class WALK, int HD> static oasis_status launch_dkv(oas_cuda *c, const attention_args *part)
{
    attention_args a = *part;
    a.tiles = part_tiles(&a, WALK::ROWS);
    size_t bytes = shared_bytes<WALK, HD>(true);
    auto kernel = dkv_kernel<WALK, HD>;
    if (!OAS_ALLOW_SHARED(kernel, bytes))
        return OASIS_E_DEVICE;
    OAS_LAUNCH(c, kernel, part_blocks(&a), 128, bytes, a);
    return oas_launched();
}

oasis_status oas_attention_dq_tiles(oas_cuda *c, const attention_args *a)
{
    if (part_suits_groups(c, a))
        return oas_attention_dq_groups(c, a);
    typedef linear_walk<64, 64, 64> linear;
    typedef window_walk<64> window;
    if (a->head_dim <= 32)
        return part_has_window(a) ? launch_dq<window, 32>(c, a) : launch_dq<linear, 32>(c, a);
    if (a->head_dim <= 64)
        return part_has_window(a) ? launch_dq<window, 64>(c, a) : launch_dq<linear, 64>(c, a);
    return part_has_window(a) ? launch_dq<window, 128>(c, a) : launch_dq<linear, 128>(c, a);
}

/* Blocks of 32 columns: two sums of HD channels leave no registers for more. */
oasis_status oas_attention_dkv_tiles(oas_cuda *c, const attention_args *a)
{
    if (part_suits_groups(c, a))
        return oas_attention_dkv_groups(c, a);
    typedef linear_walk<64, 64, 32> linear;
    typedef window_walk<32> window;
    if (a->head_dim <= 32)
        return part_has_window(a) ? launch_dkv<window, 32>(c, a) : launch_dkv<linear, 32>(c, a);
    if (a->head_dim <= 64)
        return part_has_window(a) ? launch_dkv<window, 64>(c, a) : launch_dkv<linear, 64>(c, a);
    return part_has_window(a) ? launch_dkv<window, 128>(c, a) : launch_dkv<linear, 128>(c, a);
}
