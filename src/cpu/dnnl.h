/*
 * Dense products and convolutions by oneDNN, one thread per call.  The only files that know oneDNN are dnnl.c and this
 * interface; shapes here are matrices and strips of pictures, not layers.
 *
 * A job is a prepared primitive for one exact size.  Jobs are made on the thread that owns the device and cached there;
 * running them is safe from all workers at once, each with scratch of its own.  oneDNN's threads are OpenMP's, whose
 * number is set per calling thread: every run sets it to one, and the caller cuts the work into slabs instead.
 */
#ifndef OAS_CPU_DNNL_H
#define OAS_CPU_DNNL_H

#include "tensor/ops.h"

typedef struct dnnl_cache dnnl_cache;
typedef struct dnnl_job dnnl_job;

oasis_status oas_dnnl_new(dnnl_cache **cache, int workers, int level, oasis_message *message);
void oas_dnnl_free(dnnl_cache **cache);

enum { OAS_LAYER, OAS_WEIGHT_GRADIENT, OAS_TIMES_TRANSPOSED, OAS_TIMES_PLAIN };

/*
 * What a job computes:  y = act(x * w + bias) + y_before (the last only with `residual`).
 *   dense (kernel 0)  x [rows, in], w [out, in], y [rows, out]
 *   conv  (kernel 3)  x [rows, width, in] -> y [rows - 2 + pad_top + pad_bottom, width, out], w [out, in, 3, 3],
 *                     zeros beyond left and right, and above and below where padded
 * x has type `in`, w is computed in the same type, y has type `out`; bias is float.
 *
 * Other products, for the way back (no activation, no bias):
 *   OAS_WEIGHT_GRADIENT   dense: x is the result's gradient e [rows, width], of which `out` columns are read, and w is the
 *                         layer's x [rows, in];  y [out, in] = e^T w, float
 *                         conv: w is e;  y is in oneDNN's own order, see oas_dnnl_plain_gradient
 *   OAS_TIMES_TRANSPOSED  y = x w^T of w [out, in] as it lies, not packed
 *   OAS_TIMES_PLAIN       y = x w of w [in, out] as it lies
 */
typedef struct dnnl_spec {
    int32_t kernel, act, in_type, out_type, bias, residual, pad_top, pad_bottom;
    int64_t rows, width, in, out;
    int64_t product; /* OAS_LAYER and so on */
} dnnl_spec;

/* The job for a spec, from the cache or new; NULL after failing the graph.  To be called on the graph's thread. */
const dnnl_job *oas_dnnl_job(dnnl_cache *cache, const dnnl_spec *spec, graph *g);

size_t oas_dnnl_weight_bytes(const dnnl_job *job);  /* of packed weights */
size_t oas_dnnl_scratch_bytes(const dnnl_job *job); /* per worker */

/*
 * The packed weights a job wants, from plain row-major ones of type w->dtype.  `permute` (0 or the number of frames kt)
 * reads w as [out, in/kt, kt, 3, 3] and packs [out, kt*in/kt, 3, 3], frames slowest.  Kept with the weight where it has
 * a cache and takes no gradient, else written into `own` (weight_bytes).
 */
oasis_status oas_dnnl_weights(dnnl_cache *cache, const dnnl_job *job, const tensor *w, int permute, void *own,
                              const void **packed);

/* Do two jobs read packed weights of one layout, so that what is packed for one serves both? */
bool oas_dnnl_weights_alike(const dnnl_job *a, const dnnl_job *b);

/* What oas_dnnl_weights takes as `permute` to read a dense weight as [in, out]: the way back through a layer. */
enum { OAS_DNNL_TRANSPOSED = -1 };

/* Floats of the gradient that a job with kernel and OAS_WEIGHT_GRADIENT writes, and its conversion to plain [out, in, 3, 3]. */
size_t oas_dnnl_gradient_floats(const dnnl_job *job);
bool oas_dnnl_gradients_alike(const dnnl_job *a, const dnnl_job *b); /* in the same order, so that they may be added */
oasis_status oas_dnnl_plain_gradient(dnnl_cache *cache, const dnnl_job *job, const float *from, float *to);

/* Runs a job; `scratch` has scratch_bytes and belongs to the worker alone. */
oasis_status oas_dnnl_run(dnnl_cache *cache, const dnnl_job *job, int worker, const void *x, const void *weights,
                          const float *bias, void *y, void *scratch);

/* Version of the library in use, as text. */
const char *oas_dnnl_version(void);

#endif
