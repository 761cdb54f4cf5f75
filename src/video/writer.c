/*
 * Writing: what a path stands for, the encoder's request, and the calls of the interface.
 * Media files are made in writer_mux.c, pictures in writer_pictures.c.
 */
#include "video/writer.h"

#include <libavutil/avstring.h>
#include <libavutil/mathematics.h>
#include <libavutil/mem.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

void oasis_writer_options_init(oasis_writer_options *options)
{
    *options = (oasis_writer_options){.size = sizeof *options, .crf = -1, .audio = true, .threads = 1};
}

void oas_writer_add_note(oasis_writer *w, const char *note)
{
    if (note[0])
        av_strlcatf(w->note, sizeof w->note, "%s%s", w->note[0] ? "; " : "", note);
}

oasis_status oas_writer_check_rest(const oasis_writer *w, const AVDictionary *rest, oasis_message *message)
{
    const AVDictionaryEntry *e = av_dict_get(rest, "", NULL, AV_DICT_IGNORE_SUFFIX);
    if (!e)
        return OASIS_OK;
    return oas_media_fail(message, OASIS_E_ARGUMENT, "there is no setting '%s' (-e) of the encoder %s%s", e->key,
                          w->encoder.context->codec->name, w->mux ? " or of this container" : "");
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static oas_target target_of(const oasis_writer *w)
{
    const char *path = w->path;
    struct stat s;
    size_t n = strlen(path);
    if (strcmp(path, "-") == 0)
        return OAS_TARGET_MEDIA;
    if ((n > 0 && path[n - 1] == '/') || (stat(path, &s) == 0 && S_ISDIR(s.st_mode)))
        return OAS_TARGET_FOLDER;
    if (!oas_media_extension(path)[0] && w->source && w->source->kind == OASIS_INPUT_PICTURES)
        return OAS_TARGET_FOLDER;
    if (!oas_is_picture_name(path))
        return OAS_TARGET_MEDIA;
    return oas_is_pattern(path) ? OAS_TARGET_PATTERN : OAS_TARGET_PICTURE;
}

/*
 * Pixel shape of the output: such that the picture is shown in the shape it had.  Kept as it is where the size is that
 * of the input enlarged evenly, up to rounding to whole pixels.
 */
static AVRational output_sar(const oasis_writer *w)
{
    const oas_source *s = w->source;
    if (!s)
        return (AVRational){0, 1};
    double by_height = (double)w->height / s->height, by_width = (double)w->width / s->width;
    if (fabs(s->width * by_height - w->width) < 1 || fabs(s->height * by_width - w->height) < 1)
        return s->sar;
    AVRational sar = s->sar.num > 0 ? s->sar : (AVRational){1, 1}, shape;
    int64_t num = (int64_t)s->width * w->height, den = (int64_t)s->height * w->width;
    av_reduce(&shape.num, &shape.den, num, den, INT32_MAX);
    av_reduce(&sar.num, &sar.den, (int64_t)sar.num * shape.num, (int64_t)sar.den * shape.den, 65535);
    return sar;
}

oasis_status oas_writer_open_encoder(oasis_writer *w, const char *codec, bool global_header, oasis_message *message)
{
    const oas_source *s = w->source;
    oas_encoder_request q = {
        .options = &w->options,
        .codec = w->options.codec ? w->options.codec : codec,
        .width = w->turning && w->turn.transpose ? w->height : w->width,
        .height = w->turning && w->turn.transpose ? w->width : w->height,
        .sar = output_sar(w),
        .rate = s ? s->rate : (AVRational){24, 1},
        .picture = w->target != OAS_TARGET_MEDIA,
        .global_header = global_header,
        .source_format = s ? s->pixel_format : AV_PIX_FMT_NONE,
        .depth = s ? s->depth : 8,
        .alpha = s && s->alpha,
        .color =
            s ? s->color
              : (oas_color){AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, AVCOL_PRI_BT709, AVCOL_TRC_BT709, AVCHROMA_LOC_LEFT},
        .mastering = s ? s->mastering : NULL,
        .light = s ? s->light : NULL,
    };
    if (w->turning && w->turn.transpose)
        q.sar = q.sar.num > 0 ? av_inv_q(q.sar) : q.sar;
    OAS_TRY(oas_encoder_open(&w->encoder, &q, message));
    oas_writer_add_note(w, w->encoder.note);
    if (s && s->lost)
        oas_writer_add_note(w, s->lost);
    return OASIS_OK;
}

static oasis_status open_writer(oasis_writer *w, const char *path, oasis_message *message)
{
    w->path = av_strdup(path);
    w->packet = av_packet_alloc();
    if (!w->path || !w->packet)
        return oas_media_fail_memory(message, "a writer");
    w->file.fd = -1;
    w->target = target_of(w);
    w->time_base = w->source ? w->source->time_base : (AVRational){1, 24};
    w->origin = w->source ? w->source->origin : 0;
    w->last_pts = w->last_dts = AV_NOPTS_VALUE;
    return w->target == OAS_TARGET_MEDIA ? oas_mux_open(w, message) : oas_pictures_open(w, message);
}

oasis_status oasis_writer_open(oasis_writer **writer, const char *path, const oasis_writer_options *options,
                               oasis_reader *source, int width, int height, oasis_message *message)
{
    oasis_writer_options defaults;
    oasis_writer_options_init(&defaults);
    if (!options)
        options = &defaults;
    if (width < 1 || height < 1 || width > 32768 || height > 32768)
        return oas_media_fail(message, OASIS_E_ARGUMENT,
                              "an output of %dx%d pixels cannot be written; expected 1 to 32768", width, height);
    if (options->threads < 0 || options->threads > 1024)
        return oas_media_fail(message, OASIS_E_ARGUMENT, "%d encoder threads were asked for; expected 1 to 1024",
                              options->threads);
    oasis_writer *w = av_mallocz(sizeof *w);
    if (!w)
        return oas_media_fail_memory(message, "a writer");
    w->options = *options;
    w->options.threads = options->threads > 0 ? options->threads : defaults.threads;
    w->source = source ? oas_reader_source(source) : NULL;
    w->width = width;
    w->height = height;
    oasis_status status = open_writer(w, path, message);
    if (status != OASIS_OK)
        oasis_writer_close(&w);
    else
        *writer = w;
    return status;
}

void oasis_writer_close(oasis_writer **writer)
{
    oasis_writer *w = *writer;
    if (!w)
        return;
    oas_copier_close(&w->copier);
    oas_encoder_close(&w->encoder);
    if (w->mux) {
        w->mux->pb = NULL; /* the output's */
        avformat_free_context(w->mux);
    }
    oas_output_close(&w->file);
    oas_output_set_close(&w->set);
    oasis_frame_free(&w->turned);
    av_packet_free(&w->packet);
    av_free(w->path);
    av_freep(writer);
}

const char *oasis_writer_message(const oasis_writer *writer)
{
    return writer->message.text;
}

const char *oasis_writer_note(const oasis_writer *writer)
{
    return writer->note;
}

/* ---- writing ------------------------------------------------------------------------------------------------------ */

/* Turns the pixels as w->turn says: output (x, y) comes from the transposed, mirrored place. */
static oasis_status turn(oasis_writer *w, const oasis_frame *in, oasis_message *message)
{
    bool t = w->turn.transpose;
    int width = t ? in->height : in->width, height = t ? in->width : in->height;
    if (w->turned.width != width || w->turned.height != height || (in->alpha && !w->turned.alpha)) {
        oasis_frame_free(&w->turned);
        if (oasis_frame_new(&w->turned, width, height, in->alpha != NULL) != OASIS_OK)
            return oas_media_fail_memory(message, "turning a picture");
    }
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            int u = w->turn.mirror_x ? width - 1 - x : x, v = w->turn.mirror_y ? height - 1 - y : y;
            size_t from = t ? (size_t)u * (size_t)in->width + (size_t)v : (size_t)v * (size_t)in->width + (size_t)u;
            size_t to = (size_t)y * (size_t)width + (size_t)x;
            memcpy(w->turned.rgb + 3 * to, in->rgb + 3 * from, 3 * sizeof(float));
            if (in->alpha)
                w->turned.alpha[to] = in->alpha[from];
        }
    }
    return OASIS_OK;
}

