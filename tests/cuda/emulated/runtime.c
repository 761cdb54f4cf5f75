/* The emulated GPU as a device: what src/cuda/runtime.c is for a real one. */
#include "base/memory.h"
#include "base/threads.h"
#include "cuda/cuda.h"
#include "cuda/emulated/heap.h"
#include "cuda/emulated/record.h"
#include "cuda/tables.h"

#include <string.h>

enum { GPUS = 2 };

oasis_status oas_cuda_open(oas_cuda **out, int index, bool beside, oasis_message *message)
{
    (void)beside;
    if (index < 0 || index >= GPUS)
        return oas_fail(message, OASIS_E_DEVICE, "GPU %d was asked for, but there are %d (emulated)", index, GPUS);
    oas_cuda *c = oas_alloc(1, sizeof *c);
    if (!c)
        return oas_fail_memory(message, sizeof *c, "the GPU");
    c->index = index;
    c->processors = 4;
    c->shared_bytes = 227 << 10;
    *out = c;
    return OASIS_OK;
}

void oas_cuda_free(oas_cuda **c)
{
    if (!*c)
        return;
    if ((*c)->close)
        (*c)->close(*c);
    oas_free(*c);
    *c = NULL;
}

int oas_cuda_count(void)
{
    return GPUS;
}

uint64_t oas_cuda_identity(const oas_cuda *c)
{
    return (uint64_t)c->index + 1;
}

int oas_cuda_usual(void)
{
    return -1;
}

const char *oas_cuda_built(void)
{
    return "emulated";
}

void oas_cuda_use(const oas_cuda *c)
{
    (void)c;
}

size_t oas_cuda_describe(int index, char *text, size_t size)
{
    static const char name[] = "emulated";
    (void)index;
    if (size > 0) {
        strncpy(text, name, size - 1);
        text[size - 1] = 0;
    }
    return sizeof name - 1;
}

void *oas_cuda_alloc(oas_cuda *c, size_t bytes)
{
    (void)c;
    return oas_emulated_heap_take(bytes);
}

void oas_cuda_release(oas_cuda *c, void *block)
{
    (void)c;
    if (block)
        oas_emulated_heap_give(block);
}

void oas_cuda_memory(const oas_cuda *c, size_t *free_bytes, size_t *total_bytes)
{
    (void)c;
    oas_emulated_heap_use(free_bytes, total_bytes);
}

void *oas_cuda_host_alloc(oas_cuda *c, size_t bytes)
{
    (void)c;
    return oas_alloc_unset(bytes, 1);
}

void oas_cuda_host_release(oas_cuda *c, void *block)
{
    (void)c;
    oas_free(block);
}

/* Rows of `bytes`; a copy of one stretch has one. */
struct move {
    char *to;
    const char *from; /* NULL: zeros */
    size_t bytes, to_step, from_step, rows;
};

static void move(void *arg)
{
    const struct move *m = arg;
    oas_emulated_heap_open();
    for (size_t i = 0; m->bytes > 0 && i < m->rows; i++) {
        if (m->from)
            memmove(m->to + i * m->to_step, m->from + i * m->from_step, m->bytes);
        else
            memset(m->to, 0, m->bytes);
    }
    oas_emulated_heap_close();
}

static oasis_status put(oas_cuda *c, void *to, const void *from, size_t bytes)
{
    oas_emulated_put(c, move, &(struct move){to, from, bytes, 0, 0, 1}, sizeof(struct move));
    return OASIS_OK;
}

enum { UPLOAD_BYTES = 4096 }; /* of one that is recorded */

struct upload {
    struct move move;
    char values[UPLOAD_BYTES];
};

static void upload(void *arg)
{
    struct upload *u = arg;
    u->move.from = u->values;
    move(&u->move);
}

oasis_status oas_cuda_upload(oas_cuda *c, void *device, const void *host, size_t bytes)
{
    if (!c->recording)
        return put(c, device, host, bytes);
    struct upload u = {{device, NULL, bytes, 0, 0, 1}, {0}};
    if (bytes > sizeof u.values) {
        oas_emulated_refused(c);
        return OASIS_E_DEVICE;
    }
    memcpy(u.values, host, bytes);
    oas_emulated_put(c, upload, &u, sizeof u);
    return OASIS_OK;
}

