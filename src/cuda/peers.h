/*
 * Sums of floats over the GPUs of several processes, beside the computation: by NCCL, which is loaded when it is first
 * asked for, so that programs start, and train on one GPU, without it.
 *
 * Every process makes the same calls with the same counts in the same order.  A sum has the same bits on all of them, and
 * in every run on the same machines: NCCL chooses how to add by sizes, number and wiring alone, and of two numbers there is
 * one sum.  (The program has it always add in rings: cli/ranks.c.)
 */
#ifndef OAS_CUDA_PEERS_H
#define OAS_CUDA_PEERS_H

#include "cuda/cuda.h"

typedef struct cuda_peers cuda_peers;

/* What processes know each other by: one makes it and tells the others. */
typedef struct cuda_peers_id {
    char bytes[128];
} cuda_peers_id;

/* Loads the library.  Fails with OASIS_E_UNSUPPORTED and the reason, OASIS_E_MEMORY.  c must live longer. */
oasis_status oas_peers_load(cuda_peers **p, oas_cuda *c, oasis_message *message);

oasis_status oas_peers_id(cuda_peers *p, cuda_peers_id *id, oasis_message *message);

/*
 * Meets the others: every rank of 0 .. count-1, each with a GPU of its own.  Waits for them.  Fails with OASIS_E_DEVICE.
 */
oasis_status oas_peers_join(cuda_peers *p, const cuda_peers_id *id, int rank, int count, oasis_message *message);

/* values [n] on the GPU = their sum over all ranks.  Begins when the stream has come here, and does not hold it up. */
oasis_status oas_peers_sum(cuda_peers *p, float *values, size_t n);

/* The stream goes on when all sums that were begun are done; the host does not wait. */
oasis_status oas_peers_finish(cuda_peers *p);

/* The library's name and version. */
void oas_peers_describe(const cuda_peers *p, char *text, size_t size);

/* Leaves the others; what they have not come to any more is given up.  Before anything else waits for the GPU. */
void oas_peers_free(cuda_peers **p);

#endif
