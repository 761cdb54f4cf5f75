/*
 * Losses on the GPU: what ops/loss.c defines.  Each gives weight times a mean over y and its truth t, summed in double, as
 * the one float *sum; and where `derivative` is there, that of the result for every value of y.  All arrays are floats of
 * the GPU.
 *
 * `partial` is scratch of as many bytes as the function's *_bytes says; that depends on the sizes alone.
 */
#ifndef OAS_CUDA_LOSSES_H
#define OAS_CUDA_LOSSES_H

#include "cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What all losses take. */
typedef struct cuda_loss {
    const float *y, *t; /* t NULL: zeros (mse and score only) */
    float *derivative;  /* or NULL */
    float *sum;
    void *partial;
    double weight; /* of the mean */
} cuda_loss;

/* Pictures [frames of all samples, height, width, channels]; samples of `per_sample` frames. */
typedef struct cuda_pictures {
    int64_t frames, per_sample, height, width, channels;
} cuda_pictures;

struct cuda_losses {
    /* sqrt((y-t)^2 + eps^2), and (y-t)^2, of n values. */
    size_t (*values_bytes)(oas_cuda *c, int64_t n);
    oasis_status (*charbonnier)(oas_cuda *c, const cuda_loss *l, float eps, int64_t n);
    oasis_status (*mse)(oas_cuda *c, const cuda_loss *l, int64_t n);
    /* f(sign (y-t)), kind an oas_score_loss. */
    oasis_status (*score)(oas_cuda *c, const cuda_loss *l, int32_t kind, float sign, int64_t n);
    /* |(y' - y) - (t' - t)| of neighbouring frames. */
    size_t (*motion_bytes)(oas_cuda *c, const cuda_pictures *p);
    oasis_status (*motion)(oas_cuda *c, const cuda_loss *l, const cuda_pictures *p);
    /* | |F y| - |F t| | of whole blocks of `block` (a power of two from 2 to 32) pixels from shift (y, x) of the GPU on. */
    size_t (*spectrum_bytes)(oas_cuda *c, const cuda_pictures *p, int32_t block);
    oasis_status (*spectrum)(oas_cuda *c, const cuda_loss *l, const cuda_pictures *p, int32_t block, const float *shift);
    /* |neighbours' difference of y-t| at 1 to 6 levels of resolution. */
    size_t (*gradient_bytes)(oas_cuda *c, const cuda_pictures *p, int32_t levels);
    oasis_status (*gradient)(oas_cuda *c, const cuda_loss *l, const cuda_pictures *p, int32_t levels);
    /* The sum over a row's channels of w (y/|y| - t/|t|)^2, the mean over rows; channel_weights [d] or NULL = ones. */
    size_t (*features_bytes)(oas_cuda *c, int64_t rows, int64_t d);
    oasis_status (*features)(oas_cuda *c, const cuda_loss *l, const float *channel_weights, int64_t rows, int64_t d);
    /* DISTS of one map, the mean over frames; alpha_beta [2, channels]. */
    size_t (*dists_bytes)(oas_cuda *c, const cuda_pictures *p);
    oasis_status (*dists)(oas_cuda *c, const cuda_loss *l, const float *alpha_beta, const cuda_pictures *p);
};

extern const struct cuda_losses oas_cuda_losses;

#ifdef __cplusplus
}
#endif
#endif
