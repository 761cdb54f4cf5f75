/*
 * safetensors: eight bytes of length, a JSON header, then the tensors.
 *
 *     | n: u64 | header: n bytes of JSON, padded with spaces | tensors, in the order of their offsets |
 *     0        8                                             8+n                              end of file
 *
 * The header maps name -> {"dtype", "shape", "data_offsets": [begin, end]}, offsets counted from 8+n, and may map
 * "__metadata__" to texts.  The tensors must fill the rest of the file: no gaps, no overlaps (doc/formats.md).
 */
#ifndef OAS_FORMAT_SAFETENSORS_H
#define OAS_FORMAT_SAFETENSORS_H

#include "format/weight_file.h"

/*
 * The format has no name for blocks.  A file with the metadata "quantisation": "q8_0" holds Q8_0 tensors [.., n, 32 m] as
 * U8 [.., n, m, 34], block after block as GGUF has them, and no other U8 tensors; reading turns them back.
 */
enum { OAS_SAFETENSORS_MAX_HEADER = 100 * 1000 * 1000 }; /* bytes */

/* oas_weight_file_open for a file that must be safetensors. */
oasis_status oas_safetensors_open(weight_file **w, const char *path, oasis_message *message);

/*
 * Gives `bytes` bytes of entry `index`, beginning at `offset`, for the writer.  Called for the entries in the order of
 * the file and for the pieces of each in order, at most OAS_SAFETENSORS_PIECE bytes at a time, so that a file of any
 * size needs no second copy in memory.
 */
typedef oasis_status oas_safetensors_data(void *user, size_t index, size_t offset, void *to, size_t bytes,
                                          oasis_message *message);
enum { OAS_SAFETENSORS_PIECE = 1 << 20 };

/* What to write. */
typedef struct safetensors_file {
    const stored *entry; /* name, dtype (Q8_0 of 2 dimensions at least), rank, size; data, or NULL where `read` gives it; bytes is ignored */
    size_t count;
    const stored_note *note; /* metadata; the value of "sha256" is replaced by the file's digest (doc/formats.md) */
    size_t notes;
    oas_safetensors_data *read; /* may be NULL when every entry has data */
    void *user;
} safetensors_file;

/*
 * Writes a file atomically: it appears under its name when it is complete and on the disk, or not at all.  Entries keep
 * their order but for wide types coming before narrow ones, so that every tensor is aligned to its element.
 * Fails with OASIS_E_FORMAT (a bad name, a name twice, a shape that overflows, too many), OASIS_E_IO, OASIS_E_MEMORY,
 * or what `read` says.
 */
oasis_status oas_safetensors_write(const char *path, const safetensors_file *file, oasis_message *message);

/*
 * Compares the digest in the metadata with the file's bytes.  Fails with OASIS_E_FORMAT when they differ,
 * OASIS_E_UNSUPPORTED when the file carries no digest, or as oas_safetensors_open does.
 */
oasis_status oas_safetensors_verify(const char *path, oasis_message *message);

#endif
