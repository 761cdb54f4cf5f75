/*
 * Attention's kernels by plain arrays, against sums in double: every kind of head, windows smaller and larger than a
 * stage, widths with a kernel of their own and others, ragged tiles, several samples; gradients are added to, those not
 * wanted are not needed, and the same call gives the same bits.
 */
#include "base/rng.h"
#include "cuda/attention.h"
#include "tensor/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/*
 * Norm of the difference over norm of the result.  float: sums of up to hundreds of terms in another order, exp good to
 * 2^-21.  bf16: weights and results are rounded to 8 bits, up to 2^-9 each; on the way back dout and the factors are.
 */
static const double TOLERANCE[2] = {1e-5, 4e-3}, TOLERANCE_BACK[2] = {2e-5, 8e-3};

enum { MOST_KEYS = 2048 };

/* routed: kind; apart: kind NULL and frames queries, height keys, width 1 = with a bias */
typedef struct attention_case {
    int dtype, heads, head_dim, batch, frames, height, width;
    const char *kind;
    int window[3];
} attention_case;

static const attention_case CASES[] = {
    {1, 4, 64, 2, 2, 12, 12, "giww", {3, 5, 5}}, /* the small model's */
    {1, 3, 128, 1, 3, 9, 13, "wgi", {3, 5, 5}},  /* ragged in every way */
    {1, 2, 32, 2, 2, 5, 3, "wg", {3, 5, 5}},     /* smaller than a tile and the window */
    {1, 1, 64, 1, 1, 1, 1, "g", {3, 5, 5}},      /* one token */
    {1, 1, 128, 1, 1, 1, 1, "w", {1, 1, 1}},
    {1, 2, 64, 1, 3, 20, 22, "ww", {1, 9, 13}}, /* several stages across and down */
    {1, 2, 16, 1, 5, 9, 17, "ww", {5, 3, 31}},  /* wider than the grid */
    {1, 3, 40, 1, 2, 9, 16, "giw", {3, 3, 7}},  /* channels padded */
    {1, 2, 128, 1, 3, 13, 17, "gg", {3, 5, 5}}, /* 663 tokens: tiles of 128 queries */
    {1, 8, 64, 1, 1, 16, 16, "iiiigggg", {3, 5, 5}},
    {1, 6, 40, 1, 2, 9, 16, "giggwg", {3, 5, 5}}, /* heads of a kind at equal steps and at others */
    {1, 3, 136, 1, 2, 6, 7, "giw", {3, 5, 5}},    /* wide heads */
    {1, 3, 36, 1, 2, 5, 6, "giw", {3, 5, 5}},     /* no multiple of 8 */
    {0, 3, 64, 2, 2, 5, 7, "giw", {3, 5, 5}},     /* float */
    {0, 2, 200, 1, 2, 5, 4, "gw", {3, 5, 5}},
    {1, 2, 128, 2, 70, 33, 1, NULL, {0}},
    {1, 3, 64, 1, 130, 517, 0, NULL, {0}},
    {1, 1, 384, 2, 70, 90, 0, NULL, {0}},
    {1, 1, 256, 1, 20, 33, 1, NULL, {0}},
    {1, 2, 8, 1, 5, 1, 1, NULL, {0}},
    {0, 2, 384, 2, 9, 11, 1, NULL, {0}},
};

/* Enough work for all processors of a GPU, so that a real one's library takes part; too much for an emulated one. */
static const attention_case LARGE[] = {
    {1, 5, 64, 4, 9, 12, 12, "iwigi", {3, 5, 5}},
    {1, 3, 128, 4, 9, 12, 12, "iig", {3, 5, 5}},
    {1, 2, 64, 2, 4300, 150, 0, NULL, {0}},
};

/* Host copies: q, k, v, dout, bias as floats (rounded when bf16), and what comes out. */
typedef struct problem {
    const attention_case *of;
    int64_t queries, keys, stride; /* of a segment of `batch` */
    float *q, *k, *v, *dout, *bias;
    double *out, *dq, *dk, *dv, *dbias;
} problem;

