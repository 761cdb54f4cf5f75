/*
 * The parts of the trainer:
 *
 *     feed       clips, ahead of time, in a thread of its own
 *     weights    master weights, gradients, moments and averages, one block each
 *     objective  the forward function of a stage, with its losses
 *     perceptual what frozen networks say about the results
 *     distil     a decoder against Wan's autoencoder
 *     adversary  the discriminator, its weights and its step
 *     pass       losses and gradients of one pass, which a GPU gets as one launch where that is possible
 *     checkpoint, history (log and page)
 *     trainer    the step that joins them
 */
#ifndef OAS_TRAIN_TRAIN_H
#define OAS_TRAIN_TRAIN_H

#include "base/rng.h"
#include "cpu/device.h"
#include "metrics/perceptual_file.h"
#include "model.h"
#include "net/discriminator.h"
#include "net/encoder_small.h"
#include "tensor/replay.h"

#include <oasis/train.h>

/* Streams of random numbers (base/rng.h). */
enum { OAS_STREAM_WEIGHTS = 100, OAS_STREAM_PASS, OAS_STREAM_NOISE, OAS_STREAM_CLIPS, OAS_STREAM_R1,
       OAS_STREAM_PERCEPTUAL };

/* ---- feed.c ------------------------------------------------------------------------------------------------------- */

/* Frames are asked for beyond those of a clip, so that it may begin in the middle of a latent's group. */
enum { OAS_FRAMES_BEFORE = OAS_LATENT_FRAMES - 1 };

/* A clip as the network takes it: [frames, height, width, 3] in [-1,1]; low ones are upscaled. */
typedef struct clip {
    float *low, *truth;
} clip;

typedef struct feed feed;

/*
 * The ranks take turns with stretches of `batch` clips, so that all together take those of one process with the batch of
 * all; stretches, because clips in a row are often cut from one that is degraded once.  first: which one is a rank's k-th.
 */
uint64_t oas_clip_index(const oasis_train_options *options, uint64_t first, uint64_t k);
int oas_ranks(const oasis_train_options *options); /* how many: 1 without options->ranks */
int oas_rank(const oasis_train_options *options);  /* which one, 0 without */

/*
 * Starts to make this rank's clips of first, first+1, ... on options->data_threads threads.  The options' and the
 * source's life must be longer.  The degradation of a clip depends on the number of the step that it belongs to.
 */
oasis_status oas_feed_new(feed **f, const oasis_train_options *options, oasis_clip_fn *source, void *user, uint64_t first,
                          oasis_message *message);

/* How many clips a feed has room for. */
int oas_feed_clips(const oasis_train_options *options);

/* The next clip, which the feed keeps until the next call. */
oasis_status oas_feed_next(feed *f, clip *next, oasis_message *message);
void oas_feed_free(feed **f);

/* Frames of a clip as the feed makes it, and its floats. */
int oas_clip_frames(const oasis_train_options *options);

/* Where clips are degraded: the name of a device. */
const char *oas_clip_device(const oasis_train_options *options);
size_t oas_clip_floats(const oasis_train_options *options);

/* Makes one clip here and now into `to`, both of whose blocks are of oas_clip_floats. */
oasis_status oas_clip_make(const oasis_train_options *options, oasis_clip_fn *source, void *user,
                           const oasis_clip_request *request, const clip *to, oasis_message *message);

/* How much degradations change over time in a step. */
double oas_temporal_step(const oasis_train_options *options, int64_t step);

/* ---- weights.c ---------------------------------------------------------------------------------------------------- */

/* A trained parameter's place in the blocks. */
typedef struct segment {
    tensor *tensor;
    int64_t begin, count;
    float rate, decay; /* factors */
} segment;

enum { OAS_WEIGHT_BLOCKS = 5 };

typedef struct weights {
    parameter_set *set;
    segment *segments;
    int n;
    int64_t count;   /* of all segments, with what is left free between them */
    int64_t trained; /* of all segments */
    float *master, *gradient, *moment1, *moment2, *average; /* [count] */
    tensor *gradients; /* headers, one per segment */
    int64_t updates;
    /* On a GPU: where the blocks lie when they do not visit the host, what the update reads, room for sums. */
    oas_cuda *cuda;
    float *gpu[OAS_WEIGHT_BLOCKS];
    void *gpu_segments;
    double *gpu_sums;
} weights;

