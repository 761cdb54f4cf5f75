/*
 * LPIPS and DISTS with made-up weights against their definitions in plain C and double, planes of pictures as PyTorch has
 * them; files that are not what they say.
 */
#include "format/safetensors.h"
#include "metrics/clips.h"

#include <oasis/metrics.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { W = 37, H = 35 };

/* Sums of up to 4608 products in float, through 18 layers, on distances of about 0.1 to 1. */
static const double TOLERANCE = 2e-5;

/* ---- files ------------------------------------------------------------------------------------------------------- */

enum { MOST = 64 };

/* Named tensors that become a file. */
typedef struct bag {
    stored entry[MOST];
    char name[MOST][48];
    float *values[MOST];
    size_t count;
} bag;

static uint32_t state = 11;

/* Values about `mean`, `spread` to each side. */
static const float *put(bag *b, const char *name, int n0, int n1, int n2, int n3, double mean, double spread)
{
    size_t i = b->count++, n = (size_t)n0 * (size_t)n1 * (size_t)n2 * (size_t)n3;
    assert_true(i < MOST);
    snprintf(b->name[i], sizeof b->name[i], "%s", name);
    b->values[i] = malloc(n * sizeof(float));
    assert_non_null(b->values[i]);
    for (size_t k = 0; k < n; k++)
        b->values[i][k] = (float)(mean + spread * (2 * next_uniform(&state) - 1));
    b->entry[i] =
        (stored){.name = b->name[i], .dtype = OAS_STORED_F32, .rank = n1 ? 4 : 1, .data = (void *)b->values[i]};
    const int size[4] = {n0, n1, n2, n3};
    for (int k = 0; k < OAS_STORED_MAX_RANK; k++)
        b->entry[i].size[k] = k < 4 ? size[k] : 1;
    return b->values[i];
}

static const float *get(const bag *b, const char *name)
{
    for (size_t i = 0; i < b->count; i++)
        if (strcmp(b->name[i], name) == 0)
            return b->values[i];
    fail_msg("no %s", name);
    return NULL;
}

static void put_layer(bag *b, int index, const char *part, int out, int in, int side)
{
    char name[48];
    snprintf(name, sizeof name, "features.%d.%sweight", index, part);
    put(b, name, out, in, side, side, 0, sqrt(6. / (in * side * side)));
    snprintf(name, sizeof name, "features.%d.%sbias", index, part);
    size_t i = b->count;
    put(b, name, out, 1, 1, 1, 0.02, 0.1);
    b->entry[i].rank = 1;
}

static void empty(bag *b)
{
    for (size_t i = 0; i < b->count; i++)
        free(b->values[i]);
    b->count = 0;
}

static char folder[] = "/tmp/oasis-perceptual-XXXXXX";
static char network_path[64], weights_path[64], both[160];

static void write_bag(const bag *b, const char *path)
{
    oasis_message why = {""};
    const safetensors_file file = {.entry = b->entry, .count = b->count};
    if (oas_safetensors_write(path, &file, &why) < 0)
        fail_msg("%s", why.text);
}

static int enter(void **unused)
{
    (void)unused;
    if (!mkdtemp(folder))
        return -1;
    snprintf(network_path, sizeof network_path, "%s/network", folder);
    snprintf(weights_path, sizeof weights_path, "%s/weights", folder);
    snprintf(both, sizeof both, "%s,%s", network_path, weights_path);
    return 0;
}

static int leave(void **unused)
{
    (void)unused;
    unlink(network_path);
    unlink(weights_path);
    return rmdir(folder);
}

/* ---- the definitions --------------------------------------------------------------------------------------------- */

/* [c][h][w] */
typedef struct planes {
    int c, h, w;
    double *v;
} planes;

static planes planes_new(int c, int h, int w)
{
    planes p = {c, h, w, calloc((size_t)(c * h * w), sizeof(double))};
    assert_non_null(p.v);
    return p;
}

