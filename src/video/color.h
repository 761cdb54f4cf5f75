/*
 * Colour description of a picture: which matrix, range, primaries, transfer curve and chroma position its numbers have,
 * what to assume where a file does not say, and the matrices themselves.
 *
 * Sources: ITU-T H.273 (code points), BT.601, BT.709, BT.2020, SMPTE 240M, FCC 47 CFR 73.682.
 */
#ifndef OAS_VIDEO_COLOR_H
#define OAS_VIDEO_COLOR_H

#include "video/media.h"

#include <libavutil/pixdesc.h>

typedef struct oas_color {
    enum AVColorSpace matrix;
    enum AVColorRange range;
    enum AVColorPrimaries primaries;
    enum AVColorTransferCharacteristic transfer;
    enum AVChromaLocation location; /* of the first chroma sample */
} oas_color;

/* Where pictures of a format come from: decides what "untagged" means. */
typedef enum oas_color_origin { OAS_ORIGIN_VIDEO, OAS_ORIGIN_PICTURE } oas_color_origin;

/*
 * Fills what is unspecified in *color for a picture of `format` and `height` rows, as players do: matrix, primaries and
 * transfer of BT.601 (625 lines for 576 and 288 rows, else 525) below 720 rows and of BT.709 from there on; range
 * limited, but full for RGB, yuvj formats and grey pictures; chroma to the left, but centred in JPEG (full range).  RGB
 * has no matrix, and the curve of sRGB when it is a picture.
 *   note  receives in words what was assumed, "" when nothing
 */
void oas_color_fill(oas_color *color, enum AVPixelFormat format, int height, oas_color_origin origin, char *note,
                    size_t note_size);

/*
 * The matrix between R'G'B' in [0, 1] and Y' in [0, 1], Cb, Cr in [-1/2, 1/2] (ycgco: Cg, Co).  A kind without
 * constants (ICtCp, constant luminance, ...) gives false.
 */
bool oas_color_to_rgb(enum AVColorSpace matrix, double to_rgb[3][3]);
bool oas_color_from_rgb(enum AVColorSpace matrix, double from_rgb[3][3]);

/*
 * Code values of a component: code = offset + scale * value.
 *   chroma  value in [-1/2, 1/2] instead of [0, 1]
 *   depth   bits; 32 = float (offset 0, scale 1)
 */
void oas_color_codes(enum AVColorRange range, bool chroma, int depth, double *offset, double *scale);

/* FFmpeg's name, "unknown" where unspecified. */
const char *oas_color_matrix_name(enum AVColorSpace matrix);

/* Whether alpha, RGB, grey: by descriptor. */
bool oas_format_is_rgb(enum AVPixelFormat format);
bool oas_format_is_gray(enum AVPixelFormat format);
bool oas_format_has_alpha(enum AVPixelFormat format);
int oas_format_depth(enum AVPixelFormat format); /* bits of the deepest component */
bool oas_format_is_yuvj(enum AVPixelFormat format);

#endif
