/* Choosing the pixel format and the settings of an encoder, and running it. */
#include "video/encoder.h"

#include "video/pixels.h"

#include <libavutil/avstring.h>
#include <libavutil/cpu.h>
#include <libavutil/imgutils.h>
#include <libavutil/mathematics.h>
#include <libavutil/opt.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_RATE_PART = 60000 }; /* MPEG-4 counts time in at most 65535 parts of a second */

/* Encoders whose own defaults are too poor for a picture that took minutes to compute, or depend on the machine. */
typedef struct encoder_defaults {
    const char *name;
    double crf; /* constant quality, FFmpeg's option "crf" or "cq"; below 0: has none */
    const char *preset;
    double quantizer;       /* constant quantiser where there is no crf; 0 = leave */
    const char *parameters; /* option that takes "key=value:..." for the encoder's library */
    const char *fixed;      /* what goes into it; %d = threads */
    bool even;              /* refuses sizes that its chroma does not divide, and leaks memory when asked */
} encoder_defaults;

static const encoder_defaults *defaults_of(const char *name)
{
    static const encoder_defaults table[] = {
        {"libx264", 14, "medium", 0, "x264-params", "asm=avx2", true},
        {"libx264rgb", 14, "medium", 0, "x264-params", "asm=avx2", false},
        {"libx265", 16, "medium", 0, "x265-params", "log-level=none:pools=%d:frame-threads=2", true},
        {"libsvtav1", 20, "8", 0, "svtav1-params", "lp=%d", false},
        {"libaom-av1", 20, NULL, 0, NULL, NULL, false},
        {"libvpx-vp9", 20, NULL, 0, NULL, NULL, false},
        {"libvpx", 8, NULL, 0, NULL, NULL, false},
        {"h264_nvenc", 16, "slow", 0, NULL, NULL, true},
        {"hevc_nvenc", 18, "slow", 0, NULL, NULL, true},
        {"av1_nvenc", 20, "slow", 0, NULL, NULL, true},
        {"mjpeg", -1, NULL, 2, NULL, NULL, false},
        {"mpeg4", -1, NULL, 2, NULL, NULL, false},
        {"libxvid", -1, NULL, 2, NULL, NULL, false},
        {"mpeg2video", -1, NULL, 2, NULL, NULL, false},
        {"mpeg1video", -1, NULL, 2, NULL, NULL, false},
        {"wmv2", -1, NULL, 2, NULL, NULL, false},
        {"flv", -1, NULL, 2, NULL, NULL, false},
        {"libtheora", -1, NULL, 9, NULL, NULL, false}, /* of 10, the best */
        {NULL, -1, NULL, 0, NULL, NULL, false},
    };
    const encoder_defaults *d = table;
    while (d->name && strcmp(d->name, name) != 0)
        d++;
    return d;
}

/* ---- pixel format ------------------------------------------------------------------------------------------------- */

static bool takes(const AVCodec *codec, enum AVPixelFormat format)
{
    if (!codec->pix_fmts)
        return true;
    for (const enum AVPixelFormat *p = codec->pix_fmts; *p != AV_PIX_FMT_NONE; p++)
        if (*p == format)
            return true;
    return false;
}

/* The first of a list that the encoder takes; the list ends with AV_PIX_FMT_NONE. */
static enum AVPixelFormat first_taken(const AVCodec *codec, const enum AVPixelFormat *list)
{
    while (*list != AV_PIX_FMT_NONE && !takes(codec, *list))
        list++;
    return *list;
}

