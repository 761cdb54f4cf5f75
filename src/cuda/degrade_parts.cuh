/* The functions of struct cuda_degrade that degrade_noise.cu has; described in cuda/degrade.h. */
#ifndef OAS_CUDA_DEGRADE_PARTS_CUH
#define OAS_CUDA_DEGRADE_PARTS_CUH

#include "cuda/degrade.h"

oasis_status oas_degrade_gaussian(oas_cuda *c, float *out, const float *in, const cuda_noise *how);
oasis_status oas_degrade_poisson(oas_cuda *c, float *out, const float *in, const cuda_noise *how,
                                 const cuda_poisson *tables, int32_t *levels);

#endif
