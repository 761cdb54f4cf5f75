/*
 * Attention of any type and width, in float without tensor cores: a warp per row, which reads the rows it sees one after
 * the other.  For checks in fp32 and for odd widths, not for speed.
 */
#include "cuda/attention_part.cuh"

enum { WARPS = 4, THREADS = 32 * WARPS };

/* What a row sees, or what sees it: a box of the grid.  Without a window the grid is one row of tokens. */
struct row_box {
    int begin[3], end[3];
    int height, width;
};

__device__ static inline row_box box_of(const attention_args &a, int row)
{
    row_box b = {{0, 0, 0}, {1, 1, a.other_rows}, 1, a.other_rows};
    if (a.reach[0] < 0)
        return b;
    b.height = a.height;
    b.width = a.width;
    int place[3] = {row / (a.height * a.width), row / a.width % a.height, row % a.width};
    int size[3] = {a.frames, a.height, a.width};
    for (int i = 0; i < 3; i++) {
        b.begin[i] = place[i] > a.reach[i] ? place[i] - a.reach[i] : 0;
        b.end[i] = place[i] + a.reach[i] + 1 < size[i] ? place[i] + a.reach[i] + 1 : size[i];
    }
    return b;
}

/* Calls fn(row) for every row of a box, in order. */
template <class FN> __device__ static inline void for_box(const row_box &b, FN fn)
{
    for (int f = b.begin[0]; f < b.end[0]; f++)
        for (int y = b.begin[1]; y < b.end[1]; y++)
            for (int x = b.begin[2]; x < b.end[2]; x++)
                fn((f * b.height + y) * b.width + x);
}

/* The row, head and segment of this warp; false: none.  a.tiles counts rows. */
__device__ static inline bool row_of_warp(const attention_args &a, int64_t *index)
{
    *index = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    return *index < a.segments * a.heads * a.tiles;
}

/* A head's row, CH channels to a lane: lane, lane+32, ... */
template <int CH>
__device__ static inline void load_row(float x[CH], const void *data, int dtype, int64_t at, int head_dim)
{
    cuda_array array = {(void *)data, dtype};
    int lane = (int)threadIdx.x % 32;
    OAS_UNROLL
    for (int i = 0; i < CH; i++)
        x[i] = lane + 32 * i < head_dim ? oas_load(&array, at + lane + 32 * i) : 0.f;
}

template <int CH> __device__ static inline float row_product(const float a[CH], const float b[CH])
{
    float sum = 0.f;
    OAS_UNROLL
    for (int i = 0; i < CH; i++)
        sum += a[i] * b[i];
    return oas_warp_sum(sum);
}

template <int CH>
__device__ static inline void add_row(float *gradient, int64_t at, int head_dim, float factor, const float sum[CH])
{
    int lane = (int)threadIdx.x % 32;
    OAS_UNROLL
    for (int i = 0; i < CH; i++)
        if (lane + 32 * i < head_dim)
            gradient[at + lane + 32 * i] += factor * sum[i];
}

template <int CH> static __global__ void plain_forward_kernel(const attention_args a)
{
    int64_t index;
    if (!row_of_warp(a, &index))
        return;
    attention_place place(a, index);
    int64_t own = place.segment * a.own_rows + place.tile, column = place.head * a.head_dim;
    int64_t others = place.segment * a.other_rows;
    float q[CH], out[CH], top = -INFINITY, total = 0.f;
    load_row<CH>(q, a.own[0], a.dtype, own * a.stride + column, a.head_dim);
    for (int i = 0; i < CH; i++)
        out[i] = 0.f;
    for_box(box_of(a, place.tile), [&](int key) {
        float x[CH];
        int64_t at = (others + key) * a.stride + column;
        load_row<CH>(x, a.other[0], a.dtype, at, a.head_dim);
        float s = row_product<CH>(q, x) * a.scale + (a.bias ? a.bias[key] : 0.f);
        float next = fmaxf(top, s), factor = expf(top - next), p = expf(s - next);
        load_row<CH>(x, a.other[1], a.dtype, at, a.head_dim);
        top = next;
        total = total * factor + p;
        for (int i = 0; i < CH; i++)
            out[i] = out[i] * factor + p * x[i];
    });
    cuda_array result = {a.result[0], a.dtype};
    int lane = (int)threadIdx.x % 32;
    for (int i = 0; i < CH; i++)
        if (lane + 32 * i < a.head_dim)
            oas_store(&result, own * a.stride + column + lane + 32 * i, out[i] / total);
    if (a.lse && lane == 0)
        a.lse[place.head * a.queries + own] = top + logf(total);
}

