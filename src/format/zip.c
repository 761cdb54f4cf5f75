/* The directory of a zip archive, zip64 included.  Names of fields are those of the format's description (APPNOTE). */
#include "format/zip.h"

#include "format/cursor.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    END_BYTES = 22,     /* end of central directory record, without its comment */
    END64_BYTES = 56,   /* zip64 end of central directory record */
    LOCATOR_BYTES = 20, /* zip64 end of central directory locator */
    CENTRAL_BYTES = 46, /* central directory header, without name, extra and comment */
    LOCAL_BYTES = 30,   /* local file header, without name and extra */
    MAX_COMMENT = 0xffff,
    END_SIGNATURE = 0x06054b50,
    END64_SIGNATURE = 0x06064b50,
    LOCATOR_SIGNATURE = 0x07064b50,
    CENTRAL_SIGNATURE = 0x02014b50,
    LOCAL_SIGNATURE = 0x04034b50,
    ZIP64_EXTRA = 1,
    ENCRYPTED = 1 /* bit of the flags */
};

typedef struct directory {
    uint64_t entries, offset, size; /* offset and size in bytes */
    size_t end;                     /* where the records behind the directory begin */
} directory;

/* A cursor over n bytes of the file at `at`, which is checked to be inside. */
static cursor bytes_at(const weight_source *file, uint64_t at, uint64_t n)
{
    bool inside = at <= file->size && n <= file->size - at;
    return (cursor){.data = file->data + (inside ? at : 0), .size = inside ? (size_t)n : 0, .failed = !inside};
}

/* The end record is the last one whose comment reaches exactly to the end of the file. */
static bool find_end(const weight_source *file, size_t *at)
{
    for (size_t comment = 0; comment <= MAX_COMMENT && comment + END_BYTES <= file->size; comment++) {
        *at = file->size - END_BYTES - comment;
        cursor c = bytes_at(file, *at, END_BYTES);
        if (oas_cursor_number(&c, 4) != END_SIGNATURE)
            continue;
        oas_cursor_take(&c, END_BYTES - 4 - 2);
        if (oas_cursor_number(&c, 2) == comment)
            return true;
    }
    return false;
}

/* The zip64 records stand right before the end record. */
static oasis_status read_end64(const weight_source *file, size_t end_at, directory *d, oasis_message *message)
{
    cursor locator = bytes_at(file, end_at >= LOCATOR_BYTES ? end_at - LOCATOR_BYTES : file->size, LOCATOR_BYTES);
    if (oas_cursor_number(&locator, 4) != LOCATOR_SIGNATURE)
        return oas_fail(message, OASIS_E_FORMAT, "%s: the zip directory needs zip64 records, but has none", file->path);
    oas_cursor_take(&locator, 4);
    uint64_t at = oas_cursor_number(&locator, 8);
    cursor c = bytes_at(file, at, END64_BYTES);
    if (oas_cursor_number(&c, 4) != END64_SIGNATURE || at > end_at - LOCATOR_BYTES)
        return oas_fail(message, OASIS_E_FORMAT, "%s: no zip64 record at byte %" PRIu64 ", where the zip locator says",
                        file->path, at);
    oas_cursor_take(&c, 8 + 2 + 2 + 4 + 4 + 8);
    d->entries = oas_cursor_number(&c, 8);
    d->size = oas_cursor_number(&c, 8);
    d->offset = oas_cursor_number(&c, 8);
    d->end = (size_t)at;
    return OASIS_OK;
}

static oasis_status read_end(const weight_source *file, directory *d, oasis_message *message)
{
    size_t at;
    if (!find_end(file, &at))
        return oas_fail(message, OASIS_E_FORMAT, "%s: a zip archive without its directory: is the file cut off?",
                        file->path);
    cursor c = bytes_at(file, at, END_BYTES);
    oas_cursor_take(&c, 4);
    uint64_t disk = oas_cursor_number(&c, 2), first_disk = oas_cursor_number(&c, 2), here = oas_cursor_number(&c, 2);
    d->entries = oas_cursor_number(&c, 2);
    d->size = oas_cursor_number(&c, 4);
    d->offset = oas_cursor_number(&c, 4);
    d->end = at;
    if ((disk != 0 && disk != 0xffff) || (first_disk != 0 && first_disk != 0xffff) || here != d->entries)
        return oas_fail(message, OASIS_E_UNSUPPORTED, "%s: one part of a zip archive in several parts", file->path);
    if (d->entries == 0xffff || d->size == 0xffffffff || d->offset == 0xffffffff)
        OAS_TRY(read_end64(file, at, d, message));
    if (d->offset > d->end || d->size > d->end - d->offset)
        return oas_fail(message, OASIS_E_FORMAT,
                        "%s: the zip directory has %" PRIu64 " bytes from byte %" PRIu64 ", beyond its end at %zu",
                        file->path, d->size, d->offset, d->end);
    if (d->entries > OAS_ZIP_MAX_ENTRIES)
        return oas_fail(message, OASIS_E_FORMAT, "%s: a zip archive of %" PRIu64 " entries, expected at most %d",
                        file->path, d->entries, OAS_ZIP_MAX_ENTRIES);
    return OASIS_OK;
}

