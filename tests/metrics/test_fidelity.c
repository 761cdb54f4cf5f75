/* PSNR, SSIM and MS-SSIM against closed forms and against their formulas written out. */
#include "metrics/clips.h"

#include <oasis/metrics.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Sums in double; frames are float multiples of 1/255, each good to 3e-8. */
static const double TIGHT = 1e-5;

static double value_of(const char *name, const oasis_frame *a, const oasis_frame *b, int threads, int border)
{
    oasis_metrics_options o;
    oasis_metrics *m = NULL;
    oasis_message why = {""};
    oasis_metric_result r;
    oasis_metrics_options_init(&o);
    o.names = name;
    o.threads = threads;
    o.border = border;
    if (oasis_metrics_open(&m, &o, a->width, a->height, true, &why) != OASIS_OK)
        fail_msg("%s", why.text);
    assert_int_equal(oasis_metrics_push(m, a, b), OASIS_OK);
    assert_int_equal(oasis_metrics_count(m), 1);
    oasis_metrics_result(m, 0, &r);
    assert_string_equal(r.info->name, name);
    assert_int_equal(r.count, 1);
    assert_true(r.mean == r.last);
    oasis_metrics_close(&m);
    return r.mean;
}

static void add(oasis_frame *f, int c, double bytes)
{
    for (int i = 0; i < f->width * f->height; i++)
        f->rgb[i * 3 + c] += (float)(bytes / 255);
}

/* All values `bytes` off: MSE = (bytes/255)^2. */
static void test_psnr(void **unused)
{
    (void)unused;
    oasis_frame a = textured(31, 23, 0, 0), b = textured(31, 23, 0, 0);
    assert_true(fabs(value_of("psnr_rgb", &a, &b, 1, 0) - 80) < TIGHT);
    assert_true(fabs(value_of("psnr_luma", &a, &b, 1, 0) - 80) < TIGHT);
    for (int c = 0; c < 3; c++)
        add(&b, c, 5);
    double grey = 20 * log10(255. / 5), limited = 20 * log10(255. / 5 * 255 / 219);
    assert_true(fabs(value_of("psnr_rgb", &a, &b, 1, 0) - grey) < 1e-3);
    assert_true(fabs(value_of("psnr_luma", &a, &b, 1, 0) - grey) < 1e-3);
    assert_true(fabs(value_of("psnr_y601", &a, &b, 1, 0) - limited) < 1e-3);
    assert_true(limited - grey > 1.3);
    for (int c = 0; c < 3; c++)
        add(&b, c, -5);
    add(&b, 1, 7); /* green alone: a third of the error in RGB, 0.587 of it in luma */
    assert_true(fabs(value_of("psnr_rgb", &a, &b, 1, 0) - 10 * log10(3 * 255. * 255 / 49)) < 1e-3);
    assert_true(fabs(value_of("psnr_luma", &a, &b, 1, 0) - 20 * log10(255. / 7 / 0.587)) < 1e-3);
    oasis_frame_free(&a);
    oasis_frame_free(&b);
}

/* What lies beyond [0, 1] or between two levels is rounded first; a border is left out. */
static void test_rounding(void **unused)
{
    (void)unused;
    oasis_frame a = random_frame(20, 20, 1), b = random_frame(20, 20, 1);
    for (int i = 0; i < 20 * 20 * 3; i++) {
        float byte = b.rgb[i] * 255;
        b.rgb[i] = byte < 0.5f ? -3.f : byte > 254.5f ? 4.f : (byte + (i % 2 ? 0.4f : -0.4f)) / 255;
    }
    assert_true(fabs(value_of("psnr_rgb", &a, &b, 1, 0) - 80) < TIGHT);
    b.rgb[5 * 3] = 1 - b.rgb[5 * 3]; /* in the first row */
    assert_true(value_of("psnr_rgb", &a, &b, 1, 0) < 60);
    assert_true(fabs(value_of("psnr_rgb", &a, &b, 1, 1) - 80) < TIGHT);
    oasis_frame_free(&a);
    oasis_frame_free(&b);
}

/* ---- SSIM written out -------------------------------------------------------------------------------------------- */

typedef struct plane {
    int width, height;
    double *v;
} plane;

static plane luma_of(const oasis_frame *f)
{
    plane p = {f->width, f->height, malloc((size_t)(f->width * f->height) * sizeof(double))};
    for (int i = 0; i < f->width * f->height; i++) {
        const float *c = f->rgb + 3 * i;
        double r = round(255 * (double)c[0]), g = round(255 * (double)c[1]), b = round(255 * (double)c[2]);
        p.v[i] = round(0.299 * r + 0.587 * g + 0.114 * b);
    }
    return p;
}

