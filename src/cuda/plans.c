/* Plans of libraries in a table of lists. */
#include "cuda/plans.h"

#include "base/memory.h"

#include <string.h>

enum { BUCKETS = sizeof((cuda_plans *)0)->bucket / sizeof *((cuda_plans *)0)->bucket };

static size_t bucket_of(const cuda_plan_key *key)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a, number by number */
    for (int i = 0; i < OAS_PLAN_NUMBERS; i++)
        hash = (hash ^ (uint64_t)key->number[i]) * 1099511628211u;
    return (size_t)((hash ^ hash >> 32) % BUCKETS);
}

void *oas_cuda_plan(cuda_plans *p, const cuda_plan_key *key, void *library)
{
    cuda_plan **bucket = &p->bucket[bucket_of(key)];
    for (cuda_plan *q = *bucket; q; q = q->next)
        if (memcmp(&q->key, key, sizeof *key) == 0)
            return q;
    cuda_plan *made = oas_alloc(1, p->bytes);
    if (!made)
        return NULL;
    made->key = *key;
    if (!p->make(library, made)) {
        p->clear(made);
        oas_free(made);
        return NULL;
    }
    made->next = *bucket;
    return *bucket = made;
}

void oas_cuda_plans_free(cuda_plans *p)
{
    for (int i = 0; i < BUCKETS; i++) {
        for (cuda_plan *q = p->bucket[i], *next; q; q = next) {
            next = q->next;
            p->clear(q);
            oas_free(q);
        }
        p->bucket[i] = NULL;
    }
}
