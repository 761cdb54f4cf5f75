/*
 * The attention kernel, included once per level (attention.c, x86/attention_*.c).  The file that includes it defines
 *
 *   KERNEL          the name of the attention_kernel defined here
 *   KEYS_PER_UNIT   2: units are pairs of bf16;  1: units are floats
 *   ROWS, PANELS    a dense tile: ROWS queries by PANELS vectors in registers; 32 is a multiple of 16*PANELS
 *   WINDOW_STEP, WINDOW_BLOCKS   the same for scores of window tiles; WINDOW_STEP divides 8, WINDOW_BLOCKS divides 6
 *
 * and includes a header of vectors (vector_c.h, x86/vector_*.h).  With KEYS_PER_UNIT 2 it also defines
 *
 *   v_mac           (acc, a, b): acc + products of units
 *   load_units      (p, dtype, values): up to 16 units of a row, zeros behind
 *   load_keys       (rows, offset, dtype, values): up to 16 channels of the KEYS_PER_UNIT keys of a unit
 *   store_weights   (s, stride, first, second): two vectors of weights as units, at s and, where needed, s + stride
 *   store_values    (p, dtype, a, values)
 *   weight_exp2     2^x for x <= 0, down to 0;  2^-inf = 0
 *
 * With OWN_PRODUCTS it defines, instead of v_mac,
 *
 *   begin_products  (window): before a slab's products;  end_products: after them
 *   scores          (rows, tile, blocks, units, q, keys, s), as below
 *   add_values      (sums, s, values, units, factor, first), as below
 *   mix_blocks      (sums, s, blocks, count, panels, step), as below
 *   UNIT_STEP       of which the units of a head are a multiple, filled up by zeros
 */
#include <float.h>
#include <math.h>
#include <string.h>

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#if defined(__GNUC__)
#define FETCH(p) __builtin_prefetch(p)
#else
#define FETCH(p) ((void)(p))
#endif
#define KERNEL_INLINE static inline __attribute__((always_inline))

#if KEYS_PER_UNIT == 1
static inline vec v_mac(vec acc, vec a, vec b)
{
    return v_fma(a, b, acc);
}

static inline vec load_units(const void *p, oas_dtype dtype, int values)
{
    return v_load_values(p, dtype, values);
}

static inline vec load_keys(const void *const *rows, size_t offset, oas_dtype dtype, int values)
{
    return v_load_values((const char *)rows[0] + offset, dtype, values);
}

static inline void store_weights(float *s, int64_t stride, vec first, vec second)
{
    v_store(s, first);
    v_store(s + stride, second);
}

static inline void store_values(void *p, oas_dtype dtype, vec a, int values)
{
    v_store_values(p, dtype, a, values);
}

static inline vec weight_exp2(vec x)
{
    return v_exp2(x);
}
#endif

/* ---- products --------------------------------------------------------------------------------------------------- */

#ifndef OWN_PRODUCTS
KERNEL_INLINE void begin_products(bool window)
{
    (void)window;
}

KERNEL_INLINE void end_products(void)
{
}

/*
 * acc[r][v] += sum_k a[r][k] b[v][k] for k < count <= 16: one line of `rows` rows, which are 16 units apart, times
 * vectors `step` floats apart.
 */
KERNEL_INLINE void multiply(const int rows, const int blocks, vec *acc, const float *a, const float *const *b,
                            int64_t offset, int64_t step, int count)
{
    for (int k = 0; k < count; k++) {
        vec x[4];
        UNROLL
        for (int v = 0; v < blocks; v++)
            x[v] = v_load(b[v] + offset + k * step);
        UNROLL
        for (int r = 0; r < rows; r++) {
            vec unit = v_set(a[r * LANES + k]);
            UNROLL
            for (int v = 0; v < blocks; v++)
                acc[r * blocks + v] = v_mac(acc[r * blocks + v], unit, x[v]);
        }
    }
}

