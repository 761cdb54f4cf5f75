/*
 * Times attention on the GPU, kernel by kernel, where no graph or model is in the way:
 *   build/tests/bench_attention [SECONDS_PER_CASE]
 * Prints milliseconds and TFLOP/s by the pairs that are seen (4 head_dim FLOPs each forward, 10 on the way back), and how
 * many times faster a window head is than the same head global.
 */
#include "base/threads.h"
#include "cuda/attention.h"
#include "tensor/tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS = 7 };

typedef struct bench_case {
    const char *title;
    int64_t batch, frames, height, width; /* kind NULL: batch groups of `height` queries and `width` keys */
    int heads, head_dim;
    const char *kind;
    bool backward;
} bench_case;

static const bench_case CASES[] = {
    {"global 32,400", 1, 9, 45, 80, 4, 128, "gggg", true},
    {"intra 9x3600", 1, 9, 45, 80, 4, 128, "iiii", true},
    {"window 9x45x80", 1, 9, 45, 80, 4, 128, "wwww", true},
    {"mixed 9x45x80", 1, 9, 45, 80, 12, 128, "gggiiiwwwwww", false},
    {"global 32,400", 1, 9, 45, 80, 4, 64, "gggg", true},
    {"window 9x45x80", 1, 9, 45, 80, 4, 64, "wwww", true},
    {"train 5x20x40", 1, 5, 20, 40, 12, 128, "ggggiiiiwwww", true},
    {"small, batch 24", 24, 2, 12, 12, 4, 64, "giww", true},
    {"small, only g", 24, 2, 12, 12, 1, 64, "g", true},
    {"small, only i", 24, 2, 12, 12, 1, 64, "i", true},
    {"small, only w", 24, 2, 12, 12, 2, 64, "ww", true},
    {"small 5x16x16", 8, 5, 16, 16, 4, 64, "giww", true},
    {"prompt 32,400", 1, 1, 32400, 512, 12, 128, NULL, true},
    {"frame 90x160", 1, 1, 14400, 14400, 1, 384, NULL, false},
};

/* Pairs of queries and keys that head h of a case sees. */
static double pairs_of(const bench_case *b, int h)
{
    double all = (double)(b->frames * b->height * b->width), pairs = 1;
    if (!b->kind)
        return (double)b->batch * (double)b->height * (double)b->width;
    if (b->kind[h] != 'w')
        return (double)b->batch * all * (b->kind[h] == 'g' ? all : all / (double)b->frames);
    const int64_t size[3] = {b->frames, b->height, b->width}, reach[3] = {1, 2, 2};
    for (int i = 0; i < 3; i++) {
        int64_t sum = 0;
        for (int64_t at = 0; at < size[i]; at++)
            sum += (at + reach[i] < size[i] ? at + reach[i] : size[i] - 1) - (at > reach[i] ? at - reach[i] : 0) + 1;
        pairs *= (double)sum;
    }
    return (double)b->batch * pairs;
}

static void *random_values(oas_cuda *c, int64_t n, oas_dtype dtype)
{
    size_t bytes = (size_t)n * oas_dtype_size(dtype);
    float *x = malloc((size_t)n * sizeof *x);
    void *raw = malloc(bytes), *to = oas_cuda_alloc(c, bytes);
    if (!x || !raw || !to) {
        fprintf(stderr, "bench_attention: no memory\n");
        exit(1);
    }
    uint32_t state = 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state * 0x1p-30f;
    }
    oas_convert(raw, dtype, x, OAS_F32, n);
    if (oas_cuda_upload(c, to, raw, bytes) < 0)
        exit(1);
    free(x);
    free(raw);
    return to;
}

