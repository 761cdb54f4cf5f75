/* The "config" of a model file: JSON to struct by a table of rows, and back. */
#include "base/json.h"
#include "base/memory.h"
#include "format/model_file.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

static const char *const text_names[OAS_TEXT_MODES] = {"none", "constant", "prompt"};
static const char *const decoder_names[OAS_DECODERS] = {"none", "tiny-conditional", "taehv", "wan-vae",
                                                        "quarter-conditional"};
static const char *const upscale_names[OAS_UPSCALES] = {"bicubic", "bilinear"};
static const int decoder_widths[OAS_DECODERS] = {0, 4, 4, 1, 3};

static const int patch_size[3] = {1, 2, 2}, unshuffle[3] = {4, 8, 8};
enum { MAX_WIDTH = 4096, MAX_HEAD_DIM = 512, MAX_FRAMES = 4097, MAX_SIDE = 16384, SIDE_STEP = 16 };

const char *oas_model_text_name(model_text text)
{
    return text_names[text];
}

const char *oas_model_decoder_name(model_decoder decoder)
{
    return decoder_names[decoder];
}

const char *oas_model_upscale_name(model_upscale upscale)
{
    return upscale_names[upscale];
}

typedef struct int_row {
    const char *key;
    size_t offset;
    int min, max;
} int_row;

typedef struct number_row {
    const char *key;
    size_t offset;
    double min, max, value; /* inclusive; the value when the key is missing */
} number_row;

#define AT(field) offsetof(model_config, field)

static const int_row int_rows[] = {
    {"latent_channels", AT(latent_channels), 1, OAS_MODEL_MAX_LATENT},
    {"in_dim", AT(in_dim), 1, 4096},
    {"dim", AT(dim), 1, 16384},
    {"num_heads", AT(num_heads), 1, OAS_MAX_HEADS},
    {"num_layers", AT(num_layers), 1, OAS_ROUTING_MAX_LAYERS},
    {"ffn_dim", AT(ffn_dim), 1, 65536},
};

static const number_row number_rows[] = {
    {"eps", AT(eps), 1e-12, 0.01, 1e-6},
    {"rope_theta", AT(rope_theta), 1, 1e9, 10000},
    {"sigma", AT(sigma), 0, 1, 0.4},
    {"timestep", AT(timestep), 0, 1000, 400},
};

/* The config being read. */
typedef struct source {
    const json_t *json;
    const char *where;
    oasis_message *message;
} source;

static oasis_status read_int(const source *s, const json_t *value, const char *what, int min, int max, int *out)
{
    if (!value)
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: has no %s", s->where, what);
    if (!json_is_integer(value))
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: %s is of type %s, expected a whole number", s->where, what,
                        oas_json_type_name(value));
    json_int_t v = json_integer_value(value);
    if (v < min || v > max)
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: %s is %" PRId64 ", expected %d to %d", s->where, what,
                        (int64_t)v, min, max);
    *out = (int)v;
    return OASIS_OK;
}

static oasis_status read_number(const source *s, const json_t *value, const char *what, double min, double max,
                                double *out)
{
    if (!json_is_number(value))
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: %s is of type %s, expected a number", s->where, what,
                        oas_json_type_name(value));
    double v = json_number_value(value);
    if (!(v >= min && v <= max))
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: %s is %g, expected %g to %g", s->where, what, v, min, max);
    *out = v;
    return OASIS_OK;
}

/* One of n words; *out is kept when the key is missing and may be. */
static oasis_status read_word(const source *s, const char *key, const char *const *words, int n, bool needed, int *out)
{
    const json_t *value = json_object_get(s->json, key);
    if (!value && !needed)
        return OASIS_OK;
    if (!value)
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: has no %s", s->where, key);
    if (!json_is_string(value))
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: %s is of type %s, expected a word", s->where, key,
                        oas_json_type_name(value));
    for (int i = 0; i < n; i++)
        if (strcmp(json_string_value(value), words[i]) == 0) {
            *out = i;
            return OASIS_OK;
        }
    return oas_fail(s->message, OASIS_E_UNSUPPORTED,
                    "%s: unknown %s \"%.60s\": made for another version of this program?", s->where, key,
                    json_string_value(value));
}