/* A central directory header. */
typedef struct central {
    unsigned flags, method;
    uint64_t packed, size, local; /* sizes, and the offset of the local header */
    cursor name, extra;
} central;

static bool read_central(cursor *c, central *e)
{
    if (oas_cursor_number(c, 4) != CENTRAL_SIGNATURE)
        return false;
    oas_cursor_take(c, 4); /* versions */
    e->flags = (unsigned)oas_cursor_number(c, 2);
    e->method = (unsigned)oas_cursor_number(c, 2);
    oas_cursor_take(c, 8); /* time, date, CRC */
    e->packed = oas_cursor_number(c, 4);
    e->size = oas_cursor_number(c, 4);
    size_t name = (size_t)oas_cursor_number(c, 2), extra = (size_t)oas_cursor_number(c, 2);
    size_t comment = (size_t)oas_cursor_number(c, 2);
    oas_cursor_take(c, 8); /* disk, attributes */
    e->local = oas_cursor_number(c, 4);
    e->name = (cursor){.data = oas_cursor_take(c, name), .size = name};
    e->extra = (cursor){.data = oas_cursor_take(c, extra), .size = extra};
    oas_cursor_take(c, comment);
    return !c->failed;
}

/* Values that do not fit 32 bits stand in an extra field, in this order, only those that do not fit. */
static bool read_zip64(central *e)
{
    uint64_t *const wide[] = {&e->size, &e->packed, &e->local};
    bool needed = e->size == 0xffffffff || e->packed == 0xffffffff || e->local == 0xffffffff;
    while (needed && oas_cursor_left(&e->extra) > 0) {
        uint64_t tag = oas_cursor_number(&e->extra, 2), n = oas_cursor_number(&e->extra, 2);
        cursor field = {.data = oas_cursor_take(&e->extra, n), .size = (size_t)n};
        if (e->extra.failed)
            return false;
        if (tag != ZIP64_EXTRA)
            continue;
        for (size_t i = 0; i < 3; i++)
            if (*wide[i] == 0xffffffff)
                *wide[i] = oas_cursor_number(&field, 8);
        return !field.failed;
    }
    return !needed;
}

/* Finds the data of an entry: the local header tells how many bytes stand before it. */
static oasis_status locate(const weight_source *file, const central *e, size_t limit, zip_entry *out,
                           oasis_message *message)
{
    int n = (int)out->name_length;
    if (e->flags & ENCRYPTED)
        return oas_fail(message, OASIS_E_UNSUPPORTED, "%s: zip entry %.*s is encrypted", file->path, n, out->name);
    if (e->method != 0)
        return oas_fail(
            message, OASIS_E_UNSUPPORTED,
            "%s: zip entry %.*s is compressed by method %u, expected stored entries as torch.save writes them",
            file->path, n, out->name, e->method);
    if (e->packed != e->size)
        return oas_fail(message, OASIS_E_FORMAT,
                        "%s: zip entry %.*s is stored, but has %" PRIu64 " bytes of %" PRIu64 " in the archive",
                        file->path, n, out->name, e->packed, e->size);
    cursor c = bytes_at(file, e->local, LOCAL_BYTES);
    if (oas_cursor_number(&c, 4) != LOCAL_SIGNATURE)
        return oas_fail(message, OASIS_E_FORMAT, "%s: zip entry %.*s has no header at byte %" PRIu64, file->path, n,
                        out->name, e->local);
    oas_cursor_take(&c, LOCAL_BYTES - 4 - 2 - 2);
    uint64_t name = oas_cursor_number(&c, 2), extra = oas_cursor_number(&c, 2);
    c = bytes_at(file, e->local + LOCAL_BYTES, name);
    const unsigned char *text = oas_cursor_take(&c, name);
    if (!text || name != out->name_length || memcmp(text, out->name, out->name_length) != 0)
        return oas_fail(message, OASIS_E_FORMAT, "%s: zip entry %.*s has another name at byte %" PRIu64, file->path, n,
                        out->name, e->local);
    uint64_t at = e->local + LOCAL_BYTES + name + extra; /* at most the file's size and 2^17 */
    if (at > limit || e->size > limit - at)
        return oas_fail(message, OASIS_E_FORMAT,
                        "%s: zip entry %.*s has %" PRIu64 " bytes from byte %" PRIu64
                        ", beyond the directory at byte %zu",
                        file->path, n, out->name, e->size, at, limit);
    out->header = file->data + e->local;
    out->data = file->data + at;
    out->size = (size_t)e->size;
    return OASIS_OK;
}

