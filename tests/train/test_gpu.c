/*
 * The trainer on a GPU (or the emulated one): the losses of the CPU in fp32, the same bits in every run, and a run that
 * was resumed gives those of an uninterrupted one.  Without a GPU all is skipped.
 */
#include "cuda/cuda.h"
#include "train/runs.h"
#include "train/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Losses of a few steps: sums in another order, and their differences grow with the steps through the optimiser. */
static const double LOSS_TOLERANCE = 1e-3;

enum { STEPS = 3 };

static void losses(const oasis_train_options *o, double *loss)
{
    oasis_train_report r;
    oasis_trainer *t = open_trainer(o, &honest);
    for (int i = 0; i < STEPS; i++) {
        if (oasis_trainer_step(t, &r) != OASIS_OK)
            fail_msg("%s", oasis_trainer_message(t));
        loss[i] = r.loss;
    }
    oasis_trainer_close(&t);
}

static oasis_train_options small(int stage, const char *where, const char *output)
{
    oasis_train_options o = tiny_options(stage, in_folder(output));
    o.device = where;
    o.steps = STEPS;
    o.show_every = 2;
    o.middle = 0.5;
    if (stage == OASIS_STAGE_ONE_STEP) {
        o.encoder = in_folder("cpu0/checkpoint.safetensors");
        o.latent = 0.1;
    }
    if (stage == OASIS_STAGE_DIFFUSION)
        o.encoder = in_folder("cpu0/checkpoint.safetensors");
    return o;
}

static void test_losses(void **state)
{
    (void)state;
    if (oas_cuda_count() == 0)
        skip();
    for (int stage = OASIS_STAGE_AUTOENCODER; stage <= OASIS_STAGE_ONE_STEP; stage++) {
        char cpu[16], gpu[16];
        double expected[STEPS], got[STEPS];
        snprintf(cpu, sizeof cpu, "cpu%d", stage);
        snprintf(gpu, sizeof gpu, "gpu%d", stage);
        oasis_train_options o = small(stage, "cpu", cpu);
        losses(&o, expected);
        o.output = in_folder(gpu);
        o.device = "cuda";
        losses(&o, got);
        for (int i = 0; i < STEPS; i++) {
            print_message("    stage %d step %d: cpu %.6f, gpu %.6f\n", stage, i, expected[i], got[i]);
            assert_true(fabs(got[i] - expected[i]) <= LOSS_TOLERANCE * fabs(expected[i]));
        }
    }
}

static void test_adversary(void **state)
{
    (void)state;
    if (oas_cuda_count() == 0)
        skip();
    double expected[STEPS], got[STEPS];
    oasis_train_options o = small(OASIS_STAGE_ONE_STEP, "cpu", "judged-cpu");
    o.adversarial = 0.1;
    o.adversarial_start = 0;
    o.discriminator_width = 4;
    losses(&o, expected);
    o.output = in_folder("judged-gpu");
    o.device = "cuda";
    losses(&o, got);
    for (int i = 0; i < STEPS; i++) {
        print_message("    step %d: cpu %.6f, gpu %.6f\n", i, expected[i], got[i]);
        assert_true(fabs(got[i] - expected[i]) <= LOSS_TOLERANCE * fabs(expected[i]));
    }
}

static void test_resume(void **state)
{
    (void)state;
    if (oas_cuda_count() == 0)
        skip();
    oasis_train_options o = small(OASIS_STAGE_ONE_STEP, "cuda", "whole");
    run(&o, &honest, NULL);
    o.output = in_folder("parts");
    oasis_trainer *t = open_trainer(&o, &honest);
    assert_int_equal(oasis_trainer_step(t, NULL), OASIS_OK);
    assert_int_equal(oasis_trainer_save(t), OASIS_OK);
    oasis_trainer_close(&t);
    assert_int_equal(run(&o, &honest, NULL).step, STEPS);
    assert_true(same_tensors(in_folder("whole/checkpoint.safetensors"), in_folder("parts/checkpoint.safetensors")));
    assert_true(same_tensors(in_folder("whole/model.safetensors"), in_folder("parts/model.safetensors")));
}

