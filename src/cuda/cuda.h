/*
 * A GPU as a device: one stream, its memory, and the kernels and libraries by family.  An upscaler or a trainer owns one;
 * ops reach it through graph.device->cuda and hand plain arrays to the tables below.
 *
 * The build option OASIS_CUDA decides what stands behind oas_cuda_new: kernels by nvcc, or (absent.c) a refusal.  Nothing
 * else in the library asks how it was built.
 *
 * All functions of the tables only put work on the stream and return; none waits, allocates or reads results on the host,
 * so that a run of ops can be captured as one CUDA graph.  They give OASIS_OK, or OASIS_E_DEVICE when a launch was refused.
 * Every result is the same bits for the same input: sums have a fixed order, and nothing is added atomically.
 */
#ifndef OAS_CUDA_CUDA_H
#define OAS_CUDA_CUDA_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oas_cuda oas_cuda;
typedef struct cuda_recording cuda_recording;

/* An array on the GPU and its type: 0 float, 1 bf16 (as oas_dtype). */
typedef struct cuda_array {
    void *data;
    int32_t dtype;
} cuda_array;

struct cuda_passes;      /* cuda/passes.h: norms, elementwise, sums over rows, the optimiser */
struct cuda_layout;      /* cuda/layout.h: space to depth and back, channels, frames */
struct cuda_losses;      /* cuda/losses.h */
struct cuda_attention;   /* cuda/attention.h */
struct cuda_dense;       /* cuda/dense.h: products, by cuBLASLt */
struct cuda_conv;        /* cuda/conv.h: convolution, by cuDNN */
struct cuda_narrow_conv; /* the same: of few channels, by our own kernel */
struct cuda_degrade;     /* cuda/degrade.h: blurs, resizes and noise of src/degrade */

typedef struct cuda_tables {
    const struct cuda_passes *passes;
    const struct cuda_layout *layout;
    const struct cuda_losses *losses;
    const struct cuda_attention *attention;
    const struct cuda_dense *dense;
    const struct cuda_conv *conv;
    const struct cuda_narrow_conv *narrow;
    const struct cuda_degrade *degrade;
} cuda_tables;

struct oas_cuda {
    void *stream;    /* a cudaStream_t */
    void *up, *down; /* those of blocks that are copied beside the computation */
    cuda_tables tables;
    int index;                  /* of the GPU */
    int processors;             /* streaming multiprocessors */
    int shared_bytes;           /* shared memory that a block may have, at most */
    void *dense, *conv, *fused; /* what the libraries keep: handles, plans */
    void (*close)(oas_cuda *c); /* frees that; NULL where there is none */
    void *waiting;              /* an event: waits sleep at it; NULL where they watch, which is quicker */
    cuda_recording *recording;  /* NULL while work is done as it comes */
};

/*
 * Opens GPU `index` (from 0 on).  Fails with OASIS_E_DEVICE and a sentence: built without CUDA, no driver, no such GPU,
 * too old a GPU (below compute capability 8.0).
 */
oasis_status oas_cuda_new(oas_cuda **c, int index, oasis_message *message);
void oas_cuda_free(oas_cuda **c);

/*
 * The same for work beside another's on that GPU: a stream of the lowest priority, waits that leave the processor to
 * others, no blocks (up and down are NULL), and of the tables `degrade` alone.
 */
oasis_status oas_cuda_beside(oas_cuda **c, int index, oasis_message *message);

/*
 * What a device's name stands for: "cpu" -1, "cuda" 0, "cuda:N" N, "auto" and NULL oas_cuda_usual().  Fails with
 * OASIS_E_ARGUMENT for another name.
 */
oasis_status oas_cuda_named(const char *name, int *gpu, oasis_message *message);

/* How many GPUs there are: 0 without CUDA or without a driver. */
int oas_cuda_count(void);

/* The GPU that 'auto' takes: the first; -1 = none, and where it is emulated, which is for tests. */
int oas_cuda_usual(void);

/* How the library was built: "not built in", "13.0", "emulated". */
const char *oas_cuda_built(void);

/* Makes c's GPU the one that this thread works with; the start of every pass. */
void oas_cuda_use(const oas_cuda *c);

/* Name and size of GPU `index` as text; returns the length, 0 when there is no such GPU. */
size_t oas_cuda_describe(int index, char *text, size_t size);

/* Which GPU it is, whatever its number: two processes of a machine that have the same one get the same. */
uint64_t oas_cuda_identity(const oas_cuda *c);

