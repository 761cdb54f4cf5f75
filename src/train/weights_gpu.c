/* Weights and their moments on a GPU. */
#include "base/memory.h"
#include "cuda/passes.h"
#include "train/train.h"

#include <math.h>

static float **block(weights *w, int i)
{
    float **blocks[OAS_WEIGHT_BLOCKS] = {&w->master, &w->gradient, &w->moment1, &w->moment2, &w->average};
    return blocks[i];
}

/* Has the tensors show the blocks where they are now. */
static void point_at_blocks(weights *w, oas_place place)
{
    for (int i = 0; i < w->n; i++) {
        const segment *s = &w->segments[i];
        s->tensor->data = w->master + s->begin;
        s->tensor->place = place;
        w->gradients[i].data = w->gradient + s->begin;
        w->gradients[i].place = place;
    }
}

static oasis_status out_of_memory(const weights *w, oasis_message *message)
{
    return oas_fail_memory(message, (size_t)w->count * sizeof(float), "weights and their moments on the GPU");
}

static oasis_status copy_segments(weights *w, oasis_message *message)
{
    cuda_segment *list = oas_alloc((size_t)w->n, sizeof *list);
    w->gpu_segments = oas_cuda_alloc(w->cuda, (size_t)w->n * sizeof *list);
    oasis_status s = list && w->gpu_segments ? OASIS_OK : out_of_memory(w, message);
    for (int i = 0; s == OASIS_OK && i < w->n; i++) {
        const segment *from = &w->segments[i];
        list[i] = (cuda_segment){from->begin, (from->count + 7) / 8 * 8, from->rate, from->decay};
    }
    if (s == OASIS_OK && oas_cuda_upload(w->cuda, w->gpu_segments, list, (size_t)w->n * sizeof *list) < 0)
        s = oas_fail(message, OASIS_E_DEVICE, "weights cannot be copied to the GPU");
    oas_free(list);
    return s;
}

oasis_status oas_weights_to_gpu(weights *w, oas_cuda *cuda, oasis_message *message)
{
    size_t bytes = (size_t)w->count * sizeof(float);
    w->cuda = cuda;
    w->gpu_sums = oas_cuda_alloc(cuda, sizeof(double) + cuda->tables.passes->sum_squares_bytes(cuda, w->count));
    if (!w->gpu_sums)
        return out_of_memory(w, message);
    for (int i = 0; i < OAS_WEIGHT_BLOCKS; i++) {
        float *host = *block(w, i), *there = oas_cuda_alloc(cuda, bytes);
        if (!there)
            return out_of_memory(w, message);
        oasis_status s = oas_cuda_upload(cuda, there, host, bytes);
        w->gpu[i] = *block(w, i) = there;
        oas_free(host);
        if (s < 0)
            return oas_fail(message, s, "weights cannot be copied to the GPU");
    }
    point_at_blocks(w, OAS_DEVICE);
    return copy_segments(w, message);
}

oasis_status oas_weights_visit_host(weights *w, oasis_message *message)
{
    size_t bytes = (size_t)w->count * sizeof(float);
    oasis_status s = OASIS_OK;
    if (!w->cuda)
        return OASIS_OK;
    for (int i = 0; i < OAS_WEIGHT_BLOCKS && s == OASIS_OK; i++) {
        float *host = oas_alloc_unset((size_t)w->count, sizeof *host);
        *block(w, i) = host;
        s = host ? oas_cuda_download(w->cuda, host, w->gpu[i], bytes) : OASIS_E_MEMORY;
    }
    if (s < 0) {
        oas_weights_leave_host(w);
        return oas_fail(message, s, "weights cannot be copied from the GPU: %s", oasis_status_name(s));
    }
    point_at_blocks(w, OAS_HOST);
    return OASIS_OK;
}

void oas_weights_leave_host(weights *w)
{
    for (int i = 0; w->cuda && i < OAS_WEIGHT_BLOCKS; i++) {
        if (*block(w, i) != w->gpu[i])
            oas_free(*block(w, i));
        *block(w, i) = w->gpu[i];
    }
    if (w->cuda)
        point_at_blocks(w, OAS_DEVICE);
}

void oas_weights_free_gpu(weights *w)
{
    for (int i = 0; i < OAS_WEIGHT_BLOCKS; i++) {
        if (w->gpu[i] && *block(w, i) == w->gpu[i])
            *block(w, i) = NULL;
        oas_cuda_release(NULL, w->gpu[i]);
    }
    oas_cuda_release(NULL, w->gpu_segments);
    oas_cuda_release(NULL, w->gpu_sums);
}

double oas_weights_norm_gpu(const weights *w)
{
    const struct cuda_passes *passes = w->cuda->tables.passes;
    double sum;
    if (passes->sum_squares(w->cuda, w->gpu_sums, w->gradient, w->count, w->gpu_sums + 1) < 0 ||
        oas_cuda_download(w->cuda, &sum, w->gpu_sums, sizeof sum) < 0)
        return NAN;
    return sqrt(sum);
}

oasis_status oas_weights_update_gpu(weights *w, const cuda_adamw *how)
{
    return w->cuda->tables.passes->adamw_all(w->cuda, w->master, w->moment1, w->moment2, w->average, NULL, w->gradient,
                                             w->gpu_segments, w->n, w->count, how);
}
