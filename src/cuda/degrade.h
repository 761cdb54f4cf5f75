/*
 * Degradations of pictures on the GPU: what src/degrade and src/image/resize.c say, one picture a call.
 *
 * A picture is RGB, [height][width][3] floats, on the GPU; `out` is not `in`.  Sums have the order that they have there and
 * nothing is contracted, so that the bits are those of a CPU that does not contract products and sums either (x86-64).
 */
#ifndef OAS_CUDA_DEGRADE_H
#define OAS_CUDA_DEGRADE_H

#include "cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    OAS_CUDA_FILTER_SIDE = 21,
    OAS_CUDA_LEVELS = 256,       /* of 8 bits */
    OAS_CUDA_POISSON_SCALES = 9, /* powers of two up to that */
    OAS_CUDA_LEVELS_BYTES = (OAS_CUDA_LEVELS + 1) * 4
};

/* weight[j * across + i], both sides odd and up to OAS_CUDA_FILTER_SIDE; the border is mirrored without its edge. */
typedef struct cuda_filter {
    int32_t across, down;
    float weight[OAS_CUDA_FILTER_SIDE * OAS_CUDA_FILTER_SIDE];
} cuda_filter;

/* As oas_resize_spec of image/resize.h; filter: 0 bicubic, 1 bilinear, 2 area (oas_filter). */
typedef struct cuda_sampling {
    int32_t in_width, in_height, out_width, out_height, filter;
    double a;
} cuda_sampling;

/* Noise from the numbers of (key, {index, row, frame, stream}), base/rng.h, one word for each that is drawn. */
typedef struct cuda_noise {
    uint32_t key[2], stream, frame;
    int32_t width, height;
    float strength;
    bool grey;
} cuda_noise;

/* Where the table of one mean lies in `cumulated`, and its first value: as oas_poisson. */
typedef struct cuda_poisson_row {
    int64_t at;
    int32_t first, n;
} cuda_poisson_row;

/* Tables on the GPU of all means level * unit * v, v = 2^k: rows [OAS_CUDA_POISSON_SCALES][OAS_CUDA_LEVELS]. */
typedef struct cuda_poisson {
    const cuda_poisson_row *rows;
    const double *cumulated;
    double unit, back; /* of a level, and of what is drawn */
} cuda_poisson;

struct cuda_degrade {
    oasis_status (*filter)(oas_cuda *c, float *out, const float *in, int32_t width, int32_t height,
                           const cuda_filter *how);
    /* mid: room for in_height * out_width * 3 floats. */
    oasis_status (*resample)(oas_cuda *c, float *out, float *mid, const float *in, const cuda_sampling *how);
    oasis_status (*gaussian)(oas_cuda *c, float *out, const float *in, const cuda_noise *how);
    /* levels: scratch of OAS_CUDA_LEVELS_BYTES. */
    oasis_status (*poisson)(oas_cuda *c, float *out, const float *in, const cuda_noise *how, const cuda_poisson *tables,
                            int32_t *levels);
};

extern const struct cuda_degrade oas_cuda_degrade;

#ifdef __cplusplus
}
#endif
#endif
