/*
 * Convolution on the GPU: cuDNN (conv.c), or plain loops in the emulated build (tests/cuda/emulated/conv.c); and our own
 * kernel for few channels (conv_narrow.cu).
 */
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

/*
 * y = act(conv(history, x; w) + bias) + residual, in bf16, sums in float.  x without the frames before it: these are
 * `history` [batch, kt - 1, height, width, in], NULL: zeros.
 */
typedef struct cuda_narrow {
    cuda_convolution size;
    void *y;
    const void *x, *history, *w; /* w as above */
    const float *bias;           /* [out], or NULL: 0 */
    const void *residual;        /* like y, and may be y; NULL: 0 */
    int32_t act;                 /* an oas_activation */
} cuda_narrow;

struct cuda_narrow_conv {
    bool (*accepts)(const oas_cuda *c, const cuda_convolution *s);
    oasis_status (*run)(oas_cuda *c, const cuda_narrow *n);
};

extern const struct cuda_narrow_conv oas_cuda_narrow_conv;

void oas_cuda_conv_free(oas_cuda *c);

#ifdef __cplusplus
}
#endif
#endif
