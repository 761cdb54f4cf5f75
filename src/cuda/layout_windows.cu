/*
 * Windows that move over pictures, as ops/window.c defines them.  Forward, a thread owns a chunk of channels of a window; on
 * the way back one of a pixel, and collects from the windows that saw it.
 */
#include "cuda/layout_parts.cuh"
#include "cuda/passes_parts.cuh"
#include "cuda/values.cuh"

/* ---- crop ------------------------------------------------------------------------------------------------------------ */

/* Adds the rectangle back to the whole, or copies it out of the whole. */
struct crop_job {
    cuda_array part, whole;
    const float *place;
    int64_t frames, height, width, channels, part_height, part_width, chunks; /* chunks of a part's row */
    bool back, wide;                                                           /* wide, where `left` is, too */
};

static __global__ void crop_kernel(crop_job j)
{
    int64_t run = j.part_width * j.channels, top = oas_place_at(j.place, 0, j.height - j.part_height),
            left = oas_place_at(j.place, 1, j.width - j.part_width);
    bool wide = j.wide && left * j.channels % OAS_CHUNK == 0;
    for (int64_t item = oas_first_item(); item < j.frames * j.part_height * j.chunks; item += oas_item_step()) {
        int64_t at, y, row = oas_divide(item, j.chunks, &at), frame = oas_divide(row, j.part_height, &y);
        at *= OAS_CHUNK;
        int64_t place = ((frame * j.height + top + y) * j.width + left) * j.channels + at;
        int n = oas_in_chunk(at, run);
        float v[OAS_CHUNK];
        if (j.back) {
            oas_load8(v, j.part, row * run + at, n, wide);
            oas_add8(j.whole, place, v, n, wide);
        } else {
            oas_load8(v, j.whole, place, n, wide);
            oas_store8(j.part, row * run + at, v, n, wide);
        }
    }
}

static oasis_status run_crop(oas_cuda *c, cuda_array part, cuda_array whole, const int64_t size[4], const float *place,
                             const int64_t rectangle[2], bool back)
{
    crop_job j = {part,    whole,        place,        size[0], size[1], size[2],
                  size[3], rectangle[0], rectangle[1], 0,       back,    false};
    int64_t run = j.part_width * j.channels;
    j.chunks = (run + OAS_CHUNK - 1) / OAS_CHUNK;
    j.wide = oas_is_wide(part, run) && oas_is_wide(whole, j.width * j.channels);
    if (j.frames * j.part_height * j.chunks < 1)
        return OASIS_OK;
    OAS_LAUNCH(c, crop_kernel, oas_blocks(c, j.frames * j.part_height * j.chunks), OAS_BLOCK, 0, j);
    return oas_launched();
}

oasis_status oas_layout_crop(oas_cuda *c, cuda_array y, cuda_array x, const int64_t size[4], const float *place,
                             const int64_t rectangle[2])
{
    return run_crop(c, y, x, size, place, rectangle, false);
}

oasis_status oas_layout_crop_backward(oas_cuda *c, float *dx, const float *dy, const int64_t size[4],
                                      const float *place, const int64_t rectangle[2])
{
    return run_crop(c, oas_float_array(dy), oas_float_array(dx), size, place, rectangle, true);
}

/* ---- windows --------------------------------------------------------------------------------------------------------- */

struct windows_job {
    cuda_array y, x, dy; /* windows, pixels, and the windows' gradient */
    cuda_array dx;
    uint8_t *place;
    cuda_windows w;
    int64_t chunks; /* of a pixel's channels, or of an unfolded window */
    bool wide;
};

/* A place in [frames, height, width] by its number, and the chunk there. */
struct window_item {
    int64_t frame, row, column, position, channel;
    int n;
};

__device__ static inline window_item item_of(int64_t item, int64_t chunks, int64_t height, int64_t width,
                                             int64_t channels)
{
    window_item i;
    i.position = oas_divide(item, chunks, &i.channel);
    i.frame = oas_divide(oas_divide(i.position, width, &i.column), height, &i.row);
    i.channel *= OAS_CHUNK;
    i.n = oas_in_chunk(i.channel, channels);
    return i;
}

