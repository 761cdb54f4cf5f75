/* Writing safetensors, and the digest that a file carries of itself. */
#include "base/json.h"
#include "base/newfile.h"
#include "base/sha256.h"
#include "format/safetensors.h"
#include "format/weight_file_build.h"

#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8, ALIGN = 64 };

static const char digest_key[] = "sha256";
static const char quantisation_key[] = "quantisation", quantisation_name[] = "q8_0";
static const char digest_blank[] = "0000000000000000000000000000000000000000000000000000000000000000";

/* An entry in the order of the file. */
typedef struct placed {
    size_t index, bytes;
    size_t width; /* of an element */
} placed;

typedef struct writer {
    const char *path;
    const safetensors_file *file;
    placed *order;
    text_buffer header;
    unsigned char *piece;
    newfile *out;
    sha256 digest;
    bool blocks;      /* some tensor is of Q8_0 */
    size_t digest_at; /* place of the digest's digits in the file; 0 = none */
    oasis_message *message;
} writer;

static int compare_widths(const void *a, const void *b)
{
    const placed *x = a, *y = b;
    return x->width != y->width ? (x->width > y->width ? -1 : 1) : (x->index > y->index) - (x->index < y->index);
}

/* Names go through the reader's own checks, so that what is written can be read. */
static oasis_status check_names(const writer *w)
{
    weight_file *table;
    OAS_TRY(oas_weight_file_new(&table, w->path, "safetensors", w->message));
    oasis_status status = oas_weight_file_reserve(table, w->file->count, w->file->notes, w->message);
    for (size_t i = 0; i < w->file->count && status == OASIS_OK; i++) {
        const char *name = w->file->entry[i].name;
        oas_weight_file_add(table, &w->file->entry[i]);
        status = oas_weight_file_check_name(w->path, name, strlen(name), w->message);
        if (status == OASIS_OK && strcmp(name, "__metadata__") == 0)
            status = oas_fail(w->message, OASIS_E_FORMAT, "%s: a tensor cannot be named __metadata__", w->path);
    }
    if (status == OASIS_OK)
        status = oas_weight_file_index(table, w->message);
    oas_weight_file_close(&table);
    return status;
}

static oasis_status place(writer *w)
{
    w->order = oas_alloc(w->file->count, sizeof *w->order);
    w->piece = oas_alloc(OAS_SAFETENSORS_PIECE, 1);
    if (!w->order || !w->piece)
        return oas_fail_memory(w->message, OAS_SAFETENSORS_PIECE, "a file to be written");
    size_t total = 0;
    for (size_t i = 0; i < w->file->count; i++) {
        const stored *e = &w->file->entry[i];
        int64_t values;
        bool blocks = e->dtype == OAS_STORED_Q8_0;
        if (e->rank < (blocks ? 2 : 0) || e->rank > OAS_STORED_MAX_RANK - blocks || e->dtype >= OAS_STORED_DTYPES ||
            !oas_stored_extent(e, &values, &w->order[i].bytes) || oas_add_overflows(total, w->order[i].bytes, &total) ||
            total > INT64_MAX)
            return oas_fail(w->message, OASIS_E_FORMAT,
                            "%s: tensor %s cannot be written: its shape or dtype is impossible", w->path, e->name);
        if (w->order[i].bytes > 0 && !e->data && !w->file->read)
            return oas_fail(w->message, OASIS_E_ARGUMENT, "%s: tensor %s has no data to be written", w->path, e->name);
        w->order[i].index = i;
        w->order[i].width = blocks ? sizeof(uint16_t) : oas_stored_block_bytes(e->dtype);
        w->blocks = w->blocks || blocks;
    }
    if (w->file->count > 1)
        qsort(w->order, w->file->count, sizeof *w->order, compare_widths);
    return OASIS_OK;
}

static void add_notes(writer *w)
{
    oas_text_add(&w->header, "\"__metadata__\":{");
    if (w->blocks)
        oas_text_add(&w->header, "\"%s\":\"%s\"", quantisation_key, quantisation_name);
    bool first = !w->blocks;
    for (size_t i = 0; i < w->file->notes; i++) {
        const stored_note *note = &w->file->note[i];
        if (strcmp(note->key, quantisation_key) == 0) /* follows from the types */
            continue;
        bool digest = strcmp(note->key, digest_key) == 0;
        oas_text_add(&w->header, first ? "" : ",");
        first = false;
        oas_json_add_text(&w->header, note->key);
        oas_text_add(&w->header, ":");
        if (digest)
            w->digest_at = LENGTH_BYTES + w->header.length + 1;
        oas_json_add_text(&w->header, digest ? digest_blank : note->value);
    }
    oas_text_add(&w->header, "}%s", w->file->count ? "," : "");
}

/* Type and shape, of blocks as bytes. */
static void add_type(writer *w, const stored *e)
{
    bool blocks = e->dtype == OAS_STORED_Q8_0;
    oas_text_add(&w->header, ":{\"dtype\":\"%s\",\"shape\":[", oas_stored_dtype_name(blocks ? OAS_STORED_U8 : e->dtype));
    for (int d = 0; d < e->rank; d++)
        oas_text_add(&w->header, "%s%lld", d ? "," : "",
                     (long long)(blocks && d == e->rank - 1 ? e->size[d] / oas_stored_block_values(e->dtype) : e->size[d]));
    if (blocks)
        oas_text_add(&w->header, ",%zu", oas_stored_block_bytes(e->dtype));
}

