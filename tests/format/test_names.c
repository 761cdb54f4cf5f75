/* Names of Wan checkpoints: both layouts, the exceptions, and the published numbers of tensors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/names.h"

#include <stdio.h>
#include <string.h>

enum { BLOCKS = 30, MAX_NAMES = 1000 };

static char names[MAX_NAMES][96];
static int n_names;

static void add(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void add(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    assert_true(n_names < MAX_NAMES);
    vsnprintf(names[n_names++], sizeof names[0], format, args);
    va_end(args);
}

static void add_both(const char *name)
{
    add("%s.weight", name);
    add("%s.bias", name);
}

/* All names of the original checkpoint, written out as the specification lists them. */
static void list_transformer(void)
{
    static const char *const outside[] = {"patch_embedding",  "text_embedding.0", "text_embedding.2",
                                          "time_embedding.0", "time_embedding.2", "time_projection.1",
                                          "head.head"};
    static const char *const both[] = {"self_attn.q",  "self_attn.k",  "self_attn.v",  "self_attn.o",
                                       "cross_attn.q", "cross_attn.k", "cross_attn.v", "cross_attn.o",
                                       "norm3",        "ffn.0",        "ffn.2"};
    static const char *const one[] = {"modulation", "self_attn.norm_q.weight", "self_attn.norm_k.weight",
                                      "cross_attn.norm_q.weight", "cross_attn.norm_k.weight"};
    n_names = 0;
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++)
        add_both(outside[i]);
    add("head.modulation");
    for (int b = 0; b < BLOCKS; b++) {
        char name[64];
        for (size_t i = 0; i < sizeof both / sizeof both[0]; i++) {
            snprintf(name, sizeof name, "blocks.%d.%s", b, both[i]);
            add_both(name);
        }
        for (size_t i = 0; i < sizeof one / sizeof one[0]; i++)
            add("blocks.%d.%s", b, one[i]);
    }
}

static void add_residual(const char *part, bool shortcut)
{
    add("%s.residual.0.gamma", part);
    add("%s.residual.2.weight", part);
    add("%s.residual.2.bias", part);
    add("%s.residual.3.gamma", part);
    add("%s.residual.6.weight", part);
    add("%s.residual.6.bias", part);
    if (shortcut) {
        add("%s.shortcut.weight", part);
        add("%s.shortcut.bias", part);
    }
}

static void list_side(const char *side, const char *stages, int n, const char *kinds)
{
    char part[64];
    snprintf(part, sizeof part, "%s.conv1", side);
    add_both(part);
    for (int i = 0; i < 3; i += 2) {
        snprintf(part, sizeof part, "%s.middle.%d", side, i);
        add_residual(part, false);
    }
    add("%s.middle.1.norm.gamma", side);
    snprintf(part, sizeof part, "%s.middle.1.to_qkv", side);
    add_both(part);
    snprintf(part, sizeof part, "%s.middle.1.proj", side);
    add_both(part);
    add("%s.head.0.gamma", side);
    snprintf(part, sizeof part, "%s.head.2", side);
    add_both(part);
    for (int i = 0; i < n; i++) { /* r residual, s with a shortcut, 2 resampling in space, 3 also in time */
        snprintf(part, sizeof part, "%s.%s.%d", side, stages, i);
        if (kinds[i] == 'r' || kinds[i] == 's') {
            add_residual(part, kinds[i] == 's');
            continue;
        }
        snprintf(part, sizeof part, "%s.%s.%d.resample.1", side, stages, i);
        add_both(part);
        snprintf(part, sizeof part, "%s.%s.%d.time_conv", side, stages, i);
        if (kinds[i] == '3')
            add_both(part);
    }
}

static void list_autoencoder(void)
{
    n_names = 0;
    list_side("encoder", "downsamples", 11, "rr2sr3sr3rr");
    assert_int_equal(n_names, 84);
    list_side("decoder", "upsamples", 15, "rrr3srr3rrr2rrr");
    assert_int_equal(n_names, 84 + 106);
    add_both("conv1");
    add_both("conv2");
}

/* Every name is found in both layouts, and no two share one. */
static void expect_all(mapped_name (*of)(const char *))
{
    static char diffusers[MAX_NAMES][OAS_STORED_MAX_NAME + 1];
    for (int i = 0; i < n_names; i++) {
        mapped_name m = of(names[i]);
        if (m.kind != OAS_NAME_TENSOR || strcmp(m.text, names[i]) != 0)
            fail_msg("%s is taken for \"%s\"", names[i], m.text);
        assert_true(oas_name_in_diffusers(names[i], diffusers[i]));
        m = of(diffusers[i]);
        if (m.kind != OAS_NAME_TENSOR || strcmp(m.text, names[i]) != 0)
            fail_msg("%s in diffusers is %s, which is taken for \"%s\"", names[i], diffusers[i], m.text);
        for (int j = 0; j < i; j++)
            if (strcmp(diffusers[i], diffusers[j]) == 0)
                fail_msg("%s and %s are both %s", names[i], names[j], diffusers[i]);
    }
}

