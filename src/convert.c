/*
 * The converter: checkpoints in, one model file out.
 *
 *     sizes and accounting     every tensor of the checkpoints has its place (convert_checkpoint.c)
 *     the file's own list      the model's networks, bound to shapes, say which tensors the file must have
 *     values                   from a checkpoint, computed, or random (convert_values.c)
 *     writing                  a piece of a tensor at a time
 */
#include "convert.h"

#include "base/json.h"
#include "format/safetensors.h"
#include "net/wan_vae.h"
#include "tensor/q8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NOTES = 12, TIME_FREQUENCIES = 256, RANDOM_TEXT_WIDTH = 4096 };

#define FIELD(f) offsetof(oasis_convert_options, f)

static const oasis_option rows[] = {
    {"transformer", 0, "dit", OASIS_OPTION_TEXT, FIELD(transformer), 0, 0, NULL, "FILE", NULL,
     "checkpoint of a Wan2.1 text-to-video transformer: safetensors, its index, .pth or GGUF", "Input"},
    {"autoencoder", 0, "vae", OASIS_OPTION_TEXT, FIELD(autoencoder), 0, 0, NULL, "FILE", NULL,
     "checkpoint of the Wan2.1 video autoencoder, whose decoder is taken", "Input"},
    {"decoder", 0, NULL, OASIS_OPTION_TEXT, FIELD(decoder), 0, 0, NULL, "FILE", NULL,
     "take the decoder of this file instead: one that training wrote, TAEHV's, or another model's", "Input"},
    {"prompt", 0, NULL, OASIS_OPTION_TEXT, FIELD(prompt), 0, 0, NULL, "FILE", NULL,
     "embedding of a fixed prompt, one tensor of as many rows as it has words; without it there is none", "Input"},
    {"random", 0, NULL, OASIS_OPTION_TEXT, FIELD(random), 0, 0, NULL, "SIZE", NULL,
     "random weights of the size wan2.1-1.3b or wan2.1-14b in place of checkpoints, to measure with", "Input"},
    {"seed", 0, NULL, OASIS_OPTION_INT64, FIELD(seed), 0, 0, NULL, "N", "1", "of random weights", "Input"},
    {"layers", 0, NULL, OASIS_OPTION_INT, FIELD(layers), 0, OAS_ROUTING_MAX_LAYERS, NULL, "N", "0",
     "with --random: so many blocks, to try things; 0 = the size's own number", "Input"},
    {"routing", 0, NULL, OASIS_OPTION_TEXT, FIELD(routing), 0, 0, NULL, "FILE", NULL,
     "which heads see what, as 'oasis profile --routing' writes it", "Model"},
    {"heads", 0, NULL, OASIS_OPTION_TEXT, FIELD(heads), 0, 0, NULL, "G,I,W", NULL,
     "without --routing: global, own-frame and window heads of every layer; all global when left out", "Model"},
    {"dtype", 0, NULL, OASIS_OPTION_CHOICE, FIELD(dtype), 0, 0, "bf16|fp32|q8_0", "TYPE", "bf16",
     "number format of the matrices in the file", "Model"},
    {"num-heads", 0, NULL, OASIS_OPTION_INT, FIELD(num_heads), 0, OAS_MAX_HEADS, NULL, "N", "0",
     "attention heads of the transformer; 0 = one for 128 channels", "Model"},
    {"timestep", 0, NULL, OASIS_OPTION_NUMBER, FIELD(timestep), 0, 1000, NULL, "T", "400",
     "timestep of the one step; sigma is a thousandth of it", "Model"},
    {"name", 0, NULL, OASIS_OPTION_TEXT, FIELD(name), 0, 0, NULL, "NAME", NULL, "name of the model", "Model"},
    {"license", 0, NULL, OASIS_OPTION_TEXT, FIELD(license), 0, 0, NULL, "TEXT", NULL, "licence of the weights", "Model"},
    {.name = NULL},
};

void oasis_convert_options_init(oasis_convert_options *options)
{
    *options = (oasis_convert_options){.size = sizeof *options, .seed = 1, .timestep = 400};
}

