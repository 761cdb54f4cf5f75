/*
 * What the kernels of forward attention share: the running softmax of a tile of scores, and storing what it weighed.
 */
#ifndef OAS_CUDA_ATTENTION_SOFTMAX_CUH
#define OAS_CUDA_ATTENTION_SOFTMAX_CUH

#include "cuda/attention_tile.cuh"

/* Of the rows lane/4 and +8 of each 16 of a warp: the largest score so far, and this lane's part of the sum of weights. */
template <int MT> struct softmax_rows {
    float top[MT][2], total[MT][2];
};

/* Turns scores into weights and rescales what was summed under a lower maximum.  unit: log2(e) scale. */
template <int MT, int GROUPS, int WIDTH>
__device__ static inline void weigh(float s[MT][GROUPS][4], softmax_rows<MT> &rows, float out[MT][WIDTH / 8][4],
                                    float unit)
{
    OAS_UNROLL
    for (int m = 0; m < MT; m++)
        OAS_UNROLL
        for (int half = 0; half < 2; half++) {
            float top = rows.top[m][half];
            OAS_UNROLL
            for (int g = 0; g < GROUPS; g++)
                top = fmaxf(top, fmaxf(s[m][g][2 * half], s[m][g][2 * half + 1]));
            top = quad_max(top);
            float shift = top == -INFINITY ? 0.f : top * unit;
            if (top > rows.top[m][half]) {
                float factor = oas_exp2(rows.top[m][half] * unit - shift);
                rows.top[m][half] = top;
                rows.total[m][half] *= factor;
                OAS_UNROLL
                for (int c = 0; c < WIDTH / 8; c++) {
                    out[m][c][2 * half] *= factor;
                    out[m][c][2 * half + 1] *= factor;
                }
            }
            float sum = 0.f;
            OAS_UNROLL
            for (int g = 0; g < GROUPS; g++)
                OAS_UNROLL
                for (int e = 2 * half; e < 2 * half + 2; e++) {
                    s[m][g][e] = oas_exp2(fmaf(s[m][g][e], unit, -shift));
                    sum += s[m][g][e];
                }
            rows.total[m][half] += sum;
        }
}

/* Divides by the sums of weights and stores rows: WIDTH channels from `channel` on, of which head_dim exist. */
template <class WALK, int MT, int WIDTH>
__device__ static inline void store_rows(const attention_args &a, const WALK &walk, const attention_place &place, int row,
                                         int channel, const softmax_rows<MT> &rows, const float out[MT][WIDTH / 8][4])
{
    int lane = (int)threadIdx.x % 32;
    uint16_t *result = (uint16_t *)a.result[0] + place.head * a.head_dim;
    OAS_UNROLL
    for (int m = 0; m < MT; m++)
        OAS_UNROLL
        for (int half = 0; half < 2; half++) {
            float total = quad_sum(rows.total[m][half]), factor = 1.f / total;
            int token = walk.own(row + m * 16 + half * 8 + lane / QUAD);
            if (token < 0)
                continue;
            int64_t at = place.segment * a.own_rows + token;
            if (a.lse && channel == 0 && lane % QUAD == 0)
                a.lse[place.head * a.queries + at] = rows.top[m][half] * a.scale + logf(total);
            uint16_t *to = result + at * a.stride;
            OAS_UNROLL
            for (int g = 0; g < WIDTH / 8; g++) {
                int c = channel + g * 8 + lane % QUAD * 2;
                uint32_t pair = oas_bf16_pair(out[m][g][2 * half] * factor, out[m][g][2 * half + 1] * factor);
                if (c < a.head_dim)
                    *(uint32_t *)(void *)(to + c) = pair;
            }
        }
}

#endif
