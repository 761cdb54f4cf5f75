/*
 * Moving pixels, positions and channels: every thread writes a chunk of 8 neighbouring values and finds out where they come
 * from.  Going through the 8 the place is counted on, digit by digit, so that only the first costs divisions.  Blocks that
 * networks have go another way, in tiles (layout_tiles.cu).
 */
#include "cuda/layout.h"
#include "cuda/layout_parts.cuh"
#include "cuda/passes_parts.cuh"
#include "cuda/values.cuh"

struct blocks_job {
    cuda_array to, from, more;
    cuda_blocks b;
    int64_t positions, rows, columns, depth; /* frames, rows, columns, channels of the positions */
    int64_t items, chunks;                   /* chunks to write, and those of a position or of a row of pixels */
    bool add, wide, wide_from;               /* wide_from: chunks of the source are neighbours there, too */
};

/* A place in a block, and how far channels of neighbouring places lie apart. */
struct block_place {
    int c, i, j, k; /* channel, frame, row, column */
};

__device__ static inline int block_channel(const cuda_blocks &b, const block_place &p)
{
    int place = (p.i * b.h + p.j) * b.w + p.k;
    return b.channel_fast ? place * (int)b.channels + p.c : p.c * b.t * b.h * b.w + place;
}

__device__ static inline block_place place_of_channel(const cuda_blocks &b, int channel)
{
    block_place p;
    int place = channel;
    if (b.channel_fast) {
        p.c = place % (int)b.channels;
        place /= (int)b.channels;
    } else {
        p.c = place / (b.t * b.h * b.w);
        place %= b.t * b.h * b.w;
    }
    p.k = place % b.w;
    p.j = place / b.w % b.h;
    p.i = place / b.w / b.h;
    return p;
}

/* The place of the next channel. */
__device__ static inline void next_channel(const cuda_blocks &b, block_place *p)
{
    if (b.channel_fast) {
        if (++p->c < b.channels)
            return;
        p->c = 0;
    }
    if (++p->k < b.w)
        return;
    p->k = 0;
    if (++p->j < b.h)
        return;
    p->j = 0;
    if (++p->i < b.t)
        return;
    p->i = 0;
    p->c++;
}

static __global__ void to_depth_kernel(blocks_job j)
{
    for (int64_t item = oas_first_item(); item < j.items; item += oas_item_step()) {
        int64_t chunk, column, row, frame, position = oas_divide(item, j.chunks, &chunk);
        int64_t sample =
            oas_divide(oas_divide(oas_divide(position, j.columns, &column), j.rows, &row), j.positions, &frame);
        int n = oas_in_chunk(chunk * OAS_CHUNK, j.depth);
        block_place p = place_of_channel(j.b, (int)(chunk * OAS_CHUNK));
        float v[OAS_CHUNK];
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++) {
            int64_t t = frame * j.b.t + p.i - j.b.front;
            bool there = k < n && (t >= 0 || j.b.copies);
            int64_t at = ((sample * j.b.frames + (t < 0 ? 0 : t)) * j.b.height + row * j.b.h + p.j) * j.b.width;
            at = (at + column * j.b.w + p.k) * j.b.channels + p.c;
            if (j.wide_from) {
                oas_load8(v, j.from, at, there ? n : 0, true);
                break;
            }
            v[k] = there ? oas_load(&j.from, at) : 0.f;
            next_channel(j.b, &p);
        }
        if (j.add)
            oas_add8(j.to, position * j.depth + chunk * OAS_CHUNK, v, n, j.wide);
        else
            oas_store8(j.to, position * j.depth + chunk * OAS_CHUNK, v, n, j.wide);
    }
}

