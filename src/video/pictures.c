/* Files of pictures: lists in order, and decoding of one. */
#include "video/pictures.h"

#include <dirent.h>
#include <errno.h>
#include <libavutil/avstring.h>
#include <libavutil/mem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- names -------------------------------------------------------------------------------------------------------- */

bool oas_is_picture_name(const char *path)
{
    static const char *const endings[] = {"png", "jpg", "jpeg", "tif", "tiff", "bmp", "webp", "ppm", "pgm",
                                          "pnm", "pam", "exr",  "jp2", "j2k",  "jxl", "dpx",  "tga", "pfm"};
    const char *ending = oas_media_extension(path);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (av_strcasecmp(ending, endings[i]) == 0)
            return true;
    return false;
}

/* The parts of a pattern's file name: [prefix, number start), width, zeros, rest after the directive.  A "%%" may stand
 * anywhere.  Returns the position of the directive or NULL when there is not exactly one. */
static const char *find_directive(const char *path, int *width, const char **rest)
{
    const char *found = NULL;
    for (const char *p = strchr(path, '%'); p; p = strchr(p, '%')) {
        if (p[1] == '%') {
            p += 2;
            continue;
        }
        const char *q = p + 1;
        int w = 0;
        while (*q >= '0' && *q <= '9' && w < 100)
            w = w * 10 + (*q++ - '0');
        if (*q != 'd' || w > 18 || found || (w > 0 && p[1] != '0'))
            return NULL;
        found = p;
        *width = w;
        *rest = p = q + 1;
    }
    return found;
}

bool oas_is_pattern(const char *path)
{
    int width;
    const char *rest;
    return find_directive(path, &width, &rest) != NULL;
}

/* Copies [from, to) with "%%" as "%"; returns the end of what was written. */
static char *unescape(char *out, const char *from, const char *to)
{
    while (from < to) {
        if (from[0] == '%' && from[1] == '%')
            from++;
        *out++ = *from++;
    }
    return out;
}

char *oas_pattern_path(const char *pattern, int64_t number)
{
    int width = 0;
    const char *rest = NULL, *directive = find_directive(pattern, &width, &rest);
    size_t size = strlen(pattern) + 32;
    char *path = directive ? av_mallocz(size) : NULL;
    if (!path)
        return NULL;
    char *end = unescape(path, pattern, directive);
    end += snprintf(end, size - (size_t)(end - path), "%0*lld", width, (long long)number);
    unescape(end, rest, rest + strlen(rest));
    return path;
}

/* ---- lists -------------------------------------------------------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Order in which people count: runs of digits as numbers, then bytes; equal numbers by fewer leading zeros. */
static int natural_order(const char *a, const char *b)
{
    const char *a0 = a, *b0 = b;
    while (*a && *b) {
        if (is_digit(*a) && is_digit(*b)) {
            while (*a == '0')
                a++;
            while (*b == '0')
                b++;
            size_t na = strspn(a, "0123456789"), nb = strspn(b, "0123456789");
            if (na != nb)
                return na < nb ? -1 : 1;
            int order = memcmp(a, b, na);
            if (order)
                return order;
            a += na;
            b += nb;
        } else if (*a != *b) {
            break;
        } else {
            a++;
            b++;
        }
    }
    int order = (unsigned char)*a - (unsigned char)*b;
    return order ? order : strcmp(a0, b0);
}

static int compare_paths(const void *a, const void *b)
{
    return natural_order(*(char *const *)a, *(char *const *)b);
}

/* Takes over `path`, also on failure. */
static oasis_status append(oas_picture_list *list, char *path, oasis_message *message)
{
    if (path && (list->count & (list->count - 1)) == 0) { /* grow at powers of two */
        size_t size = list->count ? 2 * list->count : 1;
        char **paths = av_realloc_array(list->paths, size, sizeof *paths);
        if (!paths)
            av_freep(&path);
        else
            list->paths = paths;
    }
    if (!path)
        return oas_media_fail_memory(message, "a list of files");
    list->paths[list->count++] = path;
    return OASIS_OK;
}

