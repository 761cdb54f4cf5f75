/* Row kernels with AVX-512. */
#include "cpu/channel.h"

#include "cpu/x86/vector_avx512.h"

#define KERNEL oas_channel_kernels_avx512
#include "cpu/channel_template.h"
