/* Measuring training. */
#ifndef OAS_CLI_BENCH_TRAIN_H
#define OAS_CLI_BENCH_TRAIN_H

#include <oasis/bench.h>
#include <oasis/oasis.h>

/*
 * Steps of 6 clips of 5x192x192 with the default architecture: with clips that lie ready in memory, then with clips that
 * are read, moved and degraded in the background.  Writes into a temporary folder and removes it.
 */
oasis_status cli_bench_train(int threads, oasis_bench_fn *row, void *user, oasis_message *message);

#endif