void oas_picture_list_free(oas_picture_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        av_free(list->paths[i]);
    av_free(list->paths);
    *list = (oas_picture_list){0};
}

oasis_status oas_list_single(oas_picture_list *list, const char *path, oasis_message *message)
{
    *list = (oas_picture_list){.first = 1};
    return append(list, av_strdup(path), message);
}

oasis_status oas_list_folder(oas_picture_list *list, const char *folder, oasis_message *message)
{
    *list = (oas_picture_list){.first = 1};
    DIR *dir = opendir(folder);
    if (!dir)
        return oas_media_fail(message, OASIS_E_IO, "cannot read the folder '%s': %s", folder, strerror(errno));
    oasis_status status = OASIS_OK;
    const char *slash = folder[0] && folder[strlen(folder) - 1] == '/' ? "" : "/";
    for (struct dirent *entry; status == OASIS_OK && (entry = readdir(dir));)
        if (entry->d_name[0] != '.' && oas_is_picture_name(entry->d_name))
            status = append(list, av_asprintf("%s%s%s", folder, slash, entry->d_name), message);
    closedir(dir);
    if (status == OASIS_OK && list->count == 0)
        status = oas_media_fail(
            message, OASIS_E_FORMAT,
            "the folder '%s' holds no pictures; expected files ending in .png, .jpg, .tif or the like", folder);
    if (status != OASIS_OK)
        oas_picture_list_free(list);
    else
        qsort(list->paths, list->count, sizeof *list->paths, compare_paths);
    return status;
}

/* The number that `name` has where the pattern's file name has its directive, or -1. */
static int64_t pattern_number(const char *pattern, const char *folder, const char *name)
{
    int width;
    const char *rest, *directive = find_directive(pattern, &width, &rest);
    const char *base = oas_media_base_name(pattern);
    if (directive < base)
        return -1;
    size_t skip = (size_t)(directive - base);
    for (const char *p = base; p < directive; p++) /* "%%" is one character in the name */
        if (p[0] == '%' && p[1] == '%')
            p++, skip--;
    if (strlen(name) <= skip || !is_digit(name[skip]) || strspn(name + skip, "0123456789") > 18)
        return -1;
    int64_t number = strtoll(name + skip, NULL, 10);
    char *path = oas_pattern_path(pattern, number), *actual = av_asprintf("%s%s", folder, name);
    bool same = path && actual && strcmp(path, actual) == 0;
    av_free(path);
    av_free(actual);
    return same ? number : -1;
}

/* Smallest and largest number among the files of a pattern, and how many there are. */
static oasis_status pattern_range(const char *pattern, int64_t *first, int64_t *last, int64_t *count,
                                  oasis_message *message)
{
    char *folder = av_strndup(pattern, (size_t)(oas_media_base_name(pattern) - pattern));
    if (!folder)
        return oas_media_fail_memory(message, "a list of files");
    DIR *dir = opendir(folder[0] ? folder : ".");
    int reason = errno;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        int64_t number = pattern_number(pattern, folder, entry->d_name);
        if (number < 0)
            continue;
        *first = *count == 0 || number < *first ? number : *first;
        *last = *count == 0 || number > *last ? number : *last;
        ++*count;
    }
    if (dir)
        closedir(dir);
    else
        oas_media_fail(message, OASIS_E_IO, "cannot read the folder '%s' of '%s': %s", folder, pattern,
                       strerror(reason));
    av_free(folder);
    return dir ? OASIS_OK : OASIS_E_IO;
}

