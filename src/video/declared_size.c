/* The sizes that MP4, Matroska and AVI files declare. */
#include "video/declared_size.h"

#include "video/ebml_walk.h"

#include <string.h>

static bool read_at(FILE *file, int64_t position, unsigned char *bytes, size_t n)
{
    return position >= 0 && fseeko(file, (off_t)position, SEEK_SET) == 0 && fread(bytes, 1, n, file) == n;
}

static uint64_t big_endian(const unsigned char *bytes, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++)
        v = v << 8 | bytes[i];
    return v;
}

static void need(oas_declared_size *d, int64_t bytes, const char *part)
{
    if (bytes > d->needed) {
        d->needed = bytes;
        d->part = part;
    }
}

/* The name of a known outermost MP4 box, or NULL. */
static const char *mp4_box(const unsigned char *type)
{
    static const char *const names[] = {"ftyp", "moov", "mdat", "free", "skip", "wide", "pnot", "udta", "uuid", "moof",
                                        "mfra", "sidx", "ssix", "styp", "meta", "prft", "emsg", "pdin", "bloc"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (memcmp(type, names[i], 4) == 0)
            return names[i];
    return NULL;
}

static void walk_mp4(FILE *file, oas_declared_size *d)
{
    unsigned char head[16];
    int64_t position = 0;
    while (read_at(file, position, head, 8)) {
        const char *name = mp4_box(head + 4);
        int64_t size = (int64_t)big_endian(head, 4);
        if (!name)
            return;
        d->is_mp4 = true;
        d->has_index |= strcmp(name, "moov") == 0;
        d->fragmented |= strcmp(name, "moof") == 0;
        if (size == 1) {
            if (!read_at(file, position, head, 16))
                return;
            size = (int64_t)big_endian(head + 8, 8);
        }
        if (size == 0) /* up to the end of the file, however long that is */
            return;
        if (size < 8 || size > INT64_MAX - position)
            return;
        position += size;
        need(d, position, name);
    }
}

static void walk_matroska(FILE *file, oas_declared_size *d)
{
    int64_t position = 0, id, size;
    while (oas_ebml_number(file, &position, true, &id) && oas_ebml_number(file, &position, false, &size)) {
        if (id == OAS_EBML_SEGMENT) { /* step into it */
            if (size > 0 && size < INT64_MAX - position)
                need(d, position + size, "Segment");
            continue;
        }
        if (size < 0 || size > INT64_MAX - position)
            return;
        position += size;
        need(d, position, id == OAS_EBML_CLUSTER ? "Cluster" : "element");
    }
}

static void walk_avi(FILE *file, oas_declared_size *d)
{
    unsigned char head[12];
    int64_t position = 0;
    while (read_at(file, position, head, 12) && memcmp(head, "RIFF", 4) == 0 && memcmp(head + 8, "AVI", 3) == 0) {
        int64_t size = (int64_t)head[4] | (int64_t)head[5] << 8 | (int64_t)head[6] << 16 | (int64_t)head[7] << 24;
        if (size == 0)
            return;
        position += 8 + size + (size & 1);
        need(d, position - (size & 1), "RIFF list");
    }
}

oas_declared_size oas_declared_size_of(FILE *file)
{
    oas_declared_size d = {0};
    unsigned char head[12];
    if (!read_at(file, 0, head, sizeof head))
        return d;
    if (memcmp(head, "\x1A\x45\xDF\xA3", 4) == 0)
        walk_matroska(file, &d);
    else if (memcmp(head, "RIFF", 4) == 0)
        walk_avi(file, &d);
    else
        walk_mp4(file, &d);
    return d;
}
