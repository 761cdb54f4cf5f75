/* safetensors: every malformed file is refused with a sentence of its own; what is written is read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/safetensors.h"
#include "helpers.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define ONE "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

static const struct {
    const char *name, *header;
    size_t data;
    const char *fragment;
} malformed[] = {
    {"not an object", "[{}]", 0, "the header begins with 0x5b, expected '{'"},
    {"not JSON", "{\"a\":}", 0, "not valid JSON at line 1, column 6"},
    {"cut JSON", "{" ONE, 8, "not valid JSON at line 1"},
    {"text behind the JSON", "{" ONE "}x", 8, "end of file expected"},
    {"duplicate key", "{" ONE "," ONE "}", 8, "duplicate object key"},
    {"invalid UTF-8", "{\"\xff\":0}", 0, "unable to decode byte 0xff"},
    {"NUL in a name", "{\"a\\u0000b\":0}", 0, "NUL byte in object key"},
    {"too large a number", "{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,8]}}", 8,
     "too big integer"},
    {"tensor is an array", "{\"a\":[]}", 0, "described by a value of type array"},
    {"tensor is null", "{\"a\":null}", 0, "described by a value of type null"},
    {"no dtype", "{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "has no dtype"},
    {"no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "has no shape"},
    {"no data_offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "has no data_offsets"},
    {"extra key", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"more\":1}}", 8,
     "described by 4 keys"},
    {"dtype is a number", "{\"a\":{\"dtype\":32,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype is of type integer"},
    {"unknown dtype", "{\"a\":{\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "unknown dtype \"F31\""},
    {"dtype of another case", "{\"a\":{\"dtype\":\"f32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "\"f32\""},
    {"quantised dtype", "{\"a\":{\"dtype\":\"Q8_0\",\"shape\":[32],\"data_offsets\":[0,34]}}", 34, "\"Q8_0\""},
    {"shape is a number", "{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8,
     "shape is of type integer"},
    {"shape is an object", "{\"a\":{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,8]}}", 8,
     "shape is of type object"},
    {"negative size", "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "shape holds -2"},
    {"fractional size", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8,
     "shape holds a value of type fraction"},
    {"size is a text", "{\"a\":{\"dtype\":\"F32\",\"shape\":[\"2\"],\"data_offsets\":[0,8]}}", 8,
     "shape holds a value of type string"},
    {"nine dimensions", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 8,
     "9 dimensions"},
    {"product overflows", "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}", 8,
     "[4294967296, 4294967296] has more values than can be counted"},
    {"product wraps to the right size",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905,2],\"data_offsets\":[0,8]}}", 8,
     "[4611686018427387905, 2] has more values"},
    {"zero hides an overflow", "{\"a\":{\"dtype\":\"F32\",\"shape\":[0,9223372036854775807,3],\"data_offsets\":[0,0]}}",
     0, "[0, 9223372036854775807, 3] has more values"},
    {"bytes overflow", "{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693953],\"data_offsets\":[0,8]}}", 8,
     "[2305843009213693953] has more values"},
    {"shape larger than the range", "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8,
     "F32 of shape [3] takes 12 bytes, but data_offsets span 8"},
    {"shape smaller than the range", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8,
     "takes 4 bytes"},
    {"dtype does not fit", "{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "BF16 of shape [2]"},
    {"scalar of 8 bytes", "{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,8]}}", 8,
     "F32 of shape [] takes 4"},
    {"offsets is an object", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{}}}", 8,
     "data_offsets is of type object"},
    {"one offset", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "data_offsets of 1 numbers"},
    {"three offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}}", 8,
     "data_offsets of 3 numbers"},
    {"negative offset", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8,
     "data_offsets holds -8"},
    {"fractional offset", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8.5]}}", 8,
     "data_offsets holds a value of type fraction"},
    {"offset is true", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[true,8]}}", 8,
     "data_offsets holds a value of type true"},
    {"end before begin", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8,
     "ends at 0, before its begin 8"},
    {"beyond the file", "{" ONE "}", 7, "ends at 8, but the file has only 7 bytes"},
    {"far beyond the file",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[9223372036854775807],\"data_offsets\":[0,9223372036854775807]}}", 8,
     "ends at 9223372036854775807"},
    {"gap before", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "4 bytes before tensor a"},
    {"gap between",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
     "offsets\":[3,4]}}",
     4, "2 bytes before tensor b"},
    {"gap behind", "{" ONE "}", 11, "3 bytes behind the last tensor"},
    {"data without tensors", "{}", 5, "5 bytes behind the last tensor"},
    {"overlap", "{" ONE ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12,
     "tensors a and b overlap by 4 bytes"},
    {"same range twice", "{" ONE ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
     "tensors a and b overlap by 8"},
    {"empty name", "{\"\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "empty name"},
    {"control character in a name", "{\"a\\u001bb\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
     "control character 0x1b at byte 1"},
    {"metadata is a text", "{\"__metadata__\":\"x\"," ONE "}", 8, "__metadata__ is of type string"},
    {"metadata holds a number", "{\"__metadata__\":{\"k\":1}," ONE "}", 8, "metadata k is of type integer"},
    {"metadata holds an object", "{\"__metadata__\":{\"k\":{}}," ONE "}", 8, "metadata k is of type object"},
};

static void refuses_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        bytes file = safetensors_bytes(malformed[i].header, malformed[i].data);
        expect_refused(&oas_read_safetensors, malformed[i].name, &file, OASIS_E_FORMAT, malformed[i].fragment);
        bytes_free(&file);
    }
}

/* Files that no table of texts can hold. */
static void refuses_sizes(void **state)
{
    (void)state;
    bytes file = safetensors_bytes("{" ONE "}", 8);
    for (size_t n = 0; n <= 8; n += 4) {
        bytes cut = {.data = file.data, .size = n};
        char fragment[40];
        snprintf(fragment, sizeof fragment, "a file of %zu bytes is too short", n);
        expect_refused(&oas_read_safetensors, "cut off", &cut, OASIS_E_FORMAT, fragment);
    }
    file.data[0]++;
    bytes cut = {.data = file.data, .size = file.size - 8};
    expect_refused(&oas_read_safetensors, "header longer than the file", &cut, OASIS_E_FORMAT, "is the file cut off?");
    file.data[3] = 0x06;
    expect_refused(&oas_read_safetensors, "header above the cap", &file, OASIS_E_FORMAT, "expected at most 100000000");
    memset(file.data, 0xff, 8);
    expect_refused(&oas_read_safetensors, "header of 2^64-1 bytes", &file, OASIS_E_FORMAT, "18446744073709551615");
    memset(file.data, 0, 8);
    expect_refused(&oas_read_safetensors, "header of no bytes", &file, OASIS_E_FORMAT, "a header of 0 bytes");
    bytes_free(&file);
}

