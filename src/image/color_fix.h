/*
 * Colour correction: gives a result the colours of the picture it was made from.
 *
 *   wavelet  out = details of the result + low frequencies of the reference.  The low frequencies are five blurs in a
 *            row, level i with [1 2 1]^T [1 2 1] / 16 whose taps lie 2^i pixels apart, border replicated
 *            (the "a trous" wavelet with a B1 spline; Holschneider et al. 1989).
 *   AdaIN    per channel (x - mean_x) / sd_x * sd_y + mean_y with sd = sqrt(variance + 1e-5), the variance being the
 *            mean of squares (Huang and Belongie 2017, applied to pixels).
 *
 * Both are written from these formulas.
 */
#ifndef OAS_IMAGE_COLOR_FIX_H
#define OAS_IMAGE_COLOR_FIX_H

#include "base/threads.h"

enum { OAS_COLOR_FIX_LEVELS = 5 };

/* How many floats of scratch memory a picture needs; 0 for OASIS_COLOR_FIX_NONE. */
size_t oas_color_fix_scratch(oasis_color_fix kind, int width, int height, const oas_pool *pool);

/*
 * Corrects `rgb` in place.
 *   rgb, reference  [height][width][3], of one value range ([0, 1]); not clipped
 *   scratch         as many floats as oas_color_fix_scratch says, contents unimportant
 *   pool            may be NULL; the bits do not depend on it
 */
void oas_color_fix(oasis_color_fix kind, oas_pool *pool, int width, int height, float *rgb, const float *reference,
                   float *scratch);

#endif
