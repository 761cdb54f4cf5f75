/* A GPU as a device, by CUDA's runtime.  It is linked statically and loads the driver when it is first asked for. */
#include "base/memory.h"
#include "cuda/cuda.h"
#include "cuda/tables.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>

/* A captured graph, and what it uploads: pinned, since it is read at each replay. */
struct cuda_recording {
    cudaGraphExec_t run;
    char *uploads;
    size_t used;
    bool failed;
};

enum { UPLOADS_BYTES = 1 << 14, UPLOADS_ALIGN = 16 };

static oasis_status status_of(cudaError_t e)
{
    return e == cudaSuccess ? OASIS_OK : e == cudaErrorMemoryAllocation ? OASIS_E_MEMORY : OASIS_E_DEVICE;
}

int oas_cuda_count(void)
{
    int n = 0;
    if (cudaGetDeviceCount(&n) == cudaSuccess)
        return n;
    cudaGetLastError(); /* takes the failure away: later launches would see it */
    return 0;
}

int oas_cuda_usual(void)
{
    return oas_cuda_count() > 0 ? 0 : -1;
}

#define TEXT_OF_(x) #x
#define TEXT_OF(x)  TEXT_OF_(x)

const char *oas_cuda_built(void)
{
    return "runtime " TEXT_OF(CUDART_VERSION) ", kernels for compute capability 8.0 and newer";
}

void oas_cuda_use(const oas_cuda *c)
{
    cudaSetDevice(c->index);
}

size_t oas_cuda_describe(int index, char *text, size_t size)
{
    struct cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, index) != cudaSuccess) {
        cudaGetLastError();
        if (size > 0)
            text[0] = 0;
        return 0;
    }
    int n = snprintf(text, size, "%s, compute capability %d.%d, %.0f GiB", p.name, p.major, p.minor,
                     (double)p.totalGlobalMem / 1073741824.);
    return n < 0 ? 0 : (size_t)n;
}

uint64_t oas_cuda_identity(const oas_cuda *c)
{
    struct cudaDeviceProp p;
    uint64_t halves[2];
    if (cudaGetDeviceProperties(&p, c->index) != cudaSuccess) {
        cudaGetLastError();
        return (uint64_t)c->index;
    }
    memcpy(halves, p.uuid.bytes, sizeof halves);
    return halves[0] ^ halves[1];
}

static bool make_event(void **to, unsigned flags)
{
    cudaEvent_t event;
    if (cudaEventCreateWithFlags(&event, flags) != cudaSuccess)
        return false;
    *to = event;
    return true;
}

static bool make_stream(void **to, int priority)
{
    cudaStream_t stream;
    if (cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, priority) != cudaSuccess)
        return false;
    *to = stream;
    return true;
}

/* Lower numbers come first: work beside after the device's own, and that after the sums of cuda/peers.c. */
static bool make_streams(oas_cuda *c, bool beside)
{
    int last = 0, first = 0;
    cudaDeviceGetStreamPriorityRange(&last, &first);
    if (beside)
        return make_stream(&c->stream, last) && make_event(&c->waiting, cudaEventDisableTiming | cudaEventBlockingSync);
    int own = first < last - 1 ? last - 1 : last;
    return make_stream(&c->stream, own) && make_stream(&c->up, own) && make_stream(&c->down, own);
}

static oasis_status open_gpu(oas_cuda *c, bool beside, oasis_message *message)
{
    struct cudaDeviceProp p;
    int n = oas_cuda_count();
    if (n == 0)
        return oas_fail(message, OASIS_E_DEVICE,
                        "GPU %d was asked for, but no NVIDIA GPU with a driver for CUDA %d is "
                        "there; use the device 'cpu'",
                        c->index, CUDART_VERSION / 1000);
    if (c->index < 0 || c->index >= n)
        return oas_fail(message, OASIS_E_DEVICE, "GPU %d was asked for; there are %d, counted from 0", c->index, n);
    if (cudaSetDevice(c->index) != cudaSuccess || cudaGetDeviceProperties(&p, c->index) != cudaSuccess)
        return oas_fail(message, OASIS_E_DEVICE, "GPU %d cannot be opened: %s", c->index,
                        cudaGetErrorString(cudaGetLastError()));
    if (p.major < 8)
        return oas_fail(message, OASIS_E_DEVICE, "GPU %d (%s) has compute capability %d.%d; 8.0 or newer is needed",
                        c->index, p.name, p.major, p.minor);
    c->processors = p.multiProcessorCount;
    c->shared_bytes = (int)p.sharedMemPerBlockOptin;
    if (!make_streams(c, beside))
        return oas_fail(message, OASIS_E_DEVICE, "GPU %d: no stream: %s", c->index,
                        cudaGetErrorString(cudaGetLastError()));
    return OASIS_OK;
}

