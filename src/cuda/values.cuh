/*
 * What the memory-bound kernels share.  They go over memory in chunks of 8 neighbouring values, one chunk per thread: 16 or
 * 32 bytes at once where the addresses allow (`wide`), else value by value.  A chunk never straddles two rows, and who adds
 * what in which order depends on the sizes alone: alignment changes the speed, not the bits.
 */
#ifndef OAS_CUDA_VALUES_CUH
#define OAS_CUDA_VALUES_CUH

#include "cuda/kernel.cuh"

#include <math.h>

enum { OAS_CHUNK = 8, OAS_BLOCK = 256, OAS_WARP = 32 };

/* As oas_activation (tensor/ops.h, which C++ cannot read). */
enum { OAS_CUDA_LINEAR, OAS_CUDA_GELU_TANH, OAS_CUDA_SILU, OAS_CUDA_RELU };

/* Sixteen bytes, moved by one instruction. */
struct alignas(16) oas_quad {
    uint32_t word[4];
};
struct alignas(16) oas_quad_floats {
    float value[4];
};

/* No array. */
static const cuda_array OAS_NONE = {NULL, 0};

/* ---- on the host ----------------------------------------------------------------------------------------------------- */

/* May chunks from multiples of `step` values on be moved 16 bytes at once?  Absent arrays never hinder. */
static inline bool oas_is_wide(const void *data, int64_t step)
{
    return !data || (step % OAS_CHUNK == 0 && (uintptr_t)data % 16 == 0);
}

static inline bool oas_is_wide(cuda_array a, int64_t step)
{
    return oas_is_wide(a.data, step);
}

static inline cuda_array oas_float_array(const float *data)
{
    cuda_array a = {(void *)data, 0};
    return a;
}

/* The array from value `at` on. */
static inline cuda_array oas_array_at(cuda_array a, int64_t at)
{
    if (a.data)
        a.data = (char *)a.data + at * (a.dtype == 0 ? 4 : 2);
    return a;
}

/* Division by a number that the host knows: i / by = (i * factor / 2^32 + i) / 2^shift for i below 2^31. */
struct oas_divisor {
    uint32_t by, factor, shift;
};

/* by from 1 to 2^31 - 1. */
static inline oas_divisor oas_divisor_of(int64_t by)
{
    uint32_t shift = 0;
    while ((int64_t)1 << shift < by)
        shift++;
    uint64_t beyond = ((uint64_t)1 << shift) - (uint64_t)by;
    oas_divisor d = {(uint32_t)by, (uint32_t)((beyond << 32) / (uint64_t)by + 1), shift};
    return d;
}

/* Blocks for `threads` threads that go on in strides when there are more items than fit the GPU several times over. */
static inline unsigned oas_blocks(const oas_cuda *c, int64_t threads)
{
    int64_t blocks = (threads + OAS_BLOCK - 1) / OAS_BLOCK, most = (int64_t)c->processors * 32;
    return (unsigned)(blocks < most ? blocks : most);
}

/* ---- on the GPU ------------------------------------------------------------------------------------------------------ */

/* This thread's first item, and how far the next one is. */
__device__ static inline int64_t oas_first_item(void)
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

__device__ static inline int64_t oas_item_step(void)
{
    return (int64_t)gridDim.x * blockDim.x;
}

/* i / by and i % by of whole numbers from 0 on, in 32 bits where they fit: 64 take several times as long. */
__device__ static inline int64_t oas_divide(int64_t i, int64_t by, int64_t *rest)
{
    if (((i | by) >> 32) == 0) {
        uint32_t q = (uint32_t)i / (uint32_t)by;
        *rest = (int64_t)((uint32_t)i - q * (uint32_t)by);
        return (int64_t)q;
    }
    *rest = i % by;
    return i / by;
}

/* Number i of a place, as oas_place_at of ops/op.h. */
__device__ static inline int64_t oas_place_at(const float *place, int i, int64_t most)
{
    float at = place ? place[i] : 0.f;
    return at >= (float)most ? most : at > 0.f ? (int64_t)at : 0;
}

