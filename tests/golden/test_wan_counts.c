/*
 * The networks' lists of weights against what is published of them: numbers of parameters and of tensors.  Nothing of
 * that size is allocated.  And the decoder of the TAEHV layout: whole = streamed, and which frames it leaves out.
 */
#include "cpu/device.h"
#include "net/dit.h"
#include "net/wan_vae.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int64_t values(const parameter_set *w)
{
    int64_t n = 0;
    for (int i = 0; i < w->count; i++)
        if (strncmp(w->items[i]->name, "prompt", 6) != 0) /* an input, not a weight */
            n += oas_count(&w->items[i]->tensor.shape);
    return n;
}

static int64_t transformer(dit_config c, int *tensors)
{
    parameter_set w = {.create = true, .shapes_only = true, .path = "test"};
    static const route_layer routes[64];
    dit d;
    assert_int_equal(oas_dit_bind(&d, &c, routes, &w), OASIS_OK);
    int64_t n = values(&w);
    *tensors = w.count - 2; /* prompt and prompt_bias */
    oas_dit_free(&d);
    oas_parameters_free(&w);
    return n;
}

static void test_transformers(void **state)
{
    (void)state;
    dit_config c = {.in_dim = 16, .latent_channels = 16, .dim = 1536, .ffn_dim = 8960, .heads = 12, .layers = 30,
                    .frequencies = 256, .text = {OAS_PROMPT_CONTEXT, 512, 4096}};
    int tensors;
    assert_int_equal(transformer(c, &tensors), 1418996800);
    assert_int_equal(tensors, 825);
    c.dim = 5120, c.ffn_dim = 13824, c.heads = 40, c.layers = 40;
    assert_int_equal(transformer(c, &tensors), 14288491584);
    c.layers = 39; /* the number notices one block less */
    assert_true(transformer(c, &tensors) != 14288491584);
}

static void test_autoencoder(void **state)
{
    (void)state;
    parameter_set w = {.create = true, .shapes_only = true, .path = "test"};
    decoder_config config = {.latent_channels = OAS_WAN_LATENT, .widths = {OAS_WAN_BASE}, .n_widths = 1};
    const decoder_kind *kind = oas_decoder_find("wan-vae");
    void *net = kind->bind(&config, &w);
    assert_non_null(net);
    assert_int_equal(values(&w), 73295331 + 272);
    assert_int_equal(w.count, 106 + 2);
    wan_encoder *e = oas_wan_encoder_bind(OAS_WAN_BASE, NULL, NULL, &w);
    assert_non_null(e);
    assert_int_equal(values(&w), 126892531);
    assert_int_equal(w.count, 194);
    oas_wan_encoder_free(&e);
    kind->free(net);
    oas_parameters_free(&w);
}

static void test_taehv(void **state)
{
    (void)state;
    parameter_set w = {.create = true, .shapes_only = true, .path = "test"};
    decoder_config config = {.latent_channels = OAS_WAN_LATENT, .widths = {256, 128, 64, 64}, .n_widths = 4};
    const decoder_kind *kind = oas_decoder_find("taehv");
    void *net = kind->bind(&config, &w);
    assert_non_null(net);
    assert_int_equal(values(&w), 9844611);
    static const char *const names[] = {"decoder.1.weight", "decoder.3.conv.0.weight", "decoder.17.conv.4.bias",
                                        "decoder.7.conv.weight", "decoder.13.conv.weight", "decoder.19.conv.weight",
                                        "decoder.8.weight", "decoder.20.weight", "decoder.22.bias"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_non_null(oas_parameters_find(&w, names[i]));
    kind->free(net);
    oas_parameters_free(&w);
}

/* ---- a TAEHV decoder with random weights ------------------------------------------------------------------------------- */

static void randomise(void *data, int64_t n, float scale)
{
    uint32_t seed = (uint32_t)n;
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ((float *)data)[i] = scale * ((float)(seed >> 8) / 8388608.f - 1.f);
    }
}

static void test_taehv_streamed(void **state)
{
    (void)state;
    device *cpu = NULL;
    oasis_message why;
    parameter_set w = {.create = true, .path = "test"};
    decoder_config config = {.latent_channels = OAS_WAN_LATENT, .widths = {16, 8, 8, 8}, .n_widths = 4};
    const decoder_kind *kind = oas_decoder_find("taehv");
    void *net = kind->bind(&config, &w);
    assert_true(net && oas_device_new(&cpu, 2, &why) == OASIS_OK);
    for (int i = 0; i < w.count; i++) {
        const shape *s = &w.items[i]->tensor.shape;
        randomise(w.items[i]->tensor.data, oas_count(s), sqrtf(6.f / (float)(oas_count(s) / s->size[0] + 1)));
    }
    graph g = {.device = cpu, .backend = OAS_CPU};
    assert_true(oas_arena_new(&g.memory, (size_t)64 << 20));
    tensor *z = oas_tensor(&g, OAS_F32, OAS_SHAPE5(1, 3, 4, 5, OAS_WAN_LATENT));
    randomise(z->data, oas_count(&z->shape), 4);
    const tensor *whole = kind->decode(&g, net, NULL, z, NULL);
    assert_non_null(whole);
    assert_int_equal(whole->shape.size[1], 9);
    assert_int_equal(whole->shape.size[2], 32);
    decoder_state memory = {0};
    const float *expected = whole->data;
    for (int f = 0; f < 3; f++) {
        const tensor *part = kind->decode(&g, net, &memory, oas_frames(&g, z, f, 1), NULL);
        assert_int_equal(part->shape.size[1], f ? 4 : 1);
        /* Other slabs of the same sums; a forgotten memory would show at once. */
        for (int64_t i = 0; i < oas_count(&part->shape); i++, expected++)
            assert_true(fabsf(((float *)part->data)[i] - *expected) < 1e-4f * (1 + fabsf(*expected)));
    }
    oas_state_free(&memory);
    oas_arena_free(&g.memory);
    kind->free(net);
    oas_parameters_free(&w);
    oas_device_free(&cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transformers), cmocka_unit_test(test_autoencoder),
        cmocka_unit_test(test_taehv),        cmocka_unit_test(test_taehv_streamed),
    };
    return cmocka_run_group_tests_name("golden/wan_counts", tests, NULL, NULL);
}
