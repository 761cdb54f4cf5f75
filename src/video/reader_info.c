/* What an input is: its description for people (oasis_media_info) and for the writer (oas_source). */
#include "video/reader.h"

#include <libavutil/display.h>
#include <libavutil/mathematics.h>
#include <libavutil/mem.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- colours ------------------------------------------------------------------------------------------------------ */

oas_color oas_reader_tags(const oasis_reader *r, const AVFrame *frame)
{
    oas_color c = {frame->colorspace, frame->color_range, frame->color_primaries, frame->color_trc,
                   frame->chroma_location};
    const AVCodecParameters *p = r->video.stream ? r->video.stream->codecpar : NULL;
    bool rgb = oas_format_is_rgb(frame->format);
    if (c.matrix == AVCOL_SPC_RESERVED || (!rgb && r->pictures.count && c.matrix == AVCOL_SPC_RGB))
        c.matrix = AVCOL_SPC_UNSPECIFIED;
    if (p && c.matrix == AVCOL_SPC_UNSPECIFIED)
        c.matrix = p->color_space;
    if (p && c.range == AVCOL_RANGE_UNSPECIFIED)
        c.range = p->color_range;
    if (p && c.primaries == AVCOL_PRI_UNSPECIFIED)
        c.primaries = p->color_primaries;
    if (p && c.transfer == AVCOL_TRC_UNSPECIFIED)
        c.transfer = p->color_trc;
    if (p && c.location == AVCHROMA_LOC_UNSPECIFIED)
        c.location = p->chroma_location;
    return c;
}

/* ---- orientation -------------------------------------------------------------------------------------------------- */

/* Quarter turns and mirrors of a display matrix; anything else gives the identity. */
static oas_orientation orientation_of(const int32_t m[9])
{
    oas_orientation o = {0};
    /* A point (x, y) is shown at (m0 x + m3 y, m1 x + m4 y), moved. */
    bool straight = m[0] != 0 && m[4] != 0 && m[1] == 0 && m[3] == 0;
    bool turned = m[1] != 0 && m[3] != 0 && m[0] == 0 && m[4] == 0;
    if (straight)
        o = (oas_orientation){false, m[0] < 0, m[4] < 0};
    else if (turned)
        o = (oas_orientation){true, m[3] < 0, m[1] < 0};
    return o;
}

