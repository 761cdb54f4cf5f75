/*
 * Losses by frozen networks: SqueezeNet's features, LPIPS, DISTS, and the features of the encoder.
 *
 * Networks with strides see the pixels of their grid better than those between: a fixed grid leaves its pattern in the
 * results (a cross-hatch), while the loss itself falls.  So every pass moves the picture under the grid by whole pixels,
 * drawn from its number; each network sees every pixel at every place of its grid alike.
 */
#include "train/train.h"

#include <string.h>

/* SqueezeNet, AlexNet and VGG16 halve four times, the encoder three times. */
enum { MOST_SHIFT = 16, ENCODER_SHIFT = OAS_LATENT_PIXELS };

/* ---- opening --------------------------------------------------------------------------------------------------------- */

static oasis_status make_normaliser(objective *o, oasis_message *message)
{
    perceptual *p = &o->perceptual;
    int c = o->model->file.config.latent_channels;
    p->parameters.create = true;
    p->normalise.weight = oas_parameter(&p->parameters, OAS_MATRIX, OAS_SHAPE2(c, c), "latents.weight");
    p->normalise.bias = oas_parameter(&p->parameters, OAS_VECTOR, OAS_SHAPE1(c), "latents.bias");
    if (p->parameters.status < 0)
        return oas_fail(message, p->parameters.status, "%s", p->parameters.message.text);
    for (int i = 0; i < c; i++) {
        ((float *)p->normalise.weight->data)[i * c + i] = 1 / o->scale.deviation[i];
        ((float *)p->normalise.bias->data)[i] = -o->scale.mean[i] / o->scale.deviation[i];
    }
    return OASIS_OK;
}

oasis_status oas_perceptual_new(objective *o, oasis_message *message)
{
    const oasis_train_options *w = o->options;
    const struct {
        double weight;
        const char *files, *key, *file_key;
    } wanted[OAS_JUDGES] = {[OAS_JUDGE_FEATURES] = {w->features, w->squeezenet, "features", "squeezenet"},
                            [OAS_JUDGE_LPIPS] = {w->lpips, w->lpips_files, "lpips", "lpips-files"},
                            [OAS_JUDGE_DISTS] = {w->dists, w->dists_files, "dists", "dists-files"}};
    for (int i = 0; i < OAS_JUDGES && w->stage != OASIS_STAGE_DIFFUSION; i++) {
        if (wanted[i].weight <= 0)
            continue;
        if (!wanted[i].files)
            return oas_fail(message, OASIS_E_ARGUMENT, "the key '%s' needs '%s': the network's files", wanted[i].key,
                            wanted[i].file_key);
        OAS_TRY(oas_judge_open(&o->perceptual.judge[i], (judgement)i, wanted[i].files, message));
    }
    return w->encoder_features > 0 ? make_normaliser(o, message) : OASIS_OK;
}

void oas_perceptual_free(perceptual *p)
{
    for (int i = 0; i < OAS_JUDGES; i++)
        oas_judge_close(&p->judge[i]);
    oas_parameters_free(&p->parameters);
}

/* ---- what they see --------------------------------------------------------------------------------------------------- */

/* A place for a rectangle that is smaller than the clip, any of `down` times `across`. */
static tensor *draw_place(graph *g, oas_rng *rng, int down, int across)
{
    int y = oas_rng_below(rng, down), x = oas_rng_below(rng, across);
    return oas_pass_place(g, y, x);
}

/* How much smaller it is, of a side: small clips cannot give much away. */
static int glimpse_room(int side)
{
    return side / 4 < MOST_SHIFT ? side / 4 : MOST_SHIFT;
}

/* As many frames as the option says, one from each of as many stretches of the clip. */
static void draw_frames(const oasis_train_options *o, oas_rng *rng, pass *p)
{
    int n = o->perceptual_frames;
    p->n_seen = 0;
    if (n == 0 || n >= o->frames)
        return;
    p->n_seen = n < OAS_MOST_SEEN ? n : OAS_MOST_SEEN;
    for (int i = 0; i < p->n_seen; i++) {
        int begin = i * o->frames / p->n_seen, end = (i + 1) * o->frames / p->n_seen;
        p->seen[i] = begin + oas_rng_below(rng, end - begin);
    }
}

