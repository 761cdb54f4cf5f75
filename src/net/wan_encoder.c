/*
 * Wan2.1's video encoder: frames to latents.
 *
 *     conv1 3 -> b, 2 residuals                                   [b]   at 1
 *     shrink; residual -> 2b, residual                            [2b]  at 1/2
 *     shrink, halve time; residual -> 4b, residual                [4b]  at 1/4
 *     shrink, halve time; 2 residuals, residual, attention, residual    at 1/8
 *     norm, silu, conv -> 32; conv1 1x1; the first 16, (x - mean) / std
 *
 * Shrinking: a 3x3 convolution per frame at every second pixel, with zeros to the right and below.  It is computed at all
 * pixels, of which those in odd rows and columns are the wanted ones.  Halving time: the first frame of a shot passes as
 * it is; later, frames 2k-2 .. 2k make one.
 */
#include "net/wan_vae.h"

#include <stdio.h>

enum { DOWNSAMPLES = 11, LEVELS = 3 };

typedef struct shrink {
    conv space;  /* [C, C, 3, 3] */
    linear time; /* [C, C, 3, 1, 1]; weight NULL at the first level */
} shrink;

struct wan_encoder {
    conv conv_in, conv_out;
    wan_residual down[DOWNSAMPLES]; /* [2], [5], [8] are not used */
    shrink halve[LEVELS];           /* those */
    wan_residual middle[2];
    wan_attention attention;
    tensor *norm_out;
    linear moments;
    wan_scale normalise;
};

static void bind_all(wan_encoder *e, int b, const float *mean, const float *std, parameter_set *w)
{
    static const int level_in[] = {1, 1, 2, 4}, level_out[] = {1, 2, 4, 4}; /* in units of the base */
    float factor[OAS_WAN_LATENT], shift[OAS_WAN_LATENT];
    for (int i = 0; i < OAS_WAN_LATENT; i++) {
        factor[i] = 1 / std[i];
        shift[i] = -mean[i] / std[i];
    }
    oas_wan_scale_set(&e->normalise, factor, shift);
    e->conv_in = oas_wan_bind_conv(w, b, 3, "encoder.conv1");
    for (int i = 0; i < DOWNSAMPLES; i++) {
        int level = i / 3, in = level_in[level] * b, out = level_out[level] * b;
        if (i % 3 < 2) {
            e->down[i] = oas_wan_bind_residual(w, out, i % 3 == 0 ? in : out, "encoder.downsamples", i);
            continue;
        }
        char name[64];
        snprintf(name, sizeof name, "encoder.downsamples.%d.resample.1", i);
        linear space = oas_wan_bind_linear(w, OAS_SHAPE4(out, out, 3, 3), name);
        e->halve[level].space = (conv){space.weight, space.bias};
        snprintf(name, sizeof name, "encoder.downsamples.%d.time_conv", i);
        if (level > 0)
            e->halve[level].time = oas_wan_bind_linear(w, OAS_SHAPE5(out, out, 3, 1, 1), name);
    }
    e->middle[0] = oas_wan_bind_residual(w, 4 * b, 4 * b, "encoder.middle", 0);
    e->attention = oas_wan_bind_attention(w, 4 * b, "encoder.middle.1");
    e->middle[1] = oas_wan_bind_residual(w, 4 * b, 4 * b, "encoder.middle", 2);
    e->norm_out = oas_parameter(w, OAS_VECTOR, OAS_SHAPE4(4 * b, 1, 1, 1), "encoder.head.0.gamma");
    e->conv_out = oas_wan_bind_conv(w, 2 * OAS_WAN_LATENT, 4 * b, "encoder.head.2");
    e->moments = oas_wan_bind_linear(w, OAS_SHAPE5(2 * OAS_WAN_LATENT, 2 * OAS_WAN_LATENT, 1, 1, 1), "conv1");
}

