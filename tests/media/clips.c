/* Making and looking at small media files. */
#include "clips.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <libavutil/adler32.h>
#include <libavutil/display.h>
#include <libavutil/imgutils.h>
#include <libavutil/mastering_display_metadata.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The encoders' own leaks; read by the leak sanitizer. */
const char *__lsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void)
{
    return "leak:libx264\nleak:libx265\nleak:libSvtAv1Enc\n";
}

/* FFmpeg's threads hand over memory by means that the thread sanitizer cannot see, since FFmpeg is not built with it. */
const char *__tsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libavutil\ncalled_from_lib:libavcodec\ncalled_from_lib:libavformat\n"
           "called_from_lib:libx264\nrace:libavutil\nrace:libavcodec\nrace:libx264\n";
}

#define OK(call) assert_true((call) >= 0)

/* ---- pictures ----------------------------------------------------------------------------------------------------- */

static void gradients(AVFrame *f, int k)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(f->format);
    uint16_t line[4096];
    for (int i = 0; i < d->nb_components; i++) {
        bool chroma = (i == 1 || i == 2) && !(d->flags & AV_PIX_FMT_FLAG_RGB);
        int w = chroma ? AV_CEIL_RSHIFT(f->width, d->log2_chroma_w) : f->width;
        int h = chroma ? AV_CEIL_RSHIFT(f->height, d->log2_chroma_h) : f->height;
        int top = (1 << d->comp[i].depth) - 1;
        for (int y = 0; y < h; y++) {
            for (int x = 0; x < w; x++)
                line[x] = (uint16_t)(top * (20 + (x * (3 + i) + y * (5 - i) + 7 * k * (i + 1)) % 60) / 100);
            av_write_image_line2(line, f->data, f->linesize, d, 0, y, i, w, 2);
        }
    }
}

static AVFrame *new_frame(enum AVPixelFormat format, int width, int height)
{
    AVFrame *f = av_frame_alloc();
    assert_non_null(f);
    f->format = format;
    f->width = width;
    f->height = height;
    OK(av_frame_get_buffer(f, 0));
    for (int i = 0; i < 4 && f->buf[i]; i++)
        memset(f->buf[i]->data, 0, f->buf[i]->size);
    return f;
}

static clip with_defaults(const clip *given)
{
    clip c = *given;
    c.codec = c.codec ? c.codec : "ffv1";
    c.width = c.width ? c.width : 64;
    c.height = c.height ? c.height : 48;
    c.frames = c.frames ? c.frames : 5;
    c.time_base = c.time_base.num ? c.time_base : (AVRational){1, 25};
    c.last_duration = c.last_duration ? c.last_duration : 1;
    c.matrix = c.matrix == AVCOL_SPC_RGB ? AVCOL_SPC_UNSPECIFIED : c.matrix;
    c.primaries = c.primaries ? c.primaries : AVCOL_PRI_UNSPECIFIED;
    c.transfer = c.transfer ? c.transfer : AVCOL_TRC_UNSPECIFIED;
    c.audio_codec = c.audio_codec ? c.audio_codec : "pcm_s16le";
    c.fill = c.fill ? c.fill : gradients;
    return c;
}

AVFrame *clip_picture(const clip *given, int k)
{
    clip c = with_defaults(given);
    AVFrame *f = new_frame(c.format, c.width, c.height);
    c.fill(f, k);
    return f;
}

/* ---- making ------------------------------------------------------------------------------------------------------- */

static AVCodecContext *open_video(const clip *c, AVFormatContext *mux)
{
    const AVCodec *codec = avcodec_find_encoder_by_name(c->codec);
    assert_non_null(codec);
    AVCodecContext *e = avcodec_alloc_context3(codec);
    e->width = c->width;
    e->height = c->height;
    e->pix_fmt = c->format;
    e->time_base = c->time_base;
    e->framerate = (AVRational){25, 1};
    e->colorspace = av_pix_fmt_desc_get(c->format)->flags & AV_PIX_FMT_FLAG_RGB ? AVCOL_SPC_RGB : c->matrix;
    e->color_range = c->range;
    e->color_primaries = c->primaries;
    e->color_trc = c->transfer;
    e->chroma_sample_location = c->location;
    e->sample_aspect_ratio = c->sar.den ? c->sar : (AVRational){0, 1};
    e->thread_count = 1;
    e->strict_std_compliance = FF_COMPLIANCE_UNOFFICIAL;
    if (c->top_field_first) {
        e->flags |= AV_CODEC_FLAG_INTERLACED_DCT | AV_CODEC_FLAG_INTERLACED_ME;
        e->field_order = AV_FIELD_TT;
    }
    if (mux->oformat->flags & AVFMT_GLOBALHEADER)
        e->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    AVDictionary *settings = NULL;
    if (c->settings)
        OK(av_dict_parse_string(&settings, c->settings, "=", ":", 0));
    OK(avcodec_open2(e, codec, &settings));
    assert_int_equal(av_dict_count(settings), 0);
    av_dict_free(&settings);
    return e;
}

