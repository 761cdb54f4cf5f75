/* Writing media files: container, streams, time stamps, colour and rotation tags. */
#include "video/writer.h"

#include <libavutil/avstring.h>
#include <libavutil/intreadwrite.h>
#include <libavutil/mathematics.h>
#include <libavutil/mem.h>
#include <libavutil/opt.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_REORDER = 32 }; /* frames that a codec may reorder: 16 in H.264 and HEVC */

static bool is_named(const AVOutputFormat *container, const char *names)
{
    return av_match_name(container->name, names) > 0;
}

/* The family of QuickTime: the only containers whose muxer writes a display matrix. */
static bool is_mov_like(const AVOutputFormat *container)
{
    return is_named(container, "mov,mp4,ipod,3gp,3g2,psp,f4v,ismv");
}

/* Containers of one video and nothing else. */
static bool is_video_only(const AVOutputFormat *container)
{
    return is_named(container, "yuv4mpegpipe,rawvideo,ivf,h264,hevc,obu,m4v,mjpeg,mpeg1video,mpeg2video,apng,gif,webp");
}

/* Containers that know a frame rate only: frame k is shown at k / rate. */
static bool counts_frames(const AVOutputFormat *container)
{
    return is_named(container, "yuv4mpegpipe,avi,mxf,ogg") || container->flags & AVFMT_NOTIMESTAMPS;
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static oasis_status choose_container(const oasis_writer *w, const AVOutputFormat **container, oasis_message *message)
{
    bool piped = strcmp(w->path, "-") == 0;
    *container = av_guess_format(piped ? "yuv4mpegpipe" : NULL, piped ? NULL : w->path, NULL);
    if (!*container || (*container)->flags & AVFMT_NOFILE || (*container)->video_codec == AV_CODEC_ID_NONE ||
        is_named(*container, "image2,image2pipe"))
        return oas_media_fail(
            message, OASIS_E_UNSUPPORTED,
            "'%s': no container for video has this ending; .mp4, .mkv, .mov and .webm are usual, and a "
            "final / names a folder for pictures",
            w->path);
    return OASIS_OK;
}

/* The encoder for a container when none is asked for. */
static const char *usual_codec(const AVOutputFormat *container)
{
    if (is_named(container, "yuv4mpegpipe"))
        return "wrapped_avframe";
    if (is_named(container, "webm,ivf"))
        return "libvpx-vp9";
    if (is_named(container, "mpegts,h264") ||
        avformat_query_codec(container, AV_CODEC_ID_H264, FF_COMPLIANCE_NORMAL) == 1)
        return "libx264";
    if (is_named(container, "hevc"))
        return "libx265";
    const AVCodec *codec = avcodec_find_encoder(container->video_codec);
    return codec ? codec->name : "libx264";
}

static oasis_status check_codec(const oasis_writer *w, const AVOutputFormat *container, oasis_message *message)
{
    const AVCodec *codec = w->encoder.context->codec;
    bool y4m = is_named(container, "yuv4mpegpipe");
    bool fits = y4m ? codec->id == AV_CODEC_ID_WRAPPED_AVFRAME
                    : avformat_query_codec(container, codec->id, FF_COMPLIANCE_NORMAL) != 0 &&
                          codec->id != AV_CODEC_ID_WRAPPED_AVFRAME;
    if (fits)
        return OASIS_OK;
    return oas_media_fail(message, OASIS_E_UNSUPPORTED, "'%s' cannot hold %s video (encoder %s); %s", w->path,
                          avcodec_get_name(codec->id), codec->name,
                          y4m ? "YUV4MPEG2 holds plain pictures only" : "a file ending in .mkv can");
}

static oasis_status add_side_data(AVStream *stream, enum AVPacketSideDataType type, const void *data, size_t size,
                                  oasis_message *message)
{
    if (!data)
        return OASIS_OK;
    uint8_t *copy = av_stream_new_side_data(stream, type, size);
    if (!copy)
        return oas_media_fail_memory(message, "a stream");
    memcpy(copy, data, size);
    return OASIS_OK;
}

/* What the source's video stream says beyond its pixels. */
static oasis_status describe_video(oasis_writer *w, oasis_message *message)
{
    const oas_source *s = w->source;
    AVStream *st = w->stream;
    if (!s)
        return OASIS_OK;
    if (s->stream) {
        oas_copy_metadata(&st->metadata, s->stream->metadata, true);
        st->disposition = s->stream->disposition;
    }
    OAS_TRY(add_side_data(st, AV_PKT_DATA_MASTERING_DISPLAY_METADATA, s->mastering, sizeof *s->mastering, message));
    OAS_TRY(add_side_data(st, AV_PKT_DATA_CONTENT_LIGHT_LEVEL, s->light, sizeof *s->light, message));
    if (!s->has_matrix || w->turning)
        return OASIS_OK;
    if (!is_mov_like(w->mux->oformat)) {
        if (s->turned || s->matrix[1] != 0)
            oas_writer_add_note(w, "the rotation is left out, this container cannot hold it");
        return OASIS_OK;
    }
    int32_t matrix[9];
    memcpy(matrix, s->matrix, sizeof matrix);
    matrix[6] = (int32_t)llrint((double)matrix[6] * w->height / s->height); /* the picture is moved by its own size */
    matrix[7] = (int32_t)llrint((double)matrix[7] * w->width / s->width);
    return add_side_data(st, AV_PKT_DATA_DISPLAYMATRIX, matrix, sizeof matrix, message);
}

static oasis_status add_video(oasis_writer *w, oasis_message *message)
{
    const oas_source *s = w->source;
    const AVCodecContext *c = w->encoder.context;
    AVStream *st = w->stream = avformat_new_stream(w->mux, NULL);
    if (!st || avcodec_parameters_from_context(st->codecpar, c) < 0)
        return oas_media_fail_memory(message, "a stream");
    st->time_base = w->counted ? c->time_base : w->time_base;
    st->sample_aspect_ratio = c->sample_aspect_ratio;
    if (!s || !s->variable_rate)
        st->avg_frame_rate = st->r_frame_rate = s && s->rate.num > 0 ? s->rate : c->framerate;
    st->codecpar->field_order = AV_FIELD_PROGRESSIVE;
    if (c->codec_id == AV_CODEC_ID_HEVC && is_mov_like(w->mux->oformat))
        st->codecpar->codec_tag = MKTAG('h', 'v', 'c', '1'); /* the only one that Apple's players know */
    return describe_video(w, message);
}

/* All streams in the order of the input. */
static oasis_status add_streams(oasis_writer *w, oasis_message *message)
{
    const oas_source *s = w->source;
    bool others = s && s->format && w->options.audio && (s->format->nb_streams > 1 || s->format->nb_chapters > 0);
    w->copying = others && !s->piped && !is_video_only(w->mux->oformat);
    if (others && !w->copying && s->format->nb_streams > 1)
        oas_writer_add_note(w, "sound and other streams are left out, this format holds one video only");
    if (s && s->format)
        oas_copy_metadata(&w->mux->metadata, s->format->metadata, false);
    if (!w->copying)
        return add_video(w, message);
    OAS_TRY(oas_copier_open(&w->copier, s, w->mux, message));
    OAS_TRY(oas_copier_add_chapters(&w->copier, message));
    char note[300] = "";
    for (unsigned i = 0; i < s->format->nb_streams; i++)
        if ((int)i == s->stream->index)
            OAS_TRY(add_video(w, message));
        else
            OAS_TRY(oas_copier_add(&w->copier, i, w->path, note, sizeof note, message));
    oas_writer_add_note(w, note);
    return OASIS_OK;
}

/* Whether MP4 has its own place for every key; others need another kind of table, which fewer players read. */
static bool only_usual_keys(const AVDictionary *metadata)
{
    static const char *const usual[] = {
        "title",         "artist",        "album_artist", "composer",         "album",       "date",
        "comment",       "genre",         "copyright",    "grouping",         "lyrics",      "description",
        "synopsis",      "show",          "episode_id",   "network",          "keywords",    "episode_sort",
        "season_number", "media_type",    "hd_video",     "gapless_playback", "compilation", "track",
        "disc",          "creation_time", "timecode",
    };
    const AVDictionaryEntry *e = NULL;
    while ((e = av_dict_get(metadata, "", e, AV_DICT_IGNORE_SUFFIX)) != NULL) {
        bool known = false;
        for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
            known |= strcmp(e->key, usual[i]) == 0;
        if (!known)
            return false;
    }
    return true;
}

static oasis_status write_header(oasis_writer *w, oasis_message *message)
{
    AVDictionary *settings = NULL;
    if (is_mov_like(w->mux->oformat)) {
        /* The clock of edit lists as fine as that of the video, or a start other than 0 is rounded. */
        av_dict_set_int(&settings, "movie_timescale", w->stream->time_base.den, 0);
        if (!only_usual_keys(w->mux->metadata))
            av_dict_set(&settings, "movflags", "+use_metadata_tags", 0);
    }
    const AVDictionaryEntry *flags = av_dict_get(w->encoder.rest, "movflags", NULL, 0);
    if (flags && av_dict_get(settings, "movflags", NULL, 0))
        av_dict_set(&settings, "movflags", flags->value, AV_DICT_APPEND);
    av_dict_copy(&settings, w->encoder.rest, AV_DICT_DONT_OVERWRITE);
    int code = avformat_write_header(w->mux, &settings);
    oasis_status status = OASIS_OK;
    if (w->file.error || w->mux->pb->error < 0)
        status = oas_output_fail(&w->file, w->mux->pb->error, message);
    else if (code < 0)
        status =
            oas_media_fail_av(message, code, "'%s' cannot be begun: its container (%s) refuses the streams or settings",
                              w->path, w->mux->oformat->name);
    else
        status = oas_writer_check_rest(w, settings, message);
    av_dict_free(&settings);
    return status;
}

oasis_status oas_mux_open(oasis_writer *w, oasis_message *message)
{
    const oas_source *s = w->source;
    const AVOutputFormat *container;
    OAS_TRY(choose_container(w, &container, message));
    if (s && s->turned && !is_mov_like(container)) {
        w->turning = true;
        w->turn = s->orientation;
        oas_writer_add_note(w, "the picture is turned upright, this container cannot tell players to do it");
    }
    w->counted = counts_frames(container);
    if (s && s->variable_rate && w->counted && is_video_only(container))
        oas_writer_add_note(w, "frames become evenly spaced, this format has no time stamps");
    else if (s && s->variable_rate && w->counted)
        return oas_media_fail(
            message, OASIS_E_UNSUPPORTED,
            "'%s' cannot hold frames at uneven times, as those of '%s' are; files ending in .mkv and .mp4 can", w->path,
            s->path);
    OAS_TRY(oas_output_open(&w->file, w->path, s ? s->path : NULL, w->options.overwrite, message));
    if (w->file.direct && is_mov_like(container))
        return oas_media_fail(message, OASIS_E_UNSUPPORTED,
                              "'%s' is no file: %s needs one to go back in; .mkv can be written to devices and pipes",
                              w->path, container->name);
    OAS_TRY(oas_writer_open_encoder(w, usual_codec(container), container->flags & AVFMT_GLOBALHEADER, message));
    OAS_TRY(check_codec(w, container, message));
    const char *url = w->file.temporary ? w->file.temporary : w->path;
    if (avformat_alloc_output_context2(&w->mux, container, NULL, url) < 0)
        return oas_media_fail_memory(message, "a container");
    w->mux->pb = w->file.io;
    w->mux->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_BITEXACT;
    if (is_named(container, "yuv4mpegpipe"))
        w->mux->strict_std_compliance = FF_COMPLIANCE_UNOFFICIAL; /* more than 8 bits */
    OAS_TRY(add_streams(w, message));
    return write_header(w, message);
}

/* ---- writing ------------------------------------------------------------------------------------------------------ */

oasis_status oas_mux_note_frame(oasis_writer *w, const oasis_frame *frame, oasis_message *message)
{
    AVRational base = w->stream->time_base;
    int64_t k = w->frames, pts = frame->pts - w->origin;
    if (k - w->shown >= OAS_WRITER_RING - 1)
        return oas_media_fail(message, OASIS_E_UNSUPPORTED, "the encoder %s holds back more than %d frames",
                              w->encoder.context->codec->name, OAS_WRITER_RING);
    int64_t out = av_rescale_q(pts, w->time_base, base);
    if (w->counted && k > 0)
        out = w->times[(k - 1) % OAS_WRITER_RING].pts + av_rescale_q(1, w->encoder.context->time_base, base);
    if (k > 0 && out <= w->times[(k - 1) % OAS_WRITER_RING].pts) /* a container with coarser time */
        out = w->times[(k - 1) % OAS_WRITER_RING].pts + 1;
    int64_t duration = av_rescale_q(pts + frame->duration, w->time_base, base) - out;
    if (frame->duration <= 0)
        duration = av_rescale_q(1, w->encoder.context->time_base, base);
    duration = duration > 0 ? duration : 1;
    w->times[k % OAS_WRITER_RING].pts = out;
    w->times[k % OAS_WRITER_RING].duration = duration;
    w->end = (double)(out + duration) * av_q2d(base);
    return OASIS_OK;
}

/* The time of frame number k; of frames before the first, by its duration. */
static int64_t time_of(const oasis_writer *w, int64_t k)
{
    if (k < 0)
        return w->times[0].pts + k * w->times[0].duration;
    return w->times[k % OAS_WRITER_RING].pts;
}

/*
 * The frame number at whose time a packet is decoded, at most that of the frame it shows.  Encoders give it as dts;
 * libx265's is garbage in clips of a few frames, so one far from the packet's own number is replaced.
 */
static int64_t decoding_order(const oasis_writer *w, const AVPacket *packet)
{
    const AVCodecContext *c = w->encoder.context;
    const AVCodecDescriptor *d = avcodec_descriptor_get(c->codec_id);
    int64_t number = w->shown, order = packet->dts;
    if (!d || !(d->props & AV_CODEC_PROP_REORDER))
        return packet->pts;
    if (order == AV_NOPTS_VALUE || order > number || order < number - MAX_REORDER)
        order = number - c->has_b_frames;
    return order < packet->pts ? order : packet->pts;
}

oasis_status oas_mux_packet(oasis_writer *w, AVPacket *packet, oasis_message *message)
{
    int64_t k = packet->pts;
    if (k < 0 || k >= w->frames || w->frames - k >= OAS_WRITER_RING)
        return oas_media_fail(message, OASIS_E_IO, "the encoder %s gave a packet of frame %lld of %lld",
                              w->encoder.context->codec->name, (long long)k, (long long)w->frames);
    packet->dts = time_of(w, decoding_order(w, packet));
    packet->pts = time_of(w, k);
    if (w->last_dts != AV_NOPTS_VALUE && packet->dts <= w->last_dts)
        packet->dts = w->last_dts + 1;
    if (packet->pts < packet->dts)
        return oas_media_fail(message, OASIS_E_IO, "the encoder %s gave frame %lld after it should be shown",
                              w->encoder.context->codec->name, (long long)k + 1);
    w->last_dts = packet->dts;
    packet->duration = w->times[k % OAS_WRITER_RING].duration;
    packet->stream_index = w->stream->index;
    w->shown++;
    if (w->copying)
        OAS_TRY(oas_copier_pump(&w->copier, (double)packet->dts * av_q2d(w->stream->time_base), -1, message));
    int code = av_interleaved_write_frame(w->mux, packet);
    if (w->file.error || w->mux->pb->error < 0)
        return oas_output_fail(&w->file, w->mux->pb->error, message);
    return code < 0 ? oas_media_fail_av(message, code, "cannot write frame %lld to '%s'", (long long)k + 1, w->path)
                    : OASIS_OK;
}

oasis_status oas_mux_finish(oasis_writer *w, oasis_message *message)
{
    if (w->copying)
        OAS_TRY(oas_copier_pump(&w->copier, INFINITY, w->source->limited ? w->end : -1, message));
    int code = av_write_trailer(w->mux);
    avio_flush(w->mux->pb);
    if (w->file.error || w->mux->pb->error < 0)
        return oas_output_fail(&w->file, w->mux->pb->error, message);
    if (code < 0)
        return oas_media_fail_av(message, code, "'%s' cannot be ended", w->path);
    return oas_output_commit(&w->file, message);
}
