/*
 * oasis: one-step diffusion video super-resolution.
 *
 * A model file is opened once; an upscaler made from it takes frames of a video, low quality and small, and gives the
 * same number of frames back, clean and large, in the same order.  Frames go in with oasis_upscaler_send() and come out
 * with oasis_upscaler_receive(); the network looks at a window of frames at a time, so the first one comes back only
 * after some have gone in.
 *
 *     oasis_message why;                                  // says in one sentence what went wrong
 *     oasis_model *model = NULL;
 *     oasis_upscaler *up = NULL;
 *     oasis_options options;
 *     oasis_options_init(&options);
 *     options.scale = 4;
 *     if (oasis_model_open(&model, "oasis-nano.safetensors", &why) == OASIS_OK &&
 *         oasis_upscaler_open(&up, model, &options, width, height, &why) == OASIS_OK) {
 *         for (;;) {
 *             oasis_frame out;
 *             oasis_status s = oasis_upscaler_receive(up, &out);
 *             if (s == OASIS_AGAIN)
 *                 s = next_frame(&in) ? oasis_upscaler_send(up, &in) : oasis_upscaler_send(up, NULL);
 *             else if (s == OASIS_OK)
 *                 use(&out), oasis_frame_free(&out);
 *             if (s != OASIS_OK)
 *                 break;                                  // OASIS_END after the last frame, else an error
 *         }
 *     }
 *     oasis_upscaler_close(&up);
 *     oasis_model_close(&model);
 *
 * (tests/api/example.c is this program, complete; it is compiled and run as a test.)
 *
 * Threads: a model may be shared by any number of upscalers in any threads.  Everything else belongs to one thread at a
 * time.  The library keeps no global state, never prints, and never ends the process; every failure is a status, and
 * a message that says where, what was found, what was expected and what to do.
 */
#ifndef OASIS_OASIS_H
#define OASIS_OASIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define OASIS_API
#else
#define OASIS_API __attribute__((visibility("default")))
#endif

/* ---- status and message ------------------------------------------------------------------------------------------ */

typedef enum oasis_status {
    OASIS_OK = 0,
    OASIS_AGAIN = 1,          /* receive: send another frame first */
    OASIS_END = 2,            /* receive, read: there is nothing more */
    OASIS_E_MEMORY = -1,      /* an allocation failed, or the memory limit does not suffice */
    OASIS_E_IO = -2,          /* reading or writing failed: missing file, full disk, permission */
    OASIS_E_FORMAT = -3,      /* a file is damaged or not what it says it is */
    OASIS_E_UNSUPPORTED = -4, /* a valid request or file that this build cannot serve */
    OASIS_E_ARGUMENT = -5,    /* a value passed in is out of range */
    OASIS_E_DEVICE = -6,      /* the device is missing or failed */
    OASIS_E_CANCELLED = -7,   /* the caller asked to stop */
    OASIS_E_MODEL = -8        /* the model is missing, damaged or of an unknown architecture */
} oasis_status;

/* One sentence for people: what failed, where, what was found, what was expected, what to do.  Always terminated. */
typedef struct oasis_message {
    char text[1024];
} oasis_message;

/* A short name of a status ("out of memory"), never NULL. */
OASIS_API const char *oasis_status_name(oasis_status status);

/* ---- version ------------------------------------------------------------------------------------------------------ */

/* The version of the library, for example "0.1.0". */
OASIS_API const char *oasis_version(void);

/*
 * Build and machine in lines of "name: value" text (compiler, CPU kernels in use, oneDNN, ...), terminated by a newline.
 * Writes at most `size` bytes with the end mark into `text`, and returns the length that the whole text has.
 */
OASIS_API size_t oasis_build_info(char *text, size_t size);

/* ---- frames ------------------------------------------------------------------------------------------------------- */

/*
 * One picture: RGB, interleaved, float, full range [0, 1], in the transfer curve of its source (nothing is linearised).
 * Values outside [0, 1] are allowed on the way in (limited-range video has them) and may come out.
 */
