/* Writing pictures: one file, a numbered pattern, or a folder whose files are named like the input's. */
#include "video/writer.h"

#include <libavutil/avstring.h>
#include <libavutil/mem.h>
#include <string.h>

/* Encoder and ending of a kind of picture; folders take the ending from the encoder. */
static const struct {
    const char *ending, *codec;
} kinds[] = {
    {"png", "png"},      {"jpg", "mjpeg"},    {"jpeg", "mjpeg"}, {"tif", "tiff"}, {"tiff", "tiff"}, {"bmp", "bmp"},
    {"webp", "libwebp"}, {"ppm", "ppm"},      {"pgm", "pgm"},    {"pnm", "ppm"},  {"pam", "pam"},   {"exr", "exr"},
    {"jp2", "jpeg2000"}, {"j2k", "jpeg2000"}, {"jxl", "libjxl"}, {"dpx", "dpx"},  {"tga", "targa"}, {"pfm", "pfm"},
};

static const char *codec_of(const char *ending)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (av_strcasecmp(kinds[i].ending, ending) == 0)
            return kinds[i].codec;
    return NULL;
}

static const char *ending_of(const char *codec)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].codec, codec) == 0)
            return kinds[i].ending;
    return NULL;
}

static oasis_status choose_kind(oasis_writer *w, const char **codec, oasis_message *message)
{
    const char *asked = w->options.codec;
    if (w->target == OAS_TARGET_FOLDER) {
        w->ending = asked ? ending_of(asked) : "png";
        *codec = asked ? asked : "png";
        if (!w->ending)
            return oas_media_fail(
                message, OASIS_E_ARGUMENT,
                "the encoder %s makes no picture files; png, mjpeg and tiff do, or name a file, such as "
                "'%s.mkv'",
                asked, w->path);
        return OASIS_OK;
    }
    w->ending = oas_media_extension(w->path);
    *codec = codec_of(w->ending);
    if (!*codec || (asked && strcmp(asked, *codec) != 0))
        return oas_media_fail(message, OASIS_E_ARGUMENT,
                              "'%s' cannot be written with the encoder %s; its ending wants %s", w->path,
                              asked ? asked : "(none)", *codec ? *codec : "another");
    return OASIS_OK;
}

/* The file name of picture number k, from 0; freed by av_free. */
static char *picture_name(const oasis_writer *w, int64_t k)
{
    const oas_source *s = w->source;
    const oas_picture_list *list = s ? s->pictures : NULL;
    size_t place = list ? s->first_picture + (size_t)k : 0;
    if (w->target == OAS_TARGET_PATTERN) {
        char *path = oas_pattern_path(w->path, list ? list->first + (int64_t)place : 1 + k);
        char *name = path ? av_strdup(oas_media_base_name(path)) : NULL;
        av_free(path);
        return name;
    }
    if (list && place < list->count) {
        const char *base = oas_media_base_name(list->paths[place]), *dot = strrchr(base, '.');
        return av_asprintf("%.*s.%s", dot ? (int)(dot - base) : (int)strlen(base), base, w->ending);
    }
    return av_asprintf("%06lld.%s", (long long)k + 1, w->ending);
}

/* Refuses before any work is done what would be refused at the end. */
static oasis_status check_first_name(oasis_writer *w, oasis_message *message)
{
    char *name = picture_name(w, 0), *path = name ? av_asprintf("%s/%s", w->set.folder, name) : NULL;
    oasis_status status = OASIS_OK;
    if (!path)
        status = oas_media_fail_memory(message, "a file name");
    else if (!w->options.overwrite && avio_check(path, 0) >= 0)
        status = oas_media_fail(message, OASIS_E_IO, "'%s' exists already; -y replaces it", path);
    av_free(name);
    av_free(path);
    return status;
}

static oasis_status open_files(oasis_writer *w, oasis_message *message)
{
    if (w->target == OAS_TARGET_PICTURE)
        return oas_output_open(&w->file, w->path, w->source ? w->source->path : NULL, w->options.overwrite, message);
    char *folder = w->target == OAS_TARGET_FOLDER
                       ? av_strdup(w->path)
                       : av_strndup(w->path, (size_t)(oas_media_base_name(w->path) - w->path));
    if (!folder)
        return oas_media_fail_memory(message, "a folder name");
    oasis_status status = oas_output_set_open(&w->set, folder[0] ? folder : ".", w->options.overwrite, message);
    av_free(folder);
    return status == OASIS_OK ? check_first_name(w, message) : status;
}

oasis_status oas_pictures_open(oasis_writer *w, oasis_message *message)
{
    const oas_source *s = w->source;
    const char *codec;
    OAS_TRY(choose_kind(w, &codec, message));
    if (w->target == OAS_TARGET_PICTURE && s && s->frames > 1)
        return oas_media_fail(
            message, OASIS_E_ARGUMENT,
            "'%s' is one picture, but '%s' has %lld frames; name a pattern (NAME-%%04d.%s), a folder, or "
            "--frames 1",
            w->path, s->path, (long long)s->frames, w->ending);
    w->turning = s && s->turned;
    w->turn = w->turning ? s->orientation : (oas_orientation){0};
    w->options.threads = 1; /* a packet for every frame at once */
    OAS_TRY(oas_writer_open_encoder(w, codec, false, message));
    OAS_TRY(oas_writer_check_rest(w, w->encoder.rest, message));
    if (s && s->format && s->format->nb_streams > 1 && w->options.audio)
        oas_writer_add_note(w, "pictures hold no sound and no subtitles");
    return open_files(w, message);
}

oasis_status oas_pictures_packet(oasis_writer *w, const AVPacket *packet, oasis_message *message)
{
    int64_t k = w->shown++;
    if (w->target == OAS_TARGET_PICTURE) {
        avio_write(w->file.io, packet->data, packet->size);
        avio_flush(w->file.io);
        return w->file.error ? oas_output_fail(&w->file, 0, message) : OASIS_OK;
    }
    char *name = picture_name(w, k);
    if (!name)
        return oas_media_fail_memory(message, "a file name");
    oasis_status status = oas_output_set_write(&w->set, name, packet->data, (size_t)packet->size, message);
    av_free(name);
    return status;
}

oasis_status oas_pictures_finish(oasis_writer *w, oasis_message *message)
{
    return w->target == OAS_TARGET_PICTURE ? oas_output_commit(&w->file, message)
                                           : oas_output_set_commit(&w->set, message);
}
