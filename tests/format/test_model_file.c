/* Model files: config and routing against their ranges and against each other, each refusal with its own sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "format/model_file.h"
#include "format/safetensors.h"
#include "helpers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUTING(layers, heads, routes)                                                                                 \
    "oasis-routing 1\nlayers " layers " heads " heads "\nwindow 3 5 5 border truncate\n" routes
static const char good_routing[] = ROUTING("2", "4", "route 0 giww\nroute 1 wgiw\n");

/* A config, key by key, so that tests can replace or leave out any. */
static const struct {
    const char *key, *value;
} good_config[] = {
    {"latent_channels", "4"},
    {"in_dim", "8"},
    {"dim", "32"},
    {"num_heads", "4"},
    {"num_layers", "2"},
    {"ffn_dim", "64"},
    {"patch_size", "[1,2,2]"},
    {"unshuffle", "[4,8,8]"},
    {"eps", "1e-06"},
    {"rope_theta", "10000"},
    {"sigma", "0.4"},
    {"text", "\"none\""},
    {"decoder", "\"tiny-conditional\""},
    {"decoder_channels", "[16,8,8,4]"},
    {"trained_window", "[5,64,96]"},
    {"upscale", "\"bicubic a=-0.75, half-pixel centres\""},
};
enum { KEYS = sizeof good_config / sizeof good_config[0] };

/* The config with `key` changed to `value`, left out when that is NULL, added when the key is new. */
static text_buffer config_with(const char *key, const char *value)
{
    text_buffer text = {0};
    bool first = true, replaced = false;
    oas_text_add(&text, "{");
    for (int i = 0; i < KEYS; i++) {
        bool this = key && strcmp(key, good_config[i].key) == 0;
        replaced = replaced || this;
        if (this && !value)
            continue;
        oas_text_add(&text, "%s\"%s\":%s", first ? "" : ",", good_config[i].key, this ? value : good_config[i].value);
        first = false;
    }
    if (key && value && !replaced)
        oas_text_add(&text, ",\"%s\":%s", key, value);
    oas_text_add(&text, "}");
    return text;
}

/* A model file with these metadata; NULL leaves one out. */
static bytes model_bytes(const char *format, const char *config, const char *routes, const char *tensors, size_t data)
{
    text_buffer header = {0};
    oas_text_add(&header, "{\"__metadata__\":{\"name\":\"n\"");
    const char *const notes[][2] = {{"format", format}, {"config", config}, {"routing", routes}};
    for (size_t i = 0; i < 3; i++)
        if (notes[i][1]) {
            oas_text_add(&header, ",\"%s\":", notes[i][0]);
            oas_json_add_text(&header, notes[i][1]);
        }
    oas_text_add(&header, "}%s}", tensors);
    oas_text_add(&header, "%*s", (int)((8 - header.length % 8) % 8), "");
    bytes file = safetensors_bytes(header.data, data);
    oas_text_free(&header);
    return file;
}

static const char one_tensor[] = ",\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}";

static void expect_model(const char *name, const bytes *file, oasis_status status, const char *fragment)
{
    guarded g = guarded_copy(file->data, file->size);
    oasis_message why = {""};
    model_file m;
    oasis_status got = oas_model_file_read(&m, g.data, g.size, "file.bin", &why);
    if (got != status || !strstr(why.text, fragment) || (status != OASIS_OK && strncmp(why.text, "file.bin", 8) != 0))
        fail_msg("%s: status %d, \"%s\", expected %d and \"%s\"", name, got, why.text, status, fragment);
    if (status != OASIS_OK) {
        assert_null(m.weights);
        note_sentence(name, why.text);
    }
    oas_model_file_close(&m);
    guarded_free(&g);
}