/* i / d.by, and *rest = i % d.by, in a few instructions; i below 2^31. */
__device__ static inline uint32_t oas_divide(uint32_t i, const oas_divisor &d, uint32_t *rest)
{
    uint32_t q = ((uint32_t)((uint64_t)i * d.factor >> 32) + i) >> d.shift;
    *rest = i - q * d.by;
    return q;
}

/* How many of the 8 values from `at` on lie before `end`. */
__device__ static inline int oas_in_chunk(int64_t at, int64_t end)
{
    return end - at >= OAS_CHUNK ? OAS_CHUNK : end > at ? (int)(end - at) : 0;
}

/* 8 values as they lie in memory: 8 floats, or pairs of bf16 in the first four words. */
struct oas_raw8 {
    uint32_t word[OAS_CHUNK];
};

/*
 * Values i .. i+7, of which the first n are there, or all or none; the others become 0.  Nothing here waits for memory, so
 * several may be under way.
 */
__device__ static inline void oas_load_raw8_wide(oas_raw8 *raw, const cuda_array &a, int64_t i, bool there)
{
    OAS_UNROLL
    for (int k = 0; k < OAS_CHUNK; k++)
        raw->word[k] = 0;
    if (!there)
        return;
    const oas_quad *from = (const oas_quad *)((const char *)a.data + i * (a.dtype == 0 ? 4 : 2));
    oas_quad low = from[0];
    OAS_UNROLL
    for (int k = 0; k < 4; k++)
        raw->word[k] = low.word[k];
    if (a.dtype == 0) {
        oas_quad high = from[1];
        OAS_UNROLL
        for (int k = 0; k < 4; k++)
            raw->word[4 + k] = high.word[k];
    }
}

__device__ static inline void oas_load_raw8(oas_raw8 *raw, const cuda_array &a, int64_t i, int n, bool wide)
{
    oas_load_raw8_wide(raw, a, i, wide && n == OAS_CHUNK);
    if (wide && n == OAS_CHUNK)
        return;
    if (a.dtype == 0) {
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            raw->word[k] = k < n ? ((const uint32_t *)a.data)[i + k] : 0;
    } else {
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            raw->word[k / 2] |= k < n ? (uint32_t)((const uint16_t *)a.data)[i + k] << 16 * (k % 2) : 0;
    }
}

__device__ static inline void oas_from_raw8(float v[OAS_CHUNK], const oas_raw8 &raw, int32_t dtype)
{
    OAS_UNROLL
    for (int k = 0; k < OAS_CHUNK; k++) {
        uint32_t half = k % 2 ? raw.word[k / 2] & 0xffff0000u : raw.word[k / 2] << 16;
        v[k] = __uint_as_float(dtype == 0 ? raw.word[k] : half);
    }
}

__device__ static inline void oas_load8(float v[OAS_CHUNK], const cuda_array &a, int64_t i, int n, bool wide)
{
    oas_raw8 raw;
    oas_load_raw8(&raw, a, i, n, wide);
    oas_from_raw8(v, raw, a.dtype);
}

/* The same of two arrays at once. */
__device__ static inline void oas_load8_both(float v[OAS_CHUNK], const cuda_array &a, float w[OAS_CHUNK],
                                             const cuda_array &b, int64_t i, int n, bool wide)
{
    oas_raw8 first, second;
    oas_load_raw8(&first, a, i, n, wide);
    oas_load_raw8(&second, b, i, n, wide);
    oas_from_raw8(v, first, a.dtype);
    oas_from_raw8(w, second, b.dtype);
}

__device__ static inline void oas_store8_wide(const cuda_array &a, int64_t i, const float v[OAS_CHUNK])
{
    if (a.dtype == 0) {
        oas_quad_floats *to = (oas_quad_floats *)((float *)a.data + i);
        oas_quad_floats low = {{v[0], v[1], v[2], v[3]}}, high = {{v[4], v[5], v[6], v[7]}};
        to[0] = low;
        to[1] = high;
    } else {
        oas_quad q;
        OAS_UNROLL
        for (int k = 0; k < 4; k++)
            q.word[k] = oas_bf16_pair(v[2 * k], v[2 * k + 1]);
        *(oas_quad *)((uint16_t *)a.data + i) = q;
    }
}

