/*
 * The converter, on the reference tensors as checkpoints: the model file it writes computes what the reference did, in
 * both layouts of names; what is missing, left over or of another shape is named; random weights of a seed are the same.
 */
#include "format/names.h"
#include "format/safetensors.h"
#include "golden/wan.h"
#include "model.h"
#include "net/wan_vae.h"

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

/* fp32 through three blocks, once with the constant of the text branch computed at conversion. */
static const double TOLERANCE = 1e-5;

static char folder[64], checkpoint[96], autoencoder[96], output[96];

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/oasis-convert-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(checkpoint, sizeof checkpoint, "%s/dit.safetensors", folder);
    snprintf(autoencoder, sizeof autoencoder, "%s/vae.safetensors", folder);
    snprintf(output, sizeof output, "%s/out.safetensors", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(checkpoint);
    unlink(autoencoder);
    unlink(output);
    return rmdir(folder);
}

/* What to do to a checkpoint on the way. */
typedef struct change {
    bool diffusers;
    const char *drop, *add, *reshape; /* names */
} change;

/* Writes the weights of a golden file as a checkpoint. */
static void write_checkpoint(const char *from, const char *to, change what)
{
    static char names[1024][OAS_STORED_MAX_NAME + 1];
    weight_file *file = NULL;
    oasis_message why = {""};
    if (oas_weight_file_open(&file, from, &why) < 0)
        fail_msg("%s", why.text);
    stored *entry = calloc(oas_weight_file_count(file) + 1, sizeof *entry);
    assert_non_null(entry);
    size_t count = 0;
    for (size_t i = 0; i < oas_weight_file_count(file); i++) {
        const stored *t = oas_weight_file_at(file, i);
        if (strncmp(t->name, "test.", 5) == 0 || (what.drop && strcmp(t->name, what.drop) == 0))
            continue;
        entry[count] = *t;
        if (what.reshape && strcmp(t->name, what.reshape) == 0) {
            entry[count].rank = 1;
            entry[count].size[0] = oas_stored_count(t);
        }
        if (what.diffusers) {
            assert_true(oas_name_in_diffusers(t->name, names[count]));
            entry[count].name = names[count];
        }
        count++;
    }
    if (what.add) {
        entry[count] = entry[0];
        entry[count++].name = what.add;
    }
    safetensors_file out = {.entry = entry, .count = count};
    if (oas_safetensors_write(to, &out, &why) < 0)
        fail_msg("%s", why.text);
    free(entry);
    oas_weight_file_close(&file);
}

static oasis_convert_options usual(void)
{
    oasis_convert_options o;
    oasis_convert_options_init(&o);
    o.transformer = checkpoint;
    o.autoencoder = autoencoder;
    o.num_heads = 4;
    o.dtype = OASIS_WEIGHTS_FP32;
    return o;
}

/* Runs the file's transformer and decoder on the inputs of the golden files: the worst error. */
static double worst_of_model(const char *path)
{
    oasis_model *model = NULL;
    device *cpu = NULL;
    weight_file *reference = NULL, *vae = NULL;
    oasis_message why = {""};
    if (oasis_model_open(&model, path, &why) < 0 || oas_device_new(&cpu, 2, &why) < 0 ||
        oas_weight_file_open(&reference, DATA "wan-dit-tiny-routed.safetensors", &why) < 0 ||
        oas_weight_file_open(&vae, DATA "wan-vae-tiny.safetensors", &why) < 0)
        fail_msg("%s", why.text);
    static const char *const routes[] = {"giww", "wwig", "iwgw"};
    for (int i = 0; i < 3; i++)
        memcpy(model->file.routing.layer[i].kind, routes[i], 4);
    graph g = {.device = cpu, .backend = OAS_CPU};
    wan_run run = {.quiet = true};
    assert_true(oas_arena_new(&g.memory, (size_t)256 << 20));
    tensor *v = oas_dit(&g, &model->dit, wan_channels_last(&g, reference, "test.input_latent"));
    wan_compare(reference, "test.output", v, true, &run);
    tensor *frames = oas_decode(&g, model, NULL, wan_channels_last(&g, vae, "test.latent"), NULL);
    wan_compare(vae, "test.decoded_unclamped", frames, true, &run);
    if (g.status < 0)
        fail_msg("%s", g.message.text);
    assert_int_equal(run.stages, 2);
    oas_arena_free(&g.memory);
    oas_weight_file_close(&reference);
    oas_weight_file_close(&vae);
    oas_device_free(&cpu);
    oasis_model_close(&model);
    return run.worst;
}

