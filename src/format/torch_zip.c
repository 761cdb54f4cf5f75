/*
 * PyTorch's .pth, .pt and .bin files.  Since version 1.6: a zip archive with a pickle that describes tensors, and an
 * entry of plain bytes for each storage.
 *
 *     NAME/data.pkl    -> names, types, sizes, strides, which storage
 *     NAME/data/KEY    -> the bytes of storage KEY
 *     NAME/byteorder   -> "little", where present
 *
 * Before: five pickles (a magic number, a version, the machine, the tensors, the keys of storages), then for each of these
 * keys the number of its values and their bytes.  A pickle that is neither is refused.
 */
#include "format/cursor.h"
#include "format/pickle.h"
#include "format/weight_file_build.h"
#include "format/zip.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char pickle_name[] = "/data.pkl";

/* A storage of the old form. */
typedef struct old_storage {
    const pickle_node *node; /* one of those that refer to it */
    const unsigned char *data;
} old_storage;

/* The archive being read. */
typedef struct archive {
    weight_file *w;
    const weight_source *file;
    zip_archive zip;
    char root[OAS_ZIP_MAX_NAME + 1]; /* with its slash */
    size_t root_length;
    pickle pickle;
    char where[400]; /* "FILE: NAME/data.pkl" */
    old_storage *old; /* of the old form, by their keys; NULL: look into the zip archive */
    size_t olds;
    size_t copied;   /* bytes of tensors that do not lie in the file in order */
    oasis_message *message;
} archive;

/* ---- one tensor -------------------------------------------------------------------------------------------------- */

static oasis_status read_sizes(const archive *a, const stored *t, const pickle_node *tuple, const char *what,
                               int64_t *size)
{
    if (tuple->count > OAS_STORED_MAX_RANK)
        return oas_fail(a->message, OASIS_E_FORMAT, "%s: tensor %s: %s of %u dimensions, expected at most %d", a->where,
                        t->name, what, tuple->count, OAS_STORED_MAX_RANK);
    for (uint32_t i = 0; i < tuple->count; i++) {
        const pickle_node *n = &a->pickle.node[tuple->item[i]];
        if (n->kind != OAS_PICKLE_NUMBER || n->number < 0)
            return oas_fail(a->message, OASIS_E_FORMAT,
                            "%s: tensor %s: %s holds something else than a whole number of at least 0", a->where,
                            t->name, what);
        size[i] = n->number;
    }
    return OASIS_OK;
}

static int by_key(const void *a, const void *b)
{
    const pickle_node *x = ((const old_storage *)a)->node, *y = ((const old_storage *)b)->node;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

/* The storage of the old form with the key of that node, or NULL. */
static old_storage *find_old(const archive *a, const pickle_node *key)
{
    const old_storage wanted = {.node = key};
    return a->olds ? bsearch(&wanted, a->old, a->olds, sizeof wanted, by_key) : NULL;
}

/* The bytes of a storage, which must be there in full. */
static oasis_status find_storage(const archive *a, const stored *t, const pickle_node *s, const unsigned char **data)
{
    char name[2 * OAS_ZIP_MAX_NAME];
    size_t bytes;
    if (a->old) {
        const old_storage *old = find_old(a, s);
        *data = old ? old->data : NULL;
        if (!old || !old->data || old->node->dtype != s->dtype || old->node->number != s->number)
            return oas_fail(a->message, OASIS_E_FORMAT, "%s: tensor %s: its storage %.*s of %" PRId64
                            " values of %s is not in the file", a->where, t->name,
                            (int)(s->length < 100 ? s->length : 100), s->text, s->number, oas_stored_dtype_name(s->dtype));
        return OASIS_OK;
    }
    int n = snprintf(name, sizeof name, "%sdata/%.*s", a->root, (int)(s->length < 100 ? s->length : 100), s->text);
    const zip_entry *found = oas_zip_find(&a->zip, name, (size_t)n);
    if (!found)
        return oas_fail(a->message, OASIS_E_FORMAT, "%s: tensor %s: its storage %s is not in the archive", a->where,
                        t->name, name);
    if (oas_mul_overflows((size_t)s->number, oas_stored_block_bytes(s->dtype), &bytes) || bytes != found->size)
        return oas_fail(a->message, OASIS_E_FORMAT,
                        "%s: tensor %s: its storage %s has %zu bytes, expected %" PRId64 " values of %s", a->where,
                        t->name, name, found->size, s->number, oas_stored_dtype_name(s->dtype));
    *data = found->data;
    return OASIS_OK;
}

/* The place of the last value that the strides reach, from the first; false when it overflows. */
static bool last_place(const stored *t, const int64_t *stride, size_t *last)
{
    *last = 0;
    for (int i = 0; i < t->rank; i++) {
        size_t step;
        if (oas_mul_overflows((size_t)t->size[i] - 1, (size_t)stride[i], &step) || oas_add_overflows(*last, step, last))
            return false;
    }
    return true;
}

static bool in_order(const stored *t, const int64_t *stride)
{
    int64_t expected = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->size[i] != 1 && stride[i] != expected)
            return false;
        expected *= t->size[i];
    }
    return true;
}

