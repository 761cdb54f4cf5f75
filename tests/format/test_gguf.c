/* GGUF: good files read exactly, wrong ones refused with a sentence of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "helpers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    BOOL,
    TEXT,
    ARRAY,
    U64,
    I64,
    F64
}; /* types of values, as numbered in the file */
enum { T_F32 = 0, T_F16 = 1, T_Q8_0 = 8, T_Q4_K = 12, T_I32 = 26, T_BF16 = 30 };

/* A file in the making: pairs and tensors are collected, then put together. */
typedef struct gguf_plan {
    bytes pairs, tensors;
    uint64_t n_pairs, n_tensors;
    uint64_t version, pairs_more, tensors_more;
    size_t data, alignment;
} gguf_plan;

static gguf_plan new_plan(size_t data)
{
    return (gguf_plan){.version = 3, .data = data, .alignment = 32};
}

static void add_text(bytes *b, const char *text)
{
    bytes_u(b, strlen(text), 8);
    bytes_text(b, text);
}

static bytes *add_key(gguf_plan *p, const char *key, unsigned type)
{
    p->n_pairs++;
    add_text(&p->pairs, key);
    bytes_u(&p->pairs, type, 4);
    return &p->pairs;
}

/* Sizes fastest first, as in the file. */
static void add_tensor(gguf_plan *p, const char *name, unsigned type, unsigned rank, const uint64_t *size,
                       uint64_t offset)
{
    p->n_tensors++;
    add_text(&p->tensors, name);
    bytes_u(&p->tensors, rank, 4);
    for (unsigned i = 0; i < rank; i++)
        bytes_u(&p->tensors, size[i], 8);
    bytes_u(&p->tensors, type, 4);
    bytes_u(&p->tensors, offset, 8);
}

static bytes build(gguf_plan *p)
{
    bytes b = {0};
    bytes_text(&b, "GGUF");
    bytes_u(&b, p->version, 4);
    bytes_u(&b, p->n_tensors + p->tensors_more, 8);
    bytes_u(&b, p->n_pairs + p->pairs_more, 8);
    bytes_add(&b, p->pairs.data, p->pairs.size);
    bytes_add(&b, p->tensors.data, p->tensors.size);
    while (p->data && b.size % p->alignment)
        bytes_u(&b, 0, 1);
    for (size_t i = 0; i < p->data; i++)
        bytes_u(&b, i * 3 + 1, 1);
    bytes_free(&p->pairs);
    bytes_free(&p->tensors);
    return b;
}

static const uint64_t two[1] = {2}, three_two[2] = {3, 2};

static void expect_plan(const char *name, gguf_plan *p, oasis_status status, const char *fragment)
{
    bytes file = build(p);
    expect_refused(&oas_read_gguf, name, &file, status, fragment);
    bytes_free(&file);
}

static void refuses_headers(void **state)
{
    (void)state;
    bytes file = {0};
    bytes_text(&file, "GGML....");
    expect_refused(&oas_read_gguf, "other magic", &file, OASIS_E_FORMAT, "begin with \"GGUF\"");
    bytes_free(&file);
    gguf_plan p = new_plan(0);
    file = build(&p);
    file.size -= 1;
    expect_refused(&oas_read_gguf, "short header", &file, OASIS_E_FORMAT, "the header at byte 16 goes beyond");
    bytes_free(&file);
    p = new_plan(0);
    p.version = 1;
    expect_plan("version 1", &p, OASIS_E_UNSUPPORTED, "GGUF version 1,");
    p = new_plan(0);
    p.version = 0x03000000;
    expect_plan("big-endian", &p, OASIS_E_UNSUPPORTED, "(big-endian)");
    p = new_plan(0);
    p.tensors_more = (uint64_t)1 << 60;
    expect_plan("2^60 tensors", &p, OASIS_E_FORMAT, "GGUF of 1152921504606846976 tensors");
    p = new_plan(0);
    p.pairs_more = 5000;
    expect_plan("5000 keys", &p, OASIS_E_FORMAT, "GGUF of 5000 keys");
    p = new_plan(0);
    p.pairs_more = 1;
    expect_plan("no room for a key", &p, OASIS_E_FORMAT, "GGUF of 1 keys and 0 tensors, which do not fit into 0 bytes");
    p = new_plan(24);
    p.alignment = 8;
    p.tensors_more = 1;
    expect_plan("no room for a tensor", &p, OASIS_E_FORMAT, "0 keys and 1 tensors, which do not fit into 24 bytes");
    p = new_plan(0);
    p.pairs_more = 1;
    add_text(add_key(&p, "k", TEXT), "a text as long as a key");
    expect_plan("a key too few", &p, OASIS_E_FORMAT, "a key at byte 68 goes beyond");
    p = new_plan(0);
    p.tensors_more = 1;
    add_text(add_key(&p, "k", TEXT), "a text as long as a row of the table");
    expect_plan("a tensor too few", &p, OASIS_E_FORMAT, "a tensor's name at byte 81 goes beyond");
}

