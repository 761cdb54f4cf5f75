/* Moving rows, frames and weights; pictures in and out. */
#include "cuda/passes_parts.cuh"
#include "cuda/resample.cuh"
#include "cuda/values.cuh"

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

struct move_job {
    cuda_array to, from;
    int64_t to_stride, from_stride, run, rows, chunks; /* chunks of a row */
    bool add, wide;
};

static __global__ void move_kernel(move_job j)
{
    for (int64_t item = oas_first_item(); item < j.rows * j.chunks; item += oas_item_step()) {
        int64_t at, row = oas_divide(item, j.chunks, &at);
        at *= OAS_CHUNK;
        int n = oas_in_chunk(at, j.run);
        float v[OAS_CHUNK] = {0.f};
        if (j.from.data)
            oas_load8(v, j.from, row * j.from_stride + at, n, j.wide);
        if (j.add)
            oas_add8(j.to, row * j.to_stride + at, v, n, j.wide);
        else
            oas_store8(j.to, row * j.to_stride + at, v, n, j.wide);
    }
}

oasis_status oas_move_rows(oas_cuda *c, cuda_array to, int64_t to_stride, cuda_array from, int64_t from_stride,
                           int64_t run, int64_t rows, bool add)
{
    if (rows < 1 || run < 1)
        return OASIS_OK;
    move_job j = {to, from, to_stride, from_stride, run, rows, (run + OAS_CHUNK - 1) / OAS_CHUNK, add, false};
    j.wide = rows == 1 ? oas_is_wide(to, 0) && oas_is_wide(from, 0)
                       : oas_is_wide(to, to_stride) && oas_is_wide(from, from_stride);
    OAS_LAUNCH(c, move_kernel, oas_blocks(c, rows * j.chunks), OAS_BLOCK, 0, j);
    return oas_launched();
}

oasis_status oas_pass_copy_rows(oas_cuda *c, float *to, int64_t to_stride, const float *from, int64_t from_stride,
                                int64_t run, int64_t rows)
{
    return oas_move_rows(c, oas_float_array(to), to_stride, oas_float_array(from), from_stride, run, rows, false);
}

oasis_status oas_pass_join_history(oas_cuda *c, cuda_array to, cuda_array x, cuda_array history, int64_t batch,
                                   int64_t frames, int64_t before, int64_t n)
{
    int64_t whole = (before + frames) * n;
    oasis_status s = oas_move_rows(c, to, whole, history, before * n, before * n, batch, false);
    if (s != OASIS_OK)
        return s;
    return oas_move_rows(c, oas_array_at(to, before * n), whole, x, frames * n, frames * n, batch, false);
}

oasis_status oas_pass_split_history(oas_cuda *c, float *dx, float *dhistory, cuda_array from, int64_t batch,
                                    int64_t frames, int64_t before, int64_t n)
{
    int64_t whole = (before + frames) * n;
    oasis_status s = OASIS_OK;
    if (dhistory)
        s = oas_move_rows(c, oas_float_array(dhistory), before * n, from, whole, before * n, batch, true);
    if (s != OASIS_OK || !dx)
        return s;
    return oas_move_rows(c, oas_float_array(dx), frames * n, oas_array_at(from, before * n), whole, frames * n, batch,
                         true);
}

/* ---- weights --------------------------------------------------------------------------------------------------------- */

struct weights_job {
    cuda_array ours, theirs; /* theirs: [out, kt, k, k, in], the oldest frame first */
    int64_t out, in, kt, taps;
    int32_t stacked;
    bool back; /* add theirs to ours */
};

static __global__ void conv_weights_kernel(weights_job j)
{
    for (int64_t item = oas_first_item(); item < j.out * j.in * j.kt * j.taps; item += oas_item_step()) {
        int64_t i, tap, frame, rest = oas_divide(item, j.in, &i);
        rest = oas_divide(rest, j.taps, &tap);
        int64_t o = oas_divide(rest, j.kt, &frame);
        int64_t slot = j.stacked ? (o * j.kt + j.kt - 1 - frame) * j.in + i : (o * j.in + i) * j.kt + frame;
        int64_t at = slot * j.taps + tap;
        if (j.back)
            oas_store(&j.ours, at, oas_load(&j.ours, at) + oas_load(&j.theirs, item));
        else
            oas_store(&j.theirs, item, oas_load(&j.ours, at));
    }
}

static oasis_status run_weights(oas_cuda *c, const weights_job &j)
{
    int64_t n = j.out * j.in * j.kt * j.taps;
    if (n < 1)
        return OASIS_OK;
    OAS_LAUNCH(c, conv_weights_kernel, oas_blocks(c, n), OAS_BLOCK, 0, j);
    return oas_launched();
}

oasis_status oas_pass_conv_weights(oas_cuda *c, cuda_array to, cuda_array w, int32_t stacked, int64_t out, int64_t in,
                                   int64_t kt, int64_t k)
{
    weights_job j = {w, to, out, in, kt, k * k, stacked, false};
    return run_weights(c, j);
}

