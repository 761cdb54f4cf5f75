/*
 * The forward function of each stage, with its losses.
 *
 *   autoencoder  z = E(truth);  y = decode(z, pixels between truth and low);  pixel losses, and a little of z^2
 *   diffusion    x = (1-s) z + s noise at t = 1000 s;  v = DiT(x) against noise - z
 *   one-step     z = restore(project(low));  y = decode(z, low);  pixel losses, and z against E(truth)
 */
#include "train/train.h"

#include <math.h>
#include <string.h>

/* ---- inputs -------------------------------------------------------------------------------------------------------- */

/* Clips as one tensor: frames from `skip` on. */
static tensor *gather(graph *g, const objective *o, const pass *p, bool low, int skip, int frames)
{
    const oasis_train_options *t = o->options;
    tensor *x = oas_tensor(g, OAS_F32, OAS_SHAPE5(p->clips, frames, t->height, t->width, 3));
    size_t frame = (size_t)t->width * (size_t)t->height * 3, count = frame * (size_t)frames;
    for (int i = 0; x && !g->planning && i < p->clips; i++)
        memcpy((float *)x->data + (size_t)i * count, (low ? p->clip[i].low : p->clip[i].truth) + (size_t)skip * frame,
               count * sizeof(float));
    return x;
}

/* Frames of all clips from `begin` on, when they begin in the middle of a shot. */
static int frames_before(const objective *o)
{
    return o->options->middle > 0 ? OAS_FRAMES_BEFORE : 0;
}

/* ---- targets ------------------------------------------------------------------------------------------------------- */

/* Normalised latents of frames that no gradient flows to: only they stay in the arena. */
static tensor *target_latents(graph *g, objective *o, tensor *truth)
{
    if (!truth)
        return NULL;
    const int64_t *s = truth->shape.size;
    int64_t c = o->model->file.config.latent_channels;
    int64_t latents = (s[1] + OAS_LATENT_FRAMES - 1) / OAS_LATENT_FRAMES;
    shape size = OAS_SHAPE5(s[0], latents, s[2] / OAS_LATENT_PIXELS, s[3] / OAS_LATENT_PIXELS, c);
    tensor *target = oas_tensor(g, OAS_F32, size);
    size_t mark = g->memory.used;
    bool recording = g->recording;
    g->recording = false;
    tensor *z = oas_encode(g, &o->encoder, truth);
    g->recording = recording;
    if (!z || !target)
        return NULL;
    for (int64_t i = 0, n = oas_count(&z->shape); !g->planning && i < n; i++)
        ((float *)target->data)[i] =
            (((const float *)z->data)[i] - o->scale.mean[i % c]) / o->scale.deviation[i % c];
    oas_arena_release(&g->memory, mark);
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
    if (w->spectrum > 0) {
        oas_rng rng = oas_rng_at((uint64_t)w->seed, OAS_STREAM_PASS, p->number, 1);
        int b = w->spectrum_block, room_y = w->height - b + 1, room_x = w->width - b + 1;
        int y0 = oas_rng_below(&rng, b < room_y ? b : room_y), x0 = oas_rng_below(&rng, b < room_x ? b : room_x);
        if (g->planning)
            y0 = x0 = 0; /* the most blocks */
        oas_add_term(g, t, "spectrum", oas_loss_spectrum(g, y, truth, b, y0, x0, (float)w->spectrum));
    }
    if (w->motion > 0 && w->frames > 1)
        oas_add_term(g, t, "motion", oas_loss_motion(g, y, truth, (float)w->motion));
    if (w->gradient > 0)
        oas_add_term(g, t, "gradient", oas_loss_gradient(g, y, truth, w->gradient_levels, (float)w->gradient));
}

/* ---- stages -------------------------------------------------------------------------------------------------------- */

