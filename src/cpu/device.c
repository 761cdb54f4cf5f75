/* The CPU as a device. */
#include "cpu/device.h"

#include "base/memory.h"
#include "cpu/dnnl.h"

#include <stdio.h>

oasis_status oas_device_new(device **out, int threads, oasis_message *message)
{
    device *d = oas_alloc(1, sizeof *d);
    if (!d)
        return oas_fail_memory(message, sizeof *d, "the device");
    oasis_status s = oas_cpu_choose(&d->level, message);
    if (s == OASIS_OK)
        s = oas_pool_new(&d->pool, threads, message);
    if (s == OASIS_OK)
        s = oas_dnnl_new(&d->dnnl, oas_pool_workers(d->pool), (int)d->level, message);
    if (s < 0) {
        oas_device_free(&d);
        return s;
    }
    *out = d;
    return OASIS_OK;
}

void oas_device_free(device **out)
{
    device *d = *out;
    if (!d)
        return;
    oas_cuda_free(&d->cuda);
    oas_dnnl_free(&d->dnnl);
    oas_pool_free(&d->pool);
    oas_free(d);
    *out = NULL;
}

oasis_status oas_device_open(device **out, const char *name, int threads, oasis_message *message)
{
    int gpu;
    device *d = NULL;
    OAS_TRY(oas_cuda_named(name, &gpu, message));
    OAS_TRY(oas_device_new(&d, threads, message));
    oasis_status s = gpu >= 0 ? oas_cuda_new(&d->cuda, gpu, message) : OASIS_OK;
    if (s < 0)
        oas_device_free(&d);
    else
        *out = d;
    return s;
}

oas_backend oas_device_backend(const device *d)
{
    return d->cuda ? OAS_CUDA : d->level == OAS_LEVEL_C ? OAS_REF : OAS_CPU;
}

graph oas_device_graph(device *d, oas_dtype compute)
{
    return (graph){.device = d, .cuda = d->cuda, .backend = oas_device_backend(d), .compute = compute};
}

device_name oas_device_name(const device *d)
{
    device_name n = {"cpu"};
    if (d->cuda)
        snprintf(n.text, sizeof n.text, "cuda:%d", d->cuda->index);
    return n;
}

bool oas_device_has_bf16(const device *d)
{
    return d->cuda || d->level >= OAS_LEVEL_AVX512BF16;
}

void oas_device_zero(device *d, void *to, size_t bytes)
{
    oas_pool_zero(d ? d->pool : NULL, to, bytes);
}

void oas_device_copy(device *d, void *to, const void *from, size_t bytes)
{
    oas_pool_copy(d ? d->pool : NULL, to, from, bytes);
}
