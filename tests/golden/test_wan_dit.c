/*
 * The transformer with everything Wan2.1's has (time embedding, text branch, routed heads) against tensors of the public
 * implementation at small width, stage by stage: tests/data/wan-dit-*.safetensors.
 */
#include "golden/wan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* fp32, products summed in another order, through three blocks: 1e-6 is usual; the project's promise is 1e-4. */
static const double TOLERANCE_FP32 = 1e-5;
/* bf16 has eight bits of mantissa; errors add up over the blocks. */
static const double TOLERANCE_BF16 = 3e-2;

#define DATA OASIS_SOURCE_DIR "/tests/data/"
/* Five rows of a prompt and eleven of padding; no prompt, all sixteen rows alike. */
static const char ALL_GLOBAL[] = DATA "wan-dit-tiny.safetensors", ROUTED[] = DATA "wan-dit-tiny-routed.safetensors";

static device *cpu;

static int setup(void **state)
{
    (void)state;
    oasis_message why;
    return oas_device_new(&cpu, 2, &why) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    oas_device_free(&cpu);
    return 0;
}

/* The worst error over the stages of a file, of which there must be eight, and over its gradients. */
static double worst(const char *path, wan_run run)
{
    weight_file *file = NULL;
    oasis_message why = {""};
    if (oas_weight_file_open(&file, path, &why) < 0)
        fail_msg("%s", why.text);
    if (!wan_golden(file, &run))
        fail_msg("%s: %s", path, run.message);
    oas_weight_file_close(&file);
    assert_true(run.gradients ? run.stages > 25 : run.stages == 8);
    return run.worst;
}

static void test_reference(void **state)
{
    (void)state;
    assert_true(worst(ALL_GLOBAL, (wan_run){0}) < TOLERANCE_FP32);
    assert_true(worst(ROUTED, (wan_run){0}) < TOLERANCE_FP32);
}

static void test_fast(void **state)
{
    (void)state;
    assert_true(worst(ALL_GLOBAL, (wan_run){.device = cpu}) < TOLERANCE_FP32);
    assert_true(worst(ROUTED, (wan_run){.device = cpu}) < TOLERANCE_FP32);
}

/* A zero prompt is one constant per block; any prompt is its keys and values. */
static void test_text_reductions(void **state)
{
    (void)state;
    assert_true(worst(ROUTED, (wan_run){.device = cpu, .constant = true}) < TOLERANCE_FP32);
    assert_true(worst(ALL_GLOBAL, (wan_run){.device = cpu, .stored = true}) < TOLERANCE_FP32);
    assert_true(worst(ALL_GLOBAL, (wan_run){.device = cpu, .constant = true}) > 10 * TOLERANCE_FP32);
}

static void test_gradients(void **state)
{
    (void)state;
    assert_true(worst(ALL_GLOBAL, (wan_run){.device = cpu, .gradients = true}) < TOLERANCE_FP32);
    assert_true(worst(ROUTED, (wan_run){.device = cpu, .gradients = true}) < TOLERANCE_FP32);
}

static void test_bf16(void **state)
{
    (void)state;
    if (!oas_device_has_bf16(cpu))
        skip();
    assert_true(worst(ALL_GLOBAL, (wan_run){.device = cpu, .compute = OAS_BF16}) < TOLERANCE_BF16);
}

/* ---- mutations -------------------------------------------------------------------------------------------------------- */

typedef struct mutation {
    const char *name;
    float add, factor;
} mutation;

static void change(parameter_set *weights, void *user)
{
    const mutation *m = user;
    tensor *t = (tensor *)(uintptr_t)oas_parameters_find(weights, m->name);
    assert_non_null(t);
    for (int64_t i = 0; i < oas_count(&t->shape); i++)
        ((float *)t->data)[i] = ((float *)t->data)[i] * m->factor + m->add;
}

/* The tolerance notices small changes of whatever the text branch and the time embedding hold. */
static void test_mutations(void **state)
{
    (void)state;
    /* A bias that is the same for all keys changes nothing; without the padding's weight there are too few keys. */
    static mutation mutations[] = {
        {"prompt_bias", 0, 0},
        {"blocks.1.norm3.weight", 0, 1.01f},
        {"blocks.2.cross_attn.norm_k.weight", 0, 1.01f},
        {"time_embedding.2.bias", 0.01f, 1},
        {"text_embedding.0.bias", 0.01f, 1},
        {"head.modulation", 0.01f, 1},
    };
    for (size_t i = 0; i < sizeof mutations / sizeof *mutations; i++) {
        wan_run run = {.device = cpu, .quiet = true, .mutate = change, .user = &mutations[i]};
        if (!(worst(ALL_GLOBAL, run) > 3 * TOLERANCE_FP32))
            fail_msg("a change of %s passes", mutations[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference), cmocka_unit_test(test_fast),      cmocka_unit_test(test_text_reductions),
        cmocka_unit_test(test_gradients), cmocka_unit_test(test_bf16),      cmocka_unit_test(test_mutations),
    };
    return cmocka_run_group_tests_name("golden/wan_dit", tests, setup, teardown);
}
