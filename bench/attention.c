/*
 * Measures the attention kernels against the machine's own peak, in one run:
 *
 *   cc -O2 -Iinclude -Isrc bench/attention.c build/liboasis_core.a -ldnnl -ljansson -fopenmp -lm -o attention
 *   ./attention [threads [level (0 to 4) [part of a name]]]
 *
 * Times are the best of up to 200 calls in 1.5 s; FLOPs count the pairs that are seen.
 */
#include "cpu/attention.h"
#include "base/memory.h"
#include "base/threads.h"
#include "cpu/peak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct problem {
    const char *name;
    int64_t groups, frames, height, width;
    int window[3];
    int heads, hd;
} problem;

static const problem problems[] = {
    {"global 18000", 1, 5, 45, 80, {0, 0, 0}, 1, 128},     {"intra 5x3600", 5, 1, 45, 80, {0, 0, 0}, 1, 128},
    {"window 5x45x80", 1, 5, 45, 80, {3, 5, 5}, 1, 128},   {"global 1280 x4", 1, 5, 16, 16, {0, 0, 0}, 4, 64},
    {"intra 5x256 x4", 5, 1, 16, 16, {0, 0, 0}, 4, 64},    {"window 5x16x16 x4", 1, 5, 16, 16, {3, 5, 5}, 4, 64},
    {"global 4800 x4", 1, 5, 24, 40, {0, 0, 0}, 4, 64},    {"intra 5x960 x4", 5, 1, 24, 40, {0, 0, 0}, 4, 64},
    {"global 1280 x1", 1, 5, 16, 16, {0, 0, 0}, 1, 128},
    {"window 5x24x40 x4", 1, 5, 24, 40, {3, 5, 5}, 4, 64}, {"global 2048 hd32", 1, 1, 32, 64, {0, 0, 0}, 4, 32},
};

static double within(int64_t n, int64_t r)
{
    double pairs = 0;
    for (int64_t i = 0; i < n; i++)
        pairs += (double)((i + r < n ? i + r : n - 1) - (i > r ? i - r : 0) + 1);
    return pairs;
}

static void bench(const problem *p, oas_dtype dtype, oas_cpu_level level, oas_pool *pool, double peak)
{
    int64_t n = p->groups * p->frames * p->height * p->width, stride = p->heads * p->hd;
    size_t bytes = (size_t)(n * stride) * oas_dtype_size(dtype);
    char *qkv = oas_alloc(4, bytes);
    float *source = oas_alloc((size_t)(n * stride), 4);
    for (int64_t i = 0; i < n * stride; i++)
        source[i] = (float)(rand() % 2001 - 1000) / 500.f;
    for (int i = 0; i < 3; i++)
        oas_convert(qkv + (size_t)i * bytes, dtype, source, OAS_F32, n * stride);
    attention_job job[8];
    for (int h = 0; h < p->heads; h++) {
        size_t at = (size_t)(h * p->hd) * oas_dtype_size(dtype);
        job[h] = (attention_job){.q = qkv + at,
                                 .k = qkv + bytes + at,
                                 .v = qkv + 2 * bytes + at,
                                 .out = qkv + 3 * bytes + at,
                                 .groups = p->groups,
                                 .frames = p->frames,
                                 .height = p->height,
                                 .width = p->width};
        memcpy(job[h].window, p->window, sizeof p->window);
    }
    attention_task task = {dtype, p->hd, stride, p->heads, job};
    void *scratch = oas_alloc(oas_attention_scratch(level, &task, oas_pool_workers(pool)), 1);
    double tokens = (double)(p->frames * p->height * p->width), pairs = tokens * tokens;
    if (p->window[0])
        pairs = within(p->frames, p->window[0] / 2) * within(p->height, p->window[1] / 2) *
                within(p->width, p->window[2] / 2);
    double flops = 4. * pairs * (double)(p->groups * p->heads * p->hd), best = 1e9, start = oas_now();
    for (int i = 0; i < 200 && (i < 3 || oas_now() - start < 1.5); i++) {
        double t = oas_now();
        oas_attention_run(level, &task, pool, scratch);
        t = oas_now() - t;
        best = t < best ? t : best;
    }
    printf("%-20s hd %3d %s  %9.3f ms  %7.1f GFLOP/s  %.3f\n", p->name, p->hd, oas_dtype_name(dtype), best * 1e3,
           flops / best * 1e-9, flops / best / peak);
    oas_free(qkv);
    oas_free(source);
    oas_free(scratch);
}

int main(int argc, char **argv)
{
    oas_pool *pool = NULL;
    oas_cpu_level level = oas_cpu_detect(); /* also asks for the use of tiles */
    if (argc > 2)
        level = (oas_cpu_level)atoi(argv[2]);
    if (oas_pool_new(&pool, argc > 1 ? atoi(argv[1]) : 0, NULL) < 0)
        return 1;
    double peak[OAS_DTYPES];
    for (int d = 0; d < OAS_DTYPES; d++)
        peak[d] = oas_peak(level, (oas_dtype)d, pool);
    printf("level %s, %d threads, peak f32 %.0f, bf16 %.0f GFLOP/s\n", oas_cpu_level_name(level),
           oas_pool_workers(pool), peak[OAS_F32] * 1e-9, peak[OAS_BF16] * 1e-9);
    const char *only = argc > 3 ? argv[3] : "";
    for (int d = OAS_BF16; d >= OAS_F32; d--)
        for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++)
            if (strstr(problems[i].name, only))
                bench(&problems[i], (oas_dtype)d, level, pool, peak[d]);
    oas_pool_free(&pool);
    return 0;
}
