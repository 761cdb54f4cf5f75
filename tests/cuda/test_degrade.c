/*
 * Degrading on a GPU: every stage that computes there against its CPU function, on odd sizes, and whole degraders, with
 * and without codecs between.
 */
#include "degrade/degrade.h"
#include "degrade/kernel.h"
#include "train/train.h"

#include <math.h>
#include <oasis/dataset.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OAS_DEGRADATION(name) extern const degradation oas_degradation_##name;
#include "degrade/degradations.def"
#undef OAS_DEGRADATION

/*
 * Of the range 0..1.  The bits are the same where the compiler contracts no product and sum on the CPU; where it does,
 * sums of up to 441 products differ by some 2^-24 each.
 */
static const double TOLERANCE = 1e-5;

/*
 * Of whole clips, in 8 bits: a rounding that falls otherwise, in so many of all values; and with video codecs, which may
 * decide otherwise for that, so many levels in the mean.
 */
static const double LEVEL = 1. / 255, DIFFERENT = 1e-3, VIDEO_LEVELS = 0.25;

static struct {
    degrade_gpu *gpu;
    oasis_degrade_options options;
} f;

static uint32_t noise_of(uint32_t i)
{
    i = (i ^ 61u ^ (i >> 16)) * 9u;
    i = (i ^ (i >> 4)) * 0x27d4eb2du;
    return i ^ (i >> 15);
}

/* Values from -0.1 to 1.1: stages get what noise has pushed out of range. */
static void fill(float *rgb, int width, int height, int frame)
{
    for (int i = 0; i < width * height * 3; i++) {
        double wave = 0.5 + 0.35 * sin(i % (width * 3) * 0.05 + frame) * cos(i / (width * 3) * 0.21);
        rgb[i] = (float)(wave + (noise_of((uint32_t)(i + 7919 * frame)) / 4294967296. - 0.5) * 0.5);
    }
}

static picture picture_of(int width, int height, int frame, bool on_gpu)
{
    picture p = {.cuda = on_gpu ? f.gpu->cuda : NULL};
    assert_int_equal(oas_picture_size(&p, width, height, NULL), OASIS_OK);
    fill(p.rgb, width, height, frame);
    return p;
}

/* ---- stages ------------------------------------------------------------------------------------------------------ */

static void draw(stage *s, const degradation *kind, int place, int64_t seed, bool on_gpu)
{
    f.options.seed = seed;
    *s = (stage){.kind = kind, .place = place, .active = true, .id = 3, .options = &f.options};
    s->gpu = on_gpu ? f.gpu : NULL;
    s->out_width = 19;
    s->out_height = 34;
    s->rng = oas_rng_at((uint64_t)seed, 3, 0, 0);
    assert_int_equal(kind->draw(s, NULL), OASIS_OK);
}

/* A picture to write to, with memory that is checked behind what is written. */
enum { GUARDED = 1 << 16 };
static const float UNTOUCHED = 77;

static picture guarded(void)
{
    picture p = {.cuda = f.gpu->cuda};
    float *values = malloc(GUARDED * sizeof *values);
    assert_non_null(values);
    for (int i = 0; i < GUARDED; i++)
        values[i] = UNTOUCHED;
    assert_int_equal(oas_gpu_floats(p.cuda, &p.device, &p.device_capacity, GUARDED, NULL), OASIS_OK);
    assert_int_equal(oas_cuda_upload(p.cuda, p.device, values, GUARDED * sizeof *values), OASIS_OK);
    free(values);
    return p;
}

static void expect_guard(const picture *p)
{
    int n = p->width * p->height * 3;
    float behind[8];
    assert_true(n + 8 <= GUARDED);
    assert_int_equal(oas_cuda_download(p->cuda, behind, p->device + n, sizeof behind), OASIS_OK);
    for (int i = 0; i < 8; i++)
        assert_true(behind[i] == UNTOUCHED);
}

