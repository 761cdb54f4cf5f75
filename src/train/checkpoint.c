/*
 * Checkpoints and models as safetensors.
 *
 * A checkpoint has, for a trained weight NAME, weight.NAME, average.NAME, moment1.NAME and moment2.NAME in fp32, and for
 * the others weight.NAME, the same for a discriminator; its metadata: format "oasis-checkpoint-1", config, routing, and state, a JSON object.
 */
#include "base/json.h"
#include "base/memory.h"
#include "format/safetensors.h"
#include "train/train.h"

#include <stdio.h>
#include <string.h>

static const char FORMAT[] = "oasis-checkpoint-1";
static const char *const prefixes[] = {"weight.", "average.", "moment1.", "moment2."};
enum { KINDS = 4, NAME_ROOM = OAS_PARAMETER_NAME + 16 };

/* The four values of a segment. */
static float *block_of(const weights *w, int kind)
{
    float *const blocks[KINDS] = {w->master, w->average, w->moment1, w->moment2};
    return blocks[kind];
}

static const segment *segment_of(const weights *w, const tensor *t)
{
    for (int i = 0; i < w->n; i++)
        if (w->segments[i].tensor == t)
            return &w->segments[i];
    return NULL;
}

static stored entry_of(const tensor *t, const char *name, stored_dtype dtype, const void *data)
{
    stored e = {.name = name, .dtype = dtype, .rank = t->shape.rank, .data = data};
    for (int i = 0; i < OAS_STORED_MAX_RANK; i++)
        e.size[i] = 1;
    for (int i = 0; i < t->shape.rank && i < OAS_MAX_RANK; i++)
        e.size[i] = t->shape.size[i];
    return e;
}

static void state_text(text_buffer *text, const weights *w, const progress_state *s, const objective *o)
{
    oas_text_add(text, "{\"stage\": %d, \"seed\": %lld, \"step\": %lld, \"updates\": %lld, \"index\": %llu, \"skipped\": %lld, "
                 "\"seconds\": ", o->options->stage, (long long)o->options->seed, (long long)s->step,
                 (long long)w->updates, (unsigned long long)s->index, (long long)s->skipped);
    oas_json_add_number(text, s->seconds);
    for (int k = 0; k < 2; k++) {
        oas_text_add(text, k ? "], \"latent_square\": [" : ", \"latent_mean\": [");
        for (int i = 0; i < s->latents; i++) {
            oas_text_add(text, i ? ", " : "");
            oas_json_add_number(text, k ? s->latent_square[i] : s->latent_mean[i]);
        }
    }
    oas_text_add(text, "]");
    if (o->adversary)
        oas_text_add(text, ", \"discriminator_updates\": %lld", (long long)o->adversary->weights.updates);
    oas_text_add(text, "}");
}

/* Entries and their names for all weights; returns how many. */
static size_t list_entries(const parameter_set *set, const weights *w, stored *entry, char (*name)[NAME_ROOM])
{
    size_t n = 0;
    for (int i = 0; i < set->count; i++) {
        const parameter *p = set->items[i];
        const segment *s = segment_of(w, &p->tensor);
        for (int k = 0; k < (s ? KINDS : 1); k++, n++) {
            snprintf(name[n], NAME_ROOM, "%s%s", prefixes[k], p->name);
            stored_dtype dtype = p->tensor.dtype == OAS_F32 ? OAS_STORED_F32 : OAS_STORED_BF16;
            entry[n] = entry_of(&p->tensor, name[n], dtype, s ? block_of(w, k) + s->begin : p->tensor.data);
        }
    }
    return n;
}

oasis_status oas_checkpoint_write(const char *path, const objective *o, const weights *w, const progress_state *state,
                                  oasis_message *message)
{
    size_t parameters = (size_t)o->model->parameters.count + (o->adversary ? (size_t)o->adversary->parameters.count : 0);
    size_t most = parameters * KINDS;
    stored *entry = oas_alloc(most, sizeof *entry);
    char(*name)[NAME_ROOM] = oas_alloc(most, sizeof *name);
    char *config = oas_model_config_text(&o->model->file.config), *routes = oas_routing_text(&o->model->file.routing);
    text_buffer text = {0};
    state_text(&text, w, state, o);
    oasis_status s = OASIS_OK;
    if (!entry || !name || !config || !routes || text.failed) {
        s = oas_fail_memory(message, most * (sizeof *entry + sizeof *name), "a checkpoint's table");
    } else {
        const stored_note notes[] = {{"format", FORMAT}, {"config", config}, {"routing", routes}, {"state", text.data}};
        safetensors_file file = {.entry = entry, .note = notes, .notes = 4};
        file.count = list_entries(&o->model->parameters, w, entry, name);
        if (o->adversary)
            file.count += list_entries(&o->adversary->parameters, &o->adversary->weights, entry + file.count,
                                       name + file.count);
        s = oas_safetensors_write(path, &file, message);
    }
    oas_text_free(&text);
    oas_free(config);
    oas_free(routes);
    oas_free(name);
    oas_free(entry);
    return s;
}