static plane channel_of(const oasis_frame *f, int c)
{
    plane p = {f->width, f->height, malloc((size_t)(f->width * f->height) * sizeof(double))};
    for (int i = 0; i < f->width * f->height; i++)
        p.v[i] = round(255 * (double)f->rgb[3 * i + c]);
    return p;
}

/* Two-dimensional window, moments about their means: another way to the same numbers. */
static double direct_ssim(const plane *a, const plane *b, double *cs_mean, double sigma)
{
    double window[121], total = 0, ssim = 0, cs_sum = 0;
    for (int i = 0; i < 121; i++)
        total += window[i] = exp(-(pow(i % 11 - 5, 2) + pow(i / 11 - 5, 2)) / (2 * sigma * sigma));
    int n = 0;
    for (int y = 0; y + 11 <= a->height; y++)
        for (int x = 0; x + 11 <= a->width; x++, n++) {
            double ma = 0, mb = 0, aa = 0, bb = 0, ab = 0;
            for (int i = 0; i < 121; i++) {
                int at = (y + i / 11) * a->width + x + i % 11;
                ma += window[i] / total * a->v[at];
                mb += window[i] / total * b->v[at];
            }
            for (int i = 0; i < 121; i++) {
                int at = (y + i / 11) * a->width + x + i % 11;
                double da = a->v[at] - ma, db = b->v[at] - mb;
                aa += window[i] / total * da * da;
                bb += window[i] / total * db * db;
                ab += window[i] / total * da * db;
            }
            double cs = fmax(0, (2 * ab + 58.5225) / (aa + bb + 58.5225));
            cs_sum += cs;
            ssim += cs * (2 * ma * mb + 6.5025) / (ma * ma + mb * mb + 6.5025);
        }
    *cs_mean = cs_sum / n;
    return ssim / n;
}

/* Padding by one zero on either side of an odd length, windows of two, counted as four pixels always. */
static plane pooled(const plane *p)
{
    int ow = p->width % 2, oh = p->height % 2;
    plane out = {(p->width + 2 * ow) / 2, (p->height + 2 * oh) / 2, NULL};
    out.v = calloc((size_t)(out.width * out.height), sizeof(double));
    for (int y = 0; y < p->height; y++)
        for (int x = 0; x < p->width; x++)
            if ((x + ow) / 2 < out.width && (y + oh) / 2 < out.height)
                out.v[(y + oh) / 2 * out.width + (x + ow) / 2] += p->v[y * p->width + x] / 4;
    return out;
}

static void test_ssim(void **unused)
{
    (void)unused;
    static const int sizes[][2] = {{11, 11}, {12, 27}, {40, 33}};
    for (int i = 0; i < 3; i++) {
        oasis_frame a = textured(sizes[i][0], sizes[i][1], 0, 0), b = textured(sizes[i][0], sizes[i][1], 0.7, -0.4);
        plane pa = luma_of(&a), pb = luma_of(&b);
        double cs, want = direct_ssim(&pa, &pb, &cs, 1.5), mutated = direct_ssim(&pa, &pb, &cs, 1.3);
        double got = value_of("ssim", &a, &b, 1, 0);
        assert_true(fabs(got - want) < TIGHT);
        assert_true(i == 0 || fabs(got - mutated) > 5 * TIGHT);
        assert_true(got == value_of("ssim", &a, &b, 3, 0));
        assert_true(fabs(value_of("ssim", &a, &a, 1, 0) - 1) < TIGHT);
        double mean = 0;
        for (int c = 0; c < 3; c++) {
            plane ca = channel_of(&a, c), cb = channel_of(&b, c);
            mean += direct_ssim(&ca, &cb, &cs, 1.5) / 3;
            free(ca.v);
            free(cb.v);
        }
        assert_true(fabs(value_of("ssim_rgb", &a, &b, 1, 0) - mean) < TIGHT);
        free(pa.v);
        free(pb.v);
        oasis_frame_free(&a);
        oasis_frame_free(&b);
    }
    /* An inverted picture: structure is opposite, cs is clamped to 0. */
    oasis_frame a = random_frame(30, 30, 9), b = random_frame(30, 30, 9);
    for (int i = 0; i < 30 * 30 * 3; i++)
        b.rgb[i] = 1 - a.rgb[i];
    assert_true(value_of("ssim", &a, &b, 1, 0) >= 0 && value_of("ssim", &a, &b, 1, 0) < 1e-3);
    oasis_frame_free(&a);
    oasis_frame_free(&b);
}