void oas_perceptual_draw(graph *g, const objective *o, pass *p)
{
    const oasis_train_options *w = o->options;
    bool judged = w->features > 0 || w->lpips > 0 || w->dists > 0;
    if (!judged && w->encoder_features <= 0)
        return;
    oas_rng rng = oas_rng_at((uint64_t)w->seed, OAS_STREAM_PERCEPTUAL, p->number, 0);
    p->in.glimpse = draw_place(g, &rng, glimpse_room(w->height), glimpse_room(w->width));
    draw_frames(w, &rng, p);
    p->n_seen = judged ? p->n_seen : 0;
    p->in.encoder = draw_place(g, &rng, ENCODER_SHIFT, ENCODER_SHIFT);
}

/* The part of x at the pass's glimpse. */
static tensor *glimpse_of(graph *g, const oasis_train_options *o, const pass *p, tensor *x)
{
    tensor *seen = p->n_seen == 0 ? x : NULL;
    for (int i = 0; i < p->n_seen; i++) {
        tensor *frame = oas_frames(g, x, p->seen[i], 1);
        seen = seen ? oas_join_frames(g, seen, frame) : frame;
    }
    return oas_crop(g, seen, p->in.glimpse, o->height - glimpse_room(o->height), o->width - glimpse_room(o->width));
}

/* ---- losses ---------------------------------------------------------------------------------------------------------- */

static tensor *encoder_loss(graph *g, const objective *o, const pass *p, tensor *y, tensor *truth)
{
    int height = o->options->height - ENCODER_SHIFT, width = o->options->width - ENCODER_SHIFT;
    tensor *of_y[OAS_ENCODER_TAPS], *of_t[OAS_ENCODER_TAPS], *total;
    tensor *t = oas_encode_features(g, &o->encoder, oas_crop(g, truth, p->in.encoder, height, width), of_t);
    tensor *z = oas_encode_features(g, &o->encoder, oas_crop(g, y, p->in.encoder, height, width), of_y);
    const linear *n = &o->perceptual.normalise;
    float share = (float)o->options->encoder_features / (OAS_ENCODER_TAPS + 1);
    t = t ? oas_linear(g, t, n, OAS_LINEAR, NULL, OAS_F32) : NULL;
    z = z ? oas_linear(g, z, n, OAS_LINEAR, NULL, OAS_F32) : NULL;
    total = t && z ? oas_loss_mse(g, z, t, share) : NULL;
    for (int i = 0; i < OAS_ENCODER_TAPS && total; i++)
        total =
            oas_axpy(g, total, 1,
                     oas_loss_features(g, oas_cast(g, of_y[i], OAS_F32), oas_cast(g, of_t[i], OAS_F32), NULL, share));
    return total;
}

void oas_perceptual_terms(graph *g, const objective *o, const pass *p, tensor *y, tensor *truth, loss_terms *t)
{
    static const char *const names[OAS_JUDGES] = {"features", "lpips", "dists"};
    const oasis_train_options *w = o->options;
    const double weight[OAS_JUDGES] = {w->features, w->lpips, w->dists};
    if (!y || !truth)
        return;
    tensor *seen = NULL, *known = NULL;
    for (int i = 0; i < OAS_JUDGES; i++) {
        if (weight[i] <= 0)
            continue;
        if (!seen) {
            seen = glimpse_of(g, w, p, y);
            known = glimpse_of(g, w, p, truth);
        }
        oas_add_term(g, t, names[i], oas_judge(g, &o->perceptual.judge[i].judge, seen, known, (float)weight[i]));
    }
    if (w->encoder_features > 0)
        oas_add_term(g, t, "encoder-features", encoder_loss(g, o, p, y, truth));
}