typedef struct oasis_frame {
    int width, height;  /* pixels, at least 1 */
    float *rgb;         /* [height][width][3]; owned by the frame, freed by oasis_frame_free */
    float *alpha;       /* [height][width] in [0, 1], or NULL */
    int64_t pts;        /* presentation time in units of the caller's; carried through untouched */
    int64_t duration;   /* likewise */
    void *opaque;       /* of the caller's; carried through untouched, never read */
} oasis_frame;

/* Allocates a frame of the given size; contents are zero.  alpha: with an alpha plane.  Fails with OASIS_E_MEMORY or
 * OASIS_E_ARGUMENT (a size below 1 or above 32768). */
OASIS_API oasis_status oasis_frame_new(oasis_frame *frame, int width, int height, bool alpha);

/* Frees the pixels and clears the frame; accepts a cleared frame and NULL. */
OASIS_API void oasis_frame_free(oasis_frame *frame);

/* ---- models ------------------------------------------------------------------------------------------------------- */

typedef struct oasis_model oasis_model;

/*
 * Opens a model file (safetensors, format "oasis-1"; doc/formats.md).  The file is mapped, checked in full before any of
 * it is used, and must stay unchanged while the model is open.
 *   model    receives the handle; untouched on failure
 *   message  may be NULL
 * Fails with OASIS_E_MODEL (missing, damaged, unknown architecture), OASIS_E_MEMORY.
 */
OASIS_API oasis_status oasis_model_open(oasis_model **model, const char *path, oasis_message *message);

/*
 * Gives the model another decoder, before upscalers are made of it: that of the model or decoder file at `path`
 * (doc/formats.md), of a checkpoint of Wan2.1's video autoencoder, or of one in TAEHV's layout, in any format that
 * `oasis convert` reads.  It must be made for the same latents; where the two normalise them otherwise, they are changed on
 * the way.  On failure the model keeps the decoder that it has.
 * Fails with OASIS_E_MODEL (missing, damaged, no decoder in it, latents of another number of channels), OASIS_E_MEMORY.
 */
OASIS_API oasis_status oasis_model_set_decoder(oasis_model *model, const char *path, oasis_message *message);

/* What oasis_model_set_decoder would take from a file. */
typedef struct oasis_decoder_info {
    char kind[32], name[128], license[128]; /* "tiny-conditional"; name and licence are "" where the file says nothing */
    bool alone;          /* the file is no model with a decoder in it */
    int64_t parameters;
    int64_t bytes;       /* as stored */
    int latent_channels;
    bool normalised;     /* the latents' mean and deviation are known */
} oasis_decoder_info;

/* Fails as oasis_model_set_decoder does, and with OASIS_E_IO. */
OASIS_API oasis_status oasis_decoder_describe(const char *path, oasis_decoder_info *info, oasis_message *message);

/* Closes a model and clears the pointer; accepts NULL.  Upscalers of it must have been closed before. */
OASIS_API void oasis_model_close(oasis_model **model);

typedef struct oasis_model_info {
    const char *name, *license; /* from the file; "" where it says nothing; valid until the model is closed */
    const char *decoder;        /* kind of decoder, for example "tiny-conditional" */
    const char *routing;        /* the routing text, one "route L letters" line per layer */
    int64_t parameters;         /* number of weights in all, and in the decoder */
    int64_t decoder_parameters;
    int num_layers, num_heads, dim, ffn_dim, latent_channels;
    int trained_frames, trained_height, trained_width; /* the clip size of training, 0 where unknown */
    float sigma;
    const char *weights;     /* how most of the transformer's weights are stored: "bf16", "fp32", "q8_0" */
    int64_t weight_bytes;    /* of all weights, before they are prepared for computing */
} oasis_model_info;

OASIS_API void oasis_model_describe(const oasis_model *model, oasis_model_info *info);

/* ---- options ------------------------------------------------------------------------------------------------------ */

