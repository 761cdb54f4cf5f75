/*
 * GGUF, versions 2 and 3: typed key-value pairs, a table of tensors, and their data, aligned.
 *
 *     "GGUF" | version u32 | tensors u64 | pairs u64 | pairs ... | tensors ... | padding | data
 *
 * Sizes stand fastest first and are turned round here.  Types of which this program knows the blocks: F32, F16, BF16,
 * Q8_0, whole numbers, F64; others are refused by their name.
 */
#include "base/json.h"
#include "format/cursor.h"
#include "format/weight_file_build.h"

#include <inttypes.h>
#include <stdio.h>

/* The least that a pair and a row of the table of tensors take. */
enum { PAIR_BYTES = 8 + 1 + 4 + 1, ROW_BYTES = 8 + 1 + 4 + 4 + 8 };

enum { DEFAULT_ALIGNMENT = 32, MAX_ALIGNMENT = 1 << 16, MAX_KEY = 65535, MAX_TEXT = 1 << 20, SHOWN_VALUES = 8 };

static const char alignment_key[] = "general.alignment", shape_prefix[] = "comfy.gguf.orig_shape.";

/* Types of values in pairs, by their number in the file. */
enum { V_U8, V_I8, V_U16, V_I16, V_U32, V_I32, V_F32, V_BOOL, V_TEXT, V_ARRAY, V_U64, V_I64, V_F64, V_TYPES };
static const unsigned value_bytes[V_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

/* Types of tensors, by their number in the file. */
static const struct {
    const char *name;
    stored_dtype dtype; /* OAS_STORED_DTYPES: not read */
} tensor_types[] = {
    [0] = {"F32", OAS_STORED_F32},      [1] = {"F16", OAS_STORED_F16},      [2] = {"Q4_0", OAS_STORED_DTYPES},
    [3] = {"Q4_1", OAS_STORED_DTYPES},  [6] = {"Q5_0", OAS_STORED_DTYPES},  [7] = {"Q5_1", OAS_STORED_DTYPES},
    [8] = {"Q8_0", OAS_STORED_Q8_0},    [9] = {"Q8_1", OAS_STORED_DTYPES},  [10] = {"Q2_K", OAS_STORED_DTYPES},
    [11] = {"Q3_K", OAS_STORED_DTYPES}, [12] = {"Q4_K", OAS_STORED_DTYPES}, [13] = {"Q5_K", OAS_STORED_DTYPES},
    [14] = {"Q6_K", OAS_STORED_DTYPES}, [15] = {"Q8_K", OAS_STORED_DTYPES}, [24] = {"I8", OAS_STORED_I8},
    [25] = {"I16", OAS_STORED_I16},     [26] = {"I32", OAS_STORED_I32},     [27] = {"I64", OAS_STORED_I64},
    [28] = {"F64", OAS_STORED_F64},     [30] = {"BF16", OAS_STORED_BF16},
};
enum { TENSOR_TYPES = sizeof tensor_types / sizeof tensor_types[0] };

/* A length and so many bytes. */
typedef struct text {
    const char *data;
    size_t length;
} text;

typedef struct gguf {
    weight_file *w;
    const weight_source *file;
    cursor c;
    uint64_t tensors, pairs, alignment;
    oasis_message *message;
} gguf;

static oasis_status cut_off(const gguf *g, const char *what)
{
    return oas_fail(g->message, OASIS_E_FORMAT, "%s: %s at byte %zu goes beyond the end of the file: is it cut off?",
                    g->file->path, what, g->c.at);
}

static bool take_text(gguf *g, text *t)
{
    t->length = (size_t)oas_cursor_number(&g->c, 8);
    t->data = (const char *)oas_cursor_take(&g->c, t->length);
    return t->data != NULL;
}

/* ---- pairs ------------------------------------------------------------------------------------------------------- */

/* One value that is neither text nor array, in words; `number` is its value where it is a whole number below 2^63. */
static void add_value(gguf *g, unsigned type, text_buffer *out, int64_t *number)
{
    uint64_t bits = oas_cursor_number(&g->c, value_bytes[type]);
    unsigned shift = 64 - 8 * value_bytes[type];
    int64_t negative = (int64_t)(bits << shift);
    union {
        uint64_t u;
        double d;
    } wide = {.u = bits};
    union {
        uint32_t u;
        float f;
    } narrow = {.u = (uint32_t)bits};
    *number = (int64_t)bits;
    switch (type) {
    case V_I8:
    case V_I16:
    case V_I32:
    case V_I64:
        *number = shift ? negative / ((int64_t)1 << shift) : negative;
        oas_text_add(out, "%" PRId64, *number);
        break;
    case V_F32: oas_json_add_number(out, (double)narrow.f); break;
    case V_F64: oas_json_add_number(out, wide.d); break;
    case V_BOOL: oas_text_add(out, bits ? "true" : "false"); break;
    default: oas_text_add(out, "%" PRIu64, bits);
    }
}

static oasis_status read_array(gguf *g, const char *key, text_buffer *out)
{
    unsigned type = (unsigned)oas_cursor_number(&g->c, 4);
    uint64_t n = oas_cursor_number(&g->c, 8);
    int64_t number;
    if (g->c.failed)
        return cut_off(g, "an array");
    if (type >= V_TYPES || type == V_ARRAY)
        return oas_fail(g->message, OASIS_E_FORMAT,
                        "%s: key %s: an array of values of type %u, expected numbers or texts", g->file->path, key,
                        type);
    /* A text takes 8 bytes at least: so the loop below ends soon even for a number out of nowhere. */
    if (n > oas_cursor_left(&g->c) / (type == V_TEXT ? 8 : value_bytes[type]))
        return oas_fail(g->message, OASIS_E_FORMAT, "%s: key %s: an array of %" PRIu64 " values in %zu bytes",
                        g->file->path, key, n, oas_cursor_left(&g->c));
    oas_text_add(out, "[");
    for (uint64_t i = 0; i < n && i < SHOWN_VALUES && type != V_TEXT; i++) {
        oas_text_add(out, i ? ", " : "");
        add_value(g, type, out, &number);
    }
    if (type != V_TEXT && n > SHOWN_VALUES)
        oas_cursor_take(&g->c, (n - SHOWN_VALUES) * value_bytes[type]);
    for (uint64_t i = 0; i < n && type == V_TEXT; i++) {
        text t;
        if (!take_text(g, &t))
            return cut_off(g, "a text of an array");
    }
    if (type == V_TEXT || n > SHOWN_VALUES)
        oas_text_add(out, "%s%" PRIu64 " values", type == V_TEXT ? "" : ", ... ", n);
    oas_text_add(out, "]");
    return OASIS_OK;
}

static oasis_status read_alignment(gguf *g, unsigned type, int64_t value)
{
    if (type != V_U32)
        return oas_fail(g->message, OASIS_E_FORMAT, "%s: %s is of type %u, expected a u32", g->file->path,
                        alignment_key, type);
    if (value < 8 || value > MAX_ALIGNMENT || (value & (value - 1)) != 0)
        return oas_fail(g->message, OASIS_E_FORMAT, "%s: %s is %" PRId64 ", expected a power of two from 8 to %d",
                        g->file->path, alignment_key, value, MAX_ALIGNMENT);
    g->alignment = (uint64_t)value;
    return OASIS_OK;
}

static oasis_status read_value(gguf *g, const char *key, text_buffer *out)
{
    unsigned type = (unsigned)oas_cursor_number(&g->c, 4);
    int64_t number = 0;
    if (type >= V_TYPES)
        return oas_fail(g->message, OASIS_E_FORMAT, "%s: key %s: a value of unknown type %u", g->file->path, key, type);
    if (type == V_ARRAY) {
        OAS_TRY(read_array(g, key, out));
    } else if (type == V_TEXT) {
        text t;
        if (!take_text(g, &t))
            return cut_off(g, "a text");
        if (t.length > MAX_TEXT || !oas_text_is_utf8(t.data, t.length) || memchr(t.data, 0, t.length))
            return oas_fail(g->message, OASIS_E_FORMAT, "%s: key %s: expected a text in UTF-8 of at most %d bytes",
                            g->file->path, key, MAX_TEXT);
        oas_text_add(out, "%.*s", (int)t.length, t.data);
    } else {
        add_value(g, type, out, &number);
    }
    if (g->c.failed)
        return cut_off(g, "a value");
    return strcmp(key, alignment_key) == 0 ? read_alignment(g, type, number) : OASIS_OK;
}

static oasis_status read_pair(gguf *g)
{
    text t;
    if (!take_text(g, &t))
        return cut_off(g, "a key");
    if (t.length == 0 || t.length > MAX_KEY || !oas_text_is_utf8(t.data, t.length) || memchr(t.data, 0, t.length))
        return oas_fail(g->message, OASIS_E_FORMAT, "%s: a key of %zu bytes, expected 1 to %d bytes of UTF-8",
                        g->file->path, t.length, MAX_KEY);
    char *key = oas_weight_file_text(g->w, t.data, t.length), *kept = NULL;
    if (!key)
        return oas_fail_memory(g->message, t.length, "a key");
    if (oas_weight_file_note(g->w, key))
        return oas_fail(g->message, OASIS_E_FORMAT, "%s: key %.80s occurs twice", g->file->path, key);
    text_buffer value = {0};
    oas_text_add(&value, "%s", "");
    oasis_status status = read_value(g, key, &value);
    if (status == OASIS_OK && value.failed)
        status = oas_fail_memory(g->message, value.length, "a value");
    if (status == OASIS_OK && !(kept = oas_weight_file_text(g->w, value.data, value.length)))
        status = oas_fail_memory(g->message, value.length, "a value");
    if (status == OASIS_OK)
        oas_weight_file_add_note(g->w, key, kept);
    oas_text_free(&value);
    return status;
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

/* Some converters flatten what ggml has no room for, and write the true sizes, slow to fast, into a key. */
static oasis_status restore_shape(gguf *g, stored *t)
{
    char key[sizeof shape_prefix + OAS_STORED_MAX_NAME];
    snprintf(key, sizeof key, "%s%s", shape_prefix, t->name);
    const char *value = oas_weight_file_note(g->w, key);
    if (!value)
        return OASIS_OK;
    stored restored = *t;
    int64_t before, after;
    size_t bytes;
    restored.rank = 0;
    json_t *sizes = json_loads(value, JSON_DECODE_ANY, NULL);
    for (size_t i = 0; i < json_array_size(sizes) && i < OAS_STORED_MAX_RANK; i++) {
        json_t *size = json_array_get(sizes, i);
        restored.size[restored.rank++] = json_is_integer(size) ? json_integer_value(size) : -1;
    }
    json_decref(sizes);
    if (restored.rank == 0 || !oas_stored_extent(t, &before, &bytes) || !oas_stored_extent(&restored, &after, &bytes) ||
        before != after)
        return oas_fail(g->message, OASIS_E_FORMAT, "%s: tensor %s of shape %s cannot have the shape %.80s of key %s",
                        g->file->path, t->name, oas_stored_shape(t->rank, t->size).text, value, shape_prefix);
    *t = restored;
    return OASIS_OK;
}

static oasis_status read_type(const gguf *g, stored *t, unsigned type)
{
    const char *name = type < TENSOR_TYPES ? tensor_types[type].name : NULL;
    if (!name)
        return oas_fail(g->message, OASIS_E_FORMAT, "%s: tensor %s has the unknown type %u", g->file->path, t->name,
                        type);
    if (tensor_types[type].dtype == OAS_STORED_DTYPES)
        return oas_fail(g->message, OASIS_E_UNSUPPORTED,
                        "%s: tensor %s is quantised as %s, this program reads F32, F16, BF16 and Q8_0", g->file->path,
                        t->name, name);
    t->dtype = tensor_types[type].dtype;
    return OASIS_OK;
}

/* One row of the table; *offset is counted from the begin of the data, which is not known yet. */
static oasis_status read_tensor(gguf *g, stored *t, uint64_t *offset)
{
    text name;
    if (!take_text(g, &name))
        return cut_off(g, "a tensor's name");
    OAS_TRY(oas_weight_file_check_name(g->file->path, name.data, name.length, g->message));
    if (!(t->name = oas_weight_file_text(g->w, name.data, name.length)))
        return oas_fail_memory(g->message, name.length, "a tensor's name");
    uint64_t rank = oas_cursor_number(&g->c, 4);
    if (rank > OAS_STORED_MAX_RANK)
        return oas_fail(g->message, OASIS_E_FORMAT, "%s: tensor %s has %" PRIu64 " dimensions, expected at most %d",
                        g->file->path, t->name, rank, OAS_STORED_MAX_RANK);
    t->rank = (int)rank;
    for (int i = t->rank - 1; i >= 0; i--) {
        uint64_t size = oas_cursor_number(&g->c, 8);
        t->size[i] = size > INT64_MAX ? -1 : (int64_t)size;
    }
    unsigned type = (unsigned)oas_cursor_number(&g->c, 4);
    *offset = oas_cursor_number(&g->c, 8);
    if (g->c.failed)
        return cut_off(g, "the table of tensors");
    OAS_TRY(read_type(g, t, type));
    OAS_TRY(restore_shape(g, t));
    int64_t values;
    if (!oas_stored_extent(t, &values, &t->bytes))
        return oas_fail(g->message, OASIS_E_FORMAT,
                        "%s: tensor %s: %s of shape %s is impossible: too large, or rows that are no whole blocks",
                        g->file->path, t->name, oas_stored_dtype_name(t->dtype),
                        oas_stored_shape(t->rank, t->size).text);
    if (*offset % g->alignment != 0)
        return oas_fail(g->message, OASIS_E_FORMAT,
                        "%s: tensor %s begins at %" PRIu64 ", expected a multiple of %" PRIu64, g->file->path, t->name,
                        *offset, g->alignment);
    return OASIS_OK;
}

static oasis_status place_tensors(gguf *g, stored *tensor, const uint64_t *offset)
{
    uint64_t rest = (g->alignment - g->c.at % g->alignment) % g->alignment;
    size_t begin = rest < oas_cursor_left(&g->c) ? g->c.at + (size_t)rest : g->file->size;
    size_t room = g->file->size - begin;
    for (uint64_t i = 0; i < g->tensors; i++) {
        stored *t = &tensor[i];
        if (offset[i] > room || t->bytes > room - offset[i])
            return oas_fail(g->message, OASIS_E_FORMAT,
                            "%s: tensor %s has %zu bytes from %" PRIu64
                            ", but the file has only %zu bytes of data: is it "
                            "cut off?",
                            g->file->path, t->name, t->bytes, offset[i], room);
        t->data = t->bytes ? g->file->data + begin + (size_t)offset[i] : NULL;
        oas_weight_file_add(g->w, t);
    }
    return oas_weight_file_check_overlap(g->w, g->message);
}

static oasis_status read_tensors(gguf *g)
{
    stored *tensor = oas_alloc((size_t)g->tensors, sizeof *tensor);
    uint64_t *offset = oas_alloc((size_t)g->tensors, sizeof *offset);
    oasis_status status = OASIS_OK;
    if (!tensor || !offset)
        status = oas_fail_memory(g->message, (size_t)g->tensors * sizeof *tensor, "a table of tensors");
    for (uint64_t i = 0; i < g->tensors && status == OASIS_OK; i++)
        status = read_tensor(g, &tensor[i], &offset[i]);
    if (status == OASIS_OK)
        status = place_tensors(g, tensor, offset);
    oas_free(tensor);
    oas_free(offset);
    return status;
}

static bool probe(const weight_source *file)
{
    return file->size >= 4 && memcmp(file->data, "GGUF", 4) == 0;
}

static oasis_status read_file(weight_file *w, const weight_source *file, oasis_message *message)
{
    gguf g = {.w = w, .file = file, .alignment = DEFAULT_ALIGNMENT, .message = message};
    g.c = (cursor){.data = file->data, .size = file->size};
    if (!probe(file))
        return oas_fail(message, OASIS_E_FORMAT, "%s: does not begin with \"GGUF\"", file->path);
    oas_cursor_take(&g.c, 4);
    uint64_t version = oas_cursor_number(&g.c, 4);
    g.tensors = oas_cursor_number(&g.c, 8);
    g.pairs = oas_cursor_number(&g.c, 8);
    if (g.c.failed)
        return cut_off(&g, "the header");
    if (version != 2 && version != 3)
        return oas_fail(message, OASIS_E_UNSUPPORTED, "%s: GGUF version %" PRIu64 "%s, this program reads 2 and 3",
                        file->path, version, version >> 24 ? " (big-endian)" : "");
    if (g.tensors > OAS_STORED_MAX_COUNT)
        return oas_fail(message, OASIS_E_FORMAT, "%s: GGUF of %" PRIu64 " tensors, expected at most %d", file->path,
                        g.tensors, OAS_STORED_MAX_COUNT);
    if (g.pairs > OAS_STORED_MAX_NOTES)
        return oas_fail(message, OASIS_E_FORMAT, "%s: GGUF of %" PRIu64 " keys, expected at most %d", file->path,
                        g.pairs, OAS_STORED_MAX_NOTES);
    /* Both tables are at the end of the file at the latest: no memory for rows that cannot be there. */
    if (g.pairs * PAIR_BYTES + g.tensors * ROW_BYTES > oas_cursor_left(&g.c))
        return oas_fail(message, OASIS_E_FORMAT,
                        "%s: GGUF of %" PRIu64 " keys and %" PRIu64
                        " tensors, which do not fit into %zu bytes: is it cut off?",
                        file->path, g.pairs, g.tensors, oas_cursor_left(&g.c));
    OAS_TRY(oas_weight_file_reserve(w, (size_t)g.tensors, (size_t)g.pairs, message));
    for (uint64_t i = 0; i < g.pairs; i++)
        OAS_TRY(read_pair(&g));
    return read_tensors(&g);
}

const weight_reader oas_read_gguf = {.name = "GGUF", .probe = probe, .read = read_file};
