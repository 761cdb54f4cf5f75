/*
 * Pixel formats to RGB float and back, against the formulas of H.273 and the filters of convert.h in plain double, one
 * pixel at a time.
 */
#include "video/convert.h"
#include "video/pixels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <libavutil/pixdesc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Float arithmetic on codes up to 65535: a few units of 2^-24 times the largest coefficient, 2.1, and chroma offset. */
static const double RGB_TOLERANCE = 3e-6;
/* The exact value rounds to the code written, but where it lies within this of the middle between two codes; 16-bit codes
 * near 65535 have a float spacing of 2^-8. */
static const double HALF_TOLERANCE = 0.02;
/* What a wrong matrix, range or chroma position must at least make of a random picture. */
static const double MUTATION = 0.01;

static uint32_t seed = 1;

static double uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) / 16777216.0;
}

/* ---- the definition ----------------------------------------------------------------------------------------------- */

typedef struct picture { /* code values of up to 4 components, each with its own size */
    int n, w[4], h[4], depth[4];
    double *v[4];
} picture;

static bool is_chroma(const AVPixFmtDescriptor *d, int k)
{
    return !(d->flags & AV_PIX_FMT_FLAG_RGB) && d->nb_components >= 3 && (k == 1 || k == 2);
}

static picture new_picture(enum AVPixelFormat format, int w, int h)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    picture p = {.n = d->nb_components};
    for (int k = 0; k < p.n; k++) {
        p.w[k] = is_chroma(d, k) ? -(-w >> d->log2_chroma_w) : w;
        p.h[k] = is_chroma(d, k) ? -(-h >> d->log2_chroma_h) : h;
        p.depth[k] = d->comp[k].depth;
        p.v[k] = calloc((size_t)p.w[k] * (size_t)p.h[k], sizeof(double));
    }
    return p;
}

static void free_picture(picture *p)
{
    for (int k = 0; k < p->n; k++)
        free(p->v[k]);
}

static double at(const picture *p, int k, int x, int y)
{
    x = x < 0 ? 0 : x >= p->w[k] ? p->w[k] - 1 : x;
    y = y < 0 ? 0 : y >= p->h[k] ? p->h[k] - 1 : y;
    return p->v[k][(size_t)y * (size_t)p->w[k] + (size_t)x];
}

static AVFrame *new_frame(enum AVPixelFormat format, int w, int h)
{
    AVFrame *f = av_frame_alloc();
    f->format = format;
    f->width = w;
    f->height = h;
    assert_true(av_frame_get_buffer(f, 0) >= 0);
    for (int i = 0; i < 4 && f->buf[i]; i++)
        memset(f->buf[i]->data, 0, f->buf[i]->size);
    return f;
}

static bool is_float(const AVPixFmtDescriptor *d)
{
    return d->flags & AV_PIX_FMT_FLAG_FLOAT;
}

/* Copies between a picture and a frame through FFmpeg's own access. */
static void exchange(picture *p, AVFrame *f, bool to_frame)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(f->format);
    for (int k = 0; k < p->n; k++) {
        for (int y = 0; y < p->h[k]; y++) {
            uint32_t line[256];
            double *row = p->v[k] + (size_t)y * (size_t)p->w[k];
            if (!to_frame)
                av_read_image_line2(line, (const uint8_t **)(const void *)f->data, f->linesize, d, 0, y, k, p->w[k], 0,
                                    4);
            for (int x = 0; x < p->w[k]; x++) {
                float value = (float)row[x];
                if (to_frame && is_float(d))
                    memcpy(&line[x], &value, 4);
                else if (to_frame)
                    line[x] = (uint32_t)row[x];
                else if (is_float(d))
                    memcpy(&value, &line[x], 4), row[x] = value;
                else
                    row[x] = line[x];
            }
            if (to_frame)
                av_write_image_line2(line, f->data, f->linesize, d, 0, y, k, p->w[k], 4);
        }
    }
}

