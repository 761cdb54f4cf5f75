/*
 * CUDA for kernel files without a GPU: included by src/cuda/kernel.cuh when they are compiled as C++ (OASIS_CUDA=EMULATED).
 *
 * The threads of a block are fibers, which run one after the other until they reach a place where threads meet: a warp's
 * 32 lanes at a shuffle, __syncwarp, matrix load or product; a block's threads at __syncthreads.  Threads that meet at
 * different places, or that are missing because they returned, end the program with a sentence: on a GPU that hangs, or
 * gives anything.  Blocks run one after the other; shared memory is filled with bytes 0xff (NaN) before each.
 *
 * With OASIS_EMULATED_ORDER=backwards in the environment warps, lanes and blocks run in the opposite order: a kernel that
 * gives other bits then has a race.  Device memory can be reached only while a kernel or copy runs (emulated/runtime.c).
 *
 * Kernels are `static __global__`, templates too: their shared arrays lie in a section of their own.
 */
#ifndef OAS_TESTS_CUDA_EMULATOR_H
#define OAS_TESTS_CUDA_EMULATOR_H

#include "cuda/emulated/record.h"

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <tuple>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("oas_shared")))

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { uint32_t x, y; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };
struct alignas(8) int2 { int32_t x, y; };
struct alignas(16) int4 { int32_t x, y, z, w; };
struct alignas(4) ushort2 { uint16_t x, y; };
struct alignas(8) ushort4 { uint16_t x, y, z, w; };
static inline float2 make_float2(float x, float y) { return float2{x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return float4{x, y, z, w}; }
static inline uint2 make_uint2(uint32_t x, uint32_t y) { return uint2{x, y}; }
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return uint4{x, y, z, w}; }
static inline int2 make_int2(int32_t x, int32_t y) { return int2{x, y}; }
static inline int4 make_int4(int32_t x, int32_t y, int32_t z, int32_t w) { return int4{x, y, z, w}; }

/* ---- what emulated/emulator.cpp does ---------------------------------------------------------------------------------- */

namespace emulated {

enum meeting { SYNC_THREADS, SYNC_WARP, SHUFFLE, LOAD_MATRICES, LOAD_MATRICES_TRANS, MULTIPLY, ALL, BALLOT };

/* What a lane brings to a meeting of its warp, and takes away. */
struct lane_call {
    meeting kind;
    int line;
    uint64_t value, result; /* of a shuffle: bits */
    int source;             /* of a shuffle: the lane to take from */
    const void *row;        /* of a matrix load */
    uint32_t words[8];      /* fragments: a, then b; or what a load gives */
    float c[4];
};

struct place {
    dim3 thread, block, threads, blocks;
    unsigned char *dynamic;
};

extern place *now; /* of the running thread */

void meet_block(int line);
void meet_warp(lane_call *call); /* lane of now->thread */
int lane();
void launch(dim3 blocks, dim3 threads, size_t shared_bytes, const void *kernel, void (*run)(void *), void *arg);
bool allow_shared(const void *kernel, size_t bytes);

template <class... P> struct packed_call {
    void (*kernel)(P...);
    dim3 blocks, threads;
    size_t shared_bytes;
    std::tuple<P...> arguments;
    static void run(void *self)
    {
        packed_call *c = (packed_call *)self;
        std::apply(c->kernel, c->arguments);
    }
    static void launch_all(void *self)
    {
        packed_call *c = (packed_call *)self;
        launch(c->blocks, c->threads, c->shared_bytes, (const void *)c->kernel, run, c);
    }
};

template <class... P, class... A>
static inline void start(oas_cuda *cuda, void (*kernel)(P...), dim3 blocks, dim3 threads, size_t shared_bytes,
                         A &&...arguments)
{
    packed_call<P...> c = {kernel, blocks, threads, shared_bytes, std::tuple<P...>((P)arguments...)};
    oas_emulated_put(cuda, packed_call<P...>::launch_all, &c, sizeof c);
}

template <class T> static inline T shuffle(T v, int source, int line)
{
    static_assert(sizeof(T) <= 8, "a shuffle moves 4 or 8 bytes");
    lane_call c = {};
    c.kind = SHUFFLE;
    c.line = line;
    c.source = source;
    memcpy(&c.value, &v, sizeof v);
    meet_warp(&c);
    memcpy(&v, &c.result, sizeof v);
    return v;
}

} // namespace emulated

#define threadIdx (emulated::now->thread)
#define blockIdx (emulated::now->block)
#define blockDim (emulated::now->threads)
#define gridDim (emulated::now->blocks)

#define OAS_LAUNCH(cuda, kernel, blocks, threads, shared_bytes, ...)                                                   \
    (emulated::start((cuda), kernel, (blocks), (threads), (size_t)(shared_bytes), __VA_ARGS__))
#define OAS_ALLOW_SHARED(kernel, bytes) (emulated::allow_shared((const void *)(kernel), (size_t)(bytes)))
#define OAS_DYNAMIC_SHARED(type, name) type *name = (type *)(void *)emulated::now->dynamic

static inline oasis_status oas_launched(void)
{
    return OASIS_OK;
}

/* ---- where threads meet ------------------------------------------------------------------------------------------------ */