oasis_status oas_cuda_open(oas_cuda **out, int index, bool beside, oasis_message *message)
{
    oas_cuda *c = oas_alloc(1, sizeof *c);
    if (!c)
        return oas_fail_memory(message, sizeof *c, "the GPU");
    c->index = index;
    oasis_status s = open_gpu(c, beside, message);
    if (s < 0)
        oas_cuda_free(&c);
    else
        *out = c;
    return s;
}

void oas_cuda_free(oas_cuda **out)
{
    oas_cuda *c = *out;
    if (!c)
        return;
    void *const streams[] = {c->up, c->down, c->stream};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        if (streams[i])
            cudaStreamSynchronize(streams[i]);
    if (c->stream && c->close)
        c->close(c);
    if (c->waiting)
        cudaEventDestroy(c->waiting);
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        if (streams[i])
            cudaStreamDestroy(streams[i]);
    oas_free(c);
    *out = NULL;
}

void *oas_cuda_alloc(oas_cuda *c, size_t bytes)
{
    void *block = NULL;
    if (cudaSetDevice(c->index) == cudaSuccess && cudaMalloc(&block, bytes ? bytes : 1) == cudaSuccess)
        return block;
    cudaGetLastError();
    return NULL;
}

void oas_cuda_release(oas_cuda *c, void *block)
{
    (void)c; /* a block knows its GPU */
    if (block)
        cudaFree(block);
}

void oas_cuda_memory(const oas_cuda *c, size_t *free_bytes, size_t *total_bytes)
{
    if (cudaSetDevice(c->index) == cudaSuccess && cudaMemGetInfo(free_bytes, total_bytes) == cudaSuccess)
        return;
    cudaGetLastError();
    *free_bytes = *total_bytes = 0;
}

void *oas_cuda_host_alloc(oas_cuda *c, size_t bytes)
{
    void *block = NULL;
    (void)c;
    if (cudaMallocHost(&block, bytes ? bytes : 1) == cudaSuccess)
        return block;
    cudaGetLastError();
    return NULL;
}

void oas_cuda_host_release(oas_cuda *c, void *block)
{
    (void)c;
    if (block)
        cudaFreeHost(block);
}

/* A copy from where the values stay. */
static oasis_status upload_recorded(oas_cuda *c, void *device, const void *host, size_t bytes)
{
    cuda_recording *r = c->recording;
    if (bytes > UPLOADS_BYTES - r->used) {
        r->failed = true;
        return OASIS_E_DEVICE;
    }
    char *kept = r->uploads + r->used;
    memcpy(kept, host, bytes);
    r->used += (bytes + UPLOADS_ALIGN - 1) / UPLOADS_ALIGN * UPLOADS_ALIGN;
    return status_of(cudaMemcpyAsync(device, kept, bytes, cudaMemcpyHostToDevice, c->stream));
}

/* What only works where the stream is waited for. */
static bool refused(oas_cuda *c)
{
    if (c->recording)
        c->recording->failed = true;
    return c->recording != NULL;
}

static cudaError_t wait_for_stream(oas_cuda *c)
{
    if (!c->waiting)
        return cudaStreamSynchronize(c->stream);
    cudaError_t e = cudaEventRecord(c->waiting, c->stream);
    return e == cudaSuccess ? cudaEventSynchronize(c->waiting) : e;
}

oasis_status oas_cuda_upload(oas_cuda *c, void *device, const void *host, size_t bytes)
{
    if (c->recording)
        return upload_recorded(c, device, host, bytes);
    /* From pageable memory this returns when the host's values have been read. */
    return status_of(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, c->stream));
}

