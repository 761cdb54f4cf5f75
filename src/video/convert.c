/* Pictures of any pixel format to RGB float frames and back, row by row. */
#include "video/convert.h"

#include "video/pixels.h"

#include <libavutil/mem.h>
#include <libswscale/swscale.h>
#include <math.h>
#include <string.h>

enum {
    PAD = 8,       /* replicated samples on each side of a row: the reach of the filters at subsampling 4 */
    MAX_TAPS = 12, /* of the triangle filter: 3 * 4 */
    RING = 16      /* rows of reduced chroma kept: at least MAX_TAPS, a power of two */
};

struct oas_converter {
    enum AVPixelFormat format,
        direct; /* of the frames; of what the samples are read from (another when swscale helps) */
    int width, height;
    oas_color color;
    struct SwsContext *sws;
    AVFrame *turned; /* in format `direct`, when swscale helps */
    int n_color;     /* components with colour: 1 or 3 */
    bool alpha;
    oas_component component[4];
    float to_rgb[3][4], from_rgb[3][4]; /* codes to RGB and back; the last column is added */
    int factor_w, factor_h, chroma_w, chroma_h;
    double offset_w, offset_h; /* of the first chroma sample, in luma samples */
    uint16_t *words;
    float *rows[3];       /* a full row of each component */
    float *chroma[2][4];  /* read: chroma rows by number modulo 4, padded */
    int chroma_row[2][4]; /* which row that is, or -1 */
    float *blend;         /* one chroma row, padded */
    float *ring[2];       /* written: reduced rows [RING][chroma_w] */
};

static double location_x(enum AVChromaLocation location, int factor)
{
    bool left =
        location == AVCHROMA_LOC_LEFT || location == AVCHROMA_LOC_TOPLEFT || location == AVCHROMA_LOC_BOTTOMLEFT;
    return left ? 0 : (factor - 1) / 2.0;
}

static double location_y(enum AVChromaLocation location, int factor)
{
    if (location == AVCHROMA_LOC_TOP || location == AVCHROMA_LOC_TOPLEFT)
        return 0;
    if (location == AVCHROMA_LOC_BOTTOM || location == AVCHROMA_LOC_BOTTOMLEFT)
        return factor - 1;
    return (factor - 1) / 2.0;
}

/* Code values to RGB and back as affine maps of three components. */
static bool set_matrices(oas_converter *c)
{
    bool rgb = oas_format_is_rgb(c->direct), gray = c->n_color == 1;
    double to[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}, from[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
    if (gray) {
        double same[3][3] = {{1, 0, 0}, {1, 0, 0}, {1, 0, 0}};
        memcpy(to, same, sizeof to);
    }
    /* Luma of a grey picture follows its matrix too; one without constants (RGB) weighs as BT.709. */
    enum AVColorSpace matrix = gray && c->color.matrix == AVCOL_SPC_RGB ? AVCOL_SPC_BT709 : c->color.matrix;
    if (!rgb && (!oas_color_from_rgb(matrix, from) || (!gray && !oas_color_to_rgb(matrix, to))))
        return false;
    double offset[3] = {0}, scale[3] = {1, 1, 1};
    for (int k = 0; k < c->n_color; k++)
        oas_color_codes(c->color.range, !rgb && matrix != AVCOL_SPC_RGB && k > 0, c->component[k].depth, &offset[k],
                        &scale[k]);
    for (int i = 0; i < 3; i++) {
        double add = 0;
        for (int k = 0; k < 3; k++) {
            c->to_rgb[i][k] = (float)(to[i][k] / scale[k]);
            add -= to[i][k] * offset[k] / scale[k];
            c->from_rgb[i][k] = (float)(from[i][k] * scale[i]);
        }
        c->to_rgb[i][3] = (float)add;
        c->from_rgb[i][3] = (float)offset[i];
    }
    return true;
}

static bool allocate(oas_converter *c)
{
    size_t row = (size_t)c->width + 2 * PAD + 8, chroma = (size_t)c->chroma_w + 2 * PAD;
    bool fine = (c->words = av_calloc(row, sizeof *c->words)) != NULL;
    for (int k = 0; k < 3; k++)
        fine &= (c->rows[k] = av_calloc(row, sizeof(float))) != NULL;
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 4; i++)
            fine &= (c->chroma[k][i] = av_calloc(chroma, sizeof(float))) != NULL;
        fine &= (c->ring[k] = av_calloc(RING * (size_t)c->chroma_w, sizeof(float))) != NULL;
    }
    fine &= (c->blend = av_calloc(chroma, sizeof(float))) != NULL;
    return fine;
}