static void test_ms_ssim(void **unused)
{
    (void)unused;
    static const double power[5] = {0.0448, 0.2856, 0.3001, 0.2363, 0.1333};
    oasis_frame a = textured(181, 176, 0, 0), b = textured(181, 176, 1.3, 0.5);
    plane pa = luma_of(&a), pb = luma_of(&b);
    double want = 1;
    for (int s = 0; s < 5; s++) {
        double cs, ssim = direct_ssim(&pa, &pb, &cs, 1.5);
        want *= pow(s < 4 ? cs : ssim, power[s]);
        plane na = pooled(&pa), nb = pooled(&pb);
        free(pa.v);
        free(pb.v);
        pa = na;
        pb = nb;
    }
    assert_true(fabs(value_of("ms_ssim", &a, &b, 2, 0) - want) < TIGHT);
    assert_true(want > 0.05 && want < 0.95);
    free(pa.v);
    free(pb.v);
    oasis_frame_free(&a);
    oasis_frame_free(&b);
}

/* A slope of 2 levels to the right and 1 down has the gradient sqrt(5) everywhere. */
static void test_sharpness(void **unused)
{
    (void)unused;
    oasis_frame a = textured(20, 30, 0, 0);
    for (int i = 0; i < 20 * 30 * 3; i++)
        a.rgb[i] = (float)(10 + 2 * (i / 3 % 20) + i / 60) / 255;
    assert_true(fabs(value_of("sharpness", &a, &a, 1, 0) - sqrt(5)) < TIGHT);
    oasis_frame_free(&a);
}

/* ---- the session ------------------------------------------------------------------------------------------------- */

static void test_means(void **unused)
{
    (void)unused;
    oasis_metrics_options o;
    oasis_metrics *m = NULL;
    oasis_metrics_options_init(&o);
    o.names = "psnr_rgb,sharpness,psnr_rgb";
    oasis_frame a = textured(16, 16, 0, 0), b = textured(16, 16, 0, 0);
    for (int c = 0; c < 3; c++)
        add(&b, c, 5);
    assert_int_equal(oasis_metrics_open(&m, &o, 16, 16, true, NULL), OASIS_OK);
    assert_int_equal(oasis_metrics_count(m), 2); /* named twice, measured once */
    oasis_metric_result r;
    oasis_metrics_result(m, 0, &r);
    assert_true(isnan(r.mean) && r.count == 0);
    assert_int_equal(oasis_metrics_push(m, &a, &b), OASIS_OK);
    assert_int_equal(oasis_metrics_push(m, &a, &a), OASIS_OK);
    oasis_metrics_result(m, 0, &r);
    assert_int_equal(r.count, 2);
    assert_true(fabs(r.mean - (80 + 20 * log10(51)) / 2) < 1e-3); /* the mean of dB, not the dB of a mean */
    assert_int_equal(oasis_metrics_push(m, &a, NULL), OASIS_E_ARGUMENT);
    assert_non_null(strstr(oasis_metrics_message(m), "reference"));
    oasis_metrics_close(&m);
    assert_null(m);
    oasis_frame_free(&a);
    oasis_frame_free(&b);
}

static void test_refusals(void **unused)
{
    (void)unused;
    static const struct {
        const char *names, *says;
        int width, border;
        bool reference;
    } cases[] = {
        {"psnr", "there is no metric \"psnr\"; there are psnr_rgb", 64, 0, true},
        {"psnr_rgb,", NULL, 64, 0, true},
        {"psnr_rgb,,ssim", "there is no metric \"\"", 64, 0, true},
        {"ssim", "needs a reference", 64, 0, false},
        {"ms_ssim", "larger frames", 175, 0, true},
        {"all", "leave nothing", 64, 40, true},
        {"all", "leave nothing", 0, 0, true},
        {"all", NULL, 1, 0, true},
        {NULL, NULL, 64, 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oasis_metrics_options o;
        oasis_metrics *m = NULL;
        oasis_message why = {""};
        oasis_metrics_options_init(&o);
        o.names = cases[i].names;
        o.border = cases[i].border;
        oasis_status s = oasis_metrics_open(&m, &o, cases[i].width, cases[i].width, cases[i].reference, &why);
        if (!cases[i].says) {
            assert_int_equal(s, OASIS_OK);
            oasis_metrics_close(&m);
            continue;
        }
        assert_int_equal(s, OASIS_E_ARGUMENT);
        assert_null(m);
        if (!strstr(why.text, cases[i].says))
            fail_msg("case %zu: %s", i, why.text);
    }
    for (int i = 0; oasis_metric_at(i); i++)
        assert_true(strlen(oasis_metric_at(i)->label) > 0);
    assert_null(oasis_metric_at(-1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_psnr),     cmocka_unit_test(test_rounding),  cmocka_unit_test(test_ssim),
        cmocka_unit_test(test_ms_ssim),  cmocka_unit_test(test_sharpness), cmocka_unit_test(test_means),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
