/*
 * Times the memory-bound kernels of the GPU one by one, at the sizes of training and of the 1.3B network:
 *   build/tests/bench_passes [SECONDS_PER_CASE [PART_OF_A_TITLE]]
 * Prints microseconds and GB/s by the bytes that each must read and write once.  What fits the GPU's cache comes out above
 * its memory's rate.
 */
#include "base/threads.h"
#include "cuda/layout.h"
#include "cuda/losses.h"
#include "cuda/passes.h"
#include "tensor/tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS = 5, ARRAYS = 8, MOST_VALUES = 56 << 20 };

static oas_cuda *c;
static float *array[ARRAYS]; /* MOST_VALUES floats each, in [-1, 1], also when read as bf16 */
static float *table;         /* small: gains, angles */
static void *partial;

static cuda_array floats(int i)
{
    return (cuda_array){array[i], OAS_F32};
}

static cuda_array halves(int i)
{
    return (cuda_array){array[i], OAS_BF16};
}

static const cuda_array NONE = {NULL, 0};

/* A case works on `rows` rows of `d` values; `bytes` of each value are moved. */
typedef struct bench_case {
    const char *title;
    oasis_status (*run)(int64_t rows, int64_t d);
    double bytes;
} bench_case;

#define P oas_cuda_passes

static oasis_status layer_norm(int64_t rows, int64_t d)
{
    return P.layer_norm(c, halves(0), floats(1), table, table + d, 1, 1e-6f, rows, d);
}

static oasis_status layer_norm_backward(int64_t rows, int64_t d)
{
    return P.layer_norm_backward(c, array[0], table + 2 * d, table + 3 * d, floats(1), table, array[2], 1, 1e-6f, rows,
                                 d, partial);
}

static oasis_status rope(int64_t rows, int64_t d)
{
    return P.rms_norm_rope(c, halves(0), halves(1), table, array[2], 288, 64, 1e-6f, rows, d);
}

static oasis_status rope_backward(int64_t rows, int64_t d)
{
    return P.rms_norm_rope_backward(c, array[0], table + d, halves(1), table, array[2], array[3], 288, 64, 1e-6f, rows,
                                    d, partial);
}

static oasis_status channel_norm(int64_t rows, int64_t d)
{
    return P.channel_norm(c, halves(0), halves(1), table, 2, rows, d);
}

static oasis_status channel_norm_backward(int64_t rows, int64_t d)
{
    return P.channel_norm_backward(c, array[0], table + d, halves(1), table, array[2], 2, rows, d, partial);
}

static oasis_status add_gated(int64_t rows, int64_t d)
{
    return P.add_gated(c, floats(0), floats(0), halves(1), table, table, rows, d);
}

static oasis_status product_sum(int64_t rows, int64_t d)
{
    return P.column_product_sum(c, table, floats(0), halves(1), rows, d, partial);
}

static oasis_status column_sum(int64_t rows, int64_t d)
{
    return P.column_sum(c, table, halves(0), rows, d, partial);
}

static oasis_status add(int64_t rows, int64_t d)
{
    return P.add(c, array[0], floats(1), rows * d);
}

static oasis_status cast(int64_t rows, int64_t d)
{
    return P.cast(c, halves(0), floats(1), rows * d);
}

static oasis_status gelu(int64_t rows, int64_t d)
{
    return P.bias_act_residual(c, halves(0), halves(1), table, NONE, 1, rows, d);
}

static oasis_status residual(int64_t rows, int64_t d)
{
    return P.bias_act_residual(c, halves(0), floats(1), table, halves(2), 2, rows, d);
}

static oasis_status gelu_slope(int64_t rows, int64_t d)
{
    return P.act_slope(c, halves(0), halves(1), table, array[2], NULL, 1, rows, d);
}

static oasis_status slope(int64_t rows, int64_t d)
{
    return P.act_slope(c, halves(0), NONE, NULL, array[2], array[3], 0, rows, d);
}