static const struct {
    const char *key, *value, *fragment; /* value NULL: the key is left out */
    oasis_status status;
} bad_configs[] = {
    {"latent_channels", NULL, "has no latent_channels", OASIS_E_FORMAT},
    {"latent_channels", "0", "latent_channels is 0, expected 1 to 64", OASIS_E_FORMAT},
    {"latent_channels", "65", "latent_channels is 65", OASIS_E_FORMAT},
    {"latent_channels", "16", "in_dim is 8, expected at least latent_channels, 16", OASIS_E_FORMAT},
    {"in_dim", "1000000", "in_dim is 1000000", OASIS_E_FORMAT},
    {"dim", NULL, "has no dim", OASIS_E_FORMAT},
    {"dim", "-32", "dim is -32", OASIS_E_FORMAT},
    {"dim", "32.0", "dim is of type fraction", OASIS_E_FORMAT},
    {"dim", "\"32\"", "dim is of type string", OASIS_E_FORMAT},
    {"dim", "16388", "dim is 16388, expected 1 to 16384", OASIS_E_FORMAT},
    {"dim", "30", "dim is 30, expected a multiple of num_heads, 4", OASIS_E_FORMAT},
    {"dim", "28", "a head has 7 channels, expected an even number", OASIS_E_FORMAT},
    {"dim", "16384", "a head has 4096 channels, expected at most 512", OASIS_E_FORMAT},
    {"num_heads", "0", "num_heads is 0", OASIS_E_FORMAT},
    {"num_heads", "128", "num_heads is 128, expected 1 to 64", OASIS_E_FORMAT},
    {"num_heads", "8", "the routing is for 4 heads, but the config has 8", OASIS_E_FORMAT},
    {"num_layers", "257", "num_layers is 257", OASIS_E_FORMAT},
    {"num_layers", "4294967298", "num_layers is 4294967298", OASIS_E_FORMAT},
    {"num_layers", "3", "the routing is for 2 layers, but the config has 3", OASIS_E_FORMAT},
    {"ffn_dim", "null", "ffn_dim is of type null", OASIS_E_FORMAT},
    {"ffn_dim", "65537", "ffn_dim is 65537", OASIS_E_FORMAT},
    {"patch_size", NULL, "patch_size is missing", OASIS_E_FORMAT},
    {"patch_size", "2", "patch_size is of type integer, expected an array", OASIS_E_FORMAT},
    {"patch_size", "[1,2]", "patch_size has 2 values, expected 3", OASIS_E_FORMAT},
    {"patch_size", "[1,2,0]", "patch_size is 0", OASIS_E_FORMAT},
    {"patch_size", "[1,4,4]", "patch_size is [1, 4, 4], this program computes [1, 2, 2]", OASIS_E_UNSUPPORTED},
    {"unshuffle", "[1,8,8]", "unshuffle is [1, 8, 8]", OASIS_E_UNSUPPORTED},
    {"unshuffle", "[4,8,true]", "unshuffle is of type true", OASIS_E_FORMAT},
    {"eps", "0", "eps is 0, expected 1e-12 to 0.01", OASIS_E_FORMAT},
    {"eps", "\"small\"", "eps is of type string", OASIS_E_FORMAT},
    {"rope_theta", "0.5", "rope_theta is 0.5", OASIS_E_FORMAT},
    {"sigma", "-0.1", "sigma is -0.1, expected 0 to 1", OASIS_E_FORMAT},
    {"sigma", "[0.4]", "sigma is of type array", OASIS_E_FORMAT},
    {"timestep", "1001", "timestep is 1001", OASIS_E_FORMAT},
    {"text", "\"t5\"", "unknown text \"t5\"", OASIS_E_UNSUPPORTED},
    {"text", "1", "text is of type integer", OASIS_E_FORMAT},
    {"decoder", NULL, "has no decoder", OASIS_E_FORMAT},
    {"decoder", "\"hunyuan-vae\"", "unknown decoder \"hunyuan-vae\"", OASIS_E_UNSUPPORTED},
    {"decoder", "\"wan-vae\"", "decoder_channels has 4 values, expected 1", OASIS_E_FORMAT},
    {"decoder_channels", NULL, "decoder_channels is missing", OASIS_E_FORMAT},
    {"decoder_channels", "[16,8,8,0]", "decoder_channels is 0", OASIS_E_FORMAT},
    {"decoder_channels", "[16,8,8,4097]", "decoder_channels is 4097", OASIS_E_FORMAT},
    {"upscale", "\"lanczos\"", "upscale is \"lanczos\"", OASIS_E_UNSUPPORTED},
    {"upscale", "\"bicubic\"", "upscale is \"bicubic\"", OASIS_E_UNSUPPORTED},
    {"upscale", "\"bicubic a=-0.75, antialias\"", "\"bicubic a=-0.75, antialias\"", OASIS_E_UNSUPPORTED},
    {"upscale", "\"bicubic a=-0.755\"", "\"bicubic a=-0.755\"", OASIS_E_UNSUPPORTED},
    {"upscale", "2", "upscale is of type integer", OASIS_E_FORMAT},
    {"trained_window", "[6,64,96]", "trained_window has 6 frames", OASIS_E_FORMAT},
    {"trained_window", "[5,64,100]", "64 rows by 100 columns", OASIS_E_FORMAT},
    {"trained_window", "[5,64]", "trained_window has 2 values", OASIS_E_FORMAT},
    {"trained_window", "[5,64,32000]", "trained_window is 32000", OASIS_E_FORMAT},
    {"latent_mean", "[0,0,0,0]", "has latent_mean but no latent_std", OASIS_E_FORMAT},
    {"latent_std", "[1,1,1,1]", "has latent_std but no latent_mean", OASIS_E_FORMAT},
    {"latent_mean", "[0,0,0],\"latent_std\":[1,1,1,1]", "latent_mean has 3 values, expected 4", OASIS_E_FORMAT},
    {"latent_mean", "[0,0,0,\"0\"],\"latent_std\":[1,1,1,1]", "latent_mean is of type string", OASIS_E_FORMAT},
    {"latent_mean", "[0,0,0,0],\"latent_std\":[1,1,1,0]", "latent_std is 0", OASIS_E_FORMAT},
    {"latent_mean", "[0,0,0,1e300],\"latent_std\":[1,1,1,1]", "latent_mean is 1e+300", OASIS_E_FORMAT},
    {"dim", "32,\"dim\":32", "duplicate object key", OASIS_E_FORMAT},
};