/* The RGB format that swscale turns an inaccessible one into. */
static enum AVPixelFormat close_format(enum AVPixelFormat format)
{
    bool deep = oas_format_depth(format) > 8, alpha = oas_format_has_alpha(format);
    return deep ? (alpha ? AV_PIX_FMT_RGBA64 : AV_PIX_FMT_RGB48) : alpha ? AV_PIX_FMT_RGBA : AV_PIX_FMT_RGB24;
}

static oasis_status open_swscale(oas_converter *c, oasis_message *message)
{
    const char *name = av_get_pix_fmt_name(c->format);
    c->direct = close_format(c->format);
    c->color.matrix = AVCOL_SPC_RGB; /* swscale gives full-range RGB */
    c->color.range = AVCOL_RANGE_JPEG;
    if (!sws_isSupportedInput(c->format))
        return oas_media_fail(message, OASIS_E_UNSUPPORTED, "pictures of pixel format %s cannot be read", name);
    c->sws = sws_getContext(c->width, c->height, c->format, c->width, c->height, c->direct,
                            SWS_BICUBIC | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND | SWS_BITEXACT, NULL, NULL, NULL);
    c->turned = av_frame_alloc();
    if (!c->sws || !c->turned)
        return oas_media_fail_memory(message, "the conversion of a pixel format");
    c->turned->format = c->direct;
    c->turned->width = c->width;
    c->turned->height = c->height;
    if (av_frame_get_buffer(c->turned, 0) < 0)
        return oas_media_fail_memory(message, "the conversion of a pixel format");
    return OASIS_OK;
}

static oasis_status set_up(oas_converter *c, oasis_message *message)
{
    if (!oas_pixels_supported(c->format))
        OAS_TRY(open_swscale(c, message));
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(c->direct);
    c->alpha = oas_format_has_alpha(c->direct);
    c->n_color = d->nb_components >= 3 ? 3 : 1;
    for (int k = 0; k < d->nb_components; k++)
        c->component[k] = oas_pixels_component(c->direct, k);
    c->factor_w = c->n_color == 3 ? 1 << c->component[1].log2_w : 1;
    c->factor_h = c->n_color == 3 ? 1 << c->component[1].log2_h : 1;
    c->chroma_w = (c->width + c->factor_w - 1) / c->factor_w;
    c->chroma_h = (c->height + c->factor_h - 1) / c->factor_h;
    c->offset_w = location_x(c->color.location, c->factor_w);
    c->offset_h = location_y(c->color.location, c->factor_h);
    if (!set_matrices(c))
        return oas_media_fail(message, OASIS_E_UNSUPPORTED,
                              "pictures with the colour matrix %s cannot be converted; bt709, bt601, fcc, smpte240m, "
                              "bt2020nc, ycgco and rgb can",
                              oas_color_matrix_name(c->color.matrix));
    return allocate(c) ? OASIS_OK : oas_media_fail_memory(message, "rows of a picture");
}

oasis_status oas_converter_new(oas_converter **converter, enum AVPixelFormat format, int width, int height,
                               const oas_color *color, oasis_message *message)
{
    oas_converter *c = av_mallocz(sizeof *c);
    if (!c)
        return oas_media_fail_memory(message, "a converter");
    c->format = c->direct = format;
    c->width = width;
    c->height = height;
    c->color = *color;
    oasis_status status = set_up(c, message);
    if (status != OASIS_OK)
        oas_converter_free(&c);
    else
        *converter = c;
    return status;
}

void oas_converter_free(oas_converter **converter)
{
    oas_converter *c = *converter;
    if (!c)
        return;
    sws_freeContext(c->sws);
    av_frame_free(&c->turned);
    av_free(c->words);
    for (int k = 0; k < 3; k++)
        av_free(c->rows[k]);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 4; i++)
            av_free(c->chroma[k][i]);
        av_free(c->ring[k]);
    }
    av_free(c->blend);
    av_freep(converter);
}

