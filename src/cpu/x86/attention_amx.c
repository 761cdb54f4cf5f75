/*
 * The attention kernel on bf16 with AMX.  What is packed for units of two bf16 values is already made of tiles: a line of
 * 16 rows is a first factor, 16 units of a block of keys or of a panel of values a second one.
 *
 *     dense     32 queries by 2 blocks of keys or panels of values: four sums, two first and two second factors
 *     windows   8 queries by 3 blocks of keys, then 8 queries by 4 panels of values; a block's values are half a tile high
 */
#include "cpu/attention_kernel.h"
#include "cpu/x86/attention_bf16.h"
#include "cpu/x86/tiles.h"

#define KERNEL        oas_attention_amx
#define KEYS_PER_UNIT 2
#define UNIT_STEP     16
#define ROWS          32
#define PANELS        2
#define WINDOW_STEP   8
#define WINDOW_BLOCKS 3
#define OWN_PRODUCTS

enum { TILE_BYTES = 64, TILE_FLOATS = 16 * 16 };

/* sums[panel..] *= factor, for PANELS panels of ROWS rows. */
static void scale_sums(float *sums, const float *factor)
{
    for (int i = 0; i < PANELS * ROWS; i++)
        v_store(sums + i * LANES, v_mul(v_load(sums + i * LANES), v_set(factor[i % ROWS])));
}

static inline void begin_products(bool window)
{
    tile_shapes s = {.palette = 1};
    for (int i = 0; i < 8; i++)
        shape_tile(&s, i, window && i < 5 ? WINDOW_ROWS : 16, TILE_BYTES);
    if (window) {
        shape_tile(&s, 6, WINDOW_ROWS, TILE_BYTES / 2);
        shape_tile(&s, 7, LANES / KEYS_PER_UNIT, TILE_BYTES);
    }
    _tile_loadconfig(&s);
}

static inline void end_products(void)
{
    _tile_release();
}

/* Sums 0..3 += rows (two tiles) * b (two tiles). */
#define MULTIPLY_DENSE(rows, b0, b1)                                                                                   \
    do {                                                                                                               \
        _tile_loadd(4, rows, TILE_BYTES);                                                                              \
        _tile_loadd(6, b0, TILE_BYTES);                                                                                \
        _tile_loadd(7, b1, TILE_BYTES);                                                                                \
        _tile_loadd(5, (rows) + TILE_FLOATS, TILE_BYTES);                                                              \
        _tile_dpbf16ps(0, 4, 6);                                                                                       \
        _tile_dpbf16ps(2, 4, 7);                                                                                       \
        _tile_dpbf16ps(1, 5, 6);                                                                                       \
        _tile_dpbf16ps(3, 5, 7);                                                                                       \
    } while (0)

#define STORE_DENSE(to)                                                                                                \
    do {                                                                                                               \
        _tile_stored(0, to, TILE_BYTES);                                                                               \
        _tile_stored(1, (to) + TILE_FLOATS, TILE_BYTES);                                                               \
        _tile_stored(2, (to) + 2 * TILE_FLOATS, TILE_BYTES);                                                           \
        _tile_stored(3, (to) + 3 * TILE_FLOATS, TILE_BYTES);                                                           \
        tiles_see_memory();                                                                                            \
    } while (0)

static inline void dense_scores(int units, const float *q, const float *const *keys, float *s)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int unit = 0; unit < units; unit += LANES)
        MULTIPLY_DENSE(q + unit * ROWS, keys[0] + unit * LANES, keys[1] + unit * LANES);
    STORE_DENSE(s);
}

static inline void window_scores(int units, const float *q, const float *const *keys, float *s)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    for (int unit = 0; unit < units; unit += LANES) {
        _tile_loadd(4, q + unit * WINDOW_ROWS, TILE_BYTES);
        _tile_loadd(5, keys[0] + unit * LANES, TILE_BYTES);
        _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(5, keys[1] + unit * LANES, TILE_BYTES);
        _tile_dpbf16ps(1, 4, 5);
        _tile_loadd(5, keys[2] + unit * LANES, TILE_BYTES);
        _tile_dpbf16ps(2, 4, 5);
    }
    _tile_stored(0, s, TILE_BYTES);
    _tile_stored(1, s + WINDOW_ROWS * LANES, TILE_BYTES);
    _tile_stored(2, s + 2 * WINDOW_ROWS * LANES, TILE_BYTES);
    tiles_see_memory();
}

static inline void scores(const int rows, const int tile, const int blocks, int units, const float *q,
                          const float *const *keys, float *s)
{
    (void)tile;
    (void)blocks;
    tiles_see_memory();
    if (rows == ROWS)
        dense_scores(units, q, keys, s);
    else
        window_scores(units, q, keys, s);
}

static void add_values(float *sums, const float *s, const float *const *values, int units, const float *factor,
                       bool first)
{
    bool grown = false;
    for (int r = 0; r < ROWS; r++)
        grown = grown || factor[r] != 1.f;
    if (first) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        if (grown)
            scale_sums(sums, factor);
        tiles_see_memory();
        _tile_loadd(0, sums, TILE_BYTES);
        _tile_loadd(1, sums + TILE_FLOATS, TILE_BYTES);
        _tile_loadd(2, sums + 2 * TILE_FLOATS, TILE_BYTES);
        _tile_loadd(3, sums + 3 * TILE_FLOATS, TILE_BYTES);
    }
    tiles_see_memory();
    for (int unit = 0; unit < units; unit += LANES)
        MULTIPLY_DENSE(s + unit * ROWS, values[0] + unit * LANES, values[1] + unit * LANES);
    STORE_DENSE(sums);
}

/* Sum number `tile` += the weights in 6 * the values of a panel. */
#define MIX_PANEL(tile, values)                                                                                        \
    do {                                                                                                               \
        _tile_loadd(7, values, step_bytes);                                                                            \
        _tile_dpbf16ps(tile, 6, 7);                                                                                    \
    } while (0)

static void mix_blocks(float *sums, const float *s, const float *const *blocks, int count, int panels, int64_t step)
{
    const int64_t step_bytes = step * (int64_t)sizeof(float);
    const int half = LANES / KEYS_PER_UNIT;
    tiles_see_memory();
    for (int panel = 0; panel < panels; panel += 4, sums += 4 * WINDOW_ROWS * LANES) {
        const bool four = panels - panel > 2;
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int i = 0; i < count; i++) {
            const float *values = blocks[i] + panel * LANES;
            _tile_loadd(6, s + i / 2 * WINDOW_ROWS * LANES + i % 2 * half, TILE_BYTES);
            MIX_PANEL(0, values);
            MIX_PANEL(1, values + LANES);
            if (four) {
                MIX_PANEL(2, values + 2 * LANES);
                MIX_PANEL(3, values + 3 * LANES);
            }
        }
        _tile_stored(0, sums, TILE_BYTES);
        _tile_stored(1, sums + WINDOW_ROWS * LANES, TILE_BYTES);
        if (four) {
            _tile_stored(2, sums + 2 * WINDOW_ROWS * LANES, TILE_BYTES);
            _tile_stored(3, sums + 3 * WINDOW_ROWS * LANES, TILE_BYTES);
        }
    }
    tiles_see_memory();
}

#include "cpu/attention_template.h"
