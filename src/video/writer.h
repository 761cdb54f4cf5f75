/* The writer's inside, shared by writer.c (the interface), writer_mux.c (media files) and writer_pictures.c. */
#ifndef OAS_VIDEO_WRITER_H
#define OAS_VIDEO_WRITER_H

#include "video/copy.h"
#include "video/encoder.h"
#include "video/output_file.h"
#include "video/source.h"

enum { OAS_WRITER_RING = 4096 }; /* frames that an encoder may hold back, at most */

typedef enum oas_target { OAS_TARGET_MEDIA, OAS_TARGET_PICTURE, OAS_TARGET_PATTERN, OAS_TARGET_FOLDER } oas_target;

struct oasis_writer {
    char *path;
    oas_target target;
    oasis_writer_options options;
    const oas_source *source; /* NULL: none */
    int width, height;        /* of the frames given */
    oas_encoder encoder;
    AVPacket *packet;
    int64_t frames, packets, shown; /* frames given; packets made; packets that show a frame */
    int64_t last_pts;               /* of the frames given */
    bool finished;
    oasis_status failed;
    char note[500];
    oasis_message message;
    oas_orientation turn; /* applied to the pixels, where the output cannot tell it */
    bool turning;
    oasis_frame turned; /* scratch for it */

    /* media files */
    oas_output file;
    AVFormatContext *mux;
    AVStream *stream;
    oas_copier copier;
    bool copying;         /* other streams */
    bool counted;         /* the container counts frames and has no time stamps */
    AVRational time_base; /* of the frames given */
    int64_t origin;       /* their time stamp that becomes 0 */
    struct {
        int64_t pts, duration; /* in the stream's time base */
    } times[OAS_WRITER_RING];
    int64_t last_dts;
    double end; /* of the last frame, seconds of the output's clock */

    /* pictures */
    oas_output_set set;
    const char *ending; /* "png" */
};

/* Opens, writes and finishes each kind.  The packet of _packet is the encoder's next. */
oasis_status oas_mux_open(oasis_writer *w, oasis_message *message);
oasis_status oas_mux_note_frame(oasis_writer *w, const oasis_frame *frame, oasis_message *message);
oasis_status oas_mux_packet(oasis_writer *w, AVPacket *packet, oasis_message *message);
oasis_status oas_mux_finish(oasis_writer *w, oasis_message *message);

oasis_status oas_pictures_open(oasis_writer *w, oasis_message *message);
oasis_status oas_pictures_packet(oasis_writer *w, const AVPacket *packet, oasis_message *message);
oasis_status oas_pictures_finish(oasis_writer *w, oasis_message *message);

/* Opens w->encoder for an output that has `codec` (a name) as its own choice. */
oasis_status oas_writer_open_encoder(oasis_writer *w, const char *codec, bool global_header, oasis_message *message);

/* Adds words to what oasis_writer_note gives. */
void oas_writer_add_note(oasis_writer *w, const char *note);

/* Refuses settings (-e) that nobody knows: the first of `rest`. */
oasis_status oas_writer_check_rest(const oasis_writer *w, const AVDictionary *rest, oasis_message *message);

#endif