static inline void oas_emulated_full_mask(unsigned mask)
{
    if (mask != 0xffffffffu)
        __builtin_trap(); /* only full masks are in the subset */
}

static inline void oas_emulated_sync_threads(int line)
{
    emulated::meet_block(line);
}
#define __syncthreads() oas_emulated_sync_threads(__LINE__)

static inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE())
{
    oas_emulated_full_mask(mask);
    emulated::lane_call c = {};
    c.kind = emulated::SYNC_WARP;
    c.line = line;
    emulated::meet_warp(&c);
}

template <class T> static inline T __shfl_sync(unsigned mask, T v, int source, int width = 32, int line = __builtin_LINE())
{
    oas_emulated_full_mask(mask);
    int lane = emulated::lane();
    return emulated::shuffle(v, lane / width * width + (source & (width - 1)), line);
}

template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, int line = __builtin_LINE())
{
    oas_emulated_full_mask(mask);
    int lane = emulated::lane(), from = lane ^ bits;
    return emulated::shuffle(v, from / width <= lane / width ? from : lane, line);
}

template <class T> static inline T __shfl_down_sync(unsigned mask, T v, int by, int width = 32, int line = __builtin_LINE())
{
    oas_emulated_full_mask(mask);
    int lane = emulated::lane(), from = lane + by;
    return emulated::shuffle(v, from / width == lane / width ? from : lane, line);
}

template <class T> static inline T __shfl_up_sync(unsigned mask, T v, int by, int width = 32, int line = __builtin_LINE())
{
    oas_emulated_full_mask(mask);
    int lane = emulated::lane(), from = lane - by;
    return emulated::shuffle(v, from >= 0 && from / width == lane / width ? from : lane, line);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE())
{
    oas_emulated_full_mask(mask);
    emulated::lane_call c = {};
    c.kind = emulated::BALLOT;
    c.line = line;
    c.value = predicate != 0;
    emulated::meet_warp(&c);
    return (unsigned)c.result;
}

static inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE())
{
    return __ballot_sync(mask, predicate, line) == 0xffffffffu;
}

static inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE())
{
    return __ballot_sync(mask, predicate, line) != 0;
}

/* ---- arithmetic -------------------------------------------------------------------------------------------------------- */

static inline uint32_t __float_as_uint(float f) { uint32_t u; memcpy(&u, &f, sizeof u); return u; }
static inline float __uint_as_float(uint32_t u) { float f; memcpy(&f, &u, sizeof f); return f; }
static inline int32_t __float_as_int(float f) { return (int32_t)__float_as_uint(f); }
static inline float __int_as_float(int32_t i) { return __uint_as_float((uint32_t)i); }
static inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
#define __expf expf
#define __logf logf
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __frcp_rn(float a) { return 1.f / a; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline void sincospif(float x, float *s, float *c) { *s = sinf(3.14159265358979f * x); *c = cosf(3.14159265358979f * x); }
template <class T> static inline T __ldg(const T *p) { return *p; }
template <class T> static inline T min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T max(T a, T b) { return a < b ? b : a; }

static inline float oas_bf16_load(uint16_t b)
{
    return __uint_as_float((uint32_t)b << 16);
}

static inline uint16_t oas_bf16_store(float f)
{
    uint32_t u = __float_as_uint(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return 0x7fff;
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

static inline uint32_t oas_bf16_pair(float low, float high)
{
    return oas_bf16_store(low) | (uint32_t)oas_bf16_store(high) << 16;
}

/* ---- copies and matrices ------------------------------------------------------------------------------------------------- */

static inline void oas_emulated_aligned(const void *p)
{
    if ((uintptr_t)p % 16 != 0)
        __builtin_trap(); /* addresses of these are 16-byte aligned */
}

static inline void oas_async_copy16(void *shared, const void *global, bool valid)
{
    oas_emulated_aligned(shared);
    oas_emulated_aligned(global);
    if (valid)
        memcpy(shared, global, 16);
    else
        memset(shared, 0, 16);
}

static inline void oas_async_commit(void) {}
template <int pending> static inline void oas_async_wait(void) {}

static inline void oas_emulated_load(uint32_t r[4], const void *row, emulated::meeting kind, int line)
{
    oas_emulated_aligned(row);
    emulated::lane_call c = {};
    c.kind = kind;
    c.line = line;
    c.row = row;
    emulated::meet_warp(&c);
    memcpy(r, c.words, 4 * sizeof *r);
}

static inline void oas_load_matrices(uint32_t r[4], const void *row, int line = __builtin_LINE())
{
    oas_emulated_load(r, row, emulated::LOAD_MATRICES, line);
}

static inline void oas_load_matrices_trans(uint32_t r[4], const void *row, int line = __builtin_LINE())
{
    oas_emulated_load(r, row, emulated::LOAD_MATRICES_TRANS, line);
}

static inline void oas_multiply_16x8x16(float c[4], const uint32_t a[4], const uint32_t b[2], int line = __builtin_LINE())
{
    emulated::lane_call call = {};
    call.kind = emulated::MULTIPLY;
    call.line = line;
    memcpy(call.words, a, 4 * sizeof *a);
    memcpy(call.words + 4, b, 2 * sizeof *b);
    memcpy(call.c, c, sizeof call.c);
    emulated::meet_warp(&call);
    memcpy(c, call.c, sizeof call.c);
}

#endif
