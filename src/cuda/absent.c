/* In place of a GPU, in programs that are built without CUDA: there is none. */
#include "cuda/peers.h"

oasis_status oas_cuda_new(oas_cuda **c, int index, oasis_message *message)
{
    (void)c;
    return oas_fail(
        message, OASIS_E_DEVICE,
        "GPU %d was asked for, but this oasis was built without CUDA; build it with -DOASIS_CUDA=ON, or use "
        "the device 'cpu'",
        index);
}

oasis_status oas_cuda_beside(oas_cuda **c, int index, oasis_message *message)
{
    return oas_cuda_new(c, index, message);
}

void oas_cuda_free(oas_cuda **c)
{
    *c = NULL;
}

int oas_cuda_count(void)
{
    return 0;
}

int oas_cuda_usual(void)
{
    return -1;
}

const char *oas_cuda_built(void)
{
    return "not built in";
}

void oas_cuda_use(const oas_cuda *c)
{
    (void)c;
}

size_t oas_cuda_describe(int index, char *text, size_t size)
{
    (void)index;
    if (size > 0)
        text[0] = 0;
    return 0;
}

uint64_t oas_cuda_identity(const oas_cuda *c)
{
    (void)c;
    return 0;
}

void *oas_cuda_alloc(oas_cuda *c, size_t bytes)
{
    (void)c;
    (void)bytes;
    return NULL;
}

void oas_cuda_release(oas_cuda *c, void *block)
{
    (void)c;
    (void)block;
}

void oas_cuda_memory(const oas_cuda *c, size_t *free_bytes, size_t *total_bytes)
{
    (void)c;
    *free_bytes = *total_bytes = 0;
}

void *oas_cuda_host_alloc(oas_cuda *c, size_t bytes)
{
    (void)c;
    (void)bytes;
    return NULL;
}

void oas_cuda_host_release(oas_cuda *c, void *block)
{
    (void)c;
    (void)block;
}

oasis_status oas_cuda_upload(oas_cuda *c, void *device, const void *host, size_t bytes)
{
    (void)c;
    (void)device;
    (void)host;
    (void)bytes;
    return OASIS_E_DEVICE;
}

oasis_status oas_cuda_download(oas_cuda *c, void *host, const void *device, size_t bytes)
{
    (void)c;
    (void)host;
    (void)device;
    (void)bytes;
    return OASIS_E_DEVICE;
}

oasis_status oas_cuda_copy(oas_cuda *c, void *to, const void *from, size_t bytes)
{
    (void)c;
    (void)to;
    (void)from;
    (void)bytes;
    return OASIS_E_DEVICE;
}

oasis_status oas_cuda_copy_rows(oas_cuda *c, void *to, size_t to_step, const void *from, size_t from_step, size_t bytes,
                                size_t rows)
{
    (void)c;
    (void)to;
    (void)to_step;
    (void)from;
    (void)from_step;
    (void)bytes;
    (void)rows;
    return OASIS_E_DEVICE;
}

oasis_status oas_cuda_zero(oas_cuda *c, void *device, size_t bytes)
{
    (void)c;
    (void)device;
    (void)bytes;
    return OASIS_E_DEVICE;
}

oasis_status oas_cuda_wait(oas_cuda *c, oasis_message *message)
{
    (void)c;
    return oas_fail(message, OASIS_E_DEVICE, "there is no GPU");
}

oasis_status oas_cuda_record(oas_cuda *c)
{
    (void)c;
    return OASIS_E_DEVICE;
}

cuda_recording *oas_cuda_recorded(oas_cuda *c)
{
    (void)c;
    return NULL;
}

oasis_status oas_cuda_replay(oas_cuda *c, cuda_recording *r)
{
    (void)c;
    (void)r;
    return OASIS_E_DEVICE;
}

void oas_cuda_forget(oas_cuda *c, cuda_recording **r)
{
    (void)c;
    *r = NULL;
}

oasis_status oas_cuda_block_open(oas_cuda *c, cuda_block *b, size_t bytes)
{
    (void)c;
    (void)bytes;
    *b = (cuda_block){0};
    return OASIS_E_DEVICE;
}

void oas_cuda_block_close(oas_cuda *c, cuda_block *b)
{
    (void)c;
    (void)b;
}

oasis_status oas_cuda_block_up(oas_cuda *c, cuda_block *b)
{
    (void)c;
    (void)b;
    return OASIS_E_DEVICE;
}

oasis_status oas_cuda_block_used(oas_cuda *c, cuda_block *b)
{
    (void)c;
    (void)b;
    return OASIS_E_DEVICE;
}

oasis_status oas_cuda_block_down(oas_cuda *c, cuda_block *b)
{
    (void)c;
    (void)b;
    return OASIS_E_DEVICE;
}

oasis_status oas_cuda_block_wait(oas_cuda *c, cuda_block *b, oasis_message *message)
{
    (void)c;
    (void)b;
    return oas_fail(message, OASIS_E_DEVICE, "there is no GPU");
}

bool oas_cuda_block_done(oas_cuda *c, cuda_block *b)
{
    (void)c;
    (void)b;
    return true;
}

void oas_cuda_clock_begin(oas_cuda *c, cuda_clock *clock)
{
    (void)c;
    (void)clock;
}

void oas_cuda_clock_end(oas_cuda *c, cuda_clock *clock)
{
    (void)c;
    (void)clock;
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

oasis_status oas_peers_load(cuda_peers **p, oas_cuda *c, oasis_message *message)
{
    (void)p;
    (void)c;
    return oas_fail(message, OASIS_E_UNSUPPORTED, "this oasis was built without CUDA");
}

oasis_status oas_peers_id(cuda_peers *p, cuda_peers_id *id, oasis_message *message)
{
    (void)id;
    return oas_peers_load(&p, NULL, message);
}

oasis_status oas_peers_join(cuda_peers *p, const cuda_peers_id *id, int rank, int count, oasis_message *message)
{
    (void)id;
    (void)rank;
    (void)count;
    return oas_peers_load(&p, NULL, message);
}

oasis_status oas_peers_sum(cuda_peers *p, float *values, size_t n)
{
    (void)p;
    (void)values;
    (void)n;
    return OASIS_E_UNSUPPORTED;
}

oasis_status oas_peers_finish(cuda_peers *p)
{
    (void)p;
    return OASIS_E_UNSUPPORTED;
}

void oas_peers_describe(const cuda_peers *p, char *text, size_t size)
{
    (void)p;
    if (size > 0)
        text[0] = 0;
}

void oas_peers_free(cuda_peers **p)
{
    *p = NULL;
}