static void refuses_pairs(void **state)
{
    (void)state;
    gguf_plan p = new_plan(0);
    bytes_u(add_key(&p, "", U32), 1, 4);
    expect_plan("empty key", &p, OASIS_E_FORMAT, "a key of 0 bytes");
    p = new_plan(0);
    bytes_u(&p.pairs, UINT64_MAX, 8);
    bytes_u(&p.pairs, 0, 8);
    p.n_pairs = 1;
    expect_plan("key of 2^64-1 bytes", &p, OASIS_E_FORMAT, "a key at byte 32 goes beyond");
    p = new_plan(0);
    bytes_u(add_key(&p, "\xff\xfe", U8), 1, 1);
    expect_plan("key not UTF-8", &p, OASIS_E_FORMAT, "a key of 2 bytes, expected 1 to 65535 bytes of UTF-8");
    p = new_plan(0);
    bytes_u(add_key(&p, "k", U8), 1, 1);
    bytes_u(add_key(&p, "k", U8), 1, 1);
    expect_plan("key twice", &p, OASIS_E_FORMAT, "key k occurs twice");
    p = new_plan(0);
    bytes_u(add_key(&p, "k", 13), 0, 1);
    expect_plan("unknown type", &p, OASIS_E_FORMAT, "key k: a value of unknown type 13");
    p = new_plan(0);
    bytes_u(add_key(&p, "k", U32), 0, 1);
    expect_plan("no value", &p, OASIS_E_FORMAT, "a value at byte 37 goes beyond");
    p = new_plan(0);
    bytes_u(add_key(&p, "k", TEXT), 100, 8);
    expect_plan("text beyond the file", &p, OASIS_E_FORMAT, "a text at byte 45 goes beyond");
    p = new_plan(0);
    add_text(add_key(&p, "k", TEXT), "\xc0\x80");
    expect_plan("text not UTF-8", &p, OASIS_E_FORMAT, "key k: expected a text in UTF-8");
    p = new_plan(0);
    bytes_u(add_key(&p, "k", ARRAY), ARRAY, 4);
    bytes_u(&p.pairs, 1, 8);
    expect_plan("array of arrays", &p, OASIS_E_FORMAT, "key k: an array of values of type 9");
    p = new_plan(0);
    bytes_u(add_key(&p, "k", ARRAY), U64, 4);
    bytes_u(&p.pairs, ((uint64_t)1 << 61) + 1, 8);
    bytes_u(&p.pairs, 0, 8);
    expect_plan("array that wraps around", &p, OASIS_E_FORMAT, "an array of 2305843009213693953 values in 8 bytes");
    p = new_plan(0);
    bytes_u(add_key(&p, "k", ARRAY), TEXT, 4);
    bytes_u(&p.pairs, 1, 8);
    bytes_u(&p.pairs, 9, 8);
    expect_plan("array with a long text", &p, OASIS_E_FORMAT, "a text of an array at byte 57");
    p = new_plan(0);
    bytes_u(add_key(&p, "k", ARRAY), U32, 3);
    expect_plan("half an array", &p, OASIS_E_FORMAT, "an array at byte");
    static const struct {
        unsigned type;
        uint64_t value;
        const char *fragment;
    } alignments[] = {{U64, 32, "general.alignment is of type 10"},
                      {U32, 0, "general.alignment is 0"},
                      {U32, 4, "general.alignment is 4"},
                      {U32, 48, "general.alignment is 48, expected a power of two"},
                      {U32, 1u << 31, "general.alignment is 2147483648"}};
    for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++) {
        p = new_plan(0);
        bytes_u(add_key(&p, "general.alignment", alignments[i].type), alignments[i].value,
                alignments[i].type == U64 ? 8 : 4);
        expect_plan("alignment", &p, OASIS_E_FORMAT, alignments[i].fragment);
    }
}

