/*
 * The forward function of each stage, with its losses.
 *
 *   autoencoder  z = E(truth);  y = decode(z, pixels between truth and low);  pixel losses, and a little of z^2
 *   diffusion    x = (1-s) z + s noise at t = 1000 s, s drawn for the pass;  v = DiT(x) against noise - z
 *   decoder      z = Wan's encoder(truth);  y = decode(z, pixels between truth and low);  pixel losses
 *   one-step     z = restore(project(low));  y = decode(z, low);  pixel losses, and z against E(truth)
 */
#include "base/memory.h"
#include "train/train.h"

#include <math.h>
#include <string.h>

/* ---- inputs -------------------------------------------------------------------------------------------------------- */

/* Clips as one tensor: frames from `skip` on. */
static tensor *gather(graph *g, const objective *o, const pass *p, bool low, int skip, int frames)
{
    const oasis_train_options *t = o->options;
    tensor *x = oas_tensor(g, OAS_F32, OAS_SHAPE5(p->clips, frames, t->height, t->width, 3));
    size_t frame = (size_t)t->width * (size_t)t->height * 3, count = frame * (size_t)frames, all = oas_clip_floats(t);
    if (x && p->there && !g->planning) {
        const float *from = p->there + (low ? 0 : all) + (size_t)skip * frame;
        oas_graph_copy_rows(g, x->data, count * sizeof *from, from, 2 * all * sizeof *from, count * sizeof *from,
                            (size_t)p->clips);
        return x;
    }
    for (int i = 0; x && !g->planning && i < p->clips; i++)
        oas_graph_upload_part(g, x, (size_t)i * count * sizeof(float),
                              (low ? p->clip[i].low : p->clip[i].truth) + (size_t)skip * frame, count * sizeof(float));
    return x;
}

tensor *oas_pass_place(graph *g, int y, int x)
{
    const float at[] = {(float)y, (float)x};
    tensor *t = oas_tensor(g, OAS_F32, OAS_SHAPE1(2));
    oas_graph_upload(g, t, at);
    return t;
}

/* Frames of all clips from `begin` on, when they begin in the middle of a shot. */
static int frames_before(const objective *o)
{
    return o->options->middle > 0 ? OAS_FRAMES_BEFORE : 0;
}

/* Truth has share 0, a quarter of the clips; degraded pictures 1. */
void oas_objective_soften(const objective *o, const pass *p)
{
    const oasis_train_options *w = o->options;
    oas_rng rng = oas_rng_at((uint64_t)w->seed, OAS_STREAM_PASS, p->number, 2);
    size_t frame = (size_t)w->width * (size_t)w->height * 3, begin = (size_t)frames_before(o) * frame;
    if (w->stage != OASIS_STAGE_AUTOENCODER && w->stage != OASIS_STAGE_DECODER)
        return;
    for (int i = -p->before; i < p->clips; i++) {
        double none = oas_rng_uniform(&rng), share = oas_rng_uniform(&rng);
        if (i < 0)
            continue;
        const float a = none < 0.25 ? 0.f : (float)share, *to = p->clip[i].truth + begin;
        float *x = p->clip[i].low + begin;
        for (size_t k = 0; k < (size_t)w->frames * frame; k++)
            x[k] = to[k] + a * (x[k] - to[k]);
    }
}

/* Where the spectrum's blocks begin. */
static tensor *draw_shift(graph *g, const oasis_train_options *w, const pass *p)
{
    oas_rng rng = oas_rng_at((uint64_t)w->seed, OAS_STREAM_PASS, p->number, 1);
    int b = w->spectrum_block, room_y = w->height - b + 1, room_x = w->width - b + 1;
    int y = oas_rng_below(&rng, b < room_y ? b : room_y), x = oas_rng_below(&rng, b < room_x ? b : room_x);
    return oas_pass_place(g, y, x);
}

bool oas_objective_inputs(graph *g, const objective *o, pass *p)
{
    const oasis_train_options *w = o->options;
    bool one_step = w->stage == OASIS_STAGE_ONE_STEP, middle = one_step && p->middle;
    int before = frames_before(o);
    p->in = (pass_inputs){.truth = gather(g, o, p, false, before, w->frames)};
    if (w->stage == OASIS_STAGE_DIFFUSION)
        return g->status == OASIS_OK;
    p->in.low = gather(g, o, p, true, before, w->frames);
    if (one_step)
        p->in.seen = middle ? gather(g, o, p, true, 0, w->frames + before) : p->in.low;
    if (w->spectrum > 0)
        p->in.spectrum = draw_shift(g, w, p);
    oas_perceptual_draw(g, o, p);
    if (p->judged)
        oas_adversary_inputs(g, o, p);
    return g->status == OASIS_OK;
}

