/*
 * A small decoder learns to decode the latents of a tiny Wan autoencoder: its loss falls, a resumed run gives the bits of an
 * uninterrupted one, the file that is written goes with a model of these latents and starts another run, and wrong input
 * gets a sentence.
 */
#include "train/runs.h"

#include "format/safetensors.h"
#include "format/weight_file.h"
#include "model.h"
#include "train/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char VAE[] = OASIS_SOURCE_DIR "/tests/data/wan-vae-tiny.safetensors";

/* The reference tensors' weights as a checkpoint; its path. */
static const char *write_teacher(void)
{
    static char path[256];
    weight_file *file = NULL;
    oasis_message why = {""};
    if (oas_weight_file_open(&file, VAE, &why) < 0)
        fail_msg("%s", why.text);
    stored *entry = calloc(oas_weight_file_count(file), sizeof *entry);
    assert_non_null(entry);
    size_t count = 0;
    for (size_t i = 0; i < oas_weight_file_count(file); i++)
        if (strncmp(oas_weight_file_at(file, i)->name, "test.", 5) != 0)
            entry[count++] = *oas_weight_file_at(file, i);
    safetensors_file out = {.entry = entry, .count = count};
    snprintf(path, sizeof path, "%s", in_folder("vae.safetensors"));
    if (oas_safetensors_write(path, &out, &why) < 0)
        fail_msg("%s", why.text);
    free(entry);
    oas_weight_file_close(&file);
    return path;
}

static oasis_train_options decoder_options(const char *output)
{
    oasis_train_options o = tiny_options(OASIS_STAGE_DECODER, output);
    o.teacher = write_teacher();
    o.latent_channels = o.in_dim = 16;
    o.show_every = 0;
    return o;
}

static void test_learns(void **state)
{
    (void)state;
    struct source one = {0, 0, true};
    for (int share = 0; share < 2; share++) {
        double first;
        oasis_train_options o = decoder_options(in_folder(share ? "half" : "whole"));
        o.steps = 200;
        o.middle = 0;
        o.batch = 1;
        o.teacher_share = share * 0.5;
        oasis_train_report r = run(&o, &one, &first);
        print_message("    share of the teacher %.1f: %.4f -> %.4f\n", o.teacher_share, first, r.loss);
        assert_true(r.loss < 0.8 * first);
        assert_int_equal(r.skipped, 0);
    }
}

/* Decodes zeros with the model; the sum of the result. */
static double decoded(const oasis_model *model)
{
    graph g = {.backend = OAS_REF};
    assert_true(oas_arena_new(&g.memory, (size_t)64 << 20));
    tensor *z = oas_tensor(&g, OAS_F32, OAS_SHAPE5(1, 2, 4, 4, 16));
    tensor *pixels = oas_tensor(&g, OAS_F32, OAS_SHAPE5(1, 5, 32, 32, 3));
    for (int i = 0; i < 2 * 4 * 4 * 16; i++)
        ((float *)z->data)[i] = (float)(i % 13) / 6 - 1;
    memset(pixels->data, 0, oas_bytes(pixels));
    const tensor *y = oas_decode(&g, model, NULL, z, pixels);
    if (!y)
        fail_msg("%s", g.message.text);
    double sum = 0;
    for (int64_t i = 0; i < oas_count(&y->shape); i++)
        sum += fabs((double)((const float *)y->data)[i]);
    oas_arena_free(&g.memory);
    return sum;
}

