#include "train/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char ROUTES[] = "oasis-routing 1\nlayers 2 heads 4\nwindow 3 3 3 border truncate\nroute 0 giww\nroute 1 giww\n";

oasis_model *tiny_model(bool time)
{
    oasis_message why = {""};
    oasis_model *m = oas_alloc(1, sizeof *m);
    assert_non_null(m);
    m->file.config = (model_config){.latent_channels = TINY_LATENT, .in_dim = 8, .dim = TINY_DIM, .num_heads = 4,
                                    .num_layers = 2, .ffn_dim = 48, .eps = 1e-6, .rope_theta = 100, .sigma = 0.4,
                                    .timestep = 400, .decoder = OAS_DECODER_TINY_CONDITIONAL,
                                    .decoder_channels = {8, 8, 8, 8}, .decoder_widths = 4};
    if (oas_routing_read(&m->file.routing, ROUTES, strlen(ROUTES), "test", &why) < 0)
        fail_msg("%s", why.text);
    m->parameters.create = true;
    m->parameters.path = "test";
    if (time)
        oas_parameters_add(&m->parameters, "time_embedding.0.weight", OAS_F32, OAS_SHAPE2(TINY_DIM, TINY_TIME), NULL);
    if (oas_model_bind(m, &why) < 0)
        fail_msg("%s", why.text);
    graph g = {.backend = OAS_REF};
    assert_true(oas_arena_new(&g.memory, 4 << 20));
    sampler s = {.graph = &g, .state = 7};
    for (int i = 0; i < m->parameters.count; i++) {
        tensor *t = &m->parameters.items[i]->tensor;
        float scale = t->shape.rank > 1 ? 1.5f / sqrtf((float)(oas_count(&t->shape) / t->shape.size[0])) : 0.2f;
        const tensor *values = oas_sample_floats(&s, t->shape, scale);
        memcpy(t->data, values->data, oas_bytes(t));
        if (strstr(m->parameters.items[i]->name, "norm_"))
            for (int64_t k = 0; k < oas_count(&t->shape); k++)
                ((float *)t->data)[k] += 1.f;
        t->needs_grad = true;
    }
    oas_arena_free(&g.memory);
    return m;
}

tensor *tiny_clip(graph *g, bool blur)
{
    tensor *t = oas_tensor(g, OAS_F32, OAS_SHAPE5(1, TINY_FRAMES, TINY_SIDE, TINY_SIDE, 3));
    assert_non_null(t);
    float *to = t->data;
    for (int f = 0; f < TINY_FRAMES; f++)
        for (int y = 0; y < TINY_SIDE; y++)
            for (int x = 0; x < TINY_SIDE; x++)
                for (int c = 0; c < 3; c++) {
                    double coarse = 0.5 * sin(0.2 * (x + f) + c) * cos(0.15 * y - 0.1 * f);
                    double fine = blur ? 0 : 0.4 * sin(1.3 * (x - f) + 0.7 * y + c);
                    *to++ = (float)(coarse + fine);
                }
    return t;
}