/* The windows begin .. end-1 of `count` that see position `at` of an axis. */
__device__ static inline void windows_of(const cuda_windows &w, int64_t at, int64_t count, int64_t *begin, int64_t *end)
{
    int64_t first = at + w.pad - w.side + 1;
    *begin = first <= 0 ? 0 : (first + w.stride - 1) / w.stride;
    *end = (at + w.pad) / w.stride + 1;
    *end = *end < count ? *end : count;
}

static windows_job windows_job_of(const cuda_windows *w, cuda_array y, cuda_array x, cuda_array dy, cuda_array dx)
{
    windows_job j = {y, x, dy, dx, NULL, *w, (w->channels + OAS_CHUNK - 1) / OAS_CHUNK, false};
    j.wide = oas_is_wide(y, w->channels) && oas_is_wide(x, w->channels) && oas_is_wide(dy, w->channels) &&
             oas_is_wide(dx, w->channels);
    return j;
}

/* How many chunks of windows, and of pixels, there are. */
static int64_t window_items(const windows_job &j)
{
    return j.w.frames * j.w.down * j.w.across * j.chunks;
}

static int64_t pixel_items(const windows_job &j)
{
    return j.w.frames * j.w.height * j.w.width * j.chunks;
}

#define LAUNCH_ITEMS(c, kernel, items, job)                                                                            \
    do {                                                                                                               \
        if ((items) < 1)                                                                                               \
            return OASIS_OK;                                                                                           \
        OAS_LAUNCH(c, kernel, oas_blocks(c, items), OAS_BLOCK, 0, job);                                                \
        return oas_launched();                                                                                         \
    } while (0)

/* ---- unfold ---------------------------------------------------------------------------------------------------------- */

static __global__ void unfold_kernel(windows_job j)
{
    int64_t depth = j.w.channels * j.w.side * j.w.side;
    for (int64_t item = oas_first_item(); item < j.w.frames * j.w.down * j.w.across * j.chunks;
         item += oas_item_step()) {
        window_item at = item_of(item, j.chunks, j.w.down, j.w.across, depth);
        int64_t tap, column, c = oas_divide(at.channel, (int64_t)j.w.side * j.w.side, &tap);
        int64_t row = oas_divide(tap, j.w.side, &column);
        float v[OAS_CHUNK];
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++) {
            int64_t y = at.row * j.w.stride - j.w.pad + row, x = at.column * j.w.stride - j.w.pad + column;
            bool inside = k < at.n && y >= 0 && x >= 0 && y < j.w.height && x < j.w.width;
            v[k] = inside ? oas_load(&j.x, ((at.frame * j.w.height + y) * j.w.width + x) * j.w.channels + c) : 0.f;
            if (++column < j.w.side)
                continue;
            column = 0;
            if (++row < j.w.side)
                continue;
            row = 0;
            c++;
        }
        oas_store8(j.y, at.position * depth + at.channel, v, at.n, j.wide);
    }
}

oasis_status oas_layout_unfold(oas_cuda *c, cuda_array y, cuda_array x, const cuda_windows *w)
{
    windows_job j = windows_job_of(w, y, x, OAS_NONE, OAS_NONE);
    int64_t depth = w->channels * w->side * w->side;
    j.chunks = (depth + OAS_CHUNK - 1) / OAS_CHUNK;
    j.wide = oas_is_wide(y, depth);
    LAUNCH_ITEMS(c, unfold_kernel, window_items(j), j);
}

static __global__ void unfold_backward_kernel(windows_job j)
{
    int64_t taps = (int64_t)j.w.side * j.w.side;
    for (int64_t item = oas_first_item(); item < j.w.frames * j.w.height * j.w.width * j.chunks;
         item += oas_item_step()) {
        window_item at = item_of(item, j.chunks, j.w.height, j.w.width, j.w.channels);
        int64_t top, bottom, left, right;
        float v[OAS_CHUNK];
        windows_of(j.w, at.row, j.w.down, &top, &bottom);
        windows_of(j.w, at.column, j.w.across, &left, &right);
        oas_load8(v, j.dx, at.position * j.w.channels + at.channel, at.n, j.wide);
        for (int64_t down = top; down < bottom; down++)
            for (int64_t across = left; across < right; across++) {
                int64_t tap =
                    (at.row + j.w.pad - down * j.w.stride) * j.w.side + at.column + j.w.pad - across * j.w.stride;
                int64_t from =
                    (((at.frame * j.w.down + down) * j.w.across + across) * j.w.channels + at.channel) * taps + tap;
                OAS_UNROLL
                for (int k = 0; k < OAS_CHUNK; k++)
                    v[k] += k < at.n ? oas_load(&j.dy, from + k * taps) : 0.f;
            }
        oas_store8(j.dx, at.position * j.w.channels + at.channel, v, at.n, j.wide);
    }
}

