/* The row of cpu/attention_backward.h for AVX-512. */
#define WEIGH_BACK oas_weigh_back_avx512
#include "cpu/attention_backward_kernel.h"
