/* The whole pipeline through its public interface: bits, sizes, order of frames, what was drawn. */
#include <oasis/degrade.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

enum { W = 70, H = 51, FRAMES = 5 };

static void clip_new(oasis_frame frames[FRAMES], double noise)
{
    unsigned state = 12345;
    for (int i = 0; i < FRAMES; i++) {
        assert_int_equal(oasis_frame_new(&frames[i], W, H, i == 1), OASIS_OK);
        for (int k = 0; k < W * H * 3; k++) {
            state = state * 1664525u + 1013904223u;
            double x = k / 3 % W + i, y = k / 3 / W;
            frames[i].rgb[k] = (float)(0.5 + 0.3 * sin(x * 0.3) * cos(y * 0.2 + k % 3) +
                                       noise * ((double)(state >> 8) / 0x1p24 - 0.5));
        }
        frames[i].pts = 1000 + 40 * i;
        frames[i].duration = 40 + i;
        frames[i].opaque = &frames[i];
    }
}

static void clip_free(oasis_frame frames[FRAMES])
{
    for (int i = 0; i < FRAMES; i++)
        oasis_frame_free(&frames[i]);
}

static oasis_degrade_options options_of(int64_t seed, double step, int threads)
{
    oasis_degrade_options o;
    oasis_degrade_options_init(&o);
    o.seed = seed;
    o.temporal_step = step;
    o.threads = threads;
    o.fast_video = true;
    return o;
}

static bool same(const oasis_frame a[FRAMES], const oasis_frame b[FRAMES])
{
    for (int i = 0; i < FRAMES; i++)
        if (memcmp(a[i].rgb, b[i].rgb, (size_t)(a[i].width * a[i].height) * 3 * sizeof(float)) != 0)
            return false;
    return true;
}

/* The same seed gives the same bits, on one thread and three; another seed gives others. */
static void test_bits(void **unused)
{
    (void)unused;
    oasis_frame in[FRAMES], a[FRAMES], b[FRAMES], other[FRAMES];
    clip_new(in, 0.2);
    for (int64_t seed = 1; seed <= 12; seed++) {
        double step = seed % 2 ? 1 : 0;
        oasis_degrade_options one = options_of(seed, step, 1), three = options_of(seed, step, 3),
                              next = options_of(seed + 100, step, 1);
        assert_int_equal(oasis_degrade_clip(&one, in, FRAMES, a, NULL), OASIS_OK);
        assert_int_equal(oasis_degrade_clip(&three, in, FRAMES, b, NULL), OASIS_OK);
        assert_int_equal(oasis_degrade_clip(&next, in, FRAMES, other, NULL), OASIS_OK);
        assert_true(same(a, b));
        assert_false(same(a, other));
        for (int i = 0; i < FRAMES; i++) {
            assert_true(a[i].width == 18 && a[i].height == 13 && !a[i].alpha); /* 70 / 4 and 51 / 4, rounded */
            assert_true(a[i].pts == in[i].pts && a[i].duration == in[i].duration && a[i].opaque == in[i].opaque);
            for (int k = 0; k < 18 * 13 * 3; k++)
                assert_true(a[i].rgb[k] == roundf(a[i].rgb[k] * 255) / 255 && a[i].rgb[k] >= 0 && a[i].rgb[k] <= 1);
        }
        clip_free(a);
        clip_free(b);
        clip_free(other);
    }
    clip_free(in);
}