/* The largest difference of two frames through both, the second with what the first has left; 0 when it is spared. */
static double compare(const degradation *kind, int place, int64_t seed, int width, int height)
{
    stage here, there;
    double most = 0;
    draw(&here, kind, place, seed, false);
    draw(&there, kind, place, seed, true);
    assert_true(here.active == there.active);
    for (int frame = 0; frame < 2 && here.active; frame++) {
        picture in = picture_of(width, height, frame, false), out = {0};
        picture in2 = picture_of(width, height, frame, true), out2 = guarded();
        assert_int_equal(kind->apply(&here, &in, &out, NULL), OASIS_OK);
        assert_int_equal(oas_picture_bring(&in2, true, NULL), OASIS_OK);
        assert_int_equal(kind->apply_gpu(&there, &in2, &out2, NULL), OASIS_OK);
        assert_true(out2.on_device);
        expect_guard(&out2);
        assert_int_equal(oas_picture_bring(&out2, false, NULL), OASIS_OK);
        assert_int_equal(out.width, out2.width);
        assert_int_equal(out.height, out2.height);
        for (int i = 0; i < out.width * out.height * 3; i++) {
            double d = fabs((double)out.rgb[i] - (double)out2.rgb[i]);
            most = d <= most ? most : d; /* NaN stays */
        }
        picture *const all[] = {&in, &out, &in2, &out2};
        for (int i = 0; i < 4; i++)
            oas_picture_free(all[i]);
        assert_int_equal(oas_stage_step(&here, NULL), OASIS_OK);
        assert_int_equal(oas_stage_step(&there, NULL), OASIS_OK);
    }
    oas_stage_free(&here);
    oas_stage_free(&there);
    return most;
}

/* The first seed whose draw notes `text`, of those that were not taken: 0 = none of many. */
static int64_t seed_with(const degradation *kind, int place, const char *text, const char *text2)
{
    for (int64_t seed = 1; seed < 2000; seed++) {
        stage s;
        bool has = false, has2 = !text2;
        draw(&s, kind, place, seed, false);
        for (int i = 0; i < s.n_notes && s.active; i++) {
            has = has || (s.notes[i].text && strcmp(s.notes[i].text, text) == 0);
            has2 = has2 || (text2 && s.notes[i].text && strcmp(s.notes[i].text, text2) == 0);
        }
        oas_stage_free(&s);
        if (has && has2)
            return seed;
    }
    fail_msg("no seed draws %s", text);
    return 0;
}

static void expect(const char *what, const char *kind, double difference)
{
    if (!(difference <= TOLERANCE))
        fail_msg("%s, %s: the GPU differs by %.3g, allowed %.3g", what, kind, difference, TOLERANCE);
    printf("    %-8s %-18s %.3g\n", what, kind, difference);
}

static void test_blur(void **unused)
{
    (void)unused;
    static const char *const kinds[] = {
        "gaussian iso", "gaussian aniso", "generalised iso", "generalised aniso", "plateau iso", "plateau aniso",
        "sinc"};
    for (int k = 0; k < 7; k++) {
        int64_t seed = seed_with(&oas_degradation_blur, OAS_FIRST, kinds[k], NULL);
        double a = compare(&oas_degradation_blur, OAS_FIRST, seed, 37, 23);
        double b = compare(&oas_degradation_blur, OAS_FIRST, seed, 70, 3); /* lower than the kernel is */
        expect("blur", kinds[k], fmax(a, b));
    }
    int64_t seed = seed_with(&oas_degradation_blur, OAS_LAST, "sinc", NULL);
    expect("blur", "1x1", compare(&oas_degradation_blur, OAS_LAST, seed, 1, 1));
}

/* Every side of kernel, straight at the kernel, of numbers that no blur has. */
static void test_filter(void **unused)
{
    (void)unused;
    for (int side = 1; side <= OAS_KERNEL_SIDE; side += 4)
        for (int separable = 0; separable < 2; separable++) {
            blur_kernel k = {.side = side, .separable = separable};
            cuda_filter how = {.across = side, .down = side};
            for (int i = 0; i < side * side; i++)
                k.weight[i] = (float)(noise_of((uint32_t)i) / 4294967296. - 0.3) / (float)side;
            for (int i = 0; i < side; i++)
                k.across[i] = k.weight[i];
            picture in = picture_of(41, 18, side, true), padded = {0}, out = {0}, got = {.cuda = f.gpu->cuda};
            picture mid = {.cuda = f.gpu->cuda};
            const struct cuda_degrade *gpu = f.gpu->cuda->tables.degrade;
            assert_int_equal(oas_picture_size(&out, 41, 18, NULL), OASIS_OK);
            assert_int_equal(oas_filter(&k, NULL, &in, &padded, &out, NULL), OASIS_OK);
            assert_int_equal(oas_picture_bring(&in, true, NULL), OASIS_OK);
            assert_int_equal(oas_picture_size_on_gpu(&got, 41, 18, NULL), OASIS_OK);
            assert_int_equal(oas_picture_size_on_gpu(&mid, 41, 18, NULL), OASIS_OK);
            memcpy(how.weight, separable ? k.across : k.weight,
                   (size_t)(side * (separable ? 1 : side)) * sizeof(float));
            how.down = separable ? 1 : side;
            float *to = separable ? mid.device : got.device;
            assert_int_equal(gpu->filter(f.gpu->cuda, to, in.device, 41, 18, &how), OASIS_OK);
            how.across = 1;
            how.down = side;
            if (separable)
                assert_int_equal(gpu->filter(f.gpu->cuda, got.device, mid.device, 41, 18, &how), OASIS_OK);
            assert_int_equal(oas_picture_bring(&got, false, NULL), OASIS_OK);
            double most = 0;
            for (int i = 0; i < 41 * 18 * 3; i++)
                most = fmax(most, fabs((double)got.rgb[i] - (double)out.rgb[i]));
            expect("filter", separable ? "separable" : "whole", most);
            picture *const all[] = {&in, &padded, &out, &got, &mid};
            for (int i = 0; i < 5; i++)
                oas_picture_free(all[i]);
        }
}

