/*
 * What op files share: checks with sentences, slabs over rows, activations.
 */
#ifndef OAS_OPS_OP_H
#define OAS_OPS_OP_H

#include "cpu/device.h"
#include "tensor/ops.h"

/* Fails the graph and returns false, so that shape functions can `return oas_op_refuse(...)`. */
#define oas_op_refuse(g, ...) (oas_graph_fail((g), OASIS_E_ARGUMENT, __VA_ARGS__), false)

/* The tensor's values as floats; REF functions see nothing else. */
static inline float *oas_f32(const tensor *t)
{
    return t->data;
}

static inline oas_pool *oas_graph_pool(const graph *g)
{
    return g->device ? g->device->pool : NULL;
}

/* The number of rows: values of all but the last dimension. */
static inline int64_t oas_rows(const tensor *t)
{
    return oas_count(&t->shape) / oas_last(t, 0);
}

/*
 * Rows per slab, so that there are enough slabs for any number of threads and each is worth its call: rows/16, rounded
 * up to 16, at least `least`, at most `most`.  Depends on the work alone.
 */
int64_t oas_slab_rows(int64_t rows, int64_t least, int64_t most);

/* act(x): x, tanh-GELU, x / (1 + e^-x), max(0, x). */
float oas_act(oas_activation act, float x);

#endif
