/* The model that is trained: its architecture, and where its weights come from. */
#include "base/memory.h"
#include "format/weight_file.h"
#include "net/wan_vae.h"
#include "train/train.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FREQUENCIES = 256 }; /* of Wan's time embedding */

/* Configuration and routing of a file of ours: a model or a checkpoint. */
static oasis_status take_description(objective *o, const weight_file *w, oasis_message *message)
{
    const char *path = oas_weight_file_path(w), *config = oas_weight_file_note(w, "config");
    const char *routes = oas_weight_file_note(w, "routing");
    if (!config || !routes)
        return oas_fail(message, OASIS_E_MODEL, "%s: this is neither a model nor a checkpoint of oasis", path);
    OAS_TRY(oas_model_config_read(&o->model->file.config, config, strlen(config), path, message));
    return oas_routing_read(&o->model->file.routing, routes, strlen(routes), path, message);
}

/* An architecture from the options alone. */
oasis_status oas_train_describe(objective *o, oasis_message *message)
{
    const oasis_train_options *t = o->options;
    model_config *c = &o->model->file.config;
    *c = (model_config){
        .latent_channels = t->latent_channels, .in_dim = t->in_dim, .dim = t->dim, .ffn_dim = t->ffn_dim};
    c->num_heads = t->heads;
    c->num_layers = t->layers;
    c->eps = 1e-6;
    c->rope_theta = 10000;
    c->sigma = t->sigma;
    c->timestep = t->timestep;
    c->decoder = t->decoder_2 > 0 ? OAS_DECODER_TINY_CONDITIONAL : OAS_DECODER_QUARTER_CONDITIONAL;
    c->decoder_widths = t->decoder_2 > 0 ? 4 : 3;
    const int widths[4] = {t->decoder_latent, t->decoder_8, t->decoder_4, t->decoder_2};
    memcpy(c->decoder_channels, widths, sizeof widths);
    memcpy(c->patch_size, ((const int[3]){1, 2, 2}), sizeof c->patch_size);
    memcpy(c->unshuffle, ((const int[3]){4, 8, 8}), sizeof c->unshuffle);
    for (int i = 0; i < OAS_MODEL_MAX_LATENT; i++)
        c->latent_std[i] = 1;
    char text[OAS_MAX_HEADS + 64 * 1024];
    size_t used = (size_t)snprintf(text, sizeof text,
                                   "oasis-routing 1\nlayers %d heads %d\nwindow 3 5 5 border truncate\n"
                                   "mode fixed\n",
                                   t->layers, t->heads);
    size_t letters = t->route ? strlen(t->route) : 0;
    for (int l = 0; l < t->layers && letters > 0; l++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "route %d ", l);
        for (int h = 0; h < t->heads; h++)
            text[used++] = t->route[(size_t)h % letters];
        text[used++] = '\n';
        text[used] = 0;
    }
    if (t->dim % t->heads != 0 || t->dim / t->heads % 2 != 0 || t->in_dim < t->latent_channels)
        return oas_fail(
            message, OASIS_E_ARGUMENT,
            "dim %d and heads %d, in-dim %d and latent-channels %d do not fit: heads have an even width, and "
            "latents are among the projected channels",
            t->dim, t->heads, t->in_dim, t->latent_channels);
    return oas_routing_read(&o->model->file.routing, text, used, "the key 'route'", message);
}

/* The stored tensor of a parameter: plain in models, averaged or as it is in checkpoints. */
static const stored *find_weight(const weight_file *w, const char *name)
{
    static const char *const prefixes[] = {"", "average.", "weight."};
    char full[OAS_PARAMETER_NAME + 16];
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        snprintf(full, sizeof full, "%s%s", prefixes[i], name);
        const stored *s = oas_weight_file_find(w, full);
        if (s)
            return s;
    }
    return NULL;
}

/* Fills a parameter from a file; false where the file has none of that name. */
static oasis_status take_weight(parameter *p, const weight_file *w, bool *found, oasis_message *message)
{
    const stored *s = w ? find_weight(w, p->name) : NULL;
    *found = s != NULL;
    if (!s)
        return OASIS_OK;
    bool same = s->rank == p->tensor.shape.rank;
    for (int i = 0; same && i < s->rank; i++)
        same = s->size[i] == p->tensor.shape.size[i];
    if (!same)
        return oas_fail(message, OASIS_E_MODEL, "%s: '%s' is %s, this run's is %s", oas_weight_file_path(w), p->name,
                        oas_stored_shape(s->rank, s->size).text, oas_shape_text(&p->tensor.shape).text);
    oas_stored_floats(s, 0, oas_stored_count(s), p->tensor.data);
    return OASIS_OK;
}

/* A decoder trained on plain latents z is to take normalised ones, z = n deviation + mean: into its first layer. */
static void take_in_scale(objective *o)
{
    const tensor *w = oas_parameters_find(&o->model->parameters, "decoder.conv_in.weight");
    const tensor *b = oas_parameters_find(&o->model->parameters, "decoder.conv_in.bias");
    int64_t out = w->shape.size[0], in = w->shape.size[1], taps = oas_count(&w->shape) / (out * in);
    for (int64_t i = 0; i < out * in * taps; i++) {
        float *value = (float *)w->data + i;
        ((float *)b->data)[i / (in * taps)] += *value * o->scale.mean[i / taps % in];
        *value *= o->scale.deviation[i / taps % in];
    }
}