static oasis_status join_history(int64_t rows, int64_t d)
{
    int64_t n = rows / 120 * d;
    return P.join_history(c, halves(0), halves(1), NONE, 24, 5, 1, n);
}

static oasis_status adamw(int64_t rows, int64_t d)
{
    static const cuda_adamw how = {0.9f, 0.99f, 1e-8f, 1e-4f, 1e-6f, 1, 1.1f, 1.1f, 0.999f};
    return P.adamw(c, array[0], array[1], array[2], array[3], array[4], rows * d, &how);
}

static oasis_status sum_squares(int64_t rows, int64_t d)
{
    return P.sum_squares(c, (double *)(void *)table, array[0], rows * d, partial);
}

/* Pixels [.., 5, 192, 192, d]: every block of 2x2, or 8x8 of PyTorch's order. */
static cuda_blocks blocks_of(int64_t rows, int64_t d, int32_t side, bool fast)
{
    return (cuda_blocks){rows / (5 * 192 * 192), 5, 192, 192, d, 1, side, side, 0, fast, true};
}

static oasis_status unshuffle2(int64_t rows, int64_t d)
{
    cuda_blocks b = blocks_of(rows, d, 2, true);
    return oas_cuda_layout.space_to_depth(c, halves(0), halves(1), &b, false);
}

static oasis_status unshuffle8(int64_t rows, int64_t d)
{
    cuda_blocks b = blocks_of(rows, d, 8, false);
    return oas_cuda_layout.space_to_depth(c, halves(0), floats(1), &b, false);
}

static oasis_status shuffle2(int64_t rows, int64_t d)
{
    cuda_blocks b = blocks_of(rows, d, 2, true);
    return oas_cuda_layout.depth_to_space(c, halves(0), halves(1), NONE, &b, false);
}

static oasis_status shuffle4_add(int64_t rows, int64_t d)
{
    cuda_blocks b = blocks_of(rows, d, 4, false);
    return oas_cuda_layout.depth_to_space(c, floats(0), halves(1), floats(2), &b, false);
}

/* Four frames of 1280x720, or that halved until the pixels are `rows`, in blocks of PyTorch's order. */
static cuda_blocks decoder_blocks(int64_t rows, int64_t d, int32_t side)
{
    int64_t height = 720;
    while (height > 1 && 4 * height * (height * 16 / 9) > rows)
        height /= 2;
    return (cuda_blocks){4, 1, height, height * 16 / 9, d, 1, side, side, 0, false, false};
}

static oasis_status decoder_unshuffle(int64_t rows, int64_t d, int32_t side)
{
    cuda_blocks b = decoder_blocks(rows, d, side);
    return oas_cuda_layout.space_to_depth(c, halves(0), floats(1), &b, false);
}

static oasis_status decoder_unshuffle8(int64_t rows, int64_t d)
{
    return decoder_unshuffle(rows, d, 8);
}

static oasis_status decoder_unshuffle4(int64_t rows, int64_t d)
{
    return decoder_unshuffle(rows, d, 4);
}

static oasis_status decoder_unshuffle2(int64_t rows, int64_t d)
{
    return decoder_unshuffle(rows, d, 2);
}

static oasis_status decoder_shuffle2(int64_t rows, int64_t d)
{
    cuda_blocks b = decoder_blocks(rows, d, 2);
    return oas_cuda_layout.depth_to_space(c, halves(0), halves(1), NONE, &b, false);
}

static oasis_status decoder_shuffle2_add(int64_t rows, int64_t d)
{
    cuda_blocks b = decoder_blocks(rows, d, 2);
    return oas_cuda_layout.depth_to_space(c, floats(0), halves(1), floats(2), &b, false);
}

static oasis_status decoder_frames(int64_t rows, int64_t d)
{
    cuda_blocks b = {1, 4, rows / 4, 1, d, 4, 1, 1, 0, true, false};
    return oas_cuda_layout.depth_to_space(c, halves(0), halves(1), NONE, &b, false);
}

