/*
 * The passes of the GPU that no op shows alone: the optimiser, frames and weights of convolution, pictures, activations
 * of mixed types, sums over many rows, blocks in tiles.  Every one against plain loops here (tiles: against what moves
 * single values), in both types, on views that are and are not aligned to 16 bytes, with rows of a multiple of 8 values
 * and odd ones, and what lies behind the result untouched.
 */
#include "cuda/conv.h"
#include "cuda/layout.h"
#include "cuda/passes.h"
#include "image/resize.h"
#include "ops/op.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Sums in another order, and expf of another library; bf16 rounds by up to 2^-8 of a value. */
static const double TOLERANCE = 2e-6, TOLERANCE_BF16 = 4e-3;

enum { GUARD = 16, MOST_ARRAYS = 32 };

/* Values on the host, as floats, and on the GPU, `offset` values behind the start of their block. */
typedef struct array {
    float *v;
    int64_t n;
    int offset;
    void *block;
    cuda_array on;
} array;

static struct {
    oas_cuda *c;
    array arrays[MOST_ARRAYS];
    int count;
    uint32_t random;
} f;

static float next_random(void)
{
    f.random = f.random * 1664525u + 1013904223u;
    return (float)(f.random >> 8) / 8388608.f - 1.f;
}

static size_t array_bytes(const array *a)
{
    return (size_t)(a->n + a->offset + GUARD) * oas_dtype_size((oas_dtype)a->on.dtype);
}

/* Random values in [-scale, scale], rounded to the type. */
static array *make(int64_t n, int dtype, int offset, float scale)
{
    assert_true(f.count < MOST_ARRAYS);
    array *a = &f.arrays[f.count++];
    *a = (array){.n = n, .offset = offset, .on = {NULL, dtype}};
    int64_t all = n + offset + GUARD;
    float *values = malloc((size_t)all * sizeof *values);
    void *typed = malloc(array_bytes(a));
    a->block = oas_cuda_alloc(f.c, array_bytes(a));
    assert_non_null(values);
    assert_non_null(typed);
    assert_non_null(a->block);
    for (int64_t i = 0; i < all; i++)
        values[i] = i < offset || i >= offset + n ? 77.f : scale * next_random();
    oas_convert(typed, (oas_dtype)dtype, values, OAS_F32, all);
    oas_convert(values, OAS_F32, typed, (oas_dtype)dtype, all);
    assert_int_equal(oas_cuda_upload(f.c, a->block, typed, array_bytes(a)), OASIS_OK);
    a->on.data = (char *)a->block + (size_t)offset * oas_dtype_size((oas_dtype)dtype);
    a->v = values;
    memmove(values, values + offset, (size_t)n * sizeof *values);
    free(typed);
    return a;
}

static void drop_all(void)
{
    for (int i = 0; i < f.count; i++) {
        free(f.arrays[i].v);
        oas_cuda_release(f.c, f.arrays[i].block);
    }
    f.count = 0;
}

/* The values that the GPU has now, to be freed; what lies around them must be as it was. */
static float *fetch(const array *a)
{
    int64_t all = a->n + a->offset + GUARD;
    float *values = malloc((size_t)all * sizeof *values);
    void *typed = malloc(array_bytes(a));
    assert_non_null(values);
    assert_non_null(typed);
    assert_int_equal(oas_cuda_download(f.c, typed, a->block, array_bytes(a)), OASIS_OK);
    oas_convert(values, OAS_F32, typed, (oas_dtype)a->on.dtype, all);
    for (int64_t i = 0; i < all; i++)
        if ((i < a->offset || i >= a->offset + a->n) && values[i] != 77.f)
            fail_msg("value %lld beside the result was written", (long long)(i - a->offset));
    memmove(values, values + a->offset, (size_t)a->n * sizeof *values);
    free(typed);
    return values;
}

static void expect(const char *what, const array *a, const float *expected, double tolerance)
{
    double difference = 0, norm = 1e-30;
    float *got = fetch(a);
    for (int64_t i = 0; i < a->n; i++) {
        difference += ((double)got[i] - (double)expected[i]) * ((double)got[i] - (double)expected[i]);
        norm += (double)expected[i] * (double)expected[i];
    }
    free(got);
    double error = sqrt(difference / norm);
    if (!(error <= tolerance))
        fail_msg("%s: error %.2e, allowed %.2e (%lld values, type %d, offset %d)", what, error, tolerance,
                 (long long)a->n, a->on.dtype, a->offset);
}