/* Convolution and ReLU. */
static planes convolve(const bag *b, int index, const char *part, const planes *in, int out, int side, int stride,
                       int pad)
{
    char name[48];
    snprintf(name, sizeof name, "features.%d.%sweight", index, part);
    const float *weight = get(b, name);
    snprintf(name, sizeof name, "features.%d.%sbias", index, part);
    const float *bias = get(b, name);
    planes p = planes_new(out, (in->h + 2 * pad - side) / stride + 1, (in->w + 2 * pad - side) / stride + 1);
    for (int o = 0; o < out; o++)
        for (int i = 0; i < p.h * p.w; i++) {
            double sum = (double)bias[o];
            for (int k = 0; k < in->c * side * side; k++) {
                int c = k / (side * side), y = i / p.w * stride - pad + k / side % side,
                    x = i % p.w * stride - pad + k % side;
                if (y >= 0 && x >= 0 && y < in->h && x < in->w)
                    sum += (double)weight[o * in->c * side * side + k] * in->v[(c * in->h + y) * in->w + x];
            }
            p.v[o * p.h * p.w + i] = fmax(sum, 0);
        }
    return p;
}

static planes pool(const planes *in, int side, bool ceil_mode)
{
    double down = (in->h - side) / 2., across = (in->w - side) / 2.;
    planes p = planes_new(in->c, (int)(ceil_mode ? ceil(down) : floor(down)) + 1,
                          (int)(ceil_mode ? ceil(across) : floor(across)) + 1);
    for (int i = 0; i < p.c * p.h * p.w; i++) {
        int c = i / (p.h * p.w), top = i / p.w % p.h * 2, left = i % p.w * 2;
        p.v[i] = -INFINITY;
        for (int y = top; y < top + side && y < in->h; y++)
            for (int x = left; x < left + side && x < in->w; x++)
                p.v[i] = fmax(p.v[i], in->v[(c * in->h + y) * in->w + x]);
    }
    return p;
}

static planes l2(const planes *in)
{
    static const double hann[3] = {0.25, 0.5, 0.25};
    planes p = planes_new(in->c, (in->h - 1) / 2 + 1, (in->w - 1) / 2 + 1);
    for (int i = 0; i < p.c * p.h * p.w; i++) {
        int c = i / (p.h * p.w), top = i / p.w % p.h * 2 - 1, left = i % p.w * 2 - 1;
        double sum = 1e-12;
        for (int k = 0; k < 9; k++) {
            int y = top + k / 3, x = left + k % 3;
            double v = y < 0 || x < 0 || y >= in->h || x >= in->w ? 0 : in->v[(c * in->h + y) * in->w + x];
            sum += hann[k / 3] * hann[k % 3] * v * v;
        }
        p.v[i] = sqrt(sum);
    }
    return p;
}

static void replace(planes *p, planes by)
{
    free(p->v);
    *p = by;
}

static planes copy(const planes *p)
{
    planes q = planes_new(p->c, p->h, p->w);
    memcpy(q.v, p->v, (size_t)(p->c * p->h * p->w) * sizeof(double));
    return q;
}

static void fire(const bag *b, int index, int narrow, int wide, planes *x)
{
    replace(x, convolve(b, index, "squeeze.", x, narrow, 1, 1, 0));
    planes one = convolve(b, index, "expand1x1.", x, wide, 1, 1, 0),
           three = convolve(b, index, "expand3x3.", x, wide, 3, 1, 1);
    planes all = planes_new(2 * wide, x->h, x->w);
    size_t half = (size_t)(wide * x->h * x->w);
    memcpy(all.v, one.v, half * sizeof(double));
    memcpy(all.v + half, three.v, half * sizeof(double));
    free(one.v);
    free(three.v);
    replace(x, all);
}

typedef enum network { SQUEEZE, ALEX, VGG } network;

