/*
 * Losses.  Every block gives the sum of its values in double, and one block adds up the blocks; derivatives are gathered, so
 * that no two threads write one value.
 */
#include "cuda/losses_parts.cuh"
#include "cuda/totals.cuh"

/* ---- value by value: Charbonnier, mean square, scores ----------------------------------------------------------------- */

enum { CHARBONNIER, MEAN_SQUARE, SCORE_LINEAR, SCORE_HINGE, SCORE_SOFTPLUS };

struct values_job {
    cuda_array y, t, derivative;
    double *totals;
    double factor;
    float number; /* eps squared, or the sign of a score */
    int64_t count;
    int kind;
    bool wide;
};

/* The loss of one difference; *slope becomes its derivative times the factor. */
__device__ static inline float loss_value(const values_job &j, float d, float *slope)
{
    float factor = (float)j.factor;
    if (j.kind == CHARBONNIER) {
        float root = sqrtf(d * d + j.number);
        *slope = factor * d / root;
        return root;
    }
    if (j.kind == MEAN_SQUARE) {
        *slope = 2.f * factor * d;
        return d * d;
    }
    float t = j.number * d;
    *slope = -factor * j.number;
    if (j.kind == SCORE_LINEAR)
        return -t;
    if (j.kind == SCORE_HINGE) {
        *slope = t < 1.f ? *slope : 0.f;
        return t < 1.f ? 1.f - t : 0.f;
    }
    *slope /= 1.f + expf(t);
    return t > 0.f ? log1pf(expf(-t)) : -t + log1pf(expf(t));
}

enum { VALUES_EACH = OAS_BLOCK * OAS_CHUNK * 4 }; /* of a block */

static int64_t values_blocks(int64_t n)
{
    return n > 0 ? (n + VALUES_EACH - 1) / VALUES_EACH : 1;
}

static size_t values_bytes(oas_cuda *c, int64_t n)
{
    (void)c;
    return (size_t)values_blocks(n) * sizeof(double);
}

static __global__ void values_kernel(values_job j)
{
    __shared__ double shared[OAS_BLOCK];
    int64_t begin = (int64_t)blockIdx.x * VALUES_EACH,
            end = begin + VALUES_EACH < j.count ? begin + VALUES_EACH : j.count;
    double sum = 0;
    for (int64_t i = begin + (int64_t)threadIdx.x * OAS_CHUNK; i < end; i += OAS_BLOCK * OAS_CHUNK) {
        int n = oas_in_chunk(i, end);
        float y[OAS_CHUNK], t[OAS_CHUNK] = {0.f};
        oas_load8(y, j.y, i, n, j.wide);
        if (j.t.data)
            oas_load8(t, j.t, i, n, j.wide);
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++) {
            float value = loss_value(j, y[k] - t[k], &y[k]);
            sum += k < n ? (double)value : 0.;
        }
        if (j.derivative.data)
            oas_store8(j.derivative, i, y, n, j.wide);
    }
    sum = oas_block_sum(sum, shared);
    if (threadIdx.x == 0)
        j.totals[blockIdx.x] = sum * j.factor;
}

static oasis_status run_values(oas_cuda *c, const cuda_loss *l, int kind, float number, int64_t n)
{
    values_job j = {oas_float_array(l->y),
                    oas_float_array(l->t),
                    oas_float_array(l->derivative),
                    (double *)l->partial,
                    l->weight / (double)n,
                    number,
                    n,
                    kind,
                    false};
    j.wide = oas_is_wide(j.y, 0) && oas_is_wide(j.t, 0) && oas_is_wide(j.derivative, 0);
    OAS_LAUNCH(c, values_kernel, (unsigned)values_blocks(n), OAS_BLOCK, 0, j);
    oas_add_totals(c, NULL, l->sum, j.totals, values_blocks(n));
    return oas_launched();
}

static oasis_status charbonnier(oas_cuda *c, const cuda_loss *l, float eps, int64_t n)
{
    return run_values(c, l, CHARBONNIER, eps * eps, n);
}

static oasis_status mse(oas_cuda *c, const cuda_loss *l, int64_t n)
{
    return run_values(c, l, MEAN_SQUARE, 0.f, n);
}

static oasis_status score(oas_cuda *c, const cuda_loss *l, int32_t kind, float sign, int64_t n)
{
    return run_values(c, l, SCORE_LINEAR + kind, sign, n);
}

