/*
 * The inside of an upscaler: sizes, plan, buffers.
 */
#ifndef OAS_UPSCALE_H
#define OAS_UPSCALE_H

#include "cpu/device.h"
#include "image/color_fix.h"
#include "image/resize.h"
#include "image/scene.h"
#include "model.h"
#include "plan/cut.h"
#include "tensor/replay.h"

/* Sizes of everything, decided before the first frame. */
typedef struct upscale_sizes {
    int in_width, in_height, out_width, out_height; /* pixels */
    int padded_width, padded_height;                /* of the output, multiples of 16 */
    int grid_width, grid_height;                    /* latents: padded / 8 */
    int window_latents;                             /* of a transformer window in time */
    int shared_latents;                             /* of neighbouring windows in time */
    cut rows, columns;                              /* of the grid into windows */
    int at_once;                                    /* windows in space that the transformer gets in a call */
    int tile_rows, tile_columns;                    /* of the grid into decoder tiles, numbers of them */
    int latents_at_once;                            /* that the decoder gets in a call */
    bool looks_back;                                /* colour correction or strength need the enlarged input, too */
    oas_dtype compute;
} upscale_sizes;

/* Frames of a window in time, and from one to the next. */
static inline int oas_window_frames(const upscale_sizes *s)
{
    return (s->window_latents - 1) * OAS_LATENT_FRAMES + 1;
}

static inline int oas_step_frames(const upscale_sizes *s)
{
    return (s->window_latents - s->shared_latents) * OAS_LATENT_FRAMES;
}

/* Bytes an upscaler needs, by purpose. */
typedef struct upscale_memory {
    size_t arena;     /* the largest of projecting, restoring and decoding */
    size_t restore;   /* of these, restoring */
    size_t decode;    /* and decoding, without tiles */
    size_t step;      /* the last one planned */
    size_t grids;     /* c and z of the latents at hand */
    size_t states;    /* the decoder's memory */
    size_t frames;    /* frames that wait, at most */
    size_t transfers; /* frames on their way to a GPU and back, in its memory */
    size_t weights;   /* prepared */
} upscale_memory;

/* Work of the stages of a network: FLOPs, and bytes moved by everything else. */
typedef struct stage_work {
    double dense, conv, attention, passes;
} stage_work;

/* What an output frame costs, the overlap of windows included. */
typedef struct upscale_work {
    stage_work project, restore, decode;
    stage_work window, first; /* restoring all of a window in time: one as long as planned, and one of one latent */
    stage_work start_project, start_decode; /* of the first frame of a shot */
    double picture_bytes;                   /* upscaling twice, and the finished frame */
} upscale_work;

/* What this machine does in a second, by network, since the same stage has other sizes in each. */
typedef struct upscale_rates {
    stage_work project, restore, decode;
    double picture_bytes;
    double prepared_bytes; /* of weights, made ready at their first use */
} upscale_rates;

/* Adds what a graph counted, `times` over, and forgets it. */
void oas_take_work(graph *g, stage_work *work, double times);

/* ---- pictures (upscale_picture.c); a failure is the graph's ---------------------------------------------------------- */

/* [padded] in [-1,1] to the frame's size in [0,1], both where the graph computes. */
void oas_crop_frame(graph *g, const upscale_sizes *sizes, const float *from, float *to);

/* oasis_frame_new without clearing: for frames that are written in whole. */
oasis_status oas_frame_new_unset(oasis_frame *frame, int width, int height, bool alpha);

size_t oas_upscale_total(const upscale_memory *m);

/*
 * Chooses sizes and windows for the options, then decoder tiles so that everything fits into the memory allowed.
 * Fails with OASIS_E_ARGUMENT (an option or size out of range), OASIS_E_MEMORY (the smallest plan does not fit),
 * OASIS_E_UNSUPPORTED (bf16 asked for on a CPU without it).
 */
oasis_status oas_upscale_plan(upscale_sizes *sizes, upscale_memory *memory, upscale_work *work,
                              const oasis_model *model, device *d, const oasis_options *options, int width, int height,
                              oasis_message *message);

