/*
 * Draws test cases for ops: every op says with it which inputs are worth trying, and the tests of tests/ops go through
 * the table of ops.  The same seed and case draw the same values.
 */
#ifndef OAS_TENSOR_SAMPLER_H
#define OAS_TENSOR_SAMPLER_H

#include "tensor/graph.h"

struct sampler {
    graph *graph;        /* gives the storage */
    oas_dtype activation; /* type of activations */
    uint64_t state;
};

/* Starts case `i` of an op: the values depend on both. */
void oas_sampler_start(sampler *s, const op *o, int i);

/* A whole number from low to high. */
int64_t oas_sample_size(sampler *s, int64_t low, int64_t high);

/* Values uniform in [-scale, scale]: an activation (of s->activation, or bf16 rounded to it), or floats. */
tensor *oas_sample_activation(sampler *s, shape size, float scale);
tensor *oas_sample_floats(sampler *s, shape size, float scale);

/* A place (y, x), as ops take it. */
tensor *oas_sample_place(sampler *s, int y, int x);

#endif
