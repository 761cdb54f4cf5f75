/*
 * Training: the same networks that upscale, with weights that move.
 *
 *     oasis_train_config *config = NULL;
 *     oasis_trainer *trainer = NULL;
 *     oasis_message why;
 *     if (oasis_train_config_open(&config, "train.json", &why) == OASIS_OK &&
 *         oasis_trainer_open(&trainer, oasis_train_config_options(config), source, user, &why) == OASIS_OK)
 *         while ((status = oasis_trainer_step(trainer, &report)) == OASIS_OK)
 *             show(&report);                         // OASIS_END after the last step
 *     oasis_trainer_close(&trainer);
 *     oasis_train_config_close(&config);
 *
 * A trainer writes into its output folder: `checkpoint.safetensors` (everything that resuming needs; a resumed run gives
 * the bits of an uninterrupted one on the same machine), `model.safetensors` (the averaged weights, as upscaling takes
 * them; of the stage decoder `decoder.safetensors`, for oasis_model_set_decoder), `log.jsonl` and `progress.html`.  Each appears whole or not at all.
 *
 * A trainer belongs to one thread; clips are asked for in another one of its own.
 */
#ifndef OASIS_TRAIN_H
#define OASIS_TRAIN_H

#include <oasis/oasis.h>
#include <oasis/options.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- several processes -------------------------------------------------------------------------------------------- */

/*
 * Training by several processes, the ranks, each with clips of its own, whose gradients are added up.  What carries the
 * numbers between them stands behind this table; oasis/mpi.h fills one.  Every rank makes the same calls with the same
 * counts in the same order, from the thread that steps the trainer.  A sum must have the same bits on all ranks, and the
 * same in every run.  False after a failure, which ends the run.
 *
 * Ranks may train on GPUs: of the devices "cuda" and "auto" those of one machine take one each.  Gradients are then added by
 * NCCL where it is there and no GPU is shared, and this table carries what little else they tell each other; otherwise it
 * carries the gradients, too.  The values that it is given are always in host memory.
 */
typedef struct oasis_ranks {
    int rank, count; /* this process is `rank` of 0 .. count-1 */
    void *user;
    bool (*begin_sum)(void *user, float *values,
                      size_t n); /* begins: values = sum over ranks, which must stay until finish */
    bool (*advance)(void *user); /* lets what has begun go on; cheap, does not wait */
    bool (*finish)(void *user);  /* waits for all that has begun */
    bool (*sum)(void *user, double *values, size_t n); /* at once */
    bool (*broadcast)(void *user, void *bytes, size_t n, int from);
} oasis_ranks;

/*
 * OASIS_OK where all ranks bring it; else the status and the sentence of the first rank that brings another, on all of
 * them.  So that a failure of one ends all: to be called after each step of a trainer.  ranks NULL: `mine`.
 */
OASIS_API oasis_status oasis_ranks_agree(const oasis_ranks *ranks, oasis_status mine, oasis_message *message);

/* ---- configuration ------------------------------------------------------------------------------------------------ */

/*
 * What is trained.
 *   autoencoder  the encoder that makes the targets, together with the conditional decoder
 *   diffusion    the transformer, to turn noise into latents (flow matching)
 *   decoder      a conditional decoder alone, for the latents of Wan2.1's autoencoder
 *   one-step     projection, transformer and decoder, from degraded clips to clean ones
 */
typedef enum oasis_train_stage {
    OASIS_STAGE_AUTOENCODER,
    OASIS_STAGE_DIFFUSION,
    OASIS_STAGE_ONE_STEP,
    OASIS_STAGE_DECODER
} oasis_train_stage;

