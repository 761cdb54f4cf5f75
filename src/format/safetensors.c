/* Reading safetensors: every rule of the format is checked before a tensor is given out. */
#include "format/safetensors.h"

#include "base/json.h"
#include "format/weight_file_build.h"
#include "tensor/q8.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LENGTH_BYTES = 8 };

static const char metadata_key[] = "__metadata__", quantisation_key[] = "quantisation", quantisation_known[] = "q8_0";

/* What the header says about the tensor being read, for messages. */
typedef struct context {
    const char *path, *name;
    oasis_message *message;
} context;

/* A whole number of an array: 0 <= value.  `what` is "shape" or "data_offsets". */
static oasis_status read_size(const context *c, const json_t *value, const char *what, int64_t *out)
{
    if (!json_is_integer(value))
        return oas_fail(c->message, OASIS_E_FORMAT,
                        "%s: tensor %s: %s holds a value of type %s, expected whole numbers", c->path, c->name, what,
                        oas_json_type_name(value));
    *out = json_integer_value(value);
    if (*out < 0)
        return oas_fail(c->message, OASIS_E_FORMAT, "%s: tensor %s: %s holds %" PRId64 ", expected no negative number",
                        c->path, c->name, what, *out);
    return OASIS_OK;
}

static oasis_status read_dtype(const context *c, const json_t *value, stored *t)
{
    if (!json_is_string(value))
        return oas_fail(c->message, OASIS_E_FORMAT,
                        "%s: tensor %s: dtype is of type %s, expected a name such as \"F32\"", c->path, c->name,
                        oas_json_type_name(value));
    const char *name = json_string_value(value);
    for (int i = 0; i < OAS_STORED_Q8_0; i++)
        if (strcmp(name, oas_stored_dtype_name((stored_dtype)i)) == 0) {
            t->dtype = (stored_dtype)i;
            return OASIS_OK;
        }
    return oas_fail(c->message, OASIS_E_FORMAT, "%s: tensor %s: unknown dtype \"%.40s\", expected F32, BF16, F16, ...",
                    c->path, c->name, name);
}

static oasis_status read_shape(const context *c, const json_t *value, stored *t)
{
    if (!json_is_array(value))
        return oas_fail(c->message, OASIS_E_FORMAT, "%s: tensor %s: shape is of type %s, expected an array", c->path,
                        c->name, oas_json_type_name(value));
    size_t rank = json_array_size(value);
    if (rank > OAS_STORED_MAX_RANK)
        return oas_fail(c->message, OASIS_E_FORMAT, "%s: tensor %s: shape of %zu dimensions, expected at most %d",
                        c->path, c->name, rank, OAS_STORED_MAX_RANK);
    t->rank = (int)rank;
    for (size_t i = 0; i < rank; i++)
        OAS_TRY(read_size(c, json_array_get(value, i), "shape", &t->size[i]));
    return OASIS_OK;
}

/* The range of the tensor's bytes, inside the data_size bytes behind the header. */
static oasis_status read_range(const context *c, const json_t *value, const unsigned char *data, size_t data_size,
                               stored *t)
{
    int64_t begin = 0, end = 0, values;
    size_t bytes;
    if (!json_is_array(value))
        return oas_fail(c->message, OASIS_E_FORMAT, "%s: tensor %s: data_offsets is of type %s, expected an array",
                        c->path, c->name, oas_json_type_name(value));
    if (json_array_size(value) != 2)
        return oas_fail(c->message, OASIS_E_FORMAT, "%s: tensor %s: data_offsets of %zu numbers, expected 2", c->path,
                        c->name, json_array_size(value));
    OAS_TRY(read_size(c, json_array_get(value, 0), "data_offsets", &begin));
    OAS_TRY(read_size(c, json_array_get(value, 1), "data_offsets", &end));
    if (end < begin)
        return oas_fail(c->message, OASIS_E_FORMAT,
                        "%s: tensor %s: data ends at %" PRId64 ", before its begin %" PRId64, c->path, c->name, end,
                        begin);
    if ((uint64_t)end > data_size)
        return oas_fail(c->message, OASIS_E_FORMAT,
                        "%s: tensor %s: data ends at %" PRId64
                        ", but the file has only %zu bytes of data: is it cut off?",
                        c->path, c->name, end, data_size);
    if (!oas_stored_extent(t, &values, &bytes))
        return oas_fail(c->message, OASIS_E_FORMAT, "%s: tensor %s: shape %s has more values than can be counted",
                        c->path, c->name, oas_stored_shape(t->rank, t->size).text);
    if (bytes != (size_t)(end - begin))
        return oas_fail(c->message, OASIS_E_FORMAT,
                        "%s: tensor %s: %s of shape %s takes %zu bytes, but data_offsets span %" PRId64, c->path,
                        c->name, oas_stored_dtype_name(t->dtype), oas_stored_shape(t->rank, t->size).text, bytes,
                        end - begin);
    t->bytes = bytes;
    t->data = bytes ? data + begin : NULL;
    return OASIS_OK;
}