static void refuses_tensors(void **state)
{
    (void)state;
    static const struct {
        const char *name, *tensor;
        unsigned type, rank;
        uint64_t size[9], offset;
        const char *fragment;
        oasis_status status;
    } cases[] = {
        {"nine dimensions", "a", T_F32, 9, {1, 1, 1, 1, 1, 1, 1, 1, 2}, 0, "a has 9 dimensions", OASIS_E_FORMAT},
        {"2^32-1 dimensions", "a", T_F32, UINT32_MAX, {0}, 0, "a has 4294967295 dimensions", OASIS_E_FORMAT},
        {"size of 2^63", "a", T_F32, 1, {(uint64_t)1 << 63}, 0, "F32 of shape [-1]", OASIS_E_FORMAT},
        {"sizes overflow",
         "a",
         T_F32,
         2,
         {1u << 31, (uint64_t)1 << 33},
         0,
         "[8589934592, 2147483648] is impossible",
         OASIS_E_FORMAT},
        {"bytes overflow",
         "a",
         T_F32,
         1,
         {((uint64_t)1 << 62) + 2},
         0,
         "[4611686018427387906] is impossible",
         OASIS_E_FORMAT},
        {"half a block", "a", T_Q8_0, 2, {48, 2}, 0, "Q8_0 of shape [2, 48] is impossible", OASIS_E_FORMAT},
        {"block of a scalar", "a", T_Q8_0, 0, {0}, 0, "Q8_0 of shape [] is impossible", OASIS_E_FORMAT},
        {"unknown type", "a", 99, 1, {2}, 0, "unknown type 99", OASIS_E_FORMAT},
        {"removed type", "a", 4, 1, {2}, 0, "unknown type 4", OASIS_E_FORMAT},
        {"Q4_K", "a", T_Q4_K, 1, {256}, 0, "quantised as Q4_K", OASIS_E_UNSUPPORTED},
        {"odd offset", "a", T_F32, 1, {2}, 4, "a begins at 4, expected a multiple of 32", OASIS_E_FORMAT},
        {"beyond the file", "a", T_F32, 1, {25}, 0, "a has 100 bytes from 0, but the file has only 96", OASIS_E_FORMAT},
        {"offset beyond", "a", T_F32, 1, {2}, 128, "a has 8 bytes from 128", OASIS_E_FORMAT},
        {"offset far beyond", "a", T_F32, 1, {8}, UINT64_MAX - 31, "from 18446744073709551584", OASIS_E_FORMAT},
        {"empty name", "", T_F32, 1, {2}, 0, "empty name", OASIS_E_FORMAT},
        {"line feed in a name", "a\nb", T_F32, 1, {2}, 0, "control character 0x0a at byte 1", OASIS_E_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gguf_plan p = new_plan(96);
        add_tensor(&p, cases[i].tensor, cases[i].type, cases[i].rank < 10 ? cases[i].rank : 0, cases[i].size,
                   cases[i].offset);
        if (cases[i].rank > 9)
            memset(p.tensors.data + 8 + strlen(cases[i].tensor), 0xff, 4);
        expect_plan(cases[i].name, &p, cases[i].status, cases[i].fragment);
    }
    gguf_plan p = new_plan(96);
    add_tensor(&p, "a", T_F32, 1, two, 0);
    add_tensor(&p, "a", T_F32, 1, two, 32);
    expect_plan("name twice", &p, OASIS_E_FORMAT, "tensor a occurs twice");
    p = new_plan(96);
    const uint64_t nine[1] = {9};
    add_tensor(&p, "b", T_F32, 1, two, 32);
    add_tensor(&p, "a", T_F32, 1, nine, 0);
    expect_plan("overlap", &p, OASIS_E_FORMAT, "tensors a and b overlap by 4 bytes");
    p = new_plan(0);
    add_tensor(&p, "a", T_F32, 1, two, 0);
    add_tensor(&p, "b", T_F32, 1, two, 32);
    p.tensors.size -= 9;
    expect_plan("cut table", &p, OASIS_E_FORMAT, "the table of tensors at byte");
    static const struct {
        int64_t size[2];
        const char *fragment;
    } shapes[] = {{{2, 2}, "cannot have the shape [2, 2]"}, {{-3, -2}, "cannot have the shape [-3, -2]"}};
    for (size_t i = 0; i < 2; i++) {
        p = new_plan(96);
        bytes_u(add_key(&p, "comfy.gguf.orig_shape.a", ARRAY), I32, 4);
        bytes_u(&p.pairs, 2, 8);
        bytes_u(&p.pairs, (uint64_t)shapes[i].size[0], 4);
        bytes_u(&p.pairs, (uint64_t)shapes[i].size[1], 4);
        add_tensor(&p, "a", T_F32, 2, three_two, 0);
        expect_plan("wrong original shape", &p, OASIS_E_FORMAT, shapes[i].fragment);
    }
    expect_distinct_sentences(45);
}

enum { RICH_DATA = 260 };

/* One of each kind of value, and tensors of each type, one with its shape restored. */
static gguf_plan rich_plan(void)
{
    gguf_plan p = new_plan(RICH_DATA);
    p.alignment = 64;
    add_text(add_key(&p, "general.architecture", TEXT), "wan");
    bytes_u(add_key(&p, "general.alignment", U32), 64, 4);
    bytes_u(add_key(&p, "u8", U8), 255, 1);
    bytes_u(add_key(&p, "i8", I8), 255, 1);
    bytes_u(add_key(&p, "i16", I16), 0x8000, 2);
    bytes_u(add_key(&p, "i32", I32), (uint64_t)-7, 4);
    bytes_u(add_key(&p, "u64", U64), UINT64_MAX, 8);
    bytes_u(add_key(&p, "i64", I64), (uint64_t)INT64_MIN, 8);
    bytes_u(add_key(&p, "f32", F32), 0x3fc00000, 4);
    bytes_u(add_key(&p, "f64", F64), 0x3fb999999999999a, 8);
    bytes_u(add_key(&p, "nan", F32), 0x7fc00000, 4);
    bytes_u(add_key(&p, "bool", BOOL), 1, 1);
    bytes_u(add_key(&p, "numbers", ARRAY), U16, 4);
    bytes_u(&p.pairs, 9, 8);
    for (uint64_t i = 0; i < 9; i++)
        bytes_u(&p.pairs, i, 2);
    bytes_u(add_key(&p, "texts", ARRAY), TEXT, 4);
    bytes_u(&p.pairs, 2, 8);
    add_text(&p.pairs, "a");
    add_text(&p.pairs, "");
    bytes_u(add_key(&p, "comfy.gguf.orig_shape.restored", ARRAY), I32, 4);
    bytes_u(&p.pairs, 3, 8);
    bytes_u(&p.pairs, 1, 4);
    bytes_u(&p.pairs, 2, 4);
    bytes_u(&p.pairs, 3, 4);
    const uint64_t q8[2] = {32, 2}, none[1] = {0};
    add_tensor(&p, "restored", T_F16, 1, (const uint64_t[1]){6}, 192);
    add_tensor(&p, "quantised", T_Q8_0, 2, q8, 64);
    add_tensor(&p, "matrix", T_BF16, 2, three_two, 0);
    add_tensor(&p, "scalar", T_I32, 0, NULL, 256);
    add_tensor(&p, "none", T_F32, 1, none, 192);
    return p;
}

static void reads_rich_files(void **state)
{
    (void)state;
    static const char *const notes[][2] = {
        {"general.architecture", "wan"},
        {"u8", "255"},
        {"i8", "-1"},
        {"i16", "-32768"},
        {"i32", "-7"},
        {"u64", "18446744073709551615"},
        {"i64", "-9223372036854775808"},
        {"f32", "1.5"},
        {"f64", "0.1"},
        {"nan", "null"},
        {"bool", "true"},
        {"numbers", "[0, 1, 2, 3, 4, 5, 6, 7, ... 9 values]"},
        {"texts", "[2 values]"},
        {"comfy.gguf.orig_shape.restored", "[1, 2, 3]"},
    };
    gguf_plan p = rich_plan();
    bytes file = build(&p);
    guarded g = guarded_copy(file.data, file.size);
    oasis_message why = {""};
    weight_file *w = NULL;
    if (oas_weight_file_read(&w, &oas_read_gguf, g.data, g.size, "f", &why) != OASIS_OK)
        fail_msg("%s", why.text);
    for (size_t i = 0; i < sizeof notes / sizeof notes[0]; i++)
        assert_string_equal(oas_weight_file_note(w, notes[i][0]), notes[i][1]);
    const unsigned char *data = g.data + g.size - RICH_DATA;
    const stored *t = oas_weight_file_find(w, "matrix");
    assert_true(t->dtype == OAS_STORED_BF16 && t->rank == 2 && t->size[0] == 2 && t->size[1] == 3);
    assert_ptr_equal(t->data, data);
    t = oas_weight_file_find(w, "restored");
    assert_true(t->rank == 3 && t->size[0] == 1 && t->size[1] == 2 && t->size[2] == 3 && t->bytes == 12);
    assert_ptr_equal(t->data, data + 192);
    t = oas_weight_file_find(w, "quantised");
    assert_true(t->dtype == OAS_STORED_Q8_0 && t->bytes == 68 && t->size[0] == 2 && t->size[1] == 32);
    t = oas_weight_file_find(w, "scalar");
    assert_true(t->rank == 0 && t->bytes == 4 && t->data == data + 256);
    assert_true(oas_weight_file_find(w, "none")->bytes == 0);
    oas_weight_file_close(&w);
    guarded_free(&g);
    bytes_free(&file);
}

/* d = 0.5 and -2: values of a block are d times signed bytes. */
static void reads_quantised_blocks(void **state)
{
    (void)state;
    unsigned char blocks[68];
    const unsigned scale[2] = {0x3800, 0xc000};
    for (unsigned b = 0; b < 2; b++) {
        blocks[34 * b] = (unsigned char)scale[b];
        blocks[34 * b + 1] = (unsigned char)(scale[b] >> 8);
        for (unsigned i = 0; i < 32; i++)
            blocks[34 * b + 2 + i] = (unsigned char)(i * 8 + b - 128);
    }
    stored t = {.dtype = OAS_STORED_Q8_0, .rank = 1, .size = {64}, .data = blocks, .bytes = sizeof blocks};
    float value[64];
    oas_stored_floats(&t, 0, 64, value);
    for (int i = 0; i < 32; i++) {
        assert_true(value[i] == 0.5f * (float)(i * 8 - 128));
        assert_true(value[32 + i] == -2.0f * (float)(i * 8 + 1 - 128));
    }
    float some[5];
    oas_stored_floats(&t, 30, 5, some);
    assert_memory_equal(some, value + 30, sizeof some);
}

static void opens_by_content(void **state)
{
    (void)state;
    gguf_plan p = new_plan(96);
    p.version = 2;
    add_tensor(&p, "a", T_F32, 2, three_two, 32);
    bytes file = build(&p);
    const char *path = temp_path("weights.gguf");
    write_whole(path, file.data, file.size);
    oasis_message why;
    weight_file *w;
    assert_int_equal(oas_weight_file_open(&w, path, &why), OASIS_OK);
    assert_string_equal(oas_weight_file_format(w), "GGUF");
    assert_int_equal(oas_weight_file_count(w), 1);
    oas_weight_file_close(&w);
    unlink(path);
    bytes_free(&file);
}

static void survives_damage(void **state)
{
    (void)state;
    gguf_plan p = rich_plan();
    bytes file = build(&p);
    guarded g = guarded_copy(file.data, file.size);
    guarded_writable(&g);
    oasis_message why;
    weight_file *w;
    for (size_t at = 0; at + RICH_DATA < file.size; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            g.data[at] = (unsigned char)(file.data[at] ^ 1u << bit);
            oasis_status status = oas_weight_file_read(&w, &oas_read_gguf, g.data, g.size, "f", &why);
            assert_true(status == OASIS_OK || status == OASIS_E_FORMAT || status == OASIS_E_UNSUPPORTED);
            oas_weight_file_close(&w);
            g.data[at] = file.data[at];
        }
    guarded_free(&g);
    bytes_free(&file);
}

static void survives_any_failed_allocation(void **state)
{
    (void)state;
    gguf_plan p = rich_plan();
    bytes file = build(&p);
    long n = 0;
    for (bool failed = true; failed; n++) {
        oasis_message why = {""};
        weight_file *w = NULL;
        fail_allocation(n);
        oasis_status status = oas_weight_file_read(&w, &oas_read_gguf, file.data, file.size, "f", &why);
        failed = allocation_failed();
        expect_allocation_status(status, why.text);
        fail_allocation(-1);
        assert_true((status == OASIS_OK) == (w != NULL));
        oas_weight_file_close(&w);
    }
    assert_true(n > 30);
    bytes_free(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_headers),        cmocka_unit_test(refuses_pairs),
        cmocka_unit_test(refuses_tensors),        cmocka_unit_test(reads_rich_files),
        cmocka_unit_test(reads_quantised_blocks), cmocka_unit_test(opens_by_content),
        cmocka_unit_test(survives_damage),        cmocka_unit_test(survives_any_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
