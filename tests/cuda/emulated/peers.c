/*
 * In place of NCCL: ranks, which are processes or threads, add over a stretch of memory that they share.  A sum is made at
 * once, in the order of ranks, and fails where the ranks do not bring the same number of values.
 */
#include "cuda/peers.h"

#include "base/memory.h"
#include "cuda/emulated/heap.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_RANKS = 8, CHUNK = 1 << 14 };

typedef struct meeting {
    atomic_int ready;
    pthread_barrier_t barrier;
    size_t n[MOST_RANKS];
    float values[MOST_RANKS][CHUNK];
} meeting;

struct cuda_peers {
    int rank, count;
    meeting *meeting;
};

oasis_status oas_peers_load(cuda_peers **p, oas_cuda *c, oasis_message *message)
{
    (void)c;
    *p = oas_alloc(1, sizeof **p);
    return *p ? OASIS_OK : oas_fail_memory(message, sizeof **p, "emulated NCCL");
}

/* The name of the shared memory; ranks of one meeting find it under that. */
oasis_status oas_peers_id(cuda_peers *p, cuda_peers_id *id, oasis_message *message)
{
    static atomic_int meetings;
    (void)p;
    (void)message;
    snprintf(id->bytes, sizeof id->bytes, "/oasis-emulated-%d-%d", (int)getpid(), atomic_fetch_add(&meetings, 1));
    return OASIS_OK;
}

oasis_status oas_peers_join(cuda_peers *p, const cuda_peers_id *id, int rank, int count, oasis_message *message)
{
    int file = count > MOST_RANKS ? -1 : shm_open(id->bytes, O_RDWR | O_CREAT, 0600);
    void *shared = MAP_FAILED;
    if (file >= 0 && ftruncate(file, sizeof(meeting)) == 0)
        shared = mmap(NULL, sizeof(meeting), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file >= 0)
        close(file);
    if (shared == MAP_FAILED)
        return oas_fail(message, OASIS_E_DEVICE, "%d emulated GPUs do not meet", count);
    *p = (cuda_peers){rank, count, shared};
    if (rank == 0) {
        pthread_barrierattr_t attributes;
        pthread_barrierattr_init(&attributes);
        pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        pthread_barrier_init(&p->meeting->barrier, &attributes, (unsigned)count);
        pthread_barrierattr_destroy(&attributes);
        atomic_store(&p->meeting->ready, 1);
    }
    while (!atomic_load(&p->meeting->ready))
        sched_yield();
    pthread_barrier_wait(&p->meeting->barrier);
    if (rank == 0)
        shm_unlink(id->bytes);
    return OASIS_OK;
}

oasis_status oas_peers_sum(cuda_peers *p, float *values, size_t n)
{
    meeting *m = p->meeting;
    bool same = true;
    m->n[p->rank] = n;
    pthread_barrier_wait(&m->barrier);
    for (int r = 0; r < p->count; r++)
        same = same && m->n[r] == n;
    pthread_barrier_wait(&m->barrier);
    for (size_t at = 0; same && at < n; at += CHUNK) {
        size_t part = n - at < CHUNK ? n - at : CHUNK;
        oas_emulated_heap_open();
        memcpy(m->values[p->rank], values + at, part * sizeof *values);
        pthread_barrier_wait(&m->barrier);
        for (size_t i = 0; i < part; i++) {
            float sum = m->values[0][i];
            for (int r = 1; r < p->count; r++)
                sum += m->values[r][i];
            values[at + i] = sum;
        }
        oas_emulated_heap_close();
        pthread_barrier_wait(&m->barrier);
    }
    return same ? OASIS_OK : OASIS_E_ARGUMENT;
}

oasis_status oas_peers_finish(cuda_peers *p)
{
    (void)p;
    return OASIS_OK;
}

void oas_peers_describe(const cuda_peers *p, char *text, size_t size)
{
    (void)p;
    snprintf(text, size, "emulated NCCL");
}

void oas_peers_free(cuda_peers **p)
{
    if (!*p)
        return;
    if ((*p)->meeting)
        munmap((*p)->meeting, sizeof(meeting));
    oas_free(*p);
    *p = NULL;
}