static double tolerance_of(const array *a)
{
    return a->on.dtype ? TOLERANCE_BF16 : TOLERANCE;
}

static float *on(const array *a)
{
    assert_int_equal(a->on.dtype, 0);
    return a->on.data;
}

#define CALL(function, ...) assert_int_equal(f.c->tables.passes->function(f.c, __VA_ARGS__), OASIS_OK)

/* Calls test(rows, columns, type, offset) for all that is worth trying. */
static void for_sizes(void (*test)(int64_t rows, int64_t columns, int dtype, int offset))
{
    static const int64_t sizes[][2] = {{1, 1}, {7, 24}, {13, 5}, {300, 64}, {40, 33}, {3, 1600}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int way = 0; way < 4; way++) {
            test(sizes[i][0], sizes[i][1], way % 2, way / 2);
            drop_all();
        }
}

/* ---- elementwise ----------------------------------------------------------------------------------------------------- */

static void activations(int64_t rows, int64_t columns, int dtype, int offset)
{
    int64_t n = rows * columns;
    for (int32_t act = 0; act < OAS_ACTIVATIONS; act++) {
        array *x = make(n, dtype, offset, 4), *bias = make(columns, 0, offset, 1), *residual = make(n, 1 - dtype, 0, 1);
        array *y = make(n, dtype, offset, 1), *e = make(n, dtype, offset, 1), *dy = make(n, 0, offset, 1);
        array *dr = make(n, 0, 0, 1);
        float *forward = malloc((size_t)n * sizeof(float)), *slope = malloc((size_t)n * sizeof(float));
        for (int64_t i = 0; i < n; i++) {
            float u = x->v[i] + bias->v[i % columns];
            forward[i] = oas_act((oas_activation)act, u) + residual->v[i];
            slope[i] = oas_act_slope((oas_activation)act, u) * dy->v[i];
            dr->v[i] += dy->v[i];
        }
        CALL(bias_act_residual, y->on, x->on, on(bias), residual->on, act, rows, columns);
        CALL(act_slope, e->on, x->on, on(bias), on(dy), on(dr), act, rows, columns);
        expect("bias_act_residual", y, forward, tolerance_of(y));
        expect("act_slope", e, slope, tolerance_of(e));
        expect("act_slope's residual", dr, dr->v, TOLERANCE);
        free(forward);
        free(slope);
        drop_all();
    }
}

static void test_activations(void **state)
{
    (void)state;
    for_sizes(activations);
}

static void simple(int64_t rows, int64_t columns, int dtype, int offset)
{
    int64_t n = rows * columns;
    array *x = make(n, 0, offset, 1), *b = make(n, dtype, 0, 1), *scale = make(columns, 0, 0, 1);
    array *y = make(n, 0, offset, 1), *factor = make(1, 0, offset, 1), *filled = make(n, 0, offset, 1);
    array *shift = make(columns, 0, offset, 1);
    for (int64_t i = 0; i < n; i++)
        y->v[i] = (x->v[i] + shift->v[i % columns]) * scale->v[i % columns];
    CALL(scale_channels, on(y), on(x), on(shift), on(scale), rows, columns);
    expect("scale_channels", y, y->v, TOLERANCE);
    for (int64_t i = 0; i < n; i++)
        y->v[i] += -2.f * factor->v[0] * x->v[i] + b->v[i];
    CALL(add_times, on(y), -2.f, on(factor), on(x), n);
    CALL(add, on(y), b->on, n);
    expect("add", y, y->v, TOLERANCE);
    CALL(fill, on(filled), -2.5f, n);
    for (int64_t i = 0; i < n; i++)
        filled->v[i] = -2.5f;
    expect("fill", filled, filled->v, 0);
    CALL(cast, b->on, x->on, n);
    expect("cast", b, x->v, dtype ? TOLERANCE_BF16 : 0);
}

static void test_simple(void **state)
{
    (void)state;
    for_sizes(simple);
}

