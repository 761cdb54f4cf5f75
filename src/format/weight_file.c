/* The handle that all readers fill, and what can be asked of it. */
#include "base/json.h"
#include "format/weight_file_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct block block;
struct block {
    block *next;
};

typedef struct mapping mapping;
struct mapping {
    filemap map;
    mapping *next;
};

typedef struct family family;
struct family {
    weight_file *file;
    family *next;
};

struct weight_file {
    char *path;
    const char *format;
    stored *tensor;
    const stored **by_name;
    stored_note *note;
    size_t count, room, notes, note_room;
    block *blocks;
    mapping *maps;
    family *parts; /* files that are closed with this one */
};

static const weight_reader *const readers[] = {&oas_read_safetensors, &oas_read_torch_old, &oas_read_torch_zip, &oas_read_gguf,
                                               &oas_read_shards};

/* ---- building ---------------------------------------------------------------------------------------------------- */

oasis_status oas_weight_file_new(weight_file **w, const char *path, const char *format, oasis_message *message)
{
    *w = oas_alloc(1, sizeof **w);
    if (!*w)
        return oas_fail_memory(message, sizeof **w, "a table of tensors");
    (*w)->format = format;
    (*w)->path = oas_text_copy(path);
    if ((*w)->path)
        return OASIS_OK;
    oas_weight_file_close(w);
    return oas_fail_memory(message, strlen(path) + 1, "a file name");
}

void *oas_weight_file_take(weight_file *w, size_t n, size_t size)
{
    size_t bytes;
    if (oas_mul_overflows(n, size, &bytes) || oas_add_overflows(bytes, OAS_ALIGN, &bytes))
        return NULL;
    block *b = oas_alloc(bytes, 1);
    if (!b)
        return NULL;
    b->next = w->blocks;
    w->blocks = b;
    return (unsigned char *)b + OAS_ALIGN;
}

char *oas_weight_file_text(weight_file *w, const char *text, size_t length)
{
    char *copy = length < SIZE_MAX ? oas_weight_file_take(w, length + 1, 1) : NULL;
    if (copy)
        memcpy(copy, text, length);
    return copy;
}

oasis_status oas_weight_file_map(weight_file *w, const char *path, weight_source *file, oasis_message *message)
{
    mapping *m = oas_weight_file_take(w, 1, sizeof *m);
    if (!m)
        return oas_fail_memory(message, sizeof *m, "a mapped file");
    OAS_TRY(oas_filemap_open(&m->map, path, message));
    m->next = w->maps;
    w->maps = m;
    *file = (weight_source){.path = path, .data = m->map.data, .size = m->map.size};
    return OASIS_OK;
}

oasis_status oas_weight_file_reserve(weight_file *w, size_t tensors, size_t notes, oasis_message *message)
{
    if (tensors > OAS_STORED_MAX_COUNT)
        return oas_fail(message, OASIS_E_FORMAT, "%s: %zu tensors, expected at most %d", w->path, tensors,
                        OAS_STORED_MAX_COUNT);
    if (notes > OAS_STORED_MAX_NOTES)
        return oas_fail(message, OASIS_E_FORMAT, "%s: metadata of %zu entries, expected at most %d", w->path, notes,
                        OAS_STORED_MAX_NOTES);
    w->tensor = oas_weight_file_take(w, tensors, sizeof *w->tensor);
    w->by_name = oas_weight_file_take(w, tensors, sizeof *w->by_name);
    w->note = oas_weight_file_take(w, notes, sizeof *w->note);
    if (!w->tensor || !w->by_name || !w->note)
        return oas_fail_memory(message, tensors * sizeof *w->tensor, "a table of tensors");
    w->room = tensors;
    w->note_room = notes;
    return OASIS_OK;
}

void oas_weight_file_add(weight_file *w, const stored *tensor)
{
    if (w->count == w->room)
        return;
    stored *t = &w->tensor[w->count++];
    *t = *tensor;
    for (int i = t->rank; i < OAS_STORED_MAX_RANK; i++)
        t->size[i] = 1;
}

void oas_weight_file_add_note(weight_file *w, const char *key, const char *value)
{
    if (w->notes < w->note_room)
        w->note[w->notes++] = (stored_note){key, value};
}

