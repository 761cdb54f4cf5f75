/* NIQE: features against the definition written out another way, the distance in closed form, files nobody trusts. */
#include "metrics/clips.h"
#include "metrics/niqe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { N = OAS_NIQE_FEATURES };

/* ---- features ---------------------------------------------------------------------------------------------------- */

static int clamped(int i, int n)
{
    return i < 0 ? 0 : i < n ? i : n - 1;
}

/* The window in two dimensions, variance about the mean. */
static double normal_at(const double *p, int w, int h, int x, int y)
{
    double weight[49], sum = 0, mean = 0, variance = 0;
    for (int k = 0; k < 49; k++)
        sum += weight[k] = exp(-(pow(k % 7 - 3, 2) + pow(k / 7 - 3, 2)) / (2 * 49. / 36));
    for (int k = 0; k < 49; k++)
        mean += weight[k] / sum * p[clamped(y + k / 7 - 3, h) * w + clamped(x + k % 7 - 3, w)];
    for (int k = 0; k < 49; k++)
        variance += weight[k] / sum * pow(p[clamped(y + k / 7 - 3, h) * w + clamped(x + k % 7 - 3, w)] - mean, 2);
    return (p[y * w + x] - mean) / (sqrt(variance) + 1);
}

/* By trying every alpha. */
static void shape_of(const double *v, int n, double *alpha, double *left, double *right)
{
    double l = 0, r = 0, a = 0, best = INFINITY;
    int nl = 0, nr = 0;
    for (int i = 0; i < n; i++) {
        a += fabs(v[i]) / n;
        if (v[i] < 0)
            l += v[i] * v[i], nl++;
        if (v[i] > 0)
            r += v[i] * v[i], nr++;
    }
    double g = sqrt(l / nl) / sqrt(r / nr), ratio = a * a / ((l + r) / n);
    ratio *= (g * g * g + 1) * (g + 1) / pow(g * g + 1, 2);
    for (int k = 0; k <= 9800; k++) {
        double t = 0.2 + 0.001 * k, d = fabs(pow(tgamma(2 / t), 2) / (tgamma(1 / t) * tgamma(3 / t)) - ratio);
        if (d < best) {
            best = d;
            *alpha = t;
        }
    }
    *left = sqrt(l / nl) * sqrt(tgamma(1 / *alpha) / tgamma(3 / *alpha));
    *right = sqrt(r / nr) * sqrt(tgamma(1 / *alpha) / tgamma(3 / *alpha));
}

static void features_of(const double *p, int w, int h, int bx, int block, double *f)
{
    static const int shift[5][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {1, -1}};
    double *n = malloc((size_t)(block * block) * sizeof *n), *m = malloc((size_t)(block * block) * sizeof *m);
    for (int i = 0; i < block * block; i++)
        n[i] = normal_at(p, w, h, bx * block + i % block, i / block);
    for (int s = 0; s < 5; s++) {
        double alpha, left, right;
        for (int i = 0; i < block * block; i++) {
            int y = (i / block - shift[s][0] + block) % block, x = (i % block - shift[s][1] + block) % block;
            m[i] = s ? n[i] * n[y * block + x] : n[i];
        }
        shape_of(m, block * block, &alpha, &left, &right);
        if (s == 0) {
            *f++ = alpha;
            *f++ = (left + right) / 2;
            continue;
        }
        *f++ = alpha;
        *f++ = (right - left) * tgamma(2 / alpha) / tgamma(1 / alpha);
        *f++ = left;
        *f++ = right;
    }
    free(n);
    free(m);
}

/* MATLAB's imresize by a half: Keys' cubic with a = -1/2 on half the coordinate. */
static double half_weight(double d)
{
    d = fabs(d) / 2;
    return d <= 1 ? 1.5 * d * d * d - 2.5 * d * d + 1 : d < 2 ? -0.5 * d * d * d + 2.5 * d * d - 4 * d + 2 : 0;
}

static double half_at(const double *p, int w, int h, int x, int y)
{
    double sum = 0, total = 0;
    for (int j = -4; j <= 5; j++)
        for (int i = -4; i <= 5; i++) {
            double weight = half_weight(i - 0.5) * half_weight(j - 0.5);
            int a = 2 * x + i, b = 2 * y + j;
            a = a < 0 ? -1 - a : a < w ? a : 2 * w - 1 - a;
            b = b < 0 ? -1 - b : b < h ? b : 2 * h - 1 - b;
            sum += weight * p[b * w + a];
            total += weight;
        }
    return sum / total;
}

/* A step of alpha is 0.001, and rounding may choose the one beside; the others follow alpha. */
static const double FEATURE = 0.0021;