/* ---- motion ------------------------------------------------------------------------------------------------------------ */

static int64_t values_of(const cuda_pictures *p)
{
    return p->frames * p->height * p->width * p->channels;
}

static size_t motion_bytes(oas_cuda *c, const cuda_pictures *p)
{
    return values_bytes(c, values_of(p));
}

struct motion_job {
    const float *y, *t;
    float *derivative;
    double *totals;
    float factor;
    int64_t count, frame, per_sample; /* values of all and of a frame; frames */
};

/* The difference between the motions from frame to frame at value i. */
__device__ static inline float motion_at(const motion_job &j, int64_t i)
{
    return (j.y[i + j.frame] - j.y[i]) - (j.t[i + j.frame] - j.t[i]);
}

__device__ static inline float sign_times(float d, float factor)
{
    return d > 0.f ? factor : d < 0.f ? -factor : 0.f;
}

static __global__ void motion_kernel(motion_job j)
{
    __shared__ double shared[OAS_BLOCK];
    int64_t begin = (int64_t)blockIdx.x * VALUES_EACH,
            end = begin + VALUES_EACH < j.count ? begin + VALUES_EACH : j.count;
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += OAS_BLOCK) {
        int64_t rest, t;
        oas_divide(oas_divide(i, j.frame, &rest), j.per_sample, &t);
        float slope = t > 0 ? sign_times(motion_at(j, i - j.frame), j.factor) : 0.f;
        if (t + 1 < j.per_sample) {
            float d = motion_at(j, i);
            sum += (double)fabsf(d);
            slope -= sign_times(d, j.factor);
        }
        if (j.derivative)
            j.derivative[i] = slope;
    }
    sum = oas_block_sum(sum, shared);
    if (threadIdx.x == 0)
        j.totals[blockIdx.x] = sum * (double)j.factor;
}

static oasis_status motion(oas_cuda *c, const cuda_loss *l, const cuda_pictures *p)
{
    int64_t count = values_of(p), frame = p->height * p->width * p->channels;
    double terms = (double)(count - p->frames / p->per_sample * frame);
    motion_job j = {
        l->y,  l->t,  l->derivative, (double *)l->partial, p->per_sample > 1 ? (float)(l->weight / terms) : 0.f,
        count, frame, p->per_sample};
    OAS_LAUNCH(c, motion_kernel, (unsigned)values_blocks(count), OAS_BLOCK, 0, j);
    oas_add_totals(c, NULL, l->sum, j.totals, values_blocks(count));
    return oas_launched();
}

/* ---- spectrum ------------------------------------------------------------------------------------------------------------ */

/*
 * Blocks of n x n pixels of one channel are transformed side by side, SPECTRUM_VALUES / n^2 of them ("lanes") in the shared
 * memory of a block of threads: element i of lane l at i*lanes + l.  y is the real part and t the imaginary one, as in
 * ops/loss.c.
 */
enum { SPECTRUM_VALUES = 2048 };

struct spectrum_job {
    const float *y, *t;
    float *derivative;
    double *totals;
    const float *shift; /* where blocks begin; NULL = (0, 0) */
    double weight;
    cuda_pictures p;
    int n, lanes;
};

/* What follows from the shift, which the host does not know. */
struct spectrum_grid {
    int64_t shift_y, shift_x, down, across, all; /* blocks of a frame; lanes in all */
    double factor;                               /* of the sum of amplitudes, in units where |F| keeps the norm */

    __device__ explicit spectrum_grid(const spectrum_job &j)
    {
        shift_y = oas_place_at(j.shift, 0, j.p.height - j.n);
        shift_x = oas_place_at(j.shift, 1, j.p.width - j.n);
        down = (j.p.height - shift_y) / j.n;
        across = (j.p.width - shift_x) / j.n;
        all = j.p.frames * down * across * j.p.channels;
        factor = j.weight / (double)(all * j.n * j.n);
    }
};

/* Where pixel i of the block of a lane lies; -1 behind the last lane. */
__device__ static inline int64_t spectrum_place(const spectrum_job &j, const spectrum_grid &g, int64_t lane, int i)
{
    int64_t c, block, row;
    if (lane >= g.all)
        return -1;
    int64_t frame = oas_divide(oas_divide(oas_divide(lane, j.p.channels, &c), g.across, &block), g.down, &row);
    int64_t y = g.shift_y + row * j.n + i / j.n, x = g.shift_x + block * j.n + i % j.n;
    return ((frame * j.p.height + y) * j.p.width + x) * j.p.channels + c;
}

