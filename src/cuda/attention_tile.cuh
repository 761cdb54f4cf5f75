/*
 * Tiles of attention on tensor cores.  A block of threads owns some rows (queries, or keys on the way back) of one head
 * and walks over all others that they see, stage by stage:
 *
 *     own     rows of the block, in shared memory for good
 *     stage   rows of the other side, copied to shared memory together; the next stage's copy runs beside the products
 *     block   COLUMNS rows of a stage, in groups of 8 neighbours: a warp's 16*MT own rows times these are one tile of
 *             scores in registers
 *
 * Two walks: linear_walk sees a whole segment (a sample or a frame), window_walk what is near in frames, rows, columns.
 *
 * Rows lie in shared memory without gaps; their 16-byte chunks are exchanged by swizzled() so that the 8 rows of a matrix
 * that ldmatrix reads lie in different banks.
 */
#ifndef OAS_CUDA_ATTENTION_TILE_CUH
#define OAS_CUDA_ATTENTION_TILE_CUH

#include "cuda/attention_part.cuh"

enum { QUAD = 4 }; /* lanes that share a row of a tile of scores */

static constexpr float LOG2_E = 1.44269504088896341f, LN_2 = 0.69314718055994531f;

/* Where in a tile of rows of HD values a chunk of 8 lies. */
template <int HD> __device__ static inline int swizzled(int row, int chunk)
{
    return row * HD + (chunk ^ (HD >= 64 ? row & 7 : (row >> 1) & 3)) * 8;
}

/* Copies ROWS neighbouring rows, of which `rows` exist, and `hd` of HD channels; zeros for the others. */
template <int HD, int THREADS, int ROWS>
__device__ static inline void copy_rows(uint16_t *tile, const uint16_t *from, int64_t stride, int rows, int hd)
{
    constexpr int CHUNKS = HD / 8, STEP = THREADS / CHUNKS;
    int thread = (int)threadIdx.x;
    if constexpr (THREADS % CHUNKS == 0 && ROWS % STEP == 0) {
        int chunk = thread % CHUNKS, row = thread / CHUNKS;
        const uint16_t *at = from + row * stride + chunk * 8;
        if (rows >= ROWS && hd == HD) {
            OAS_UNROLL
            for (int i = 0; i < ROWS / STEP; i++, row += STEP, at += STEP * stride)
                oas_async_copy16(tile + swizzled<HD>(row, chunk), at, true);
            return;
        }
        for (int i = 0; i < ROWS / STEP; i++, row += STEP, at += STEP * stride) {
            bool valid = row < rows && chunk * 8 < hd;
            oas_async_copy16(tile + swizzled<HD>(row, chunk), valid ? at : from, valid);
        }
    } else {
        for (int i = thread; i < ROWS * CHUNKS; i += THREADS) {
            int row = i / CHUNKS, chunk = i % CHUNKS;
            bool valid = row < rows && chunk * 8 < hd;
            oas_async_copy16(tile + swizzled<HD>(row, chunk), valid ? from + row * stride + chunk * 8 : from, valid);
        }
    }
}

/* ---- walks --------------------------------------------------------------------------------------------------------- */

/* Columns begin, begin+1, ... of the stage; `left` of them exist. */
struct linear_block {
    static constexpr int STEP = 16; /* rows of the stage from two groups to the next two: a multiple of 8 */
    int begin, left, first;         /* first: index in the segment of column 0 */

    /* The row of the stage of a column. */
    __device__ int row(int column) const
    {
        return begin + column;
    }
};

