/*
 * A model with the decoder of another file.  Between the two stands a change of normalisation: the transformer's latents
 * are (z - m) / s, the decoder's (z - m') / s', so that each channel is multiplied by s / s' and shifted by (m - m') / s'.
 */
#include "model.h"

#include "tensor/pack.h"

#include <string.h>

struct latent_change {
    linear layer;
    tensor weight, bias;
    float matrix[OAS_MODEL_MAX_LATENT * OAS_MODEL_MAX_LATENT], shift[OAS_MODEL_MAX_LATENT];
};

tensor *oas_change_latents(graph *g, const oasis_model *model, tensor *z)
{
    return model->change ? oas_linear(g, z, &model->change->layer, OAS_LINEAR, NULL, OAS_F32) : z;
}

/* NULL where both say the same, or one says nothing. */
static oasis_status make_change(struct latent_change **out, const model_config *from, const model_config *to,
                                oasis_message *message)
{
    int n = from->latent_channels;
    *out = NULL;
    if (!from->normalised || !to->normalised ||
        (memcmp(from->latent_mean, to->latent_mean, (size_t)n * sizeof(float)) == 0 &&
         memcmp(from->latent_std, to->latent_std, (size_t)n * sizeof(float)) == 0))
        return OASIS_OK;
    struct latent_change *c = oas_alloc(1, sizeof *c);
    if (!c)
        return oas_fail_memory(message, sizeof *c, "the change of latents");
    for (int i = 0; i < n; i++) {
        c->matrix[i * n + i] = from->latent_std[i] / to->latent_std[i];
        c->shift[i] = (from->latent_mean[i] - to->latent_mean[i]) / to->latent_std[i];
    }
    c->weight = (tensor){.shape = OAS_SHAPE2(n, n), .data = c->matrix};
    c->bias = (tensor){.shape = OAS_SHAPE1(n), .data = c->shift};
    c->layer = (linear){&c->weight, &c->bias};
    *out = c;
    return OASIS_OK;
}

oasis_status oas_parameters_of_decoder(parameter_set *p, const decoder_file *d, oasis_message *message)
{
    p->path = oas_weight_file_path(d->file);
    for (int i = 0; i < d->count; i++) {
        const stored *t = d->tensor[i].from;
        shape s = {.rank = t->rank};
        memcpy(s.size, t->size, (size_t)t->rank * sizeof *s.size);
        bool direct = (t->dtype == OAS_STORED_F32 || t->dtype == OAS_STORED_BF16) && oas_stored_aligned(t);
        tensor *made =
            oas_parameters_add(p, d->tensor[i].name, direct && t->dtype == OAS_STORED_BF16 ? OAS_BF16 : OAS_F32, s,
                               direct ? t->data : NULL);
        if (!made)
            return oas_fail(message, p->status, "%s", p->message.text);
        made->mapped = direct;
        if (!direct)
            oas_stored_floats(t, 0, oas_count(&s), made->data);
    }
    return OASIS_OK;
}

oasis_status oas_decoder_bind(decoder *d, const model_config *c, parameter_set *p, oasis_message *message)
{
    decoder_config frames = {.latent_channels = c->latent_channels, .n_widths = c->decoder_widths};
    const char *name = oas_model_decoder_name(c->decoder);
    if (c->normalised) {
        frames.latent_mean = c->latent_mean;
        frames.latent_std = c->latent_std;
    }
    for (int i = 0; i < c->decoder_widths && i < OAS_MAX_DECODER_WIDTHS; i++)
        frames.widths[i] = c->decoder_channels[i];
    d->kind = oas_decoder_find(name);
    if (!d->kind)
        return oas_fail(message, OASIS_E_MODEL, "%s: unknown decoder '%s'; this program has %s", p->path, name,
                        oas_decoder_names());
    d->net = d->kind->bind(&frames, p);
    return p->status < 0 ? oas_fail(message, p->status, "%s", p->message.text) : OASIS_OK;
}

/* Everything new, none of it in the model yet. */
typedef struct replacement {
    decoder_file file;
    parameter_set parameters;
    decoder decoder;
    struct latent_change *change;
} replacement;

