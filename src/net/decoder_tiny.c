/*
 * The conditional tiny decoder: latents and the upscaled input in, frames out, with one frame of memory.
 *
 *     z    [.., h8, w8, 16]  conv_in, two Mem(cz)                     at the latent rate
 *          grow: one latent makes 4 frames; the first 3 of a shot are left out
 *     1/8  + skip8(pixels), Mem(c8)
 *     1/4  shuffle(up4) + skip4(pixels), Res(c4), Mem(c4)
 *     1/2  shuffle(up2) + skip2(pixels), Res(c2)
 *     1    shuffle(conv_out) + pixels
 *
 *     Res(x) = x + conv2(silu(conv1(x)));  Mem(x_t) = x_t + conv2(silu(conv1([x_t, x_(t-1)]))), x_(-1) = 0
 *
 * The last step is a pixel shuffle from 1/2, since a convolution to 3 channels at full resolution is slow.
 */
#include "net/decoder.h"
#include "net/residual.h"

typedef struct tiny {
    conv conv_in;
    residual mem_z[2];
    linear grow, skip8;
    residual mem8;
    linear up4;
    conv skip4;
    residual res4, mem4;
    linear up2;
    conv skip2;
    residual res2;
    conv conv_out;
} tiny;

enum { FRAMES_PER_LATENT = 4 };

static void *tiny_bind(const decoder_config *config, parameter_set *w)
{
    if (config->n_widths != 4) {
        w->status = oas_fail(&w->message, OASIS_E_MODEL, "%s: the tiny decoder has %d widths instead of 4", w->path,
                             config->n_widths);
        return NULL;
    }
    tiny *d = oas_alloc(1, sizeof *d);
    if (!d) {
        w->status = oas_fail_memory(&w->message, sizeof *d, "the decoder");
        return NULL;
    }
    int cz = config->widths[0], c8 = config->widths[1], c4 = config->widths[2], c2 = config->widths[3];
    d->conv_in = oas_bind_conv(w, cz, config->latent_channels, "decoder.conv_in");
    d->mem_z[0] = oas_bind_residual(w, cz, 2, "decoder.mem_z.0");
    d->mem_z[1] = oas_bind_residual(w, cz, 2, "decoder.mem_z.1");
    d->grow = oas_bind_1x1(w, FRAMES_PER_LATENT * c8, cz, "decoder.grow");
    d->skip8 = oas_bind_1x1(w, c8, 3 * 8 * 8, "decoder.skip8");
    d->mem8 = oas_bind_residual(w, c8, 2, "decoder.mem8");
    d->up4 = oas_bind_1x1(w, 4 * c4, c8, "decoder.up4");
    d->skip4 = oas_bind_conv(w, c4, 3 * 4 * 4, "decoder.skip4");
    d->res4 = oas_bind_residual(w, c4, 1, "decoder.res4");
    d->mem4 = oas_bind_residual(w, c4, 2, "decoder.mem4");
    d->up2 = oas_bind_1x1(w, 4 * c2, c4, "decoder.up2");
    d->skip2 = oas_bind_conv(w, c2, 3 * 2 * 2, "decoder.skip2");
    d->res2 = oas_bind_residual(w, c2, 1, "decoder.res2");
    d->conv_out = oas_bind_conv(w, 3 * 2 * 2, c2, "decoder.conv_out");
    if (w->status < 0) {
        oas_free(d);
        return NULL;
    }
    return d;
}

static tensor *tiny_decode(graph *g, const void *net, decoder_state *state, tensor *z, tensor *pixels)
{
    enum { MEMORY_Z0, MEMORY_Z1, MEMORY_8, MEMORY_4 };
    const tiny *d = net;
    bool first = !state || !state->started;
    tensor *x = oas_conv(g, oas_cast(g, z, g->compute), &d->conv_in, NULL, OAS_LINEAR, NULL);
    x = oas_state_residual(g, &d->mem_z[0], state, MEMORY_Z0, x);
    x = oas_state_residual(g, &d->mem_z[1], state, MEMORY_Z1, x);
    x = oas_linear(g, oas_activate(g, x, OAS_SILU), &d->grow, OAS_LINEAR, NULL, g->compute);
    x = oas_depth_to_space(g, x, (block_factor){FRAMES_PER_LATENT, 1, 1}, OAS_CHANNEL_FAST,
                           first ? FRAMES_PER_LATENT - 1 : 0, NULL, g->compute);
    x = oas_linear(g, oas_unshuffle(g, pixels, 8), &d->skip8, OAS_LINEAR, x, g->compute);
    x = oas_state_residual(g, &d->mem8, state, MEMORY_8, x);
    x = oas_conv(g, oas_unshuffle(g, pixels, 4), &d->skip4, NULL, OAS_LINEAR, oas_enlarge_twice(g, x, &d->up4));
    x = oas_residual(g, &d->res4, NULL, x);
    x = oas_state_residual(g, &d->mem4, state, MEMORY_4, x);
    x = oas_conv(g, oas_unshuffle(g, pixels, 2), &d->skip2, NULL, OAS_LINEAR, oas_enlarge_twice(g, x, &d->up2));
    x = oas_residual(g, &d->res2, NULL, x);
    x = oas_conv(g, x, &d->conv_out, NULL, OAS_LINEAR, NULL);
    if (state && g->status == OASIS_OK)
        state->started = true;
    return oas_depth_to_space(g, x, (block_factor){1, 2, 2}, OAS_CHANNEL_SLOW, 0, pixels, OAS_F32);
}

/* Receptive field in pixels: 5 latents (40), 2 at 1/8 (16), 4 at 1/4 (16), 3 at 1/2 (6): 78, so 10 latents. */
enum { TINY_HALO = 10 };

const decoder_kind oas_decoder_tiny_conditional = {
    .name = "tiny-conditional",
    .bind = tiny_bind,
    .free = oas_free,
    .decode = tiny_decode,
    .halo = TINY_HALO,
};
