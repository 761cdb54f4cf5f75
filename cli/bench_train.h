/* Measuring training. */
#ifndef OAS_CLI_BENCH_TRAIN_H
#define OAS_CLI_BENCH_TRAIN_H

#include <oasis/bench.h>
#include <oasis/oasis.h>

/*
 * Steps of 6 clips of 5x192x192, on a GPU of 24, with the default architecture: with clips that lie ready in memory, then
 * with clips that are read, moved and degraded in the background; on a GPU once more with a wait after each op, for the
 * times of stages.  Writes into a temporary folder and removes it.
 */
oasis_status cli_bench_train(const char *device, int threads, oasis_bench_fn *row, void *user, oasis_message *message);

#endif
