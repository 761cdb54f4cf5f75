/* Distances between features of pictures, as ops/perceptual.c defines them. */
#include "cuda/losses_parts.cuh"
#include "cuda/rows.cuh"
#include "cuda/totals.cuh"

/* ---- directions of features ------------------------------------------------------------------------------------------ */

struct features_job {
    cuda_array a, b, weights, derivative;
    double *totals;
    double factor;
};

/* By the size alone: the sums follow it. */
static unsigned features_blocks(int64_t rows, int64_t d)
{
    enum { MOST = 1024 };
    int64_t blocks = (rows * oas_lanes_for(d) + OAS_BLOCK - 1) / OAS_BLOCK;
    return (unsigned)(blocks < 1 ? 1 : blocks < MOST ? blocks : (int64_t)MOST);
}

size_t oas_losses_features_bytes(oas_cuda *c, int64_t rows, int64_t d)
{
    (void)c;
    return features_blocks(rows, d) * sizeof(double);
}

template <int K> __device__ static float length_of(const oas_lane_row<K> &x)
{
    float square = 0.f, v[OAS_CHUNK];
    OAS_UNROLL
    for (int k = 0; k < x.chunks(); k++) {
        x.get(k, v);
        OAS_UNROLL
        for (int i = 0; i < OAS_CHUNK; i++)
            square += v[i] * v[i];
    }
    return sqrtf(oas_group_sum(square, x.lanes));
}

/* e = a/n - b/m of a chunk, and q = 2 w e. */
template <int K>
__device__ static void differences(const features_job &j, const oas_lane_row<K> &a, const oas_lane_row<K> &b, int k,
                                   float n, float m, float v[OAS_CHUNK], float e[OAS_CHUNK], float q[OAS_CHUNK])
{
    float other[OAS_CHUNK], w[OAS_CHUNK];
    a.get(k, v);
    b.get(k, other);
    OAS_UNROLL
    for (int i = 0; i < OAS_CHUNK; i++)
        w[i] = 1.f;
    if (j.weights.data)
        oas_load8(w, j.weights, a.column(k), a.count(k), a.wide);
    OAS_UNROLL
    for (int i = 0; i < OAS_CHUNK; i++) {
        e[i] = v[i] / n - other[i] / m;
        q[i] = 2.f * w[i] * e[i];
    }
}

/* With r = |a|, n = r + eps: the derivative of the sum of w e^2 is (q - (q . a) a / (r n)) / n. */
template <int K> static __global__ void features_kernel(oas_row_walk w, features_job j)
{
    __shared__ double shared[OAS_BLOCK];
    double sum = 0;
    OAS_FOR_ROWS(w, row)
    {
        oas_lane_row<K> a, b;
        float v[OAS_CHUNK], e[OAS_CHUNK], q[OAS_CHUNK], along = 0.f, value = 0.f;
        a.start(w, j.a, row);
        b.start(w, j.b, row);
        float r = length_of(a), n = r + 1e-10f, m = length_of(b) + 1e-10f; /* LENGTH_EPS */
        OAS_UNROLL
        for (int k = 0; k < a.chunks(); k++) {
            differences(j, a, b, k, n, m, v, e, q);
            OAS_UNROLL
            for (int i = 0; i < OAS_CHUNK; i++) {
                value += 0.5f * q[i] * e[i];
                along += q[i] * v[i];
            }
        }
        sum += a.there ? (double)value : 0.;
        if (!j.derivative.data)
            continue;
        along = oas_group_sum(along, a.lanes) / (r * n);
        bool turns = r > 1e-4f; /* LEAST_LENGTH */
        float factor = (float)j.factor / n;
        OAS_UNROLL
        for (int k = 0; k < a.chunks(); k++) {
            differences(j, a, b, k, n, m, v, e, q);
            OAS_UNROLL
            for (int i = 0; i < OAS_CHUNK; i++)
                q[i] = turns ? factor * (q[i] - along * v[i]) : 0.f;
            oas_store8(j.derivative, a.begin + a.column(k), q, a.count(k), a.wide);
        }
    }
    sum = oas_block_sum(sum, shared);
    if (threadIdx.x == 0)
        j.totals[blockIdx.x] = sum * j.factor;
}

