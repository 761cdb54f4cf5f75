/*
 * Training a small decoder against Wan2.1's video autoencoder, which stays as it is: its encoder gives the latents, and its
 * decoder, where asked for, a share of the pictures that are aimed at.  What is trained is a decoder and nothing else; what
 * is written fits every model of these latents.
 */
#include "base/memory.h"
#include "convert.h"
#include "format/safetensors.h"
#include "train/train.h"

#include <string.h>

struct teacher {
    checkpoint file;
    parameter_set weights; /* views of the file where that is possible */
    wan_encoder *encoder;
    decoder decoder; /* net NULL where only latents are wanted */
};

/* ---- the teacher ----------------------------------------------------------------------------------------------------- */

/* The checkpoint's tensors under the network's names and shapes. */
static oasis_status take_weights(teacher *t, const char *path, oasis_message *message)
{
    t->weights.path = path;
    for (int i = 0; i < t->file.network.count; i++) {
        const parameter *p = t->file.network.items[i];
        const stored *s = t->file.found[i];
        bool direct = (s->dtype == OAS_STORED_F32 || s->dtype == OAS_STORED_BF16) && oas_stored_aligned(s);
        tensor *made =
            oas_parameters_add(&t->weights, p->name, direct && s->dtype == OAS_STORED_BF16 ? OAS_BF16 : OAS_F32,
                               p->tensor.shape, direct ? s->data : NULL);
        if (!made)
            return oas_fail(message, t->weights.status, "%s", t->weights.message.text);
        made->mapped = direct;
        if (!direct)
            oas_stored_floats(s, 0, oas_count(&p->tensor.shape), made->data);
    }
    return OASIS_OK;
}

static oasis_status open_teacher(teacher *t, const char *path, bool pictures, oasis_message *message)
{
    model_config c = {.latent_channels = OAS_WAN_LATENT, .decoder = OAS_DECODER_WAN_VAE, .decoder_widths = 1};
    int base;
    OAS_TRY(oas_checkpoint_autoencoder(&t->file, &base, path, message));
    OAS_TRY(take_weights(t, path, message));
    t->encoder = oas_wan_encoder_bind(base, NULL, NULL, &t->weights);
    if (!t->encoder)
        return oas_fail(message, t->weights.status, "%s", t->weights.message.text);
    c.decoder_channels[0] = base;
    return pictures ? oas_decoder_bind(&t->decoder, &c, &t->weights, message) : OASIS_OK;
}

oasis_status oas_teacher_open(teacher **out, const char *path, bool pictures, oasis_message *message)
{
    teacher *t = oas_alloc(1, sizeof *t);
    if (!t)
        return oas_fail_memory(message, sizeof *t, "a teacher");
    oasis_status s = open_teacher(t, path, pictures, message);
    if (s < 0)
        oas_teacher_free(&t);
    *out = t;
    return s == OASIS_E_FORMAT ? OASIS_E_MODEL : s;
}

void oas_teacher_free(teacher **out)
{
    teacher *t = *out;
    if (!t)
        return;
    if (t->decoder.net)
        t->decoder.kind->free(t->decoder.net);
    oas_wan_encoder_free(&t->encoder);
    oas_parameters_free(&t->weights);
    oas_checkpoint_close(&t->file);
    oas_free(t);
    *out = NULL;
}

size_t oas_teacher_bytes(const teacher *t, oas_dtype compute)
{
    size_t bytes = 0;
    for (int i = 0; t && i < t->weights.count; i++)
        bytes += t->weights.items[i]->used
                     ? (size_t)oas_count(&t->weights.items[i]->tensor.shape) * oas_dtype_size(compute)
                     : 0;
    return bytes;
}

tensor *oas_teacher_latents(graph *g, const teacher *t, tensor *truth)
{
    if (!truth)
        return NULL;
    size_t mark = oas_graph_mark(g);
    bool recording = g->recording;
    g->recording = false;
    tensor *z = oas_graph_sink(g, oas_wan_encode(g, t->encoder, NULL, truth), mark);
    g->recording = recording;
    return z;
}

tensor *oas_teacher_target(graph *g, const teacher *t, tensor *z, tensor *truth, float share)
{
    if (!z || !truth || !t->decoder.net || share <= 0)
        return truth;
    size_t mark = oas_graph_mark(g);
    bool recording = g->recording;
    g->recording = false;
    tensor *difference = oas_axpy(g, t->decoder.kind->decode(g, t->decoder.net, NULL, z, NULL), -1, truth);
    tensor *target = oas_graph_sink(g, oas_axpy(g, truth, share, difference), mark); /* truth's storage, then its own */
    g->recording = recording;
    return target;
}

/* ---- the decoder -------------------------------------------------------------------------------------------------------- */

