/* The peak of float multiply-adds with AVX512. */
#include <immintrin.h>

#define KERNEL           oas_peak_avx512
#define PEAK_VECTOR      __m512
#define PEAK_SET(x)      _mm512_set1_ps(x)
#define PEAK_MAC(acc, a) _mm512_fmadd_ps(a, a, acc)
#define PEAK_FLOPS       32
#include "cpu/peak_kernel.h"
