/*
 * The quarter decoder: latents and the upscaled input in, frames out, with one frame of memory, no layer above 1/4.
 *
 *     z    [.., h8, w8, 16]  conv_in, two Mem(cz)                     at the latent rate
 *          grow: one latent makes 4 frames; the first 3 of a shot are left out
 *     1/8  + skip8(pixels), two Mem(c8)
 *     1/4  shuffle(up4) + skip4(pixels), Res(c4), Mem(c4)
 *     1    shuffle(conv_out) + pixels
 *
 * Res and Mem are those of net/residual.h.  The input was enlarged, most often 4 times, so that 1/4 holds all it knows;
 * what is saved above pays for wider layers, which processors multiply faster than thin ones.
 */
#include "net/decoder.h"
#include "net/residual.h"

typedef struct quarter {
    conv conv_in;
    residual mem_z[2];
    linear grow, skip8;
    residual mem8[2];
    linear up4;
    conv skip4;
    residual res4, mem4;
    conv conv_out;
} quarter;

enum { FRAMES_PER_LATENT = 4, OUT_CHANNELS = 3 * 4 * 4 };

static void *quarter_bind(const decoder_config *config, parameter_set *w)
{
    if (config->n_widths != 3) {
        w->status = oas_fail(&w->message, OASIS_E_MODEL, "%s: the quarter decoder has %d widths instead of 3", w->path,
                             config->n_widths);
        return NULL;
    }
    quarter *d = oas_alloc(1, sizeof *d);
    if (!d) {
        w->status = oas_fail_memory(&w->message, sizeof *d, "the decoder");
        return NULL;
    }
    int cz = config->widths[0], c8 = config->widths[1], c4 = config->widths[2];
    d->conv_in = oas_bind_conv(w, cz, config->latent_channels, "decoder.conv_in");
    d->mem_z[0] = oas_bind_residual(w, cz, 2, "decoder.mem_z.0");
    d->mem_z[1] = oas_bind_residual(w, cz, 2, "decoder.mem_z.1");
    d->grow = oas_bind_1x1(w, FRAMES_PER_LATENT * c8, cz, "decoder.grow");
    d->skip8 = oas_bind_1x1(w, c8, 3 * 8 * 8, "decoder.skip8");
    d->mem8[0] = oas_bind_residual(w, c8, 2, "decoder.mem8.0");
    d->mem8[1] = oas_bind_residual(w, c8, 2, "decoder.mem8.1");
    d->up4 = oas_bind_1x1(w, 4 * c4, c8, "decoder.up4");
    d->skip4 = oas_bind_conv(w, c4, 3 * 4 * 4, "decoder.skip4");
    d->res4 = oas_bind_residual(w, c4, 1, "decoder.res4");
    d->mem4 = oas_bind_residual(w, c4, 2, "decoder.mem4");
    d->conv_out = oas_bind_conv(w, OUT_CHANNELS, c4, "decoder.conv_out");
    if (w->status < 0) {
        oas_free(d);
        return NULL;
    }
    return d;
}

static tensor *quarter_decode(graph *g, const void *net, decoder_state *state, tensor *z, tensor *pixels)
{
    enum { MEMORY_Z0, MEMORY_Z1, MEMORY_8_0, MEMORY_8_1, MEMORY_4 };
    const quarter *d = net;
    bool first = !state || !state->started;
    tensor *x = oas_conv(g, oas_cast(g, z, g->compute), &d->conv_in, NULL, OAS_LINEAR, NULL);
    x = oas_state_residual(g, &d->mem_z[0], state, MEMORY_Z0, x);
    x = oas_state_residual(g, &d->mem_z[1], state, MEMORY_Z1, x);
    x = oas_linear(g, oas_activate(g, x, OAS_SILU), &d->grow, OAS_LINEAR, NULL, g->compute);
    x = oas_depth_to_space(g, x, (block_factor){FRAMES_PER_LATENT, 1, 1}, OAS_CHANNEL_FAST,
                           first ? FRAMES_PER_LATENT - 1 : 0, NULL, g->compute);
    x = oas_linear(g, oas_unshuffle(g, pixels, 8), &d->skip8, OAS_LINEAR, x, g->compute);
    x = oas_state_residual(g, &d->mem8[0], state, MEMORY_8_0, x);
    x = oas_state_residual(g, &d->mem8[1], state, MEMORY_8_1, x);
    x = oas_conv(g, oas_unshuffle(g, pixels, 4), &d->skip4, NULL, OAS_LINEAR, oas_enlarge_twice(g, x, &d->up4));
    x = oas_residual(g, &d->res4, NULL, x);
    x = oas_state_residual(g, &d->mem4, state, MEMORY_4, x);
    x = oas_conv(g, x, &d->conv_out, NULL, OAS_LINEAR, NULL);
    if (state && g->status == OASIS_OK)
        state->started = true;
    return oas_depth_to_space(g, x, (block_factor){1, 4, 4}, OAS_CHANNEL_SLOW, 0, pixels, OAS_F32);
}

/* Receptive field in pixels: 5 latents (40), 4 at 1/8 (32), 5 at 1/4 (20): 92, so 12 latents. */
enum { QUARTER_HALO = 12 };

const decoder_kind oas_decoder_quarter_conditional = {
    .name = "quarter-conditional",
    .bind = quarter_bind,
    .free = oas_free,
    .decode = quarter_decode,
    .halo = QUARTER_HALO,
};
