/*
 * Losses by frozen networks on the tiny model: each falls when it is all there is, a resumed run gives the same bits,
 * wrong files get a sentence, and the loss does not prefer some pixels to others (a fixed grid would).
 */
#include "format/safetensors.h"
#include "train/runs.h"
#include "train/tiny.h"
#include "train/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- files ----------------------------------------------------------------------------------------------------------- */

/* Random values that keep the size of what passes through ReLUs. */
static float value_of(oas_rng *rng, int inputs)
{
    double bound = sqrt(6. / inputs);
    return (float)oas_rng_between(rng, -bound, bound);
}

/* SqueezeNet of ncnn with random weights. */
static void write_squeezenet(const char *param_path, const char *bin_path)
{
    static const int narrow[8] = {16, 16, 32, 32, 48, 48, 64, 64}, wide[8] = {64, 64, 128, 128, 192, 192, 256, 256};
    oas_rng rng = oas_rng_at(5, 1, 0, 0);
    FILE *param = fopen(param_path, "w"), *bin = fopen(bin_path, "wb");
    assert_true(param && bin);
    fprintf(param, "7767517\n48 56\n");
    for (int i = 0; i < 25; i++) {
        int f = (i - 1) / 3, part = (i - 1) % 3, in = i == 0 ? 3 : part > 0 ? narrow[f] : f > 0 ? 2 * wide[f - 1] : 64;
        int out = i == 0 ? 64 : part == 0 ? narrow[f] : wide[f], side = i == 0 || part == 2 ? 3 : 1;
        int inputs = in * side * side;
        fprintf(param, "Convolution c%d 1 1 a b 0=%d 1=%d%s%s 5=1 6=%d 9=1\n", i, out, side, i == 0 ? " 3=2" : "",
                i > 0 && side == 3 ? " 4=1" : "", out * inputs);
        float zero = 0;
        fwrite(&zero, 4, 1, bin);
        for (int k = 0; k < out * inputs + out; k++) {
            float v = k < out * inputs ? value_of(&rng, inputs) * (i == 0 ? 0.02f : 1.f) : 0.05f;
            fwrite(&v, 4, 1, bin);
        }
    }
    fclose(param);
    fclose(bin);
}

enum { MOST = 64 };

/* Tensors drawn at random, written as safetensors. */
typedef struct bag {
    stored entry[MOST];
    char name[MOST][40];
    size_t count;
} bag;

static void put(bag *b, oas_rng *rng, const char *name, const int size[4], bool positive)
{
    size_t i = b->count++, n = (size_t)size[0] * (size_t)size[1] * (size_t)size[2] * (size_t)size[3];
    float *values = malloc(n * sizeof *values);
    assert_non_null(values);
    for (size_t k = 0; k < n; k++)
        values[k] = positive ? (float)oas_rng_uniform(rng) : value_of(rng, size[1] * size[2] * size[3]);
    snprintf(b->name[i], sizeof b->name[i], "%s", name);
    b->entry[i] = (stored){.name = b->name[i], .dtype = OAS_STORED_F32, .rank = 4, .data = values};
    for (int k = 0; k < OAS_STORED_MAX_RANK; k++)
        b->entry[i].size[k] = k < 4 ? size[k] : 1;
}

static void finish(bag *b, const char *path)
{
    oasis_message why = {""};
    const safetensors_file file = {.entry = b->entry, .count = b->count};
    if (oas_safetensors_write(path, &file, &why) < 0)
        fail_msg("%s", why.text);
    for (size_t i = 0; i < b->count; i++)
        free((void *)(uintptr_t)b->entry[i].data);
    b->count = 0;
}

static void put_conv(bag *b, oas_rng *rng, int index, int out, int in)
{
    char name[40];
    snprintf(name, sizeof name, "features.%d.weight", index);
    put(b, rng, name, (const int[4]){out, in, 3, 3}, false);
    snprintf(name, sizeof name, "features.%d.bias", index);
    put(b, rng, name, (const int[4]){out, 1, 1, 1}, true);
    b->entry[b->count - 1].rank = 1;
    for (int i = 0; i < out; i++)
        ((float *)(uintptr_t)b->entry[b->count - 1].data)[i] *= 0.05f;
}