/* Scores of `rows` of a tile's `tile` rows against `blocks` blocks of keys; s is [block][tile][16]. */
KERNEL_INLINE void scores(const int rows, const int tile, const int blocks, int units, const float *q,
                          const float *const *keys, float *s)
{
    vec acc[ROWS * PANELS > 24 ? ROWS * PANELS : 24];
    UNROLL
    for (int i = 0; i < rows * blocks; i++)
        acc[i] = v_set(0.f);
    for (int done = 0; done < units; done += LANES)
        multiply(rows, blocks, acc, q + done * tile, keys, done * LANES, LANES,
                 units - done < LANES ? units - done : LANES);
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int v = 0; v < blocks; v++)
            v_store(s + (v * tile + r) * LANES, acc[r * blocks + v]);
    }
}

/* sums[panel..] = factor * sums + weights * values for PANELS panels; `first`: sums hold nothing yet. */
static void add_values(float *sums, const float *s, const float *const *values, int units, const float *factor,
                       bool first)
{
    vec acc[ROWS * PANELS];
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        UNROLL
        for (int v = 0; v < PANELS; v++)
            acc[r * PANELS + v] = first ? v_set(0.f) : v_mul(v_load(sums + (v * ROWS + r) * LANES), v_set(factor[r]));
    }
    for (int done = 0; done < units; done += LANES)
        multiply(ROWS, PANELS, acc, s + done * ROWS, values, done * LANES, LANES, LANES);
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        UNROLL
        for (int v = 0; v < PANELS; v++)
            v_store(sums + (v * ROWS + r) * LANES, acc[r * PANELS + v]);
    }
}

/*
 * sums[panel][WINDOW_ROWS][16] = weights * values for `panels` panels; s is [line][WINDOW_ROWS][16] of weights, blocks[i]
 * where the values of block i lie, [unit of keys][panel], `step` floats from one unit to the next.
 */
KERNEL_INLINE void mix_blocks(float *sums, const float *s, const float *const *blocks, int count, int panels,
                              int64_t step)
{
    enum { BLOCK_UNITS = LANES / KEYS_PER_UNIT };
    for (int panel = 0; panel < panels; panel += PANELS)
        for (int row = 0; row < WINDOW_ROWS; row += WINDOW_STEP) {
            vec acc[WINDOW_STEP * PANELS];
            UNROLL
            for (int i = 0; i < WINDOW_STEP * PANELS; i++)
                acc[i] = v_set(0.f);
            for (int i = 0; i < count; i++) {
                const float *b[PANELS];
                for (int v = 0; v < PANELS; v++)
                    b[v] = blocks[i] + (panel + v) * LANES;
                int unit = i * BLOCK_UNITS;
                multiply(WINDOW_STEP, PANELS, acc, s + (unit / LANES * WINDOW_ROWS + row) * LANES + unit % LANES, b, 0,
                         step, BLOCK_UNITS);
            }
            UNROLL
            for (int r = 0; r < WINDOW_STEP; r++) {
                UNROLL
                for (int v = 0; v < PANELS; v++)
                    v_store(sums + ((panel + v) * WINDOW_ROWS + row + r) * LANES, acc[r * PANELS + v]);
            }
        }
}
#endif

/* ---- weights ---------------------------------------------------------------------------------------------------- */

/*
 * Turns a row of scores, 16*stride floats apart, into weights 2^(scale*s - top) in place, as units.  `top` grows when
 * the row needs it; returns 2^(old top - new top), by which what was summed before must be multiplied.  `total` gets
 * the weights added.  Scores whose bit in `mask` (WINDOW_ROWS apart; NULL: all set) is clear weigh nothing.
 */
