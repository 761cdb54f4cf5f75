/* Stream copy: which streams a container can hold, and their packets on the output's clock. */
#include "video/copy.h"

#include "video/video_stream.h"

#include <libavutil/avstring.h>
#include <libavutil/mathematics.h>
#include <libavutil/mem.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { REORDER_SECONDS = 5 };      /* how far packets of other streams may lie behind in the file */
static const double PRIMING = 0.1; /* seconds that sound may begin before 0 to prepare its decoder */

struct oas_copied {
    int out;          /* index in the output, -1: left out */
    int64_t last_dts; /* in the output's time base */
    int64_t delta;    /* state of av_rescale_delta */
    bool began;       /* past the packets that only prepare the decoder */
};

/* ---- what containers hold ----------------------------------------------------------------------------------------- */

static bool is_named(const AVOutputFormat *container, const char *names)
{
    return av_match_name(container->name, names) > 0;
}

static bool ts_holds(enum AVCodecID id)
{
    static const enum AVCodecID known[] = {
        AV_CODEC_ID_AAC,
        AV_CODEC_ID_AAC_LATM,
        AV_CODEC_ID_MP2,
        AV_CODEC_ID_MP3,
        AV_CODEC_ID_AC3,
        AV_CODEC_ID_EAC3,
        AV_CODEC_ID_DTS,
        AV_CODEC_ID_TRUEHD,
        AV_CODEC_ID_OPUS,
        AV_CODEC_ID_S302M,
        AV_CODEC_ID_DVB_SUBTITLE,
        AV_CODEC_ID_DVB_TELETEXT,
        AV_CODEC_ID_HDMV_PGS_SUBTITLE,
        AV_CODEC_ID_H264,
        AV_CODEC_ID_HEVC,
        AV_CODEC_ID_MPEG2VIDEO,
        AV_CODEC_ID_SMPTE_KLV,
        AV_CODEC_ID_TIMED_ID3,
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i] == id)
            return true;
    return false;
}

static bool is_cover(const AVStream *stream)
{
    return stream->disposition & AV_DISPOSITION_ATTACHED_PIC;
}

bool oas_container_holds(const AVOutputFormat *container, const AVStream *stream)
{
    enum AVCodecID id = stream->codecpar->codec_id;
    if (stream->codecpar->codec_type == AVMEDIA_TYPE_ATTACHMENT)
        return is_named(container, "matroska");
    if (is_cover(stream))
        return is_named(container, "matroska,mp4,mov,ipod");
    if (id == AV_CODEC_ID_NONE)
        return false;
    if (is_named(container, "mpegts"))
        return ts_holds(id);
    if (is_named(container, "matroska") && stream->codecpar->codec_type == AVMEDIA_TYPE_AUDIO) {
        /* Codecs without a name of Matroska's are written by their number in WAVE files, which the query does not know. */
        const struct AVCodecTag *const tags[] = {avformat_get_riff_audio_tags(), NULL};
        if (av_codec_get_tag(tags, id) != 0)
            return true;
    }
    return avformat_query_codec(container, id, FF_COMPLIANCE_NORMAL) == 1;
}

/* The ending of a container that holds every stream of the input, or NULL. */
static const char *better_container(const AVFormatContext *in)
{
    static const char *const endings[] = {".mkv", ".mov", ".mp4", ".ts"};
    for (size_t k = 0; k < sizeof endings / sizeof *endings; k++) {
        const AVOutputFormat *container = av_guess_format(NULL, endings[k], NULL);
        bool all = container != NULL;
        for (unsigned i = 0; all && i < in->nb_streams; i++)
            all = in->streams[i]->codecpar->codec_type == AVMEDIA_TYPE_DATA ||
                  oas_container_holds(container, in->streams[i]);
        if (all)
            return endings[k];
    }
    return NULL;
}