/* Takes what the encoder has ready. */
static oasis_status drain(oasis_writer *w, oasis_message *message)
{
    for (;;) {
        oasis_status status = oas_encoder_receive(&w->encoder, w->packet, message);
        if (status != OASIS_OK)
            return status;
        w->packets++;
        status = w->target == OAS_TARGET_MEDIA ? oas_mux_packet(w, w->packet, message)
                                               : oas_pictures_packet(w, w->packet, message);
        av_packet_unref(w->packet);
        OAS_TRY(status);
    }
}

static oasis_status check_frame(const oasis_writer *w, const oasis_frame *frame, oasis_message *message)
{
    if (w->finished)
        return oas_media_fail(message, OASIS_E_ARGUMENT, "a frame was given to '%s' after its end", w->path);
    if (frame->width != w->width || frame->height != w->height)
        return oas_media_fail(message, OASIS_E_ARGUMENT, "'%s': frame %lld has %dx%d pixels; expected %dx%d", w->path,
                              (long long)w->frames + 1, frame->width, frame->height, w->width, w->height);
    if (w->last_pts != AV_NOPTS_VALUE && frame->pts <= w->last_pts)
        return oas_media_fail(message, OASIS_E_ARGUMENT,
                              "'%s': frame %lld has the time stamp %lld, the one before %lld; they "
                              "must increase",
                              w->path, (long long)w->frames + 1, (long long)frame->pts, (long long)w->last_pts);
    if (w->target == OAS_TARGET_PICTURE && w->frames == 1)
        return oas_media_fail(
            message, OASIS_E_ARGUMENT,
            "'%s' is one picture, but there are more frames; name a pattern (NAME-%%04d.%s), a folder, or "
            "--frames 1",
            w->path, w->ending);
    return OASIS_OK;
}

