/*
 * The attention kernel, included once per level (attention.c, x86/attention_*.c).  The file that includes it defines
 *
 *   KERNEL          the name of the attention_kernel defined here
 *   KEYS_PER_UNIT   2: units are pairs of bf16;  1: units are floats
 *   ROWS, PANELS    a dense tile: ROWS queries by PANELS vectors in registers; 32 is a multiple of 16*PANELS
 *   WINDOW_STEP, WINDOW_BLOCKS   the same for scores of window tiles; WINDOW_STEP divides 8, WINDOW_BLOCKS divides 6
 *
 *   vec             16 floats, or 16 units
 *   v_set, v_load, v_store, v_max, v_add, v_mul, v_fma (a*b + c), v_select (mask, yes, no), v_top, v_sum (of lanes)
 *   v_exp2          2^x for x <= 0, down to 0;  2^-inf = 0
 *   v_mac           (acc, a, b): acc + products of units
 *   load_units      (p, dtype, values): up to 16 units of a row, zeros behind
 *   load_keys       (rows, offset, dtype, values): up to 16 channels of the KEYS_PER_UNIT keys of a unit
 *   store_weights   (s, stride, first, second): two vectors of weights as units, at s and, where needed, s + stride
 *   store_values    (p, dtype, a, values)
 *   transpose       16 vectors of 16 units
 */
#include <float.h>
#include <math.h>
#include <string.h>

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define KERNEL_INLINE static inline __attribute__((always_inline))

/* ---- products ------------------------------------------------------------------------------------------------------ */

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
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int v = 0; v < blocks; v++)
            v_store(s + (v * tile + r) * LANES, acc[r * blocks + v]);
}

/* ---- weights ------------------------------------------------------------------------------------------------------- */

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
        factor = exp2f(old - highest);
    }
    vec shift = v_set(-*top), times = v_set(scale);
    a = v_load(total);
    if (factor != 1.f)
        a = v_mul(a, v_set(factor));
    b = v_set(0.f);
    for (int i = 0; i < vectors; i += 2) {
        vec x = v_exp2(v_fma(v_load(s + i * next), times, shift));
        vec y = v_exp2(v_fma(v_load(s + (i + 1) * next), times, shift));
        a = v_add(a, x);
        b = v_add(b, y);
        store_weights(s + i / KEYS_PER_UNIT * next, next, x, y);
    }
    v_store(total, v_add(a, b));
    return factor;
}

/* ---- packing ------------------------------------------------------------------------------------------------------- */

KERNEL_INLINE const void *row_at(const attention_layout *l, const void *rows, int64_t token)
{
    return (const char *)rows + token * l->task->stride * (int64_t)oas_dtype_size(l->task->dtype);
}

/* Rows of queries (NULL: zeros) as lines. */
static void pack_rows(const attention_layout *l, const void *const *rows, int count, float *out)
{
    const int per_line = LANES * KEYS_PER_UNIT;
    const size_t line_bytes = (size_t)per_line * oas_dtype_size(l->task->dtype);
    for (int line = 0; line < l->lines; line++) {
        int values = l->task->head_dim - line * per_line;
        for (int r = 0; r < count; r++) {
            vec x = v_set(0.f);
            if (rows[r])
                x = load_units((const char *)rows[r] + (size_t)line * line_bytes, l->task->dtype,
                               values < per_line ? values : per_line);
            v_store(out + (line * count + r) * LANES, x);
        }
    }
}

/* A block of 16 keys (NULL: zeros), out [unit][16]. */
static void pack_keys(const attention_layout *l, const void *const *rows, float *out)
{
    const int per_line = LANES * KEYS_PER_UNIT;
    const size_t line_bytes = (size_t)per_line * oas_dtype_size(l->task->dtype);
    for (int line = 0; line < l->lines; line++) {
        int values = l->task->head_dim - line * per_line, units = l->units - line * LANES;
        vec x[LANES];
        for (int r = 0; r < LANES; r++)
            x[r] = rows[r] ? load_units((const char *)rows[r] + (size_t)line * line_bytes, l->task->dtype,
                                        values < per_line ? values : per_line)
                           : v_set(0.f);
        transpose(x);
        for (int k = 0; k < (units < LANES ? units : LANES); k++)
            v_store(out + (line * LANES + k) * LANES, x[k]);
    }
}

