/* Chooses the kernel of convolutions. */
#include "cpu/conv.h"

const conv_kernel *oas_conv_kernel(oas_cpu_level level)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (level >= OAS_LEVEL_AMX)
        return &oas_conv_amx;
#endif
    (void)level;
    return NULL;
}
