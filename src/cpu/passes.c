/* Chooses the passes of a level, and holds those in plain C. */
#include "cpu/passes.h"

#include "cpu/vector_c.h"

#define KERNEL oas_passes_c
#include "cpu/passes_template.h"

#if defined(__x86_64__) && defined(__GNUC__)
extern const oas_passes oas_passes_avx2, oas_passes_avx512;
#endif

const oas_passes *oas_passes_for(oas_cpu_level level)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (level >= OAS_LEVEL_AVX512)
        return &oas_passes_avx512;
    if (level >= OAS_LEVEL_AVX2)
        return &oas_passes_avx2;
#endif
    (void)level;
    return &oas_passes_c;
}
