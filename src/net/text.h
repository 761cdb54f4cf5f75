/*
 * What takes the place of the prompt in a transformer (doc/formulas.md, "The text branch").
 *
 *     none      nothing
 *     constant  one vector per block is added: what cross-attention gives when all rows of the prompt are zero
 *     stored    cross-attention to keys and values of a fixed prompt, made beforehand
 *     context   cross-attention to the rows of a prompt, through the text embedding
 *
 *     x += o(softmax(q k^T / sqrt(hd) + bias) v),  q = rms_norm(q(LN_affine(x))),  k = rms_norm(k(c)), v = v(c)
 *     c = second(GELU(first(prompt)))
 *
 * A prompt is padded with zero rows; these are all alike, so one of them is kept as the last row, whose bias is the
 * logarithm of how many there are.  That is exact.
 */
#ifndef OAS_NET_TEXT_H
#define OAS_NET_TEXT_H

#include "net/parameters.h"
#include "tensor/ops.h"

typedef enum text_kind { OAS_PROMPT_NONE, OAS_PROMPT_CONSTANT, OAS_PROMPT_STORED, OAS_PROMPT_CONTEXT } text_kind;

typedef struct text_config {
    text_kind kind;
    int rows;  /* of the prompt, the padding's one included; for stored and context */
    int width; /* of a row of the prompt; for context */
} text_config;

/* The whole model's part. */
typedef struct text_branch {
    text_kind kind;
    linear first, second;
    tensor *prompt; /* [rows, width] float */
    tensor *bias;   /* [rows] float */
} text_branch;

/* One block's part. */
typedef struct text_block {
    tensor *constant; /* [dim] */
    tensor *norm3_weight, *norm3_bias;
    linear q, k, v, o;
    tensor *norm_q, *norm_k;
    tensor *stored_k, *stored_v; /* [rows, dim], keys after their norm */
} text_block;

/* Sizes and switches of the transformer that the branch needs. */
typedef struct text_place {
    int heads;
    float eps;
    tensor *no_rope; /* angles of zero, [1, head_dim]: the norm of q and k without rotation */
    tensor *context; /* of oas_prompt_context, or NULL */
} text_place;

/*
 * Tensors: text_embedding.{0,2}, prompt, prompt_bias; blocks.N.cross_const, .norm3, .cross_attn.{q,k,v,o,norm_q,norm_k},
 * .cross_attn.stored_{k,v}.
 */
void oas_prompt_bind(text_branch *t, const text_config *config, int dim, parameter_set *weights);
void oas_prompt_bind_block(text_block *b, const text_config *config, int dim, int layer, parameter_set *weights);

/* c [rows, dim] in the compute type, or NULL where there are no rows. */
tensor *oas_prompt_context(graph *g, const text_branch *t);

/* What attention to a context of one row gives to every token: o(v(c)), [1,dim] float. */
tensor *oas_prompt_constant(graph *g, const text_block *b, tensor *context);

/* The keys after their norm, and the values, of a block for a context: what `stored` keeps. */
tensor *oas_prompt_keys(graph *g, const text_block *b, const text_place *at);
tensor *oas_prompt_values(graph *g, const text_block *b, const text_place *at);

/* Where what it gives is the same for every token: that row, [dim] float, to be added to x on the way; else NULL. */
tensor *oas_prompt_fixed(const text_branch *t, const text_block *b);

/* Adds what is not, cross-attention, to x [N,dim] float, in place. */
tensor *oas_prompt_add(graph *g, const text_branch *t, const text_block *b, const text_place *at, tensor *x);

#endif
