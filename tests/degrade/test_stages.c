/* Each family of degradations on its own, by what its numbers must do to a picture. */
#include "degrade/stage.h"

#include "base/memory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OAS_DEGRADATION(name) extern const degradation oas_degradation_##name;
#include "degrade/degradations.def"
#undef OAS_DEGRADATION

static oasis_degrade_options options;

static int setup(void **unused)
{
    (void)unused;
    oasis_degrade_options_init(&options);
    options.fast_video = true;
    return 0;
}

static bool notes(const stage *s, const char *name, const char *text)
{
    for (int i = 0; i < s->n_notes; i++)
        if (!strcmp(s->notes[i].name, name) && s->notes[i].text && !strcmp(s->notes[i].text, text))
            return true;
    return false;
}

/* A stage of that kind whose draw took these choices: the first seed from which it does. */
static void drawn(stage *s, const degradation *kind, int place, const char *name, const char *text, const char *name2,
                  const char *text2)
{
    for (options.seed = 1; options.seed < 1000; options.seed++) {
        *s = (stage){.kind = kind, .place = place, .active = true, .id = 1, .options = &options};
        s->out_width = 20;
        s->out_height = 14;
        s->rng = oas_rng_at((uint64_t)options.seed, 1, 0, 0);
        assert_int_equal(kind->draw(s, NULL), OASIS_OK);
        if (s->active && (!name || notes(s, name, text)) && (!name2 || notes(s, name2, text2)))
            return;
        oas_stage_free(s);
    }
    fail_msg("no seed gives %s %s", kind->name, text);
}

static picture flat(int width, int height, float r, float g, float b)
{
    picture p = {0};
    assert_int_equal(oas_picture_size(&p, width, height, NULL), OASIS_OK);
    for (int i = 0; i < width * height * 3; i++)
        p.rgb[i] = i % 3 == 0 ? r : i % 3 == 1 ? g : b;
    return p;
}

/* Smooth waves with some detail. */
static picture waves(int width, int height, int frame)
{
    picture p = flat(width, height, 0, 0, 0);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++) {
                double v = sin((x + frame) * 0.21 + c) * cos(y * 0.13 - c) * 0.3 + sin((x - y) * 1.1) * 0.1;
                p.rgb[(y * width + x) * 3 + c] = (float)(0.5 + v);
            }
    return p;
}

static double psnr(const picture *a, const picture *b)
{
    double sum = 0;
    assert_true(a->width == b->width && a->height == b->height);
    int n = a->width * a->height * 3;
    for (int i = 0; i < n; i++)
        sum += pow((double)a->rgb[i] - (double)b->rgb[i], 2);
    return 10 * log10(n / sum);
}

/* ---- noise ------------------------------------------------------------------------------------------------------- */

struct moments {
    double mean[3], deviation[3], together; /* together: correlation of red and blue */
};

static struct moments moments_of(stage *s, const picture *in, picture *out)
{
    struct moments m = {0};
    int n = in->width * in->height;
    assert_int_equal(s->kind->apply(s, in, out, NULL), OASIS_OK);
    assert_int_equal(oas_stage_step(s, NULL), OASIS_OK);
    double e[3];
    for (int i = 0; i < n; i++) {
        for (int c = 0; c < 3; c++) {
            e[c] = (double)out->rgb[i * 3 + c] - (double)in->rgb[i * 3 + c];
            m.mean[c] += e[c] / n;
            m.deviation[c] += e[c] * e[c] / n;
        }
        m.together += e[0] * e[2] / n;
    }
    for (int c = 0; c < 3; c++)
        m.deviation[c] = sqrt(m.deviation[c]);
    m.together /= m.deviation[0] * m.deviation[2];
    return m;
}

/* 40000 samples: a deviation is known to 0.35 %, a mean to 0.5 % of it; five times that. */
enum { SIDE = 200 };
static const double MOMENT = 0.025;

static void test_gaussian(void **unused)
{
    (void)unused;
    for (int grey = 0; grey < 2; grey++) {
        stage s;
        drawn(&s, &oas_degradation_noise, OAS_FIRST, "kind", "gaussian", "channels", grey ? "grey" : "colour");
        assert_true(s.walks[0].value >= 1 && s.walks[0].value <= 30);
        s.walks[0].value = 10;
        picture in = flat(SIDE, SIDE, 0.2f, 0.5f, 0.8f), out = {0}, second = {0};
        struct moments m = moments_of(&s, &in, &out);
        for (int c = 0; c < 3; c++) {
            assert_true(fabs(m.deviation[c] / (10. / 255) - 1) < MOMENT);
            assert_true(fabs(m.mean[c]) < MOMENT * m.deviation[c]);
        }
        assert_true(grey ? m.together > 0.999 : fabs(m.together) < MOMENT);
        /* another frame, other noise */
        moments_of(&s, &in, &second);
        assert_memory_not_equal(out.rgb, second.rgb, SIDE * 3 * sizeof(float));
        oas_picture_free(&in);
        oas_picture_free(&out);
        oas_picture_free(&second);
        oas_stage_free(&s);
    }
}