/* Stores the first n values. */
__device__ static inline void oas_store8(const cuda_array &a, int64_t i, const float v[OAS_CHUNK], int n, bool wide)
{
    if (wide && n == OAS_CHUNK) {
        oas_store8_wide(a, i, v);
        return;
    }
    OAS_UNROLL
    for (int k = 0; k < OAS_CHUNK; k++)
        if (k < n)
            oas_store(&a, i + k, v[k]);
}

/* Adds them instead. */
__device__ static inline void oas_add8(const cuda_array &a, int64_t i, const float v[OAS_CHUNK], int n, bool wide)
{
    float sum[OAS_CHUNK];
    oas_load8(sum, a, i, n, wide);
    OAS_UNROLL
    for (int k = 0; k < OAS_CHUNK; k++)
        sum[k] += v[k];
    oas_store8(a, i, sum, n, wide);
}

/* The same of an array that repeats after `period` values. */
__device__ static inline void oas_load8_repeated(float v[OAS_CHUNK], const cuda_array &a, int64_t i, int64_t period,
                                                 int n, bool wide)
{
    int64_t at = i;
    if (i >= period)
        oas_divide(i, period, &at);
    if (wide || at + n <= period) {
        oas_load8(v, a, at, n, wide);
        return;
    }
    for (int k = 0; k < OAS_CHUNK; k++) {
        v[k] = k < n ? oas_load(&a, at) : 0.f;
        at = at + 1 < period ? at + 1 : 0;
    }
}

/*
 * Sums over neighbouring `lanes` (a power of two) of a block of OAS_BLOCK threads, the same in each of them.  All threads of
 * the warp get here together; with more than 32 lanes all of the block.
 */
__device__ static inline float oas_group_sum(float v, int lanes)
{
    for (int step = (lanes < OAS_WARP ? lanes : (int)OAS_WARP) / 2; step > 0; step /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, step);
    if (lanes <= OAS_WARP)
        return v;
    __shared__ float of_warp[OAS_BLOCK / OAS_WARP];
    int warp = (int)threadIdx.x / OAS_WARP, warps = lanes / OAS_WARP;
    __syncthreads(); /* everybody has read the sums of the call before */
    if (threadIdx.x % OAS_WARP == 0)
        of_warp[warp] = v;
    __syncthreads();
    float sum = 0.f;
    for (int i = 0; i < warps; i++)
        sum += of_warp[warp / warps * warps + i];
    return sum;
}

/*
 * act(x).  tanh-GELU is x / (1 + e^-2z) with z = 0.79788 (x + 0.044715 x^3), for (1 + tanh z) / 2 is the logistic function
 * of 2z.
 */
__device__ static inline float oas_cuda_act(int act, float x)
{
    if (act == OAS_CUDA_GELU_TANH)
        return x / (1.f + expf(-2.f * 0.7978845608f * (x + 0.044715f * x * x * x)));
    if (act == OAS_CUDA_SILU)
        return x / (1.f + expf(-x));
    if (act == OAS_CUDA_RELU)
        return x > 0.f ? x : 0.f;
    return x;
}

/* act(x) for a result of that type: in bf16 nobody sees the errors of the quick exponential and quotient. */
__device__ static inline float oas_cuda_act_in(int32_t dtype, int act, float x)
{
    return dtype == 1 && act == OAS_CUDA_SILU ? __fdividef(x, 1.f + __expf(-x)) : oas_cuda_act(act, x);
}

/* act'(x). */
__device__ static inline float oas_cuda_slope(int act, float x)
{
    if (act == OAS_CUDA_GELU_TANH) {
        float s = 1.f / (1.f + expf(-2.f * 0.7978845608f * (x + 0.044715f * x * x * x)));
        return s + x * s * (1.f - s) * 2.f * 0.7978845608f * (1.f + 3.f * 0.044715f * x * x);
    }
    if (act == OAS_CUDA_SILU) {
        float s = 1.f / (1.f + expf(-x));
        return s * (1.f + x * (1.f - s));
    }
    if (act == OAS_CUDA_RELU)
        return x > 0.f ? 1.f : 0.f;
    return 1.f;
}

#endif