static oasis_status run(oas_cuda *c, cuda_attention_back *back, bool backward)
{
    return backward ? c->tables.attention->backward(c, back) : c->tables.attention->forward(c, &back->forward);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of REPEATS times, seconds of one call. */
static double seconds_of(oas_cuda *c, cuda_attention_back *back, bool backward, double budget)
{
    double time[REPEATS], start = oas_now();
    if (run(c, back, backward) < 0 || oas_cuda_wait(c, NULL) < 0) {
        fprintf(stderr, "bench_attention: a launch failed\n");
        exit(1);
    }
    start = oas_now();
    run(c, back, backward);
    oas_cuda_wait(c, NULL);
    double once = oas_now() - start;
    int calls = (int)(budget / REPEATS / (once > 1e-6 ? once : 1e-6)) + 1;
    for (int r = 0; r < REPEATS; r++) {
        start = oas_now();
        for (int i = 0; i < calls; i++)
            run(c, back, backward);
        oas_cuda_wait(c, NULL);
        time[r] = (oas_now() - start) / calls;
    }
    qsort(time, REPEATS, sizeof *time, by_value);
    return time[REPEATS / 2];
}

static double time_case(oas_cuda *c, const bench_case *b, double budget)
{
    int64_t queries = b->kind ? b->frames * b->height * b->width : b->height, keys = b->kind ? queries : b->width;
    int64_t stride = (int64_t)b->heads * b->head_dim, n = b->batch * queries * stride, m = b->batch * keys * stride;
    cuda_attention_back back = {.dout = NULL};
    cuda_attention_task *t = &back.forward;
    *t = (cuda_attention_task){
        .dtype = 1, .heads = b->heads, .head_dim = b->head_dim, .batch = b->batch, .kind = b->kind};
    t->frames = b->frames, t->height = b->height, t->width = b->width;
    t->window[0] = 3, t->window[1] = t->window[2] = 5;
    t->queries = queries, t->keys = keys;
    t->q = random_values(c, n, OAS_BF16), t->k = random_values(c, m, OAS_BF16), t->v = random_values(c, m, OAS_BF16);
    t->out = random_values(c, n, OAS_BF16);
    t->lse = random_values(c, b->batch * queries * b->heads, OAS_F32);
    double pairs = 0, forward = seconds_of(c, &back, false, budget);
    for (int h = 0; h < b->heads; h++)
        pairs += pairs_of(b, h) * b->head_dim;
    printf("%-16s %2d x %3d  forward %9.4f ms %7.1f TFLOP/s", b->title, b->heads, b->head_dim, forward * 1e3,
           4 * pairs / forward * 1e-12);
    if (b->backward) {
        back.dout = random_values(c, n, OAS_F32), back.dq = random_values(c, n, OAS_F32);
        back.dk = random_values(c, m, OAS_F32), back.dv = random_values(c, m, OAS_F32);
        back.scratch = oas_cuda_alloc(c, c->tables.attention->backward_scratch(&back));
        double seconds = back.scratch ? seconds_of(c, &back, true, budget) : 0;
        printf("   backward %9.4f ms %7.1f TFLOP/s", seconds * 1e3, 10 * pairs / seconds * 1e-12);
    }
    printf("\n");
    fflush(stdout);
    void *all[] = {(void *)t->q,      (void *)t->k, (void *)t->v, t->out,  t->lse,
                   (void *)back.dout, back.dq,      back.dk,      back.dv, back.scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            oas_cuda_release(c, all[i]);
    return forward;
}

int main(int argc, char **argv)
{
    double budget = argc > 1 ? atof(argv[1]) : 0.3, time[sizeof CASES / sizeof *CASES];
    oasis_message why = {""};
    oas_cuda *c;
    if (oas_cuda_new(&c, 0, &why) < 0) {
        fprintf(stderr, "bench_attention: %s\n", why.text);
        return 1;
    }
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        time[i] = time_case(c, &CASES[i], budget);
    printf("a window head of 128 is %.1f times faster than the same head global, one of 64 %.1f times\n",
           time[0] / time[2], time[4] / time[5]);
    oas_cuda_free(&c);
    return 0;
}