static void sums(int64_t rows, int64_t columns, int dtype, int offset)
{
    array *x = make(rows * columns, dtype, offset, 1), *sum = make(columns, 0, offset, 1);
    void *partial = oas_cuda_alloc(f.c, f.c->tables.passes->column_sum_bytes(f.c, rows, columns));
    float *total = malloc((size_t)columns * sizeof *total);
    for (int64_t k = 0; k < columns; k++) {
        double s = (double)sum->v[k];
        for (int64_t i = 0; i < rows; i++)
            s += (double)x->v[i * columns + k];
        total[k] = (float)s;
    }
    CALL(column_sum, on(sum), x->on, rows, columns, partial);
    expect("column_sum", sum, total, TOLERANCE);
    oas_cuda_release(f.c, partial);
    free(total);
}

static void test_sums(void **state)
{
    (void)state;
    for_sizes(sums);
    sums(20000, 3, 0, 0); /* many slabs */
    drop_all();
}

/* ---- the optimiser --------------------------------------------------------------------------------------------------- */

enum { X, M, V, AVERAGE, GRADIENT, STATES };

static const cuda_adamw HOW = {0.9f, 0.95f, 1e-8f, 0.01f, 0.1f, 0.5f, 1.1f, 1.2f, 0.9f};

static void update(float *const v[STATES], int64_t i, float rate, float decay)
{
    float d = v[GRADIENT][i] * HOW.factor;
    v[M][i] = HOW.beta1 * v[M][i] + (1.f - HOW.beta1) * d;
    v[V][i] = HOW.beta2 * v[V][i] + (1.f - HOW.beta2) * d * d;
    v[X][i] -= decay * v[X][i] + rate * (v[M][i] * HOW.correct1) / (sqrtf(v[V][i] * HOW.correct2) + HOW.epsilon);
    v[AVERAGE][i] = HOW.ema * v[AVERAGE][i] + (1.f - HOW.ema) * v[X][i];
}

static void make_states(array *a[STATES], float *v[STATES], int64_t n, int offset)
{
    for (int i = 0; i < STATES; i++) {
        a[i] = make(n, 0, offset, 1);
        v[i] = a[i]->v;
        for (int64_t k = 0; i == V && k < n; k++)
            v[i][k] = fabsf(v[i][k]);
        if (i == V)
            assert_int_equal(oas_cuda_upload(f.c, on(a[i]), v[i], (size_t)n * sizeof(float)), OASIS_OK);
    }
}

static void expect_states(array *const a[STATES], float *const v[STATES])
{
    for (int i = 0; i < STATES; i++)
        expect("adamw", a[i], v[i], i == GRADIENT ? 0 : TOLERANCE);
}

static void test_adamw(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        array *a[STATES];
        float *v[STATES];
        int64_t n = way % 2 ? 1000 : 37;
        make_states(a, v, n, way / 2);
        for (int64_t i = 0; i < n; i++)
            update(v, i, HOW.rate, HOW.decay);
        CALL(adamw, on(a[X]), on(a[M]), on(a[V]), on(a[AVERAGE]), on(a[GRADIENT]), n, &HOW);
        expect_states(a, v);
        drop_all();
    }
}

static void test_adamw_all(void **state)
{
    (void)state;
    static const cuda_segment segments[] = {{0, 40, 1, 1}, {48, 17, 0.5f, 0}, {80, 8, 2, 1}, {96, 304, 1, 0.5f}};
    enum { COUNT = sizeof segments / sizeof *segments, N = 416 };
    for (int offset = 0; offset < 2; offset++) {
        array *a[STATES], *rounded;
        float *v[STATES];
        make_states(a, v, N, offset);
        rounded = make(N, 1, offset, 1);
        void *table = oas_cuda_alloc(f.c, sizeof segments);
        oas_cuda_upload(f.c, table, segments, sizeof segments);
        for (int s = 0; s < COUNT; s++)
            for (int64_t i = segments[s].begin; i < segments[s].begin + segments[s].count; i++) {
                float rate = HOW.rate * segments[s].rate;
                update(v, i, rate, HOW.decay * rate * segments[s].decay);
                rounded->v[i] = oas_from_bf16(oas_to_bf16(v[X][i]));
            }
        CALL(adamw_all, on(a[X]), on(a[M]), on(a[V]), on(a[AVERAGE]), rounded->on.data, on(a[GRADIENT]), table, COUNT,
             N, &HOW);
        expect_states(a, v);
        expect("adamw_all, rounded", rounded, rounded->v, TOLERANCE_BF16);
        oas_cuda_release(f.c, table);
        drop_all();
    }
}

