/*
 * A transformer with weights of Q8_0: its velocity against that of bf16 weights, on the reference tensors through the
 * converter and at the full width of the 1.3B model; the unpacked weights are not kept; any threads give the same bits.
 */
#include "format/safetensors.h"
#include "golden/wan.h"
#include "model.h"
#include "tensor/pack.h"
#include "tensor/q8.h"
#include "tensor/sampler.h"

#include <oasis/convert.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DATA OASIS_SOURCE_DIR "/tests/data/"

/* Rounding to 127 steps of the largest of 32 makes about 0.5 % in a matrix and its products. */
static const double MOST = 0.02;

static double relative(const tensor *a, const tensor *b)
{
    double difference = 0, norm = 0;
    assert_true(oas_shape_equal(&a->shape, &b->shape));
    for (int64_t i = 0, n = oas_count(&a->shape); i < n; i++) {
        double x = (double)((const float *)a->data)[i], y = (double)((const float *)b->data)[i];
        difference += (x - y) * (x - y);
        norm += y * y;
    }
    return sqrt(difference / norm);
}

/* ---- the reference tensors, by way of a model file -------------------------------------------------------------------- */

static char folder[64], checkpoint[96], output[96];

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/oasis-q8-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(checkpoint, sizeof checkpoint, "%s/dit.safetensors", folder);
    snprintf(output, sizeof output, "%s/out.safetensors", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(checkpoint);
    unlink(output);
    return rmdir(folder);
}

static void write_checkpoint(void)
{
    weight_file *file = NULL;
    oasis_message why = {""};
    if (oas_weight_file_open(&file, DATA "wan-dit-tiny-routed.safetensors", &why) < 0)
        fail_msg("%s", why.text);
    stored *entry = calloc(oas_weight_file_count(file), sizeof *entry);
    assert_non_null(entry);
    size_t count = 0;
    for (size_t i = 0; i < oas_weight_file_count(file); i++)
        if (strncmp(oas_weight_file_at(file, i)->name, "test.", 5) != 0)
            entry[count++] = *oas_weight_file_at(file, i);
    safetensors_file out = {.entry = entry, .count = count};
    assert_int_equal(oas_safetensors_write(checkpoint, &out, &why), OASIS_OK);
    free(entry);
    oas_weight_file_close(&file);
}

/* Converts, opens, runs on the golden input; the velocity goes into `to`, which has room. */
static int64_t velocity_of(int dtype, device *cpu, oas_dtype compute, tensor *to)
{
    oasis_message why = {""};
    oasis_convert_options o;
    oasis_convert_report report;
    oasis_model *model = NULL;
    weight_file *reference = NULL;
    oasis_convert_options_init(&o);
    o.transformer = checkpoint;
    o.num_heads = 4;
    o.dtype = dtype;
    if (oasis_convert(output, &o, &report, &why) < 0 || oasis_model_open(&model, output, &why) < 0 ||
        oas_weight_file_open(&reference, DATA "wan-dit-tiny-routed.safetensors", &why) < 0)
        fail_msg("%s", why.text);
    oasis_model_info info;
    oasis_model_describe(model, &info);
    assert_string_equal(info.weights, dtype == OASIS_WEIGHTS_Q8_0   ? "q8_0"
                                      : dtype == OASIS_WEIGHTS_BF16 ? "bf16"
                                                                    : "fp32");
    graph g = {.device = cpu, .backend = cpu ? OAS_CPU : OAS_REF, .compute = compute};
    assert_true(oas_arena_new(&g.memory, (size_t)64 << 20));
    tensor *v = oas_dit(&g, &model->dit, wan_channels_last(&g, reference, "test.input_latent"));
    if (!v)
        fail_msg("%s", g.message.text);
    to->shape = v->shape;
    memcpy(to->data, v->data, oas_bytes(v));
    oas_arena_free(&g.memory);
    oas_weight_file_close(&reference);
    oasis_model_close(&model);
    return report.bytes;
}

static void test_reference(void **state)
{
    (void)state;
    device *cpu = NULL;
    oasis_message why;
    static float values[4][16 * 4096];
    tensor bf16 = {.data = values[0]}, q8 = {.data = values[1]}, ref = {.data = values[2]}, fast = {.data = values[3]};
    assert_int_equal(oas_device_new(&cpu, 2, &why), OASIS_OK);
    write_checkpoint();
    int64_t wide = velocity_of(OASIS_WEIGHTS_BF16, cpu, OAS_F32, &bf16);
    int64_t narrow = velocity_of(OASIS_WEIGHTS_Q8_0, cpu, OAS_F32, &q8);
    double error = relative(&q8, &bf16);
    print_message("    velocity: %.4f of bf16's; file %.2f of it\n", error, (double)narrow / (double)wide);
    assert_true(error > 1e-4 && error < MOST);
    velocity_of(OASIS_WEIGHTS_Q8_0, NULL, OAS_F32, &ref); /* the definition unpacks whole tensors */
    assert_true(relative(&q8, &ref) < 1e-5);
    if (oas_device_has_bf16(cpu)) {
        velocity_of(OASIS_WEIGHTS_Q8_0, cpu, OAS_BF16, &fast);
        assert_true(relative(&fast, &ref) < 2e-2);
    }
    oas_device_free(&cpu);
}