/* A picture with all 256 levels: v = 256, and the variance at level l is scale^2 * (l/255) / 256. */
static void test_poisson(void **unused)
{
    (void)unused;
    for (int byte = 0; byte < 2; byte++) {
        stage s;
        options.poisson = byte ? OASIS_POISSON_BYTE : OASIS_POISSON_UNIT;
        drawn(&s, &oas_degradation_noise, OAS_SECOND, "kind", "poisson", "channels", "colour");
        s.walks[0].value = 2;
        picture in = flat(SIDE, SIDE, 51 / 255.f, 128 / 255.f, 1), out = {0};
        struct moments m;
        for (int l = 0; l < 256; l++) /* levels are counted over the whole picture */
            in.rgb[l * 3] = (float)l / 255;
        m = moments_of(&s, &in, &out);
        static const double level[3] = {51, 128, 255};
        for (int c = 1; c < 3; c++) {
            double want = byte ? 2 * sqrt(level[c] / 256) / 255 : 2 * sqrt(level[c] / 255 / 256);
            assert_true(fabs(m.deviation[c] / want - 1) < MOMENT);
            assert_true(fabs(m.mean[c]) < MOMENT * want);
        }
        oas_picture_free(&in);
        /* A flat grey picture has one level (three equal channels): v = 1, and P(x) takes 0, 1, 2, ... */
        in = flat(SIDE, SIDE, 0.4f, 0.4f, 0.4f);
        m = moments_of(&s, &in, &out);
        for (int c = 0; c < 3; c++) {
            double want = byte ? 2 * sqrt(102) / 255 : 2 * sqrt(0.4);
            assert_true(fabs(m.deviation[c] / want - 1) < MOMENT);
        }
        oas_picture_free(&in);
        oas_picture_free(&out);
        oas_stage_free(&s);
    }
}

/* ---- the others -------------------------------------------------------------------------------------------------- */

static void test_jpeg(void **unused)
{
    (void)unused;
    static const int sizes[][2] = {{64, 48}, {1, 1}, {17, 9}};
    for (int i = 0; i < 3; i++) {
        picture in = waves(sizes[i][0], sizes[i][1], 0), good = {0}, bad = {0};
        in.rgb[0] = -0.5f; /* clamped, not wrapped */
        in.rgb[1] = 1.5f;
        stage s;
        drawn(&s, &oas_degradation_jpeg, OAS_FIRST, NULL, NULL, NULL, NULL);
        assert_true(s.walks[0].value >= 30 && s.walks[0].value <= 95);
        s.walks[0].value = 95;
        assert_int_equal(s.kind->apply(&s, &in, &good, NULL), OASIS_OK);
        s.walks[0].value = 30;
        assert_int_equal(s.kind->apply(&s, &in, &bad, NULL), OASIS_OK);
        in.rgb[0] = 0;
        in.rgb[1] = 1;
        if (i == 0) {
            assert_true(psnr(&in, &good) > 30);
            assert_true(psnr(&in, &good) > psnr(&in, &bad) + 3);
        }
        oas_picture_free(&in);
        oas_picture_free(&good);
        oas_picture_free(&bad);
        oas_stage_free(&s);
    }
}

static void test_resize(void **unused)
{
    (void)unused;
    stage s;
    drawn(&s, &oas_degradation_resize, OAS_FIRST, "filter", "area", NULL, NULL);
    picture in = waves(50, 31, 0), out = {0};
    static const struct {
        double factor;
        int width, height;
    } cases[] = {{0.5, 24, 14}, {1.5, 74, 46}, {0.15, 6, 4}, {0.01, 2, 2}};
    for (int i = 0; i < 4; i++) {
        s.walks[0].value = cases[i].factor;
        assert_int_equal(s.kind->apply(&s, &in, &out, NULL), OASIS_OK);
        assert_int_equal(out.width, cases[i].width);
        assert_int_equal(out.height, cases[i].height);
    }
    oas_stage_free(&s);
    drawn(&s, &oas_degradation_fit, OAS_LAST, "filter", "bicubic", NULL, NULL);
    assert_int_equal(s.kind->apply(&s, &in, &out, NULL), OASIS_OK);
    assert_int_equal(out.width, 20);
    assert_int_equal(out.height, 14);
    oas_picture_free(&in);
    oas_picture_free(&out);
    oas_stage_free(&s);
}