static void test_gradient_checks(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 33, 5000, 70000};
    for (int way = 0; way < 8; way++) {
        int64_t n = sizes[way / 2];
        array *x = make(n, 0, way % 2, 1);
        void *partial = oas_cuda_alloc(f.c, f.c->tables.passes->sum_squares_bytes(f.c, n));
        double *result = oas_cuda_alloc(f.c, sizeof *result), got, sum = 0;
        int32_t *bad = oas_cuda_alloc(f.c, sizeof *bad), count = 0;
        for (int64_t i = 0; i < n; i++)
            sum += (double)x->v[i] * (double)x->v[i];
        CALL(sum_squares, result, on(x), n, partial);
        oas_cuda_download(f.c, &got, result, sizeof got);
        assert_true(fabs(got - sum) <= 1e-12 * sum);
        oas_cuda_upload(f.c, bad, &count, sizeof count);
        CALL(not_finite, bad, on(x), n);
        oas_cuda_download(f.c, &count, bad, sizeof count);
        assert_int_equal(count, 0);
        x->v[n - 1] = way & 2 ? NAN : -INFINITY;
        oas_cuda_upload(f.c, on(x), x->v, (size_t)n * sizeof(float));
        CALL(not_finite, bad, on(x), n);
        oas_cuda_download(f.c, &count, bad, sizeof count);
        assert_true(count > 0);
        oas_cuda_release(f.c, partial);
        oas_cuda_release(f.c, result);
        oas_cuda_release(f.c, bad);
        drop_all();
    }
}

/* ---- frames and weights ---------------------------------------------------------------------------------------------- */

static void history(int64_t frames, int64_t n, int dtype, int offset)
{
    enum { BATCH = 2, BEFORE = 2 };
    int64_t all = frames + BEFORE;
    array *x = make(BATCH * frames * n, dtype, offset, 1), *past = make(BATCH * BEFORE * n, dtype, offset, 1);
    array *to = make(BATCH * all * n, dtype, offset, 1), *none = make(BATCH * all * n, dtype, offset, 1);
    array *dx = make(x->n, 0, offset, 1), *dpast = make(past->n, 0, offset, 1);
    for (int64_t i = 0; i < to->n; i++) {
        int64_t sample = i / (all * n), at = i % (all * n);
        bool old = at < BEFORE * n;
        int64_t from = old ? sample * BEFORE * n + at : sample * frames * n + at - BEFORE * n;
        to->v[i] = old ? past->v[from] : x->v[from];
        none->v[i] = old ? 0.f : x->v[from];
        *(old ? &dpast->v[from] : &dx->v[from]) += to->v[i];
    }
    CALL(join_history, to->on, x->on, past->on, BATCH, frames, BEFORE, n);
    CALL(join_history, none->on, x->on, oas_array(NULL), BATCH, frames, BEFORE, n);
    CALL(split_history, on(dx), on(dpast), to->on, BATCH, frames, BEFORE, n);
    expect("join_history", to, to->v, 0);
    expect("join_history of nothing", none, none->v, 0);
    expect("split_history", dx, dx->v, TOLERANCE);
    expect("split_history, before", dpast, dpast->v, TOLERANCE);
    array *rows = make(frames * (n + 3), 0, offset, 1), *part = make(frames * (n + 1), 0, 0, 1);
    for (int64_t i = 0; i < frames * n; i++)
        rows->v[i / n * (n + 3) + i % n] = part->v[i / n * (n + 1) + i % n];
    CALL(copy_rows, on(rows), n + 3, on(part), n + 1, n, frames);
    expect("copy_rows", rows, rows->v, 0);
}

static void test_history(void **state)
{
    (void)state;
    for_sizes(history);
}

