/*
 * Running Wan's networks on a file of reference tensors (tests/data/README.md): weights under their original names, inputs,
 * outputs of stages and results as `test.*`, the configuration as metadata.
 */
#ifndef OAS_TESTS_GOLDEN_WAN_H
#define OAS_TESTS_GOLDEN_WAN_H

#include "cpu/device.h"
#include "format/weight_file.h"
#include "net/dit.h"

/* How to run, and what to do with the errors: norm of the difference over norm of the reference. */
typedef struct wan_run {
    device *device;  /* NULL: REF */
    oas_dtype compute;
    bool constant;   /* of a transformer: the zero prompt as one constant per block */
    bool stored;     /* of a transformer: the prompt as stored keys and values */
    bool gradients;  /* of a transformer: `test.grad.*` too */
    bool whole;      /* of a VAE: in one call, not streamed */
    bool quiet;
    void (*mutate)(parameter_set *weights, void *user); /* changes something before the run; may be NULL */
    void *user;
    char message[1100]; /* why it failed */
    double worst;      /* error of all stages */
    int stages;        /* how many were compared */
} wan_run;

/* Runs what the file holds: a transformer or a VAE.  False after writing run->message. */
bool wan_golden(const weight_file *file, wan_run *run);

/* The parts, for wan_golden. */
bool wan_golden_dit(const weight_file *file, graph *g, parameter_set *weights, wan_run *run);
bool wan_golden_vae(const weight_file *file, graph *g, parameter_set *weights, wan_run *run);

/* The tensor of that name with its channels moved last, [C,F,h,w] to [1,F,h,w,C]; NULL when it is missing. */
tensor *wan_channels_last(graph *g, const weight_file *file, const char *name);

/* Compares a tensor with the file's of that name, printing a line; with channels_first the file's are [C,F,h,w].
 * Does nothing when the file has none. */
void wan_compare(const weight_file *file, const char *name, const tensor *t, bool channels_first, wan_run *run);

#endif
