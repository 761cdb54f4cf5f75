/*
 * Attention's products by warpgroups: tiles of 64 rows and HD channels in shared memory, of which a group owns some and
 * walks over the others.
 */
#ifndef OAS_CUDA_ATTENTION_GROUP_CUH
#define OAS_CUDA_ATTENTION_GROUP_CUH

#include "cuda/attention_tile.cuh"
#include "cuda/kernel_sm90.cuh"

enum { GROUP_ROWS = 64, STAGE_ROWS = 64, TILE_BYTES = 64 * GROUP_ROW }; /* 64 rows of 64 channels */

/* Copies 64 neighbouring rows, of which `rows` exist, as HD/64 tiles; thread: of THREADS that copy. */
template <int HD, int THREADS>
__device__ static inline void copy_tiles(unsigned char *tile, const uint16_t *from, int64_t stride, int rows, int hd,
                                         int thread)
{
    constexpr int CHUNKS = HD / 8;
    OAS_UNROLL
    for (int i = 0; i < (64 * CHUNKS + THREADS - 1) / THREADS; i++) {
        int at = i * THREADS + thread, row = at / CHUNKS, chunk = at % CHUNKS;
        bool valid = row < rows && chunk * 8 < hd;
        if (row < 64)
            oas_async_copy16(tile + chunk / 8 * TILE_BYTES + row * GROUP_ROW + (chunk % 8 ^ row % 8) * 16,
                             valid ? from + row * stride + chunk * 8 : from, valid);
    }
}

/* s = own rows times the rows of a stage: only begun. */
template <int HD> __device__ static inline void group_scores(float s[8][4], const void *own, const void *other)
{
    oas_group_tile left = oas_group_tile_at(own, 16), right = oas_group_tile_at(other, 16);
    OAS_UNROLL
    for (int c = 0; c < HD / 16; c++) {
        int at = c / 4 * TILE_BYTES + c % 4 * 32;
        oas_group_multiply(s, oas_group_further(left, at), oas_group_further(right, at), c > 0);
    }
}

/* sum += p times the rows of a stage: only begun. */
template <int HD>
__device__ static inline void group_sums(float sum[HD / 8][4], const uint32_t p[4][4], const void *other)
{
    oas_group_tile right = oas_group_tile_at(other, TILE_BYTES);
    OAS_UNROLL
    for (int g = 0; g < 4; g++)
        oas_group_multiply_trans<HD>(sum, p[g], oas_group_further(right, g * 16 * GROUP_ROW));
}

#endif
