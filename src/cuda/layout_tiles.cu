/*
 * Moving pixels to channels and back at the speed of memory, for the blocks that networks have.  A thread moves a tile:
 * C channels of H x W pixels of a block, of one frame.  Its values lie in few runs on either side, which are read in
 * pieces of 4 to 16 bytes, all at once; where they go a warp's threads exchange pieces first, so that each store fills
 * whole stretches of memory.  Places are counted in 32 bits.  Where channels come last in a block (channel_fast), a row
 * of its pixels is one pixel of more channels, and tiles are 8 channels of it.
 */
#include "cuda/layout_parts.cuh"
#include "cuda/values.cuh"

struct tiles_job {
    cuda_array to, from, more;
    uint32_t items; /* tiles */
    /* An item's digits, the last one first: channels, rows of a block, columns, rows, frames. */
    oas_divisor chunks, parts, columns, rows, times, block_frames;
    int32_t channels, height, width, frames;    /* of the pixels */
    int32_t positions, depth, front;            /* frames of the positions, their channels; frames before frame 0 */
    int32_t chunk_step, row_step, channel_step; /* in a position, to the next tile of channels, of rows; channel */
    bool copies, add;
};

/* ---- runs ------------------------------------------------------------------------------------------------------------ */

template <int WORDS> struct alignas(4 * WORDS) words {
    uint32_t word[WORDS];
};

/* The longest pieces, up to 16 bytes, that divide a run of N values and so lie aligned in all of them. */
template <int N, class T> struct run {
    enum {
        BYTES = (N & -N) * (int)sizeof(T),
        WORDS = (int)BYTES < 16 ? BYTES / 4 : 4,
        PIECES = N * (int)sizeof(T) / (4 * WORDS)
    };
};

/* T is float, or uint16_t for bf16. */
template <int N, class T> __device__ static inline void load_run(float v[N], const T *from)
{
    constexpr int WORDS = run<N, T>::WORDS, PIECES = run<N, T>::PIECES;
    words<WORDS> piece[PIECES];
    OAS_UNROLL
    for (int i = 0; i < PIECES; i++)
        piece[i] = ((const words<WORDS> *)from)[i];
    OAS_UNROLL
    for (int k = 0; k < N; k++) {
        int at = k * (int)sizeof(T) / 4;
        uint32_t word = piece[at / WORDS].word[at % WORDS];
        v[k] = __uint_as_float(sizeof(T) == 4 ? word : k % 2 ? word & 0xffff0000u : word << 16);
    }
}

template <int N, class T> __device__ static inline uint32_t word_of(const float v[N], int i)
{
    if constexpr (sizeof(T) == 4)
        return __float_as_uint(v[i]);
    else
        return oas_bf16_pair(v[2 * i], v[2 * i + 1]);
}

/* Of each thread of a warp, to[at ..], nothing if at is below 0.  The warp's `stage` has room for the runs of all. */
template <int N, class T> __device__ static inline void store_run(T *to, int at, const float v[N], void *stage)
{
    constexpr int WORDS = run<N, T>::WORDS, PIECES = run<N, T>::PIECES;
    words<WORDS> *all = (words<WORDS> *)stage;
    int lane = (int)threadIdx.x % OAS_WARP;
    OAS_UNROLL
    for (int i = 0; i < PIECES; i++) {
        words<WORDS> piece;
        OAS_UNROLL
        for (int k = 0; k < WORDS; k++)
            piece.word[k] = word_of<N, T>(v, i * WORDS + k);
        if constexpr (PIECES > 1)
            all[lane * PIECES + i] = piece;
        else if (at >= 0)
            *(words<WORDS> *)(to + at) = piece;
    }
    if constexpr (PIECES > 1) {
        __syncwarp();
        OAS_UNROLL
        for (int i = 0; i < PIECES; i++) {
            int next = i * OAS_WARP + lane, begin = __shfl_sync(0xffffffffu, at, next / PIECES);
            if (begin >= 0)
                ((words<WORDS> *)(to + begin))[next % PIECES] = all[next];
        }
        __syncwarp();
    }
}

/* ---- tiles ----------------------------------------------------------------------------------------------------------- */

