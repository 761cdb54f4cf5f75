/*
 * Zip archives as PyTorch writes them: entries stored as they are, never compressed.  Only the directory at the end is
 * believed, and only after each of its entries agrees with the header in front of its data.
 */
#ifndef OAS_FORMAT_ZIP_H
#define OAS_FORMAT_ZIP_H

#include "format/weight_file_build.h"

enum { OAS_ZIP_MAX_ENTRIES = 1 << 17, OAS_ZIP_MAX_NAME = 1024 };

typedef struct zip_entry {
    const char *name; /* in the file, not terminated */
    size_t name_length;
    const unsigned char *header, *data; /* in the file */
    size_t size;
} zip_entry;

typedef struct zip_archive {
    zip_entry *entry; /* [count], sorted by name; lives as long as the weight_file */
    size_t count;
} zip_archive;

/*
 * Reads the directory.  Entries do not overlap each other or the directory, and have different names.
 * Fails with OASIS_E_FORMAT (damaged, cut off), OASIS_E_UNSUPPORTED (compressed, encrypted, in several parts),
 * OASIS_E_MEMORY.
 */
oasis_status oas_zip_read(zip_archive *zip, weight_file *w, const weight_source *file, oasis_message *message);

/* The entry of that name, or NULL. */
const zip_entry *oas_zip_find(const zip_archive *zip, const char *name, size_t length);

#endif
