/*
 * Rows of one component of a picture to and from floats that hold code values (0 to 2^depth - 1; floats of float formats
 * as they are).  Any byte- or word-packed or planar format FFmpeg describes, but no palettes, bit streams, Bayer or
 * hardware formats.
 */
#ifndef OAS_VIDEO_PIXELS_H
#define OAS_VIDEO_PIXELS_H

#include "video/media.h"

#include <libavutil/pixdesc.h>

/* How the rows of a component are read and written: a fast loop where samples are whole bytes or words. */
typedef enum oas_access { OAS_ACCESS_U8, OAS_ACCESS_U16, OAS_ACCESS_F32, OAS_ACCESS_ANY } oas_access;

typedef struct oas_component {
    const AVPixFmtDescriptor *format;
    int index; /* in the descriptor: Y, U, V, A or R, G, B, A */
    oas_access access;
    int plane, step, offset, shift; /* of a sample; bytes, bits */
    int depth;                      /* bits; 32 = float */
    int log2_w, log2_h;             /* subsampling */
} oas_component;

/* Whether rows of a format can be read and written here; otherwise it goes through swscale first. */
bool oas_pixels_supported(enum AVPixelFormat format);

oas_component oas_pixels_component(enum AVPixelFormat format, int index);

/*
 * Reads row y (counted in rows of that component) of n samples.
 *   words  scratch, n elements
 *   out    [n]
 */
void oas_pixels_load(const oas_component *c, const AVFrame *frame, int y, int n, uint16_t *words, float *out);

/* Rounds to the nearest code, limits to [0, 2^depth - 1] and writes.  Rows of OAS_ACCESS_ANY formats must be zero before:
 * bits are added to them. */
void oas_pixels_store(const oas_component *c, AVFrame *frame, int y, int n, uint16_t *words, const float *in);

#endif
