/* The attention kernel on bf16 with AVX-512: a unit is a pair of values, multiplied and summed by one instruction. */
#include "cpu/attention_kernel.h"
#include "cpu/x86/attention_bf16.h"

#define KERNEL        oas_attention_avx512bf16
#define KEYS_PER_UNIT 2
#define ROWS          14
#define PANELS        2
#define WINDOW_STEP   8
#define WINDOW_BLOCKS 3

static inline vec v_mac(vec acc, vec a, vec b)
{
    return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
}

#include "cpu/attention_template.h"