typedef enum oasis_dtype_choice { OASIS_DTYPE_AUTO, OASIS_DTYPE_FP32, OASIS_DTYPE_BF16 } oasis_dtype_choice;
typedef enum oasis_color_fix { OASIS_COLOR_FIX_NONE, OASIS_COLOR_FIX_WAVELET, OASIS_COLOR_FIX_ADAIN } oasis_color_fix;

/*
 * What an upscaler is to do.  Fill with oasis_options_init, then set fields; oasis/options.h sets them from text.
 * The struct may grow at its end: `size` tells the library which version the caller was compiled with.
 */
typedef struct oasis_options {
    size_t size;        /* sizeof(oasis_options), set by oasis_options_init */
    double scale;       /* enlargement, 1 to 8, fractions too; default 4.  Ignored when width or short_side is set */
    int width, height;  /* exact output size in pixels, 2 to 32768, or 0; both or none */
    int short_side;     /* output's shorter side in pixels, 0 = by scale; the other side keeps the shape */
    double strength;    /* 0 to 1, default 1: output = upscaled input + strength * (result - upscaled input) */
    oasis_color_fix color_fix; /* default none */
    oasis_dtype_choice dtype;  /* default auto: bf16 where the CPU computes it, else fp32 */
    int threads;        /* compute threads; 0 = as many as the process may use.  The result does not depend on it */
    int64_t memory;     /* bytes the run may use on the device; 0 = 60 % of what is free, of a GPU's 90 % */
    int window_frames;  /* frames a window of the transformer spans: 4n+1, or 0 = as planned */
    int window_size;    /* side of that window in output pixels, a multiple of 16, or 0 = as planned */
    bool scene_cuts;    /* restart the network's memory where the picture changes at once; default true */
    int64_t memory_reserved; /* bytes of `memory` that the caller uses itself, for decoding and encoding; default 0 */
    const char *device; /* "cpu", "cuda", "cuda:N" (GPU N, from 0 on); "auto" and NULL: a GPU if there is one */
} oasis_options;

OASIS_API void oasis_options_init(oasis_options *options);

/*
 * The output size for an input of width x height.  Fails with OASIS_E_ARGUMENT when the options and the size do not make
 * an enlargement of 1 to 8.
 */
OASIS_API oasis_status oasis_output_size(const oasis_options *options, int width, int height, int *output_width,
                                         int *output_height, oasis_message *message);

/* ---- upscaling ---------------------------------------------------------------------------------------------------- */

typedef struct oasis_upscaler oasis_upscaler;

/*
 * Makes an upscaler for frames of width x height pixels.
 *   upscaler  receives the handle; untouched on failure
 *   options   copied; NULL = defaults
 *   message   may be NULL
 * Fails with OASIS_E_ARGUMENT (an option or size out of range), OASIS_E_MEMORY (says how much would be needed and which
 * option to change), OASIS_E_UNSUPPORTED (a dtype the CPU does not compute), OASIS_E_DEVICE (no such GPU, or built without CUDA).
 */
OASIS_API oasis_status oasis_upscaler_open(oasis_upscaler **upscaler, oasis_model *model, const oasis_options *options,
                                           int width, int height, oasis_message *message);

/* Frees everything, frames still inside included, and clears the pointer; accepts NULL. */
OASIS_API void oasis_upscaler_close(oasis_upscaler **upscaler);

/*
 * Gives the upscaler its next frame, or NULL after the last one.
 * On OASIS_OK the frame's pixels belong to the upscaler and *frame is cleared; on any other status the caller keeps it.
 * OASIS_AGAIN: enough frames wait already, receive first.  Fails with OASIS_E_ARGUMENT (another size than at opening,
 * a frame after the end).
 */
OASIS_API oasis_status oasis_upscaler_send(oasis_upscaler *upscaler, oasis_frame *frame);

/*
 * Takes the next finished frame; the caller frees it.  This is where the computing happens.
 * OASIS_AGAIN: send another frame (or NULL) first.  OASIS_END: all frames are out.  After an error every further call
 * gives the same error; its sentence is oasis_upscaler_message().
 */
