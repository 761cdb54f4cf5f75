/* Following the elements of Matroska. */
#include "video/ebml_walk.h"

#include <sys/stat.h>

bool oas_ebml_number(FILE *file, int64_t *position, bool identifier, int64_t *value)
{
    unsigned char bytes[8];
    if (*position < 0 || fseeko(file, (off_t)*position, SEEK_SET) != 0 || fread(bytes, 1, 1, file) != 1 ||
        bytes[0] == 0)
        return false;
    int length = 1;
    while (!(bytes[0] & 0x80 >> (length - 1)))
        length++;
    if ((identifier && length > 4) || fread(bytes + 1, 1, (size_t)length - 1, file) != (size_t)length - 1)
        return false;
    *position += length;
    uint64_t v = 0, all = ((uint64_t)1 << 7 * length) - 1;
    for (int i = 0; i < length; i++)
        v = v << 8 | bytes[i];
    if (identifier)
        *value = (int64_t)v;
    else
        *value = (v & all) == all ? -1 : (int64_t)(v & all);
    return true;
}

void oas_ebml_walk_open(oas_ebml_walk *w, const char *path)
{
    struct stat s;
    *w = (oas_ebml_walk){.file = fopen(path, "rbe")};
    if (w->file && (fstat(fileno(w->file), &s) != 0 || !S_ISREG(s.st_mode)))
        oas_ebml_walk_close(w);
    else if (w->file)
        w->size = (int64_t)s.st_size;
}

void oas_ebml_walk_close(oas_ebml_walk *w)
{
    if (w->file)
        fclose(w->file);
    w->file = NULL;
}

bool oas_ebml_walk_to(oas_ebml_walk *w, int64_t position)
{
    while (w->file && w->at < position && w->at < w->size) {
        int64_t at = w->at, id, size;
        if (!oas_ebml_number(w->file, &at, true, &id) || !oas_ebml_number(w->file, &at, false, &size))
            return false;
        bool entered = id == OAS_EBML_SEGMENT || id == OAS_EBML_CLUSTER || id == OAS_EBML_BLOCK_GROUP;
        if (!entered && (size < 0 || size > w->size - at))
            return false;
        if (id == OAS_EBML_SEGMENT && size >= 0 && size < w->size - at)
            w->size = at + size; /* what lies behind is not part of it */
        w->at = entered ? at : at + size;
    }
    return true;
}