static void weights(enum AVColorSpace m, double *r, double *b)
{
    *r = m == AVCOL_SPC_BT709        ? 0.2126
         : m == AVCOL_SPC_BT2020_NCL ? 0.2627
         : m == AVCOL_SPC_FCC        ? 0.30
         : m == AVCOL_SPC_SMPTE240M  ? 0.212
                                     : 0.299;
    *b = m == AVCOL_SPC_BT709        ? 0.0722
         : m == AVCOL_SPC_BT2020_NCL ? 0.0593
         : m == AVCOL_SPC_FCC        ? 0.11
         : m == AVCOL_SPC_SMPTE240M  ? 0.087
                                     : 0.114;
}

/* Code to value and back: H.273 8.3. */
static double value_of(double code, int depth, bool chroma, bool full, bool real)
{
    double u = pow(2, depth - 8), top = pow(2, depth) - 1;
    if (real)
        return code;
    if (full)
        return chroma ? (code - 128 * u) / top : code / top;
    return chroma ? (code - 128 * u) / (224 * u) : (code - 16 * u) / (219 * u);
}

static double code_of(double value, int depth, bool chroma, bool full, bool real)
{
    double u = pow(2, depth - 8), top = pow(2, depth) - 1;
    if (real)
        return value;
    if (full)
        return chroma ? value * top + 128 * u : value * top;
    return chroma ? value * 224 * u + 128 * u : value * 219 * u + 16 * u;
}

/* Position of the first chroma sample among the full-size ones. */
static void position(enum AVChromaLocation l, int fw, int fh, double *x, double *y)
{
    bool left = l == AVCHROMA_LOC_LEFT || l == AVCHROMA_LOC_TOPLEFT || l == AVCHROMA_LOC_BOTTOMLEFT;
    bool top = l == AVCHROMA_LOC_TOP || l == AVCHROMA_LOC_TOPLEFT;
    bool bottom = l == AVCHROMA_LOC_BOTTOM || l == AVCHROMA_LOC_BOTTOMLEFT;
    *x = left ? 0 : (fw - 1) / 2.0;
    *y = top ? 0 : bottom ? fh - 1 : (fh - 1) / 2.0;
}

/* RGB of one pixel. */
static void define_rgb(const picture *p, enum AVPixelFormat format, const oas_color *c, int x, int y, double rgb[3])
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    bool full = c->range == AVCOL_RANGE_JPEG, real = is_float(d);
    double v[3];
    for (int k = 0; k < 3; k++) {
        int i = p->n < 3 ? 0 : k;
        double code = at(p, i, x, y);
        if (is_chroma(d, i)) {
            int fw = 1 << d->log2_chroma_w, fh = 1 << d->log2_chroma_h;
            double ox, oy;
            position(c->location, fw, fh, &ox, &oy);
            double cx = (x - ox) / fw, cy = (y - oy) / fh, tx = cx - floor(cx), ty = cy - floor(cy);
            int ix = (int)floor(cx), iy = (int)floor(cy);
            code = (1 - ty) * ((1 - tx) * at(p, i, ix, iy) + tx * at(p, i, ix + 1, iy)) +
                   ty * ((1 - tx) * at(p, i, ix, iy + 1) + tx * at(p, i, ix + 1, iy + 1));
        }
        v[k] = value_of(code, p->depth[i], is_chroma(d, i) && c->matrix != AVCOL_SPC_RGB, full, real);
    }
    if (d->flags & AV_PIX_FMT_FLAG_RGB || p->n < 3) {
        memcpy(rgb, v, sizeof v);
    } else if (c->matrix == AVCOL_SPC_RGB) {
        rgb[0] = v[2], rgb[1] = v[0], rgb[2] = v[1];
    } else if (c->matrix == AVCOL_SPC_YCGCO) {
        rgb[0] = v[0] - v[1] + v[2], rgb[1] = v[0] + v[1], rgb[2] = v[0] - v[1] - v[2];
    } else {
        double r, b;
        weights(c->matrix, &r, &b);
        rgb[0] = v[0] + 2 * (1 - r) * v[2];
        rgb[2] = v[0] + 2 * (1 - b) * v[1];
        rgb[1] = (v[0] - r * rgb[0] - b * rgb[2]) / (1 - r - b);
    }
}

