/*
 * Running and recording.  A network is a C function that calls op builders (tensor/ops.h); every builder checks its
 * inputs, takes storage for its output from the graph's arena, and computes at once.  When the graph records, it also
 * keeps the node on a tape, and oas_backward walks the tape in reverse.  When it plans, nothing is computed: shapes
 * flow, the arena counts bytes and the graph counts FLOPs.
 *
 * Gradients: tensor.grad of leaves that want one (tensor.needs_grad) is added to by oas_backward, so that a batch may be
 * summed over several passes; those of intermediate results live in the arena, and their storage is used again as soon
 * as the node that made the result has passed its gradient on.
 *
 * Failure is sticky: the first one sets graph.status and graph.message, builders given NULL return NULL, and the network
 * stays a straight line that is checked once, at its end.
 *
 * Memory: outputs live in the arena until their mark is released.  A network releases what a block used like this:
 *
 *     tensor *x = ...;                           // lives on
 *     size_t mark = oas_graph_mark(g);
 *     x = oas_add_gated(g, x, branch(g, x), ..); // ops that may work in place do so when the graph does not record
 *     x = oas_graph_keep(g, x, mark);            // no effect while recording
 */
#ifndef OAS_TENSOR_GRAPH_H
#define OAS_TENSOR_GRAPH_H

#include "base/threads.h"
#include "cuda/cuda.h"
#include "tensor/pack.h"
#include "tensor/tensor.h"

#include <stdatomic.h>

typedef enum oas_backend {
    OAS_REF,  /* plain C on floats: the definition, never missing */
    OAS_CPU,  /* fast; falls back to OAS_REF where NULL */
    OAS_CUDA, /* a GPU; falls back to the CPU where NULL, with copies there and back */
    OAS_BACKENDS
} oas_backend;

enum { OAS_MAX_INPUTS = 6, OAS_PARAM_BYTES = 96 };

typedef struct op op;
typedef struct graph graph;
typedef struct node node;
typedef struct device device;   /* threads, kernels and libraries of one machine: cpu/device.h */
typedef struct spare spare;     /* storage of gradients that waits for its next use: tensor/backward.c */
typedef struct sampler sampler; /* draws test cases: tensor/sampler.h */

/* One application of an op.  Missing optional inputs are NULL. */
struct node {
    const op *op;
    tensor *in[OAS_MAX_INPUTS];
    tensor *out;
    void *keep; /* what forward saves for backward; op->keep says how many bytes */
    _Alignas(16) unsigned char param[OAS_PARAM_BYTES]; /* the op's own struct of parameters */
    node *previous;                                    /* on the tape */
    bool needs_grad;
};

/*
 * Computes n->out from n->in.  Shapes have been checked; never called while the graph plans.  A REF function sees floats only: the graph converts other
 * types before and after.  A CPU function sees the types that op->accepts said yes to.
 *
 * A CUDA function sees device memory alone, whatever the types; it only puts work on the stream.  It is called while the
 * graph plans, too: then it takes its scratch and returns.
 */
typedef oasis_status op_fn(graph *g, const node *n);

/*
 * What an op is: one const descriptor at the end of its block in ops/, one line in ops/ops.def.
 */
struct op {
    const char *name;
    const char *stage; /* under which name its time is reported: "dense", "conv", "attention", "passes" */
    int n_in;
    unsigned optional; /* bit i: in[i] may be NULL */
    /* Checks the inputs and sets n->out->shape and dtype; false after oas_graph_fail. */
    bool (*shape)(graph *g, node *n);
    /* Bytes saved for backward; NULL = none. */
    size_t (*keep)(const node *n);
    /* Multiply-adds count two; NULL = 0. */
    double (*flops)(const node *n);
    /* 1 + the index of the input whose storage the output may take over when the graph does not record; 0 = none. */
    int in_place;
    /* Can the CPU function take these types and sizes on this machine?  NULL = whatever comes. */
    bool (*accepts)(const graph *g, const node *n);
    /* Can the CUDA functions, forward and backward, take these?  NULL = whatever comes; false: they run on the CPU. */
    bool (*accepts_cuda)(const graph *g, const node *n);
    /* The most bytes that the CPU forward takes by oas_scratch, for the plan; NULL = none. */
    size_t (*scratch)(graph *g, const node *n);
    op_fn *forward[OAS_BACKENDS];
    /*
     * Adds into the gradients in[i]->grad that are there, given out->grad; NULL = not differentiable.  The REF function
     * sees floats only.  Called while the graph plans, too: then it takes its scratch and returns.
     */
    op_fn *backward[OAS_BACKENDS];
    /* Can the CPU backward take these?  NULL = as `accepts`. */
    bool (*accepts_backward)(const graph *g, const node *n);
    unsigned constant; /* bit i: in[i] never takes a gradient */
    /*
     * 1 + the index of the input that the result is the sum of and something else, of the same shape: to its gradient
     * that of the result is added as it is.  Where it has none yet, it takes over the result's, and `backward` finds
     * none there.  0 = none.
     */
    int passes_on;
    /* Sets up the i-th test case in n: random inputs and parameters; false = no more.  The same again for the same i. */
    bool (*sample)(sampler *s, int i, node *n);
    float tolerance;      /* of OAS_CPU in fp32 against OAS_REF: norm of the difference over norm of the result */
    float tolerance_bf16; /* the same with bf16 inputs and outputs */
};