/* An array of exactly n values. */
static oasis_status read_array(const source *s, const char *key, int n, const json_t **out)
{
    *out = json_object_get(s->json, key);
    if (!json_is_array(*out))
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: %s is %s%s, expected an array", s->where, key,
                        *out ? "of type " : "", *out ? oas_json_type_name(*out) : "missing");
    if (json_array_size(*out) != (size_t)n)
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: %s has %zu values, expected %d", s->where, key,
                        json_array_size(*out), n);
    return OASIS_OK;
}

static oasis_status read_ints(const source *s, const char *key, int n, int min, int max, int *out)
{
    const json_t *array;
    OAS_TRY(read_array(s, key, n, &array));
    for (int i = 0; i < n; i++)
        OAS_TRY(read_int(s, json_array_get(array, (size_t)i), key, min, max, &out[i]));
    return OASIS_OK;
}

/* Three numbers of which this program computes only one choice. */
static oasis_status read_fixed(const source *s, const char *key, const int *only, int *out)
{
    OAS_TRY(read_ints(s, key, 3, 1, 64, out));
    if (memcmp(out, only, 3 * sizeof *out) != 0)
        return oas_fail(s->message, OASIS_E_UNSUPPORTED, "%s: %s is [%d, %d, %d], this program computes [%d, %d, %d]",
                        s->where, key, out[0], out[1], out[2], only[0], only[1], only[2]);
    return OASIS_OK;
}

/* "bicubic a=-0.75" or "bilinear", then perhaps remarks that name what is always so. */
static oasis_status read_upscale(const source *s, model_config *c)
{
    static const char *const kernels[OAS_UPSCALES] = {"bicubic a=-0.75", "bilinear"};
    static const char *const remarks[] = {"half-pixel centres", "no antialias", "replicated border"};
    const json_t *value = json_object_get(s->json, "upscale");
    if (!value)
        return OASIS_OK;
    if (!json_is_string(value))
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: upscale is of type %s, expected a text", s->where,
                        oas_json_type_name(value));
    const char *text = json_string_value(value);
    int found = -1;
    for (int i = 0; i < OAS_UPSCALES; i++) {
        size_t n = strlen(kernels[i]);
        if (strncmp(text, kernels[i], n) == 0 && (text[n] == '\0' || text[n] == ','))
            found = i;
    }
    for (const char *rest = strchr(text, ','); rest && found >= 0; rest = strchr(rest + 1, ',')) {
        bool known = false;
        for (size_t i = 0; i < sizeof remarks / sizeof remarks[0]; i++) {
            size_t n = strlen(remarks[i]);
            known = known || (rest[1] == ' ' && strncmp(rest + 2, remarks[i], n) == 0 &&
                              (rest[2 + n] == '\0' || rest[2 + n] == ','));
        }
        if (!known)
            found = -1;
    }
    if (found < 0)
        return oas_fail(s->message, OASIS_E_UNSUPPORTED,
                        "%s: upscale is \"%.120s\", this program computes \"bicubic a=-0.75\" and \"bilinear\"",
                        s->where, text);
    c->upscale = (model_upscale)found;
    return OASIS_OK;
}

static oasis_status read_decoder(const source *s, model_config *c)
{
    int kind = OAS_DECODER_NONE;
    OAS_TRY(read_word(s, "decoder", decoder_names, OAS_DECODERS, true, &kind));
    c->decoder = (model_decoder)kind;
    c->decoder_widths = decoder_widths[kind];
    if (c->decoder_widths == 0)
        return OASIS_OK;
    return read_ints(s, "decoder_channels", c->decoder_widths, 1, MAX_WIDTH, c->decoder_channels);
}

