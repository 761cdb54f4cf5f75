/* Row kernels with AVX2. */
#include "cpu/channel.h"

#include "cpu/x86/vector_avx2.h"

#define KERNEL oas_channel_kernels_avx2
#include "cpu/channel_template.h"