/* Own rows are neighbours; every one sees all others of its segment. */
template <int ROWS_, int STAGE_, int COLUMNS_> struct linear_walk {
    static constexpr int ROWS = ROWS_, STAGE = STAGE_, COLUMNS = COLUMNS_, GROUPS = COLUMNS / 8, BUFFERS = 2;
    typedef linear_block block;
    int begin, own_rows, others, stage;

    __device__ linear_walk(const attention_args &a, int tile)
        : begin(tile * ROWS), own_rows(a.own_rows), others(a.other_rows), stage(0)
    {
    }

    /* The index in the segment of row `row` of the tile; -1: there is none. */
    __device__ int own(int row) const
    {
        return begin + row < own_rows ? begin + row : -1;
    }

    template <int HD, int THREADS>
    __device__ void copy_own(uint16_t *to, const uint16_t *from, int64_t stride, int hd) const
    {
        copy_rows<HD, THREADS, ROWS>(to, from + begin * stride, stride, own_rows - begin, hd);
    }

    __device__ int stages() const
    {
        return (others + STAGE - 1) / STAGE;
    }

    /* The index in the segment of row `row` of a stage; -1: there is none. */
    __device__ int other(int at, int row) const
    {
        return at * STAGE + row < others ? at * STAGE + row : -1;
    }

    /* Copies a stage's rows of two arrays, one after the other. */
    template <int HD, int THREADS>
    __device__ void copy_stage(uint16_t *to, int at, const uint16_t *a, const uint16_t *b, int64_t stride, int hd) const
    {
        int first = at * STAGE;
        copy_rows<HD, THREADS, STAGE>(to, a + first * stride, stride, others - first, hd);
        copy_rows<HD, THREADS, STAGE>(to + STAGE * HD, b + first * stride, stride, others - first, hd);
    }

    /* Enters a stage: how many blocks has it for the warp of these own rows? */
    __device__ int enter(int at, int)
    {
        int rows = others - at * STAGE;
        stage = at;
        return ((rows < STAGE ? rows : STAGE) + COLUMNS - 1) / COLUMNS;
    }

    __device__ block at(int i) const
    {
        int first = stage * STAGE + i * COLUMNS;
        return block{i * COLUMNS, others - first, first};
    }

    template <int MT> __device__ void hide(float s[MT][GROUPS][4], const block &b) const
    {
        if (b.left >= COLUMNS)
            return;
        int column = (int)threadIdx.x % QUAD * 2;
        OAS_UNROLL
        for (int m = 0; m < MT; m++)
            OAS_UNROLL
            for (int g = 0; g < GROUPS; g++)
                OAS_UNROLL
                for (int e = 0; e < 4; e++)
                    s[m][g][e] = g * 8 + column + e % 2 < b.left ? s[m][g][e] : -INFINITY;
    }

    /* Adds the columns' biases, in units of the scores. */
    template <int MT>
    __device__ void add_bias(float s[MT][GROUPS][4], const block &b, const float *bias, float unit) const
    {
        int column = (int)threadIdx.x % QUAD * 2;
        OAS_UNROLL
        for (int g = 0; g < GROUPS; g++)
            OAS_UNROLL
            for (int e = 0; e < 2; e++) {
                int c = g * 8 + column + e;
                float add = c < b.left ? bias[b.first + c] * unit : 0.f;
                OAS_UNROLL
                for (int m = 0; m < MT; m++) {
                    s[m][g][e] += add;
                    s[m][g][e + 2] += add;
                }
            }
    }
};

/* GROUPS groups of 8 columns, one below the other in a frame: group g is row y+g, columns x .. x+7 of the grid. */
struct window_block {
    static constexpr int STEP = 24;
    int begin, y, x;
    int first_y, first_x; /* what lies before was in another block */

    __device__ int row(int column) const
    {
        return begin + column / 8 * 12 + column % 8;
    }
};

/*
 * Own rows are 8x8 places of a frame, a warp's are 4x4 of these; they see what is at most reach[] away.  As |a - b| is
 * the same either way, this is also what sees them.  A stage is 12x12 places of a frame: all that a 5x5 window needs.
 */
