/* The loops of cpu/slope.h for AVX-512. */
#define SLOPE oas_slope_avx512
#include "cpu/slope_kernel.h"
