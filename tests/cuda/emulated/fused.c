/* The attention of cuda/fused.h by plain loops, for the emulated build; only where OASIS_EMULATED_FUSED asks for it. */
#include "cuda/fused.h"

#include "base/memory.h"
#include "cuda/emulated/heap.h"
#include "cuda/emulated/record.h"
#include "tensor/tensor.h"

#include <math.h>
#include <stdlib.h>

static double dot(const uint16_t *a, const uint16_t *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)oas_from_bf16(a[i]) * (double)oas_from_bf16(b[i]);
    return sum;
}

static void attend(const cuda_fused *f, int64_t segment, int64_t head, int64_t row, double *weight)
{
    int64_t own = (segment * f->rows + row) * f->stride + head * f->head_step;
    int64_t others = segment * f->keys * f->stride + head * f->head_step;
    double total = 0;
    for (int64_t j = 0; j < f->keys; j++) {
        const uint16_t *k = (const uint16_t *)f->k + others + j * f->stride;
        weight[j] = exp((double)f->scale * dot((const uint16_t *)f->q + own, k, f->head_dim));
        total += weight[j];
    }
    for (int64_t x = 0; x < f->head_dim; x++) {
        double sum = 0;
        for (int64_t j = 0; j < f->keys; j++)
            sum += weight[j] * (double)oas_from_bf16(((const uint16_t *)f->v)[others + j * f->stride + x]);
        ((uint16_t *)f->out)[own + x] = oas_to_bf16((float)(sum / total));
    }
    if (f->lse)
        f->lse[head * f->lse_step + segment * f->rows + row] = (float)log(total);
}

static void work(void *arg)
{
    const cuda_fused *f = arg;
    double *weight = oas_alloc((size_t)f->keys, sizeof *weight);
    if (!weight)
        abort();
    oas_emulated_heap_open();
    for (int64_t i = 0; i < f->segments * f->heads * f->rows; i++)
        attend(f, i / f->rows / f->heads, i / f->rows % f->heads, i % f->rows, weight);
    oas_emulated_heap_close();
    oas_free(weight);
}

oasis_status oas_cuda_fused(oas_cuda *c, const cuda_fused *f)
{
    if (!getenv("OASIS_EMULATED_FUSED"))
        return OASIS_E_UNSUPPORTED;
    cuda_fused copy = *f;
    oas_emulated_put(c, work, &copy, sizeof copy);
    return OASIS_OK;
}

void oas_cuda_fused_free(oas_cuda *c)
{
    (void)c;
}