/* Y', Cb, Cr (or R, G, B; Y') of one pixel of a frame. */
static void define_yuv(const oasis_frame *f, bool rgb, const oas_color *c, int x, int y, double v[3])
{
    x = x < 0 ? 0 : x >= f->width ? f->width - 1 : x;
    y = y < 0 ? 0 : y >= f->height ? f->height - 1 : y;
    const float *p = f->rgb + 3 * ((size_t)y * (size_t)f->width + (size_t)x);
    double red = p[0], green = p[1], blue = p[2], r, b;
    if (rgb) {
        v[0] = red, v[1] = green, v[2] = blue;
        return;
    }
    if (c->matrix == AVCOL_SPC_RGB) {
        v[0] = green, v[1] = blue, v[2] = red;
        return;
    }
    if (c->matrix == AVCOL_SPC_YCGCO) {
        v[0] = red / 4 + green / 2 + blue / 4, v[1] = -red / 4 + green / 2 - blue / 4, v[2] = red / 2 - blue / 2;
        return;
    }
    weights(c->matrix, &r, &b);
    v[0] = r * red + (1 - r - b) * green + b * blue;
    v[1] = (blue - v[0]) / (2 * (1 - b));
    v[2] = (red - v[0]) / (2 * (1 - r));
}

/* The exact, unrounded code of component k at its sample (i, j): triangle of width 2 f about the chroma position. */
static double define_code(const oasis_frame *f, const picture *p, enum AVPixelFormat format, const oas_color *c, int k,
                          int i, int j)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    bool rgb = d->flags & AV_PIX_FMT_FLAG_RGB, chroma = is_chroma(d, k);
    double v[3], sum = 0, total = 0, ox = 0, oy = 0;
    int fw = chroma ? 1 << d->log2_chroma_w : 1, fh = chroma ? 1 << d->log2_chroma_h : 1;
    if (chroma)
        position(c->location, fw, fh, &ox, &oy);
    for (int y = fh * j - fh; y <= fh * j + 2 * fh; y++) {
        for (int x = fw * i - fw; x <= fw * i + 2 * fw; x++) {
            double wx = 1 - fabs(x - (fw * i + ox)) / fw, wy = 1 - fabs(y - (fh * j + oy)) / fh;
            if (wx <= 0 || wy <= 0)
                continue;
            define_yuv(f, rgb, c, x, y, v);
            sum += wx * wy * v[k];
            total += wx * wy;
        }
    }
    return code_of(sum / total, p->depth[k], chroma && c->matrix != AVCOL_SPC_RGB, c->range == AVCOL_RANGE_JPEG,
                   is_float(d));
}

/* ---- comparing ---------------------------------------------------------------------------------------------------- */

static oas_color color_of(enum AVColorSpace m, enum AVColorRange r, enum AVChromaLocation l)
{
    return (oas_color){m, r, AVCOL_PRI_BT709, AVCOL_TRC_BT709, l};
}

/* Greatest difference between the converter with *used and the definition with *meant, on a random picture. */
static double compare_reading(enum AVPixelFormat format, const oas_color *used, const oas_color *meant, int w, int h)
{
    oas_converter *converter = NULL;
    oasis_message why = {""};
    if (oas_converter_new(&converter, format, w, h, used, &why) != OASIS_OK)
        fail_msg("%s: %s", av_get_pix_fmt_name(format), why.text);
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    AVFrame *frame = new_frame(format, w, h);
    picture p = new_picture(format, w, h);
    for (int k = 0; k < p.n; k++)
        for (int i = 0; i < p.w[k] * p.h[k]; i++)
            p.v[k][i] = is_float(d) ? (double)(float)uniform() : floor(uniform() * pow(2, p.depth[k]));
    exchange(&p, frame, true);
    oasis_frame out;
    assert_int_equal(oasis_frame_new(&out, w, h, true), OASIS_OK);
    assert_int_equal(oas_converter_to_rgb(converter, frame, &out, &why), OASIS_OK);
    double worst = 0;
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++) {
            double rgb[3];
            size_t i = (size_t)y * (size_t)w + (size_t)x;
            define_rgb(&p, format, meant, x, y, rgb);
            for (int k = 0; k < 3; k++)
                worst = fmax(worst, fabs(rgb[k] - (double)out.rgb[3 * i + (size_t)k]));
            if (d->flags & AV_PIX_FMT_FLAG_ALPHA) {
                double top = is_float(d) ? 1 : pow(2, p.depth[p.n - 1]) - 1;
                worst = fmax(worst, fabs(at(&p, p.n - 1, x, y) / top - (double)out.alpha[i]));
            }
        }
    }
    free_picture(&p);
    oasis_frame_free(&out);
    av_frame_free(&frame);
    oas_converter_free(&converter);
    return worst;
}

