/* What a device's tables are filled with: one line per family in tables.c. */
#ifndef OAS_CUDA_TABLES_H
#define OAS_CUDA_TABLES_H

#include "cuda/cuda.h"

void oas_cuda_set_tables(cuda_tables *t);

/* Frees what the libraries keep with the device. */
void oas_cuda_close_libraries(oas_cuda *c);

#endif