oasis_status oas_list_pattern(oas_picture_list *list, const char *pattern, oasis_message *message)
{
    *list = (oas_picture_list){0};
    int64_t first = 0, last = -1, count = 0;
    OAS_TRY(pattern_range(pattern, &first, &last, &count, message));
    if (count == 0)
        return oas_media_fail(message, OASIS_E_IO, "no file matches '%s'", pattern);
    list->first = first;
    oasis_status status = OASIS_OK;
    for (int64_t n = first; status == OASIS_OK && n <= last; n++) {
        char *path = oas_pattern_path(pattern, n);
        struct stat s;
        if (path && count != last - first + 1 && stat(path, &s) != 0) {
            status = oas_media_fail(message, OASIS_E_IO, "'%s' is missing; the files of '%s' go from %lld to %lld",
                                    path, pattern, (long long)first, (long long)last);
            av_free(path);
            break;
        }
        status = append(list, path, message);
    }
    if (status != OASIS_OK)
        oas_picture_list_free(list);
    return status;
}

/* ---- decoding ----------------------------------------------------------------------------------------------------- */

/* The codec of a picture by its first bytes; TGA, which has none, by its name. */
static enum AVCodecID picture_codec(const char *path, const uint8_t *p, size_t n)
{
    static const struct {
        const char *bytes;
        size_t n;
        enum AVCodecID id;
    } heads[] = {
        {"\x89PNG\r\n\x1a\n", 8, AV_CODEC_ID_PNG},
        {"\xff\xd8\xff", 3, AV_CODEC_ID_MJPEG},
        {"II*\0", 4, AV_CODEC_ID_TIFF},
        {"MM\0*", 4, AV_CODEC_ID_TIFF},
        {"BM", 2, AV_CODEC_ID_BMP},
        {"v/1\x01", 4, AV_CODEC_ID_EXR},
        {"P5", 2, AV_CODEC_ID_PGM},
        {"P6", 2, AV_CODEC_ID_PPM},
        {"P4", 2, AV_CODEC_ID_PBM},
        {"P7", 2, AV_CODEC_ID_PAM},
        {"PF", 2, AV_CODEC_ID_PFM},
        {"Pf", 2, AV_CODEC_ID_PFM},
        {"SDPX", 4, AV_CODEC_ID_DPX},
        {"XPDS", 4, AV_CODEC_ID_DPX},
        {"\xff\x4f\xff\x51", 4, AV_CODEC_ID_JPEG2000},
        {"\0\0\0\x0cjP  ", 8, AV_CODEC_ID_JPEG2000},
        {"\xff\x0a", 2, AV_CODEC_ID_JPEGXL},
        {"\0\0\0\x0cJXL ", 8, AV_CODEC_ID_JPEGXL},
    };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (n >= heads[i].n && memcmp(p, heads[i].bytes, heads[i].n) == 0)
            return heads[i].id;
    if (n >= 12 && memcmp(p, "RIFF", 4) == 0 && memcmp(p + 8, "WEBP", 4) == 0)
        return AV_CODEC_ID_WEBP;
    return av_strcasecmp(oas_media_extension(path), "tga") == 0 ? AV_CODEC_ID_TARGA : AV_CODEC_ID_NONE;
}

/* Whether the closing mark is there: decoders return a half picture without a word. */
static bool is_whole(enum AVCodecID id, const uint8_t *p, size_t n)
{
    if (id == AV_CODEC_ID_PNG) {
        for (size_t at = 8; n - at >= 12;) {
            size_t length = (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3];
            if (memcmp(p + at + 4, "IEND", 4) == 0)
                return true;
            if (length > n - at - 12)
                return false;
            at += length + 12;
        }
        return false;
    }
    if (id == AV_CODEC_ID_MJPEG) {
        for (size_t at = n; at >= 2; at--)
            if (p[at - 2] == 0xff && p[at - 1] == 0xd9)
                return true;
        return false;
    }
    if (id == AV_CODEC_ID_BMP || id == AV_CODEC_ID_WEBP) { /* their heads say how long they are */
        const uint8_t *length = p + (id == AV_CODEC_ID_BMP ? 2 : 4);
        if (n < 12)
            return false;
        size_t said = (size_t)length[0] | (size_t)length[1] << 8 | (size_t)length[2] << 16 | (size_t)length[3] << 24;
        return said <= (id == AV_CODEC_ID_BMP ? n : n - 8);
    }
    return true;
}