static void *array(int64_t n, size_t size)
{
    void *a = calloc((size_t)n, size);
    assert_non_null(a);
    return a;
}

static float *draw(uint32_t stream, int64_t n, double scale, int dtype)
{
    float *x = array(n, sizeof *x);
    oas_rng rng = oas_rng_at(7, stream, 0, 0);
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)oas_rng_between(&rng, -scale, scale);
        x[i] = dtype == OAS_BF16 ? oas_from_bf16(oas_to_bf16(x[i])) : x[i];
    }
    return x;
}

static problem make(const attention_case *c)
{
    problem p = {.of = c, .stride = (int64_t)c->heads * c->head_dim};
    p.queries = c->kind ? (int64_t)c->frames * c->height * c->width : c->frames;
    p.keys = c->kind ? p.queries : c->height;
    int64_t n = c->batch * p.queries * p.stride, m = c->batch * p.keys * p.stride;
    p.q = draw(1, n, 2, c->dtype);
    p.k = draw(2, m, 2, c->dtype);
    p.v = draw(3, m, 1, c->dtype);
    p.dout = draw(4, n, 1, OAS_F32);
    p.bias = !c->kind && c->width ? draw(5, p.keys, 2, OAS_F32) : NULL;
    p.out = array(n, sizeof *p.out);
    p.dq = array(n, sizeof *p.dq);
    p.dk = array(m, sizeof *p.dk);
    p.dv = array(m, sizeof *p.dv);
    p.dbias = array(p.keys, sizeof *p.dbias);
    return p;
}

static void drop(problem *p)
{
    void *all[] = {p->q, p->k, p->v, p->dout, p->bias, p->out, p->dq, p->dk, p->dv, p->dbias};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static bool sees(const attention_case *c, int head, int64_t i, int64_t j)
{
    token_grid grid = {1, c->frames, c->height, c->width};
    return !c->kind || oas_route_sees((oas_head_kind)c->kind[head], c->window, &grid, i, j);
}

static double dot(const float *a, const float *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* The definition for one query of a head: out, and the gradients that it adds. */
static void define_query(problem *p, int head, int64_t b, int64_t i)
{
    const attention_case *c = p->of;
    int64_t at = (b * p->queries + i) * p->stride + head * c->head_dim, first = b * p->keys;
    double weight[MOST_KEYS], total = 0, mean = 0, scale = 1 / sqrt((double)c->head_dim);
    assert_true(p->keys <= MOST_KEYS);
    for (int64_t j = 0; j < p->keys; j++) {
        double s = dot(p->q + at, p->k + (first + j) * p->stride + head * c->head_dim, c->head_dim) * scale;
        weight[j] = sees(c, head, i, j) ? exp(s + (p->bias ? (double)p->bias[j] : 0)) : 0;
        total += weight[j];
    }
    for (int64_t j = 0; j < p->keys; j++) {
        const float *v = p->v + (first + j) * p->stride + head * c->head_dim;
        weight[j] /= total;
        mean += weight[j] * dot(p->dout + at, v, c->head_dim);
        for (int x = 0; x < c->head_dim; x++)
            p->out[at + x] += weight[j] * (double)v[x];
    }
    for (int64_t j = 0; j < p->keys; j++) {
        int64_t key = (first + j) * p->stride + head * c->head_dim;
        double e = weight[j] * (dot(p->dout + at, p->v + key, c->head_dim) - mean);
        p->dbias[j] += e;
        for (int x = 0; x < c->head_dim; x++) {
            p->dq[at + x] += scale * e * (double)p->k[key + x];
            p->dk[key + x] += scale * e * (double)p->q[at + x];
            p->dv[key + x] += weight[j] * (double)p->dout[at + x];
        }
    }
}

static void *upload(oas_cuda *c, const float *from, int64_t n, int dtype)
{
    size_t size = oas_dtype_size((oas_dtype)dtype);
    void *to = oas_cuda_alloc(c, (size_t)n * size), *copy = array(n, size);
    assert_non_null(to);
    oas_convert(copy, (oas_dtype)dtype, from, OAS_F32, n);
    assert_int_equal(oas_cuda_upload(c, to, copy, (size_t)n * size), OASIS_OK);
    free(copy);
    return to;
}

/* Fails unless n values on the device, less `added`, are the expected ones; returns the error. */
static double compare(oas_cuda *c, const char *what, const void *from, int dtype, const double *expected, int64_t n,
                      double added, double tolerance)
{
    size_t bytes = (size_t)n * oas_dtype_size((oas_dtype)dtype);
    void *raw = array(n, 4);
    float *got = array(n, sizeof *got);
    assert_int_equal(oas_cuda_download(c, raw, from, bytes), OASIS_OK);
    oas_convert(got, OAS_F32, raw, (oas_dtype)dtype, n);
    double difference = 0, norm = 1e-9;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)got[i] - added - expected[i];
        difference += d * d;
        norm += expected[i] * expected[i];
    }
    free(raw);
    free(got);
    double error = sqrt(difference / norm);
    if (!(error <= tolerance))
        fail_msg("%s: error %.2e, allowed %.2e", what, error, tolerance);
    return error;
}