const oasis_option *oasis_convert_option_rows(void)
{
    return rows;
}

/* ---- what is to be written ----------------------------------------------------------------------------------------------- */

static oasis_status read_checkpoints(conversion *c)
{
    const oasis_convert_options *o = c->options;
    if (o->random) {
        bool small = strcmp(o->random, "wan2.1-1.3b") == 0;
        if (!small && strcmp(o->random, "wan2.1-14b") != 0)
            return oas_fail(c->message, OASIS_E_ARGUMENT, "--random %s: the sizes are wan2.1-1.3b and wan2.1-14b", o->random);
        c->dit = (dit_config){.in_dim = OAS_WAN_LATENT, .latent_channels = OAS_WAN_LATENT, .dim = small ? 1536 : 5120,
                              .ffn_dim = small ? 8960 : 13824, .heads = small ? 12 : 40, .layers = small ? 30 : 40,
                              .eps = 1e-6f, .rope_theta = 10000, .frequencies = TIME_FREQUENCIES,
                              .text = {OAS_PROMPT_CONSTANT, 0, RANDOM_TEXT_WIDTH}};
        if (o->layers > 0)
            c->dit.layers = o->layers;
        c->base = OAS_WAN_BASE;
        return OASIS_OK;
    }
    if (o->layers > 0)
        return oas_fail(c->message, OASIS_E_ARGUMENT, "--layers goes with --random, not with a checkpoint");
    if (!o->transformer)
        return oas_fail(c->message, OASIS_E_ARGUMENT, "which checkpoint? give --transformer FILE, or --random SIZE");
    OAS_TRY(oas_checkpoint_transformer(&c->transformer, &c->dit, o->transformer, o->num_heads, c->message));
    if (o->autoencoder)
        OAS_TRY(oas_checkpoint_autoencoder(&c->autoencoder, &c->base, o->autoencoder, c->message));
    return OASIS_OK;
}

/* Opens the file of another decoder, which must be for the same latents as they are. */
static oasis_status read_decoder(conversion *c)
{
    const char *path = c->options->decoder;
    if (!path)
        return OASIS_OK;
    OAS_TRY(oas_decoder_file_open(&c->decoder, path, c->message));
    const model_config *d = &c->decoder.config;
    if (d->latent_channels != c->dit.latent_channels)
        return oas_fail(c->message, OASIS_E_FORMAT, "%s: its decoder takes latents of %d channels, the transformer's have %d", path,
                        d->latent_channels, c->dit.latent_channels);
    bool wan = d->latent_channels == OAS_WAN_LATENT;
    if (wan && d->normalised && (memcmp(d->latent_mean, oas_wan_latent_mean, sizeof oas_wan_latent_mean) != 0 ||
                                 memcmp(d->latent_std, oas_wan_latent_std, sizeof oas_wan_latent_std) != 0))
        return oas_fail(c->message, OASIS_E_FORMAT, "%s: its decoder normalises latents otherwise than Wan2.1; give it to "
                        "upscale as --decoder, which changes them", path);
    return OASIS_OK;
}

/* All of its tensors must be wanted, and be of the shapes that are. */
static oasis_status account_for_decoder(const conversion *c)
{
    for (int i = 0; i < c->decoder.count; i++) {
        const decoder_tensor *d = &c->decoder.tensor[i];
        const parameter *p = NULL;
        for (int k = 0; k < c->model.parameters.count && !p; k++)
            if (strcmp(c->model.parameters.items[k]->name, d->name) == 0)
                p = c->model.parameters.items[k];
        bool same = p && d->from->rank == p->tensor.shape.rank;
        for (int k = 0; same && k < d->from->rank; k++)
            same = d->from->size[k] == p->tensor.shape.size[k];
        if (!same)
            return oas_fail(c->message, OASIS_E_FORMAT, "%s: the tensor %s %s is %s", c->options->decoder, d->from->name,
                            oas_stored_shape(d->from->rank, d->from->size).text,
                            p ? "of another shape than its decoder wants" : "left over");
    }
    return OASIS_OK;
}

