/*
 * Wan2.1's autoencoder against tensors of the public implementation at base width 8 (tests/data/wan-vae-tiny.safetensors),
 * both directions, whole and streamed; and, with random weights, whole = streamed for one to six latents.
 */
#include "golden/wan.h"
#include "net/wan_vae.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* fp32, products summed in another order, through 30 convolutions: 1e-6 is usual; the project's promise is 1e-4. */
static const double TOLERANCE_FP32 = 1e-5;
/* bf16 has eight bits of mantissa; errors add up over 30 convolutions. */
static const double TOLERANCE_BF16 = 4e-2;
/* Whole and streamed sum the same products, cut into slabs otherwise. */
static const double TOLERANCE_STREAMED = 1e-6;

static const char FILE_NAME[] = OASIS_SOURCE_DIR "/tests/data/wan-vae-tiny.safetensors";

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

static double worst(wan_run run)
{
    weight_file *file = NULL;
    oasis_message why = {""};
    if (oas_weight_file_open(&file, FILE_NAME, &why) < 0)
        fail_msg("%s", why.text);
    if (!wan_golden(file, &run))
        fail_msg("%s", run.message);
    oas_weight_file_close(&file);
    assert_int_equal(run.stages, 2);
    return run.worst;
}

static void test_reference(void **state)
{
    (void)state;
    assert_true(worst((wan_run){.whole = true}) < TOLERANCE_FP32);
}

static void test_fast(void **state)
{
    (void)state;
    assert_true(worst((wan_run){.device = cpu, .whole = true}) < TOLERANCE_FP32);
    assert_true(worst((wan_run){.device = cpu}) < TOLERANCE_FP32);
}

static void test_bf16(void **state)
{
    (void)state;
    if (!oas_device_has_bf16(cpu))
        skip();
    assert_true(worst((wan_run){.device = cpu, .compute = OAS_BF16}) < TOLERANCE_BF16);
}

/* ---- mutations -------------------------------------------------------------------------------------------------------- */

static void change(parameter_set *weights, void *name)
{
    const tensor *t = oas_parameters_find(weights, name);
    assert_non_null(t);
    for (int64_t i = 0; i < oas_count(&t->shape); i++)
        ((float *)t->data)[i] *= 1.01f;
}

/* The tolerance notices a change of one per cent in any kind of layer. */
static void test_mutations(void **state)
{
    (void)state;
    static char names[][48] = {"decoder.upsamples.3.time_conv.weight", "decoder.upsamples.7.time_conv.weight",
                               "decoder.middle.1.to_qkv.weight", "decoder.upsamples.4.shortcut.weight",
                               "encoder.downsamples.5.time_conv.weight", "encoder.downsamples.2.resample.1.weight", "conv2.bias"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!(worst((wan_run){.device = cpu, .quiet = true, .mutate = change, .user = names[i]}) > 3 * TOLERANCE_FP32))
            fail_msg("a change of %s passes", names[i]);
}

/* ---- whole = streamed ---------------------------------------------------------------------------------------------------- */

/* Small reproducible values: layers keep the size of what passes. */
static void randomise(parameter_set *weights)
{
    uint32_t seed = 7;
    for (int i = 0; i < weights->count; i++) {
        tensor *t = &weights->items[i]->tensor;
        int64_t n = oas_count(&t->shape), inputs = n / t->shape.size[0];
        bool gamma = strstr(weights->items[i]->name, "gamma") != NULL;
        float scale = gamma ? 0.3f : sqrtf(3.f / (float)(inputs > 1 ? inputs : 30));
        for (int64_t k = 0; k < n; k++) {
            seed = seed * 1664525u + 1013904223u;
            ((float *)t->data)[k] = (gamma ? 1.f : 0.f) + scale * ((float)(seed >> 8) / 8388608.f - 1.f);
        }
    }
}

static tensor *random_tensor(graph *g, shape s)
{
    tensor *t = oas_tensor(g, OAS_F32, s);
    uint32_t seed = 99;
    for (int64_t i = 0; t && i < oas_count(&s); i++) {
        seed = seed * 1664525u + 1013904223u;
        ((float *)t->data)[i] = (float)(seed >> 8) / 8388608.f - 1.f;
    }
    return t;
}

static double difference(const tensor *a, const tensor *b)
{
    double sum = 0, norm = 0;
    assert_true(oas_shape_equal(&a->shape, &b->shape));
    for (int64_t i = 0; i < oas_count(&a->shape); i++) {
        double d = (double)((float *)a->data)[i] - (double)((float *)b->data)[i];
        sum += d * d;
        norm += (double)((float *)b->data)[i] * (double)((float *)b->data)[i];
    }
    return sqrt(sum / norm);
}

/* Decodes or encodes in calls of as many frames as `counts` says, ended by 0. */
static tensor *in_parts(graph *g, const decoder *d, const wan_encoder *e, tensor *x, const int *counts)
{
    decoder_state memory = {0};
    tensor *all = NULL;
    for (int at = 0; at < x->shape.size[1]; at += *counts++) {
        tensor *in = oas_frames(g, x, at, *counts);
        tensor *part = e ? oas_wan_encode(g, e, &memory, in) : d->kind->decode(g, d->net, &memory, in, NULL);
        all = all ? oas_join_frames(g, all, part) : part;
    }
    oas_state_free(&memory);
    return all;
}