/* A chunk of 8 values of a row of pixels from frame t (counted with those in front) of the positions. */
__device__ static void load_pixels(const blocks_job &j, int64_t sample, int64_t t, int64_t y, int64_t at, int n,
                                   float v[OAS_CHUNK])
{
    int64_t i, row, c, k, frame = oas_divide(t, j.b.t, &i), position_row = oas_divide(y, j.b.h, &row);
    int64_t x = oas_divide(oas_divide(at, j.b.channels, &c), j.b.w, &k);
    int64_t base = ((sample * j.positions + frame) * j.rows + position_row) * j.columns;
    block_place p = {(int)c, (int)i, (int)row, (int)k};
    if (j.wide_from) {
        oas_load8(v, j.from, (base + x) * j.depth + block_channel(j.b, p), n, true);
        return;
    }
    OAS_UNROLL
    for (int m = 0; m < OAS_CHUNK; m++) {
        v[m] = m < n ? oas_load(&j.from, (base + x) * j.depth + block_channel(j.b, p)) : 0.f;
        if (++p.c < j.b.channels)
            continue;
        p.c = 0;
        if (++p.k < j.b.w)
            continue;
        p.k = 0;
        x++;
    }
}

static __global__ void to_space_kernel(blocks_job j)
{
    int64_t width = j.b.width * j.b.channels;
    for (int64_t item = oas_first_item(); item < j.items; item += oas_item_step()) {
        int64_t chunk, y, t, row = oas_divide(item, j.chunks, &chunk);
        int64_t sample = oas_divide(oas_divide(row, j.b.height, &y), j.b.frames, &t), at = chunk * OAS_CHUNK;
        int n = oas_in_chunk(at, width);
        float v[OAS_CHUNK], other[OAS_CHUNK];
        load_pixels(j, sample, t + j.b.front, y, at, n, v);
        for (int64_t copy = 0; j.b.copies && t == 0 && copy < j.b.front; copy++) {
            load_pixels(j, sample, copy, y, at, n, other);
            OAS_UNROLL
            for (int k = 0; k < OAS_CHUNK; k++)
                v[k] += other[k];
        }
        if (j.more.data) {
            oas_load8(other, j.more, row * width + at, n, j.wide);
            OAS_UNROLL
            for (int k = 0; k < OAS_CHUNK; k++)
                v[k] += other[k];
        }
        if (j.add)
            oas_add8(j.to, row * width + at, v, n, j.wide);
        else
            oas_store8(j.to, row * width + at, v, n, j.wide);
    }
}

static blocks_job blocks_job_of(cuda_array to, cuda_array from, cuda_array more, const cuda_blocks *b, bool add)
{
    blocks_job j = {to, from, more, *b, 0, 0, 0, 0, 0, 0, add, false, false};
    j.positions = (b->frames + b->front) / b->t;
    j.rows = b->height / b->h;
    j.columns = b->width / b->w;
    j.depth = b->channels * b->t * b->h * b->w;
    j.wide_from = b->channel_fast && oas_is_wide(from, b->w * b->channels);
    return j;
}

static oasis_status space_to_depth(oas_cuda *c, cuda_array positions, cuda_array pixels, const cuda_blocks *b, bool add)
{
    oasis_status s = oas_layout_tiles_to_depth(c, positions, pixels, b, add);
    if (s != OASIS_E_UNSUPPORTED)
        return s;
    blocks_job j = blocks_job_of(positions, pixels, OAS_NONE, b, add);
    j.chunks = (j.depth + OAS_CHUNK - 1) / OAS_CHUNK;
    j.items = b->batch * j.positions * j.rows * j.columns * j.chunks;
    j.wide = oas_is_wide(positions, j.depth);
    if (j.items < 1)
        return OASIS_OK;
    OAS_LAUNCH(c, to_depth_kernel, oas_blocks(c, j.items), OAS_BLOCK, 0, j);
    return oas_launched();
}

static oasis_status depth_to_space(oas_cuda *c, cuda_array pixels, cuda_array positions, cuda_array more,
                                   const cuda_blocks *b, bool add)
{
    oasis_status s = oas_layout_tiles_to_space(c, pixels, positions, more, b, add);
    if (s != OASIS_E_UNSUPPORTED)
        return s;
    blocks_job j = blocks_job_of(pixels, positions, more, b, add);
    int64_t width = b->width * b->channels;
    j.chunks = (width + OAS_CHUNK - 1) / OAS_CHUNK;
    j.items = b->batch * b->frames * b->height * j.chunks;
    j.wide = oas_is_wide(pixels, width) && oas_is_wide(more, width);
    if (j.items < 1)
        return OASIS_OK;
    OAS_LAUNCH(c, to_space_kernel, oas_blocks(c, j.items), OAS_BLOCK, 0, j);
    return oas_launched();
}