static void weights(int64_t out, int64_t in, int dtype, int offset)
{
    for (int way = 0; way < 4; way++) {
        int64_t kt = way % 2 ? 3 : 1, k = way % 2 ? 1 : 3, taps = k * k, n = out * in * kt * taps;
        int32_t stacked = way / 2;
        array *w = make(n, dtype, offset, 1), *to = make(n, 1 - dtype, offset, 1), *dw = make(n, 0, offset, 1);
        for (int64_t o = 0; o < out; o++)
            for (int64_t t = 0; t < kt; t++)
                for (int64_t tap = 0; tap < taps; tap++)
                    for (int64_t i = 0; i < in; i++) {
                        int64_t ours = stacked ? ((o * kt + kt - 1 - t) * in + i) * taps + tap
                                               : ((o * in + i) * kt + t) * taps + tap;
                        int64_t theirs = ((o * kt + t) * taps + tap) * in + i;
                        dw->v[ours] += to->v[theirs];
                        to->v[theirs] = w->v[ours];
                    }
        CALL(conv_weights_back, on(dw), to->on, stacked, out, in, kt, k);
        CALL(conv_weights, to->on, w->on, stacked, out, in, kt, k);
        expect("conv_weights_back", dw, dw->v, TOLERANCE);
        expect("conv_weights", to, to->v, dtype ? 0 : TOLERANCE_BF16);
        drop_all();
    }
    array *from = make(out * in, dtype, offset, 1), *turned = make(out * in, 0, offset, 1);
    for (int64_t i = 0; i < out * in; i++)
        turned->v[i % in * out + i / in] = from->v[i];
    CALL(transpose, turned->on, from->on, out, in);
    expect("transpose", turned, turned->v, 0);
}

static void test_weights(void **state)
{
    (void)state;
    for_sizes(weights);
}

/* ---- pictures -------------------------------------------------------------------------------------------------------- */

static void test_resize(void **state)
{
    (void)state;
    static const int sizes[][6] = {{5, 4, 20, 16, 32, 16}, {7, 9, 10, 27, 16, 32}, {1, 1, 3, 2, 3, 2}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int *s = sizes[i];
        enum { FRAMES = 2 };
        oas_resize_spec spec = {s[0], s[1], s[2], s[3], s[4], s[5], 3, OAS_FILTER_BICUBIC, -0.75};
        cuda_resize how = {s[0], s[1], s[2], s[3], s[4], s[5], -0.75, 2.f, -1.f};
        array *from = make((int64_t)FRAMES * s[0] * s[1] * 3, 0, 0, 1);
        int64_t each = (int64_t)s[4] * s[5] * 3;
        oas_resizer *resizer = NULL;
        oasis_message why;
        assert_int_equal(oas_resizer_new(&resizer, &spec, &why), OASIS_OK);
        for (int dtype = 0; dtype < 2; dtype++) {
            array *to = make(FRAMES * each, dtype, dtype, 1);
            for (int k = 0; k < FRAMES; k++)
                oas_resize(resizer, NULL, from->v + k * s[0] * s[1] * 3, to->v + k * each, 2.f, -1.f);
            CALL(resize, to->on, from->on, FRAMES, &how);
            expect("resize", to, to->v, tolerance_of(to));
        }
        oas_resizer_free(&resizer);
        drop_all();
    }
}

static void test_finish(void **state)
{
    (void)state;
    enum { FRAMES = 2, H = 6, W = 9, OUT_H = 5, OUT_W = 7 };
    array *from = make((int64_t)FRAMES * H * W * 3, 1, 0, 1), *to = make((int64_t)FRAMES * OUT_H * OUT_W * 3, 0, 1, 1);
    for (int64_t i = 0; i < to->n; i++) {
        int64_t column = i % (OUT_W * 3), row = i / (OUT_W * 3) % OUT_H, frame = i / (OUT_W * 3 * OUT_H);
        to->v[i] = 0.5f * from->v[(frame * H + row) * W * 3 + column] + 0.5f;
    }
    CALL(finish, to->on, from->on, FRAMES, H, W, OUT_H, OUT_W);
    expect("finish", to, to->v, TOLERANCE);
    drop_all();
}

/* ---- blocks ---------------------------------------------------------------------------------------------------------- */