static void test_resize(void **unused)
{
    (void)unused;
    static const char *const filters[] = {"bicubic", "bilinear", "area"};
    for (int k = 0; k < 3; k++) {
        for (int place = OAS_FIRST; place <= OAS_SECOND; place++) {
            int64_t seed = seed_with(&oas_degradation_resize, place, filters[k], NULL);
            expect("resize", filters[k], compare(&oas_degradation_resize, place, seed, 45, 31));
        }
        int64_t seed = seed_with(&oas_degradation_fit, OAS_LAST, filters[k], NULL);
        double a = compare(&oas_degradation_fit, OAS_LAST, seed, 301, 9); /* 16 times down, 4 times up */
        double b = compare(&oas_degradation_fit, OAS_LAST, seed, 1, 1);
        expect("fit", filters[k], fmax(a, b));
    }
}

static void test_noise(void **unused)
{
    (void)unused;
    static const char *const channels[] = {"grey", "colour"};
    for (int grey = 0; grey < 2; grey++) {
        int64_t seed = seed_with(&oas_degradation_noise, OAS_FIRST, "gaussian", channels[grey]);
        expect("gaussian", channels[grey], compare(&oas_degradation_noise, OAS_FIRST, seed, 35, 17));
        seed = seed_with(&oas_degradation_noise, OAS_SECOND, "poisson", channels[grey]);
        for (int domain = 0; domain < 2; domain++) {
            f.options.poisson = domain ? OASIS_POISSON_BYTE : OASIS_POISSON_UNIT;
            double a = compare(&oas_degradation_noise, OAS_SECOND, seed, 35, 17);
            double b = compare(&oas_degradation_noise, OAS_SECOND, seed, 1, 1); /* one level: the first scale */
            expect(domain ? "bytes" : "poisson", channels[grey], fmax(a, b));
        }
        f.options.poisson = OASIS_POISSON_UNIT;
    }
}

/* ---- whole clips ------------------------------------------------------------------------------------------------- */

enum { WIDTH = 61, HEIGHT = 46, FRAMES = 3 };

static void new_clip(oasis_frame *in)
{
    for (int i = 0; i < FRAMES; i++) {
        assert_int_equal(oasis_frame_new(&in[i], WIDTH, HEIGHT, false), OASIS_OK);
        fill(in[i].rgb, WIDTH, HEIGHT, i);
        in[i].pts = 10 * i;
    }
}

static void free_clip(oasis_frame *frames)
{
    for (int i = 0; i < FRAMES; i++)
        oasis_frame_free(&frames[i]);
}

/* Adds up where two clips differ. */
typedef struct differences {
    double values, different, most, sum;
} differences;

static void add_differences(differences *d, const oasis_frame *a, const oasis_frame *b)
{
    for (int i = 0; i < FRAMES; i++) {
        assert_int_equal(a[i].width, b[i].width);
        assert_int_equal(a[i].height, b[i].height);
        assert_true(a[i].pts == b[i].pts);
        for (int k = 0; k < a[i].width * a[i].height * 3; k++) {
            double e = fabs((double)a[i].rgb[k] - (double)b[i].rgb[k]);
            d->values++;
            d->different += e > 0;
            d->sum += e;
            d->most = fmax(d->most, e);
        }
    }
}

static oasis_degrade_options options_of(int64_t seed, bool video, const char *where)
{
    oasis_degrade_options o;
    oasis_degrade_options_init(&o);
    o.seed = seed;
    o.video = video;
    o.fast_video = true;
    o.threads = 1;
    o.scale = 1 + (double)(seed % 4);
    o.temporal_step = seed % 2 ? 1 : 0;
    o.poisson = seed % 3 ? OASIS_POISSON_UNIT : OASIS_POISSON_BYTE;
    o.device = where;
    return o;
}