/* The memory and work of sizes that are chosen. */
oasis_status oas_upscale_measure(const upscale_sizes *sizes, upscale_memory *memory, upscale_work *work,
                                 const oasis_model *model, device *d, oasis_message *message);

/* ---- time (upscale_time.c) ------------------------------------------------------------------------------------------ */

/* The figures of the level on a machine like those of doc/speed.md. */
void oas_nominal_rates(const device *d, oas_dtype compute, upscale_rates *rates);

/*
 * Measures the networks' rates with a few of their ops or smaller pictures, twice, the first time for what is made only
 * once; some tenths of a second, or as long as the longest op.  Uses the arena from its beginning.  What cannot be
 * measured is left as it was.
 */
void oas_measure_rates(const upscale_sizes *sizes, const upscale_work *work, const oasis_model *model, device *d,
                       const arena *memory, upscale_rates *rates);

/* FLOPs of all stages. */
double oas_work_flops(const stage_work *work);

/* Seconds for that work of a network at its rates. */
double oas_work_seconds(const stage_work *work, const stage_work *rates);

/* Seconds per output frame. */
double oas_estimate_seconds(const upscale_work *work, const upscale_rates *rates);

/* Bytes that the machine or the cgroup has free. */
int64_t oas_free_memory(void);

/* Bytes options->memory stands for: its value, or 60 % of what the machine or cgroup has free. */
int64_t oas_memory_limit(const oasis_options *options);

/* The same on a device: of a GPU 90 % of what is free. */
int64_t oas_device_limit(const device *d, const oasis_options *options);

/* The part of the latent grid that tile i covers, with the halo on each side where the grid goes on. */
typedef struct tile_area {
    int row, column, rows, columns; /* of the result, latents */
    int from_row, from_column;      /* with halo */
    int with_rows, with_columns;
} tile_area;
tile_area oas_upscale_tile(const upscale_sizes *s, int halo, int tile);

/*
 * Frames on their way to a GPU and back, at most.  Of those that come back a decoder's call's are computed while those of
 * the one before are taken.
 */
int oas_transfers(const upscale_sizes *s);

/* ---- the upscaler itself ---------------------------------------------------------------------------------------------- */

/* With what a call takes, see network_call. */
typedef enum network {
    NETWORK_PROJECT, /* pixels, start */
    NETWORK_RESTORE, /* x */
    NETWORK_DECODE,  /* x, pixels, state */
    NETWORK_BEGIN,   /* x, state: of decoding in tiles */
    NETWORK_TILE,    /* x, pixels, state */
    NETWORKS
} network;

typedef struct waiting {
    oasis_frame frame;
    bool starts_shot;
} waiting;

/* A run of the transformer over all windows in space: latents first .. first+latents-1 of the shot. */
typedef struct restored_windows {
    int64_t first, latents;
    bool last; /* of the shot */
} restored_windows;

struct oasis_upscaler {
    oasis_model *model;
    oasis_options options;
    upscale_sizes sizes;
    upscale_memory planned;
    upscale_work work; /* per output frame */
    upscale_rates rates;
    int64_t memory_limit; /* at opening */
    device *device;
    graph graph, exact; /* exact: fp32, for windows that were not finite; without an arena until then */
    replays replays;    /* of graph */
    oas_resizer *resizer, *alpha_resizer;
    oas_scene *scenes;
    oas_resize_spec resize_spec;
    atomic_bool cancelled; /* lock-free, so that a signal handler may set it */
    oasis_status status;   /* sticky after an error */
    oasis_message message;

    /* Frames that wait or belong to latents not decoded yet: a ring. */
    waiting *queue;
    int queue_size, queue_first, queue_count;
    bool ended; /* no more frames will come */

    /* The current shot. */
    int64_t projected;    /* frames of the queue's first ones that are in the grid already */
    int64_t shot_latents; /* latents projected since the shot began */
    int64_t restored;     /* latents that a window has seen */
    int64_t final;        /* latents whose z_high will not change */
    int64_t decoded;      /* latents decoded */
    int64_t first_held;   /* the shot's index of the first latent held in c and z */
    tensor c, z, window;  /* [held][grid_height][grid_width][in_dim or latent_channels]; window: one window in time */
    packed *blends;       /* weights of windows in space */
    int held_most;
    decoder_state *states; /* one per tile, and behind them that of the whole frame */

