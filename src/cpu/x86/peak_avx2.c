/* The peak of float multiply-adds with AVX2. */
#include <immintrin.h>

#define KERNEL           oas_peak_avx2
#define PEAK_VECTOR      __m256
#define PEAK_SET(x)      _mm256_set1_ps(x)
#define PEAK_MAC(acc, a) _mm256_fmadd_ps(a, a, acc)
#define PEAK_FLOPS       16
#include "cpu/peak_kernel.h"
