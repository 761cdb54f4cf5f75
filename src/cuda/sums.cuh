/*
 * Sums over the rows of [rows, columns], for the gradients of biases, gains and tables, in two stages.  Stage one: blocks of
 * a slab of rows by a tile of columns, threads `down` rows by `across` chunks of 8 columns; every thread adds up its rows,
 * and the block its threads, in a tree.  Stage two: the slabs are added up, 16 stretches of them side by side.
 *
 *     partial [slabs, sums * columns]
 *
 * What is summed is an object F with
 *     enum { SUMS };                                               how many sums side by side
 *     __device__ void values(int64_t row, int64_t column, int n, float v[SUMS][8]) const;
 */
#ifndef OAS_CUDA_SUMS_CUH
#define OAS_CUDA_SUMS_CUH

#include "cuda/values.cuh"

struct oas_sum_plan {
    int64_t rows, columns, slab, slabs; /* slab: rows of one */
    int across, down;                   /* chunks and rows of a block */
    unsigned tiles;
};

static inline oas_sum_plan oas_plan_sums(int64_t rows, int64_t columns)
{
    enum { MOST_ACROSS = 32, ROWS_EACH = 4, MOST_SLABS = 1024 };
    oas_sum_plan p = {rows, columns, 0, 0, 0, 0, 0};
    int64_t chunks = (columns + OAS_CHUNK - 1) / OAS_CHUNK;
    p.across = chunks < MOST_ACROSS ? (int)chunks : (int)MOST_ACROSS;
    p.down = OAS_BLOCK / (p.across > 0 ? p.across : 1);
    p.tiles = (unsigned)((chunks + MOST_ACROSS - 1) / MOST_ACROSS);
    p.slabs = (rows + p.down * ROWS_EACH - 1) / (p.down * ROWS_EACH);
    p.slabs = p.slabs < 1 ? 1 : p.slabs > MOST_SLABS ? (int64_t)MOST_SLABS : p.slabs;
    p.slab = (rows + p.slabs - 1) / p.slabs;
    return p;
}

static inline size_t oas_partial_bytes(const oas_sum_plan *p, int sums)
{
    return (size_t)(p->slabs * p->columns * sums) * sizeof(float);
}

template <class F>
static __global__ void __launch_bounds__(OAS_BLOCK, 4) oas_sum_slabs(F f, oas_sum_plan p, float *partial)
{
    __shared__ float sums[OAS_BLOCK * OAS_CHUNK];
    int x = (int)threadIdx.x % p.across, y = (int)threadIdx.x / p.across;
    int64_t column = ((int64_t)blockIdx.x * p.across + x) * OAS_CHUNK, begin = (int64_t)blockIdx.y * p.slab;
    int64_t end = begin + p.slab < p.rows ? begin + p.slab : p.rows;
    int n = y < p.down ? oas_in_chunk(column, p.columns) : 0;
    float total[F::SUMS][OAS_CHUNK];
    OAS_UNROLL
    for (int s = 0; s < F::SUMS; s++)
        OAS_UNROLL
    for (int k = 0; k < OAS_CHUNK; k++)
        total[s][k] = 0.f;
    for (int64_t row = begin + y; n > 0 && row < end; row += p.down) {
        float v[F::SUMS][OAS_CHUNK];
        f.values(row, column, n, v);
        OAS_UNROLL
        for (int s = 0; s < F::SUMS; s++)
            OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            total[s][k] += v[s][k];
    }
    int half = 1;
    while (half < p.down)
        half *= 2;
    OAS_UNROLL
    for (int s = 0; s < F::SUMS; s++) {
        __syncthreads();
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            sums[k * OAS_BLOCK + (int)threadIdx.x] = total[s][k];
        for (int step = half / 2; step > 0; step /= 2) {
            __syncthreads();
            if (y < step && y + step < p.down)
                for (int k = 0; k < OAS_CHUNK; k++)
                    sums[k * OAS_BLOCK + (int)threadIdx.x] += sums[k * OAS_BLOCK + (int)threadIdx.x + step * p.across];
        }
        if (y == 0)
            for (int k = 0; k < n; k++)
                partial[((int64_t)blockIdx.y * F::SUMS + s) * p.columns + column + k] =
                    sums[k * OAS_BLOCK + (int)threadIdx.x];
    }
}

/* Adds rows of `columns` values, `stride` apart, to sum; 32 columns a block, 16 stretches of rows. */
void oas_add_slabs(oas_cuda *c, float *sum, const float *partial, int64_t slabs, int64_t stride, int64_t columns);

/* sum[s][column] += the sum over rows of F's s-th values; sum[s] may be NULL. */
template <class F>
static oasis_status oas_sum_rows(oas_cuda *c, const F &f, const oas_sum_plan *p, float *const *sum, void *partial)
{
    if (p->rows < 1 || p->columns < 1)
        return OASIS_OK;
    auto kernel = oas_sum_slabs<F>;
    OAS_LAUNCH(c, kernel, dim3(p->tiles, (unsigned)p->slabs, 1), OAS_BLOCK, 0, f, *p, (float *)partial);
    for (int s = 0; s < F::SUMS; s++)
        if (sum[s])
            oas_add_slabs(c, sum[s], (const float *)partial + s * p->columns, p->slabs, F::SUMS * p->columns,
                          p->columns);
    return oas_launched();
}

#endif