oasis_status oas_layout_unfold_backward(oas_cuda *c, float *dx, const float *dy, const cuda_windows *w)
{
    windows_job j = windows_job_of(w, OAS_NONE, OAS_NONE, oas_float_array(dy), oas_float_array(dx));
    LAUNCH_ITEMS(c, unfold_backward_kernel, pixel_items(j), j);
}

/* ---- maxima ---------------------------------------------------------------------------------------------------------- */

static __global__ void max_kernel(windows_job j)
{
    for (int64_t item = oas_first_item(); item < j.w.frames * j.w.down * j.w.across * j.chunks;
         item += oas_item_step()) {
        window_item at = item_of(item, j.chunks, j.w.down, j.w.across, j.w.channels);
        float best[OAS_CHUNK], v[OAS_CHUNK];
        int place[OAS_CHUNK];
        for (int tap = 0; tap < j.w.side * j.w.side; tap++) {
            int64_t y = at.row * j.w.stride + tap / j.w.side, x = at.column * j.w.stride + tap % j.w.side;
            if (y >= j.w.height || x >= j.w.width)
                continue;
            int64_t from = ((at.frame * j.w.height + y) * j.w.width + x) * j.w.channels + at.channel;
            oas_load8(v, j.x, from, at.n, j.wide);
            OAS_UNROLL
            for (int k = 0; k < OAS_CHUNK; k++)
                if (tap == 0 || !(v[k] <= best[k])) { /* NaN goes through */
                    best[k] = v[k];
                    place[k] = tap;
                }
        }
        int64_t to = at.position * j.w.channels + at.channel;
        oas_store8(j.y, to, best, at.n, j.wide);
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            if (j.place && k < at.n)
                j.place[to + k] = (uint8_t)place[k];
    }
}

oasis_status oas_layout_max_pool(oas_cuda *c, cuda_array y, uint8_t *place, cuda_array x, const cuda_windows *w)
{
    windows_job j = windows_job_of(w, y, x, OAS_NONE, OAS_NONE);
    j.place = place;
    LAUNCH_ITEMS(c, max_kernel, window_items(j), j);
}

static __global__ void max_backward_kernel(windows_job j)
{
    for (int64_t item = oas_first_item(); item < j.w.frames * j.w.height * j.w.width * j.chunks;
         item += oas_item_step()) {
        window_item at = item_of(item, j.chunks, j.w.height, j.w.width, j.w.channels);
        int64_t top, bottom, left, right;
        float v[OAS_CHUNK], dy[OAS_CHUNK];
        windows_of(j.w, at.row, j.w.down, &top, &bottom);
        windows_of(j.w, at.column, j.w.across, &left, &right);
        oas_load8(v, j.dx, at.position * j.w.channels + at.channel, at.n, j.wide);
        for (int64_t down = top; down < bottom; down++)
            for (int64_t across = left; across < right; across++) {
                int64_t tap = (at.row - down * j.w.stride) * j.w.side + at.column - across * j.w.stride;
                int64_t from = ((at.frame * j.w.down + down) * j.w.across + across) * j.w.channels + at.channel;
                oas_load8(dy, j.dy, from, at.n, j.wide);
                OAS_UNROLL
                for (int k = 0; k < OAS_CHUNK; k++)
                    v[k] += k < at.n && j.place[from + k] == tap ? dy[k] : 0.f;
            }
        oas_store8(j.dx, at.position * j.w.channels + at.channel, v, at.n, j.wide);
    }
}

