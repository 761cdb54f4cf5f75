/*
 * Another file's decoder in a model: the same decoder gives the same bits, normalisations that differ are changed on the
 * way, TAEHV's layout and a model's own decoder are found, what does not fit gets a sentence and changes nothing.
 */
#include "format/names.h"
#include "format/safetensors.h"
#include "model.h"
#include "net/wan_vae.h"
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
static const char DIT[] = DATA "wan-dit-tiny-routed.safetensors", VAE[] = DATA "wan-vae-tiny.safetensors";
static const char NANO[] = DATA "bootstrap-nano.safetensors"; /* 16 latent channels, as Wan */

/* The change of latents is a product in fp32, before a network in fp32. */
static const double TOLERANCE = 1e-5;

enum { F = 3, H = 4, W = 6, CHANNELS = 16, FRAMES = 4 * F - 3, VALUES = FRAMES * H * W * 64 * 3 };

static char folder[64], checkpoint[96], vae[96], wan[96], other[96];

static void write_weights(const char *from, const char *to, bool diffusers, const char *add)
{
    static char names[512][OAS_STORED_MAX_NAME + 1];
    weight_file *file = NULL;
    oasis_message why = {""};
    if (oas_weight_file_open(&file, from, &why) < 0)
        fail_msg("%s", why.text);
    stored *entry = calloc(oas_weight_file_count(file) + 1, sizeof *entry);
    assert_non_null(entry);
    size_t count = 0;
    for (size_t i = 0; i < oas_weight_file_count(file); i++) {
        const stored *t = oas_weight_file_at(file, i);
        if (strncmp(t->name, "test.", 5) == 0)
            continue;
        entry[count] = *t;
        if (diffusers) {
            assert_true(oas_name_in_diffusers(t->name, names[count]));
            entry[count].name = names[count];
        }
        count++;
    }
    if (add) {
        entry[count] = entry[0];
        entry[count++].name = add;
    }
    safetensors_file out = {.entry = entry, .count = count};
    assert_int_equal(oas_safetensors_write(to, &out, &why), OASIS_OK);
    free(entry);
    oas_weight_file_close(&file);
}

static int setup(void **state)
{
    (void)state;
    oasis_message why = {""};
    oasis_convert_options o;
    strcpy(folder, "/tmp/oasis-decoder-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(checkpoint, sizeof checkpoint, "%s/dit.safetensors", folder);
    snprintf(vae, sizeof vae, "%s/vae.safetensors", folder);
    snprintf(wan, sizeof wan, "%s/wan.safetensors", folder);
    snprintf(other, sizeof other, "%s/other.safetensors", folder);
    write_weights(DIT, checkpoint, false, NULL);
    write_weights(VAE, vae, false, NULL);
    oasis_convert_options_init(&o);
    o.transformer = checkpoint;
    o.autoencoder = vae;
    o.num_heads = 4;
    o.dtype = OASIS_WEIGHTS_FP32;
    return oasis_convert(wan, &o, NULL, &why) == OASIS_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    const char *const all[] = {checkpoint, vae, wan, other};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        unlink(all[i]);
    return rmdir(folder);
}

static oasis_model *open_model(const char *path)
{
    oasis_model *model = NULL;
    oasis_message why = {""};
    if (oasis_model_open(&model, path, &why) < 0)
        fail_msg("%s", why.text);
    return model;
}

static void set_decoder(oasis_model *model, const char *path)
{
    oasis_message why = {""};
    if (oasis_model_set_decoder(model, path, &why) < 0)
        fail_msg("%s", why.text);
}

/* Decodes latents, of which channel c is z * factor[c] + shift[c] (NULL: as they are). */
static const float *decode(const oasis_model *model, const float *factor, const float *shift, float *to)
{
    graph g = {.backend = OAS_REF};
    assert_true(oas_arena_new(&g.memory, (size_t)512 << 20));
    sampler s = {.graph = &g, .state = 11};
    tensor *z = oas_sample_floats(&s, OAS_SHAPE5(1, F, H, W, CHANNELS), 1);
    tensor *pixels = oas_sample_floats(&s, OAS_SHAPE5(1, FRAMES, 8 * H, 8 * W, 3), 1);
    for (int i = 0; factor && i < F * H * W * CHANNELS; i++)
        ((float *)z->data)[i] = ((float *)z->data)[i] * factor[i % CHANNELS] + shift[i % CHANNELS];
    const tensor *y = oas_decode(&g, model, NULL, z, pixels);
    if (!y)
        fail_msg("%s", g.message.text);
    assert_int_equal(oas_count(&y->shape), VALUES);
    memcpy(to, y->data, oas_bytes(y));
    oas_arena_free(&g.memory);
    return to;
}

static double relative(const float *a, const float *b)
{
    double difference = 0, norm = 0;
    for (int i = 0; i < VALUES; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / norm);
}

static float first[VALUES], second[VALUES];

/* The checkpoint that the model's decoder came from, in both layouts of names, and the model itself. */
static void test_same(void **state)
{
    (void)state;
    oasis_model *model = open_model(wan);
    oasis_model_info before, after;
    decode(model, NULL, NULL, first);
    oasis_model_describe(model, &before);
    write_weights(VAE, other, true, NULL);
    const char *const files[] = {vae, other, wan, VAE};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        set_decoder(model, files[i]);
        assert_memory_equal(decode(model, NULL, NULL, second), first, sizeof first);
        oasis_model_describe(model, &after);
        assert_string_equal(after.decoder, "wan-vae");
        assert_int_equal(after.parameters, before.parameters);
        assert_int_equal(after.decoder_parameters, before.decoder_parameters);
    }
    oasis_model_close(&model);
}

