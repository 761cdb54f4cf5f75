/*
 * Sums over GPUs by NCCL.
 *
 * Its few functions that are needed are declared here: they have been the same since NCCL 2.0, and building does not
 * need its header.
 */
#include "cuda/peers.h"

#include "base/memory.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdio.h>

enum { NCCL_SUCCESS = 0, NCCL_FLOAT = 7, NCCL_SUM = 0 };

typedef struct functions {
    int (*version)(int *version);
    int (*id)(cuda_peers_id *id);
    int (*join)(void **comm, int count, cuda_peers_id id, int rank);
    int (*sum)(const void *from, void *to, size_t n, int type, int op, void *comm, cudaStream_t stream);
    int (*destroy)(void *comm);
    int (*abort)(void *comm);
    const char *(*error)(int result);
} functions;

struct cuda_peers {
    oas_cuda *cuda;
    void *library, *comm;
    functions f;
    cudaStream_t stream;     /* of the sums */
    cudaEvent_t ready, done; /* what to add is there; it is added */
};

static bool load(cuda_peers *p)
{
    const struct {
        void **to;
        const char *name;
    } names[] = {
        {(void **)&p->f.version, "ncclGetVersion"},   {(void **)&p->f.id, "ncclGetUniqueId"},
        {(void **)&p->f.join, "ncclCommInitRank"},    {(void **)&p->f.sum, "ncclAllReduce"},
        {(void **)&p->f.destroy, "ncclCommDestroy"},  {(void **)&p->f.abort, "ncclCommAbort"},
        {(void **)&p->f.error, "ncclGetErrorString"},
    };
    p->library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; p->library && i < sizeof names / sizeof *names; i++)
        if (!(*names[i].to = dlsym(p->library, names[i].name)))
            return false;
    return p->library != NULL;
}

oasis_status oas_peers_load(cuda_peers **out, oas_cuda *c, oasis_message *message)
{
    cuda_peers *p = oas_alloc(1, sizeof *p);
    if (!p)
        return oas_fail_memory(message, sizeof *p, "sums over GPUs");
    p->cuda = c;
    *out = p;
    if (load(p))
        return OASIS_OK;
    oas_peers_free(out);
    return oas_fail(message, OASIS_E_UNSUPPORTED,
                    "libnccl.so.2 (NVIDIA's NCCL) cannot be loaded; install it, or name its folder in LD_LIBRARY_PATH");
}

static oasis_status fail(const cuda_peers *p, int result, const char *what, oasis_message *message)
{
    return oas_fail(message, OASIS_E_DEVICE, "%s: NCCL says '%s'; NCCL_DEBUG=INFO in the environment tells more", what,
                    p->f.error(result));
}

oasis_status oas_peers_id(cuda_peers *p, cuda_peers_id *id, oasis_message *message)
{
    int result = p->f.id(id);
    return result == NCCL_SUCCESS ? OASIS_OK : fail(p, result, "sums over GPUs cannot be begun", message);
}

oasis_status oas_peers_join(cuda_peers *p, const cuda_peers_id *id, int rank, int count, oasis_message *message)
{
    int least = 0, first = 0; /* sums go first: they are short, and another GPU waits */
    oas_cuda_use(p->cuda);
    if (cudaDeviceGetStreamPriorityRange(&least, &first) != cudaSuccess ||
        cudaStreamCreateWithPriority(&p->stream, cudaStreamNonBlocking, first) != cudaSuccess ||
        cudaEventCreateWithFlags(&p->ready, cudaEventDisableTiming) != cudaSuccess ||
        cudaEventCreateWithFlags(&p->done, cudaEventDisableTiming) != cudaSuccess)
        return oas_fail(message, OASIS_E_DEVICE, "GPU %d: no stream for sums: %s", p->cuda->index,
                        cudaGetErrorString(cudaGetLastError()));
    int result = p->f.join(&p->comm, count, *id, rank);
    return result == NCCL_SUCCESS ? OASIS_OK : fail(p, result, "the GPUs of all ranks do not meet", message);
}

oasis_status oas_peers_sum(cuda_peers *p, float *values, size_t n)
{
    oas_cuda_use(p->cuda);
    if (cudaEventRecord(p->ready, p->cuda->stream) != cudaSuccess ||
        cudaStreamWaitEvent(p->stream, p->ready, 0) != cudaSuccess)
        return OASIS_E_DEVICE;
    int result = p->f.sum(values, values, n, NCCL_FLOAT, NCCL_SUM, p->comm, p->stream);
    return result == NCCL_SUCCESS ? OASIS_OK : OASIS_E_DEVICE;
}

oasis_status oas_peers_finish(cuda_peers *p)
{
    oas_cuda_use(p->cuda);
    return cudaEventRecord(p->done, p->stream) == cudaSuccess &&
                   cudaStreamWaitEvent(p->cuda->stream, p->done, 0) == cudaSuccess
               ? OASIS_OK
               : OASIS_E_DEVICE;
}

void oas_peers_describe(const cuda_peers *p, char *text, size_t size)
{
    int v = 0;
    p->f.version(&v);
    snprintf(text, size, "NCCL %d.%d.%d", v / 10000, v / 100 % 100, v % 100);
}

void oas_peers_free(cuda_peers **out)
{
    cuda_peers *p = *out;
    if (!p)
        return;
    oas_cuda_use(p->cuda);
    if (p->comm && cudaStreamQuery(p->stream) == cudaSuccess)
        p->f.destroy(p->comm);
    else if (p->comm)
        p->f.abort(p->comm); /* a rank has failed: its part would never come */
    if (p->done)
        cudaEventDestroy(p->done);
    if (p->ready)
        cudaEventDestroy(p->ready);
    if (p->stream)
        cudaStreamDestroy(p->stream);
    cudaGetLastError(); /* takes a failure away: later launches would see it */
    /* The library stays: its own threads may outlive the calls. */
    oas_free(p);
    *out = NULL;
}