static void refuses_configs(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_configs / sizeof bad_configs[0]; i++) {
        text_buffer config = config_with(bad_configs[i].key, bad_configs[i].value);
        bytes file = model_bytes("oasis-1", config.data, good_routing, one_tensor, 8);
        expect_model(bad_configs[i].key, &file, bad_configs[i].status, bad_configs[i].fragment);
        bytes_free(&file);
        oas_text_free(&config);
    }
}

static void refuses_files(void **state)
{
    (void)state;
    text_buffer config = config_with(NULL, NULL);
    const struct {
        const char *name, *format, *config, *routing, *tensors, *fragment;
        size_t data;
        oasis_status status;
    } cases[] = {
        {"no format", NULL, config.data, good_routing, one_tensor, "metadata has no \"format\"", 8, OASIS_E_FORMAT},
        {"other format", "pt", config.data, good_routing, one_tensor, "format \"pt\" is not", 8, OASIS_E_FORMAT},
        {"version 2", "oasis-2", config.data, good_routing, one_tensor, "\"oasis-2\"", 8, OASIS_E_UNSUPPORTED},
        {"no config", "oasis-1", NULL, good_routing, one_tensor, "no \"config\"", 8, OASIS_E_FORMAT},
        {"empty config", "oasis-1", "", good_routing, one_tensor, "config: not valid JSON", 8, OASIS_E_FORMAT},
        {"config is an array", "oasis-1", "[]", good_routing, one_tensor, "an array on the outside", 8, OASIS_E_FORMAT},
        {"no routing", "oasis-1", config.data, NULL, one_tensor, "no \"routing\"", 8, OASIS_E_FORMAT},
        {"bad routing", "oasis-1", config.data, "x", one_tensor, "routing, line 1", 8, OASIS_E_FORMAT},
        {"no tensors", "oasis-1", config.data, good_routing, "", "without tensors", 0, OASIS_E_FORMAT},
        {"unaligned tensor", "oasis-1", config.data, good_routing,
         ",\"s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]},"
         "\"u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[9,10]}",
         "tensor t does not begin at a multiple of its element's 4 bytes", 10, OASIS_E_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes file = model_bytes(cases[i].format, cases[i].config, cases[i].routing, cases[i].tensors, cases[i].data);
        expect_model(cases[i].name, &file, cases[i].status, cases[i].fragment);
        bytes_free(&file);
    }
    oas_text_free(&config);
    expect_distinct_sentences(sizeof bad_configs / sizeof bad_configs[0] + sizeof cases / sizeof cases[0]);
}

static void expect_same_config(const model_config *a, const model_config *b)
{
    assert_true(a->latent_channels == b->latent_channels && a->in_dim == b->in_dim && a->dim == b->dim);
    assert_true(a->num_heads == b->num_heads && a->num_layers == b->num_layers && a->ffn_dim == b->ffn_dim);
    assert_true(a->eps == b->eps && a->rope_theta == b->rope_theta && a->sigma == b->sigma);
    assert_true(a->timestep == b->timestep && a->text == b->text && a->decoder == b->decoder);
    assert_true(a->decoder_widths == b->decoder_widths && a->upscale == b->upscale && a->normalised == b->normalised);
    assert_memory_equal(a->patch_size, b->patch_size, sizeof a->patch_size);
    assert_memory_equal(a->unshuffle, b->unshuffle, sizeof a->unshuffle);
    assert_memory_equal(a->decoder_channels, b->decoder_channels, sizeof a->decoder_channels);
    assert_memory_equal(a->trained_window, b->trained_window, sizeof a->trained_window);
    assert_memory_equal(a->latent_mean, b->latent_mean, sizeof a->latent_mean);
    assert_memory_equal(a->latent_std, b->latent_std, sizeof a->latent_std);
}

static void reads_good_files(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
    } variants[] = {
        {NULL, NULL},
        {"of_a_later_version", "{\"a\":[1]}"},
        {"decoder", "\"none\""},
        {"decoder_channels", "[16],\"decoder_channels_\":0,\"later\":1"},
        {"text", "\"prompt\""},
        {"text", NULL},
        {"sigma", "1"},
        {"trained_window", NULL},
        {"upscale", "\"bilinear\""},
        {"upscale", NULL},
        {"timestep", "399.25"},
        {"latent_mean", "[0.1,-0.2,3,4e-3],\"latent_std\":[1,0.3333333,2.5,1e3]"},
    };
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        text_buffer config = config_with(variants[i].key, variants[i].value);
        if (i == 3) { /* one width belongs to the Wan decoder */
            char *kind = strstr(config.data, "\"tiny-conditional\"");
            memcpy(kind, "\"wan-vae\"         ", strlen("\"tiny-conditional\""));
        }
        bytes file = model_bytes("oasis-1", config.data, good_routing, one_tensor, 8);
        oasis_message why = {""};
        model_file m;
        if (oas_model_file_read(&m, file.data, file.size, "f", &why) != OASIS_OK)
            fail_msg("%s", why.text);
        assert_string_equal(m.name, "n");
        assert_string_equal(m.license, "");
        assert_int_equal(m.routing.layer[1].kind[1], OAS_HEAD_GLOBAL);
        model_config again;
        char *text = oas_model_config_text(&m.config);
        assert_non_null(text);
        assert_int_equal(oas_model_config_read(&again, text, strlen(text), "again", &why), OASIS_OK);
        expect_same_config(&m.config, &again);
        oas_free(text);
        oas_model_file_close(&m);
        bytes_free(&file);
        oas_text_free(&config);
    }
}

