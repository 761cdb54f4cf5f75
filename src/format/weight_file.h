/*
 * A file of named tensors, whatever its format: safetensors, PyTorch .pth, GGUF, or several safetensors files with an
 * index.  A reader checks the whole table before it gives out any of it: after OASIS_OK every tensor has a sane shape,
 * as many bytes as the shape says, and lies inside the file.  The values themselves are whatever the file holds.
 *
 *     weight_file *w = NULL;
 *     OAS_TRY(oas_weight_file_open(&w, path, message));
 *     const stored *bias = oas_weight_file_find(w, "head.head.bias");
 *     ...
 *     oas_weight_file_close(&w);
 *
 * Tensors lie in the mapped file: data stays valid until the handle is closed.
 */
#ifndef OAS_FORMAT_WEIGHT_FILE_H
#define OAS_FORMAT_WEIGHT_FILE_H

#include "base/status.h"
#include "format/stored.h"

/* ---- a file ------------------------------------------------------------------------------------------------------ */

typedef struct weight_file weight_file;

/*
 * Opens a file of any format that this program reads, told apart by content: safetensors, .pth (zip), GGUF, or
 * *.safetensors.index.json.
 *   w  receives the handle; NULL on failure
 * Fails with OASIS_E_IO, OASIS_E_FORMAT (damaged: the sentence names file, tensor, found, expected),
 * OASIS_E_UNSUPPORTED (a format or variant we do not read, by name), OASIS_E_MEMORY.
 */
oasis_status oas_weight_file_open(weight_file **w, const char *path, oasis_message *message);
void oas_weight_file_close(weight_file **w);

const char *oas_weight_file_path(const weight_file *w);
const char *
oas_weight_file_format(const weight_file *w); /* "safetensors", "safetensors, sharded", "PyTorch zip",
                                                            "PyTorch before 1.6", "GGUF" */

/* The files that an index names, from 0 on; NULL beyond the last, and for a file that is no index. */
const weight_file *oas_weight_file_part(const weight_file *w, size_t index);

/* Tensors, in the order of the file. */
size_t oas_weight_file_count(const weight_file *w);
const stored *oas_weight_file_at(const weight_file *w, size_t index);

/* The tensor of that name, or NULL. */
const stored *oas_weight_file_find(const weight_file *w, const char *name);

/*
 * The tensor of that name and shape; its dtype must be a float type.  Fails with OASIS_E_FORMAT: missing, other shape,
 * not floats; the sentence names file, tensor, found and expected.
 */
oasis_status oas_weight_file_need(const weight_file *w, const char *name, int rank, const int64_t *size,
                                  const stored **found, oasis_message *message);

/* Metadata: the value of a key, or NULL; all pairs in the order of the file. */
const char *oas_weight_file_note(const weight_file *w, const char *key);
size_t oas_weight_file_notes(const weight_file *w, const stored_note **notes);

#endif
