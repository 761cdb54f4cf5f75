/*
 * Work on rows of d values: a part of a warp, a warp, or several of a block for every row.  Of a row each of `lanes` lanes
 * holds the chunks lane, lane + lanes, ...: K of them in registers, few enough for many rows to be under way, and enough to
 * pay for what a row takes beside its values; where rows are too long for that, or lie where 16 bytes cannot be moved at
 * once, they are read again for every use (K = 0).
 */
#ifndef OAS_CUDA_ROWS_CUH
#define OAS_CUDA_ROWS_CUH

#include "cuda/values.cuh"

enum { OAS_MOST_CHUNKS = 3 };

/* Lanes of a row: a power of two. */
static inline int oas_lanes_for(int64_t d)
{
    int64_t chunks = (d + OAS_CHUNK - 1) / OAS_CHUNK;
    int lanes = 1;
    while (lanes < chunks && lanes < OAS_BLOCK && (lanes < OAS_WARP || lanes * OAS_MOST_CHUNKS < chunks))
        lanes *= 2;
    return lanes;
}

/* The rows of a thread's group of lanes, and the chunks of a lane. */
struct oas_row_walk {
    int64_t rows, d;
    float part; /* 1 / d */
    int lanes;
    bool wide; /* may whole chunks be moved everywhere? */
};

/*
 * A row as one lane sees it.  All lanes that wait for each other walk together; groups behind the last row see no values.
 * With K > 0 the walk is wide, and a lane has a chunk or nothing.
 */
template <int K> struct oas_lane_row {
    cuda_array a;
    int64_t begin, d;
    int lane, lanes;
    bool there, wide;
    oas_raw8 kept[K > 0 ? K : 1];

    __device__ int count(int k) const
    {
        if constexpr (K > 0)
            return there && column(k) < d ? OAS_CHUNK : 0;
        else
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
            oas_load_raw8_wide(&kept[k], a, begin + column(k), count(k) > 0);
    }

    __device__ void get(int k, float v[OAS_CHUNK]) const
    {
        if constexpr (K == 0)
            oas_load8(v, a, begin + column(k), count(k), wide);
        else
            oas_from_raw8(v, kept[k], a.dtype);
    }

    /* Chunk k of another array, whose values from `at` on belong to it. */
    __device__ void load(int k, float v[OAS_CHUNK], const cuda_array &from, int64_t at) const
    {
        if constexpr (K == 0) {
            oas_load8(v, from, at, count(k), wide);
        } else {
            oas_raw8 raw;
            oas_load_raw8_wide(&raw, from, at, count(k) > 0);
            oas_from_raw8(v, raw, from.dtype);
        }
    }

    /* Chunk k of the same row of another array. */
    __device__ void store(int k, const cuda_array &to, const float v[OAS_CHUNK]) const
    {
        if constexpr (K == 0)
            oas_store8(to, begin + column(k), v, count(k), wide);
        else if (count(k) > 0)
            oas_store8_wide(to, begin + column(k), v);
    }

    /* Adds it instead. */
    __device__ void add(int k, const cuda_array &to, const float v[OAS_CHUNK]) const
    {
        float sum[OAS_CHUNK];
        load(k, sum, to, begin + column(k));
        OAS_UNROLL
        for (int i = 0; i < OAS_CHUNK; i++)
            sum[i] += v[i];
        store(k, to, sum);
    }

    /* How many chunks a lane goes through. */
    __device__ int chunks() const
    {
        return K > 0 ? K : (int)((d + (int64_t)lanes * OAS_CHUNK - 1) / ((int64_t)lanes * OAS_CHUNK));
    }
};

/* Threads that wait for each other at a sum over a row: a warp, or the block. */
__device__ static inline int oas_together(const oas_row_walk &w)
{
    return w.lanes > OAS_WARP ? (int)OAS_BLOCK : (int)OAS_WARP;
}

/* The walk over rows: `row` of this group, as long as any group that walks with it has one. */
#define OAS_FOR_ROWS(w, row)                                                                                           \
    for (int64_t row = oas_first_item() / (w).lanes,                                                                   \
                 oas_first_row = oas_first_item() / oas_together(w) * (oas_together(w) / (w).lanes);                   \
         oas_first_row < (w).rows; row += oas_item_step() / (w).lanes, oas_first_row += oas_item_step() / (w).lanes)

/* Of a kernel that holds its row and the next one: so many blocks a processor keep enough of memory under way. */
#define OAS_ROW_BOUNDS(K) __launch_bounds__(OAS_BLOCK, (K) == 1 ? 4 : 2)

/* Launches kernel<K>(walk, job) with the K that fits. */
#define OAS_LAUNCH_ROWS(c, kernel, blocks, walk, job)                                                                  \
    do {                                                                                                               \
        int64_t each = (int64_t)(walk).lanes * OAS_CHUNK;                                                              \
        int64_t k = (walk).wide ? ((walk).d + each - 1) / each : OAS_MOST_CHUNKS + 1;                                  \
        auto chosen = k <= 1 ? kernel<1> : k <= 2 ? kernel<2> : k <= OAS_MOST_CHUNKS ? kernel<3> : kernel<0>;           \
        OAS_LAUNCH(c, chosen, blocks, OAS_BLOCK, 0, walk, job);                                                        \
    } while (0)

static inline oas_row_walk oas_walk_of(int64_t rows, int64_t d, bool wide)
{
    oas_row_walk w = {rows, d, 1.f / (float)d, oas_lanes_for(d), wide};
    return w;
}

#endif
