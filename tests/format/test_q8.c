/*
 * Q8_0: half floats, packing and unpacking, what the writer makes of it and the reader of that, and files that say q8_0
 * and are not.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "format/helpers.h"
#include "format/model_file.h"
#include "format/safetensors.h"
#include "tensor/q8.h"

/* All 65536 half floats come back; values between two round to the nearer one, and to even in the middle. */
static void half_floats(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = oas_from_f16((uint16_t)h);
        if ((h & 0x7fff) > 0x7c00) {
            assert_true(isnan(f) && (oas_to_f16(f) & 0x7fff) > 0x7c00);
            continue;
        }
        assert_int_equal(oas_to_f16(f), h);
        if ((h & 0x7fff) >= 0x7bff)
            continue;
        float next = oas_from_f16((uint16_t)(h + 1)), middle = f + (next - f) / 2;
        assert_int_equal(oas_to_f16(middle), h & 1 ? h + 1 : h);
        assert_int_equal(oas_to_f16(nextafterf(middle, f)), h);
        assert_int_equal(oas_to_f16(nextafterf(middle, next)), h + 1);
    }
    assert_true(oas_from_f16(0x3c00) == 1 && oas_from_f16(0xc000) == -2 && oas_from_f16(1) == 0x1p-24f);
    assert_int_equal(oas_to_f16(1e9f), 0x7c00);
}

/* Each value is within half a step, of 1/127 of its block's largest, and the scale's own rounding. */
static void packs_and_unpacks(void **state)
{
    (void)state;
    enum { N = 7 * OAS_Q8_BLOCK };
    const float step = 0.5f / 127, rounding = 0x1p-10f; /* of 11 bits, at the block's edge */
    float values[N], back[N];
    unsigned char blocks[N / OAS_Q8_BLOCK * OAS_Q8_BYTES];
    oas_rng rng = oas_rng_at(1, 2, 3, 4);
    for (int i = 0; i < N; i++) /* blocks of very different sizes, one of them zero */
        values[i] =
            i / OAS_Q8_BLOCK == 3 ? 0 : (float)oas_rng_between(&rng, -1, 1) * ldexpf(1, 4 * (i / OAS_Q8_BLOCK) - 14);
    assert_true(oas_q8_pack(values, N / OAS_Q8_BLOCK, blocks));
    oas_q8_floats(blocks, 0, N, back);
    for (int i = 0; i < N; i++) {
        float largest = 0;
        for (int k = 0; k < OAS_Q8_BLOCK; k++)
            largest = fmaxf(largest, fabsf(values[i / OAS_Q8_BLOCK * OAS_Q8_BLOCK + k]));
        assert_true(fabsf(back[i] - values[i]) <= largest * (step + rounding));
    }
    float some[50]; /* any stretch, cut anywhere */
    for (int first = 0; first < N - 50; first += 11) {
        oas_q8_floats(blocks, first, 50, some);
        assert_memory_equal(some, back + first, sizeof some);
    }
    unsigned char again[sizeof blocks]; /* packing what was unpacked changes nothing but for the last bit of a scale */
    assert_true(oas_q8_pack(back, N / OAS_Q8_BLOCK, again));
    oas_q8_floats(again, 0, N, values);
    for (int i = 0; i < N; i++)
        assert_true(fabsf(values[i] - back[i]) <= 0x1p-9f * fabsf(back[i]));
    values[5] = NAN;
    assert_false(oas_q8_pack(values, 1, blocks));
    values[5] = 1e9f;
    assert_false(oas_q8_pack(values, 1, blocks));
}

