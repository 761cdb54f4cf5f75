/*
 * A convolution of 3x3 with few channels, all of it in one kernel: the library's kernels are made for many channels, and
 * bias, activation and residual were another pass over the result.
 *
 * A block has 4 MT rows of 32 pixels.  Their inputs and a pixel around them lie in shared memory, a frame of those that are
 * seen after the other, and so do all weights.  A warp has MT times 16 pixels of a row by all outputs:
 *
 *     sum over frames, and over groups of 8 inputs of a tap, two groups a step:
 *         [16 pixels, 16 inputs] x [16 inputs, outputs]       on tensor cores; the second group may be another tap's
 *
 * Sums are float, in an order that depends on the sizes alone.
 */
#include "cuda/conv.h"
#include "cuda/values.cuh"

enum {
    TILE_WIDTH = 32,
    HALO_WIDTH = TILE_WIDTH + 2,
    WARPS = OAS_BLOCK / OAS_WARP,
    PIXELS = 16, /* of a product */
    TAPS = 9,
    GROUP = 8, /* inputs that lie side by side in 16 bytes */
    MOST_CHANNELS = 64,
    MOST_GROUPS = TAPS * MOST_CHANNELS / GROUP + 1,
    MOST_SHARED = 110 << 10, /* bytes, so that a processor of compute capability 9 has two blocks */
    STATIC_SHARED = 1 << 10  /* of places, and what the system takes of a block's */
};

struct narrow_job {
    cuda_narrow n;
    int groups;           /* of 8 inputs, the last one filled up with zeros */
    int pixel;            /* values between pixels in shared memory: an odd number of groups, against bank conflicts */
    int steps, row;       /* products of a frame; values of an output's weights in shared memory */
    int outputs;          /* rows of weights in shared memory */
    int down, across;     /* tiles of a picture */
    int64_t tiles;        /* of all pictures */
    bool whole;           /* can groups of inputs be moved as 16 bytes? */
};

static int tile_rows(int mt)
{
    return 4 * mt;
}

static size_t shared_bytes(const narrow_job *j, int mt)
{
    size_t weights = (size_t)j->outputs * (size_t)j->row, halo = (size_t)((tile_rows(mt) + 2) * HALO_WIDTH * j->pixel);
    return (weights + halo) * sizeof(uint16_t);
}

/* ---- to shared memory ------------------------------------------------------------------------------------------------ */

/* Frame i of those that an output's frame sees, the oldest first; NULL: there is none, and zeros stand for it. */
__device__ static inline const uint16_t *frame_of(const cuda_narrow &n, int64_t batch, int64_t frame, int i)
{
    int64_t before = n.size.kt - 1, at = frame + i - before, each = n.size.height * n.size.width * n.size.in;
    if (at >= 0)
        return (const uint16_t *)n.x + (batch * n.size.frames + at) * each;
    return n.history ? (const uint16_t *)n.history + (batch * before + at + before) * each : NULL;
}

/* The inputs of a tile with a pixel around it. */
__device__ static inline void load_halo(const narrow_job &j, uint16_t *halo, const uint16_t *frame, int rows, int top,
                                        int left)
{
    int in = (int)j.n.size.in, height = (int)j.n.size.height, width = (int)j.n.size.width;
    for (int i = (int)threadIdx.x; i < (rows + 2) * HALO_WIDTH * j.groups; i += OAS_BLOCK) {
        int pixel = i / j.groups, channel = i % j.groups * GROUP;
        int y = top - 1 + pixel / HALO_WIDTH, x = left - 1 + pixel % HALO_WIDTH;
        bool there = frame && y >= 0 && y < height && x >= 0 && x < width;
        const uint16_t *from = there ? frame + ((int64_t)y * width + x) * in + channel : (const uint16_t *)j.n.x;
        uint16_t *to = halo + pixel * j.pixel + channel;
        if (j.whole) {
            oas_async_copy16(to, from, there);
            continue;
        }
        for (int k = 0; k < GROUP; k++)
            to[k] = there && channel + k < in ? from[k] : 0;
    }
}

/* All weights, by output, frame, tap and input, with zeros where a group or a step is filled up. */
__device__ static inline void load_weights(const narrow_job &j, uint16_t *weights)
{
    int in = (int)j.n.size.in, kt = j.n.size.kt, row = j.row / GROUP, each = j.steps * 2;
    for (int i = (int)threadIdx.x; i < j.outputs * row; i += OAS_BLOCK) {
        int output = i / row, frame = i % row / each, group = i % row % each;
        int tap = group / j.groups, channel = group % j.groups * GROUP;
        bool there = output < j.n.size.out && frame < kt && tap < TAPS;
        int64_t at = ((int64_t)(output * kt + frame) * TAPS + tap) * in + channel;
        const uint16_t *from = (const uint16_t *)j.n.w + (there ? at : 0);
        if (j.whole) {
            oas_async_copy16(weights + i * GROUP, from, there);
            continue;
        }
        for (int k = 0; k < GROUP; k++)
            weights[i * GROUP + k] = there && channel + k < in ? from[k] : (uint16_t)0;
    }
}