KERNEL_INLINE float weigh(float *s, const int stride, int vectors, const uint16_t *mask, float scale, float *top,
                          float *total)
{
    const int next = stride * LANES;
    vec a = v_set(-FLT_MAX), b = a;
    for (int i = 0; i < vectors; i += 2) {
        vec x = v_load(s + i * next), y = v_load(s + (i + 1) * next);
        if (mask) {
            x = v_select(mask[i * WINDOW_ROWS], x, v_set(-FLT_MAX));
            y = v_select(mask[(i + 1) * WINDOW_ROWS], y, v_set(-FLT_MAX));
            v_store(s + i * next, x);
            v_store(s + (i + 1) * next, y);
        }
        a = v_max(a, x);
        b = v_max(b, y);
    }
    float old = *top, highest = v_top(v_max(a, b)) * scale, factor = 1.f;
    if (highest > old) {
        *top = highest;
        factor = v_top(weight_exp2(v_set(old - highest)));
    }
    vec shift = v_set(-*top), times = v_set(scale);
    a = v_load(total);
    if (factor != 1.f)
        a = v_mul(a, v_set(factor));
    b = v_set(0.f);
    for (int i = 0; i < vectors; i += 2) {
        vec x = weight_exp2(v_fma(v_load(s + i * next), times, shift));
        vec y = weight_exp2(v_fma(v_load(s + (i + 1) * next), times, shift));
        a = v_add(a, x);
        b = v_add(b, y);
        store_weights(s + i / KEYS_PER_UNIT * next, next, x, y);
    }
    v_store(total, v_add(a, b));
    return factor;
}

/* ---- packing ---------------------------------------------------------------------------------------------------- */

KERNEL_INLINE const void *row_at(const attention_layout *l, const void *rows, int64_t token)
{
    return (const char *)rows + token * l->task->stride * (int64_t)oas_dtype_size(l->task->dtype);
}

/* Asks for a token's row before it is needed: rows are far apart, so the processor does not guess them. */
KERNEL_INLINE void fetch_row(const attention_layout *l, const void *rows, int64_t token)
{
    const char *row = row_at(l, rows, token);
    for (int64_t i = 0; i < l->task->head_dim * (int64_t)oas_dtype_size(l->task->dtype); i += OAS_ALIGN)
        FETCH(row + i);
}

/* What stands for tokens outside the grid. */
static const float no_row[OAS_ATTENTION_MAX_HEAD_DIM];

/* Line `line` of a row. */
KERNEL_INLINE vec load_line(const attention_layout *l, const void *row, int line)
{
    const int per_line = LANES * KEYS_PER_UNIT, values = l->task->head_dim - line * per_line;
    const char *p = (const char *)row + (size_t)(line * per_line) * oas_dtype_size(l->task->dtype);
    if (values >= per_line)
        return load_units(p, l->task->dtype, per_line);
    return load_units(p, l->task->dtype, values);
}

/* Rows of queries as lines. */
static void pack_rows(const attention_layout *l, const void *const *rows, int count, float *out)
{
    for (int line = 0; line < l->lines; line++)
        for (int r = 0; r < count; r++)
            v_store(out + (line * count + r) * LANES, load_line(l, rows[r], line));
}

/* A block of 16 keys, out [unit][16]. */
static void pack_keys(const attention_layout *l, const void *const *rows, float *out)
{
    float spare[LANES * LANES];
    for (int line = 0; line < l->lines; line++) {
        int units = l->units - line * LANES;
        float *block = out + line * LANES * LANES, *to = units >= LANES ? block : spare;
        vec x[LANES];
        UNROLL
        for (int r = 0; r < LANES; r++)
            x[r] = load_line(l, rows[r], line);
        transpose(x);
        UNROLL
        for (int k = 0; k < LANES; k++)
            v_store(to + k * LANES, x[k]);
        if (units < LANES)
            memcpy(block, spare, (size_t)(units * LANES) * sizeof(float));
    }
}

/* One unit of keys into all panels of values; `step` floats from one panel to the next. */
KERNEL_INLINE void pack_values(const attention_layout *l, const void *const *rows, float *out, int64_t step)
{
    const size_t bytes = LANES * oas_dtype_size(l->task->dtype);
    int full = l->task->head_dim / LANES, rest = l->task->head_dim % LANES;
    for (int p = 0; p < full; p++)
        v_store(out + p * step, load_keys(rows, (size_t)p * bytes, l->task->dtype, LANES));
    for (int p = full; p < l->panels; p++, rest = 0)
        v_store(out + p * step, load_keys(rows, (size_t)full * bytes, l->task->dtype, rest));
}