/* Greatest excess over rounding to the nearest code, in codes; of float formats, in values. */
static double compare_writing(enum AVPixelFormat format, const oas_color *used, const oas_color *meant, int w, int h)
{
    oas_converter *converter = NULL;
    oasis_message why = {""};
    assert_int_equal(oas_converter_new(&converter, format, w, h, used, &why), OASIS_OK);
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    AVFrame *frame = new_frame(format, w, h);
    oasis_frame in;
    assert_int_equal(oasis_frame_new(&in, w, h, true), OASIS_OK);
    for (int i = 0; i < w * h * 3; i++)
        in.rgb[i] = (float)(uniform() * 1.2 - 0.1);
    for (int i = 0; i < w * h; i++)
        in.alpha[i] = (float)uniform();
    assert_int_equal(oas_converter_from_rgb(converter, &in, frame, &why), OASIS_OK);
    picture p = new_picture(format, w, h);
    exchange(&p, frame, false);
    double worst = 0;
    for (int k = 0; k < p.n; k++) {
        bool alpha = d->flags & AV_PIX_FMT_FLAG_ALPHA && k == p.n - 1;
        double top = is_float(d) ? INFINITY : pow(2, p.depth[k]) - 1;
        for (int j = 0; j < p.h[k]; j++) {
            for (int i = 0; i < p.w[k]; i++) {
                double code = alpha ? (double)in.alpha[j * w + i] * (is_float(d) ? 1 : top)
                                    : define_code(&in, &p, format, meant, k, i, j);
                if (!is_float(d))
                    code = fmin(fmax(code, 0), top);
                worst = fmax(worst, fabs(code - at(&p, k, i, j)) - (is_float(d) ? 0 : 0.5));
            }
        }
    }
    free_picture(&p);
    oasis_frame_free(&in);
    av_frame_free(&frame);
    oas_converter_free(&converter);
    return worst;
}

static const enum AVPixelFormat formats[] = {
    AV_PIX_FMT_YUV420P,      AV_PIX_FMT_YUV422P,      AV_PIX_FMT_YUV444P,     AV_PIX_FMT_YUV440P,
    AV_PIX_FMT_YUV411P,      AV_PIX_FMT_YUV410P,      AV_PIX_FMT_YUVJ420P,    AV_PIX_FMT_YUVA420P,
    AV_PIX_FMT_NV12,         AV_PIX_FMT_NV21,         AV_PIX_FMT_NV16,        AV_PIX_FMT_NV24,
    AV_PIX_FMT_YUYV422,      AV_PIX_FMT_UYVY422,      AV_PIX_FMT_YVYU422,     AV_PIX_FMT_YUV420P9LE,
    AV_PIX_FMT_YUV420P10LE,  AV_PIX_FMT_YUV420P10BE,  AV_PIX_FMT_YUV422P10LE, AV_PIX_FMT_YUV444P10LE,
    AV_PIX_FMT_YUV420P12LE,  AV_PIX_FMT_YUV444P14LE,  AV_PIX_FMT_YUV420P16LE, AV_PIX_FMT_YUV444P16BE,
    AV_PIX_FMT_YUVA444P10LE, AV_PIX_FMT_YUVA422P16LE, AV_PIX_FMT_P010LE,      AV_PIX_FMT_P016LE,
    AV_PIX_FMT_Y210LE,       AV_PIX_FMT_GRAY8,        AV_PIX_FMT_GRAY10LE,    AV_PIX_FMT_GRAY16BE,
    AV_PIX_FMT_GRAY16LE,     AV_PIX_FMT_YA8,          AV_PIX_FMT_YA16LE,      AV_PIX_FMT_GRAYF32LE,
    AV_PIX_FMT_RGB24,        AV_PIX_FMT_BGR24,        AV_PIX_FMT_RGBA,        AV_PIX_FMT_ARGB,
    AV_PIX_FMT_BGRA,         AV_PIX_FMT_RGB0,         AV_PIX_FMT_0BGR,        AV_PIX_FMT_RGB48LE,
    AV_PIX_FMT_RGB48BE,      AV_PIX_FMT_RGBA64LE,     AV_PIX_FMT_RGBA64BE,    AV_PIX_FMT_GBRP,
    AV_PIX_FMT_GBRP10LE,     AV_PIX_FMT_GBRP12BE,     AV_PIX_FMT_GBRP16LE,    AV_PIX_FMT_GBRAP,
    AV_PIX_FMT_GBRAP16LE,    AV_PIX_FMT_GBRPF32LE,    AV_PIX_FMT_GBRAPF32LE,  AV_PIX_FMT_RGB565LE,
    AV_PIX_FMT_RGB555LE,     AV_PIX_FMT_RGB444LE,     AV_PIX_FMT_X2RGB10LE,
};