/* Whether a parameter is trained. */
typedef bool oas_trained_fn(const parameter *p, const oasis_train_options *options);

/* Those of the stage that are not frozen. */
oas_trained_fn oas_is_trained;

/*
 * Moves the parameters that are trained into a block of floats and gives them gradients.  Values stay.  Of a set that has
 * shapes only, there are segments and gradients without values.
 */
oasis_status oas_weights_new(weights *w, parameter_set *set, const oasis_train_options *options, oas_trained_fn *trained,
                             oasis_message *message);
void oas_weights_free(weights *w);

/* Moves the blocks to a GPU, where the tensors find them from then on.  weights_gpu.c */
oasis_status oas_weights_to_gpu(weights *w, oas_cuda *cuda, oasis_message *message);

/* Has blocks and tensors show copies on the host until oas_weights_leave_host; nothing where they lie there anyway. */
oasis_status oas_weights_visit_host(weights *w, oasis_message *message);
void oas_weights_leave_host(weights *w);

/* The parts of the functions below for a GPU. */
struct cuda_adamw;
void oas_weights_free_gpu(weights *w);
double oas_weights_norm_gpu(const weights *w);
oasis_status oas_weights_update_gpu(weights *w, const struct cuda_adamw *how);

/* Sets all gradients to zero. */
oasis_status oas_weights_zero(weights *w, oas_pool *pool);

/* Random values for parameters that nothing else sets; depends on the seed and the name alone. */
void oas_weights_draw(tensor *t, const char *name, int64_t seed);

/* The norm of all gradients; the sum has a fixed order. */
double oas_gradient_norm(const weights *w, oas_pool *pool);

/* One AdamW step with gradients times `factor`, and the averages.  Source: Loshchilov and Hutter, arXiv 1711.05101. */
oasis_status oas_weights_update(weights *w, oas_pool *pool, const oasis_train_options *options, double rate, double factor);

/* Lets the networks compute with the averages, or with the masters again. */
void oas_weights_use_average(weights *w, bool average);

/* The learning rate of a step, from 0 on. */
double oas_learning_rate(const oasis_train_options *options, int64_t step);

/* ---- adversary.c -------------------------------------------------------------------------------------------------- */

/* A discriminator that learns beside the network, on the same passes. */
typedef struct adversary {
    parameter_set parameters;
    discriminator net;
    weights weights;
} adversary;

oasis_status oas_adversary_new(adversary *a, const oasis_train_options *options, oasis_message *message);
void oas_adversary_free(adversary *a);

/* Moves its weights to a GPU. */
oasis_status oas_adversary_to_gpu(adversary *a, oas_cuda *cuda, oasis_message *message);

/* One AdamW step with gradients times `factor`, then one of the power iterations behind the spectral norms. */
oasis_status oas_adversary_update(adversary *a, oas_pool *pool, const oasis_train_options *options, double rate, double factor);

/* ---- perceptual.c ------------------------------------------------------------------------------------------------- */

enum { OAS_JUDGES = OAS_JUDGE_DISTS + 1 };

/* Frozen networks that look at the results. */
typedef struct perceptual {
    judge_file judge[OAS_JUDGES]; /* by their judgement; without weights where it has no weight in the losses */
    parameter_set parameters;
    linear normalise; /* the encoder's latents: (z - mean) / deviation */
} perceptual;

/* ---- distil.c ----------------------------------------------------------------------------------------------------- */

/* Wan2.1's autoencoder, from a checkpoint in any layout: its encoder, and with `pictures` its decoder. */
typedef struct teacher teacher;
oasis_status oas_teacher_open(teacher **teacher, const char *path, bool pictures, oasis_message *message);
void oas_teacher_free(teacher **teacher);

/* Bytes of its weights once they are prepared; 0 of NULL. */
size_t oas_teacher_bytes(const teacher *teacher, oas_dtype compute);

