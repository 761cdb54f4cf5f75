/* Finding a decoder in files of several kinds. */
#include "decoder_file.h"

#include "format/names.h"
#include "net/wan_vae.h"

#include <stdio.h>
#include <string.h>

/* ---- what kind of file it is ---------------------------------------------------------------------------------------------- */

/* The tensor of that name and rank, or NULL. */
static const stored *tensor_of(const weight_file *w, const char *name, int rank)
{
    const stored *t = oas_weight_file_find(w, name);
    return t && t->rank == rank ? t : NULL;
}

static int clamped(int64_t size)
{
    return size > 0 && size < 1 << 20 ? (int)size : 0;
}

/* The latents that Wan's autoencoder gives, normalised as published. */
static void wan_latents(model_config *c)
{
    c->latent_channels = OAS_WAN_LATENT;
    c->normalised = true;
    memcpy(c->latent_mean, oas_wan_latent_mean, sizeof oas_wan_latent_mean);
    memcpy(c->latent_std, oas_wan_latent_std, sizeof oas_wan_latent_std);
}

/* TAEHV's list of layers: 1 is the first convolution, 8, 14, 20 end the levels, 22 is the last one. */
static bool is_taehv(const weight_file *w, model_config *c)
{
    static const char *const layers[] = {"decoder.1.weight", "decoder.8.weight", "decoder.14.weight",
                                         "decoder.20.weight"};
    if (!tensor_of(w, "decoder.22.weight", 4))
        return false;
    wan_latents(c);
    c->decoder = OAS_DECODER_TAEHV;
    c->decoder_widths = 4;
    for (int i = 0; i < 4; i++) {
        const stored *t = tensor_of(w, layers[i], 4);
        if (!t)
            return false;
        c->decoder_channels[i] = clamped(t->size[0]);
        if (i == 0)
            c->latent_channels = clamped(t->size[1]);
    }
    c->normalised = c->latent_channels == OAS_WAN_LATENT;
    return true;
}

static bool is_wan(const weight_file *w, model_config *c)
{
    for (size_t i = 0; i < oas_weight_file_count(w); i++) {
        const stored *t = oas_weight_file_at(w, i);
        mapped_name name = oas_name_of_autoencoder(t->name);
        if (name.kind != OAS_NAME_TENSOR || strcmp(name.text, "decoder.head.0.gamma") != 0 || t->rank < 1)
            continue;
        wan_latents(c);
        c->decoder = OAS_DECODER_WAN_VAE;
        c->decoder_widths = 1;
        c->decoder_channels[0] = clamped(t->size[0]);
        return true;
    }
    return false;
}

static oasis_status read_config(decoder_file *d, const char *format, oasis_message *message)
{
    const char *path = oas_weight_file_path(d->file), *text = oas_weight_file_note(d->file, "config");
    bool model = strcmp(format, "oasis-1") == 0;
    char where[300];
    if (!model && strcmp(format, OAS_DECODER_FORMAT) != 0)
        return oas_fail(message, OASIS_E_UNSUPPORTED,
                        "%s: format \"%.40s\" has no decoder that can be taken; expected a model "
                        "(\"oasis-1\") or a decoder (\"%s\")",
                        path, format, OAS_DECODER_FORMAT);
    if (!text)
        return oas_fail(message, OASIS_E_FORMAT, "%s: metadata has no \"config\"", path);
    snprintf(where, sizeof where, "%.280s: config", path);
    OAS_TRY((model ? oas_model_config_read : oas_decoder_config_read)(&d->config, text, strlen(text), where, message));
    if (d->config.decoder == OAS_DECODER_NONE)
        return oas_fail(message, OASIS_E_FORMAT, "%s: is a model without a decoder", path);
    /* Of models that say nothing of their latents, Wan's decoder and TAEHV's know their own. */
    bool of_wan = d->config.decoder == OAS_DECODER_WAN_VAE || d->config.decoder == OAS_DECODER_TAEHV;
    if (!d->config.normalised && of_wan && d->config.latent_channels == OAS_WAN_LATENT)
        wan_latents(&d->config);
    d->alone = !model;
    return OASIS_OK;
}