/* Frames through a codec stage; returns the mean PSNR.  Every frame must come back, in its size and in order. */
static double through_codec(const char *encoder, int width, int height, int frames, double bits)
{
    stage s;
    drawn(&s, &oas_degradation_video, OAS_FIRST, "encoder", encoder, NULL, NULL);
    assert_true(s.walks[0].value >= 1e4 && s.walks[0].value <= 1e5);
    s.walks[0].value = bits;
    int back = 0;
    double sum = 0;
    for (int i = 0; i <= frames; i++) {
        picture in = waves(width, height, i), out = {0};
        assert_int_equal(s.kind->push(&s, i < frames ? &in : NULL, NULL), OASIS_OK);
        oas_picture_free(&in);
        oasis_status status;
        while ((status = s.kind->pull(&s, &out, NULL)) == OASIS_OK) {
            assert_true(out.width == width && out.height == height);
            picture truth = waves(width, height, back++);
            sum += psnr(&truth, &out) / frames;
            oas_picture_free(&truth);
            oas_picture_free(&out);
        }
        assert_int_equal(status, i < frames ? OASIS_AGAIN : OASIS_END);
    }
    assert_int_equal(back, frames);
    oas_stage_free(&s);
    return sum;
}

static void test_video(void **unused)
{
    (void)unused;
    static const char *const encoders[] = {"libx264", "mpeg4"};
    static const double best[] = {50, 45}; /* a codec that loses less does not degrade */
    for (int e = 0; e < 2; e++) {
        double good = through_codec(encoders[e], 96, 64, 6, 1e6), bad = through_codec(encoders[e], 96, 64, 6, 1e3);
        assert_true(good > 30 && good < best[e]);
        assert_true(good > bad + (e == 0 ? 3 : 0)); /* at 1 frame a second mpeg4's rate control hardly listens */
        through_codec(encoders[e], 1, 1, 3, 1e4);
        through_codec(encoders[e], 51, 37, 1, 1e4);
    }
}

static double mean(const picture *p)
{
    double sum = 0;
    int64_t n = (int64_t)p->width * p->height * 3;
    for (int64_t i = 0; i < n; i++)
        sum += (double)p->rgb[i];
    return sum / (double)n;
}

/* A codec leaves the brightness as it is: rounding down on the way back would make everything 0.007 darker. */
static void test_video_brightness(void **unused)
{
    (void)unused;
    static const double tolerance = 0.002; /* half of an 8-bit step */
    stage s;
    drawn(&s, &oas_degradation_video, OAS_FIRST, "encoder", "libx264", NULL, NULL);
    s.walks[0].value = 1e6;
    double before = 0, after = 0;
    for (int i = 0; i <= 4; i++) {
        picture in = waves(96, 64, i), out = {0};
        before += i < 4 ? mean(&in) / 4 : 0;
        assert_int_equal(s.kind->push(&s, i < 4 ? &in : NULL, NULL), OASIS_OK);
        oas_picture_free(&in);
        while (s.kind->pull(&s, &out, NULL) == OASIS_OK) {
            after += mean(&out) / 4;
            oas_picture_free(&out);
        }
    }
    assert_float_equal(after, before, tolerance);
    oas_stage_free(&s);
}

/* Frames that walked to another size are brought to the first one's. */
static void test_video_sizes(void **unused)
{
    (void)unused;
    stage s;
    drawn(&s, &oas_degradation_video, OAS_FIRST, NULL, NULL, NULL, NULL);
    picture a = waves(40, 30, 0), b = waves(44, 34, 0), out = {0};
    assert_int_equal(s.kind->push(&s, &a, NULL), OASIS_OK);
    assert_int_equal(s.kind->push(&s, &b, NULL), OASIS_OK);
    assert_int_equal(s.kind->push(&s, NULL, NULL), OASIS_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(s.kind->pull(&s, &out, NULL), OASIS_OK);
        assert_true(out.width == 40 && out.height == 30);
    }
    oas_picture_free(&a);
    oas_picture_free(&b);
    oas_picture_free(&out);
    oas_stage_free(&s);
}

/* ---- walks ------------------------------------------------------------------------------------------------------- */

static void test_walks(void **unused)
{
    (void)unused;
    for (int k = 0; k <= 2; k++) {
        options.temporal_step = k;
        stage s = {.active = true, .id = 9, .options = &options, .rng = oas_rng_at(5, 9, 0, 0)};
        int w = oas_stage_walk(&s, "value", 2, 3, 0.25);
        double before = s.walks[w].value, moved = 0;
        assert_true(before >= 2 && before <= 3);
        for (int i = 0; i < 500; i++) {
            assert_int_equal(oas_stage_step(&s, NULL), OASIS_OK);
            double now = s.walks[w].value;
            assert_true(now >= 2 && now <= 3 && fabs(now - before) <= 0.25 * k);
            moved = fmax(moved, fabs(now - before));
            if (k)
                assert_true(s.walks[w].past[i] == before);
            before = now;
        }
        assert_true(k ? moved > 0.24 * k : moved == 0);
        assert_int_equal(s.walks[w].n, k ? 500 : 0);
        oas_stage_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_gaussian, setup),
        cmocka_unit_test_setup(test_poisson, setup),
        cmocka_unit_test_setup(test_jpeg, setup),
        cmocka_unit_test_setup(test_resize, setup),
        cmocka_unit_test_setup(test_video, setup),
        cmocka_unit_test_setup(test_video_sizes, setup),
        cmocka_unit_test_setup(test_video_brightness, setup),
        cmocka_unit_test_setup(test_walks, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