/* ---- targets ------------------------------------------------------------------------------------------------------- */

/* The numbers that bring latents to mean 0 and deviation 1: (z + add) * factor. */
static oasis_status make_scale(void *arg, void *to)
{
    const objective *o = arg;
    int channels = o->model->file.config.latent_channels;
    float *add = to, *factor = add + channels;
    for (int k = 0; k < channels; k++) {
        add[k] = -o->scale.mean[k];
        factor[k] = 1.f / o->scale.deviation[k];
    }
    return OASIS_OK;
}

/* Normalised latents of frames that no gradient flows to: only they stay in the arena. */
static tensor *target_latents(graph *g, objective *o, tensor *truth)
{
    if (!truth)
        return NULL;
    const shape two = OAS_SHAPE2(2, o->model->file.config.latent_channels);
    tensor *scale = oas_graph_table(g, NULL, &(pack_key){"latent scale"}, two, make_scale, o);
    size_t mark = oas_graph_mark(g);
    bool recording = g->recording;
    g->recording = false;
    tensor *target = oas_graph_sink(g, oas_scale_channels(g, oas_encode(g, &o->encoder, truth), scale), mark);
    g->recording = recording;
    return target;
}

/* ---- losses -------------------------------------------------------------------------------------------------------- */

void oas_add_term(graph *g, loss_terms *t, const char *name, tensor *loss)
{
    if (g->status < 0 || t->n == OASIS_MAX_TERMS)
        return;
    t->name[t->n] = name;
    t->value[t->n++] = loss;
    t->total = t->total ? oas_axpy(g, t->total, 1, loss) : loss;
}

static void pixel_losses(graph *g, const objective *o, const pass *p, tensor *y, tensor *truth, loss_terms *t)
{
    const oasis_train_options *w = o->options;
    if (w->charbonnier > 0)
        oas_add_term(g, t, "charbonnier",
                     oas_loss_charbonnier(g, y, truth, (float)w->charbonnier_eps, (float)w->charbonnier));
    if (w->mse > 0)
        oas_add_term(g, t, "mse", oas_loss_mse(g, y, truth, (float)w->mse));
    if (w->spectrum > 0)
        oas_add_term(g, t, "spectrum",
                     oas_loss_spectrum(g, y, truth, w->spectrum_block, p->in.spectrum, (float)w->spectrum));
    if (w->motion > 0 && w->frames > 1)
        oas_add_term(g, t, "motion", oas_loss_motion(g, y, truth, (float)w->motion));
    if (w->gradient > 0)
        oas_add_term(g, t, "gradient", oas_loss_gradient(g, y, truth, w->gradient_levels, (float)w->gradient));
    oas_perceptual_terms(g, o, p, y, truth, t);
}

/* ---- stages -------------------------------------------------------------------------------------------------------- */

static void autoencoder(graph *g, objective *o, const pass *p, loss_terms *t)
{
    tensor *truth = p->in.truth, *low = p->in.low;
    tensor *z = truth ? oas_encode(g, &o->encoder, truth) : NULL;
    tensor *y = oas_decode(g, o->model, NULL, z, low);
    pixel_losses(g, o, p, y, truth, t);
    if (o->options->prior > 0)
        oas_add_term(g, t, "prior", oas_loss_mse(g, z, NULL, (float)o->options->prior));
    t->latents = z;
}

static void decoder_alone(graph *g, objective *o, const pass *p, loss_terms *t)
{
    tensor *truth = p->in.truth, *low = p->in.low;
    tensor *z = oas_teacher_latents(g, o->teacher, truth);
    tensor *target = oas_teacher_target(g, o->teacher, z, truth, (float)o->options->teacher_share);
    if (!z || !low || !target)
        return;
    tensor *y = oas_decode(g, o->model, NULL, z, low);
    pixel_losses(g, o, p, y, target, t);
    if (p->judged)
        oas_adversary_judge(g, o, p, y, target, low, t);
}