static void convert_and_compare(bool diffusers)
{
    oasis_message why = {""};
    oasis_convert_report report;
    oasis_convert_options o = usual();
    write_checkpoint(DATA "wan-dit-tiny-routed.safetensors", checkpoint, (change){.diffusers = diffusers});
    write_checkpoint(DATA "wan-vae-tiny.safetensors", autoencoder, (change){.diffusers = diffusers});
    if (oasis_convert(output, &o, &report, &why) < 0)
        fail_msg("%s", why.text);
    assert_int_equal(report.num_layers, 3);
    assert_string_equal(report.text, "constant");
    assert_true(worst_of_model(output) < TOLERANCE);
    assert_int_equal(oasis_model_verify(output, &why), OASIS_OK);
}

static void test_original(void **state)
{
    (void)state;
    convert_and_compare(false);
}

static void test_diffusers(void **state)
{
    (void)state;
    convert_and_compare(true);
}

/* Every second tensor in another file, and an index of both; the digests of all three are recorded. */
static void test_sharded(void **state)
{
    (void)state;
    oasis_message why = {""};
    oasis_convert_options o = usual();
    char part[2][96], index[96];
    weight_file *file = NULL;
    stored entry[2][256];
    size_t count[2] = {0, 0};
    snprintf(index, sizeof index, "%s/dit.safetensors.index.json", folder);
    write_checkpoint(DATA "wan-dit-tiny-routed.safetensors", checkpoint, (change){0});
    write_checkpoint(DATA "wan-vae-tiny.safetensors", autoencoder, (change){0});
    assert_int_equal(oas_weight_file_open(&file, checkpoint, &why), OASIS_OK);
    FILE *json = fopen(index, "w");
    assert_non_null(json);
    fputs("{\"weight_map\":{", json);
    for (size_t i = 0; i < oas_weight_file_count(file); i++) {
        const stored *t = oas_weight_file_at(file, i);
        entry[i % 2][count[i % 2]++] = *t;
        fprintf(json, "%s\"%s\":\"part%zu.safetensors\"", i ? "," : "", t->name, i % 2);
    }
    fputs("}}", json);
    fclose(json);
    for (int i = 0; i < 2; i++) {
        safetensors_file out = {.entry = entry[i], .count = count[i]};
        snprintf(part[i], sizeof part[i], "%s/part%d.safetensors", folder, i);
        assert_int_equal(oas_safetensors_write(part[i], &out, &why), OASIS_OK);
    }
    oas_weight_file_close(&file);
    o.transformer = index;
    if (oasis_convert(output, &o, NULL, &why) < 0)
        fail_msg("%s", why.text);
    assert_true(worst_of_model(output) < TOLERANCE);
    assert_int_equal(oas_weight_file_open(&file, output, &why), OASIS_OK);
    const char *sources = oas_weight_file_note(file, "sources");
    assert_true(strstr(sources, "index.json") && strstr(sources, "part0") && strstr(sources, "part1") &&
                strstr(sources, "vae"));
    oas_weight_file_close(&file);
    unlink(index);
    unlink(part[0]);
    unlink(part[1]);
}

/* bf16 halves the matrices; the file still computes the same but for rounding. */
static void test_bf16(void **state)
{
    (void)state;
    oasis_message why = {""};
    oasis_convert_report wide, narrow;
    oasis_convert_options o = usual();
    write_checkpoint(DATA "wan-dit-tiny-routed.safetensors", checkpoint, (change){0});
    write_checkpoint(DATA "wan-vae-tiny.safetensors", autoencoder, (change){0});
    assert_int_equal(oasis_convert(output, &o, &wide, &why), OASIS_OK);
    o.dtype = OASIS_WEIGHTS_BF16;
    assert_int_equal(oasis_convert(output, &o, &narrow, &why), OASIS_OK);
    assert_int_equal(narrow.parameters, wide.parameters);
    assert_true(narrow.bytes < wide.bytes * 7 / 10);
    double worst = worst_of_model(output);
    assert_true(worst > TOLERANCE && worst < 0.05);
}

