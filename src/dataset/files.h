/* The files of training data: found in folders of any depth, sorted by name, pictures apart from videos. */
#ifndef OAS_DATASET_FILES_H
#define OAS_DATASET_FILES_H

#include <oasis/options.h>

/* Paths in order. */
typedef struct file_names {
    char **path;
    int count, capacity;
} file_names;

/*
 * Lists videos, pictures, printf patterns, and what folders hold of the first two.  Fails with OASIS_E_ARGUMENT (nothing
 * given), OASIS_E_IO (missing), OASIS_E_FORMAT (nothing usable in it), OASIS_E_MEMORY; the lists are to be freed then too.
 */
oasis_status oas_files_list(const oasis_text_list *data, file_names *pictures, file_names *videos,
                            oasis_message *message);
void oas_files_free(file_names *names);

#endif
