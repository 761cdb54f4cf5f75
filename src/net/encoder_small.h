/*
 * The encoder of the small models (doc/decisions.md 16): frames to the latents that training aims at.  It is used by
 * training only, and is not in the shipped file.
 *
 *     per frame   unshuffle 2, conv3 12->24, Res | unshuffle 2, conv1 96->48, Res, Mem | unshuffle 2, conv1 192->64, Mem
 *     groups of 4 frames (frame 0 four times)    256 channels, conv1 -> 128, Mem, Mem, conv3 -> latent channels
 */
#ifndef OAS_NET_ENCODER_SMALL_H
#define OAS_NET_ENCODER_SMALL_H

#include "net/residual.h"

typedef struct encoder {
    conv conv_in;
    residual res2;
    linear down4;
    residual res4, mem4;
    linear down8;
    residual mem8;
    linear stack;
    residual mem_z[2];
    conv conv_out;
} encoder;

/* Takes encoder.* from the set, which says what is missing. */
void oas_encoder_bind(encoder *e, int latent_channels, parameter_set *weights);

/* pixels [B,T,H,W,3] float in [-1,1], T = 1 + 4n, H and W multiples of 8 -> z [B,n+1,H/8,W/8,latent_channels] float. */
tensor *oas_encode(graph *g, const encoder *e, tensor *pixels);

/* The same, and what the network holds on the way: at 1/2 and 1/4 of every frame, at 1/8 with memory, compute type. */
enum { OAS_ENCODER_TAPS = 3 };
tensor *oas_encode_features(graph *g, const encoder *e, tensor *pixels, tensor *tap[OAS_ENCODER_TAPS]);

#endif