static bytes with_header(bytes *header, size_t data)
{
    bytes_u(header, 0, 1);
    bytes file = safetensors_bytes((const char *)header->data, data);
    bytes_free(header);
    return file;
}

static void refuses_floods(void **state)
{
    (void)state;
    bytes header = {0};
    bytes_text(&header, "{\"");
    for (int i = 0; i <= OAS_STORED_MAX_NAME; i++)
        bytes_text(&header, "n");
    bytes_text(&header, "\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}");
    bytes file = with_header(&header, 8);
    expect_refused(&oas_read_safetensors, "long name", &file, OASIS_E_FORMAT,
                   "a name of 513 bytes, expected at most 512");
    bytes_free(&file);

    bytes_text(&header, "{\"a\":");
    for (int i = 0; i < 5000; i++)
        bytes_text(&header, "[");
    file = with_header(&header, 0);
    expect_refused(&oas_read_safetensors, "nested too deep", &file, OASIS_E_FORMAT, "maximum parsing depth");
    bytes_free(&file);

    bytes_text(&header, "{\"a\":[");
    for (int i = 0; i < 2100000; i++)
        bytes_text(&header, "0,");
    bytes_text(&header, "0]}");
    file = with_header(&header, 0);
    expect_refused(&oas_read_safetensors, "too many values", &file, OASIS_E_FORMAT, "expected at most 2000000");
    bytes_free(&file);

    bytes_text(&header, "{");
    for (int i = 0; i <= OAS_STORED_MAX_COUNT; i++) {
        char text[24];
        snprintf(text, sizeof text, "%s\"%d\":0", i ? "," : "", i);
        bytes_text(&header, text);
    }
    bytes_text(&header, "}");
    file = with_header(&header, 0);
    expect_refused(&oas_read_safetensors, "too many tensors", &file, OASIS_E_FORMAT, "65537 tensors");
    bytes_free(&file);

    bytes_text(&header, "{\"__metadata__\":{");
    for (int i = 0; i <= OAS_STORED_MAX_NOTES; i++) {
        char text[24];
        snprintf(text, sizeof text, "%s\"%d\":\"\"", i ? "," : "", i);
        bytes_text(&header, text);
    }
    bytes_text(&header, "}}");
    file = with_header(&header, 0);
    expect_refused(&oas_read_safetensors, "too much metadata", &file, OASIS_E_FORMAT, "metadata of 4097 entries");
    bytes_free(&file);
    expect_distinct_sentences(60);
}