/* ---- ranges ---------------------------------------------------------------------------------------------------------- */

static oasis_status take_channels(oas_cuda *c, cuda_array to, cuda_array x, int64_t rows, int64_t width, int64_t begin,
                                  int64_t count)
{
    return oas_move_rows(c, to, count, oas_array_at(x, begin), width, count, rows, false);
}

static oasis_status take_channels_backward(oas_cuda *c, float *dx, const float *dy, int64_t rows, int64_t width,
                                           int64_t begin, int64_t count)
{
    return oas_move_rows(c, oas_float_array(dx + begin), width, oas_float_array(dy), count, count, rows, true);
}

static oasis_status move_frames(oas_cuda *c, cuda_array to, int64_t to_frames, int64_t to_begin, cuda_array from,
                                int64_t from_frames, int64_t from_begin, int64_t count, int64_t batch, int64_t n,
                                bool add)
{
    return oas_move_rows(c, oas_array_at(to, to_begin * n), to_frames * n, oas_array_at(from, from_begin * n),
                         from_frames * n, count * n, batch, add);
}

/* ---- pixels four times ----------------------------------------------------------------------------------------------- */

/* Of one pixel of the smaller picture per chunk of its channels: written four times, or with `back` the sum of four. */
static __global__ void repeat_kernel(cuda_array big, cuda_array small, int64_t rows, int64_t width, int64_t channels,
                                     bool back, bool wide)
{
    int64_t chunks = (channels + OAS_CHUNK - 1) / OAS_CHUNK;
    for (int64_t item = oas_first_item(); item < rows * width * chunks; item += oas_item_step()) {
        int64_t chunk, column, pixel = oas_divide(item, chunks, &chunk), row = oas_divide(pixel, width, &column);
        int64_t at = chunk * OAS_CHUNK, corner = (row * 4 * width + column * 2) * channels + at;
        int n = oas_in_chunk(at, channels);
        float v[OAS_CHUNK], sum[OAS_CHUNK];
        oas_load8(sum, small, pixel * channels + at, n, wide);
        for (int i = 0; i < 4; i++) {
            int64_t place = corner + (i / 2 * 2 * width + i % 2) * channels;
            if (!back) {
                oas_store8(big, place, sum, n, wide);
                continue;
            }
            oas_load8(v, big, place, n, wide);
            OAS_UNROLL
            for (int k = 0; k < OAS_CHUNK; k++)
                sum[k] += v[k];
        }
        if (back)
            oas_store8(small, pixel * channels + at, sum, n, wide);
    }
}

static oasis_status run_repeat(oas_cuda *c, cuda_array big, cuda_array small, int64_t rows, int64_t width,
                               int64_t channels, bool back)
{
    int64_t items = rows * width * ((channels + OAS_CHUNK - 1) / OAS_CHUNK);
    if (items < 1)
        return OASIS_OK;
    bool wide = oas_is_wide(big, channels) && oas_is_wide(small, channels);
    OAS_LAUNCH(c, repeat_kernel, oas_blocks(c, items), OAS_BLOCK, 0, big, small, rows, width, channels, back, wide);
    return oas_launched();
}

static oasis_status repeat_pixels(oas_cuda *c, cuda_array y, cuda_array x, int64_t rows, int64_t width,
                                  int64_t channels)
{
    return run_repeat(c, y, x, rows, width, channels, false);
}

static oasis_status repeat_pixels_backward(oas_cuda *c, float *dx, const float *dy, int64_t rows, int64_t width,
                                           int64_t channels)
{
    return run_repeat(c, oas_float_array(dy), oas_float_array(dx), rows, width, channels, true);
}

/* ---- frames side by side --------------------------------------------------------------------------------------------- */

struct stack_job {
    cuda_array y, x, history;
    int64_t batch, frames, n, kt, chunks; /* chunks of a frame of what is written */
    bool wide;
};