static oasis_status make_header(writer *w)
{
    size_t at = 0;
    oas_text_add(&w->header, "{");
    if (w->file->notes || w->blocks)
        add_notes(w);
    for (size_t i = 0; i < w->file->count; i++) {
        const stored *e = &w->file->entry[w->order[i].index];
        oas_text_add(&w->header, i ? "," : "");
        oas_json_add_text(&w->header, e->name);
        add_type(w, e);
        oas_text_add(&w->header, "],\"data_offsets\":[%zu,%zu]}", at, at + w->order[i].bytes);
        at += w->order[i].bytes;
    }
    oas_text_add(&w->header, "}");
    oas_text_add(&w->header, "%*s", (int)((ALIGN - (w->header.length + LENGTH_BYTES) % ALIGN) % ALIGN), "");
    if (w->header.failed)
        return oas_fail_memory(w->message, w->header.length, "a file header");
    if (w->header.length > OAS_SAFETENSORS_MAX_HEADER)
        return oas_fail(w->message, OASIS_E_FORMAT, "%s: the header would have %zu bytes, at most %d can be read again",
                        w->path, w->header.length, OAS_SAFETENSORS_MAX_HEADER);
    return OASIS_OK;
}

static oasis_status put(writer *w, const void *data, size_t size)
{
    if (w->digest_at)
        oas_sha256_add(&w->digest, data, size);
    return oas_newfile_write(w->out, data, size, w->message);
}

static oasis_status put_tensor(writer *w, const placed *p)
{
    const stored *e = &w->file->entry[p->index];
    if (e->data)
        return put(w, e->data, p->bytes);
    for (size_t at = 0; at < p->bytes; at += OAS_SAFETENSORS_PIECE) {
        size_t n = p->bytes - at < OAS_SAFETENSORS_PIECE ? p->bytes - at : OAS_SAFETENSORS_PIECE;
        OAS_TRY(w->file->read(w->file->user, p->index, at, w->piece, n, w->message));
        OAS_TRY(put(w, w->piece, n));
    }
    return OASIS_OK;
}

static oasis_status put_all(writer *w)
{
    unsigned char length[LENGTH_BYTES];
    for (int i = 0; i < LENGTH_BYTES; i++)
        length[i] = (unsigned char)((uint64_t)w->header.length >> 8 * i);
    oas_sha256_begin(&w->digest);
    OAS_TRY(oas_newfile_open(&w->out, w->path, w->message));
    OAS_TRY(put(w, length, sizeof length));
    OAS_TRY(put(w, w->header.data, w->header.length));
    for (size_t i = 0; i < w->file->count; i++)
        OAS_TRY(put_tensor(w, &w->order[i]));
    if (w->digest_at) {
        char hex[OAS_SHA256_HEX + 1];
        oas_sha256_end(&w->digest, hex);
        OAS_TRY(oas_newfile_patch(w->out, w->digest_at, hex, OAS_SHA256_HEX, w->message));
    }
    return oas_newfile_finish(w->out, w->message);
}

oasis_status oas_safetensors_write(const char *path, const safetensors_file *file, oasis_message *message)
{
    writer w = {.path = path, .file = file, .message = message};
    oasis_status status = check_names(&w);
    if (status == OASIS_OK)
        status = place(&w);
    if (status == OASIS_OK)
        status = make_header(&w);
    if (status == OASIS_OK)
        status = put_all(&w);
    oas_newfile_close(&w.out);
    oas_text_free(&w.header);
    oas_free(w.order);
    oas_free(w.piece);
    return status;
}

static bool is_digest(const char *text)
{
    return text && strlen(text) == OAS_SHA256_HEX && strspn(text, "0123456789abcdef") == OAS_SHA256_HEX;
}

oasis_status oas_safetensors_verify(const char *path, oasis_message *message)
{
    weight_file *w;
    OAS_TRY(oas_safetensors_open(&w, path, message));
    const char *expected = oas_weight_file_note(w, digest_key);
    filemap map = {0};
    oasis_status status = OASIS_OK;
    if (!expected)
        status = oas_fail(message, OASIS_E_UNSUPPORTED, "%s: carries no digest to be compared with", path);
    else if (!is_digest(expected))
        status =
            oas_fail(message, OASIS_E_FORMAT, "%s: metadata sha256 is not a digest of 64 hexadecimal digits", path);
    else
        status = oas_filemap_open(&map, path, message);
    const unsigned char *at = status == OASIS_OK ? memmem(map.data, map.size, expected, OAS_SHA256_HEX) : NULL;
    if (status == OASIS_OK && !at)
        status = oas_fail(message, OASIS_E_FORMAT, "%s: the digits of the digest are not written plainly", path);
    if (status == OASIS_OK) {
        char found[OAS_SHA256_HEX + 1];
        sha256 h;
        oas_sha256_begin(&h);
        oas_sha256_add(&h, map.data, (size_t)(at - map.data));
        oas_sha256_add(&h, digest_blank, OAS_SHA256_HEX);
        oas_sha256_add(&h, at + OAS_SHA256_HEX, map.size - (size_t)(at - map.data) - OAS_SHA256_HEX);
        oas_sha256_end(&h, found);
        if (strcmp(found, expected) != 0)
            status = oas_fail(message, OASIS_E_FORMAT, "%s: the file is damaged: SHA-256 %s, expected %s", path, found,
                              expected);
    }
    oas_filemap_close(&map);
    oas_weight_file_close(&w);
    return status;
}
