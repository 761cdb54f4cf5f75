/*
 * A small discriminator over space and time, for training only: it scores patches of a clip as true or made, knowing the
 * clip that was to be improved.  Every weight is divided by its largest singular value (Miyato et al. 2018), and
 * convolutions are causal, so that a score depends on the frames up to its own.
 *
 *     [frames, low]  unshuffle 2, conv 3x3 24->w | unshuffle 2, conv 3x3x3 4w->2w | unshuffle 2, conv 3x3x3 8w->4w
 *     at 1/8         conv 3x3x3 4w->4w, 1x1 4w->1;  SiLU after each but the last
 */
#ifndef OAS_NET_DISCRIMINATOR_H
#define OAS_NET_DISCRIMINATOR_H

#include "net/parameters.h"
#include "tensor/ops.h"

enum {
    OAS_DISCRIMINATOR_CONVS = 4,
    OAS_DISCRIMINATOR_LAYERS = OAS_DISCRIMINATOR_CONVS + 1,
    OAS_DISCRIMINATOR_STRIDE = 8
};

/* u, v: first singular vectors of the weight as [out, all else], kept up by whoever moves the weight. */
typedef struct normed_layer {
    tensor *weight, *bias, *u, *v;
} normed_layer;

typedef struct discriminator {
    normed_layer layer[OAS_DISCRIMINATOR_LAYERS]; /* the last one is the 1x1 */
} discriminator;

/* Its layers with weights divided by their norms. */
typedef struct normed_discriminator {
    conv conv[OAS_DISCRIMINATOR_CONVS];
    linear head;
} normed_discriminator;

/* Takes discriminator.LAYER.{weight,bias,u,v} from the set, which says what is missing. */
void oas_discriminator_bind(discriminator *d, int width, parameter_set *weights);

/* Divides.  learns: gradients flow to the weights, else none does.  A failed graph gives layers that later fail too. */
normed_discriminator oas_discriminator_norm(graph *g, const discriminator *d, bool learns);

/*
 * frames, low [B,T,H,W,3] float in [-1,1], H and W multiples of 8 -> scores [B,T,H/8,W/8,1] float.
 *   feature  receives what each convolution makes, compute type; may be NULL
 */
tensor *oas_discriminate(graph *g, const normed_discriminator *d, tensor *frames, tensor *low,
                         tensor *feature[OAS_DISCRIMINATOR_CONVS]);

#endif
