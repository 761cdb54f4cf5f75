/* What opens a device before its tables are filled: with all of them in tables.c, with one in beside.c. */
#ifndef OAS_CUDA_TABLES_H
#define OAS_CUDA_TABLES_H

#include "cuda/cuda.h"

/* GPU `index` without tables; fails as oas_cuda_new.  beside: as oas_cuda_beside says. */
oasis_status oas_cuda_open(oas_cuda **c, int index, bool beside, oasis_message *message);

#endif