/* It is the input that is degraded: a mean brightness survives, and the frame order with it. */
static void test_content(void **unused)
{
    (void)unused;
    oasis_frame in[FRAMES], out[FRAMES];
    clip_new(in, 0);
    for (int i = 0; i < FRAMES; i++)
        for (int k = 0; k < W * H * 3; k++)
            in[i].rgb[k] = (float)(0.2 + 0.15 * i + 0.2 * ((k / 3 % W + 0.5) / W - 0.5)); /* many levels, few clipped */
    for (int64_t seed = 1; seed <= 6; seed++) {
        oasis_degrade_options o = options_of(seed, 1, 1);
        o.video = seed % 2 == 0;
        assert_int_equal(oasis_degrade_clip(&o, in, FRAMES, out, NULL), OASIS_OK);
        for (int i = 0; i < FRAMES; i++) {
            double mean = 0;
            int n = out[i].width * out[i].height * 3;
            for (int k = 0; k < n; k++)
                mean += (double)out[i].rgb[k] / n;
            assert_true(fabs(mean - (0.2 + 0.15 * i)) < 0.07); /* less than half the way to the next frame */
        }
        clip_free(out);
    }
    clip_free(in);
}

static json_t *params_of(oasis_degrader *d)
{
    char *text = oasis_degrader_params(d);
    assert_non_null(text);
    json_t *params = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(params);
    oasis_degrader_text_free(text);
    return params;
}

/* Scenes of the record: with K = 0 every value is a number, with K = 1 every walk has one value per frame. */
static void test_params(void **unused)
{
    (void)unused;
    oasis_frame in[FRAMES], out;
    clip_new(in, 0.1);
    for (int k = 0; k < 2; k++) {
        int walks = 0;
        for (int64_t seed = 1; seed <= 5; seed++) {
            oasis_degrade_options o = options_of(seed, k, 1);
            oasis_degrader *d = NULL;
            assert_int_equal(oasis_degrader_open(&d, &o, W, H, NULL), OASIS_OK);
            for (int i = 0; i <= FRAMES; i++) {
                assert_int_equal(oasis_degrader_send(d, i < FRAMES ? &in[i] : NULL), OASIS_OK);
                while (oasis_degrader_receive(d, &out) == OASIS_OK)
                    oasis_frame_free(&out);
            }
            assert_int_equal(oasis_degrader_receive(d, &out), OASIS_END);
            json_t *params = params_of(d);
            json_t *stages = json_object_get(params, "stages");
            assert_int_equal(json_integer_value(json_object_get(params, "seed")), seed);
            assert_int_equal(json_integer_value(json_object_get(params, "frames")), FRAMES);
            assert_int_equal(json_array_size(stages), 12);
            for (size_t i = 0; i < json_array_size(stages); i++) {
                const char *key;
                json_t *value;
                json_object_foreach(json_array_get(stages, i), key, value)
                {
                    if (json_is_array(value)) {
                        assert_int_equal(json_array_size(value), FRAMES);
                        walks++;
                    }
                }
            }
            json_decref(params);
            oasis_degrader_close(&d);
            assert_null(d);
        }
        assert_true(k ? walks > 10 : walks == 0);
    }
    clip_free(in);
}

/* ---- what is drawn ----------------------------------------------------------------------------------------------- */

struct tally {
    const char *stage, *order, *key, *text; /* key NULL: how often the stage is applied */
    double expected;
    int count, of;
};

static void count(struct tally *t, json_t *stage)
{
    if (strcmp(json_string_value(json_object_get(stage, "stage")), t->stage) != 0 ||
        strcmp(json_string_value(json_object_get(stage, "order")), t->order) != 0)
        return;
    bool applied = json_is_true(json_object_get(stage, "applied"));
    if (!t->key) {
        t->of++;
        t->count += applied;
    } else if (applied) {
        t->of++;
        t->count += !strcmp(json_string_value(json_object_get(stage, t->key)), t->text);
    }
}

static void in_range(json_t *stage, const char *name, const char *key, double low, double high)
{
    json_t *value = json_object_get(stage, key);
    if (value && strcmp(json_string_value(json_object_get(stage, "stage")), name) == 0)
        assert_true(json_number_value(value) >= low && json_number_value(value) <= high);
}