/* Copies values that lie at strides into their order, row by row of the last index. */
static void gather(const stored *t, const int64_t *stride, const unsigned char *from, unsigned char *to)
{
    size_t width = oas_stored_block_bytes(t->dtype);
    int64_t at[OAS_STORED_MAX_RANK] = {0}, columns = t->size[t->rank - 1], column = stride[t->rank - 1];
    for (size_t done = 0; done < t->bytes;) {
        size_t row = 0;
        for (int i = 0; i < t->rank - 1; i++)
            row += (size_t)at[i] * (size_t)stride[i];
        for (int64_t j = 0; j < columns; j++, done += width)
            memcpy(to + done, from + (row + (size_t)j * (size_t)column) * width, width);
        for (int i = t->rank - 2; i >= 0 && ++at[i] == t->size[i]; i--)
            at[i] = 0;
    }
}

/* Places a tensor whose strides are not those of its sizes in memory of its own.  Views of which many fit into one
 * storage could take far more memory than the file has bytes: no more than that is copied. */
static oasis_status copy_strided(archive *a, stored *t, const int64_t *stride, const unsigned char *from)
{
    if (t->bytes > a->file->size - a->copied)
        return oas_fail(
            a->message, OASIS_E_FORMAT,
            "%s: tensor %s: views of storages take more than the %zu bytes of the file, expected tensors in order",
            a->where, t->name, a->file->size);
    a->copied += t->bytes;
    unsigned char *copy = oas_weight_file_take(a->w, t->bytes, 1);
    if (!copy)
        return oas_fail_memory(a->message, t->bytes, "a tensor that is not in order");
    gather(t, stride, from, copy);
    t->data = copy;
    return OASIS_OK;
}

static oasis_status read_tensor(archive *a, const pickle_node *n, stored *t)
{
    const pickle_node *s = &a->pickle.node[n->item[0]], *sizes = &a->pickle.node[n->item[1]];
    const pickle_node *strides = &a->pickle.node[n->item[2]];
    int64_t stride[OAS_STORED_MAX_RANK] = {0}, values;
    const unsigned char *data = NULL;
    size_t last, end;
    t->dtype = s->dtype;
    t->rank = (int)sizes->count;
    OAS_TRY(read_sizes(a, t, sizes, "sizes", t->size));
    OAS_TRY(read_sizes(a, t, strides, "strides", stride));
    if (sizes->count != strides->count)
        return oas_fail(a->message, OASIS_E_FORMAT, "%s: tensor %s: %u sizes, but %u strides", a->where, t->name,
                        sizes->count, strides->count);
    OAS_TRY(find_storage(a, t, s, &data));
    if (!oas_stored_extent(t, &values, &t->bytes))
        return oas_fail(a->message, OASIS_E_FORMAT, "%s: tensor %s: sizes %s have more values than can be counted",
                        a->where, t->name, oas_stored_shape(t->rank, t->size).text);
    if (values == 0)
        return OASIS_OK;
    if (!last_place(t, stride, &last) || oas_add_overflows(last, (size_t)n->number, &end) || end >= (size_t)s->number)
        return oas_fail(a->message, OASIS_E_FORMAT,
                        "%s: tensor %s: sizes %s at strides %s from value %" PRId64 " go beyond the storage's %" PRId64
                        " values",
                        a->where, t->name, oas_stored_shape(t->rank, t->size).text,
                        oas_stored_shape(t->rank, stride).text, n->number, s->number);
    const unsigned char *first = data + (size_t)n->number * oas_stored_block_bytes(t->dtype);
    if (!in_order(t, stride))
        return copy_strided(a, t, stride, first);
    t->data = first;
    return OASIS_OK;
}

