/* Zip archives and pickles made byte by byte for tests, also wrong ones.  Include <cmocka.h> first. */
#ifndef TESTS_FORMAT_ARCHIVE_H
#define TESTS_FORMAT_ARCHIVE_H

#include "helpers.h"

enum { MAX_PARTS = 32 };

typedef struct part {
    char name[1200];
    bytes data;
    unsigned method, flags;
    size_t align;       /* of the data, through padding in the local header; 0 = as it comes */
    const char *local;  /* another name in the local header, or NULL */
    size_t packed_more; /* added to the packed size in the directory */
    size_t size_more;   /* added to both sizes in the directory */
    size_t local_more;  /* added to the offset of the local header */
} part;

typedef struct archive_plan {
    part part[MAX_PARTS];
    int parts;
    bool zip64;                          /* sizes and offsets in zip64 records */
    size_t directory_more, entries_more; /* added to the directory's offset and number of entries */
    const char *comment;
} archive_plan;

part *plan_add(archive_plan *plan, const char *name, const void *data, size_t size);
bytes plan_zip(const archive_plan *plan);
void plan_free(archive_plan *plan);

/* ---- pickles, as torch.save writes them -------------------------------------------------------------------------- */

void pickle_begin(bytes *p);                  /* protocol 2, an OrderedDict, a mark for its items */
void pickle_text(bytes *p, const char *text); /* BINUNICODE */
void pickle_number(bytes *p, int64_t value);  /* BININT or LONG1 */
void pickle_global(bytes *p, const char *module, const char *name);
void pickle_tuple(bytes *p, int n, const int64_t *value);
void pickle_storage(bytes *p, const char *type, const char *key, int64_t values);
/* name -> tensor */
void pickle_tensor(bytes *p, const char *name, const char *type, const char *key, int64_t values, int64_t offset,
                   int rank, const int64_t *size, const int64_t *stride);
void pickle_end(bytes *p); /* SETITEMS, STOP */

#endif