oasis_status oas_weight_file_check_name(const char *path, const char *name, size_t length, oasis_message *message)
{
    if (length == 0)
        return oas_fail(message, OASIS_E_FORMAT, "%s: a tensor has an empty name", path);
    if (length > OAS_STORED_MAX_NAME)
        return oas_fail(message, OASIS_E_FORMAT, "%s: a tensor has a name of %zu bytes, expected at most %d", path,
                        length, OAS_STORED_MAX_NAME);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return oas_fail(message, OASIS_E_FORMAT,
                            "%s: a tensor has a name with the control character 0x%02x at byte %zu", path,
                            (unsigned)(unsigned char)name[i], i);
    if (!oas_text_is_utf8(name, length))
        return oas_fail(message, OASIS_E_FORMAT, "%s: a tensor has a name that is not UTF-8", path);
    return OASIS_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const stored *const *)a)->name, (*(const stored *const *)b)->name);
}

/* Tensors in one place are told apart by name, so that a file is always refused with the same sentence. */
static int compare_places(const void *a, const void *b)
{
    const stored *x = *(const stored *const *)a, *y = *(const stored *const *)b;
    uintptr_t p = (uintptr_t)x->data, q = (uintptr_t)y->data;
    return p != q ? (p < q ? -1 : 1) : strcmp(x->name, y->name);
}

const stored *const *oas_weight_file_by_place(weight_file *w)
{
    for (size_t i = 0; i < w->count; i++)
        w->by_name[i] = &w->tensor[i];
    if (w->count > 1)
        qsort(w->by_name, w->count, sizeof *w->by_name, compare_places);
    return w->by_name;
}

oasis_status oas_weight_file_check_overlap(weight_file *w, oasis_message *message)
{
    const stored *const *order = oas_weight_file_by_place(w);
    for (size_t i = 1; i < w->count; i++) {
        const stored *a = order[i - 1], *b = order[i];
        const unsigned char *end = a->bytes ? (const unsigned char *)a->data + a->bytes : NULL;
        if (end && end > (const unsigned char *)b->data)
            return oas_fail(message, OASIS_E_FORMAT, "%s: tensors %s and %s overlap by %zu bytes", w->path, a->name,
                            b->name, (size_t)(end - (const unsigned char *)b->data));
    }
    return OASIS_OK;
}

oasis_status oas_weight_file_adopt(weight_file *w, weight_file *part, oasis_message *message)
{
    family *f = oas_weight_file_take(w, 1, sizeof *f);
    if (!f) {
        oas_weight_file_close(&part);
        return oas_fail_memory(message, sizeof *f, "one of several files");
    }
    *f = (family){.file = part, .next = w->parts};
    w->parts = f;
    return OASIS_OK;
}

oasis_status oas_weight_file_index(weight_file *w, oasis_message *message)
{
    for (size_t i = 0; i < w->count; i++)
        w->by_name[i] = &w->tensor[i];
    if (w->count > 1)
        qsort(w->by_name, w->count, sizeof *w->by_name, compare_names);
    for (size_t i = 1; i < w->count; i++)
        if (compare_names(&w->by_name[i - 1], &w->by_name[i]) == 0)
            return oas_fail(message, OASIS_E_FORMAT, "%s: tensor %s occurs twice, expected unique names", w->path,
                            w->by_name[i]->name);
    return OASIS_OK;
}

oasis_status oas_weight_file_open_as(weight_file **w, const char *path, const weight_reader *reader,
                                     oasis_message *message)
{
    weight_source file;
    OAS_TRY(oas_weight_file_new(w, path, reader->name, message));
    oasis_status status = oas_weight_file_map(*w, path, &file, message);
    if (status == OASIS_OK)
        status = reader->read(*w, &file, message);
    if (status == OASIS_OK)
        status = oas_weight_file_index(*w, message);
    if (status != OASIS_OK)
        oas_weight_file_close(w);
    return status;
}