template <int CH> static __global__ void plain_dq_kernel(const attention_args a)
{
    int64_t index;
    if (!row_of_warp(a, &index))
        return;
    attention_place place(a, index);
    int64_t own = place.segment * a.own_rows + place.tile, column = place.head * a.head_dim;
    int64_t others = place.segment * a.other_rows;
    float q[CH], dout[CH], sum[CH], lse = a.lse[place.head * a.queries + own];
    float delta = a.delta[place.head * a.queries + own];
    load_row<CH>(q, a.own[0], a.dtype, own * a.stride + column, a.head_dim);
    load_row<CH>(dout, a.own[1], 0, own * a.stride + column, a.head_dim);
    for (int i = 0; i < CH; i++)
        sum[i] = 0.f;
    for_box(box_of(a, place.tile), [&](int key) {
        float k[CH], v[CH];
        int64_t at = (others + key) * a.stride + column;
        load_row<CH>(k, a.other[0], a.dtype, at, a.head_dim);
        load_row<CH>(v, a.other[1], a.dtype, at, a.head_dim);
        float p = expf(row_product<CH>(q, k) * a.scale + (a.bias ? a.bias[key] : 0.f) - lse);
        float e = p * (row_product<CH>(dout, v) - delta);
        for (int i = 0; i < CH; i++)
            sum[i] += e * k[i];
    });
    add_row<CH>((float *)a.result[0], own * a.stride + column, a.head_dim, a.scale, sum);
}

template <int CH> static __global__ void plain_dkv_kernel(const attention_args a)
{
    int64_t index;
    if (!row_of_warp(a, &index))
        return;
    attention_place place(a, index);
    int64_t own = place.segment * a.own_rows + place.tile, column = place.head * a.head_dim;
    int64_t others = place.segment * a.other_rows, head = place.head * a.queries;
    float k[CH], v[CH], dk[CH], dv[CH], bias = a.bias ? a.bias[place.tile] : 0.f, row_sum = 0.f;
    load_row<CH>(k, a.own[0], a.dtype, own * a.stride + column, a.head_dim);
    load_row<CH>(v, a.own[1], a.dtype, own * a.stride + column, a.head_dim);
    for (int i = 0; i < CH; i++)
        dk[i] = dv[i] = 0.f;
    for_box(box_of(a, place.tile), [&](int query) {
        float q[CH], dout[CH];
        int64_t at = (others + query) * a.stride + column;
        load_row<CH>(q, a.other[0], a.dtype, at, a.head_dim);
        load_row<CH>(dout, a.other[1], 0, at, a.head_dim);
        float p = expf(row_product<CH>(q, k) * a.scale + bias - a.lse[head + others + query]);
        float e = p * (row_product<CH>(dout, v) - a.delta[head + others + query]);
        row_sum += e;
        for (int i = 0; i < CH; i++) {
            dk[i] += e * q[i];
            dv[i] += p * dout[i];
        }
    });
    if (a.result[0])
        add_row<CH>((float *)a.result[0], own * a.stride + column, a.head_dim, a.scale, dk);
    if (a.result[1])
        add_row<CH>((float *)a.result[1], own * a.stride + column, a.head_dim, 1.f, dv);
    if (a.row_sums && threadIdx.x % 32 == 0)
        a.row_sums[(place.segment * a.heads + place.slot) * a.own_rows + place.tile] = row_sum;
}

/* ---- host ---------------------------------------------------------------------------------------------------------- */

/* narrow: the kernel for up to 128 channels, wide: for up to 512. */
static oasis_status launch(oas_cuda *c, const attention_args *part, void (*narrow)(const attention_args),
                           void (*wide)(const attention_args))
{
    attention_args a = *part;
    a.tiles = a.own_rows;
    auto kernel = a.head_dim <= 128 ? narrow : wide;
    OAS_LAUNCH(c, kernel, (part_blocks(&a) + WARPS - 1) / WARPS, THREADS, 0, a);
    return oas_launched();
}

oasis_status oas_attention_forward_plain(oas_cuda *c, const attention_args *a)
{
    return launch(c, a, plain_forward_kernel<4>, plain_forward_kernel<16>);
}

oasis_status oas_attention_dq_plain(oas_cuda *c, const attention_args *a)
{
    return launch(c, a, plain_dq_kernel<4>, plain_dq_kernel<16>);
}

oasis_status oas_attention_dkv_plain(oas_cuda *c, const attention_args *a)
{
    return launch(c, a, plain_dkv_kernel<4>, plain_dkv_kernel<16>);
}