/* The element whose index has its `bits` bits in the opposite order. */
__device__ static inline int mirrored(int i, int bits)
{
    int r = 0;
    for (int b = 0; b < bits; b++)
        r |= (i >> b & 1) << (bits - 1 - b);
    return r;
}

/*
 * Transforms all lanes along rows (step 1) or columns (step n), in place: swaps, then butterflies (Cooley and Tukey).  sign
 * -1 forward, 1 inverse.
 */
__device__ static void spectrum_transform(const spectrum_job &j, float *re, float *im, const float *roots, int bits,
                                          bool down, float sign)
{
    int n = j.n, lanes = j.lanes, step = down ? n : 1, line = down ? 1 : n;
    for (int w = (int)threadIdx.x; w < SPECTRUM_VALUES; w += OAS_BLOCK) {
        int l = w % lanes, i = w / lanes, k = i % n, other = mirrored(k, bits), base = i / n * line;
        if (k < other) {
            int a = (base + k * step) * lanes + l, b = (base + other * step) * lanes + l;
            float x = re[a], y = im[a];
            re[a] = re[b], im[a] = im[b];
            re[b] = x, im[b] = y;
        }
    }
    __syncthreads();
    for (int half = 1; half < n; half *= 2) {
        for (int w = (int)threadIdx.x; w < SPECTRUM_VALUES / 2; w += OAS_BLOCK) {
            int l = w % lanes, i = w / lanes, pair = i % (n / 2), base = i / (n / 2) * line;
            int k = pair % half, first = pair / half * 2 * half + k;
            int a = (base + first * step) * lanes + l, b = (base + (first + half) * step) * lanes + l;
            float wr = roots[2 * k * (n / half / 2)], wi = sign * roots[2 * k * (n / half / 2) + 1];
            float x = re[b] * wr - im[b] * wi, y = re[b] * wi + im[b] * wr;
            re[b] = re[a] - x, im[b] = im[a] - y;
            re[a] += x, im[a] += y;
        }
        __syncthreads();
    }
}

/*
 * Element k and its mirror m of a lane, as compare_amplitudes of ops/loss.c: gives their part of the sum, and puts
 * sign(|Y| - |T|) Y / |Y| in place of Z.
 */
__device__ static float compare_amplitudes(float *re, float *im, int k, int m, float scale)
{
    float yr = 0.5f * (re[k] + re[m]), yi = 0.5f * (im[k] - im[m]), tr = 0.5f * (im[k] + im[m]),
          ti = 0.5f * (re[m] - re[k]);
    float a = sqrtf(yr * yr + yi * yi), difference = a - sqrtf(tr * tr + ti * ti);
    float slope = a < 1e-6f ? 0.f : (difference > 0.f ? 1.f : -1.f) / a; /* LEAST_AMPLITUDE */
    re[k] = re[m] = slope * yr;
    im[k] = slope * yi;
    im[m] = k == m ? im[k] : -im[k];
    return (k == m ? 1.f : 2.f) * fabsf(difference) * scale;
}