static void pack_dense(const attention_layout *l, int64_t slab)
{
    int64_t blocks = (l->padded + KEY_BLOCK - 1) / KEY_BLOCK, group = slab / blocks, begin = slab % blocks * KEY_BLOCK;
    int64_t count = l->padded - begin < KEY_BLOCK ? l->padded - begin : KEY_BLOCK;
    float *keys = l->keys + (group * l->padded + begin) * l->units;
    float *values = l->values + (group * l->padded + begin) / KEYS_PER_UNIT * l->panels * LANES;
    for (int64_t i = 0; i < count; i += LANES) {
        const void *k[LANES], *v[LANES];
        for (int r = 0; r < LANES; r++) {
            int64_t token = begin + i + r;
            bool real = token < l->tokens;
            k[r] = real ? row_at(l, l->job->k, group * l->tokens + token) : no_row;
            v[r] = real ? row_at(l, l->job->v, group * l->tokens + token) : no_row;
        }
        pack_keys(l, k, keys + i * l->units);
        for (int r = 0; r < LANES; r += KEYS_PER_UNIT)
            pack_values(l, v + r, values + (i + r) / KEYS_PER_UNIT * LANES, count / KEYS_PER_UNIT * LANES);
    }
}

/* ---- results ---------------------------------------------------------------------------------------------------- */

/* Row r of a tile of `tile` rows: sums [panel][tile][16] divided by the total go to the token's output. */
static void finish_row(const attention_layout *l, const float *sums, int tile, float total, float top, int64_t token)
{
    vec factor = v_set(1.f / total);
    const size_t bytes = LANES * oas_dtype_size(l->task->dtype);
    char *out = (char *)l->job->out + token * l->task->stride * (int64_t)oas_dtype_size(l->task->dtype);
    int full = l->task->head_dim / LANES, rest = l->task->head_dim % LANES;
    for (int p = 0; p < full; p++)
        store_values(out + (size_t)p * bytes, l->task->dtype, v_mul(v_load(sums + p * tile * LANES), factor), LANES);
    if (rest > 0)
        store_values(out + (size_t)full * bytes, l->task->dtype, v_mul(v_load(sums + full * tile * LANES), factor),
                     rest);
    if (l->job->lse)
        l->job->lse[token] = (top + log2f(total)) * 0.69314718f;
}

/* ---- dense heads ------------------------------------------------------------------------------------------------ */

/* What is known of a tile of queries after some of the keys. */
typedef struct dense_tile {
    float *q;     /* [lines][ROWS][16] */
    float *sums;  /* [panels][ROWS][16] */
    float *total; /* [ROWS][16] */
    float *top;   /* [ROWS], padded to a multiple of 16 */
} dense_tile;

static dense_tile tile_of(const attention_layout *l, float *scratch, int64_t i)
{
    int64_t size = ((l->lines + l->panels + 1) * ROWS + (ROWS + LANES - 1) / LANES) * LANES;
    float *q = scratch + i * size, *sums = q + l->lines * ROWS * LANES, *total = sums + l->panels * ROWS * LANES;
    return (dense_tile){q, sums, total, total + ROWS * LANES};
}

/* Adds what the keys begin .. begin+count-1 of a group give to a tile.  `s` has room for their scores and factors. */
static void attend_block(const attention_layout *l, const dense_tile *t, int64_t group, int64_t begin, int count,
                         float *s)
{
    const float *keys = l->keys + (group * l->padded + begin) * l->units;
    const float *values = l->values + (group * l->padded + begin) / KEYS_PER_UNIT * l->panels * LANES;
    for (int i = 0; i < count / LANES; i += PANELS) {
        const float *k[PANELS];
        for (int v = 0; v < PANELS; v++)
            k[v] = keys + (i + v) * LANES * l->units;
        scores(ROWS, ROWS, PANELS, l->units, t->q, k, s + i * ROWS * LANES);
    }
    for (int64_t i = l->tokens - begin; i < count; i++)
        for (int r = 0; r < ROWS; r++)
            s[(i / LANES * ROWS + r) * LANES + i % LANES] = -FLT_MAX;
    float factor[ROWS];
    for (int r = 0; r < ROWS; r++)
        factor[r] = weigh(s + r * LANES, ROWS, count / LANES, NULL, l->scale, t->top + r, t->total + r * LANES);
    int units = count / KEYS_PER_UNIT;
    for (int p = 0; p < l->panels; p += PANELS) {
        const float *v[PANELS];
        for (int i = 0; i < PANELS; i++)
            v[i] = values + (p + i) * units * LANES;
        add_values(t->sums + p * ROWS * LANES, s, v, units, factor, begin == 0);
    }
}

