/* Golden files of Wan's networks: the autoencoder, whole or streamed. */
#include "golden/wan.h"

#include "net/wan_vae.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool refuse(wan_run *run, const char *text)
{
    snprintf(run->message, sizeof run->message, "%s", text);
    return false;
}

/* One of the two networks, on some of the frames of its input. */
typedef struct half {
    const wan_encoder *encoder;
    const decoder *decoder;
} half;

static tensor *apply(graph *g, const half *h, decoder_state *state, tensor *x)
{
    return h->encoder ? oas_wan_encode(g, h->encoder, state, x) : h->decoder->kind->decode(g, h->decoder->net, state, x, NULL);
}

/* The whole in one call, or the first frame and then `step` frames at a time, the results put together. */
static tensor *run_half(graph *g, const half *h, tensor *x, int64_t step, bool whole)
{
    if (whole || !x)
        return apply(g, h, NULL, x);
    decoder_state state = {0};
    tensor *all = NULL;
    for (int64_t at = 0; at < x->shape.size[1] && g->status == OASIS_OK;) {
        int64_t count = at == 0 ? 1 : step;
        tensor *part = apply(g, h, &state, oas_frames(g, x, at, count));
        all = all && part ? oas_join_frames(g, all, part) : part;
        at += count;
    }
    oas_state_free(&state);
    return all;
}

bool wan_golden_vae(const weight_file *file, graph *g, parameter_set *weights, wan_run *run)
{
    const char *base = oas_weight_file_note(file, "base_dim");
    decoder_config config = {.latent_channels = OAS_WAN_LATENT, .widths = {base ? atoi(base) : OAS_WAN_BASE}, .n_widths = 1};
    decoder d = {.kind = oas_decoder_find("wan-vae")};
    wan_encoder *e = NULL;
    bool ok = d.kind && config.widths[0] > 0 && config.widths[0] <= 256;
    if (ok)
        d.net = d.kind->bind(&config, weights);
    if (d.net)
        e = oas_wan_encoder_bind(config.widths[0], NULL, NULL, weights);
    if (!e)
        ok = refuse(run, ok ? weights->message.text : "base_dim is not a width");
    if (e && oas_parameters_unused(weights))
        ok = refuse(run, oas_parameters_unused(weights));
    if (ok) {
        half encoding = {.encoder = e}, decoding = {.decoder = &d};
        const tensor *encoded = run_half(g, &encoding, wan_channels_last(g, file, "test.video"), 4, run->whole);
        wan_compare(file, "test.encoded", encoded, true, run);
        const tensor *decoded = run_half(g, &decoding, wan_channels_last(g, file, "test.latent"), 1, run->whole);
        wan_compare(file, "test.decoded_unclamped", decoded, true, run);
    }
    if (g->status < 0)
        ok = refuse(run, g->message.text);
    if (e)
        oas_wan_encoder_free(&e);
    if (d.net)
        d.kind->free(d.net);
    return ok;
}
