/*
 * What a writer needs to know of the reader its frames come from.  Filled when the reader is opened and constant after,
 * but for `limited`, which is set before the reader says OASIS_END.
 */
#ifndef OAS_VIDEO_SOURCE_H
#define OAS_VIDEO_SOURCE_H

#include "video/color.h"
#include "video/hardware.h"
#include "video/pictures.h"

#include <libavformat/avformat.h>
#include <libavutil/mastering_display_metadata.h>

/* How a player turns the stored picture to show it: transpose first, then mirror. */
typedef struct oas_orientation {
    bool transpose, mirror_x, mirror_y;
} oas_orientation;

typedef struct oas_source {
    const char *path;
    oasis_input_kind kind;
    bool piped;
    AVFormatContext *format;    /* media files: for metadata and stream descriptions only; else NULL */
    AVStream *stream;           /* likewise */
    AVRational time_base, rate; /* of time stamps; frames a second, 0/1 where unknown */
    bool variable_rate;
    int width, height;
    AVRational sar; /* 0/1 where unknown */
    int depth;
    bool alpha;
    enum AVPixelFormat pixel_format;
    oas_color color; /* filled */
    bool has_matrix; /* a display matrix is there */
    int32_t matrix[9];
    oas_orientation orientation;           /* of the matrix, as far as it is made of quarter turns and mirrors */
    bool turned;                           /* orientation is not the identity */
    AVMasteringDisplayMetadata *mastering; /* NULL where absent */
    AVContentLightMetadata *light;
    const char *lost; /* what the frames carry besides and no encoder takes over, in words, or NULL */
    int64_t frames;   /* estimate of the frames that will be read; 0 = unknown */
    int64_t origin;   /* time stamp that becomes 0 in the output; in time_base */
    bool cut;         /* --start: what lies before origin is left out */
    bool limited;     /* reading ended at --frames, not at the end */
    double end;       /* estimate of where reading ends, seconds after origin; 0 = the end of the file */
    const oas_picture_list *pictures; /* else NULL */
    size_t first_picture;
} oas_source;

const oas_source *oas_reader_source(const oasis_reader *reader);

/*
 * From the next picture on, decodes by `hardware` on its device `gpu` as far as that works; the frames are the same.
 * Between opening and the first read.
 */
void oas_reader_use(oasis_reader *reader, const oas_hardware *hardware, int gpu);

/* Whether hardware decodes now; at the end, whether it decoded everything but the first picture. */
bool oas_reader_is_on_hardware(const oasis_reader *reader);

#endif