/* Where a group of inputs of a tap lies, from a pixel's first tap on. */
__device__ static inline void place_groups(const narrow_job &j, int *place)
{
    for (int i = (int)threadIdx.x; i < 2 * j.steps; i += OAS_BLOCK) {
        int tap = i / j.groups, channel = i % j.groups * GROUP;
        /* A group behind the last has weights of zero: it stands for the first, whose values are part of the sum anyway. */
        place[i] = tap < TAPS ? (tap / 3 * HALO_WIDTH + tap % 3) * j.pixel + channel : 0;
    }
}

/* ---- results --------------------------------------------------------------------------------------------------------- */

__device__ static inline uint32_t finished(int act, float a, float b, const float bias[2], uint32_t residual)
{
    return oas_bf16_pair(oas_cuda_act_in(1, act, a + bias[0]) + oas_bf16_load((uint16_t)residual),
                         oas_cuda_act_in(1, act, b + bias[1]) + oas_bf16_load((uint16_t)(residual >> 16)));
}

/* A lane has two outputs at a time, of two pixels.  Of a product all is read before anything is written. */
template <int NT, int MT>
__device__ static void finish_tile(const narrow_job &j, const float sum[MT][NT][4], int64_t picture, int top, int left)
{
    int lane = (int)threadIdx.x % OAS_WARP, warp = (int)threadIdx.x / OAS_WARP, out = (int)j.n.size.out;
    int first = lane % 4 * 2, height = (int)j.n.size.height, width = (int)j.n.size.width;
    const uint32_t *residual = (const uint32_t *)j.n.residual;
    uint32_t *y = (uint32_t *)j.n.y;
    float bias[NT][2];
    OAS_UNROLL
    for (int i = 0; i < NT; i++)
        OAS_UNROLL
    for (int k = 0; k < 2; k++)
        bias[i][k] = j.n.bias && i * GROUP + first < out ? j.n.bias[i * GROUP + first + k] : 0.f;
    OAS_UNROLL
    for (int m = 0; m < MT; m++) {
        int tile = warp * MT + m, row = top + tile / 2, column = left + tile % 2 * PIXELS + lane / 4;
        int64_t at = (((picture * height + row) * width + column) * out + first) / 2; /* pairs, as all that follows */
        int pixels = row < height ? width - column : 0, step = PIXELS / 2 * out / 2;
        uint32_t before[NT][2];
        OAS_UNROLL
        for (int i = 0; i < NT; i++)
            OAS_UNROLL
        for (int half = 0; half < 2; half++) {
            bool there = residual && half * PIXELS / 2 < pixels && i * GROUP + first < out;
            before[i][half] = there ? residual[at + half * step + i * GROUP / 2] : 0;
        }
        OAS_UNROLL
        for (int i = 0; i < NT; i++)
            OAS_UNROLL
        for (int half = 0; half < 2; half++)
            if (half * PIXELS / 2 < pixels && i * GROUP + first < out)
                y[at + half * step + i * GROUP / 2] = finished(j.n.act, sum[m][i][2 * half], sum[m][i][2 * half + 1],
                                                               bias[i], before[i][half]);
    }
}

/* ---- products -------------------------------------------------------------------------------------------------------- */

/* Adds what one frame gives.  `weights` are those of the frame. */
template <int NT, int MT>
__device__ static void add_frame(const narrow_job &j, float sum[MT][NT][4], const uint16_t *halo, const int *place,
                                 const uint16_t *weights)
{
    int lane = (int)threadIdx.x % OAS_WARP, warp = (int)threadIdx.x / OAS_WARP;
    const uint16_t *pixels[MT];
    OAS_UNROLL
    for (int m = 0; m < MT; m++) {
        int tile = warp * MT + m;
        pixels[m] = halo + (tile / 2 * HALO_WIDTH + tile % 2 * PIXELS + lane % PIXELS) * j.pixel;
    }
    weights += (lane / PIXELS * GROUP + lane % GROUP) * j.row + lane / GROUP % 2 * GROUP;
    for (int step = 0; step < j.steps; step++) {
        uint32_t a[MT][4], b[4];
        int at = place[2 * step + lane / PIXELS];
        OAS_UNROLL
        for (int m = 0; m < MT; m++)
            oas_load_matrices(a[m], pixels[m] + at);
        OAS_UNROLL
        for (int i = 0; i < NT; i += 2) {
            oas_load_matrices(b, weights + i * GROUP * j.row + step * 2 * GROUP);
            OAS_UNROLL
            for (int m = 0; m < MT; m++) {
                oas_multiply_16x8x16(sum[m][i], a[m], b);
                if (i + 1 < NT)
                    oas_multiply_16x8x16(sum[m][i + 1], a[m], b + 2);
            }
        }
    }
}

