/*
 * The diffusion transformer: Wan2.1's, with routed attention heads.
 *
 *     c [B,F,h8,w8,in]   projected pixels            tokens: (F, h8/2, w8/2), frame slowest
 *     patch embedding    [N, dim]
 *     blocks             x += gate * attention(LN(x) * (1+scale) + shift);  x += text;  x += gate * ffn(...)
 *     head               [N, 4*latent] -> v [B,F,h8,w8,latent]
 *
 * A model at one timestep has that step's part in its modulations already (decisions 17); one with a time embedding adds
 * it at every call, which costs a thousandth of a block.  The text branch may be missing: net/text.h.
 * Source: Wan2.1 model.py by way of doc/formulas.md.
 */
#ifndef OAS_NET_DIT_H
#define OAS_NET_DIT_H

#include "net/text.h"
#include "net/time_embedding.h"
#include "tensor/ops.h"

typedef struct dit_config {
    int in_dim, latent_channels, dim, ffn_dim, heads, layers;
    float eps, rope_theta;
    int frequencies; /* of the time embedding; 0: modulations are folded */
    double timestep; /* 0 to 1000, of a model with a time embedding */
    text_config text;
} dit_config;

typedef struct dit_block {
    tensor *modulation; /* [6, dim]: shift, scale, gate of attention, then of the FFN */
    linear q, k, v, o;
    tensor *norm_q, *norm_k; /* [dim] */
    text_block text;
    linear ffn_in, ffn_out;
} dit_block;

typedef struct dit {
    dit_config config;
    const route_layer *routes; /* one per layer; must outlive the transformer */
    linear patch;
    time_embedding time;
    text_branch text;
    dit_block *blocks;
    linear head;
    tensor *head_modulation; /* [2, dim]: shift, scale */
    packed *tables;          /* of angles, by grid */
} dit;

/*
 * Takes its weights from the set; *d is zeroed before.  On failure the set says why, and *d need not be freed.
 */
oasis_status oas_dit_bind(dit *d, const dit_config *config, const route_layer *routes, parameter_set *weights);
void oas_dit_free(dit *d);

/*
 * What a set of weights, read from a file, says about time and text: fills frequencies and text of the config.  `stored`
 * weights are known by blocks.0.cross_attn.stored_k, a context by `prompt`, a constant by blocks.0.cross_const.
 */
void oas_dit_detect(dit_config *config, parameter_set *weights);

/* The velocity v [B,F,h8,w8,latent], float, of c [B,F,h8,w8,in_dim]; h8 and w8 must be even. */
tensor *oas_dit(graph *g, const dit *d, tensor *c);

/*
 * The angles of one sample's grid: [F*h*w, head_dim], (cos, sin) per pair; pairs for time come first, then rows, columns.
 * Of head_dim/2 pairs, a third (rounded down) each turn with row and column, the rest with the frame.  Kept in `cache`,
 * or with NULL computed for this pass.
 */
tensor *oas_rope_table(graph *g, packed *cache, const token_grid *grid, int head_dim, float theta);

#endif
