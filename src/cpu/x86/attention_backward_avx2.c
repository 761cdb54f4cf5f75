/* The row of cpu/attention_backward.h for AVX2. */
#define WEIGH_BACK oas_weigh_back_avx2
#include "cpu/attention_backward_kernel.h"