typedef struct oasis_train_options {
    size_t size; /* set by oasis_train_options_init */
    int stage;   /* oasis_train_stage */
    const char *init, *encoder, *teacher, *routing, *output, *name, *license;
    bool resume;
    /* Architecture, when there is no `init`. */
    int dim, layers, heads, ffn_dim, latent_channels, in_dim;
    int decoder_latent, decoder_8, decoder_4, decoder_2;
    const char *route;
    bool time_embedding;
    double sigma, timestep;
    /* Steps. */
    int64_t seed, steps;
    int batch, accumulate, frames, width, height;
    double middle;
    int compute; /* 0 = bf16 where the processor has it, else fp32; 1 = fp32; 2 = bf16 */
    int threads;
    const char *device; /* cpu, cuda, cuda:N, or auto and NULL: a GPU if there is one */
    bool checkpointing;
    oasis_text_list freeze;
    /* Optimiser. */
    double rate, final_rate, projection_rate, beta1, beta2, epsilon, weight_decay, clip, ema;
    int64_t warmup;
    int schedule; /* 0 = constant, 1 = cosine */
    /* Losses: weights. */
    double charbonnier, charbonnier_eps, mse, spectrum, motion, gradient, latent, prior, teacher_share;
    int spectrum_block, gradient_levels;
    /* Perceptual losses: weights, and the files they need. */
    double features, lpips, dists, encoder_features;
    const char *squeezenet, *lpips_files, *dists_files;
    int perceptual_frames; /* 0 = all */
    /* Adversarial training. */
    double adversarial, feature_matching, r1, r1_noise, discriminator_rate;
    int adversarial_kind; /* 0 = hinge, 1 = relativistic */
    int discriminator_width;
    int64_t adversarial_start, adversarial_ramp;
    /* Degradations over time. */
    int64_t consistent_steps, ramp_steps;
    double temporal_step;
    /* Data (oasis/dataset.h). */
    oasis_text_list data, crop;
    int reuse, mix;
    double scale; /* 0 = drawn: 4 (60 %), 1.5 to 3.5 (30 %), 1 (10 %) */
    double video_share, video_shrink, patterns, text, parallax, cutouts;
    int data_threads; /* 0: see oasis_train_data_threads */
    int data_device;  /* where clips are degraded: 0 = where the trainer computes; 1 = the CPU */
    double cache;     /* MiB */
    /* Files. */
    double checkpoint_minutes;
    int64_t log_every, show_every;
    int most_bad;
    /* Processes: `batch` is that of one of them.  NULL = this one alone; no row of the table. */
    const oasis_ranks *ranks;
} oasis_train_options;

OASIS_API void oasis_train_options_init(oasis_train_options *options);

/*
 * How many threads make clips: options->data_threads; where that is 0, one on a CPU, which computes meanwhile, and beside a
 * GPU this process's share of the processors but one.
 */
OASIS_API int oasis_train_data_threads(const oasis_train_options *options);

/* The rows for oasis_train_options: names, ranges, defaults and help of every key of a configuration. */
OASIS_API const oasis_option *oasis_train_option_rows(void);

/*
 * A configuration: a JSON object whose keys are the rows' names; lists are arrays of texts.  Fails with OASIS_E_IO,
 * OASIS_E_FORMAT (not JSON), OASIS_E_ARGUMENT (an unknown key or a value out of range, by name).
 */
typedef struct oasis_train_config oasis_train_config;
OASIS_API oasis_status oasis_train_config_open(oasis_train_config **config, const char *path, oasis_message *message);
OASIS_API oasis_train_options *oasis_train_config_options(oasis_train_config *config);
OASIS_API void oasis_train_config_close(oasis_train_config **config);

/* ---- clips -------------------------------------------------------------------------------------------------------- */

typedef struct oasis_clip_request {
    uint64_t index; /* which clip of the run: the same index gives the same clip */
    uint64_t seed;
    int frames, width, height;
    double temporal_step; /* of the degradation: 0 = consistent, 1 = RealBasicVSR's steps */
    bool validation;      /* of fixed clips to look at */
    bool prepare;         /* nothing to make yet: see below */
    const char *device;   /* where to degrade: as oasis_degrade_options; the clips are the same but for roundings */
} oasis_clip_request;

/*
 * Makes a clip: `truth` and `low` have room for request->frames frames each and receive new ones, which the caller frees;
 * low ones are degraded, of any one size.  Called from threads of the trainer's own, oasis_train_data_threads() of them at
 * the same time.
 *
 * With request->prepare, which comes only while options->reuse > 1, `truth` and `low` are NULL: the clip will be asked for
 * soon, and is the first of its base that this rank makes.  A source may get the base ready now, so that clips need not wait
 * for it, or return OASIS_OK at once.
 */
typedef oasis_status oasis_clip_fn(void *user, const oasis_clip_request *request, oasis_frame *truth, oasis_frame *low,
                                   oasis_message *message);

