/*
 * Work on rows of d values: a warp, or a part of one, for every row.  Of a row each of `lanes` lanes holds the chunks lane,
 * lane + lanes, ...: in registers up to 1536 values (K chunks), else they are read again for every use (K = 0).
 */
#ifndef OAS_CUDA_ROWS_CUH
#define OAS_CUDA_ROWS_CUH

#include "cuda/values.cuh"

enum { OAS_WARP = 32 };

/* Lanes of a row: a power of two. */
static inline int oas_lanes_for(int64_t d)
{
    int64_t chunks = (d + OAS_CHUNK - 1) / OAS_CHUNK;
    int lanes = 1;
    while (lanes < chunks && lanes < OAS_WARP)
        lanes *= 2;
    return lanes;
}

/* The rows of a thread's group of lanes, and the chunks of a lane. */
struct oas_row_walk {
    int64_t rows, d;
    int lanes;
    bool wide;
};

/* A row as one lane sees it.  All lanes of a warp walk together; groups behind the last row see no values. */
template <int K> struct oas_lane_row {
    cuda_array a;
    int64_t begin, d;
    int lane, lanes;
    bool there, wide;
    oas_raw8 kept[K > 0 ? K : 1];

    __device__ int count(int k) const
    {
        return there ? oas_in_chunk(column(k), d) : 0;
    }

    __device__ int64_t column(int k) const
    {
        return ((int64_t)k * lanes + lane) * OAS_CHUNK;
    }

    __device__ void start(const oas_row_walk &w, cuda_array from, int64_t row)
    {
        a = from;
        begin = row * w.d;
        d = w.d;
        lane = (int)threadIdx.x % w.lanes;
        lanes = w.lanes;
        there = row < w.rows;
        wide = w.wide;
        OAS_UNROLL
        for (int k = 0; k < K; k++)
            oas_load_raw8(&kept[k], a, begin + column(k), count(k), wide);
    }

    __device__ void get(int k, float v[OAS_CHUNK]) const
    {
        if constexpr (K == 0)
            oas_load8(v, a, begin + column(k), count(k), wide);
        else
            oas_from_raw8(v, kept[k], a.dtype);
    }

    /* How many chunks a lane goes through. */
    __device__ int chunks() const
    {
        return K > 0 ? K : (int)((d + (int64_t)lanes * OAS_CHUNK - 1) / ((int64_t)lanes * OAS_CHUNK));
    }
};

/* The walk over rows: `row` of this group, as long as any group of the warp has one. */
#define OAS_FOR_ROWS(w, row)                                                                                           \
    for (int64_t row = oas_first_item() / (w).lanes,                                                                   \
                 oas_warp_row = oas_first_item() / OAS_WARP * (OAS_WARP / (w).lanes);                                  \
         oas_warp_row < (w).rows; row += oas_item_step() / (w).lanes, oas_warp_row += oas_item_step() / (w).lanes)

/* Launches kernel<K>(walk, job) with the K that fits. */
#define OAS_LAUNCH_ROWS(c, kernel, blocks, walk, job)                                                                  \
    do {                                                                                                               \
        int64_t each = (int64_t)(walk).lanes * OAS_CHUNK;                                                              \
        int64_t k = ((walk).d + each - 1) / each;                                                                      \
        auto chosen = k <= 1 ? kernel<1> : k <= 2 ? kernel<2> : k <= 4 ? kernel<4> : k <= 6 ? kernel<6> : kernel<0>;   \
        OAS_LAUNCH(c, chosen, blocks, OAS_BLOCK, 0, walk, job);                                                        \
    } while (0)

static inline oas_row_walk oas_walk_of(int64_t rows, int64_t d, bool wide)
{
    oas_row_walk w = {rows, d, oas_lanes_for(d), wide};
    return w;
}

#endif
