/* SqueezeNet with made-up weights against its definition pixel by pixel; files that are not what they say. */
#include "metrics/clips.h"
#include "metrics/perceptual_file.h"
#include "metrics/squeezenet.h"

#include <oasis/metrics.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { CONVS = OAS_SQUEEZENET_CONVS, TAPS = OAS_SQUEEZENET_TAPS, W = 35, H = 33 };

/* Sums of up to 2304 products in float, through 18 layers; padding, order of channels or a tap mistaken is off by far
 * more. */
static const double TOLERANCE = 2e-4;

/* ---- the network, by its published table ------------------------------------------------------------------------ */

static const int squeeze[8] = {16, 16, 32, 32, 48, 48, 64, 64}, expand[8] = {64, 64, 128, 128, 192, 192, 256, 256};

typedef struct layer {
    int in, out, side;
    float *weight, *bias; /* weight [out][in][side][side], as in the file */
} layer;

static layer layers[CONVS];

static int make_layers(void **unused)
{
    (void)unused;
    uint32_t state = 7;
    for (int i = 0; i < CONVS; i++) {
        layer *l = &layers[i];
        int f = (i - 1) / 3, part = (i - 1) % 3;
        l->in = i == 0 ? 3 : part == 0 ? (f ? 2 * expand[f - 1] : 64) : squeeze[f];
        l->out = i == 0 ? 64 : part == 0 ? squeeze[f] : expand[f];
        l->side = i == 0 || part == 2 ? 3 : 1;
        int n = l->out * l->in * l->side * l->side;
        l->weight = malloc((size_t)n * sizeof(float));
        l->bias = malloc((size_t)l->out * sizeof(float));
        double spread = exp2(round(log2((i == 0 ? 0.02 : 1) * sqrt(6. / (l->in * l->side * l->side)))));
        for (int k = 0; k < n; k++) /* exact in half precision: 8 bits and an exponent */
            l->weight[k] =
                (float)(ldexp(round(256 * (2 * next_uniform(&state) - 1)), -12) * round(16 * spread * 16) / 16);
        for (int k = 0; k < l->out; k++)
            l->bias[k] = (float)(0.2 * next_uniform(&state) - 0.05);
    }
    return 0;
}

static int free_layers(void **unused)
{
    (void)unused;
    for (int i = 0; i < CONVS; i++) {
        free(layers[i].weight);
        free(layers[i].bias);
    }
    return 0;
}

typedef struct map {
    int w, h, c;
    double *v;
} map;

static map map_new(int w, int h, int c)
{
    return (map){w, h, c, calloc((size_t)(w * h * c), sizeof(double))};
}

static map convolve(const map *in, const layer *l, int stride, int pad)
{
    map out = map_new((in->w + 2 * pad - l->side) / stride + 1, (in->h + 2 * pad - l->side) / stride + 1, l->out);
    for (int y = 0; y < out.h; y++)
        for (int x = 0; x < out.w; x++)
            for (int o = 0; o < l->out; o++) {
                double sum = (double)l->bias[o];
                for (int j = 0; j < l->side; j++)
                    for (int i = 0; i < l->side; i++) {
                        int a = x * stride - pad + i, b = y * stride - pad + j;
                        for (int c = 0; c < l->in && a >= 0 && b >= 0 && a < in->w && b < in->h; c++)
                            sum += in->v[(b * in->w + a) * in->c + c] *
                                   (double)l->weight[((o * l->in + c) * l->side + j) * l->side + i];
                    }
                out.v[(y * out.w + x) * out.c + o] = fmax(sum, 0);
            }
    return out;
}

/* Windows of 3 at every second pixel; the last one may reach over the edge. */
static map maxima(const map *in)
{
    map out = map_new((int)ceil((in->w - 3) / 2.) + 1, (int)ceil((in->h - 3) / 2.) + 1, in->c);
    for (int i = 0; i < out.w * out.h * out.c; i++) {
        int c = i % out.c, x = i / out.c % out.w, y = i / out.c / out.w;
        double most = -INFINITY;
        for (int k = 0; k < 9; k++)
            if (2 * x + k % 3 < in->w && 2 * y + k / 3 < in->h)
                most = fmax(most, in->v[((2 * y + k / 3) * in->w + 2 * x + k % 3) * in->c + c]);
        out.v[i] = most;
    }
    return out;
}

