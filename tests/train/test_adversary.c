/*
 * Adversarial training on the tiny model: the discriminator learns to tell, the network learns to be taken for true, a
 * resumed run gives the bits of an uninterrupted one, before its start nothing is other than without, and the exported
 * model does not hold it.
 */
#include "train/runs.h"

#include "format/weight_file.h"
#include "train/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static oasis_train_options adversarial_options(const char *output, int kind)
{
    oasis_train_options o = tiny_options(OASIS_STAGE_ONE_STEP, output);
    o.adversarial = 0.1;
    o.adversarial_kind = kind;
    o.adversarial_ramp = 2;
    o.feature_matching = 0.1;
    o.discriminator_width = 8;
    o.discriminator_rate = 2e-3;
    o.show_every = 0;
    return o;
}

static double term(const oasis_train_report *r, const char *name)
{
    for (int i = 0; i < r->n_terms; i++)
        if (strcmp(r->term[i], name) == 0)
            return r->value[i];
    fail_msg("no term %s", name);
    return NAN;
}

/* Without a teacher of its own, a network that hardly moves is told from the truth. */
static void test_learns(void **state)
{
    (void)state;
    struct source one = {0, 0, true};
    for (int kind = 0; kind < 2; kind++) {
        oasis_train_options o = adversarial_options(in_folder(kind ? "learns-r" : "learns-h"), kind);
        o.rate = 1e-7;
        o.discriminator_rate = 4e-3;
        o.steps = 40;
        o.middle = 0;
        o.batch = 1;
        oasis_trainer *t = open_trainer(&o, &one);
        oasis_train_report first, last = {0};
        assert_int_equal(oasis_trainer_step(t, &first), OASIS_OK);
        while (oasis_trainer_step(t, &last) == OASIS_OK)
            continue;
        oasis_trainer_close(&t);
        double begin = term(&first, "discriminator"), end = term(&last, "discriminator");
        print_message("    %s: discriminator %.4f -> %.4f, r1 %.5f -> %.5f\n", kind ? "relativistic" : "hinge", begin,
                      end, term(&first, "discriminator-r1"), term(&last, "discriminator-r1"));
        assert_true(fabs(begin - (kind ? log(2) : 2)) < 0.2); /* it knows nothing yet */
        assert_true(end < 0.7 * begin);
        assert_int_equal(last.skipped, 0);
    }
}

/* With nothing but the discriminator's features to go by, the network comes nearer to the truth. */
static void test_teaches(void **state)
{
    (void)state;
    struct source one = {0, 0, true};
    oasis_train_options o = adversarial_options(in_folder("teaches"), 1);
    o.charbonnier = o.spectrum = o.motion = 0;
    o.adversarial = 1e-3;
    o.feature_matching = 1;
    o.adversarial_ramp = 0;
    o.discriminator_rate = 1e-5;
    o.steps = 80;
    o.middle = 0;
    o.batch = 1;
    oasis_trainer *t = open_trainer(&o, &one);
    oasis_train_report first, last = {0};
    assert_int_equal(oasis_trainer_step(t, &first), OASIS_OK);
    while (oasis_trainer_step(t, &last) == OASIS_OK)
        continue;
    oasis_trainer_close(&t);
    print_message("    features %.5f -> %.5f\n", term(&first, "feature-matching"), term(&last, "feature-matching"));
    assert_true(term(&last, "feature-matching") < 0.6 * term(&first, "feature-matching"));
}

/* Six steps at once; three, and three more by another trainer; six on three threads. */
static void test_resume(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        char whole[256], parts[256], threads[256];
        oasis_train_options o = adversarial_options(in_folder(kind ? "whole-r" : "whole-h"), kind);
        o.accumulate = 2;
        snprintf(whole, sizeof whole, "%s/checkpoint.safetensors", o.output);
        run(&o, &honest, NULL);
        o.output = in_folder(kind ? "threads-r" : "threads-h");
        o.threads = 3;
        snprintf(threads, sizeof threads, "%s/checkpoint.safetensors", o.output);
        run(&o, &honest, NULL);
        o.threads = 1;
        o.output = in_folder(kind ? "parts-r" : "parts-h");
        snprintf(parts, sizeof parts, "%s/checkpoint.safetensors", o.output);
        oasis_trainer *t = open_trainer(&o, &honest);
        for (int i = 0; i < 3; i++)
            assert_int_equal(oasis_trainer_step(t, NULL), OASIS_OK);
        assert_int_equal(oasis_trainer_save(t), OASIS_OK);
        assert_int_equal(oasis_trainer_step(t, NULL), OASIS_OK); /* lost */
        oasis_trainer_close(&t);
        assert_int_equal(run(&o, &honest, NULL).step, 6);
        assert_true(same_tensors(whole, parts));
        assert_true(same_tensors(whole, threads));
    }
    assert_false(
        same_tensors(in_folder("whole-h/checkpoint.safetensors"), in_folder("whole-r/checkpoint.safetensors")));
}

