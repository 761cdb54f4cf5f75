/*
 * What the kernels of attention's way back share: rows of gradients, statistics of queries, weights from log-sum-exps.
 */
#ifndef OAS_CUDA_ATTENTION_GRADIENT_CUH
#define OAS_CUDA_ATTENTION_GRADIENT_CUH

#include "cuda/attention_tile.cuh"

/* The rows lane/4 and +8 of a warp. */
struct row_pair {
    int token[2]; /* in the segment; -1: none */
};

template <class WALK> __device__ static inline row_pair rows_of(const WALK &walk, int row)
{
    int lane = (int)threadIdx.x % 32;
    row_pair r;
    r.token[0] = walk.own(row + lane / QUAD);
    r.token[1] = walk.own(row + 8 + lane / QUAD);
    return r;
}

/* Adds factor times a warp's sums to its rows of a gradient. */
template <int HD>
__device__ static inline void add_rows(const attention_args &a, const attention_place &place, const row_pair &r,
                                       float *gradient, float factor, const float sum[1][HD / 8][4])
{
    int lane = (int)threadIdx.x % 32;
    OAS_UNROLL
    for (int half = 0; half < 2; half++) {
        if (r.token[half] < 0)
            continue;
        float *to = gradient + (place.segment * a.own_rows + r.token[half]) * a.stride + place.head * a.head_dim;
        OAS_UNROLL
        for (int g = 0; g < HD / 8; g++) {
            int c = g * 8 + lane % QUAD * 2;
            if (c < a.head_dim) {
                to[c] += factor * sum[0][g][2 * half];
                to[c + 1] += factor * sum[0][g][2 * half + 1];
            }
        }
    }
}

/* Value i of a stage's statistics: STAGE times lse (in units of exp2), then STAGE times delta. */
template <class WALK>
__device__ static inline float statistic(const attention_args &a, const WALK &walk, const attention_place &place,
                                         int stage, int i)
{
    int token = walk.other(stage, i % WALK::STAGE);
    int64_t at = place.head * a.queries + place.segment * a.other_rows + token;
    if (token < 0)
        return 0.f;
    return i < WALK::STAGE ? a.lse[at] * LOG2_E : a.delta[at];
}

template <class WALK, int THREADS>
__device__ static inline void copy_statistics(float *to, const attention_args &a, const WALK &walk,
                                              const attention_place &place, int stage)
{
    for (int i = (int)threadIdx.x; i < 2 * WALK::STAGE; i += THREADS)
        to[i] = statistic(a, walk, place, stage, i);
}

/* p = exp(s - lse) and e = p (dp - delta) of a block whose columns are queries, in place of s and dp. */
template <int GROUPS, int STAGE, class BLOCK>
__device__ static inline void weigh_back(float s[1][GROUPS][4], float dp[1][GROUPS][4], const float *statistics,
                                         const BLOCK &block, float unit)
{
    OAS_UNROLL
    for (int g = 0; g < GROUPS; g++) {
        const float *lse = statistics + block.row(g * 8 + (int)threadIdx.x % QUAD * 2), *delta = lse + STAGE;
        OAS_UNROLL
        for (int e = 0; e < 4; e++) {
            float p = oas_exp2(fmaf(s[0][g][e], unit, -lse[e % 2]));
            s[0][g][e] = p;
            dp[0][g][e] = p * (dp[0][g][e] - delta[e % 2]);
        }
    }
}

/* Adds the biases of own rows, in units of the scores. */
template <int GROUPS>
__device__ static inline void add_row_bias(float s[1][GROUPS][4], const attention_args &a, const row_pair &r)
{
    OAS_UNROLL
    for (int half = 0; half < 2; half++) {
        float bias = r.token[half] < 0 ? 0.f : a.bias[r.token[half]] / a.scale;
        OAS_UNROLL
        for (int g = 0; g < GROUPS; g++) {
            s[0][g][2 * half] += bias;
            s[0][g][2 * half + 1] += bias;
        }
    }
}

/* lse (in units of exp2) and delta of own rows that are queries. */
__device__ static inline void row_statistics(float lse[2], float delta[2], const attention_args &a,
                                             const attention_place &place, const row_pair &r)
{
    OAS_UNROLL
    for (int half = 0; half < 2; half++) {
        int token = r.token[half];
        int64_t at = place.head * a.queries + place.segment * a.own_rows + (token < 0 ? 0 : token);
        lse[half] = token < 0 ? INFINITY : a.lse[at] * LOG2_E;
        delta[half] = token < 0 ? 0.f : a.delta[at];
    }
}

/* The sums over a row of lanes' parts, for dbias. */
__device__ static inline void store_row_sums(const attention_args &a, const attention_place &place, const row_pair &r,
                                             const float part[2])
{
    OAS_UNROLL
    for (int half = 0; half < 2; half++) {
        float sum = quad_sum(part[half]);
        if (a.row_sums && r.token[half] >= 0 && threadIdx.x % QUAD == 0)
            a.row_sums[(place.segment * a.heads + place.slot) * a.own_rows + r.token[half]] = sum;
    }
}

#endif
