/*
 * One number from many, in double and in a fixed order: every block adds up what its threads have, and one block adds up
 * the blocks.
 */
#ifndef OAS_CUDA_TOTALS_CUH
#define OAS_CUDA_TOTALS_CUH

#include "cuda/values.cuh"

/* The sum over the threads of a block of OAS_BLOCK, right in thread 0; all threads call it. */
__device__ static inline double oas_block_sum(double v, double shared[OAS_BLOCK])
{
    int at = (int)threadIdx.x;
    shared[at] = v;
    for (int step = OAS_BLOCK / 2; step > 0; step /= 2) {
        __syncthreads();
        if (at < step)
            shared[at] += shared[at + step];
    }
    __syncthreads();
    return shared[0];
}

/* Adds `count` numbers into the one of *sum and *sum_float that is there. */
void oas_add_totals(oas_cuda *c, double *sum, float *sum_float, const double *totals, int64_t count);

#endif