static oasis_status repeat_pixels(int64_t rows, int64_t d)
{
    return oas_cuda_layout.repeat_pixels(c, halves(0), halves(1), rows / 192 / 4, 192, d);
}

static oasis_status stack_frames(int64_t rows, int64_t d)
{
    return oas_cuda_layout.stack_frames(c, halves(0), halves(1), NONE, 24, 5, rows / 360 * d, 3);
}

static cuda_loss loss_of(void)
{
    return (cuda_loss){array[0], array[1], array[2], table, partial, 1};
}

static cuda_pictures pictures_of(int64_t rows, int64_t d)
{
    return (cuda_pictures){rows / (192 * 192), 5, 192, 192, d};
}

static oasis_status charbonnier(int64_t rows, int64_t d)
{
    cuda_loss l = loss_of();
    return oas_cuda_losses.charbonnier(c, &l, 1e-3f, rows * d);
}

static oasis_status motion(int64_t rows, int64_t d)
{
    cuda_loss l = loss_of();
    cuda_pictures p = pictures_of(rows, d);
    return oas_cuda_losses.motion(c, &l, &p);
}

static oasis_status spectrum(int64_t rows, int64_t d)
{
    cuda_loss l = loss_of();
    cuda_pictures p = pictures_of(rows, d);
    return oas_cuda_losses.spectrum(c, &l, &p, 16, NULL);
}

static oasis_status gradient(int64_t rows, int64_t d)
{
    cuda_loss l = loss_of();
    cuda_pictures p = pictures_of(rows, d);
    return oas_cuda_losses.gradient(c, &l, &p, 4);
}

static oasis_status resize(int64_t rows, int64_t d)
{
    static const cuda_resize how = {320, 180, 1280, 720, 1280, 720, -0.75, 2, -1};
    return P.resize(c, floats(0), floats(1), rows * d / (1280 * 720 * 3), &how);
}

static const bench_case TOKENS[] = {
    {"layer_norm", layer_norm, 6},
    {"layer_norm back", layer_norm_backward, 16},
    {"rms_norm_rope", rope, 4},
    {"rms_norm_rope back", rope_backward, 14},
    {"add_gated", add_gated, 10},
    {"sum of products", product_sum, 6},
    {"column_sum bf16", column_sum, 2},
    {"add", add, 12},
    {"cast", cast, 6},
    {"bias, gelu", gelu, 4},
    {"slope of gelu", gelu_slope, 8},
};

static const bench_case PIXELS[] = {
    {"channel_norm, silu", channel_norm, 4},    {"channel_norm back", channel_norm_backward, 14},
    {"bias, silu, residual", residual, 8},      {"slope, residual", slope, 14},
    {"column_sum bf16", column_sum, 2},         {"join_history", join_history, 4},
    {"unshuffle 2, fast", unshuffle2, 4},       {"shuffle 2, fast", shuffle2, 4},
    {"shuffle 4, slow, add", shuffle4_add, 10}, {"repeat_pixels", repeat_pixels, 2.5},
    {"stack_frames", stack_frames, 8. / 3},
};

static const bench_case FRAMES[] = {
    {"unshuffle 8, slow", unshuffle8, 6}, {"charbonnier", charbonnier, 12},     {"motion", motion, 12},
    {"spectrum 16", spectrum, 12},        {"gradient, 4 levels", gradient, 12},
};

static const bench_case PIXELS_IN[] = {{"decoder, unshuffle 8", decoder_unshuffle8, 6},
                                       {"decoder, unshuffle 4", decoder_unshuffle4, 6},
                                       {"decoder, unshuffle 2", decoder_unshuffle2, 6},
                                       {"decoder, shuffle, add", decoder_shuffle2_add, 10}};

static const bench_case SHUFFLE[] = {{"decoder, shuffle 2", decoder_shuffle2, 4}};

static const bench_case IN_TIME[] = {{"decoder, frames 4", decoder_frames, 4}};

