/* Indexes of sharded safetensors: good ones read, wrong ones refused with a sentence of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/weight_file.h"
#include "helpers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ONE(name) "\"" name "\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define TWO(name) "\"" name "\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]}"

static void write_shard(const char *name, const char *header, size_t data)
{
    bytes file = safetensors_bytes(header, data);
    write_whole(temp_path(name), file.data, file.size);
    bytes_free(&file);
}

/* Two files: x.safetensors has a and b, y.safetensors has c; one that is damaged; one that is none. */
static int make_shards(void **state)
{
    (void)state;
    write_shard("x.safetensors", "{\"__metadata__\":{\"format\":\"pt\"}," ONE("a") "," TWO("b") "}", 11);
    write_shard("y.safetensors", "{" ONE("c") "}", 8);
    write_shard("bad.safetensors", "{" ONE("d") "}", 7);
    return 0;
}

static int remove_shards(void **state)
{
    (void)state;
    static const char *const files[] = {"x.safetensors", "y.safetensors", "bad.safetensors",
                                        "model.safetensors.index.json"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        unlink(temp_path(files[i]));
    return 0;
}

static oasis_status open_index(const char *text, weight_file **w, oasis_message *why)
{
    const char *path = temp_path("model.safetensors.index.json");
    write_whole(path, text, strlen(text));
    return oas_weight_file_open(w, path, why);
}

static const struct {
    const char *name, *index, *fragment;
    oasis_status status;
} malformed[] = {
    {"not JSON", "{\n \"weight_map\":", "not valid JSON at line 2", OASIS_E_FORMAT},
    {"no map", "{ \"metadata\": {} }", "JSON without \"weight_map\"", OASIS_E_FORMAT},
    {"map is an array", "{\"weight_map\": []}", "weight_map is of type array", OASIS_E_FORMAT},
    {"file is a number", "{\"weight_map\": {\"a\": 1}}", "tensor a is mapped to a value of type integer",
     OASIS_E_FORMAT},
    {"folder above", "{\"weight_map\": {\"a\": \"../x.safetensors\"}}", "in \"../x.safetensors\", expected a file in",
     OASIS_E_FORMAT},
    {"root", "{\"weight_map\": {\"a\": \"/x.safetensors\"}}", "in \"/x.safetensors\"", OASIS_E_FORMAT},
    {"backslash", "{\"weight_map\": {\"a\": \"..\\\\x.safetensors\"}}", "in \"..\\x.safetensors\"", OASIS_E_FORMAT},
    {"drive", "{\"weight_map\": {\"a\": \"c:x.safetensors\"}}", "in \"c:x.safetensors\"", OASIS_E_FORMAT},
    {"hidden file", "{\"weight_map\": {\"a\": \".x.safetensors\"}}", "in \".x.safetensors\", expected NAME",
     OASIS_E_FORMAT},
    {"other ending", "{\"weight_map\": {\"a\": \"x.bin\"}}", "in \"x.bin\", expected NAME", OASIS_E_FORMAT},
    {"only an ending", "{\"weight_map\": {\"a\": \".safetensors\"}}", "in \".safetensors\"", OASIS_E_FORMAT},
    {"no name", "{\"weight_map\": {\"a\": \"\"}}", "in \"\", expected NAME", OASIS_E_FORMAT},
    {"missing file", "{\"weight_map\": {\"a\": \"z.safetensors\"}}", "z.safetensors: cannot be opened", OASIS_E_IO},
    {"damaged file", "{\"weight_map\": {\"d\": \"bad.safetensors\"}}", "bad.safetensors: tensor d: data ends at 8",
     OASIS_E_FORMAT},
    {"missing tensor", "{\"weight_map\": {\"a\": \"x.safetensors\", \"e\": \"x.safetensors\"}}",
     "tensor e is not in x.safetensors", OASIS_E_FORMAT},
    {"wrong file", "{\"weight_map\": {\"a\": \"y.safetensors\"}}", "tensor a is not in y.safetensors", OASIS_E_FORMAT},
    {"extra tensor", "{\"weight_map\": {\"a\": \"x.safetensors\", \"c\": \"y.safetensors\"}}",
     "tensor b is in x.safetensors, but the index does not say so", OASIS_E_FORMAT},
    {"tensor twice", "{\"weight_map\": {\"a\": \"x.safetensors\", \"a\": \"y.safetensors\"}}", "duplicate object key",
     OASIS_E_FORMAT},
};

static void refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        oasis_message why = {""};
        weight_file *w = NULL;
        oasis_status status = open_index(malformed[i].index, &w, &why);
        if (status != malformed[i].status || !strstr(why.text, malformed[i].fragment) || why.text[0] != '/')
            fail_msg("%s: status %d, \"%s\", expected \"%s\"", malformed[i].name, status, why.text,
                     malformed[i].fragment);
        assert_null(w);
        note_sentence(malformed[i].name, why.text);
    }
    expect_distinct_sentences(sizeof malformed / sizeof malformed[0]);
}

static const char good[] = "\n{\"metadata\": {\"total_size\": 19}, \"weight_map\": {\"b\": \"x.safetensors\", "
                           "\"c\": \"y.safetensors\", \"a\": \"x.safetensors\"}}\n";

static void reads(void **state)
{
    (void)state;
    oasis_message why = {""};
    weight_file *w;
    if (open_index(good, &w, &why) != OASIS_OK)
        fail_msg("%s", why.text);
    assert_string_equal(oas_weight_file_format(w), "safetensors, sharded");
    assert_int_equal(oas_weight_file_count(w), 3);
    assert_string_equal(oas_weight_file_at(w, 0)->name, "b");
    assert_memory_equal(oas_weight_file_find(w, "b")->data, "\x08\x09\x0a", 3);
    assert_int_equal(oas_weight_file_find(w, "c")->bytes, 8);
    assert_null(oas_weight_file_find(w, "d"));
    oas_weight_file_close(&w);
}

static void survives_any_failed_allocation(void **state)
{
    (void)state;
    long n = 0;
    for (bool failed = true; failed; n++) {
        oasis_message why = {""};
        weight_file *w = NULL;
        fail_allocation(n);
        oasis_status status = open_index(good, &w, &why);
        failed = allocation_failed();
        expect_allocation_status(status, why.text);
        fail_allocation(-1);
        assert_true((status == OASIS_OK) == (w != NULL));
        oas_weight_file_close(&w);
    }
    assert_true(n > 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses),
        cmocka_unit_test(reads),
        cmocka_unit_test(survives_any_failed_allocation),
    };
    return cmocka_run_group_tests(tests, make_shards, remove_shards);
}
