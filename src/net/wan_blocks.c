/* Building blocks of Wan2.1's autoencoder. */
#include "net/wan_vae.h"

#include <stdio.h>

const float oas_wan_latent_mean[OAS_WAN_LATENT] = {-0.7571f, -0.7089f, -0.9113f, 0.1075f,  -0.1745f, 0.9653f,
                                                   -0.1517f, 1.5508f,  0.4134f,  -0.0715f, 0.5517f,  -0.3632f,
                                                   -0.1922f, -0.9497f, 0.2503f,  -0.2921f};
const float oas_wan_latent_std[OAS_WAN_LATENT] = {2.8184f, 1.4541f, 2.3275f, 2.6558f, 1.2196f, 1.7708f, 2.6052f, 2.0743f,
                                                  3.2687f, 2.1526f, 2.8652f, 1.5579f, 1.6382f, 1.1253f, 2.8251f, 1.9160f};

linear oas_wan_bind_linear(parameter_set *w, shape weight, const char *name)
{
    linear l;
    l.weight = oas_parameter(w, OAS_MATRIX, weight, "%s.weight", name);
    l.bias = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(weight.size[0]), "%s.bias", name);
    return l;
}

conv oas_wan_bind_conv(parameter_set *w, int out, int in, const char *name)
{
    linear l = oas_wan_bind_linear(w, OAS_SHAPE5(out, in, 3, 3, 3), name);
    return (conv){l.weight, l.bias};
}

wan_residual oas_wan_bind_residual(parameter_set *w, int out, int in, const char *format, int index)
{
    wan_residual r = {0};
    char block[48], name[80];
    snprintf(block, sizeof block, "%s.%d", format, index);
    r.norm1 = oas_parameter(w, OAS_VECTOR, OAS_SHAPE4(in, 1, 1, 1), "%s.residual.0.gamma", block);
    snprintf(name, sizeof name, "%s.residual.2", block);
    r.conv1 = oas_wan_bind_conv(w, out, in, name);
    r.norm2 = oas_parameter(w, OAS_VECTOR, OAS_SHAPE4(out, 1, 1, 1), "%s.residual.3.gamma", block);
    snprintf(name, sizeof name, "%s.residual.6", block);
    r.conv2 = oas_wan_bind_conv(w, out, out, name);
    snprintf(name, sizeof name, "%s.shortcut", block);
    if (in != out)
        r.shortcut = oas_wan_bind_linear(w, OAS_SHAPE5(out, in, 1, 1, 1), name);
    return r;
}

wan_attention oas_wan_bind_attention(parameter_set *w, int c, const char *name)
{
    wan_attention a;
    char part[80];
    a.norm = oas_parameter(w, OAS_VECTOR, OAS_SHAPE3(c, 1, 1), "%s.norm.gamma", name);
    snprintf(part, sizeof part, "%s.to_qkv", name);
    a.qkv = oas_wan_bind_linear(w, OAS_SHAPE4(3 * c, c, 1, 1), part);
    snprintf(part, sizeof part, "%s.proj", name);
    a.proj = oas_wan_bind_linear(w, OAS_SHAPE4(c, c, 1, 1), part);
    return a;
}

tensor *oas_wan_conv(wan_walk *walk, tensor *x, const conv *layer, tensor *add)
{
    int memory = walk->next++;
    tensor *history = oas_state_history(walk->g, walk->state, memory, x, OAS_WAN_TEMPORAL);
    tensor *y = oas_conv(walk->g, x, layer, history, OAS_LINEAR, add);
    oas_state_remember(walk->g, walk->state, memory, x, OAS_WAN_TEMPORAL);
    return y;
}

tensor *oas_wan_residual(wan_walk *walk, const wan_residual *r, tensor *x)
{
    graph *g = walk->g;
    tensor *skip = x;
    if (r->shortcut.weight)
        skip = oas_linear(g, x, &r->shortcut, OAS_LINEAR, NULL, g->compute);
    size_t mark = oas_graph_mark(g);
    tensor *h = oas_channel_norm(g, x, r->norm1, OAS_SILU, false);
    h = oas_wan_conv(walk, h, &r->conv1, NULL);
    h = oas_channel_norm(g, h, r->norm2, OAS_SILU, true);
    return oas_graph_keep(g, oas_wan_conv(walk, h, &r->conv2, skip), mark);
}

tensor *oas_wan_attention(wan_walk *walk, const wan_attention *a, tensor *x)
{
    graph *g = walk->g;
    if (!x)
        return NULL;
    size_t mark = oas_graph_mark(g);
    shape whole = x->shape;
    int64_t channels = whole.size[4], frames = whole.size[0] * whole.size[1];
    shape rows = OAS_SHAPE2(frames * whole.size[2] * whole.size[3], channels);
    tensor *qkv = oas_linear(g, oas_channel_norm(g, x, a->norm, OAS_LINEAR, false), &a->qkv, OAS_LINEAR, NULL, g->compute);
    tensor *part[3];
    for (int i = 0; i < 3; i++)
        part[i] = oas_view(g, oas_channels(g, qkv, i * channels, channels, g->compute), rows);
    tensor *seen = oas_attend(g, part[0], part[1], part[2], NULL, frames, 1);
    return oas_graph_keep(g, oas_linear(g, oas_view(g, seen, whole), &a->proj, OAS_LINEAR, x, g->compute), mark);
}

void oas_wan_scale_set(wan_scale *s, const float *factor, const float *shift)
{
    *s = (wan_scale){.weight = {.dtype = OAS_F32, .shape = OAS_SHAPE2(OAS_WAN_LATENT, OAS_WAN_LATENT)},
                     .bias = {.dtype = OAS_F32, .shape = OAS_SHAPE1(OAS_WAN_LATENT)}};
    s->weight.data = s->matrix;
    s->bias.data = s->vector;
    for (int i = 0; i < OAS_WAN_LATENT; i++) {
        s->matrix[i * OAS_WAN_LATENT + i] = factor[i];
        s->vector[i] = shift[i];
    }
}

tensor *oas_wan_scale(graph *g, const wan_scale *s, tensor *x)
{
    linear layer = {(tensor *)(uintptr_t)&s->weight, (tensor *)(uintptr_t)&s->bias};
    return oas_linear(g, x, &layer, OAS_LINEAR, NULL, OAS_F32);
}
