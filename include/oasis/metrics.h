/*
 * Measuring how good a clip is, with a reference (the truth) or without one.
 *
 *     oasis_metrics *m = NULL;
 *     if (oasis_metrics_open(&m, NULL, width, height, true, &why) == OASIS_OK) {
 *         while (two frames)
 *             oasis_metrics_push(m, &frame, &truth);
 *         for (int i = 0; i < oasis_metrics_count(m); i++)
 *             oasis_metrics_result(m, i, &result);
 *     }
 *     oasis_metrics_close(&m);
 *
 * Frames are rounded to 8 bits first, as all published figures are.  A metric's value is the mean over frames (or over
 * pairs of neighbouring frames) of the value of each.  Definitions: doc/metrics.md.
 */
#ifndef OASIS_METRICS_H
#define OASIS_METRICS_H

#include <oasis/oasis.h>
#include <oasis/options.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whose motion the warping error follows. */
typedef enum oasis_flow_source {
    OASIS_FLOW_GT,  /* the reference's where there is one, else the clip's own */
    OASIS_FLOW_SELF /* the clip's own: rewards over-smooth results */
} oasis_flow_source;

typedef struct oasis_metrics_options {
    size_t size;            /* set by oasis_metrics_options_init */
    const char *names;      /* "psnr_rgb,ssim"; NULL or "all" = all that can be computed */
    oasis_flow_source flow; /* default GT */
    const char *niqe;       /* published parameters of NIQE (.npz); NULL = the model fitted here */
    const char *squeezenet; /* weights of SqueezeNet 1.1 in ncnn's format (.param, with .bin beside it), or NULL */
    const char *lpips;      /* "NETWORK,WEIGHTS": torchvision's squeezenet1_1, alexnet or vgg16, and LPIPS's for it; or NULL */
    const char *dists;      /* "NETWORK,WEIGHTS": torchvision's vgg16, and alpha and beta; or NULL */
    int border;             /* pixels cut off on each side before anything is measured, default 0 */
    int threads;            /* 0 = as many as the process may use, the default.  The bits do not depend on it */
} oasis_metrics_options;

OASIS_API void oasis_metrics_options_init(oasis_metrics_options *options);

/* The rows for oasis_metrics_options (oasis/options.h). */
OASIS_API const oasis_option *oasis_metrics_option_rows(void);

/* What can be measured, in the order of the table; NULL after the last. */
typedef struct oasis_metric_info {
    const char *name;  /* "psnr_rgb" */
    const char *label; /* "PSNR (RGB)" */
    const char *unit;  /* "dB", or "" */
    int better;        /* 1: more is better, -1: less is better, 0: neither */
    bool reference;    /* needs one */
    bool motion;       /* is of neighbouring frames */
} oasis_metric_info;

OASIS_API const oasis_metric_info *oasis_metric_at(int i);

typedef struct oasis_metrics oasis_metrics;

/*
 * Begins the measuring of a clip.
 *   options    NULL = defaults; files named in it are read now
 *   reference  whether frames come with a reference
 * Fails with OASIS_E_ARGUMENT (unknown name, a metric that needs what is not given, a frame too small for one that was
 * asked for by name), OASIS_E_IO, OASIS_E_FORMAT (a file named in the options), OASIS_E_MEMORY.
 */
OASIS_API oasis_status oasis_metrics_open(oasis_metrics **metrics, const oasis_metrics_options *options, int width,
                                          int height, bool reference, oasis_message *message);
OASIS_API void oasis_metrics_close(oasis_metrics **metrics);

/* Measures the next frame; both stay the caller's.  `reference` is NULL when there is none. */
OASIS_API oasis_status oasis_metrics_push(oasis_metrics *metrics, const oasis_frame *frame,
                                          const oasis_frame *reference);
OASIS_API const char *oasis_metrics_message(const oasis_metrics *metrics);

typedef struct oasis_metric_result {
    const oasis_metric_info *info;
    const char *note; /* what to know when comparing, such as "own flow"; "" when nothing */
    double mean;      /* not a number when nothing could be measured */
    double last;      /* of the frame pushed last */
    int64_t count;    /* frames or pairs in the mean */
} oasis_metric_result;

OASIS_API int oasis_metrics_count(const oasis_metrics *metrics);
OASIS_API void oasis_metrics_result(const oasis_metrics *metrics, int i, oasis_metric_result *result);

#ifdef __cplusplus
}
#endif
#endif