oasis_status oas_cuda_download(oas_cuda *c, void *host, const void *device, size_t bytes)
{
    if (refused(c))
        return OASIS_E_DEVICE;
    cudaError_t e = cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, c->stream);
    return status_of(e != cudaSuccess ? e : wait_for_stream(c));
}

oasis_status oas_cuda_copy(oas_cuda *c, void *to, const void *from, size_t bytes)
{
    return status_of(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, c->stream));
}

oasis_status oas_cuda_copy_rows(oas_cuda *c, void *to, size_t to_step, const void *from, size_t from_step, size_t bytes,
                                size_t rows)
{
    return status_of(cudaMemcpy2DAsync(to, to_step, from, from_step, bytes, rows, cudaMemcpyDeviceToDevice, c->stream));
}

oasis_status oas_cuda_zero(oas_cuda *c, void *device, size_t bytes)
{
    return status_of(cudaMemsetAsync(device, 0, bytes, c->stream));
}

oasis_status oas_cuda_wait(oas_cuda *c, oasis_message *message)
{
    if (refused(c))
        return oas_fail(message, OASIS_E_DEVICE, "GPU %d cannot be waited for while its work is recorded", c->index);
    cudaError_t e = wait_for_stream(c);
    if (e == cudaSuccess)
        return OASIS_OK;
    return oas_fail(message, OASIS_E_DEVICE, "GPU %d failed: %s", c->index, cudaGetErrorString(e));
}

/* ---- copies beside the computation ------------------------------------------------------------------------------------ */

oasis_status oas_cuda_block_open(oas_cuda *c, cuda_block *b, size_t bytes)
{
    *b = (cuda_block){.bytes = bytes};
    if (cudaSetDevice(c->index) != cudaSuccess || !make_event(&b->copy, cudaEventDisableTiming) ||
        !make_event(&b->end, cudaEventDisableTiming)) {
        cudaGetLastError();
        return OASIS_E_DEVICE;
    }
    b->host = oas_cuda_host_alloc(c, bytes);
    b->device = oas_cuda_alloc(c, bytes);
    return b->host && b->device ? OASIS_OK : OASIS_E_MEMORY;
}

void oas_cuda_block_close(oas_cuda *c, cuda_block *b)
{
    if (b->end) {
        cudaStreamSynchronize(c->up);
        cudaStreamSynchronize(c->down);
        cudaStreamSynchronize(c->stream);
        cudaEventDestroy(b->end);
    }
    if (b->copy)
        cudaEventDestroy(b->copy);
    oas_cuda_host_release(c, b->host);
    oas_cuda_release(c, b->device);
    *b = (cuda_block){0};
}

oasis_status oas_cuda_block_up(oas_cuda *c, cuda_block *b)
{
    cudaError_t e = cudaMemcpyAsync(b->device, b->host, b->bytes, cudaMemcpyHostToDevice, c->up);
    if (e == cudaSuccess)
        e = cudaEventRecord(b->copy, c->up);
    return status_of(e == cudaSuccess ? cudaStreamWaitEvent(c->stream, b->copy, 0) : e);
}

oasis_status oas_cuda_block_used(oas_cuda *c, cuda_block *b)
{
    return status_of(cudaEventRecord(b->end, c->stream));
}

oasis_status oas_cuda_block_down(oas_cuda *c, cuda_block *b)
{
    cudaError_t e = cudaEventRecord(b->copy, c->stream);
    if (e == cudaSuccess)
        e = cudaStreamWaitEvent(c->down, b->copy, 0);
    if (e == cudaSuccess)
        e = cudaMemcpyAsync(b->host, b->device, b->bytes, cudaMemcpyDeviceToHost, c->down);
    return status_of(e == cudaSuccess ? cudaEventRecord(b->end, c->down) : e);
}

oasis_status oas_cuda_block_wait(oas_cuda *c, cuda_block *b, oasis_message *message)
{
    cudaError_t e = cudaEventSynchronize(b->end);
    if (e == cudaSuccess)
        return OASIS_OK;
    return oas_fail(message, OASIS_E_DEVICE, "GPU %d failed: %s", c->index, cudaGetErrorString(e));
}