template <int COLUMNS_> struct window_walk {
    static constexpr int TILE = 8, PART = 4, EDGE = 12; /* EDGE: as in window_block */
    static constexpr int ROWS = TILE * TILE, STAGE = EDGE * EDGE, COLUMNS = COLUMNS_, GROUPS = COLUMNS / 8, BUFFERS = 1;
    typedef window_block block;
    int height, width, reach_y, reach_x;
    int frame, y, x;                                  /* of the tile */
    int begin_f, begin_y, begin_x, end_f, end_y, end_x; /* what the tile sees */
    int part_y, part_x;                               /* of the warp */
    int stage_y, stage_x, first_y, first_x, across;   /* of the stage: its origin; the warp's first block; blocks in a row */

    __device__ static int larger(int a, int b)
    {
        return a > b ? a : b;
    }

    __device__ static int smaller(int a, int b)
    {
        return a < b ? a : b;
    }

    __device__ window_walk(const attention_args &a, int tile)
        : height(a.height), width(a.width), reach_y(a.reach[1]), reach_x(a.reach[2])
    {
        int wide = (width + TILE - 1) / TILE, high = (height + TILE - 1) / TILE;
        x = tile % wide * TILE;
        y = tile / wide % high * TILE;
        frame = tile / (wide * high);
        begin_f = larger(frame - a.reach[0], 0);
        end_f = smaller(frame + a.reach[0] + 1, a.frames);
        begin_y = larger(y - reach_y, 0);
        end_y = smaller(y + TILE + reach_y, height);
        begin_x = larger(x - reach_x, 0);
        end_x = smaller(x + TILE + reach_x, width);
        part_y = part_x = stage_y = stage_x = first_y = first_x = across = 0;
    }

    __device__ int index(int f, int at_y, int at_x) const
    {
        return (f * height + at_y) * width + at_x;
    }

    __device__ int own(int row) const
    {
        int part = row / (PART * PART), in = row % (PART * PART);
        int at_y = y + part / 2 * PART + in / PART, at_x = x + part % 2 * PART + in % PART;
        return at_y < height && at_x < width ? index(frame, at_y, at_x) : -1;
    }

    template <int HD, int THREADS>
    __device__ void copy_own(uint16_t *to, const uint16_t *from, int64_t stride, int hd) const
    {
        constexpr int CHUNKS = HD / 8;
        for (int i = (int)threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
            int row = i / CHUNKS, chunk = i % CHUNKS, at = own(row);
            bool valid = at >= 0 && chunk * 8 < hd;
            oas_async_copy16(to + swizzled<HD>(row, chunk), valid ? from + at * stride + chunk * 8 : from, valid);
        }
    }

    __device__ int stages_down() const
    {
        return (end_y - begin_y + EDGE - 1) / EDGE;
    }

    __device__ int stages_across() const
    {
        return (end_x - begin_x + EDGE - 1) / EDGE;
    }

    __device__ int stages() const
    {
        return (end_f - begin_f) * stages_down() * stages_across();
    }

    __device__ int other(int at, int row) const
    {
        int n = stages_across(), m = stages_down();
        int at_y = begin_y + at / n % m * EDGE + row / EDGE, at_x = begin_x + at % n * EDGE + row % EDGE;
        return at_y < end_y && at_x < end_x ? index(begin_f + at / (n * m), at_y, at_x) : -1;
    }

    template <int HD, int THREADS>
    __device__ void copy_stage(uint16_t *to, int at, const uint16_t *a, const uint16_t *b, int64_t stride, int hd) const
    {
        constexpr int CHUNKS = HD / 8;
        int n = stages_across(), m = stages_down();
        int from_y = begin_y + at / n % m * EDGE, from_x = begin_x + at % n * EDGE;
        int first = index(begin_f + at / (n * m), from_y, from_x);
        for (int i = (int)threadIdx.x; i < STAGE * CHUNKS; i += THREADS) {
            int row = i / CHUNKS, chunk = i % CHUNKS, down = row / EDGE, right = row % EDGE;
            bool valid = from_y + down < end_y && from_x + right < end_x && chunk * 8 < hd;
            int64_t place = valid ? (first + down * width + right) * stride + chunk * 8 : 0;
            uint16_t *tile = to + swizzled<HD>(row, chunk);
            oas_async_copy16(tile, a + place, valid);
            oas_async_copy16(tile + STAGE * HD, b + place, valid);
        }
    }

    __device__ int enter(int at, int row)
    {
        int n = stages_across(), m = stages_down(), part = row / (PART * PART);
        stage_y = begin_y + at / n % m * EDGE;
        stage_x = begin_x + at % n * EDGE;
        part_y = y + part / 2 * PART;
        part_x = x + part % 2 * PART;
        first_y = larger(part_y - reach_y, stage_y);
        first_x = larger(part_x - reach_x, stage_x);
        int down = smaller(smaller(part_y + PART + reach_y, stage_y + EDGE), end_y) - first_y;
        int right = smaller(smaller(part_x + PART + reach_x, stage_x + EDGE), end_x) - first_x;
        if (part_y >= height || part_x >= width || down <= 0 || right <= 0)
            return 0;
        across = (right + 7) / 8;
        return (down + GROUPS - 1) / GROUPS * across;
    }

    __device__ block at(int i) const
    {
        int down = first_y + i / across * GROUPS, right = first_x + i % across * 8;
        int from_y = smaller(down, stage_y + EDGE - GROUPS), from_x = smaller(right, stage_x + EDGE - 8);
        return block{(from_y - stage_y) * EDGE + from_x - stage_x, from_y, from_x, down, right};
    }

    template <int MT> __device__ void hide(float s[MT][GROUPS][4], const block &b) const
    {
        static_assert(MT == 1, "a warp owns one part");
        int row = (int)threadIdx.x % 32 / QUAD, column = (int)threadIdx.x % QUAD * 2;
        int own_y = part_y + row / PART, own_x = part_x + row % PART; /* rows 8 and on: the same, 2 below */
        bool near_x[2];
        OAS_UNROLL
        for (int e = 0; e < 2; e++) {
            int at = b.x + column + e;
            near_x[e] = at >= b.first_x && at < width && at - own_x <= reach_x && own_x - at <= reach_x;
        }
        OAS_UNROLL
        for (int g = 0; g < GROUPS; g++)
            OAS_UNROLL
            for (int e = 0; e < 4; e++) {
                int at = b.y + g, away = at - own_y - e / 2 * 2;
                bool seen = near_x[e % 2] && at >= b.first_y && at < height && away <= reach_y && -away <= reach_y;
                s[0][g][e] = seen ? s[0][g][e] : -INFINITY;
            }
    }

    template <int MT> __device__ void add_bias(float[MT][GROUPS][4], const block &, const float *, float) const
    {
    }
};

