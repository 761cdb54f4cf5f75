/*
 * The loop that measures a peak, with tiles of bf16: six chains of products of 16x32 by 32x16 hide their latency.
 * The values differ, as those of networks do: on equal ones the processor draws less power, and runs a quarter faster.
 */
#include "cpu/peak_kernel.h"
#include "cpu/x86/tiles.h"

double oas_peak_amx(int64_t rounds, float *sink)
{
    _Alignas(64) uint16_t values[16][32];
    _Alignas(64) float result[16][16];
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 32; k++) /* 1 to 2 and -1 to -2 */
            values[i][k] = (uint16_t)(0x3f80u ^ (((unsigned)(i * 32 + k) * 2654435761u >> 11) & 0x807fu));
    tile_shapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++)
        shape_tile(&shapes, i, 16, 64);
    _tile_loadconfig(&shapes);
    tiles_see_memory();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_loadd(6, values, 64);
    _tile_loadd(7, values, 64);
    for (int64_t i = 0; i < rounds; i++) {
        _tile_dpbf16ps(0, 6, 7);
        _tile_dpbf16ps(1, 6, 7);
        _tile_dpbf16ps(2, 6, 7);
        _tile_dpbf16ps(3, 6, 7);
        _tile_dpbf16ps(4, 6, 7);
        _tile_dpbf16ps(5, 6, 7);
    }
    _tile_stored(5, result, 64);
    tiles_see_memory();
    _tile_release();
    *sink += result[0][0] * 1e-30f;
    return 6. * (2. * 16 * 16 * 32) * (double)rounds;
}
