/* The reader's inside, shared by reader.c and reader_info.c. */
#ifndef OAS_VIDEO_READER_H
#define OAS_VIDEO_READER_H

#include "video/convert.h"
#include "video/deinterlace.h"
#include "video/source.h"
#include "video/timestamps.h"
#include "video/video_stream.h"

struct oasis_reader {
    char *path;
    oasis_reader_options options;
    oas_source source;
    oas_video video;           /* media files */
    oas_picture_list pictures; /* else */
    size_t next_picture;
    oas_deinterlacer *deinterlacer;
    bool interlaced; /* by the container or the first picture */
    bool sent_end;   /* to the deinterlacer */
    bool pending;    /* `first` waits: decoded while opening */
    AVFrame *first, *frame;
    int64_t start_pts; /* frames before it are left out */
    oas_timestamps timestamps;
    oas_converter *converter;
    int64_t frames;  /* given */
    int64_t total;   /* estimate of the frames of the whole input; 0 = unknown */
    double duration; /* seconds, 0 = unknown */
    char color_note[200];
    const char *container, *codec;
    oas_color tags; /* as found */
    oasis_message message;
    oasis_status failed; /* the first error; every further read gives it again */
};

/* Fills the source, the estimates and the texts from the first picture, r->first. */
oasis_status oas_reader_describe(oasis_reader *r, oasis_message *message);

/* The description of a picture's colours: its own tags, those of the container where it has none. */
oas_color oas_reader_tags(const oasis_reader *r, const AVFrame *frame);

#endif