oasis_status oas_pass_conv_weights_back(oas_cuda *c, float *dw, cuda_array from, int32_t stacked, int64_t out,
                                        int64_t in, int64_t kt, int64_t k)
{
    weights_job j = {oas_float_array(dw), from, out, in, kt, k * k, stacked, true};
    return run_weights(c, j);
}

enum { TILE = 32, TILE_ROWS = OAS_BLOCK / TILE };

static __global__ void transpose_kernel(cuda_array to, cuda_array from, int64_t rows, int64_t columns)
{
    __shared__ float tile[TILE][TILE + 1];
    int x = (int)threadIdx.x % TILE, y = (int)threadIdx.x / TILE;
    int64_t row = (int64_t)blockIdx.y * TILE, column = (int64_t)blockIdx.x * TILE;
    for (int i = y; i < TILE; i += TILE_ROWS)
        if (row + i < rows && column + x < columns)
            tile[i][x] = oas_load(&from, (row + i) * columns + column + x);
    __syncthreads();
    for (int i = y; i < TILE; i += TILE_ROWS)
        if (column + i < columns && row + x < rows)
            oas_store(&to, (column + i) * rows + row + x, tile[x][i]);
}

oasis_status oas_pass_transpose(oas_cuda *c, cuda_array to, cuda_array from, int64_t rows, int64_t columns)
{
    if (rows < 1 || columns < 1)
        return OASIS_OK;
    dim3 blocks((unsigned)((columns + TILE - 1) / TILE), (unsigned)((rows + TILE - 1) / TILE), 1);
    OAS_LAUNCH(c, transpose_kernel, blocks, OAS_BLOCK, 0, to, from, rows, columns);
    return oas_launched();
}

/* ---- pictures -------------------------------------------------------------------------------------------------------- */

enum { TAPS = 4 };

/* Which pixels output i of an axis takes, and how much of each; those beyond the picture repeat the last one. */
__device__ static void taps_of(int i, int in, int out, double a, int index[TAPS], float weight[TAPS])
{
    int o = i < out ? i : out - 1;
    double x = (o + 0.5) * in / out - 0.5;
    int first = (int)floor(x) - 1;
    for (int k = 0; k < TAPS; k++) {
        int j = first + k;
        index[k] = j < 0 ? 0 : j < in ? j : in - 1;
        weight[k] = (float)oas_cubic(x - j, a);
    }
}

/* One pixel: across in TAPS rows, then down. */
static __global__ void resize_kernel(cuda_array to, cuda_array from, int64_t pixels, cuda_resize p)
{
    for (int64_t item = oas_first_item(); item < pixels; item += oas_item_step()) {
        int64_t x, y, frame = oas_divide(oas_divide(item, p.padded_width, &x), p.padded_height, &y);
        int across[TAPS], down[TAPS];
        float wx[TAPS], wy[TAPS], sum[3] = {0.f, 0.f, 0.f};
        taps_of((int)x, p.in_width, p.out_width, p.a, across, wx);
        taps_of((int)y, p.in_height, p.out_height, p.a, down, wy);
        OAS_UNROLL
        for (int r = 0; r < TAPS; r++) {
            int64_t row = (frame * p.in_height + down[r]) * p.in_width;
            OAS_UNROLL
            for (int c = 0; c < 3; c++) {
                float v = 0.f;
                OAS_UNROLL
                for (int k = 0; k < TAPS; k++)
                    v += wx[k] * oas_load(&from, (row + across[k]) * 3 + c);
                sum[c] += wy[r] * p.scale * v;
            }
        }
        OAS_UNROLL
        for (int c = 0; c < 3; c++)
            oas_store(&to, item * 3 + c, sum[c] + p.offset);
    }
}

oasis_status oas_pass_resize(oas_cuda *c, cuda_array to, cuda_array from, int64_t frames, const cuda_resize *how)
{
    int64_t pixels = frames * how->padded_height * how->padded_width;
    if (pixels < 1)
        return OASIS_OK;
    OAS_LAUNCH(c, resize_kernel, oas_blocks(c, pixels), OAS_BLOCK, 0, to, from, pixels, *how);
    return oas_launched();
}

static __global__ void finish_kernel(cuda_array out, cuda_array decoded, int64_t rows, int64_t height, int64_t width,
                                     int64_t out_height, int64_t out_width)
{
    for (int64_t item = oas_first_item(); item < rows * out_width * 3; item += oas_item_step()) {
        int64_t i, y, row = oas_divide(item, out_width * 3, &i), frame = oas_divide(row, out_height, &y);
        oas_store(&out, item, 0.5f * oas_load(&decoded, (frame * height + y) * width * 3 + i) + 0.5f);
    }
}

oasis_status oas_pass_finish(oas_cuda *c, cuda_array out, cuda_array decoded, int64_t frames, int64_t height,
                             int64_t width, int64_t out_height, int64_t out_width)
{
    int64_t rows = frames * out_height;
    if (rows * out_width < 1)
        return OASIS_OK;
    OAS_LAUNCH(c, finish_kernel, oas_blocks(c, rows * out_width * 3), OAS_BLOCK, 0, out, decoded, rows, height, width,
               out_height, out_width);
    return oas_launched();
}
