/*
 * The attention kernels of every level this machine has against the definition in double: random odd sizes, heads side
 * by side in wider rows, guard bytes, log-sum-exps, large scores, any number of threads.
 */
#include "base/memory.h"
#include "base/threads.h"
#include "cpu/attention.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/*
 * Norm of the difference over norm of the result.  fp32: sums of up to a few hundred products and weights, each rounded
 * to 2^-24, and 2^x good to 1.5e-7; scores of size s add s * 2^-24 to the exponent.
 */
static const double TOLERANCE_F32 = 2e-6;
static const double TOLERANCE_F32_PER_SCORE = 3e-7;
/* bf16: each weight and each result is rounded once, by at most 2^-8 of itself, in the mean of squares by less than
 * half of that; weights err in either direction and average out, so together they stay below 2^-8. */
static const double TOLERANCE_BF16 = 3.9e-3;
/* Log-sum-exps are sums in float; those of the bf16 kernel use 2^x good to 2.7e-6. */
static const double TOLERANCE_LSE = 1e-5;
static const double TOLERANCE_LSE_PER_SCORE = 1e-6; /* a score is a float sum of up to 256 products */

enum { GUARD = 0x5a, GUARD_BYTES = 256, MAX_HEADS = 3 };

static uint64_t state = 1;

static uint32_t draw(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static int64_t draw_size(int64_t least, int64_t most)
{
    return least + (int64_t)(draw() % (uint32_t)(most - least + 1));
}

static float draw_value(void)
{
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)draw() / 2147483648.f - .5f;
    return sum * 1.7f; /* about normal */
}

typedef struct problem {
    oas_dtype dtype;
    int64_t groups, frames, height, width;
    int window[3];
    int heads, hd;
    int64_t stride;
    float size; /* of the queries: large ones give large scores */
    void *q, *k, *v;
    float *fq, *fk, *fv; /* the same values */
    int64_t tokens;      /* of all groups */
} problem;

static void *rows_of(const problem *p, float size, float **values)
{
    size_t n = (size_t)((p->tokens - 1) * p->stride + p->heads * p->hd); /* ends with the last value */
    char *rows = malloc(n * oas_dtype_size(p->dtype));
    *values = malloc(n * sizeof(float));
    assert_true(rows && *values);
    for (size_t i = 0; i < n; i++)
        (*values)[i] = draw_value() * size;
    oas_convert(rows, p->dtype, *values, OAS_F32, (int64_t)n);
    oas_convert(*values, OAS_F32, rows, p->dtype, (int64_t)n);
    return rows;
}

static void fill_problem(problem *p)
{
    p->tokens = p->groups * p->frames * p->height * p->width;
    p->q = rows_of(p, p->size, &p->fq);
    p->k = rows_of(p, 1.f, &p->fk);
    p->v = rows_of(p, 1.f, &p->fv);
}

static void free_problem(problem *p)
{
    free(p->q);
    free(p->k);
    free(p->v);
    free(p->fq);
    free(p->fk);
    free(p->fv);
}

/* What the definition is changed by, to see that the tolerances would notice. */
typedef struct mutation {
    int64_t shift; /* of the window, in columns */
    double scale;
} mutation;

static const mutation NONE = {0, 1};

static bool sees(const problem *p, int64_t i, int64_t j, int64_t shift)
{
    int64_t plane = p->height * p->width;
    if (p->window[0] == 0)
        return true;
    return llabs(i / plane - j / plane) <= p->window[0] / 2 &&
           llabs(i % plane / p->width - j % plane / p->width) <= p->window[1] / 2 &&
           llabs(i % p->width - j % p->width + shift) <= p->window[2] / 2;
}

