/* The passes with AVX2. */
#include "cpu/x86/vector_avx2.h"

#define KERNEL oas_passes_avx2
#include "cpu/passes_template.h"
