/*
 * Files that appear under their name only when they are complete.
 *
 * A file is written as ".NAME.oasis-tmp-N.EXT" beside its target, pictures in a folder of such a name; both are synced
 * and moved into place by commit.  Devices, pipes and standard output are written to directly.
 */
#ifndef OAS_VIDEO_OUTPUT_FILE_H
#define OAS_VIDEO_OUTPUT_FILE_H

#include "video/media.h"

#include <libavformat/avio.h>

typedef struct oas_output {
    char *target;    /* final name; a link is followed; NULL for standard output */
    char *temporary; /* NULL when written directly */
    bool overwrite;
    bool direct; /* a device, a pipe or standard output */
    int fd;      /* -1 when closed */
    int error;   /* errno of the first failed write, else 0 */
    AVIOContext *io;
} oas_output;

/*
 * Creates the file ("-": standard output).
 *   input  name of what is read, or NULL; the same file is refused (OASIS_E_ARGUMENT), whatever `overwrite` says
 * Fails with OASIS_E_IO: it exists (without `overwrite`), is a folder, or cannot be created.
 */
oasis_status oas_output_open(oas_output *output, const char *path, const char *input, bool overwrite,
                             oasis_message *message);

/* Flushes, syncs the file and its folder, and gives the file its name. */
oasis_status oas_output_commit(oas_output *output, oasis_message *message);

/* Removes what is not committed; accepts a zeroed output. */
void oas_output_close(oas_output *output);

/* The sentence for a failed write: "cannot write 'NAME': No space left on device". */
oasis_status oas_output_fail(const oas_output *output, int code, oasis_message *message);

/* Many files at once. */
typedef struct oas_output_set {
    char *folder;    /* where the files will be; made at commit when it is not there */
    char *temporary; /* the folder they are written in */
    char **names;    /* of the files */
    size_t count;
    bool overwrite;
} oas_output_set;

/* Makes the temporary folder beside `folder` (or inside it, where it exists). */
oasis_status oas_output_set_open(oas_output_set *set, const char *folder, bool overwrite, oasis_message *message);

/* Writes one file and syncs it.  Fails with OASIS_E_IO, also when the name exists in the folder and overwrite is off. */
oasis_status oas_output_set_write(oas_output_set *set, const char *name, const uint8_t *data, size_t size,
                                  oasis_message *message);
oasis_status oas_output_set_commit(oas_output_set *set, oasis_message *message);
void oas_output_set_close(oas_output_set *set);

#endif
