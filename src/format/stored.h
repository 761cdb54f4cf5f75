/*
 * A tensor as it lies in a file: name, element type, shape, and bytes that nobody has converted yet.
 */
#ifndef OAS_FORMAT_STORED_H
#define OAS_FORMAT_STORED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    OAS_STORED_MAX_RANK = 8,
    OAS_STORED_MAX_NAME = 512,      /* bytes without the end mark */
    OAS_STORED_MAX_COUNT = 1 << 16, /* tensors of a file */
    OAS_STORED_MAX_NOTES = 4096     /* entries of metadata */
};

typedef enum stored_dtype {
    OAS_STORED_F64,
    OAS_STORED_F32,
    OAS_STORED_F16,
    OAS_STORED_BF16,
    OAS_STORED_F8_E4M3,
    OAS_STORED_F8_E5M2,
    OAS_STORED_I64,
    OAS_STORED_I32,
    OAS_STORED_I16,
    OAS_STORED_I8,
    OAS_STORED_U64,
    OAS_STORED_U32,
    OAS_STORED_U16,
    OAS_STORED_U8,
    OAS_STORED_BOOL,
    OAS_STORED_Q8_0, /* blocks of 32 along the last index: a half-float scale, then 32 signed bytes (doc/formats.md) */
    OAS_STORED_DTYPES
} stored_dtype;

typedef struct stored {
    const char *name; /* UTF-8, terminated, unique in the file */
    stored_dtype dtype;
    int rank;                          /* 0 (one value) .. OAS_STORED_MAX_RANK */
    int64_t size[OAS_STORED_MAX_RANK]; /* slow to fast, each >= 0; 1 beyond the rank */
    const void *data; /* little-endian, may be unaligned: see oas_stored_aligned; NULL when bytes is 0 */
    size_t bytes;
} stored;

typedef struct stored_note {
    const char *key, *value;
} stored_note;

/* "F32"; the names of safetensors. */
const char *oas_stored_dtype_name(stored_dtype dtype);

/* The bytes that hold `block` values: 4 and 1 for F32, 34 and 32 for Q8_0. */
size_t oas_stored_block_bytes(stored_dtype dtype);
int64_t oas_stored_block_values(stored_dtype dtype);

/*
 * The number of values and bytes that dtype, rank and size of *w stand for; false when a size is negative, a product
 * overflows, or rows are no whole number of blocks.
 */
bool oas_stored_extent(const stored *w, int64_t *values, size_t *bytes);

/* The number of values of a tensor that a reader gave out. */
int64_t oas_stored_count(const stored *w);

/* Whether data may be read as an array of its type. */
bool oas_stored_aligned(const stored *w);

/* Writes "[2, 3, 4]". */
typedef struct stored_shape {
    char text[192];
} stored_shape;
stored_shape oas_stored_shape(int rank, const int64_t *size);

/*
 * Values first .. first+n-1 as floats, from any dtype; 64-bit types are rounded.  The caller sees to it that the range
 * is inside the tensor.
 */
void oas_stored_floats(const stored *w, int64_t first, int64_t n, float *to);

#endif