/* The gradients: those of `wanted` (bits: q, k, v, bias) start at 1. */
static cuda_attention_back prepare(oas_cuda *c, const problem *p, const cuda_attention_task *task, int wanted)
{
    int64_t n = p->of->batch * p->queries * p->stride, m = p->of->batch * p->keys * p->stride;
    float *ones = array(n > m ? n : m, sizeof *ones);
    for (int64_t i = 0; i < (n > m ? n : m); i++)
        ones[i] = 1;
    cuda_attention_back back = {.forward = *task, .dout = upload(c, p->dout, n, OAS_F32)};
    back.dq = wanted & 1 ? upload(c, ones, n, OAS_F32) : NULL;
    back.dk = wanted & 2 ? upload(c, ones, m, OAS_F32) : NULL;
    back.dv = wanted & 4 ? upload(c, ones, m, OAS_F32) : NULL;
    back.dbias = wanted & 8 && p->bias ? upload(c, ones, p->keys, OAS_F32) : NULL;
    free(ones);
    back.scratch = oas_cuda_alloc(c, c->tables.attention->backward_scratch(&back));
    assert_non_null(back.scratch);
    return back;
}

static void give_back(oas_cuda *c, cuda_attention_back *back)
{
    void *all[] = {(void *)back->dout, back->dq, back->dk, back->dv, back->dbias, back->scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            oas_cuda_release(c, all[i]);
}

/* The emulated GPU runs blocks, warps and lanes in the opposite order: the bits stay.  Others take no notice. */
static void run_backwards(bool backwards)
{
    if (backwards)
        setenv("OASIS_EMULATED_ORDER", "backwards", 1);
    else
        unsetenv("OASIS_EMULATED_ORDER");
}

/* The kernels of older GPUs than compute capability 9.0, on the emulated one. */
static void older_gpu(bool older)
{
    if (older)
        setenv("OASIS_EMULATED_SM80", "1", 1);
    else
        unsetenv("OASIS_EMULATED_SM80");
}

/* A GPU whose blocks have so many bytes of shared memory. */
static void smaller_gpu(oas_cuda *c, int bytes)
{
    char text[16];
    snprintf(text, sizeof text, "%d", bytes);
    setenv("OASIS_EMULATED_SHARED", text, 1);
    c->shared_bytes = bytes;
}

/* The library's kernels, on the emulated GPU; a real one has them where it has the library. */
static void fused(bool on)
{
    if (on)
        setenv("OASIS_EMULATED_FUSED", "1", 1);
    else
        unsetenv("OASIS_EMULATED_FUSED");
}

static void same_bits(oas_cuda *c, const void *a, const void *b, int64_t bytes)
{
    void *first = array(bytes, 1), *second = array(bytes, 1);
    if (a) {
        assert_int_equal(oas_cuda_download(c, first, a, (size_t)bytes), OASIS_OK);
        assert_int_equal(oas_cuda_download(c, second, b, (size_t)bytes), OASIS_OK);
        assert_memory_equal(first, second, (size_t)bytes);
    }
    free(first);
    free(second);
}

static void check_backward(oas_cuda *c, const problem *p, const cuda_attention_task *task, int wanted)
{
    cuda_attention_back back = prepare(c, p, task, wanted), again = prepare(c, p, task, wanted);
    cuda_attention_back older = prepare(c, p, task, wanted);
    int64_t n = p->of->batch * p->queries * p->stride, m = p->of->batch * p->keys * p->stride;
    double most = TOLERANCE_BACK[p->of->dtype], worst = 0;
    assert_int_equal(c->tables.attention->backward(c, &back), OASIS_OK);
    run_backwards(true);
    assert_int_equal(c->tables.attention->backward(c, &again), OASIS_OK);
    run_backwards(false);
    older_gpu(true);
    assert_int_equal(c->tables.attention->backward(c, &older), OASIS_OK);
    older_gpu(false);
    assert_int_equal(oas_cuda_wait(c, NULL), OASIS_OK);
    struct {
        const char *name;
        const float *at, *again, *older;
        const double *expected;
        int64_t n;
    } g[] = {{"dv", back.dv, again.dv, older.dv, p->dv, m},
             {"dq", back.dq, again.dq, older.dq, p->dq, n},
             {"dk", back.dk, again.dk, older.dk, p->dk, m},
             {"dbias", back.dbias, again.dbias, older.dbias, p->dbias, p->keys}};
    for (int i = 0; i < 4; i++) {
        same_bits(c, g[i].at, g[i].again, g[i].n * (int64_t)sizeof(float));
        if (!g[i].at || (i > 0 && p->keys == 1)) /* with one key all but dv is 0 */
            continue;
        worst = fmax(worst, compare(c, g[i].name, g[i].at, OAS_F32, g[i].expected, g[i].n, 1, most));
        compare(c, g[i].name, g[i].older, OAS_F32, g[i].expected, g[i].n, 1, most);
    }
    if (wanted == 15)
        print_message(", backward %.1e\n", worst);
    give_back(c, &back);
    give_back(c, &again);
    give_back(c, &older);
}

static cuda_attention_task task_of(oas_cuda *c, const problem *p)
{
    const attention_case *o = p->of;
    int64_t n = o->batch * p->queries, m = o->batch * p->keys;
    cuda_attention_task t = {.dtype = o->dtype, .heads = o->heads, .head_dim = o->head_dim, .batch = o->batch};
    t.kind = o->kind;
    t.frames = o->frames, t.height = o->height, t.width = o->width;
    t.queries = p->queries, t.keys = p->keys;
    for (int i = 0; i < 3; i++)
        t.window[i] = o->window[i];
    t.q = upload(c, p->q, n * p->stride, o->dtype);
    t.k = upload(c, p->k, m * p->stride, o->dtype);
    t.v = upload(c, p->v, m * p->stride, o->dtype);
    t.bias = p->bias ? upload(c, p->bias, p->keys, OAS_F32) : NULL;
    t.out = oas_cuda_alloc(c, (size_t)(n * p->stride) * 4);
    t.lse = oas_cuda_alloc(c, (size_t)(n * o->heads) * sizeof(float));
    assert_true(t.out && t.lse);
    return t;
}

/* Forward again, over results that are no longer there. */
static void forward_anew(oas_cuda *c, const cuda_attention_task *t, int64_t values, int64_t sums)
{
    assert_int_equal(oas_cuda_zero(c, t->out, (size_t)values * oas_dtype_size((oas_dtype)t->dtype)), OASIS_OK);
    if (t->lse)
        assert_int_equal(oas_cuda_zero(c, t->lse, (size_t)sums * sizeof *t->lse), OASIS_OK);
    assert_int_equal(c->tables.attention->forward(c, t), OASIS_OK);
}

static void check_case(oas_cuda *c, const attention_case *o, int number)
{
    problem p = make(o);
    for (int64_t b = 0; b < o->batch; b++)
        for (int h = 0; h < o->heads; h++)
            for (int64_t i = 0; i < p.queries; i++)
                define_query(&p, h, b, i);
    cuda_attention_task t = task_of(c, &p);
    int64_t n = o->batch * p.queries * p.stride;
    cuda_attention_task again = t;
    again.out = oas_cuda_alloc(c, (size_t)n * 4);
    again.lse = NULL;
    assert_non_null(again.out);
    assert_int_equal(c->tables.attention->forward(c, &t), OASIS_OK);
    run_backwards(true);
    assert_int_equal(c->tables.attention->forward(c, &again), OASIS_OK);
    run_backwards(false);
    assert_int_equal(oas_cuda_wait(c, NULL), OASIS_OK);
    same_bits(c, t.out, again.out, n * (int64_t)oas_dtype_size((oas_dtype)o->dtype));
    older_gpu(true);
    forward_anew(c, &again, n, o->batch * p.queries * o->heads);
    older_gpu(false);
    compare(c, "out by older kernels", again.out, o->dtype, p.out, n, 0, TOLERANCE[o->dtype]);
    const int shared_bytes = c->shared_bytes;
    older_gpu(true);
    smaller_gpu(c, 99 << 10); /* as of compute capability 8.6 and 8.9 */
    forward_anew(c, &again, n, o->batch * p.queries * o->heads);
    smaller_gpu(c, shared_bytes);
    older_gpu(false);
    compare(c, "out with little shared memory", again.out, o->dtype, p.out, n, 0, TOLERANCE[o->dtype]);
    fused(true);
    forward_anew(c, &again, n, o->batch * p.queries * o->heads);
    compare(c, "out by the library", again.out, o->dtype, p.out, n, 0, TOLERANCE[o->dtype]);
    again.lse = t.lse;
    forward_anew(c, &again, n, o->batch * p.queries * o->heads); /* whose lse the way back then has */
    fused(false);
    compare(c, "out by the library, with lse", again.out, o->dtype, p.out, n, 0, TOLERANCE[o->dtype]);
    double error = compare(c, "out", t.out, o->dtype, p.out, n, 0, TOLERANCE[o->dtype]);
    print_message("    case %2d: %s head %3d, forward %.1e", number, o->dtype ? "bf16" : "f32 ", o->head_dim, error);
    check_backward(c, &p, &t, 15);
    if (number == 2 || !o->kind)
        for (int wanted = 1; wanted < 16; wanted *= 2)
            check_backward(c, &p, &t, wanted);
    void *all[] = {(void *)t.q, (void *)t.k, (void *)t.v, (void *)t.bias, t.out, t.lse, again.out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            oas_cuda_release(c, all[i]);
    drop(&p);
}

static void kernels_are_the_definition(void **state)
{
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        check_case(*state, &CASES[i], (int)i);
}

static void library_is_the_definition(void **state)
{
    if (oas_cuda_usual() < 0)
        skip();
    for (size_t i = 0; i < sizeof LARGE / sizeof *LARGE; i++)
        check_case(*state, &LARGE[i], (int)i);
}

static int setup(void **state)
{
    oasis_message why = {""};
    oas_cuda *c = NULL;
    if (oas_cuda_count() > 0 && oas_cuda_new(&c, 0, &why) < 0)
        fail_msg("%s", why.text);
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    oas_cuda *c = *state;
    oas_cuda_free(&c);
    return 0;
}

int main(void)
{
    if (oas_cuda_count() == 0)
        return 0; /* built without CUDA, or no GPU here */
    const struct CMUnitTest tests[] = {cmocka_unit_test(kernels_are_the_definition),
                                       cmocka_unit_test(library_is_the_definition)};
    return cmocka_run_group_tests_name("cuda/attention", tests, setup, teardown);
}
