/*
 * Making good video bad, as the world does: the second-order degradation of Real-ESRGAN, RealBasicVSR and DOVE (part of
 * liboasis-media).  For training, and for test clips of which the truth is known.
 *
 *     blur, resize, noise, JPEG, video codec,
 *     blur, resize, noise, JPEG, then {video codec} and {final size, sinc} in either order
 *
 * Every parameter is drawn once for a clip, and then either stays (temporal_step 0: consistent) or walks a little after
 * every frame (1: as much as RealBasicVSR's).  All is reproducible bit for bit from the seed, on any number of threads.
 *
 * On a GPU blur, resize and noise run there, with the same random numbers; codecs stay on the CPU.  What comes out is the
 * same but for roundings (doc/numerics.md).
 */
#ifndef OASIS_DEGRADE_H
#define OASIS_DEGRADE_H

#include <oasis/oasis.h>
#include <oasis/options.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The scale on which photons are counted for Poisson noise. */
typedef enum oasis_poisson_domain {
    OASIS_POISSON_UNIT, /* pictures in [0, 1], as Real-ESRGAN does */
    OASIS_POISSON_BYTE  /* pictures in [0, 255], 16 times weaker, as DOVE and mmagic 1.x do */
} oasis_poisson_domain;

typedef struct oasis_degrade_options {
    size_t size;          /* set by oasis_degrade_options_init */
    double scale;         /* the output is 1/scale as wide and high, rounded to the nearest pixel; 1 to 16, default 4 */
    int64_t seed;         /* default 0 */
    double temporal_step; /* K: 0 = consistent over time (default), 1 = RealBasicVSR's steps; up to 100 */
    bool video;           /* with the two video codecs; default true.  Single pictures are usually spared them */
    oasis_poisson_domain poisson; /* default UNIT */
    bool fast_video;              /* libx264's preset veryfast in place of medium: three times faster; default false */
    int threads;                  /* 0 = as many as the process may use, the default.  The bits do not depend on it */
    const char *device;           /* cpu and NULL, the default; cuda, cuda:N, or auto: a GPU if there is one */
} oasis_degrade_options;

OASIS_API void oasis_degrade_options_init(oasis_degrade_options *options);

/* The rows for oasis_degrade_options (oasis/options.h). */
OASIS_API const oasis_option *oasis_degrade_option_rows(void);

typedef struct oasis_degrader oasis_degrader;

/*
 * Makes a degrader for one clip of width x height frames.  Everything is drawn here.
 *   options  copied; NULL = defaults
 * Fails with OASIS_E_ARGUMENT (an option or size out of range), OASIS_E_UNSUPPORTED (FFmpeg lacks a codec),
 * OASIS_E_DEVICE (no such GPU, or built without CUDA), OASIS_E_MEMORY.
 */
OASIS_API oasis_status oasis_degrader_open(oasis_degrader **degrader, const oasis_degrade_options *options, int width,
                                           int height, oasis_message *message);
OASIS_API void oasis_degrader_close(oasis_degrader **degrader);

/* The size of the frames that come out. */
OASIS_API void oasis_degrader_size(const oasis_degrader *degrader, int *width, int *height);

/*
 * Gives the next frame, or NULL after the last; the frame stays the caller's and may be freed at once.  Values beyond
 * [0, 1] are kept until the first codec.  Alpha is dropped.
 */
OASIS_API oasis_status oasis_degrader_send(oasis_degrader *degrader, const oasis_frame *frame);

/*
 * Takes the next degraded frame; the caller frees it.  Its values are whole multiples of 1/255.  As many come out as
 * went in, in the same order, with their time stamps.  OASIS_AGAIN: send more.  OASIS_END: that was all.
 */
OASIS_API oasis_status oasis_degrader_receive(oasis_degrader *degrader, oasis_frame *frame);
OASIS_API const char *oasis_degrader_message(const oasis_degrader *degrader);

/*
 * What was drawn, as one JSON object: seed, temporal_step, and "stages" in their order with the values of each; a value
 * that walks is an array with what every frame so far used.  To be freed with oasis_degrader_text_free; NULL when
 * memory is short.
 */
OASIS_API char *oasis_degrader_params(const oasis_degrader *degrader);
OASIS_API void oasis_degrader_text_free(char *text);

/*
 * A whole clip at once: n frames of one size in, n new frames out, which the caller frees.  On failure none are left.
 */
OASIS_API oasis_status oasis_degrade_clip(const oasis_degrade_options *options, const oasis_frame *in, int n,
                                          oasis_frame *out, oasis_message *message);

/*
 * The same for one clip after another: what a degrader takes long to get, a GPU's memory above all, stays in *degrader,
 * which is NULL at first and closed at the end.  Clips may differ in everything.
 */
OASIS_API oasis_status oasis_degrader_clip(oasis_degrader **degrader, const oasis_degrade_options *options,
                                           const oasis_frame *in, int n, oasis_frame *out, oasis_message *message);

#ifdef __cplusplus
}
#endif
#endif
