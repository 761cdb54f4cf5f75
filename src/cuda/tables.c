/* The families of kernels that there are. */
#include "cuda/tables.h"

#include "cuda/attention.h"
#include "cuda/conv.h"
#include "cuda/dense.h"
#include "cuda/fused.h"
#include "cuda/layout.h"
#include "cuda/losses.h"
#include "cuda/passes.h"

void oas_cuda_set_tables(cuda_tables *t)
{
    *t = (cuda_tables){
        .passes = &oas_cuda_passes,
        .layout = &oas_cuda_layout,
        .losses = &oas_cuda_losses,
        .attention = &oas_cuda_attention,
        .dense = &oas_cuda_dense,
        .conv = &oas_cuda_conv,
    };
}

void oas_cuda_close_libraries(oas_cuda *c)
{
    oas_cuda_dense_free(c);
    oas_cuda_conv_free(c);
    oas_cuda_fused_free(c);
}
