/*
 * The tiny decoder of the TAEHV layout: latents to frames, convolutions over pixels with one frame of memory.
 *
 *     z    3 tanh(z/3), conv -> w0, relu, 3 Mem(w0)       at 1/8
 *     grow 1, enlarge, conv -> w1, 3 Mem(w1)              at 1/4
 *     grow 2, enlarge, conv -> w2, 3 Mem(w2)              at 1/2
 *     grow 2, enlarge, conv -> w3, relu, conv -> 3        at 1;  RGB in [0,1], given out as 2x - 1
 *
 *     Mem(x_t) = relu(x_t + conv4(relu(conv2(relu(conv0([x_t, x_(t-1)]))))));  grow s: a product to s*C channels, which
 *     become s frames.  Growing comes before enlarging, which gives the same for a quarter of the work.
 *
 * The first 3 of a shot's frames are computed, since later ones remember them, and left out.  Weights are named as in
 * the original's list of layers.  Source: the layout of taehv's taew2_1 by way of doc/formulas.md.
 */
#include "net/decoder.h"

#include <stdio.h>

enum { LEVELS = 3, BLOCKS = 3, LAYERS_OF_LEVEL = 6, FRAMES_PER_LATENT = 4 };

static const int grow_frames[LEVELS] = {1, 2, 2};
static const float CLAMP = 3;

typedef struct memory_block {
    conv conv0, conv2, conv4;
} memory_block;

typedef struct level {
    memory_block block[BLOCKS];
    linear grow;
    conv next;
} level;

typedef struct taehv {
    conv conv_in, conv_out;
    level level[LEVELS];
    float minus_one[3];
    tensor offset;
} taehv;

static conv bind_conv(parameter_set *w, int out, int in, int layer, const char *part, bool bias)
{
    conv c = {0};
    c.weight = oas_parameter(w, OAS_MATRIX, OAS_SHAPE4(out, in, 3, 3), "decoder.%d%s.weight", layer, part);
    if (bias)
        c.bias = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(out), "decoder.%d%s.bias", layer, part);
    return c;
}

static void bind_all(taehv *d, const decoder_config *config, parameter_set *w)
{
    d->conv_in = bind_conv(w, config->widths[0], config->latent_channels, 1, "", true);
    for (int i = 0; i < LEVELS; i++) {
        int c = config->widths[i], first = LAYERS_OF_LEVEL * i + 3;
        for (int k = 0; k < BLOCKS; k++)
            d->level[i].block[k] = (memory_block){bind_conv(w, c, 2 * c, first + k, ".conv.0", true),
                                                  bind_conv(w, c, c, first + k, ".conv.2", true),
                                                  bind_conv(w, c, c, first + k, ".conv.4", true)};
        d->level[i].grow.weight = oas_parameter(w, OAS_MATRIX, OAS_SHAPE4(grow_frames[i] * c, c, 1, 1),
                                                "decoder.%d.conv.weight", first + BLOCKS + 1);
        d->level[i].next = bind_conv(w, config->widths[i + 1], c, first + BLOCKS + 2, "", false);
    }
    d->conv_out = bind_conv(w, 3, config->widths[LEVELS], LAYERS_OF_LEVEL * LEVELS + 4, "", true);
    d->minus_one[0] = d->minus_one[1] = d->minus_one[2] = -1;
    d->offset = (tensor){.dtype = OAS_F32, .shape = OAS_SHAPE1(3), .data = d->minus_one};
}

static void *taehv_bind(const decoder_config *config, parameter_set *w)
{
    if (config->n_widths != LEVELS + 1) {
        w->status = oas_fail(&w->message, OASIS_E_MODEL, "%s: a TAEHV decoder has %d widths instead of %d", w->path,
                             config->n_widths, LEVELS + 1);
        return NULL;
    }
    taehv *d = oas_alloc(1, sizeof *d);
    if (!d) {
        w->status = oas_fail_memory(&w->message, sizeof *d, "the decoder");
        return NULL;
    }
    bind_all(d, config, w);
    if (w->status < 0) {
        oas_free(d);
        return NULL;
    }
    return d;
}

static tensor *apply_block(graph *g, const memory_block *b, decoder_state *state, int memory, tensor *x)
{
    size_t mark = oas_graph_mark(g);
    tensor *history = oas_state_history(g, state, memory, x, 1);
    tensor *y = oas_conv(g, x, &b->conv0, history, OAS_RELU, NULL);
    oas_state_remember(g, state, memory, x, 1);
    y = oas_conv(g, y, &b->conv2, NULL, OAS_RELU, NULL);
    y = oas_conv(g, y, &b->conv4, NULL, OAS_LINEAR, x);
    return oas_graph_keep(g, oas_activate(g, y, OAS_RELU), mark);
}

static tensor *taehv_decode(graph *g, const void *net, decoder_state *state, tensor *z, tensor *pixels)
{
    (void)pixels;
    const taehv *d = net;
    bool first = !state || !state->started;
    size_t mark = oas_graph_mark(g);
    tensor *x = oas_conv(g, oas_cast(g, oas_soft_clamp(g, z, CLAMP), g->compute), &d->conv_in, NULL, OAS_RELU, NULL);
    for (int i = 0; i < LEVELS; i++) {
        const level *l = &d->level[i];
        for (int k = 0; k < BLOCKS; k++)
            x = apply_block(g, &l->block[k], state, i * BLOCKS + k, x);
        x = oas_linear(g, x, &l->grow, OAS_LINEAR, NULL, g->compute);
        if (grow_frames[i] > 1)
            x = oas_depth_to_space(g, x, (block_factor){grow_frames[i], 1, 1}, OAS_CHANNEL_FAST, 0, NULL, g->compute);
        oas_activation act = i == LEVELS - 1 ? OAS_RELU : OAS_LINEAR;
        x = oas_graph_sink(g, oas_conv(g, oas_repeat_pixels(g, x), &l->next, NULL, act, NULL), mark);
    }
    x = oas_cast(g, oas_conv(g, x, &d->conv_out, NULL, OAS_LINEAR, NULL), OAS_F32);
    if (state && g->status == OASIS_OK)
        state->started = true;
    if (first && x)
        x = oas_frames(g, x, FRAMES_PER_LATENT - 1, x->shape.size[1] - (FRAMES_PER_LATENT - 1));
    tensor *rgb = oas_add_repeated(g, oas_axpy(g, x, 1, x), (tensor *)(uintptr_t)&d->offset);
    return oas_graph_sink(g, rgb, mark);
}

/* Receptive field in latents: 10 convolutions at 1/8, 10 at 1/4 (5), 10 at 1/2 (2.5), 2 at 1 (0.25). */
enum { TAEHV_HALO = 18 };

const decoder_kind oas_decoder_taehv = {
    .name = "taehv",
    .bind = taehv_bind,
    .free = oas_free,
    .decode = taehv_decode,
    .halo = TAEHV_HALO,
};
