/* The timestep's part of the modulations. */
#include "net/time_embedding.h"

#include <math.h>

void oas_time_embedding_bind(time_embedding *t, int frequencies, int dim, parameter_set *w)
{
    t->frequencies = frequencies;
    t->first.weight = oas_parameter(w, OAS_MATRIX, OAS_SHAPE2(dim, frequencies), "time_embedding.0.weight");
    t->first.bias = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(dim), "time_embedding.0.bias");
    t->second.weight = oas_parameter(w, OAS_MATRIX, OAS_SHAPE2(dim, dim), "time_embedding.2.weight");
    t->second.bias = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(dim), "time_embedding.2.bias");
    t->projection.weight = oas_parameter(w, OAS_MATRIX, OAS_SHAPE2(6 * dim, dim), "time_projection.1.weight");
    t->projection.bias = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(6 * dim), "time_projection.1.bias");
}

struct wave_key {
    double timestep;
    int32_t n;
};

static oasis_status make_waves(void *arg, void *to)
{
    const struct wave_key *w = arg;
    float *values = to;
    for (int k = 0; k < w->n / 2; k++) {
        double angle = w->timestep * pow(10000, -(double)k / (w->n / 2));
        values[k] = (float)cos(angle);
        values[w->n / 2 + k] = (float)sin(angle);
    }
    return OASIS_OK;
}

static tensor *waves(graph *g, int n, double timestep)
{
    struct wave_key w = {timestep, n};
    return oas_graph_table(g, NULL, &(pack_key){"waves"}, OAS_SHAPE2(1, n), make_waves, &w);
}

time_values oas_time_embed(graph *g, const time_embedding *t, double timestep)
{
    time_values v = {NULL, NULL};
    if (t->frequencies == 0)
        return v;
    tensor *hidden = oas_linear(g, waves(g, t->frequencies, timestep), &t->first, OAS_SILU, NULL, OAS_F32);
    v.e = oas_linear(g, hidden, &t->second, OAS_LINEAR, NULL, OAS_F32);
    if (v.e) /* a copy, since activations work in place */
        v.e0 = oas_activate(g, oas_channels(g, v.e, 0, oas_last(v.e, 0), OAS_F32), OAS_SILU);
    v.e0 = oas_linear(g, v.e0, &t->projection, OAS_LINEAR, NULL, OAS_F32);
    return v;
}

tensor *oas_time_modulate(graph *g, tensor *modulation, tensor *values)
{
    if (!values)
        return modulation;
    /* A copy, since the sum works in place. */
    return oas_add_repeated(g, oas_frames(g, modulation, 0, modulation->shape.size[1]), values);
}