/* The file's bytes as a packet. */
static oasis_status read_file(const char *path, AVPacket *packet, oasis_message *message)
{
    struct stat s;
    FILE *file = fopen(path, "rbe");
    if (!file || fstat(fileno(file), &s) != 0) {
        int reason = errno;
        if (file)
            fclose(file);
        return oas_media_fail(message, OASIS_E_IO, "cannot open '%s': %s", path, strerror(reason));
    }
    oasis_status status = OASIS_OK;
    if (!S_ISREG(s.st_mode) || s.st_size == 0 || s.st_size > INT32_MAX / 2)
        status = oas_media_fail(message, OASIS_E_FORMAT, "'%s' is no picture: %s", path,
                                !S_ISREG(s.st_mode) ? "not a file"
                                : s.st_size == 0    ? "the file is empty"
                                                    : "larger than 1 GiB");
    else if (av_new_packet(packet, (int)s.st_size) < 0)
        status = oas_media_fail_memory(message, "a picture");
    else if (fread(packet->data, 1, (size_t)s.st_size, file) != (size_t)s.st_size)
        status = oas_media_fail(message, OASIS_E_IO, "cannot read '%s': %s", path,
                                ferror(file) ? strerror(errno) : "it became shorter");
    fclose(file);
    return status;
}

static oasis_status decode(const char *path, const AVCodec *codec, AVPacket *packet, AVFrame *frame,
                           oasis_message *message)
{
    AVCodecContext *decoder = avcodec_alloc_context3(codec);
    if (!decoder)
        return oas_media_fail_memory(message, "a decoder");
    decoder->thread_count = 1;
    decoder->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER;
    if (codec->id != AV_CODEC_ID_TIFF) /* whose decoder refuses fields it does not know */
        decoder->err_recognition |= AV_EF_EXPLODE;
    int code = avcodec_open2(decoder, codec, NULL);
    if (code >= 0)
        code = avcodec_send_packet(decoder, packet);
    if (code >= 0)
        code = avcodec_send_packet(decoder, NULL);
    if (code >= 0)
        code = avcodec_receive_frame(decoder, frame);
    avcodec_free_context(&decoder);
    if (code < 0)
        return oas_media_fail_av(message, code == AVERROR_EOF ? AVERROR_INVALIDDATA : code,
                                 "the picture '%s' cannot be decoded (%s)", path, codec->name);
    if (frame->decode_error_flags || frame->flags & AV_FRAME_FLAG_CORRUPT)
        return oas_media_fail(message, OASIS_E_FORMAT, "the picture '%s' is damaged", path);
    return OASIS_OK;
}

oasis_status oas_picture_decode(const char *path, AVFrame *frame, const char **codec_name, oasis_message *message)
{
    AVPacket *packet = av_packet_alloc();
    if (!packet)
        return oas_media_fail_memory(message, "a picture");
    oasis_status status = read_file(path, packet, message);
    if (status == OASIS_OK) {
        enum AVCodecID id = picture_codec(path, packet->data, (size_t)packet->size);
        const AVCodec *codec = id == AV_CODEC_ID_NONE ? NULL : avcodec_find_decoder(id);
        if (codec_name)
            *codec_name = avcodec_get_name(id);
        if (id == AV_CODEC_ID_NONE)
            status = oas_media_fail(message, OASIS_E_FORMAT,
                                    "'%s' is no picture of a known kind (PNG, JPEG, TIFF, ...)", path);
        else if (!codec)
            status = oas_media_fail(message, OASIS_E_UNSUPPORTED, "'%s': this FFmpeg has no decoder for %s", path,
                                    avcodec_get_name(id));
        else if (!is_whole(id, packet->data, (size_t)packet->size))
            status =
                oas_media_fail(message, OASIS_E_FORMAT, "the picture '%s' is cut short: its end mark is missing", path);
        else
            status = decode(path, codec, packet, frame, message);
    }
    av_packet_free(&packet);
    return status;
}
