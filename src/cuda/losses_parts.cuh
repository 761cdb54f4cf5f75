/* The functions of struct cuda_losses that losses_features.cu has; described in cuda/losses.h. */
#ifndef OAS_CUDA_LOSSES_PARTS_CUH
#define OAS_CUDA_LOSSES_PARTS_CUH

#include "cuda/losses.h"

size_t oas_losses_features_bytes(oas_cuda *c, int64_t rows, int64_t d);
oasis_status oas_losses_features(oas_cuda *c, const cuda_loss *l, const float *channel_weights, int64_t rows,
                                 int64_t d);
size_t oas_losses_dists_bytes(oas_cuda *c, const cuda_pictures *p);
oasis_status oas_losses_dists(oas_cuda *c, const cuda_loss *l, const float *alpha_beta, const cuda_pictures *p);

#endif