static AVStream *add_video(const clip *c, AVFormatContext *mux, AVCodecContext *e)
{
    AVStream *st = avformat_new_stream(mux, NULL);
    OK(avcodec_parameters_from_context(st->codecpar, e));
    st->time_base = c->time_base;
    st->sample_aspect_ratio = c->sar;
    if (!c->pts)
        st->avg_frame_rate = av_inv_q(c->time_base);
    av_dict_set(&st->metadata, "language", "nor", 0);
    if (c->top_field_first)
        st->codecpar->field_order = AV_FIELD_TT;
    if (c->rotation) {
        int32_t *m = (int32_t *)(void *)av_stream_new_side_data(st, AV_PKT_DATA_DISPLAYMATRIX, 9 * sizeof(int32_t));
        av_display_rotation_set(m, c->rotation);
        /* Moved back into the first quadrant, as cameras write it. */
        m[6] = c->rotation == 90 ? c->height << 16 : c->rotation == 180 ? c->width << 16 : 0;
        m[7] = c->rotation == 270 ? c->width << 16 : c->rotation == 180 ? c->height << 16 : 0;
    }
    if (c->mastering) {
        AVMasteringDisplayMetadata m = {.has_luminance = 1,
                                        .has_primaries = 1,
                                        .display_primaries = {{{35400, 50000}, {14600, 50000}},
                                                              {{8500, 50000}, {39850, 50000}},
                                                              {{6550, 50000}, {2300, 50000}}},
                                        .white_point = {{15635, 50000}, {16450, 50000}},
                                        .min_luminance = {50, 10000},
                                        .max_luminance = {10000000, 10000}};
        AVContentLightMetadata l = {.MaxCLL = 1000, .MaxFALL = 400};
        memcpy(av_stream_new_side_data(st, AV_PKT_DATA_MASTERING_DISPLAY_METADATA, sizeof m), &m, sizeof m);
        memcpy(av_stream_new_side_data(st, AV_PKT_DATA_CONTENT_LIGHT_LEVEL, sizeof l), &l, sizeof l);
    }
    return st;
}

static void write_packets(AVFormatContext *mux, AVCodecContext *e, AVStream *st, AVFrame *frame, const clip *c)
{
    AVPacket *p = av_packet_alloc();
    OK(avcodec_send_frame(e, frame));
    while (avcodec_receive_packet(e, p) >= 0) {
        p->stream_index = st->index;
        if (c && c->pts && p->pts == c->pts[c->frames - 1])
            p->duration = c->last_duration;
        else if (c && c->pts)
            for (int k = 0; k + 1 < c->frames; k++)
                p->duration = c->pts[k] == p->pts ? c->pts[k + 1] - p->pts : p->duration;
        else if (c)
            p->duration = 1;
        if (c && (p->dts > p->pts || p->dts < p->pts - 1000000000)) /* libx265's are garbage in clips of two frames */
            p->dts = p->pts;
        av_packet_rescale_ts(p, e->time_base, st->time_base);
        OK(av_interleaved_write_frame(mux, p));
    }
    av_packet_free(&p);
}