static enum AVPixelFormat picture_format(const AVCodec *codec, bool deep, bool alpha)
{
    static const enum AVPixelFormat deep_alpha[] = {AV_PIX_FMT_RGBA64, AV_PIX_FMT_RGBA64BE, AV_PIX_FMT_RGBA64LE,
                                                    AV_PIX_FMT_GBRAPF32, AV_PIX_FMT_NONE};
    static const enum AVPixelFormat flat_alpha[] = {AV_PIX_FMT_RGBA, AV_PIX_FMT_BGRA, AV_PIX_FMT_ARGB,
                                                    AV_PIX_FMT_GBRAPF32, AV_PIX_FMT_NONE};
    static const enum AVPixelFormat deep_plain[] = {AV_PIX_FMT_RGB48, AV_PIX_FMT_RGB48BE, AV_PIX_FMT_RGB48LE,
                                                    AV_PIX_FMT_GBRPF32, AV_PIX_FMT_NONE};
    static const enum AVPixelFormat plain[] = {AV_PIX_FMT_RGB24,    AV_PIX_FMT_BGR24,   AV_PIX_FMT_BGRA,
                                               AV_PIX_FMT_GBRP,     AV_PIX_FMT_RGB48,   AV_PIX_FMT_GBRPF32,
                                               AV_PIX_FMT_YUVJ444P, AV_PIX_FMT_YUV444P, AV_PIX_FMT_YUVJ420P,
                                               AV_PIX_FMT_YUV420P,  AV_PIX_FMT_NONE};
    enum AVPixelFormat format = AV_PIX_FMT_NONE;
    if (alpha && deep)
        format = first_taken(codec, deep_alpha);
    if (alpha && format == AV_PIX_FMT_NONE)
        format = first_taken(codec, flat_alpha);
    if (deep && format == AV_PIX_FMT_NONE)
        format = first_taken(codec, deep_plain);
    return format != AV_PIX_FMT_NONE ? format : first_taken(codec, plain);
}

static enum AVPixelFormat video_format(const AVCodec *codec, bool deep, bool alpha)
{
    static const enum AVPixelFormat deep_alpha[] = {AV_PIX_FMT_YUVA420P10, AV_PIX_FMT_YUVA422P10, AV_PIX_FMT_YUVA444P10,
                                                    AV_PIX_FMT_YUVA420P,   AV_PIX_FMT_YUVA444P,   AV_PIX_FMT_RGBA,
                                                    AV_PIX_FMT_BGRA,       AV_PIX_FMT_ARGB,       AV_PIX_FMT_NONE};
    static const enum AVPixelFormat flat_alpha[] = {AV_PIX_FMT_YUVA420P,   AV_PIX_FMT_YUVA422P, AV_PIX_FMT_YUVA444P,
                                                    AV_PIX_FMT_YUVA444P10, AV_PIX_FMT_RGBA,     AV_PIX_FMT_BGRA,
                                                    AV_PIX_FMT_ARGB,       AV_PIX_FMT_NONE};
    static const enum AVPixelFormat deep_plain[] = {AV_PIX_FMT_YUV420P10, AV_PIX_FMT_YUV422P10, AV_PIX_FMT_YUV444P10,
                                                    AV_PIX_FMT_P010, AV_PIX_FMT_NONE};
    static const enum AVPixelFormat plain[] = {
        AV_PIX_FMT_YUV420P,   AV_PIX_FMT_YUVJ420P,  AV_PIX_FMT_YUV422P, AV_PIX_FMT_YUV444P, AV_PIX_FMT_YUV420P10,
        AV_PIX_FMT_YUV422P10, AV_PIX_FMT_YUV444P10, AV_PIX_FMT_GBRP,    AV_PIX_FMT_RGB24,   AV_PIX_FMT_BGR24,
        AV_PIX_FMT_BGR0,      AV_PIX_FMT_BGRA,      AV_PIX_FMT_NONE};
    enum AVPixelFormat format = AV_PIX_FMT_NONE;
    if (alpha)
        format = first_taken(codec, deep ? deep_alpha : flat_alpha);
    if (deep && format == AV_PIX_FMT_NONE)
        format = first_taken(codec, deep_plain);
    return format != AV_PIX_FMT_NONE ? format : first_taken(codec, plain);
}

static bool is_lossless(const AVCodec *codec)
{
    const AVCodecDescriptor *d = avcodec_descriptor_get(codec->id);
    return d && d->props & AV_CODEC_PROP_LOSSLESS && !(d->props & AV_CODEC_PROP_LOSSY);
}

static oasis_status refuse_format(const AVCodec *codec, const char *name, oasis_message *message)
{
    char list[400] = "";
    for (const enum AVPixelFormat *p = codec->pix_fmts; p && *p != AV_PIX_FMT_NONE; p++)
        av_strlcatf(list, sizeof list, "%s%s", list[0] ? ", " : "", av_get_pix_fmt_name(*p));
    return oas_media_fail(message, OASIS_E_ARGUMENT, "the encoder %s does not take pixel format '%s'; it takes %s",
                          codec->name, name, list);
}

