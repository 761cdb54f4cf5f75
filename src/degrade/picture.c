/* Pictures between stages: their memory, and where their values lie. */
#include "degrade/gpu.h"
#include "degrade/stage.h"

#include "base/memory.h"

static oasis_status floats_of(int width, int height, size_t *n, oasis_message *message)
{
    if (oas_mul_overflows((size_t)width, (size_t)height, n) || oas_mul_overflows(*n, 3, n))
        return oas_fail(message, OASIS_E_ARGUMENT, "degrade: a picture of %dx%d is too large", width, height);
    return OASIS_OK;
}

static void free_host(picture *p)
{
    if (p->cuda)
        oas_cuda_host_release(p->cuda, p->rgb);
    else
        oas_free(p->rgb);
    p->rgb = NULL;
    p->capacity = 0;
}

oasis_status oas_picture_size(picture *p, int width, int height, oasis_message *message)
{
    size_t n;
    OAS_TRY(floats_of(width, height, &n, message));
    if (n > p->capacity) {
        size_t capacity = p->cuda ? oas_gpu_room(n) : n;
        free_host(p);
        p->rgb = p->cuda ? oas_cuda_host_alloc(p->cuda, capacity * sizeof *p->rgb)
                         : oas_alloc_unset(capacity, sizeof *p->rgb);
        if (!p->rgb)
            return oas_fail_memory(message, capacity * sizeof *p->rgb, "a picture being degraded");
        p->capacity = capacity;
    }
    p->width = width;
    p->height = height;
    p->on_device = false;
    return OASIS_OK;
}

oasis_status oas_picture_size_on_gpu(picture *p, int width, int height, oasis_message *message)
{
    size_t n;
    OAS_TRY(floats_of(width, height, &n, message));
    OAS_TRY(oas_gpu_floats(p->cuda, &p->device, &p->device_capacity, n, message));
    p->width = width;
    p->height = height;
    p->on_device = true;
    return OASIS_OK;
}

/*
 * Pinned memory is read by an upload until the stream has come there.  Nothing writes it before: what a CPU stage writes
 * follows a download, which waits for all that came before.
 */
oasis_status oas_picture_bring(picture *p, bool to_gpu, oasis_message *message)
{
    if (p->on_device == to_gpu)
        return OASIS_OK;
    int width = p->width, height = p->height;
    size_t bytes = (size_t)width * (size_t)height * 3 * sizeof *p->rgb;
    if (to_gpu) {
        OAS_TRY(oas_picture_size_on_gpu(p, width, height, message));
        return oas_gpu_put(oas_cuda_upload(p->cuda, p->device, p->rgb, bytes), "take a picture", message);
    }
    OAS_TRY(oas_picture_size(p, width, height, message));
    return oas_gpu_put(oas_cuda_download(p->cuda, p->rgb, p->device, bytes), "give a picture back", message);
}

void oas_picture_free(picture *p)
{
    free_host(p);
    if (p->cuda)
        oas_cuda_release(p->cuda, p->device);
    *p = (picture){.cuda = p->cuda};
}
