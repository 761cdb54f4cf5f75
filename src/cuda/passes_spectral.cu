/* Spectral norm of a weight [rows, columns]:  y = w / s with s = u^T w v, summed in double. */
#include "cuda/passes_parts.cuh"
#include "cuda/totals.cuh"

struct spectral_job {
    cuda_array y, w, u, v, dy, dw; /* floats */
    double *results, *totals;      /* s and <dy, y>; of the blocks */
    int64_t n, columns;
};

enum { SPECTRAL_EACH = 1 << 12 }; /* values of a block */

static int64_t spectral_blocks(int64_t n)
{
    return (n + SPECTRAL_EACH - 1) / SPECTRAL_EACH;
}

size_t oas_pass_spectral_bytes(oas_cuda *c, int64_t rows, int64_t columns)
{
    (void)c;
    return (2 + 2 * (size_t)spectral_blocks(rows * columns)) * sizeof(double);
}

/* What a block adds to u^T w v, or with `along` to <dy, y>. */
static __global__ void spectral_sums_kernel(spectral_job j, bool along)
{
    __shared__ double shared[OAS_BLOCK];
    int64_t begin = (int64_t)blockIdx.x * SPECTRAL_EACH,
            end = begin + SPECTRAL_EACH < j.n ? begin + SPECTRAL_EACH : j.n;
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += OAS_BLOCK) {
        int64_t column, row = oas_divide(i, j.columns, &column);
        if (along)
            sum += (double)oas_load(&j.dy, i) * (double)oas_load(&j.y, i);
        else
            sum += (double)oas_load(&j.w, i) * (double)oas_load(&j.v, column) * (double)oas_load(&j.u, row);
    }
    sum = oas_block_sum(sum, shared);
    if (threadIdx.x == 0)
        j.totals[blockIdx.x] = sum;
}

/* Weights so small have no norm to speak of (ops/adversarial.c). */
__device__ static inline double spectral_value(const spectral_job &j)
{
    double s = j.results[0];
    return fabs(s) < 1e-12 ? 1e-12 : s;
}

static __global__ void spectral_kernel(spectral_job j)
{
    float factor = (float)(1 / spectral_value(j));
    for (int64_t i = oas_first_item(); i < j.n; i += oas_item_step())
        oas_store(&j.y, i, oas_load(&j.w, i) * factor);
}

static __global__ void spectral_backward_kernel(spectral_job j)
{
    float factor = (float)(1 / spectral_value(j)), along = (float)j.results[1];
    for (int64_t i = oas_first_item(); i < j.n; i += oas_item_step()) {
        int64_t column, row = oas_divide(i, j.columns, &column);
        float d = oas_load(&j.dy, i) - along * oas_load(&j.u, row) * oas_load(&j.v, column);
        oas_store(&j.dw, i, oas_load(&j.dw, i) + d * factor);
    }
}

static void spectral_sums(oas_cuda *c, const spectral_job &j, bool along)
{
    OAS_LAUNCH(c, spectral_sums_kernel, (unsigned)spectral_blocks(j.n), OAS_BLOCK, 0, j, along);
    oas_add_totals(c, j.results + along, NULL, j.totals, spectral_blocks(j.n));
}

oasis_status oas_pass_spectral_norm(oas_cuda *c, float *y, const float *w, const float *u, const float *v, int64_t rows,
                                    int64_t columns, void *partial)
{
    double *results = (double *)partial;
    spectral_job j = {oas_float_array(y),
                      oas_float_array(w),
                      oas_float_array(u),
                      oas_float_array(v),
                      OAS_NONE,
                      OAS_NONE,
                      results,
                      results + 2,
                      rows * columns,
                      columns};
    spectral_sums(c, j, false);
    OAS_LAUNCH(c, spectral_kernel, oas_blocks(c, j.n), OAS_BLOCK, 0, j);
    return oas_launched();
}

oasis_status oas_pass_spectral_norm_backward(oas_cuda *c, float *dw, const float *y, const float *w, const float *u,
                                             const float *v, const float *dy, int64_t rows, int64_t columns,
                                             void *partial)
{
    double *results = (double *)partial;
    spectral_job j = {oas_float_array(y),
                      oas_float_array(w),
                      oas_float_array(u),
                      oas_float_array(v),
                      oas_float_array(dy),
                      oas_float_array(dw),
                      results,
                      results + 2,
                      rows * columns,
                      columns};
    spectral_sums(c, j, false);
    spectral_sums(c, j, true);
    OAS_LAUNCH(c, spectral_backward_kernel, oas_blocks(c, j.n), OAS_BLOCK, 0, j);
    return oas_launched();
}
