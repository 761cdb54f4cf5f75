/* Matrix products on the GPU: cuBLASLt (dense.c), or plain loops in the emulated build (tests/cuda/emulated/dense.c). */
#ifndef OAS_CUDA_DENSE_H
#define OAS_CUDA_DENSE_H

#include "cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * y = act(a b + bias) + add * y, all matrices row-major without gaps; sums in float.
 *   a  [rows, depth], or a_turned: stored [depth, rows]
 *   b  [depth, columns], or b_turned: stored [columns, depth]
 *   y  [rows, columns]; a and b have one type, y that or float
 *   bias  [columns] of y's type, or NULL
 * `act` is as oas_activation, and one of those that `fuses` said yes to.
 */
typedef struct cuda_product {
    const void *a, *b, *bias;
    void *y;
    int64_t rows, columns, depth;
    int32_t type, y_type; /* 0 float, 1 bf16 */
    int32_t a_turned, b_turned, act, add;
} cuda_product;

struct cuda_dense {
    /* Can the product apply this activation itself? */
    bool (*fuses)(int32_t act);
    oasis_status (*product)(oas_cuda *c, const cuda_product *p);
};

extern const struct cuda_dense oas_cuda_dense;

void oas_cuda_dense_free(oas_cuda *c);

#ifdef __cplusplus
}
#endif
#endif