static void reads_tensors(void **state)
{
    (void)state;
    bytes file = safetensors_bytes("{\"__metadata__\":{\"k\":\"v\",\"l\":\"\"},"
                                   "\"b\":{\"dtype\":\"U8\",\"shape\":[3,1],\"data_offsets\":[8,11]},"
                                   "\"none\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[8,8]},"
                                   "\"one\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[11,12]}," ONE "}   ",
                                   12);
    guarded g = guarded_copy(file.data, file.size);
    oasis_message why;
    weight_file *w;
    assert_int_equal(oas_weight_file_read(&w, &oas_read_safetensors, g.data, g.size, "f", &why), OASIS_OK);
    assert_int_equal(oas_weight_file_count(w), 4);
    assert_string_equal(oas_weight_file_at(w, 0)->name, "b");
    assert_null(oas_weight_file_at(w, 4));
    const stored *b = oas_weight_file_find(w, "b"), *none = oas_weight_file_find(w, "none"),
                 *one = oas_weight_file_find(w, "one");
    assert_int_equal(b->dtype, OAS_STORED_U8);
    assert_int_equal(b->rank, 2);
    assert_int_equal(b->size[0], 3);
    assert_int_equal(b->size[7], 1);
    assert_memory_equal(b->data, "\x08\x09\x0a", 3);
    assert_int_equal(none->bytes, 0);
    assert_int_equal(oas_stored_count(none), 0);
    assert_int_equal(one->rank, 0);
    assert_int_equal(oas_stored_count(one), 1);
    float value[3];
    oas_stored_floats(b, 1, 2, value);
    assert_true(value[0] == 9 && value[1] == 10);
    assert_null(oas_weight_file_find(w, "c"));
    assert_null(oas_weight_file_find(w, ""));
    assert_string_equal(oas_weight_file_note(w, "k"), "v");
    assert_string_equal(oas_weight_file_note(w, "l"), "");
    assert_null(oas_weight_file_note(w, "m"));
    oas_weight_file_close(&w);
    assert_null(w);
    oas_weight_file_close(&w);
    guarded_free(&g);
    bytes_free(&file);
}

static void needs_name_shape_and_floats(void **state)
{
    (void)state;
    bytes file = safetensors_bytes("{\"n\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[8,12]}," ONE "}", 12);
    const int64_t two[2] = {2, 1}, one[1] = {1};
    oasis_message why;
    weight_file *w;
    const stored *t;
    assert_int_equal(oas_weight_file_read(&w, &oas_read_safetensors, file.data, file.size, "f", &why), OASIS_OK);
    assert_int_equal(oas_weight_file_need(w, "a", 1, two, &t, &why), OASIS_OK);
    assert_ptr_equal(t, oas_weight_file_find(w, "a"));
    assert_int_equal(oas_weight_file_need(w, "z", 1, two, &t, &why), OASIS_E_FORMAT);
    assert_string_equal(why.text, "f: tensor z is missing, expected one of shape [2]");
    assert_int_equal(oas_weight_file_need(w, "a", 2, two, &t, &why), OASIS_E_FORMAT);
    assert_string_equal(why.text, "f: tensor a has shape [2], expected [2, 1]");
    assert_int_equal(oas_weight_file_need(w, "a", 1, one, &t, &why), OASIS_E_FORMAT);
    assert_int_equal(oas_weight_file_need(w, "n", 1, one, &t, &why), OASIS_E_FORMAT);
    assert_string_equal(why.text, "f: tensor n holds I32, expected floating-point values");
    oas_weight_file_close(&w);
    bytes_free(&file);
}