static oasis_status read_window(const source *s, model_config *c)
{
    int *w = c->trained_window;
    if (!json_object_get(s->json, "trained_window"))
        return OASIS_OK;
    OAS_TRY(read_ints(s, "trained_window", 3, 1, MAX_SIDE, w));
    if (w[0] > MAX_FRAMES || w[0] % 4 != 1)
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: trained_window has %d frames, expected 4n+1, at most %d",
                        s->where, w[0], MAX_FRAMES);
    if (w[1] % SIDE_STEP != 0 || w[2] % SIDE_STEP != 0)
        return oas_fail(s->message, OASIS_E_FORMAT,
                        "%s: trained_window is %d rows by %d columns, expected multiples of %d", s->where, w[1], w[2],
                        SIDE_STEP);
    return OASIS_OK;
}

static oasis_status read_latent(const source *s, model_config *c, const char *key, double min, float *out)
{
    const double largest = 1e6;
    const json_t *array;
    OAS_TRY(read_array(s, key, c->latent_channels, &array));
    for (int i = 0; i < c->latent_channels; i++) {
        double value = 0;
        OAS_TRY(read_number(s, json_array_get(array, (size_t)i), key, min, largest, &value));
        out[i] = (float)value;
    }
    return OASIS_OK;
}

static oasis_status read_normalisation(const source *s, model_config *c)
{
    for (int i = 0; i < OAS_MODEL_MAX_LATENT; i++)
        c->latent_std[i] = 1;
    bool mean = json_object_get(s->json, "latent_mean"), std = json_object_get(s->json, "latent_std");
    if (mean != std)
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: has latent_%s but no latent_%s, expected both or none",
                        s->where, mean ? "mean" : "std", mean ? "std" : "mean");
    c->normalised = mean;
    if (!mean)
        return OASIS_OK;
    OAS_TRY(read_latent(s, c, "latent_mean", -1e6, c->latent_mean));
    return read_latent(s, c, "latent_std", 1e-6, c->latent_std);
}

static oasis_status check_widths(const source *s, const model_config *c)
{
    if (c->in_dim < c->latent_channels)
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: in_dim is %d, expected at least latent_channels, %d", s->where,
                        c->in_dim, c->latent_channels);
    if (c->dim % c->num_heads != 0)
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: dim is %d, expected a multiple of num_heads, %d", s->where,
                        c->dim, c->num_heads);
    if (c->dim / c->num_heads % 2 != 0)
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: a head has %d channels, expected an even number", s->where,
                        c->dim / c->num_heads);
    if (c->dim / c->num_heads > MAX_HEAD_DIM)
        return oas_fail(s->message, OASIS_E_FORMAT, "%s: a head has %d channels, expected at most %d", s->where,
                        c->dim / c->num_heads, MAX_HEAD_DIM);
    return OASIS_OK;
}

static oasis_status read_config(const source *s, model_config *c)
{
    int text = OAS_TEXT_NONE;
    for (size_t i = 0; i < sizeof int_rows / sizeof int_rows[0]; i++) {
        const int_row *r = &int_rows[i];
        OAS_TRY(read_int(s, json_object_get(s->json, r->key), r->key, r->min, r->max,
                         (int *)(void *)((char *)c + r->offset)));
    }
    for (size_t i = 0; i < sizeof number_rows / sizeof number_rows[0]; i++) {
        const number_row *r = &number_rows[i];
        const json_t *value = json_object_get(s->json, r->key);
        double *out = (double *)(void *)((char *)c + r->offset);
        *out = r->value;
        if (value)
            OAS_TRY(read_number(s, value, r->key, r->min, r->max, out));
    }
    OAS_TRY(check_widths(s, c));
    OAS_TRY(read_fixed(s, "patch_size", patch_size, c->patch_size));
    OAS_TRY(read_fixed(s, "unshuffle", unshuffle, c->unshuffle));
    OAS_TRY(read_word(s, "text", text_names, OAS_TEXT_MODES, false, &text));
    c->text = (model_text)text;
    OAS_TRY(read_decoder(s, c));
    OAS_TRY(read_upscale(s, c));
    OAS_TRY(read_window(s, c));
    return read_normalisation(s, c);
}

