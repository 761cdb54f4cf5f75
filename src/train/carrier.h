/*
 * How the ranks' gradients are added, wherever they lie: on GPUs by cuda/peers.h, where every rank has one of its own and
 * NCCL is there; else in host memory by oasis_ranks, with copies from a GPU and back.  All ranks take the same way.
 *
 * What is added, and in which order, is the same either way (train/reduce.h); gradients stay sums over ranks and passes,
 * and the update scales them.
 */
#ifndef OAS_TRAIN_CARRIER_H
#define OAS_TRAIN_CARRIER_H

#include "cpu/device.h"

#include <oasis/train.h>

enum { OAS_MOST_RANKS = 1024 };

typedef struct carrier carrier;

/* What a false of oasis_ranks' functions means, as a sentence: OASIS_E_DEVICE. */
oasis_status oas_ranks_lost(oasis_message *message);

/*
 * The device of this rank.  Of "cuda" and "auto", the ranks of one machine take a GPU each, in turns: the k-th of them
 * GPU k modulo their number; every other name stands for itself.  All ranks call it.
 */
oasis_status oas_carrier_device(const oasis_ranks *ranks, const char *name, device_name *device,
                                oasis_message *message);

/*
 * For gradients on `cuda`, or on the host where that is NULL.  All ranks call it, and all fail when one does.
 *   floats  most values that are under way before a finish
 */
oasis_status oas_carrier_new(carrier **c, const oasis_ranks *ranks, oas_cuda *cuda, size_t floats,
                             oasis_message *message);

/* Before anything waits for the GPU: what other ranks have left undone is given up. */
void oas_carrier_free(carrier **c);

/* The way in words: "by NCCL 2.27.7", "in host memory: ...". */
const char *oas_carrier_words(const carrier *c);
bool oas_carrier_on_gpus(const carrier *c); /* gradients never leave them */

/*
 * As oasis_ranks' functions.  Begin takes the values where the stream has come to; after finish, what the stream does next
 * sees the sums.  False after a failure.
 */
bool oas_carrier_begin(carrier *c, float *values, size_t n);
bool oas_carrier_advance(carrier *c);
bool oas_carrier_finish(carrier *c);

#endif
