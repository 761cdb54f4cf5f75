/* The families of kernels that there are. */
#include "cuda/tables.h"

#include "cuda/attention.h"
#include "cuda/conv.h"
#include "cuda/degrade.h"
#include "cuda/dense.h"
#include "cuda/fused.h"
#include "cuda/layout.h"
#include "cuda/losses.h"
#include "cuda/passes.h"

static void close_libraries(oas_cuda *c)
{
    oas_cuda_dense_free(c);
    oas_cuda_conv_free(c);
    oas_cuda_fused_free(c);
}

oasis_status oas_cuda_new(oas_cuda **c, int index, oasis_message *message)
{
    OAS_TRY(oas_cuda_open(c, index, false, message));
    (*c)->close = close_libraries;
    (*c)->tables = (cuda_tables){
        .passes = &oas_cuda_passes,
        .layout = &oas_cuda_layout,
        .losses = &oas_cuda_losses,
        .attention = &oas_cuda_attention,
        .dense = &oas_cuda_dense,
        .conv = &oas_cuda_conv,
        .narrow = &oas_cuda_narrow_conv,
        .degrade = &oas_cuda_degrade,
    };
    return OASIS_OK;
}
