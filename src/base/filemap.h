/*
 * Read-only mapping of a whole file.  Bytes come from the disk when they are first read, and the system may drop them
 * again: a mapped model of 5 GB costs memory only where it is looked at.
 *
 * Nothing here survives another program cutting the file short while it is mapped: reading beyond the new end raises
 * SIGBUS, as with every mapping.  Programs of ours replace files by renaming, which leaves mappings intact.
 */
#ifndef OAS_BASE_FILEMAP_H
#define OAS_BASE_FILEMAP_H

#include "base/status.h"

typedef struct filemap {
    const unsigned char *data; /* aligned to a page; NULL when closed */
    size_t size;               /* bytes, above 0 when open */
} filemap;

/*
 * Maps the file.  Fails with OASIS_E_IO (missing, not readable, a folder, a pipe or device), OASIS_E_FORMAT (empty),
 * OASIS_E_MEMORY (too large for the address space); then *map is zeroed and need not be closed.
 */
oasis_status oas_filemap_open(filemap *map, const char *path, oasis_message *message);

/*
 * Tells the system that bytes of a mapping have been used and are not wanted in memory: what was copied out of a large
 * file does not count twice.  Reading them again brings them back from the file.
 */
void oas_filemap_drop(const void *data, size_t size);

/* Unmaps and zeroes; accepts a zeroed map. */
void oas_filemap_close(filemap *map);

#endif
