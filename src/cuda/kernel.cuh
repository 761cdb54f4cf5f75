/*
 * What kernel files (.cu) are written in: a small subset of CUDA, so that the same sources also compile as plain C++ over
 * an emulation of warps and blocks (tests/cuda), where every kernel is tested without a GPU.
 *
 * The subset: threadIdx, blockIdx, blockDim, gridDim; __shared__ arrays of constant size and OAS_DYNAMIC_SHARED;
 * __syncthreads, __syncwarp, __shfl_sync, __shfl_xor_sync, __shfl_down_sync with full masks; the helpers below.  Launches
 * are written OAS_LAUNCH.  All threads of a warp reach each shuffle, matrix product and ldmatrix together; all threads of a
 * block each __syncthreads.  No float atomics, no inline PTX outside this file and kernel_sm90.cuh, no library headers.
 */
#ifndef OAS_CUDA_KERNEL_CUH
#define OAS_CUDA_KERNEL_CUH

#include "cuda/cuda.h"

#include <stdint.h>

#ifdef OAS_CUDA_EMULATED
#include "cuda/emulator.h" /* tests/cuda: defines __global__, dim3, threadIdx, OAS_LAUNCH, the helpers below, ... */
#else
#include <cuda_bf16.h>
#include <cuda_runtime.h>

/* kernel<<<blocks, threads, dynamic shared bytes, the GPU's stream>>>(arguments) */
#define OAS_LAUNCH(cuda, kernel, blocks, threads, shared_bytes, ...)                                                   \
    kernel<<<(blocks), (threads), (shared_bytes), (cudaStream_t)(cuda)->stream>>>(__VA_ARGS__)

/* Once per kernel, before its first launch with more than 48 KiB of dynamic shared memory. */
#define OAS_ALLOW_SHARED(kernel, bytes)                                                                                \
    (cudaFuncSetAttribute((const void *)(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes)) ==        \
     cudaSuccess)

/* The dynamic shared memory of the block, 16-byte aligned, as an array. */
#define OAS_DYNAMIC_SHARED(type, name)                                                                                 \
    extern __shared__ __align__(128) unsigned char oas_dynamic_shared[];                                               \
    type *name = (type *)oas_dynamic_shared

static inline oasis_status oas_launched(void)
{
    return cudaGetLastError() == cudaSuccess ? OASIS_OK : OASIS_E_DEVICE;
}

/* bf16 values are uint16_t, the upper halves of floats; rounding to nearest even. */
__device__ static inline float oas_bf16_load(uint16_t b)
{
    return __uint_as_float((uint32_t)b << 16);
}

__device__ static inline uint16_t oas_bf16_store(float f)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(f));
}

/* Two values in one word, `low` at the lower address. */
__device__ static inline uint32_t oas_bf16_pair(float low, float high)
{
    __nv_bfloat162 p = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &p, sizeof bits);
    return bits;
}

/* 16 bytes from global to shared memory, beside the computation; zeros when !valid.  Both addresses 16-byte aligned. */
__device__ static inline void oas_async_copy16(void *shared, const void *global, bool valid)
{
    unsigned to = (unsigned)__cvta_generic_to_shared(shared);
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(global), "r"(bytes));
}

__device__ static inline void oas_async_commit(void)
{
    asm volatile("cp.async.commit_group;\n" ::);
}

/* Waits until at most `pending` of this thread's groups are under way; __syncthreads makes the data seen by others. */
template <int pending> __device__ static inline void oas_async_wait(void)
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(pending));
}

/*
 * Four 8x8 matrices of bf16 from shared memory: lane l gives the address of row l%8 of matrix l/8 (16 bytes, aligned);
 * lane l gets, of matrix i, the values of row l/4, columns 2*(l%4) and +1, in r[i].  trans: of the transposed matrices.
 */
__device__ static inline void oas_load_matrices(uint32_t r[4], const void *row)
{
    unsigned from = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from));
}

__device__ static inline void oas_load_matrices_trans(uint32_t r[4], const void *row)
{
    unsigned from = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from));
}

/*
 * c += a b by the warp: a 16x16 (row major fragments), b 16x8 (column fragments), c 16x8 float.  Layout of lane l, with
 * g = l/4 and t = l%4:  a[0] row g, columns 2t,2t+1; a[1] row g+8; a[2] row g, columns 2t+8,+9; a[3] row g+8, the same;
 * b[0] rows 2t,2t+1, column g; b[1] rows 2t+8,+9;  c[0], c[1] row g, columns 2t,2t+1; c[2], c[3] row g+8.
 */
__device__ static inline void oas_multiply_16x8x16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

#ifdef OAS_CUDA_EMULATED
#define OAS_UNROLL
#else
#define OAS_UNROLL _Pragma("unroll") /* before loops over arrays that must stay in registers */
#endif

/* 2^x to 2 units in the last place; 0 below 2^-126. */
__device__ static inline float oas_exp2(float x)
{
#ifdef OAS_CUDA_EMULATED
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

/* A value of an array of either type, and storing one. */
__device__ static inline float oas_load(const cuda_array *a, int64_t i)
{
    return a->dtype == 0 ? ((const float *)a->data)[i] : oas_bf16_load(((const uint16_t *)a->data)[i]);
}

__device__ static inline void oas_store(const cuda_array *a, int64_t i, float value)
{
    if (a->dtype == 0)
        ((float *)a->data)[i] = value;
    else
        ((uint16_t *)a->data)[i] = oas_bf16_store(value);
}

/* Sums and maxima over a warp, the same in every lane. */
__device__ static inline float oas_warp_sum(float v)
{
    for (int step = 16; step > 0; step /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}

__device__ static inline float oas_warp_max(float v)
{
    for (int step = 16; step > 0; step /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, step));
    return v;
}

#endif