/* Memory of the GPU, not cleared; NULL when there is not so much.  A block may outlive c: release takes NULL for it. */
void *oas_cuda_alloc(oas_cuda *c, size_t bytes);
void oas_cuda_release(oas_cuda *c, void *block);
void oas_cuda_memory(const oas_cuda *c, size_t *free_bytes, size_t *total_bytes);

/* Host memory that copies run from and to beside the computation; NULL when memory is short. */
void *oas_cuda_host_alloc(oas_cuda *c, size_t bytes);
void oas_cuda_host_release(oas_cuda *c, void *block);

/*
 * Copies in stream order.  An upload from plain memory has read it when it returns, one from oas_cuda_host_alloc reads it
 * until the stream has come there; a download has written when it returns.  Stretches of a copy do not overlap.
 */
oasis_status oas_cuda_upload(oas_cuda *c, void *device, const void *host, size_t bytes);
oasis_status oas_cuda_download(oas_cuda *c, void *host, const void *device, size_t bytes);
oasis_status oas_cuda_copy(oas_cuda *c, void *to, const void *from, size_t bytes);
/* `rows` rows of `bytes` that lie `step` bytes apart. */
oasis_status oas_cuda_copy_rows(oas_cuda *c, void *to, size_t to_step, const void *from, size_t from_step, size_t bytes,
                                size_t rows);
oasis_status oas_cuda_zero(oas_cuda *c, void *device, size_t bytes);

/* Waits for the stream; fails with what went wrong since. */
oasis_status oas_cuda_wait(oas_cuda *c, oasis_message *message);

/*
 * A block that lies in host memory and on the GPU, and is copied from one to the other beside the computation, by a stream
 * for each direction.
 *
 *     up      the host writes `host`; oas_cuda_block_up; work that is put on the stream now finds it in `device`;
 *             oas_cuda_block_used behind the last such work
 *     down    work on the stream has written `device`; oas_cuda_block_down; oas_cuda_block_wait: it is in `host`
 *
 * Before either side is written again: oas_cuda_block_wait, or oas_cuda_block_done.
 */
typedef struct cuda_block {
    void *host, *device;
    size_t bytes;
    void *copy, *end; /* events: what the other stream waits for, and what the host does */
} cuda_block;

/* OASIS_E_MEMORY when memory of either kind is short; close frees what there is, and takes a zeroed block. */
oasis_status oas_cuda_block_open(oas_cuda *c, cuda_block *b, size_t bytes);
void oas_cuda_block_close(oas_cuda *c, cuda_block *b);

oasis_status oas_cuda_block_up(oas_cuda *c, cuda_block *b);
oasis_status oas_cuda_block_used(oas_cuda *c, cuda_block *b);
oasis_status oas_cuda_block_down(oas_cuda *c, cuda_block *b);

/* Waits until a block that was used is free, or one that goes down is there; fails with what went wrong since. */
oasis_status oas_cuda_block_wait(oas_cuda *c, cuda_block *b, oasis_message *message);
bool oas_cuda_block_done(oas_cuda *c, cuda_block *b); /* would not wait */

/*
 * Seconds that the stream spends between its places at begin and end, summed over all pairs.  Read when they have passed:
 * begin waits for the pair of OAS_CUDA_PAIRS before, seconds for all.  A zeroed clock is at 0; close frees its events.
 */
enum { OAS_CUDA_PAIRS = 16 };
typedef struct cuda_clock {
    void *begin[OAS_CUDA_PAIRS], *end[OAS_CUDA_PAIRS];
    int64_t pairs, read;
    double seconds;
} cuda_clock;
void oas_cuda_clock_begin(oas_cuda *c, cuda_clock *clock);
void oas_cuda_clock_end(oas_cuda *c, cuda_clock *clock);
double oas_cuda_clock_seconds(oas_cuda *c, const cuda_clock *clock);
void oas_cuda_clock_close(oas_cuda *c, cuda_clock *clock);

/*
 * Work as one launch.  What is put on the stream between oas_cuda_record and oas_cuda_recorded is not done but kept, with
 * its addresses; oas_cuda_replay puts all of it on the stream at once, as often as wanted.
 *
 * Meanwhile downloads and waits fail, and so do uploads of more than a few KiB in all; what they uploaded is the same in
 * every replay.  After a failure oas_cuda_recorded gives NULL, nothing has been done, and work is done as it comes again.
 * A recording lives no longer than c; oas_cuda_forget waits for the stream.
 */
oasis_status oas_cuda_record(oas_cuda *c);
cuda_recording *oas_cuda_recorded(oas_cuda *c);
oasis_status oas_cuda_replay(oas_cuda *c, cuda_recording *r);
void oas_cuda_forget(oas_cuda *c, cuda_recording **r);

#ifdef __cplusplus
}
#endif
#endif
