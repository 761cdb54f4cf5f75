/* Degradations: noise.  Word w of a row is word w % 4 of block w / 4 (base/rng.h): every thread has one block. */
#include "cuda/degrade_parts.cuh"
#include "cuda/values.cuh"

#define OAS_RNG_FUNCTION __device__ static inline
#define OAS_RNG_UNROLL OAS_UNROLL
#include "base/rng_words.h"

enum { WORDS = OAS_RNG_WORDS, LEVELS = OAS_CUDA_LEVELS };

/* Block `index` of the words of a row. */
__device__ static void block_of(const cuda_noise &n, uint32_t index, uint32_t row, uint32_t words[WORDS])
{
    const uint32_t counter[WORDS] = {index, row, n.frame, n.stream};
    oas_rng_block(counter, n.key, words);
}

/* ---- Gaussian -------------------------------------------------------------------------------------------------------- */

/* Blocks of words of a row: a word for each pixel or each of its values. */
__device__ static int64_t words_of(const cuda_noise &n)
{
    return n.grey ? n.width : (int64_t)n.width * 3;
}

static __global__ void gaussian_kernel(float *out, const float *in, cuda_noise n)
{
    const int64_t words = words_of(n), blocks = (words + WORDS - 1) / WORDS;
    const int per_word = n.grey ? 3 : 1;
    for (int64_t item = oas_first_item(); item < n.height * blocks; item += oas_item_step()) {
        int64_t index, row = oas_divide(item, blocks, &index);
        uint32_t word[WORDS];
        block_of(n, (uint32_t)index, (uint32_t)row, word);
        OAS_UNROLL
        for (int k = 0; k < WORDS; k++) {
            int64_t w = index * WORDS + k, at = row * n.width * 3 + w * per_word;
            if (w >= words)
                break;
            float e = n.strength * (float)oas_rng_normal_of(word[k]);
            for (int c = 0; c < per_word; c++)
                out[at + c] = in[at + c] + e;
        }
    }
}

oasis_status oas_degrade_gaussian(oas_cuda *c, float *out, const float *in, const cuda_noise *how)
{
    int64_t items = ((int64_t)how->width * (how->grey ? 1 : 3) + WORDS - 1) / WORDS * how->height;
    OAS_LAUNCH(c, gaussian_kernel, oas_blocks(c, items), OAS_BLOCK, 0, out, in, *how);
    return oas_launched();
}

/* ---- Poisson --------------------------------------------------------------------------------------------------------- */

__device__ static int to_byte(float x)
{
    float v = x * 255.f + 0.5f;
    return (int)(v > 0 ? v < 255.f ? v : 255.f : 0);
}

__device__ static int level_of(const float *rgb, bool grey)
{
    return to_byte(grey ? 0.299f * rgb[0] + 0.587f * rgb[1] + 0.114f * rgb[2] : rgb[0]);
}

/* levels[l] = 1 where level l occurs; who writes does not matter. */
static __global__ void levels_kernel(int32_t *levels, const float *in, int64_t words, int per_word)
{
    __shared__ int met[LEVELS];
    int self = (int)threadIdx.x;
    met[self] = 0;
    __syncthreads();
    for (int64_t item = oas_first_item(); item < words; item += oas_item_step())
        met[level_of(in + item * per_word, per_word == 3)] = 1;
    __syncthreads();
    if (met[self])
        levels[self] = 1;
}

/* levels[LEVELS] = k, 2^k the least power of two that is no less than how many levels occur. */
static __global__ void scale_kernel(int32_t *levels)
{
    __shared__ int count[LEVELS];
    int self = (int)threadIdx.x, k = 0;
    count[self] = levels[self] == 1;
    for (int step = LEVELS / 2; step > 0; step /= 2) {
        __syncthreads();
        if (self < step)
            count[self] += count[self + step];
    }
    if (self != 0)
        return;
    while (1 << k < count[0])
        k++;
    levels[LEVELS] = k;
}

struct poisson_job {
    float *out;
    const float *in;
    const int32_t *levels;
    cuda_noise n;
    cuda_poisson p;
};

static __global__ void poisson_kernel(poisson_job j)
{
    const cuda_noise &n = j.n;
    const int64_t words = words_of(n), blocks = (words + WORDS - 1) / WORDS;
    const int per_word = n.grey ? 3 : 1, scale = j.levels[LEVELS];
    const cuda_poisson_row *rows = j.p.rows + scale * LEVELS;
    const double v = (double)(1 << scale);
    for (int64_t item = oas_first_item(); item < n.height * blocks; item += oas_item_step()) {
        int64_t index, row = oas_divide(item, blocks, &index);
        uint32_t word[WORDS];
        block_of(n, (uint32_t)index, (uint32_t)row, word);
        for (int k = 0; k < WORDS; k++) {
            int64_t w = index * WORDS + k, at = row * n.width * 3 + w * per_word;
            if (w >= words)
                break;
            int level = level_of(j.in + at, n.grey);
            const cuda_poisson_row r = rows[level];
            double drawn = r.first + oas_rng_reach(j.p.cumulated + r.at, 0, r.n - 1, oas_rng_unit(word[k]));
            float e = n.strength * (float)((drawn / v - level * j.p.unit) * j.p.back);
            for (int c = 0; c < per_word; c++)
                j.out[at + c] = j.in[at + c] + e;
        }
    }
}

oasis_status oas_degrade_poisson(oas_cuda *c, float *out, const float *in, const cuda_noise *how,
                                 const cuda_poisson *tables, int32_t *levels)
{
    int64_t pixels = (int64_t)how->width * how->height, words = how->grey ? pixels : pixels * 3;
    int64_t items = ((int64_t)how->width * (how->grey ? 1 : 3) + WORDS - 1) / WORDS * how->height;
    oasis_status s = oas_cuda_zero(c, levels, OAS_CUDA_LEVELS_BYTES);
    if (s != OASIS_OK)
        return s;
    OAS_LAUNCH(c, levels_kernel, oas_blocks(c, words), LEVELS, 0, levels, in, words, how->grey ? 3 : 1);
    OAS_LAUNCH(c, scale_kernel, 1, LEVELS, 0, levels);
    poisson_job j = {out, in, levels, *how, *tables};
    OAS_LAUNCH(c, poisson_kernel, oas_blocks(c, items), OAS_BLOCK, 0, j);
    return oas_launched();
}