/* Each clip's pictures between truth (share 0, a quarter of the clips) and degraded (1). */
static void soften(const objective *o, const pass *p, tensor *low, const tensor *truth)
{
    oas_rng rng = oas_rng_at((uint64_t)o->options->seed, OAS_STREAM_PASS, p->number, 2);
    int64_t each = oas_count(&low->shape) / p->clips;
    for (int i = 0; i < p->clips; i++) {
        double none = oas_rng_uniform(&rng), share = oas_rng_uniform(&rng);
        float a = none < 0.25 ? 0.f : (float)share, *x = (float *)low->data + i * each;
        const float *t = (const float *)truth->data + i * each;
        for (int64_t k = 0; k < each; k++)
            x[k] = t[k] + a * (x[k] - t[k]);
    }
}

static void autoencoder(graph *g, objective *o, const pass *p, loss_terms *t)
{
    int skip = frames_before(o), frames = o->options->frames;
    tensor *truth = gather(g, o, p, false, skip, frames), *low = gather(g, o, p, true, skip, frames);
    if (low && !g->planning)
        soften(o, p, low, truth);
    tensor *z = truth ? oas_encode(g, &o->encoder, truth) : NULL;
    tensor *y = oas_decode(g, o->model, NULL, z, low);
    pixel_losses(g, o, p, y, truth, t);
    if (o->options->prior > 0)
        oas_add_term(g, t, "prior", oas_loss_mse(g, z, NULL, (float)o->options->prior));
    t->latents = z;
}

/* x [1,F,h,w,in_dim] from z, its first channels; what v should be goes into `velocity`. */
static tensor *noised(graph *g, const objective *o, const pass *p, const tensor *z, double s, tensor *velocity)
{
    int64_t c = oas_last(z, 0), in = o->model->file.config.in_dim, n = oas_count(&z->shape) / c;
    shape size = z->shape;
    size.size[4] = in;
    tensor *x = oas_tensor(g, OAS_F32, size);
    if (!x || g->planning)
        return x;
    oas_rng rng = oas_rng_at((uint64_t)o->options->seed, OAS_STREAM_NOISE, p->number, 0);
    memset(x->data, 0, oas_bytes(x));
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < c; k++) {
            float clean = ((const float *)z->data)[i * c + k], noise = (float)oas_rng_normal(&rng);
            ((float *)x->data)[i * in + k] = (float)(1 - s) * clean + (float)s * noise;
            ((float *)velocity->data)[i * c + k] = noise - clean;
        }
    return x;
}

static void diffusion(graph *g, objective *o, const pass *p, loss_terms *t)
{
    oas_rng rng = oas_rng_at((uint64_t)o->options->seed, OAS_STREAM_PASS, p->number, 3);
    double s = 1 / (1 + exp(-oas_rng_normal(&rng))); /* most weight in the middle */
    tensor *truth = gather(g, o, p, false, frames_before(o), o->options->frames);
    tensor *z = target_latents(g, o, truth);
    tensor *velocity = z ? oas_tensor(g, OAS_F32, z->shape) : NULL;
    if (!velocity)
        return;
    o->model->dit.config.timestep = 1000 * s;
    tensor *v = oas_dit(g, &o->model->dit, noised(g, o, p, z, s, velocity));
    oas_add_term(g, t, "velocity", oas_loss_mse(g, v, velocity, 1));
}

static void one_step(graph *g, objective *o, const pass *p, loss_terms *t)
{
    int before = frames_before(o), frames = o->options->frames, skip = p->middle ? 0 : before;
    tensor *seen = gather(g, o, p, true, skip, frames + before - skip);
    tensor *truth = gather(g, o, p, false, before, frames);
    tensor *low = p->middle ? gather(g, o, p, true, before, frames) : seen;
    tensor *target = o->options->latent > 0 && !p->middle ? target_latents(g, o, truth) : NULL;
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
    case OASIS_STAGE_AUTOENCODER:
        autoencoder(g, o, p, terms);
        break;
    case OASIS_STAGE_DIFFUSION:
        diffusion(g, o, p, terms);
        break;
    case OASIS_STAGE_ONE_STEP:
        one_step(g, o, p, terms);
        break;
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
    return truth ? oas_decode(g, o->model, NULL, oas_encode(g, &o->encoder, truth), low) : NULL;
}
