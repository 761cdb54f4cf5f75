/*
 * The timestep as numbers:  s = [cos(t w_0) .. cos(t w_n), sin(t w_0) .. sin(t w_n)], w_k = 10000^(-k/n), then
 *
 *     e  = second(SiLU(first(s)))      [1, dim]     added to the head's modulation
 *     e0 = projection(SiLU(e))         [1, 6*dim]   added to every block's modulation
 *
 * all in float.  A model at one timestep may carry the sums instead: then there is no time embedding, and every
 * modulation is used as it is.  Source: Wan2.1 model.py by way of doc/formulas.md.
 */
#ifndef OAS_NET_TIME_EMBEDDING_H
#define OAS_NET_TIME_EMBEDDING_H

#include "net/parameters.h"
#include "tensor/ops.h"

typedef struct time_embedding {
    linear first, second, projection;
    int frequencies; /* values of s, even; 0: there is no time embedding */
} time_embedding;

typedef struct time_values {
    tensor *e, *e0; /* NULL without a time embedding */
} time_values;

/* Takes time_embedding.{0,2} and time_projection.1 from the set. */
void oas_time_embedding_bind(time_embedding *t, int frequencies, int dim, parameter_set *weights);

/* The values at `timestep`, 0 to 1000. */
time_values oas_time_embed(graph *g, const time_embedding *t, double timestep);

/* modulation [1,rows,dim] + e (one row, repeated) or e0 (as many rows); the modulation itself when `values` is NULL. */
tensor *oas_time_modulate(graph *g, tensor *modulation, tensor *values);

#endif
