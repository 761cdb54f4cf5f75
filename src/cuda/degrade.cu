/* Degradations: filtering and resampling of pictures. */
#include "cuda/degrade.h"
#include "cuda/degrade_parts.cuh"
#include "cuda/resample.cuh"
#include "cuda/values.cuh"

/* ---- filtering ------------------------------------------------------------------------------------------------------- */

enum {
    SIDE = OAS_CUDA_FILTER_SIDE,
    TILE = 32, /* pixels of a block, and rows */
    TILE_ROWS = OAS_BLOCK / TILE,
    MOST_ACROSS = TILE + SIDE - 1,
    MOST_DOWN = TILE_ROWS + SIDE - 1
};

struct filter_job {
    float *out;
    const float *in;
    int width, height;
    cuda_filter how;
};

/* i mirrored into 0..n-1 without repeating the edges, as `mirrored` of degrade/kernel.c. */
__device__ static int mirrored(int i, int n)
{
    if (n == 1)
        return 0;
    int period = 2 * (n - 1);
    i %= period;
    i = i < 0 ? i + period : i;
    return i < n ? i : period - i;
}

/* A block has the pixels of a tile and of its surroundings beside it; every thread has one pixel. */
static __global__ void filter_kernel(filter_job j)
{
    __shared__ float weight[SIDE * SIDE];
    __shared__ float tile[MOST_DOWN * MOST_ACROSS * 3];
    const int nx = j.how.across, ny = j.how.down, across = TILE + nx - 1, down = TILE_ROWS + ny - 1;
    const int left = (int)blockIdx.x * TILE - nx / 2, top = (int)blockIdx.y * TILE_ROWS - ny / 2;
    for (int i = (int)threadIdx.x; i < nx * ny; i += OAS_BLOCK)
        weight[i] = j.how.weight[i];
    for (int i = (int)threadIdx.x; i < down * across; i += OAS_BLOCK) {
        int64_t y = mirrored(top + i / across, j.height), x = mirrored(left + i % across, j.width);
        const float *from = j.in + (y * j.width + x) * 3;
        for (int c = 0; c < 3; c++)
            tile[3 * i + c] = from[c];
    }
    __syncthreads();
    const int tx = (int)threadIdx.x % TILE, ty = (int)threadIdx.x / TILE;
    const int x = (int)blockIdx.x * TILE + tx, y = (int)blockIdx.y * TILE_ROWS + ty;
    if (x >= j.width || y >= j.height)
        return;
    float sum[3] = {0.f, 0.f, 0.f};
    for (int k = 0; k < ny; k++)
        for (int i = 0; i < nx; i++) {
            const float *from = tile + ((ty + k) * across + tx + i) * 3;
            float w = weight[k * nx + i];
            OAS_UNROLL
            for (int c = 0; c < 3; c++)
                sum[c] += w * from[c];
        }
    float *to = j.out + ((int64_t)y * j.width + x) * 3;
    OAS_UNROLL
    for (int c = 0; c < 3; c++)
        to[c] = sum[c];
}

static oasis_status filter(oas_cuda *c, float *out, const float *in, int32_t width, int32_t height,
                           const cuda_filter *how)
{
    filter_job j = {out, in, width, height, *how};
    dim3 blocks((unsigned)((width + TILE - 1) / TILE), (unsigned)((height + TILE_ROWS - 1) / TILE_ROWS), 1);
    OAS_LAUNCH(c, filter_kernel, blocks, OAS_BLOCK, 0, j);
    return oas_launched();
}

/* ---- resampling ------------------------------------------------------------------------------------------------------ */

enum { BICUBIC, BILINEAR, AREA };

/* One axis of a picture: [rows][in][pixels][3] to [rows][out][pixels][3]. */
struct axis_job {
    float *out;
    const float *in;
    int64_t rows, pixels;
    int n_in, n_out, taps, filter;
    double a;
};

/* The part of output o, counted in outputs, that input j covers: as image/resize.c. */
__device__ static double area_weight(int64_t o, int64_t j, int64_t in, int64_t out)
{
    int64_t left = o * in, right = left + in, begin = j * out, end = begin + out;
    int64_t covered = (end < right ? end : right) - (begin > left ? begin : left);
    return covered > 0 ? (double)covered / (double)in : 0;
}

/* The weights are made anew for every value: that costs less than reading the picture. */
static __global__ void axis_kernel(axis_job j)
{
    for (int64_t item = oas_first_item(); item < j.rows * j.n_out * j.pixels; item += oas_item_step()) {
        int64_t pixel, o, row = oas_divide(oas_divide(item, j.pixels, &pixel), j.n_out, &o);
        double x = ((double)o + 0.5) * j.n_in / j.n_out - 0.5;
        int first = j.filter == AREA ? (int)(o * j.n_in / j.n_out) : (int)floor(x) - (j.filter == BICUBIC);
        float sum[3] = {0.f, 0.f, 0.f};
        for (int k = 0; k < j.taps; k++) {
            int at = first + k, inside = at < 0 ? 0 : at < j.n_in ? at : j.n_in - 1;
            double away = x - at, w;
            if (j.filter == AREA)
                w = area_weight(o, at, j.n_in, j.n_out);
            else
                w = j.filter == BICUBIC ? oas_cubic(away, j.a) : 1 - (away < 0 ? -away : away);
            const float *from = j.in + ((row * j.n_in + inside) * j.pixels + pixel) * 3;
            OAS_UNROLL
            for (int c = 0; c < 3; c++)
                sum[c] += (float)w * from[c];
        }
        OAS_UNROLL
        for (int c = 0; c < 3; c++)
            j.out[item * 3 + c] = sum[c];
    }
}

static oasis_status run_axis(oas_cuda *c, axis_job j)
{
    j.taps = j.filter == BICUBIC ? 4 : j.filter == BILINEAR ? 2 : j.n_in / j.n_out + 2;
    OAS_LAUNCH(c, axis_kernel, oas_blocks(c, j.rows * j.n_out * j.pixels), OAS_BLOCK, 0, j);
    return oas_launched();
}

static oasis_status resample(oas_cuda *c, float *out, float *mid, const float *in, const cuda_sampling *how)
{
    axis_job across = {mid, in, how->in_height, 1, how->in_width, how->out_width, 0, how->filter, how->a};
    axis_job down = {out, mid, 1, how->out_width, how->in_height, how->out_height, 0, how->filter, how->a};
    oasis_status s = run_axis(c, across);
    return s == OASIS_OK ? run_axis(c, down) : s;
}

const struct cuda_degrade oas_cuda_degrade = {filter, resample, oas_degrade_gaussian, oas_degrade_poisson};