static oasis_status write_frame(oasis_writer *w, const oasis_frame *frame, oasis_message *message)
{
    OAS_TRY(check_frame(w, frame, message));
    w->last_pts = frame->pts;
    if (w->target == OAS_TARGET_MEDIA)
        OAS_TRY(oas_mux_note_frame(w, frame, message));
    if (w->turning) {
        OAS_TRY(turn(w, frame, message));
        frame = &w->turned;
    }
    OAS_TRY(oas_encoder_send(&w->encoder, frame, message));
    w->frames++;
    oasis_status status = drain(w, message);
    return status == OASIS_AGAIN ? OASIS_OK : status;
}

oasis_status oasis_writer_write(oasis_writer *w, const oasis_frame *frame)
{
    if (w->failed != OASIS_OK)
        return w->failed;
    oasis_status status = write_frame(w, frame, &w->message);
    if (status < 0 && !w->finished)
        w->failed = status;
    return status;
}

static oasis_status finish(oasis_writer *w, oasis_message *message)
{
    if (w->frames == 0)
        return oas_media_fail(message, OASIS_E_ARGUMENT, "'%s' is not written: no frame was given", w->path);
    OAS_TRY(oas_encoder_send(&w->encoder, NULL, message));
    oasis_status status = drain(w, message);
    OAS_TRY(status);
    if (w->shown != w->frames)
        return oas_media_fail(message, OASIS_E_IO, "the encoder %s gave %lld frames for %lld; '%s' is not written",
                              w->encoder.context->codec->name, (long long)w->shown, (long long)w->frames, w->path);
    return w->target == OAS_TARGET_MEDIA ? oas_mux_finish(w, message) : oas_pictures_finish(w, message);
}

oasis_status oasis_writer_finish(oasis_writer *w)
{
    if (w->failed != OASIS_OK)
        return w->failed;
    if (w->finished)
        return oas_media_fail(&w->message, OASIS_E_ARGUMENT, "'%s' is finished already", w->path);
    oasis_status status = finish(w, &w->message);
    w->finished = true;
    if (status < 0)
        w->failed = status;
    return status;
}