static __global__ void stack_kernel(stack_job j)
{
    for (int64_t item = oas_first_item(); item < j.batch * j.frames * j.chunks; item += oas_item_step()) {
        int64_t chunk, t, k, frame = oas_divide(item, j.chunks, &chunk), sample = oas_divide(frame, j.frames, &t);
        int64_t at = chunk * OAS_CHUNK, i = oas_divide(at, j.kt, &k);
        int n = oas_in_chunk(at, j.n * j.kt);
        float v[OAS_CHUNK];
        for (int m = 0; m < OAS_CHUNK; m++) {
            int64_t from = t + k - j.kt + 1;
            v[m] = 0.f;
            if (m < n && from >= 0)
                v[m] = oas_load(&j.x, (sample * j.frames + from) * j.n + i);
            else if (m < n && j.history.data)
                v[m] = oas_load(&j.history, (sample * (j.kt - 1) + j.kt - 1 + from) * j.n + i);
            if (++k == j.kt) {
                k = 0;
                i++;
            }
        }
        oas_store8(j.y, frame * j.n * j.kt + at, v, n, j.wide);
    }
}

static oasis_status stack_frames(oas_cuda *c, cuda_array y, cuda_array x, cuda_array history, int64_t batch,
                                 int64_t frames, int64_t n, int64_t kt)
{
    stack_job j = {y, x, history, batch, frames, n, kt, (n * kt + OAS_CHUNK - 1) / OAS_CHUNK, oas_is_wide(y, n * kt)};
    if (batch * frames * j.chunks < 1)
        return OASIS_OK;
    OAS_LAUNCH(c, stack_kernel, oas_blocks(c, batch * frames * j.chunks), OAS_BLOCK, 0, j);
    return oas_launched();
}

/* x += what its copies in y get; x is [batch, count, n], its first frame `first` of the frames of y (below 0: history). */
static __global__ void stack_backward_kernel(stack_job j, int64_t count, int64_t first)
{
    for (int64_t item = oas_first_item(); item < j.batch * count * j.chunks; item += oas_item_step()) {
        int64_t chunk, t, frame = oas_divide(item, j.chunks, &chunk), sample = oas_divide(frame, count, &t);
        int64_t at = chunk * OAS_CHUNK;
        int n = oas_in_chunk(at, j.n);
        float v[OAS_CHUNK];
        oas_load8(v, j.x, frame * j.n + at, n, j.wide);
        for (int64_t k = j.kt - 1; k >= 0; k--) {
            int64_t to = first + t + j.kt - 1 - k;
            if (to < 0 || to >= j.frames)
                continue;
            OAS_UNROLL
            for (int m = 0; m < OAS_CHUNK; m++)
                if (m < n)
                    v[m] += oas_load(&j.y, ((sample * j.frames + to) * j.n + at + m) * j.kt + k);
        }
        oas_store8(j.x, frame * j.n + at, v, n, j.wide);
    }
}

static oasis_status stack_back(oas_cuda *c, float *dx, const float *dy, int64_t batch, int64_t frames, int64_t n,
                               int64_t kt, int64_t count, int64_t first)
{
    stack_job j = {
        oas_float_array(dy), oas_float_array(dx), {NULL, 0}, batch, frames, n, kt, (n + OAS_CHUNK - 1) / OAS_CHUNK,
        oas_is_wide(dx, n)};
    if (!dx || batch * count * j.chunks < 1)
        return OASIS_OK;
    OAS_LAUNCH(c, stack_backward_kernel, oas_blocks(c, batch * count * j.chunks), OAS_BLOCK, 0, j, count, first);
    return oas_launched();
}

static oasis_status stack_frames_backward(oas_cuda *c, float *dx, float *dhistory, const float *dy, int64_t batch,
                                          int64_t frames, int64_t n, int64_t kt)
{
    oasis_status s = stack_back(c, dx, dy, batch, frames, n, kt, frames, 0);
    return s == OASIS_OK ? stack_back(c, dhistory, dy, batch, frames, n, kt, kt - 1, 1 - kt) : s;
}

const struct cuda_layout oas_cuda_layout = {
    space_to_depth,
    depth_to_space,
    take_channels,
    take_channels_backward,
    move_frames,
    repeat_pixels,
    repeat_pixels_backward,
    stack_frames,
    stack_frames_backward,
    oas_layout_crop,
    oas_layout_crop_backward,
    oas_layout_unfold,
    oas_layout_unfold_backward,
    oas_layout_max_pool,
    oas_layout_max_pool_backward,
    oas_layout_l2_pool,
    oas_layout_l2_pool_backward,
};