static void fills_in_defaults(void **state)
{
    (void)state;
    const char least[] = "{\"latent_channels\":2,\"in_dim\":2,\"dim\":4,\"num_heads\":2,\"num_layers\":1,\"ffn_dim\":1,"
                         "\"patch_size\":[1,2,2],\"unshuffle\":[4,8,8],\"decoder\":\"none\"}";
    oasis_message why = {""};
    model_config c;
    assert_int_equal(oas_model_config_read(&c, least, strlen(least), "c", &why), OASIS_OK);
    assert_true(c.eps == 1e-6 && c.rope_theta == 10000 && c.sigma == 0.4 && c.timestep == 400);
    assert_true(c.text == OAS_TEXT_NONE && c.decoder == OAS_DECODER_NONE && c.decoder_widths == 0);
    assert_true(c.upscale == OAS_UPSCALE_BICUBIC && c.trained_window[0] == 0 && !c.normalised);
    assert_true(c.latent_mean[1] == 0 && c.latent_std[1] == 1);
    assert_string_equal(oas_model_decoder_name(OAS_DECODER_WAN_VAE), "wan-vae");
    assert_string_equal(oas_model_text_name(OAS_TEXT_CONSTANT), "constant");
    assert_string_equal(oas_model_upscale_name(OAS_UPSCALE_BILINEAR), "bilinear");
}