static oasis_status load(replacement *r, const oasis_model *model, const char *path, oasis_message *message)
{
    const model_config *c = &model->file.config;
    OAS_TRY(oas_decoder_file_open(&r->file, path, message));
    const model_config *d = &r->file.config;
    if (d->latent_channels != c->latent_channels)
        return oas_fail(message, OASIS_E_MODEL,
                        "%s: its decoder (%s) takes latents of %d channels, those of the model '%s' have "
                        "%d; give a decoder that was made for the same latents",
                        path, oas_model_decoder_name(d->decoder), d->latent_channels, model->file.name,
                        c->latent_channels);
    OAS_TRY(oas_parameters_of_decoder(&r->parameters, &r->file, message));
    OAS_TRY(oas_decoder_bind(&r->decoder, d, &r->parameters, message));
    const char *unused = oas_parameters_unused(&r->parameters);
    if (unused)
        return oas_fail(message, OASIS_E_MODEL, "%s: the tensor '%s' belongs to no part of its decoder (%s)", path,
                        unused, oas_model_decoder_name(d->decoder));
    return make_change(&r->change, c, d, message);
}

static void unload(replacement *r)
{
    if (r->decoder.net)
        r->decoder.kind->free(r->decoder.net);
    oas_parameters_free(&r->parameters);
    oas_decoder_file_close(&r->file);
    oas_free(r->change);
}

oasis_status oasis_model_set_decoder(oasis_model *model, const char *path, oasis_message *message)
{
    replacement r = {.decoder = {NULL, NULL}};
    oasis_status s = load(&r, model, path, message);
    if (s < 0) {
        unload(&r);
        return s == OASIS_E_MEMORY ? s : OASIS_E_MODEL;
    }
    replacement old = {model->decoder_file, model->decoder_parameters, model->decoder, model->change};
    model->decoder_file = r.file;
    model->decoder_parameters = r.parameters;
    model->decoder = r.decoder;
    model->change = r.change;
    unload(&old);
    oas_parameters_remove(&model->parameters, "decoder.");
    oas_parameters_remove(&model->parameters, "conv2.");
    return OASIS_OK;
}

void oas_model_free_decoder(oasis_model *model)
{
    replacement r = {model->decoder_file, model->decoder_parameters, model->decoder, model->change};
    unload(&r);
}

/* ---- what it is, and what it takes ----------------------------------------------------------------------------------------- */

oasis_status oasis_decoder_describe(const char *path, oasis_decoder_info *info, oasis_message *message)
{
    decoder_file d;
    oasis_status s = oas_decoder_file_open(&d, path, message);
    if (s < 0)
        return s == OASIS_E_MEMORY || s == OASIS_E_IO ? s : OASIS_E_MODEL;
    *info = (oasis_decoder_info){
        .latent_channels = d.config.latent_channels, .alone = d.alone, .normalised = d.config.normalised};
    strncpy(info->name, d.name, sizeof info->name - 1);
    strncpy(info->license, d.license, sizeof info->license - 1);
    strncpy(info->kind, oas_model_decoder_name(d.config.decoder), sizeof info->kind - 1);
    for (int i = 0; i < d.count; i++) {
        info->parameters += oas_stored_count(d.tensor[i].from);
        info->bytes += (int64_t)d.tensor[i].from->bytes;
    }
    oas_decoder_file_close(&d);
    return OASIS_OK;
}

static size_t prepared_bytes(const parameter_set *p, oas_dtype compute, bool packs)
{
    size_t bytes = 0;
    for (int i = 0; i < p->count; i++) {
        const tensor *t = &p->items[i]->tensor;
        bool prepared = packs && t->shape.rank > 1 && t->dtype != OAS_Q8_0;
        if (prepared)
            bytes += (size_t)oas_count(&t->shape) * oas_dtype_size(compute) * 33 / 32; /* layouts pad channels */
        if (!prepared || !t->mapped) /* the file's own pages are dropped once they are packed */
            bytes += oas_bytes(t);
    }
    return bytes;
}

size_t oas_model_prepared_bytes(const oasis_model *model, oas_dtype compute, bool packs)
{
    return prepared_bytes(&model->parameters, compute, packs) +
           prepared_bytes(&model->decoder_parameters, compute, packs);
}

size_t oas_model_packed_bytes(const oasis_model *model)
{
    return oas_parameters_packed_bytes(&model->parameters) + oas_parameters_packed_bytes(&model->decoder_parameters);
}
