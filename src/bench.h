/*
 * The inside of measuring (oasis/bench.h): what its stages share.
 */
#ifndef OAS_BENCH_H
#define OAS_BENCH_H

#include <oasis/bench.h>

#include "cpu/device.h"

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

/*
 * The model's transformer on a window of 33 frames of 1280x720, with and without a wait after each op: how fast its
 * linear layers are where the others are, too, and where time goes; and heads of each kind on its tokens.
 */
void oas_bench_transformer(bench *b);

/* Shots of 33 frames from 320x180 to 1280x720, a window each, through the whole library. */
void oas_bench_step(bench *b);

#endif