/* The taps of a picture; puts the weights instead when x is NULL.  blur: l2 in place of maxima. */
static int taps_of(bag *b, network n, bool blur, planes *x, planes *tap)
{
    static const int squeeze[8][3] = {{3, 16, 64},  {4, 16, 64},   {6, 32, 128},  {7, 32, 128},
                                      {9, 48, 192}, {10, 48, 192}, {11, 64, 256}, {12, 64, 256}};
    static const int alex[5][5] = {
        {0, 64, 11, 4, 2}, {3, 192, 5, 1, 2}, {6, 384, 3, 1, 1}, {8, 256, 3, 1, 1}, {10, 256, 3, 1, 1}};
    static const int vgg[13][2] = {{0, 64},   {2, 64},   {5, 128},  {7, 128},  {10, 256}, {12, 256}, {14, 256},
                                   {17, 512}, {19, 512}, {21, 512}, {24, 512}, {26, 512}, {28, 512}};
    int taps = 0, in = 3;
    for (int i = 0; n == SQUEEZE && i < 9; i++) {
        const int *f = i > 0 ? squeeze[i - 1] : NULL;
        if (!x && i == 0)
            put_layer(b, 0, "", 64, 3, 3);
        if (!x && i > 0) {
            put_layer(b, f[0], "squeeze.", f[1], i == 1 ? 64 : 2 * squeeze[i - 2][2], 1);
            put_layer(b, f[0], "expand1x1.", f[2], f[1], 1);
            put_layer(b, f[0], "expand3x3.", f[2], f[1], 3);
        }
        if (x && i == 0)
            replace(x, convolve(b, 0, "", x, 64, 3, 2, 0));
        if (x && (i == 1 || i == 3 || i == 5))
            replace(x, pool(x, 3, true));
        if (x && i > 0)
            fire(b, f[0], f[1], f[2], x);
        if (x && i != 1 && i != 3)
            tap[taps++] = copy(x);
    }
    for (int i = 0; n == ALEX && i < 5; in = alex[i++][1]) {
        if (!x)
            put_layer(b, alex[i][0], "", alex[i][1], in, alex[i][2]);
        if (x && (i == 1 || i == 2))
            replace(x, pool(x, 3, false));
        if (x) {
            replace(x, convolve(b, alex[i][0], "", x, alex[i][1], alex[i][2], alex[i][3], alex[i][4]));
            tap[taps++] = copy(x);
        }
    }
    for (int i = 0; n == VGG && i < 13; in = vgg[i++][1]) {
        if (!x)
            put_layer(b, vgg[i][0], "", vgg[i][1], in, 3);
        if (x && (i == 2 || i == 4 || i == 7 || i == 10))
            replace(x, blur ? l2(x) : pool(x, 2, false));
        if (x)
            replace(x, convolve(b, vgg[i][0], "", x, vgg[i][1], 3, 1, 1));
        if (x && (i == 1 || i == 3 || i == 6 || i == 9 || i == 12))
            tap[taps++] = copy(x);
    }
    return taps;
}

/* (factor rgb - less) / by, colour by colour; rgb rounded to 8 bits as the metrics do. */
static planes prepared(const oasis_frame *f, double factor, double less, const double mean[3], const double by[3])
{
    planes p = planes_new(3, f->height, f->width);
    for (int i = 0; i < 3 * f->height * f->width; i++) {
        int c = i / (f->height * f->width), pixel = i % (f->height * f->width);
        double rgb = floor((double)f->rgb[3 * pixel + c] * 255 + 0.5) / 255;
        p.v[i] = (factor * fmin(fmax(rgb, 0), 1) - less - mean[c]) / by[c];
    }
    return p;
}

static double lpips(bag *b, const bag *lins, network n, const oasis_frame *a, const oasis_frame *t)
{
    static const double shift[3] = {-.030, -.088, -.188}, scale[3] = {.458, .448, .450};
    planes x = prepared(a, 2, 1, shift, scale), y = prepared(t, 2, 1, shift, scale), of_x[7], of_y[7];
    int taps = taps_of(b, n, false, &x, of_x);
    double sum = 0;
    taps_of(b, n, false, &y, of_y);
    for (int i = 0; i < taps; i++) {
        char name[32];
        snprintf(name, sizeof name, "lin%d.model.1.weight", i);
        const float *w = get(lins, name);
        int pixels = of_x[i].h * of_x[i].w;
        for (int p = 0; p < pixels; p++) {
            double aa = 0, bb = 0;
            for (int c = 0; c < of_x[i].c; c++) {
                aa += of_x[i].v[c * pixels + p] * of_x[i].v[c * pixels + p];
                bb += of_y[i].v[c * pixels + p] * of_y[i].v[c * pixels + p];
            }
            for (int c = 0; c < of_x[i].c; c++) {
                double d =
                    of_x[i].v[c * pixels + p] / (sqrt(aa) + 1e-10) - of_y[i].v[c * pixels + p] / (sqrt(bb) + 1e-10);
                sum += (double)w[c] * d * d / pixels;
            }
        }
        free(of_x[i].v);
        free(of_y[i].v);
    }
    free(x.v);
    free(y.v);
    return sum;
}

