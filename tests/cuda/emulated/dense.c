/* The products of cuda/dense.h by plain loops, for the emulated build. */
#include "cuda/dense.h"

#include "cuda/emulated/heap.h"
#include "cuda/emulated/record.h"

#include "ops/op.h"

static bool fuses(int32_t act)
{
    return act == OAS_LINEAR || act == OAS_GELU_TANH || act == OAS_RELU;
}

static float value(const void *data, int32_t type, int64_t i)
{
    return type == OAS_F32 ? ((const float *)data)[i] : oas_from_bf16(((const uint16_t *)data)[i]);
}

static void multiply(void *arg)
{
    const cuda_product *p = arg;
    oas_emulated_heap_open();
    for (int64_t i = 0; i < p->rows; i++) {
        for (int64_t j = 0; j < p->columns; j++) {
            int64_t at = i * p->columns + j;
            double sum = p->bias ? (double)value(p->bias, p->y_type, j) : 0;
            for (int64_t k = 0; k < p->depth; k++)
                sum += (double)value(p->a, p->type, p->a_turned ? k * p->rows + i : i * p->depth + k) *
                       (double)value(p->b, p->type, p->b_turned ? j * p->depth + k : k * p->columns + j);
            float y = oas_act((oas_activation)p->act, (float)sum) + (p->add ? value(p->y, p->y_type, at) : 0.f);
            if (p->y_type == OAS_F32)
                ((float *)p->y)[at] = y;
            else
                ((uint16_t *)p->y)[at] = oas_to_bf16(y);
        }
    }
    oas_emulated_heap_close();
}

static oasis_status product(oas_cuda *c, const cuda_product *p)
{
    cuda_product copy = *p;
    oas_emulated_put(c, multiply, &copy, sizeof copy);
    return OASIS_OK;
}

void oas_cuda_dense_free(oas_cuda *c)
{
    (void)c;
}

const struct cuda_dense oas_cuda_dense = {.fuses = fuses, .product = product};