/* Tiles move what lies at multiples of 16 bytes, single values anything else: the same bits. */
static void blocks(const cuda_blocks *b, int from_type, int to_type, bool add)
{
    int64_t positions = (b->frames + b->front) / b->t,
            pixels = b->batch * b->frames * b->height * b->width * b->channels;
    int64_t all = b->batch * positions * b->t * b->height * b->width * b->channels;
    for (int back = 0; back < 2; back++) {
        int64_t from_count = back ? all : pixels, to_count = back ? pixels : all;
        array *side[2][3];
        for (int offset = 0; offset < 2; offset++) {
            f.random = 7;
            side[offset][0] = make(from_count, from_type, offset, 1);
            side[offset][1] = make(to_count, to_type, offset, 1);
            side[offset][2] = make(pixels, 0, offset, 1);
            cuda_array to = side[offset][1]->on, from = side[offset][0]->on, more = side[offset][2]->on;
            const struct cuda_layout *t = f.c->tables.layout;
            assert_int_equal(back ? t->depth_to_space(f.c, to, from, b->copies ? oas_array(NULL) : more, b, add)
                                  : t->space_to_depth(f.c, to, from, b, add),
                             OASIS_OK);
        }
        float *single = fetch(side[1][1]);
        assert_false(memcmp(single, side[1][1]->v, (size_t)to_count * sizeof *single) == 0);
        expect(back ? "depth_to_space in tiles" : "space_to_depth in tiles", side[0][1], single, 0);
        free(single);
        drop_all();
    }
}

static void test_blocks(void **state)
{
    (void)state;
    static const cuda_blocks cases[] = {
        {1, 2, 14, 22, 3, 1, 2, 2, 0, false, false}, {2, 1, 8, 20, 3, 1, 4, 4, 0, false, false},
        {1, 5, 16, 40, 3, 4, 8, 8, 3, false, false}, {1, 1, 6, 10, 24, 1, 2, 2, 0, false, false},
        {1, 5, 3, 3, 40, 4, 1, 1, 3, true, false},   {2, 1, 4, 14, 12, 1, 2, 2, 0, true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int way = 0; way < 16; way++) {
            cuda_blocks b = cases[i];
            b.copies = way & 8;
            blocks(&b, way & 1, way >> 1 & 1, way & 4);
        }
}

static int setup(void **state)
{
    (void)state;
    oasis_message why;
    return oas_cuda_new(&f.c, 0, &why) == OASIS_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    oas_cuda_free(&f.c);
    return 0;
}

/* A convolution of two frames of 48 channels wants more shared memory than a block has on smaller chips; of 24 it fits. */
static void test_narrow_fits(void **state)
{
    (void)state;
    const int shared_bytes = f.c->shared_bytes;
    cuda_convolution wide = {1, 2, 8, 8, 48, 48, 2, 3, 1}, slim = {1, 2, 8, 8, 24, 24, 1, 3, 1}, odd = slim,
                     flat = slim;
    odd.out = 23;
    flat.k = 1;
    f.c->shared_bytes = 227 << 10;
    assert_true(f.c->tables.narrow->accepts(f.c, &wide));
    f.c->shared_bytes = 99 << 10;
    assert_false(f.c->tables.narrow->accepts(f.c, &wide));
    assert_true(f.c->tables.narrow->accepts(f.c, &slim));
    assert_false(f.c->tables.narrow->accepts(f.c, &odd));
    assert_false(f.c->tables.narrow->accepts(f.c, &flat));
    f.c->shared_bytes = shared_bytes;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_activations), cmocka_unit_test(test_simple),    cmocka_unit_test(test_sums),
        cmocka_unit_test(test_adamw),       cmocka_unit_test(test_adamw_all), cmocka_unit_test(test_gradient_checks),
        cmocka_unit_test(test_history),     cmocka_unit_test(test_weights),   cmocka_unit_test(test_resize),
        cmocka_unit_test(test_finish),      cmocka_unit_test(test_blocks),    cmocka_unit_test(test_narrow_fits),
    };
    if (oas_cuda_count() == 0) {
        printf("no GPU, nothing to test\n");
        return 0;
    }
    return cmocka_run_group_tests_name("cuda/passes", tests, setup, teardown);
}