static void take_scale(objective *o, const model_config *c)
{
    for (int i = 0; i < OAS_MODEL_MAX_LATENT; i++) {
        o->scale.mean[i] = c->latent_mean[i];
        o->scale.deviation[i] = c->latent_std[i] > 0 ? c->latent_std[i] : 1;
    }
}

static oasis_status fill(objective *o, const weight_file *init, const weight_file *coder, oasis_message *message)
{
    parameter_set *set = &o->model->parameters;
    bool decoder_from_coder = false;
    for (int i = 0; i < set->count; i++) {
        parameter *p = set->items[i];
        bool found;
        OAS_TRY(take_weight(p, init, &found, message));
        bool from_coder = !found && (strncmp(p->name, "encoder.", 8) == 0 || strncmp(p->name, "decoder.", 8) == 0);
        if (from_coder)
            OAS_TRY(take_weight(p, coder, &found, message));
        decoder_from_coder =
            decoder_from_coder || (from_coder && found && strcmp(p->name, "decoder.conv_in.weight") == 0);
        if (!found)
            oas_weights_draw(&p->tensor, p->name, o->options->seed);
    }
    if (decoder_from_coder)
        take_in_scale(o);
    return OASIS_OK;
}

/* A plan does without files that are not there yet. */
static bool is_awaited(const objective *o, const char *path)
{
    return o->shapes_only && access(path, F_OK) != 0;
}

static oasis_status make(objective *o, const weight_file *init, const weight_file *coder, oasis_message *message)
{
    const oasis_train_options *t = o->options;
    parameter_set *set = &o->model->parameters;
    OAS_TRY(init ? take_description(o, init, message) : oas_train_describe(o, message));
    if (t->routing && !is_awaited(o, t->routing)) {
        model_file *m = &o->model->file;
        oas_routing_free(&m->routing);
        OAS_TRY(oas_routing_open(&m->routing, t->routing, m->config.num_layers, m->config.num_heads, message));
    }
    take_scale(o, &o->model->file.config);
    if (coder) {
        model_config c;
        const char *text = oas_weight_file_note(coder, "config");
        if (!text)
            return oas_fail(message, OASIS_E_MODEL, "%s: this is no checkpoint of oasis", oas_weight_file_path(coder));
        OAS_TRY(oas_model_config_read(&c, text, strlen(text), oas_weight_file_path(coder), message));
        take_scale(o, &c);
        memcpy(o->model->file.config.latent_mean, c.latent_mean, sizeof c.latent_mean);
        memcpy(o->model->file.config.latent_std, c.latent_std, sizeof c.latent_std);
        o->model->file.config.normalised = c.normalised;
    }
    set->create = true;
    set->shapes_only = o->shapes_only;
    set->path = t->init ? t->init : "the new model";
    const stored *first = init ? find_weight(init, "time_embedding.0.weight") : NULL;
    if (first || t->time_embedding || t->stage == OASIS_STAGE_DIFFUSION)
        oas_parameters_add(set, "time_embedding.0.weight", OAS_F32,
                           OAS_SHAPE2(o->model->file.config.dim, first ? first->size[1] : FREQUENCIES), NULL);
    OAS_TRY(oas_model_bind(o->model, message));
    if (t->teacher && o->model->file.config.latent_channels != OAS_WAN_LATENT)
        return oas_fail(message, OASIS_E_ARGUMENT, "the teacher's latents have %d channels, the model's %d",
                        OAS_WAN_LATENT, o->model->file.config.latent_channels);
    if (t->teacher)
        OAS_TRY(oas_teacher_open(&o->teacher, t->teacher, false, message));
    o->has_encoder = t->stage != OASIS_STAGE_ONE_STEP || (t->latent > 0 && !t->teacher) || t->encoder_features > 0;
    if (o->has_encoder && t->stage != OASIS_STAGE_AUTOENCODER && !t->encoder)
        return oas_fail(message, OASIS_E_ARGUMENT,
                        "latent targets and encoder-features need an 'encoder': the checkpoint of an autoencoder");
    if (o->has_encoder)
        oas_encoder_bind(&o->encoder, o->model->file.config.latent_channels, set);
    if (set->status < 0)
        return oas_fail(message, set->status, "%s", set->message.text);
    return o->shapes_only ? OASIS_OK : fill(o, init, coder, message);
}

oasis_status oas_train_model(objective *o, oasis_message *message)
{
    weight_file *init = NULL, *coder = NULL;
    o->model = oas_alloc(1, sizeof *o->model);
    if (!o->model)
        return oas_fail_memory(message, sizeof *o->model, "a model");
    if (o->options->stage == OASIS_STAGE_DECODER)
        return oas_distil_model(o, message);
    oasis_status s = OASIS_OK;
    if (o->options->init && !is_awaited(o, o->options->init))
        s = oas_weight_file_open(&init, o->options->init, message);
    if (s == OASIS_OK && o->options->encoder && !is_awaited(o, o->options->encoder))
        s = oas_weight_file_open(&coder, o->options->encoder, message);
    if (s == OASIS_OK)
        s = make(o, init, coder, message);
    oas_weight_file_close(&coder);
    oas_weight_file_close(&init);
    return s;
}
