/* The optimiser's step, and what it must know of the gradients. */
#include "cuda/passes_parts.cuh"
#include "cuda/totals.cuh"

/* ---- AdamW ----------------------------------------------------------------------------------------------------------- */

struct adamw_job {
    cuda_array x, m, v, average, gradient, rounded; /* the last is absent, or a bf16 copy of x */
    const cuda_segment *segments;                   /* NULL: one stretch of n values */
    int64_t count, n;
    cuda_adamw how;
    bool wide;
};

/* The segment with value i; NULL when it lies between two. */
__device__ static const cuda_segment *segment_at(const adamw_job &j, int64_t i)
{
    int64_t low = 0, high = j.count;
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        if (j.segments[middle].begin <= i)
            low = middle;
        else
            high = middle;
    }
    const cuda_segment *s = &j.segments[low];
    return j.count > 0 && i >= s->begin && i < s->begin + s->count ? s : NULL;
}

/* One value, as update_slab of train/weights.c. */
__device__ static void adamw_value(const cuda_adamw &how, float rate, float decay, float g, float *x, float *m,
                                   float *v, float *average)
{
    float d = g * how.factor;
    *m = how.beta1 * *m + (1.f - how.beta1) * d;
    *v = how.beta2 * *v + (1.f - how.beta2) * d * d;
    *x -= decay * *x + rate * (*m * how.correct1) / (sqrtf(*v * how.correct2) + how.epsilon);
    *average = how.ema * *average + (1.f - how.ema) * *x;
}

static __global__ void adamw_kernel(adamw_job j)
{
    for (int64_t i = oas_first_item() * OAS_CHUNK; i < j.n; i += oas_item_step() * OAS_CHUNK) {
        int64_t end = j.n;
        float rate = j.how.rate, decay = j.how.decay;
        if (j.segments) {
            const cuda_segment *s = segment_at(j, i);
            if (!s)
                continue;
            end = s->begin + s->count;
            rate *= s->rate;
            decay *= rate * s->decay;
        }
        int n = oas_in_chunk(i, end);
        float x[OAS_CHUNK], m[OAS_CHUNK], v[OAS_CHUNK], average[OAS_CHUNK] = {0.f}, g[OAS_CHUNK];
        oas_load8(x, j.x, i, n, j.wide);
        oas_load8(m, j.m, i, n, j.wide);
        oas_load8(v, j.v, i, n, j.wide);
        oas_load8(g, j.gradient, i, n, j.wide);
        if (j.average.data)
            oas_load8(average, j.average, i, n, j.wide);
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            adamw_value(j.how, rate, decay, g[k], &x[k], &m[k], &v[k], &average[k]);
        oas_store8(j.x, i, x, n, j.wide);
        oas_store8(j.m, i, m, n, j.wide);
        oas_store8(j.v, i, v, n, j.wide);
        if (j.average.data)
            oas_store8(j.average, i, average, n, j.wide);
        if (j.rounded.data)
            oas_store8(j.rounded, i, x, n, j.wide);
    }
}

oasis_status oas_pass_adamw_all(oas_cuda *c, float *x, float *m, float *v, float *average, uint16_t *rounded,
                                const float *gradient, const cuda_segment *segments, int64_t count, int64_t n,
                                const cuda_adamw *how)
{
    if (n < 1)
        return OASIS_OK;
    adamw_job j = {oas_float_array(x),
                   oas_float_array(m),
                   oas_float_array(v),
                   oas_float_array(average),
                   oas_float_array(gradient),
                   {rounded, 1},
                   segments,
                   count,
                   n,
                   *how,
                   false};
    j.wide = oas_is_wide(j.x, 0) && oas_is_wide(j.m, 0) && oas_is_wide(j.v, 0) && oas_is_wide(j.average, 0) &&
             oas_is_wide(j.gradient, 0) && oas_is_wide(j.rounded, 0);
    OAS_LAUNCH(c, adamw_kernel, oas_blocks(c, (n + OAS_CHUNK - 1) / OAS_CHUNK), OAS_BLOCK, 0, j);
    return oas_launched();
}