/* One unit of keys (NULL: zeros) into all panels of values; `step` floats from one panel to the next. */
static void pack_values(const attention_layout *l, const void *const *rows, float *out, int64_t step)
{
    for (int p = 0; p < l->panels; p++) {
        int values = l->task->head_dim - p * LANES;
        vec x = v_set(0.f);
        if (values > 0)
            x = load_keys(rows, (size_t)(p * LANES) * oas_dtype_size(l->task->dtype), l->task->dtype,
                          values < LANES ? values : LANES);
        v_store(out + p * step, x);
    }
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
            k[r] = real ? row_at(l, l->job->k, group * l->tokens + token) : NULL;
            v[r] = real ? row_at(l, l->job->v, group * l->tokens + token) : NULL;
        }
        pack_keys(l, k, keys + i * l->units);
        for (int r = 0; r < LANES; r += KEYS_PER_UNIT)
            pack_values(l, v + r, values + (i + r) / KEYS_PER_UNIT * LANES, count / KEYS_PER_UNIT * LANES);
    }
}

/* Packs a row of blocks: two rows of tokens of a frame. */
static void pack_window(const attention_layout *l, int64_t slab)
{
    const attention_job *job = l->job;
    int64_t row = slab % l->block_rows, frame = slab / l->block_rows; /* of all groups */
    int64_t first = frame * job->height * job->width;
    for (int64_t c = 0; c < l->block_columns; c++) {
        const void *k[LANES];
        for (int i = 0; i < LANES; i++) {
            int64_t y = row * TILE_HIGH - l->before[0] + i / BLOCK_WIDE;
            int64_t x = c * TILE_WIDE - l->before[1] + i % BLOCK_WIDE;
            bool inside = y >= 0 && y < job->height && x >= 0 && x < job->width;
            k[i] = inside ? row_at(l, job->k, first + y * job->width + x) : NULL;
        }
        pack_keys(l, k, l->keys + (slab * l->block_columns + c) * l->units * LANES);
    }
    for (int i = 0; i < TILE_HIGH; i++) {
        int64_t y = row * TILE_HIGH - l->before[0] + i;
        float *out = l->values + (slab * TILE_HIGH + i) * l->value_columns * l->panels * LANES;
        for (int64_t u = 0; u < l->value_columns; u++) {
            const void *v[KEYS_PER_UNIT];
            for (int j = 0; j < KEYS_PER_UNIT; j++) {
                int64_t x = u * KEYS_PER_UNIT + j - l->before[1];
                bool inside = y >= 0 && y < job->height && x >= 0 && x < job->width;
                v[j] = inside ? row_at(l, job->v, first + y * job->width + x) : NULL;
            }
            pack_values(l, v, out + u * l->panels * LANES, LANES);
        }
    }
}

static void pack(const attention_layout *l, int64_t slab)
{
    if (l->job->window[0] > 0)
        pack_window(l, slab);
    else
        pack_dense(l, slab);
}

/* ---- results ------------------------------------------------------------------------------------------------------- */

/* Row r of a tile of `tile` rows: sums [panel][tile][16] divided by the total go to the token's output. */
static void finish_row(const attention_layout *l, const float *sums, int tile, float total, float top, int64_t token)
{
    vec factor = v_set(1.f / total);
    char *out = (char *)l->job->out + token * l->task->stride * (int64_t)oas_dtype_size(l->task->dtype);
    for (int p = 0; p < l->panels; p++) {
        int values = l->task->head_dim - p * LANES;
        if (values <= 0)
            break;
        store_values(out + (size_t)(p * LANES) * oas_dtype_size(l->task->dtype), l->task->dtype,
                     v_mul(v_load(sums + p * tile * LANES), factor), values < LANES ? values : LANES);
    }
    if (l->job->lse)
        l->job->lse[token] = (top + log2f(total)) * 0.69314718f;
}

/* ---- dense heads --------------------------------------------------------------------------------------------------- */

/* What is known of a tile of queries after some of the keys. */
typedef struct dense_tile {
    float *q;     /* [lines][ROWS][16] */
    float *sums;  /* [panels][ROWS][16] */
    float *total; /* [ROWS][16] */
    float *top;   /* [16] */
} dense_tile;

static dense_tile tile_of(const attention_layout *l, float *scratch, int64_t i)
{
    int64_t size = ((l->lines + l->panels + 1) * ROWS + 1) * LANES;
    float *q = scratch + i * size, *sums = q + l->lines * ROWS * LANES, *total = sums + l->panels * ROWS * LANES;
    return (dense_tile){q, sums, total, total + ROWS * LANES};
}

