/*
 * lq_proj by least squares: the linear map from blocks of pixels to latents that comes nearest to the encoder's, over
 * clips of good pictures.
 *
 *     u [769]  a block's 768 values in [-1,1], and 1          A += u u^T,  B += u y^T
 *     y [16]   what the encoder makes of the clip there       W = (A + lambda I)^-1 B,  lambda = 1e-3 trace(A) / 769
 *
 * Source: doc/formulas.md, "The projection's beginning".
 */
#include "convert.h"
#include "cpu/device.h"
#include "net/wan_vae.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    INPUTS = 3 * OAS_LATENT_FRAMES * OAS_LATENT_PIXELS * OAS_LATENT_PIXELS + 1, /* and the 1 */
    OUTPUTS = OAS_WAN_LATENT,
    MOST_SIDE = 256 /* pixels of a clip that are used, from its middle */
};

static const double RIDGE = 1e-3;

typedef struct fit {
    conversion *c;
    device *device;
    graph g;
    parameter_set weights;
    wan_encoder *encoder;
    decoder_state state;
    double *a, *b;            /* [INPUTS][INPUTS], lower half; [INPUTS][OUTPUTS] */
    double sum[OUTPUTS], square[OUTPUTS];
    int64_t positions;
} fit;

/* ---- sums ---------------------------------------------------------------------------------------------------------------- */

/* Adds the positions of one latent: pixels [1,t,H,W,3] and what the encoder gives, [1,1,H/8,W/8,16]. */
static bool add_latent(fit *f, tensor *pixels, const tensor *latent, bool start)
{
    const block_factor cell = {OAS_LATENT_FRAMES, OAS_LATENT_PIXELS, OAS_LATENT_PIXELS};
    tensor *blocks = oas_space_to_depth(&f->g, pixels, cell, OAS_CHANNEL_SLOW, start ? OAS_LATENT_FRAMES - 1 : 0, OAS_F32);
    if (!blocks || !latent)
        return false;
    int64_t n = oas_count(&latent->shape) / OUTPUTS;
    const float *x = blocks->data, *y = latent->data;
    for (int64_t p = 0; p < n; p++, x += INPUTS - 1, y += OUTPUTS) {
        for (int i = 0; i < INPUTS; i++) {
            double u = i < INPUTS - 1 ? (double)x[i] : 1;
            double *row = f->a + (size_t)i * INPUTS;
            for (int k = 0; k < i; k++)
                row[k] += u * (double)x[k];
            row[i] += u * u;
            for (int o = 0; o < OUTPUTS; o++)
                f->b[i * OUTPUTS + o] += u * (double)y[o];
        }
        for (int o = 0; o < OUTPUTS; o++) {
            f->sum[o] += (double)y[o];
            f->square[o] += (double)y[o] * (double)y[o];
        }
    }
    f->positions += n;
    return true;
}

/* The middle of some frames as [1,n,height,width,3] in [-1,1]. */
static tensor *middle(graph *g, const oasis_frame *frame, int n, int height, int width)
{
    tensor *t = oas_tensor(g, OAS_F32, OAS_SHAPE5(1, n, height, width, 3));
    for (int i = 0; t && i < n; i++) {
        int top = (frame[i].height - height) / 2, left = (frame[i].width - width) / 2;
        for (int y = 0; y < height; y++) {
            const float *from = frame[i].rgb + ((size_t)(top + y) * (size_t)frame[i].width + (size_t)left) * 3;
            float *to = (float *)t->data + ((size_t)i * (size_t)height + (size_t)y) * (size_t)width * 3;
            for (int k = 0; k < width * 3; k++)
                to[k] = 2 * from[k] - 1;
        }
    }
    return t;
}

static int used_side(int side)
{
    return side > MOST_SIDE ? MOST_SIDE : side / OAS_PIXEL_STEP * OAS_PIXEL_STEP;
}

