/*
 * Files made in memory for the tests of src/format, and failures on demand.  Include <cmocka.h> first.
 */
#ifndef TESTS_FORMAT_HELPERS_H
#define TESTS_FORMAT_HELPERS_H

#include "format/weight_file_build.h"

/* Bytes that grow; a test program may run out of memory and end. */
typedef struct bytes {
    unsigned char *data;
    size_t size, room;
} bytes;

void bytes_add(bytes *b, const void *data, size_t size);
void bytes_text(bytes *b, const char *text);
void bytes_u(bytes *b, uint64_t value, int n); /* n bytes, little-endian */
void bytes_free(bytes *b);

/* A safetensors file: the length of `header`, the header, `data` bytes 0, 1, 2, ... */
bytes safetensors_bytes(const char *header, size_t data);

/*
 * Copies the bytes so that they end at a page that may not be touched: reading one byte too many ends the program.
 * Freed with guarded_free.
 */
typedef struct guarded {
    unsigned char *data, *pages;
    size_t size, length;
} guarded;
guarded guarded_copy(const void *data, size_t size);
void guarded_writable(guarded *g);
void guarded_free(guarded *g);

/* Reads guarded bytes and expects a refusal whose sentence names the file and contains `fragment`. */
void expect_refused(const weight_reader *reader, const char *name, const bytes *file, oasis_status status,
                    const char *fragment);

/* Fails unless all sentences of refusals since the program began are different. */
void expect_distinct_sentences(size_t at_least);

/* Notes the sentence of a refusal for expect_distinct_sentences. */
void note_sentence(const char *name, const char *sentence);

/* After this, the n-th allocation (0 = the next) of oas_alloc or jansson fails once, and those after succeed.
 * Returns to normal with n < 0. */
void fail_allocation(long n);
bool allocation_failed(void);

/* Fails unless `status` tells the truth about what happened since fail_allocation: OASIS_E_MEMORY after a failure of
 * oas_alloc, OASIS_OK without one.  After one of jansson's any status will do: it may lose characters (base/json.h). */
void expect_allocation_status(oasis_status status, const char *sentence);

/* A name in a fresh folder that exists until the program ends; the text is static. */
const char *temp_path(const char *name);

/* Number of entries in the folder of temp_path. */
int temp_files(void);

bytes read_whole(const char *path);
void write_whole(const char *path, const void *data, size_t size);

#endif