/*
 * The base of a clip: the number of what was read, filmed and degraded, from which clip `index` is one of R = reuse cuts.
 * So that clips next to each other have little in common, base b serves clips b R, (b + M) R + 1, (b + 2 M) R + 2, ... with
 * M = mix; before there are so many bases, clip i takes base i / R.
 */
OASIS_API uint64_t oasis_clip_base(const oasis_train_options *options, uint64_t index);

/* ---- training ----------------------------------------------------------------------------------------------------- */

enum { OASIS_MAX_TERMS = 24 };

typedef struct oasis_train_report {
    int64_t step, steps; /* done, in all */
    double loss;         /* mean over the batch, weighted sum of the terms but "discriminator..." */
    int n_terms;
    const char *term[OASIS_MAX_TERMS];
    double value[OASIS_MAX_TERMS]; /* weighted */
    double rate, norm;             /* learning rate; norm of the gradient before clipping */
    double temporal_step;
    double seconds, clips_per_second;
    int64_t skipped; /* steps that gave no finite loss or gradient, in all */
    bool saved;      /* a checkpoint was written after this step */
} oasis_train_report;

typedef struct oasis_trainer oasis_trainer;

/*
 * Makes a trainer, from its checkpoint where there is one and `resume` is set.  The options' texts must stay valid.
 * With ranks all open theirs together, and all fail when one does; rank 0 alone reads and writes in the output folder.
 * Fails with OASIS_E_ARGUMENT, OASIS_E_MODEL (init, encoder or checkpoint of another architecture), OASIS_E_MEMORY,
 * OASIS_E_IO, OASIS_E_DEVICE.
 */
OASIS_API oasis_status oasis_trainer_open(oasis_trainer **trainer, const oasis_train_options *options,
                                          oasis_clip_fn *source, void *user, oasis_message *message);

/* What an update takes. */
typedef struct oasis_train_cost {
    int64_t parameters, trained; /* of the model with its encoder; of these, those that move */
    int64_t weight_bytes, gradient_bytes, moment_bytes, average_bytes;
    int64_t activation_bytes;             /* of a pass: results, what backward needs, scratch */
    int64_t clip_bytes;                   /* those of a pass and those made ahead */
    int64_t total_bytes;                  /* all of the above */
    int64_t available_bytes;              /* free on this machine or in its cgroup, or on the GPU */
    double dense, conv, attention, flops; /* operations of an update: in products, convolutions, attention; in all */
    double moved;                         /* bytes read and written by everything else */
    double peak, seconds; /* operations per second of this machine; estimate for an update; both 0 on a GPU */
    bool bf16;
    int threads;
} oasis_train_cost;

/*
 * What training would take, without the memory for it: weights have shapes only.  Files for `init` and `encoder` that
 * are not there yet are taken to have the architecture that the other options say.  Fails as oasis_trainer_open does.
 */
OASIS_API oasis_status oasis_train_cost_of(const oasis_train_options *options, oasis_train_cost *cost,
                                           oasis_message *message);

/* What an open trainer takes; `seconds` and `peak` are 0. */
OASIS_API void oasis_trainer_cost(const oasis_trainer *trainer, oasis_train_cost *cost);

/*
 * How the gradients of several ranks are added: "on the GPUs by NCCL 2.27.7", or "in host memory", behind which stands why
 * where they are on GPUs.  "" without ranks.
 */
OASIS_API const char *oasis_trainer_ranks(const oasis_trainer *trainer);

/* Where the time went since it was opened: stages [OASIS_MAX_STAGES]; returns how many there are. */
OASIS_API int oasis_trainer_times(const oasis_trainer *trainer, oasis_stage_time *stages);

/*
 * Whether a GPU is waited for after each operation: then times of stages are those of the work, and steps take longer.
 * Without, as it is at first, times on a GPU are those of putting work on its queue.
 */
OASIS_API void oasis_trainer_wait_for_each(oasis_trainer *trainer, bool wait);

/*
 * On a GPU a pass (losses and gradients) is one launch from the third of its kind on, where nothing in it differs but clips
 * and what is drawn; results are the same bits.  `apart`: every operation is a launch of its own, always.
 */
OASIS_API void oasis_trainer_launch_apart(oasis_trainer *trainer, bool apart);