/* Six steps, three and three, three threads: the same; what they wrote goes with a model. */
static void test_resume_and_use(void **state)
{
    (void)state;
    oasis_train_options o = decoder_options(in_folder("at-once"));
    o.show_every = 3;
    run(&o, &honest, NULL);
    o.output = in_folder("threads");
    o.threads = 3;
    run(&o, &honest, NULL);
    o.threads = 1;
    o.output = in_folder("parts");
    oasis_trainer *t = open_trainer(&o, &honest);
    for (int i = 0; i < 3; i++)
        assert_int_equal(oasis_trainer_step(t, NULL), OASIS_OK);
    assert_int_equal(oasis_trainer_save(t), OASIS_OK);
    oasis_train_cost plan, real;
    oasis_message none = {""};
    oasis_trainer_cost(t, &real);
    oasis_trainer_close(&t);
    assert_int_equal(oasis_train_cost_of(&o, &plan, &none), OASIS_OK);
    assert_int_equal(plan.total_bytes, real.total_bytes);
    assert_true(real.weight_bytes > real.average_bytes); /* the teacher's as well */
    run(&o, &honest, NULL);
    char a[256], b[256];
    snprintf(a, sizeof a, "%s", in_folder("at-once/decoder.safetensors"));
    assert_true(same_tensors(a, in_folder("parts/decoder.safetensors")));
    assert_true(same_tensors(a, in_folder("threads/decoder.safetensors")));

    oasis_decoder_info info;
    oasis_message why = {""};
    if (oasis_decoder_describe(a, &info, &why) < 0)
        fail_msg("%s", why.text);
    assert_string_equal(info.kind, "tiny-conditional");
    assert_true(info.alone && info.normalised && info.latent_channels == 16 && info.parameters > 1000);

    oasis_train_options from = tiny_options(OASIS_STAGE_ONE_STEP, in_folder("model"));
    from.latent_channels = from.in_dim = 16;
    from.steps = 1;
    run(&from, &honest, NULL);
    oasis_model *model = NULL;
    if (oasis_model_open(&model, in_folder("model/model.safetensors"), &why) < 0)
        fail_msg("%s", why.text);
    double before = decoded(model);
    if (oasis_model_set_decoder(model, a, &why) < 0)
        fail_msg("%s", why.text);
    assert_true(fabs(decoded(model) - before) > 1e-3 * before);
    oasis_model_close(&model);

    o = decoder_options(in_folder("further"));
    o.init = a;
    o.decoder_8 = 16; /* the file's widths count, not these */
    run(&o, &honest, NULL);
    snprintf(b, sizeof b, "%s", in_folder("further/decoder.safetensors"));
    assert_int_equal(oasis_decoder_describe(b, &info, &why), OASIS_OK);
    assert_false(same_tensors(a, b));
}

/* Latent targets of the one-step stage may come from the teacher, too. */
static void test_targets(void **state)
{
    (void)state;
    oasis_train_options o = tiny_options(OASIS_STAGE_ONE_STEP, in_folder("targets"));
    o.teacher = write_teacher();
    o.latent_channels = o.in_dim = 16;
    o.latent = 0.1;
    o.middle = 0;
    o.show_every = 0;
    oasis_train_report r = run(&o, &honest, NULL);
    assert_string_equal(r.term[r.n_terms - 1], "latent");
    assert_true(r.value[r.n_terms - 1] > 0);
}

static void test_refusals(void **state)
{
    (void)state;
    oasis_train_options o = decoder_options(in_folder("new"));
    o.teacher = NULL;
    expect_refusal(&o, "needs a 'teacher'");
    o = decoder_options(in_folder("new"));
    o.teacher = in_folder("missing.safetensors");
    expect_refusal(&o, "missing.safetensors");
    o.teacher = OASIS_SOURCE_DIR "/tests/data/wan-dit-tiny.safetensors";
    expect_refusal(&o, "decoder.head.0.gamma");
    o = decoder_options(in_folder("new"));
    o.latent_channels = 8;
    expect_refusal(&o, "latents have 16 channels, the decoder's 8");
    o = decoder_options(in_folder("new"));
    o.init = OASIS_SOURCE_DIR "/tests/data/wan-dit-tiny.safetensors";
    expect_refusal(&o, "there is no decoder in it");
    o = tiny_options(OASIS_STAGE_ONE_STEP, in_folder("new"));
    o.teacher = write_teacher();
    expect_refusal(&o, "latents have 16 channels, the model's");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_learns), cmocka_unit_test(test_resume_and_use),
                                       cmocka_unit_test(test_targets), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests_name("train/distil", tests, setup, teardown);
}