static void test_streamed_is_whole(void **state)
{
    (void)state;
    static const int latents[][7] = {{1, 1, 1, 1, 1, 1}, {2, 1, 2, 1}, {1, 3, 2}, {3, 3}, {6}};
    static const int frames[][7] = {{1, 4, 4, 4, 4, 4}, {5, 4, 8, 4}, {1, 12, 8}, {9, 12}, {21}};
    parameter_set weights = {.create = true, .path = "test"};
    decoder_config config = {.latent_channels = OAS_WAN_LATENT, .widths = {8}, .n_widths = 1};
    decoder d = {.kind = oas_decoder_find("wan-vae")};
    d.net = d.kind->bind(&config, &weights);
    wan_encoder *e = oas_wan_encoder_bind(8, NULL, NULL, &weights);
    graph g = {.device = cpu, .backend = OAS_CPU};
    assert_true(d.net && e && oas_arena_new(&g.memory, (size_t)256 << 20));
    randomise(&weights);
    for (int n = 1; n <= 6; n++) {
        for (size_t way = 0; way < sizeof latents / sizeof *latents; way++) {
            int sum = 0;
            for (int i = 0; sum < n; i++)
                sum += latents[way][i];
            if (sum != n)
                continue;
            oas_graph_reset(&g);
            tensor *z = random_tensor(&g, OAS_SHAPE5(1, n, 4, 6, OAS_WAN_LATENT));
            tensor *video = random_tensor(&g, OAS_SHAPE5(1, 4 * n - 3, 32, 48, 3));
            tensor *whole = d.kind->decode(&g, d.net, NULL, z, NULL), *parts = in_parts(&g, &d, NULL, z, latents[way]);
            tensor *coded = oas_wan_encode(&g, e, NULL, video), *coded_parts = in_parts(&g, NULL, e, video, frames[way]);
            if (g.status < 0)
                fail_msg("%s", g.message.text);
            assert_int_equal(whole->shape.size[1], 4 * n - 3);
            assert_true(difference(parts, whole) < TOLERANCE_STREAMED);
            assert_true(difference(coded_parts, coded) < TOLERANCE_STREAMED);
        }
    }
    oas_wan_encoder_free(&e);
    d.kind->free(d.net);
    oas_parameters_free(&weights);
    oas_arena_free(&g.memory);
}

/* ---- tiles ----------------------------------------------------------------------------------------------------------------- */

/* Rows from .. from+rows-1 of x [1,T,H,W,C]. */
static tensor *some_rows(graph *g, const tensor *x, int64_t from, int64_t rows)
{
    shape s = x->shape;
    s.size[2] = rows;
    tensor *y = oas_tensor(g, OAS_F32, s);
    size_t row = (size_t)(s.size[3] * s.size[4]);
    for (int64_t t = 0; t < s.size[1]; t++)
        memcpy((float *)y->data + (size_t)(t * rows) * row,
               (float *)x->data + (size_t)(t * x->shape.size[2] + from) * row, (size_t)rows * row * sizeof(float));
    return y;
}

/* The lower half of a frame, decoded from rows cut with a halo out of what the first part makes of the whole. */
static double difference_of_tile(const decoder *d, graph *g, int64_t halo)
{
    enum { HEIGHT = 36, TILE = 18, WIDTH = 2, PIXELS = 8 };
    decoder_state whole_state = {0}, begin_state = {0}, tile_state = {0};
    oas_graph_reset(g);
    tensor *z = random_tensor(g, OAS_SHAPE5(1, 2, HEIGHT, WIDTH, OAS_WAN_LATENT));
    double worst = 0;
    for (int f = 0; f < 2; f++) {
        tensor *latent = oas_frames(g, z, f, 1);
        tensor *whole = d->kind->decode(g, d->net, &whole_state, latent, NULL);
        tensor *x = d->kind->begin(g, d->net, &begin_state, latent);
        begin_state.started = true;
        int64_t from = HEIGHT - TILE - halo;
        tensor *tile = d->kind->rest(g, d->net, &tile_state, some_rows(g, x, from, HEIGHT - from), NULL);
        if (g->status < 0)
            fail_msg("%s", g->message.text);
        tensor *inner = some_rows(g, tile, halo * PIXELS, TILE * PIXELS);
        worst = fmax(worst, difference(inner, some_rows(g, whole, TILE * PIXELS, TILE * PIXELS)));
    }
    oas_state_free(&whole_state);
    oas_state_free(&begin_state);
    oas_state_free(&tile_state);
    return worst;
}

static void test_tiles(void **state)
{
    (void)state;
    parameter_set weights = {.create = true, .path = "test"};
    decoder_config config = {.latent_channels = OAS_WAN_LATENT, .widths = {8}, .n_widths = 1};
    decoder d = {.kind = oas_decoder_find("wan-vae")};
    d.net = d.kind->bind(&config, &weights);
    graph g = {.device = cpu, .backend = OAS_CPU};
    assert_true(d.net && oas_arena_new(&g.memory, (size_t)256 << 20));
    randomise(&weights);
    assert_true(difference_of_tile(&d, &g, d.kind->halo) < TOLERANCE_STREAMED);
    /* What lies far away counts little; with a third of the halo the seam shows. */
    assert_true(difference_of_tile(&d, &g, d.kind->halo / 3) > TOLERANCE_STREAMED);
    d.kind->free(d.net);
    oas_parameters_free(&weights);
    oas_arena_free(&g.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference), cmocka_unit_test(test_fast), cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_mutations), cmocka_unit_test(test_streamed_is_whole), cmocka_unit_test(test_tiles),
    };
    return cmocka_run_group_tests_name("golden/wan_vae", tests, setup, teardown);
}
