/*
 * Small real media files for tests, made and looked at through FFmpeg's libraries, without any of liboasis-media.
 * Every failure is a failed assertion.
 */
#ifndef TEST_MEDIA_CLIPS_H
#define TEST_MEDIA_CLIPS_H

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/avutil.h>
#include <libavutil/frame.h>
#include <stdbool.h>
#include <stddef.h>

/* A clip to make.  Zero fields have a meaning of their own: see below. */
typedef struct clip {
    const char *path;
    const char *codec;         /* NULL = ffv1 */
    const char *settings;      /* "key=value:key=value" for the encoder, or NULL */
    const char *mux_settings;  /* likewise for the container */
    enum AVPixelFormat format; /* 0 is yuv420p */
    int width, height, frames; /* 0 = 64, 48, 5 */
    AVRational time_base;      /* 0/0 = 1/25 */
    const int64_t *pts;        /* [frames]; NULL = 0, 1, 2, ... */
    int64_t last_duration;     /* of the last frame, ticks; 0 = 1 */
    enum AVColorSpace matrix;  /* 0 (RGB) = unspecified */
    enum AVColorRange range;
    enum AVColorPrimaries primaries;
    enum AVColorTransferCharacteristic transfer;
    enum AVChromaLocation location;
    AVRational sar;
    int rotation;            /* clockwise */
    bool top_field_first;    /* interlaced */
    int audio;               /* tracks */
    const char *audio_codec; /* NULL = pcm_s16le */
    bool subtitles, chapters, attachment, cover, mastering;
    void (*fill)(AVFrame *frame, int k); /* NULL = moving gradients */
} clip;

void make_clip(const clip *c);

/* Picture k of make_clip's own content, allocated; for comparing. */
AVFrame *clip_picture(const clip *c, int k);

/* What a file has in it. */
typedef struct seen_packet {
    int stream;
    int64_t pts, dts, duration;
    int size, flags;
    uint32_t sum; /* of the bytes */
} seen_packet;

typedef struct seen {
    AVFormatContext *format; /* open, for looking at streams, chapters, metadata */
    seen_packet *packets;
    int n_packets;
    AVFrame **frames; /* decoded, of the first video that is no cover */
    int n_frames;
    int video; /* its stream index */
} seen;

void look(seen *s, const char *path);
void look_away(seen *s);

/* Packets of one stream in the file's order: the i-th, or NULL. */
const seen_packet *packet_of(const seen *s, int stream, int i);

/* The i-th stream of a type, or NULL. */
AVStream *stream_of(const seen *s, enum AVMediaType type, int i);

/* A name in a folder of the test program (32 names at a time); NULL removes the folder at the end. */
const char *path_of(const char *name);
int files_in(const char *folder); /* hidden ones, too */
bool exists(const char *path);
void copy_part(const char *from, const char *to, int64_t bytes); /* the first bytes; below 0: all but so many */
int64_t size_of(const char *path);

#endif