static oasis_status read_tensor(const context *c, const json_t *value, const unsigned char *data, size_t data_size,
                                stored *t)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    if (!json_is_object(value))
        return oas_fail(c->message, OASIS_E_FORMAT,
                        "%s: tensor %s: described by a value of type %s, expected an object", c->path, c->name,
                        oas_json_type_name(value));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (!json_object_get(value, keys[i]))
            return oas_fail(c->message, OASIS_E_FORMAT, "%s: tensor %s: has no %s", c->path, c->name, keys[i]);
    if (json_object_size(value) != sizeof keys / sizeof keys[0])
        return oas_fail(c->message, OASIS_E_FORMAT,
                        "%s: tensor %s: described by %zu keys, expected only dtype, shape and data_offsets", c->path,
                        c->name, json_object_size(value));
    OAS_TRY(read_dtype(c, json_object_get(value, "dtype"), t));
    OAS_TRY(read_shape(c, json_object_get(value, "shape"), t));
    return read_range(c, json_object_get(value, "data_offsets"), data, data_size, t);
}

/* Whether U8 tensors of the file are blocks. */
static oasis_status read_quantisation(const weight_source *file, const json_t *metadata, bool *blocks,
                                      oasis_message *message)
{
    const json_t *value = metadata ? json_object_get(metadata, quantisation_key) : NULL;
    *blocks = value != NULL;
    if (!value || strcmp(json_string_value(value), quantisation_known) == 0)
        return OASIS_OK;
    return oas_fail(message, OASIS_E_UNSUPPORTED, "%s: %s \"%.40s\", this program reads \"%s\"", file->path,
                    quantisation_key, json_string_value(value), quantisation_known);
}

/* U8 [.., n, m, 34] becomes Q8_0 [.., n, 32 m] of the same bytes. */
static oasis_status read_blocks(const context *c, stored *t)
{
    int64_t values;
    size_t bytes;
    if (t->dtype != OAS_STORED_U8)
        return OASIS_OK;
    if (t->rank < 3 || t->size[t->rank - 1] != OAS_Q8_BYTES)
        return oas_fail(c->message, OASIS_E_FORMAT, "%s: tensor %s: U8 of shape %s, expected blocks [.., %d] of %s", c->path,
                        c->name, oas_stored_shape(t->rank, t->size).text, OAS_Q8_BYTES, quantisation_known);
    stored blocks = *t;
    blocks.dtype = OAS_STORED_Q8_0;
    blocks.rank--;
    blocks.size[blocks.rank - 1] *= OAS_Q8_BLOCK; /* as many bytes as before: cannot overflow */
    if (!oas_stored_extent(&blocks, &values, &bytes) || bytes != t->bytes)
        return oas_fail(c->message, OASIS_E_FORMAT, "%s: tensor %s: blocks of shape %s hold more values than can be counted",
                        c->path, c->name, oas_stored_shape(t->rank, t->size).text);
    *t = blocks;
    return OASIS_OK;
}

static oasis_status read_metadata(weight_file *w, const weight_source *file, json_t *metadata, oasis_message *message)
{
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return oas_fail(message, OASIS_E_FORMAT, "%s: metadata %.80s is of type %s, expected a text", file->path,
                            key, oas_json_type_name(value));
        char *k = oas_weight_file_text(w, key, strlen(key));
        char *v = oas_weight_file_text(w, json_string_value(value), json_string_length(value));
        if (!k || !v)
            return oas_fail_memory(message, json_string_length(value), "metadata");
        oas_weight_file_add_note(w, k, v);
    }
    return OASIS_OK;
}

