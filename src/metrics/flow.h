/*
 * Dense optical flow, our own: pyramidal Lucas-Kanade, a window of 9x9 about every pixel, with a median of 3x3 after
 * each level.  Good to some hundredths of a pixel on smooth motion of textured pictures; it smears over edges of motion
 * by half a window.  Whatever is measured with it is called "own flow" and is no published number.
 *
 * At each level, from coarse to fine, repeatedly (B. Lucas, T. Kanade 1981; J.-Y. Bouguet 2000), the motion d that fits
 * the whole window best when every pixel x of it starts from its own f(x):
 *     sum of g g^T d = - sum of g r(x),   r(x) = b(x + f(x)) - a(x) - g^T f(x),   g = gradient at x
 * (Adding steps to f pixel by pixel instead diverges: a ragged field makes the gradients of the warped picture ragged.)
 */
#ifndef OAS_METRICS_FLOW_H
#define OAS_METRICS_FLOW_H

#include "metrics/metric.h"

typedef struct oas_flow oas_flow;

oasis_status oas_flow_new(oas_flow **flow, int width, int height, oasis_message *message);
void oas_flow_free(oas_flow **flow);

/*
 * field: where each pixel of `a` is in `b`, as an offset.
 *   a, b  [height][width] luma on 0..255
 * Fails with OASIS_E_MEMORY.  The bits do not depend on the pool.
 */
oasis_status oas_flow_run(oas_flow *flow, oas_pool *pool, const float *a, const float *b, flow_field *field,
                          oasis_message *message);

/* The value of a picture of interleaved channels at (x, y) between pixels, bilinear; (x, y) is held inside. */
static inline float oas_bilinear(const float *picture, int width, int height, int channels, int c, float x, float y)
{
    x = x > 0 ? x < (float)(width - 1) ? x : (float)(width - 1) : 0;
    y = y > 0 ? y < (float)(height - 1) ? y : (float)(height - 1) : 0;
    int i = (int)x, j = (int)y;
    int right = i + 1 < width ? channels : 0;
    size_t down = j + 1 < height ? (size_t)width * (size_t)channels : 0;
    const float *p = picture + ((size_t)j * (size_t)width + (size_t)i) * (size_t)channels + c;
    float s = x - (float)i, t = y - (float)j;
    float top = p[0] + s * (p[right] - p[0]), bottom = p[down] + s * (p[down + (size_t)right] - p[down]);
    return top + t * (bottom - top);
}

/*
 * Mean over what is seen in both frames of (b(x + f) - a(x))^2, f = forward; pixels count when
 *     x + f lies inside,  |w + f|^2 <= 0.01 (|w|^2 + |f|^2) + 0.5 with w = backward(x + f),
 *     and |grad u|^2 + |grad v|^2 <= 0.01 |f|^2 + 0.002
 * 0 when none does.  a, b [height][width][3].  Source: Lai et al., Learning blind video temporal consistency (2018).
 */
oasis_status oas_warp_error(oas_pool *pool, int width, int height, const float *a, const float *b,
                            const flow_field *forward, const flow_field *backward, double *error,
                            oasis_message *message);

#endif
