/* The encoder of the small models. */
#include "net/encoder_small.h"

enum { C2 = 24, C4 = 48, C8 = 64, CZ = 128, GROUP = 4 };

void oas_encoder_bind(encoder *e, int latent_channels, parameter_set *w)
{
    e->conv_in = oas_bind_conv(w, C2, 3 * 4, "encoder.conv_in");
    e->res2 = oas_bind_residual(w, C2, 1, "encoder.res2");
    e->down4 = oas_bind_1x1(w, C4, 4 * C2, "encoder.down4");
    e->res4 = oas_bind_residual(w, C4, 1, "encoder.res4");
    e->mem4 = oas_bind_residual(w, C4, 2, "encoder.mem4");
    e->down8 = oas_bind_1x1(w, C8, 4 * C4, "encoder.down8");
    e->mem8 = oas_bind_residual(w, C8, 2, "encoder.mem8");
    e->stack = oas_bind_1x1(w, CZ, GROUP * C8, "encoder.stack");
    e->mem_z[0] = oas_bind_residual(w, CZ, 2, "encoder.mem_z.0");
    e->mem_z[1] = oas_bind_residual(w, CZ, 2, "encoder.mem_z.1");
    e->conv_out = oas_bind_conv(w, latent_channels, CZ, "encoder.conv_out");
}

/* Half the size, four times the channels. */
static tensor *halved(graph *g, tensor *x)
{
    return oas_space_to_depth(g, x, (block_factor){1, 2, 2}, OAS_CHANNEL_SLOW, 0, g->compute);
}

tensor *oas_encode(graph *g, const encoder *e, tensor *pixels)
{
    tensor *tap[OAS_ENCODER_TAPS];
    return oas_encode_features(g, e, pixels, tap);
}

tensor *oas_encode_features(graph *g, const encoder *e, tensor *pixels, tensor *tap[OAS_ENCODER_TAPS])
{
    tensor *x = oas_conv(g, halved(g, pixels), &e->conv_in, NULL, OAS_LINEAR, NULL);
    tap[0] = x = oas_residual(g, &e->res2, NULL, x);
    x = oas_linear(g, halved(g, x), &e->down4, OAS_LINEAR, NULL, g->compute);
    tap[1] = x = oas_residual(g, &e->mem4, NULL, oas_residual(g, &e->res4, NULL, x));
    x = oas_linear(g, halved(g, x), &e->down8, OAS_LINEAR, NULL, g->compute);
    tap[2] = x = oas_residual(g, &e->mem8, NULL, x);
    x = oas_space_to_depth(g, x, (block_factor){GROUP, 1, 1}, OAS_CHANNEL_FAST, GROUP - 1, g->compute);
    x = oas_linear(g, x, &e->stack, OAS_LINEAR, NULL, g->compute);
    for (int i = 0; i < 2; i++)
        x = oas_residual(g, &e->mem_z[i], NULL, x);
    return oas_cast(g, oas_conv(g, x, &e->conv_out, NULL, OAS_LINEAR, NULL), OAS_F32);
}