/* A model written by our own writer, opened by name. */
static void opens_what_the_writer_wrote(void **state)
{
    (void)state;
    text_buffer config = config_with(NULL, NULL);
    const stored_note notes[] = {{"format", "oasis-1"},   {"name", "written"},       {"license", "Apache-2.0"},
                                 {"config", config.data}, {"routing", good_routing}, {"sha256", ""}};
    const stored value = {.name = "t", .dtype = OAS_STORED_BF16, .rank = 1, .size = {2}, .data = "abcd"};
    const safetensors_file file = {.entry = &value, .count = 1, .note = notes, .notes = 6};
    const char *path = temp_path("model.safetensors");
    oasis_message why = {""};
    model_file m;
    assert_int_equal(oas_safetensors_write(path, &file, &why), OASIS_OK);
    assert_int_equal(oas_model_file_open(&m, path, &why), OASIS_OK);
    assert_string_equal(m.license, "Apache-2.0");
    assert_memory_equal(oas_weight_file_find(m.weights, "t")->data, "abcd", 4);
    oas_model_file_close(&m);
    oas_model_file_close(&m);
    assert_int_equal(oas_safetensors_verify(path, &why), OASIS_OK);
    unlink(path);
    assert_int_equal(oas_model_file_open(&m, path, &why), OASIS_E_IO);
    oas_text_free(&config);
}

/* The default model of the repository. */
static void opens_the_default_model(void **state)
{
    (void)state;
    oasis_message why = {""};
    model_file m;
    if (oas_model_file_open(&m, OASIS_SOURCE_DIR "/models/oasis-nano.safetensors", &why) != OASIS_OK)
        fail_msg("%s", why.text);
    const int64_t projection[2] = {m.config.in_dim, 768};
    const stored *t;
    assert_true(m.config.decoder == OAS_DECODER_TINY_CONDITIONAL || m.config.decoder == OAS_DECODER_QUARTER_CONDITIONAL);
    assert_int_equal(m.config.upscale, OAS_UPSCALE_BICUBIC);
    assert_int_equal(m.routing.layers, m.config.num_layers);
    assert_int_equal(m.routing.heads, m.config.num_heads);
    assert_int_equal(oas_weight_file_need(m.weights, "lq_proj.weight", 2, projection, &t, &why), OASIS_OK);
    assert_string_equal(m.license, "Apache-2.0");
    oas_model_file_close(&m);
}

/* Cutting a good file anywhere, and changing any one byte of its header, never does worse than a refusal. */
static void survives_damage(void **state)
{
    (void)state;
    text_buffer config = config_with(NULL, NULL);
    bytes file = model_bytes("oasis-1", config.data, good_routing, one_tensor, 8);
    oasis_message why;
    model_file m;
    for (size_t n = 0; n < file.size; n++) {
        guarded g = guarded_copy(file.data, n);
        assert_int_equal(oas_model_file_read(&m, g.data, n, "f", &why), OASIS_E_FORMAT);
        guarded_free(&g);
    }
    guarded g = guarded_copy(file.data, file.size);
    guarded_writable(&g);
    size_t refused = 0;
    for (size_t at = 0; at < file.size - 8; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            g.data[at] = (unsigned char)(file.data[at] ^ 1u << bit);
            oasis_status status = oas_model_file_read(&m, g.data, g.size, "f", &why);
            assert_true(status == OASIS_OK || status == OASIS_E_FORMAT || status == OASIS_E_UNSUPPORTED);
            refused += status != OASIS_OK;
            oas_model_file_close(&m);
            g.data[at] = file.data[at];
        }
    assert_true(refused > file.size);
    guarded_free(&g);
    bytes_free(&file);
    oas_text_free(&config);
}

static void survives_any_failed_allocation(void **state)
{
    (void)state;
    text_buffer config = config_with(NULL, NULL);
    bytes file = model_bytes("oasis-1", config.data, good_routing, one_tensor, 8);
    long n = 0;
    for (bool failed = true; failed; n++) {
        oasis_message why = {""};
        model_file m;
        fail_allocation(n);
        oasis_status status = oas_model_file_read(&m, file.data, file.size, "f", &why);
        failed = allocation_failed();
        expect_allocation_status(status, why.text);
        fail_allocation(-1);
        oas_model_file_close(&m);
    }
    assert_true(n > 30);
    bytes_free(&file);
    oas_text_free(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_configs),
        cmocka_unit_test(refuses_files),
        cmocka_unit_test(reads_good_files),
        cmocka_unit_test(fills_in_defaults),
        cmocka_unit_test(opens_what_the_writer_wrote),
        cmocka_unit_test(opens_the_default_model),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(survives_any_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