wan_encoder *oas_wan_encoder_bind(int base, const float *mean, const float *std, parameter_set *w)
{
    wan_encoder *e = oas_alloc(1, sizeof *e);
    if (!e) {
        w->status = oas_fail_memory(&w->message, sizeof *e, "the encoder");
        return NULL;
    }
    bind_all(e, base, mean ? mean : oas_wan_latent_mean, std ? std : oas_wan_latent_std, w);
    if (w->status < 0)
        oas_wan_encoder_free(&e);
    return e;
}

void oas_wan_encoder_free(wan_encoder **encoder)
{
    oas_free(*encoder);
    *encoder = NULL;
}

/* Every second of the frames 1, 3, 5, ... of x, whose number is even. */
static tensor *odd_frames(graph *g, tensor *x)
{
    if (!x)
        return NULL;
    const int64_t *s = x->shape.size;
    int64_t pairs = s[0] * s[1] / 2, batch = s[0], plane = s[2] * s[3];
    shape half = OAS_SHAPE5(batch, s[1] / 2, s[2], s[3], s[4]);
    tensor *y = oas_frames(g, oas_view(g, x, OAS_SHAPE4(pairs, 2, plane, s[4])), 1, 1);
    return oas_view(g, y, half);
}

/* Frames after a shot's first: two become one. */
static tensor *halve_time(wan_walk *walk, const linear *layer, tensor *x, bool first)
{
    enum { SEEN = OAS_WAN_TEMPORAL + 1 };
    graph *g = walk->g;
    int memory = walk->next++;
    if (!x)
        return NULL;
    int64_t later = x->shape.size[1] - first;
    tensor *history = oas_state_history(g, walk->state, memory, x, OAS_WAN_TEMPORAL);
    tensor *y = NULL;
    if (later > 0) {
        y = oas_stack_frames(g, x, history, SEEN);
        if (first) /* frame 0 has no result of its own */
            y = oas_frames(g, y, 1, later);
        y = oas_linear(g, odd_frames(g, y), layer, OAS_LINEAR, NULL, g->compute);
    }
    oas_state_remember(g, walk->state, memory, x, OAS_WAN_TEMPORAL);
    if (!first)
        return y;
    return y ? oas_join_frames(g, oas_frames(g, x, 0, 1), y) : x;
}

static tensor *next_level(wan_walk *walk, const shrink *s, tensor *x, bool first, size_t mark)
{
    graph *g = walk->g;
    tensor *y = oas_conv(g, x, &s->space, NULL, OAS_LINEAR, NULL);
    if (!y)
        return NULL;
    int64_t channels = oas_last(y, 0);
    y = oas_space_to_depth(g, y, (block_factor){1, 2, 2}, OAS_CHANNEL_FAST, 0, g->compute);
    y = oas_channels(g, y, 3 * channels, channels, g->compute);
    if (s->time.weight)
        y = halve_time(walk, &s->time, y, first);
    return oas_graph_sink(g, y, mark);
}

tensor *oas_wan_encode(graph *g, const wan_encoder *e, decoder_state *state, tensor *video)
{
    wan_walk walk = {g, state, 0};
    bool first = !state || !state->started;
    size_t mark = oas_graph_mark(g);
    tensor *x = oas_wan_conv(&walk, oas_cast(g, video, g->compute), &e->conv_in, NULL);
    for (int i = 0; i < DOWNSAMPLES; i++)
        x = i % 3 < 2 ? oas_wan_residual(&walk, &e->down[i], x) : next_level(&walk, &e->halve[i / 3], x, first, mark);
    x = oas_wan_residual(&walk, &e->middle[0], x);
    x = oas_wan_attention(&walk, &e->attention, x);
    x = oas_wan_residual(&walk, &e->middle[1], x);
    x = oas_wan_conv(&walk, oas_channel_norm(g, x, e->norm_out, OAS_SILU, true), &e->conv_out, NULL);
    if (state && g->status == OASIS_OK)
        state->started = true;
    if (!x)
        return NULL;
    x = oas_linear(g, x, &e->moments, OAS_LINEAR, NULL, OAS_F32);
    return oas_graph_sink(g, oas_wan_scale(g, &e->normalise, oas_channels(g, x, 0, OAS_WAN_LATENT, OAS_F32)), mark);
}