bool oas_cuda_block_done(oas_cuda *c, cuda_block *b)
{
    (void)c;
    if (cudaEventQuery(b->end) != cudaErrorNotReady)
        return true;    /* a failure is done, too: waiting tells it */
    cudaGetLastError(); /* takes that away: later launches would see it */
    return false;
}

/* ---- clocks ---------------------------------------------------------------------------------------------------------- */

static void read_pair(cuda_clock *clock)
{
    int64_t i = clock->read++ % OAS_CUDA_PAIRS;
    float milliseconds = 0;
    if (cudaEventSynchronize(clock->end[i]) == cudaSuccess &&
        cudaEventElapsedTime(&milliseconds, clock->begin[i], clock->end[i]) == cudaSuccess)
        clock->seconds += (double)milliseconds * 1e-3;
    else
        cudaGetLastError(); /* what failed is told by who waits for results */
}

static void place(oas_cuda *c, void **event)
{
    if (!*event && !make_event(event, cudaEventDefault))
        cudaGetLastError();
    else if (cudaEventRecord(*event, c->stream) != cudaSuccess)
        cudaGetLastError();
}

void oas_cuda_clock_begin(oas_cuda *c, cuda_clock *clock)
{
    if (clock->pairs - clock->read == OAS_CUDA_PAIRS)
        read_pair(clock);
    place(c, &clock->begin[clock->pairs % OAS_CUDA_PAIRS]);
}

void oas_cuda_clock_end(oas_cuda *c, cuda_clock *clock)
{
    place(c, &clock->end[clock->pairs++ % OAS_CUDA_PAIRS]);
}

double oas_cuda_clock_seconds(oas_cuda *c, const cuda_clock *clock)
{
    (void)c;
    cuda_clock read = *clock;
    while (read.read < read.pairs)
        read_pair(&read);
    return read.seconds;
}

void oas_cuda_clock_close(oas_cuda *c, cuda_clock *clock)
{
    (void)c;
    for (int i = 0; i < OAS_CUDA_PAIRS; i++) {
        if (clock->begin[i])
            cudaEventDestroy(clock->begin[i]);
        if (clock->end[i])
            cudaEventDestroy(clock->end[i]);
    }
    *clock = (cuda_clock){.seconds = clock->seconds};
}

/* ---- recordings ------------------------------------------------------------------------------------------------------ */

static void free_recording(cuda_recording *r)
{
    if (r->run)
        cudaGraphExecDestroy(r->run);
    if (r->uploads)
        cudaFreeHost(r->uploads);
    cudaGetLastError();
    oas_free(r);
}

oasis_status oas_cuda_record(oas_cuda *c)
{
    cuda_recording *r = oas_alloc(1, sizeof *r);
    if (!r)
        return OASIS_E_MEMORY;
    r->uploads = oas_cuda_host_alloc(c, UPLOADS_BYTES);
    /* Relaxed: what the libraries and other threads do beside is none of this stream's work. */
    if (!r->uploads || cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeRelaxed) != cudaSuccess) {
        free_recording(r);
        return OASIS_E_DEVICE;
    }
    c->recording = r;
    return OASIS_OK;
}

cuda_recording *oas_cuda_recorded(oas_cuda *c)
{
    cuda_recording *r = c->recording;
    cudaGraph_t graph = NULL;
    c->recording = NULL;
    if (!r)
        return NULL;
    bool ok = cudaStreamEndCapture(c->stream, &graph) == cudaSuccess && graph && !r->failed &&
              cudaGraphInstantiateWithFlags(&r->run, graph, 0) == cudaSuccess &&
              cudaGraphUpload(r->run, c->stream) == cudaSuccess;
    if (graph)
        cudaGraphDestroy(graph);
    if (ok)
        return r;
    free_recording(r);
    return NULL;
}

oasis_status oas_cuda_replay(oas_cuda *c, cuda_recording *r)
{
    return status_of(cudaGraphLaunch(r->run, c->stream));
}

void oas_cuda_forget(oas_cuda *c, cuda_recording **r)
{
    if (!*r)
        return;
    cudaStreamSynchronize(c->stream);
    free_recording(*r);
    *r = NULL;
}