/* ---- at full width -------------------------------------------------------------------------------------------------------- */

/* The same matrices in another type. */
static void change_type(parameter_set *from, parameter_set *to, oas_dtype type)
{
    for (int i = 0; i < from->count; i++) {
        const parameter *p = from->items[i];
        const tensor *t = &p->tensor;
        int64_t n = oas_count(&t->shape);
        bool matrix = t->shape.rank == 2 && t->shape.size[1] % OAS_Q8_BLOCK == 0;
        tensor *made = oas_parameters_add(to, p->name, matrix ? type : OAS_F32, t->shape, NULL);
        assert_non_null(made);
        if (matrix && type == OAS_Q8_0)
            assert_true(oas_q8_pack(t->data, n / OAS_Q8_BLOCK, made->data));
        else
            oas_convert(made->data, made->dtype, t->data, OAS_F32, n);
    }
}

/* Runs a transformer of these weights; the velocity is copied to `to`.  Returns the bytes of weights at the end. */
static size_t run(parameter_set *weights, const dit_config *config, const route_layer *routes, int threads, float *to,
                  shape *size)
{
    device *cpu = NULL;
    dit net;
    oasis_message why;
    assert_int_equal(oas_device_new(&cpu, threads, &why), OASIS_OK);
    if (oas_dit_bind(&net, config, routes, weights) < 0)
        fail_msg("%s", weights->message.text);
    graph g = {.device = cpu, .backend = OAS_CPU, .compute = oas_device_has_bf16(cpu) ? OAS_BF16 : OAS_F32};
    assert_true(oas_arena_new(&g.memory, (size_t)256 << 20));
    sampler s = {.graph = &g, .activation = OAS_F32, .state = 9};
    tensor *v = oas_dit(&g, &net, oas_sample_floats(&s, OAS_SHAPE5(1, 2, 10, 8, 16), 1));
    if (!v)
        fail_msg("%s", g.message.text);
    *size = v->shape;
    memcpy(to, v->data, oas_bytes(v));
    size_t bytes = oas_parameters_packed_bytes(weights);
    for (int i = 0; i < weights->count; i++)
        bytes += oas_bytes(&weights->items[i]->tensor);
    oas_dit_free(&net);
    oas_arena_free(&g.memory);
    oas_device_free(&cpu);
    return bytes;
}

static void test_full_width(void **state)
{
    (void)state;
    enum { VALUES = 2 * 10 * 8 * 16 };
    static const dit_config config = {.in_dim = 16,
                                      .latent_channels = 16,
                                      .dim = 1536,
                                      .ffn_dim = 8960,
                                      .heads = 12,
                                      .layers = 1,
                                      .eps = 1e-6f,
                                      .rope_theta = 10000};
    const route_layer route = {.heads = 12, .window = {3, 5, 5}, .kind = "ggggiiiiwwww"};
    parameter_set source = {.create = true, .path = "test"}, wide = {.path = "bf16"}, narrow = {.path = "q8_0"};
    dit unused;
    static float bf16[VALUES], q8[VALUES], again[VALUES];
    tensor a = {.data = q8}, b = {.data = bf16};
    assert_int_equal(oas_dit_bind(&unused, &config, &route, &source), OASIS_OK);
    oas_dit_free(&unused);
    graph g = {.backend = OAS_REF};
    sampler s = {.graph = &g, .state = 3};
    assert_true(oas_arena_new(&g.memory, (size_t)64 << 20));
    for (int i = 0; i < source.count; i++) {
        tensor *t = &source.items[i]->tensor;
        float scale = t->shape.rank > 1 ? 1.7f / sqrtf((float)(oas_count(&t->shape) / t->shape.size[0])) : 0.5f;
        size_t mark = oas_graph_mark(&g);
        memcpy(t->data, oas_sample_floats(&s, t->shape, scale)->data, oas_bytes(t));
        oas_graph_release(&g, mark);
    }
    oas_arena_free(&g.memory);
    change_type(&source, &wide, OAS_BF16);
    change_type(&source, &narrow, OAS_Q8_0);
    oas_parameters_free(&source);
    size_t more = run(&wide, &config, &route, 2, bf16, &b.shape), less = run(&narrow, &config, &route, 2, q8, &a.shape);
    double error = relative(&a, &b);
    print_message("    1536 wide: %.4f of bf16's; weights in memory %.1f and %.1f MiB\n", error, (double)less / 1048576,
                  (double)more / 1048576);
    assert_true(error > 1e-4 && error < MOST);
    assert_true(2 * less < more); /* nothing that was unpacked stays */
    run(&narrow, &config, &route, 3, again, &a.shape);
    assert_memory_equal(again, q8, sizeof q8);
    oas_parameters_free(&wide);
    oas_parameters_free(&narrow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reference), cmocka_unit_test(test_full_width)};
    return cmocka_run_group_tests_name("golden/wan_q8", tests, setup, teardown);
}
