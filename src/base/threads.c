/* The thread pool: slabs are claimed from one counter under a mutex; idle threads sleep on a condition variable. */
#include "base/threads.h"

#include "base/memory.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

struct worker {
    oas_pool *pool;
    pthread_t thread;
    int index;
};

struct oas_pool {
    int threads; /* the caller included */
    int started; /* entries of `workers` that run */
    struct worker *workers;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    bool stop;
    uint64_t round; /* counts the tasks, so that a sleeper knows a new one from the last */
    int busy;       /* threads still inside the current task */
    oas_slab_fn *fn;
    void *task;
    int64_t slabs;
    atomic_int_fast64_t next; /* the next slab to claim */
};

static void run_slabs(oas_pool *pool, int worker)
{
    for (;;) {
        int64_t slab = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (slab >= pool->slabs)
            return;
        pool->fn(pool->task, slab, worker);
    }
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    oas_pool *pool = w->pool;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->stop && pool->round == seen)
            pthread_cond_wait(&pool->wake, &pool->lock);
        if (pool->stop)
            break;
        seen = pool->round;
        pthread_mutex_unlock(&pool->lock);
        run_slabs(pool, w->index);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0)
            pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

oasis_status oas_pool_new(oas_pool **out, int threads, oasis_message *message)
{
    if (threads <= 0)
        threads = oas_cpu_count();
    oas_pool *pool = oas_alloc(1, sizeof *pool);
    if (!pool)
        return oas_fail_memory(message, sizeof *pool, "a thread pool");
    pool->threads = threads;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->workers = oas_alloc((size_t)threads, sizeof *pool->workers);
    if (!pool->workers) {
        oas_pool_free(&pool);
        return oas_fail_memory(message, (size_t)threads * sizeof *pool->workers, "a thread pool");
    }
    for (int i = 1; i < threads; i++) {
        struct worker *w = &pool->workers[pool->started];
        *w = (struct worker){.pool = pool, .index = i};
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
            oas_pool_free(&pool);
            return oas_fail(message, OASIS_E_MEMORY, "cannot start thread %d of %d; try fewer (-j)", i + 1, threads);
        }
        pool->started++;
    }
    *out = pool;
    return OASIS_OK;
}

void oas_pool_free(oas_pool **out)
{
    oas_pool *pool = *out;
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    oas_free(pool->workers);
    oas_free(pool);
    *out = NULL;
}

int oas_pool_workers(const oas_pool *pool)
{
    return pool ? pool->threads : 1;
}

void oas_pool_run(oas_pool *pool, int64_t slabs, oas_slab_fn *fn, void *task)
{
    if (!pool || pool->started == 0 || slabs <= 1) {
        for (int64_t i = 0; i < slabs; i++)
            fn(task, i, 0);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->fn = fn;
    pool->task = task;
    pool->slabs = slabs;
    atomic_store(&pool->next, 0);
    pool->busy = pool->started;
    pool->round++;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    run_slabs(pool, 0);
    pthread_mutex_lock(&pool->lock);
    while (pool->busy > 0)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

enum { STRETCH_BYTES = 256 << 10 };

struct stretches {
    char *to;
    const char *from; /* NULL: zeros */
    size_t bytes;
};

static void run_stretch(void *task, int64_t slab, int worker)
{
    (void)worker;
    const struct stretches *t = task;
    size_t at = (size_t)slab * STRETCH_BYTES, left = t->bytes - at, n = left < STRETCH_BYTES ? left : STRETCH_BYTES;
    if (t->from)
        memcpy(t->to + at, t->from + at, n);
    else
        memset(t->to + at, 0, n);
}

void oas_pool_copy(oas_pool *pool, void *to, const void *from, size_t bytes)
{
    struct stretches t = {to, from, bytes};
    oas_pool_run(pool, (int64_t)((bytes + STRETCH_BYTES - 1) / STRETCH_BYTES), run_stretch, &t);
}

void oas_pool_zero(oas_pool *pool, void *to, size_t bytes)
{
    oas_pool_copy(pool, to, NULL, bytes);
}

/* Processors of the cgroup (version 2) quota, rounded up; 0 when there is none. */
static int cgroup_cpus(void)
{
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!f)
        return 0;
    long quota = 0, period = 0;
    int n = fscanf(f, "%ld %ld", &quota, &period);
    fclose(f);
    return n == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int oas_cpu_count(void)
{
    int count = (int)sysconf(_SC_NPROCESSORS_ONLN);
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        count = CPU_COUNT(&set);
#endif
    int quota = cgroup_cpus();
    if (quota > 0 && quota < count)
        count = quota;
    return count < 1 ? 1 : count;
}

double oas_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
