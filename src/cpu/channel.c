/* Chooses the row kernels of a level, and holds those in plain C. */
#include "cpu/channel.h"

#include "cpu/vector_c.h"

#define KERNEL oas_channel_kernels_c
#include "cpu/channel_template.h"

#if defined(__x86_64__) && defined(__GNUC__)
extern const oas_channel_kernels oas_channel_kernels_avx2, oas_channel_kernels_avx512;
#endif

const oas_channel_kernels *oas_channel_kernels_for(oas_cpu_level level)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (level >= OAS_LEVEL_AVX512)
        return &oas_channel_kernels_avx512;
    if (level >= OAS_LEVEL_AVX2)
        return &oas_channel_kernels_avx2;
#endif
    (void)level;
    return &oas_channel_kernels_c;
}