template <int C, int H, int W> struct tile {
    enum {
        VALUES = C * H * W,
        PIXEL_RUN = C % OAS_CHUNK ? W * C : C,            /* all channels of a row of pixels, or some of one */
        POSITION_RUN = H > 1 || W == 1 ? (int)VALUES : W, /* all, or a row's of one channel */
        LONGEST = (int)PIXEL_RUN > (int)POSITION_RUN ? (int)PIXEL_RUN : (int)POSITION_RUN
    };
    float v[VALUES]; /* [H][W][C] */

    /* Where run i of the pixels begins. */
    __device__ static int pixel_run(const tiles_job &j, int i)
    {
        constexpr int IN_ROW = W * C / PIXEL_RUN;
        return (i / IN_ROW * j.width + i % IN_ROW) * j.channels;
    }

    template <class T> __device__ void load_pixels(const tiles_job &j, const T *from)
    {
        OAS_UNROLL
        for (int i = 0; i < VALUES / PIXEL_RUN; i++)
            load_run<PIXEL_RUN>(v + i * PIXEL_RUN, from + pixel_run(j, i));
    }

    template <class T> __device__ void store_pixels(const tiles_job &j, T *to, int at, void *stage) const
    {
        OAS_UNROLL
        for (int i = 0; i < VALUES / PIXEL_RUN; i++)
            store_run<PIXEL_RUN>(to, at < 0 ? at : at + pixel_run(j, i), v + i * PIXEL_RUN, stage);
    }

    template <class T> __device__ void load_position(const tiles_job &j, const T *from)
    {
        float turned[VALUES]; /* [C][H][W] */
        OAS_UNROLL
        for (int i = 0; i < VALUES / POSITION_RUN; i++)
            load_run<POSITION_RUN>(turned + i * POSITION_RUN, from + i * j.channel_step);
        OAS_UNROLL
        for (int i = 0; i < VALUES; i++)
            v[i] = turned[i % C * (H * W) + i / C];
    }

    template <class T> __device__ void store_position(const tiles_job &j, T *to, int at, void *stage) const
    {
        float turned[VALUES];
        OAS_UNROLL
        for (int i = 0; i < VALUES; i++)
            turned[i % C * (H * W) + i / C] = v[i];
        OAS_UNROLL
        for (int i = 0; i < VALUES / POSITION_RUN; i++)
            store_run<POSITION_RUN>(to, at < 0 ? at : at + i * j.channel_step, turned + i * POSITION_RUN, stage);
    }

    __device__ void get_pixels(const tiles_job &j, const cuda_array &a, int at)
    {
        if (a.dtype == 0)
            load_pixels(j, (const float *)a.data + at);
        else
            load_pixels(j, (const uint16_t *)a.data + at);
    }

    __device__ void get_position(const tiles_job &j, const cuda_array &a, int at)
    {
        if (a.dtype == 0)
            load_position(j, (const float *)a.data + at);
        else
            load_position(j, (const uint16_t *)a.data + at);
    }

    __device__ void put_pixels(const tiles_job &j, const cuda_array &a, int at, void *stage) const
    {
        if (a.dtype == 0)
            store_pixels(j, (float *)a.data, at, stage);
        else
            store_pixels(j, (uint16_t *)a.data, at, stage);
    }

    __device__ void put_position(const tiles_job &j, const cuda_array &a, int at, void *stage) const
    {
        if (a.dtype == 0)
            store_position(j, (float *)a.data, at, stage);
        else
            store_position(j, (uint16_t *)a.data, at, stage);
    }

    __device__ void clear(void)
    {
        OAS_UNROLL
        for (int i = 0; i < VALUES; i++)
            v[i] = 0.f;
    }

    __device__ void add(const tile &other)
    {
        OAS_UNROLL
        for (int i = 0; i < VALUES; i++)
            v[i] += other.v[i];
    }
};

/* Where a tile lies; frames are counted from the pixels' first one. */
struct tile_place {
    int sample, time, row, column, part, chunk;
};

__device__ static inline tile_place place_of_item(const tiles_job &j, uint32_t item)
{
    uint32_t chunk, part, column, row, time;
    uint32_t rest = oas_divide(oas_divide(item, j.chunks, &chunk), j.parts, &part);
    rest = oas_divide(oas_divide(oas_divide(rest, j.columns, &column), j.rows, &row), j.times, &time);
    tile_place p = {(int)rest, (int)time, (int)row, (int)column, (int)part, (int)chunk};
    return p;
}

