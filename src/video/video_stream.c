/* Opening a media file, decoding its video, and noticing what is damaged. */
#include "video/video_stream.h"

#include "video/declared_size.h"

#include <errno.h>
#include <libavutil/avstring.h>
#include <libavutil/opt.h>
#include <string.h>
#include <sys/stat.h>

enum {
    DECODER_THREADS = 2, /* decoding must not take the processors from the network */
    Y4M_HEAD = 6         /* "FRAME" and a line feed, the head of a frame without parameters */
};

/* ---- the container ------------------------------------------------------------------------------------------------ */

static oasis_status check_file(const char *path, oasis_message *message)
{
    struct stat s;
    FILE *file = stat(path, &s) == 0 ? fopen(path, "rbe") : NULL;
    if (!file)
        return oas_media_fail(message, OASIS_E_IO, "cannot open '%s': %s", path, strerror(errno));
    fclose(file);
    if (S_ISDIR(s.st_mode))
        return oas_media_fail(message, OASIS_E_IO, "'%s' is a folder; expected a media file", path);
    if (S_ISREG(s.st_mode) && s.st_size == 0)
        return oas_media_fail(message, OASIS_E_FORMAT, "'%s' is empty; expected a media file", path);
    return OASIS_OK;
}

static oasis_status explain_unopened(const char *path, int code, oasis_message *message)
{
    FILE *file = fopen(path, "rbe");
    oas_declared_size d = file ? oas_declared_size_of(file) : (oas_declared_size){0};
    if (file)
        fclose(file);
    if (d.is_mp4 && !d.has_index)
        return oas_media_fail(message, OASIS_E_FORMAT,
                              "'%s' has no index (moov box): the file was cut short, or its recording never finished",
                              path);
    if (code == AVERROR_INVALIDDATA || code == AVERROR_EOF)
        return oas_media_fail(message, OASIS_E_FORMAT,
                              "'%s' is no media file that FFmpeg knows, or its beginning is damaged", path);
    return oas_media_fail_av(message, code, "cannot open '%s'", path);
}

oasis_status oas_demux_open(AVFormatContext **out, const char *path, oasis_message *message)
{
    bool piped = strcmp(path, "-") == 0;
    if (!piped)
        OAS_TRY(check_file(path, message));
    char *url = piped ? av_strdup("pipe:0") : av_asprintf("file:%s", path);
    AVDictionary *options = NULL;
    /* A playlist must not open addresses or devices. */
    av_dict_set(&options, "protocol_whitelist", piped ? "pipe" : "file", 0);
    AVFormatContext *format = NULL;
    int code = url ? avformat_open_input(&format, url, piped ? av_find_input_format("yuv4mpegpipe") : NULL, &options)
                   : AVERROR(ENOMEM);
    av_free(url);
    av_dict_free(&options);
    if (code < 0 && piped)
        return oas_media_fail_av(message, code, "standard input is not YUV4MPEG2, the only format read from there");
    if (code < 0)
        return explain_unopened(path, code, message);
    code = avformat_find_stream_info(format, NULL);
    if (code < 0) {
        avformat_close_input(&format);
        return oas_media_fail_av(message, code, "cannot find the streams of '%s'", path);
    }
    *out = format;
    return OASIS_OK;
}

/* The video to work on: the default one, else the first; no cover pictures or thumbnails. */
static AVStream *choose_stream(AVFormatContext *format)
{
    const int still = AV_DISPOSITION_ATTACHED_PIC | AV_DISPOSITION_TIMED_THUMBNAILS | AV_DISPOSITION_STILL_IMAGE;
    AVStream *best = NULL;
    for (unsigned i = 0; i < format->nb_streams; i++) {
        AVStream *s = format->streams[i];
        if (s->codecpar->codec_type != AVMEDIA_TYPE_VIDEO || s->disposition & still)
            continue;
        if (!best || (s->disposition & AV_DISPOSITION_DEFAULT && !(best->disposition & AV_DISPOSITION_DEFAULT)))
            best = s;
    }
    return best;
}

static bool is_mov(const AVFormatContext *format)
{
    return strstr(format->iformat->name, "mp4") != NULL;
}

/* Where an index reaches in the file: the end of the last sample of any stream. */
static int64_t index_reach(AVFormatContext *format)
{
    int64_t reach = 0;
    for (unsigned i = 0; i < format->nb_streams; i++) {
        AVStream *s = format->streams[i];
        for (int k = 0, n = avformat_index_get_entries_count(s); k < n; k++) {
            const AVIndexEntry *e = avformat_index_get_entry(s, k);
            if (e->pos + e->size > reach)
                reach = e->pos + e->size;
        }
    }
    return reach;
}