static const char *describe_stream(const AVStream *stream, char text[160])
{
    const char *type = av_get_media_type_string(stream->codecpar->codec_type);
    const AVDictionaryEntry *language = av_dict_get(stream->metadata, "language", NULL, 0);
    if (language && strcmp(language->value, "und") == 0)
        language = NULL;
    snprintf(text, 160, "stream %d (%s, %s%s%s)", stream->index,
             is_cover(stream) ? "cover picture"
             : type           ? type
                              : "unknown",
             avcodec_get_name(stream->codecpar->codec_id), language ? ", " : "", language ? language->value : "");
    return text;
}

static oasis_status refuse_stream(const oas_copier *c, const AVStream *stream, const char *name, oasis_message *message)
{
    char what[160];
    const char *better = better_container(c->in);
    return oas_media_fail(message, OASIS_E_UNSUPPORTED,
                          "'%s' cannot hold %s of '%s'%s%s%s; --no-audio leaves all streams but the video out", name,
                          describe_stream(stream, what), c->source->path, better ? "; a file ending in " : "",
                          better ? better : "", better ? " can" : "");
}

/* ---- metadata ----------------------------------------------------------------------------------------------------- */

static bool starts_with_any(const char *key, const char *const *list)
{
    for (; *list; list++)
        if (av_strncasecmp(key, *list, strlen(*list)) == 0)
            return true;
    return false;
}

void oas_copy_metadata(AVDictionary **to, const AVDictionary *from, bool reencoded)
{
    /* Written by muxers about themselves; and about packets that are no more. */
    static const char *const of_muxer[] = {"major_brand", "minor_version", "compatible_brands",
                                           "encoder",     "rotate",        NULL};
    static const char *const of_packets[] = {"BPS", "DURATION", "NUMBER_OF_", "_STATISTICS", "alpha_mode", NULL};
    const AVDictionaryEntry *e = NULL;
    while ((e = av_dict_get(from, "", e, AV_DICT_IGNORE_SUFFIX)) != NULL)
        if (!starts_with_any(e->key, of_muxer) && !(reencoded && starts_with_any(e->key, of_packets)))
            av_dict_set(to, e->key, e->value, 0);
}

/* A time of the input in units of `base`, on the output's clock. */
static int64_t on_output_clock(const oas_copier *c, int64_t time, AVRational base)
{
    return time - av_rescale_q(c->source->origin, c->source->time_base, base);
}

oasis_status oas_copier_add_chapters(oas_copier *c, oasis_message *message)
{
    const oas_source *s = c->source;
    unsigned n = c->in->nb_chapters;
    if (n == 0)
        return OASIS_OK;
    c->out->chapters = av_calloc(n, sizeof(AVChapter *));
    for (unsigned i = 0; i < n && c->out->chapters; i++) {
        const AVChapter *from = c->in->chapters[i];
        int64_t start = on_output_clock(c, from->start, from->time_base);
        int64_t end = on_output_clock(c, from->end, from->time_base);
        int64_t last = s->end > 0 ? llrint(s->end / av_q2d(from->time_base)) : INT64_MAX;
        if ((s->cut && end <= 0) || start >= last)
            continue;
        AVChapter *chapter = av_mallocz(sizeof *chapter);
        if (!chapter)
            return oas_media_fail_memory(message, "chapters");
        chapter->id = from->id;
        chapter->time_base = from->time_base;
        chapter->start = s->cut && start < 0 ? 0 : start;
        chapter->end = end < last ? end : last;
        av_dict_copy(&chapter->metadata, from->metadata, 0);
        c->out->chapters[c->out->nb_chapters++] = chapter;
    }
    return c->out->chapters ? OASIS_OK : oas_media_fail_memory(message, "chapters");
}

/* ---- streams ------------------------------------------------------------------------------------------------------ */