/* A clip of 1 + 4n frames, a latent at a time. */
static oasis_status add_clip(fit *f, const oasis_frame *frame, int frames)
{
    int height = used_side(frame[0].height), width = used_side(frame[0].width);
    oas_state_restart(&f->state);
    for (int at = 0; at < frames; at += at == 0 ? 1 : OAS_LATENT_FRAMES) {
        int n = at == 0 ? 1 : OAS_LATENT_FRAMES;
        oas_graph_reset(&f->g);
        tensor *pixels = middle(&f->g, frame + at, n, height, width);
        if (!add_latent(f, pixels, oas_wan_encode(&f->g, f->encoder, &f->state, pixels), at == 0))
            return oas_fail(f->c->message, f->g.status, "%s", f->g.message.text);
    }
    return OASIS_OK;
}

/* ---- the solution ---------------------------------------------------------------------------------------------------------- */

/* A = L L^T in place of the lower half; false when A is not positive. */
static bool factor(double *a, int n)
{
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            double sum = a[(size_t)i * (size_t)n + (size_t)j];
            for (int k = 0; k < j; k++)
                sum -= a[(size_t)i * (size_t)n + (size_t)k] * a[(size_t)j * (size_t)n + (size_t)k];
            if (i == j && !(sum > 0))
                return false;
            a[(size_t)i * (size_t)n + (size_t)j] = i == j ? sqrt(sum) : sum / a[(size_t)j * (size_t)n + (size_t)j];
        }
    }
    return true;
}

/* Solves L L^T x = b for one column of b, in place. */
static void solve(const double *l, int n, double *b, int stride)
{
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++)
            b[i * stride] -= l[(size_t)i * (size_t)n + (size_t)k] * b[k * stride];
        b[i * stride] /= l[(size_t)i * (size_t)n + (size_t)i];
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++)
            b[i * stride] -= l[(size_t)k * (size_t)n + (size_t)i] * b[k * stride];
        b[i * stride] /= l[(size_t)i * (size_t)n + (size_t)i];
    }
}

/* Writes W and the share of the variance of every channel that it explains (with the ridge: at least so much). */
static oasis_status finish(fit *f, float *weight, float *bias)
{
    double trace = 0, first[INPUTS * OUTPUTS];
    memcpy(first, f->b, sizeof first);
    for (int i = 0; i < INPUTS; i++)
        trace += f->a[(size_t)i * INPUTS + (size_t)i];
    for (int i = 0; i < INPUTS; i++)
        f->a[(size_t)i * INPUTS + (size_t)i] += RIDGE * trace / INPUTS;
    if (f->positions == 0 || !factor(f->a, INPUTS))
        return oas_fail(f->c->message, OASIS_E_ARGUMENT, "the clips do not determine a projection: are they all black?");
    for (int o = 0; o < OUTPUTS; o++) {
        double explained = 0, n = (double)f->positions;
        solve(f->a, INPUTS, f->b + o, OUTPUTS);
        for (int i = 0; i < INPUTS - 1; i++)
            weight[o * (INPUTS - 1) + i] = (float)f->b[i * OUTPUTS + o];
        bias[o] = (float)f->b[(INPUTS - 1) * OUTPUTS + o];
        for (int i = 0; i < INPUTS; i++)
            explained += f->b[i * OUTPUTS + o] * first[i * OUTPUTS + o];
        double variance = f->square[o] - f->sum[o] * f->sum[o] / n;
        f->c->explained[o] = variance > 0 ? (explained - f->sum[o] * f->sum[o] / n) / variance : 0;
    }
    return OASIS_OK;
}

/* ---- the encoder ------------------------------------------------------------------------------------------------------------ */

static oasis_status load_encoder(fit *f)
{
    const checkpoint *vae = &f->c->autoencoder;
    f->weights.path = f->c->options->autoencoder;
    for (int i = 0; i < vae->network.count; i++) {
        const parameter *p = vae->network.items[i];
        if (strncmp(p->name, "encoder.", 8) != 0 && strncmp(p->name, "conv1.", 6) != 0)
            continue;
        tensor *t = oas_parameters_add(&f->weights, p->name, OAS_F32, p->tensor.shape, NULL);
        if (t)
            oas_stored_floats(vae->found[i], 0, oas_count(&t->shape), t->data);
    }
    f->encoder = oas_wan_encoder_bind(f->c->base, NULL, NULL, &f->weights);
    return f->encoder ? OASIS_OK : oas_fail(f->c->message, f->weights.status, "%s", f->weights.message.text);
}

