/* Drawing test cases: a 64-bit mix of a counter (splitmix), reduced to small floats. */
#include "tensor/sampler.h"

#include <string.h>

static uint64_t next(sampler *s)
{
    uint64_t z = s->state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void oas_sampler_start(sampler *s, const op *o, int i)
{
    s->state = (uint64_t)i * 1000003u + 17;
    for (const char *c = o->name; *c; c++)
        s->state = s->state * 31 + (unsigned char)*c;
}

int64_t oas_sample_size(sampler *s, int64_t low, int64_t high)
{
    return low + (int64_t)(next(s) % (uint64_t)(high - low + 1));
}

tensor *oas_sample_floats(sampler *s, shape size, float scale)
{
    tensor *t = oas_tensor(s->graph, OAS_F32, size);
    float *away = t && t->place == OAS_DEVICE ? oas_alloc_unset((size_t)oas_count(&size), sizeof *away) : NULL;
    float *values = away ? away : t && t->place == OAS_HOST ? t->data : NULL;
    for (int64_t i = 0, n = oas_count(&size); values && i < n; i++)
        values[i] = scale * (float)((double)(next(s) >> 11) / 4503599627370496. - 1.);
    if (away)
        oas_graph_upload(s->graph, t, away);
    oas_free(away);
    return t;
}

tensor *oas_sample_place(sampler *s, int y, int x)
{
    const float values[] = {(float)y, (float)x};
    tensor *t = oas_tensor(s->graph, OAS_F32, OAS_SHAPE1(2));
    oas_graph_upload(s->graph, t, values);
    return t;
}

/* A tensor on a GPU rounded there, by way of the host. */
static void round_away(sampler *s, tensor *rounded, const tensor *t)
{
    int64_t n = oas_count(&t->shape);
    float *values = oas_alloc_unset((size_t)n, sizeof *values);
    uint16_t *small = oas_alloc_unset((size_t)n, sizeof *values);
    if (values && small && oas_graph_download(s->graph, values, t) == OASIS_OK) {
        oas_convert(small, s->activation, values, OAS_F32, n);
        oas_graph_upload(s->graph, rounded, small);
    }
    oas_free(values);
    oas_free(small);
}

tensor *oas_sample_activation(sampler *s, shape size, float scale)
{
    tensor *t = oas_sample_floats(s, size, scale);
    if (!t || s->activation == OAS_F32)
        return t;
    tensor *rounded = oas_tensor(s->graph, s->activation, size);
    if (rounded && rounded->place == OAS_DEVICE)
        round_away(s, rounded, t);
    else if (rounded)
        oas_convert(rounded->data, s->activation, t->data, OAS_F32, oas_count(&size));
    return rounded;
}