/* Probabilities of the published pipelines; 600 clips know them to 0.02, three times that is allowed. */
static void test_draws(void **unused)
{
    (void)unused;
    enum { CLIPS = 600 };
    struct tally tallies[] = {
        {"blur", "first", NULL, NULL, 1, 0, 0},
        {"blur", "second", NULL, NULL, 0.8, 0, 0},
        {"blur", "last", NULL, NULL, 0.8, 0, 0},
        {"blur", "first", "kind", "gaussian iso", 0.405, 0, 0},
        {"blur", "first", "kind", "gaussian aniso", 0.225, 0, 0},
        {"blur", "second", "kind", "generalised iso", 0.108, 0, 0},
        {"blur", "second", "kind", "plateau iso", 0.108, 0, 0},
        {"blur", "first", "kind", "sinc", 0.1, 0, 0},
        {"blur", "last", "kind", "sinc", 1, 0, 0},
        {"resize", "first", NULL, NULL, 0.9, 0, 0},
        {"resize", "second", NULL, NULL, 0.7, 0, 0},
        {"resize", "first", "filter", "area", 1. / 3, 0, 0},
        {"noise", "first", "kind", "poisson", 0.5, 0, 0},
        {"noise", "second", "channels", "grey", 0.4, 0, 0},
        {"jpeg", "second", NULL, NULL, 1, 0, 0},
        {"video", "first", "encoder", "libx264", 2. / 3, 0, 0},
        {"video", "last", "encoder", "mpeg4", 1. / 3, 0, 0},
        {"fit", "last", NULL, NULL, 1, 0, 0},
    };
    int video_before_fit = 0;
    for (int64_t seed = 0; seed < CLIPS; seed++) {
        oasis_degrade_options o = options_of(seed, 0, 1);
        oasis_degrader *d = NULL;
        assert_int_equal(oasis_degrader_open(&d, &o, W, H, NULL), OASIS_OK);
        json_t *params = params_of(d), *stages = json_object_get(params, "stages");
        for (size_t i = 0; i < json_array_size(stages); i++) {
            json_t *stage = json_array_get(stages, i);
            for (size_t t = 0; t < sizeof tallies / sizeof *tallies; t++)
                count(&tallies[t], stage);
            in_range(stage, "blur", "side", 7, 21);
            in_range(stage, "blur", "sigma_x", 0.2, 3);
            in_range(stage, "blur", "omega", 0.62, 3.1416);
            in_range(stage, "blur", "beta", 0.5, 4);
            in_range(stage, "resize", "factor", 0.15, 1.5);
            in_range(stage, "noise", "sigma", 1, 30);
            in_range(stage, "noise", "scale", 0.05, 3);
            in_range(stage, "jpeg", "quality", 30, 95);
            in_range(stage, "video", "bits_per_frame", 1e4, 1e5);
        }
        json_t *tenth = json_array_get(stages, 9);
        video_before_fit += !strcmp(json_string_value(json_object_get(tenth, "stage")), "video");
        json_decref(params);
        oasis_degrader_close(&d);
    }
    assert_true(abs(video_before_fit - CLIPS / 2) < CLIPS * 6 / 100);
    for (size_t t = 0; t < sizeof tallies / sizeof *tallies; t++) {
        assert_true(tallies[t].of > CLIPS / 2);
        if (fabs((double)tallies[t].count / tallies[t].of - tallies[t].expected) > 0.06)
            fail_msg("%s %s %s: %d of %d", tallies[t].stage, tallies[t].order, tallies[t].text ? tallies[t].text : "",
                     tallies[t].count, tallies[t].of);
    }
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

static void test_refusals(void **unused)
{
    (void)unused;
    oasis_degrader *d = NULL;
    oasis_message why = {""};
    oasis_degrade_options bad[5];
    for (int i = 0; i < 5; i++)
        oasis_degrade_options_init(&bad[i]);
    bad[0].scale = 0.5;
    bad[1].temporal_step = -1;
    bad[2].threads = -1;
    bad[3].size = 8;
    bad[4].poisson = (oasis_poisson_domain)2;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(oasis_degrader_open(&d, &bad[i], W, H, &why), OASIS_E_ARGUMENT);
        assert_non_null(strstr(why.text, "degrade"));
    }
    assert_int_equal(oasis_degrader_open(&d, NULL, 0, H, &why), OASIS_E_ARGUMENT);
    assert_null(d);

    oasis_frame in[FRAMES], out[FRAMES];
    clip_new(in, 0);
    oasis_degrade_options o = options_of(1, 0, 1);
    assert_int_equal(oasis_degrader_open(&d, &o, W - 1, H, NULL), OASIS_OK);
    assert_int_equal(oasis_degrader_receive(d, &out[0]), OASIS_AGAIN);
    assert_int_equal(oasis_degrader_send(d, &in[0]), OASIS_E_ARGUMENT);
    assert_non_null(strstr(oasis_degrader_message(d), "70x51"));
    assert_int_equal(oasis_degrader_receive(d, &out[0]), OASIS_E_ARGUMENT);
    oasis_degrader_close(&d);
    assert_int_equal(oasis_degrader_open(&d, &o, W, H, NULL), OASIS_OK);
    assert_int_equal(oasis_degrader_send(d, NULL), OASIS_OK);
    assert_int_equal(oasis_degrader_receive(d, &out[0]), OASIS_END);
    oasis_degrader_close(&d);
    clip_free(in);
}