static __global__ void spectrum_kernel(spectrum_job j)
{
    __shared__ float re[SPECTRUM_VALUES], im[SPECTRUM_VALUES], roots[32];
    __shared__ double shared[OAS_BLOCK];
    int n = j.n, size = n * n, bits = 0;
    int64_t first = (int64_t)blockIdx.x * j.lanes;
    const spectrum_grid g(j);
    while (1 << bits < n)
        bits++;
    if ((int)threadIdx.x < n / 2) {
        roots[2 * threadIdx.x] = (float)cos(6.283185307179586 * (int)threadIdx.x / n);
        roots[2 * threadIdx.x + 1] = (float)sin(6.283185307179586 * (int)threadIdx.x / n);
    }
    for (int w = (int)threadIdx.x; w < SPECTRUM_VALUES; w += OAS_BLOCK) {
        int64_t at = spectrum_place(j, g, first + w % j.lanes, w / j.lanes);
        re[w] = at < 0 ? 0.f : j.y[at];
        im[w] = at < 0 ? 0.f : j.t[at];
    }
    __syncthreads();
    spectrum_transform(j, re, im, roots, bits, false, -1.f);
    spectrum_transform(j, re, im, roots, bits, true, -1.f);
    double sum = 0;
    for (int w = (int)threadIdx.x; w < SPECTRUM_VALUES; w += OAS_BLOCK) {
        int k = w / j.lanes, l = w % j.lanes, mirror = (n - k / n) % n * n + (n - k % n) % n;
        if (k <= mirror && first + l < g.all)
            sum += (double)compare_amplitudes(re + l, im + l, k * j.lanes, mirror * j.lanes, 1.f / (float)n);
    }
    sum = oas_block_sum(sum, shared);
    if (threadIdx.x == 0)
        j.totals[blockIdx.x] = sum * g.factor; /* 0 where the shift leaves no lanes */
    if (!j.derivative)
        return;
    float slope = (float)(g.factor / n);
    spectrum_transform(j, re, im, roots, bits, false, 1.f);
    spectrum_transform(j, re, im, roots, bits, true, 1.f);
    for (int w = (int)threadIdx.x; w < SPECTRUM_VALUES && w / j.lanes < size; w += OAS_BLOCK) {
        int64_t at = spectrum_place(j, g, first + w % j.lanes, w / j.lanes);
        if (at >= 0)
            j.derivative[at] = slope * re[w];
    }
}

/* Lanes that a block of threads has. */
static int spectrum_lanes(int32_t block)
{
    return SPECTRUM_VALUES / (block * block);
}

/* Blocks of threads for any shift. */
static int64_t spectrum_blocks(const cuda_pictures *p, int32_t block)
{
    int64_t lanes = spectrum_lanes(block), most = p->frames * (p->height / block) * (p->width / block) * p->channels;
    return (most + lanes - 1) / lanes;
}

static size_t spectrum_bytes(oas_cuda *c, const cuda_pictures *p, int32_t block)
{
    (void)c;
    return (size_t)spectrum_blocks(p, block) * sizeof(double);
}

static oasis_status spectrum(oas_cuda *c, const cuda_loss *l, const cuda_pictures *p, int32_t block, const float *shift)
{
    spectrum_job j = {l->y, l->t, l->derivative, (double *)l->partial, shift, l->weight, *p, block,
                      spectrum_lanes(block)};
    if (l->derivative) { /* what no block covers has none */
        oasis_status s = oas_cuda_zero(c, l->derivative, (size_t)values_of(p) * sizeof(float));
        if (s != OASIS_OK)
            return s;
    }
    OAS_LAUNCH(c, spectrum_kernel, (unsigned)spectrum_blocks(p, block), OAS_BLOCK, 0, j);
    oas_add_totals(c, NULL, l->sum, j.totals, spectrum_blocks(p, block));
    return oas_launched();
}

/* ---- gradient ------------------------------------------------------------------------------------------------------------ */

/*
 * Level 0 is d = y - t, never stored; the others are stored, [frames, height >> l, width >> l, channels] each.  Down the
 * levels means of four are taken; then, from the coarsest up, every level's derivative is that of its own differences and a
 * quarter of the level below.
 *
 *     partial:  double totals [levels, MOST_TOTALS] | d of levels 1.. | derivatives of levels 1..
 */
enum { MOST_LEVELS = 6, MOST_TOTALS = 1024 };

struct level_job {
    const float *y, *t; /* d = y - t; t NULL: d = y */
    const float *below; /* derivative of the next coarser level, or NULL */
    float *coarse;      /* means of four */
    float *derivative;
    double *totals;
    int64_t frames, height, width, channels;
    float factor;
};

__device__ static inline float level_value(const level_job &j, int64_t i)
{
    return j.t ? j.y[i] - j.t[i] : j.y[i];
}

static __global__ void halve_kernel(level_job j)
{
    int64_t h = j.height / 2, w = j.width / 2, row_step = j.width * j.channels;
    for (int64_t item = oas_first_item(); item < j.frames * h * w * j.channels; item += oas_item_step()) {
        int64_t k, x, y, frame = oas_divide(oas_divide(oas_divide(item, j.channels, &k), w, &x), h, &y);
        int64_t at = ((frame * j.height + 2 * y) * j.width + 2 * x) * j.channels + k;
        j.coarse[item] = 0.25f * (level_value(j, at) + level_value(j, at + j.channels) + level_value(j, at + row_step) +
                                  level_value(j, at + row_step + j.channels));
    }
}