static void write_vgg(const char *network, const char *lins, const char *alpha_beta)
{
    static const int index[13] = {0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28};
    static const int channels[13] = {64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512};
    static const int taps[5] = {64, 128, 256, 512, 512};
    static bag b;
    oas_rng rng = oas_rng_at(6, 1, 0, 0);
    for (int i = 0; i < 13; i++)
        put_conv(&b, &rng, index[i], channels[i], i ? channels[i - 1] : 3);
    finish(&b, network);
    for (int i = 0; i < 5; i++) {
        char name[40];
        snprintf(name, sizeof name, "lin%d.model.1.weight", i);
        put(&b, &rng, name, (const int[4]){1, taps[i], 1, 1}, true);
    }
    finish(&b, lins);
    put(&b, &rng, "alpha", (const int[4]){1, 1475, 1, 1}, true);
    put(&b, &rng, "beta", (const int[4]){1, 1475, 1, 1}, true);
    finish(&b, alpha_beta);
}

static char squeezenet[256], lpips[512], dists[512], coder[256];

static int begin(void **state)
{
    char bin[256], network[200], lins[200], alpha_beta[200];
    if (setup(state) != 0)
        return -1;
    snprintf(squeezenet, sizeof squeezenet, "%s/net.param", folder);
    snprintf(bin, sizeof bin, "%s/net.bin", folder);
    write_squeezenet(squeezenet, bin);
    snprintf(network, sizeof network, "%s/vgg", folder);
    snprintf(lins, sizeof lins, "%s/lins", folder);
    snprintf(alpha_beta, sizeof alpha_beta, "%s/alpha-beta", folder);
    write_vgg(network, lins, alpha_beta);
    snprintf(lpips, sizeof lpips, "%s,%s", network, lins);
    snprintf(dists, sizeof dists, "%s,%s", network, alpha_beta);
    oasis_train_options o = tiny_options(OASIS_STAGE_AUTOENCODER, in_folder("coder"));
    o.show_every = 0;
    run(&o, &honest, NULL);
    snprintf(coder, sizeof coder, "%s/coder/checkpoint.safetensors", folder);
    return 0;
}

/* ---- training -------------------------------------------------------------------------------------------------------- */

/* Nothing but the loss `which`: 0 features, 1 LPIPS, 2 DISTS, 3 the encoder's. */
static oasis_train_options only(int which, const char *output)
{
    oasis_train_options o = tiny_options(OASIS_STAGE_ONE_STEP, output);
    o.charbonnier = o.spectrum = o.motion = 0;
    o.squeezenet = squeezenet;
    o.lpips_files = lpips;
    o.dists_files = dists;
    o.encoder = coder;
    o.show_every = 0;
    o.perceptual_frames = 1;
    *(which == 0 ? &o.features : which == 1 ? &o.lpips : which == 2 ? &o.dists : &o.encoder_features) = 1;
    return o;
}

static void test_falls(void **state)
{
    (void)state;
    static const char *const names[] = {"features", "lpips", "dists", "encoder-features"};
    struct source one = {0, 0, true};
    for (int i = 0; i < 4; i++) {
        oasis_train_options o = only(i, in_folder(names[i]));
        double first;
        o.steps = i == 0 ? 100 : i == 3 ? 60 : 20;
        o.batch = 1;
        o.middle = 0;
        oasis_train_report r = run(&o, &one, &first);
        print_message("    %-16s %.4f -> %.4f\n", names[i], first, r.loss);
        assert_int_equal(r.n_terms, 1);
        assert_string_equal(r.term[0], names[i]);
        assert_int_equal(r.skipped, 0);
        assert_true(r.loss < 0.95 * first);
    }
}

static void test_resume(void **state)
{
    (void)state;
    char whole[256], parts[256];
    oasis_train_options o = only(0, in_folder("whole"));
    o.encoder_features = 0.5;
    o.charbonnier = 1;
    o.adversarial = 0.1;
    o.adversarial_ramp = 1;
    o.discriminator_width = 8;
    o.perceptual_frames = 2;
    o.steps = 4;
    snprintf(whole, sizeof whole, "%s/checkpoint.safetensors", o.output);
    run(&o, &honest, NULL);
    o.output = in_folder("parts");
    o.threads = 3;
    snprintf(parts, sizeof parts, "%s/checkpoint.safetensors", o.output);
    oasis_trainer *t = open_trainer(&o, &honest);
    assert_int_equal(oasis_trainer_step(t, NULL), OASIS_OK);
    assert_int_equal(oasis_trainer_step(t, NULL), OASIS_OK);
    assert_int_equal(oasis_trainer_save(t), OASIS_OK);
    oasis_trainer_close(&t);
    assert_int_equal(run(&o, &honest, NULL).step, 4);
    assert_true(same_tensors(whole, parts));
}