/* The tensors must tile the data: each byte belongs to exactly one. */
static oasis_status check_cover(weight_file *w, const weight_source *file, const unsigned char *data, size_t data_size,
                                oasis_message *message)
{
    const stored *const *order = oas_weight_file_by_place(w);
    size_t at = 0;
    OAS_TRY(oas_weight_file_check_overlap(w, message));
    for (size_t i = 0; i < oas_weight_file_count(w); i++) {
        if (order[i]->bytes == 0)
            continue;
        size_t begin = (size_t)((const unsigned char *)order[i]->data - data);
        if (begin != at)
            return oas_fail(message, OASIS_E_FORMAT, "%s: %zu bytes before tensor %s belong to no tensor", file->path,
                            begin - at, order[i]->name);
        at = begin + order[i]->bytes;
    }
    if (at != data_size)
        return oas_fail(message, OASIS_E_FORMAT, "%s: %zu bytes behind the last tensor belong to no tensor", file->path,
                        data_size - at);
    return OASIS_OK;
}

static oasis_status read_header(weight_file *w, const weight_source *file, json_t *header, size_t data_at,
                                oasis_message *message)
{
    const unsigned char *data = file->data + data_at;
    size_t data_size = file->size - data_at;
    json_t *metadata = json_object_get(header, metadata_key), *value;
    const char *name;
    if (metadata && !json_is_object(metadata))
        return oas_fail(message, OASIS_E_FORMAT, "%s: %s is of type %s, expected an object", file->path, metadata_key,
                        oas_json_type_name(metadata));
    OAS_TRY(
        oas_weight_file_reserve(w, json_object_size(header) - (metadata != NULL), json_object_size(metadata), message));
    bool blocks = false;
    if (metadata)
        OAS_TRY(read_metadata(w, file, metadata, message));
    OAS_TRY(read_quantisation(file, metadata, &blocks, message));
    json_object_foreach(header, name, value)
    {
        if (value == metadata)
            continue;
        stored t = {0};
        OAS_TRY(oas_weight_file_check_name(file->path, name, strlen(name), message));
        if (!(t.name = oas_weight_file_text(w, name, strlen(name))))
            return oas_fail_memory(message, strlen(name) + 1, "a tensor's name");
        context c = {.path = file->path, .name = t.name, .message = message};
        OAS_TRY(read_tensor(&c, value, data, data_size, &t));
        if (blocks)
            OAS_TRY(read_blocks(&c, &t));
        oas_weight_file_add(w, &t);
    }
    return check_cover(w, file, data, data_size, message);
}

static uint64_t header_length(const weight_source *file)
{
    uint64_t n = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        n = n << 8 | file->data[i];
    return n;
}

/* An index of shards begins with '{' too, but read as a length its eight bytes of text are far beyond 2^40. */
static bool probe(const weight_source *file)
{
    return file->size > LENGTH_BYTES && file->data[LENGTH_BYTES] == '{' && header_length(file) >> 40 == 0;
}

static oasis_status read_file(weight_file *w, const weight_source *file, oasis_message *message)
{
    if (file->size <= LENGTH_BYTES)
        return oas_fail(message, OASIS_E_FORMAT, "%s: a file of %zu bytes is too short for a safetensors header",
                        file->path, file->size);
    uint64_t n = header_length(file);
    if (n > OAS_SAFETENSORS_MAX_HEADER)
        return oas_fail(message, OASIS_E_FORMAT,
                        "%s: a header of %" PRIu64 " bytes, expected at most %d: is this a safetensors file?",
                        file->path, n, OAS_SAFETENSORS_MAX_HEADER);
    if (n > file->size - LENGTH_BYTES)
        return oas_fail(message, OASIS_E_FORMAT,
                        "%s: the header should have %" PRIu64 " bytes, but only %zu follow: is the file cut off?",
                        file->path, n, file->size - LENGTH_BYTES);
    const char *text = (const char *)file->data + LENGTH_BYTES;
    if (n < 2)
        return oas_fail(message, OASIS_E_FORMAT, "%s: a header of %d bytes, expected JSON", file->path, (int)n);
    if (text[0] != '{')
        return oas_fail(message, OASIS_E_FORMAT, "%s: the header begins with 0x%02x, expected '{'", file->path,
                        (unsigned)(unsigned char)text[0]);
    char where[300];
    snprintf(where, sizeof where, "%.280s: header", file->path);
    json_t *header;
    OAS_TRY(oas_json_read(&header, text, (size_t)n, where, message));
    oasis_status status = read_header(w, file, header, LENGTH_BYTES + (size_t)n, message);
    json_decref(header);
    return status;
}

const weight_reader oas_read_safetensors = {.name = "safetensors", .probe = probe, .read = read_file};

oasis_status oas_safetensors_open(weight_file **w, const char *path, oasis_message *message)
{
    return oas_weight_file_open_as(w, path, &oas_read_safetensors, message);
}
