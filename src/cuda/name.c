/* What the names of devices stand for, whether or not there is CUDA. */
#include "cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

/* The number behind "cuda:", from 0 on; -1 when the name is another. */
static int gpu_of(const char *name)
{
    if (strcmp(name, "cuda") == 0)
        return 0;
    if (strncmp(name, "cuda:", 5) != 0 || name[5] < '0' || name[5] > '9')
        return -1;
    char *end;
    long n = strtol(name + 5, &end, 10);
    return *end || n > 1000 ? -1 : (int)n;
}

oasis_status oas_cuda_named(const char *name, int *gpu, oasis_message *message)
{
    bool automatic = !name || strcmp(name, "auto") == 0;
    *gpu = automatic ? oas_cuda_usual() : gpu_of(name);
    if (!automatic && *gpu < 0 && strcmp(name, "cpu") != 0)
        return oas_fail(message, OASIS_E_ARGUMENT,
                        "the device '%s' is unknown; it is cpu, cuda, cuda:N (N from 0 on) or auto", name);
    return OASIS_OK;
}