template <int NT, int MT> static __global__ void __launch_bounds__(OAS_BLOCK, NT <= 3 ? 3 : 2) narrow_kernel(narrow_job j)
{
    __shared__ int place[MOST_GROUPS];
    OAS_DYNAMIC_SHARED(uint16_t, weights);
    uint16_t *halo = weights + j.outputs * j.row;
    const int rows = 4 * MT;
    load_weights(j, weights);
    place_groups(j, place);
    for (int64_t tile = blockIdx.x; tile < j.tiles; tile += gridDim.x) {
        int64_t of_picture, column, picture, frame;
        picture = oas_divide(tile, j.down * j.across, &of_picture);
        int top = (int)oas_divide(of_picture, j.across, &column) * rows, left = (int)column * TILE_WIDTH;
        int64_t batch = oas_divide(picture, j.n.size.frames, &frame);
        float sum[MT][NT][4];
        OAS_UNROLL
        for (int m = 0; m < MT; m++)
            OAS_UNROLL
        for (int i = 0; i < NT; i++)
            OAS_UNROLL
        for (int k = 0; k < 4; k++)
            sum[m][i][k] = 0.f;
        for (int i = 0; i < j.n.size.kt; i++) {
            __syncthreads(); /* nobody reads the frame before any longer */
            load_halo(j, halo, frame_of(j.n, batch, frame, i), rows, top, left);
            oas_async_commit();
            oas_async_wait<0>();
            __syncthreads();
            add_frame<NT, MT>(j, sum, halo, place, weights + i * j.steps * 2 * GROUP);
        }
        finish_tile<NT, MT>(j, sum, picture, top, left);
    }
}

/* ---- on the host ----------------------------------------------------------------------------------------------------- */

static narrow_job job_of(const cuda_convolution *s)
{
    narrow_job j = {};
    j.n.size = *s;
    j.groups = (int)((s->in + GROUP - 1) / GROUP);
    j.pixel = (j.groups | 1) * GROUP;
    j.steps = (TAPS * j.groups + 1) / 2;
    j.row = (s->kt * j.steps * 2 + 1) * GROUP;
    j.outputs = (int)((s->out + 2 * GROUP - 1) / (2 * GROUP)) * 2 * GROUP;
    return j;
}

/* Twice 4 rows a block where shared memory allows, which differs between chips; 0: not even 4. */
static int rows_of(const oas_cuda *c, const narrow_job *j)
{
    int there = c->shared_bytes - STATIC_SHARED;
    size_t most = (size_t)(there < MOST_SHARED ? there : (int)MOST_SHARED);
    return shared_bytes(j, 2) <= most ? 2 : shared_bytes(j, 1) <= most ? 1 : 0;
}

static bool accepts(const oas_cuda *c, const cuda_convolution *s)
{
    if (s->type != 1 || s->k != 3 || s->in > MOST_CHANNELS || s->out > MOST_CHANNELS || s->out % 2 != 0)
        return false;
    narrow_job j = job_of(s);
    return rows_of(c, &j) > 0;
}

template <int NT, int MT> static oasis_status launch(oas_cuda *c, narrow_job j)
{
    j.down = (int)((j.n.size.height + tile_rows(MT) - 1) / tile_rows(MT));
    j.across = (int)((j.n.size.width + TILE_WIDTH - 1) / TILE_WIDTH);
    j.tiles = j.n.size.batch * j.n.size.frames * j.down * j.across;
    size_t bytes = shared_bytes(&j, MT);
    int64_t most = (int64_t)c->processors * (NT <= 3 && 3 * bytes <= 2 * MOST_SHARED ? 3 : 2); /* blocks at work */
    auto kernel = narrow_kernel<NT, MT>;
    if (!OAS_ALLOW_SHARED(kernel, bytes))
        return OASIS_E_DEVICE;
    OAS_LAUNCH(c, kernel, (unsigned)(j.tiles < most ? j.tiles : most), OAS_BLOCK, bytes, j);
    return oas_launched();
}

template <int NT> static oasis_status launch_rows(oas_cuda *c, const narrow_job &j)
{
    return rows_of(c, &j) == 2 ? launch<NT, 2>(c, j) : launch<NT, 1>(c, j);
}

static oasis_status run(oas_cuda *c, const cuda_narrow *n)
{
    narrow_job j = job_of(&n->size);
    j.n = *n;
    j.whole = n->size.in % GROUP == 0 && (uintptr_t)n->x % 16 == 0 && (uintptr_t)n->history % 16 == 0 &&
              (uintptr_t)n->w % 16 == 0;
    if (n->size.batch * n->size.frames * n->size.height * n->size.width == 0)
        return OASIS_OK;
    if (n->size.out <= 16)
        return launch_rows<2>(c, j);
    if (n->size.out <= 24)
        return launch_rows<3>(c, j);
    if (n->size.out <= 32)
        return launch_rows<4>(c, j);
    return n->size.out <= 48 ? launch_rows<6>(c, j) : launch_rows<8>(c, j);
}

const struct cuda_narrow_conv oas_cuda_narrow_conv = {accepts, run};
