/* The discriminator. */
#include "net/discriminator.h"

static normed_layer bind_layer(parameter_set *w, int index, shape size)
{
    int64_t out = size.size[0], rest = oas_count(&size) / out;
    return (normed_layer){oas_parameter(w, OAS_MATRIX, size, "discriminator.%d.weight", index),
                          oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(out), "discriminator.%d.bias", index),
                          oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(out), "discriminator.%d.u", index),
                          oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(rest), "discriminator.%d.v", index)};
}

void oas_discriminator_bind(discriminator *d, int width, parameter_set *w)
{
    d->layer[0] = bind_layer(w, 0, OAS_SHAPE5(width, 4 * 2 * 3, 1, 3, 3));
    d->layer[1] = bind_layer(w, 1, OAS_SHAPE5(2 * width, 4 * width, 3, 3, 3));
    d->layer[2] = bind_layer(w, 2, OAS_SHAPE5(4 * width, 8 * width, 3, 3, 3));
    d->layer[3] = bind_layer(w, 3, OAS_SHAPE5(4 * width, 4 * width, 3, 3, 3));
    d->layer[4] = bind_layer(w, 4, OAS_SHAPE2(1, 4 * width));
}

normed_discriminator oas_discriminator_norm(graph *g, const discriminator *d, bool learns)
{
    normed_discriminator n;
    for (int i = 0; i < OAS_DISCRIMINATOR_LAYERS; i++) {
        const normed_layer *l = &d->layer[i];
        tensor *weight = oas_spectral_norm(g, learns ? l->weight : oas_detach(g, l->weight), l->u, l->v);
        tensor *bias = learns ? l->bias : oas_detach(g, l->bias);
        if (i < OAS_DISCRIMINATOR_CONVS)
            n.conv[i] = (conv){weight, bias};
        else
            n.head = (linear){weight, bias};
    }
    return n;
}

tensor *oas_discriminate(graph *g, const normed_discriminator *d, tensor *frames, tensor *low,
                         tensor *feature[OAS_DISCRIMINATOR_CONVS])
{
    tensor *x = oas_join_channels(g, frames, low);
    for (int i = 0; i < OAS_DISCRIMINATOR_CONVS; i++) {
        if (i < OAS_DISCRIMINATOR_CONVS - 1) /* half the size, four times the channels */
            x = oas_space_to_depth(g, x, (block_factor){1, 2, 2}, OAS_CHANNEL_SLOW, 0, g->compute);
        x = oas_conv(g, x, &d->conv[i], NULL, OAS_SILU, NULL);
        if (feature)
            feature[i] = x;
    }
    return oas_linear(g, x, &d->head, OAS_LINEAR, NULL, OAS_F32);
}
