/*
 * Wan2.1's video decoder: latents to frames.
 *
 *     z  * std + mean, conv2 1x1 [16]                              at 1/8, one frame per latent
 *     conv1, residual, attention, residual, 3 residuals  [4b]
 *     double time, enlarge -> [2b]; residual -> [4b], 2 residuals  at 1/4
 *     double time, enlarge -> [2b]; 3 residuals          [2b]      at 1/2
 *     enlarge -> [b]; 3 residuals                        [b]       at 1
 *     norm, silu, conv -> 3
 *
 * Doubling time: the first frame of a shot passes as it is; of later ones a convolution over three of them, which does
 * not see the first, makes two.  Enlarging: every pixel four times, then a 3x3 convolution per frame.
 */
#include "net/wan_vae.h"

#include <stdio.h>

enum { UPSAMPLES = 15, LEVELS = 3 };

/* Between levels. */
typedef struct enlarge {
    linear time; /* [2*in, in, 3, 1, 1]; weight NULL at the last level */
    conv space;  /* [out, in, 3, 3] */
} enlarge;

typedef struct vae {
    wan_scale denormalise;
    linear post;
    conv conv_in, conv_out;
    wan_residual middle[2];
    wan_attention attention;
    wan_residual up[UPSAMPLES]; /* [3], [7], [11] are not used */
    enlarge grow[LEVELS];       /* those */
    tensor *norm_out;
} vae;

static void bind_all(vae *v, int b, const decoder_config *config, parameter_set *w)
{
    static const int level_in[] = {4, 2, 2, 1}, level_out[] = {4, 4, 2, 1}; /* in units of the base */
    const float *mean = config->latent_mean ? config->latent_mean : oas_wan_latent_mean;
    const float *std = config->latent_std ? config->latent_std : oas_wan_latent_std;
    oas_wan_scale_set(&v->denormalise, std, mean);
    v->post = oas_wan_bind_linear(w, OAS_SHAPE5(OAS_WAN_LATENT, OAS_WAN_LATENT, 1, 1, 1), "conv2");
    v->conv_in = oas_wan_bind_conv(w, 4 * b, OAS_WAN_LATENT, "decoder.conv1");
    v->middle[0] = oas_wan_bind_residual(w, 4 * b, 4 * b, "decoder.middle", 0);
    v->attention = oas_wan_bind_attention(w, 4 * b, "decoder.middle.1");
    v->middle[1] = oas_wan_bind_residual(w, 4 * b, 4 * b, "decoder.middle", 2);
    for (int i = 0; i < UPSAMPLES; i++) {
        int level = i / 4, in = level_in[level] * b, out = level_out[level] * b;
        if (i % 4 < 3) {
            v->up[i] = oas_wan_bind_residual(w, out, i % 4 == 0 ? in : out, "decoder.upsamples", i);
            continue;
        }
        char name[64];
        snprintf(name, sizeof name, "decoder.upsamples.%d.resample.1", i);
        linear space = oas_wan_bind_linear(w, OAS_SHAPE4(out / 2, out, 3, 3), name);
        v->grow[level].space = (conv){space.weight, space.bias};
        snprintf(name, sizeof name, "decoder.upsamples.%d.time_conv", i);
        if (level < LEVELS - 1)
            v->grow[level].time = oas_wan_bind_linear(w, OAS_SHAPE5(2 * out, out, 3, 1, 1), name);
    }
    v->norm_out = oas_parameter(w, OAS_VECTOR, OAS_SHAPE4(b, 1, 1, 1), "decoder.head.0.gamma");
    v->conv_out = oas_wan_bind_conv(w, 3, b, "decoder.head.2");
}

static void *vae_bind(const decoder_config *config, parameter_set *w)
{
    if (config->n_widths != 1 || config->latent_channels != OAS_WAN_LATENT) {
        w->status = oas_fail(&w->message, OASIS_E_MODEL,
                             "%s: Wan's decoder has 1 width and %d latent channels, the configuration says %d and %d",
                             w->path, OAS_WAN_LATENT, config->n_widths, config->latent_channels);
        return NULL;
    }
    vae *v = oas_alloc(1, sizeof *v);
    if (!v) {
        w->status = oas_fail_memory(&w->message, sizeof *v, "the decoder");
        return NULL;
    }
    bind_all(v, config->widths[0], config, w);
    if (w->status < 0) {
        oas_free(v);
        return NULL;
    }
    return v;
}