static void writes_and_reads(void **state)
{
    (void)state;
    float values[3 * 64], wide[4] = {1, 2, 3, 4};
    unsigned char blocks[3 * 2 * OAS_Q8_BYTES];
    for (int i = 0; i < 3 * 64; i++)
        values[i] = (float)i - 90;
    assert_true(oas_q8_pack(values, 6, blocks));
    stored entry[] = {{.name = "q", .dtype = OAS_STORED_Q8_0, .rank = 2, .size = {3, 64}, .data = blocks},
                      {.name = "f", .dtype = OAS_STORED_F32, .rank = 1, .size = {4}, .data = wide}};
    stored_note notes[] = {{"k", "v"}, {"sha256", ""}, {"quantisation", "q8_0"}};
    oasis_message why;
    for (size_t n = 0; n <= 3; n++) { /* with metadata of its own, with the note that the writer adds, and without */
        const char *path = temp_path("q8");
        safetensors_file file = {.entry = entry, .count = 2, .note = notes, .notes = n};
        weight_file *w = NULL;
        if (oas_safetensors_write(path, &file, &why) < 0 || oas_weight_file_open(&w, path, &why) < 0)
            fail_msg("%s", why.text);
        const stored *q = oas_weight_file_find(w, "q"), *f = oas_weight_file_find(w, "f");
        assert_true(q && q->dtype == OAS_STORED_Q8_0 && q->rank == 2 && q->size[0] == 3 && q->size[1] == 64);
        assert_int_equal(q->bytes, sizeof blocks);
        assert_memory_equal(q->data, blocks, sizeof blocks);
        assert_true(f && oas_stored_aligned(f) && oas_stored_aligned(q));
        assert_string_equal(oas_weight_file_note(w, "quantisation"), "q8_0");
        oas_weight_file_close(&w);
        if (n >= 2)
            assert_int_equal(oas_safetensors_verify(path, &why), OASIS_OK);
        unlink(path);
    }
}

#define SAYS "\"__metadata__\":{\"quantisation\":\"q8_0\"},"

static const struct {
    const char *name, *header;
    size_t data;
    const char *fragment;
} bad[] = {
    {"bytes of another length", "{" SAYS "\"a\":{\"dtype\":\"U8\",\"shape\":[2,1,33],\"data_offsets\":[0,66]}}", 66,
     "U8 of shape [2, 1, 33], expected blocks [.., 34]"},
    {"bytes without rows", "{" SAYS "\"a\":{\"dtype\":\"U8\",\"shape\":[2,34],\"data_offsets\":[0,68]}}", 68,
     "U8 of shape [2, 34], expected blocks"},
    {"a single block", "{" SAYS "\"a\":{\"dtype\":\"U8\",\"shape\":[34],\"data_offsets\":[0,34]}}", 34,
     "U8 of shape [34], expected blocks"},
    {"no dimension", "{" SAYS "\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, "U8 of shape []"},
    {"half a block", "{" SAYS "\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,34],\"data_offsets\":[0,17]}}", 17,
     "takes 34 bytes, but data_offsets span 17"},
    {"cut off", "{" SAYS "\"a\":{\"dtype\":\"U8\",\"shape\":[1,2,34],\"data_offsets\":[0,68]}}", 50,
     "has only 50 bytes"},
    {"overlap",
     "{" SAYS "\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,34],\"data_offsets\":[0,34]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[1,1,34],\"data_offsets\":[17,51]}}",
     51, "overlap by 17 bytes"},
    {"gap", "{" SAYS "\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,34],\"data_offsets\":[6,40]}}", 40,
     "6 bytes before tensor a"},
    {"too many values",
     "{" SAYS "\"a\":{\"dtype\":\"U8\",\"shape\":[0,9000000000000000000,34],\"data_offsets\":[0,0]}}", 0,
     "more values than can be counted"},
    {"more values than bytes",
     "{" SAYS "\"a\":{\"dtype\":\"U8\",\"shape\":[0,260000000000000000,34],\"data_offsets\":[0,0]}}", 0,
     "blocks of shape [0, 260000000000000000, 34] hold more values"},
    {"its own type name", "{" SAYS "\"a\":{\"dtype\":\"Q8_0\",\"shape\":[1,32],\"data_offsets\":[0,34]}}", 34,
     "unknown dtype \"Q8_0\""},
    {"quantisation is a number", "{\"__metadata__\":{\"quantisation\":8}}", 0,
     "metadata quantisation is of type integer"},
};

static void refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bytes file = safetensors_bytes(bad[i].header, bad[i].data);
        expect_refused(&oas_read_safetensors, bad[i].name, &file, OASIS_E_FORMAT, bad[i].fragment);
        bytes_free(&file);
    }
    bytes other = safetensors_bytes("{\"__metadata__\":{\"quantisation\":\"q4_k\"}}", 0);
    expect_refused(&oas_read_safetensors, "another one", &other, OASIS_E_UNSUPPORTED, "quantisation \"q4_k\"");
    bytes_free(&other);
    expect_distinct_sentences(sizeof bad / sizeof *bad + 1);
}