/* sums[panel..] = factor * sums + weights * values for PANELS panels; `first`: sums hold nothing yet. */
static void add_values(float *sums, const float *s, const float *const *values, int units, const float *factor,
                       bool first)
{
    vec acc[ROWS * PANELS];
    UNROLL
    for (int r = 0; r < ROWS; r++)
        UNROLL
        for (int v = 0; v < PANELS; v++)
            acc[r * PANELS + v] =
                first ? v_set(0.f) : v_mul(v_load(sums + (v * ROWS + r) * LANES), v_set(factor[r]));
    for (int done = 0; done < units; done += LANES)
        multiply(ROWS, PANELS, acc, s + done * ROWS, values, done * LANES, LANES, LANES);
    UNROLL
    for (int r = 0; r < ROWS; r++)
        UNROLL
        for (int v = 0; v < PANELS; v++)
            v_store(sums + (v * ROWS + r) * LANES, acc[r * PANELS + v]);
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
            rows[r] = token < l->tokens ? row_at(l, l->job->q, group * l->tokens + token) : NULL;
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

/* ---- window heads -------------------------------------------------------------------------------------------------- */

/* A tile of queries and the blocks of keys that it sees; arrays live in the worker's scratch. */
typedef struct window_tile {
    float *q, *sums, *s; /* [lines][8][16], [panels][8][16], [vectors][8][16] */
    float *total;        /* [8][16] */
    const float **keys;  /* [vectors] */
    int64_t *values;     /* [vectors]: where the block's values begin, in floats from l->values */
    uint16_t *seen;      /* [high*wide][8]: what a query sees where nothing is cut off by the border */
    uint16_t *mask;      /* [vectors][8] */
    int vectors;
} window_tile;

static window_tile window_of(const attention_layout *l, float *scratch)
{
    window_tile t;
    t.q = scratch;
    t.sums = t.q + l->lines * WINDOW_ROWS * LANES;
    t.s = t.sums + l->panels * WINDOW_ROWS * LANES;
    t.total = t.s + l->vectors * WINDOW_ROWS * LANES;
    t.keys = (const float **)(void *)(t.total + WINDOW_ROWS * LANES);
    t.values = (int64_t *)(void *)(t.keys + l->vectors);
    t.seen = (uint16_t *)(void *)(t.values + l->vectors);
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

/* Which keys of the block that begins at (y, x) are inside the grid. */
static unsigned inside_mask(const attention_job *job, int64_t y, int64_t x)
{
    unsigned columns = 0;
    for (int i = 0; i < BLOCK_WIDE; i++)
        if (x + i >= 0 && x + i < job->width)
            columns |= 1u << i;
    return (y >= 0 && y < job->height ? columns : 0) | (y + 1 >= 0 && y + 1 < job->height ? columns << BLOCK_WIDE : 0);
}

/* Lists the blocks of tile (row, column) of a frame of a group, with what each query sees in them. */
static void find_blocks(const attention_layout *l, window_tile *t, int64_t group, int64_t frame, int64_t row,
                        int64_t column)
{
    const attention_job *job = l->job;
    int64_t begin = frame > l->radius[0] ? frame - l->radius[0] : 0;
    int64_t end = frame + l->radius[0] < job->frames ? frame + l->radius[0] + 1 : job->frames;
    int n = 0, each = l->high * l->wide;
    for (int i = 0; i < each; i++) {
        int64_t y = row + i / l->wide, x = column + i % l->wide * (BLOCK_WIDE / TILE_WIDE);
        unsigned inside = inside_mask(job, y * TILE_HIGH - l->before[0], x * TILE_WIDE - l->before[1]);
        for (int r = 0; r < WINDOW_ROWS; r++)
            t->mask[i * WINDOW_ROWS + r] = (uint16_t)(t->seen[i * WINDOW_ROWS + r] & inside);
        for (int64_t f = begin; f < end; f++) {
            int64_t block_row = (group * job->frames + f) * l->block_rows + y;
            int at = (int)(f - begin) * each + i;
            t->keys[at] = l->keys + (block_row * l->block_columns + x) * l->units * LANES;
            t->values[at] = (block_row * TILE_HIGH * l->value_columns + x * TILE_WIDE / KEYS_PER_UNIT) * l->panels *
                            LANES;
            n++;
        }
    }
    for (int64_t f = begin + 1; f < end; f++)
        memcpy(t->mask + (f - begin) * each * WINDOW_ROWS, t->mask, (size_t)(each * WINDOW_ROWS) * sizeof *t->mask);
    t->vectors = n;
    for (; n < (t->vectors + 5) / 6 * 6; n++) { /* fill up what is taken at once; seen by nobody */
        t->keys[n] = t->keys[0];
        memset(t->mask + n * WINDOW_ROWS, 0, WINDOW_ROWS * sizeof *t->mask);
    }
}

/* sums[panel..] = weights * values for WINDOW_STEP rows and PANELS panels. */
static void window_values(const attention_layout *l, const window_tile *t, int row, int panel)
{
    enum { HALF = BLOCK_WIDE / KEYS_PER_UNIT }; /* units in a row of a block */
    const float *b[PANELS];
    vec acc[WINDOW_STEP * PANELS];
    UNROLL
    for (int i = 0; i < PANELS; i++)
        b[i] = l->values + (panel + i) * LANES;
    UNROLL
    for (int i = 0; i < WINDOW_STEP * PANELS; i++)
        acc[i] = v_set(0.f);
    const int64_t step = l->panels * LANES, next_row = l->value_columns * step;
    for (int i = 0; i < t->vectors; i++) {
        int unit = i * 2 * HALF;
        const float *a = t->s + (unit / LANES * WINDOW_ROWS + row) * LANES + unit % LANES;
        multiply(WINDOW_STEP, PANELS, acc, a, b, t->values[i], step, HALF);
        multiply(WINDOW_STEP, PANELS, acc, a + HALF, b, t->values[i] + next_row, step, HALF);
    }
    UNROLL
    for (int r = 0; r < WINDOW_STEP; r++)
        UNROLL
        for (int v = 0; v < PANELS; v++)
            v_store(t->sums + ((panel + v) * WINDOW_ROWS + row + r) * LANES, acc[r * PANELS + v]);
}

static void attend_tile(const attention_layout *l, window_tile *t, int64_t group, int64_t frame, int64_t row,
                        int64_t column)
{
    const attention_job *job = l->job;
    int64_t token[WINDOW_ROWS];
    const void *rows[WINDOW_ROWS];
    for (int r = 0; r < WINDOW_ROWS; r++) {
        int64_t y = row * TILE_HIGH + r / TILE_WIDE, x = column * TILE_WIDE + r % TILE_WIDE;
        token[r] = ((group * job->frames + frame) * job->height + y) * job->width + x;
        rows[r] = y < job->height && x < job->width ? row_at(l, job->q, token[r]) : NULL;
    }
    pack_rows(l, rows, WINDOW_ROWS, t->q);
    find_blocks(l, t, group, frame, row, column);
    for (int i = 0; i < t->vectors; i += WINDOW_BLOCKS)
        for (int r = 0; r < WINDOW_ROWS; r += WINDOW_STEP)
            scores(WINDOW_STEP, WINDOW_ROWS, WINDOW_BLOCKS, l->units, t->q + r * LANES, t->keys + i,
                   t->s + (i * WINDOW_ROWS + r) * LANES);
    float top[WINDOW_ROWS];
    for (int r = 0; r < WINDOW_ROWS; r++) {
        top[r] = -FLT_MAX;
        v_store(t->total + r * LANES, v_set(0.f));
        weigh(t->s + r * LANES, WINDOW_ROWS, (t->vectors + 1) / 2 * 2, t->mask + r, l->scale, top + r,
              t->total + r * LANES);
    }
    for (int p = 0; p < l->panels; p += PANELS)
        for (int r = 0; r < WINDOW_ROWS; r += WINDOW_STEP)
            window_values(l, t, r, p);
    for (int r = 0; r < WINDOW_ROWS; r++)
        if (rows[r])
            finish_row(l, t->sums + r * LANES, WINDOW_ROWS, v_sum(v_load(t->total + r * LANES)), top[r], token[r]);
}

/* Columns outermost: the keys of a column of tiles, all frames, stay in the second cache. */
static void attend_window(const attention_layout *l, int64_t slab, float *scratch)
{
    window_tile t = window_of(l, scratch);
    int64_t group = slab / l->group_slabs, begin = slab % l->group_slabs * l->slab_rows;
    int64_t end = begin + l->slab_rows < l->tile_rows ? begin + l->slab_rows : l->tile_rows;
    for (int64_t column = 0; column < l->tile_columns; column++)
        for (int64_t row = begin; row < end; row++)
            for (int64_t frame = 0; frame < l->job->frames; frame++)
                attend_tile(l, &t, group, frame, row, column);
}

static void attend(const attention_layout *l, int64_t slab, float *scratch)
{
    if (l->job->window[0] > 0)
        attend_window(l, slab, scratch);
    else
        attend_dense(l, slab, scratch);
}

const attention_kernel KERNEL = {KEYS_PER_UNIT, ROWS, PANELS, pack, attend};
