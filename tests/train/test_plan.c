/* Plans of training: what the trainer itself would take, at any size, without making it. */
#include "train/runs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static oasis_train_cost plan_of(const oasis_train_options *o)
{
    oasis_train_cost cost;
    oasis_message why = {""};
    if (oasis_train_cost_of(o, &cost, &why) < 0)
        fail_msg("%s", why.text);
    return cost;
}

/* As the trainer says of itself once it is there. */
static void test_agrees(void **state)
{
    (void)state;
    for (int stage = OASIS_STAGE_AUTOENCODER; stage <= OASIS_STAGE_ONE_STEP; stage += 2) {
        oasis_train_options o = tiny_options(stage, in_folder(stage ? "one" : "coder"));
        o.width = o.height = 64;
        oasis_train_cost plan = plan_of(&o), real;
        oasis_trainer *t = open_trainer(&o, &honest);
        oasis_trainer_cost(t, &real);
        oasis_trainer_close(&t);
        assert_true(plan.trained > 1000);
        assert_int_equal(plan.trained, real.trained);
        assert_int_equal(plan.parameters, real.parameters);
        assert_int_equal(plan.activation_bytes, real.activation_bytes);
        assert_int_equal(plan.total_bytes, real.total_bytes);
        assert_true(plan.flops == real.flops && plan.flops > 0);
        assert_true(plan.seconds > 0 && plan.available_bytes > plan.total_bytes);
    }
}

/* Threads that make clips: as many as are asked for; else one, or, beside a GPU, all but the trainer's. */
static void test_data_threads(void **state)
{
    (void)state;
    oasis_train_options o;
    oasis_train_options_init(&o);
    o.threads = 6;
    const struct {
        const char *device;
        int asked, threads;
    } cases[] = {{"cpu", 0, 1}, {"cpu", 4, 4}, {"cuda", 0, 5}, {"cuda:1", 0, 5}, {"cuda", 2, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        o.device = cases[i].device;
        o.data_threads = cases[i].asked;
        assert_int_equal(oasis_train_data_threads(&o), cases[i].threads);
    }
    o.threads = 1, o.data_threads = 0;
    assert_int_equal(oasis_train_data_threads(&o), 1);
}

/* A model that no machine holds is planned in no time. */
static void test_too_large(void **state)
{
    (void)state;
    oasis_train_options o = tiny_options(OASIS_STAGE_ONE_STEP, in_folder("large"));
    o.dim = 5120;
    o.layers = 200;
    o.heads = 40;
    o.ffn_dim = 13824;
    o.batch = 4;
    oasis_train_cost all = plan_of(&o);
    assert_true((double)all.trained > 40e9);
    assert_true(all.total_bytes > 20 * all.trained); /* weight, gradient, two moments, average */
    o.checkpointing = true;
    oasis_train_cost twice = plan_of(&o);
    print_message("    a pass: %.3g bytes, with blocks computed twice %.3g\n", (double)all.activation_bytes,
                  (double)twice.activation_bytes);
    assert_true(twice.activation_bytes < all.activation_bytes && twice.flops > all.flops);
    o.freeze.count = 1;
    o.freeze.text[0] = "blocks.";
    oasis_train_cost frozen = plan_of(&o);
    assert_true(frozen.trained < all.trained / 100 && frozen.parameters == all.parameters);
    assert_true(frozen.total_bytes < all.total_bytes);
    o.freeze.text[0] = "";
    oasis_message why = {""};
    assert_int_equal(oasis_train_cost_of(&o, &all, &why), OASIS_E_ARGUMENT);
    assert_non_null(strstr(why.text, "frozen"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_agrees), cmocka_unit_test(test_too_large),
                                       cmocka_unit_test(test_data_threads)};
    return cmocka_run_group_tests_name("train/plan", tests, setup, teardown);
}
