/*
 * NIQE (Mittal, Soundararajan, Bovik 2013): how far the statistics of a picture are from those of good photographs.
 *
 *   luma on 0..255, cut to whole blocks of 96x96;  n = (x - m) / (s + 1) with mean m and deviation s in a Gaussian
 *   window of 7x7, sigma 7/6, border replicated;  per block 18 numbers, and 18 of the same picture at half the size:
 *     of n                      alpha and (b_l + b_r) / 2 of an asymmetric generalised Gaussian
 *     of n times n shifted by (0,1), (1,0), (1,1), (1,-1), around inside the block: alpha, mean, b_l, b_r
 *   NIQE = sqrt(d^T P d), d = mean over blocks - mean of the model, P = pseudo-inverse of the mean of both covariances
 *
 * Half the size is by bicubic interpolation with antialiasing, border mirrored, as MATLAB's imresize.
 */
#ifndef OAS_METRICS_NIQE_H
#define OAS_METRICS_NIQE_H

#include "metrics/metric.h"

enum { OAS_NIQE_FEATURES = 36, OAS_NIQE_BLOCK = 96, OAS_NIQE_SHAPES = 9801 };

typedef struct niqe_model {
    double mean[OAS_NIQE_FEATURES];
    double covariance[OAS_NIQE_FEATURES][OAS_NIQE_FEATURES];
} niqe_model;

/* The model fitted on our own photographs (niqe_model.c, made by tools/fit_niqe.c). */
void oas_niqe_own_model(niqe_model *model);

/* Reads a model as published: an .npz that is not compressed, with mu_pris_param and cov_pris_param as doubles.  Fails
 * with OASIS_E_IO or OASIS_E_FORMAT. */
oasis_status oas_niqe_read_model(niqe_model *model, const char *path, oasis_message *message);

/* The blocks of a picture. */
typedef struct niqe_blocks {
    int n;
    double (*features)[OAS_NIQE_FEATURES]; /* [n]; not numbers where a block is flat */
    double *sharpness;                     /* [n], the mean of s */
} niqe_blocks;

/* luma [height][width] with sides of at least OAS_NIQE_BLOCK.  Freed by oas_niqe_blocks_free. */
oasis_status oas_niqe_blocks_new(niqe_blocks *blocks, oas_pool *pool, const float *luma, int width, int height,
                                 oasis_message *message);
void oas_niqe_blocks_free(niqe_blocks *blocks);

/*
 * Mean of the features that are numbers, and covariance (over n - 1) of the blocks all of whose are.
 *   weight  [n], 0 = leave this block out; NULL = take all
 * false when there is nothing to take a mean of.  Less than two blocks: a covariance of zeros.
 */
bool oas_niqe_fit(niqe_model *model, const double (*features)[OAS_NIQE_FEATURES], const double *weight, int n);

double oas_niqe_distance(const niqe_model *a, const niqe_model *b);

#endif
