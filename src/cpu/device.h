/*
 * The CPU as a device: its threads, which kernels it may use, and oneDNN's engine with the primitives made so far.
 * An upscaler or a trainer owns one; ops reach it through graph.device.
 */
#ifndef OAS_CPU_DEVICE_H
#define OAS_CPU_DEVICE_H

#include "base/threads.h"
#include "cpu/level.h"
#include "cuda/cuda.h"
#include "tensor/graph.h"

typedef struct dnnl_cache dnnl_cache; /* cpu/dnnl.c */

struct device {
    oas_pool *pool;
    oas_cpu_level level;
    dnnl_cache *dnnl;
    oas_cuda *cuda; /* NULL: the CPU alone */
};

/*
 * Makes a device with `threads` compute threads (0 = as many as the process may use) and the best kernels this machine
 * has, or those of OASIS_CPU.  Fails with OASIS_E_MEMORY, OASIS_E_DEVICE (oneDNN refuses, OASIS_CPU unknown).
 */
oasis_status oas_device_new(device **d, int threads, oasis_message *message);
void oas_device_free(device **d);

/* Does the CPU, capped by OASIS_CPU, multiply bf16 natively? */
bool oas_device_has_bf16(const device *d);

#endif
