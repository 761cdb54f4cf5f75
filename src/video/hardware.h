/*
 * Decoding by hardware: what video_stream.c needs of it, as a table, so that tests can put another in its place.
 *
 * Hardware never decides what comes out.  It is used for codecs whose standards say every bit of a picture, its pictures
 * are handed on in the pixel format that software would have given, and whatever it cannot do or fails at is an error here,
 * upon which the caller decodes the file in software from that picture on.
 */
#ifndef OAS_VIDEO_HARDWARE_H
#define OAS_VIDEO_HARDWARE_H

#include "video/media.h"

#include <libavcodec/avcodec.h>

typedef struct oas_hardware {
    /* FFmpeg's decoder that the hardware works under; NULL: software only. */
    const AVCodec *(*decoder)(enum AVCodecID id);
    /* Prepares a decoder that is not open yet for device `index`; FFmpeg's code, below 0 when there is no such device. */
    int (*attach)(AVCodecContext *decoder, int index);
    /* Replaces a decoded picture by one in memory, in the software's pixel format; FFmpeg's code. */
    int (*fetch)(const AVCodecContext *decoder, AVFrame *frame);
} oas_hardware;

/* NVIDIA's NVDEC, by FFmpeg's "cuda". */
extern const oas_hardware oas_hardware_cuda;

/*
 * Copies a picture as GPUs lay it out (interleaved chroma, codes in the high bits of a word) into the format of `out`,
 * which has buffers.  False when the formats do not have the same components and sizes.
 */
bool oas_hardware_unpack(AVFrame *out, const AVFrame *in);

/* Reads "cuda" or "cuda:N" into *index; false for any other text. */
bool oas_hardware_index(const char *text, int *index);

#endif