static void direct(const float *rgb, map taps[TAPS])
{
    static const double mean[3] = {104, 117, 123};
    map m = map_new(W, H, 3);
    for (int i = 0; i < W * H * 3; i++)
        m.v[i] = 255 * (double)rgb[i / 3 * 3 + 2 - i % 3] - mean[i % 3];
    map next = convolve(&m, &layers[0], 2, 0);
    free(m.v);
    m = taps[0] = next;
    int tap = 1;
    bool m_is_tap = true;
    for (int f = 0; f < 8; f++) {
        map pooled = f == 0 || f == 2 || f == 4 ? maxima(&m) : m;
        map narrow = convolve(&pooled, &layers[1 + 3 * f], 1, 0);
        map one = convolve(&narrow, &layers[2 + 3 * f], 1, 0), three = convolve(&narrow, &layers[3 + 3 * f], 1, 1);
        map out = map_new(one.w, one.h, one.c + three.c);
        for (int i = 0; i < one.w * one.h; i++) {
            memcpy(out.v + i * out.c, one.v + i * one.c, (size_t)one.c * sizeof(double));
            memcpy(out.v + i * out.c + one.c, three.v + i * three.c, (size_t)three.c * sizeof(double));
        }
        if (pooled.v != m.v)
            free(pooled.v);
        free(narrow.v);
        free(one.v);
        free(three.v);
        if (!m_is_tap)
            free(m.v);
        m_is_tap = f == 1 || f >= 3;
        if (m_is_tap)
            taps[tap++] = out;
        m = out;
    }
    assert_int_equal(tap, TAPS);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static char folder[] = "/tmp/oasis-squeezenet-XXXXXX";
static char param_path[64], bin_path[64];

static unsigned half_bits(float v)
{
    int e;
    double m = frexp(fabs((double)v), &e);
    if (v == 0)
        return 0;
    unsigned sign = v < 0 ? 0x8000 : 0;
    if (e - 1 < -14) /* subnormal */
        return sign | (unsigned)lround(ldexp(fabs((double)v), 24));
    return sign | (unsigned)(e - 1 + 15) << 10 | (unsigned)lround((2 * m - 1) * 1024);
}

static void write_param(int odd_layer, const char *instead)
{
    FILE *f = fopen(param_path, "w");
    fprintf(f, "7767517\n48 56\nInput data 0 1 data 0=227 1=227 2=3\n");
    for (int i = 0; i < CONVS; i++) {
        const layer *l = &layers[i];
        if (i == odd_layer)
            fprintf(f, "%s\n", instead);
        else
            fprintf(f, "Convolution c%d 1 1 in out 0=%d 1=%d%s%s 5=1 6=%d 9=1\nSplit s%d 1 2 a b c\n", i, l->out,
                    l->side, i == 0 ? " 3=2" : "", i > 0 && l->side == 3 ? " 4=1" : "",
                    l->out * l->in * l->side * l->side, i);
    }
    fprintf(f, "Convolution conv10 1 1 x y 0=1000 1=1 4=1 5=1 6=512000 9=1\n");
    fclose(f);
}

static void write_bin(bool half)
{
    FILE *f = fopen(bin_path, "wb");
    for (int i = 0; i < CONVS; i++) {
        const layer *l = &layers[i];
        int n = l->out * l->in * l->side * l->side;
        static const unsigned char tags[2][4] = {{0, 0, 0, 0}, {0x47, 0x6B, 0x30, 0x01}};
        fwrite(tags[half], 1, 4, f);
        for (int k = 0; k < n; k++) {
            unsigned h = half_bits(l->weight[k]);
            const unsigned char two[2] = {(unsigned char)h, (unsigned char)(h >> 8)};
            if (half)
                fwrite(two, 1, 2, f);
            else
                fwrite(&l->weight[k], 4, 1, f);
        }
        fwrite(l->bias, 4, (size_t)l->out, f);
    }
    fclose(f);
}

static int enter(void **state)
{
    if (!mkdtemp(folder))
        return -1;
    snprintf(param_path, sizeof param_path, "%s/net.param", folder);
    snprintf(bin_path, sizeof bin_path, "%s/net.bin", folder);
    return make_layers(state);
}

static int leave(void **state)
{
    unlink(param_path);
    unlink(bin_path);
    rmdir(folder);
    return free_layers(state);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static oasis_status check_tap(void *user, int tap, int width, int height, int channels, const float *features,
                              oasis_message *message)
{
    (void)message;
    const map *m = (const map *)user + tap;
    assert_true(m->w == width && m->h == height && m->c == channels);
    double largest = 0, worst = 0;
    for (int i = 0; i < m->w * m->h * m->c; i++) {
        largest = fmax(largest, m->v[i]);
        worst = fmax(worst, fabs(m->v[i] - (double)features[i]));
    }
    if (!(worst <= TOLERANCE * largest))
        fail_msg("tap %d: off by %g of %g", tap, worst, largest);
    assert_true(largest > 1e-3);
    return OASIS_OK;
}

static void test_network(void **unused)
{
    (void)unused;
    oasis_frame picture = random_frame(W, H, 5);
    map taps[TAPS];
    direct(picture.rgb, taps);
    oas_pool *pool = NULL;
    assert_int_equal(oas_pool_new(&pool, 3, NULL), OASIS_OK);
    write_param(-1, NULL);
    for (int half = 0; half < 2; half++) {
        squeezenet net;
        oasis_message why = {""};
        write_bin(half);
        if (oas_squeezenet_read(&net, param_path, &why) < 0)
            fail_msg("%s", why.text);
        assert_int_equal(oas_squeezenet_run(&net, half ? pool : NULL, picture.rgb, W, H, check_tap, taps, NULL),
                         OASIS_OK);
        oas_squeezenet_free(&net);
    }
    oas_pool_free(&pool);
    for (int t = 0; t < TAPS; t++)
        free(taps[t].v);
    oasis_frame_free(&picture);
}

/* The same distance on the graph, as training takes it. */
static double on_graph(const oasis_frame *a, const oasis_frame *b)
{
    judge_file f;
    oasis_message why = {""};
    graph g = {.backend = OAS_REF, .compute = OAS_F32};
    if (oas_judge_open(&f, OAS_JUDGE_FEATURES, param_path, &why) < 0)
        fail_msg("%s", why.text);
    assert_true(oas_arena_new(&g.memory, 32 << 20));
    tensor *x[2];
    for (int k = 0; k < 2; k++) {
        x[k] = oas_tensor(&g, OAS_F32, OAS_SHAPE5(1, 1, H, W, 3));
        for (int i = 0; i < H * W * 3; i++)
            ((float *)x[k]->data)[i] = 2 * (k ? b : a)->rgb[i] - 1;
    }
    const tensor *d = oas_judge(&g, &f.judge, x[0], x[1], 1);
    if (!d)
        fail_msg("%s", g.message.text);
    double value = (double)*(const float *)d->data;
    oas_arena_free(&g.memory);
    oas_judge_close(&f);
    return value;
}

static void test_metric(void **unused)
{
    (void)unused;
    oasis_metrics_options o;
    oasis_metrics *m = NULL;
    oasis_metric_result r;
    oasis_frame a = textured(W, H, 0, 0), b = textured(W, H, 0.3, 0), c = textured(W, H, 3, 2);
    write_param(-1, NULL);
    write_bin(true);
    oasis_metrics_options_init(&o);
    o.names = "squeezenet";
    o.squeezenet = param_path;
    assert_int_equal(oasis_metrics_open(&m, &o, W, H, true, NULL), OASIS_OK);
    double values[3];
    const oasis_frame *clips[3] = {&a, &b, &c};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(oasis_metrics_push(m, clips[i], &a), OASIS_OK);
        oasis_metrics_result(m, 0, &r);
        values[i] = r.last;
    }
    assert_true(fabs(on_graph(&b, &a) - values[1]) < TOLERANCE * values[1]);
    assert_true(fabs(on_graph(&c, &a) - values[2]) < TOLERANCE * values[2]);
    assert_true(values[0] < 1e-12 && values[1] > 1e-6 && values[2] > 2 * values[1] && values[2] < 2);
    assert_string_equal(r.note, "not LPIPS");
    oasis_metrics_close(&m);
    o.squeezenet = NULL;
    assert_int_equal(oasis_metrics_open(&m, &o, W, H, true, NULL), OASIS_E_ARGUMENT);
    oasis_frame_free(&a);
    oasis_frame_free(&b);
    oasis_frame_free(&c);
}

static void refused(oasis_status status, const char *words)
{
    squeezenet net;
    oasis_message why = {""};
    assert_int_equal(oas_squeezenet_read(&net, param_path, &why), status);
    if (!strstr(why.text, words))
        fail_msg("\"%s\" does not say \"%s\"", why.text, words);
}

static void test_files(void **unused)
{
    (void)unused;
    write_param(4, "Convolution other 1 1 a b 0=64 1=5 5=1 6=25600");
    write_bin(false);
    refused(OASIS_E_FORMAT, "convolution 5 is not that of SqueezeNet");
    write_param(CONVS - 1, "");
    refused(OASIS_E_FORMAT, "convolution 25 is not");
    FILE *f = fopen(param_path, "w");
    fprintf(f, "hello\n");
    fclose(f);
    refused(OASIS_E_FORMAT, "is not a network of ncnn");
    f = fopen(param_path, "w");
    fprintf(f, "7767517\n");
    fclose(f);
    refused(OASIS_E_FORMAT, "has 0 convolutions");
    write_param(-1, NULL);
    assert_int_equal(truncate(bin_path, 2000000), 0);
    refused(OASIS_E_FORMAT, "cut off");
    layers[3].weight[5] = NAN;
    write_bin(false);
    layers[3].weight[5] = 0;
    refused(OASIS_E_FORMAT, "convolution 4");
    unlink(bin_path);
    refused(OASIS_E_IO, "net.bin");
    unlink(param_path);
    refused(OASIS_E_IO, "net.param");
    squeezenet net;
    oasis_message why;
    assert_int_equal(oas_squeezenet_read(&net, "weights.pth", &why), OASIS_E_ARGUMENT);
    assert_int_equal(oas_squeezenet_read(&net, "", &why), OASIS_E_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network),
        cmocka_unit_test(test_metric),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
