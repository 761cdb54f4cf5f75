/*
 * Attention of heads whose tokens lie in rows: exact softmax, computed in tiles that stay in registers and cache.
 * Knows strides, grids and windows, not layers.
 *
 *   s_ij = q_i . k_j / sqrt(head_dim);   lse_i = ln sum_j exp(s_ij);   out_i = sum_j exp(s_ij - lse_i) v_j
 *
 * Products of bf16 inputs are taken in bf16 and summed in float where the level multiplies bf16, else everything is
 * computed in float.  The bits do not depend on the number of threads.
 */
#ifndef OAS_CPU_ATTENTION_H
#define OAS_CPU_ATTENTION_H

#include "base/threads.h"
#include "cpu/level.h"
#include "tensor/tensor.h"

enum { OAS_ATTENTION_MAX_HEAD_DIM = 256 };

/*
 * One head.  Its tokens are `groups` grids one after the other; tokens of different groups do not see each other.
 * Token i has head_dim values, i*stride values after the pointer.
 */
typedef struct attention_job {
    const void *q, *k, *v;
    void *out;  /* apart from q, k and v */
    float *lse; /* one per token, or NULL */
    int64_t groups;
    int64_t frames, height, width; /* the grid of a group */
    int window[3];                 /* odd: keys at most window/2 frames, rows, columns away; all 0: every key */
} attention_job;

typedef struct attention_task {
    oas_dtype dtype; /* of q, k, v and out */
    int head_dim;    /* 1 .. OAS_ATTENTION_MAX_HEAD_DIM; fastest in multiples of 32 */
    int64_t stride;
    int jobs;
    const attention_job *job;
} attention_task;

/* The bytes of scratch that oas_attention_run needs with so many threads. */
size_t oas_attention_scratch(oas_cpu_level level, const attention_task *task, int workers);

/* Computes all jobs.  `scratch` is aligned to OAS_ALIGN. */
void oas_attention_run(oas_cpu_level level, const attention_task *task, oas_pool *pool, void *scratch);

#endif
