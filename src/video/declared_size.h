/*
 * How long a media file says it is.  Containers write the sizes of their parts; when the file is shorter, its end is
 * missing, which FFmpeg's demuxers pass over in silence.
 */
#ifndef OAS_VIDEO_DECLARED_SIZE_H
#define OAS_VIDEO_DECLARED_SIZE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct oas_declared_size {
    int64_t needed;   /* bytes the file must have for all its parts; 0 where nothing is known */
    const char *part; /* the part that reaches so far: "mdat", "Segment" */
    bool has_index;   /* MP4: a moov box was met */
    bool is_mp4;      /* the file begins with boxes of MP4 or QuickTime */
    bool fragmented;  /* MP4: a moof box was met */
} oas_declared_size;

/*
 * Walks the outermost parts of an MP4/QuickTime (boxes), Matroska/WebM (Segment, clusters) or AVI (RIFF lists) file.
 * Other files give needed = 0.  Reading errors and parts it does not know end the walk, so that odd but whole files
 * raise no alarm.
 */
oas_declared_size oas_declared_size_of(FILE *file);

#endif