enum { OAS_MAX_STAGES = 16 };

typedef struct stage_time {
    const char *name;
    double seconds, flops;
    double bytes; /* read and written by its ops, each input and output counted once */
} stage_time;

struct graph {
    arena memory;
    arena headers;  /* of headers and nodes, when `memory` only counts, or lies on a GPU */
    device *device; /* NULL: REF, one thread */
    oas_cuda *cuda; /* where OAS_CUDA computes */
    oas_backend backend;
    oas_dtype compute; /* type of activations: OAS_BF16 or OAS_F32 */
    bool planning, recording;
    bool timed;          /* waits for the GPU after each op, so that the times of stages are those of the work */
    bool checkpointing;  /* oas_checkpoint drops what is inside, and computes it again in backward */
    oasis_status status; /* first failure, sticky */
    oasis_message message;
    node *tape; /* last recorded node */
    spare *spares;
    double flops; /* counted so far */
    stage_time stages[OAS_MAX_STAGES];
    /* Called after each op with its output, for golden tests and --dump; may be NULL. */
    void (*watch)(void *user, const node *n);
    void *watch_user;
    /* Called after each node's backward, while planning too: it has added to its inputs' gradients; may be NULL. */
    void (*walked)(void *user, graph *g, const node *n);
    void *walked_user;
    const atomic_bool *cancel; /* set by another thread: builders fail with OASIS_E_CANCELLED; may be NULL */
};

/* ---- storage ------------------------------------------------------------------------------------------------------- */

/* Makes the arena where the graph computes; false when memory is short. */
bool oas_graph_open(graph *g, size_t bytes);
void oas_graph_close(graph *g); /* frees it */

/* Storage outside the arena, where the graph computes: a tensor's own, not cleared; false when memory is short. */
bool oas_graph_own(graph *g, tensor *t);
void oas_tensor_disown(tensor *t); /* frees it, after the graph's life too */

/*
 * Copies whole tensors, or `bytes` from an offset on, between the host and the graph's storage.  `host` may be used again
 * at once.  Nothing happens while planning or after a failure; all return g->status.
 */
oasis_status oas_graph_upload(graph *g, tensor *t, const void *host);
oasis_status oas_graph_upload_part(graph *g, tensor *t, size_t offset, const void *host, size_t bytes);
oasis_status oas_graph_download(graph *g, void *host, const tensor *t);
oasis_status oas_graph_download_part(graph *g, void *host, const tensor *t, size_t offset, size_t bytes);

/* Copies within the graph's storage (stretches may overlap), and clears.  Nothing happens while planning. */
oasis_status oas_graph_copy(graph *g, void *to, const void *from, size_t bytes);
oasis_status oas_graph_zero(graph *g, void *to, size_t bytes);

/*
 * `rows` rows of `bytes` each, from and to stretches that lie `from_step` and `to_step` bytes apart, within the graph's
 * storage.  Nothing happens while planning.
 */
oasis_status oas_graph_copy_rows(graph *g, void *to, size_t to_step, const void *from, size_t from_step, size_t bytes,
                                 size_t rows);

/*
 * A float tensor of values that depend on `key` alone: computed by `make` at the first use, and kept in `cache` (NULL: for
 * this pass only) where the graph computes.  Not to be written to.
 */
tensor *oas_graph_table(graph *g, packed *cache, const pack_key *key, shape s, pack_fn *make, void *arg);

/*
 * A prepared form of a weight on the graph's GPU, cached with it; `make` fills device memory.  Only for weights that have
 * `packed` and take no gradient.  *form is NULL while planning.
 */