static void test_features(void **unused)
{
    (void)unused;
    enum { W = 192, H = 96 };
    float *luma = malloc((W + 5) * (H + 3) * sizeof *luma);
    double *p = malloc(W * H * sizeof *p), *half = malloc(W * H / 4 * sizeof *half);
    uint32_t state = 4;
    for (int y = 0; y < H + 3; y++)
        for (int x = 0; x < W + 5; x++)
            luma[y * (W + 5) + x] = (float)round(255 * texture(x, y, 0) + 20 * (next_uniform(&state) - 0.5) * (x > 90));
    for (int i = 0; i < W * H; i++)
        p[i] = (double)luma[i / W * (W + 5) + i % W];
    for (int i = 0; i < W * H / 4; i++)
        half[i] = half_at(p, W, H, i % (W / 2), i / (W / 2));
    niqe_blocks blocks, again;
    oas_pool *pool = NULL;
    assert_int_equal(oas_pool_new(&pool, 3, NULL), OASIS_OK);
    assert_int_equal(oas_niqe_blocks_new(&blocks, NULL, luma, W + 5, H + 3, NULL), OASIS_OK);
    assert_int_equal(oas_niqe_blocks_new(&again, pool, luma, W + 5, H + 3, NULL), OASIS_OK);
    assert_int_equal(blocks.n, 2);
    assert_memory_equal(blocks.features, again.features, 2 * sizeof *blocks.features);
    for (int b = 0; b < 2; b++) {
        double want[N];
        features_of(p, W, H, b, 96, want);
        features_of(half, W / 2, H / 2, b, 48, want + 18);
        for (int i = 0; i < N; i++)
            if (!(fabs(want[i] - blocks.features[b][i]) <= FEATURE))
                fail_msg("block %d, feature %d: %g, expected %g", b, i, blocks.features[b][i], want[i]);
    }
    assert_true(blocks.sharpness[1] > blocks.sharpness[0] + 1); /* the one with noise */
    assert_true(fabs(blocks.features[0][0] - blocks.features[1][0]) > 10 * FEATURE);
    oas_niqe_blocks_free(&blocks);
    oas_niqe_blocks_free(&again);
    oas_pool_free(&pool);
    free(luma);
    free(p);
    free(half);
}

/* ---- fitting and distance ---------------------------------------------------------------------------------------- */

static void test_distance(void **unused)
{
    (void)unused;
    static niqe_model a, b;
    double want = 0;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    /* Diagonal: a weighted length.  The last direction has no variance, and does not count. */
    for (int i = 0; i < N; i++) {
        a.mean[i] = 0.1 * i;
        b.mean[i] = 1 - 0.05 * i;
        a.covariance[i][i] = i + 1 < N ? 1 + i : 0;
        b.covariance[i][i] = i + 1 < N ? 3 : 0;
        want += i + 1 < N ? pow(a.mean[i] - b.mean[i], 2) / ((4. + i) / 2) : 0;
    }
    assert_true(fabs(oas_niqe_distance(&a, &b) - sqrt(want)) < 1e-12);
    assert_true(oas_niqe_distance(&a, &a) < 1e-15);
    /* Turned by orthogonal vectors (a reflection), the distance stays. */
    double u[N], length = 0;
    static niqe_model c, d;
    for (int i = 0; i < N; i++)
        length += pow(u[i] = sin(i + 1.), 2);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double rij = (i == j) - 2 * u[i] * u[j] / length;
            c.mean[i] += rij * a.mean[j];
            d.mean[i] += rij * b.mean[j];
            for (int k = 0; k < N; k++) {
                double rkj = (k == j) - 2 * u[k] * u[j] / length;
                c.covariance[i][k] += rij * a.covariance[j][j] * rkj;
                d.covariance[i][k] += rij * b.covariance[j][j] * rkj;
            }
        }
    assert_true(fabs(oas_niqe_distance(&c, &d) - sqrt(want)) < 1e-6);
}

static void test_fit(void **unused)
{
    (void)unused;
    double f[4][N];
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < N; i++)
            f[k][i] = (k < 2 ? k : 5) + i;
    f[3][7] = NAN;
    static niqe_model m;
    assert_true(oas_niqe_fit(&m, (const double(*)[OAS_NIQE_FEATURES])f, NULL, 4));
    assert_true(fabs(m.mean[0] - 11. / 4) < 1e-12);
    assert_true(fabs(m.mean[7] - (6. / 3 + 7)) < 1e-12); /* without the one that is no number */
    assert_true(fabs(m.covariance[3][5] - 7) < 1e-12);   /* of 0, 1 and 5: the variance is 7 */
    const double weight[4] = {1, 1, 0, 0};
    assert_true(oas_niqe_fit(&m, (const double(*)[OAS_NIQE_FEATURES])f, weight, 4));
    assert_true(fabs(m.covariance[3][5] - 0.5) < 1e-12);
    assert_true(oas_niqe_fit(&m, (const double(*)[OAS_NIQE_FEATURES])f, NULL, 1));
    assert_true(m.covariance[0][0] == 0);
    assert_false(oas_niqe_fit(&m, (const double(*)[OAS_NIQE_FEATURES])f + 3, NULL, 1));
}

/* ---- models ------------------------------------------------------------------------------------------------------ */

static size_t put(unsigned char *out, uint64_t value, int n)
{
    for (int i = 0; i < n; i++)
        out[i] = (unsigned char)(i < 8 ? value >> (8 * i) : 0);
    return (size_t)n;
}