static oasis_status find_kind(decoder_file *d, oasis_message *message)
{
    const char *format = oas_weight_file_note(d->file, "format");
    if (format && strncmp(format, "oasis-", 6) == 0)
        return read_config(d, format, message);
    d->alone = true;
    if (is_taehv(d->file, &d->config) || is_wan(d->file, &d->config))
        return OASIS_OK;
    return oas_fail(message, OASIS_E_FORMAT,
                    "%s: there is no decoder in it: expected a model or decoder of oasis, the "
                    "checkpoint of a Wan2.1 autoencoder, or one in TAEHV's layout",
                    oas_weight_file_path(d->file));
}

/* ---- its tensors ----------------------------------------------------------------------------------------------------------- */

/* The name by which the network asks for a tensor of the file; false where it is none of the decoder's. */
static bool network_name(const decoder_file *d, const char *name, bool ours, char to[OAS_PARAMETER_NAME])
{
    mapped_name mapped = {.kind = OAS_NAME_UNKNOWN};
    if (!ours && d->config.decoder == OAS_DECODER_WAN_VAE) {
        mapped = oas_name_of_autoencoder(name);
        if (mapped.kind != OAS_NAME_TENSOR)
            return false;
        name = mapped.text;
    }
    int n = snprintf(to, OAS_PARAMETER_NAME, "%s", name);
    bool fits = n > 0 && n < OAS_PARAMETER_NAME;
    return fits && (strncmp(name, "decoder.", 8) == 0 ||
                    (d->config.decoder == OAS_DECODER_WAN_VAE && strncmp(name, "conv2.", 6) == 0));
}

static oasis_status list_tensors(decoder_file *d, oasis_message *message)
{
    const char *format = oas_weight_file_note(d->file, "format");
    bool ours = format && strncmp(format, "oasis-", 6) == 0;
    size_t most = oas_weight_file_count(d->file);
    d->tensor = oas_alloc(most + 1, sizeof *d->tensor);
    if (!d->tensor)
        return oas_fail_memory(message, most * sizeof *d->tensor, "the list of a decoder's tensors");
    for (size_t i = 0; i < most; i++) {
        decoder_tensor *t = &d->tensor[d->count];
        t->from = oas_weight_file_at(d->file, i);
        d->count += network_name(d, t->from->name, ours, t->name);
    }
    for (int i = 0; i < d->count; i++) {
        const stored *t = d->tensor[i].from;
        if (t->dtype > OAS_STORED_F8_E5M2)
            return oas_fail(message, OASIS_E_FORMAT, "%s: the tensor %s holds %s, expected floats",
                            oas_weight_file_path(d->file), t->name, oas_stored_dtype_name(t->dtype));
        if (t->rank < 1 || t->rank > OAS_MAX_RANK)
            return oas_fail(message, OASIS_E_FORMAT, "%s: the tensor %s has %d sizes; a decoder's have 1 to %d",
                            oas_weight_file_path(d->file), t->name, t->rank, OAS_MAX_RANK);
    }
    return OASIS_OK;
}

oasis_status oas_decoder_file_open(decoder_file *d, const char *path, oasis_message *message)
{
    *d = (decoder_file){0};
    for (int i = 0; i < OAS_MODEL_MAX_LATENT; i++)
        d->config.latent_std[i] = 1;
    oasis_status s = oas_weight_file_open(&d->file, path, message);
    if (s == OASIS_OK)
        s = find_kind(d, message);
    if (s == OASIS_OK)
        s = list_tensors(d, message);
    if (s < 0) {
        oas_decoder_file_close(d);
        return s;
    }
    const char *name = oas_weight_file_note(d->file, "name"), *license = oas_weight_file_note(d->file, "license");
    d->name = name ? name : "";
    d->license = license ? license : "";
    return OASIS_OK;
}

void oas_decoder_file_close(decoder_file *d)
{
    oas_free(d->tensor);
    oas_weight_file_close(&d->file);
    *d = (decoder_file){0};
}

const stored *oas_decoder_file_find(const decoder_file *d, const char *name)
{
    for (int i = 0; i < d->count; i++)
        if (strcmp(d->tensor[i].name, name) == 0)
            return d->tensor[i].from;
    return NULL;
}
