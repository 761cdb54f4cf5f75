/* Convolutions with tiles: 32 pixels by 32 outputs are four sums; a step of 32 channels has two factors of each side. */
#include "cpu/conv.h"
#include "cpu/x86/tiles.h"

enum { LANES = 16, TILE_BYTES = 64 };

static void begin(void)
{
    static const tile_shapes full = {
        .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&full);
}

static void end(void)
{
    _tile_release();
}

/* sums [pixels/16][outputs/16][16][16] */
static inline void add_products(const conv_block *b, float *sums)
{
    const int64_t pixel = b->channels * 2, steps = b->channels / OAS_CONV_CHANNELS;
    const uint16_t *w = b->weights;
    tiles_see_memory();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t r = 0; r < b->n_rows; r++) {
        if (!b->rows[r]) {
            w += 3 * steps * 2 * OAS_CONV_TILE;
            continue;
        }
        for (int64_t column = 0; column < 3; column++) {
            const char *x = b->rows[r] + b->at + column * pixel;
            for (int64_t c = 0; c < steps; c++, x += TILE_BYTES, w += 2 * OAS_CONV_TILE) {
                _tile_loadd(4, x, pixel);
                _tile_loadd(6, w, TILE_BYTES);
                _tile_dpbf16ps(0, 4, 6);
                _tile_loadd(7, w + OAS_CONV_TILE, TILE_BYTES);
                _tile_dpbf16ps(1, 4, 7);
                _tile_loadd(5, x + LANES * pixel, pixel);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
    }
    _tile_stored(0, sums, TILE_BYTES);
    _tile_stored(1, sums + LANES * LANES, TILE_BYTES);
    _tile_stored(2, sums + 2 * LANES * LANES, TILE_BYTES);
    _tile_stored(3, sums + 3 * LANES * LANES, TILE_BYTES);
    tiles_see_memory();
}

static inline __m512 from_bf16(const uint16_t *x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)x)), 16));
}

static void block(const conv_block *b)
{
    _Alignas(64) float sums[OAS_CONV_PIXELS * OAS_CONV_OUTPUTS];
    add_products(b, sums);
    for (int64_t half = 0; half < 2; half++) {
        __m512 bias = b->bias ? _mm512_loadu_ps(b->bias + half * LANES) : _mm512_setzero_ps();
        for (int64_t i = 0; i < b->pixels; i++) {
            int64_t to = i * b->step + half * LANES;
            __m512 y = _mm512_load_ps(sums + ((i / LANES * 2 + half) * LANES + i % LANES) * LANES);
            y = _mm512_add_ps(y, bias);
            if (b->residual)
                y = _mm512_add_ps(y, from_bf16(b->residual + to));
            _mm256_storeu_si256((void *)(b->out + to), (__m256i)_mm512_cvtneps_pbh(y));
        }
    }
}

const conv_kernel oas_conv_amx = {begin, block, end};
