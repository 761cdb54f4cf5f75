/* The families of kernels that there are. */
#include "cuda/layout.h"
#include "cuda/losses.h"
#include "cuda/passes.h"
#include "cuda/tables.h"

void oas_cuda_set_tables(cuda_tables *t)
{
    *t = (cuda_tables){
        .passes = &oas_cuda_passes,
        .layout = &oas_cuda_layout,
        .losses = &oas_cuda_losses,
    };
}

void oas_cuda_close_libraries(oas_cuda *c)
{
    (void)c;
}