/* Opens the prompt, and sets the number of rows that keys are kept of. */
static oasis_status read_prompt(conversion *c)
{
    enum { LENGTH = 512 };
    const char *path = c->options->prompt;
    if (!path)
        return OASIS_OK;
    if (c->options->random)
        return oas_fail(c->message, OASIS_E_ARGUMENT, "--prompt goes with a checkpoint, not with --random");
    OAS_TRY(oas_weight_file_open(&c->prompt.file, path, c->message));
    const stored *t = oas_weight_file_at(c->prompt.file, 0);
    if (oas_weight_file_count(c->prompt.file) != 1 || t->rank != 2 || t->size[0] < 1 || t->size[0] > LENGTH ||
        t->size[1] != c->dit.text.width)
        return oas_fail(c->message, OASIS_E_FORMAT, "%s: expected one tensor of 1 to %d rows of %d values, the embedding of a "
                        "prompt without its padding", path, LENGTH, c->dit.text.width);
    c->dit.text.rows = (int)t->size[0] + (t->size[0] < LENGTH);
    return OASIS_OK;
}

static void configure(conversion *c)
{
    model_config *m = &c->config;
    *m = (model_config){.latent_channels = c->dit.latent_channels,
                        .in_dim = c->dit.in_dim,
                        .dim = c->dit.dim,
                        .num_heads = c->dit.heads,
                        .num_layers = c->dit.layers,
                        .ffn_dim = c->dit.ffn_dim,
                        .patch_size = {1, 2, 2},
                        .unshuffle = {OAS_LATENT_FRAMES, OAS_LATENT_PIXELS, OAS_LATENT_PIXELS},
                        .eps = 1e-6, /* of c->dit, as a double */
                        .rope_theta = 10000,
                        .timestep = c->options->timestep,
                        .sigma = c->options->timestep / 1000,
                        .text = c->options->prompt ? OAS_TEXT_PROMPT : OAS_TEXT_CONSTANT,
                        .decoder = c->base ? OAS_DECODER_WAN_VAE : OAS_DECODER_NONE,
                        .decoder_channels = {c->base},
                        .decoder_widths = c->base ? 1 : 0,
                        .trained_window = {17, 720, 1280}, /* what it is meant for */
                        .normalised = c->dit.latent_channels == OAS_WAN_LATENT};
    if (c->decoder.file) {
        m->decoder = c->decoder.config.decoder;
        m->decoder_widths = c->decoder.config.decoder_widths;
        memcpy(m->decoder_channels, c->decoder.config.decoder_channels, sizeof m->decoder_channels);
    }
    for (int i = 0; i < OAS_WAN_LATENT && m->normalised; i++) {
        m->latent_mean[i] = oas_wan_latent_mean[i];
        m->latent_std[i] = oas_wan_latent_std[i];
    }
}

/* "4,4,4", or all global. */
static oasis_status make_routing(conversion *c)
{
    const char *heads = c->options->heads;
    int n[3] = {c->dit.heads, 0, 0}, used = 0;
    if (heads && (sscanf(heads, "%d,%d,%d%n", &n[0], &n[1], &n[2], &used) != 3 || heads[used] || n[0] < 0 || n[1] < 0 ||
                  n[2] < 0 || (int64_t)n[0] + n[1] + n[2] != c->dit.heads))
        return oas_fail(c->message, OASIS_E_ARGUMENT, "--heads %s: expected three numbers such as 4,4,4, of %d heads in all",
                        heads, c->dit.heads);
    routing *r = &c->routing;
    *r = (routing){.layers = c->dit.layers, .heads = c->dit.heads, .window = {3, 5, 5}, .timestep = c->options->timestep};
    r->layer = oas_alloc((size_t)r->layers, sizeof *r->layer);
    if (!r->layer)
        return oas_fail_memory(c->message, (size_t)r->layers * sizeof *r->layer, "a routing");
    for (int i = 0; i < r->layers; i++) {
        r->layer[i] = (route_layer){.heads = r->heads, .window = {3, 5, 5}};
        for (int h = 0; h < r->heads; h++)
            r->layer[i].kind[h] = h < n[0] ? OAS_HEAD_GLOBAL : h < n[0] + n[1] ? OAS_HEAD_INTRA : OAS_HEAD_WINDOW;
    }
    return OASIS_OK;
}