    /* Finished frames. */
    oasis_frame ready[OAS_LATENT_FRAMES];
    int ready_first, ready_count;
    float *before, *correction; /* the enlarged input of a frame and scratch, for colour correction and strength */
    device_name device_name;

    /* On a GPU. */
    int transfers;                      /* how many of up, down and coming there are */
    cuda_block *up, *down;              /* frames on their way */
    int64_t sent;                       /* by `up`, in turns */
    oasis_frame *coming;                /* sources of the frames in `down`, in turns */
    int64_t coming_first, coming_count; /* the first of them, ever counted, and how many */
    cuda_block marks;                   /* of every window in space, as 32-bit numbers: is a value of it not finite? */
    restored_windows marked;            /* of which the marks are on their way; latents 0: of none */
    cuda_clock clocks[NETWORKS];        /* of networks, by kind */
    double flops[NETWORKS];             /* that they counted */

    oasis_statistics statistics;
    double seconds_resize, seconds_finish, seconds_restore, seconds_decode;
};

/* The next frame begins a shot: nothing is held of the one before.  Part of the data path (upscale.c). */
void oas_start_shot(oasis_upscaler *u);

/* ---- time on a GPU (upscale_trial.c) ---------------------------------------------------------------------------------- */

/*
 * Measures the rates by upscaling a made-up shot, about four windows long, or one of smaller pictures where a window takes
 * long; a second or two, and what is made once.  Afterwards the upscaler is as new.  Nothing happens after the first
 * frame.  What cannot be measured is left as it was.
 */
void oas_try_on_gpu(oasis_upscaler *u);

/* ---- reports (upscale_report.c) --------------------------------------------------------------------------------------- */

/* Frames that have gone in and not come out, at most, before the caller waits for one. */
int oas_delay(const oasis_upscaler *u);

/* One more stage, where there is room for it. */
void oas_add_stage(oasis_statistics *s, const char *name, double seconds, double flops);

/* ---- networks (upscale_network.c) ------------------------------------------------------------------------------------- */

/* The statistics' times of networks on a GPU, where those of single ops are not known; waits for it. */
void oas_network_times(const oasis_upscaler *u, oasis_statistics *statistics);

/* A call of a network of the model; what tells it from others of its kind is a tile, or windows' size and number. */
typedef struct network_call {
    network kind;
    int part;             /* the tile; latents of windows */
    int windows;          /* how many; of others 0 */
    bool start;           /* of a shot; where there is a state, what it says */
    decoder_state *state; /* or NULL */
    tensor *x, *pixels;
} network_call;

/*
 * Runs it; NULL after a failure, which is the graph's.  A GPU gets it as one launch from the third call of its kind on, so
 * its inputs lie at the same places of the arena each time.
 */
tensor *oas_run_network(oasis_upscaler *u, network_call call);

/* The graph's failure as the upscaler's. */
oasis_status oas_graph_status(oasis_upscaler *u, const graph *g);

/* ---- frames (upscale_finish.c) ----------------------------------------------------------------------------------------- */

/* Where frames on their way lie; close takes what there is. */
oasis_status oas_open_transfers(oasis_upscaler *u, oasis_message *message);
void oas_close_transfers(oasis_upscaler *u);

/* A frame of the input on the host, enlarged on the GPU to [padded] in [-1,1]; a failure is the graph's. */
void oas_enlarge_on_gpu(oasis_upscaler *u, const float *from, float *to);

/*
 * Makes the output frame of `source`, which it takes, and puts it into the ready list; on a GPU it only sends it on its
 * way.  `decoded` and `enlarged` are [padded] in [-1,1], where the graph computes.
 */
oasis_status oas_finish_frame(oasis_upscaler *u, oasis_frame *source, const float *decoded, const float *enlarged);

/*
 * Is it time to take the oldest frame on its way: it has arrived, the next latent's are on their way, too, or no more will
 * come?
 */
bool oas_frame_due(oasis_upscaler *u, bool end);

/* Waits for it and puts it into the ready list, which is empty. */
oasis_status oas_take_frame(oasis_upscaler *u);

#endif
