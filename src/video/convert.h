/*
 * Pictures of any pixel format to RGB float frames and back.
 *
 * Between Y'CbCr and R'G'B' with the matrix and range of the description, in float, rounded to the nearest code.
 * Chroma is enlarged by linear interpolation and reduced by the triangle filter of the same width (its adjoint), both
 * about the positions that the chroma location names; borders are replicated.  Formats without direct access to their
 * samples (palettes, bit streams, Bayer, XYZ) are first turned by swscale into RGB of at least their depth.
 */
#ifndef OAS_VIDEO_CONVERT_H
#define OAS_VIDEO_CONVERT_H

#include "video/color.h"

typedef struct oas_converter oas_converter;

/*
 * A converter for frames of one format, size and description (all filled, see oas_color_fill).
 * Fails with OASIS_E_UNSUPPORTED (a matrix without constants; a format that cannot be read), OASIS_E_MEMORY.
 */
oasis_status oas_converter_new(oas_converter **converter, enum AVPixelFormat format, int width, int height,
                               const oas_color *color, oasis_message *message);
void oas_converter_free(oas_converter **converter);

/* Whether the converter is one for such frames. */
bool oas_converter_fits(const oas_converter *converter, enum AVPixelFormat format, int width, int height,
                        const oas_color *color);

/* Fills out->rgb and, where the format has it and out->alpha is there, out->alpha.  `out` has the converter's size. */
oasis_status oas_converter_to_rgb(oas_converter *converter, const AVFrame *in, oasis_frame *out,
                                  oasis_message *message);

/* Fills the planes of `out`, which are allocated and writable.  Alpha is 1 where the frame has none.
 * Values are limited to the codes there are; a pixel with a NaN becomes code 0. */
oasis_status oas_converter_from_rgb(oas_converter *converter, const oasis_frame *in, AVFrame *out,
                                    oasis_message *message);

#endif