oasis_status oas_layout_max_pool_backward(oas_cuda *c, float *dx, const uint8_t *place, const float *dy,
                                          const cuda_windows *w)
{
    windows_job j = windows_job_of(w, OAS_NONE, OAS_NONE, oas_float_array(dy), oas_float_array(dx));
    j.place = (uint8_t *)place;
    LAUNCH_ITEMS(c, max_backward_kernel, pixel_items(j), j);
}

/* ---- blurred squares ------------------------------------------------------------------------------------------------- */

/* The outer product of (1, 2, 1) / 4 with itself. */
__device__ static inline float hann(int64_t i, int64_t k)
{
    return (i == 1 ? 0.5f : 0.25f) * (k == 1 ? 0.5f : 0.25f);
}

static __global__ void l2_kernel(windows_job j)
{
    for (int64_t item = oas_first_item(); item < j.w.frames * j.w.down * j.w.across * j.chunks;
         item += oas_item_step()) {
        window_item at = item_of(item, j.chunks, j.w.down, j.w.across, j.w.channels);
        float sum[OAS_CHUNK] = {0.f}, v[OAS_CHUNK];
        for (int tap = 0; tap < 9; tap++) {
            int64_t y = at.row * 2 - 1 + tap / 3, x = at.column * 2 - 1 + tap % 3;
            if (y < 0 || x < 0 || y >= j.w.height || x >= j.w.width)
                continue;
            int64_t from = ((at.frame * j.w.height + y) * j.w.width + x) * j.w.channels + at.channel;
            oas_load8(v, j.x, from, at.n, j.wide);
            OAS_UNROLL
            for (int k = 0; k < OAS_CHUNK; k++)
                sum[k] += hann(tap / 3, tap % 3) * v[k] * v[k];
        }
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            sum[k] = sqrtf(sum[k] + 1e-12f); /* L2_LEAST of ops/window.c */
        oas_store8(j.y, at.position * j.w.channels + at.channel, sum, at.n, j.wide);
    }
}

oasis_status oas_layout_l2_pool(oas_cuda *c, cuda_array y, cuda_array x, const cuda_windows *w)
{
    windows_job j = windows_job_of(w, y, x, OAS_NONE, OAS_NONE);
    LAUNCH_ITEMS(c, l2_kernel, window_items(j), j);
}

/* dx += dy h x / y. */
static __global__ void l2_backward_kernel(windows_job j)
{
    for (int64_t item = oas_first_item(); item < j.w.frames * j.w.height * j.w.width * j.chunks;
         item += oas_item_step()) {
        window_item at = item_of(item, j.chunks, j.w.height, j.w.width, j.w.channels);
        int64_t top, bottom, left, right, here = at.position * j.w.channels + at.channel;
        float v[OAS_CHUNK], x[OAS_CHUNK], dy[OAS_CHUNK], y[OAS_CHUNK];
        windows_of(j.w, at.row, j.w.down, &top, &bottom);
        windows_of(j.w, at.column, j.w.across, &left, &right);
        oas_load8(v, j.dx, here, at.n, j.wide);
        oas_load8(x, j.x, here, at.n, j.wide);
        for (int64_t down = top; down < bottom; down++)
            for (int64_t across = left; across < right; across++) {
                int64_t from = ((at.frame * j.w.down + down) * j.w.across + across) * j.w.channels + at.channel;
                float weight = hann(at.row + 1 - 2 * down, at.column + 1 - 2 * across);
                oas_load8_both(dy, j.dy, y, j.y, from, at.n, j.wide);
                OAS_UNROLL
                for (int k = 0; k < OAS_CHUNK; k++)
                    v[k] += k < at.n ? dy[k] * weight * x[k] / y[k] : 0.f;
            }
        oas_store8(j.dx, here, v, at.n, j.wide);
    }
}

oasis_status oas_layout_l2_pool_backward(oas_cuda *c, float *dx, cuda_array y, cuda_array x, const float *dy,
                                         const cuda_windows *w)
{
    windows_job j = windows_job_of(w, y, x, oas_float_array(dy), oas_float_array(dx));
    LAUNCH_ITEMS(c, l2_backward_kernel, pixel_items(j), j);
}