/* One degrader for all clips on the GPU, as training has it, and another for each. */
static void clips(bool video)
{
    oasis_degrader *kept = NULL;
    oasis_message why = {""};
    differences d = {0};
    for (int64_t seed = 1; seed <= 8; seed++) {
        oasis_frame in[FRAMES], cpu[FRAMES], gpu[FRAMES], again[FRAMES];
        oasis_degrade_options here = options_of(seed, video, NULL), there = options_of(seed, video, "cuda");
        new_clip(in);
        assert_int_equal(oasis_degrade_clip(&here, in, FRAMES, cpu, &why), OASIS_OK);
        if (oasis_degrader_clip(&kept, &there, in, FRAMES, gpu, &why) != OASIS_OK)
            fail_msg("seed %d: %s", (int)seed, why.text);
        assert_int_equal(oasis_degrade_clip(&there, in, FRAMES, again, &why), OASIS_OK);
        add_differences(&d, cpu, gpu);
        for (int i = 0; i < FRAMES; i++)
            assert_memory_equal(gpu[i].rgb, again[i].rgb, (size_t)(gpu[i].width * gpu[i].height * 3) * sizeof(float));
        free_clip(in);
        free_clip(cpu);
        free_clip(gpu);
        free_clip(again);
    }
    oasis_degrader_close(&kept);
    printf("    clips %s: %.0f of %.0f values differ, by %.1f levels at most, %.2g in the mean\n",
           video ? "with video codecs" : "without", d.different, d.values, d.most / LEVEL, d.sum / d.values / LEVEL);
    if (video)
        assert_true(d.sum <= VIDEO_LEVELS * LEVEL * d.values);
    else
        assert_true(d.different <= DIFFERENT * d.values && d.most <= 1.01 * LEVEL);
}

static void test_clips(void **unused)
{
    (void)unused;
    clips(false);
}

