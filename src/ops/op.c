/* Helpers of the op files. */
#include "ops/op.h"

#include <math.h>

int64_t oas_slab_rows(int64_t rows, int64_t least, int64_t most)
{
    int64_t n = (rows / 16 + 15) / 16 * 16;
    return n < least ? least : n > most ? most : n;
}

float oas_act(oas_activation act, float x)
{
    switch (act) {
    case OAS_GELU_TANH: return 0.5f * x * (1.f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    case OAS_SILU: return x / (1.f + expf(-x));
    case OAS_RELU: return x > 0.f ? x : 0.f;
    case OAS_LINEAR:
    case OAS_ACTIVATIONS: break;
    }
    return x;
}