/* All bit patterns of the small floats against their definition by sign, exponent and mantissa. */
static void small_floats_are_exact(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 65536; bits++) {
        unsigned char raw[2] = {(unsigned char)bits, (unsigned char)(bits >> 8)};
        stored w = {.dtype = OAS_STORED_F16, .rank = 0, .data = raw, .bytes = 2};
        float got;
        oas_stored_floats(&w, 0, 1, &got);
        int e = (int)(bits >> 10 & 31), m = (int)(bits & 1023);
        double sign = bits >> 15 ? -1 : 1, want = sign * (e ? (1024 + m) * pow(2, e - 25) : m * pow(2, -24));
        if (e == 31)
            assert_true(m ? isnan(got) : isinf(got) && (got > 0) == (sign > 0));
        else
            assert_true((double)got == want && (signbit(got) != 0) == (sign < 0));
    }
    static const struct {
        stored_dtype dtype;
        unsigned char bits;
        float value;
    } cases[] = {{OAS_STORED_F8_E4M3, 0x7e, 448},
                 {OAS_STORED_F8_E4M3, 0x01, 0x1p-9f},
                 {OAS_STORED_F8_E4M3, 0xb8, -1},
                 {OAS_STORED_F8_E4M3, 0x78, 256},
                 {OAS_STORED_F8_E5M2, 0x7b, 57344},
                 {OAS_STORED_F8_E5M2, 0x01, 0x1p-16f},
                 {OAS_STORED_F8_E5M2, 0xfc, -INFINITY},
                 {OAS_STORED_BOOL, 1, 1},
                 {OAS_STORED_I8, 0x80, -128}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        stored w = {.dtype = cases[i].dtype, .data = &cases[i].bits, .bytes = 1};
        float got;
        oas_stored_floats(&w, 0, 1, &got);
        assert_true(got == cases[i].value);
    }
    float nan_value;
    stored w = {.dtype = OAS_STORED_F8_E4M3, .data = "\xff", .bytes = 1};
    oas_stored_floats(&w, 0, 1, &nan_value);
    assert_true(isnan(nan_value));
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

enum { LARGE = 3 * OAS_SAFETENSORS_PIECE / 4 + 1 };

/* Byte `at` of entry `index`, for any entry. */
static unsigned char pattern(size_t index, size_t at)
{
    return (unsigned char)(at * 7 + at / 251 + index * 31);
}

static oasis_status give_pattern(void *user, size_t index, size_t offset, void *to, size_t n, oasis_message *message)
{
    size_t *calls = user;
    if (calls && calls[0]++ == calls[1])
        return oas_fail(message, OASIS_E_DEVICE, "the source of tensor %zu failed", index);
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)to)[i] = pattern(index, offset + i);
    return OASIS_OK;
}

static const stored entries[] = {
    {.name = "bytes", .dtype = OAS_STORED_U8, .rank = 1, .size = {5}},
    {.name = "large \"quoted\" \\ \xc3\xa9", .dtype = OAS_STORED_BF16, .rank = 2, .size = {2, LARGE}},
    {.name = "scalar", .dtype = OAS_STORED_F32, .rank = 0},
    {.name = "none", .dtype = OAS_STORED_F32, .rank = 3, .size = {4, 0, 4}},
    {.name = "wide", .dtype = OAS_STORED_I64, .rank = 1, .size = {1}},
};
enum { ENTRIES = sizeof entries / sizeof entries[0] };
static const stored_note notes[] = {{"text", "line\nline \x01 \"q\""}, {"sha256", ""}, {"end", ""}};

static safetensors_file whole_file(size_t *calls)
{
    return (safetensors_file){entries, ENTRIES, notes, 3, give_pattern, calls};
}