/* ---- the dictionary ---------------------------------------------------------------------------------------------- */

static bool holds_tensors(const archive *a, const pickle_node *dict)
{
    for (uint32_t i = 1; i < dict->count; i += 2)
        if (a->pickle.node[dict->item[i]].kind == OAS_PICKLE_TENSOR)
            return true;
    return false;
}

/* The dictionary of tensors: the root, or one level below it as training programs save it. */
static oasis_status find_tensors(const archive *a, const pickle_node **dict)
{
    static const char *const wrappers[] = {"state_dict", "model"};
    *dict = &a->pickle.node[a->pickle.root];
    if ((*dict)->kind != OAS_PICKLE_DICT)
        return oas_fail(a->message, OASIS_E_FORMAT, "%s: stands for something else than a dictionary of tensors",
                        a->where);
    if (holds_tensors(a, *dict))
        return OASIS_OK;
    for (size_t i = 0; i < sizeof wrappers / sizeof wrappers[0]; i++) {
        const pickle_node *inside = oas_pickle_get(&a->pickle, *dict, wrappers[i]);
        if (inside && inside->kind == OAS_PICKLE_DICT && holds_tensors(a, inside)) {
            *dict = inside;
            return OASIS_OK;
        }
    }
    return oas_fail(a->message, OASIS_E_FORMAT,
                    "%s: a dictionary without tensors, expected some, or \"state_dict\" or \"model\" that has some",
                    a->where);
}

static oasis_status read_tensors(archive *a)
{
    const pickle_node *dict;
    size_t count = 0;
    OAS_TRY(find_tensors(a, &dict));
    for (uint32_t i = 1; i < dict->count; i += 2)
        count += a->pickle.node[dict->item[i]].kind == OAS_PICKLE_TENSOR;
    OAS_TRY(oas_weight_file_reserve(a->w, count, 0, a->message));
    for (uint32_t i = 0; i + 1 < dict->count; i += 2) {
        const pickle_node *key = &a->pickle.node[dict->item[i]], *value = &a->pickle.node[dict->item[i + 1]];
        if (value->kind != OAS_PICKLE_TENSOR)
            continue;
        stored t = {0};
        if (key->kind != OAS_PICKLE_TEXT)
            return oas_fail(a->message, OASIS_E_FORMAT, "%s: a tensor whose name is no text", a->where);
        OAS_TRY(oas_weight_file_check_name(a->where, key->text, key->length, a->message));
        if (!(t.name = oas_weight_file_text(a->w, key->text, key->length)))
            return oas_fail_memory(a->message, key->length + 1, "a tensor's name");
        OAS_TRY(read_tensor(a, value, &t));
        oas_weight_file_add(a->w, &t);
    }
    return OASIS_OK;
}

/* ---- the archive ------------------------------------------------------------------------------------------------- */

/* The one entry NAME/data.pkl gives the root NAME/. */
static oasis_status find_root(archive *a, const zip_entry **pkl)
{
    const size_t n = sizeof pickle_name - 1;
    *pkl = NULL;
    for (size_t i = 0; i < a->zip.count; i++) {
        const zip_entry *e = &a->zip.entry[i];
        if (e->name_length <= n || memcmp(e->name + e->name_length - n, pickle_name, n) != 0)
            continue;
        if (*pkl)
            return oas_fail(a->message, OASIS_E_FORMAT, "%s: two entries are named data.pkl: %.*s and %.*s",
                            a->file->path, (int)(*pkl)->name_length, (*pkl)->name, (int)e->name_length, e->name);
        *pkl = e;
    }
    if (!*pkl)
        return oas_fail(a->message, OASIS_E_FORMAT, "%s: a zip archive without data.pkl: not a file of torch.save",
                        a->file->path);
    a->root_length = (*pkl)->name_length - n + 1;
    memcpy(a->root, (*pkl)->name, a->root_length);
    snprintf(a->where, sizeof a->where, "%.250s: %.100sdata.pkl", a->file->path, a->root);
    return OASIS_OK;
}

