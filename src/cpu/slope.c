/* Choosing among the loops of cpu/slope_kernel.h; the plain ones are compiled here. */
#include "cpu/slope.h"

slope_fn oas_slope_plain;

#define SLOPE oas_slope_plain
#include "cpu/slope_kernel.h"

void oas_slope(oas_cpu_level level, oas_activation act, const float *u, const float *dy, void *e, oas_dtype type,
               int64_t n)
{
#if defined(__x86_64__)
    if (level >= OAS_LEVEL_AVX512) {
        oas_slope_avx512(act, u, dy, e, type, n);
        return;
    }
    if (level >= OAS_LEVEL_AVX2) {
        oas_slope_avx2(act, u, dy, e, type, n);
        return;
    }
#endif
    (void)level;
    oas_slope_plain(act, u, dy, e, type, n);
}