template <int C, int H, int W>
__device__ static inline int pixels_at(const tiles_job &j, const tile_place &p, int frame)
{
    int y = (p.row * (int)j.parts.by + p.part) * H;
    return (((p.sample * j.frames + frame) * j.height + y) * j.width + p.column * W) * j.channels + p.chunk * C;
}

/* time: the pixels' frame, counted from those before frame 0 on. */
__device__ static inline int position_at(const tiles_job &j, const tile_place &p, int time)
{
    uint32_t i, frame = oas_divide((uint32_t)time, j.block_frames, &i);
    int place = p.chunk * j.chunk_step + ((int)i * (int)j.parts.by + p.part) * j.row_step;
    int row = (p.sample * j.positions + (int)frame) * (int)j.rows.by + p.row;
    return (row * (int)j.columns.by + p.column) * j.depth + place;
}

/* `item` of this thread, which may be none (item >= j.items): threads of a warp go together. */
#define FOR_TILES(j, item)                                                                                             \
    for (uint32_t item = (uint32_t)oas_first_item(); item / OAS_WARP * OAS_WARP < (j).items;                           \
         item += (uint32_t)oas_item_step())

/* A block's room for exchanging runs, of which `stage` is this warp's. */
#define SHARED_STAGE(stage, tile_type)                                                                                 \
    __shared__ words<4> room_of_all[(int)OAS_BLOCK * (int)tile_type::LONGEST / 4];                                     \
    words<4> *stage = room_of_all + threadIdx.x / OAS_WARP * (int)OAS_WARP * (int)tile_type::LONGEST / 4

/* Small tiles need many threads for enough of memory to be under way; large ones need registers. */
#define TILE_BOUNDS(values) __launch_bounds__(OAS_BLOCK, (values) > 12 ? 3 : 6)

template <int C, int H, int W> static __global__ void TILE_BOUNDS(C * H * W) to_depth_tiles(tiles_job j)
{
    typedef tile<C, H, W> this_tile;
    SHARED_STAGE(stage, this_tile);
    FOR_TILES(j, item) {
        bool there = item < j.items;
        this_tile t, other;
        tile_place p = place_of_item(j, there ? item : 0);
        int frame = p.time - j.front, to = position_at(j, p, p.time);
        if (frame >= 0 || j.copies)
            t.get_pixels(j, j.from, pixels_at<C, H, W>(j, p, frame < 0 ? 0 : frame));
        else
            t.clear();
        if (j.add && there) {
            other.get_position(j, j.to, to);
            t.add(other);
        }
        t.put_position(j, j.to, there ? to : -1, stage);
    }
}

template <int C, int H, int W> static __global__ void TILE_BOUNDS(C * H * W) to_space_tiles(tiles_job j)
{
    typedef tile<C, H, W> this_tile;
    SHARED_STAGE(stage, this_tile);
    FOR_TILES(j, item) {
        bool there = item < j.items;
        this_tile t, other;
        tile_place p = place_of_item(j, there ? item : 0);
        int to = pixels_at<C, H, W>(j, p, p.time);
        t.get_position(j, j.from, position_at(j, p, p.time + j.front));
        for (int copy = 0; j.copies && p.time == 0 && copy < j.front; copy++) {
            other.get_position(j, j.from, position_at(j, p, copy));
            t.add(other);
        }
        if (j.more.data) {
            other.get_pixels(j, j.more, to);
            t.add(other);
        }
        if (j.add && there) {
            other.get_pixels(j, j.to, to);
            t.add(other);
        }
        t.put_pixels(j, j.to, there ? to : -1, stage);
    }
}

/* ---- on the host ----------------------------------------------------------------------------------------------------- */

/* Blocks whose channels come last have rows of one pixel. */
static cuda_blocks with_joined_rows(const cuda_blocks *b)
{
    cuda_blocks joined = *b;
    if (b->channel_fast) {
        joined.channels *= b->w;
        joined.width /= b->w;
        joined.w = 1;
    }
    return joined;
}

struct tile_size {
    int channels, height, width; /* 0 = no tile fits */
};

