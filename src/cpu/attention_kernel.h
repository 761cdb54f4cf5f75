/*
 * What the attention driver (attention.c) and the kernels (attention_template.h, once per level) share: how one head is
 * packed, and what is done per slab.
 *
 * Unit: 32 bits that one lane multiplies at once: one float, or two bf16 values.  Everything packed consists of vectors
 * of 16 units.
 *
 * Rows (queries and weights), R of them in a tile: lines of 16 units, [line][R][16], so that all addresses inside a
 * line are constants.
 *
 * Keys: blocks of 16 keys, [unit of the head][16 keys].  A unit of a query row times such a vector adds to 16 scores.
 *
 * Values: [units of keys][16 channels] per panel of 16 channels; a bf16 unit holds two keys.
 *
 * Dense heads: keys in token order, padded with zeros to KEY_STEP;  values [256 keys][panel][unit of keys][16].
 *
 * Window heads: a tile is 2 rows x 4 columns of queries of one frame, a block of keys 2 rows x 8 columns.  Blocks begin
 * at every second row and every fourth column (so neighbours overlap by half), `before` the first query so far that a
 * tile's keys are whole blocks: with a window of 5x5, tile (j, c) needs just blocks (j, c), (j+1, c), (j+2, c):
 *
 *      columns  4c-2 ........ 4c+5
 *     row 2j-2  k k k k k k k k     block j
 *         2j-1  k k k k k k k k
 *         2j    k k Q Q Q Q k k     block j+1
 *         2j+1  k k Q Q Q Q k k
 *         2j+2  k k k k k k k k     block j+2
 *         2j+3  k k k k k k k k
 *
 * The values of a block follow its keys: [unit of keys][panel][16].  A slab is some rows of tiles with all columns and
 * frames; it packs one column of blocks after the other into a ring of columns, each block twice (for the tiles on its
 * left and right half), which costs less than the cache misses of packing everything beforehand.
 */
#ifndef OAS_CPU_ATTENTION_KERNEL_H
#define OAS_CPU_ATTENTION_KERNEL_H

#include "cpu/attention.h"

enum {
    KEY_BLOCK = 256, /* keys whose weights are held at once */
    KEY_STEP = 32,   /* dense keys are padded to a multiple of this */
    TILE_HIGH = 2,   /* window tiles of queries, and blocks of keys */
    TILE_WIDE = 4,
    WINDOW_ROWS = TILE_HIGH * TILE_WIDE,
    BLOCK_WIDE = 8,
    WINDOW_SPARE = 3 /* vectors beyond those of a tile, which may be scored or weighed but count nothing */
};

typedef struct attention_kernel attention_kernel;

typedef struct attention_layout {
    const attention_kernel *kernel;
    const attention_task *task;
    const attention_job *job;
    float scale;      /* log2(e) / sqrt(head_dim): scores become powers of two */
    int units, lines; /* of a query or key */
    int panels;       /* of channels, padded to what the kernel takes at once */
    int64_t tokens;   /* of a group */
    float *keys, *values;
    size_t key_floats, value_floats, worker_floats;
    int64_t pack_slabs, attend_slabs, group_slabs; /* group_slabs of attend_slabs for each group */
    /* dense heads */
    int64_t padded; /* keys of a group */
    int64_t tiles, slab_tiles;
    /* window heads */
    int radius[3];
    int before[2];  /* rows and columns of padding before the first token: the radius rounded up to even */
    int high, wide; /* blocks that a tile needs in each frame */
    int ring;       /* columns of blocks held */
    int vectors;    /* room for the blocks of a tile */
    int block_floats;
    int64_t block_rows;                         /* that a slab needs */
    int64_t tile_rows, tile_columns, slab_rows; /* slab_rows rows of tiles are a slab */
} attention_layout;

struct attention_kernel {
    int keys_per_unit;
    int unit_step;                                         /* units of a head are padded to a multiple */
    int rows;                                              /* of a dense tile */
    int panels;                                            /* taken at once */
    void (*pack)(const attention_layout *l, int64_t slab); /* dense heads */
    void (*attend)(const attention_layout *l, int64_t slab, float *scratch);
};

extern const attention_kernel oas_attention_c, oas_attention_avx2, oas_attention_avx512, oas_attention_avx512bf16,
    oas_attention_amx;

#endif