/* A model whose latents have another mean and deviation than the decoder's: the pictures are those of the same latents. */
static void test_normalisation(void **state)
{
    (void)state;
    oasis_model *model = open_model(wan), *same = open_model(wan);
    float factor[CHANNELS], shift[CHANNELS];
    model_config *c = &model->file.config;
    for (int i = 0; i < CHANNELS; i++) {
        c->latent_mean[i] = 0.1f * (float)i - 0.5f;
        c->latent_std[i] = 0.5f + 0.2f * (float)i;
        factor[i] = c->latent_std[i] / oas_wan_latent_std[i];
        shift[i] = (c->latent_mean[i] - oas_wan_latent_mean[i]) / oas_wan_latent_std[i];
    }
    set_decoder(model, vae);
    decode(model, NULL, NULL, first);
    assert_true(relative(first, decode(same, factor, shift, second)) < TOLERANCE);
    assert_true(relative(first, decode(same, NULL, NULL, second)) > 0.01); /* the change matters */
    oasis_model_close(&model);
    oasis_model_close(&same);
}

/* Our default model's decoder on Wan's latents: as it decodes by itself, but for its own normalisation. */
static void test_conditional(void **state)
{
    (void)state;
    oasis_model *model = open_model(wan), *nano = open_model(NANO);
    const model_config *c = &nano->file.config;
    float factor[CHANNELS], shift[CHANNELS];
    for (int i = 0; i < CHANNELS; i++) {
        factor[i] = c->normalised ? oas_wan_latent_std[i] / c->latent_std[i] : 1;
        shift[i] = c->normalised ? (oas_wan_latent_mean[i] - c->latent_mean[i]) / c->latent_std[i] : 0;
    }
    set_decoder(model, NANO);
    decode(model, NULL, NULL, first);
    assert_true(relative(first, decode(nano, factor, shift, second)) < TOLERANCE);
    oasis_model_close(&model);
    oasis_model_close(&nano);
}

/* ---- TAEHV ------------------------------------------------------------------------------------------------------------------ */

/* Writes a decoder in TAEHV's layout of random weights, of the latents' channels; `encoder`: with a part that is not used. */
static void write_taehv(const char *path, int latent, bool encoder)
{
    decoder_config config = {.latent_channels = latent, .widths = {8, 8, 16, 8}, .n_widths = 4};
    parameter_set set = {.create = true, .path = "taehv"};
    const decoder_kind *kind = oas_decoder_find("taehv");
    void *net = kind->bind(&config, &set);
    assert_non_null(net);
    kind->free(net);
    graph g = {.backend = OAS_REF};
    sampler s = {.graph = &g, .state = 5};
    assert_true(oas_arena_new(&g.memory, (size_t)16 << 20));
    stored *entry = calloc((size_t)set.count + 1, sizeof *entry);
    assert_non_null(entry);
    for (int i = 0; i < set.count; i++) {
        tensor *t = &set.items[i]->tensor;
        float scale = t->shape.rank > 1 ? 1.7f / sqrtf((float)(oas_count(&t->shape) / t->shape.size[0])) : 0.1f;
        memcpy(t->data, oas_sample_floats(&s, t->shape, scale)->data, oas_bytes(t));
        entry[i] =
            (stored){.name = set.items[i]->name, .dtype = OAS_STORED_F32, .rank = t->shape.rank, .data = t->data};
        memcpy(entry[i].size, t->shape.size, sizeof t->shape.size);
    }
    entry[set.count] = entry[0];
    entry[set.count].name = "encoder.0.weight";
    safetensors_file file = {.entry = entry, .count = (size_t)set.count + encoder};
    oasis_message why = {""};
    if (oas_safetensors_write(path, &file, &why) < 0)
        fail_msg("%s", why.text);
    free(entry);
    oas_arena_free(&g.memory);
    oas_parameters_free(&set);
}