static oasis_status read_routing(conversion *c)
{
    const char *path = c->options->routing;
    return path ? oas_routing_open(&c->routing, path, c->dit.layers, c->dit.heads, c->message) : make_routing(c);
}

/* Binds the model that will read the file, to shapes; what it asks for is what the file must have. */
static oasis_status list_tensors(conversion *c)
{
    parameter_set *p = &c->model.parameters;
    *p = (parameter_set){.create = true, .shapes_only = true, .path = "the model"};
    c->model.file.config = c->config;
    c->model.file.routing = c->routing;
    /* By these the model knows what kinds of time and text it has. */
    oas_parameters_add(p, "time_embedding.0.weight", OAS_F32, OAS_SHAPE2(c->dit.dim, c->dit.frequencies), NULL);
    if (c->config.text == OAS_TEXT_CONSTANT)
        oas_parameters_add(p, "blocks.0.cross_const", OAS_F32, OAS_SHAPE1(c->dit.dim), NULL);
    else
        oas_parameters_add(p, "blocks.0.cross_attn.stored_k", OAS_F32, OAS_SHAPE2(c->dit.text.rows, c->dit.dim), NULL);
    OAS_TRY(oas_model_bind(&c->model, c->message));
    c->item = oas_alloc((size_t)p->count, sizeof *c->item);
    c->entry = oas_alloc((size_t)p->count, sizeof *c->entry);
    if (!c->item || !c->entry)
        return oas_fail_memory(c->message, (size_t)p->count * sizeof *c->entry, "the list of tensors");
    return OASIS_OK;
}

/* Matrices of the blocks and of the decoder shrink; what is small or sensitive does not. */
static bool is_matrix(const parameter *p)
{
    size_t n = strlen(p->name);
    return p->tensor.shape.rank >= 2 && n > 7 && strcmp(p->name + n - 7, ".weight") == 0 && !strstr(p->name, "norm") &&
           strncmp(p->name, "time_", 5) != 0 && strncmp(p->name, "head.", 5) != 0 && strncmp(p->name, "lq_proj", 7) != 0;
}

static void fill_entries(conversion *c)
{
    stored_dtype matrices = c->options->dtype == OASIS_WEIGHTS_FP32 ? OAS_STORED_F32 : OAS_STORED_BF16;
    for (int i = 0; i < c->model.parameters.count; i++) {
        const parameter *p = c->model.parameters.items[i];
        stored *e = &c->entry[i];
        *e = (stored){.name = p->name, .dtype = is_matrix(p) ? matrices : OAS_STORED_F32, .rank = p->tensor.shape.rank};
        if (c->options->dtype == OASIS_WEIGHTS_Q8_0 && is_matrix(p) && e->rank == 2 &&
            oas_last(&p->tensor, 0) % OAS_Q8_BLOCK == 0)
            e->dtype = OAS_STORED_Q8_0;
        for (int k = 0; k < OAS_STORED_MAX_RANK; k++)
            e->size[k] = k < e->rank && k < OAS_MAX_RANK ? p->tensor.shape.size[k] : 1;
        c->total += oas_count(&p->tensor.shape);
    }
}

/* ---- writing ------------------------------------------------------------------------------------------------------------- */

/* Values first .. first+n-1 of tensor `index`. */
static void give_values(const conversion *c, size_t index, int64_t first, int64_t n, float *values)
{
    const convert_item *item = &c->item[index];
    if (item->values)
        memcpy(values, item->values + first, (size_t)n * sizeof *values);
    else if (item->random)
        oas_convert_random(c, index, first, n, values);
    else
        oas_stored_floats(item->from, first, n, values);
}

enum { AT_ONCE = 4096 }; /* values, a whole number of blocks */