static void describe_matrix(oas_source *s, const AVFrame *frame)
{
    const uint8_t *data = NULL;
    if (s->stream) {
        size_t size = 0;
        data = av_stream_get_side_data(s->stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
        if (size < sizeof s->matrix)
            data = NULL;
    }
    const AVFrameSideData *side = data ? NULL : av_frame_get_side_data(frame, AV_FRAME_DATA_DISPLAYMATRIX);
    if (side && side->size >= sizeof s->matrix)
        data = side->data;
    if (!data)
        return;
    memcpy(s->matrix, data, sizeof s->matrix);
    s->has_matrix = true;
    s->orientation = orientation_of(s->matrix);
    s->turned = s->orientation.transpose || s->orientation.mirror_x || s->orientation.mirror_y;
}

/* ---- HDR ---------------------------------------------------------------------------------------------------------- */

/* A copy of the first found of: side data of the stream, of the frame; NULL when there is none or memory is short. */
static void *copy_side_data(const oas_source *s, const AVFrame *frame, enum AVPacketSideDataType of_stream,
                            enum AVFrameSideDataType of_frame, size_t least)
{
    size_t size = 0;
    const uint8_t *data = s->stream ? av_stream_get_side_data(s->stream, of_stream, &size) : NULL;
    const AVFrameSideData *side = av_frame_get_side_data(frame, of_frame);
    if (!data && side) {
        data = side->data;
        size = side->size;
    }
    return data && size >= least ? av_memdup(data, size) : NULL;
}

/* What rides on the frames and goes under when they are encoded anew. */
static const char *lost_with_frames(const AVFrame *frame)
{
    if (av_frame_get_side_data(frame, AV_FRAME_DATA_A53_CC))
        return "closed captions inside the video are left out";
    if (av_frame_get_side_data(frame, AV_FRAME_DATA_DYNAMIC_HDR_PLUS) ||
        av_frame_get_side_data(frame, AV_FRAME_DATA_DOVI_METADATA))
        return "HDR data that change from frame to frame are left out";
    return NULL;
}

/* ---- numbers of frames -------------------------------------------------------------------------------------------- */

/* The number that mkvmerge and FFmpeg's users note in a tag; 0 where there is none. */
static int64_t tagged_frames(const AVStream *stream)
{
    const AVDictionaryEntry *e = NULL;
    while ((e = av_dict_get(stream->metadata, "NUMBER_OF_FRAMES", e, AV_DICT_IGNORE_SUFFIX)) != NULL)
        if (e->key[16] == '\0' || e->key[16] == '-')
            return strtoll(e->value, NULL, 10);
    return 0;
}

static void estimate_length(oasis_reader *r)
{
    double fps = av_q2d(r->source.rate);
    if (r->pictures.count) {
        r->total = (int64_t)r->pictures.count;
        r->duration = (double)r->total / fps;
        return;
    }
    AVStream *st = r->video.stream;
    if (st->duration > 0)
        r->duration = (double)st->duration * av_q2d(st->time_base);
    else if (r->video.format->duration > 0)
        r->duration = (double)r->video.format->duration / AV_TIME_BASE;
    r->total = st->nb_frames > 0 ? st->nb_frames : tagged_frames(st);
    if (r->total <= 0)
        r->total = llrint(r->duration * fps);
}

/* Whether the steps of a complete index, or the two frame rates of a stream, differ. */
static bool has_variable_rate(AVStream *st)
{
    int n = avformat_index_get_entries_count(st);
    if (st->nb_frames > 1 && n == st->nb_frames) {
        int64_t least = INT64_MAX, most = 0;
        for (int i = 1; i < n; i++) {
            int64_t step = avformat_index_get_entry(st, i)->timestamp - avformat_index_get_entry(st, i - 1)->timestamp;
            least = step < least ? step : least;
            most = step > most ? step : most;
        }
        return most - least > 1;
    }
    double average = av_q2d(st->avg_frame_rate), base = st->r_frame_rate.den ? av_q2d(st->r_frame_rate) : 0;
    return st->avg_frame_rate.den && average > 0 && base > 0 && fabs(average - base) > 0.02 * base;
}

/* ---- the first picture -------------------------------------------------------------------------------------------- */

/* Where the output's clock begins: at the first frame of a cut, at the start of streams whose clock is arbitrary. */
static void set_origin(oasis_reader *r)
{
    oas_source *s = &r->source;
    if (s->cut)
        s->origin = r->first->best_effort_timestamp;
    else if (s->format && s->format->iformat->flags & AVFMT_TS_DISCONT && s->format->start_time != AV_NOPTS_VALUE)
        s->origin = av_rescale_q(s->format->start_time, AV_TIME_BASE_Q, s->time_base);
    if (r->options.frames > 0 && s->rate.num > 0)
        s->end = (double)r->options.frames / av_q2d(s->rate);
    s->frames = r->total;
    if (s->pictures)
        s->frames -= (int64_t)s->first_picture;
    else if (s->cut && s->rate.num > 0)
        s->frames -= llrint(r->options.start * av_q2d(s->rate));
    if (s->frames < 0)
        s->frames = 0;
    if (r->options.frames > 0 && (s->frames == 0 || r->options.frames < s->frames))
        s->frames = r->options.frames;
}

oasis_status oas_reader_describe(oasis_reader *r, oasis_message *message)
{
    oas_source *s = &r->source;
    AVFrame *frame = r->first;
    s->format = r->video.format;
    s->stream = r->video.stream;
    s->width = frame->width;
    s->height = frame->height;
    s->pixel_format = frame->format;
    s->depth = oas_format_depth(frame->format);
    s->depth = s->depth > 16 ? 16 : s->depth;
    s->alpha = oas_format_has_alpha(frame->format);
    s->sar = s->stream ? av_guess_sample_aspect_ratio(s->format, s->stream, frame) : frame->sample_aspect_ratio;
    if (s->sar.num <= 0 || s->sar.den <= 0)
        s->sar = (AVRational){0, 1};
    if (s->kind == OASIS_INPUT_VIDEO) {
        r->container = s->format->iformat->name;
        r->codec = avcodec_get_name(s->stream->codecpar->codec_id);
        s->variable_rate = has_variable_rate(s->stream);
    } else {
        r->container = "pictures";
        s->pictures = &r->pictures;
        s->first_picture = r->next_picture - 1;
    }
    describe_matrix(s, frame);
    s->mastering = copy_side_data(s, frame, AV_PKT_DATA_MASTERING_DISPLAY_METADATA,
                                  AV_FRAME_DATA_MASTERING_DISPLAY_METADATA, sizeof *s->mastering);
    s->light =
        copy_side_data(s, frame, AV_PKT_DATA_CONTENT_LIGHT_LEVEL, AV_FRAME_DATA_CONTENT_LIGHT_LEVEL, sizeof *s->light);
    s->lost = lost_with_frames(frame);
    r->tags = s->color = oas_reader_tags(r, frame);
    oas_color_fill(&s->color, frame->format, frame->height, s->pictures ? OAS_ORIGIN_PICTURE : OAS_ORIGIN_VIDEO,
                   r->color_note, sizeof r->color_note);
    estimate_length(r);
    set_origin(r);
    /* Refuses what cannot be converted before any work is done. */
    return oas_converter_new(&r->converter, frame->format, frame->width, frame->height, &s->color, message);
}

/* ---- oasis_reader_info -------------------------------------------------------------------------------------------- */

static const char *known(const char *name)
{
    return name && strcmp(name, "unspecified") != 0 && strcmp(name, "reserved") != 0 ? name : "unknown";
}

static void count_streams(const oasis_reader *r, oasis_media_info *info)
{
    info->n_video = 1;
    if (!r->video.format)
        return;
    info->n_video = 0;
    for (unsigned i = 0; i < r->video.format->nb_streams; i++) {
        const AVStream *s = r->video.format->streams[i];
        switch (s->codecpar->codec_type) {
        case AVMEDIA_TYPE_VIDEO:
            ++*(s->disposition & AV_DISPOSITION_ATTACHED_PIC ? &info->n_attachment : &info->n_video);
            break;
        case AVMEDIA_TYPE_AUDIO: info->n_audio++; break;
        case AVMEDIA_TYPE_SUBTITLE: info->n_subtitle++; break;
        case AVMEDIA_TYPE_ATTACHMENT: info->n_attachment++; break;
        default: info->n_data++; break;
        }
    }
    info->n_chapters = (int)r->video.format->nb_chapters;
}

static int clockwise(const oas_source *s)
{
    if (!s->has_matrix)
        return 0;
    double angle = -av_display_rotation_get(s->matrix);
    return isnan(angle) ? 0 : (((int)lrint(angle / 90) * 90) % 360 + 360) % 360;
}

void oasis_reader_info(const oasis_reader *r, oasis_media_info *info)
{
    const oas_source *s = &r->source;
    *info = (oasis_media_info){
        .kind = s->kind,
        .width = s->width,
        .height = s->height,
        .rotation = clockwise(s),
        .sar_num = s->sar.num > 0 ? s->sar.num : 1,
        .sar_den = s->sar.num > 0 ? s->sar.den : 1,
        .fps = s->rate.num > 0 ? av_q2d(s->rate) : 0,
        .frames = r->total,
        .duration = r->duration,
        .variable_rate = s->variable_rate,
        .interlaced = r->interlaced,
        .bit_depth = s->depth,
        .alpha = s->alpha,
        .container = r->container,
        .codec = r->codec,
        .pixel_format = av_get_pix_fmt_name(s->pixel_format),
        .color_space = known(av_color_space_name(r->tags.matrix)),
        .color_range = known(av_color_range_name(r->tags.range)),
        .color_primaries = known(av_color_primaries_name(r->tags.primaries)),
        .color_transfer = known(av_color_transfer_name(r->tags.transfer)),
        .chroma_location = known(av_chroma_location_name(r->tags.location)),
        .color_note = r->color_note,
    };
    count_streams(r, info);
}
