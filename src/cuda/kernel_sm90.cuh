/*
 * Products of a warpgroup, four warps together, on GPUs of compute capability 9.0 alone (compiled for sm_90a); over the
 * emulation as well.  They are asynchronous: between oas_group_begin and the end of oas_group_wait nothing may touch the
 * registers that take part, nor write to the tiles; oas_group_settle tells the compiler so.
 *
 * Tiles lie in shared memory at multiples of 1024 bytes, in rows of 128 bytes (64 values of bf16) whose 16-byte chunks are
 * exchanged: chunk c of row r is at (c ^ r % 8).
 */
#ifndef OAS_CUDA_KERNEL_SM90_CUH
#define OAS_CUDA_KERNEL_SM90_CUH

#include "cuda/kernel.cuh"

enum { GROUP_THREADS = 128, GROUP_ROW = 128 }; /* bytes of a row */

#ifdef OAS_CUDA_EMULATED
#include <stdlib.h>

/* A tile as the products read it; `leading`: bytes from 64 columns to the next 64, of transposed tiles. */
struct oas_group_tile {
    const unsigned char *at;
    int leading;
};

static inline bool oas_has_groups(const oas_cuda *)
{
    return !getenv("OASIS_EMULATED_SM80");
}

static inline oas_group_tile oas_group_tile_at(const void *tile, int leading)
{
    return oas_group_tile{(const unsigned char *)tile, leading};
}

static inline oas_group_tile oas_group_further(oas_group_tile t, int bytes)
{
    t.at += bytes;
    return t;
}

static inline void oas_group_see_copies(void) {}
static inline void oas_group_begin(void) {}
static inline void oas_group_end(void) {}
static inline void oas_group_wait(void) {}
template <int N> static inline void oas_group_settle(float (*)[4]) {}

/* The value at an address before the exchange of chunks. */
static inline float oas_emulated_group_value(const unsigned char *at)
{
    uint16_t value;
    memcpy(&value, (const unsigned char *)((uintptr_t)at ^ ((uintptr_t)at >> 7 & 7) << 4), sizeof value);
    return oas_bf16_load(value);
}

static inline void oas_group_multiply(float d[8][4], oas_group_tile a, oas_group_tile b, bool add)
{
    int lane = (int)threadIdx.x % 32, first = (int)threadIdx.x % GROUP_THREADS / 32 * 16 + lane / 4;
    __syncwarp();
    for (int i = 0; i < 32; i++) {
        int row = first + i % 4 / 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
        float sum = add ? d[i / 4][i % 4] : 0.f;
        for (int k = 0; k < 16; k++)
            sum += oas_emulated_group_value(a.at + row * GROUP_ROW + k * 2) *
                   oas_emulated_group_value(b.at + column * GROUP_ROW + k * 2);
        d[i / 4][i % 4] = sum;
    }
}

template <int N> static inline void oas_group_multiply_trans(float d[N / 8][4], const uint32_t a[4], oas_group_tile b)
{
    int lane = (int)threadIdx.x % 32;
    float left[2][16];
    for (int mate = 0; mate < 4; mate++)
        for (int r = 0; r < 4; r++) {
            uint32_t word = __shfl_sync(0xffffffffu, a[r], lane / 4 * 4 + mate);
            left[r % 2][r / 2 * 8 + 2 * mate] = oas_bf16_load((uint16_t)word);
            left[r % 2][r / 2 * 8 + 2 * mate + 1] = oas_bf16_load((uint16_t)(word >> 16));
        }
    for (int i = 0; i < N / 2; i++) {
        int column = i / 4 * 8 + lane % 4 * 2 + i % 2;
        float sum = d[i / 4][i % 4];
        for (int k = 0; k < 16; k++)
            sum += left[i % 4 / 2][k] *
                   oas_emulated_group_value(b.at + column / 64 * b.leading + k * GROUP_ROW + column % 64 * 2);
        d[i / 4][i % 4] = sum;
    }
}
#else

/* The hardware's descriptor: exchange over 128 bytes, 8 rows are 1024 bytes. */
struct oas_group_tile {
    uint64_t bits;
};

