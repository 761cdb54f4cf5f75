/* Opening a model, and its forward functions. */
#include "model.h"

#include "tensor/pack.h"

#include <string.h>

enum { BLOCK_CHANNELS = 3 * OAS_LATENT_FRAMES * OAS_LATENT_PIXELS * OAS_LATENT_PIXELS };

tensor *oas_project(graph *g, const oasis_model *model, tensor *pixels, bool start)
{
    const block_factor cell = {OAS_LATENT_FRAMES, OAS_LATENT_PIXELS, OAS_LATENT_PIXELS};
    int front = start ? OAS_LATENT_FRAMES - 1 : 0;
    tensor *blocks = oas_space_to_depth(g, pixels, cell, OAS_CHANNEL_SLOW, front, g->compute);
    return oas_linear(g, blocks, &model->projection, OAS_LINEAR, NULL, OAS_F32);
}

tensor *oas_restore(graph *g, const oasis_model *model, tensor *c)
{
    tensor *z_low = oas_channels(g, c, 0, model->dit.config.latent_channels, OAS_F32);
    tensor *velocity = oas_dit(g, &model->dit, c);
    return oas_axpy(g, z_low, -(float)model->file.config.sigma, velocity);
}

tensor *oas_decode(graph *g, const oasis_model *model, decoder_state *state, tensor *z, tensor *pixels)
{
    return model->decoder.kind->decode(g, model->decoder.net, state, oas_change_latents(g, model, z), pixels);
}

tensor *oas_decode_begin(graph *g, const oasis_model *model, decoder_state *state, tensor *z)
{
    const decoder *d = &model->decoder;
    z = oas_change_latents(g, model, z);
    tensor *x = d->kind->begin ? d->kind->begin(g, d->net, state, z) : z;
    if (x)
        state->started = true;
    return x;
}

tensor *oas_decode_tile(graph *g, const oasis_model *model, decoder_state *state, tensor *x, tensor *pixels)
{
    const decoder *d = &model->decoder;
    return (d->kind->begin ? d->kind->rest : d->kind->decode)(g, d->net, state, x, pixels);
}

/* What the weights say about time and text, which must be what the configuration says. */
static oasis_status detect_text(dit_config *d, const model_config *c, parameter_set *p, oasis_message *message)
{
    static const model_text kinds[] = {[OAS_PROMPT_NONE] = OAS_TEXT_NONE,
                                       [OAS_PROMPT_CONSTANT] = OAS_TEXT_CONSTANT,
                                       [OAS_PROMPT_STORED] = OAS_TEXT_PROMPT,
                                       [OAS_PROMPT_CONTEXT] = OAS_TEXT_PROMPT};
    oas_dit_detect(d, p);
    if (p->create && c->text == OAS_TEXT_CONSTANT)
        d->text.kind = OAS_PROMPT_CONSTANT;
    model_text found = kinds[d->text.kind];
    if (found == c->text)
        return OASIS_OK;
    return oas_fail(message, OASIS_E_MODEL, "%s: the configuration says text \"%s\", the weights are of \"%s\"", p->path,
                    oas_model_text_name(c->text), oas_model_text_name(found));
}

oasis_status oas_model_bind(oasis_model *model, oasis_message *message)
{
    const model_config *c = &model->file.config;
    parameter_set *p = &model->parameters;
    dit_config transformer = {.in_dim = c->in_dim,
                              .latent_channels = c->latent_channels,
                              .dim = c->dim,
                              .ffn_dim = c->ffn_dim,
                              .heads = c->num_heads,
                              .layers = c->num_layers,
                              .eps = (float)c->eps,
                              .rope_theta = (float)c->rope_theta,
                              .timestep = c->timestep};
    OAS_TRY(detect_text(&transformer, c, p, message));
    model->projection.weight = oas_parameter(p, OAS_MATRIX, OAS_SHAPE2(c->in_dim, BLOCK_CHANNELS), "lq_proj.weight");
    model->projection.bias = oas_parameter(p, OAS_VECTOR, OAS_SHAPE1(c->in_dim), "lq_proj.bias");
    oas_dit_bind(&model->dit, &transformer, model->file.routing.layer, p);
    return oas_decoder_bind(&model->decoder, c, p, message);
}