oasis_status oas_cuda_form(graph *g, const tensor *weight, const pack_key *key, size_t bytes, pack_fn *make, void *arg,
                           void **form);

/* ---- building ------------------------------------------------------------------------------------------------------ */

/* Fails the graph (only the first failure is kept); returns NULL so that builders can say `return oas_graph_fail(...)`. */
tensor *oas_graph_fail(graph *g, oasis_status status, const char *format, ...) OAS_PRINTF(3, 4);

/* Storage of the graph, uninitialised; data is NULL while planning. */
tensor *oas_tensor(graph *g, oas_dtype dtype, shape s);

/* A zeroed header without storage. */
tensor *oas_tensor_header(graph *g);

/* A small block that a step keeps (nodes of the tape and such), uninitialised; also there while planning. */
void *oas_graph_small(graph *g, size_t bytes);

/* Scratch of the running op: taken from the arena and given back by the graph when the op returns.  NULL and a failed
 * graph when it does not fit. */
void *oas_scratch(graph *g, size_t bytes);

/* The same storage seen with another shape of as many values. */
tensor *oas_view(graph *g, tensor *t, shape s);

/*
 * Applies an op: shape, storage, compute, record.
 *   in     o->n_in inputs
 *   param  the op's struct of parameters, copied; at most OAS_PARAM_BYTES
 */
tensor *oas_apply(graph *g, const op *o, tensor *const *in, const void *param, size_t param_bytes);

size_t oas_graph_mark(const graph *g);
void oas_graph_release(graph *g, size_t mark);

/*
 * Gives back all that was taken since the mark, except for t, which works in place on storage older than the mark.
 * Returns t's new header (t itself while recording, when nothing is given back).
 */
tensor *oas_graph_keep(graph *g, tensor *t, size_t mark);

/*
 * Walks the tape from its end and adds d(sum(out * cotangent))/d(leaf) into the gradient of every leaf that wants one.
 *   cotangent  float, of out's shape, or NULL = ones (out is a loss)
 * Afterwards the tape is empty.  A leaf without a gradient gets one in the arena.
 */
oasis_status oas_backward(graph *g, tensor *out, const tensor *cotangent);

/* The same values, through which no gradient passes. */
tensor *oas_detach(graph *g, tensor *t);

/*
 * A step of its own inside another: what is recorded between oas_aside_begin and oas_aside_end has its own tape, on which
 * oas_backward may walk; the tape from before goes on afterwards.  The end gives back all storage taken since the
 * beginning, except for t (NULL: none), and returns t's new header.
 */
typedef struct aside {
    node *tape;
    spare *spares;
    size_t mark;
} aside;
aside oas_aside_begin(graph *g);
tensor *oas_aside_end(graph *g, const aside *a, tensor *t);

/* The gradient of t: the one it has, or a new zeroed one in the arena.  NULL when the graph has failed. */
tensor *oas_gradient(graph *g, tensor *t);

/*
 * y = block(x), of x's shape and type, recorded as one node when the graph records and checkpoints: what the block
 * computes inside is dropped, and computed again in backward.
 *   arg  copied (arg_bytes)
 *   in   x first, then all recorded results that the block finds in `arg` (not leaves), n_in <= OAS_MAX_INPUTS in all
 */
typedef tensor *oas_block_fn(graph *g, const void *arg, tensor *x);
tensor *oas_checkpoint(graph *g, oas_block_fn *block, const void *arg, size_t arg_bytes, tensor *const *in, int n_in);

/* The line of the times under which a stage is counted. */
stage_time *oas_graph_stage(graph *g, const char *name);

/* Gives back all that was taken since the mark, and moves t's values there.  Returns t's new header (t itself while
 * recording, when nothing is given back). */
tensor *oas_graph_sink(graph *g, tensor *t, size_t mark);

/* Sets memory to zero by all threads of a device, NULL = this one (cpu/device.c). */
void oas_device_zero(device *d, void *to, size_t bytes);

/* The same for a copy to where nothing of it lies. */
void oas_device_copy(device *d, void *to, const void *from, size_t bytes);

/* Starts afresh: nothing in the arena, no tape, no failure.  Keeps device, backend, compute, times. */
void oas_graph_reset(graph *g);

/* The parameters of a node as the op's struct. */
#define OAS_PARAM(type, n) ((const type *)(const void *)(n)->param)

#endif
