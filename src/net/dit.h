/*
 * The diffusion transformer: Wan2.1's, at a fixed timestep, with routed attention heads and no text branch.
 *
 *     c [B,F,h8,w8,in]   projected pixels            tokens: (F, h8/2, w8/2), frame slowest
 *     patch embedding    [N, dim]
 *     blocks             x += gate * attention(LN(x) * (1+scale) + shift);  x += gate * ffn(...)
 *     head               [N, 4*latent] -> v [B,F,h8,w8,latent]
 *
 * Source: Wan2.1 model.py by way of doc/formulas.md; the timestep's part is folded into `modulation` (decisions 17).
 */
#ifndef OAS_NET_DIT_H
#define OAS_NET_DIT_H

#include "net/parameters.h"
#include "tensor/ops.h"

typedef struct dit_config {
    int in_dim, latent_channels, dim, ffn_dim, heads, layers;
    float eps, rope_theta;
} dit_config;

typedef struct dit_block {
    tensor *modulation; /* [6, dim]: shift, scale, gate of attention, then of the FFN */
    linear q, k, v, o;
    tensor *norm_q, *norm_k; /* [dim] */
    linear ffn_in, ffn_out;
} dit_block;

typedef struct dit {
    dit_config config;
    const route_layer *routes; /* one per layer; must outlive the transformer */
    linear patch;
    dit_block *blocks;
    linear head;
    tensor *head_modulation; /* [2, dim]: shift, scale */
} dit;

/*
 * Takes its weights from the set; *d is zeroed before.  On failure the set says why, and *d need not be freed.
 */
oasis_status oas_dit_bind(dit *d, const dit_config *config, const route_layer *routes, parameter_set *weights);
void oas_dit_free(dit *d);

/* The velocity v [B,F,h8,w8,latent], float, of c [B,F,h8,w8,in_dim]; h8 and w8 must be even. */
tensor *oas_dit(graph *g, const dit *d, tensor *c);

/*
 * The angles of one sample's grid: [F*h*w, head_dim], (cos, sin) per pair; pairs for time come first, then rows, columns.
 * Of head_dim/2 pairs, a third (rounded down) each turn with row and column, the rest with the frame.
 */
tensor *oas_rope_table(graph *g, const token_grid *grid, int head_dim, float theta);

#endif
