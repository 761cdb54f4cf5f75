/*
 * Measuring: what this machine can do, and how near the parts of oasis come to it, in one run.
 */
#ifndef OASIS_BENCH_H
#define OASIS_BENCH_H

#include <oasis/oasis.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One figure.  Texts are constants. */
typedef struct oasis_bench_row {
    const char *stage;  /* "dense" */
    const char *name;   /* "dense_fraction" */
    const char *detail; /* what was measured: "4096 x 1536 x 8960" */
    const char *dtype;  /* "bf16", "fp32", or "" */
    const char *unit;   /* "of peak", "GFLOP/s", "s", ... */
    double value;
    double gflops;      /* behind a fraction; 0 where it makes no sense */
} oasis_bench_row;

/* Called for each figure as it is known.  Returning false stops the run. */
typedef bool oasis_bench_fn(void *user, const oasis_bench_row *row);

/* The names of the stages, in order, ended by NULL: "peak", "dense", "conv", "attention", "block", "model"; and those
 * that only run when asked for: "decoder", which is a part of "conv", "transformer" and "step", which measure large models on
 * a GPU. */
OASIS_API const char *const *oasis_bench_stages(void);

/*
 * Runs one stage, or all of them.
 *   model    whose decoder and speed are measured
 *   stage    a name of oasis_bench_stages, or NULL = all
 *   device   "cpu", "cuda", "cuda:N"; "auto" and NULL: a GPU if there is one
 *   threads  0 = as many as the process may use
 * Fails with OASIS_E_ARGUMENT (no such stage), OASIS_E_MEMORY, OASIS_E_DEVICE, OASIS_E_CANCELLED (the callback said so).
 */
OASIS_API oasis_status oasis_bench(oasis_model *model, const char *stage, const char *device, int threads,
                                   oasis_bench_fn *row, void *user, oasis_message *message);

#ifdef __cplusplus
}
#endif
#endif