/* A degrader that is kept gives each clip what a new one does, whatever came before: other sizes, a failure. */
static void test_kept(void **unused)
{
    (void)unused;
    oasis_degrader *kept = NULL;
    oasis_message why = {""};
    for (int64_t seed = 1; seed <= 6; seed++) {
        oasis_frame in[FRAMES], out[FRAMES], again[FRAMES];
        oasis_degrade_options o = options_of(seed, (double)(seed % 2), 1 + (int)(seed % 3));
        clip_new(in, 0);
        o.scale = 1 + (double)(seed % 3);
        assert_int_equal(oasis_degrade_clip(&o, in, FRAMES, out, &why), OASIS_OK);
        assert_int_equal(oasis_degrader_clip(&kept, &o, in, FRAMES, again, &why), OASIS_OK);
        for (int i = 0; i < FRAMES; i++) {
            assert_true(out[i].width == again[i].width && out[i].height == again[i].height);
            size_t n = (size_t)(out[i].width * out[i].height * 3);
            assert_memory_equal(out[i].rgb, again[i].rgb, n * sizeof(float));
        }
        clip_free(out);
        clip_free(again);
        in[1].width--;
        assert_int_equal(oasis_degrader_clip(&kept, &o, in, FRAMES, again, &why), OASIS_E_ARGUMENT);
        assert_null(again[0].rgb);
        in[1].width++;
        clip_free(in);
    }
    oasis_degrader_close(&kept);
}

/* The words are those of every --device (cuda/name.c). */
static void test_devices(void **unused)
{
    (void)unused;
    static const char *const unknown[] = {"tpu", "", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "CPU"};
    oasis_degrader *d = NULL;
    oasis_message why = {""};
    oasis_degrade_options o = options_of(1, 0, 1);
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        o.device = unknown[i];
        assert_int_equal(oasis_degrader_open(&d, &o, W, H, &why), OASIS_E_ARGUMENT);
        assert_non_null(strstr(why.text, "it is cpu, cuda, cuda:N (N from 0 on) or auto"));
    }
    o.device = "cuda:999";
    assert_int_equal(oasis_degrader_open(&d, &o, W, H, &why), OASIS_E_DEVICE);
    assert_non_null(strstr(why.text, "GPU 999 was asked for"));
    assert_null(d);
    static const char *const everywhere[] = {"cpu", "auto", NULL};
    for (int i = 0; i < 3; i++) {
        o.device = everywhere[i];
        assert_int_equal(oasis_degrader_open(&d, &o, W, H, &why), OASIS_OK);
        oasis_degrader_close(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),    cmocka_unit_test(test_content),  cmocka_unit_test(test_params),
        cmocka_unit_test(test_draws),   cmocka_unit_test(test_refusals), cmocka_unit_test(test_kept),
        cmocka_unit_test(test_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