static const zip_entry *find_in_root(const archive *a, const char *name)
{
    char whole[2 * OAS_ZIP_MAX_NAME];
    int n = snprintf(whole, sizeof whole, "%s%s", a->root, name);
    return oas_zip_find(&a->zip, whole, (size_t)n);
}

static oasis_status check_kind(const archive *a)
{
    if (find_in_root(a, "constants.pkl"))
        return oas_fail(a->message, OASIS_E_UNSUPPORTED,
                        "%s: a TorchScript program, expected weights: save its state_dict() instead", a->file->path);
    const zip_entry *order = find_in_root(a, "byteorder");
    if (order && (order->size < 6 || memcmp(order->data, "little", 6) != 0))
        return oas_fail(a->message, OASIS_E_UNSUPPORTED, "%s: byte order \"%.*s\", this program reads \"little\"",
                        a->file->path, (int)(order->size < 16 ? order->size : 16), (const char *)order->data);
    return OASIS_OK;
}

static oasis_status read_archive(archive *a)
{
    const zip_entry *pkl;
    OAS_TRY(oas_zip_read(&a->zip, a->w, a->file, a->message));
    OAS_TRY(find_root(a, &pkl));
    OAS_TRY(check_kind(a));
    oasis_status status = oas_pickle_read(&a->pickle, pkl->data, pkl->size, a->where, a->message);
    if (status == OASIS_OK)
        status = read_tensors(a);
    oas_pickle_free(&a->pickle);
    return status;
}

/* ---- before version 1.6 ---------------------------------------------------------------------------------------------- */

static const unsigned char old_magic[] = {0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46,
                                          0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

static bool is_old(const weight_source *file)
{
    return file->size >= sizeof old_magic && memcmp(file->data, old_magic, sizeof old_magic) == 0;
}

/* All storages that tensors refer to, sorted by their keys, each once. */
static oasis_status list_old_storages(archive *a)
{
    size_t count = 0;
    for (uint32_t i = 0; i < a->pickle.nodes; i++)
        count += a->pickle.node[i].kind == OAS_PICKLE_STORAGE;
    a->old = oas_alloc(count + 1, sizeof *a->old);
    if (!a->old)
        return oas_fail_memory(a->message, count * sizeof *a->old, "a list of storages");
    for (uint32_t i = 0, n = 0; i < a->pickle.nodes; i++)
        if (a->pickle.node[i].kind == OAS_PICKLE_STORAGE)
            a->old[n++].node = &a->pickle.node[i];
    qsort(a->old, count, sizeof *a->old, by_key);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || by_key(&a->old[i], &a->old[a->olds - 1]) != 0)
            a->old[a->olds++] = a->old[i];
    return OASIS_OK;
}

/* The values of each key, in the order of the list. */
static oasis_status place_old_storages(archive *a, const pickle *keys, cursor *c)
{
    const pickle_node *list = &keys->node[keys->root];
    if (list->kind != OAS_PICKLE_LIST)
        return oas_fail(a->message, OASIS_E_FORMAT, "%s: the fifth pickle is no list of storages", a->where);
    for (uint32_t i = 0; i < list->count; i++) {
        const pickle_node *key = &keys->node[list->item[i]];
        old_storage *s = key->kind == OAS_PICKLE_TEXT ? find_old(a, key) : NULL;
        if (!s || s->data)
            return oas_fail(a->message, OASIS_E_FORMAT, "%s: entry %u of the list of storages is %s", a->where, i,
                            s ? "there twice" : "no storage of a tensor");
        size_t bytes;
        uint64_t values = oas_cursor_number(c, 8);
        if (oas_mul_overflows((size_t)s->node->number, oas_stored_block_bytes(s->node->dtype), &bytes) ||
            values != (uint64_t)s->node->number || !(s->data = oas_cursor_take(c, bytes)))
            return oas_fail(a->message, OASIS_E_FORMAT,
                            "%s: storage %.*s begins with %" PRIu64 " values and %zu bytes follow, expected %" PRId64
                            " values of %s", a->where, (int)(key->length < 100 ? key->length : 100), key->text, values,
                            oas_cursor_left(c), s->node->number, oas_stored_dtype_name(s->node->dtype));
    }
    return OASIS_OK;
}

