/*
 * The trainer on a tiny model and one moving pattern: all stages run and their losses fall, a resumed run gives the bits
 * of an uninterrupted one, so do three threads, steps without a finite loss are skipped and counted, wrong input gets a
 * sentence, and what is exported upscales.
 */
#include "train/runs.h"
#include "train/tiny.h"

#include <math.h>
#include <oasis/train.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void test_overfits(void **state)
{
    (void)state;
    oasis_train_options o = tiny_options(OASIS_STAGE_ONE_STEP, in_folder("overfit"));
    struct source one = {0, 0, true};
    double first;
    o.steps = 100;
    o.middle = 0;
    o.show_every = 0;
    oasis_train_report r = run(&o, &one, &first);
    print_message("    loss %.4f -> %.4f, %.0f clips/s\n", first, r.loss, r.clips_per_second);
    assert_true(r.loss < 0.5 * first);
    assert_int_equal(r.skipped, 0);
}

/* Six steps at once; three, and three more by another trainer; six on three threads: the same weights and moments. */
static void test_resume(void **state)
{
    (void)state;
    for (int stage = OASIS_STAGE_AUTOENCODER; stage <= OASIS_STAGE_ONE_STEP; stage += 2) {
        char whole[64], parts[64], threads[64];
        snprintf(whole, sizeof whole, "whole%d", stage);
        snprintf(parts, sizeof parts, "parts%d", stage);
        snprintf(threads, sizeof threads, "threads%d", stage);
        oasis_train_options o = tiny_options(stage, in_folder(whole));
        o.accumulate = 2;
        run(&o, &honest, NULL);
        o.output = in_folder(threads);
        o.threads = 3;
        run(&o, &honest, NULL);
        o.threads = 1;
        o.output = in_folder(parts);
        oasis_trainer *t = open_trainer(&o, &honest);
        for (int i = 0; i < 3; i++)
            assert_int_equal(oasis_trainer_step(t, NULL), OASIS_OK);
        assert_int_equal(oasis_trainer_save(t), OASIS_OK);
        assert_int_equal(oasis_trainer_step(t, NULL), OASIS_OK); /* lost: no checkpoint after it */
        oasis_trainer_close(&t);
        assert_int_equal(run(&o, &honest, NULL).step, 6);
        char a[256], b[256], c[256];
        snprintf(a, sizeof a, "%s/%s/checkpoint.safetensors", folder, whole);
        snprintf(b, sizeof b, "%s/%s/checkpoint.safetensors", folder, parts);
        snprintf(c, sizeof c, "%s/%s/checkpoint.safetensors", folder, threads);
        assert_true(same_tensors(a, b));
        assert_true(same_tensors(a, c));
    }
    /* Another seed must show, or the comparison sees nothing. */
    oasis_train_options o = tiny_options(OASIS_STAGE_ONE_STEP, in_folder("other"));
    o.accumulate = 2;
    o.seed = 2;
    run(&o, &honest, NULL);
    assert_false(same_tensors(in_folder("whole2/checkpoint.safetensors"), in_folder("other/checkpoint.safetensors")));
}

/* Autoencoder, diffusion on its latents, one step from both; the result is a model that opens. */
static void test_stages(void **state)
{
    (void)state;
    double first;
    oasis_train_options o = tiny_options(OASIS_STAGE_AUTOENCODER, in_folder("coder"));
    struct source one = {0, 0, true};
    o.steps = 300;
    o.rate = 4e-3;
    o.middle = 0;
    o.batch = 1;
    o.show_every = 0;
    oasis_train_report r = run(&o, &one, &first);
    print_message("    autoencoder %.4f -> %.4f\n", first, r.loss);
    assert_true(r.loss < 0.9 * first);
    char coder[256], noise[256];
    snprintf(coder, sizeof coder, "%s/coder/checkpoint.safetensors", folder);
    snprintf(noise, sizeof noise, "%s/noise/checkpoint.safetensors", folder);
    o = tiny_options(OASIS_STAGE_DIFFUSION, in_folder("noise"));
    o.encoder = coder;
    o.steps = 60;
    r = run(&o, &one, &first);
    print_message("    diffusion   %.4f -> %.4f\n", first, r.loss);
    assert_true(isfinite(r.loss) && r.skipped == 0);
    o = tiny_options(OASIS_STAGE_ONE_STEP, in_folder("final"));
    o.encoder = coder;
    o.init = noise;
    o.latent = 0.1;
    o.checkpointing = true;
    r = run(&o, &honest, &first);
    assert_int_equal(r.step, 6);
    oasis_model *model = NULL;
    oasis_message why = {""};
    if (oasis_model_open(&model, in_folder("final/model.safetensors"), &why) < 0)
        fail_msg("%s", why.text);
    oasis_model_close(&model);
    struct stat page;
    assert_int_equal(stat(in_folder("final/progress.html"), &page), 0);
    assert_true(page.st_size > 10000);
}

/* The kinds of the heads of a model's layer. */
static void expect_route(const char *path, int layer, const char *letters)
{
    oasis_model *model = NULL;
    oasis_message why = {""};
    if (oasis_model_open(&model, path, &why) < 0)
        fail_msg("%s", why.text);
    assert_memory_equal(model->file.routing.layer[layer].kind, letters, strlen(letters));
    oasis_model_close(&model);
}