/* A prompt of five rows, at the published length of 512: keys and values of six rows. */
static void test_prompt(void **state)
{
    (void)state;
    oasis_message why = {""};
    oasis_convert_report report;
    oasis_convert_options o = usual();
    char prompt[96];
    float rows[5 * 32] = {0};
    for (int i = 0; i < 5 * 32; i++)
        rows[i] = (float)(i % 7) - 3;
    stored entry = {.name = "prompt_embeds", .dtype = OAS_STORED_F32, .rank = 2, .size = {5, 32}, .data = rows};
    safetensors_file file = {.entry = &entry, .count = 1};
    snprintf(prompt, sizeof prompt, "%s/prompt.safetensors", folder);
    assert_int_equal(oas_safetensors_write(prompt, &file, &why), OASIS_OK);
    write_checkpoint(DATA "wan-dit-tiny-routed.safetensors", checkpoint, (change){0});
    o.prompt = prompt;
    o.autoencoder = NULL;
    if (oasis_convert(output, &o, &report, &why) < 0)
        fail_msg("%s", why.text);
    unlink(prompt);
    oasis_model *model = NULL;
    if (oasis_model_open(&model, output, &why) < 0)
        fail_msg("%s", why.text);
    assert_string_equal(report.text, "prompt");
    assert_int_equal(model->dit.text.bias->shape.size[0], 6);
    assert_true(fabsf(((float *)model->dit.text.bias->data)[5] - logf(507)) < 1e-6f);
    oasis_model_close(&model);
}

/* ---- clips ----------------------------------------------------------------------------------------------------------------- */

/* Frame t of clip `index`: noise, so that 48 positions are as many equations. */
static void draw_frame(oasis_frame *frame, int index, int t)
{
    uint32_t seed = (uint32_t)(index * 100 + t);
    assert_int_equal(oasis_frame_new(frame, 48, 32, false), OASIS_OK);
    for (int i = 0; i < 48 * 32 * 3; i++) {
        seed = seed * 1664525u + 1013904223u;
        frame->rgb[i] = (float)(seed >> 8) / 16777216.f;
    }
}

static oasis_status two_clips(void *user, int index, oasis_frame *frames, int *count, oasis_message *message)
{
    (void)user;
    (void)message;
    *count = index < 2 ? 6 : 0; /* of which five are used */
    for (int t = 0; t < *count; t++)
        draw_frame(&frames[t], index, t);
    return OASIS_OK;
}

/* The share of the encoder's variance on clip 0 that the file's projection explains. */
static double explained_on_clip(const char *path)
{
    oasis_model *model = NULL;
    device *cpu = NULL;
    weight_file *file = NULL;
    oasis_message why = {""};
    parameter_set weights = {.path = autoencoder};
    if (oasis_model_open(&model, path, &why) < 0 || oas_device_new(&cpu, 2, &why) < 0 ||
        oas_weight_file_open(&file, autoencoder, &why) < 0)
        fail_msg("%s", why.text);
    for (size_t i = 0; i < oas_weight_file_count(file); i++) {
        const stored *t = oas_weight_file_at(file, i);
        shape s = {.rank = t->rank};
        memcpy(s.size, t->size, sizeof s.size);
        tensor *made = oas_parameters_add(&weights, t->name, OAS_F32, s, NULL);
        oas_stored_floats(t, 0, oas_count(&s), made->data);
    }
    wan_encoder *encoder = oas_wan_encoder_bind(8, NULL, NULL, &weights);
    graph g = {.device = cpu, .backend = OAS_CPU};
    assert_true(encoder && oas_arena_new(&g.memory, (size_t)64 << 20));
    tensor *pixels = oas_tensor(&g, OAS_F32, OAS_SHAPE5(1, 5, 32, 48, 3));
    for (int t = 0; t < 5; t++) {
        oasis_frame frame;
        draw_frame(&frame, 0, t);
        for (int i = 0; i < 32 * 48 * 3; i++)
            ((float *)pixels->data)[t * 32 * 48 * 3 + i] = 2 * frame.rgb[i] - 1;
        oasis_frame_free(&frame);
    }
    const float *y = oas_wan_encode(&g, encoder, NULL, pixels)->data, *fit = oas_project(&g, model, pixels, true)->data;
    double sum[16] = {0}, square = 0, difference = 0;
    for (int i = 0; i < 48 * 16; i++) {
        sum[i % 16] += (double)y[i];
        square += (double)y[i] * (double)y[i];
        difference += ((double)y[i] - (double)fit[i]) * ((double)y[i] - (double)fit[i]);
    }
    for (int i = 0; i < 16; i++)
        square -= sum[i] * sum[i] / 48;
    oas_wan_encoder_free(&encoder);
    oas_parameters_free(&weights);
    oas_arena_free(&g.memory);
    oas_weight_file_close(&file);
    oas_device_free(&cpu);
    oasis_model_close(&model);
    return 1 - difference / square;
}