static oasis_status choose_format(const oas_encoder_request *q, const AVCodec *codec, enum AVPixelFormat *format,
                                  oasis_message *message)
{
    bool deep =
        q->depth > 8 && strcmp(codec->name, "h264_nvenc") != 0; /* which lists 10 bits, and hardly a chip has them */
    if (q->options->pixel_format) {
        const char *name = q->options->pixel_format;
        *format = av_get_pix_fmt(name);
        if (*format == AV_PIX_FMT_NONE)
            return oas_media_fail(message, OASIS_E_ARGUMENT, "there is no pixel format '%s'; expected one like yuv420p",
                                  name);
        if (!takes(codec, *format) || !oas_pixels_supported(*format))
            return refuse_format(codec, name, message);
        return OASIS_OK;
    }
    if (q->picture)
        *format = picture_format(codec, deep, q->alpha);
    else if (is_lossless(codec) && q->source_format != AV_PIX_FMT_NONE && takes(codec, q->source_format) &&
             oas_pixels_supported(q->source_format))
        *format = q->source_format;
    else
        *format = video_format(codec, deep, q->alpha);
    if (*format == AV_PIX_FMT_NONE)
        return oas_media_fail(message, OASIS_E_UNSUPPORTED,
                              "the encoder %s takes no pixel format that oasis writes; try libx264 or ffv1",
                              codec->name);
    return OASIS_OK;
}

/* The 4:4:4 format of the same depth. */
static enum AVPixelFormat full_chroma(enum AVPixelFormat format)
{
    int depth = oas_format_depth(format);
    if (oas_format_is_yuvj(format))
        return AV_PIX_FMT_YUVJ444P;
    return depth == 8 ? AV_PIX_FMT_YUV444P : depth == 10 ? AV_PIX_FMT_YUV444P10 : AV_PIX_FMT_YUV444P12;
}

/* ---- colour ------------------------------------------------------------------------------------------------------- */

/* The description of what is written: the source's, as far as the pixel format can have it. */
static oas_color written_color(const oas_encoder_request *q, const AVCodec *codec, enum AVPixelFormat format)
{
    oas_color c = q->color;
    bool from_yuv =
        c.matrix != AVCOL_SPC_RGB && !(q->source_format != AV_PIX_FMT_NONE && oas_format_is_gray(q->source_format));
    if (oas_format_is_rgb(format)) {
        c.matrix = AVCOL_SPC_RGB;
        c.range = AVCOL_RANGE_JPEG;
        c.location = AVCHROMA_LOC_UNSPECIFIED;
        return c;
    }
    if (c.matrix == AVCOL_SPC_RGB)
        c.matrix = c.primaries == AVCOL_PRI_BT2020 ? AVCOL_SPC_BT2020_NCL : AVCOL_SPC_BT709;
    if (!from_yuv)
        c.range = AVCOL_RANGE_MPEG;
    if (c.location == AVCHROMA_LOC_UNSPECIFIED)
        c.location = AVCHROMA_LOC_LEFT;
    if (q->picture || codec->id == AV_CODEC_ID_MJPEG || oas_format_is_yuvj(format)) {
        c.range = q->picture && codec->id == AV_CODEC_ID_WEBP ? AVCOL_RANGE_MPEG : AVCOL_RANGE_JPEG;
        c.location = AVCHROMA_LOC_CENTER;
        if (q->picture || codec->id == AV_CODEC_ID_MJPEG)
            c.matrix = AVCOL_SPC_BT470BG; /* JFIF and WebP know no other */
    }
    if (oas_format_is_gray(format) && q->picture)
        c.range = AVCOL_RANGE_JPEG;
    return c;
}

/* ---- settings ----------------------------------------------------------------------------------------------------- */