static void test_taehv(void **state)
{
    (void)state;
    oasis_model *model = open_model(wan);
    oasis_decoder_info info;
    oasis_message why = {""};
    write_taehv(other, CHANNELS, true);
    set_decoder(model, other);
    assert_string_equal(model->decoder.kind->name, "taehv");
    decode(model, NULL, NULL, first);
    double sum = 0;
    for (int i = 0; i < VALUES; i++)
        sum += fabs((double)first[i]);
    assert_true(isfinite(sum) && sum > 0);
    assert_null(model->change); /* it takes Wan's latents as published */
    if (oasis_decoder_describe(other, &info, &why) < 0)
        fail_msg("%s", why.text);
    assert_string_equal(info.kind, "taehv");
    assert_true(info.alone && info.latent_channels == CHANNELS);
    oasis_model_close(&model);
}

/* The converter puts the decoder into the model: the same pictures as with it beside the model. */
static void test_converted(void **state)
{
    (void)state;
    oasis_message why = {""};
    oasis_convert_options o;
    oasis_convert_options_init(&o);
    o.transformer = checkpoint;
    o.num_heads = 4;
    o.dtype = OASIS_WEIGHTS_FP32;
    char taehv[96], out[96];
    snprintf(taehv, sizeof taehv, "%s/taehv.safetensors", folder);
    snprintf(out, sizeof out, "%s/with.safetensors", folder);
    write_taehv(taehv, CHANNELS, false);
    o.decoder = taehv;
    if (oasis_convert(out, &o, NULL, &why) < 0)
        fail_msg("%s", why.text);
    oasis_model *model = open_model(wan), *with = open_model(out);
    set_decoder(model, taehv);
    assert_memory_equal(decode(with, NULL, NULL, second), decode(model, NULL, NULL, first), sizeof first);
    oasis_model_close(&model);
    oasis_model_close(&with);
    write_taehv(taehv, CHANNELS, true); /* its encoder is passed over */
    assert_int_equal(oasis_convert(out, &o, NULL, &why), OASIS_OK);
    write_taehv(taehv, 4, false);
    assert_int_equal(oasis_convert(out, &o, NULL, &why), OASIS_E_FORMAT);
    assert_non_null(strstr(why.text, "latents of 4 channels"));
    unlink(taehv);
    unlink(out);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------------------- */

static void refused(oasis_model *model, const char *path, const char *says)
{
    oasis_message why = {""};
    assert_int_equal(oasis_model_set_decoder(model, path, &why), OASIS_E_MODEL);
    if (!strstr(why.text, says))
        fail_msg("\"%s\" does not say %s", why.text, says);
    assert_memory_equal(decode(model, NULL, NULL, second), first, sizeof first);
}

static void write_noted(const char *format, const char *config)
{
    float value = 1;
    oasis_message why = {""};
    const stored entry = {
        .name = "decoder.conv_in.bias", .dtype = OAS_STORED_F32, .rank = 1, .size = {1}, .data = &value};
    const stored_note notes[] = {{"format", format}, {"config", config}};
    safetensors_file file = {.entry = &entry, .count = 1, .note = notes, .notes = config ? 2 : 1};
    assert_int_equal(oas_safetensors_write(other, &file, &why), OASIS_OK);
}

static void test_refusals(void **state)
{
    (void)state;
    oasis_model *model = open_model(wan);
    decode(model, NULL, NULL, first);
    refused(model, "/tmp/there-is-no-such-decoder", "cannot be opened");
    refused(model, checkpoint, "there is no decoder in it");
    write_taehv(other, 4, false);
    refused(model, other, "takes latents of 4 channels, those of the model 'wan2.1-3x96' have 16");
    write_weights(VAE, other, false, "decoder.conv_in.weight"); /* diffusers' name of what is there already */
    refused(model, other, "'decoder.conv1.weight' belongs to no part");
    write_noted("oasis-decoder-2", "{}");
    refused(model, other, "\"oasis-decoder-2\"");
    write_noted("oasis-decoder-1", NULL);
    refused(model, other, "no \"config\"");
    write_noted("oasis-decoder-1", "{\"latent_channels\":16,\"decoder\":\"none\"}");
    refused(model, other, "without a decoder");
    write_noted("oasis-decoder-1", "{\"latent_channels\":16,\"decoder\":\"wavelets\"}");
    refused(model, other, "unknown decoder \"wavelets\"");
    write_noted("oasis-decoder-1", "{\"latent_channels\":99,\"decoder\":\"taehv\",\"decoder_channels\":[1,1,1,1]}");
    refused(model, other, "latent_channels is 99");
    write_noted("oasis-decoder-1",
                "{\"latent_channels\":16,\"decoder\":\"tiny-conditional\",\"decoder_channels\":[8,8,8,8]}");
    refused(model, other, "decoder.conv_in.weight");
    write_noted("oasis-decoder-1",
                "{\"latent_channels\":16,\"decoder\":\"tiny-conditional\",\"decoder_channels\":[8,8,8,8],"
                "\"latent_mean\":[0]}");
    refused(model, other, "latent_mean but no latent_std");
    oasis_model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same),        cmocka_unit_test(test_normalisation),
                                       cmocka_unit_test(test_conditional), cmocka_unit_test(test_taehv),
                                       cmocka_unit_test(test_converted),   cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests_name("golden/decoder_file", tests, setup, teardown);
}