/* ---- products ------------------------------------------------------------------------------------------------------ */

/*
 * Where a lane reads matrices: row `row`, chunk `half` (0 or 1) of each pair of chunks; in bytes, of pair 0.  The chunks'
 * exchange depends on row % 8 alone, and acts on the lower bits of the pair: so the places of all pairs, and of rows
 * further down by multiples of 8, are this number with two bits flipped, and constants.
 */
template <int HD> __device__ static inline int lane_place(int row, int half)
{
    return swizzled<HD>(row, half) * (int)sizeof(uint16_t);
}

template <int HD> __device__ static inline const void *matrix_at(const uint16_t *tile, int place, int pair, int rows)
{
    return (const unsigned char *)tile + (place ^ (pair % 4 * 32)) + (pair / 4 * 128 + rows * HD * (int)sizeof(uint16_t));
}

/* s = own rows (16*MT from `own` on) times a block's rows. */
template <int HD, int MT, int GROUPS, class BLOCK>
__device__ static inline void multiply_rows(float s[MT][GROUPS][4], const uint16_t *own, const uint16_t *other,
                                            const BLOCK &b)
{
    int lane = (int)threadIdx.x % 32, left_place = lane_place<HD>(lane % 16, lane / 16);
    int right_place = lane_place<HD>(b.row(lane / 16 * 8 + lane % 8), lane / 8 % 2);
    OAS_UNROLL
    for (int m = 0; m < MT; m++)
        OAS_UNROLL
        for (int g = 0; g < GROUPS; g++)
            OAS_UNROLL
            for (int e = 0; e < 4; e++)
                s[m][g][e] = 0.f;
    OAS_UNROLL
    for (int c = 0; c < HD / 16; c++) {
        uint32_t left[MT][4];
        OAS_UNROLL
        for (int m = 0; m < MT; m++)
            oas_load_matrices(left[m], matrix_at<HD>(own, left_place, c, m * 16));
        OAS_UNROLL
        for (int g = 0; g < GROUPS; g += 2) {
            uint32_t right[4];
            oas_load_matrices(right, matrix_at<HD>(other, right_place, c, g / 2 * BLOCK::STEP));
            OAS_UNROLL
            for (int m = 0; m < MT; m++) {
                oas_multiply_16x8x16(s[m][g], left[m], right);
                oas_multiply_16x8x16(s[m][g + 1], left[m], right + 2);
            }
        }
    }
}

