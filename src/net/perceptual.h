/*
 * Networks that were trained on pictures, as judges of how alike two pictures look.  Their weights come from files
 * (metrics/perceptual_file.h) and never move; gradients pass through them.
 *
 *     SqueezeNet 1.1   taps after conv1 and fires 3, 5, 6, 7, 8, 9       64 128 256 384 384 512 512
 *     AlexNet          after each of its five convolutions               64 192 384 256 256
 *     VGG16            after the last convolution of each of its blocks  64 128 256 512 512
 *
 * as in torchvision's `features`, all taps after ReLU.
 */
#ifndef OAS_NET_PERCEPTUAL_H
#define OAS_NET_PERCEPTUAL_H

#include "net/parameters.h"
#include "tensor/ops.h"

typedef enum backbone { OAS_BACKBONE_SQUEEZENET, OAS_BACKBONE_ALEXNET, OAS_BACKBONE_VGG16, OAS_BACKBONES } backbone;

enum { OAS_MOST_TAPS = 7, OAS_MOST_FEATURE_WEIGHTS = 25 };

typedef enum judgement {
    OAS_JUDGE_FEATURES, /* squared differences of directions, the mean over taps: plain SqueezeNet features, not LPIPS */
    OAS_JUDGE_LPIPS,    /* the same with learnt weights of channels, the sum over taps (Zhang et al. 2018, v0.1) */
    OAS_JUDGE_DISTS     /* VGG16 with l2_pool: means and structure of the taps and of the picture (Ding et al. 2020) */
} judgement;

typedef struct judge {
    judgement kind;
    backbone backbone;
    linear input;                           /* 3 to 3 channels: pixels as the network takes them */
    linear picture;                         /* DISTS: pixels in [0,1] */
    linear layer[OAS_MOST_FEATURE_WEIGHTS]; /* convolutions in order; of a fire: squeeze, 1x1, 3x3 */
    tensor *tap_weight[OAS_MOST_TAPS + 1];  /* LPIPS: [C]; DISTS: the picture's and the taps' [2C] */
} judge;

/* Channels of the taps; returns how many taps there are. */
int oas_backbone_taps(backbone b, int channels[OAS_MOST_TAPS]);
const char *oas_backbone_name(backbone b);

/*
 * Takes the weights from the set: features.* as torchvision names them, input.{weight,bias}, picture.{weight,bias} and
 * tap.N.weight.
 */
void oas_judge_bind(judge *j, judgement kind, backbone b, parameter_set *weights);

/* The taps [B,T,h,w,C] of pixels [B,T,H,W,3] float in [-1,1]; compute type.  False when the graph failed. */
bool oas_judge_taps(graph *g, const judge *j, tensor *pixels, tensor *tap[OAS_MOST_TAPS]);

/* Weight times the distance of y from its truth t, [B,T,H,W,3] float in [-1,1], the mean over frames; [1] float. */
tensor *oas_judge(graph *g, const judge *j, tensor *y, tensor *t, float weight);

#endif