/* The arena that four frames of the largest size take. */
static oasis_status make_arena(fit *f)
{
    graph plan = f->g;
    decoder_state state = {.started = true};
    plan.planning = true;
    oas_arena_count(&plan.memory);
    if (!oas_arena_new(&plan.headers, 1 << 20))
        return oas_fail_memory(f->c->message, 1 << 20, "a plan");
    const block_factor cell = {OAS_LATENT_FRAMES, OAS_LATENT_PIXELS, OAS_LATENT_PIXELS};
    tensor *pixels = oas_tensor(&plan, OAS_F32, OAS_SHAPE5(1, OAS_LATENT_FRAMES, MOST_SIDE, MOST_SIDE, 3));
    oas_wan_encode(&plan, f->encoder, &state, pixels);
    oas_space_to_depth(&plan, pixels, cell, OAS_CHANNEL_SLOW, 0, OAS_F32);
    oas_state_free(&state);
    oas_arena_free(&plan.headers);
    if (plan.status < 0)
        return oas_fail(f->c->message, plan.status, "%s", plan.message.text);
    return oas_arena_new(&f->g.memory, plan.memory.peak) ? OASIS_OK
                                                         : oas_fail_memory(f->c->message, plan.memory.peak, "the encoder");
}

static oasis_status take_clips(fit *f)
{
    const oasis_convert_options *o = f->c->options;
    for (int clip = 0;; clip++) {
        oasis_frame frame[OASIS_CLIP_FRAMES] = {{0}};
        int n = 0;
        oasis_status s = o->clip(o->user, clip, frame, &n, f->c->message);
        bool small = s == OASIS_OK && n > 0 && (used_side(frame[0].width) < 1 || used_side(frame[0].height) < 1);
        if (small)
            s = oas_fail(f->c->message, OASIS_E_ARGUMENT, "clip %d is %dx%d pixels; at least %dx%d are needed", clip,
                         frame[0].width, frame[0].height, OAS_PIXEL_STEP, OAS_PIXEL_STEP);
        if (s == OASIS_OK && n > 0)
            s = add_clip(f, frame, (n - 1) / OAS_LATENT_FRAMES * OAS_LATENT_FRAMES + 1);
        for (int i = 0; i < OASIS_CLIP_FRAMES; i++)
            oasis_frame_free(&frame[i]);
        if (s < 0 || n == 0)
            return s;
    }
}

static oasis_status run(fit *f, float *weight, float *bias)
{
    oasis_message *message = f->c->message;
    OAS_TRY(oas_device_new(&f->device, 0, message));
    f->g = (graph){.device = f->device, .backend = OAS_CPU, .compute = oas_device_has_bf16(f->device) ? OAS_BF16 : OAS_F32};
    f->a = oas_alloc((size_t)INPUTS * INPUTS, sizeof *f->a);
    f->b = oas_alloc((size_t)INPUTS * OUTPUTS, sizeof *f->b);
    if (!f->a || !f->b)
        return oas_fail_memory(message, (size_t)INPUTS * INPUTS * sizeof *f->a, "the sums over clips");
    OAS_TRY(load_encoder(f));
    OAS_TRY(make_arena(f));
    OAS_TRY(take_clips(f));
    return finish(f, weight, bias);
}

oasis_status oas_convert_fit(conversion *c, float *weight, float *bias)
{
    fit f = {.c = c};
    oasis_status s = run(&f, weight, bias);
    if (f.encoder)
        oas_wan_encoder_free(&f.encoder);
    oas_state_free(&f.state);
    oas_parameters_free(&f.weights);
    oas_arena_free(&f.g.memory);
    oas_device_free(&f.device);
    oas_free(f.a);
    oas_free(f.b);
    return s;
}
