/*
 * Time stamps that are missing, stand still or go back, made strictly increasing without dropping a frame:
 *   missing                        previous + duration of a frame
 *   back by less than a frame      previous + 1 tick (two frames rounded to one tick)
 *   back by a frame or more        a new origin: this one and all after it are moved to previous + duration of a frame
 * The same input gives the same stamps.
 */
#ifndef OAS_VIDEO_TIMESTAMPS_H
#define OAS_VIDEO_TIMESTAMPS_H

#include "video/media.h"

typedef struct oas_timestamps {
    int64_t nominal;  /* ticks of a usual frame, at least 1 */
    int64_t last;     /* the last stamp given; AV_NOPTS_VALUE at first */
    int64_t moved;    /* added to what comes in */
    int64_t repaired; /* how many were changed */
} oas_timestamps;

void oas_timestamps_init(oas_timestamps *t, AVRational rate, AVRational time_base);

/* The stamp of the next frame, whose own is `pts` or AV_NOPTS_VALUE. */
int64_t oas_timestamps_next(oas_timestamps *t, int64_t pts);

#endif