oasis_status oas_cuda_download(oas_cuda *c, void *host, const void *device, size_t bytes)
{
    return oas_emulated_refused(c) ? OASIS_E_DEVICE : put(c, host, device, bytes);
}

oasis_status oas_cuda_copy(oas_cuda *c, void *to, const void *from, size_t bytes)
{
    return put(c, to, from, bytes);
}

oasis_status oas_cuda_copy_rows(oas_cuda *c, void *to, size_t to_step, const void *from, size_t from_step, size_t bytes,
                                size_t rows)
{
    oas_emulated_put(c, move, &(struct move){to, from, bytes, to_step, from_step, rows}, sizeof(struct move));
    return OASIS_OK;
}

oasis_status oas_cuda_zero(oas_cuda *c, void *device, size_t bytes)
{
    return put(c, device, NULL, bytes);
}

oasis_status oas_cuda_wait(oas_cuda *c, oasis_message *message)
{
    if (oas_emulated_refused(c))
        return oas_fail(message, OASIS_E_DEVICE, "the GPU cannot be waited for while its work is recorded");
    return OASIS_OK;
}

/* ---- copies beside the computation: as late as they may be ---------------------------------------------------------- */

enum { NEVER, ARRIVED, GOES_DOWN, ASKED = GOES_DOWN + 6 };

/* What stands for the events: how far a block has come. */
static int *way_of(cuda_block *b)
{
    return b->end;
}

oasis_status oas_cuda_block_open(oas_cuda *c, cuda_block *b, size_t bytes)
{
    *b = (cuda_block){.bytes = bytes, .end = oas_alloc(1, sizeof(int))};
    b->host = oas_cuda_host_alloc(c, bytes);
    b->device = oas_cuda_alloc(c, bytes);
    return b->end && b->host && b->device ? OASIS_OK : OASIS_E_MEMORY;
}

void oas_cuda_block_close(oas_cuda *c, cuda_block *b)
{
    oas_cuda_host_release(c, b->host);
    oas_cuda_release(c, b->device);
    oas_free(b->end);
    *b = (cuda_block){0};
}

oasis_status oas_cuda_block_up(oas_cuda *c, cuda_block *b)
{
    return put(c, b->device, b->host, b->bytes);
}

oasis_status oas_cuda_block_used(oas_cuda *c, cuda_block *b)
{
    (void)c;
    *way_of(b) = ARRIVED;
    return OASIS_OK;
}

oasis_status oas_cuda_block_down(oas_cuda *c, cuda_block *b)
{
    (void)c;
    memset(b->host, 0xff, b->bytes);
    *way_of(b) = GOES_DOWN;
    return OASIS_OK;
}

/* Not the first times that somebody asks. */
bool oas_cuda_block_done(oas_cuda *c, cuda_block *b)
{
    oasis_message why;
    int *way = way_of(b);
    if (*way >= GOES_DOWN && *way < ASKED) {
        ++*way;
        return false;
    }
    return *way == NEVER || oas_cuda_block_wait(c, b, &why) == OASIS_OK;
}

oasis_status oas_cuda_block_wait(oas_cuda *c, cuda_block *b, oasis_message *message)
{
    (void)message;
    int *way = way_of(b);
    if (*way >= GOES_DOWN)
        put(c, b->host, b->device, b->bytes);
    *way = ARRIVED;
    return OASIS_OK;
}

/* ---- clocks: work is done when it is put on the stream ----------------------------------------------------------------- */

void oas_cuda_clock_begin(oas_cuda *c, cuda_clock *clock)
{
    (void)c;
    clock->seconds -= oas_now();
}

void oas_cuda_clock_end(oas_cuda *c, cuda_clock *clock)
{
    (void)c;
    clock->seconds += oas_now();
}

double oas_cuda_clock_seconds(oas_cuda *c, const cuda_clock *clock)
{
    (void)c;
    return clock->seconds;
}

void oas_cuda_clock_close(oas_cuda *c, cuda_clock *clock)
{
    (void)c;
    (void)clock;
}
