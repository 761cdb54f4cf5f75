/*
 * A machine as a device: the CPU, its threads, which kernels it may use, and oneDNN's engine with the primitives made so far.
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

/*
 * The same for a name: "cpu", "cuda" (the first GPU), "cuda:N", or "auto" and NULL (a GPU if there is one).  Fails with
 * OASIS_E_ARGUMENT for another name, and as oas_device_new and oas_cuda_new do.
 */
oasis_status oas_device_open(device **d, const char *name, int threads, oasis_message *message);

/* Where it computes: OAS_CUDA, OAS_CPU, or OAS_REF where OASIS_CPU asks for that. */
oas_backend oas_device_backend(const device *d);

/* A graph that computes there, without an arena. */
graph oas_device_graph(device *d, oas_dtype compute);

/* The device in words: "cuda:0" or "cpu". */
typedef struct device_name {
    char text[24];
} device_name;
device_name oas_device_name(const device *d);

/* Does it multiply bf16 natively?  GPUs do; of CPUs, capped by OASIS_CPU, some. */
bool oas_device_has_bf16(const device *d);

#endif
