/* The peak of bf16 products summed in float with AVX-512. */
#include <immintrin.h>

#define KERNEL           oas_peak_avx512bf16
#define PEAK_VECTOR      __m512
#define PEAK_SET(x)      _mm512_set1_ps(x)
#define PEAK_MAC(acc, a) _mm512_dpbf16_ps(acc, (__m512bh)(a), (__m512bh)(a))
#define PEAK_FLOPS       64
#include "cpu/peak_kernel.h"