oasis_status oas_losses_features(oas_cuda *c, const cuda_loss *l, const float *channel_weights, int64_t rows, int64_t d)
{
    features_job j = {oas_float_array(l->y),          oas_float_array(l->t), oas_float_array(channel_weights),
                      oas_float_array(l->derivative), (double *)l->partial,  l->weight / (double)rows};
    bool wide = oas_is_wide(j.a, d) && oas_is_wide(j.b, d) && oas_is_wide(j.weights, d) && oas_is_wide(j.derivative, d);
    oas_row_walk w = oas_walk_of(rows, d, wide);
    OAS_LAUNCH_ROWS(c, features_kernel, features_blocks(rows, d), w, j);
    oas_add_totals(c, NULL, l->sum, j.totals, features_blocks(rows, d));
    return oas_launched();
}

/* ---- DISTS ----------------------------------------------------------------------------------------------------------- */

/*
 * Per frame and channel, sums over pixels in double: of slabs of pixels first, then of the slabs, which give the similarity
 * and the derivative for a value x of a, whose partner is y, as p + q x + r y.
 *
 *     partial:  totals [blocks of the second stage] | p, q, r [frames, channels, 3] | sums [frames, slabs, channels, SUMS]
 */
enum {
    SUMS = 5, /* of a channel: a, b, a^2, b^2, a b */
    SLAB = 512,
    TILE = 32,
    DOWN = OAS_BLOCK / TILE
};

struct dists_job {
    const float *a, *b, *alpha_beta;
    float *derivative;
    double *totals, *lines, *sums;
    double factor;
    int64_t frames, pixels, channels, slabs, tiles;
};

static dists_job dists_job_of(const cuda_pictures *p, void *partial)
{
    dists_job j = {NULL,        NULL, NULL, NULL, (double *)partial, NULL, NULL, 0, p->frames, p->height * p->width,
                   p->channels, 0,    0};
    j.slabs = (j.pixels + SLAB - 1) / SLAB;
    j.tiles = (j.channels + TILE - 1) / TILE;
    j.lines = j.totals + (j.frames * j.channels + OAS_BLOCK - 1) / OAS_BLOCK;
    j.sums = j.lines + j.frames * j.channels * 3;
    return j;
}

size_t oas_losses_dists_bytes(oas_cuda *c, const cuda_pictures *p)
{
    (void)c;
    dists_job j = dists_job_of(p, NULL);
    int64_t lines = j.frames * j.channels;
    return (size_t)((lines + OAS_BLOCK - 1) / OAS_BLOCK + lines * (3 + SUMS * j.slabs)) * sizeof(double);
}

/* A block: a slab of a frame's pixels by a tile of channels. */
static __global__ void dists_sums_kernel(dists_job j)
{
    __shared__ double shared[OAS_BLOCK];
    int x = (int)threadIdx.x % TILE, y = (int)threadIdx.x / TILE;
    int64_t tile, slab, part = oas_divide(blockIdx.x, j.tiles, &tile), frame = oas_divide(part, j.slabs, &slab);
    int64_t channel = tile * TILE + x;
    int64_t end = (slab + 1) * SLAB < j.pixels ? (slab + 1) * SLAB : j.pixels;
    double sums[SUMS] = {0};
    for (int64_t i = slab * SLAB + y; channel < j.channels && i < end; i += DOWN) {
        int64_t at = (frame * j.pixels + i) * j.channels + channel;
        double a = (double)j.a[at], b = (double)j.b[at];
        sums[0] += a;
        sums[1] += b;
        sums[2] += a * a;
        sums[3] += b * b;
        sums[4] += a * b;
    }
    OAS_UNROLL
    for (int s = 0; s < SUMS; s++) {
        __syncthreads();
        shared[threadIdx.x] = sums[s];
        for (int step = DOWN / 2; step > 0; step /= 2) {
            __syncthreads();
            if (y < step)
                shared[threadIdx.x] += shared[(int)threadIdx.x + step * TILE];
        }
        if (y == 0 && channel < j.channels)
            j.sums[(part * j.channels + channel) * SUMS + s] = shared[x];
    }
}