/* Frames after a shot's first become two each; `first`: x begins with that one. */
static tensor *double_time(wan_walk *walk, const linear *layer, tensor *x, bool first)
{
    enum { SEEN = OAS_WAN_TEMPORAL + 1 };
    graph *g = walk->g;
    int memory = walk->next++;
    if (!x)
        return NULL;
    int64_t later = x->shape.size[1] - first;
    tensor *rest = first && later > 0 ? oas_frames(g, x, 1, later) : x, *y = NULL;
    if (later > 0) {
        tensor *history = oas_state_history(g, walk->state, memory, rest, OAS_WAN_TEMPORAL);
        y = oas_stack_frames(g, rest, history, SEEN);
        y = oas_linear(g, y, layer, OAS_LINEAR, NULL, g->compute);
        y = oas_depth_to_space(g, y, (block_factor){2, 1, 1}, OAS_CHANNEL_FAST, 0, NULL, g->compute);
        oas_state_remember(g, walk->state, memory, rest, OAS_WAN_TEMPORAL);
    } else {
        oas_state_clear(g, walk->state, memory, x, OAS_WAN_TEMPORAL);
    }
    if (!first)
        return y;
    return later > 0 ? oas_join_frames(g, oas_frames(g, x, 0, 1), y) : x;
}

/* x at the next level; its storage begins at `mark`, where that of the level before did. */
static tensor *next_level(wan_walk *walk, const enlarge *e, tensor *x, bool first, size_t mark)
{
    graph *g = walk->g;
    if (e->time.weight)
        x = double_time(walk, &e->time, x, first);
    x = oas_conv(g, oas_repeat_pixels(g, x), &e->space, NULL, OAS_LINEAR, NULL);
    return oas_graph_sink(g, x, mark);
}

/* Up to the attention, which sees the whole frame, and the residual after it. */
static tensor *begin(wan_walk *walk, const vae *v, tensor *z)
{
    graph *g = walk->g;
    size_t mark = oas_graph_mark(g);
    tensor *x = oas_linear(g, oas_wan_scale(g, &v->denormalise, z), &v->post, OAS_LINEAR, NULL, OAS_F32);
    x = oas_wan_conv(walk, oas_cast(g, x, g->compute), &v->conv_in, NULL);
    x = oas_wan_residual(walk, &v->middle[0], x);
    x = oas_wan_attention(walk, &v->attention, x);
    return oas_graph_sink(g, oas_wan_residual(walk, &v->middle[1], x), mark);
}

/* Works in place on x. */
static tensor *rest(wan_walk *walk, const vae *v, tensor *x, size_t mark)
{
    graph *g = walk->g;
    bool first = !walk->state || !walk->state->started;
    for (int i = 0; i < UPSAMPLES; i++)
        x = i % 4 < 3 ? oas_wan_residual(walk, &v->up[i], x) : next_level(walk, &v->grow[i / 4], x, first, mark);
    x = oas_wan_conv(walk, oas_channel_norm(g, x, v->norm_out, OAS_SILU, true), &v->conv_out, NULL);
    if (walk->state && g->status == OASIS_OK)
        walk->state->started = true;
    return oas_cast(g, oas_graph_sink(g, x, mark), OAS_F32);
}

static tensor *vae_begin(graph *g, const void *net, decoder_state *state, tensor *z)
{
    return begin(&(wan_walk){g, state, 0}, net, z);
}

static tensor *vae_rest(graph *g, const void *net, decoder_state *state, tensor *x, tensor *pixels)
{
    (void)pixels;
    return rest(&(wan_walk){g, state, 0}, net, x, oas_graph_mark(g));
}

static tensor *vae_decode(graph *g, const void *net, decoder_state *state, tensor *z, tensor *pixels)
{
    (void)pixels;
    wan_walk walk = {g, state, 0};
    size_t mark = oas_graph_mark(g);
    return rest(&walk, net, begin(&walk, net, z), mark);
}

/*
 * Receptive field of the rest in latents: 6 convolutions at 1/8 (6), 7 at 1/4 (3.5), 7 at 1/2 (1.75), 8 at 1 (1).
 */
enum { VAE_HALO = 13 };

const decoder_kind oas_decoder_wan_vae = {
    .name = "wan-vae",
    .bind = vae_bind,
    .free = oas_free,
    .decode = vae_decode,
    .begin = vae_begin,
    .rest = vae_rest,
    .halo = VAE_HALO,
};
