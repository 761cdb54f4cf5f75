/*
 * The way back through attention (cpu/attention.h), from the log-sum-exps that forward stored: blocks of queries against
 * the keys they can see, never all pairs at once.
 *
 *   p_ij = exp(s_ij - lse_i);   dv_j += p_ij dout_i;   t_i = dout_i . out_i
 *   e_ij = p_ij (dout_i . v_j - t_i) / sqrt(head_dim);   dq_i += e_ij k_j;   dk_j += e_ij q_i
 *
 * The five products are oneDNN's, in the type of q; sums and exponentials are float.  A head of a group is the work of
 * one thread, so that its sums have one order.
 */
#ifndef OAS_CPU_ATTENTION_BACKWARD_H
#define OAS_CPU_ATTENTION_BACKWARD_H

#include "tensor/graph.h"

/* One head; see attention_job for the layout.  Gradients have q's stride; those that are NULL are not wanted. */
typedef struct attention_back_job {
    const void *q, *k, *v, *out;
    const float *lse, *dout;
    float *dq, *dk, *dv;
    int64_t groups;
    int64_t frames, height, width;
    int window[3];
} attention_back_job;

typedef struct attention_back_task {
    oas_dtype dtype;
    int head_dim;
    int64_t stride;
    int jobs;
    const attention_back_job *job;
} attention_back_task;

/* Adds the gradients of all jobs; takes scratch from the graph, and does no more while it plans. */
oasis_status oas_attention_backward(graph *g, const attention_back_task *task);

/* ---- for the levels ------------------------------------------------------------------------------------------------ */

/*
 * A row of n scores s (of q.k) and dp (of dout.v): writes p and e of `type`.  mask: 1 where the key is seen, 0 where not,
 * or NULL = all are.
 */
typedef struct weigh_back {
    float scale, lse, t;
    const float *mask;
} weigh_back;
typedef void weigh_back_fn(const weigh_back *w, const float *s, const float *dp, void *p, void *e, oas_dtype type,
                           int64_t n);
extern weigh_back_fn oas_weigh_back_avx2, oas_weigh_back_avx512;

#endif
