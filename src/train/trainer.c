/*
 * The training path: clips, forward, losses, backward, update; and what is written on the way.
 */
#include "base/memory.h"
#include "train/cost.h"
#include "train/reduce.h"
#include "upscale.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHOWN_CLIPS = 2, PATH_ROOM = 4096, HEADER_BYTES = 32 << 20 };

/* Of one step to the next, how much an autoencoder's latent statistics keep. */
static const double STATISTICS_KEEP = 0.99;

struct oasis_trainer {
    oasis_train_options options;
    oasis_clip_fn *source;
    void *user;
    device *device;
    graph graph;
    objective objective;
    weights weights;
    adversary adversary;
    carrier *carrier; /* NULL where this process is alone, as the reducer */
    reducer *reducer;
    device_name where; /* the device of this rank */
    feed *feed;
    history *history; /* of rank 0 */
    progress_state state;
    oasis_train_cost cost;
    int bad; /* steps in a row */
    double started, saved_at;
    float *clip_storage;
    clip *batch; /* [batch], then SHOWN_CLIPS */
    /* For a GPU: where the batch lies, which is that of the next pass while the GPU works on one; and how taking it went. */
    cuda_block batch_block;
    bool ahead;
    oasis_status ahead_status;
    replays replays;
    pass_result results[OAS_PASS_KINDS];
    bool shows;
    char folder[PATH_ROOM];
    oasis_message message;
};

