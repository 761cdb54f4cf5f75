/*
 * Video codecs in memory: frames into an encoder, its packets straight into a decoder, no file format between.
 *
 *     libx264 (2/3) or mpeg4 (1/3), yuv420p, 10^4 to 10^5 bits a second at one frame a second
 *
 * One frame a second makes the bit rate one of bits per frame, and it is missed widely by both encoders, as in the
 * published pipelines.  Codecs run with one thread: their output depends on the number.
 *
 * All frames of a clip get the size of its first one (resizing that walks makes them differ).  Encoders want even sides
 * and not too few pixels: the picture is mirrored out to that and cut back.
 */
#include "image/resize.h"

#include "base/memory.h"
#include "degrade/stage.h"

#include <libavcodec/avcodec.h>
#include <libavutil/cpu.h>

#include <libswscale/swscale.h>
#include <string.h>

enum { LEAST_SIDE = 16 };

static const char *const encoder_names[] = {"libx264", "mpeg4"};
static const double encoder_weights[] = {2, 1};

/* Pictures that came out of the decoder and wait. */
struct waiting {
    picture picture;
    struct waiting *next;
};

struct video {
    const char *encoder_name;
    const AVCodec *encoder, *decoder;
    AVCodecContext *encoding, *decoding;
    AVFrame *frame, *decoded;
    AVPacket *packet;
    struct SwsContext *to_yuv, *to_rgb;
    unsigned char *bytes; /* [padded_height][padded_width][3] */
    int width, height, padded_width, padded_height;
    int64_t sent, received;
    struct waiting *first, *last;
    bool ended;
};

static oasis_status fail_codec(const struct video *v, const char *what, int error, oasis_message *message)
{
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(error, text, sizeof text);
    return oas_fail(message, error == AVERROR(ENOMEM) ? OASIS_E_MEMORY : OASIS_E_UNSUPPORTED,
                    "degrade: %s failed to %s pictures of %dx%d: %s", v->encoder_name, what, v->padded_width,
                    v->padded_height, text);
}

/* ---- drawing ----------------------------------------------------------------------------------------------------- */

static oasis_status video_draw(stage *s, oasis_message *message)
{
    s->active = s->options->video;
    if (!s->active)
        return OASIS_OK;
    struct video *v = oas_alloc(1, sizeof *v);
    if (!v)
        return oas_fail_memory(message, sizeof *v, "a video codec");
    s->state = v;
    v->encoder_name = encoder_names[oas_rng_choice(&s->rng, encoder_weights, 2)];
    v->encoder = avcodec_find_encoder_by_name(v->encoder_name);
    v->decoder = v->encoder ? avcodec_find_decoder(v->encoder->id) : NULL;
    if (!v->decoder)
        return oas_fail(message, OASIS_E_UNSUPPORTED,
                        "degrade: this FFmpeg has no %s %s; use a build with it, or leave the video codecs out",
                        v->encoder_name, v->encoder ? "decoder" : "encoder");
    oas_stage_note_text(s, "encoder", v->encoder_name);
    oas_stage_walk(s, "bits_per_frame", 1e4, 1e5, 0);
    return OASIS_OK;
}

/* ---- opening, at the first frame --------------------------------------------------------------------------------- */

static AVCodecContext *new_context(const AVCodec *codec)
{
    AVCodecContext *c = avcodec_alloc_context3(codec);
    if (c) {
        c->thread_count = 1;
        c->flags |= AV_CODEC_FLAG_BITEXACT;
        c->log_level_offset = 100; /* beyond all levels, so nothing is printed; the sum must stay below 256 */
    }
    return c;
}

static int open_encoder(const stage *s, struct video *v)
{
    AVCodecContext *c = v->encoding = new_context(v->encoder);
    if (!c)
        return AVERROR(ENOMEM);
    c->width = v->padded_width;
    c->height = v->padded_height;
    c->pix_fmt = AV_PIX_FMT_YUV420P;
    c->time_base = (AVRational){1, 1};
    c->framerate = (AVRational){1, 1};
    c->bit_rate = (int64_t)s->walks[0].value;
    AVDictionary *settings = NULL;
    int error = 0;
    if (v->encoder->id == AV_CODEC_ID_H264) {
        /* The AVX-512 lookahead of x264 (build 164) reads memory that nobody wrote when pictures are small: other bits
         * in every run.  With AVX2 it does not. */
        bool wide = av_get_cpu_flags() & AV_CPU_FLAG_AVX512;
        error = av_dict_set(&settings, "preset", s->options->fast_video ? "veryfast" : "medium", 0);
        if (error >= 0)
            error = av_dict_set(&settings, "x264-params", wide ? "cpu-independent=1:asm=avx2" : "cpu-independent=1", 0);
    }
    if (error >= 0)
        error = avcodec_open2(c, v->encoder, &settings);
    av_dict_free(&settings);
    return error;
}

