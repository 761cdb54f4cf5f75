/*
 * Attention of a run of heads by cuDNN's fused kernels (fused.c): what has them is faster than ours there, above all on
 * compute capability 9.0.  Forward alone, bf16.  The emulated build has plain loops (tests/cuda/emulated/fused.c).
 */
#ifndef OAS_CUDA_FUSED_H
#define OAS_CUDA_FUSED_H

#include "cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * In each of `segments` segments, `rows` queries of each of `heads` heads see all its `keys` keys:
 *   out_i = sum_j softmax_j(scale q_i . k_j) v_j;   lse_i = ln sum_j exp(scale q_i . k_j)
 * Arrays are bf16; row i of segment s begins at (s * rows + i) * stride, or keys in place of rows for k and v; head h of
 * the run lies h * head_step further and has head_dim values.
 */
typedef struct cuda_fused {
    const void *q, *k, *v;
    void *out;
    float *lse; /* lse[h * lse_step + s * rows + i], or NULL */
    int64_t segments, heads, rows, keys, head_dim, stride, head_step, lse_step;
    float scale;
} cuda_fused;

/* Puts it on the stream.  OASIS_E_UNSUPPORTED: the library has no kernel for it, or is too old; nothing was done. */
oasis_status oas_cuda_fused(oas_cuda *c, const cuda_fused *f);

void oas_cuda_fused_free(oas_cuda *c);

#ifdef __cplusplus
}
#endif
#endif