static void maps_every_tensor(void **state)
{
    (void)state;
    list_transformer();
    assert_int_equal(n_names, 825);
    expect_all(oas_name_of_transformer);
    list_autoencoder();
    assert_int_equal(n_names, 194);
    expect_all(oas_name_of_autoencoder);
}

static const struct {
    bool transformer;
    const char *name, *original;
} examples[] = {
    {true, "blocks.29.attn1.to_out.0.bias", "blocks.29.self_attn.o.bias"},
    {true, "blocks.0.norm2.weight", "blocks.0.norm3.weight"},
    {true, "blocks.7.ffn.net.0.proj.weight", "blocks.7.ffn.0.weight"},
    {true, "scale_shift_table", "head.modulation"},
    {true, "blocks.3.scale_shift_table", "blocks.3.modulation"},
    {true, "condition_embedder.time_proj.bias", "time_projection.1.bias"},
    {true, "model.diffusion_model.blocks.1.modulation", "blocks.1.modulation"},
    {true, "diffusion_model.blocks.1.attn2.norm_k.weight", "blocks.1.cross_attn.norm_k.weight"},
    {true, "norm_out.linear.bias", "head.modulation"},
    {false, "decoder.up_blocks.1.resnets.0.conv_shortcut.bias", "decoder.upsamples.4.shortcut.bias"},
    {false, "decoder.up_blocks.2.upsamplers.0.resample.1.weight", "decoder.upsamples.11.resample.1.weight"},
    {false, "decoder.up_blocks.3.resnets.2.norm2.gamma", "decoder.upsamples.14.residual.3.gamma"},
    {false, "encoder.down_blocks.10.conv2.weight", "encoder.downsamples.10.residual.6.weight"},
    {false, "encoder.mid_block.resnets.1.norm1.gamma", "encoder.middle.2.residual.0.gamma"},
    {false, "quant_conv.bias", "conv1.bias"},
    {false, "post_quant_conv.weight", "conv2.weight"},
};

static void maps_examples(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        mapped_name m = examples[i].transformer ? oas_name_of_transformer(examples[i].name)
                                                : oas_name_of_autoencoder(examples[i].name);
        assert_string_equal(m.text, examples[i].original);
    }
    assert_int_equal(oas_name_of_transformer("blocks.12.norm3.bias").block, 12);
    assert_int_equal(oas_name_of_transformer("head.head.bias").block, -1);
    assert_int_equal(oas_name_of_autoencoder("encoder.downsamples.3.time_conv.bias").block, -1);
    assert_int_equal(oas_name_of_transformer("norm_out.linear.bias").kind, OAS_NAME_HEAD_MODULATION);
    assert_int_equal(oas_name_of_transformer("norm_out.linear.weight").kind, OAS_NAME_HEAD_IDENTITY);
}

static void refuses_other_names(void **state)
{
    (void)state;
    static const char *const unknown[] = {
        "",
        "blocks",
        "blocks.",
        "blocks..modulation",
        "blocks.x.modulation",
        "blocks.-1.modulation",
        "blocks.01.modulation",
        "blocks.99999.modulation",
        "blocks.1.modulation.weight",
        "blocks.1.norm1.weight",
        "patch_embedding.",
        "patch_embedding.gain",
        "patch_embedding.weights",
        "patch_embedding.weight ",
        "head.head",
        "decoder.upsamples.15.residual.2.weight",
        "decoder.upsamples.3.residual.2.weight",
        "decoder.up_blocks.3.upsamplers.0.resample.1.weight",
        "decoder.up_blocks.0.resnets.3.conv1.weight",
        "Blocks.1.modulation",
        "first_stage_model.conv1.weight",
    };
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_int_equal(oas_name_of_transformer(unknown[i]).kind, OAS_NAME_UNKNOWN);
        assert_string_equal(oas_name_of_transformer(unknown[i]).text, "");
        assert_int_equal(oas_name_of_autoencoder(unknown[i]).kind, OAS_NAME_UNKNOWN);
        char text[OAS_STORED_MAX_NAME + 1];
        assert_false(oas_name_in_diffusers(unknown[i], text));
    }
    static const char *const image[] = {"img_emb.proj.0.weight", "blocks.3.cross_attn.k_img.weight",
                                        "blocks.3.cross_attn.norm_k_img.weight", "blocks.3.attn2.add_v_proj.bias",
                                        "condition_embedder.image_embedder.norm1.weight"};
    for (size_t i = 0; i < sizeof image / sizeof image[0]; i++)
        assert_int_equal(oas_name_of_transformer(image[i]).kind, OAS_NAME_IMAGE);
    char longest[OAS_STORED_MAX_NAME + 1];
    memset(longest, '9', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    memcpy(longest, "blocks.", 7);
    assert_int_equal(oas_name_of_transformer(longest).kind, OAS_NAME_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_every_tensor),
        cmocka_unit_test(maps_examples),
        cmocka_unit_test(refuses_other_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