/* One value at a time: its differences to the right and down count here; its derivative, those to the left and up, too. */
static __global__ void differences_kernel(level_job j)
{
    __shared__ double shared[OAS_BLOCK];
    int64_t row_step = j.width * j.channels;
    double sum = 0;
    for (int64_t i = oas_first_item(); i < j.frames * j.height * row_step; i += oas_item_step()) {
        int64_t k, x, y, frame = oas_divide(oas_divide(oas_divide(i, j.channels, &k), j.width, &x), j.height, &y);
        float d = level_value(j, i), slope = 0.f;
        if (y > 0)
            slope += sign_times(d - level_value(j, i - row_step), j.factor);
        if (x > 0)
            slope += sign_times(d - level_value(j, i - j.channels), j.factor);
        if (x + 1 < j.width) {
            float step = level_value(j, i + j.channels) - d;
            sum += (double)fabsf(step);
            slope -= sign_times(step, j.factor);
        }
        if (y + 1 < j.height) {
            float step = level_value(j, i + row_step) - d;
            sum += (double)fabsf(step);
            slope -= sign_times(step, j.factor);
        }
        if (j.below && y / 2 < j.height / 2 && x / 2 < j.width / 2)
            slope += 0.25f * j.below[((frame * (j.height / 2) + y / 2) * (j.width / 2) + x / 2) * j.channels + k];
        if (j.derivative)
            j.derivative[i] = slope;
    }
    sum = oas_block_sum(sum, shared);
    if (threadIdx.x == 0)
        j.totals[blockIdx.x] = sum * (double)j.factor;
}

static int64_t level_values(const cuda_pictures *p, int level)
{
    return p->frames * (p->height >> level) * (p->width >> level) * p->channels;
}

/* Depends on the size alone, and so do the sums. */
static unsigned level_blocks(int64_t values)
{
    int64_t blocks = (values + OAS_BLOCK * 4 - 1) / (OAS_BLOCK * 4);
    return (unsigned)(blocks < MOST_TOTALS ? blocks : (int64_t)MOST_TOTALS);
}

static size_t gradient_bytes(oas_cuda *c, const cuda_pictures *p, int32_t levels)
{
    (void)c;
    size_t floats = 0;
    for (int level = 1; level < levels; level++)
        floats += 2 * (size_t)level_values(p, level);
    return MOST_LEVELS * MOST_TOTALS * sizeof(double) + floats * sizeof(float);
}

static oasis_status gradient(oas_cuda *c, const cuda_loss *l, const cuda_pictures *p, int32_t levels)
{
    double *totals = (double *)l->partial;
    float *next = (float *)(totals + MOST_LEVELS * MOST_TOTALS);
    level_job jobs[MOST_LEVELS];
    int64_t used = 0;
    for (int level = 0; level < levels; level++) {
        int64_t h = p->height >> level, w = p->width >> level, count = level_values(p, level);
        double terms = (double)(p->frames * p->channels * (h * (w - 1) + (h - 1) * w));
        level_job *j = &jobs[level];
        *j = {l->y,
              l->t,
              NULL,
              NULL,
              l->derivative,
              NULL,
              p->frames,
              h,
              w,
              p->channels,
              (float)(l->weight / (levels * terms))};
        if (level > 0) {
            j->y = next;
            j->t = NULL;
            j->derivative = l->derivative ? next + count : NULL;
            level_job *finer = &jobs[level - 1];
            finer->coarse = next;
            finer->below = j->derivative;
            OAS_LAUNCH(c, halve_kernel, oas_blocks(c, count), OAS_BLOCK, 0, *finer);
            next += 2 * count;
        }
    }
    for (int level = levels - 1; level >= 0; level--) {
        unsigned blocks = level_blocks(level_values(p, level));
        jobs[level].totals = totals + used;
        used += blocks;
        OAS_LAUNCH(c, differences_kernel, blocks, OAS_BLOCK, 0, jobs[level]);
    }
    oas_add_totals(c, NULL, l->sum, totals, used);
    return oas_launched();
}

const struct cuda_losses oas_cuda_losses = {
    values_bytes,
    charbonnier,
    mse,
    score,
    motion_bytes,
    motion,
    spectrum_bytes,
    spectrum,
    gradient_bytes,
    gradient,
    oas_losses_features_bytes,
    oas_losses_features,
    oas_losses_dists_bytes,
    oas_losses_dists,
};
