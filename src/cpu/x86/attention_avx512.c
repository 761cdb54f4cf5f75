/* The attention kernel on floats with AVX-512. */
#include "cpu/attention_kernel.h"
#include "cpu/x86/vector_avx512.h"

#define KERNEL        oas_attention_avx512
#define KEYS_PER_UNIT 1
#define ROWS          14
#define PANELS        2
#define WINDOW_STEP   8
#define WINDOW_BLOCKS 3

#include "cpu/attention_template.h"
