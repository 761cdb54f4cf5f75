/*
 * What a degrader has of a GPU: a stream of its own and memory that stays from clip to clip, since taking and giving back
 * memory there halts whoever else works on it.  Stages whose degradation has an apply_gpu run there.
 */
#ifndef OAS_DEGRADE_GPU_H
#define OAS_DEGRADE_GPU_H

#include "cuda/cuda.h"
#include "cuda/degrade.h"

#include <oasis/degrade.h>

enum { OAS_POISSON_DOMAINS = 2 };

typedef struct degrade_gpu {
    oas_cuda *cuda;
    float *mid; /* between the two passes of a filter or of resampling */
    size_t mid_capacity;
    int32_t *levels;                           /* scratch of Poisson noise */
    void *poisson_memory[OAS_POISSON_DOMAINS]; /* of the tables; NULL: not made yet */
    cuda_poisson poisson[OAS_POISSON_DOMAINS]; /* by oasis_poisson_domain */
} degrade_gpu;

/* Fails as oas_cuda_beside does. */
oasis_status oas_gpu_new(degrade_gpu **gpu, int index, oasis_message *message);
void oas_gpu_free(degrade_gpu **gpu);

/* Floats to take where n are needed: more, so that pictures that grow do not make it grow each time. */
size_t oas_gpu_room(size_t n);

/* Has *block hold n floats of the GPU's memory; the contents are not kept. */
oasis_status oas_gpu_floats(oas_cuda *cuda, float **block, size_t *capacity, size_t n, oasis_message *message);

/* The status of work put on the stream, with a sentence where it was refused: "the GPU did not WHAT". */
oasis_status oas_gpu_put(oasis_status status, const char *what, oasis_message *message);

/* The tables of Poisson noise, made at the first call for a domain. */
oasis_status oas_gpu_poisson(degrade_gpu *gpu, oasis_poisson_domain domain, const cuda_poisson **tables,
                             oasis_message *message);

#endif