/* A piece of a tensor of blocks, which may begin and end inside one. */
static oasis_status give_blocks(const conversion *c, size_t index, size_t offset, unsigned char *to, size_t bytes,
                                oasis_message *message)
{
    enum { BLOCKS = AT_ONCE / OAS_Q8_BLOCK };
    float values[AT_ONCE];
    unsigned char blocks[BLOCKS * OAS_Q8_BYTES];
    int64_t all = oas_count(&c->model.parameters.items[index]->tensor.shape) / OAS_Q8_BLOCK;
    for (size_t done = 0; done < bytes;) {
        int64_t first = (int64_t)((offset + done) / OAS_Q8_BYTES);
        int64_t n = all - first < BLOCKS ? all - first : BLOCKS;
        size_t skip = (offset + done) % OAS_Q8_BYTES, some = (size_t)n * OAS_Q8_BYTES - skip;
        give_values(c, index, first * OAS_Q8_BLOCK, n * OAS_Q8_BLOCK, values);
        if (!oas_q8_pack(values, n, blocks))
            return oas_fail(message, OASIS_E_FORMAT, "the tensor %s has values that are not finite, or too large for q8_0; "
                            "use --dtype bf16", c->entry[index].name);
        some = some < bytes - done ? some : bytes - done;
        memcpy(to + done, blocks + skip, some);
        done += some;
    }
    return OASIS_OK;
}

static void give_plain(const conversion *c, size_t index, oas_dtype type, size_t offset, char *to, size_t bytes)
{
    int64_t first = (int64_t)(offset / oas_dtype_size(type)), n = (int64_t)(bytes / oas_dtype_size(type));
    float values[AT_ONCE];
    for (int64_t at = 0; at < n; at += AT_ONCE) {
        int64_t some = n - at < AT_ONCE ? n - at : AT_ONCE;
        give_values(c, index, first + at, some, values);
        oas_convert(to + (size_t)at * oas_dtype_size(type), type, values, OAS_F32, some);
    }
}

static oasis_status give_piece(void *user, size_t index, size_t offset, void *to, size_t bytes, oasis_message *message)
{
    conversion *c = user;
    stored_dtype type = c->entry[index].dtype;
    if (type == OAS_STORED_Q8_0)
        OAS_TRY(give_blocks(c, index, offset, to, bytes, message));
    else
        give_plain(c, index, type == OAS_STORED_BF16 ? OAS_BF16 : OAS_F32, offset, to, bytes);
    c->done += (int64_t)(bytes / oas_stored_block_bytes(type)) * oas_stored_block_values(type);
    if (c->options->progress && !c->options->progress(c->options->user, (double)c->done / (double)c->total))
        return oas_fail(message, OASIS_E_CANCELLED, "cancelled");
    return OASIS_OK;
}

/* Adds {"file": ..., "sha256": ...}; path NULL: nothing. */
static oasis_status add_source(conversion *c, text_buffer *text, const char *path)
{
    char hex[65];
    if (!path)
        return OASIS_OK;
    OAS_TRY(oas_checkpoint_digest(path, hex, c->message));
    const char *name = strrchr(path, '/');
    oas_text_add(text, "%s{\"file\":", text->length ? "," : "[");
    oas_json_add_text(text, name ? name + 1 : path);
    oas_text_add(text, ",\"sha256\":\"%s\"}", hex);
    return OASIS_OK;
}

/* The same of a checkpoint and of the files that it consists of. */
static oasis_status add_checkpoint(conversion *c, text_buffer *text, const checkpoint *from)
{
    if (!from->file)
        return OASIS_OK;
    OAS_TRY(add_source(c, text, oas_weight_file_path(from->file)));
    for (size_t i = 0; oas_weight_file_part(from->file, i); i++)
        OAS_TRY(add_source(c, text, oas_weight_file_path(oas_weight_file_part(from->file, i))));
    return OASIS_OK;
}

static oasis_status list_sources(conversion *c, text_buffer *text)
{
    const oasis_convert_options *o = c->options;
    if (o->random) {
        oas_text_add(text, "[{\"random\":\"%s\",\"seed\":%lld}", o->random, (long long)o->seed);
    } else {
        OAS_TRY(add_checkpoint(c, text, &c->transformer));
        OAS_TRY(add_checkpoint(c, text, &c->autoencoder));
        OAS_TRY(add_checkpoint(c, text, &c->prompt));
        OAS_TRY(add_source(c, text, o->routing));
    }
    OAS_TRY(add_source(c, text, o->decoder));
    oas_text_add(text, "]");
    return OASIS_OK;
}