static int compare_names(const void *a, const void *b)
{
    const zip_entry *x = a, *y = b;
    size_t n = x->name_length < y->name_length ? x->name_length : y->name_length;
    int order = memcmp(x->name, y->name, n);
    return order ? order : (x->name_length > y->name_length) - (x->name_length < y->name_length);
}

static int compare_places(const void *a, const void *b)
{
    const zip_entry *x = a, *y = b;
    return (x->header > y->header) - (x->header < y->header);
}

/* Entries that share bytes with the next one are either damaged or meant to deceive. */
static oasis_status check_entries(zip_archive *zip, const weight_source *file, oasis_message *message)
{
    qsort(zip->entry, zip->count, sizeof *zip->entry, compare_places);
    for (size_t i = 1; i < zip->count; i++) {
        const zip_entry *a = &zip->entry[i - 1], *b = &zip->entry[i];
        if (a->data + a->size > b->header)
            return oas_fail(message, OASIS_E_FORMAT, "%s: zip entries %.*s and %.*s overlap", file->path,
                            (int)a->name_length, a->name, (int)b->name_length, b->name);
    }
    qsort(zip->entry, zip->count, sizeof *zip->entry, compare_names);
    for (size_t i = 1; i < zip->count; i++)
        if (compare_names(&zip->entry[i - 1], &zip->entry[i]) == 0)
            return oas_fail(message, OASIS_E_FORMAT, "%s: zip entry %.*s occurs twice", file->path,
                            (int)zip->entry[i].name_length, zip->entry[i].name);
    return OASIS_OK;
}

oasis_status oas_zip_read(zip_archive *zip, weight_file *w, const weight_source *file, oasis_message *message)
{
    directory d = {0};
    *zip = (zip_archive){0};
    OAS_TRY(read_end(file, &d, message));
    if (d.entries > d.size / CENTRAL_BYTES)
        return oas_fail(message, OASIS_E_FORMAT,
                        "%s: a zip directory of %" PRIu64 " bytes cannot hold %" PRIu64 " entries", file->path, d.size,
                        d.entries);
    zip->entry = oas_weight_file_take(w, (size_t)d.entries, sizeof *zip->entry);
    if (!zip->entry)
        return oas_fail_memory(message, (size_t)d.entries * sizeof *zip->entry, "a zip directory");
    cursor c = bytes_at(file, d.offset, d.size);
    for (uint64_t i = 0; i < d.entries; i++) {
        central e;
        if (!read_central(&c, &e))
            return oas_fail(message, OASIS_E_FORMAT, "%s: entry %" PRIu64 " of the zip directory is damaged",
                            file->path, i);
        if (e.name.size == 0 || e.name.size > OAS_ZIP_MAX_NAME)
            return oas_fail(message, OASIS_E_FORMAT,
                            "%s: entry %" PRIu64 " of the zip directory has a name of %zu bytes, expected 1 to %d",
                            file->path, i, e.name.size, OAS_ZIP_MAX_NAME);
        zip_entry *out = &zip->entry[zip->count];
        *out = (zip_entry){.name = (const char *)e.name.data, .name_length = e.name.size};
        if (!read_zip64(&e))
            return oas_fail(message, OASIS_E_FORMAT, "%s: zip entry %.*s has a damaged zip64 field", file->path,
                            (int)out->name_length, out->name);
        OAS_TRY(locate(file, &e, (size_t)d.offset, out, message));
        zip->count++;
    }
    return check_entries(zip, file, message);
}

const zip_entry *oas_zip_find(const zip_archive *zip, const char *name, size_t length)
{
    zip_entry wanted = {.name = name, .name_length = length};
    return zip->count ? bsearch(&wanted, zip->entry, zip->count, sizeof wanted, compare_names) : NULL;
}