static void attend_dense(const attention_layout *l, int64_t slab, float *scratch)
{
    int64_t group = slab / l->group_slabs, first = slab % l->group_slabs * l->slab_tiles;
    int64_t count = l->tiles - first < l->slab_tiles ? l->tiles - first : l->slab_tiles;
    float *s = tile_of(l, scratch, l->slab_tiles).q;
    for (int64_t i = 0; i < count; i++) {
        dense_tile t = tile_of(l, scratch, i);
        const void *rows[ROWS];
        for (int r = 0; r < ROWS; r++) {
            int64_t token = (first + i) * ROWS + r;
            rows[r] = token < l->tokens ? row_at(l, l->job->q, group * l->tokens + token) : no_row;
            t.top[r] = -FLT_MAX;
            v_store(t.total + r * LANES, v_set(0.f));
        }
        pack_rows(l, rows, ROWS, t.q);
    }
    for (int64_t begin = 0; begin < l->padded; begin += KEY_BLOCK)
        for (int64_t i = 0; i < count; i++) {
            dense_tile t = tile_of(l, scratch, i);
            int64_t left = l->padded - begin;
            attend_block(l, &t, group, begin, (int)(left < KEY_BLOCK ? left : KEY_BLOCK), s);
        }
    for (int64_t i = 0; i < count; i++) {
        dense_tile t = tile_of(l, scratch, i);
        for (int r = 0; r < ROWS && (first + i) * ROWS + r < l->tokens; r++)
            finish_row(l, t.sums + r * LANES, ROWS, v_sum(v_load(t.total + r * LANES)), t.top[r],
                       group * l->tokens + (first + i) * ROWS + r);
    }
}

/* ---- window heads ----------------------------------------------------------------------------------------------- */

/* A tile of queries and the blocks of keys that it sees; all in the worker's scratch. */
typedef struct window_tile {
    float *packed;        /* [frames][rows of blocks][ring columns]: keys, then values of a block */
    float *q, *sums, *s;  /* [lines][8][16], [panels][8][16], [vectors][8][16] */
    float *total;         /* [8][16] */
    const float **blocks; /* [vectors] */
    uint16_t *seen;       /* [high*wide][8]: what a query sees where nothing is cut off by the border */
    uint16_t *mask;       /* [vectors][8] */
    int vectors;
} window_tile;

static window_tile window_of(const attention_layout *l, float *scratch)
{
    window_tile t = {.packed = scratch};
    t.q = t.packed + l->job->frames * l->block_rows * l->ring * l->block_floats;
    t.sums = t.q + l->lines * WINDOW_ROWS * LANES;
    t.s = t.sums + l->panels * WINDOW_ROWS * LANES;
    t.total = t.s + l->vectors * WINDOW_ROWS * LANES;
    t.blocks = (const float **)(void *)(t.total + WINDOW_ROWS * LANES);
    t.seen = (uint16_t *)(void *)(t.blocks + l->vectors);
    t.mask = t.seen + l->vectors * WINDOW_ROWS;
    for (int i = 0; i < l->high * l->wide; i++)
        for (int r = 0; r < WINDOW_ROWS; r++) {
            unsigned bits = 0;
            for (int k = 0; k < LANES; k++) {
                int y = i / l->wide * TILE_HIGH - l->before[0] + k / BLOCK_WIDE - r / TILE_WIDE;
                int x = i % l->wide * BLOCK_WIDE - l->before[1] + k % BLOCK_WIDE - r % TILE_WIDE;
                if (y >= -l->radius[1] && y <= l->radius[1] && x >= -l->radius[2] && x <= l->radius[2])
                    bits |= 1u << k;
            }
            t.seen[i * WINDOW_ROWS + r] = (uint16_t)bits;
        }
    return t;
}