static void hdr_parameters(const oas_encoder_request *q, char *text, size_t size)
{
    const AVMasteringDisplayMetadata *m = q->mastering;
    if (m && m->has_primaries && m->has_luminance) {
        const AVRational(*p)[2] = m->display_primaries;
        av_strlcatf(text, size, ":master-display=G(%ld,%ld)B(%ld,%ld)R(%ld,%ld)WP(%ld,%ld)L(%ld,%ld)",
                    lrint(50000 * av_q2d(p[1][0])), lrint(50000 * av_q2d(p[1][1])), lrint(50000 * av_q2d(p[2][0])),
                    lrint(50000 * av_q2d(p[2][1])), lrint(50000 * av_q2d(p[0][0])), lrint(50000 * av_q2d(p[0][1])),
                    lrint(50000 * av_q2d(m->white_point[0])), lrint(50000 * av_q2d(m->white_point[1])),
                    lrint(10000 * av_q2d(m->max_luminance)), lrint(10000 * av_q2d(m->min_luminance)));
    }
    if (q->light)
        av_strlcatf(text, size, ":max-cll=%u,%u", q->light->MaxCLL, q->light->MaxFALL);
}

/*
 * Do our settings for the encoder's library concern this machine?  x264's AVX-512 code (version 164) looks at memory that
 * nobody has written, and gives other bits from run to run; without it they are the same.
 */
static bool settings_apply(const encoder_defaults *d)
{
    return strncmp(d->name, "libx264", strlen("libx264")) != 0 || (av_get_cpu_flags() & AV_CPU_FLAG_AVX512) != 0;
}

/* The settings given as key=value, with our own for the encoder's library in front of the user's. */
static oasis_status collect_settings(const oas_encoder_request *q, const encoder_defaults *d, AVDictionary **settings,
                                     oasis_message *message)
{
    if (d->parameters && settings_apply(d)) {
        char text[400];
        snprintf(text, sizeof text, d->fixed, q->options->threads);
        if (strcmp(d->name, "libx265") == 0)
            hdr_parameters(q, text, sizeof text);
        av_dict_set(settings, d->parameters, text, 0);
    }
    for (int i = 0; i < q->options->extra.count; i++) {
        const char *text = q->options->extra.text[i], *equals = strchr(text, '=');
        if (!equals || equals == text)
            return oas_media_fail(message, OASIS_E_ARGUMENT, "the setting '%s' (-e) is not of the form key=value",
                                  text);
        char *key = av_strndup(text, (size_t)(equals - text));
        if (!key)
            return oas_media_fail_memory(message, "settings");
        if (av_dict_get(*settings, key, NULL, 0) && d->parameters && strcmp(key, d->parameters) == 0)
            av_dict_set(settings, key, ":", AV_DICT_APPEND);
        av_dict_set(settings, key, equals + 1, d->parameters && strcmp(key, d->parameters) == 0 ? AV_DICT_APPEND : 0);
        av_free(key);
    }
    return OASIS_OK;
}

static bool is_nvenc(const AVCodec *codec)
{
    return strstr(codec->name, "_nvenc") != NULL;
}

static oasis_status set_quality(AVCodecContext *c, const oas_encoder_request *q, const encoder_defaults *d,
                                oasis_message *message)
{
    double crf = q->options->crf >= 0 ? q->options->crf : d->crf;
    void *own = c->codec->priv_class ? c->priv_data : NULL;
    const char *quality = is_nvenc(c->codec) ? "cq" : "crf";
    bool has_crf = own && av_opt_find(own, quality, NULL, 0, 0),
         has_preset = own && av_opt_find(own, "preset", NULL, 0, 0);
    if (q->options->crf >= 0 && !has_crf)
        return oas_media_fail(
            message, OASIS_E_ARGUMENT,
            "the encoder %s has no constant quality (--crf); its own settings are given with -e key=value",
            c->codec->name);
    if (crf >= 0 && has_crf) {
        if (av_opt_set_double(own, quality, crf, 0) < 0)
            return oas_media_fail(message, OASIS_E_ARGUMENT, "the encoder %s does not take --crf %g", c->codec->name,
                                  crf);
        c->bit_rate = 0; /* or libvpx, libaom and NVENC aim at a rate */
    }
    const char *preset = q->options->preset ? q->options->preset : has_preset ? d->preset : NULL;
    if (preset && !has_preset)
        return oas_media_fail(message, OASIS_E_ARGUMENT,
                              "the encoder %s has no presets; its own settings are given with -e key=value",
                              c->codec->name);
    if (preset && av_opt_set(own, "preset", preset, 0) < 0)
        return oas_media_fail(message, OASIS_E_ARGUMENT, "the encoder %s has no preset '%s'", c->codec->name, preset);
    if (d->quantizer > 0) {
        c->flags |= AV_CODEC_FLAG_QSCALE;
        c->global_quality = (int)lrint(FF_QP2LAMBDA * d->quantizer);
    }
    return OASIS_OK;
}