static const int sizes[][2] = {{16, 12}, {17, 13}, {1, 1}, {2, 1}, {1, 3}, {5, 2}, {35, 9}};

/* The description that a format can have: RGB has no matrix. */
static oas_color fitting(enum AVPixelFormat format, oas_color c)
{
    if (oas_format_is_rgb(format))
        c.matrix = AVCOL_SPC_RGB;
    return c;
}

static void test_every_format(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            enum AVColorRange range = k % 2 ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
            oas_color c = fitting(formats[i], color_of(AVCOL_SPC_BT709, range, AVCHROMA_LOC_LEFT));
            double reading = compare_reading(formats[i], &c, &c, sizes[k][0], sizes[k][1]);
            double writing = compare_writing(formats[i], &c, &c, sizes[k][0], sizes[k][1]);
            if (reading > RGB_TOLERANCE || writing > HALF_TOLERANCE)
                fail_msg("%s %dx%d: reading differs by %g, writing by %g codes beyond a half",
                         av_get_pix_fmt_name(formats[i]), sizes[k][0], sizes[k][1], reading, writing);
        }
    }
}

static void test_every_location(void **state)
{
    (void)state;
    const enum AVPixelFormat subsampled[] = {AV_PIX_FMT_YUV420P, AV_PIX_FMT_YUV422P, AV_PIX_FMT_YUV440P,
                                             AV_PIX_FMT_YUV411P, AV_PIX_FMT_YUV410P, AV_PIX_FMT_P010LE};
    for (size_t i = 0; i < sizeof subsampled / sizeof *subsampled; i++) {
        for (int l = AVCHROMA_LOC_LEFT; l <= AVCHROMA_LOC_BOTTOM; l++) {
            oas_color c = color_of(AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, (enum AVChromaLocation)l);
            assert_true(compare_reading(subsampled[i], &c, &c, 21, 15) <= RGB_TOLERANCE);
            assert_true(compare_writing(subsampled[i], &c, &c, 21, 15) <= HALF_TOLERANCE);
        }
    }
    /* Mutation: each pair of different positions is told apart, both ways. */
    for (int l = AVCHROMA_LOC_LEFT; l < AVCHROMA_LOC_BOTTOM; l++) {
        oas_color a = color_of(AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, (enum AVChromaLocation)l), b = a;
        b.location = (enum AVChromaLocation)(l + 1);
        assert_true(compare_reading(AV_PIX_FMT_YUV420P, &a, &b, 21, 15) > MUTATION);
        assert_true(compare_writing(AV_PIX_FMT_YUV420P, &a, &b, 21, 15) > 1);
    }
}

