/*
 * AMX tiles: eight registers of up to 16 rows of 64 bytes, whose shapes each thread sets before it uses them.
 *
 *     c += a b    a [rows][pairs], b [pairs][columns], both of pairs of bf16; c [rows][columns] of float
 */
#ifndef OAS_CPU_X86_TILES_H
#define OAS_CPU_X86_TILES_H

#include <immintrin.h>
#include <stdatomic.h>
#include <stdint.h>

/* As the processor reads it. */
typedef struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shapes;

_Static_assert(sizeof(tile_shapes) == 64, "the processor reads 64 bytes");

static inline void shape_tile(tile_shapes *s, int tile, int rows, int row_bytes)
{
    s->rows[tile] = (uint8_t)rows;
    s->row_bytes[tile] = (uint16_t)row_bytes;
}

/*
 * gcc 12 does not know that loading a tile reads memory.  This keeps it from moving stores to memory behind the loads
 * that follow, and loads before the stores of tiles.
 */
static inline void tiles_see_memory(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

#endif