static tile_size tile_of(const cuda_blocks &b)
{
    tile_size none = {0, 0, 0}, some = {OAS_CHUNK, 1, 1}, square = {b.channels == 3 ? 3 : OAS_CHUNK, 2, 2},
              row = {3, 1, b.w};
    bool eights = b.channels % OAS_CHUNK == 0;
    if (b.channel_fast)
        return eights ? some : none;
    if (b.t == 1 && b.h == 2 && b.w == 2)
        return eights || b.channels == 3 ? square : none;
    return b.channels == 3 && (b.w == 4 || b.w == 8) ? row : none;
}

static bool fits(cuda_array a)
{
    return (uintptr_t)a.data % 16 == 0;
}

/*
 * `times`: frames to go through.  false: the blocks have no tiles, or not in 32 bits, or an array lies where they cannot be
 * moved.
 */
static bool make_job(tiles_job *j, tile_size *chosen, cuda_array to, cuda_array from, cuda_array more,
                     const cuda_blocks *blocks, int64_t times, bool add)
{
    const cuda_blocks b = with_joined_rows(blocks);
    const tile_size tile = tile_of(b);
    int64_t place = (int64_t)b.t * b.h * b.w, positions = (b.frames + b.front) / b.t;
    int64_t values = b.batch * positions * b.t * b.height * b.width * b.channels;
    if (tile.channels == 0 || values < 1 || values > INT32_MAX || !fits(to) || !fits(from) || !fits(more))
        return false;
    *chosen = tile;
    j->to = to;
    j->from = from;
    j->more = more;
    j->add = add;
    j->chunks = oas_divisor_of(b.channels / tile.channels);
    j->parts = oas_divisor_of(b.h / tile.height);
    j->columns = oas_divisor_of(b.width / b.w);
    j->rows = oas_divisor_of(b.height / b.h);
    j->times = oas_divisor_of(times);
    j->block_frames = oas_divisor_of(b.t);
    j->channels = (int32_t)b.channels;
    j->height = (int32_t)b.height;
    j->width = (int32_t)b.width;
    j->frames = (int32_t)b.frames;
    j->positions = (int32_t)positions;
    j->depth = (int32_t)(b.channels * place);
    j->front = b.front;
    j->chunk_step = tile.channels * (b.channel_fast ? 1 : (int32_t)place);
    j->row_step = b.channel_fast ? (int32_t)b.channels : b.w;
    j->channel_step = (int32_t)place;
    j->copies = b.copies;
    j->items =
        (uint32_t)(b.batch * times * b.height * b.width * b.channels / (tile.channels * tile.height * tile.width));
    return true;
}

#define LAUNCH(c, kernel, tile, j)                                                                                     \
    do {                                                                                                               \
        auto chosen = (tile).channels != 3 ? (tile).width == 1 ? kernel<OAS_CHUNK, 1, 1> : kernel<OAS_CHUNK, 2, 2>     \
                      : (tile).width == 2  ? kernel<3, 2, 2>                                                           \
                      : (tile).width == 4  ? kernel<3, 1, 4>                                                           \
                                           : kernel<3, 1, 8>;                                                          \
        OAS_LAUNCH(c, chosen, oas_blocks(c, (j).items), OAS_BLOCK, 0, j);                                              \
    } while (0)

oasis_status oas_layout_tiles_to_depth(oas_cuda *c, cuda_array positions, cuda_array pixels, const cuda_blocks *b,
                                       bool add)
{
    tile_size tile;
    tiles_job j;
    if (!make_job(&j, &tile, positions, pixels, OAS_NONE, b, (b->frames + b->front) / b->t * b->t, add))
        return OASIS_E_UNSUPPORTED;
    LAUNCH(c, to_depth_tiles, tile, j);
    return oas_launched();
}

oasis_status oas_layout_tiles_to_space(oas_cuda *c, cuda_array pixels, cuda_array positions, cuda_array more,
                                       const cuda_blocks *b, bool add)
{
    tile_size tile;
    tiles_job j;
    if (!make_job(&j, &tile, pixels, positions, more, b, b->frames, add))
        return OASIS_E_UNSUPPORTED;
    LAUNCH(c, to_space_tiles, tile, j);
    return oas_launched();
}
