/* Rows of samples to and from floats. */
#include "video/pixels.h"

#include <libavutil/pixdesc.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define NATIVE_BIG true
#else
#define NATIVE_BIG false
#endif

bool oas_pixels_supported(enum AVPixelFormat format)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    const uint64_t odd =
        AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BITSTREAM | AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_BAYER;
    if (!d || d->nb_components == 0 || d->flags & odd || format == AV_PIX_FMT_UYYVYY411 ||
        format == AV_PIX_FMT_XYZ12LE || format == AV_PIX_FMT_XYZ12BE)
        return false;
    bool big = d->flags & AV_PIX_FMT_FLAG_BE;
    for (int i = 0; i < d->nb_components; i++)
        if (d->comp[i].depth > 16 && !(d->flags & AV_PIX_FMT_FLAG_FLOAT && d->comp[i].depth == 32 && big == NATIVE_BIG))
            return false;
    return d->log2_chroma_w <= 2 && d->log2_chroma_h <= 2;
}

oas_component oas_pixels_component(enum AVPixelFormat format, int index)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    const AVComponentDescriptor *s = &d->comp[index];
    oas_component c = {.format = d,
                       .index = index,
                       .plane = s->plane,
                       .step = s->step,
                       .offset = s->offset,
                       .shift = s->shift,
                       .depth = s->depth,
                       .access = OAS_ACCESS_ANY};
    bool rgb = d->flags & AV_PIX_FMT_FLAG_RGB, chroma = !rgb && d->nb_components >= 3 && (index == 1 || index == 2);
    c.log2_w = chroma ? d->log2_chroma_w : 0;
    c.log2_h = chroma ? d->log2_chroma_h : 0;
    bool native = ((d->flags & AV_PIX_FMT_FLAG_BE) != 0) == NATIVE_BIG;
    if (d->flags & AV_PIX_FMT_FLAG_FLOAT && s->depth == 32)
        c.access = OAS_ACCESS_F32;
    else if (s->depth == 8 && s->shift == 0)
        c.access = OAS_ACCESS_U8;
    else if (s->depth > 8 && s->depth + s->shift <= 16 && native && s->step % 2 == 0 && s->offset % 2 == 0 &&
             (s->depth == 16 || s->step * 8 >= 16 * (d->flags & AV_PIX_FMT_FLAG_PLANAR ? 1 : d->nb_components)))
        c.access = OAS_ACCESS_U16; /* each sample in a word of its own */
    return c;
}

void oas_pixels_load(const oas_component *c, const AVFrame *frame, int y, int n, uint16_t *words, float *out)
{
    const uint8_t *row = frame->data[c->plane] + (ptrdiff_t)frame->linesize[c->plane] * y + c->offset;
    ptrdiff_t step = c->step;
    switch (c->access) {
    case OAS_ACCESS_U8:
        if (step == 1)
            for (int x = 0; x < n; x++)
                out[x] = (float)row[x];
        else
            for (int x = 0; x < n; x++)
                out[x] = (float)row[x * step];
        break;
    case OAS_ACCESS_U16: {
        const uint16_t *p = (const uint16_t *)(const void *)row;
        unsigned mask = (1u << c->depth) - 1;
        if (step == 2)
            for (int x = 0; x < n; x++)
                out[x] = (float)((int)((unsigned)p[x] >> c->shift & mask));
        else
            for (int x = 0; x < n; x++)
                out[x] = (float)((int)((unsigned)p[x * (step / 2)] >> c->shift & mask));
        break;
    }
    case OAS_ACCESS_F32:
        for (int x = 0; x < n; x++)
            memcpy(&out[x], row + x * step, sizeof *out);
        break;
    case OAS_ACCESS_ANY:
        av_read_image_line(words, (const uint8_t **)(const void *)frame->data, frame->linesize, c->format, 0, y,
                           c->index, n, 0);
        for (int x = 0; x < n; x++)
            out[x] = (float)words[x];
        break;
    }
}

/* The nearest code; NaN becomes 0. */
static inline int nearest(float v, float top)
{
    v = v > 0 ? v : 0;
    v = v < top ? v : top;
    return (int)(v + 0.5f);
}

void oas_pixels_store(const oas_component *c, AVFrame *frame, int y, int n, uint16_t *words, const float *in)
{
    uint8_t *row = frame->data[c->plane] + (ptrdiff_t)frame->linesize[c->plane] * y + c->offset;
    ptrdiff_t step = c->step;
    float top = (float)((1u << (c->depth & 31)) - 1);
    switch (c->access) {
    case OAS_ACCESS_U8:
        if (step == 1)
            for (int x = 0; x < n; x++)
                row[x] = (uint8_t)nearest(in[x], top);
        else
            for (int x = 0; x < n; x++)
                row[x * step] = (uint8_t)nearest(in[x], top);
        break;
    case OAS_ACCESS_U16: {
        uint16_t *p = (uint16_t *)(void *)row;
        if (step == 2)
            for (int x = 0; x < n; x++)
                p[x] = (uint16_t)(nearest(in[x], top) << c->shift);
        else
            for (int x = 0; x < n; x++)
                p[x * (step / 2)] = (uint16_t)(nearest(in[x], top) << c->shift);
        break;
    }
    case OAS_ACCESS_F32:
        for (int x = 0; x < n; x++)
            memcpy(row + x * step, &in[x], sizeof *in);
        break;
    case OAS_ACCESS_ANY:
        for (int x = 0; x < n; x++)
            words[x] = (uint16_t)nearest(in[x], top);
        av_write_image_line(words, frame->data, frame->linesize, c->format, 0, y, c->index, n);
        break;
    }
}
