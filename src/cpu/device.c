/* The CPU as a device. */
#include "cpu/device.h"

#include "base/memory.h"
#include "cpu/dnnl.h"

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
    oas_dnnl_free(&d->dnnl);
    oas_pool_free(&d->pool);
    oas_free(d);
    *out = NULL;
}

bool oas_device_has_bf16(const device *d)
{
    return d->level >= OAS_LEVEL_AVX512BF16;
}
