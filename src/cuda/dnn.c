/* cuDNN's handle, workspace and plans. */
#include "cuda/dnn.h"

#include "base/memory.h"

dnn_state *oas_dnn_state(oas_cuda *c, void **kept, size_t workspace, cuda_plans plans)
{
    if (*kept)
        return *kept;
    dnn_state *s = oas_alloc(1, sizeof *s);
    if (!s)
        return NULL;
    *kept = s;
    s->plans = plans;
    s->workspace = oas_cuda_alloc(c, workspace);
    if (!s->workspace || cudnnCreate(&s->library) != CUDNN_STATUS_SUCCESS ||
        cudnnSetStream(s->library, (cudaStream_t)c->stream) != CUDNN_STATUS_SUCCESS) {
        oas_dnn_free(c, kept);
        return NULL;
    }
    return s;
}

void oas_dnn_free(oas_cuda *c, void **kept)
{
    dnn_state *s = *kept;
    if (!s)
        return;
    oas_cuda_plans_free(&s->plans);
    if (s->library)
        cudnnDestroy(s->library);
    oas_cuda_release(c, s->workspace);
    oas_free(s);
    *kept = NULL;
}
