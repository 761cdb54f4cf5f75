/* The attention kernel on floats with AVX2; bf16 is converted where rows are packed and stored. */
#include "cpu/attention_kernel.h"
#include "cpu/x86/vector_avx2.h"

#define KERNEL        oas_attention_avx2
#define KEYS_PER_UNIT 1
#define ROWS          6
#define PANELS        1
#define WINDOW_STEP   4
#define WINDOW_BLOCKS 1

#include "cpu/attention_template.h"