/* One map's part of the similarity, not yet divided. */
static double similar(const planes *x, const planes *y, const float *alpha, const float *beta)
{
    int n = x->h * x->w;
    double sum = 0;
    for (int c = 0; c < x->c; c++) {
        const double *a = x->v + c * n, *b = y->v + c * n;
        double ma = 0, mb = 0, va = 0, vb = 0, ab = 0;
        for (int i = 0; i < n; i++) {
            ma += a[i] / n;
            mb += b[i] / n;
            ab += a[i] * b[i] / n;
        }
        for (int i = 0; i < n; i++) {
            va += (a[i] - ma) * (a[i] - ma) / n;
            vb += (b[i] - mb) * (b[i] - mb) / n;
        }
        sum += (double)alpha[c] * (2 * ma * mb + 1e-6) / (ma * ma + mb * mb + 1e-6);
        sum += (double)beta[c] * (2 * (ab - ma * mb) + 1e-6) / (va + vb + 1e-6);
    }
    return sum;
}

static double dists(bag *b, const bag *weights, const oasis_frame *a, const oasis_frame *t)
{
    static const double none[3] = {0, 0, 0}, one[3] = {1, 1, 1};
    static const double mean[3] = {.485, .456, .406}, deviation[3] = {.229, .224, .225};
    planes of_x[6], of_y[6];
    of_x[0] = prepared(a, 1, 0, none, one);
    of_y[0] = prepared(t, 1, 0, none, one);
    planes x = prepared(a, 1, 0, mean, deviation), y = prepared(t, 1, 0, mean, deviation);
    int taps = 1 + taps_of(b, VGG, true, &x, of_x + 1);
    taps_of(b, VGG, true, &y, of_y + 1);
    const float *alpha = get(weights, "alpha"), *beta = get(weights, "beta");
    double sum = 0, all = 0;
    for (int i = 0; i < 1475; i++)
        all += (double)alpha[i] + (double)beta[i];
    for (int i = 0, at = 0; i < taps; at += of_x[i++].c)
        sum += similar(&of_x[i], &of_y[i], alpha + at, beta + at) / all;
    for (int i = 0; i < taps; i++) {
        free(of_x[i].v);
        free(of_y[i].v);
    }
    free(x.v);
    free(y.v);
    return 1 - sum;
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void put_lins(bag *b, network n)
{
    static const int channels[3][7] = {
        {64, 128, 256, 384, 384, 512, 512}, {64, 192, 384, 256, 256}, {64, 128, 256, 512, 512}};
    for (int i = 0; i < 7 && channels[n][i]; i++) {
        char name[32];
        snprintf(name, sizeof name, "lin%d.model.1.weight", i);
        put(b, name, 1, channels[n][i], 1, 1, 0.5, 0.5);
    }
}

/* The metric's values of two pictures against a third: one near, one far. */
static void measure(const char *name, const char *note, const oasis_frame *truth, const oasis_frame *const clip[2],
                    double values[3])
{
    oasis_metrics_options o;
    oasis_metrics *m = NULL;
    oasis_metric_result r;
    oasis_message why = {""};
    oasis_metrics_options_init(&o);
    o.names = name;
    o.lpips = o.dists = both;
    o.threads = 2;
    if (oasis_metrics_open(&m, &o, W, H, true, &why) < 0)
        fail_msg("%s", why.text);
    for (int i = 0; i < 3; i++) {
        if (oasis_metrics_push(m, i < 2 ? clip[i] : truth, truth) < 0)
            fail_msg("%s", oasis_metrics_message(m));
        oasis_metrics_result(m, 0, &r);
        values[i] = r.last;
    }
    assert_string_equal(r.note, note);
    oasis_metrics_close(&m);
}

static void check(const char *what, double got, double expected)
{
    print_message("    %-16s %.6f\n", what, got);
    if (!(fabs(got - expected) <= TOLERANCE * (1 + fabs(expected))))
        fail_msg("%s: %.9g, expected %.9g", what, got, expected);
}

static void test_lpips(void **unused)
{
    (void)unused;
    static const char *const notes[] = {"SqueezeNet 1.1", "AlexNet", "VGG16"};
    oasis_frame truth = textured(W, H, 0, 0), near = textured(W, H, 0.3, 0), far = random_frame(W, H, 5);
    const oasis_frame *const clip[2] = {&near, &far};
    for (int n = 0; n < 3; n++) {
        bag b = {.count = 0}, lins = {.count = 0};
        taps_of(&b, (network)n, false, NULL, NULL);
        put_lins(&lins, (network)n);
        write_bag(&b, network_path);
        write_bag(&lins, weights_path);
        double values[3];
        measure("lpips", notes[n], &truth, clip, values);
        check(notes[n], values[0], lpips(&b, &lins, (network)n, &near, &truth));
        if (n < 2) /* VGG16 in plain C is slow */
            check(notes[n], values[1], lpips(&b, &lins, (network)n, &far, &truth));
        assert_true(fabs(values[2]) < 1e-12 && values[0] > 1e-4 && values[1] > values[0]);
        empty(&b);
        empty(&lins);
    }
    oasis_frame_free(&truth);
    oasis_frame_free(&near);
    oasis_frame_free(&far);
}

static void refused(const char *name, const char *files, oasis_status status, const char *words)
{
    oasis_metrics_options o;
    oasis_metrics *m = NULL;
    oasis_message why = {""};
    oasis_metrics_options_init(&o);
    o.names = name;
    o.lpips = o.dists = files;
    assert_int_equal(oasis_metrics_open(&m, &o, W, H, true, &why), status);
    if (!strstr(why.text, words))
        fail_msg("\"%s\" does not say \"%s\"", why.text, words);
}

static void test_dists(void **unused)
{
    (void)unused;
    oasis_frame truth = textured(W, H, 0, 0), near = textured(W, H, 0.3, 0), far = random_frame(W, H, 5);
    const oasis_frame *const clip[2] = {&near, &far};
    bag b = {.count = 0}, weights = {.count = 0};
    taps_of(&b, VGG, true, NULL, NULL);
    put(&weights, "alpha", 1, 1475, 1, 1, 0.1, 0.1);
    put(&weights, "beta", 1, 1475, 1, 1, 0.1, 0.1);
    write_bag(&b, network_path);
    write_bag(&weights, weights_path);
    double values[3];
    measure("dists", "not resized", &truth, clip, values);
    check("DISTS", values[0], dists(&b, &weights, &near, &truth));
    check("DISTS", values[1], dists(&b, &weights, &far, &truth));
    assert_true(fabs(values[2]) < 1e-5 && values[0] > 1e-4 && values[1] > values[0]);
    /* What is wrong with a file is said. */
    refused("lpips", both, OASIS_E_FORMAT, "lin0.model.1.weight");
    refused("dists", network_path, OASIS_E_ARGUMENT, "two files");
    refused("dists", "nowhere,nothing", OASIS_E_IO, "nowhere");
    weights.values[1][7] = NAN;
    write_bag(&weights, weights_path);
    refused("dists", both, OASIS_E_FORMAT, "value 7 of 'beta'");
    for (int i = 0; i < 1475; i++)
        weights.values[0][i] = weights.values[1][i] = 0;
    write_bag(&weights, weights_path);
    refused("dists", both, OASIS_E_FORMAT, "sum");
    write_bag(&weights, network_path);
    refused("lpips", both, OASIS_E_FORMAT, "squeezenet1_1, alexnet or vgg16");
    refused("dists", both, OASIS_E_FORMAT, "features.0.weight");
    empty(&b);
    empty(&weights);
    oasis_frame_free(&truth);
    oasis_frame_free(&near);
    oasis_frame_free(&far);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lpips), cmocka_unit_test(test_dists)};
    return cmocka_run_group_tests_name("metrics/perceptual", tests, enter, leave);
}