static AVCodecContext *add_audio(const clip *c, AVFormatContext *mux, int i)
{
    const AVCodec *codec = avcodec_find_encoder_by_name(c->audio_codec);
    assert_non_null(codec);
    AVCodecContext *e = avcodec_alloc_context3(codec);
    e->sample_rate = 48000;
    e->sample_fmt = codec->sample_fmts[0];
    av_channel_layout_default(&e->ch_layout, 1);
    e->time_base = (AVRational){1, e->sample_rate};
    e->bit_rate = 64000;
    e->flags |= AV_CODEC_FLAG_BITEXACT | (mux->oformat->flags & AVFMT_GLOBALHEADER ? AV_CODEC_FLAG_GLOBAL_HEADER : 0);
    OK(avcodec_open2(e, codec, NULL));
    AVStream *st = avformat_new_stream(mux, NULL);
    OK(avcodec_parameters_from_context(st->codecpar, e));
    st->time_base = e->time_base;
    st->disposition = i == 0 ? AV_DISPOSITION_DEFAULT : AV_DISPOSITION_COMMENT;
    av_dict_set(&st->metadata, "language", i == 0 ? "eng" : "deu", 0);
    av_dict_set(&st->metadata, "title", i == 0 ? "first" : "second", 0);
    e->opaque = st;
    return e;
}

/* As much sound as there are pictures, written before them: the muxer interleaves. */
static void write_audio(AVFormatContext *mux, AVCodecContext *e, double seconds, int track)
{
    AVStream *st = e->opaque;
    int n = e->frame_size ? e->frame_size : 1024;
    for (int64_t at = 0; at < (int64_t)(seconds * e->sample_rate); at += n) {
        AVFrame *f = av_frame_alloc();
        f->format = e->sample_fmt;
        f->nb_samples = n;
        OK(av_channel_layout_copy(&f->ch_layout, &e->ch_layout));
        f->sample_rate = e->sample_rate;
        OK(av_frame_get_buffer(f, 0));
        for (int i = 0; i < n; i++) {
            double v = 0.3 * sin((double)(at + i) * (track + 2) * 0.03);
            if (e->sample_fmt == AV_SAMPLE_FMT_S16)
                ((int16_t *)(void *)f->data[0])[i] = (int16_t)(v * 32767);
            else
                ((float *)(void *)f->data[0])[i] = (float)v;
        }
        f->pts = at;
        write_packets(mux, e, st, f, NULL);
        av_frame_free(&f);
    }
    write_packets(mux, e, st, NULL, NULL);
}

static AVStream *add_plain(AVFormatContext *mux, enum AVMediaType type, enum AVCodecID id, const void *extra, int size)
{
    AVStream *st = avformat_new_stream(mux, NULL);
    st->codecpar->codec_type = type;
    st->codecpar->codec_id = id;
    st->time_base = (AVRational){1, 1000};
    if (size) {
        st->codecpar->extradata = av_mallocz((size_t)size + AV_INPUT_BUFFER_PADDING_SIZE);
        memcpy(st->codecpar->extradata, extra, (size_t)size);
        st->codecpar->extradata_size = size;
    }
    return st;
}

static void write_plain(AVFormatContext *mux, AVStream *st, const void *data, int size, int64_t ms, int64_t duration_ms)
{
    AVPacket *p = av_packet_alloc();
    OK(av_new_packet(p, size));
    memcpy(p->data, data, (size_t)size);
    p->stream_index = st->index;
    p->pts = p->dts = ms;
    p->duration = duration_ms;
    p->flags = AV_PKT_FLAG_KEY;
    av_packet_rescale_ts(p, (AVRational){1, 1000}, st->time_base);
    OK(av_interleaved_write_frame(mux, p));
    av_packet_free(&p);
}

/* One pixel, as PNG. */
static const uint8_t tiny_png[] = {0x89, 'P',  'N',  'G',  0x0d, 0x0a, 0x1a, 0x0a, 0,    0,    0,    13,   'I',  'H',
                                   'D',  'R',  0,    0,    0,    1,    0,    0,    0,    1,    8,    0,    0,    0,
                                   0,    0x3a, 0x7e, 0x9b, 0x55, 0,    0,    0,    10,   'I',  'D',  'A',  'T',  0x78,
                                   0x9c, 0x63, 0x60, 0,    0,    0,    2,    0,    1,    0x48, 0xaf, 0xa4, 0x71, 0,
                                   0,    0,    0,    'I',  'E',  'N',  'D',  0xae, 0x42, 0x60, 0x82};