/* ---- passes as one launch ---------------------------------------------------------------------------------------------- */

enum { LAUNCHED_STEPS = 4 };

/* Trains with passes as one launch or not, into a folder; what became of the passes. */
static oasis_train_launches launched(oasis_train_options o, bool on, const char *output)
{
    o.output = in_folder(output);
    o.steps = LAUNCHED_STEPS;
    o.resume = false;
    oasis_trainer *t = open_trainer(&o, &honest);
    oasis_trainer_launch_apart(t, !on);
    for (int i = 0; i < o.steps; i++)
        if (oasis_trainer_step(t, NULL) != OASIS_OK)
            fail_msg("%s", oasis_trainer_message(t));
    const oasis_train_launches r = oasis_trainer_launches(t);
    oasis_trainer_close(&t);
    return r;
}

/* Weights, averages and moments are the same bits with and without; `often`: passes as one launch. */
static void expect_same(const oasis_train_options *o, int often)
{
    assert_int_equal(launched(*o, false, "called").as_one, 0);
    const oasis_train_launches r = launched(*o, true, "launched");
    print_message("    %d of %d passes as one launch\n", (int)r.as_one, (int)r.passes);
    assert_int_equal(r.as_one, often);
    assert_int_equal(r.refused, 0);
    assert_true(same_tensors(in_folder("called/checkpoint.safetensors"), in_folder("launched/checkpoint.safetensors")));
}

static void test_launched(void **state)
{
    (void)state;
    if (oas_cuda_count() == 0)
        skip();
    /* Of each kind of pass the first is called; pictures are shown between. */
    oasis_train_options o = small(OASIS_STAGE_AUTOENCODER, "cuda", "");
    expect_same(&o, LAUNCHED_STEPS - 2);
    o = small(OASIS_STAGE_ONE_STEP, "cuda", "");
    o.gradient = 0.1;
    o.encoder_features = 0.1;
    expect_same(&o, LAUNCHED_STEPS - 2);
    o = small(OASIS_STAGE_ONE_STEP, "cuda", ""); /* again: in_folder keeps four paths */
    o.accumulate = 2;
    o.checkpointing = true;
    o.clip = 0.01;
    expect_same(&o, 2 * LAUNCHED_STEPS - 2);
}

/* A discriminator that has its full weight from the third step on: of the passes from then the first is called. */
static void test_judged(void **state)
{
    (void)state;
    if (oas_cuda_count() == 0)
        skip();
    oasis_train_options o = small(OASIS_STAGE_ONE_STEP, "cuda", "");
    o.adversarial = o.feature_matching = 0.1;
    o.adversarial_start = 0;
    o.adversarial_ramp = 2;
    o.middle = 0;
    o.discriminator_width = 4;
    o.r1 = 0;
    expect_same(&o, LAUNCHED_STEPS - 3);
}

/* What differs from pass to pass in other ways is called each time. */
static void test_called(void **state)
{
    (void)state;
    if (oas_cuda_count() == 0)
        skip();
    oasis_train_options o = small(OASIS_STAGE_DIFFUSION, "cuda", "");
    expect_same(&o, 0);
    o = small(OASIS_STAGE_ONE_STEP, "cuda", "");
    o.adversarial = 0.1;
    o.adversarial_start = 2; /* before that, passes are as without it */
    o.middle = 0;
    o.discriminator_width = 4;
    o.r1 = 1;
    expect_same(&o, 1);
}

/* A GPU that is not there, and a name that is none. */
static void test_refusals(void **state)
{
    (void)state;
    oasis_train_options o = small(OASIS_STAGE_AUTOENCODER, "cuda:99", "none");
    expect_refusal(&o, oas_cuda_count() == 0 ? "GPU" : "99");
    o.device = "gpu";
    expect_refusal(&o, "'gpu' is unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_losses),   cmocka_unit_test(test_adversary), cmocka_unit_test(test_resume),
        cmocka_unit_test(test_launched), cmocka_unit_test(test_judged),    cmocka_unit_test(test_called),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("train/gpu", tests, setup, teardown);
}
