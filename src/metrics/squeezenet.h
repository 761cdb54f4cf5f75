/*
 * SqueezeNet 1.1 (Iandola et al. 2016), its weights from a file of ncnn, as features of pictures.
 *
 *   conv1 3x3 stride 2, 64    relu                             -> tap 0
 *   max 3x3 stride 2, fire2 (16, 64), fire3 (16, 64)           -> tap 1, 128 channels
 *   max 3x3 stride 2, fire4 (32, 128), fire5 (32, 128)         -> tap 2, 256
 *   max 3x3 stride 2, fire6 (48, 192)                          -> tap 3, 384
 *   fire7 (48, 192) -> tap 4, 384;  fire8 (64, 256) -> tap 5, 512;  fire9 (64, 256) -> tap 6, 512
 *
 *   fire (s, e): 1x1 to s channels, relu; then 1x1 to e and 3x3 to e side by side, relu.  Maxima take windows that
 *   begin inside and reach over the right and lower border (Caffe's rule).
 */
#ifndef OAS_METRICS_SQUEEZENET_H
#define OAS_METRICS_SQUEEZENET_H

#include "base/threads.h"

enum { OAS_SQUEEZENET_CONVS = 25, OAS_SQUEEZENET_TAPS = 7, OAS_SQUEEZENET_LEAST_SIDE = 31 };

typedef struct squeezenet_conv {
    int in, out, side;
    float *weight; /* [side*side][in][out] */
    float *bias;   /* [out] */
} squeezenet_conv;

typedef struct squeezenet {
    squeezenet_conv conv[OAS_SQUEEZENET_CONVS]; /* conv1, then of each fire: 1x1 to s, 1x1 to e, 3x3 to e */
} squeezenet;

/*
 * Reads NAME.param (text, ncnn's format 7767517) and NAME.bin (weights as float or half) from the path of the first.
 * Both are checked against the network above.  Fails with OASIS_E_IO, OASIS_E_FORMAT, OASIS_E_MEMORY.
 */
oasis_status oas_squeezenet_read(squeezenet *net, const char *param_path, oasis_message *message);
void oas_squeezenet_free(squeezenet *net);

/* What is called with a tap's features, [height][width][channels]; a failure ends the run. */
typedef oasis_status oas_tap_fn(void *user, int tap, int width, int height, int channels, const float *features,
                                oasis_message *message);

/*
 * Runs the network on a picture, RGB [height][width][3] in [0, 1] (it is turned to BGR on 0..255 and loses the means
 * 104, 117, 123), sides of at least OAS_SQUEEZENET_LEAST_SIDE.  The bits do not depend on the pool.
 */
oasis_status oas_squeezenet_run(const squeezenet *net, oas_pool *pool, const float *rgb, int width, int height,
                                oas_tap_fn *tap, void *user, oasis_message *message);

#endif