static size_t put_entry(unsigned char *out, const char *name, int n, double scale)
{
    static const char header[] = "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 36), }\n";
    size_t packed = 10 + sizeof header - 1 + (size_t)n * 8, at = 0;
    at += put(out, 0x04034b50, 4);
    at += put(out + at, 20, 2);
    at += put(out + at, 0, 12); /* flags, method, time, date, sum (not looked at) */
    at += put(out + at, packed, 4);
    at += put(out + at, packed, 4);
    at += put(out + at, strlen(name), 2);
    at += put(out + at, 0, 2);
    memcpy(out + at, name, strlen(name));
    at += strlen(name);
    memcpy(out + at, "\x93NUMPY\x01\x00", 8);
    at += 8;
    at += put(out + at, sizeof header - 1, 2);
    memcpy(out + at, header, sizeof header - 1);
    at += sizeof header - 1;
    for (int i = 0; i < n; i++) {
        double v = scale * i;
        uint64_t bits;
        memcpy(&bits, &v, 8);
        at += put(out + at, bits, 8);
    }
    return at;
}

static oasis_status read_bytes(niqe_model *m, const unsigned char *bytes, size_t n, oasis_message *why)
{
    char path[] = "/tmp/oasis-niqe-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    close(fd);
    oasis_status s = oas_niqe_read_model(m, path, why);
    unlink(path);
    return s;
}

static void test_file(void **unused)
{
    (void)unused;
    static unsigned char file[20000], changed[20000];
    static niqe_model m;
    oasis_message why = {""};
    size_t n = put_entry(file, "mu_pris_param.npy", N, 0.5);
    size_t second = n;
    n += put_entry(file + n, "cov_pris_param.npy", N * N, 0.25);
    assert_int_equal(read_bytes(&m, file, n, &why), OASIS_OK);
    assert_true(m.mean[35] == 17.5 && m.covariance[1][0] == 9);
    for (size_t cut = 0; cut < n; cut += cut < 200 || cut + 200 > n ? 1 : 97)
        assert_int_equal(read_bytes(&m, file, cut, &why), OASIS_E_FORMAT);
    /* Any one byte of the headers changed: a model or a refusal, never anything else. */
    for (size_t at = 0; at < second + 130; at++) {
        memcpy(changed, file, n);
        changed[at] ^= 0xff;
        oasis_status s = read_bytes(&m, changed, n, &why);
        assert_true(s == OASIS_OK || s == OASIS_E_FORMAT);
    }
    memset(file + second - 8, 0xff, 8); /* not a number */
    assert_int_equal(read_bytes(&m, file, n, &why), OASIS_E_FORMAT);
    assert_non_null(strstr(why.text, "not a NIQE model"));
    assert_int_equal(oas_niqe_read_model(&m, "/nowhere/model.npz", &why), OASIS_E_IO);
}

static void test_own_model(void **unused)
{
    (void)unused;
    static niqe_model m;
    oas_niqe_own_model(&m);
    for (int i = 0; i < N; i++) {
        assert_true(m.covariance[i][i] > 0);
        for (int j = 0; j < N; j++)
            assert_true(m.covariance[i][j] == m.covariance[j][i] &&
                        fabs(m.covariance[i][j]) <= sqrt(m.covariance[i][i] * m.covariance[j][j]));
    }
    assert_true(m.mean[0] > 1.5 && m.mean[0] < 4); /* alpha of natural pictures */
}

/* The metric: frames with two blocks and more; the note says whose model it is; flat frames have no value. */
static void test_metric(void **unused)
{
    (void)unused;
    oasis_metrics_options o;
    oasis_metrics *m = NULL;
    oasis_metric_result r;
    oasis_metrics_options_init(&o);
    o.names = "niqe_own";
    assert_int_equal(oasis_metrics_open(&m, &o, 200, 200, false, NULL), OASIS_OK);
    oasis_frame a = textured(200, 200, 0, 0);
    assert_int_equal(oasis_metrics_push(m, &a, NULL), OASIS_OK);
    oasis_metrics_result(m, 0, &r);
    assert_true(isfinite(r.mean) && r.mean > 3); /* sines are no photograph */
    assert_non_null(strstr(r.note, "own model"));
    memset(a.rgb, 0, 200 * 200 * 3 * sizeof *a.rgb);
    assert_int_equal(oasis_metrics_push(m, &a, NULL), OASIS_OK);
    oasis_metrics_result(m, 0, &r);
    assert_int_equal(r.count, 1);
    assert_true(isnan(r.last));
    oasis_metrics_close(&m);
    oasis_frame_free(&a);
    oasis_message why = {""};
    o.names = "niqe";
    assert_int_equal(oasis_metrics_open(&m, &o, 200, 200, false, &why), OASIS_E_ARGUMENT);
    o.niqe = "/nowhere/model.npz";
    assert_int_equal(oasis_metrics_open(&m, &o, 200, 200, false, &why), OASIS_E_IO);
    assert_null(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_features), cmocka_unit_test(test_distance),  cmocka_unit_test(test_fit),
        cmocka_unit_test(test_file),     cmocka_unit_test(test_own_model), cmocka_unit_test(test_metric),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