oasis_status oas_weight_file_read(weight_file **w, const weight_reader *reader, const void *data, size_t size,
                                  const char *path, oasis_message *message)
{
    weight_source file = {.path = path, .data = data, .size = size};
    OAS_TRY(oas_weight_file_new(w, path, reader->name, message));
    oasis_status status = reader->read(*w, &file, message);
    if (status == OASIS_OK)
        status = oas_weight_file_index(*w, message);
    if (status != OASIS_OK)
        oas_weight_file_close(w);
    return status;
}

/* ---- opening by content ------------------------------------------------------------------------------------------ */

oasis_status oas_weight_file_open(weight_file **w, const char *path, oasis_message *message)
{
    *w = NULL;
    filemap map;
    OAS_TRY(oas_filemap_open(&map, path, message));
    weight_source file = {.path = path, .data = map.data, .size = map.size};
    const weight_reader *reader = NULL;
    for (size_t i = 0; i < sizeof readers / sizeof readers[0] && !reader; i++)
        if (readers[i]->probe(&file))
            reader = readers[i];
    oas_filemap_close(&map);
    if (!reader)
        return oas_fail(message, OASIS_E_UNSUPPORTED,
                        "%s: not a format of weights that this program knows (safetensors, PyTorch zip, GGUF)", path);
    return oas_weight_file_open_as(w, path, reader, message);
}

void oas_weight_file_close(weight_file **w)
{
    weight_file *all = *w;
    *w = NULL;
    if (!all)
        return;
    for (family *f = all->parts; f; f = f->next)
        oas_weight_file_close(&f->file);
    for (mapping *m = all->maps; m; m = m->next)
        oas_filemap_close(&m->map);
    for (block *b = all->blocks; b;) {
        block *next = b->next;
        oas_free(b);
        b = next;
    }
    oas_free(all->path);
    oas_free(all);
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

const char *oas_weight_file_path(const weight_file *w)
{
    return w->path;
}

const char *oas_weight_file_format(const weight_file *w)
{
    return w->format;
}

const weight_file *oas_weight_file_part(const weight_file *w, size_t index)
{
    const family *f = w->parts;
    while (f && index-- > 0)
        f = f->next;
    return f ? f->file : NULL;
}

size_t oas_weight_file_count(const weight_file *w)
{
    return w->count;
}

const stored *oas_weight_file_at(const weight_file *w, size_t index)
{
    return index < w->count ? &w->tensor[index] : NULL;
}

const stored *oas_weight_file_find(const weight_file *w, const char *name)
{
    stored wanted = {.name = name};
    const stored *key = &wanted;
    const stored **at = w->count ? bsearch(&key, w->by_name, w->count, sizeof *w->by_name, compare_names) : NULL;
    return at ? *at : NULL;
}

static bool is_float(stored_dtype dtype)
{
    return dtype <= OAS_STORED_F8_E5M2 || dtype == OAS_STORED_Q8_0;
}

oasis_status oas_weight_file_need(const weight_file *w, const char *name, int rank, const int64_t *size,
                                  const stored **found, oasis_message *message)
{
    const stored *t = oas_weight_file_find(w, name);
    *found = NULL;
    if (!t)
        return oas_fail(message, OASIS_E_FORMAT, "%s: tensor %s is missing, expected one of shape %s", w->path, name,
                        oas_stored_shape(rank, size).text);
    bool same = t->rank == rank;
    for (int i = 0; i < rank && same; i++)
        same = t->size[i] == size[i];
    if (!same)
        return oas_fail(message, OASIS_E_FORMAT, "%s: tensor %s has shape %s, expected %s", w->path, name,
                        oas_stored_shape(t->rank, t->size).text, oas_stored_shape(rank, size).text);
    if (!is_float(t->dtype))
        return oas_fail(message, OASIS_E_FORMAT, "%s: tensor %s holds %s, expected floating-point values", w->path,
                        name, oas_stored_dtype_name(t->dtype));
    *found = t;
    return OASIS_OK;
}

const char *oas_weight_file_note(const weight_file *w, const char *key)
{
    for (size_t i = 0; i < w->notes; i++)
        if (strcmp(w->note[i].key, key) == 0)
            return w->note[i].value;
    return NULL;
}

size_t oas_weight_file_notes(const weight_file *w, const stored_note **notes)
{
    *notes = w->note;
    return w->notes;
}
