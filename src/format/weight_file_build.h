/*
 * How readers fill a weights handle.  For src/format only.
 */
#ifndef OAS_FORMAT_WEIGHT_FILE_BUILD_H
#define OAS_FORMAT_WEIGHT_FILE_BUILD_H

#include "base/filemap.h"
#include "base/memory.h"
#include "format/weight_file.h"

/*
 * The bytes of a file while its table is read.  `map` is empty when the bytes belong to the caller (tests, fuzzing).
 */
typedef struct weight_source {
    const char *path; /* for messages */
    const unsigned char *data;
    size_t size;
} weight_source;

/* A format: how to know it, and how to read it.  read() adds all tensors and notes; the handle is closed by the caller
 * when it fails. */
typedef struct weight_reader {
    const char *name;
    bool (*probe)(const weight_source *file);
    oasis_status (*read)(weight_file *w, const weight_source *file, oasis_message *message);
} weight_reader;

extern const weight_reader oas_read_safetensors, oas_read_torch_zip, oas_read_torch_old, oas_read_gguf, oas_read_shards;

/* An empty handle. */
oasis_status oas_weight_file_new(weight_file **w, const char *path, const char *format, oasis_message *message);

/* Maps a file that lives as long as the handle. */
oasis_status oas_weight_file_map(weight_file *w, const char *path, weight_source *file, oasis_message *message);

/* Opens a file with one reader. */
oasis_status oas_weight_file_open_as(weight_file **w, const char *path, const weight_reader *reader,
                                     oasis_message *message);

/* Reads bytes that the caller keeps for as long as the handle lives.  `path` is only for messages. */
oasis_status oas_weight_file_read(weight_file **w, const weight_reader *reader, const void *data, size_t size,
                                  const char *path, oasis_message *message);

/* Zeroed memory that lives as long as the handle, or NULL. */
void *oas_weight_file_take(weight_file *w, size_t n, size_t size);

/* A terminated copy of a name or text that lives as long as the handle, or NULL. */
char *oas_weight_file_text(weight_file *w, const char *text, size_t length);

/* Makes room for so many tensors and notes.  Called once, before adding. */
oasis_status oas_weight_file_reserve(weight_file *w, size_t tensors, size_t notes, oasis_message *message);

/* Adds one; there must be room.  Name and data must live as long as the handle. */
void oas_weight_file_add(weight_file *w, const stored *tensor);
void oas_weight_file_add_note(weight_file *w, const char *key, const char *value);

/* Checks a name: 1 to OAS_STORED_MAX_NAME bytes of printable UTF-8 (no control characters, no NUL). */
oasis_status oas_weight_file_check_name(const char *path, const char *name, size_t length, oasis_message *message);

/* All tensors sorted by where their data begins; those without data come first.  Valid until oas_weight_file_index. */
const stored *const *oas_weight_file_by_place(weight_file *w);

/* Refuses tensors that share bytes.  Before oas_weight_file_index. */
oasis_status oas_weight_file_check_overlap(weight_file *w, oasis_message *message);

/* Hands over another handle, to be closed with this one; also when it fails. */
oasis_status oas_weight_file_adopt(weight_file *w, weight_file *part, oasis_message *message);

/* Sorts for oas_weight_file_find and refuses names that occur twice.  Called once, after the last tensor. */
oasis_status oas_weight_file_index(weight_file *w, oasis_message *message);

#endif
