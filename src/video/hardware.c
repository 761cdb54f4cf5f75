/* NVDEC through FFmpeg, and pictures of GPUs as those of software. */
#include "video/hardware.h"

#include "video/pixels.h"

#include <libavutil/hwcontext.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- layouts ------------------------------------------------------------------------------------------------------ */

static void unpack_bytes(uint8_t *out, const uint8_t *in, int step, int n)
{
    if (step == 1)
        memcpy(out, in, (size_t)n);
    else
        for (int x = 0; x < n; x++)
            out[x] = in[x * step];
}

static void unpack_words(uint16_t *out, const uint16_t *in, int step, int shift, int n)
{
    for (int x = 0; x < n; x++)
        out[x] = (uint16_t)(in[x * step] >> shift);
}

/* Whether rows of `t` can be made of those of `s` by copying and shifting down. */
static bool is_alike(const oas_component *s, const oas_component *t)
{
    if (s->log2_w != t->log2_w || s->log2_h != t->log2_h || s->access != t->access || t->shift != 0)
        return false;
    if (t->access == OAS_ACCESS_U8)
        return t->step == 1;
    return t->access == OAS_ACCESS_U16 && t->step == 2 && s->depth >= t->depth;
}

bool oas_hardware_unpack(AVFrame *out, const AVFrame *in)
{
    const AVPixFmtDescriptor *from = av_pix_fmt_desc_get(in->format), *to = av_pix_fmt_desc_get(out->format);
    if (!oas_pixels_supported(in->format) || !oas_pixels_supported(out->format) ||
        from->nb_components != to->nb_components)
        return false;
    for (int i = 0; i < to->nb_components; i++) {
        oas_component s = oas_pixels_component(in->format, i), t = oas_pixels_component(out->format, i);
        if (!is_alike(&s, &t))
            return false;
        int width = AV_CEIL_RSHIFT(out->width, t.log2_w), height = AV_CEIL_RSHIFT(out->height, t.log2_h);
        for (int y = 0; y < height; y++) {
            const uint8_t *p = in->data[s.plane] + (ptrdiff_t)in->linesize[s.plane] * y + s.offset;
            uint8_t *q = out->data[t.plane] + (ptrdiff_t)out->linesize[t.plane] * y + t.offset;
            if (t.access == OAS_ACCESS_U8)
                unpack_bytes(q, p, s.step, width);
            else /* the codes lie at the top of the words: P010 says so, P016 and YUV444P16 hold 10 or 12 bits that way */
                unpack_words((uint16_t *)(void *)q, (const uint16_t *)(const void *)p, s.step / 2,
                             s.depth + s.shift - t.depth, width);
        }
    }
    return true;
}

/* ---- CUDA --------------------------------------------------------------------------------------------------------- */

/* Not MPEG-2, MPEG-4 and the like: their standards leave the last bits of the inverse transform open. */
static const AVCodec *cuda_decoder(enum AVCodecID id)
{
    static const enum AVCodecID exact[] = {AV_CODEC_ID_H264, AV_CODEC_ID_HEVC, AV_CODEC_ID_VP8, AV_CODEC_ID_VP9,
                                           AV_CODEC_ID_AV1};
    const AVCodec *codec = NULL;
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        if (exact[i] == id)
            codec = avcodec_find_decoder_by_name(avcodec_get_name(id)); /* FFmpeg's own has the codec's name */
    const AVCodecHWConfig *c;
    for (int i = 0; codec && (c = avcodec_get_hw_config(codec, i)) != NULL; i++)
        if (c->device_type == AV_HWDEVICE_TYPE_CUDA && c->methods & AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX)
            return codec;
    return NULL;
}

/* FFmpeg asks again, without CUDA, where the chip does not know the profile: then decoding fails, here on purpose. */
static enum AVPixelFormat cuda_or_none(AVCodecContext *decoder, const enum AVPixelFormat *list)
{
    (void)decoder;
    while (*list != AV_PIX_FMT_NONE && *list != AV_PIX_FMT_CUDA)
        list++;
    return *list;
}