/* A tile of scores as the left side of a product: of two groups, four words. */
template <int MT, int GROUPS>
__device__ static inline void to_left(uint32_t p[MT][GROUPS / 2][4], const float s[MT][GROUPS][4])
{
    OAS_UNROLL
    for (int m = 0; m < MT; m++)
        OAS_UNROLL
        for (int g = 0; g < GROUPS / 2; g++)
            OAS_UNROLL
            for (int e = 0; e < 4; e++)
                p[m][g][e] = oas_bf16_pair(s[m][2 * g + e / 2][e % 2 * 2], s[m][2 * g + e / 2][e % 2 * 2 + 1]);
}

/* sum += p times the rows of a block, WIDTH channels from chunk `chunk` (a multiple of 8) on. */
template <int HD, int MT, int GROUPS, int WIDTH, class BLOCK>
__device__ static inline void multiply_columns(float sum[MT][WIDTH / 8][4], const uint32_t p[MT][GROUPS / 2][4],
                                               const uint16_t *other, int chunk, const BLOCK &b)
{
    int lane = (int)threadIdx.x % 32, place = lane_place<HD>(b.row(lane % 16), lane / 16);
    OAS_UNROLL
    for (int g = 0; g < GROUPS / 2; g++)
        OAS_UNROLL
        for (int c = 0; c < WIDTH / 16; c++) {
            uint32_t right[4];
            oas_load_matrices_trans(right, matrix_at<HD>(other + chunk * 8, place, c, g * BLOCK::STEP));
            OAS_UNROLL
            for (int m = 0; m < MT; m++) {
                oas_multiply_16x8x16(sum[m][2 * c], p[m][g], right);
                oas_multiply_16x8x16(sum[m][2 * c + 1], p[m][g], right + 2);
            }
        }
}

template <int MT, int WIDTH> __device__ static inline void clear(float sum[MT][WIDTH / 8][4])
{
    OAS_UNROLL
    for (int m = 0; m < MT; m++)
        OAS_UNROLL
        for (int c = 0; c < WIDTH / 8; c++)
            OAS_UNROLL
            for (int e = 0; e < 4; e++)
                sum[m][c][e] = 0.f;
}

/* Over the lanes that share a row. */
__device__ static inline float quad_sum(float v)
{
    v += __shfl_xor_sync(0xffffffffu, v, 1);
    return v + __shfl_xor_sync(0xffffffffu, v, 2);
}

__device__ static inline float quad_max(float v)
{
    v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
    return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}

#endif
