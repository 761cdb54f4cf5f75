/*
 * Reading: a media file, pictures, or YUV4MPEG2 on standard input, to RGB float frames with repaired time stamps.
 * The first picture is decoded while opening, so that size, colours and interlacing are known from the picture itself.
 */
#include "video/reader.h"

#include <libavutil/mathematics.h>
#include <libavutil/mem.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

void oasis_reader_options_init(oasis_reader_options *options)
{
    *options = (oasis_reader_options){.size = sizeof *options, .fps = 24};
}

/* ---- the next decoded picture ------------------------------------------------------------------------------------- */

static oasis_status next_from_pictures(oasis_reader *r, AVFrame *frame, oasis_message *message)
{
    if (r->next_picture >= r->pictures.count)
        return OASIS_END;
    OAS_TRY(oas_picture_decode(r->pictures.paths[r->next_picture], frame, r->codec ? NULL : &r->codec, message));
    frame->best_effort_timestamp = (int64_t)r->next_picture++;
    frame->pkt_duration = 1;
    frame->interlaced_frame = 0;
    return OASIS_OK;
}

/* Marks a picture as the container says, where its decoder does not. */
static void mark_interlaced(const oasis_reader *r, AVFrame *frame)
{
    enum AVFieldOrder order = r->video.stream ? r->video.stream->codecpar->field_order : AV_FIELD_UNKNOWN;
    if (order <= AV_FIELD_PROGRESSIVE || frame->interlaced_frame)
        return;
    frame->interlaced_frame = 1;
    frame->top_field_first = order == AV_FIELD_TT || order == AV_FIELD_BT;
}

/* The next picture from `start` on, its time stamp repaired (in best_effort_timestamp). */
static oasis_status next_in_range(oasis_reader *r, AVFrame *frame, oasis_message *message)
{
    for (;;) {
        oasis_status status =
            r->pictures.count ? next_from_pictures(r, frame, message) : oas_video_next(&r->video, frame, message);
        if (status != OASIS_OK)
            return status;
        frame->best_effort_timestamp = oas_timestamps_next(&r->timestamps, frame->best_effort_timestamp);
        if (frame->best_effort_timestamp >= r->start_pts)
            break;
        av_frame_unref(frame);
    }
    mark_interlaced(r, frame);
    return OASIS_OK;
}

static oasis_status check_picture(const oasis_reader *r, const AVFrame *frame, oasis_message *message)
{
    if (frame->width != r->source.width || frame->height != r->source.height) {
        const char *path = r->pictures.count ? r->pictures.paths[r->next_picture - 1] : r->path;
        return oas_media_fail(message, OASIS_E_UNSUPPORTED,
                              "'%s': frame %lld has %dx%d pixels, the ones before %dx%d; all must be of one size", path,
                              (long long)r->frames + 1, frame->width, frame->height, r->source.width, r->source.height);
    }
    if (frame->interlaced_frame && !r->options.deinterlace)
        return oas_media_fail(message, OASIS_E_UNSUPPORTED,
                              "'%s' is interlaced (frame %lld); --deinterlace turns it into whole pictures first",
                              r->path, (long long)r->frames + 1);
    return OASIS_OK;
}

/* The next picture, the one decoded while opening first. */
static oasis_status next_checked(oasis_reader *r, AVFrame *frame, oasis_message *message)
{
    if (r->pending) {
        av_frame_move_ref(frame, r->first);
        r->pending = false;
    } else {
        oasis_status status = next_in_range(r, frame, message);
        if (status != OASIS_OK)
            return status;
    }
    oasis_status status = check_picture(r, frame, message);
    if (status != OASIS_OK)
        av_frame_unref(frame);
    return status;
}

