/* Colour descriptions: defaults for untagged pictures, and matrices. */
#include "video/color.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const AVPixFmtDescriptor *describe(enum AVPixelFormat format)
{
    return av_pix_fmt_desc_get(format);
}

bool oas_format_is_rgb(enum AVPixelFormat format)
{
    const AVPixFmtDescriptor *d = describe(format);
    return d && (d->flags & AV_PIX_FMT_FLAG_RGB || d->flags & AV_PIX_FMT_FLAG_PAL);
}

bool oas_format_is_gray(enum AVPixelFormat format)
{
    const AVPixFmtDescriptor *d = describe(format);
    return d && d->nb_components <= 2 && !(d->flags & AV_PIX_FMT_FLAG_PAL);
}

bool oas_format_has_alpha(enum AVPixelFormat format)
{
    const AVPixFmtDescriptor *d = describe(format);
    return d && d->flags & (AV_PIX_FMT_FLAG_ALPHA | AV_PIX_FMT_FLAG_PAL);
}

int oas_format_depth(enum AVPixelFormat format)
{
    const AVPixFmtDescriptor *d = describe(format);
    int depth = 0;
    for (int i = 0; d && i < d->nb_components; i++)
        depth = d->comp[i].depth > depth ? d->comp[i].depth : depth;
    return d && d->flags & AV_PIX_FMT_FLAG_PAL ? 8 : depth;
}

bool oas_format_is_yuvj(enum AVPixelFormat format)
{
    return format == AV_PIX_FMT_YUVJ420P || format == AV_PIX_FMT_YUVJ422P || format == AV_PIX_FMT_YUVJ444P ||
           format == AV_PIX_FMT_YUVJ440P || format == AV_PIX_FMT_YUVJ411P;
}

const char *oas_color_matrix_name(enum AVColorSpace matrix)
{
    const char *name = av_color_space_name(matrix);
    return name && matrix != AVCOL_SPC_UNSPECIFIED ? name : "unknown";
}

/* Appends ", what" or "what" to a note. */
static void add_note(char *note, size_t size, const char *what)
{
    size_t used = strlen(note);
    snprintf(note + used, size - used, "%s%s", used ? ", " : "", what);
}

static void fill_primaries(oas_color *c, bool high, bool lines625, bool srgb, char *note, size_t size)
{
    /* A tagged matrix tells which system the picture is of, whatever its size. */
    bool is_2020 = c->matrix == AVCOL_SPC_BT2020_NCL;
    if (c->matrix == AVCOL_SPC_BT709)
        high = true;
    if (c->matrix == AVCOL_SPC_SMPTE170M || c->matrix == AVCOL_SPC_BT470BG)
        high = false, lines625 = c->matrix == AVCOL_SPC_BT470BG;
    if (c->primaries == AVCOL_PRI_UNSPECIFIED || c->primaries == AVCOL_PRI_RESERVED0) {
        c->primaries = is_2020        ? AVCOL_PRI_BT2020
                       : high || srgb ? AVCOL_PRI_BT709
                       : lines625     ? AVCOL_PRI_BT470BG
                                      : AVCOL_PRI_SMPTE170M;
        if (!srgb)
            add_note(note, size, is_2020 ? "primaries BT.2020" : high ? "primaries BT.709" : "primaries BT.601");
    }
    if (c->transfer == AVCOL_TRC_UNSPECIFIED || c->transfer == AVCOL_TRC_RESERVED0) {
        c->transfer = srgb      ? AVCOL_TRC_IEC61966_2_1
                      : is_2020 ? AVCOL_TRC_BT2020_10
                      : high    ? AVCOL_TRC_BT709
                                : AVCOL_TRC_SMPTE170M; /* the same curve as BT.709 */
        if (!srgb)
            add_note(note, size, "transfer BT.709");
    }
}