static void writes_what_it_reads(void **state)
{
    (void)state;
    const char *path = temp_path("round.safetensors");
    safetensors_file file = whole_file(NULL);
    oasis_message why = {""};
    assert_int_equal(oas_safetensors_write(path, &file, &why), OASIS_OK);
    assert_int_equal(temp_files(), 1);
    weight_file *w;
    assert_int_equal(oas_weight_file_open(&w, path, &why), OASIS_OK);
    assert_string_equal(oas_weight_file_format(w), "safetensors");
    assert_int_equal(oas_weight_file_count(w), ENTRIES);
    for (size_t i = 0; i < ENTRIES; i++) {
        const stored *t = oas_weight_file_find(w, entries[i].name);
        assert_non_null(t);
        assert_int_equal(t->dtype, entries[i].dtype);
        assert_int_equal(t->rank, entries[i].rank);
        assert_true(oas_stored_aligned(t));
        for (int d = 0; d < t->rank; d++)
            assert_int_equal(t->size[d], entries[i].size[d]);
        for (size_t at = 0; at < t->bytes; at++)
            if (((const unsigned char *)t->data)[at] != pattern(i, at))
                fail_msg("%s: byte %zu differs", t->name, at);
    }
    assert_string_equal(oas_weight_file_note(w, "text"), notes[0].value);
    assert_int_equal(strlen(oas_weight_file_note(w, "sha256")), 64);
    oas_weight_file_close(&w);

    assert_int_equal(oas_safetensors_verify(path, &why), OASIS_OK);
    bytes all = read_whole(path);
    for (size_t place = 8 + 40; place < all.size; place += all.size / 3) { /* in the header and in the data */
        all.data[place] ^= 1;
        write_whole(path, all.data, all.size);
        assert_int_not_equal(oas_safetensors_verify(path, &why), OASIS_OK);
        all.data[place] ^= 1;
    }
    bytes_free(&all);
    unlink(path);
}

/* Writing over a file replaces it; failing to leaves it as it was, and nothing beside it. */
static void failed_writes_change_nothing(void **state)
{
    (void)state;
    char path[300];
    snprintf(path, sizeof path, "%s", temp_path("kept.safetensors"));
    write_whole(path, "old", 3);
    oasis_message why = {""};
    size_t calls[2] = {0, 2};
    safetensors_file file = whole_file(calls);
    assert_int_equal(oas_safetensors_write(path, &file, &why), OASIS_E_DEVICE);
    assert_string_equal(why.text, "the source of tensor 1 failed");

    /* A limit on the size of files is a full disk that needs no disk. */
    struct rlimit limit, small = {1000000, 1000000};
    getrlimit(RLIMIT_FSIZE, &limit);
    small.rlim_max = limit.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    file = whole_file(NULL);
    oasis_status status = oas_safetensors_write(path, &file, &why);
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_int_equal(status, OASIS_E_IO);
    assert_non_null(strstr(why.text, "writing stopped after 1000000 bytes: File too large"));
    assert_non_null(strstr(why.text, path));

    bytes old = read_whole(path);
    assert_int_equal(old.size, 3);
    bytes_free(&old);
    assert_int_equal(temp_files(), 1);
    assert_int_equal(oas_safetensors_write(path, &file, &why), OASIS_OK);
    assert_int_equal(temp_files(), 1);
    unlink(path);

    assert_int_equal(oas_safetensors_write("/nowhere/at/all", &file, &why), OASIS_E_IO);
    assert_string_equal(why.text, "/nowhere/at/all: cannot be created: No such file or directory");
}

