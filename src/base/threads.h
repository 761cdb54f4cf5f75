/*
 * A pool of threads that runs the slabs of a task.
 *
 * Work is cut into slabs whose number and borders depend on the work alone, never on the number of threads; slabs do not
 * write to each other's memory, and sums over slabs are taken in slab order by the caller.  So the bits are the same for
 * any number of threads (doc/decisions.md 2).  Waiting threads sleep: a spinning pool on a shared machine makes
 * everything ten times slower.
 */
#ifndef OAS_BASE_THREADS_H
#define OAS_BASE_THREADS_H

#include "base/status.h"

typedef struct oas_pool oas_pool;

/*
 * One slab of a task.  `worker` is below oas_pool_workers and tells apart the threads that run at the same time, for
 * scratch memory.
 */
typedef void oas_slab_fn(void *task, int64_t slab, int worker);

/* Starts `threads` - 1 threads (the caller is the last one).  threads 0: as many as the process may run on. */
oasis_status oas_pool_new(oas_pool **pool, int threads, oasis_message *message);
void oas_pool_free(oas_pool **pool);

/* How many threads work in a pool; 1 for NULL. */
int oas_pool_workers(const oas_pool *pool);

/* Runs fn(task, 0 .. slabs-1, worker) and returns when all are done.  NULL pool: here, in order.  Not re-entrant. */
void oas_pool_run(oas_pool *pool, int64_t slabs, oas_slab_fn *fn, void *task);

/* Copies, or sets to zero, by all threads of the pool; below a few hundred kilobytes here. */
void oas_pool_copy(oas_pool *pool, void *to, const void *from, size_t bytes);
void oas_pool_zero(oas_pool *pool, void *to, size_t bytes);

/* The number of processors this process may use (affinity and cgroup quota), at least 1. */
int oas_cpu_count(void);

/* Seconds of a clock that only goes forward. */
double oas_now(void);

#endif