/* A routing file takes the place of the key `route`, and of the routing that comes with other weights. */
static void test_routing(void **state)
{
    (void)state;
    char text[256], dense[256];
    snprintf(text, sizeof text, "%s/routing.txt", folder);
    snprintf(dense, sizeof dense, "%s/dense/model.safetensors", folder);
    FILE *f = fopen(text, "w");
    assert_non_null(f);
    fputs("oasis-routing 1\nlayers 2 heads 4\nwindow 3 5 5 border truncate\nroute 0 gwwi\nroute 1 wigg\n", f);
    assert_int_equal(fclose(f), 0);
    oasis_train_options o = tiny_options(OASIS_STAGE_ONE_STEP, in_folder("dense"));
    o.route = "g";
    run(&o, &honest, NULL);
    expect_route(dense, 1, "gggg");
    o.routing = text;
    o.init = dense;
    o.output = in_folder("routed");
    run(&o, &honest, NULL);
    expect_route(in_folder("routed/model.safetensors"), 0, "gwwi");
    expect_route(in_folder("routed/model.safetensors"), 1, "wigg");
    o.init = NULL;
    o.layers = 3;
    o.output = in_folder("deeper");
    expect_refusal(&o, "routes 2 layers of 4 heads, the transformer has 3 of 4");
    o.routing = in_folder("missing.txt");
    expect_refusal(&o, "missing.txt");
}

static void test_bad_steps(void **state)
{
    (void)state;
    oasis_train_options o = tiny_options(OASIS_STAGE_ONE_STEP, in_folder("bad"));
    struct source twice = {4, 6, false}, always = {4, 1000, false};
    assert_int_equal(run(&o, &twice, NULL).skipped, 1); /* clips 4 and 5 are step 2 */
    o.output = in_folder("worse");
    o.most_bad = 3;
    oasis_trainer *t = open_trainer(&o, &always);
    oasis_status s = OASIS_OK;
    int steps = 0;
    for (; s == OASIS_OK; steps++) {
        s = oasis_trainer_step(t, NULL);
        if (steps == 1)
            assert_int_equal(oasis_trainer_save(t), OASIS_OK);
    }
    assert_int_equal(s, OASIS_E_ARGUMENT);
    assert_int_equal(steps, 5);
    assert_non_null(strstr(oasis_trainer_message(t), "3 steps"));
    oasis_trainer_close(&t);
    /* The checkpoint from before is good: with sound clips the run goes on to the bits of one that never had others. */
    assert_int_equal(run(&o, &honest, NULL).step, 6);
    o.output = in_folder("sound");
    run(&o, &honest, NULL);
    assert_true(same_tensors(in_folder("worse/checkpoint.safetensors"), in_folder("sound/checkpoint.safetensors")));
}

static void test_refusals(void **state)
{
    (void)state;
    oasis_train_options o = tiny_options(OASIS_STAGE_ONE_STEP, in_folder("arch"));
    run(&o, &honest, NULL);
    o.dim = 2 * TINY_DIM;
    expect_refusal(&o, "checkpoint.safetensors");
    o = tiny_options(OASIS_STAGE_ONE_STEP, in_folder("arch"));
    o.seed = 5;
    expect_refusal(&o, "seed");
    o = tiny_options(OASIS_STAGE_ONE_STEP, in_folder("new"));
    o.frames = 6;
    expect_refusal(&o, "4n+1");
    o = tiny_options(OASIS_STAGE_ONE_STEP, in_folder("new"));
    o.init = in_folder("missing.safetensors");
    expect_refusal(&o, "missing.safetensors");
    o = tiny_options(OASIS_STAGE_DIFFUSION, in_folder("new"));
    expect_refusal(&o, "encoder");
    o = tiny_options(OASIS_STAGE_ONE_STEP, NULL);
    expect_refusal(&o, "output");
    o = tiny_options(OASIS_STAGE_ONE_STEP, in_folder("new"));
    o.freeze.count = 1;
    o.freeze.text[0] = "";
    expect_refusal(&o, "frozen");
}

static void test_configurations(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } bad[] = {{"{\"stage\": \"one-step\", \"leraning-rate\": 1}", "leraning-rate"},
               {"{\"rate\": \"fast\"}", "rate"},
               {"{\"batch\": 0}", "batch"},
               {"{\"stage\": \"two-step\"}", "stage"},
               {"{\"data\": [1]}", "data"},
               {"{\"output\": 7}", "output"},
               {"{\"seed\": 1", "JSON"}};
    oasis_train_config *c = NULL;
    oasis_message why;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        FILE *f = fopen(in_folder("c.json"), "w");
        assert_non_null(f);
        fputs(bad[i].text, f);
        fclose(f);
        assert_true(oasis_train_config_open(&c, in_folder("c.json"), &why) < 0);
        assert_null(c);
        if (!strstr(why.text, bad[i].part))
            fail_msg("\"%s\" does not name %s", why.text, bad[i].part);
    }
    FILE *f = fopen(in_folder("c.json"), "w");
    fputs("{\"stage\": \"autoencoder\", \"rate\": 1e-3, \"size\": \"64x48\", \"resume\": false, \"data\": [\"a\", "
          "\"b\"], "
          "\"steps\": 12, \"output\": \"o\"}",
          f);
    fclose(f);
    if (oasis_train_config_open(&c, in_folder("c.json"), &why) < 0)
        fail_msg("%s", why.text);
    const oasis_train_options *o = oasis_train_config_options(c);
    assert_int_equal(o->stage, OASIS_STAGE_AUTOENCODER);
    assert_int_equal(o->width, 64);
    assert_int_equal(o->height, 48);
    assert_int_equal(o->steps, 12);
    assert_false(o->resume);
    assert_int_equal(o->data.count, 2);
    assert_string_equal(o->data.text[1], "b");
    assert_float_equal(o->rate, 1e-3, 1e-12);
    oasis_train_config_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overfits),       cmocka_unit_test(test_resume),    cmocka_unit_test(test_stages),
        cmocka_unit_test(test_routing),        cmocka_unit_test(test_bad_steps), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_configurations),
    };
    return cmocka_run_group_tests_name("train/trainer", tests, setup, teardown);
}
