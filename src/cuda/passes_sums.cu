/* Sums over rows: of an array, or of the products of two. */
#include "cuda/passes_parts.cuh"
#include "cuda/sums.cuh"

enum { ADD_COLUMNS = 32, ADD_STRETCHES = 16 };

static __global__ void add_slabs_kernel(float *sum, const float *partial, int64_t slabs, int64_t stride,
                                        int64_t columns)
{
    __shared__ float sums[ADD_STRETCHES][ADD_COLUMNS + 1];
    int x = (int)threadIdx.x % ADD_COLUMNS, y = (int)threadIdx.x / ADD_COLUMNS;
    int64_t column = (int64_t)blockIdx.x * ADD_COLUMNS + x;
    float total = 0.f;
    for (int64_t s = y; column < columns && s < slabs; s += ADD_STRETCHES)
        total += partial[s * stride + column];
    sums[y][x] = total;
    __syncthreads();
    if (y > 0 || column >= columns)
        return;
    for (int i = 1; i < ADD_STRETCHES; i++)
        total += sums[i][x];
    sum[column] += total;
}

void oas_add_slabs(oas_cuda *c, float *sum, const float *partial, int64_t slabs, int64_t stride, int64_t columns)
{
    unsigned blocks = (unsigned)((columns + ADD_COLUMNS - 1) / ADD_COLUMNS);
    OAS_LAUNCH(c, add_slabs_kernel, blocks, ADD_COLUMNS * ADD_STRETCHES, 0, sum, partial, slabs, stride, columns);
}

/* x, times b where it is there. */
struct product_values {
    enum { SUMS = 1 };
    cuda_array x, b;
    int64_t columns;
    bool wide;

    __device__ void values(int64_t row, int64_t column, int n, float v[SUMS][OAS_CHUNK]) const
    {
        float other[OAS_CHUNK];
        if (!b.data) {
            oas_load8(v[0], x, row * columns + column, n, wide);
            return;
        }
        oas_load8_both(v[0], x, other, b, row * columns + column, n, wide);
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            v[0][k] *= other[k];
    }
};

size_t oas_pass_column_sum_bytes(oas_cuda *c, int64_t rows, int64_t columns)
{
    (void)c;
    oas_sum_plan p = oas_plan_sums(rows, columns);
    return oas_partial_bytes(&p, 1);
}

oasis_status oas_pass_column_product_sum(oas_cuda *c, float *sum, cuda_array x, cuda_array b, int64_t rows,
                                         int64_t columns, void *partial)
{
    oas_sum_plan p = oas_plan_sums(rows, columns);
    product_values f = {x, b, columns, oas_is_wide(x, columns) && oas_is_wide(b, columns)};
    return oas_sum_rows(c, f, &p, &sum, partial);
}

oasis_status oas_pass_column_sum(oas_cuda *c, float *sum, cuda_array x, int64_t rows, int64_t columns, void *partial)
{
    return oas_pass_column_product_sum(c, sum, x, OAS_NONE, rows, columns, partial);
}
