/*
 * Stretches of a pass that a GPU gets as one launch.
 *
 * A stretch is a function that puts work on a graph.  Its first run with a key is like any other: weights go up, libraries
 * choose their ways.  The second is recorded, and every later one is the recording's replay: the function is not called,
 * its work is done again, with the same addresses.  So all that a stretch does must follow from its key: sizes, where its
 * inputs and its memory lie, and what small constants it uploads; and what it leaves in host memory its caller must set.
 * What differs from run to run lies in its inputs, written before it.
 *
 * A stretch may record for backward and walk back within, as a pass of training does: its tape is there while it is
 * called, and a replay needs none.
 *
 * Where recording is refused (an op without a CUDA function runs on the host, in the middle), and wherever there is no
 * GPU, or somebody watches, is recording for backward already or times the ops, a stretch is simply called.  Results are
 * the same.
 */
#ifndef OAS_TENSOR_REPLAY_H
#define OAS_TENSOR_REPLAY_H

#include "tensor/graph.h"

typedef struct replay replay; /* one stretch */

/* All stretches of a graph; zeroed: none yet. */
typedef struct replays {
    replay *first;
    bool off;                /* stretches are called, always */
    int most;                /* stretches that are kept; 0 = as many as an upscaler has */
    int recorded, refused;   /* stretches */
    int64_t calls, replayed; /* of stretches on a GPU; of these, by a recording */
} replays;

typedef tensor *oas_replay_fn(graph *g, void *arg);

/*
 * The stretch's result, or NULL after a failure, which is the graph's.  Where the graph's arena stands is part of the key,
 * so inputs that were taken from it in the same order since a reset need not be.
 */
tensor *oas_replay(graph *g, replays *r, const pack_key *key, oas_replay_fn *stretch, void *arg);

/* Waits for the GPU.  Needed before anything that stretches used is freed, and before the GPU is closed. */
void oas_replays_free(graph *g, replays *r);

#endif