oasis_status oas_copier_open(oas_copier *c, const oas_source *source, AVFormatContext *out, oasis_message *message)
{
    *c = (oas_copier){.source = source, .out = out};
    OAS_TRY(oas_demux_open(&c->in, source->path, message));
    if (c->in->nb_streams < source->format->nb_streams)
        return oas_media_fail(message, OASIS_E_FORMAT, "'%s' has %u streams, but had %u before; did the file change?",
                              source->path, c->in->nb_streams, source->format->nb_streams);
    c->packet = av_packet_alloc();
    c->streams = av_calloc(c->in->nb_streams, sizeof *c->streams);
    if (!c->packet || !c->streams)
        return oas_media_fail_memory(message, "copying streams");
    for (unsigned i = 0; i < c->in->nb_streams; i++) {
        c->streams[i] = (oas_copied){.out = -1, .last_dts = AV_NOPTS_VALUE, .delta = AV_NOPTS_VALUE};
        if (c->in->streams[i]->discard == AVDISCARD_ALL) /* the demuxer's own: titles of chapters */
            c->streams[i].out = -2;
        c->in->streams[i]->discard = AVDISCARD_ALL;
    }
    if (source->cut) /* where this fails, reading begins at the start of the file */
        avformat_seek_file(c->in, -1, INT64_MIN, av_rescale_q(source->origin, source->time_base, AV_TIME_BASE_Q),
                           av_rescale_q(source->origin, source->time_base, AV_TIME_BASE_Q), 0);
    return OASIS_OK;
}

void oas_copier_close(oas_copier *c)
{
    av_packet_free(&c->packet);
    av_freep(&c->streams);
    avformat_close_input(&c->in);
}

/* A cover picture is an attachment in Matroska. */
static oasis_status make_attachment(const AVStream *from, AVStream *to, oasis_message *message)
{
    AVCodecParameters *p = to->codecpar;
    int size = from->attached_pic.size;
    uint8_t *data = size > 0 ? av_mallocz((size_t)size + AV_INPUT_BUFFER_PADDING_SIZE) : NULL;
    if (!data)
        return oas_media_fail_memory(message, "a cover picture");
    memcpy(data, from->attached_pic.data, (size_t)size);
    bool png = p->codec_id == AV_CODEC_ID_PNG, jpeg = p->codec_id == AV_CODEC_ID_MJPEG;
    p->codec_type = AVMEDIA_TYPE_ATTACHMENT;
    av_freep(&p->extradata);
    p->extradata = data;
    p->extradata_size = size;
    av_dict_set(&to->metadata, "filename", png ? "cover.png" : jpeg ? "cover.jpg" : "cover", AV_DICT_DONT_OVERWRITE);
    av_dict_set(&to->metadata, "mimetype",
                png    ? "image/png"
                : jpeg ? "image/jpeg"
                       : "application/octet-stream",
                AV_DICT_DONT_OVERWRITE);
    to->disposition = 0;
    return OASIS_OK;
}

/* The code that the container names the codec by: the input's where it knows it. */
static uint32_t fitting_tag(const AVOutputFormat *container, const AVCodecParameters *p)
{
    unsigned other;
    if (!container->codec_tag || av_codec_get_id(container->codec_tag, p->codec_tag) == p->codec_id ||
        !av_codec_get_tag2(container->codec_tag, p->codec_id, &other))
        return p->codec_tag;
    return 0;
}

static oasis_status add_stream(oas_copier *c, unsigned index, oasis_message *message)
{
    AVStream *from = c->in->streams[index], *to = avformat_new_stream(c->out, NULL);
    if (!to || avcodec_parameters_copy(to->codecpar, from->codecpar) < 0)
        return oas_media_fail_memory(message, "a stream");
    to->codecpar->codec_tag = fitting_tag(c->out->oformat, from->codecpar);
    to->time_base = from->time_base;
    to->avg_frame_rate = from->avg_frame_rate;
    to->r_frame_rate = from->r_frame_rate;
    to->sample_aspect_ratio = from->sample_aspect_ratio;
    to->disposition = from->disposition;
    if (is_named(c->out->oformat, "mp4,mov,ipod,matroska,webm")) /* ids have a meaning elsewhere: MPEG-TS */
        to->id = 0;
    else
        to->id = from->id;
    oas_copy_metadata(&to->metadata, from->metadata, false);
    for (int i = 0; i < from->nb_side_data; i++) {
        const AVPacketSideData *side = &from->side_data[i];
        uint8_t *data = av_stream_new_side_data(to, side->type, side->size);
        if (!data)
            return oas_media_fail_memory(message, "a stream");
        memcpy(data, side->data, side->size);
    }
    c->streams[index].out = to->index;
    if (is_cover(from) && is_named(c->out->oformat, "matroska"))
        return make_attachment(from, to, message);
    if (!is_cover(from))
        from->discard = AVDISCARD_DEFAULT;
    return OASIS_OK;
}

