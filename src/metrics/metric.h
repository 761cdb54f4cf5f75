/*
 * What the metrics share: the descriptor of one, and the frames as all of them see them.
 *
 * A metric is a `metric` in one file and a line in metrics.def.  It turns the frame at hand (and the one before) into a
 * number; the session (metrics.c) takes the mean.
 */
#ifndef OAS_METRICS_METRIC_H
#define OAS_METRICS_METRIC_H

#include "base/threads.h"

#include <oasis/metrics.h>

/* A picture as metrics see it: 8 bits deep, the border cut off. */
typedef struct measured {
    float *rgb;  /* [height][width][3], multiples of 1/255 in [0, 1] */
    float *luma; /* [height][width], 0.299 R + 0.587 G + 0.114 B on 0..255, rounded to whole numbers */
} measured;

/* A field of motion: where the pixel (x, y) of one frame is in another, as an offset. */
typedef struct flow_field {
    float *u, *v; /* [height][width], pixels to the right and down */
} flow_field;

enum { OAS_FLOW_FORWARD, OAS_FLOW_BACKWARD, OAS_FLOWS };
enum { OAS_CLIP, OAS_REFERENCE, OAS_CLIPS };

/* What a metric may look at. */
typedef struct view {
    int width, height;
    bool has_reference;
    int64_t frame;                   /* index of the frame at hand */
    const measured *now[OAS_CLIPS];  /* the frame, and its reference (NULL without one) */
    const measured *past[OAS_CLIPS]; /* the ones before; NULL at the first frame */
    const oasis_metrics_options *options;
    oas_pool *pool;
    struct oasis_metrics *session; /* for oas_view_flow */
} view;

typedef struct metric {
    oasis_metric_info info;
    const char *note;
    const char *(*note_of)(const void *state); /* in place of `note`, when it depends on a file; may be NULL */
    int least_side; /* of the frames, pixels */

    /* Whether the options allow it to be computed (a file is there); NULL = always. */
    bool (*possible)(const oasis_metrics_options *options);

    /* Makes *state for frames of that size; NULL where there is none. */
    oasis_status (*open)(void **state, const view *v, oasis_message *message);
    void (*close)(void *state);

    /* The value for this frame or pair; not a number: leave it out of the mean. */
    oasis_status (*measure)(void *state, const view *v, double *value, oasis_message *message);
} metric;

/* The motion from the frame before to this one (FORWARD), or back, of a clip; computed once a frame for all. */
oasis_status oas_view_flow(const view *v, int clip, int direction, const flow_field **flow, oasis_message *message);

/* The sum over rows of row_fn(task, y, worker), added in the order of the rows. */
typedef double row_fn(void *task, int y, int worker);
oasis_status oas_sum_rows(oas_pool *pool, int height, row_fn *fn, void *task, double *sum, oasis_message *message);

#endif
