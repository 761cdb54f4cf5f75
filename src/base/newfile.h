/*
 * A new file that appears under its name only when it is complete: it is written under a temporary name beside it,
 * synced to disk, and renamed.  Until then, and after any failure, what was under the name before is untouched.
 */
#ifndef OAS_BASE_NEWFILE_H
#define OAS_BASE_NEWFILE_H

#include "base/status.h"

typedef struct newfile newfile;

/* Creates the temporary file.  Fails with OASIS_E_IO (folder missing, no permission) or OASIS_E_MEMORY. */
oasis_status oas_newfile_open(newfile **file, const char *path, oasis_message *message);

/* Appends.  OASIS_E_IO names the reason (full disk, quota) and the place. */
oasis_status oas_newfile_write(newfile *file, const void *data, size_t size, oasis_message *message);

/* Overwrites bytes that have been written already. */
oasis_status oas_newfile_patch(newfile *file, size_t offset, const void *data, size_t size, oasis_message *message);

/* Syncs and renames.  The handle must still be closed. */
oasis_status oas_newfile_finish(newfile *file, oasis_message *message);

/* All of it at once: opens, writes, finishes, closes. */
oasis_status oas_newfile_put(const char *path, const void *data, size_t size, oasis_message *message);

/* Without a successful finish the temporary file is removed.  Clears the pointer; accepts NULL. */
void oas_newfile_close(newfile **file);

#endif