/* Packets of a stream by its index; empty samples make none. */
static int64_t indexed_packets(AVStream *stream)
{
    int64_t packets = 0;
    for (int k = 0, n = avformat_index_get_entries_count(stream); k < n; k++)
        packets += avformat_index_get_entry(stream, k)->size > 0;
    return packets;
}

/* Refuses a file that is shorter than it says. */
static oasis_status check_size(oas_video *v, oasis_message *message)
{
    int64_t size = v->format->pb ? avio_size(v->format->pb) : -1;
    FILE *file = size > 0 ? fopen(v->path, "rbe") : NULL;
    if (!file)
        return OASIS_OK;
    oas_declared_size d = oas_declared_size_of(file);
    fclose(file);
    if (is_mov(v->format) && !d.fragmented) {
        /* Some cameras write a wrong size for the last box; what counts is whether the samples are there. */
        int64_t reach = index_reach(v->format);
        if (reach > 0)
            d.needed = reach, d.part = "last sample";
    }
    if (d.needed > size)
        return oas_media_fail(
            message, OASIS_E_FORMAT,
            "'%s' is cut short: it has %lld bytes, but its %s reaches to byte %lld; --frames reads only "
            "a part of it",
            v->path, (long long)size, d.part, (long long)d.needed);
    return OASIS_OK;
}

/* ---- the decoder -------------------------------------------------------------------------------------------------- */

static bool has_alpha(const AVStream *stream)
{
    const AVDictionaryEntry *alpha = av_dict_get(stream->metadata, "alpha_mode", NULL, 0);
    return alpha && strcmp(alpha->value, "1") == 0;
}

static const AVCodec *find_decoder(const AVStream *stream)
{
    enum AVCodecID id = stream->codecpar->codec_id;
    const AVCodec *codec = NULL;
    if (id == AV_CODEC_ID_AV1) /* FFmpeg's own needs hardware */
        codec = avcodec_find_decoder_by_name("libdav1d");
    if (has_alpha(stream)) /* FFmpeg's own skip the alpha of WebM */
        codec = id == AV_CODEC_ID_VP8   ? avcodec_find_decoder_by_name("libvpx")
                : id == AV_CODEC_ID_VP9 ? avcodec_find_decoder_by_name("libvpx-vp9")
                                        : NULL;
    return codec ? codec : avcodec_find_decoder(id);
}

/* The decoder that hardware works under, or NULL. */
static const AVCodec *find_hardware(const oas_hardware *hardware, const AVStream *stream)
{
    return has_alpha(stream) ? NULL : hardware->decoder(stream->codecpar->codec_id);
}

static oasis_status open_decoder(oas_video *v, int gpu, oasis_message *message)
{
    const AVCodec *codec = v->hardware ? find_hardware(v->hardware, v->stream) : find_decoder(v->stream);
    if (!codec)
        return oas_media_fail(message, OASIS_E_UNSUPPORTED, "'%s': this FFmpeg has no decoder for %s video", v->path,
                              avcodec_get_name(v->stream->codecpar->codec_id));
    v->decoder = avcodec_alloc_context3(codec);
    v->packet = av_packet_alloc();
    if (!v->decoder || !v->packet || avcodec_parameters_to_context(v->decoder, v->stream->codecpar) < 0)
        return oas_media_fail_memory(message, "a decoder");
    v->decoder->pkt_timebase = v->stream->time_base;
    v->decoder->thread_count = DECODER_THREADS;
    v->decoder->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER;
    int code = v->hardware ? v->hardware->attach(v->decoder, gpu) : 0;
    if (code >= 0)
        code = avcodec_open2(v->decoder, codec, NULL);
    if (code < 0)
        return oas_media_fail_av(message, code, "'%s': cannot start the decoder %s", v->path, codec->name);
    return OASIS_OK;
}

static oasis_status open_video(oas_video *v, const char *path, bool whole, const oas_hardware *hardware, int gpu,
                               oasis_message *message)
{
    *v = (oas_video){.path = path, .whole = whole, .hardware = hardware, .last_pts = AV_NOPTS_VALUE};
    OAS_TRY(oas_demux_open(&v->format, path, message));
    v->stream = choose_stream(v->format);
    if (!v->stream)
        return oas_media_fail(message, OASIS_E_FORMAT, "'%s' has no video in it (%u streams, format %s)", path,
                              v->format->nb_streams, v->format->iformat->name);
    for (unsigned i = 0; i < v->format->nb_streams; i++)
        if (v->format->streams[i] != v->stream)
            v->format->streams[i]->discard = AVDISCARD_ALL;
    if (whole)
        OAS_TRY(check_size(v, message));
    if (strstr(v->format->iformat->name, "matroska"))
        oas_ebml_walk_open(&v->walk, path);
    if (is_mov(v->format))
        v->expected_packets = indexed_packets(v->stream);
    return open_decoder(v, gpu, message);
}