static void refuses_to_write_nonsense(void **state)
{
    (void)state;
    static const struct {
        stored w[2];
        const char *fragment;
    } cases[] = {
        {{{.name = "a", .rank = 1, .size = {1}}, {.name = "a", .rank = 1, .size = {1}}}, "a occurs twice"},
        {{{.name = "a", .rank = 1, .size = {-1}}, {.name = "b"}}, "a cannot be written"},
        {{{.name = "a"}, {.name = "b", .rank = 2, .size = {INT64_MAX, 2}}}, "b cannot be written"},
        {{{.name = "a"}, {.name = "b", .dtype = OAS_STORED_Q8_0, .rank = 1, .size = {32}}}, "b cannot be written"},
        {{{.name = "a"}, {.name = "b", .rank = 9}}, "b cannot be written"},
        {{{.name = "a"}, {.name = "__metadata__"}}, "cannot be named"},
        {{{.name = "a"}, {.name = ""}}, "empty name"},
        {{{.name = "a"}, {.name = "\xe9"}}, "not UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        oasis_message why = {""};
        safetensors_file file = {.entry = cases[i].w, .count = 2, .read = give_pattern};
        assert_int_equal(oas_safetensors_write(temp_path("x"), &file, &why), OASIS_E_FORMAT);
        if (!strstr(why.text, cases[i].fragment))
            fail_msg("\"%s\", expected \"%s\"", why.text, cases[i].fragment);
    }
    assert_int_equal(temp_files(), 0);
}

static void writes_empty_files(void **state)
{
    (void)state;
    oasis_message why;
    weight_file *w;
    safetensors_file file = {0};
    const char *path = temp_path("empty");
    assert_int_equal(oas_safetensors_write(path, &file, &why), OASIS_OK);
    assert_int_equal(oas_safetensors_open(&w, path, &why), OASIS_OK);
    assert_int_equal(oas_weight_file_count(w), 0);
    assert_null(oas_weight_file_find(w, "a"));
    oas_weight_file_close(&w);
    assert_int_equal(oas_safetensors_verify(path, &why), OASIS_E_UNSUPPORTED);
    unlink(path);
}

/* ---- failures of the machine ------------------------------------------------------------------------------------- */

static void survives_any_failed_allocation(void **state)
{
    (void)state;
    bytes in = safetensors_bytes("{\"__metadata__\":{\"k\":\"v\"}," ONE "}", 8);
    long n = 0;
    for (bool failed = true; failed; n++) {
        oasis_message why = {""};
        weight_file *w = NULL;
        fail_allocation(n);
        oasis_status status = oas_weight_file_read(&w, &oas_read_safetensors, in.data, in.size, "f", &why);
        failed = allocation_failed();
        expect_allocation_status(status, why.text);
        fail_allocation(-1);
        assert_true((status == OASIS_OK) == (w != NULL));
        oas_weight_file_close(&w);
    }
    assert_true(n > 10);
    bytes_free(&in);
}

static void writer_survives_any_failed_allocation(void **state)
{
    (void)state;
    static const stored small = {.name = "a", .dtype = OAS_STORED_U8, .rank = 1, .size = {3}, .data = "abc"};
    const safetensors_file file = {.entry = &small, .count = 1, .note = notes, .notes = 3};
    long n = 0;
    for (bool failed = true; failed; n++) {
        oasis_message why = {""};
        fail_allocation(n);
        oasis_status status = oas_safetensors_write(temp_path("memory"), &file, &why);
        failed = allocation_failed();
        expect_allocation_status(status, why.text);
        fail_allocation(-1);
        assert_int_equal(temp_files(), failed ? 0 : 1);
    }
    assert_true(n > 5);
    unlink(temp_path("memory"));
}

static void refuses_what_is_no_file(void **state)
{
    (void)state;
    oasis_message why;
    weight_file *w;
    assert_int_equal(oas_weight_file_open(&w, temp_path("missing"), &why), OASIS_E_IO);
    assert_non_null(strstr(why.text, "missing: cannot be opened: No such file or directory"));
    assert_int_equal(oas_weight_file_open(&w, "/tmp", &why), OASIS_E_IO);
    assert_string_equal(why.text, "/tmp: is a folder, expected a file");
    assert_int_equal(oas_weight_file_open(&w, "/dev/zero", &why), OASIS_E_IO);
    assert_string_equal(why.text, "/dev/zero: is a pipe or device, expected a regular file");
    const char *path = temp_path("fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(oas_weight_file_open(&w, path, &why), OASIS_E_IO); /* and does not wait for a writer */
    unlink(path);
    write_whole(path = temp_path("nothing"), "", 0);
    assert_int_equal(oas_weight_file_open(&w, path, &why), OASIS_E_FORMAT);
    assert_non_null(strstr(why.text, "nothing: the file is empty"));
    write_whole(path, "just some text, no weights", 26);
    assert_int_equal(oas_weight_file_open(&w, path, &why), OASIS_E_UNSUPPORTED);
    assert_non_null(strstr(why.text, "not a format of weights that this program knows"));
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_headers),
        cmocka_unit_test(refuses_sizes),
        cmocka_unit_test(refuses_floods),
        cmocka_unit_test(reads_tensors),
        cmocka_unit_test(needs_name_shape_and_floats),
        cmocka_unit_test(small_floats_are_exact),
        cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(failed_writes_change_nothing),
        cmocka_unit_test(refuses_to_write_nonsense),
        cmocka_unit_test(writes_empty_files),
        cmocka_unit_test(survives_any_failed_allocation),
        cmocka_unit_test(writer_survives_any_failed_allocation),
        cmocka_unit_test(refuses_what_is_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