/* One row of the definition; returns the log-sum-exp, or NaN when the mutation leaves nothing to see. */
static double define(const problem *p, mutation m, int head, int64_t group, int64_t i, double *out)
{
    int64_t n = p->tokens / p->groups, first = group * n;
    const float *q = p->fq + (first + i) * p->stride + head * p->hd;
    double *s = malloc((size_t)n * sizeof *s), top = -INFINITY, total = 0;
    assert_non_null(s);
    for (int64_t j = 0; j < n; j++) {
        const float *k = p->fk + (first + j) * p->stride + head * p->hd;
        s[j] = 0;
        for (int c = 0; c < p->hd; c++)
            s[j] += (double)q[c] * (double)k[c];
        s[j] = sees(p, i, j, m.shift) ? s[j] * m.scale / sqrt(p->hd) : -INFINITY;
        top = fmax(top, s[j]);
    }
    memset(out, 0, (size_t)p->hd * sizeof *out);
    for (int64_t j = 0; j < n && top > -INFINITY; j++) {
        double w = exp(s[j] - top);
        total += w;
        for (int c = 0; c < p->hd; c++)
            out[c] += w * (double)p->fv[(first + j) * p->stride + head * p->hd + c];
    }
    for (int c = 0; c < p->hd; c++)
        out[c] /= total;
    free(s);
    return top + log(total);
}

typedef struct difference {
    double out, lse;    /* relative norm; largest difference */
    double largest_lse; /* how large scores are */
} difference;

static difference compare(const problem *p, mutation m, const void *out, const float *lse)
{
    double row[OAS_ATTENTION_MAX_HEAD_DIM], error = 0, norm = 0;
    difference d = {0};
    int64_t n = p->tokens / p->groups;
    for (int h = 0; h < p->heads; h++)
        for (int64_t i = 0; i < p->tokens; i++) {
            double expected = define(p, m, h, i / n, i % n, row);
            if (isnan(expected))
                continue;
            d.lse = fmax(d.lse, fabs(expected - (double)lse[h * p->tokens + i]));
            d.largest_lse = fmax(d.largest_lse, fabs(expected));
            for (int c = 0; c < p->hd; c++) {
                int64_t at = i * p->stride + h * p->hd + c;
                float got = p->dtype == OAS_F32 ? ((const float *)out)[at] : oas_from_bf16(((const uint16_t *)out)[at]);
                error += ((double)got - row[c]) * ((double)got - row[c]);
                norm += row[c] * row[c];
            }
        }
    d.out = sqrt(error / norm);
    return d;
}

typedef struct results {
    size_t bytes;
    unsigned char *out; /* guards before and behind */
    float *lse;
} results;

static results run(const problem *p, oas_cpu_level level, oas_pool *pool)
{
    size_t value = oas_dtype_size(p->dtype);
    results r = {.bytes = (size_t)(p->tokens * p->stride) * value};
    size_t lse_values = (size_t)(p->tokens * p->heads);
    r.out = malloc(r.bytes + 2 * GUARD_BYTES);
    r.lse = malloc((lse_values + 1) * sizeof(float));
    assert_true(r.out && r.lse);
    memset(r.out, GUARD, r.bytes + 2 * GUARD_BYTES);
    memset(r.lse, GUARD, (lse_values + 1) * sizeof(float));
    attention_job job[MAX_HEADS];
    for (int h = 0; h < p->heads; h++) {
        size_t at = (size_t)(h * p->hd) * value;
        job[h] = (attention_job){.q = (char *)p->q + at,
                                 .k = (char *)p->k + at,
                                 .v = (char *)p->v + at,
                                 .out = r.out + GUARD_BYTES + at,
                                 .lse = r.lse + h * p->tokens,
                                 .groups = p->groups,
                                 .frames = p->frames,
                                 .height = p->height,
                                 .width = p->width};
        memcpy(job[h].window, p->window, sizeof p->window);
    }
    attention_task task = {p->dtype, p->hd, p->stride, p->heads, job};
    size_t bytes = oas_attention_scratch(level, &task, oas_pool_workers(pool));
    unsigned char *scratch = oas_alloc(bytes + GUARD_BYTES, 1);
    assert_non_null(scratch);
    memset(scratch, 0xff, bytes); /* NaN in either type */
    memset(scratch + bytes, GUARD, GUARD_BYTES);
    oas_attention_run(level, &task, pool, scratch);
    for (size_t i = 0; i < GUARD_BYTES; i++)
        assert_int_equal(scratch[bytes + i], GUARD);
    oas_free(scratch);
    unsigned char mark[sizeof(float)];
    memset(mark, GUARD, sizeof mark);
    assert_memory_equal(r.lse + lse_values, mark, sizeof mark);
    return r;
}