static oasis_status video_open(stage *s, struct video *v, int width, int height, oasis_message *message)
{
    /* Without full chroma its way back to RGB rounds down: 1.7 of 255 darker each time. */
    static const int how = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_BITEXACT | SWS_FULL_CHR_H_INT;
    v->width = width;
    v->height = height;
    v->padded_width = width < LEAST_SIDE ? LEAST_SIDE : width + width % 2;
    v->padded_height = height < LEAST_SIDE ? LEAST_SIDE : height + height % 2;
    int w = v->padded_width, h = v->padded_height;
    int error = open_encoder(s, v);
    if (error < 0)
        return fail_codec(v, "open an encoder for", error, message);
    v->decoding = new_context(v->decoder);
    error = v->decoding ? avcodec_open2(v->decoding, v->decoder, NULL) : AVERROR(ENOMEM);
    if (error < 0)
        return fail_codec(v, "open a decoder for", error, message);
    v->frame = av_frame_alloc();
    v->decoded = av_frame_alloc();
    v->packet = av_packet_alloc();
    v->bytes = oas_alloc((size_t)w * (size_t)h, 3);
    v->to_yuv = sws_getContext(w, h, AV_PIX_FMT_RGB24, w, h, AV_PIX_FMT_YUV420P, how, NULL, NULL, NULL);
    v->to_rgb = sws_getContext(w, h, AV_PIX_FMT_YUV420P, w, h, AV_PIX_FMT_RGB24, how, NULL, NULL, NULL);
    if (!v->frame || !v->decoded || !v->packet || !v->bytes || !v->to_yuv || !v->to_rgb)
        return oas_fail_memory(message, (size_t)w * (size_t)h * 3, "a video codec");
    v->frame->format = AV_PIX_FMT_YUV420P;
    v->frame->width = w;
    v->frame->height = h;
    error = av_frame_get_buffer(v->frame, 0);
    return error < 0 ? fail_codec(v, "hold", error, message) : OASIS_OK;
}

/* ---- frames in --------------------------------------------------------------------------------------------------- */

/* i mirrored into 0..n-1, the edge repeated: the padding only keeps the encoder from seeing an edge. */
static int mirrored(int i, int n)
{
    i %= 2 * n;
    return i < n ? i : 2 * n - 1 - i;
}

static oasis_status keep(struct video *v, oasis_message *message)
{
    struct waiting *w = oas_alloc(1, sizeof *w);
    if (!w)
        return oas_fail_memory(message, sizeof *w, "a decoded frame");
    if (v->last)
        v->last->next = w;
    else
        v->first = w;
    v->last = w;
    OAS_TRY(oas_picture_size(&w->picture, v->width, v->height, message));
    unsigned char *bytes[4] = {v->bytes};
    const int stride[4] = {v->padded_width * 3};
    const uint8_t *const *planes = (const uint8_t *const *)v->decoded->data;
    sws_scale(v->to_rgb, planes, v->decoded->linesize, 0, v->padded_height, bytes, stride);
    for (int y = 0; y < v->height; y++)
        for (int i = 0; i < v->width * 3; i++)
            w->picture.rgb[(size_t)y * (size_t)v->width * 3 + (size_t)i] =
                (float)v->bytes[(size_t)y * (size_t)stride[0] + (size_t)i] / 255.f;
    v->received++;
    return OASIS_OK;
}

/* A packet (NULL: no more) through the decoder. */
static oasis_status decode(struct video *v, const AVPacket *packet, oasis_message *message)
{
    int error = avcodec_send_packet(v->decoding, packet);
    if (error < 0)
        return fail_codec(v, "decode", error, message);
    while ((error = avcodec_receive_frame(v->decoding, v->decoded)) >= 0) {
        oasis_status status = OASIS_OK;
        if (v->decoded->width == v->padded_width && v->decoded->height == v->padded_height)
            status = keep(v, message);
        else
            status = fail_codec(v, "keep the size of", AVERROR_INVALIDDATA, message);
        av_frame_unref(v->decoded);
        OAS_TRY(status);
    }
    return error == AVERROR(EAGAIN) || error == AVERROR_EOF ? OASIS_OK : fail_codec(v, "decode", error, message);
}

