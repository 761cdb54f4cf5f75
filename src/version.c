/* What this library is and what it runs on. */
#include "cpu/dnnl.h"
#include "cpu/level.h"
#include "cuda/cuda.h"

#include <jansson.h>
#include <stdio.h>

const char *oasis_version(void)
{
    return OASIS_VERSION;
}

/* "none", or what each GPU is. */
static void list_gpus(char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "%s", oas_cuda_built());
    for (int i = 0; i < oas_cuda_count() && used < size; i++) {
        char name[128];
        oas_cuda_describe(i, name, sizeof name);
        used += (size_t)snprintf(text + used, size - used, "%s cuda:%d = %s", i ? "," : ";", i, name);
    }
}

size_t oasis_build_info(char *text, size_t size)
{
    char gpus[512];
    list_gpus(gpus, sizeof gpus);
    oasis_message why = {""};
    oas_cpu_level level = OAS_LEVEL_C;
    const char *chosen = oas_cpu_choose(&level, &why) < 0 ? why.text : oas_cpu_level_name(level);
#if defined(__clang__)
    const char *compiler = "clang " __clang_version__;
#elif defined(__GNUC__)
    const char *compiler = "gcc " __VERSION__;
#else
    const char *compiler = "unknown";
#endif
    int n = snprintf(text, size,
                     "liboasis: %s\ncompiler: %s\ncpu kernels: %s (machine has %s)\nthreads: %d\noneDNN: %s\n"
                     "CUDA: %s\njansson: %s\n",
                     OASIS_VERSION, compiler, chosen, oas_cpu_level_name(oas_cpu_detect()), oas_cpu_count(),
                     oas_dnnl_version(), gpus, JANSSON_VERSION);
    return n < 0 ? 0 : (size_t)n;
}