static const bench_case FLAT[] = {{"adamw", adamw, 36}, {"sum_squares", sum_squares, 4}, {"resize x4", resize, 4}};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void check(oasis_status s, const char *title)
{
    oasis_message why = {""};
    if (s < 0 || oas_cuda_wait(c, &why) < 0) {
        fprintf(stderr, "bench_passes: %s failed: %s\n", title, why.text);
        exit(1);
    }
}

static void time_case(const bench_case *b, int64_t rows, int64_t d, double budget, const char *only)
{
    double time[REPEATS];
    if (only && !strstr(b->title, only))
        return;
    check(b->run(rows, d), b->title);
    double start = oas_now();
    check(b->run(rows, d), b->title);
    double once = oas_now() - start;
    int calls = (int)(budget / REPEATS / (once > 1e-6 ? once : 1e-6)) + 1;
    for (int r = 0; r < REPEATS; r++) {
        start = oas_now();
        for (int i = 0; i < calls; i++)
            b->run(rows, d);
        check(OASIS_OK, b->title);
        time[r] = (oas_now() - start) / calls;
    }
    qsort(time, REPEATS, sizeof *time, by_value);
    printf("%-22s %8lld x %4lld %9.1f us %7.0f GB/s\n", b->title, (long long)rows, (long long)d,
           time[REPEATS / 2] * 1e6, b->bytes * (double)(rows * d) / time[REPEATS / 2] * 1e-9);
    fflush(stdout);
}

static void fill_arrays(void)
{
    size_t bytes = (size_t)MOST_VALUES * sizeof(float);
    float *x = malloc(bytes);
    for (int64_t i = 0; x && i < MOST_VALUES; i++) {
        uint32_t half = oas_to_bf16((float)(int32_t)((uint32_t)i * 2654435761u) * 0x1p-31f), both = half << 16 | half;
        memcpy(&x[i], &both, sizeof both);
    }
    for (int i = 0; x && i < ARRAYS; i++) {
        array[i] = oas_cuda_alloc(c, bytes);
        if (!array[i] || oas_cuda_upload(c, array[i], x, bytes) < 0)
            break;
    }
    table = oas_cuda_alloc(c, 1 << 20);
    partial = oas_cuda_alloc(c, bytes);
    if (!array[ARRAYS - 1] || !table || !partial || oas_cuda_upload(c, table, x, 1 << 20) < 0) {
        fprintf(stderr, "bench_passes: no memory\n");
        exit(1);
    }
    free(x);
}

#define TIME(cases, rows, d)                                                                                           \
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)                                                          \
    time_case(&cases[i], rows, d, budget, only)

int main(int argc, char **argv)
{
    double budget = argc > 1 ? atof(argv[1]) : 0.1;
    const char *only = argc > 2 ? argv[2] : NULL;
    oasis_message why = {""};
    if (oas_cuda_new(&c, 0, &why) < 0) {
        fprintf(stderr, "bench_passes: %s\n", why.text);
        return 1;
    }
    fill_arrays();
    printf("tokens of a training step (in the cache), and of a large network\n");
    TIME(TOKENS, 24 * 288, 256);
    TIME(TOKENS, 32400, 1536);
    printf("pixels\n");
    TIME(PIXELS, (int64_t)6 * 5 * 192 * 192, 24);
    TIME(PIXELS, (int64_t)2 * 5 * 192 * 192, 48);
    TIME(PIXELS, (int64_t)5 * 192 * 192, 96);
    printf("frames\n");
    TIME(FRAMES, (int64_t)24 * 5 * 192 * 192, 3);
    printf("the tiny decoder's, four frames of 1280x720\n");
    TIME(PIXELS_IN, (int64_t)4 * 720 * 1280, 3);
    TIME(SHUFFLE, (int64_t)4 * 360 * 640, 24);
    TIME(SHUFFLE, (int64_t)4 * 180 * 320, 48);
    TIME(IN_TIME, (int64_t)4 * 90 * 160, 96);
    printf("weights and pictures\n");
    TIME(FLAT, 16 << 20, 1);
    oas_cuda_free(&c);
    return 0;
}