static void add_chapters(AVFormatContext *mux)
{
    mux->chapters = av_calloc(2, sizeof *mux->chapters);
    for (int i = 0; i < 2; i++) {
        AVChapter *ch = mux->chapters[mux->nb_chapters++] = av_mallocz(sizeof *ch);
        ch->id = i + 1;
        ch->time_base = (AVRational){1, 1000};
        ch->start = i * 80;
        ch->end = i == 0 ? 80 : 200;
        av_dict_set(&ch->metadata, "title", i == 0 ? "One" : "Two", 0);
    }
}

void make_clip(const clip *given)
{
    clip c = with_defaults(given);
    AVFormatContext *mux = NULL;
    OK(avformat_alloc_output_context2(&mux, NULL, NULL, c.path));
    mux->flags |= AVFMT_FLAG_BITEXACT;
    mux->strict_std_compliance = FF_COMPLIANCE_UNOFFICIAL;
    bool mp4 = strcmp(mux->oformat->name, "mp4") == 0 || strcmp(mux->oformat->name, "mov") == 0;
    AVCodecContext *video = open_video(&c, mux), *audio[4] = {NULL};
    AVStream *st = add_video(&c, mux, video), *subtitle = NULL, *cover = NULL;
    for (int i = 0; i < c.audio; i++)
        audio[i] = add_audio(&c, mux, i);
    if (c.subtitles) {
        subtitle = add_plain(mux, AVMEDIA_TYPE_SUBTITLE, mp4 ? AV_CODEC_ID_MOV_TEXT : AV_CODEC_ID_SUBRIP, NULL, 0);
        av_dict_set(&subtitle->metadata, "language", "fra", 0);
    }
    if (c.attachment) {
        AVStream *font = add_plain(mux, AVMEDIA_TYPE_ATTACHMENT, AV_CODEC_ID_TTF, "not really a font", 17);
        av_dict_set(&font->metadata, "filename", "font.ttf", 0);
        av_dict_set(&font->metadata, "mimetype", "application/x-truetype-font", 0);
    }
    if (c.cover && !mp4) {
        AVStream *a = add_plain(mux, AVMEDIA_TYPE_ATTACHMENT, AV_CODEC_ID_PNG, tiny_png, sizeof tiny_png);
        av_dict_set(&a->metadata, "filename", "cover.png", 0);
        av_dict_set(&a->metadata, "mimetype", "image/png", 0);
    } else if (c.cover) {
        cover = add_plain(mux, AVMEDIA_TYPE_VIDEO, AV_CODEC_ID_PNG, NULL, 0);
        cover->codecpar->width = cover->codecpar->height = 1;
        cover->disposition = AV_DISPOSITION_ATTACHED_PIC;
    }
    if (c.chapters)
        add_chapters(mux);
    av_dict_set(&mux->metadata, "title", "A small clip", 0);
    av_dict_set(&mux->metadata, "comment", "made by a test", 0);
    OK(avio_open(&mux->pb, c.path, AVIO_FLAG_WRITE));
    AVDictionary *settings = NULL;
    if (c.mux_settings)
        OK(av_dict_parse_string(&settings, c.mux_settings, "=", ":", 0));
    OK(avformat_write_header(mux, &settings));
    av_dict_free(&settings);
    int64_t end = (c.pts ? c.pts[c.frames - 1] : c.frames - 1) + c.last_duration;
    if (cover)
        write_plain(mux, cover, tiny_png, sizeof tiny_png, 0, 0);
    for (int i = 0; i < c.audio; i++)
        write_audio(mux, audio[i], (double)end * av_q2d(c.time_base), i);
    if (subtitle) {
        write_plain(mux, subtitle, mp4 ? "\0\5Hello" : "Hello", mp4 ? 7 : 5, 0, 60);
        write_plain(mux, subtitle, mp4 ? "\0\5World" : "World", mp4 ? 7 : 5, 100, 60);
    }
    for (int k = 0; k < c.frames; k++) {
        AVFrame *f = clip_picture(&c, k);
        f->pts = c.pts ? c.pts[k] : k;
        f->interlaced_frame = f->top_field_first = c.top_field_first;
        f->quality = video->global_quality;
        write_packets(mux, video, st, f, &c);
        av_frame_free(&f);
    }
    write_packets(mux, video, st, NULL, &c);
    OK(av_write_trailer(mux));
    avio_closep(&mux->pb);
    avcodec_free_context(&video);
    for (int i = 0; i < c.audio; i++)
        avcodec_free_context(&audio[i]);
    avformat_free_context(mux);
}

