/* A model file: weights, config and routing, checked against each other. */
#include "format/model_file.h"

#include "format/safetensors.h"
#include "format/weight_file_build.h"

#include <stdio.h>
#include <string.h>

static const char format_prefix[] = "oasis-", format_known[] = "oasis-1";

static oasis_status need_note(const weight_file *w, const char *key, const char **value, oasis_message *message)
{
    *value = oas_weight_file_note(w, key);
    if (*value)
        return OASIS_OK;
    return oas_fail(message, OASIS_E_FORMAT, "%s: metadata has no \"%s\": not a model file of this program",
                    oas_weight_file_path(w), key);
}

static oasis_status check_format(const weight_file *w, oasis_message *message)
{
    const char *format;
    OAS_TRY(need_note(w, "format", &format, message));
    if (strcmp(format, format_known) == 0)
        return OASIS_OK;
    if (strncmp(format, format_prefix, sizeof format_prefix - 1) == 0)
        return oas_fail(message, OASIS_E_UNSUPPORTED,
                        "%s: model format \"%.40s\", this program reads \"%s\": a newer program is needed",
                        oas_weight_file_path(w), format, format_known);
    return oas_fail(message, OASIS_E_FORMAT, "%s: format \"%.40s\" is not that of a model file, expected \"%s\"",
                    oas_weight_file_path(w), format, format_known);
}

static oasis_status read_routing(model_file *file, oasis_message *message)
{
    const char *path = oas_weight_file_path(file->weights), *text;
    char where[300];
    OAS_TRY(need_note(file->weights, "routing", &text, message));
    snprintf(where, sizeof where, "%.280s: routing", path);
    OAS_TRY(oas_routing_read(&file->routing, text, strlen(text), where, message));
    if (file->routing.layers != file->config.num_layers)
        return oas_fail(message, OASIS_E_FORMAT, "%s: the routing is for %d layers, but the config has %d", path,
                        file->routing.layers, file->config.num_layers);
    if (file->routing.heads != file->config.num_heads)
        return oas_fail(message, OASIS_E_FORMAT, "%s: the routing is for %d heads, but the config has %d", path,
                        file->routing.heads, file->config.num_heads);
    return OASIS_OK;
}

/* Networks read tensors of a model file in place. */
static oasis_status check_tensors(const weight_file *w, oasis_message *message)
{
    if (oas_weight_file_count(w) == 0)
        return oas_fail(message, OASIS_E_FORMAT, "%s: a model file without tensors", oas_weight_file_path(w));
    for (size_t i = 0; i < oas_weight_file_count(w); i++) {
        const stored *t = oas_weight_file_at(w, i);
        if (!oas_stored_aligned(t))
            return oas_fail(message, OASIS_E_FORMAT,
                            "%s: tensor %s does not begin at a multiple of its element's %zu bytes",
                            oas_weight_file_path(w), t->name, oas_stored_block_bytes(t->dtype));
    }
    for (size_t i = 0; i < oas_weight_file_count(w); i++) {
        const stored *t = oas_weight_file_at(w, i);
        bool blocks = t->dtype == OAS_STORED_Q8_0;
        if (t->dtype > OAS_STORED_F8_E5M2 && !blocks)
            return oas_fail(message, OASIS_E_FORMAT, "%s: tensor %s holds %s, expected floats, or q8_0 in a file that says so",
                            oas_weight_file_path(w), t->name, oas_stored_dtype_name(t->dtype));
        if (blocks && t->rank != 2)
            return oas_fail(message, OASIS_E_FORMAT, "%s: tensor %s of shape %s is q8_0, which only matrices [out, in] can be",
                            oas_weight_file_path(w), t->name, oas_stored_shape(t->rank, t->size).text);
    }
    return OASIS_OK;
}

static oasis_status read_all(model_file *file, oasis_message *message)
{
    const char *text;
    char where[300];
    OAS_TRY(check_format(file->weights, message));
    OAS_TRY(need_note(file->weights, "config", &text, message));
    snprintf(where, sizeof where, "%.280s: config", oas_weight_file_path(file->weights));
    OAS_TRY(oas_model_config_read(&file->config, text, strlen(text), where, message));
    OAS_TRY(read_routing(file, message));
    OAS_TRY(check_tensors(file->weights, message));
    const char *name = oas_weight_file_note(file->weights, "name"),
               *license = oas_weight_file_note(file->weights, "license");
    file->name = name ? name : "";
    file->license = license ? license : "";
    return OASIS_OK;
}

oasis_status oas_model_file_open(model_file *file, const char *path, oasis_message *message)
{
    *file = (model_file){0};
    oasis_status status = oas_safetensors_open(&file->weights, path, message);
    if (status == OASIS_OK)
        status = read_all(file, message);
    if (status != OASIS_OK)
        oas_model_file_close(file);
    return status;
}

oasis_status oas_model_file_read(model_file *file, const void *data, size_t size, const char *path,
                                 oasis_message *message)
{
    *file = (model_file){0};
    oasis_status status = oas_weight_file_read(&file->weights, &oas_read_safetensors, data, size, path, message);
    if (status == OASIS_OK)
        status = read_all(file, message);
    if (status != OASIS_OK)
        oas_model_file_close(file);
    return status;
}

void oas_model_file_close(model_file *file)
{
    oas_weight_file_close(&file->weights);
    oas_routing_free(&file->routing);
    *file = (model_file){0};
}