static bool is_diffusion(const oasis_trainer *t)
{
    return t->options.stage == OASIS_STAGE_DIFFUSION;
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static oasis_status check(const oasis_train_options *o, oasis_message *message)
{
    if (o->size != sizeof *o)
        return oas_fail(message, OASIS_E_ARGUMENT,
                        "training options of %zu bytes, expected %zu: call "
                        "oasis_train_options_init first",
                        o->size, sizeof *o);
    if (!o->output)
        return oas_fail(message, OASIS_E_ARGUMENT, "the key 'output' is missing: the folder to write to");
    if (o->frames % OAS_LATENT_FRAMES != 1 || o->width % OAS_PIXEL_STEP != 0 || o->height % OAS_PIXEL_STEP != 0)
        return oas_fail(message, OASIS_E_ARGUMENT,
                        "clips of %d frames of %dx%d: frames must be 4n+1, sizes multiples of %d", o->frames, o->width,
                        o->height, OAS_PIXEL_STEP);
    if (o->reuse < 1 || o->mix < 0 || o->data_threads < 0)
        return oas_fail(message, OASIS_E_ARGUMENT, "reuse %d, mix %d, data-threads %d: at least 1, 0 and 0 are needed",
                        o->reuse, o->mix, o->data_threads);
    if ((o->spectrum_block & (o->spectrum_block - 1)) != 0 ||
        (o->spectrum > 0 && (o->spectrum_block > o->width || o->spectrum_block > o->height)))
        return oas_fail(message, OASIS_E_ARGUMENT, "spectrum-block %d is no power of two that fits %dx%d",
                        o->spectrum_block, o->width, o->height);
    if (o->encoder_features > 0 && o->stage != OASIS_STAGE_ONE_STEP)
        return oas_fail(message, OASIS_E_ARGUMENT,
                        "'encoder-features' is for the stage one-step; say 0 in other stages");
    if (o->adversarial > 0 && o->stage != OASIS_STAGE_ONE_STEP && o->stage != OASIS_STAGE_DECODER)
        return oas_fail(message, OASIS_E_ARGUMENT,
                        "'adversarial' is for the stages one-step and decoder; say 0 in others");
    return OASIS_OK;
}

static oasis_status choose_compute(oasis_trainer *t, oasis_message *message)
{
    graph *g = &t->graph;
    OAS_TRY(oas_device_open(&t->device, t->options.device, t->options.threads, message));
    bool bf16 = oas_device_has_bf16(t->device);
    if (t->options.compute == 2 && !bf16)
        return oas_fail(message, OASIS_E_UNSUPPORTED,
                        "this processor does not multiply bf16; say \"compute\": \"fp32\"");
    t->where = oas_device_name(t->device);
    t->options.device = t->where.text;
    *g = oas_device_graph(t->device, OAS_F32);
    g->compute = bf16 && t->options.compute != 1 ? OAS_BF16 : OAS_F32;
    g->checkpointing = t->options.checkpointing;
    return OASIS_OK;
}

/* One pass, planned both ways: how much memory it takes at most. */
static oasis_status plan(oasis_trainer *t, oasis_message *message)
{
    size_t most = 0;
    const oasis_train_options *o = &t->options;
    for (int kind = 0; kind < OAS_PASS_KINDS; kind++) {
        bool middle = kind & 1, judged = kind & 2;
        bool never = t->objective.adversary ? !judged && o->adversarial_start == 0 : judged;
        if (never || (middle && o->middle <= 0))
            continue;
        graph g = oas_device_graph(t->device, t->graph.compute);
        g.planning = true;
        g.checkpointing = t->options.checkpointing;
        oas_arena_count(&g.memory);
        if (!oas_arena_new(&g.headers, HEADER_BYTES))
            return oas_fail_memory(message, HEADER_BYTES, "the plan of a step");
        pass p = {.clips = t->options.batch, .clip = t->batch, .middle = middle};
        p.judged = judged;
        p.adversarial = 1;
        if (t->reducer)
            oas_reducer_learn(t->reducer, kind, &g);
        if (oas_objective_inputs(&g, &t->objective, &p))
            oas_pass_run(&g, &t->replays, &t->objective, &p, t->results);
        most = g.memory.peak > most ? g.memory.peak : most;
        if (judged == (t->objective.adversary != NULL)) /* once it takes part */
            oas_cost_add_work(&t->cost, &g, t->options.accumulate * (middle ? o->middle : 1 - o->middle));
        oas_arena_free(&g.headers);
        if (g.status < 0)
            return oas_fail(message, g.status, "%s", g.message.text);
    }
    oas_cost_add_weights(&t->cost, &t->objective.model->parameters, &t->weights, t->graph.compute);
    if (t->objective.adversary)
        oas_cost_add_weights(&t->cost, &t->adversary.parameters, &t->adversary.weights, t->graph.compute);
    t->cost.weight_bytes += (int64_t)oas_teacher_bytes(t->objective.teacher, t->graph.compute);
    oas_cost_add_buffers(&t->cost, o, most, SHOWN_CLIPS + (t->device->cuda ? o->batch : 0));
    if (!t->objective.shapes_only && !oas_graph_open(&t->graph, most))
        return oas_fail_memory(message, most, "a step; a smaller batch or \"checkpointing\": true needs less");
    return OASIS_OK;
}

/* The batch lies in a block of its own where a GPU takes it from there. */
static oasis_status make_batch(oasis_trainer *t, oasis_message *message)
{
    oas_cuda *cuda = t->device->cuda;
    size_t floats = oas_clip_floats(&t->options), batch = (size_t)t->options.batch, plain = cuda ? 0 : batch;
    t->batch = oas_alloc(batch + SHOWN_CLIPS, sizeof *t->batch);
    t->clip_storage = oas_alloc_unset(2 * (plain + SHOWN_CLIPS) * floats, sizeof *t->clip_storage);
    if (!t->batch || !t->clip_storage ||
        (cuda && oas_cuda_block_open(cuda, &t->batch_block, 2 * batch * floats * sizeof(float)) < 0))
        return oas_fail_memory(message, 2 * (batch + SHOWN_CLIPS) * floats * sizeof(float), "the clips of a step");
    for (size_t i = 0; i < batch + SHOWN_CLIPS; i++) {
        bool in_block = cuda && i < batch;
        size_t at = 2 * floats * (cuda && !in_block ? i - batch : i);
        t->batch[i].low = (in_block ? (float *)t->batch_block.host : t->clip_storage) + at;
        t->batch[i].truth = t->batch[i].low + floats;
    }
    t->shows = t->options.show_every > 0 && !is_diffusion(t) && oas_rank(&t->options) == 0;
    for (int i = 0; t->shows && i < SHOWN_CLIPS; i++) {
        oasis_clip_request r = {.index = (uint64_t)i, .seed = (uint64_t)t->options.seed, .validation = true};
        r.device = oas_clip_device(&t->options);
        r.frames = oas_clip_frames(&t->options);
        r.width = t->options.width, r.height = t->options.height;
        r.temporal_step = t->options.temporal_step;
        OAS_TRY(oas_clip_make(&t->options, t->source, t->user, &r, &t->batch[t->options.batch + i], message));
    }
    return OASIS_OK;
}

/* The path of a file of the run. */
static void path_of(const oasis_trainer *t, const char *file, char path[PATH_ROOM + 64])
{
    snprintf(path, PATH_ROOM + 64, "%s/%s", t->folder, file);
}

static oasis_status open_folder(oasis_trainer *t, oasis_message *message)
{
    char path[PATH_ROOM + 64];
    if (strlen(t->options.output) >= PATH_ROOM)
        return oas_fail(message, OASIS_E_ARGUMENT, "the output folder's name is too long");
    snprintf(t->folder, sizeof t->folder, "%s", t->options.output);
    if (oas_rank(&t->options) > 0)
        return OASIS_OK; /* rank 0 tells what it has read */
    if (mkdir(t->folder, 0777) != 0 && errno != EEXIST)
        return oas_fail(message, OASIS_E_IO, "%s: cannot make the folder: %s", t->folder, strerror(errno));
    path_of(t, "checkpoint.safetensors", path);
    if (t->options.resume && access(path, F_OK) == 0)
        OAS_TRY(oas_checkpoint_read(path, &t->objective, &t->weights, &t->state, message));
    return oas_history_new(&t->history, t->folder, t->state.step, message);
}

static oasis_status open_weights(oasis_trainer *t, oasis_message *message)
{
    OAS_TRY(oas_train_model(&t->objective, message));
    OAS_TRY(oas_weights_new(&t->weights, &t->objective.model->parameters, &t->options, oas_is_trained, message));
    OAS_TRY(oas_perceptual_new(&t->objective, message));
    if (t->options.adversarial <= 0)
        return OASIS_OK;
    t->objective.adversary = &t->adversary;
    return oas_adversary_new(&t->adversary, &t->options, message);
}

/* To where the graph computes. */
static oasis_status move_weights(oasis_trainer *t, oasis_message *message)
{
    if (!t->device->cuda)
        return OASIS_OK;
    OAS_TRY(oas_weights_to_gpu(&t->weights, t->device->cuda, message));
    return t->objective.adversary ? oas_adversary_to_gpu(&t->adversary, t->device->cuda, message) : OASIS_OK;
}

/* Until here nothing is on a GPU. */
static oasis_status open_own(oasis_trainer *t, oasis_message *message)
{
    OAS_TRY(check(&t->options, message));
    OAS_TRY(choose_compute(t, message));
    t->objective.options = &t->options;
    OAS_TRY(open_weights(t, message));
    return open_folder(t, message);
}

static oasis_status settle_own(oasis_trainer *t, oasis_message *message)
{
    if (t->carrier)
        OAS_TRY(oas_reducer_new(&t->reducer, &t->weights, t->carrier, message));
    OAS_TRY(move_weights(t, message));
    OAS_TRY(make_batch(t, message));
    return plan(t, message);
}

static bool take_weights_of_first(const oasis_ranks *k, weights *w)
{
    size_t bytes = (size_t)w->count * sizeof(float);
    return k->broadcast(k->user, &w->updates, sizeof w->updates, 0) && k->broadcast(k->user, w->master, bytes, 0) &&
           k->broadcast(k->user, w->average, bytes, 0) && k->broadcast(k->user, w->moment1, bytes, 0) &&
           k->broadcast(k->user, w->moment2, bytes, 0);
}

/* From here on all ranks have rank 0's weights and state. */
static oasis_status take_state_of_first(oasis_trainer *t, oasis_message *message)
{
    const oasis_ranks *k = t->options.ranks;
    bool ok = k->broadcast(k->user, &t->state, sizeof t->state, 0) && take_weights_of_first(k, &t->weights);
    if (t->objective.adversary) {
        ok = ok && take_weights_of_first(k, &t->adversary.weights);
        for (int i = 0; ok && i < t->adversary.parameters.count; i++) {
            tensor *v = &t->adversary.parameters.items[i]->tensor; /* with what its norms go on from */
            ok = v->needs_grad || k->broadcast(k->user, v->data, oas_bytes(v), 0);
        }
    }
    return ok ? OASIS_OK : oas_ranks_lost(message);
}

static oasis_status open_all(oasis_trainer *t, oasis_message *message)
{
    const oasis_ranks *k = t->options.ranks;
    bool alone = oas_ranks(&t->options) < 2;
    if (!alone) {
        OAS_TRY(oas_carrier_device(k, t->options.device, &t->where, message));
        t->options.device = t->where.text;
    }
    OAS_TRY(oasis_ranks_agree(k, open_own(t, message), message));
    if (!alone) {
        OAS_TRY(take_state_of_first(t, message));
        size_t floats = (size_t)t->weights.count + (size_t)t->adversary.weights.count;
        OAS_TRY(oas_carrier_new(&t->carrier, k, t->device->cuda, floats, message));
    }
    OAS_TRY(oasis_ranks_agree(k, settle_own(t, message), message));
    t->cost.threads = oas_pool_workers(t->device->pool);
    t->cost.bf16 = t->graph.compute == OAS_BF16;
    t->started = t->saved_at = oas_now();
    return oas_feed_new(&t->feed, &t->options, t->source, t->user, t->state.index, message);
}

oasis_status oasis_trainer_open(oasis_trainer **out, const oasis_train_options *options, oasis_clip_fn *source,
                                void *user, oasis_message *message)
{
    oasis_trainer *t = oas_alloc(1, sizeof *t);
    if (!t)
        return oas_fail_memory(message, sizeof *t, "a trainer");
    t->options = *options;
    t->source = source;
    t->user = user;
    oasis_status s = open_all(t, message);
    if (s < 0)
        oasis_trainer_close(&t);
    else
        *out = t;
    return s;
}

void oasis_trainer_close(oasis_trainer **out)
{
    oasis_trainer *t = *out;
    if (!t)
        return;
    oas_feed_free(&t->feed);
    oas_replays_free(&t->graph, &t->replays);
    oas_carrier_free(&t->carrier);
    oas_reducer_free(&t->reducer);
    oas_history_free(&t->history);
    oasis_model_close(&t->objective.model);
    oas_teacher_free(&t->objective.teacher);
    oas_weights_free(&t->weights);
    oas_adversary_free(&t->adversary);
    oas_perceptual_free(&t->objective.perceptual);
    oas_graph_close(&t->graph);
    if (t->device && t->device->cuda)
        oas_cuda_block_close(t->device->cuda, &t->batch_block);
    oas_free(t->clip_storage);
    oas_device_free(&t->device);
    oas_free(t->batch);
    oas_free(t);
    *out = NULL;
}

const char *oasis_trainer_message(const oasis_trainer *t)
{
    return t->message.text;
}

/* Where the graph computes. */
static int64_t free_memory(const device *d)
{
    size_t available, total;
    if (!d || !d->cuda)
        return oas_free_memory();
    oas_cuda_memory(d->cuda, &available, &total);
    return (int64_t)available;
}

void oasis_trainer_cost(const oasis_trainer *t, oasis_train_cost *cost)
{
    *cost = t->cost;
    cost->available_bytes = free_memory(t->device);
}

oasis_status oasis_train_cost_of(const oasis_train_options *options, oasis_train_cost *cost, oasis_message *message)
{
    oasis_trainer *t = oas_alloc(1, sizeof *t);
    if (!t)
        return oas_fail_memory(message, sizeof *t, "a plan");
    t->options = *options;
    t->objective = (objective){.options = &t->options, .shapes_only = true};
    oasis_status s = check(&t->options, message);
    if (s == OASIS_OK)
        s = choose_compute(t, message);
    if (s == OASIS_OK)
        s = open_weights(t, message);
    if (s == OASIS_OK)
        s = plan(t, message);
    if (s == OASIS_OK)
        oas_cost_estimate(&t->cost, t->device, t->graph.compute);
    t->cost.available_bytes = free_memory(t->device);
    *cost = t->cost;
    oasis_trainer_close(&t);
    return s;
}

const char *oasis_trainer_ranks(const oasis_trainer *t)
{
    return t->carrier ? oas_carrier_words(t->carrier) : "";
}

int oasis_trainer_times(const oasis_trainer *t, oasis_stage_time *stages)
{
    int n = 0;
    for (; n < OAS_MAX_STAGES && n < OASIS_MAX_STAGES && t->graph.stages[n].name; n++)
        stages[n] = (oasis_stage_time){t->graph.stages[n].name, t->graph.stages[n].seconds, t->graph.stages[n].flops};
    return n;
}

void oasis_trainer_wait_for_each(oasis_trainer *t, bool wait)
{
    t->graph.timed = wait;
}

void oasis_trainer_launch_apart(oasis_trainer *t, bool apart)
{
    t->replays.off = apart;
}

oasis_train_launches oasis_trainer_launches(const oasis_trainer *t)
{
    return (oasis_train_launches){t->replays.calls, t->replays.replayed, t->replays.refused};
}

/* ---- a step -------------------------------------------------------------------------------------------------------- */

/* Mean and mean square of an autoencoder's latents, forgetting slowly. */
static oasis_status observe_latents(oasis_trainer *t, const tensor *z)
{
    int64_t c = oas_last(z, 0), n = oas_count(&z->shape) / c;
    float *values = oas_alloc_unset((size_t)(n * c), sizeof *values);
    if (!values)
        return oas_fail_memory(&t->message, (size_t)(n * c) * sizeof *values, "an autoencoder's latents");
    oas_graph_download(&t->graph, values, z);
    double keep = t->state.latents > 0 ? STATISTICS_KEEP : 0;
    for (int64_t k = 0; k < c; k++) {
        double sum = 0, square = 0;
        for (int64_t i = 0; i < n; i++) {
            double v = (double)values[i * c + k];
            sum += v;
            square += v * v;
        }
        t->state.latent_mean[k] = keep * t->state.latent_mean[k] + (1 - keep) * sum / (double)n;
        t->state.latent_square[k] = keep * t->state.latent_square[k] + (1 - keep) * square / (double)n;
    }
    t->state.latents = (int)c;
    oas_free(values);
    return OASIS_OK;
}

/* Adds to the value of that name: not every pass has every term. */
static void report_term(oasis_train_report *r, const char *name, double value)
{
    int i = 0;
    while (i < r->n_terms && strcmp(r->term[i], name) != 0)
        i++;
    if (i == OASIS_MAX_TERMS)
        return;
    if (i == r->n_terms)
        r->term[r->n_terms++] = name;
    r->value[i] += value;
}

/* The discriminator's part in a pass: none before its start, then a share that grows. */
static void choose_adversary(const oasis_trainer *t, pass *p)
{
    const oasis_train_options *o = &t->options;
    int64_t since = t->state.step - o->adversarial_start;
    if (!t->objective.adversary || since < 0)
        return;
    p->judged = true;
    p->adversarial = since < o->adversarial_ramp ? (double)since / (double)o->adversarial_ramp : 1;
}

/* Pass `number` of the step.  Its own number is the one that it has in one process: the same on all ranks. */
static pass pass_of(const oasis_trainer *t, int number)
{
    uint32_t count = (uint32_t)t->state.step * (uint32_t)t->options.accumulate + (uint32_t)number;
    oas_rng rng = oas_rng_at((uint64_t)t->options.seed, OAS_STREAM_PASS, count, 0);
    pass p = {.clips = t->options.batch,
              .clip = t->batch,
              .there = t->batch_block.device,
              .number = count,
              .before = t->options.batch * oas_rank(&t->options)};
    p.middle = oas_rng_uniform(&rng) < t->options.middle;
    choose_adversary(t, &p);
    return p;
}

/* Adds a pass's losses to the report: the total, and those of the discriminator and every term by name. */
static oasis_status report_losses(oasis_trainer *t, const tensor *numbers, const pass_result *result,
                                  oasis_train_report *r)
{
    float value[sizeof result->name / sizeof *result->name];
    double share = 1. / t->options.accumulate;
    if (oas_graph_download(&t->graph, value, numbers) < 0)
        return oas_fail(&t->message, t->graph.status, "%s", t->graph.message.text);
    r->loss += share * (double)value[0];
    for (int i = 1; i < result->n; i++)
        report_term(r, result->name[i], share * (double)value[i]);
    return OASIS_OK;
}

/* Clips of pass `number` of this step, or the next one's first, into the batch, and towards the GPU. */
static oasis_status take_clips(oasis_trainer *t, int number)
{
    oas_cuda *cuda = t->device->cuda;
    size_t bytes = oas_clip_floats(&t->options) * sizeof(float);
    double asked = oas_now();
    const pass p = pass_of(t, number);
    if (cuda)
        OAS_TRY(oas_cuda_block_wait(cuda, &t->batch_block, &t->message));
    for (int i = 0; i < t->options.batch; i++) {
        clip next;
        OAS_TRY(oas_feed_next(t->feed, &next, &t->message));
        oas_pool_copy(t->device->pool, t->batch[i].low, next.low, bytes);
        oas_pool_copy(t->device->pool, t->batch[i].truth, next.truth, bytes);
    }
    oas_objective_soften(&t->objective, &p);
    oas_graph_stage(&t->graph, "clips")->seconds += oas_now() - asked;
    if (cuda && oas_cuda_block_up(cuda, &t->batch_block) < 0)
        return oas_fail(&t->message, OASIS_E_DEVICE, "clips cannot be copied to the GPU");
    return OASIS_OK;
}

/* Those of the pass behind `number`, while the GPU works on that one. */
static void take_ahead(oasis_trainer *t, int number)
{
    bool last = number + 1 == t->options.accumulate && t->state.step + 1 >= t->options.steps;
    t->ahead = t->device->cuda && !last;
    if (t->ahead)
        t->ahead_status = take_clips(t, number + 1);
}

/* Has the clips of a pass be there: they are the run's next. */
static oasis_status have_clips(oasis_trainer *t, int number)
{
    oasis_status s = t->ahead ? t->ahead_status : take_clips(t, number);
    t->ahead = false;
    if (s == OASIS_OK)
        t->state.index += (uint64_t)t->options.batch * (uint64_t)oas_ranks(&t->options);
    return s;
}

/*
 * Sums over ranks begin while the last pass of a step walks back, which must be launched op by op then; or after it, where
 * it is one launch and they are so small that this is quicker: 128 MB take a millisecond or two over NVLink.
 */
static bool sums_after(const oasis_trainer *t, const pass *p)
{
    enum { MOST_FLOATS = 1 << 25 };
    return oas_carrier_on_gpus(t->carrier) && t->weights.count <= MOST_FLOATS &&
           oas_pass_as_one(&t->graph, &t->replays, &t->objective, p);
}

/* Uploads a pass's inputs and puts its work on the GPU, or does it; its losses, NULL when the graph failed. */
static const tensor *start_pass(oasis_trainer *t, pass *p, bool last)
{
    graph *g = &t->graph;
    oas_graph_reset(g);
    if (t->reducer && last && !sums_after(t, p))
        oas_reducer_watch(t->reducer, oas_pass_kind(&t->objective, p), g);
    if (!oas_objective_inputs(g, &t->objective, p))
        return NULL;
    if (t->device->cuda && oas_cuda_block_used(t->device->cuda, &t->batch_block) < 0)
        return oas_graph_fail(g, OASIS_E_DEVICE, "clips cannot be copied on the GPU");
    return oas_pass_run(g, &t->replays, &t->objective, p, t->results);
}

/* Losses and gradients of one pass, added to the report and the weights' gradients. */
static oasis_status run_pass(oasis_trainer *t, int number, oasis_train_report *r)
{
    pass p = pass_of(t, number);
    const pass_result *result = &t->results[oas_pass_kind(&t->objective, &p)];
    OAS_TRY(have_clips(t, number));
    const tensor *numbers = start_pass(t, &p, number == t->options.accumulate - 1);
    if (!numbers)
        return oas_fail(&t->message, t->graph.status, "%s", t->graph.message.text);
    take_ahead(t, number);
    OAS_TRY(report_losses(t, numbers, result, r));
    return result->latents.data ? observe_latents(t, &result->latents) : OASIS_OK;
}

static double clip_factor(const oasis_train_options *o, double norm)
{
    return o->clip > 0 && norm > o->clip ? o->clip / norm : 1;
}

/* Has all ranks go on with the gradients of all and the means of what was measured, or all fail where one has. */
static oasis_status join_ranks(oasis_trainer *t, oasis_status mine, oasis_train_report *r)
{
    const oasis_ranks *k = t->options.ranks;
    enum { LATENTS = OAS_MODEL_MAX_LATENT };
    double all[1 + OASIS_MAX_TERMS + 2 * LATENTS] = {r->loss};
    const pass last = pass_of(t, t->options.accumulate - 1);
    weights *other = last.judged ? &t->adversary.weights : NULL;
    oasis_status s = oas_reducer_finish(t->reducer, oas_pass_kind(&t->objective, &last), &t->graph, other, &t->message);
    OAS_TRY(oasis_ranks_agree(k, mine < 0 ? mine : s, &t->message));
    memcpy(all + 1, r->value, sizeof r->value);
    memcpy(all + 1 + OASIS_MAX_TERMS, t->state.latent_mean, sizeof t->state.latent_mean);
    memcpy(all + 1 + OASIS_MAX_TERMS + LATENTS, t->state.latent_square, sizeof t->state.latent_square);
    if (!k->sum(k->user, all, sizeof all / sizeof *all))
        return oas_ranks_lost(&t->message);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        all[i] /= k->count;
    r->loss = all[0];
    memcpy(r->value, all + 1, sizeof r->value);
    memcpy(t->state.latent_mean, all + 1 + OASIS_MAX_TERMS, sizeof t->state.latent_mean);
    memcpy(t->state.latent_square, all + 1 + OASIS_MAX_TERMS + LATENTS, sizeof t->state.latent_square);
    return OASIS_OK;
}

/* Updates the weights, unless loss or gradient are not finite. */
static oasis_status update(oasis_trainer *t, oasis_train_report *r)
{
    const oasis_train_options *o = &t->options;
    bool judged = t->objective.adversary && t->state.step >= o->adversarial_start;
    double share = 1. / ((double)t->options.accumulate * oas_ranks(o));
    double other = judged ? share * oas_gradient_norm(&t->adversary.weights, t->device->pool) : 0;
    r->norm = share * oas_gradient_norm(&t->weights, t->device->pool);
    r->rate = oas_learning_rate(o, t->state.step);
    if (isfinite(r->loss) && isfinite(r->norm) && isfinite(other)) {
        oasis_status s = oas_weights_update(&t->weights, t->device->pool, o, r->rate, share * clip_factor(o, r->norm));
        if (judged && s == OASIS_OK)
            s = oas_adversary_update(&t->adversary, t->device->pool, o,
                                     o->rate > 0 ? o->discriminator_rate * r->rate / o->rate : 0,
                                     share * clip_factor(o, other));
        t->bad = 0;
        return s < 0 ? oas_fail(&t->message, s, "the update of weights failed: %s", oasis_status_name(s)) : s;
    }
    t->state.skipped++;
    if (++t->bad < o->most_bad)
        return OASIS_OK;
    return oas_fail(&t->message, OASIS_E_ARGUMENT,
                    "step %lld: the last %d steps gave no finite loss; the checkpoint from "
                    "before is kept. A smaller 'rate' or 'clip' may help",
                    (long long)t->state.step, t->bad);
}

/* ---- files --------------------------------------------------------------------------------------------------------- */

/* The middle frame of the shown clips, before and after. */
static oasis_status show(oasis_trainer *t)
{
    shown pictures[SHOWN_CLIPS] = {{.low = NULL}};
    const oasis_train_options *o = &t->options;
    size_t frame = (size_t)o->width * (size_t)o->height * 3, before = o->middle > 0 ? OAS_FRAMES_BEFORE : 0;
    float *results = oas_alloc(SHOWN_CLIPS * frame, sizeof *results);
    if (!results)
        return oas_fail_memory(&t->message, SHOWN_CLIPS * frame * sizeof *results, "pictures of the page");
    size_t at = (size_t)(o->frames / 2);
    oasis_status s = OASIS_OK;
    oas_weights_use_average(&t->weights, true);
    for (int i = 0; i < SHOWN_CLIPS && s == OASIS_OK; i++) {
        const clip *c = &t->batch[o->batch + i];
        oas_graph_reset(&t->graph);
        const tensor *y = oas_objective_frames(&t->graph, &t->objective, c);
        if (!y) {
            s = oas_fail(&t->message, t->graph.status, "%s", t->graph.message.text);
            break;
        }
        oas_graph_download_part(&t->graph, results + (size_t)i * frame, y, at * frame * sizeof *results,
                                frame * sizeof *results);
        pictures[i] = (shown){c->low + (before + at) * frame, results + (size_t)i * frame,
                              c->truth + (before + at) * frame, o->width, o->height};
    }
    oas_weights_use_average(&t->weights, false);
    if (s == OASIS_OK)
        s = oas_history_page(t->history, o->name ? o->name : "oasis", pictures, SHOWN_CLIPS, &t->message);
    oas_free(results);
    return s;
}

oasis_status oasis_trainer_save(oasis_trainer *t)
{
    char path[PATH_ROOM + 64];
    model_config *c = &t->objective.model->file.config;
    if (oas_rank(&t->options) > 0)
        return OASIS_OK;
    for (int k = 0; k < t->state.latents; k++) {
        double variance = t->state.latent_square[k] - t->state.latent_mean[k] * t->state.latent_mean[k];
        c->latent_mean[k] = (float)t->state.latent_mean[k];
        c->latent_std[k] = (float)sqrt(variance > 1e-8 ? variance : 1e-8);
        c->normalised = true;
    }
    OAS_TRY(oas_weights_visit_host(&t->weights, &t->message));
    oasis_status s = t->objective.adversary ? oas_weights_visit_host(&t->adversary.weights, &t->message) : OASIS_OK;
    path_of(t, "checkpoint.safetensors", path);
    if (s == OASIS_OK)
        s = oas_checkpoint_write(path, &t->objective, &t->weights, &t->state, &t->message);
    path_of(t, "model.safetensors", path);
    if (s == OASIS_OK && t->options.stage == OASIS_STAGE_ONE_STEP)
        s = oas_model_export(path, &t->objective, &t->weights, &t->message);
    path_of(t, "decoder.safetensors", path);
    if (s == OASIS_OK && t->options.stage == OASIS_STAGE_DECODER)
        s = oas_decoder_export(path, &t->objective, &t->weights, &t->message);
    oas_weights_leave_host(&t->weights);
    oas_weights_leave_host(&t->adversary.weights);
    OAS_TRY(s);
    t->saved_at = oas_now();
    return t->shows ? show(t)
                    : oas_history_page(t->history, t->options.name ? t->options.name : "oasis", NULL, 0, &t->message);
}

static oasis_status write_files(oasis_trainer *t, oasis_train_report *r)
{
    const oasis_train_options *o = &t->options;
    bool last = t->state.step == o->steps;
    if (oas_rank(o) > 0)
        return OASIS_OK;
    if (last || (o->log_every > 0 && t->state.step % o->log_every == 0))
        OAS_TRY(oas_history_add(t->history, r, &t->message));
    r->saved = last || (oas_now() - t->saved_at >= 60 * o->checkpoint_minutes && o->checkpoint_minutes > 0);
    if (r->saved)
        return oasis_trainer_save(t);
    return t->shows && t->state.step % o->show_every == 0 ? show(t) : OASIS_OK;
}

oasis_status oasis_trainer_step(oasis_trainer *t, oasis_train_report *report)
{
    oasis_train_report r = {.steps = t->options.steps};
    if (t->state.step >= t->options.steps)
        return OASIS_END;
    double start = oas_now();
    oas_pool *pool = t->device->pool;
    if (oas_weights_zero(&t->weights, pool) < 0 ||
        (t->objective.adversary && oas_weights_zero(&t->adversary.weights, pool) < 0))
        return oas_fail(&t->message, OASIS_E_DEVICE, "gradients cannot be set to zero");
    r.temporal_step = oas_temporal_step(&t->options, t->state.step);
    oasis_status s = OASIS_OK;
    for (int i = 0; i < t->options.accumulate && s == OASIS_OK; i++)
        s = run_pass(t, i, &r);
    double computed = oas_now();
    OAS_TRY(t->reducer ? join_ranks(t, s, &r) : s);
    double joined = oas_now();
    OAS_TRY(update(t, &r));
    double seconds = oas_now() - start;
    oas_graph_stage(&t->graph, "ranks")->seconds += joined - computed;
    oas_graph_stage(&t->graph, "update")->seconds += start + seconds - joined;
    t->state.step++;
    t->state.seconds += seconds;
    r.step = t->state.step;
    r.skipped = t->state.skipped;
    r.seconds = t->state.seconds;
    r.clips_per_second =
        t->options.batch * t->options.accumulate * oas_ranks(&t->options) / (seconds > 0 ? seconds : 1);
    OAS_TRY(write_files(t, &r));
    if (report)
        *report = r;
    return OASIS_OK;
}
