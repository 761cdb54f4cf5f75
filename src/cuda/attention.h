/*
 * Attention on the GPU, exact softmax, forward and backward: every query's scores are computed tile by tile and never all
 * kept.  Rows of all arrays are tokens with heads*head_dim values; head h has values h*head_dim and on.
 *
 *   s_ij = q_i . k_j / sqrt(head_dim) + bias_j;   lse_i = ln sum_j exp(s_ij);   out_i = sum_j exp(s_ij - lse_i) v_j
 *
 * bf16 with head_dim a multiple of 8 runs on tensor cores: products of bf16 summed in float, up to 384 channels forward
 * and 128 backward.  Everything else is computed in float by plain kernels, up to CUDA_ATTENTION_MAX_HEAD_DIM.
 */
#ifndef OAS_CUDA_ATTENTION_H
#define OAS_CUDA_ATTENTION_H

#include "cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CUDA_ATTENTION_MAX_HEADS = 64, CUDA_ATTENTION_MAX_HEAD_DIM = 512 };

/*
 * What is attended to, in one of two ways:
 *   routed   tokens are batch grids of frames x height x width, and each head of `kind` sees what the letter says:
 *            'g' its sample, 'i' its frame, 'w' keys at most window/2 frames, rows and columns away
 *   apart    kind NULL: `batch` groups of `queries` queries and `keys` keys, all of which every query sees
 * All pointers but `kind` are device memory, 16-byte aligned (lse, bias: 4).
 */
typedef struct cuda_attention_task {
    int32_t dtype;           /* of q, k, v and out: 0 float, 1 bf16 */
    int32_t heads, head_dim; /* at most CUDA_ATTENTION_MAX_HEADS, CUDA_ATTENTION_MAX_HEAD_DIM */
    const void *q, *k, *v;
    void *out;         /* apart from q, k and v */
    float *lse;        /* [heads, all queries], or NULL (forward only) */
    const float *bias; /* [keys] of a group, natural units, or NULL; with `apart` only */
    int64_t batch;
    const char *kind;  /* host memory, a letter per head; NULL: apart */
    int32_t window[3]; /* odd */
    int64_t frames, height, width;
    int64_t queries, keys; /* of a group, apart only */
} cuda_attention_task;

/* The way back: gradients are float like the rows of their arrays, added to; NULL = not wanted. */
typedef struct cuda_attention_back {
    cuda_attention_task forward; /* with out and lse as forward left them */
    const float *dout;
    float *dq, *dk, *dv;
    float *dbias;    /* [keys] */
    bool wants_bias; /* dbias will not be NULL: asks for its scratch */
    void *scratch;
} cuda_attention_back;

struct cuda_attention {
    oasis_status (*forward)(oas_cuda *c, const cuda_attention_task *task);
    /* The bytes of scratch that backward needs; reads no pointers but kind. */
    size_t (*backward_scratch)(const cuda_attention_back *back);
    oasis_status (*backward)(oas_cuda *c, const cuda_attention_back *back);
};

extern const struct cuda_attention oas_cuda_attention;

#ifdef __cplusplus
}
#endif
#endif