static void test_every_matrix(void **state)
{
    (void)state;
    const enum AVColorSpace all[] = {AVCOL_SPC_BT709,     AVCOL_SPC_SMPTE170M,  AVCOL_SPC_BT470BG, AVCOL_SPC_FCC,
                                     AVCOL_SPC_SMPTE240M, AVCOL_SPC_BT2020_NCL, AVCOL_SPC_YCGCO,   AVCOL_SPC_RGB};
    enum { N = sizeof all / sizeof *all };
    for (int i = 0; i < N; i++) {
        oas_color c = color_of(all[i], AVCOL_RANGE_MPEG, AVCHROMA_LOC_LEFT);
        assert_true(compare_reading(AV_PIX_FMT_YUV444P16LE, &c, &c, 16, 9) <= RGB_TOLERANCE);
        assert_true(compare_writing(AV_PIX_FMT_YUV444P16LE, &c, &c, 16, 9) <= HALF_TOLERANCE);
        for (int k = 0; k < N; k++) { /* mutation: another matrix, but for the two names of BT.601 */
            bool same = i == k || (i + k == 3 && abs(i - k) == 1);
            oas_color other = color_of(all[k], AVCOL_RANGE_MPEG, AVCHROMA_LOC_LEFT);
            if (!same)
                assert_true(compare_reading(AV_PIX_FMT_YUV444P16LE, &c, &other, 16, 9) > MUTATION / 4);
        }
    }
    oas_color full = color_of(AVCOL_SPC_BT709, AVCOL_RANGE_JPEG, AVCHROMA_LOC_LEFT), limited = full;
    limited.range = AVCOL_RANGE_MPEG;
    assert_true(compare_reading(AV_PIX_FMT_YUV444P, &full, &limited, 16, 9) > MUTATION);
    oas_converter *converter = NULL;
    oasis_message why;
    oas_color constant = color_of(AVCOL_SPC_BT2020_CL, AVCOL_RANGE_MPEG, AVCHROMA_LOC_LEFT);
    assert_int_equal(oas_converter_new(&converter, AV_PIX_FMT_YUV420P, 16, 16, &constant, &why), OASIS_E_UNSUPPORTED);
    assert_non_null(strstr(why.text, "bt2020c"));
}

/* Values that everybody knows, not from a formula of ours: pure red, limited range, 8 bits (BT.601: 81 90 240; BT.709: 63
 * 102 240), and of full range (JFIF): 76 85 255 (Cr is 255.5, limited to 255). */
static void test_pure_red(void **state)
{
    (void)state;
    const struct {
        enum AVColorSpace matrix;
        enum AVColorRange range;
        int y, u, v;
    } known[] = {{AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG, 81, 90, 240},
                 {AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, 63, 102, 240},
                 {AVCOL_SPC_BT470BG, AVCOL_RANGE_JPEG, 76, 85, 255}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        oas_converter *converter = NULL;
        oas_color c = color_of(known[i].matrix, known[i].range, AVCHROMA_LOC_LEFT);
        assert_int_equal(oas_converter_new(&converter, AV_PIX_FMT_YUV420P, 6, 4, &c, NULL), OASIS_OK);
        oasis_frame red, back;
        assert_int_equal(oasis_frame_new(&red, 6, 4, false), OASIS_OK);
        assert_int_equal(oasis_frame_new(&back, 6, 4, false), OASIS_OK);
        for (int k = 0; k < 24; k++)
            red.rgb[3 * k] = 1;
        AVFrame *f = new_frame(AV_PIX_FMT_YUV420P, 6, 4);
        assert_int_equal(oas_converter_from_rgb(converter, &red, f, NULL), OASIS_OK);
        assert_int_equal(f->data[0][4], known[i].y);
        assert_int_equal(f->data[1][2], known[i].u);
        assert_int_equal(f->data[2][2], known[i].v);
        assert_int_equal(oas_converter_to_rgb(converter, f, &back, NULL), OASIS_OK);
        for (int k = 0; k < 3; k++) /* one code of chroma is at most 1.9/224 */
            assert_true(fabsf(back.rgb[k] - (k == 0)) < 0.009f);
        oasis_frame_free(&red);
        oasis_frame_free(&back);
        av_frame_free(&f);
        oas_converter_free(&converter);
    }
}