/* A frame (NULL: no more) through the encoder, and what comes of it through the decoder. */
static oasis_status encode(struct video *v, const AVFrame *frame, oasis_message *message)
{
    int error = avcodec_send_frame(v->encoding, frame);
    if (error < 0)
        return fail_codec(v, "encode", error, message);
    while ((error = avcodec_receive_packet(v->encoding, v->packet)) >= 0) {
        oasis_status status = decode(v, v->packet, message);
        av_packet_unref(v->packet);
        OAS_TRY(status);
    }
    return error == AVERROR(EAGAIN) || error == AVERROR_EOF ? OASIS_OK : fail_codec(v, "encode", error, message);
}

/* The picture in the size of the first one. */
static oasis_status level(stage *s, const struct video *v, const picture *in, const picture **same,
                          oasis_message *message)
{
    *same = in;
    if (in->width == v->width && in->height == v->height)
        return OASIS_OK;
    oas_resize_spec spec = {.in_width = in->width,
                            .in_height = in->height,
                            .out_width = v->width,
                            .out_height = v->height,
                            .channels = 3,
                            .filter = OAS_FILTER_BICUBIC,
                            .a = -0.75};
    oas_resizer *resizer = NULL;
    OAS_TRY(oas_picture_size(&s->scratch, v->width, v->height, message));
    OAS_TRY(oas_resizer_new(&resizer, &spec, message));
    oas_resize(resizer, s->pool, in->rgb, s->scratch.rgb, 1, 0);
    oas_resizer_free(&resizer);
    *same = &s->scratch;
    return OASIS_OK;
}

static oasis_status finish(struct video *v, oasis_message *message)
{
    v->ended = true;
    if (v->sent == 0)
        return OASIS_OK;
    OAS_TRY(encode(v, NULL, message));
    OAS_TRY(decode(v, NULL, message));
    if (v->received != v->sent)
        return oas_fail(message, OASIS_E_UNSUPPORTED, "degrade: %s gave %lld frames back for %lld", v->encoder_name,
                        (long long)v->received, (long long)v->sent);
    return OASIS_OK;
}

static oasis_status video_push(stage *s, const picture *in, oasis_message *message)
{
    struct video *v = s->state;
    if (!in)
        return finish(v, message);
    if (!v->encoding)
        OAS_TRY(video_open(s, v, in->width, in->height, message));
    OAS_TRY(level(s, v, in, &in, message));
    for (int y = 0; y < v->padded_height; y++) {
        const float *from = in->rgb + (size_t)mirrored(y, v->height) * (size_t)v->width * 3;
        unsigned char *to = v->bytes + (size_t)y * (size_t)v->padded_width * 3;
        for (int x = 0; x < v->padded_width; x++)
            for (int c = 0; c < 3; c++)
                to[x * 3 + c] = oas_to_byte(from[mirrored(x, v->width) * 3 + c]);
    }
    int error = av_frame_make_writable(v->frame);
    if (error < 0)
        return fail_codec(v, "hold", error, message);
    const unsigned char *bytes[4] = {v->bytes};
    const int stride[4] = {v->padded_width * 3};
    sws_scale(v->to_yuv, bytes, stride, 0, v->padded_height, v->frame->data, v->frame->linesize);
    v->frame->pts = v->sent++;
    return encode(v, v->frame, message);
}

/* ---- frames out -------------------------------------------------------------------------------------------------- */

static oasis_status video_pull(stage *s, picture *out, oasis_message *message)
{
    struct video *v = s->state;
    struct waiting *w = v->first;
    if (!w)
        return v->ended ? OASIS_END : OASIS_AGAIN;
    OAS_TRY(oas_picture_size(out, v->width, v->height, message));
    memcpy(out->rgb, w->picture.rgb, (size_t)v->width * (size_t)v->height * 3 * sizeof *out->rgb);
    v->first = w->next;
    if (!v->first)
        v->last = NULL;
    oas_picture_free(&w->picture);
    oas_free(w);
    return OASIS_OK;
}

static void video_close(stage *s)
{
    struct video *v = s->state;
    if (!v)
        return;
    while (v->first) {
        struct waiting *w = v->first;
        v->first = w->next;
        oas_picture_free(&w->picture);
        oas_free(w);
    }
    avcodec_free_context(&v->encoding);
    avcodec_free_context(&v->decoding);
    av_frame_free(&v->frame);
    av_frame_free(&v->decoded);
    av_packet_free(&v->packet);
    sws_freeContext(v->to_yuv);
    sws_freeContext(v->to_rgb);
    oas_free(v->bytes);
    oas_free(v);
}

const degradation oas_degradation_video = {
    .name = "video",
    .draw = video_draw,
    .push = video_push,
    .pull = video_pull,
    .close = video_close,
};
