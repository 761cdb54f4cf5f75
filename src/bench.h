/*
 * The inside of measuring (oasis/bench.h): what its stages share.
 */
#ifndef OAS_BENCH_H
#define OAS_BENCH_H

#include <oasis/bench.h>

#include "cpu/device.h"
#include "tensor/ops.h"

typedef struct bench {
    oasis_model *model;
    device *device;
    graph graph;
    double peak[OAS_DTYPES]; /* FLOP/s of all threads */
    oasis_bench_fn *row;
    void *user;
    bool stopped;
    oasis_message *message;
} bench;

void oas_bench_report(bench *b, oasis_bench_row row);

/* Starts the graph afresh, with room for `bytes`; false after a failure. */
bool oas_bench_begin(bench *b, oas_dtype compute, size_t bytes);

typedef tensor *bench_call(graph *g, void *arg);

/* Bytes that a call takes, what it makes of its own included; *flops counts its work.  0 after a failure. */
size_t oas_bench_plan(bench *b, oas_dtype compute, bench_call *call, void *arg, double *flops);

/* Median seconds of a call; below 0 after a failure.  What lies in the arena already stays. */
double oas_bench_seconds(bench *b, bench_call *call, void *arg);

/* Seconds of attention by so many heads of 128 of a kind, or below 0; *flops of the pairs that are seen. */
double oas_bench_heads(bench *b, oas_dtype type, char kind, int heads, const token_grid *grid, double *flops);

/* Seconds of frames through an upscaler, from when the first `skipped` are out; below 0 after a failure. */
double oas_bench_clip(bench *b, oasis_upscaler *u, oasis_frame *list, int frames, int skipped);

/* Where an upscaler's time went since it was opened, the first frames and what they prepare included: "part_s". */
void oas_bench_parts(bench *b, const char *stage, const char *type, const oasis_statistics *done);

/*
 * The model's transformer on a window of 33 frames of 1280x720, with and without a wait after each op: how fast its
 * linear layers are where the others are, too, and where time goes; and heads of each kind on its tokens.
 */
void oas_bench_transformer(bench *b);

/* Shots of 33 frames from 320x180 to 1280x720, a window each, through the whole library. */
void oas_bench_step(bench *b);

#endif
