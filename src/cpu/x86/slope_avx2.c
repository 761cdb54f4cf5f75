/* The loops of cpu/slope.h for AVX2. */
#define SLOPE oas_slope_avx2
#include "cpu/slope_kernel.h"