/* As `similarity` of ops/perceptual.c. */
__device__ static double similarity(const double sums[SUMS], double n, double alpha, double beta, double line[3])
{
    const double least = 1e-6; /* DISTS_C */
    double ma = sums[0] / n, mb = sums[1] / n, va = sums[2] / n - ma * ma, vb = sums[3] / n - mb * mb;
    double cov = sums[4] / n - ma * mb, means = ma * ma + mb * mb + least, spread = va + vb + least;
    double s1 = (2 * ma * mb + least) / means, s2 = (2 * cov + least) / spread;
    double q = beta * 2 * s2 / (spread * n), r = -beta * 2 / (spread * n);
    line[0] = -alpha * (2 * mb - 2 * s1 * ma) / (means * n) - q * ma - r * mb;
    line[1] = q;
    line[2] = r;
    return alpha * (1 - s1) + beta * (1 - s2);
}

/* A thread: a channel of a frame. */
static __global__ void dists_lines_kernel(dists_job j)
{
    __shared__ double shared[OAS_BLOCK];
    int64_t item = oas_first_item();
    double value = 0;
    if (item < j.frames * j.channels) {
        int64_t channel, frame = oas_divide(item, j.channels, &channel);
        double sums[SUMS] = {0};
        for (int64_t slab = 0; slab < j.slabs; slab++)
            for (int s = 0; s < SUMS; s++)
                sums[s] += j.sums[((frame * j.slabs + slab) * j.channels + channel) * SUMS + s];
        value = similarity(sums, (double)j.pixels, (double)j.alpha_beta[channel],
                           (double)j.alpha_beta[j.channels + channel], j.lines + item * 3);
    }
    value = oas_block_sum(value, shared);
    if (threadIdx.x == 0)
        j.totals[blockIdx.x] = value * j.factor;
}

static __global__ void dists_derivative_kernel(dists_job j)
{
    int64_t each = j.pixels * j.channels;
    for (int64_t i = oas_first_item(); i < j.frames * each; i += oas_item_step()) {
        int64_t rest, channel, frame = oas_divide(i, each, &rest);
        oas_divide(rest, j.channels, &channel);
        const double *line = j.lines + (frame * j.channels + channel) * 3;
        j.derivative[i] = (float)(j.factor * (line[0] + line[1] * (double)j.a[i] + line[2] * (double)j.b[i]));
    }
}

oasis_status oas_losses_dists(oas_cuda *c, const cuda_loss *l, const float *alpha_beta, const cuda_pictures *p)
{
    dists_job j = dists_job_of(p, l->partial);
    j.a = l->y, j.b = l->t, j.alpha_beta = alpha_beta, j.derivative = l->derivative;
    j.factor = l->weight / (double)p->frames;
    unsigned blocks = (unsigned)((j.frames * j.channels + OAS_BLOCK - 1) / OAS_BLOCK);
    OAS_LAUNCH(c, dists_sums_kernel, (unsigned)(j.frames * j.slabs * j.tiles), OAS_BLOCK, 0, j);
    OAS_LAUNCH(c, dists_lines_kernel, blocks, OAS_BLOCK, 0, j);
    if (j.derivative)
        OAS_LAUNCH(c, dists_derivative_kernel, oas_blocks(c, j.frames * j.pixels * j.channels), OAS_BLOCK, 0, j);
    oas_add_totals(c, NULL, l->sum, j.totals, blocks);
    return oas_launched();
}
