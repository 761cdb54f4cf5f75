/*
 * Residual blocks of small networks over pictures [B,T,H,W,C]:
 *
 *     Res(x) = x + conv2(silu(conv1(x)));  Mem(x_t) = x_t + conv2(silu(conv1([x_t, x_(t-1)]))), x_(-1) = 0
 *
 * conv1 and conv2 are 3x3; a weight of Mem's conv1 is [C, 2*C, 3, 3], the newest frame first.
 */
#ifndef OAS_NET_RESIDUAL_H
#define OAS_NET_RESIDUAL_H

#include "net/parameters.h"
#include "tensor/ops.h"

typedef struct residual {
    conv conv1, conv2;
} residual;

/* A 3x3 convolution NAME.{weight,bias} of `in` to `out` channels, and one of 1x1 as a product. */
conv oas_bind_conv(parameter_set *w, int out, int in, const char *name);
linear oas_bind_1x1(parameter_set *w, int out, int in, const char *name);

/* NAME.conv1, NAME.conv2; frames 2: Mem. */
residual oas_bind_residual(parameter_set *w, int channels, int frames, const char *name);

/* Res or Mem, as bound.  last: the frame before x, or NULL = zeros. */
tensor *oas_residual(graph *g, const residual *r, tensor *last, tensor *x);

#endif