static void check_guards(const problem *p, const results *r)
{
    size_t row = (size_t)p->stride * oas_dtype_size(p->dtype);
    size_t used = (size_t)(p->heads * p->hd) * oas_dtype_size(p->dtype);
    for (size_t i = 0; i < GUARD_BYTES; i++) {
        assert_int_equal(r->out[i], GUARD);
        assert_int_equal(r->out[GUARD_BYTES + r->bytes + i], GUARD);
    }
    for (size_t i = 0; i < r->bytes; i++)
        if (i % row >= used)
            assert_int_equal(r->out[GUARD_BYTES + i], GUARD);
}

static void free_results(results *r)
{
    free(r->out);
    free(r->lse);
}

static void print_problem(const problem *p, oas_cpu_level level)
{
    print_message("%s %s: %d heads of %d, %lld x %lldx%lldx%lld tokens, window %dx%dx%d, size %g\n",
                  oas_cpu_level_name(level), oas_dtype_name(p->dtype), p->heads, p->hd, (long long)p->groups,
                  (long long)p->frames, (long long)p->height, (long long)p->width, p->window[0], p->window[1],
                  p->window[2], (double)p->size);
}

static void check(const problem *p, oas_cpu_level level)
{
    results r = run(p, level, NULL);
    check_guards(p, &r);
    difference d = compare(p, NONE, r.out + GUARD_BYTES, r.lse);
    double score = d.largest_lse;
    double limit = p->dtype == OAS_F32 ? TOLERANCE_F32 + TOLERANCE_F32_PER_SCORE * score : TOLERANCE_BF16;
    double lse_limit = TOLERANCE_LSE + TOLERANCE_LSE_PER_SCORE * score;
    if (!(d.out <= limit && d.lse <= lse_limit)) {
        print_problem(p, level);
        fail_msg("differs by %g (at most %g), log-sum-exp by %g (at most %g)", d.out, limit, d.lse, lse_limit);
    }
    free_results(&r);
}

static const int HEAD_DIMS[] = {8, 16, 24, 32, 40, 64, 72, 96, 128, 5, 256};

static problem draw_problem(int i)
{
    problem p = {.groups = draw_size(1, 2),
                 .frames = draw_size(1, 4),
                 .height = draw_size(1, 9),
                 .width = draw_size(1, 11),
                 .heads = (int)draw_size(1, 2),
                 .size = i % 4 == 3 ? 30.f : 1.f};
    p.hd = HEAD_DIMS[i % (int)(sizeof HEAD_DIMS / sizeof HEAD_DIMS[0])];
    if (i % 2)
        for (int a = 0; a < 3; a++)
            p.window[a] = (int)draw_size(0, a ? 3 : 1) * 2 + 1;
    if (i % 6 == 1)
        memcpy(p.window, (int[]){3, 5, 5}, sizeof p.window);
    p.stride = p.heads * p.hd + draw_size(0, 1) * draw_size(0, 20);
    return p;
}

static void random_sizes_agree_with_the_definition(void **unused)
{
    (void)unused;
    for (int level = 0; level <= (int)oas_cpu_detect(); level++)
        for (int dtype = 0; dtype < OAS_DTYPES; dtype++) {
            state = 7;
            for (int i = 0; i < 44; i++) {
                problem p = draw_problem(i);
                p.dtype = (oas_dtype)dtype;
                fill_problem(&p);
                check(&p, (oas_cpu_level)level);
                free_problem(&p);
            }
        }
}

