/* Pictures around the network: cutting finished frames out of what was decoded. */
#include "cuda/passes.h"
#include "upscale.h"

typedef struct crop_task {
    const upscale_sizes *sizes;
    const float *from;
    float *to;
} crop_task;

enum { CROP_ROWS = 32 };

static void crop_slab(void *arg, int64_t slab, int worker)
{
    (void)worker;
    const crop_task *t = arg;
    int64_t begin = slab * CROP_ROWS, end = begin + CROP_ROWS, values = (int64_t)t->sizes->out_width * 3;
    for (int64_t y = begin; y < end && y < t->sizes->out_height; y++) {
        const float *from = t->from + y * t->sizes->padded_width * 3;
        float *to = t->to + y * values;
        for (int64_t i = 0; i < values; i++)
            to[i] = 0.5f * from[i] + 0.5f;
    }
}

static void crop_on_gpu(graph *g, const upscale_sizes *s, const float *from, float *to)
{
    oasis_status status = g->cuda->tables.passes->finish(
        g->cuda, (cuda_array){to, OAS_F32}, (cuda_array){(void *)(uintptr_t)from, OAS_F32}, 1, s->padded_height,
        s->padded_width, s->out_height, s->out_width);
    if (status < 0)
        oas_graph_fail(g, status, "finishing a frame on the GPU failed");
}

void oas_crop_frame(graph *g, const upscale_sizes *s, const float *from, float *to)
{
    crop_task t = {s, from, to};
    if (g->cuda)
        crop_on_gpu(g, s, from, to);
    else
        oas_pool_run(g->device->pool, (s->out_height + CROP_ROWS - 1) / CROP_ROWS, crop_slab, &t);
}