/* The next picture, deinterlaced when that was asked for. */
static oasis_status next_progressive(oasis_reader *r, AVFrame *frame, oasis_message *message)
{
    if (!r->deinterlacer)
        return next_checked(r, frame, message);
    for (;;) {
        oasis_status status = oas_deinterlacer_receive(r->deinterlacer, frame, message);
        if (status != OASIS_AGAIN)
            return status;
        status = next_checked(r, frame, message);
        if (status == OASIS_OK) {
            status = oas_deinterlacer_send(r->deinterlacer, frame, message);
            av_frame_unref(frame);
        } else if (status == OASIS_END) {
            status = oas_deinterlacer_send(r->deinterlacer, NULL, message);
        }
        OAS_TRY(status);
    }
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

/* What a path stands for: lists pictures, or opens a media file. */
static oasis_status open_input(oasis_reader *r, oasis_message *message)
{
    struct stat s;
    bool there = stat(r->path, &s) == 0, folder = there && S_ISDIR(s.st_mode);
    r->source.kind = OASIS_INPUT_PICTURES;
    if (strcmp(r->path, "-") != 0) {
        if (folder)
            return oas_list_folder(&r->pictures, r->path, message);
        if (!there && oas_is_pattern(r->path))
            return oas_list_pattern(&r->pictures, r->path, message);
        if (oas_is_picture_name(r->path)) {
            r->source.kind = OASIS_INPUT_PICTURE;
            return oas_list_single(&r->pictures, r->path, message);
        }
    }
    r->source.kind = OASIS_INPUT_VIDEO;
    r->source.piped = strcmp(r->path, "-") == 0;
    return oas_video_open(&r->video, r->path, r->options.frames == 0, message);
}

/* Sets the time base, and where reading starts. */
static void set_times(oasis_reader *r)
{
    oas_source *s = &r->source;
    if (r->pictures.count) {
        s->rate = oas_media_rate(r->options.fps);
        s->time_base = av_inv_q(s->rate);
        r->start_pts = (int64_t)ceil(r->options.start * av_q2d(s->rate) - 1e-6);
        r->next_picture = r->start_pts < (int64_t)r->pictures.count ? (size_t)r->start_pts : r->pictures.count;
    } else {
        AVStream *st = r->video.stream;
        int64_t begin = r->video.format->start_time == AV_NOPTS_VALUE ? 0 : r->video.format->start_time;
        s->rate = st->avg_frame_rate.num > 0 ? st->avg_frame_rate : st->r_frame_rate;
        if (s->rate.num <= 0 || s->rate.den <= 0)
            s->rate = (AVRational){0, 1};
        s->time_base = st->time_base;
        r->start_pts = r->options.start > 0 ? av_rescale_q(begin + llrint(r->options.start * AV_TIME_BASE),
                                                           AV_TIME_BASE_Q, st->time_base)
                                            : INT64_MIN;
    }
    s->cut = r->options.start > 0;
    oas_timestamps_init(&r->timestamps, s->rate, s->time_base);
}

/* Decodes the first picture of the range; seeks first, and reads from the beginning where seeking landed too late. */
static oasis_status find_first(oasis_reader *r, oasis_message *message)
{
    bool seekable = r->source.cut && !r->pictures.count && !r->source.piped;
    if (seekable && oas_video_seek(&r->video, r->start_pts)) {
        int64_t start = r->start_pts;
        r->start_pts = INT64_MIN;
        oasis_status status = oas_video_next(&r->video, r->first, message);
        int64_t landed = r->first->best_effort_timestamp;
        bool early = status == OASIS_OK && landed != AV_NOPTS_VALUE && landed <= start;
        r->start_pts = start;
        if (early) {
            r->timestamps.last = landed - 1;
            if (oas_timestamps_next(&r->timestamps, landed) >= start) {
                r->first->best_effort_timestamp = landed;
                mark_interlaced(r, r->first);
                return OASIS_OK;
            }
        } else {
            oas_video_close(&r->video);
            OAS_TRY(oas_video_open(&r->video, r->path, r->options.frames == 0, message));
        }
        av_frame_unref(r->first);
    }
    return next_in_range(r, r->first, message);
}

static oasis_status refuse_no_frame(const oasis_reader *r, oasis_message *message)
{
    char from[32];
    if (r->source.cut)
        return oas_media_fail(message, OASIS_E_ARGUMENT, "'%s' has no frame at or after %s (--start)", r->path,
                              oas_media_time_text(from, r->options.start));
    return oas_media_fail(message, OASIS_E_FORMAT, "'%s' has no frame that can be decoded", r->path);
}

static oasis_status open_reader(oasis_reader *r, const char *path, oasis_message *message)
{
    r->path = av_strdup(path);
    r->first = av_frame_alloc();
    r->frame = av_frame_alloc();
    if (!r->path || !r->first || !r->frame)
        return oas_media_fail_memory(message, "a reader");
    r->source.path = r->path;
    OAS_TRY(open_input(r, message));
    set_times(r);
    oasis_status status = find_first(r, message);
    if (status == OASIS_END)
        status = refuse_no_frame(r, message);
    OAS_TRY(status);
    r->pending = true;
    r->interlaced = r->first->interlaced_frame;
    OAS_TRY(oas_reader_describe(r, message));
    OAS_TRY(check_picture(r, r->first, message));
    if (r->options.deinterlace && !r->pictures.count)
        OAS_TRY(oas_deinterlacer_new(&r->deinterlacer, r->first, !r->interlaced, message));
    int gpu;
    if (oas_hardware_index(r->options.hwdec, &gpu))
        oas_reader_use(r, &oas_hardware_cuda, gpu);
    return OASIS_OK;
}

static oasis_status check_options(const oasis_reader_options *o, oasis_message *message)
{
    if (!(o->start >= 0) || o->start > 1e9)
        return oas_media_fail(message, OASIS_E_ARGUMENT, "the start is %g seconds; expected 0 to 1e9", o->start);
    if (o->frames < 0)
        return oas_media_fail(message, OASIS_E_ARGUMENT, "%lld frames were asked for; expected 0 (all) or more",
                              (long long)o->frames);
    int gpu;
    const char *h = o->hwdec;
    if (h && strcmp(h, "auto") != 0 && strcmp(h, "off") != 0 && !oas_hardware_index(h, &gpu))
        return oas_media_fail(message, OASIS_E_ARGUMENT,
                              "the device to decode with is '%s'; expected auto, off, cuda or cuda:N", h);
    if (!(o->fps >= 0.001) || o->fps > 1000)
        return oas_media_fail(message, OASIS_E_ARGUMENT, "the frame rate is %g; expected 0.001 to 1000", o->fps);
    return OASIS_OK;
}

oasis_status oasis_reader_open(oasis_reader **reader, const char *path, const oasis_reader_options *options,
                               oasis_message *message)
{
    oasis_reader_options defaults;
    oasis_reader_options_init(&defaults);
    if (!options)
        options = &defaults;
    OAS_TRY(check_options(options, message));
    oasis_reader *r = av_mallocz(sizeof *r);
    if (!r)
        return oas_media_fail_memory(message, "a reader");
    r->options = *options;
    oasis_status status = open_reader(r, path, message);
    if (status != OASIS_OK)
        oasis_reader_close(&r);
    else
        *reader = r;
    return status;
}

void oasis_reader_close(oasis_reader **reader)
{
    oasis_reader *r = *reader;
    if (!r)
        return;
    oas_converter_free(&r->converter);
    oas_deinterlacer_free(&r->deinterlacer);
    oas_video_close(&r->video);
    oas_picture_list_free(&r->pictures);
    av_frame_free(&r->first);
    av_frame_free(&r->frame);
    av_free(r->source.mastering);
    av_free(r->source.light);
    av_free(r->path);
    av_freep(reader);
}

const oas_source *oas_reader_source(const oasis_reader *reader)
{
    return &reader->source;
}

void oas_reader_use(oasis_reader *reader, const oas_hardware *hardware, int gpu)
{
    if (reader->source.kind == OASIS_INPUT_VIDEO)
        oas_video_switch(&reader->video, hardware, gpu, NULL);
}

bool oas_reader_is_on_hardware(const oasis_reader *reader)
{
    return reader->video.hardware != NULL;
}

const char *oasis_reader_message(const oasis_reader *reader)
{
    return reader->message.text;
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */

static oasis_status convert(oasis_reader *r, oasis_frame *out, oasis_message *message)
{
    const AVFrame *in = r->frame;
    enum AVPixelFormat format = in->format;
    oas_color color = oas_reader_tags(r, in);
    oas_color_fill(&color, format, in->height, r->pictures.count ? OAS_ORIGIN_PICTURE : OAS_ORIGIN_VIDEO, NULL, 0);
    if (!oas_converter_fits(r->converter, format, in->width, in->height, &color)) {
        oas_converter_free(&r->converter);
        OAS_TRY(oas_converter_new(&r->converter, format, in->width, in->height, &color, message));
    }
    oasis_status status = oasis_frame_new(out, in->width, in->height, oas_format_has_alpha(format));
    if (status != OASIS_OK)
        return oas_media_fail(message, status, "'%s': no frame of %dx%d pixels can be made: %s", r->path, in->width,
                              in->height, oasis_status_name(status));
    out->pts = in->best_effort_timestamp;
    out->duration = in->pkt_duration > 0 ? in->pkt_duration : r->timestamps.nominal;
    status = oas_converter_to_rgb(r->converter, in, out, message);
    if (status != OASIS_OK)
        oasis_frame_free(out);
    return status;
}

static oasis_status read_frame(oasis_reader *r, oasis_frame *frame)
{
    if (r->options.frames > 0 && r->frames >= r->options.frames) {
        r->source.limited = true;
        return OASIS_END;
    }
    oasis_status status = next_progressive(r, r->frame, &r->message);
    if (status == OASIS_OK) {
        status = convert(r, frame, &r->message);
        av_frame_unref(r->frame);
    }
    r->frames += status == OASIS_OK;
    return status;
}

oasis_status oasis_reader_read(oasis_reader *r, oasis_frame *frame)
{
    *frame = (oasis_frame){0};
    if (r->failed != OASIS_OK)
        return r->failed;
    oasis_status status = read_frame(r, frame);
    if (status != OASIS_OK)
        r->failed = status; /* OASIS_END stays, too */
    return status;
}
