/*
 * Resampling of float pictures: separable, with half-pixel centres and a replicated border.
 *
 *     output pixel i takes the input around  x = (i + 1/2) * in / out - 1/2
 *
 *   bicubic   Keys' kernel with a given a on 4 taps, never widened: no antialiasing on shrinking (the model file's
 *             a is -0.75: doc/decisions.md 10; the degradations want it so too)
 *   bilinear  2 taps, never widened either
 *   area      the mean of the input over [i in/out, (i+1) in/out), pixels cut by the border counted in part; the same
 *             rule when enlarging, where it blends two neighbours at most
 *
 * The weights of an axis are a table made once, in double; a frame is then two passes over contiguous rows.  Any size
 * from 1x1 works; ratios need not be whole.
 *
 * Padding: the output buffer may be larger than the picture asked for (the network wants multiples of 16).  The extra
 * columns and rows on the right and at the bottom repeat the last one of the picture (doc/decisions.md 9).
 */
#ifndef OAS_IMAGE_RESIZE_H
#define OAS_IMAGE_RESIZE_H

#include "base/threads.h"

typedef enum oas_filter { OAS_FILTER_BICUBIC, OAS_FILTER_BILINEAR, OAS_FILTER_AREA } oas_filter;

typedef struct oas_resize_spec {
    int in_width, in_height;         /* pixels, at least 1 */
    int out_width, out_height;       /* pixels, at least 1 */
    int padded_width, padded_height; /* of the output buffer, at least the output's; 0 = no padding */
    int channels;                    /* interleaved: 3, 1, any number from 1 to 16 */
    oas_filter filter;
    double a; /* of bicubic, -2 to 0: usually -0.75 or -0.5; else unused */
} oas_resize_spec;

typedef struct oas_resizer oas_resizer;

/*
 * Makes the tables and the scratch memory for one pair of sizes.  Fails with OASIS_E_ARGUMENT (a size or the filter out
 * of range) or OASIS_E_MEMORY; *resizer is untouched then.
 */
oasis_status oas_resizer_new(oas_resizer **resizer, const oas_resize_spec *spec, oasis_message *message);
void oas_resizer_free(oas_resizer **resizer);

/* Bytes a resizer of that spec holds; 0 when the spec is out of range. */
size_t oas_resizer_bytes(const oas_resize_spec *spec);

/*
 * out = scale * resampled(in) + offset.  scale 2 and offset -1 take [0, 1] to the network's [-1, 1].
 *   in    [in_height][in_width][channels]
 *   out   [padded_height][padded_width][channels]; must not overlap `in`
 *   pool  may be NULL; the bits do not depend on it
 * A resizer serves one call at a time.
 */
void oas_resize(oas_resizer *resizer, oas_pool *pool, const float *in, float *out, float scale, float offset);

#endif