/* The place of block (row, column) of a frame; rows count from the slab's first. */
static inline float *block_at(const attention_layout *l, const window_tile *t, int64_t frame, int64_t row,
                              int64_t column)
{
    return t->packed + ((frame * l->block_rows + row) * l->ring + column % l->ring) * l->block_floats;
}

/* Packs a block of 2x8 tokens that begins at (y, x) of a frame, counted over all groups, and fetches the next one. */
static void pack_block(const attention_layout *l, int64_t frame, int64_t y, int64_t x, float *out)
{
    const attention_job *job = l->job;
    const void *k[LANES], *v[LANES];
    for (int i = 0; i < LANES; i++) {
        int64_t row = y + i / BLOCK_WIDE, column = x + i % BLOCK_WIDE;
        bool inside = row >= 0 && row < job->height && column >= 0 && column < job->width;
        int64_t token = (frame * job->height + row) * job->width + column;
        k[i] = inside ? row_at(l, job->k, token) : no_row;
        v[i] = inside ? row_at(l, job->v, token) : no_row;
        if (inside && i % BLOCK_WIDE >= BLOCK_WIDE - TILE_WIDE && column + TILE_WIDE < job->width) {
            fetch_row(l, job->k, token + TILE_WIDE);
            fetch_row(l, job->v, token + TILE_WIDE);
        }
    }
    pack_keys(l, k, out);
    out += l->units * LANES;
    for (int i = 0; i < LANES; i += KEYS_PER_UNIT)
        pack_values(l, v + i, out + i / KEYS_PER_UNIT * l->panels * LANES, LANES);
}

/* Packs a column of blocks of all frames, for rows of tiles begin .. end-1. */
static void pack_column(const attention_layout *l, const window_tile *t, int64_t group, int64_t begin, int64_t end,
                        int64_t column)
{
    for (int64_t frame = 0; frame < l->job->frames; frame++)
        for (int64_t row = begin; row < end + l->high - 1; row++)
            pack_block(l, group * l->job->frames + frame, row * TILE_HIGH - l->before[0],
                       column * TILE_WIDE - l->before[1], block_at(l, t, frame, row - begin, column));
}

/* Which keys of the block that begins at (y, x) are inside the grid. */
static unsigned inside_mask(const attention_job *job, int64_t y, int64_t x)
{
    unsigned columns = 0;
    for (int i = 0; i < BLOCK_WIDE; i++)
        if (x + i >= 0 && x + i < job->width)
            columns |= 1u << i;
    return (y >= 0 && y < job->height ? columns : 0) | (y + 1 >= 0 && y + 1 < job->height ? columns << BLOCK_WIDE : 0);
}

/* What each query of tile (row, column) sees in its blocks, the same in every frame. */
static void mask_blocks(const attention_layout *l, const window_tile *t, int64_t row, int64_t column)
{
    int each = l->high * l->wide, copies = l->vectors / each;
    for (int i = 0; i < each; i++) {
        unsigned inside = inside_mask(l->job, (row + i / l->wide) * TILE_HIGH - l->before[0],
                                      column * TILE_WIDE + i % l->wide * BLOCK_WIDE - l->before[1]);
        for (int r = 0; r < WINDOW_ROWS; r++)
            t->mask[i * WINDOW_ROWS + r] = (uint16_t)(t->seen[i * WINDOW_ROWS + r] & inside);
    }
    for (int i = 1; i < copies; i++)
        memcpy(t->mask + i * each * WINDOW_ROWS, t->mask, (size_t)(each * WINDOW_ROWS) * sizeof *t->mask);
}

/* Lists the blocks of a tile; `row` counts from the slab's first. */
static void find_blocks(const attention_layout *l, window_tile *t, int64_t frame, int64_t row, int64_t column)
{
    int64_t begin = frame > l->radius[0] ? frame - l->radius[0] : 0;
    int64_t end = frame + l->radius[0] < l->job->frames ? frame + l->radius[0] + 1 : l->job->frames;
    int n = 0;
    for (int64_t f = begin; f < end; f++)
        for (int y = 0; y < l->high; y++)
            for (int x = 0; x < l->wide; x++)
                t->blocks[n++] = block_at(l, t, f, row + y, column + x * (BLOCK_WIDE / TILE_WIDE));
    t->vectors = n;
    for (; n % WINDOW_BLOCKS != 0; n++)
        t->blocks[n] = t->blocks[0];
}