static void test_clips_with_video(void **unused)
{
    (void)unused;
    clips(true);
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

/* From the GPU to the CPU and back with one degrader; an unknown device, and a GPU that is not there. */
static void test_devices(void **unused)
{
    (void)unused;
    oasis_degrader *kept = NULL;
    oasis_message why = {""};
    oasis_frame in[FRAMES], one[FRAMES], other[FRAMES];
    new_clip(in);
    static const char *const devices[] = {"cuda", "cpu", "cuda:0", "auto"};
    for (int i = 0; i < 4; i++) {
        oasis_degrade_options o = options_of(2, false, devices[i]);
        assert_int_equal(oasis_degrader_clip(&kept, &o, in, FRAMES, i ? other : one, &why), OASIS_OK);
        if (i == 0)
            continue;
        differences d = {0};
        add_differences(&d, one, other);
        assert_true(d.most <= 1.01 * LEVEL);
        free_clip(other);
    }
    oasis_degrade_options o = options_of(2, false, "tpu");
    assert_int_equal(oasis_degrader_clip(&kept, &o, in, FRAMES, other, &why), OASIS_E_ARGUMENT);
    assert_string_equal(why.text, "the device 'tpu' is unknown; it is cpu, cuda, cuda:N (N from 0 on) or auto");
    assert_null(kept);
    o.device = "cuda:999";
    assert_int_equal(oasis_degrader_clip(&kept, &o, in, FRAMES, other, &why), OASIS_E_DEVICE);
    assert_non_null(strstr(why.text, "GPU 999 was asked for"));
    assert_null(kept);
    free_clip(one);
    free_clip(in);
}

/* All that was taken of the GPU's memory is given back, also in the middle of a clip. */
static void test_memory(void **unused)
{
    (void)unused;
    size_t before, after, total;
    oasis_message why = {""};
    oasis_frame in[FRAMES];
    new_clip(in);
    for (int round = 0; round < 2; round++) { /* the first one loads kernels */
        oas_cuda_memory(f.gpu->cuda, &before, &total);
        for (int64_t seed = 1; seed <= 4; seed++) {
            oasis_degrader *d = NULL;
            oasis_degrade_options o = options_of(seed, seed == 4, "cuda");
            assert_int_equal(oasis_degrader_open(&d, &o, WIDTH, HEIGHT, &why), OASIS_OK);
            for (int i = 0; i < FRAMES - 1; i++)
                assert_int_equal(oasis_degrader_send(d, &in[i]), OASIS_OK);
            oasis_degrader_close(&d);
        }
        oas_cuda_memory(f.gpu->cuda, &after, &total);
    }
    assert_true(after >= before);
    free_clip(in);
}

/* ---- training clips ---------------------------------------------------------------------------------------------- */

enum { CLIPS = 12, CLIP_FRAMES = 5, CLIP_SIDE = 32 };

/* Clips that three threads draw and degrade, one after the other; the status of the first that is not there. */
static oasis_status feed_clips(const char *where, float *all, oasis_message *why)
{
    oasis_train_options o;
    oasis_dataset *d = NULL;
    feed *clips_made = NULL;
    oasis_train_options_init(&o);
    o.frames = CLIP_FRAMES;
    o.width = o.height = CLIP_SIDE;
    o.middle = 0;
    o.reuse = 2;
    o.mix = 1;
    o.patterns = 1; /* the file is not read */
    o.consistent_steps = 1;
    o.data_threads = 3;
    o.device = where;
    const char *folder = getenv("OASIS_SOURCE");
    char path[1024];
    snprintf(path, sizeof path, "%s/doc/demo.jpg", folder ? folder : ".");
    assert_int_equal(oasis_option_set(oasis_train_option_rows(), &o, "data", path, why), OASIS_OK);
    oasis_status s = oasis_dataset_open(&d, &o, why);
    if (s == OASIS_OK)
        s = oas_feed_new(&clips_made, &o, oasis_dataset_clip, d, 0, why);
    size_t floats = oas_clip_floats(&o);
    for (size_t i = 0; i < CLIPS && s == OASIS_OK; i++) {
        clip c;
        s = oas_feed_next(clips_made, &c, why);
        if (s == OASIS_OK)
            memcpy(all + i * floats, c.low, floats * sizeof *all);
    }
    oas_feed_free(&clips_made);
    oasis_dataset_close(&d);
    return s;
}

/* Every thread has a degrader with what it keeps of the GPU; all of that is given back. */
static void test_training_clips(void **unused)
{
    (void)unused;
    enum { VALUES = CLIPS * CLIP_FRAMES * CLIP_SIDE * CLIP_SIDE * 3 };
    float *cpu = malloc(VALUES * sizeof *cpu), *gpu = malloc(VALUES * sizeof *gpu);
    oasis_message why = {""};
    size_t before, after, total;
    assert_non_null(cpu);
    assert_non_null(gpu);
    if (feed_clips("cpu", cpu, &why) != OASIS_OK) {
        printf("    left out, since OASIS_SOURCE does not name the source's folder: %s\n", why.text);
        free(cpu);
        free(gpu);
        skip();
    }
    assert_int_equal(feed_clips("cuda", gpu, &why), OASIS_OK);
    oas_cuda_memory(f.gpu->cuda, &before, &total);
    assert_int_equal(feed_clips("cuda:0", gpu, &why), OASIS_OK);
    oas_cuda_memory(f.gpu->cuda, &after, &total);
    assert_true(after >= before);
    double sum = 0;
    for (int i = 0; i < VALUES; i++)
        sum += fabs((double)cpu[i] - (double)gpu[i]) / 2; /* in [-1,1] */
    printf("    training clips: %.2g levels in the mean\n", sum / VALUES / LEVEL);
    assert_true(sum <= VIDEO_LEVELS * LEVEL * VALUES);
    assert_int_equal(feed_clips("cuda:999", gpu, &why), OASIS_E_DEVICE);
    assert_non_null(strstr(why.text, "GPU 999 was asked for"));
    free(cpu);
    free(gpu);
}

static int setup(void **unused)
{
    (void)unused;
    oasis_message why;
    oasis_degrade_options_init(&f.options);
    f.options.temporal_step = 1;
    return oas_gpu_new(&f.gpu, 0, &why) == OASIS_OK ? 0 : -1;
}

static int teardown(void **unused)
{
    (void)unused;
    oas_gpu_free(&f.gpu);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blur),    cmocka_unit_test(test_filter), cmocka_unit_test(test_resize),
        cmocka_unit_test(test_noise),   cmocka_unit_test(test_clips),  cmocka_unit_test(test_clips_with_video),
        cmocka_unit_test(test_devices), cmocka_unit_test(test_memory), cmocka_unit_test(test_training_clips),
    };
    if (oas_cuda_count() == 0) {
        printf("no GPU, nothing to test\n");
        return 0;
    }
    return cmocka_run_group_tests_name("cuda/degrade", tests, setup, teardown);
}