/* Sizes at and around the borders of tiles (32, 14, 6 and 4 queries) and of blocks of keys (32 and 256). */
static void sizes_at_borders_of_blocks(void **unused)
{
    (void)unused;
    static const int64_t SIZES[] = {1, 2, 13, 14, 15, 31, 32, 33, 255, 256, 257, 511, 513};
    for (int level = 0; level <= (int)oas_cpu_detect(); level++)
        for (int dtype = 0; dtype < OAS_DTYPES; dtype++)
            for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
                problem p = {.dtype = (oas_dtype)dtype,
                             .groups = 1,
                             .frames = 1,
                             .height = 1,
                             .width = SIZES[i],
                             .heads = 1,
                             .hd = 32,
                             .stride = 32,
                             .size = 1.f};
                fill_problem(&p);
                check(&p, (oas_cpu_level)level);
                free_problem(&p);
            }
}

static problem window_problem(oas_dtype dtype)
{
    problem p = {.dtype = dtype,
                 .groups = 1,
                 .frames = 3,
                 .height = 7,
                 .width = 11,
                 .window = {3, 5, 5},
                 .heads = 2,
                 .hd = 32,
                 .stride = 64,
                 .size = 1.f};
    fill_problem(&p);
    return p;
}

static void mutations_exceed_the_tolerances(void **unused)
{
    (void)unused;
    static const mutation MUTATIONS[] = {{1, 1}, {-1, 1}, {0, 1.02}};
    for (int dtype = 0; dtype < OAS_DTYPES; dtype++) {
        problem p = window_problem((oas_dtype)dtype);
        results r = run(&p, oas_cpu_detect(), NULL);
        for (size_t i = 0; i < sizeof MUTATIONS / sizeof MUTATIONS[0]; i++) {
            difference d = compare(&p, MUTATIONS[i], r.out + GUARD_BYTES, r.lse);
            assert_true(d.out > 1.5 * TOLERANCE_BF16);
            assert_true(d.lse > 100 * TOLERANCE_LSE);
        }
        free_results(&r);
        free_problem(&p);
    }
}

static void any_number_of_threads_gives_the_same_bits(void **unused)
{
    (void)unused;
    static const int WINDOWS[2][3] = {{0, 0, 0}, {3, 5, 5}};
    for (int level = 0; level <= (int)oas_cpu_detect(); level++)
        for (int i = 0; i < 4; i++) {
            problem p = {.dtype = (oas_dtype)(i % 2),
                         .groups = 2,
                         .frames = 3,
                         .height = 13,
                         .width = 17,
                         .heads = 3,
                         .hd = 24,
                         .stride = 80,
                         .size = 2.f};
            memcpy(p.window, WINDOWS[i / 2], sizeof p.window);
            fill_problem(&p);
            results one = run(&p, (oas_cpu_level)level, NULL);
            for (int threads = 2; threads <= 3; threads++) {
                oas_pool *pool = NULL;
                assert_int_equal(oas_pool_new(&pool, threads, NULL), OASIS_OK);
                results more = run(&p, (oas_cpu_level)level, pool);
                assert_memory_equal(one.out, more.out, one.bytes + 2 * GUARD_BYTES);
                assert_memory_equal(one.lse, more.lse, (size_t)(p.tokens * p.heads) * sizeof(float));
                free_results(&more);
                oas_pool_free(&pool);
            }
            free_results(&one);
            free_problem(&p);
        }
}

/* A head that is alone gives the same bits as among others. */
static void a_head_does_not_know_its_neighbours(void **unused)
{
    (void)unused;
    problem p = window_problem(OAS_BF16);
    results both = run(&p, oas_cpu_detect(), NULL);
    p.heads = 1;
    results one = run(&p, oas_cpu_detect(), NULL);
    for (int64_t i = 0; i < p.tokens; i++)
        assert_memory_equal(one.out + GUARD_BYTES + i * 2 * p.stride, both.out + GUARD_BYTES + i * 2 * p.stride,
                            (size_t)(2 * p.hd));
    free_results(&one);
    free_results(&both);
    free_problem(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_sizes_agree_with_the_definition),
        cmocka_unit_test(sizes_at_borders_of_blocks),
        cmocka_unit_test(mutations_exceed_the_tolerances),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(a_head_does_not_know_its_neighbours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
