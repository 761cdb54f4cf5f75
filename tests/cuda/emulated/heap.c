/* Memory of the emulated GPU: one mapping per block. */
#include "cuda/emulated/heap.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

enum { PAGE = 4096, MOST_FILLED = 1 << 20 /* pages that nobody touched cost nothing to protect */ };
static const size_t TOTAL = (size_t)8 << 30;

typedef struct block {
    unsigned char *data;
    size_t bytes, pages; /* pages: in bytes, without the one behind */
} block;

static struct {
    pthread_mutex_t lock;
    block *blocks;
    size_t count, room, used;
    int open;
} heap = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void protect_all(int protection)
{
    for (size_t i = 0; i < heap.count; i++)
        mprotect(heap.blocks[i].data, heap.blocks[i].pages, protection);
}

void oas_emulated_heap_open(void)
{
    pthread_mutex_lock(&heap.lock);
    if (heap.open++ == 0)
        protect_all(PROT_READ | PROT_WRITE);
    pthread_mutex_unlock(&heap.lock);
}

void oas_emulated_heap_close(void)
{
    pthread_mutex_lock(&heap.lock);
    if (--heap.open == 0)
        protect_all(PROT_NONE);
    pthread_mutex_unlock(&heap.lock);
}

static bool reserve(void)
{
    if (heap.count < heap.room)
        return true;
    size_t room = heap.room ? 2 * heap.room : 64;
    block *grown = realloc(heap.blocks, room * sizeof *grown);
    if (!grown)
        return false;
    heap.blocks = grown;
    heap.room = room;
    return true;
}

static void *take(size_t bytes)
{
    size_t pages = (bytes + PAGE) / PAGE * PAGE; /* at least one byte behind */
    if (bytes > TOTAL - heap.used || !reserve())
        return NULL;
    void *data = mmap(NULL, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED)
        return NULL;
    memset(data, 0xff, bytes < MOST_FILLED ? bytes : MOST_FILLED);
    ASAN_POISON_MEMORY_REGION((char *)data + bytes, pages - bytes);
    mprotect((char *)data + pages, PAGE, PROT_NONE);
    if (heap.open == 0)
        mprotect(data, pages, PROT_NONE);
    heap.blocks[heap.count++] = (block){data, bytes, pages};
    heap.used += bytes;
    return data;
}

void *oas_emulated_heap_take(size_t bytes)
{
    pthread_mutex_lock(&heap.lock);
    void *data = take(bytes);
    pthread_mutex_unlock(&heap.lock);
    return data;
}

void oas_emulated_heap_give(void *data)
{
    pthread_mutex_lock(&heap.lock);
    size_t i = 0;
    while (i < heap.count && heap.blocks[i].data != data)
        i++;
    if (i == heap.count) {
        fprintf(stderr, "emulated CUDA: %p is given back but was not taken\n", data);
        abort();
    }
    block b = heap.blocks[i];
    heap.blocks[i] = heap.blocks[--heap.count];
    heap.used -= b.bytes;
    ASAN_UNPOISON_MEMORY_REGION(b.data, b.pages);
    munmap(b.data, b.pages + PAGE);
    if (heap.count == 0) {
        free(heap.blocks);
        heap.blocks = NULL;
        heap.room = 0;
    }
    pthread_mutex_unlock(&heap.lock);
}

void oas_emulated_heap_use(size_t *free_bytes, size_t *total_bytes)
{
    pthread_mutex_lock(&heap.lock);
    *free_bytes = TOTAL - heap.used;
    *total_bytes = TOTAL;
    pthread_mutex_unlock(&heap.lock);
}