static AVRational counting_rate(AVRational rate)
{
    AVRational r = {25, 1};
    if (rate.num > 0 && rate.den > 0)
        av_reduce(&r.num, &r.den, rate.num, rate.den, MAX_RATE_PART);
    return r.num > 0 && r.den > 0 ? r : (AVRational){25, 1};
}

/* Whether the chroma of a format does not divide the size. */
static bool is_odd(const oas_encoder_request *q, enum AVPixelFormat format)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    return q->width % (1 << d->log2_chroma_w) || q->height % (1 << d->log2_chroma_h);
}

/* One attempt with a pixel format; *code is FFmpeg's answer. */
static oasis_status try_open(oas_encoder *e, const oas_encoder_request *q, const AVCodec *codec,
                             enum AVPixelFormat format, int *code, oasis_message *message)
{
    const encoder_defaults *d = defaults_of(codec->name);
    avcodec_free_context(&e->context);
    av_dict_free(&e->rest);
    AVCodecContext *c = e->context = avcodec_alloc_context3(codec);
    if (!c)
        return oas_media_fail_memory(message, "an encoder");
    e->color = written_color(q, codec, format);
    c->width = q->width;
    c->height = q->height;
    c->pix_fmt = format;
    c->sample_aspect_ratio = q->sar;
    c->framerate = counting_rate(q->rate);
    c->time_base = av_inv_q(c->framerate);
    c->colorspace = e->color.matrix;
    c->color_range = e->color.range;
    c->color_primaries = e->color.primaries;
    c->color_trc = e->color.transfer;
    c->chroma_sample_location = e->color.location;
    c->thread_count = q->options->threads;
    c->flags |= AV_CODEC_FLAG_BITEXACT | (q->global_header ? AV_CODEC_FLAG_GLOBAL_HEADER : 0);
    c->strict_std_compliance = FF_COMPLIANCE_UNOFFICIAL; /* full range Y'CbCr in MJPEG's yuv444p and the like */
    OAS_TRY(set_quality(c, q, d, message));
    OAS_TRY(collect_settings(q, d, &e->rest, message));
    *code = d->even && is_odd(q, format) ? AVERROR(EINVAL) : avcodec_open2(c, codec, &e->rest);
    return OASIS_OK;
}

static oasis_status refuse_opening(const oas_encoder_request *q, const AVCodec *codec, enum AVPixelFormat format,
                                   int code, oasis_message *message)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    if (is_odd(q, format))
        return oas_media_fail(
            message, OASIS_E_UNSUPPORTED,
            "the encoder %s cannot write %dx%d pixels as %s, which wants even sizes; choose such a --size, "
            "or -c libx264",
            codec->name, q->width, q->height, d->name);
    char settings[200] = "";
    if (q->options->preset)
        av_strlcatf(settings, sizeof settings, ", preset %s", q->options->preset);
    for (int i = 0; i < q->options->extra.count; i++)
        av_strlcatf(settings, sizeof settings, ", -e %s", q->options->extra.text[i]);
    oas_media_fail_av(message, code, "the encoder %s does not start with %dx%d pixels, %s%s", codec->name, q->width,
                      q->height, d->name, settings);
    if (message && is_nvenc(codec))
        av_strlcat(message->text,
                   "; it needs an NVIDIA GPU that has an encoder (A100 and H100 have none) and its driver; libx264 and "
                   "libx265 need none",
                   sizeof message->text);
    return code == AVERROR(ENOMEM) ? OASIS_E_MEMORY : OASIS_E_UNSUPPORTED;
}