bool oas_converter_fits(const oas_converter *c, enum AVPixelFormat format, int width, int height,
                        const oas_color *color)
{
    return c && c->format == format && c->width == width && c->height == height &&
           (c->sws || (c->color.matrix == color->matrix && c->color.range == color->range)) &&
           c->color.location == color->location;
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */

/* Repeats the first and the last of n samples before and behind them. */
static void replicate(float *row, int n, int before, int after)
{
    for (int i = 1; i <= before; i++)
        row[-i] = row[0];
    for (int i = 0; i < after; i++)
        row[n + i] = row[n - 1];
}

/* The chroma row of that number (limited to the picture), padded; kept until the row 4 away is asked for. */
static const float *chroma_row(oas_converter *c, const AVFrame *in, int k, int number)
{
    number = number < 0 ? 0 : number >= c->chroma_h ? c->chroma_h - 1 : number;
    float *row = c->chroma[k][number % 4] + PAD;
    if (c->chroma_row[k][number % 4] != number) {
        oas_pixels_load(&c->component[k + 1], in, number, c->chroma_w, c->words, row);
        replicate(row, c->chroma_w, 1, 1);
        c->chroma_row[k][number % 4] = number;
    }
    return row;
}

/* Linear interpolation of a padded row to `factor` times as many samples; the first one lies at `offset`. */
static void widen(const float *in, int n, int factor, double offset, float *out)
{
    if (factor == 2) {
        const float a = (float)(offset / 2), b = (float)((1 - offset) / 2);
        for (int i = 0; i < n; i++) {
            out[2 * i] = in[i] + a * (in[i - 1] - in[i]);
            out[2 * i + 1] = in[i] + b * (in[i + 1] - in[i]);
        }
        return;
    }
    for (int p = 0; p < factor; p++) {
        const float t = (float)((p - offset) / factor), s = fabsf(t);
        const float *other = in + (t < 0 ? -1 : 1);
        for (int i = 0; i < n; i++)
            out[factor * i + p] = in[i] + s * (other[i] - in[i]);
    }
}

/* Row y of chroma component k at full size. */
static const float *full_chroma_row(oas_converter *c, const AVFrame *in, int k, int y)
{
    int i = y / c->factor_h;
    double t = (y % c->factor_h - c->offset_h) / c->factor_h;
    const float *row = chroma_row(c, in, k, i);
    if (t != 0) {
        const float *other = chroma_row(c, in, k, t < 0 ? i - 1 : i + 1), s = (float)fabs(t);
        float *blend = c->blend + PAD;
        for (int x = -1; x <= c->chroma_w; x++)
            blend[x] = row[x] + s * (other[x] - row[x]);
        row = blend;
    }
    if (c->factor_w == 1 && t == 0)
        return row;
    widen(row, c->chroma_w, c->factor_w, c->offset_w, c->rows[k + 1]);
    return c->rows[k + 1];
}

static void apply_to_rgb(const float m[3][4], const float *restrict a, const float *restrict b, const float *restrict d,
                         int n, float *restrict rgb)
{
    for (int x = 0; x < n; x++) {
        float u = a[x], v = b[x], w = d[x];
        rgb[3 * x] = m[0][0] * u + m[0][1] * v + m[0][2] * w + m[0][3];
        rgb[3 * x + 1] = m[1][0] * u + m[1][1] * v + m[1][2] * w + m[1][3];
        rgb[3 * x + 2] = m[2][0] * u + m[2][1] * v + m[2][2] * w + m[2][3];
    }
}

oasis_status oas_converter_to_rgb(oas_converter *c, const AVFrame *in, oasis_frame *out, oasis_message *message)
{
    if (c->sws) {
        int code = sws_scale(c->sws, (const uint8_t *const *)(const void *)in->data, in->linesize, 0, c->height,
                             c->turned->data, c->turned->linesize);
        if (code < 0)
            return oas_media_fail_av(message, code, "converting a picture failed");
        in = c->turned;
    }
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < 4; i++)
            c->chroma_row[k][i] = -1;
    bool rgb = oas_format_is_rgb(c->direct);
    double top = c->alpha ? (double)((int64_t)1 << c->component[c->n_color].depth) - 1 : 1;
    float alpha_scale = c->alpha && c->component[c->n_color].depth < 32 ? (float)(1 / top) : 1;
    for (int y = 0; y < c->height; y++) {
        const float *row[3] = {c->rows[0], c->rows[0], c->rows[0]};
        oas_pixels_load(&c->component[0], in, y, c->width, c->words, c->rows[0]);
        for (int k = 1; k < c->n_color; k++) {
            row[k] = c->rows[k];
            if (rgb)
                oas_pixels_load(&c->component[k], in, y, c->width, c->words, c->rows[k]);
            else
                row[k] = full_chroma_row(c, in, k - 1, y);
        }
        apply_to_rgb((const float(*)[4])c->to_rgb, row[0], row[1], row[2], c->width,
                     out->rgb + (size_t)y * (size_t)c->width * 3);
        if (c->alpha && out->alpha) {
            float *alpha = out->alpha + (size_t)y * (size_t)c->width;
            oas_pixels_load(&c->component[c->n_color], in, y, c->width, c->words, alpha);
            for (int x = 0; x < c->width; x++)
                alpha[x] *= alpha_scale;
        }
    }
    return OASIS_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------------------ */

/* Weights of the triangle filter at the full-size samples -factor .. 2 * factor - 1 round a chroma sample's first. */
static void triangle(int factor, double offset, float weights[MAX_TAPS])
{
    for (int k = 0; k < 3 * factor; k++) {
        double w = 1 - fabs(k - factor - offset) / factor;
        weights[k] = w > 0 ? (float)(w / factor) : 0;
    }
}

/* Reduces a padded row by the triangle filter. */
static void narrow(const float *in, int n, int factor, const float *weights, float *out)
{
    if (factor == 2) {
        const float a = weights[1], b = weights[2], d = weights[3], e = weights[4];
        for (int i = 0; i < n; i++)
            out[i] = a * in[2 * i - 1] + b * in[2 * i] + d * in[2 * i + 1] + e * in[2 * i + 2];
        return;
    }
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int k = 0; k < 3 * factor; k++)
            sum += weights[k] * in[factor * i + k - factor];
        out[i] = sum;
    }
}