static oasis_status write_file(conversion *c, const char *output, const char *sources)
{
    const oasis_convert_options *o = c->options;
    char name[64];
    snprintf(name, sizeof name, "wan2.1-%dx%d%s", c->dit.layers, c->dit.dim, o->random ? "-random" : "");
    char *config = oas_model_config_text(&c->config), *route = oas_routing_text(&c->routing);
    const char *license = o->license ? o->license : o->random ? "CC0-1.0" : "Apache-2.0";
    const stored_note notes[] = {{"format", "oasis-1"},   {"name", o->name ? o->name : name}, {"license", license},
                                 {"config", config},      {"routing", route},                 {"sources", sources},
                                 {"sha256", ""}};
    safetensors_file file = {.entry = c->entry,
                             .count = (size_t)c->model.parameters.count,
                             .note = notes,
                             .notes = sizeof notes / sizeof *notes,
                             .read = give_piece,
                             .user = c};
    oasis_status s = config && route ? oas_safetensors_write(output, &file, c->message)
                                     : oas_fail_memory(c->message, 4096, "the file's header");
    oas_free(config);
    oas_free(route);
    return s;
}

static void fill_report(const conversion *c, oasis_convert_report *r)
{
    *r = (oasis_convert_report){.parameters = c->total, .tensors = c->model.parameters.count, .num_layers = c->dit.layers,
                                .num_heads = c->dit.heads, .dim = c->dit.dim, .ffn_dim = c->dit.ffn_dim};
    for (int i = 0; i < c->model.parameters.count; i++)
        r->bytes += oas_count(&c->model.parameters.items[i]->tensor.shape) /
                    oas_stored_block_values(c->entry[i].dtype) * (int64_t)oas_stored_block_bytes(c->entry[i].dtype);
    memcpy(r->explained, c->explained, sizeof r->explained);
    snprintf(r->text, sizeof r->text, "%s", oas_model_text_name(c->config.text));
}

static oasis_status convert(conversion *c, const char *output)
{
    text_buffer sources = {0};
    OAS_TRY(read_checkpoints(c));
    OAS_TRY(read_decoder(c));
    OAS_TRY(read_prompt(c));
    OAS_TRY(read_routing(c));
    configure(c);
    OAS_TRY(list_tensors(c));
    OAS_TRY(account_for_decoder(c));
    fill_entries(c);
    OAS_TRY(oas_convert_values(c));
    oasis_status s = list_sources(c, &sources);
    if (s == OASIS_OK)
        s = sources.failed ? oas_fail_memory(c->message, sources.length, "the list of inputs")
                           : write_file(c, output, sources.data);
    oas_text_free(&sources);
    return s;
}

oasis_status oasis_convert(const char *output, const oasis_convert_options *options, oasis_convert_report *report,
                           oasis_message *message)
{
    oasis_convert_options known;
    oasis_convert_options_init(&known);
    if (options)
        memcpy(&known, options, options->size < sizeof known ? options->size : sizeof known);
    conversion c = {.options = &known, .message = message};
    oasis_status s = convert(&c, output);
    if (s == OASIS_OK && report)
        fill_report(&c, report);
    for (int i = 0; c.item && i < c.model.parameters.count; i++)
        oas_free(c.item[i].values);
    oas_free(c.item);
    oas_free(c.entry);
    if (c.model.decoder.net)
        c.model.decoder.kind->free(c.model.decoder.net);
    oas_dit_free(&c.model.dit);
    oas_parameters_free(&c.model.parameters);
    oas_routing_free(&c.routing);
    oas_checkpoint_close(&c.transformer);
    oas_checkpoint_close(&c.autoencoder);
    oas_checkpoint_close(&c.prompt);
    oas_decoder_file_close(&c.decoder);
    return s;
}

oasis_status oasis_model_verify(const char *path, oasis_message *message)
{
    return oas_safetensors_verify(path, message);
}
