/* What the readers and writers stand on: JSON texts and numbers, SHA-256, UTF-8, messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/sha256.h"
#include "helpers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect_digest(const void *data, size_t size, size_t piece, const char *expected)
{
    sha256 h;
    char hex[OAS_SHA256_HEX + 1];
    oas_sha256_begin(&h);
    for (size_t at = 0; at < size; at += piece)
        oas_sha256_add(&h, (const char *)data + at, size - at < piece ? size - at : piece);
    oas_sha256_end(&h, hex);
    assert_string_equal(hex, expected);
}

/* The examples of FIPS 180-4's companion, whole and in pieces. */
static void digests_are_the_standards(void **state)
{
    (void)state;
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    expect_digest("", 0, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect_digest("abc", 3, 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    for (size_t piece = 1; piece <= 56; piece++)
        expect_digest(two_blocks, 56, piece, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *million = malloc(1000000);
    assert_non_null(million);
    memset(million, 'a', 1000000);
    expect_digest(million, 1000000, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    expect_digest(million, 1000000, 997, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

/* Every double written comes back the same, in as few digits as 15 to 17 allow. */
static void numbers_come_back(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},
                 {0.1, "0.1"},
                 {-1.5, "-1.5"},
                 {1e300, "1e+300"},
                 {5e-324, "4.94065645841247e-324"},
                 {1.0 / 3, "0.3333333333333333"},
                 {9007199254740993.0, "9007199254740992"},
                 {NAN, "null"},
                 {INFINITY, "null"},
                 {-INFINITY, "null"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        text_buffer text = {0};
        double back;
        oas_json_add_number(&text, cases[i].value);
        bool finite = isfinite(cases[i].value);
        assert_true(oas_json_number(text.data, &back) == finite);
        if (finite ? back != cases[i].value : strcmp(text.data, "null") != 0)
            fail_msg("%.17g is written %s", cases[i].value, text.data);
        assert_string_equal(text.data, cases[i].text);
        oas_text_free(&text);
    }
    uint64_t bits = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        double value, back;
        memcpy(&value, &bits, sizeof value);
        text_buffer text = {0};
        oas_json_add_number(&text, value);
        assert_true(!isfinite(value) || (oas_json_number(text.data, &back) && back == value));
        oas_text_free(&text);
    }
}

static void refuses_what_is_no_number(void **state)
{
    (void)state;
    static const char *const none[] = {"",    "-",   "+1",   ".5",   "1.",  "1e",    "1e+",  "0x1",  "nan",
                                       "inf", "1,5", "1.5 ", " 1.5", "1-2", "1e999", "1..2", "1e5.5"};
    double value;
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        if (oas_json_number(none[i], &value))
            fail_msg("\"%s\" is taken for %g", none[i], value);
    assert_true(oas_json_number("-12.5e-1", &value) && value == -1.25);
    assert_true(oas_json_number("7", &value) && value == 7);
    char longest[200];
    memset(longest, '1', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_false(oas_json_number(longest, &value));
}

static void texts_come_back(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "plain", "\"\\/", "\x01\x1f\n\r\t\x7f",
                                        "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        text_buffer text = {0};
        json_t *json;
        oasis_message why;
        oas_text_add(&text, "{\"t\":");
        oas_json_add_text(&text, texts[i]);
        oas_text_add(&text, "}");
        assert_int_equal(oas_json_read(&json, text.data, text.length, "f", &why), OASIS_OK);
        assert_string_equal(json_string_value(json_object_get(json, "t")), texts[i]);
        json_decref(json);
        oas_text_free(&text);
    }
    text_buffer text = {0};
    oas_json_add_text(&text, "a\xff\xe2\x82z\xed\xa0\x80");
    assert_string_equal(text.data, "\"a\\ufffd\\ufffd\\ufffdz\\ufffd\\ufffd\\ufffd\"");
    oas_text_free(&text);
}

static void knows_utf8(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "a",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",
                                      "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
                                      "\xc2",         "\xe2\x82",         "\xf0\x9f\x98",     "\xc2z"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(oas_text_is_utf8(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        guarded g = guarded_copy(bad[i], strlen(bad[i]));
        assert_false(oas_text_is_utf8((const char *)g.data, g.size));
        guarded_free(&g);
    }
}

static void json_is_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      " ",
                                      "[]",
                                      "1",
                                      "\"t\"",
                                      "null",
                                      "{\"a\":1,\"a\":1}",
                                      "{\"a\":1}}",
                                      "{a:1}",
                                      "{\"a\":01}",
                                      "{\"a\":NaN}",
                                      "{\"a\":1,}",
                                      "{\"a\":\"\xff\"}",
                                      "{\"a\":1e999}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        json_t *json;
        oasis_message why = {""};
        guarded g = guarded_copy(bad[i], strlen(bad[i]));
        assert_int_equal(oas_json_read(&json, (const char *)g.data, g.size, "place", &why), OASIS_E_FORMAT);
        assert_null(json);
        assert_int_equal(strncmp(why.text, "place: ", 7), 0);
        guarded_free(&g);
    }
}

static void messages_cannot_steer_a_terminal(void **state)
{
    (void)state;
    oasis_message why;
    oas_fail(&why, OASIS_E_FORMAT, "%s", "a\x1b[2J\nb\x7f\xc3\xa9");
    assert_string_equal(why.text, "a?[2J?b?\xc3\xa9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_the_standards),
        cmocka_unit_test(numbers_come_back),
        cmocka_unit_test(refuses_what_is_no_number),
        cmocka_unit_test(texts_come_back),
        cmocka_unit_test(knows_utf8),
        cmocka_unit_test(json_is_strict),
        cmocka_unit_test(messages_cannot_steer_a_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
