/*
 * Convolutions 3x3 over pixels and over frames, read where they lie: no pixel is copied but at a frame's sides.  Only
 * where the processor has tiles; without them oneDNN is as fast.
 *
 *     block     32 pixels of a row by 32 outputs
 *     weights   [outputs/32][rows seen][3 columns][channels/32][2] tiles of 16 pairs of channels by 16 outputs
 */
#ifndef OAS_CPU_CONV_H
#define OAS_CPU_CONV_H

#include "cpu/level.h"
#include "tensor/tensor.h"

enum { OAS_CONV_PIXELS = 32, OAS_CONV_OUTPUTS = 32, OAS_CONV_CHANNELS = 32, OAS_CONV_TILE = 16 * 32 /* values */ };

typedef struct conv_block {
    const char *const *rows;  /* of the rows seen, oldest frame first: the pixel left of a slab's first; NULL = zeros */
    int64_t n_rows, at;       /* bytes from there to the block */
    int64_t channels;         /* bf16, a pixel after the other; 34 pixels are read */
    const uint16_t *weights;  /* of these outputs */
    const float *bias;        /* [32] or NULL */
    const uint16_t *residual; /* [pixels][step] or NULL; may be out */
    uint16_t *out;
    int64_t step, pixels; /* 1 to 32 of them are written */
} conv_block;

typedef struct conv_kernel {
    void (*begin)(void); /* before and after blocks, on the thread that computes them */
    void (*block)(const conv_block *b);
    void (*end)(void);
} conv_kernel;

/* NULL where that level has none. */
const conv_kernel *oas_conv_kernel(oas_cpu_level level);

extern const conv_kernel oas_conv_amx;

#endif