static oasis_status read_state(const weight_file *file, weights *w, progress_state *state, const objective *o,
                               oasis_message *message)
{
    const char *format = oas_weight_file_note(file, "format"), *text = oas_weight_file_note(file, "state");
    const char *path = oas_weight_file_path(file);
    if (!format || strcmp(format, FORMAT) != 0 || !text)
        return oas_fail(message, OASIS_E_MODEL, "%s: format '%s', expected '%s'", path, format ? format : "none", FORMAT);
    json_t *json;
    OAS_TRY(oas_json_read(&json, text, strlen(text), path, message));
    long long stage = json_integer_value(json_object_get(json, "stage"));
    long long seed = json_integer_value(json_object_get(json, "seed"));
    state->step = json_integer_value(json_object_get(json, "step"));
    state->index = (uint64_t)json_integer_value(json_object_get(json, "index"));
    state->skipped = json_integer_value(json_object_get(json, "skipped"));
    state->seconds = json_number_value(json_object_get(json, "seconds"));
    w->updates = json_integer_value(json_object_get(json, "updates"));
    if (o->adversary)
        o->adversary->weights.updates = json_integer_value(json_object_get(json, "discriminator_updates"));
    const json_t *mean = json_object_get(json, "latent_mean"), *square = json_object_get(json, "latent_square");
    for (size_t i = 0; i < json_array_size(mean) && i < OAS_MODEL_MAX_LATENT; i++, state->latents = (int)i) {
        state->latent_mean[i] = json_number_value(json_array_get(mean, i));
        state->latent_square[i] = json_number_value(json_array_get(square, i));
    }
    json_decref(json);
    if (state->step < 0 || w->updates < 0 || w->updates > state->step)
        return oas_fail(message, OASIS_E_FORMAT, "%s: its state says %lld updates in %lld steps", path,
                        (long long)w->updates, (long long)state->step);
    if (stage != o->options->stage || seed != o->options->seed)
        return oas_fail(message, OASIS_E_MODEL, "%s: a checkpoint of stage %lld with seed %lld, this run has stage %d and "
                        "seed %lld; use another output folder, or \"resume\": false", path, stage, seed, o->options->stage,
                        (long long)o->options->seed);
    return OASIS_OK;
}

static oasis_status read_entry(const weight_file *file, const parameter *p, int kind, void *to, oasis_message *message)
{
    char name[NAME_ROOM];
    snprintf(name, sizeof name, "%s%s", prefixes[kind], p->name);
    const stored *s = NULL;
    OAS_TRY(oas_weight_file_need(file, name, p->tensor.shape.rank, p->tensor.shape.size, &s, message));
    oas_stored_floats(s, 0, oas_stored_count(s), to);
    return OASIS_OK;
}

static oasis_status read_entries(const weight_file *file, const parameter_set *set, const weights *w, oasis_message *message)
{
    for (int i = 0; i < set->count; i++) {
        const parameter *p = set->items[i];
        const segment *g = segment_of(w, &p->tensor);
        if (!g && p->tensor.dtype == OAS_F32)
            OAS_TRY(read_entry(file, p, 0, p->tensor.data, message));
        for (int k = 0; g && k < KINDS; k++)
            OAS_TRY(read_entry(file, p, k, block_of(w, k) + g->begin, message));
    }
    return OASIS_OK;
}

/* A run that gets a discriminator on the way begins with a new one. */
static bool has_discriminator(const weight_file *file)
{
    for (size_t i = 0; i < oas_weight_file_count(file); i++)
        if (strncmp(oas_weight_file_at(file, i)->name, "weight.discriminator.", 21) == 0)
            return true;
    return false;
}

oasis_status oas_checkpoint_read(const char *path, objective *o, weights *w, progress_state *state,
                                 oasis_message *message)
{
    weight_file *file = NULL;
    OAS_TRY(oas_safetensors_open(&file, path, message));
    oasis_status s = read_state(file, w, state, o, message);
    if (s == OASIS_OK)
        s = read_entries(file, &o->model->parameters, w, message);
    if (s == OASIS_OK && o->adversary && has_discriminator(file))
        s = read_entries(file, &o->adversary->parameters, &o->adversary->weights, message);
    oas_weight_file_close(&file);
    return s == OASIS_E_FORMAT ? OASIS_E_MODEL : s;
}