static void test_refusals(void **state)
{
    (void)state;
    oasis_train_options o = only(0, in_folder("new"));
    o.squeezenet = NULL;
    expect_refusal(&o, "'features' needs 'squeezenet'");
    o.squeezenet = in_folder("missing.param");
    expect_refusal(&o, "missing.param");
    o = only(1, in_folder("new"));
    o.lpips_files = NULL;
    expect_refusal(&o, "'lpips' needs 'lpips-files'");
    o.lpips_files = squeezenet;
    expect_refusal(&o, "two files");
    o.lpips_files = dists; /* the right network, the wrong weights */
    expect_refusal(&o, "lin0.model.1.weight");
    o = only(2, in_folder("new"));
    o.dists_files = lpips;
    expect_refusal(&o, "alpha");
    o = only(3, in_folder("new"));
    o.encoder = NULL;
    expect_refusal(&o, "encoder-features");
    o = only(3, in_folder("new"));
    o.stage = OASIS_STAGE_AUTOENCODER;
    expect_refusal(&o, "one-step");
}

/* ---- the grid -------------------------------------------------------------------------------------------------------- */

enum { PASSES = 96, SIDE = 48 };

/*
 * The loss sees pixels in a grid of 2x2 alike: of the squared gradient that reaches y, summed over passes, each of the
 * four kinds of pixels has about a quarter.  Without moving the picture the first has far more or less than another.
 */
static double unevenness(objective *o, graph *g, int passes, bool move)
{
    double share[4] = {0}, all = 0, worst = 0;
    for (int n = 0; n < passes; n++) {
        oas_graph_reset(g);
        sampler s = {.graph = g, .state = 1};
        g->recording = true;
        tensor *y = oas_sample_floats(&s, OAS_SHAPE5(1, 1, SIDE, SIDE, 3), 0.7f);
        tensor *t = oas_sample_floats(&s, OAS_SHAPE5(1, 1, SIDE, SIDE, 3), 0.7f);
        pass p = {.clips = 1, .number = (uint32_t)n};
        oas_perceptual_draw(g, o, &p);
        loss_terms terms = {.n = 0};
        y->needs_grad = true;
        if (move)
            oas_perceptual_terms(g, o, &p, y, t, &terms);
        else
            terms.total = oas_judge(g, &o->perceptual.judge[0].judge, y, t, 1);
        if (!terms.total || oas_backward(g, terms.total, NULL) < 0)
            fail_msg("%s", g->message.text);
        for (int i = 0; i < SIDE * SIDE * 3; i++) {
            int x = i / 3 % SIDE, row = i / 3 / SIDE;
            bool inner = x >= 16 && row >= 16 && x < SIDE - 16 && row < SIDE - 16; /* always seen */
            double v = inner ? (double)((float *)y->grad->data)[i] : 0;
            share[row % 2 * 2 + x % 2] += v * v;
            all += v * v;
        }
    }
    for (int i = 0; i < 4; i++)
        worst = fmax(worst, fabs(share[i] / all - 0.25));
    return worst;
}

static void test_grid(void **state)
{
    (void)state;
    /* A kind of pixel has a quarter, give or take what so few passes and 256 pixels of noise leave. */
    static const double EVEN = 0.03;
    oasis_train_options o = only(0, NULL);
    o.width = o.height = SIDE;
    o.frames = 1;
    objective all = {.options = &o};
    oasis_message why = {""};
    if (oas_perceptual_new(&all, &why) < 0)
        fail_msg("%s", why.text);
    graph g = {.backend = OAS_CPU, .compute = OAS_F32};
    assert_int_equal(oas_device_new(&g.device, 2, &why), OASIS_OK);
    assert_true(oas_arena_new(&g.memory, 64 << 20));
    double moved = unevenness(&all, &g, PASSES, true), fixed = unevenness(&all, &g, 1, false);
    print_message("    share of a kind of pixel off by %.3f, with a fixed grid by %.3f\n", moved, fixed);
    assert_true(moved < EVEN && fixed > 3 * EVEN);
    oas_arena_free(&g.memory);
    oas_device_free(&g.device);
    oas_perceptual_free(&all.perceptual);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grid),
        cmocka_unit_test(test_falls),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("train/perceptual", tests, begin, teardown);
}
