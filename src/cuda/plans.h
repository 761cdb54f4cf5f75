/*
 * What a library was asked once: plans by the sizes and types that they depend on, each made at its first use and kept
 * until the GPU is closed.
 */
#ifndef OAS_CUDA_PLANS_H
#define OAS_CUDA_PLANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OAS_PLAN_NUMBERS = 12 }; /* of a key */

typedef struct cuda_plan_key {
    int64_t number[OAS_PLAN_NUMBERS]; /* what there is none of is 0 */
} cuda_plan_key;

/* What plans of a library begin with. */
typedef struct cuda_plan {
    cuda_plan_key key;
    struct cuda_plan *next;
} cuda_plan;

/* All plans of a library; the functions before the first use, the rest zeroed. */
typedef struct cuda_plans {
    size_t bytes;                            /* of a plan */
    bool (*make)(void *library, void *plan); /* fills a zeroed plan that has its key; false: there is no way */
    void (*clear)(void *plan);               /* gives back what make took, in whole or in part */
    cuda_plan *bucket[256];
} cuda_plans;

/* The plan of that key; NULL when it cannot be made.  `library` is for `make`. */
void *oas_cuda_plan(cuda_plans *p, const cuda_plan_key *key, void *library);

void oas_cuda_plans_free(cuda_plans *p);

#endif