/* In files of other programs bytes are bytes. */
static void leaves_other_files_alone(void **state)
{
    (void)state;
    bytes file = safetensors_bytes("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,34],\"data_offsets\":[0,34]}}", 34);
    weight_file *w = NULL;
    oasis_message why;
    assert_int_equal(oas_weight_file_read(&w, &oas_read_safetensors, file.data, file.size, "f", &why), OASIS_OK);
    assert_int_equal(oas_weight_file_at(w, 0)->dtype, OAS_STORED_U8);
    assert_int_equal(oas_weight_file_at(w, 0)->rank, 3);
    oas_weight_file_close(&w);
    bytes_free(&file);
}

/* A model file whose tensors are of types that no weight has. */
static void refuses_models(void **state)
{
    (void)state;
    static const char config[] = "{\\\"latent_channels\\\":4,\\\"in_dim\\\":8,\\\"dim\\\":32,\\\"num_heads\\\":4,"
                                 "\\\"num_layers\\\":1,\\\"ffn_dim\\\":64,"
                                 "\\\"patch_size\\\":[1,2,2],\\\"unshuffle\\\":[4,8,8],\\\"decoder\\\":\\\"none\\\"}";
    static const char routes[] = "oasis-routing 1\\nlayers 1 heads 4\\nwindow 3 5 5 border truncate\\nroute 0 giww\\n";
    static const struct {
        const char *quantisation, *tensor, *fragment;
    } cases[] = {
        {"", "\"dtype\":\"U8\",\"shape\":[1,1,34],\"data_offsets\":[0,34]", "holds U8, expected floats"},
        {"", "\"dtype\":\"I8\",\"shape\":[34],\"data_offsets\":[0,34]", "holds I8, expected floats"},
        {"", "\"dtype\":\"BOOL\",\"shape\":[34],\"data_offsets\":[0,34]", "holds BOOL, expected floats"},
        {"\"quantisation\":\"q8_0\",", "\"dtype\":\"U8\",\"shape\":[1,1,1,34],\"data_offsets\":[0,34]",
         "of shape [1, 1, 32] is q8_0, which only matrices"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[2048];
        oasis_message why = {""};
        model_file m;
        snprintf(header, sizeof header,
                 "{\"__metadata__\":{%s\"format\":\"oasis-1\",\"config\":\"%s\",\"routing\":\"%s\"},\"t\":{%s}}",
                 cases[i].quantisation, config, routes, cases[i].tensor);
        while ((strlen(header) + 8) % 8 != 0)
            strcat(header, " ");
        bytes file = safetensors_bytes(header, 34);
        guarded g = guarded_copy(file.data, file.size);
        oasis_status s = oas_model_file_read(&m, g.data, g.size, "f", &why);
        if (s != OASIS_E_FORMAT || !strstr(why.text, cases[i].fragment))
            fail_msg("case %zu: status %d, \"%s\", expected \"%s\"", i, (int)s, why.text, cases[i].fragment);
        guarded_free(&g);
        bytes_free(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_floats), cmocka_unit_test(packs_and_unpacks),        cmocka_unit_test(writes_and_reads),
        cmocka_unit_test(refuses),     cmocka_unit_test(leaves_other_files_alone), cmocka_unit_test(refuses_models),
    };
    return cmocka_run_group_tests_name("format/q8", tests, NULL, NULL);
}