static int cuda_attach(AVCodecContext *decoder, int index)
{
    char name[16];
    snprintf(name, sizeof name, "%d", index);
    decoder->get_format = cuda_or_none;
    decoder->thread_count = 1;
    decoder->export_side_data |= AV_CODEC_EXPORT_DATA_FILM_GRAIN; /* so that cuda_fetch sees that there is some */
    decoder->err_recognition |= AV_EF_EXPLODE;     /* whatever is doubtful, software looks at more closely, */
    decoder->log_level_offset = AV_LOG_MAX_OFFSET; /* so there is nothing to say here */
    return av_hwdevice_ctx_create(&decoder->hw_device_ctx, AV_HWDEVICE_TYPE_CUDA, name, NULL, 0);
}

/* The beginning of what is copied last, the last row of the last plane. */
static uint8_t *last_row(const AVFrame *raw)
{
    int plane = av_pix_fmt_count_planes(raw->format) - 1;
    int rows = AV_CEIL_RSHIFT(raw->height, plane > 0 ? av_pix_fmt_desc_get(raw->format)->log2_chroma_h : 0);
    return raw->data[plane] + (ptrdiff_t)raw->linesize[plane] * (rows - 1);
}

/* Into `out` by way of `raw`, the picture as the GPU lays it out. */
static int download(const AVCodecContext *decoder, const AVFrame *frame, AVFrame *raw, AVFrame *out)
{
    /* FFmpeg does not tell when copying from the GPU fails; then these bytes, less likely than any picture, stay. */
    static const uint8_t mark[] = {0x9b, 0x05, 0xe1, 0x4c, 0x72, 0xd8, 0x3f, 0xa6, 0x11, 0xc3, 0x5e, 0x80, 0xf7, 0x2a};
    const AVHWFramesContext *on_gpu = (const AVHWFramesContext *)(const void *)frame->hw_frames_ctx->data;
    raw->format = on_gpu->sw_format;
    out->format = decoder->sw_pix_fmt;
    raw->width = out->width = frame->width;
    raw->height = out->height = frame->height;
    int code = av_frame_get_buffer(raw, 0);
    if (code >= 0)
        code = av_frame_get_buffer(out, 0);
    if (code < 0)
        return code;
    memcpy(last_row(raw), mark, sizeof mark); /* rows are padded: it fits */
    code = av_hwframe_transfer_data(raw, frame, 0);
    if (code >= 0 && memcmp(last_row(raw), mark, sizeof mark) == 0)
        code = AVERROR_EXTERNAL;
    if (code >= 0)
        code = av_frame_copy_props(out, frame);
    return code < 0 ? code : oas_hardware_unpack(out, raw) ? 0 : AVERROR(ENOSYS);
}

static int cuda_fetch(const AVCodecContext *decoder, AVFrame *frame)
{
    /* Borders at the left and top and film grain are the decoder's work in software, and not here; of odd sizes, FFmpeg
     * leaves out the last chroma. */
    if (frame->format != AV_PIX_FMT_CUDA || frame->crop_left || frame->crop_top || frame->width % 2 ||
        frame->height % 2 || av_frame_get_side_data(frame, AV_FRAME_DATA_FILM_GRAIN_PARAMS))
        return AVERROR(ENOSYS);
    AVFrame *raw = av_frame_alloc(), *out = av_frame_alloc();
    int code = raw && out ? download(decoder, frame, raw, out) : AVERROR(ENOMEM);
    if (code >= 0) {
        av_frame_unref(frame);
        av_frame_move_ref(frame, out);
    }
    av_frame_free(&raw);
    av_frame_free(&out);
    return code;
}

const oas_hardware oas_hardware_cuda = {cuda_decoder, cuda_attach, cuda_fetch};

bool oas_hardware_index(const char *text, int *index)
{
    if (!text || strncmp(text, "cuda", 4) != 0)
        return false;
    *index = 0;
    if (text[4] == '\0')
        return true;
    char *end = NULL;
    long n = text[4] == ':' && text[5] >= '0' && text[5] <= '9' ? strtol(text + 5, &end, 10) : -1;
    *index = (int)n;
    return n >= 0 && n < 1024 && *end == '\0';
}
