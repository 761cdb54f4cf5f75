/*
 * The video stream of a media file as decoded pictures, in order of presentation.
 *
 * FFmpeg's demuxers and decoders go on past missing ends, unreadable places and damaged packets; here each of them is an
 * error that names the place.  What is let pass: packets before the first key frame of a stream that begins (or was
 * entered) in its middle.
 */
#ifndef OAS_VIDEO_VIDEO_STREAM_H
#define OAS_VIDEO_VIDEO_STREAM_H

#include "video/ebml_walk.h"
#include "video/hardware.h"
#include "video/media.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>

/*
 * Opens a media file of this machine ("-": YUV4MPEG2 on standard input) and looks at its streams.
 * Fails with OASIS_E_IO (missing, unreadable), OASIS_E_FORMAT (empty, unknown, damaged), OASIS_E_MEMORY.
 */
oasis_status oas_demux_open(AVFormatContext **format, const char *path, oasis_message *message);

typedef struct oas_video {
    const char *path; /* the caller's */
    bool whole;       /* as when opened */
    AVFormatContext *format;
    AVFormatContext *described; /* the first one, once the file was opened again: callers hold on to it */
    AVStream *stream;
    AVCodecContext *decoder;
    const oas_hardware *hardware; /* that decodes; NULL = software */
    bool sought;
    int64_t sought_pts;
    AVPacket *packet;
    int64_t packets, expected_packets; /* of the stream, read so far; those of a complete index, else 0 */
    int64_t frames;                    /* given so far */
    int64_t last_pts;                  /* of the last frame given, for messages */
    bool strict;                       /* past the first key packet */
    bool clean;                        /* past the first key frame */
    bool draining;
    oas_ebml_walk walk;       /* Matroska: the chain of elements */
    int64_t packet_end, head; /* YUV4MPEG2: where the last packet ends; length of a frame's head */
} oas_video;

/*
 * Opens the file, its (best) video stream and a decoder.
 *   whole  every byte that the file declares must be there; false when only a part of it will be read
 * The video is zeroed first; oas_video_close works after any failure.
 */
oasis_status oas_video_open(oas_video *video, const char *path, bool whole, oasis_message *message);
void oas_video_close(oas_video *video);

/* Goes to a key frame at or before `pts`, as far as the container can tell.  False when it cannot. */
bool oas_video_seek(oas_video *video, int64_t pts);

/*
 * The next picture; the caller unreferences it.  OASIS_END after the last.  Where hardware fails, software goes on: only
 * what software fails at is an error.
 */
oasis_status oas_video_next(oas_video *video, AVFrame *frame, oasis_message *message);

/*
 * From the next picture on, decodes with that hardware (its device `gpu`), or with NULL in software: the file is opened
 * again and the pictures given so far are decoded once more, which makes the next one the right one in any container.
 * On failure the video goes on as before.  `format` and `stream` change; the ones from opening live until closing.
 */
oasis_status oas_video_switch(oas_video *video, const oas_hardware *hardware, int gpu, oasis_message *message);

#endif