OASIS_API oasis_status oasis_upscaler_receive(oasis_upscaler *upscaler, oasis_frame *frame);

/* Why the last call on this upscaler failed; "" when none did.  Valid until the next call. */
OASIS_API const char *oasis_upscaler_message(const oasis_upscaler *upscaler);

/*
 * Asks a receive that is under way in another thread, or from a signal handler, to give up with OASIS_E_CANCELLED at the
 * next opportunity (well under a second at 1280x720).
 */
OASIS_API void oasis_upscaler_cancel(oasis_upscaler *upscaler);

/* What an upscaler will do, known before the first frame. */
typedef struct oasis_plan {
    int width, height;                          /* of the output, pixels */
    int window_frames, window_height, window_width; /* of one transformer window; pixels */
    int windows;                                /* spatial windows a frame is cut into */
    int tiles;                                  /* tiles the decoder works in; 1 = whole frames */
    int delay;                                  /* frames that must go in before the first comes out, at most */
    bool bf16;                                  /* computed in bf16, else fp32 */
    int threads;
    int64_t weight_bytes;                       /* prepared weights */
    int64_t peak_bytes;                         /* everything held at the peak: weights, and what was reserved, included */
    int64_t limit_bytes;                        /* what `memory` allows */
    int64_t reserved_bytes;                     /* of the peak: what the caller reserved for itself */
    double flops_per_frame;                     /* in a long shot; multiply and add counted as two */
    double seconds_per_frame;                   /* likewise; an estimate, nominal until oasis_upscaler_calibrate */
    int step_frames;                            /* from one transformer window in time to the next */
    double window_flops, window_seconds;        /* of the transformer for one full window in time */
    double latent_flops, latent_seconds;        /* of the transformer for the least window in time: a picture */
    double start_flops, start_seconds;          /* of everything else for the first frame of a shot */
    double prepare_seconds;                     /* for the weights, once, while the first window is computed */
    const char *device;                         /* "cpu" or "cuda:N"; valid while the upscaler is open */
} oasis_plan;

/*
 * Runs some of the model on this machine, for a second or two, so that the plan's time is its own.  To be called before the
 * first frame is sent; on a GPU it does nothing later.
 */
OASIS_API void oasis_upscaler_calibrate(oasis_upscaler *upscaler);

OASIS_API void oasis_upscaler_plan(const oasis_upscaler *upscaler, oasis_plan *plan);

/*
 * What a shot of that many frames takes, in FLOPs and seconds: a window in time is computed in whole, however few frames
 * of it are left, so that a short clip is not so many times what a frame of a long one takes.  Where the picture cuts,
 * the next shot begins, and its time is to be added.
 */
OASIS_API void oasis_plan_shot(const oasis_plan *plan, int64_t frames, double *flops, double *seconds);

/* What an upscaler has done so far. */
typedef struct oasis_stage_time {
    const char *name;   /* stage, for example "attention" */
    double seconds;     /* wall time */
    double flops;       /* counted, 0 where it makes no sense */
} oasis_stage_time;

enum { OASIS_MAX_STAGES = 24 };

typedef struct oasis_statistics {
    int64_t frames_in, frames_out;
    int64_t shots;              /* stretches between scene cuts, the current one included */
    int64_t windows;            /* transformer windows computed */
    int64_t windows_recomputed; /* of these, once more in fp32 because a value was not finite */
    int64_t peak_bytes;         /* most that was held at once, weights included */
    int n_stages;
    oasis_stage_time stages[OASIS_MAX_STAGES];
    double transformer_seconds, decoder_seconds; /* of both networks: the stages cut the same time by kinds of work */
    /* On a GPU, else 0: calls of a network, of these as one launch, and networks that cannot be launched so. */
    int64_t network_calls, network_launches;
    int networks_uncaptured;
} oasis_statistics;

OASIS_API void oasis_upscaler_statistics(const oasis_upscaler *upscaler, oasis_statistics *statistics);

#ifdef __cplusplus
}
#endif
#endif
