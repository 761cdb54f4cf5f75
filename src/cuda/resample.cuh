/* What resampling kernels share. */
#ifndef OAS_CUDA_RESAMPLE_CUH
#define OAS_CUDA_RESAMPLE_CUH

#include "cuda/kernel.cuh"

/* Keys' kernel, as `cubic` of image/resize.c. */
__device__ static inline double oas_cubic(double x, double a)
{
    x = x < 0 ? -x : x;
    if (x <= 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((x - 5) * x + 8) * x * a - 4 * a : 0;
}

#endif
