/* What the files that call cuDNN keep with a GPU: a handle on its stream, room to work in, plans. */
#ifndef OAS_CUDA_DNN_H
#define OAS_CUDA_DNN_H

#include "cuda/cuda.h"
#include "cuda/plans.h"

#include <cudnn.h>

typedef struct dnn_state {
    cudnnHandle_t library;
    void *workspace;
    cuda_plans plans; /* made with this state as their library */
} dnn_state;

/* The state in *kept, made at the first call, with so many bytes of workspace; NULL when it cannot be made. */
dnn_state *oas_dnn_state(oas_cuda *c, void **kept, size_t workspace, cuda_plans plans);

void oas_dnn_free(oas_cuda *c, void **kept);

#endif