oasis_status oas_copier_add(oas_copier *c, unsigned index, const char *name, char *note, size_t note_size,
                            oasis_message *message)
{
    const AVStream *s = c->in->streams[index];
    if (c->streams[index].out == -2)
        return OASIS_OK;
    if (oas_container_holds(c->out->oformat, s))
        return add_stream(c, index, message);
    bool data = s->codecpar->codec_type == AVMEDIA_TYPE_DATA || s->codecpar->codec_type == AVMEDIA_TYPE_UNKNOWN;
    if (!data)
        return refuse_stream(c, s, name, message);
    char what[160];
    if (s->codecpar->codec_tag != MKTAG('t', 'm', 'c', 'd')) /* the muxer makes time code anew from the metadata */
        av_strlcatf(note, note_size, "%s%s is left out", note[0] ? "; " : "", describe_stream(s, what));
    return OASIS_OK;
}

/* ---- packets ------------------------------------------------------------------------------------------------------ */

/*
 * Packets outside of an MP4's edit list are marked to be thrown away.  Those at the beginning prepare a decoder for the
 * first sound; they are kept where the container has times before 0.
 */
static bool is_shown(const oas_copier *c, oas_copied *s)
{
    bool thrown = c->packet->flags & AV_PKT_FLAG_DISCARD;
    s->began |= !thrown;
    return !thrown || (!s->began && c->out->oformat->flags & AVFMT_TS_NEGATIVE);
}

/* The pause between two subtitles of an MP4: its muxer writes them itself, and would write them twice. */
static bool is_empty_text(const oas_copier *c)
{
    const AVPacket *p = c->packet;
    return c->in->streams[p->stream_index]->codecpar->codec_id == AV_CODEC_ID_MOV_TEXT && p->size == 2 &&
           p->data[0] == 0 && p->data[1] == 0;
}

/* The next packet of a stream that is copied, in the input's time base; false at the end of the file. */
static oasis_status read_packet(oas_copier *c, oasis_message *message)
{
    for (;;) {
        int code = av_read_frame(c->in, c->packet);
        if (code == AVERROR_EOF && (!c->in->pb || c->in->pb->error >= 0)) {
            c->ended = true;
            return OASIS_END;
        }
        if (code < 0)
            return oas_media_fail_av(message, code, "'%s': the streams that are copied cannot be read any further",
                                     c->source->path);
        int index = c->packet->stream_index;
        bool copied = index < (int)c->source->format->nb_streams && c->streams[index].out >= 0 &&
                      !is_cover(c->in->streams[index]);
        if (copied && is_shown(c, &c->streams[index]) && !is_empty_text(c))
            return OASIS_OK;
        av_packet_unref(c->packet);
    }
}

static double packet_seconds(const oas_copier *c)
{
    const AVPacket *p = c->packet;
    AVRational base = c->in->streams[p->stream_index]->time_base;
    int64_t time = p->pts != AV_NOPTS_VALUE ? p->pts : p->dts;
    return time == AV_NOPTS_VALUE ? -1e9 : (double)on_output_clock(c, time, base) * av_q2d(base);
}