/* Codes of each component survive a round trip where nothing is subsampled and the values lie in range. */
static void test_round_trip(void **state)
{
    (void)state;
    const enum AVPixelFormat whole[] = {AV_PIX_FMT_RGB24,       AV_PIX_FMT_RGB48LE,     AV_PIX_FMT_GBRP12LE,
                                        AV_PIX_FMT_YUV444P,     AV_PIX_FMT_YUV444P16LE, AV_PIX_FMT_GRAY16LE,
                                        AV_PIX_FMT_YUVA444P10LE};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        oas_color c = fitting(whole[i], color_of(AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG, AVCHROMA_LOC_LEFT));
        oas_converter *converter = NULL;
        assert_int_equal(oas_converter_new(&converter, whole[i], 33, 7, &c, NULL), OASIS_OK);
        AVFrame *a = new_frame(whole[i], 33, 7), *b = new_frame(whole[i], 33, 7);
        picture p = new_picture(whole[i], 33, 7), q = new_picture(whole[i], 33, 7);
        for (int k = 0; k < p.n; k++)
            for (int n = 0; n < 33 * 7; n++)
                p.v[k][n] = floor(uniform() * pow(2, p.depth[k]));
        exchange(&p, a, true);
        oasis_frame frame;
        assert_int_equal(oasis_frame_new(&frame, 33, 7, true), OASIS_OK);
        assert_int_equal(oas_converter_to_rgb(converter, a, &frame, NULL), OASIS_OK);
        assert_int_equal(oas_converter_from_rgb(converter, &frame, b, NULL), OASIS_OK);
        exchange(&q, b, false);
        for (int k = 0; k < p.n; k++)
            for (int n = 0; n < 33 * 7; n++)
                assert_true(p.v[k][n] == q.v[k][n]);
        free_picture(&p);
        free_picture(&q);
        oasis_frame_free(&frame);
        av_frame_free(&a);
        av_frame_free(&b);
        oas_converter_free(&converter);
    }
}

/* A palette goes through swscale, without loss. */
static void test_palette(void **state)
{
    (void)state;
    oas_color c = color_of(AVCOL_SPC_RGB, AVCOL_RANGE_JPEG, AVCHROMA_LOC_UNSPECIFIED);
    oas_converter *converter = NULL;
    assert_int_equal(oas_converter_new(&converter, AV_PIX_FMT_PAL8, 8, 8, &c, NULL), OASIS_OK);
    AVFrame *f = new_frame(AV_PIX_FMT_PAL8, 8, 8);
    uint32_t *palette = (uint32_t *)(void *)f->data[1];
    palette[0] = 0xff102030, palette[1] = 0x80fffefd;
    f->data[0][3] = 1;
    oasis_frame out;
    assert_int_equal(oasis_frame_new(&out, 8, 8, true), OASIS_OK);
    assert_int_equal(oas_converter_to_rgb(converter, f, &out, NULL), OASIS_OK);
    const float expected[2][4] = {{16, 32, 48, 255}, {255, 254, 253, 128}};
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 3; k++)
            assert_true(fabsf(out.rgb[3 * 3 * i + k] * 255 - expected[i][k]) < 1e-3f);
        assert_true(fabsf(out.alpha[3 * i] * 255 - expected[i][3]) < 1e-3f);
    }
    assert_true(oas_converter_from_rgb(converter, &out, f, NULL) == OASIS_E_UNSUPPORTED);
    oasis_frame_free(&out);
    av_frame_free(&f);
    oas_converter_free(&converter);
}

/* A pixel that is not finite is black or white, never a crash; large values are limited. */
static void test_not_finite(void **state)
{
    (void)state;
    oas_color c = color_of(AVCOL_SPC_RGB, AVCOL_RANGE_JPEG, AVCHROMA_LOC_UNSPECIFIED);
    oas_converter *converter = NULL;
    assert_int_equal(oas_converter_new(&converter, AV_PIX_FMT_RGB24, 4, 1, &c, NULL), OASIS_OK);
    AVFrame *f = new_frame(AV_PIX_FMT_RGB24, 4, 1);
    oasis_frame in;
    assert_int_equal(oasis_frame_new(&in, 4, 1, false), OASIS_OK);
    in.rgb[0] = NAN, in.rgb[3] = 1e30f, in.rgb[4] = -1e30f, in.rgb[7] = INFINITY;
    assert_int_equal(oas_converter_from_rgb(converter, &in, f, NULL), OASIS_OK);
    const uint8_t expected[] = {0, 0, 0, 255, 0, 0};
    assert_memory_equal(f->data[0], expected, sizeof expected);
    oasis_frame_free(&in);
    av_frame_free(&f);
    oas_converter_free(&converter);
}

