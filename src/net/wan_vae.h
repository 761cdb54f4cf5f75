/*
 * The building blocks of Wan2.1's video autoencoder, shared by its encoder and its decoder.
 *
 *     residual   x + conv(silu(norm(conv(silu(norm(x))))))      conv: 3x3x3, causal in time
 *     attention  x + proj(attention of a frame's pixels, one head, (qkv(norm(x))))
 *
 * All convolutions over time see zeros before a shot, and from one call to the next the last frames they saw.
 * Source: Wan2.1 vae.py by way of doc/formulas.md.
 */
#ifndef OAS_NET_WAN_VAE_H
#define OAS_NET_WAN_VAE_H

#include "net/decoder.h"

enum {
    OAS_WAN_LATENT = 16,
    OAS_WAN_BASE = 96,
    OAS_WAN_TEMPORAL = 2 /* frames that a causal convolution remembers */
};

/* The published mean and standard deviation of the latents' channels. */
extern const float oas_wan_latent_mean[OAS_WAN_LATENT], oas_wan_latent_std[OAS_WAN_LATENT];

typedef struct wan_residual {
    tensor *norm1, *norm2; /* [in,1,1,1], [out,1,1,1] */
    conv conv1, conv2;
    linear shortcut; /* weight NULL where in = out */
} wan_residual;

typedef struct wan_attention {
    tensor *norm; /* [C,1,1] */
    linear qkv, proj;
} wan_attention;

/* A pass through one of the two: the graph, the memory, and which memory comes next. */
typedef struct wan_walk {
    graph *g;
    decoder_state *state; /* NULL: a whole shot */
    int next;
} wan_walk;

/* Weights named FORMAT + ".residual.0.gamma" and so on. */
wan_residual oas_wan_bind_residual(parameter_set *w, int out, int in, const char *format, int index);
wan_attention oas_wan_bind_attention(parameter_set *w, int channels, const char *name);
conv oas_wan_bind_conv(parameter_set *w, int out, int in, const char *name); /* 3x3x3 */
linear oas_wan_bind_linear(parameter_set *w, shape weight, const char *name);

/* y = conv(x) + residual, with memory. */
tensor *oas_wan_conv(wan_walk *walk, tensor *x, const conv *layer, tensor *residual);

/* x [B,T,H,W,in] -> [B,T,H,W,out]; in the storage of x where the sizes agree and the graph does not record. */
tensor *oas_wan_residual(wan_walk *walk, const wan_residual *r, tensor *x);
tensor *oas_wan_attention(wan_walk *walk, const wan_attention *a, tensor *x);

/* ---- normalised latents ------------------------------------------------------------------------------------------------ */

/* y = x * factor + shift per channel: a layer with a diagonal matrix. */
typedef struct wan_scale {
    float matrix[OAS_WAN_LATENT * OAS_WAN_LATENT], vector[OAS_WAN_LATENT];
    tensor weight, bias;
} wan_scale;
void oas_wan_scale_set(wan_scale *s, const float *factor, const float *shift);
tensor *oas_wan_scale(graph *g, const wan_scale *s, tensor *x);

/* ---- the encoder --------------------------------------------------------------------------------------------------------- */

typedef struct wan_encoder wan_encoder;

/*
 * The encoder of base width `base` with weights encoder.* and conv1.*; mean and std of the latents (NULL: as published).
 * NULL after failing the set.  Freed with oas_wan_encoder_free.
 */
wan_encoder *oas_wan_encoder_bind(int base, const float *mean, const float *std, parameter_set *weights);
void oas_wan_encoder_free(wan_encoder **encoder);

/*
 * The mean of the latents, normalised: video [B,T,H,W,3] in [-1,1] -> [B,F,H/8,W/8,16], float.  At the start of a shot
 * T = 1+4n gives F = 1+n, later T = 4n gives n.  state NULL: a whole shot.  H and W are multiples of 8.
 */
tensor *oas_wan_encode(graph *g, const wan_encoder *encoder, decoder_state *state, tensor *video);

#endif