/* Is this a GPU with these products, and was the file compiled for it? */
static inline bool oas_has_groups(const oas_cuda *c)
{
#ifdef OAS_CUDA_SM90A
    int major = 0, minor = 0;
    return cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, c->index) == cudaSuccess && major == 9 &&
           cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, c->index) == cudaSuccess && minor == 0;
#else
    (void)c;
    return false;
#endif
}

__device__ static inline oas_group_tile oas_group_tile_at(const void *tile, int leading)
{
    uint64_t at = (uint64_t)__cvta_generic_to_shared(tile);
    oas_group_tile t = {(at & 0x3ffff) >> 4 | (uint64_t)(leading >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 | 1ull << 62};
    return t;
}

__device__ static inline oas_group_tile oas_group_further(oas_group_tile t, int bytes)
{
    t.bits += (uint64_t)(bytes >> 4);
    return t;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define OAS_GROUP_ASM(...) asm volatile(__VA_ARGS__)
#else
#define OAS_GROUP_ASM(...) ((void)0) /* never launched */
#endif

/* Before the __syncthreads after which products read what this thread copied. */
__device__ static inline void oas_group_see_copies(void)
{
    OAS_GROUP_ASM("fence.proxy.async.shared::cta;\n" ::: "memory");
}

__device__ static inline void oas_group_begin(void)
{
    OAS_GROUP_ASM("wgmma.fence.sync.aligned;\n" ::: "memory");
}

__device__ static inline void oas_group_end(void)
{
    OAS_GROUP_ASM("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}

/* Waits for all products so far. */
__device__ static inline void oas_group_wait(void)
{
    OAS_GROUP_ASM("wgmma.wait_group.sync.aligned 0;\n" ::: "memory");
}

template <int N> __device__ static inline void oas_group_settle(float (*d)[4])
{
    OAS_UNROLL
    for (int i = 0; i < N; i++)
        OAS_UNROLL
        for (int e = 0; e < 4; e++)
            asm volatile("" : "+f"(d[i][e])::"memory");
}

#define OAS_QUAD(d) "+f"((d)[0]), "+f"((d)[1]), "+f"((d)[2]), "+f"((d)[3])
#define OAS_QUADS_8(d)                                                                                                 \
    OAS_QUAD((d)[0]), OAS_QUAD((d)[1]), OAS_QUAD((d)[2]), OAS_QUAD((d)[3]), OAS_QUAD((d)[4]), OAS_QUAD((d)[5]),        \
        OAS_QUAD((d)[6]), OAS_QUAD((d)[7])
#define OAS_WORDS_32                                                                                                   \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,"   \
    "%30,%31"
#define OAS_WORDS_64                                                                                                   \
    OAS_WORDS_32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,"   \
                 "%56,%57,%58,%59,%60,%61,%62,%63"

/*
 * d = a b^T (+ d when `add`): a 64 rows, b 64 rows, 16 columns of both from the tiles' start on.  The warp w of the group
 * has rows 16w .. 16w+15 of d, as oas_multiply_16x8x16 has them: d[n] columns 8n .. 8n+7.
 */
__device__ static inline void oas_group_multiply(float d[8][4], oas_group_tile a, oas_group_tile b, bool add)
{
    OAS_GROUP_ASM("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
                  "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" OAS_WORDS_32 "}, %32, %33, p, 1, 1, 0, 0;\n}\n"
                  : OAS_QUADS_8(d)
                  : "l"(a.bits), "l"(b.bits), "r"((int)add));
}

/* d += a b: a 64x16 in registers (each warp's 16 rows as in oas_multiply_16x8x16), b 16 rows of N columns. */
template <int N>
__device__ static inline void oas_group_multiply_trans(float d[N / 8][4], const uint32_t a[4], oas_group_tile b)
{
    static_assert(N == 64 || N == 128, "sizes that there are");
    if constexpr (N == 64)
        OAS_GROUP_ASM("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
                      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" OAS_WORDS_32
                      "}, {%32,%33,%34,%35}, %36, p, 1, 1, 1;\n}\n"
                      : OAS_QUADS_8(d)
                      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.bits));
    else
        OAS_GROUP_ASM("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
                      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" OAS_WORDS_64
                      "}, {%64,%65,%66,%67}, %68, p, 1, 1, 1;\n}\n"
                      : OAS_QUADS_8(d), OAS_QUADS_8(d + 8)
                      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.bits));
}
#endif
#endif