/* ---- models -------------------------------------------------------------------------------------------------------- */

/* Adds the timestep's part to the modulations in `values`, [count] floats of the parameter p. */
static void fold_time(const parameter *p, const time_values *time, float *values)
{
    int64_t n = oas_count(&p->tensor.shape), d = oas_last(&p->tensor, 0);
    bool head = strcmp(p->name, "head.modulation") == 0;
    size_t length = strlen(p->name);
    if (!time->e || (!head && (length < 12 || strcmp(p->name + length - 11, ".modulation") != 0)))
        return;
    for (int64_t i = 0; i < n; i++)
        values[i] += head ? ((const float *)time->e->data)[i % d] : ((const float *)time->e0->data)[i];
}

static bool is_shipped(const parameter *p)
{
    return strncmp(p->name, "encoder.", 8) != 0 && strncmp(p->name, "time_", 5) != 0;
}

/* The weights as bf16, one after the other; `floats` has room for the largest. */
static size_t convert(const objective *o, const time_values *time, float *floats, uint16_t *to, stored *entry)
{
    size_t n = 0;
    for (int i = 0; i < o->model->parameters.count; i++) {
        const parameter *p = o->model->parameters.items[i];
        int64_t count = oas_count(&p->tensor.shape);
        if (!is_shipped(p))
            continue;
        oas_convert(floats, OAS_F32, p->tensor.data, p->tensor.dtype, count);
        fold_time(p, time, floats);
        oas_convert(to, OAS_BF16, floats, OAS_F32, count);
        entry[n++] = entry_of(&p->tensor, p->name, OAS_STORED_BF16, to);
        to += count;
    }
    return n;
}

static oasis_status write_model(const char *path, const objective *o, const time_values *time, oasis_message *message)
{
    const parameter_set *set = &o->model->parameters;
    size_t all = 0, largest = 0;
    for (int i = 0; i < set->count; i++) {
        size_t count = (size_t)oas_count(&set->items[i]->tensor.shape);
        all += count;
        largest = count > largest ? count : largest;
    }
    float *floats = oas_alloc(largest, sizeof *floats);
    uint16_t *values = oas_alloc(all, sizeof *values);
    stored *entry = oas_alloc((size_t)set->count, sizeof *entry);
    char *config = oas_model_config_text(&o->model->file.config), *routes = oas_routing_text(&o->model->file.routing);
    oasis_status s = OASIS_OK;
    if (!floats || !values || !entry || !config || !routes) {
        s = oas_fail_memory(message, all * sizeof *values, "the model to write");
    } else {
        const stored_note notes[] = {{"format", "oasis-1"}, {"name", o->options->name ? o->options->name : ""},
                                     {"license", o->options->license ? o->options->license : ""},
                                     {"config", config}, {"routing", routes}, {"sha256", ""}};
        safetensors_file file = {.entry = entry, .note = notes, .notes = 6};
        file.count = convert(o, time, floats, values, entry);
        s = oas_safetensors_write(path, &file, message);
    }
    oas_free(config);
    oas_free(routes);
    oas_free(entry);
    oas_free(values);
    oas_free(floats);
    return s;
}

oasis_status oas_model_export(const char *path, objective *o, weights *w, oasis_message *message)
{
    graph g = {.backend = OAS_REF};
    time_values time = {NULL, NULL};
    size_t dim = (size_t)o->model->file.config.dim;
    oas_weights_use_average(w, true);
    oasis_status s = OASIS_OK;
    if (o->model->dit.time.frequencies > 0) {
        s = oas_arena_new(&g.memory, 64 * dim * sizeof(float) + (1 << 16)) ? OASIS_OK
                                                                            : oas_fail_memory(message, 64 * dim, "a model");
        if (s == OASIS_OK)
            time = oas_time_embed(&g, &o->model->dit.time, o->model->file.config.timestep);
        if (g.status < 0)
            s = oas_fail(message, g.status, "%s", g.message.text);
    }
    model_config *c = &o->model->file.config;
    c->trained_window[0] = o->options->frames;
    c->trained_window[1] = o->options->height;
    c->trained_window[2] = o->options->width;
    if (s == OASIS_OK)
        s = write_model(path, o, &time, message);
    oas_weights_use_average(w, false);
    oas_arena_free(&g.memory);
    return s;
}