/* The next pickle of the file. */
static oasis_status next_pickle(archive *a, cursor *c, pickle *p)
{
    oas_pickle_free(p);
    size_t left = oas_cursor_left(c);
    oasis_status s = oas_pickle_read(p, c->data + c->at, left < OAS_PICKLE_MAX_BYTES ? left : OAS_PICKLE_MAX_BYTES, a->where,
                                     a->message);
    oas_cursor_take(c, p->used);
    return s;
}

static oasis_status read_old_pickles(archive *a, pickle *other)
{
    cursor c = {.data = a->file->data, .size = a->file->size, .at = sizeof old_magic};
    OAS_TRY(next_pickle(a, &c, other));
    if (other->node[other->root].kind != OAS_PICKLE_NUMBER || other->node[other->root].number != 1001)
        return oas_fail(a->message, OASIS_E_UNSUPPORTED, "%s: a version other than 1001 of PyTorch's old format", a->where);
    OAS_TRY(next_pickle(a, &c, other));
    const pickle_node *little = oas_pickle_get(other, &other->node[other->root], "little_endian");
    if (other->node[other->root].kind != OAS_PICKLE_DICT || !little || little->number != 1)
        return oas_fail(a->message, OASIS_E_UNSUPPORTED, "%s: not written by a little-endian machine", a->where);
    OAS_TRY(next_pickle(a, &c, &a->pickle));
    OAS_TRY(next_pickle(a, &c, other));
    OAS_TRY(list_old_storages(a));
    OAS_TRY(place_old_storages(a, other, &c));
    return read_tensors(a);
}

static oasis_status read_old_file(weight_file *w, const weight_source *file, oasis_message *message)
{
    if (!is_old(file))
        return oas_fail(message, OASIS_E_FORMAT, "%s: does not begin with the number of PyTorch's old format", file->path);
    archive *a = oas_alloc(1, sizeof *a);
    if (!a)
        return oas_fail_memory(message, sizeof *a, "an archive");
    a->w = w;
    a->file = file;
    a->message = message;
    snprintf(a->where, sizeof a->where, "%.250s", file->path);
    pickle other = {.nodes = 0};
    oasis_status status = read_old_pickles(a, &other);
    oas_pickle_free(&other);
    oas_pickle_free(&a->pickle);
    oas_free(a->old);
    oas_free(a);
    return status;
}

const weight_reader oas_read_torch_old = {.name = "PyTorch before 1.6", .probe = is_old, .read = read_old_file};

/* ---- since then ------------------------------------------------------------------------------------------------------ */

static bool is_zip(const weight_source *file)
{
    return file->size >= 4 && memcmp(file->data, "PK\3\4", 4) == 0;
}

/* A pickle begins with its protocol. */
static bool is_pickle(const weight_source *file)
{
    return file->size >= 2 && file->data[0] == 0x80 && file->data[1] >= 2 && file->data[1] <= 5;
}

static bool probe(const weight_source *file)
{
    return is_zip(file) || is_pickle(file);
}

static oasis_status read_file(weight_file *w, const weight_source *file, oasis_message *message)
{
    if (is_pickle(file))
        return oas_fail(message, OASIS_E_UNSUPPORTED,
                        "%s: a bare pickle, which could run any program: nothing of it was read", file->path);
    if (!is_zip(file))
        return oas_fail(message, OASIS_E_FORMAT, "%s: does not begin like a zip archive of torch.save", file->path);
    archive *a = oas_alloc(1, sizeof *a);
    if (!a)
        return oas_fail_memory(message, sizeof *a, "an archive");
    a->w = w;
    a->file = file;
    a->message = message;
    oasis_status status = read_archive(a);
    oas_free(a);
    return status;
}

const weight_reader oas_read_torch_zip = {.name = "PyTorch zip", .probe = probe, .read = read_file};
