/*
 * The stream of the emulated GPU: work is done at once, or, while a recording is made, kept with its arguments and done at
 * each replay.
 */
#ifndef OAS_TESTS_CUDA_EMULATED_RECORD_H
#define OAS_TESTS_CUDA_EMULATED_RECORD_H

#include "cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Does work(arg), or keeps it with a copy of the `bytes` at arg, which must be movable. */
void oas_emulated_put(oas_cuda *c, void (*work)(void *arg), void *arg, size_t bytes);

/* True while a recording is made, which then fails: for what waits. */
bool oas_emulated_refused(oas_cuda *c);

#ifdef __cplusplus
}
#endif
#endif
