/*
 * What op files share: checks with sentences, slabs over rows, activations.
 */
#ifndef OAS_OPS_OP_H
#define OAS_OPS_OP_H

#include "cpu/device.h"
#include "cpu/passes.h"
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

/* The GPU that the graph computes on. */
static inline oas_cuda *oas_graph_cuda(const graph *g)
{
    return g->cuda;
}

/* A tensor as CUDA kernels take it. */
static inline cuda_array oas_array(const tensor *t)
{
    return t ? (cuda_array){t->data, (int32_t)t->dtype} : (cuda_array){NULL, 0};
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

/*
 * Calls fn(n, begin, end) for stretches of 0 .. count-1, over the pool's threads.  A stretch is about OAS_STRETCH_BYTES
 * of memory, of which each index touches `bytes`; its borders depend on the work alone.
 */
enum { OAS_STRETCH_BYTES = 128 << 10 };
typedef void oas_stretch_fn(const graph *g, const node *n, int64_t begin, int64_t end);
void oas_for_stretches(graph *g, const node *n, int64_t count, size_t bytes, oas_stretch_fn *fn);

/* The kernels of the graph's machine. */
static inline const oas_passes *oas_graph_passes(const graph *g)
{
    return oas_passes_for(g->device ? g->device->level : OAS_LEVEL_C);
}

/* y = act(x) over n values, on this thread; y may be x where the types are the same. */
void oas_apply_activation(const graph *g, oas_activation act, void *y, oas_dtype y_type, const void *x, oas_dtype x_type,
                          int64_t n);

/*
 * Does a product leave its activation to oas_apply_activation, slab by slab, with its results in float until then?
 * oneDNN's takes three times as long; but it is not worth more than a slab that stays in the second cache, and sums of a
 * residual come after the activation.
 */
static inline bool oas_activates_itself(oas_activation act, const tensor *residual, int64_t slab_values)
{
    enum { MOST_SLAB_VALUES = 256 << 10 };
    return (act == OAS_GELU_TANH || act == OAS_SILU) && !residual && slab_values <= MOST_SLAB_VALUES;
}

/*
 * Places (y, x) that may be others in every run, while sizes and all else stay: [2] float, whole numbers, brought into
 * 0..most where they are read.  A missing one, and one without values, as in a plan, is (0, 0).
 */
bool oas_is_place(graph *g, const node *n, const tensor *place);
int64_t oas_place_at(const tensor *place, int i, int64_t most); /* for what runs on the CPU */

/* Where an input's gradient is added to; NULL = nobody wants it. */
static inline float *oas_gradient_of(const tensor *t)
{
    return t && t->grad ? t->grad->data : NULL;
}

/* Values begin .. begin+n-1 of t as floats: where they lie, or converted into tmp (n values). */
const float *oas_floats(const tensor *t, int64_t begin, int64_t n, float *tmp);

/*
 * Sums over rows, for the gradients of biases, gains and tables: each slab of rows adds to a row of `partial` of its own,
 * and the rows are added to the gradients in order.
 */
typedef struct column_sums {
    int64_t slab, slabs, columns;
    float *partial; /* [slabs, columns], zeroed; NULL while planning */
} column_sums;

/* Takes scratch for sums over `rows` rows in slabs of oas_slab_rows; false when the graph failed or plans (then there is nothing to do). */
bool oas_column_sums(graph *g, column_sums *c, int64_t rows, int64_t columns, int64_t least, int64_t most);

/* The same with slabs that the caller cuts; `slab` is not set. */
bool oas_column_sums_of(graph *g, column_sums *c, int64_t slabs, int64_t columns);

/* Adds the sums of columns begin .. begin+n-1 to gradient[0 .. n-1]; NULL: nothing. */
void oas_column_add(const column_sums *c, int64_t begin, int64_t n, float *gradient);

/* act(x): x, tanh-GELU, x / (1 + e^-x), max(0, x). */
float oas_act(oas_activation act, float x);

/* The derivative of oas_act; that of max(0, x) at 0 is 0. */
float oas_act_slope(oas_activation act, float x);

/*
 * On the GPU: a weight in another type than its own.  The form is kept with a weight that is not trained, or else made in
 * scratch.  NULL while planning; *status is set on failure.
 */
const void *oas_cuda_weight_as(graph *g, const tensor *w, oas_dtype type, oasis_status *status);

#endif