void oas_color_fill(oas_color *c, enum AVPixelFormat format, int height, oas_color_origin origin, char *note,
                    size_t note_size)
{
    char assumed[160] = "";
    bool rgb = oas_format_is_rgb(format), gray = oas_format_is_gray(format), yuvj = oas_format_is_yuvj(format);
    bool high = height >= 720, lines625 = height == 576 || height == 288;
    bool srgb = origin == OAS_ORIGIN_PICTURE;
    if (rgb) {
        c->matrix = AVCOL_SPC_RGB;
        high = true;
    } else if (c->matrix == AVCOL_SPC_UNSPECIFIED || c->matrix == AVCOL_SPC_RESERVED) {
        bool jpeg = srgb && yuvj; /* JFIF: always BT.601 */
        c->matrix = high && !jpeg ? AVCOL_SPC_BT709 : lines625 || jpeg ? AVCOL_SPC_BT470BG : AVCOL_SPC_SMPTE170M;
        if (!jpeg && !gray)
            add_note(assumed, sizeof assumed, high ? "matrix BT.709" : "matrix BT.601");
    }
    if (yuvj)
        c->range = AVCOL_RANGE_JPEG;
    if (c->range == AVCOL_RANGE_UNSPECIFIED) {
        c->range = rgb || (gray && srgb) ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
        if (!rgb && !(gray && srgb))
            add_note(assumed, sizeof assumed, "limited range");
    }
    fill_primaries(c, high, lines625, srgb, assumed, sizeof assumed);
    if (c->location == AVCHROMA_LOC_UNSPECIFIED && !rgb && !gray)
        c->location = yuvj || srgb ? AVCHROMA_LOC_CENTER : AVCHROMA_LOC_LEFT;
    if (note_size)
        snprintf(note, note_size, "%s%s", assumed[0] ? "untagged, assumed " : "", assumed);
}

/* Weights of red and blue in luma. */
static bool luma_weights(enum AVColorSpace matrix, double *red, double *blue)
{
    switch (matrix) {
    case AVCOL_SPC_BT709: *red = 0.2126, *blue = 0.0722; return true;
    case AVCOL_SPC_SMPTE170M:
    case AVCOL_SPC_BT470BG: *red = 0.299, *blue = 0.114; return true;
    case AVCOL_SPC_FCC: *red = 0.30, *blue = 0.11; return true;
    case AVCOL_SPC_SMPTE240M: *red = 0.212, *blue = 0.087; return true;
    case AVCOL_SPC_BT2020_NCL: *red = 0.2627, *blue = 0.0593; return true;
    default: return false;
    }
}

bool oas_color_to_rgb(enum AVColorSpace matrix, double m[3][3])
{
    double r, b;
    if (matrix ==
        AVCOL_SPC_RGB) { /* planes of "YUV" hold G, B, R; chroma codes are centred on 1/2, see oas_color_codes */
        double identity[3][3] = {{0, 0, 1}, {1, 0, 0}, {0, 1, 0}};
        memcpy(m, identity, sizeof identity);
        return true;
    }
    if (matrix == AVCOL_SPC_YCGCO) {
        double inverse[3][3] = {{1, -1, 1}, {1, 1, 0}, {1, -1, -1}};
        memcpy(m, inverse, sizeof inverse);
        return true;
    }
    if (!luma_weights(matrix, &r, &b))
        return false;
    double g = 1 - r - b;
    double inverse[3][3] = {
        {1, 0, 2 * (1 - r)},
        {1, -2 * (1 - b) * b / g, -2 * (1 - r) * r / g},
        {1, 2 * (1 - b), 0},
    };
    memcpy(m, inverse, sizeof inverse);
    return true;
}

bool oas_color_from_rgb(enum AVColorSpace matrix, double m[3][3])
{
    double r, b;
    if (matrix == AVCOL_SPC_RGB) {
        double identity[3][3] = {{0, 1, 0}, {0, 0, 1}, {1, 0, 0}};
        memcpy(m, identity, sizeof identity);
        return true;
    }
    if (matrix == AVCOL_SPC_YCGCO) {
        double forward[3][3] = {{0.25, 0.5, 0.25}, {-0.25, 0.5, -0.25}, {0.5, 0, -0.5}};
        memcpy(m, forward, sizeof forward);
        return true;
    }
    if (!luma_weights(matrix, &r, &b))
        return false;
    double g = 1 - r - b, cb = 2 * (1 - b), cr = 2 * (1 - r);
    double forward[3][3] = {
        {r, g, b},
        {-r / cb, -g / cb, (1 - b) / cb},
        {(1 - r) / cr, -g / cr, -b / cr},
    };
    memcpy(m, forward, sizeof forward);
    return true;
}

void oas_color_codes(enum AVColorRange range, bool chroma, int depth, double *offset, double *scale)
{
    if (depth >= 32) {
        *offset = 0;
        *scale = 1;
        return;
    }
    double unit = ldexp(1, depth - 8), top = (double)(((int64_t)1 << depth) - 1);
    if (range == AVCOL_RANGE_JPEG) {
        *offset = chroma ? 128 * unit : 0;
        *scale = top;
    } else {
        *offset = chroma ? 128 * unit : 16 * unit;
        *scale = chroma ? 224 * unit : 219 * unit;
    }
}