/* Moves the packet's time stamps to the output's clock and time base; keeps them rising. */
static void convert_times(oas_copier *c)
{
    AVPacket *p = c->packet;
    oas_copied *s = &c->streams[p->stream_index];
    const AVStream *from = c->in->streams[p->stream_index], *to = c->out->streams[s->out];
    const AVCodecParameters *par = from->codecpar;
    if (p->pts != AV_NOPTS_VALUE)
        p->pts = on_output_clock(c, p->pts, from->time_base);
    if (p->dts != AV_NOPTS_VALUE)
        p->dts = on_output_clock(c, p->dts, from->time_base);
    if (p->dts == AV_NOPTS_VALUE)
        p->dts = p->pts;
    int samples = par->codec_type == AVMEDIA_TYPE_AUDIO && par->sample_rate > 0
                      ? av_get_audio_frame_duration2(from->codecpar, p->size)
                      : 0;
    if (samples > 0 && p->dts != AV_NOPTS_VALUE && p->pts == p->dts) {
        /* Coarse stamps of sound (Matroska's milliseconds) become exact by counting samples. */
        p->pts = p->dts = av_rescale_delta(from->time_base, p->dts, (AVRational){1, par->sample_rate}, samples,
                                           &s->delta, to->time_base);
        p->duration = av_rescale_q(p->duration, from->time_base, to->time_base);
    } else {
        av_packet_rescale_ts(p, from->time_base, to->time_base);
    }
    bool strict = par->codec_type != AVMEDIA_TYPE_SUBTITLE && !(c->out->oformat->flags & AVFMT_TS_NONSTRICT);
    int64_t least = s->last_dts == AV_NOPTS_VALUE ? INT64_MIN : s->last_dts + strict;
    if (p->dts == AV_NOPTS_VALUE)
        p->dts = p->pts = s->last_dts == AV_NOPTS_VALUE ? 0 : least;
    if (p->dts < 0 && !(c->out->oformat->flags & AVFMT_TS_NEGATIVE) &&
        (double)p->dts * av_q2d(to->time_base) > -PRIMING)
        p->dts = 0; /* or the muxer would move all streams, the video too */
    if (p->dts < least)
        p->dts = least;
    if (p->pts != AV_NOPTS_VALUE && p->pts < p->dts)
        p->pts = p->dts;
    s->last_dts = p->dts;
    p->pos = -1;
    p->stream_index = s->out;
}

static oasis_status fail_writing(const oas_copier *c, int code, oasis_message *message)
{
    return oas_media_fail_av(message, code, "copying a packet of '%s' failed", c->source->path);
}

/* Cover pictures of containers that keep them as streams of one packet. */
static oasis_status write_covers(oas_copier *c, oasis_message *message)
{
    for (unsigned i = 0; i < c->in->nb_streams; i++) {
        const AVStream *s = c->in->streams[i];
        if (!is_cover(s) || c->streams[i].out < 0 ||
            c->out->streams[c->streams[i].out]->codecpar->codec_type == AVMEDIA_TYPE_ATTACHMENT)
            continue;
        if (av_packet_ref(c->packet, &s->attached_pic) < 0)
            return oas_media_fail_memory(message, "a cover picture");
        c->packet->stream_index = c->streams[i].out;
        c->packet->pts = c->packet->dts = c->packet->duration = 0;
        c->packet->pos = -1;
        int code = av_interleaved_write_frame(c->out, c->packet);
        if (code < 0)
            return fail_writing(c, code, message);
    }
    return OASIS_OK;
}

static oasis_status pump(oas_copier *c, double seconds, double end, oasis_message *message)
{
    if (!c->began)
        OAS_TRY(write_covers(c, message));
    c->began = true;
    while (!c->ended) {
        if (!c->pending) {
            oasis_status status = read_packet(c, message);
            if (status == OASIS_END)
                return OASIS_OK;
            OAS_TRY(status);
            c->pending = true;
        }
        double time = packet_seconds(c);
        if (time > seconds)
            return OASIS_OK;
        c->pending = false;
        if ((c->source->cut && time < -0.5e-6) || (end >= 0 && time >= end)) {
            c->ended = end >= 0 && time >= end + REORDER_SECONDS;
            av_packet_unref(c->packet);
            continue;
        }
        convert_times(c);
        int code = av_interleaved_write_frame(c->out, c->packet);
        if (code < 0)
            return fail_writing(c, code, message);
    }
    return OASIS_OK;
}

oasis_status oas_copier_pump(oas_copier *c, double seconds, double end, oasis_message *message)
{
    if (c->failed != OASIS_OK)
        return c->failed;
    return c->failed = pump(c, seconds, end, message);
}