static oasis_status open_context(oas_encoder *e, const oas_encoder_request *q, oasis_message *message)
{
    const AVCodec *codec = avcodec_find_encoder_by_name(q->codec);
    if (!codec || codec->type != AVMEDIA_TYPE_VIDEO)
        return oas_media_fail(
            message, OASIS_E_UNSUPPORTED,
            "this FFmpeg has no video encoder '%s'; libx264, libx265, libsvtav1, ffv1 and prores_ks are "
            "usual",
            q->codec);
    enum AVPixelFormat format;
    int code = 0;
    OAS_TRY(choose_format(q, codec, &format, message));
    OAS_TRY(try_open(e, q, codec, format, &code, message));
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    if (code < 0 && is_odd(q, format) && !q->options->pixel_format && takes(codec, full_chroma(format))) {
        format = full_chroma(format);
        OAS_TRY(try_open(e, q, codec, format, &code, message));
        if (code >= 0)
            snprintf(e->note, sizeof e->note, "pixel format %s, since %s cannot hold an odd size",
                     av_get_pix_fmt_name(format), d->name);
    }
    if (code < 0)
        return refuse_opening(q, codec, format, code, message);
    if (q->alpha && !oas_format_has_alpha(format))
        av_strlcatf(e->note, sizeof e->note, "%stransparency is left out, %s has none", e->note[0] ? "; " : "",
                    av_get_pix_fmt_name(format));
    return OASIS_OK;
}

/* ---- running ------------------------------------------------------------------------------------------------------ */

oasis_status oas_encoder_open(oas_encoder *e, const oas_encoder_request *q, oasis_message *message)
{
    *e = (oas_encoder){0};
    OAS_TRY(open_context(e, q, message));
    const AVCodecContext *c = e->context;
    OAS_TRY(oas_converter_new(&e->converter, c->pix_fmt, c->width, c->height, &e->color, message));
    e->frame = av_frame_alloc();
    if (!e->frame)
        return oas_media_fail_memory(message, "a frame");
    e->frame->format = c->pix_fmt;
    e->frame->width = c->width;
    e->frame->height = c->height;
    return av_frame_get_buffer(e->frame, 0) < 0 ? oas_media_fail_memory(message, "a frame") : OASIS_OK;
}

void oas_encoder_close(oas_encoder *e)
{
    avcodec_free_context(&e->context);
    oas_converter_free(&e->converter);
    av_frame_free(&e->frame);
    av_dict_free(&e->rest);
}

static oasis_status fail_encoding(const oas_encoder *e, int code, oasis_message *message)
{
    return oas_media_fail_av(message, code, "the encoder %s failed at frame %lld", e->context->codec->name,
                             (long long)e->sent);
}

oasis_status oas_encoder_send(oas_encoder *e, const oasis_frame *in, oasis_message *message)
{
    if (!in) {
        int code = avcodec_send_frame(e->context, NULL);
        return code < 0 && code != AVERROR_EOF ? fail_encoding(e, code, message) : OASIS_OK;
    }
    if (av_frame_make_writable(e->frame) < 0)
        return oas_media_fail_memory(message, "a frame");
    OAS_TRY(oas_converter_from_rgb(e->converter, in, e->frame, message));
    e->frame->pts = e->sent++;
    e->frame->quality = e->context->global_quality;
    e->frame->colorspace = e->color.matrix;
    e->frame->color_range = e->color.range;
    e->frame->color_primaries = e->color.primaries;
    e->frame->color_trc = e->color.transfer;
    e->frame->chroma_location = e->color.location;
    e->frame->sample_aspect_ratio = e->context->sample_aspect_ratio;
    int code = avcodec_send_frame(e->context, e->frame);
    return code < 0 ? fail_encoding(e, code, message) : OASIS_OK;
}

oasis_status oas_encoder_receive(oas_encoder *e, AVPacket *packet, oasis_message *message)
{
    int code = avcodec_receive_packet(e->context, packet);
    if (code == AVERROR(EAGAIN))
        return OASIS_AGAIN;
    if (code == AVERROR_EOF)
        return OASIS_END;
    return code < 0 ? fail_encoding(e, code, message) : OASIS_OK;
}