/* Normalised latents of a shot [B,T,H,W,3], through which no gradient flows: only they stay in the arena. */
tensor *oas_teacher_latents(graph *g, const teacher *teacher, tensor *truth);

/* truth + share (the teacher's pictures of z - truth), after which truth is not itself any more; truth when the share is 0. */
tensor *oas_teacher_target(graph *g, const teacher *teacher, tensor *z, tensor *truth, float share);

/* ---- objective.c -------------------------------------------------------------------------------------------------- */

typedef struct latent_scale {
    float mean[OAS_MODEL_MAX_LATENT], deviation[OAS_MODEL_MAX_LATENT];
} latent_scale;

/* What a stage computes with. */
typedef struct objective {
    const oasis_train_options *options;
    oasis_model *model;
    bool shapes_only; /* weights have no values: to plan */
    bool has_encoder;
    encoder encoder;
    latent_scale scale; /* of the encoder's latents: targets are (z - mean) / deviation */
    adversary *adversary; /* NULL = none */
    perceptual perceptual;
    teacher *teacher;     /* NULL = none */
} objective;

/* What differs from one pass to the next of its kind, where the graph computes; NULL where the stage has no use for it. */
typedef struct pass_inputs {
    tensor *seen, *low, *truth;           /* what is restored, what the decoder is shown beside, what is aimed at */
    tensor *spectrum, *glimpse, *encoder; /* places (y, x) that losses draw */
    discriminator judge;                  /* with the norms of this step; unset where it takes no part */
} pass_inputs;

enum { OAS_MOST_SEEN = 64 };

/* One pass: as many clips as `clips`, and the numbers that were drawn for it. */
typedef struct pass {
    int clips;
    const clip *clip;
    const float *there; /* the same on the GPU, [clips, 2, oas_clip_floats], low and truth; NULL = not uploaded yet */
    pass_inputs in;
    int n_seen, seen[OAS_MOST_SEEN]; /* frames that perceptual losses look at; 0 = all */
    uint32_t number; /* counts passes of the run: seeds noise and the like */
    bool middle;     /* clips begin in the middle of a shot */
    bool judged;     /* the discriminator takes part */
    double adversarial; /* share of the weights that what it says has, 0 to 1 */
    int before;      /* clips of lower ranks in the same pass: what is drawn for each clip is drawn for them, too */
} pass;

typedef struct loss_terms {
    int n;
    const char *name[OASIS_MAX_TERMS];
    tensor *value[OASIS_MAX_TERMS];
    tensor *total;   /* weighted sum */
    tensor *latents; /* of an autoencoder, else NULL */
    tensor *aside;   /* [n_aside] losses of the discriminator, whose gradients have been added already; or NULL */
    int n_aside;
    const char *aside_name[4];
} loss_terms;

/*
 * perceptual.c: opens the networks that the losses want; the encoder must be there.  Fails with OASIS_E_ARGUMENT (a weight
 * without its file), or what is wrong with a file.
 */
oasis_status oas_perceptual_new(objective *o, oasis_message *message);
void oas_perceptual_free(perceptual *p);

/* Draws which part of the clips they see: places in p->in, and frames. */
void oas_perceptual_draw(graph *g, const objective *o, pass *p);

/* Adds their terms. */
void oas_perceptual_terms(graph *g, const objective *o, const pass *p, tensor *y, tensor *truth, loss_terms *terms);

/* The discriminator for p->in: what the host changes from step to step is copied to where the graph computes. */
void oas_adversary_inputs(graph *g, const objective *o, pass *p);

/* The step of the discriminator, in adversary.c: adds its gradients for detached y, and y's terms. */
void oas_adversary_judge(graph *g, const objective *o, const pass *p, tensor *y, tensor *truth, tensor *low,
                         loss_terms *terms);

/* Adds a term to the total; nothing when the graph has failed. */
void oas_add_term(graph *g, loss_terms *t, const char *name, tensor *loss);

/* Puts each clip's degraded pictures between the truth and themselves, where the stage wants that; once a pass. */
void oas_objective_soften(const objective *o, const pass *p);

/* Uploads p->in, which is to be the graph's first: clips, and what the pass's number draws.  False when the graph failed. */
bool oas_objective_inputs(graph *g, const objective *o, pass *p);

