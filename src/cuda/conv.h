/* Convolution on the GPU: cuDNN (conv.c), or plain loops in the emulated build (tests/cuda/emulated/conv.c). */
#ifndef OAS_CUDA_CONV_H
#define OAS_CUDA_CONV_H

#include "cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * y[b,t,y,x,o] = sum over i, r, s, c of w[o,i,r,s,c] x[b,t+i,y+r-k/2,x+s-k/2,c], zeros beyond the picture; sums in float.
 *   x  [batch, frames + kt - 1, height, width, in]
 *   w  [out, kt, k, k, in], the oldest frame first
 *   y  [batch, frames, height, width, out]
 * All three of one type: 0 float, 1 bf16.
 */
typedef struct cuda_convolution {
    int64_t batch, frames, height, width, in, out;
    int32_t kt, k, type;
} cuda_convolution;

struct cuda_conv {
    oasis_status (*forward)(oas_cuda *c, const cuda_convolution *s, void *y, const void *x, const void *w);
    /* dx and dw are written over. */
    oasis_status (*to_input)(oas_cuda *c, const cuda_convolution *s, void *dx, const void *dy, const void *w);
    oasis_status (*to_weight)(oas_cuda *c, const cuda_convolution *s, void *dw, const void *dy, const void *x);
};

extern const struct cuda_conv oas_cuda_conv;

void oas_cuda_conv_free(oas_cuda *c);

#ifdef __cplusplus
}
#endif
#endif
