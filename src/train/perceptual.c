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
enum { MOST_SHIFT = 16, ENCODER_SHIFT = OAS_LATENT_PIXELS, MOST_FRAMES = 64 };

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

/* A part of pictures: frames, and where a rectangle begins. */
typedef struct glimpse {
    int frames, frame[MOST_FRAMES];
    int top, left, height, width;
} glimpse;

/* A rectangle that is smaller than the clip, at any of `down` times `across` places. */
static glimpse draw_place(const oasis_train_options *o, oas_rng *rng, int down, int across)
{
    glimpse s = {.top = oas_rng_below(rng, down), .left = oas_rng_below(rng, across)};
    s.height = o->height - down;
    s.width = o->width - across;
    return s;
}

/* Small clips cannot give much away. */
static int least_of(int a, int b)
{
    return a < b ? a : b;
}

/* That part of x. */
static tensor *glimpse_of(graph *g, const glimpse *s, tensor *x)
{
    tensor *seen = s->frames == 0 ? x : NULL;
    for (int i = 0; i < s->frames; i++) {
        tensor *frame = oas_frames(g, x, s->frame[i], 1);
        seen = seen ? oas_join_frames(g, seen, frame) : frame;
    }
    return oas_crop(g, seen, s->top, s->left, s->height, s->width);
}

/* As many frames as the option says, one from each of as many stretches of the clip. */
static glimpse draw_glimpse(const oasis_train_options *o, oas_rng *rng)
{
    glimpse s = draw_place(o, rng, least_of(MOST_SHIFT, o->height / 4), least_of(MOST_SHIFT, o->width / 4));
    int n = o->perceptual_frames;
    if (n == 0 || n >= o->frames)
        return s;
    s.frames = n < MOST_FRAMES ? n : MOST_FRAMES;
    for (int i = 0; i < s.frames; i++) {
        int begin = i * o->frames / s.frames, end = (i + 1) * o->frames / s.frames;
        s.frame[i] = begin + oas_rng_below(rng, end - begin);
    }
    return s;
}

/* ---- losses ---------------------------------------------------------------------------------------------------------- */

static tensor *encoder_loss(graph *g, const objective *o, oas_rng *rng, tensor *y, tensor *truth)
{
    const glimpse s = draw_place(o->options, rng, ENCODER_SHIFT, ENCODER_SHIFT);
    tensor *of_y[OAS_ENCODER_TAPS], *of_t[OAS_ENCODER_TAPS], *total;
    tensor *t = oas_encode_features(g, &o->encoder, glimpse_of(g, &s, truth), of_t);
    tensor *z = oas_encode_features(g, &o->encoder, glimpse_of(g, &s, y), of_y);
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
    oas_rng rng = oas_rng_at((uint64_t)w->seed, OAS_STREAM_PERCEPTUAL, p->number, 0);
    const glimpse s = draw_glimpse(w, &rng);
    tensor *seen = NULL, *known = NULL;
    for (int i = 0; i < OAS_JUDGES; i++) {
        if (weight[i] <= 0)
            continue;
        if (!seen) {
            seen = glimpse_of(g, &s, y);
            known = glimpse_of(g, &s, truth);
        }
        oas_add_term(g, t, names[i], oas_judge(g, &o->perceptual.judge[i].judge, seen, known, (float)weight[i]));
    }
    if (w->encoder_features > 0)
        oas_add_term(g, t, "encoder-features", encoder_loss(g, o, &rng, y, truth));
}