/* What became of the passes so far that could be one launch; all 0 on a CPU. */
typedef struct oasis_train_launches {
    int64_t passes, as_one;
    int refused; /* kinds of passes of which the GPU's driver or an operation did not allow it */
} oasis_train_launches;
OASIS_API oasis_train_launches oasis_trainer_launches(const oasis_trainer *trainer);

/*
 * One step: clips, forward, losses, backward, update.  Also writes checkpoints, log and page when they are due.
 * OASIS_END when all steps are done (a checkpoint is written).  A step without a finite loss or gradient changes nothing
 * and is counted; after `most_bad` in a row it fails with OASIS_E_ARGUMENT, and the last checkpoint stays.
 *   report  may be NULL
 */
OASIS_API oasis_status oasis_trainer_step(oasis_trainer *trainer, oasis_train_report *report);
OASIS_API const char *oasis_trainer_message(const oasis_trainer *trainer);

/* Writes checkpoint, model and page now. */
OASIS_API oasis_status oasis_trainer_save(oasis_trainer *trainer);
OASIS_API void oasis_trainer_close(oasis_trainer **trainer);

/* ---- head profiling ----------------------------------------------------------------------------------------------- */

/*
 * Which heads of a model look near, and which far.  For a head and a query i, with attention p over all keys, the mass
 * m_S of a set S of keys near by says how much is lost when the head sees S alone: KL(p^S || p) = -ln m_S, which is the
 * difference of two log-sum-exps.  Its mean over queries and clips, D_S, is measured for the query's own frame (intra)
 * and for a window; then heads are dealt out (doc/formulas.md, "Routing").
 */
typedef struct oasis_profile_options {
    size_t size; /* set by oasis_profile_options_init */
    int mode;    /* 0 = ratio: counts in each layer; 1 = budget: counts over all layers; 2 = threshold */
    double global, intra,
        window;  /* shares of the heads (ratio, budget); least mean mass of intra and window (threshold) */
    int queries; /* drawn for each clip and layer */
    int64_t seed;
    int threads;
    int width, height; /* of the upscaled picture that is looked at: its middle, multiples of 16 */
} oasis_profile_options;

OASIS_API void oasis_profile_options_init(oasis_profile_options *options);
OASIS_API const oasis_option *oasis_profile_option_rows(void);

typedef struct oasis_profiler oasis_profiler;

/* Opens the model by its path.  Fails as oasis_model_open does, and with OASIS_E_ARGUMENT (shares that cannot be). */
OASIS_API oasis_status oasis_profiler_open(oasis_profiler **profiler, const char *model,
                                           const oasis_profile_options *options, oasis_message *message);

/* Measures one clip: n frames (4k+1 of them are used) of low quality, enlarged by `scale`. */
OASIS_API oasis_status oasis_profiler_add(oasis_profiler *profiler, const oasis_frame *frames, int n, double scale,
                                          oasis_message *message);

typedef struct oasis_head_profile {
    double intra, window;       /* D of the own frame and of the window, natural logarithms */
    double sd_intra, sd_window; /* over clips */
    char kind;                  /* 'g', 'i' or 'w': what the head becomes */
} oasis_head_profile;

/*
 * Deals out the heads from what was measured.  heads [layers * heads], may be NULL.
 *   stability  share of the heads that get the same kind from the odd clips alone as from the even ones; below 0 for one clip
 */
OASIS_API oasis_status oasis_profiler_assign(oasis_profiler *profiler, oasis_head_profile *heads, double *stability,
                                             oasis_message *message);
OASIS_API void oasis_profiler_size(const oasis_profiler *profiler, int *layers, int *heads, int *clips);

/*
 * Writes the model with the new routing and what was measured; the routing alone, as text (doc/formats.md), which training
 * and conversion take; and a drawing (SVG): heads by layers, coloured by kind.
 */
OASIS_API oasis_status oasis_profiler_write(const oasis_profiler *profiler, const char *path, oasis_message *message);
OASIS_API oasis_status oasis_profiler_write_routing(const oasis_profiler *profiler, const char *path,
                                                    oasis_message *message);
OASIS_API oasis_status oasis_profiler_plot(const oasis_profiler *profiler, const char *path, oasis_message *message);
OASIS_API void oasis_profiler_close(oasis_profiler **profiler);

#ifdef __cplusplus
}
#endif
#endif