oasis_status oas_video_open(oas_video *video, const char *path, bool whole, oasis_message *message)
{
    return open_video(video, path, whole, NULL, 0, message);
}

void oas_video_close(oas_video *v)
{
    oas_ebml_walk_close(&v->walk);
    av_packet_free(&v->packet);
    avcodec_free_context(&v->decoder);
    avformat_close_input(&v->format);
    avformat_close_input(&v->described);
}

bool oas_video_seek(oas_video *v, int64_t pts)
{
    if (avformat_seek_file(v->format, v->stream->index, INT64_MIN, pts, pts, 0) < 0)
        return false;
    avcodec_flush_buffers(v->decoder);
    v->strict = v->clean = v->draining = false;
    v->expected_packets = 0;
    v->sought = true;
    v->sought_pts = pts;
    oas_ebml_walk_close(&v->walk); /* what lies between is not read */
    return true;
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */

/* Fails at the frame after the last one given. */
static oasis_status damaged(const oas_video *v, int code, const char *what, oasis_message *message)
{
    char time[32] = "", reason[AV_ERROR_MAX_STRING_SIZE] = "";
    if (v->last_pts != AV_NOPTS_VALUE)
        oas_media_time_text(time, (double)v->last_pts * av_q2d(v->stream->time_base));
    if (code != 0 && code != AVERROR_INVALIDDATA)
        av_strerror(code, reason, sizeof reason);
    oasis_status status = code == AVERROR(ENOMEM) ? OASIS_E_MEMORY : reason[0] ? OASIS_E_IO : OASIS_E_FORMAT;
    return oas_media_fail(
        message, status, "'%s' is damaged at frame %lld%s%s: %s%s%s; --start and --frames leave it out", v->path,
        (long long)v->frames + 1, time[0] ? ", after " : "", time, what, reason[0] ? ": " : "", reason);
}

static bool is_y4m(const AVFormatContext *format)
{
    return strcmp(format->iformat->name, "yuv4mpegpipe") == 0;
}

/* Notes where a frame of YUV4MPEG2 ends: the demuxer takes a half frame for the end. */
static void note_packet_end(oas_video *v)
{
    const AVPacket *p = v->packet;
    if (!is_y4m(v->format) || p->pos < 0)
        return;
    v->head = v->packet_end > 0 ? p->pos - v->packet_end + v->head : Y4M_HEAD;
    v->packet_end = p->pos + p->size + v->head;
}

/* The demuxer said that there is no more: check that it is so. */
static oasis_status check_end(oas_video *v, oasis_message *message)
{
    if (v->packet_end > 0 && avio_tell(v->format->pb) > v->packet_end)
        return oas_media_fail(message, OASIS_E_FORMAT, "'%s' is cut short: frame %lld is not complete", v->path,
                              (long long)v->packets + 1);
    if (v->format->pb && v->format->pb->error < 0)
        return damaged(v, v->format->pb->error, "the file cannot be read any further", message);
    if (!oas_ebml_walk_to(&v->walk, INT64_MAX))
        return damaged(v, 0, "what follows is unreadable", message);
    if (v->packets < v->expected_packets)
        return oas_media_fail(message, OASIS_E_FORMAT,
                              "'%s' ends early: its index has %lld frames, but only %lld are there", v->path,
                              (long long)v->expected_packets, (long long)v->packets);
    return OASIS_OK;
}

/* MPEG-TS marks a packet when its counters jump, as where two recordings were joined; whether anything is missing, the
 * decoder tells. */
static bool counts_packets(const AVFormatContext *format)
{
    return format->iformat->flags & AVFMT_TS_DISCONT;
}

/* Feeds the decoder with the next packet, or with the end. */
static oasis_status feed(oas_video *v, oasis_message *message)
{
    int code = av_read_frame(v->format, v->packet);
    if (code == AVERROR_EOF) {
        v->draining = true;
        OAS_TRY(check_end(v, message));
        code = avcodec_send_packet(v->decoder, NULL);
        return code < 0 && code != AVERROR_EOF ? damaged(v, code, "the decoder failed", message) : OASIS_OK;
    }
    if (code < 0)
        return damaged(v, code, "the next packet cannot be read", message);
    oasis_status status = OASIS_OK;
    if (v->packet->stream_index == v->stream->index) {
        v->packets++;
        note_packet_end(v);
        bool chained = v->packet->pos < 0 || oas_ebml_walk_to(&v->walk, v->packet->pos);
        v->strict |= (v->packet->flags & AV_PKT_FLAG_KEY) != 0;
        if (!chained) {
            status = damaged(v, 0, "packets before it are unreadable", message);
        } else if (v->strict && v->packet->flags & AV_PKT_FLAG_CORRUPT && !counts_packets(v->format)) {
            status = damaged(v, 0, "a packet is incomplete", message);
        } else if (v->packet->size > 0) {
            code = avcodec_send_packet(v->decoder, v->packet);
            if (code < 0 && (v->strict || v->hardware || code == AVERROR(ENOMEM)))
                status = damaged(v, code, "a packet cannot be decoded", message);
        }
    }
    av_packet_unref(v->packet);
    return status;
}

/* What only hardware can get wrong about a picture: before a first key frame, the standards leave its content open. */
static oasis_status fetch(oas_video *v, AVFrame *frame, oasis_message *message)
{
    int code = v->clean ? v->hardware->fetch(v->decoder, frame) : AVERROR(ENOSYS);
    if (code >= 0)
        return OASIS_OK;
    av_frame_unref(frame);
    return damaged(v, code, "the hardware does not decode it", message);
}

static oasis_status next_picture(oas_video *v, AVFrame *frame, oasis_message *message)
{
    for (;;) {
        int code = avcodec_receive_frame(v->decoder, frame);
        if (code == AVERROR_EOF)
            return OASIS_END;
        if (code == AVERROR(EAGAIN)) {
            OAS_TRY(feed(v, message));
            continue;
        }
        if (code < 0) {
            if (v->strict || v->hardware)
                return damaged(v, code, "a frame cannot be decoded", message);
            continue;
        }
        v->clean |= frame->key_frame != 0;
        if (v->clean && (frame->decode_error_flags || frame->flags & AV_FRAME_FLAG_CORRUPT)) {
            av_frame_unref(frame);
            return damaged(v, 0, "parts of the picture are missing", message);
        }
        if (v->hardware)
            OAS_TRY(fetch(v, frame, message));
        v->strict = true;
        v->frames++;
        v->last_pts = frame->best_effort_timestamp;
        return OASIS_OK;
    }
}

oasis_status oas_video_next(oas_video *v, AVFrame *frame, oasis_message *message)
{
    oasis_status status = next_picture(v, frame, v->hardware ? NULL : message);
    if (status < 0 && v->hardware) {
        OAS_TRY(oas_video_switch(v, NULL, 0, message));
        status = next_picture(v, frame, message);
    }
    return status;
}

/* ---- with other means --------------------------------------------------------------------------------------------- */

/* Decodes and drops the pictures that `v` has given. */
static oasis_status catch_up(oas_video *again, const oas_video *v, oasis_message *message)
{
    AVFrame *frame = av_frame_alloc();
    oasis_status status = frame ? OASIS_OK : oas_media_fail_memory(message, "a frame");
    if (v->sought && !oas_video_seek(again, v->sought_pts))
        status = damaged(again, 0, "seeking there, which worked, fails now", message);
    while (status == OASIS_OK && again->frames < v->frames) {
        status = next_picture(again, frame, message);
        av_frame_unref(frame);
    }
    av_frame_free(&frame);
    if (status == OASIS_END || (status == OASIS_OK && again->last_pts != v->last_pts))
        status = damaged(again, 0, "decoding it once more gives other pictures", message);
    return status;
}

oasis_status oas_video_switch(oas_video *v, const oas_hardware *hardware, int gpu, oasis_message *message)
{
    bool again_readable = v->format->pb && v->format->pb->seekable & AVIO_SEEKABLE_NORMAL;
    if (!again_readable || (hardware && !find_hardware(hardware, v->stream)))
        return oas_media_fail(message, OASIS_E_UNSUPPORTED, "'%s' cannot be decoded by this hardware", v->path);
    oas_video again;
    oasis_status status = open_video(&again, v->path, v->whole, hardware, gpu, message);
    if (status == OASIS_OK)
        status = catch_up(&again, v, message);
    if (status != OASIS_OK) {
        oas_video_close(&again);
        return status;
    }
    AVFormatContext **described = v->described ? &v->described : &v->format;
    again.described = *described;
    *described = NULL;
    oas_video_close(v);
    *v = again;
    return OASIS_OK;
}