/* ---- looking ------------------------------------------------------------------------------------------------------ */

static void take_frames(seen *s, AVCodecContext *d)
{
    for (;;) {
        AVFrame *f = av_frame_alloc();
        if (avcodec_receive_frame(d, f) < 0) {
            av_frame_free(&f);
            return;
        }
        s->frames = av_realloc_array(s->frames, (size_t)s->n_frames + 1, sizeof *s->frames);
        s->frames[s->n_frames++] = f;
    }
}

void look(seen *s, const char *path)
{
    *s = (seen){.video = -1};
    OK(avformat_open_input(&s->format, path, NULL, NULL));
    OK(avformat_find_stream_info(s->format, NULL));
    for (int i = (int)s->format->nb_streams - 1; i >= 0; i--)
        if (s->format->streams[i]->codecpar->codec_type == AVMEDIA_TYPE_VIDEO &&
            !(s->format->streams[i]->disposition & AV_DISPOSITION_ATTACHED_PIC))
            s->video = i;
    assert_true(s->video >= 0);
    AVStream *st = s->format->streams[s->video];
    AVCodecContext *d = avcodec_alloc_context3(avcodec_find_decoder(st->codecpar->codec_id));
    OK(avcodec_parameters_to_context(d, st->codecpar));
    d->pkt_timebase = st->time_base;
    d->thread_count = 1;
    OK(avcodec_open2(d, NULL, NULL));
    AVPacket *p = av_packet_alloc();
    while (av_read_frame(s->format, p) >= 0) {
        s->packets = av_realloc_array(s->packets, (size_t)s->n_packets + 1, sizeof *s->packets);
        s->packets[s->n_packets++] = (seen_packet){p->stream_index,
                                                   p->pts,
                                                   p->dts,
                                                   p->duration,
                                                   p->size,
                                                   p->flags,
                                                   (uint32_t)av_adler32_update(1, p->data, (size_t)p->size)};
        if (p->stream_index == s->video) {
            OK(avcodec_send_packet(d, p));
            take_frames(s, d);
        }
        av_packet_unref(p);
    }
    avcodec_send_packet(d, NULL);
    take_frames(s, d);
    av_packet_free(&p);
    avcodec_free_context(&d);
}

void look_away(seen *s)
{
    for (int i = 0; i < s->n_frames; i++)
        av_frame_free(&s->frames[i]);
    av_freep(&s->frames);
    av_freep(&s->packets);
    avformat_close_input(&s->format);
}

const seen_packet *packet_of(const seen *s, int stream, int i)
{
    for (int k = 0; k < s->n_packets; k++)
        if (s->packets[k].stream == stream && i-- == 0)
            return &s->packets[k];
    return NULL;
}

AVStream *stream_of(const seen *s, enum AVMediaType type, int i)
{
    for (unsigned k = 0; k < s->format->nb_streams; k++)
        if (s->format->streams[k]->codecpar->codec_type == type && i-- == 0)
            return s->format->streams[k];
    return NULL;
}

/* ---- files -------------------------------------------------------------------------------------------------------- */

static void remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char inside[1024];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(inside, sizeof inside, "%s/%s", path, e->d_name);
        struct stat st;
        if (lstat(inside, &st) == 0 && S_ISDIR(st.st_mode))
            remove_tree(inside);
        else
            unlink(inside);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

const char *path_of(const char *name)
{
    static char folder[256], paths[32][512];
    static int next;
    if (!folder[0]) {
        const char *tmp = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/oasis-media-XXXXXX", tmp && strlen(tmp) < 200 ? tmp : "/tmp");
        assert_non_null(mkdtemp(folder));
    }
    if (!name) { /* the end */
        remove_tree(folder);
        folder[0] = '\0';
        return NULL;
    }
    char *path = paths[next++ % 32];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

int files_in(const char *folder)
{
    int n = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(dir);
    return n;
}

bool exists(const char *path)
{
    struct stat s;
    return lstat(path, &s) == 0;
}

int64_t size_of(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 ? (int64_t)s.st_size : -1;
}

void copy_part(const char *from, const char *to, int64_t bytes)
{
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_true(in && out);
    if (bytes < 0)
        bytes += size_of(from);
    for (int c; bytes-- > 0 && (c = fgetc(in)) != EOF;)
        fputc(c, out);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}