/* Reduces the rows in the ring to chroma row i and writes it. */
static void finish_chroma_row(oas_converter *c, AVFrame *out, int k, int i, const float *weights)
{
    float *sum = c->blend;
    memset(sum, 0, sizeof *sum * (size_t)c->chroma_w);
    for (int t = 0; t < 3 * c->factor_h; t++) {
        int y = c->factor_h * i + t - c->factor_h;
        y = y < 0 ? 0 : y >= c->height ? c->height - 1 : y;
        const float w = weights[t], *row = c->ring[k] + (size_t)(y % RING) * (size_t)c->chroma_w;
        if (w != 0)
            for (int x = 0; x < c->chroma_w; x++)
                sum[x] += w * row[x];
    }
    oas_pixels_store(&c->component[k + 1], out, i, c->chroma_w, c->words, sum);
}

static void apply_from_rgb(const float m[3][4], const float *restrict rgb, int n, float *restrict a, float *restrict b,
                           float *restrict d)
{
    for (int x = 0; x < n; x++) {
        float r = rgb[3 * x], g = rgb[3 * x + 1], l = rgb[3 * x + 2];
        a[x] = m[0][0] * r + m[0][1] * g + m[0][2] * l + m[0][3];
        b[x] = m[1][0] * r + m[1][1] * g + m[1][2] * l + m[1][3];
        d[x] = m[2][0] * r + m[2][1] * g + m[2][2] * l + m[2][3];
    }
}

static void store_alpha(oas_converter *c, const oasis_frame *in, AVFrame *out, int y)
{
    const oas_component *a = &c->component[c->n_color];
    float top = a->depth < 32 ? (float)((1u << a->depth) - 1) : 1, *row = c->rows[0];
    for (int x = 0; x < c->width; x++)
        row[x] = in->alpha ? in->alpha[(size_t)y * (size_t)c->width + (size_t)x] * top : top;
    oas_pixels_store(a, out, y, c->width, c->words, row);
}

oasis_status oas_converter_from_rgb(oas_converter *c, const oasis_frame *in, AVFrame *out, oasis_message *message)
{
    if (c->sws)
        return oas_media_fail(message, OASIS_E_UNSUPPORTED, "pictures of pixel format %s cannot be written",
                              av_get_pix_fmt_name(c->format));
    bool reduced = !oas_format_is_rgb(c->direct) && c->factor_w * c->factor_h > 1;
    for (int k = 0; k < 4 && out->data[k]; k++)
        if (c->component[0].access == OAS_ACCESS_ANY && out->buf[k])
            memset(out->buf[k]->data, 0, out->buf[k]->size);
    float across[MAX_TAPS], down[MAX_TAPS];
    triangle(c->factor_w, c->offset_w, across);
    triangle(c->factor_h, c->offset_h, down);
    int finished = 0; /* chroma rows */
    for (int y = 0; y < c->height; y++) {
        float *row[3] = {c->rows[0] + PAD, c->rows[1] + PAD, c->rows[2] + PAD};
        apply_from_rgb((const float(*)[4])c->from_rgb, in->rgb + (size_t)y * (size_t)c->width * 3, c->width, row[0],
                       row[1], row[2]);
        oas_pixels_store(&c->component[0], out, y, c->width, c->words, row[0]);
        for (int k = 1; k < c->n_color; k++) {
            if (!reduced) {
                oas_pixels_store(&c->component[k], out, y, c->width, c->words, row[k]);
                continue;
            }
            replicate(row[k], c->width, PAD, PAD);
            narrow(row[k], c->chroma_w, c->factor_w, across, c->ring[k - 1] + (size_t)(y % RING) * (size_t)c->chroma_w);
        }
        while (reduced && finished < c->chroma_h &&
               (y == c->height - 1 || y >= c->factor_h * finished + 2 * c->factor_h - 1)) {
            for (int k = 0; k < 2; k++)
                finish_chroma_row(c, out, k, finished, down);
            finished++;
        }
        if (c->alpha)
            store_alpha(c, in, out, y);
    }
    return OASIS_OK;
}