/* Noise like z, the same for the same clip of the same pass. */
static tensor *noise_like(graph *g, const objective *o, const pass *p, const tensor *z)
{
    tensor *noise = oas_tensor(g, OAS_F32, z->shape);
    int64_t n = oas_count(&z->shape);
    if (!noise || g->planning)
        return noise;
    float *values = oas_alloc_unset((size_t)n, sizeof *values);
    if (!values)
        return oas_graph_fail(g, OASIS_E_MEMORY, "out of memory: %lld values of noise", (long long)n);
    int64_t each = n / p->clips;
    for (int c = 0; c < p->clips; c++) {
        oas_rng rng = oas_rng_at((uint64_t)o->options->seed, OAS_STREAM_NOISE, p->number, (uint32_t)(p->before + c));
        for (int64_t i = 0; i < each; i++)
            values[c * each + i] = (float)oas_rng_normal(&rng);
    }
    oas_graph_upload(g, noise, values);
    oas_free(values);
    return noise;
}

/* z + s velocity, the first channels of in_dim; the others are zero. */
static tensor *noised(graph *g, const objective *o, tensor *z, double s, tensor *velocity)
{
    tensor *x = oas_axpy(g, z, (float)s, velocity);
    shape rest = z->shape;
    rest.size[4] = o->model->file.config.in_dim - oas_last(z, 0);
    if (!x || rest.size[4] == 0)
        return x;
    tensor *zeros = oas_tensor(g, OAS_F32, rest);
    if (zeros)
        oas_graph_zero(g, zeros->data, oas_bytes(zeros));
    return zeros ? oas_join_channels(g, x, zeros) : NULL;
}

static void diffusion(graph *g, objective *o, const pass *p, loss_terms *t)
{
    oas_rng rng = oas_rng_at((uint64_t)o->options->seed, OAS_STREAM_PASS, p->number, 3);
    double s = 1 / (1 + exp(-oas_rng_normal(&rng))); /* most weight in the middle */
    tensor *z = target_latents(g, o, p->in.truth);
    tensor *velocity = z ? oas_axpy(g, noise_like(g, o, p, z), -1, z) : NULL;
    if (!velocity)
        return;
    o->model->dit.config.timestep = 1000 * s;
    tensor *v = oas_dit(g, &o->model->dit, noised(g, o, z, s, velocity));
    oas_add_term(g, t, "velocity", oas_loss_mse(g, v, velocity, 1));
}

static void one_step(graph *g, objective *o, const pass *p, loss_terms *t)
{
    tensor *seen = p->in.seen, *truth = p->in.truth, *low = p->in.low, *target = NULL;
    if (o->options->latent > 0 && !p->middle)
        target = o->teacher ? oas_teacher_latents(g, o->teacher, truth) : target_latents(g, o, truth);
    if (!seen || !low || !truth)
        return;
    tensor *z = oas_restore(g, o->model, oas_project(g, o->model, seen, !p->middle));
    tensor *y = oas_decode(g, o->model, NULL, z, low);
    pixel_losses(g, o, p, y, truth, t);
    if (p->judged)
        oas_adversary_judge(g, o, p, y, truth, low, t);
    if (target)
        oas_add_term(g, t, "latent", oas_loss_mse(g, z, target, (float)o->options->latent));
}

bool oas_objective(graph *g, objective *o, const pass *p, loss_terms *terms)
{
    *terms = (loss_terms){.n = 0};
    switch ((oasis_train_stage)o->options->stage) {
    case OASIS_STAGE_AUTOENCODER: autoencoder(g, o, p, terms); break;
    case OASIS_STAGE_DIFFUSION: diffusion(g, o, p, terms); break;
    case OASIS_STAGE_ONE_STEP: one_step(g, o, p, terms); break;
    case OASIS_STAGE_DECODER: decoder_alone(g, o, p, terms); break;
    }
    if (g->status == OASIS_OK && !terms->total)
        oas_graph_fail(g, OASIS_E_ARGUMENT, "no loss has a weight above 0");
    return g->status == OASIS_OK;
}

tensor *oas_objective_frames(graph *g, objective *o, const clip *c)
{
    const pass p = {.clips = 1, .clip = c};
    tensor *low = gather(g, o, &p, true, frames_before(o), o->options->frames);
    if (o->options->stage == OASIS_STAGE_DIFFUSION || !low)
        return NULL;
    if (o->options->stage == OASIS_STAGE_ONE_STEP)
        return oas_decode(g, o->model, NULL, oas_restore(g, o->model, oas_project(g, o->model, low, true)), low);
    tensor *truth = gather(g, o, &p, false, frames_before(o), o->options->frames);
    if (o->options->stage == OASIS_STAGE_DECODER)
        return oas_decode(g, o->model, NULL, oas_teacher_latents(g, o->teacher, truth), low);
    return truth ? oas_decode(g, o->model, NULL, oas_encode(g, &o->encoder, truth), low) : NULL;
}