static void attend_tile(const attention_layout *l, window_tile *t, const void *const *rows, float *top)
{
    pack_rows(l, rows, WINDOW_ROWS, t->q);
    for (int i = 0; i < t->vectors; i += WINDOW_BLOCKS)
        for (int r = 0; r < WINDOW_ROWS; r += WINDOW_STEP)
            scores(WINDOW_STEP, WINDOW_ROWS, WINDOW_BLOCKS, l->units, t->q + r * LANES, t->blocks + i,
                   t->s + (i * WINDOW_ROWS + r) * LANES);
    uint16_t beyond[WINDOW_ROWS]; /* an odd number of blocks is filled up by one that nobody sees */
    memcpy(beyond, t->mask + t->vectors * WINDOW_ROWS, sizeof beyond);
    memset(t->mask + t->vectors * WINDOW_ROWS, 0, sizeof beyond);
    for (int r = 0; r < WINDOW_ROWS; r++) {
        top[r] = -FLT_MAX;
        v_store(t->total + r * LANES, v_set(0.f));
        weigh(t->s + r * LANES, WINDOW_ROWS, (t->vectors + 1) / 2 * 2, t->mask + r, l->scale, top + r,
              t->total + r * LANES);
    }
    memcpy(t->mask + t->vectors * WINDOW_ROWS, beyond, sizeof beyond);
    for (int i = 0; i < t->vectors; i++)
        t->blocks[i] += l->units * LANES;
    mix_blocks(t->sums, t->s, t->blocks, t->vectors, l->panels, l->panels * LANES);
}

/* Columns outermost: the packed keys of one column of tiles, all frames, stay in the second cache. */
static void attend_window(const attention_layout *l, int64_t slab, float *scratch)
{
    const attention_job *job = l->job;
    window_tile t = window_of(l, scratch);
    int64_t group = slab / l->group_slabs, begin = slab % l->group_slabs * l->slab_rows;
    int64_t end = begin + l->slab_rows < l->tile_rows ? begin + l->slab_rows : l->tile_rows;
    for (int64_t column = 0; column + 1 < l->ring; column++)
        pack_column(l, &t, group, begin, end, column);
    for (int64_t column = 0; column < l->tile_columns; column++) {
        pack_column(l, &t, group, begin, end, column + l->ring - 1);
        for (int64_t row = begin; row < end; row++) {
            mask_blocks(l, &t, row, column);
            for (int64_t frame = 0; frame < job->frames; frame++) {
                int64_t token[WINDOW_ROWS];
                const void *rows[WINDOW_ROWS];
                float top[WINDOW_ROWS];
                for (int r = 0; r < WINDOW_ROWS; r++) {
                    int64_t y = row * TILE_HIGH + r / TILE_WIDE, x = column * TILE_WIDE + r % TILE_WIDE;
                    token[r] = ((group * job->frames + frame) * job->height + y) * job->width + x;
                    rows[r] = y < job->height && x < job->width ? row_at(l, job->q, token[r]) : no_row;
                    if (rows[r] != no_row && frame + 1 < job->frames)
                        fetch_row(l, job->q, token[r] + job->height * job->width);
                }
                find_blocks(l, &t, frame, row - begin, column);
                attend_tile(l, &t, rows, top);
                for (int r = 0; r < WINDOW_ROWS; r++)
                    if (rows[r] != no_row)
                        finish_row(l, t.sums + r * LANES, WINDOW_ROWS, v_sum(v_load(t.total + r * LANES)), top[r],
                                   token[r]);
            }
        }
    }
}

static void attend(const attention_layout *l, int64_t slab, float *scratch)
{
    bool window = l->job->window[0] > 0;
    begin_products(window);
    if (window)
        attend_window(l, slab, scratch);
    else
        attend_dense(l, slab, scratch);
    end_products();
}

#ifndef UNIT_STEP
#define UNIT_STEP 1
#endif

const attention_kernel KERNEL = {KEYS_PER_UNIT, UNIT_STEP, ROWS, PANELS, pack_dense, attend};
