/* The families of kernels that there are. */
#include "cuda/tables.h"

void oas_cuda_set_tables(cuda_tables *t)
{
    *t = (cuda_tables){
        /* .passes = &oas_cuda_passes, */
        .passes = 0,
    };
}

void oas_cuda_close_libraries(oas_cuda *c)
{
    (void)c;
}
