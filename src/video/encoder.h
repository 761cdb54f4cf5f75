/*
 * RGB float frames to packets of an FFmpeg encoder.
 *
 * The encoder counts frames: time stamps of packets are frame numbers, which the writer turns into times.  So no encoder
 * can round or refuse a time base, and its bits do not depend on the time stamps.
 */
#ifndef OAS_VIDEO_ENCODER_H
#define OAS_VIDEO_ENCODER_H

#include "video/convert.h"
#include "video/source.h"

#include <libavcodec/avcodec.h>

typedef struct oas_encoder_request {
    const oasis_writer_options *options;
    const char *codec;                           /* encoder's name */
    int width, height;                           /* pixels */
    AVRational sar, rate;                        /* 0/1 where unknown */
    bool picture;                                /* still pictures: RGB before Y'CbCr */
    bool global_header;                          /* the container wants parameters outside of the packets */
    enum AVPixelFormat source_format;            /* AV_PIX_FMT_NONE without a source */
    int depth;                                   /* bits of the source */
    bool alpha;                                  /* the source has it */
    oas_color color;                             /* of the source, filled */
    const AVMasteringDisplayMetadata *mastering; /* or NULL */
    const AVContentLightMetadata *light;
} oas_encoder_request;

typedef struct oas_encoder {
    AVCodecContext *context;
    oas_converter *converter;
    AVFrame *frame;
    oas_color color;    /* of what is written */
    AVDictionary *rest; /* settings (-e) that the encoder does not know: the container's, perhaps */
    char note[200];     /* what was done otherwise than asked for, or "" */
    int64_t sent;
} oas_encoder;

/*
 * Opens the encoder with a pixel format that it takes.
 * Fails with OASIS_E_UNSUPPORTED (no such encoder, a size or pixel format it does not take), OASIS_E_ARGUMENT (a setting),
 * OASIS_E_MEMORY.  oas_encoder_close works after any failure.
 */
oasis_status oas_encoder_open(oas_encoder *encoder, const oas_encoder_request *request, oasis_message *message);
void oas_encoder_close(oas_encoder *encoder);

/* Gives it a frame, or NULL after the last. */
oasis_status oas_encoder_send(oas_encoder *encoder, const oasis_frame *frame, oasis_message *message);

/* Takes a packet, numbered: pts and dts count frames.  OASIS_AGAIN: send first; OASIS_END. */
oasis_status oas_encoder_receive(oas_encoder *encoder, AVPacket *packet, oasis_message *message);

#endif