/* A place where the graph computes, as ops take it. */
tensor *oas_pass_place(graph *g, int y, int x);

/* Computes (plans, records) the losses of a pass with inputs.  False when the graph failed. */
bool oas_objective(graph *g, objective *o, const pass *p, loss_terms *terms);

/* ---- pass.c ------------------------------------------------------------------------------------------------------- */

/* By `middle` (1) and `judged` (2): passes of a kind do the same work on other inputs. */
enum { OAS_PASS_KINDS = 4 };
int oas_pass_kind(const objective *o, const pass *p);

/* What a pass of a kind leaves: names of its losses, the total first, and where an autoencoder's latents lie. */
typedef struct pass_result {
    int n;
    const char *name[OASIS_MAX_TERMS + 5];
    tensor latents; /* data NULL where there are none */
} pass_result;

/*
 * Losses of a pass with inputs, and their gradients, which are added to the weights'.  Gives the losses as one tensor
 * [n of its kind's result], or NULL when the graph failed.  On a GPU it is one launch from the third pass of its kind on,
 * where nothing but inputs differs from one to the next, see pass.c.
 *   r        of the graph
 *   results  [OAS_PASS_KINDS], the same for all passes of r
 */
bool oas_pass_as_one(const graph *g, const replays *r, const objective *o, const pass *p); /* is it, or will it be? */
tensor *oas_pass_run(graph *g, replays *r, objective *o, const pass *p, pass_result *results);

/* The network's frames [1,T,H,W,3] for a clip, for looking at; NULL when the graph failed or the stage makes none. */
tensor *oas_objective_frames(graph *g, objective *o, const clip *c);

/* ---- checkpoint.c ------------------------------------------------------------------------------------------------- */

typedef struct progress_state {
    int64_t step, skipped;
    uint64_t index;  /* the next clip */
    double seconds;
    int latents;     /* channels whose statistics an autoencoder has observed, 0 = none yet */
    double latent_mean[OAS_MODEL_MAX_LATENT], latent_square[OAS_MODEL_MAX_LATENT];
} progress_state;

/*
 * The model that options describe, created and filled: from `init`, then from the file of `encoder`, else at random.  The
 * encoder is bound when the stage or the losses need it.
 */
oasis_status oas_train_model(objective *o, oasis_message *message);

/* The architecture and routing that the options name, into the model's configuration. */
oasis_status oas_train_describe(objective *o, oasis_message *message);

/* Of the stage decoder, in distil.c: a decoder alone, from the file of `init`, else at random; and the teacher. */
oasis_status oas_distil_model(objective *o, oasis_message *message);

/* The averaged weights of a decoder alone, in bf16, as oasis_model_set_decoder takes it. */
oasis_status oas_decoder_export(const char *path, const objective *o, weights *w, oasis_message *message);

oasis_status oas_checkpoint_write(const char *path, const objective *o, const weights *w, const progress_state *state,
                                  oasis_message *message);

/* Reads a checkpoint into what is there; fails with OASIS_E_MODEL when it is of another architecture. */
oasis_status oas_checkpoint_read(const char *path, objective *o, weights *w, progress_state *state,
                                 oasis_message *message);

/* The averaged weights as a model file: bf16, without the encoder, the time embedding folded. */
oasis_status oas_model_export(const char *path, objective *o, weights *w, oasis_message *message);

/* ---- history.c ---------------------------------------------------------------------------------------------------- */

/* Pictures for the page: input, result, truth of one frame, [height, width, 3] in [-1,1], NULL where there is none. */
typedef struct shown {
    const float *low, *result, *truth;
    int width, height;
} shown;

typedef struct history history;

/* Reads the log of a run that goes on at `step`; later lines are dropped. */
oasis_status oas_history_new(history **h, const char *folder, int64_t step, oasis_message *message);
void oas_history_free(history **h);

/* Adds a line to the log. */
oasis_status oas_history_add(history *h, const oasis_train_report *report, oasis_message *message);

/* Writes progress.html: curves of the whole run and the pictures. */
oasis_status oas_history_page(history *h, const char *name, const shown *pictures, int n, oasis_message *message);

#endif