static void test_clips(void **state)
{
    (void)state;
    oasis_message why = {""};
    oasis_convert_report report;
    oasis_convert_options o = usual();
    write_checkpoint(DATA "wan-dit-tiny-routed.safetensors", checkpoint, (change){0});
    write_checkpoint(DATA "wan-vae-tiny.safetensors", autoencoder, (change){0});
    assert_int_equal(oasis_convert(output, &o, NULL, &why), OASIS_OK);
    double before = explained_on_clip(output);
    o.clip = two_clips;
    if (oasis_convert(output, &o, &report, &why) < 0)
        fail_msg("%s", why.text);
    double after = explained_on_clip(output);
    print_message("    explained: random %.2f, fitted %.4f, said of channel 0 %.4f\n", before, after, report.explained[0]);
    assert_true(before < 0.5);
    /* 96 positions are fewer than 769 unknowns: all but what the ridge keeps back, and bf16's rounding. */
    assert_true(after > 0.9 && after <= 1);
    for (int i = 0; i < 16; i++)
        assert_true(report.explained[i] > 0.8 && report.explained[i] <= 1.001);
    o.autoencoder = NULL;
    assert_int_equal(oasis_convert(output, &o, NULL, &why), OASIS_E_ARGUMENT);
}

static void refused(change what, oasis_convert_options o, oasis_status status, const char *says)
{
    oasis_message why = {""};
    write_checkpoint(DATA "wan-dit-tiny-routed.safetensors", checkpoint, what);
    unlink(output);
    assert_int_equal(oasis_convert(output, &o, NULL, &why), status);
    if (!strstr(why.text, says))
        fail_msg("\"%s\" does not name %s", why.text, says);
    assert_int_not_equal(access(output, F_OK), 0);
}

static void test_accounting(void **state)
{
    (void)state;
    oasis_convert_options o = usual();
    o.autoencoder = NULL;
    refused((change){.drop = "blocks.1.norm3.bias"}, o, OASIS_E_FORMAT, "blocks.1.norm3.bias [96] is missing");
    refused((change){.drop = "patch_embedding.weight"}, o, OASIS_E_FORMAT, "patch_embedding.weight");
    refused((change){.add = "blocks.7.thing"}, o, OASIS_E_FORMAT, "blocks.7.thing");
    refused((change){.add = "blocks.0.cross_attn.k_img.weight"}, o, OASIS_E_UNSUPPORTED, "image-to-video");
    refused((change){.reshape = "blocks.0.self_attn.q.weight"}, o, OASIS_E_FORMAT, "expected [96, 96]");
    o.heads = "2,1,2";
    refused((change){0}, o, OASIS_E_ARGUMENT, "4 heads in all");
    o.heads = NULL;
    o.autoencoder = checkpoint;
    refused((change){0}, o, OASIS_E_FORMAT, "decoder.head.0.gamma");
    o.transformer = NULL;
    refused((change){0}, o, OASIS_E_ARGUMENT, "--transformer");
    o.random = "wan9";
    refused((change){0}, o, OASIS_E_ARGUMENT, "wan2.1-1.3b");
}

static bool stop(void *user, double done)
{
    (void)user;
    (void)done;
    return false;
}

static void test_cancel(void **state)
{
    (void)state;
    oasis_convert_options o = usual();
    o.transformer = NULL;
    o.random = "wan2.1-1.3b"; /* nothing of its gigabytes is made before the first piece */
    o.progress = stop;
    refused((change){0}, o, OASIS_E_CANCELLED, "cancelled");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_original),   cmocka_unit_test(test_diffusers), cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_sharded),
        cmocka_unit_test(test_prompt),     cmocka_unit_test(test_accounting), cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_clips),
    };
    return cmocka_run_group_tests_name("golden/wan_convert", tests, setup, teardown);
}
