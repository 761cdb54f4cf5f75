/*
 * Tensors: shape, type and storage.  Sizes run slow to fast, the last index is contiguous, and the channels are last:
 *
 *     pixels   [B, T, H, W, 3]       batch, frame, row, column, colour
 *     latents  [B, F, h8, w8, C]     h8 = H/8
 *     tokens   [N, d]                N = B*F*h*w, batch slowest, then frame, row, column
 *     weights  as the model file has them: [out, in] and [out, in, kt, kh, kw]
 */
#ifndef OAS_TENSOR_TENSOR_H
#define OAS_TENSOR_TENSOR_H

#include "base/memory.h"
#include "base/status.h"

enum { OAS_MAX_RANK = 5 };

typedef enum oas_dtype {
    OAS_F32,
    OAS_BF16,
    OAS_DTYPES,           /* what can be computed with; beyond, types that weights can have until they are used */
    OAS_Q8_0 = OAS_DTYPES /* of matrices [out, in], see tensor/q8.h */
} oas_dtype;

/* Where values lie: in the process's memory, or in that of the GPU where the graph computes. */
typedef enum oas_place { OAS_HOST, OAS_DEVICE } oas_place;

/* Of a type that can be computed with. */
static inline size_t oas_dtype_size(oas_dtype dtype)
{
    return dtype == OAS_F32 ? 4 : 2;
}

const char *oas_dtype_name(oas_dtype dtype);

typedef struct shape {
    int rank;
    int64_t size[OAS_MAX_RANK];
} shape;

typedef struct packed packed; /* a weight as a backend wants it; see tensor/pack.h */

typedef struct tensor tensor;
struct tensor {
    shape shape;
    oas_dtype dtype;
    oas_place place;
    void *data;         /* NULL while planning; on the GPU where place says so, not for the host to follow */
    const char *name;   /* of a weight, for messages; else NULL */
    packed *packed;     /* cache of prepared forms; only weights have one */
    tensor *grad;       /* float, same shape; NULL unless somebody asked for it */
    tensor *origin;     /* of a view: whose storage it shows, and so whose gradient; else NULL */
    bool needs_grad;
    bool mapped;        /* data lies in a mapped file, which has it again when the pages are dropped */
};

/* The tensor whose storage, and so whose gradient, t shows: itself where it is no view. */
static inline tensor *oas_root(tensor *t)
{
    return t->origin ? t->origin : t;
}

/* The number of values, and of bytes.  Shapes in tensors are checked at creation: neither overflows. */
int64_t oas_count(const shape *s);
size_t oas_bytes(const tensor *t);

shape oas_shape(int rank, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e);
#define OAS_SHAPE1(a) oas_shape(1, a, 1, 1, 1, 1)
#define OAS_SHAPE2(a, b) oas_shape(2, a, b, 1, 1, 1)
#define OAS_SHAPE3(a, b, c) oas_shape(3, a, b, c, 1, 1)
#define OAS_SHAPE4(a, b, c, d) oas_shape(4, a, b, c, d, 1)
#define OAS_SHAPE5(a, b, c, d, e) oas_shape(5, a, b, c, d, e)

bool oas_shape_equal(const shape *a, const shape *b);

/* Writes "[2, 3, 4]". */
typedef struct shape_text {
    char text[96];
} shape_text;
shape_text oas_shape_text(const shape *s);

/* The size counted from the last: oas_last(t, 0) is the number of channels. */
static inline int64_t oas_last(const tensor *t, int from_end)
{
    return t->shape.size[t->shape.rank - 1 - from_end];
}

/* bf16 is the upper half of a float; rounding is to nearest, ties to even; NaN stays NaN. */
static inline float oas_from_bf16(uint16_t b)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)b << 16};
    return v.f;
}

static inline uint16_t oas_to_bf16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    if ((v.u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((v.u >> 16) | 0x40u);
    return (uint16_t)((v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16);
}

/* Copies n values from one type to another; from OAS_Q8_0 to others, not back. */
void oas_convert(void *to, oas_dtype to_dtype, const void *from, oas_dtype from_dtype, int64_t n);

#endif