static oasis_status read_decoder_config(const source *s, model_config *c)
{
    const int_row *r = &int_rows[0]; /* latent_channels */
    OAS_TRY(read_int(s, json_object_get(s->json, r->key), r->key, r->min, r->max, &c->latent_channels));
    OAS_TRY(read_decoder(s, c));
    return read_normalisation(s, c);
}

static oasis_status read_by(oasis_status (*read)(const source *, model_config *), model_config *config, const char *text,
                            size_t size, const char *where, oasis_message *message)
{
    json_t *json;
    *config = (model_config){0};
    OAS_TRY(oas_json_read(&json, text, size, where, message));
    source s = {.json = json, .where = where, .message = message};
    oasis_status status = read(&s, config);
    json_decref(json);
    return status;
}

oasis_status oas_model_config_read(model_config *config, const char *text, size_t size, const char *where,
                                   oasis_message *message)
{
    return read_by(read_config, config, text, size, where, message);
}

oasis_status oas_decoder_config_read(model_config *config, const char *text, size_t size, const char *where,
                                     oasis_message *message)
{
    return read_by(read_decoder_config, config, text, size, where, message);
}

/* ---- and back ---------------------------------------------------------------------------------------------------- */

static void add_ints(text_buffer *text, const char *key, const int *value, int n)
{
    oas_text_add(text, ",\"%s\":[", key);
    for (int i = 0; i < n; i++)
        oas_text_add(text, "%s%d", i ? "," : "", value[i]);
    oas_text_add(text, "]");
}

static void add_floats(text_buffer *text, const char *key, const float *value, int n)
{
    oas_text_add(text, ",\"%s\":[", key);
    for (int i = 0; i < n; i++) {
        oas_text_add(text, i ? "," : "");
        oas_json_add_number(text, (double)value[i]);
    }
    oas_text_add(text, "]");
}

/* What both end with; NULL when memory was short. */
static char *finish_text(text_buffer *text, const model_config *c)
{
    if (c->normalised) {
        add_floats(text, "latent_mean", c->latent_mean, c->latent_channels);
        add_floats(text, "latent_std", c->latent_std, c->latent_channels);
    }
    oas_text_add(text, "}");
    if (text->failed)
        oas_text_free(text);
    return text->data;
}

char *oas_model_config_text(const model_config *c)
{
    text_buffer text = {0};
    for (size_t i = 0; i < sizeof int_rows / sizeof int_rows[0]; i++)
        oas_text_add(&text, "%s\"%s\":%d", i ? "," : "{", int_rows[i].key,
                     *(const int *)(const void *)((const char *)c + int_rows[i].offset));
    for (size_t i = 0; i < sizeof number_rows / sizeof number_rows[0]; i++) {
        oas_text_add(&text, ",\"%s\":", number_rows[i].key);
        oas_json_add_number(&text, *(const double *)(const void *)((const char *)c + number_rows[i].offset));
    }
    add_ints(&text, "patch_size", c->patch_size, 3);
    add_ints(&text, "unshuffle", c->unshuffle, 3);
    oas_text_add(&text, ",\"text\":\"%s\",\"decoder\":\"%s\"", text_names[c->text], decoder_names[c->decoder]);
    if (c->decoder_widths)
        add_ints(&text, "decoder_channels", c->decoder_channels, c->decoder_widths);
    oas_text_add(&text, ",\"upscale\":\"%s, half-pixel centres, no antialias, replicated border\"",
                 c->upscale == OAS_UPSCALE_BICUBIC ? "bicubic a=-0.75" : "bilinear");
    if (c->trained_window[0])
        add_ints(&text, "trained_window", c->trained_window, 3);
    return finish_text(&text, c);
}

char *oas_decoder_config_text(const model_config *c)
{
    text_buffer text = {0};
    oas_text_add(&text, "{\"latent_channels\":%d,\"decoder\":\"%s\"", c->latent_channels, decoder_names[c->decoder]);
    if (c->decoder_widths)
        add_ints(&text, "decoder_channels", c->decoder_channels, c->decoder_widths);
    return finish_text(&text, c);
}