/* What untagged pictures are taken for. */
static void test_defaults(void **state)
{
    (void)state;
    const oas_color none = {AVCOL_SPC_UNSPECIFIED, AVCOL_RANGE_UNSPECIFIED, AVCOL_PRI_UNSPECIFIED,
                            AVCOL_TRC_UNSPECIFIED, AVCHROMA_LOC_UNSPECIFIED};
    const struct {
        enum AVPixelFormat format;
        int height;
        oas_color_origin origin;
        oas_color expected;
    } cases[] = {
        {AV_PIX_FMT_YUV420P,
         719,
         OAS_ORIGIN_VIDEO,
         {AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG, AVCOL_PRI_SMPTE170M, AVCOL_TRC_SMPTE170M, AVCHROMA_LOC_LEFT}},
        {AV_PIX_FMT_YUV420P,
         576,
         OAS_ORIGIN_VIDEO,
         {AVCOL_SPC_BT470BG, AVCOL_RANGE_MPEG, AVCOL_PRI_BT470BG, AVCOL_TRC_SMPTE170M, AVCHROMA_LOC_LEFT}},
        {AV_PIX_FMT_YUV420P,
         720,
         OAS_ORIGIN_VIDEO,
         {AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, AVCOL_PRI_BT709, AVCOL_TRC_BT709, AVCHROMA_LOC_LEFT}},
        {AV_PIX_FMT_YUVJ420P,
         1080,
         OAS_ORIGIN_PICTURE,
         {AVCOL_SPC_BT470BG, AVCOL_RANGE_JPEG, AVCOL_PRI_BT709, AVCOL_TRC_IEC61966_2_1, AVCHROMA_LOC_CENTER}},
        {AV_PIX_FMT_RGB24,
         480,
         OAS_ORIGIN_PICTURE,
         {AVCOL_SPC_RGB, AVCOL_RANGE_JPEG, AVCOL_PRI_BT709, AVCOL_TRC_IEC61966_2_1, AVCHROMA_LOC_UNSPECIFIED}},
        {AV_PIX_FMT_GRAY8,
         480,
         OAS_ORIGIN_PICTURE,
         {AVCOL_SPC_SMPTE170M, AVCOL_RANGE_JPEG, AVCOL_PRI_SMPTE170M, AVCOL_TRC_IEC61966_2_1,
          AVCHROMA_LOC_UNSPECIFIED}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oas_color c = none;
        char note[200];
        oas_color_fill(&c, cases[i].format, cases[i].height, cases[i].origin, note, sizeof note);
        assert_int_equal(c.matrix, cases[i].expected.matrix);
        assert_int_equal(c.range, cases[i].expected.range);
        if (cases[i].format != AV_PIX_FMT_GRAY8)
            assert_int_equal(c.primaries, cases[i].expected.primaries);
        assert_int_equal(c.transfer, cases[i].expected.transfer);
        assert_int_equal(c.location, cases[i].expected.location);
        assert_int_equal(note[0] != '\0', cases[i].origin == OAS_ORIGIN_VIDEO);
    }
    /* Tags win, and a tagged matrix decides on the rest whatever the height. */
    oas_color c = {AVCOL_SPC_BT709, AVCOL_RANGE_JPEG, AVCOL_PRI_UNSPECIFIED, AVCOL_TRC_SMPTE2084, AVCHROMA_LOC_TOPLEFT};
    oas_color_fill(&c, AV_PIX_FMT_YUV420P, 480, OAS_ORIGIN_VIDEO, NULL, 0);
    assert_int_equal(c.matrix, AVCOL_SPC_BT709);
    assert_int_equal(c.range, AVCOL_RANGE_JPEG);
    assert_int_equal(c.primaries, AVCOL_PRI_BT709);
    assert_int_equal(c.transfer, AVCOL_TRC_SMPTE2084);
    assert_int_equal(c.location, AVCHROMA_LOC_TOPLEFT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_format), cmocka_unit_test(test_every_location), cmocka_unit_test(test_every_matrix),
        cmocka_unit_test(test_pure_red),     cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_palette),
        cmocka_unit_test(test_not_finite),   cmocka_unit_test(test_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