static bool has_prefix(const char *path, const char *prefix)
{
    weight_file *w = NULL;
    oasis_message why = {""};
    if (oas_weight_file_open(&w, path, &why) < 0)
        fail_msg("%s", why.text);
    bool found = false;
    for (size_t i = 0; i < oas_weight_file_count(w); i++)
        found = found || strncmp(oas_weight_file_at(w, i)->name, prefix, strlen(prefix)) == 0;
    oas_weight_file_close(&w);
    return found;
}

/* A discriminator that starts after the last step changes no bit of the model; one that starts does. */
static void test_waits(void **state)
{
    (void)state;
    char without[256];
    oasis_train_options o = adversarial_options(in_folder("waits"), 0);
    o.adversarial_start = 100;
    run(&o, &honest, NULL);
    o.output = in_folder("judged");
    o.adversarial_start = 3;
    run(&o, &honest, NULL);
    snprintf(without, sizeof without, "%s", in_folder("without"));
    o.output = without;
    o.adversarial = 0;
    run(&o, &honest, NULL);
    assert_true(same_tensors(in_folder("waits/model.safetensors"), in_folder("without/model.safetensors")));
    assert_false(same_tensors(in_folder("judged/model.safetensors"), in_folder("without/model.safetensors")));
    assert_false(has_prefix(in_folder("judged/model.safetensors"), "discriminator"));
    assert_true(has_prefix(in_folder("judged/checkpoint.safetensors"), "moment2.discriminator.3.weight"));
    assert_true(has_prefix(in_folder("judged/checkpoint.safetensors"), "weight.discriminator.3.u"));
    assert_false(has_prefix(in_folder("without/checkpoint.safetensors"), "weight.discriminator"));
    /* In the first step of the ramp it learns, on a tape of its own, but its word counts nothing. */
    o = adversarial_options(in_folder("first"), 1);
    o.adversarial_start = 5;
    run(&o, &honest, NULL);
    assert_true(same_tensors(in_folder("first/model.safetensors"), in_folder("without/model.safetensors")));
    o.output = without;
    /* A run that has had none gets a new one. */
    o.adversarial = 0.1;
    o.adversarial_start = 6;
    o.steps = 8;
    assert_int_equal(run(&o, &honest, NULL).skipped, 0);
    assert_true(has_prefix(in_folder("without/checkpoint.safetensors"), "weight.discriminator"));
}

/* The stored vectors belong to the largest singular value: |w x| / |x| of no x is above it. */
static void test_norm(void **state)
{
    (void)state;
    static const double TOLERANCE = 0.03; /* of 50 iterations from a random beginning */
    oasis_train_options o = adversarial_options(NULL, 0);
    adversary a = {.parameters = {.items = NULL}};
    oasis_message why = {""};
    if (oas_adversary_new(&a, &o, &why) < 0)
        fail_msg("%s", why.text);
    for (int i = 0; i < OAS_DISCRIMINATOR_LAYERS; i++) {
        const normed_layer *l = &a.net.layer[i];
        const float *w = l->weight->data, *u = l->u->data, *v = l->v->data;
        int64_t rows = oas_count(&l->u->shape), columns = oas_count(&l->v->shape);
        double known = 0, largest = 0;
        for (int64_t k = 0; k < rows * columns; k++)
            known += (double)u[k / columns] * (double)w[k] * (double)v[k % columns];
        double x[4096], y[512];
        for (int64_t c = 0; c < columns; c++)
            x[c] = sin((double)(c * c + 1));
        for (int turn = 0; turn < 300; turn++) { /* the same by many more iterations, in double */
            double norm = 0;
            for (int64_t r = 0; r < rows; r++) {
                y[r] = 0;
                for (int64_t c = 0; c < columns; c++)
                    y[r] += (double)w[r * columns + c] * x[c];
            }
            for (int64_t c = 0; c < columns; c++) {
                x[c] = 0;
                for (int64_t r = 0; r < rows; r++)
                    x[c] += (double)w[r * columns + c] * y[r];
                norm += x[c] * x[c];
            }
            norm = sqrt(norm);
            for (int64_t c = 0; c < columns; c++)
                x[c] /= norm;
            largest = sqrt(norm);
        }
        print_message("    layer %d: %.4f of %.4f\n", i, known, largest);
        assert_true(known > (1 - TOLERANCE) * largest && known < (1 + 1e-5) * largest);
    }
    oas_adversary_free(&a);
}

static void test_refusals(void **state)
{
    (void)state;
    oasis_train_options o = adversarial_options(in_folder("other-stage"), 0);
    o.stage = OASIS_STAGE_AUTOENCODER;
    expect_refusal(&o, "one-step");
    o = adversarial_options(in_folder("wider"), 0);
    run(&o, &honest, NULL);
    o.discriminator_width = 16;
    expect_refusal(&o, "discriminator.0.weight");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),   cmocka_unit_test(test_learns), cmocka_unit_test(test_teaches),
        cmocka_unit_test(test_resume), cmocka_unit_test(test_waits),  cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("train/adversary", tests, setup, teardown);
}