oasis_status oas_pass_adamw(oas_cuda *c, float *x, float *m, float *v, float *average, const float *gradient, int64_t n,
                            const cuda_adamw *how)
{
    return oas_pass_adamw_all(c, x, m, v, average, NULL, gradient, NULL, 0, n, how);
}

/* ---- sums ------------------------------------------------------------------------------------------------------------ */

static __global__ void add_totals_kernel(double *sum, float *sum_float, const double *totals, int64_t count)
{
    __shared__ double shared[OAS_BLOCK];
    double total = 0;
    for (int64_t i = threadIdx.x; i < count; i += OAS_BLOCK)
        total += totals[i];
    total = oas_block_sum(total, shared);
    if (threadIdx.x == 0 && sum)
        *sum = total;
    if (threadIdx.x == 0 && sum_float)
        *sum_float = (float)total;
}

void oas_add_totals(oas_cuda *c, double *sum, float *sum_float, const double *totals, int64_t count)
{
    OAS_LAUNCH(c, add_totals_kernel, 1, OAS_BLOCK, 0, sum, sum_float, totals, count);
}

enum { SQUARES_EACH = 1 << 14 }; /* values of a block */

static int64_t squares_blocks(int64_t n)
{
    return n > 0 ? (n + SQUARES_EACH - 1) / SQUARES_EACH : 1;
}

size_t oas_pass_sum_squares_bytes(oas_cuda *c, int64_t n)
{
    (void)c;
    return (size_t)squares_blocks(n) * sizeof(double);
}

static __global__ void squares_kernel(double *totals, cuda_array x, int64_t count, bool wide)
{
    __shared__ double shared[OAS_BLOCK];
    int64_t begin = (int64_t)blockIdx.x * SQUARES_EACH,
            end = begin + SQUARES_EACH < count ? begin + SQUARES_EACH : count;
    double sum = 0;
    for (int64_t i = begin + (int64_t)threadIdx.x * OAS_CHUNK; i < end; i += OAS_BLOCK * OAS_CHUNK) {
        float v[OAS_CHUNK];
        oas_load8(v, x, i, oas_in_chunk(i, end), wide);
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            sum += (double)v[k] * (double)v[k];
    }
    sum = oas_block_sum(sum, shared);
    if (threadIdx.x == 0)
        totals[blockIdx.x] = sum;
}

oasis_status oas_pass_sum_squares(oas_cuda *c, double *result, const float *x, int64_t n, void *partial)
{
    OAS_LAUNCH(c, squares_kernel, (unsigned)squares_blocks(n), OAS_BLOCK, 0, (double *)partial, oas_float_array(x), n,
               oas_is_wide(x, 0));
    oas_add_totals(c, result, NULL, (const double *)partial, squares_blocks(n));
    return oas_launched();
}

/* Threads that find something write the same. */
static __global__ void not_finite_kernel(int32_t *count, cuda_array x, int64_t n, bool wide)
{
    bool found = false;
    for (int64_t i = oas_first_item() * OAS_CHUNK; i < n; i += oas_item_step() * OAS_CHUNK) {
        float v[OAS_CHUNK];
        oas_load8(v, x, i, oas_in_chunk(i, n), wide);
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            found = found || !(fabsf(v[k]) <= 3.402823466e38f);
    }
    if (found)
        *count = 1;
}

oasis_status oas_pass_not_finite(oas_cuda *c, int32_t *count, const float *x, int64_t n)
{
    if (n < 1)
        return OASIS_OK;
    OAS_LAUNCH(c, not_finite_kernel, oas_blocks(c, (n + OAS_CHUNK - 1) / OAS_CHUNK), OAS_BLOCK, 0, count,
               oas_float_array(x), n, oas_is_wide(x, 0));
    return oas_launched();
}