/* From the file of `init` where there is one, else at random. */
static oasis_status fill(objective *o, const decoder_file *init, oasis_message *message)
{
    parameter_set *set = &o->model->parameters;
    for (int i = 0; i < set->count && !set->shapes_only; i++) {
        parameter *p = set->items[i];
        const stored *s = init ? oas_decoder_file_find(init, p->name) : NULL;
        bool same = s && s->rank == p->tensor.shape.rank;
        for (int k = 0; same && k < s->rank; k++)
            same = s->size[k] == p->tensor.shape.size[k];
        if (init && !same)
            return oas_fail(
                message, OASIS_E_MODEL, "%s: '%s' is %s, this run's is %s", oas_weight_file_path(init->file), p->name,
                s ? oas_stored_shape(s->rank, s->size).text : "missing", oas_shape_text(&p->tensor.shape).text);
        if (s)
            oas_stored_floats(s, 0, oas_stored_count(s), p->tensor.data);
        else
            oas_weights_draw(&p->tensor, p->name, o->options->seed);
    }
    return OASIS_OK;
}

static oasis_status make(objective *o, const decoder_file *init, oasis_message *message)
{
    const oasis_train_options *t = o->options;
    model_config *c = &o->model->file.config;
    if (!t->teacher)
        return oas_fail(message, OASIS_E_ARGUMENT,
                        "the stage 'decoder' needs a 'teacher': a checkpoint of Wan2.1's autoencoder");
    OAS_TRY(oas_teacher_open(&o->teacher, t->teacher, t->teacher_share > 0, message));
    OAS_TRY(oas_train_describe(o, message));
    if (init) {
        c->decoder = init->config.decoder;
        c->decoder_widths = init->config.decoder_widths;
        memcpy(c->decoder_channels, init->config.decoder_channels, sizeof c->decoder_channels);
    }
    if (t->latent_channels != OAS_WAN_LATENT || (init && init->config.latent_channels != OAS_WAN_LATENT))
        return oas_fail(message, OASIS_E_ARGUMENT, "the teacher's latents have %d channels, the decoder's %d",
                        OAS_WAN_LATENT, init ? init->config.latent_channels : t->latent_channels);
    c->normalised = true;
    memcpy(c->latent_mean, oas_wan_latent_mean, sizeof oas_wan_latent_mean);
    memcpy(c->latent_std, oas_wan_latent_std, sizeof oas_wan_latent_std);
    o->model->parameters.create = true;
    o->model->parameters.shapes_only = o->shapes_only;
    o->model->parameters.path = t->init ? t->init : "the new decoder";
    OAS_TRY(oas_decoder_bind(&o->model->decoder, c, &o->model->parameters, message));
    return fill(o, init, message);
}

oasis_status oas_distil_model(objective *o, oasis_message *message)
{
    decoder_file init = {.file = NULL};
    const char *path = o->options->init;
    if (path)
        OAS_TRY(oas_decoder_file_open(&init, path, message));
    oasis_status s = make(o, path ? &init : NULL, message);
    oas_decoder_file_close(&init);
    return s;
}

/* ---- the file ------------------------------------------------------------------------------------------------------------ */

/* The weights in bf16, one after the other. */
static void fill_entries(const parameter_set *set, uint16_t *to, stored *entry)
{
    for (int i = 0; i < set->count; i++) {
        const parameter *p = set->items[i];
        int64_t n = oas_count(&p->tensor.shape);
        entry[i] = (stored){.name = p->name, .dtype = OAS_STORED_BF16, .rank = p->tensor.shape.rank, .data = to};
        memcpy(entry[i].size, p->tensor.shape.size, (size_t)entry[i].rank * sizeof *entry[i].size);
        oas_convert(to, OAS_BF16, p->tensor.data, p->tensor.dtype, n);
        to += n;
    }
}

oasis_status oas_decoder_export(const char *path, const objective *o, weights *w, oasis_message *message)
{
    const parameter_set *set = &o->model->parameters;
    const oasis_train_options *t = o->options;
    size_t all = 0;
    for (int i = 0; i < set->count; i++)
        all += (size_t)oas_count(&set->items[i]->tensor.shape);
    uint16_t *values = oas_alloc(all, sizeof *values);
    stored *entry = oas_alloc((size_t)set->count, sizeof *entry);
    char *config = oas_decoder_config_text(&o->model->file.config);
    oasis_status s = OASIS_OK;
    if (!values || !entry || !config) {
        s = oas_fail_memory(message, all * sizeof *values, "the decoder to write");
    } else {
        const stored_note notes[] = {{"format", OAS_DECODER_FORMAT},
                                     {"name", t->name ? t->name : ""},
                                     {"license", t->license ? t->license : ""},
                                     {"config", config},
                                     {"sha256", ""}};
        oas_weights_use_average(w, true);
        fill_entries(set, values, entry);
        oas_weights_use_average(w, false);
        safetensors_file file = {
            .entry = entry, .count = (size_t)set->count, .note = notes, .notes = sizeof notes / sizeof *notes};
        s = oas_safetensors_write(path, &file, message);
    }
    oas_free(config);
    oas_free(entry);
    oas_free(values);
    return s;
}