/* The file's tensors as parameters: views where the type can be used, floats otherwise. */
static oasis_status add_tensors(oasis_model *model, oasis_message *message)
{
    const weight_file *w = model->file.weights;
    parameter_set *p = &model->parameters;
    for (size_t i = 0; i < oas_weight_file_count(w); i++) {
        const stored *t = oas_weight_file_at(w, i);
        shape s = {.rank = t->rank};
        if (t->rank > OAS_MAX_RANK || t->rank < 1 || strlen(t->name) >= OAS_PARAMETER_NAME)
            return oas_fail(message, OASIS_E_MODEL, "%s: the tensor '%.200s' has %d sizes; a model's have 1 to %d",
                            p->path, t->name, t->rank, OAS_MAX_RANK);
        for (int k = 0; k < t->rank; k++)
            s.size[k] = t->size[k];
        bool blocks = t->dtype == OAS_STORED_Q8_0;
        bool direct = (t->dtype == OAS_STORED_F32 || t->dtype == OAS_STORED_BF16 || blocks) && oas_stored_aligned(t);
        oas_dtype type = !direct ? OAS_F32 : blocks ? OAS_Q8_0 : t->dtype == OAS_STORED_BF16 ? OAS_BF16 : OAS_F32;
        tensor *made = oas_parameters_add(p, t->name, type, s, direct ? t->data : NULL);
        if (!made)
            return oas_fail(message, p->status, "%s", p->message.text);
        made->mapped = direct;
        if (!direct)
            oas_stored_floats(t, 0, oas_count(&s), made->data);
    }
    return OASIS_OK;
}

static oasis_status load(oasis_model *model, const char *path, oasis_message *message)
{
    OAS_TRY(oas_model_file_open(&model->file, path, message));
    model->parameters.path = oas_weight_file_path(model->file.weights);
    OAS_TRY(add_tensors(model, message));
    OAS_TRY(oas_model_bind(model, message));
    const char *unused = oas_parameters_unused(&model->parameters);
    if (unused)
        return oas_fail(message, OASIS_E_MODEL, "%s: the tensor '%s' belongs to no part of the model that its "
                        "configuration describes", path, unused);
    return OASIS_OK;
}

oasis_status oasis_model_open(oasis_model **out, const char *path, oasis_message *message)
{
    oasis_model *model = oas_alloc(1, sizeof *model);
    if (!model)
        return oas_fail_memory(message, sizeof *model, "a model");
    oasis_status s = load(model, path, message);
    if (s < 0) {
        oasis_model_close(&model);
        return s == OASIS_E_MEMORY ? s : OASIS_E_MODEL;
    }
    *out = model;
    return OASIS_OK;
}

void oasis_model_close(oasis_model **out)
{
    oasis_model *model = *out;
    if (!model)
        return;
    oas_model_free_decoder(model);
    oas_dit_free(&model->dit);
    oas_parameters_free(&model->parameters);
    oas_model_file_close(&model->file);
    oas_free(model);
    *out = NULL;
}

void oasis_model_describe(const oasis_model *model, oasis_model_info *info)
{
    const model_config *c = &model->file.config;
    *info = (oasis_model_info){.name = model->file.name,
                               .license = model->file.license,
                               .decoder = model->decoder.kind->name,
                               .routing = oas_weight_file_note(model->file.weights, "routing"),
                               .num_layers = c->num_layers,
                               .num_heads = c->num_heads,
                               .dim = c->dim,
                               .ffn_dim = c->ffn_dim,
                               .latent_channels = c->latent_channels,
                               .trained_frames = c->trained_window[0],
                               .trained_height = c->trained_window[1],
                               .trained_width = c->trained_window[2],
                               .sigma = (float)c->sigma};
    int64_t of_type[OAS_DTYPES + 1] = {0};
    for (int i = 0; i < model->parameters.count; i++) {
        const parameter *p = model->parameters.items[i];
        info->parameters += oas_count(&p->tensor.shape);
        info->weight_bytes += (int64_t)oas_bytes(&p->tensor);
        if (p->tensor.shape.rank == 2)
            of_type[p->tensor.dtype] += oas_count(&p->tensor.shape);
        if (strncmp(p->name, "decoder.", 8) == 0 || strncmp(p->name, "conv2.", 6) == 0)
            info->decoder_parameters += oas_count(&p->tensor.shape);
    }
    for (int i = 0; i < model->decoder_parameters.count; i++) {
        const tensor *t = &model->decoder_parameters.items[i]->tensor;
        info->parameters += oas_count(&t->shape);
        info->decoder_parameters += oas_count(&t->shape);
        info->weight_bytes += (int64_t)oas_bytes(t);
    }
    oas_dtype most = OAS_F32;
    for (oas_dtype t = OAS_F32; t <= OAS_Q8_0; t++)
        most = of_type[t] > of_type[most] ? t : most;
    info->weights = oas_dtype_name(most);
}
