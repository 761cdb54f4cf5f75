/* Options from text: every type with good and bad values, and the table of the upscaler against its struct. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <locale.h>
#include <math.h>
#include <oasis/options.h>
#include <stdio.h>
#include <string.h>

typedef struct sample {
    bool flag;
    int integer;
    int64_t wide;
    double number;
    const char *text;
    int choice;
    int size[2];
    int64_t bytes;
    double time;
    oasis_text_list list;
    int free_integer;
    double free_number;
    int64_t free_bytes;
} sample;

#define ROW(type, name, field, min, max, choices)                                                                      \
    {                                                                                                                  \
        name, 0, NULL, type, offsetof(sample, field), min, max, choices, "V", NULL, "help", "Group"                    \
    }

static const oasis_option rows[] = {
    ROW(OASIS_OPTION_FLAG, "flag", flag, 0, 0, NULL),
    ROW(OASIS_OPTION_INT, "integer", integer, -5, 10, NULL),
    ROW(OASIS_OPTION_INT64, "wide", wide, 0, 0, NULL),
    ROW(OASIS_OPTION_NUMBER, "number", number, 1, 8, NULL),
    {"text", 't', "t:x", OASIS_OPTION_TEXT, offsetof(sample, text), 0, 0, NULL, "FILE", NULL, "help", "Group"},
    ROW(OASIS_OPTION_CHOICE, "choice", choice, 0, 0, "auto|fp32|bf16"),
    ROW(OASIS_OPTION_SIZE, "size", size, 2, 32768, NULL),
    ROW(OASIS_OPTION_BYTES, "bytes", bytes, 0, 0x1p50, NULL),
    ROW(OASIS_OPTION_TIME, "time", time, 0, 1e9, NULL),
    ROW(OASIS_OPTION_LIST, "list", list, 0, 0, NULL),
    ROW(OASIS_OPTION_INT, "free-integer", free_integer, 0, 0, NULL),
    ROW(OASIS_OPTION_NUMBER, "free-number", free_number, 0, 0, NULL),
    ROW(OASIS_OPTION_BYTES, "free-bytes", free_bytes, 0, 0, NULL),
    {.name = NULL},
};

static sample set(const char *name, const char *text)
{
    sample s;
    memset(&s, 0, sizeof s);
    oasis_message message = {""};
    oasis_status status = oasis_option_set(rows, &s, name, text, &message);
    if (status != OASIS_OK)
        fail_msg("--%s %s: %s", name, text ? text : "(none)", message.text);
    return s;
}

/* The text must be refused with exactly this sentence, and the object must stay as it was, byte for byte. */
static void refused(const char *name, const char *text, const char *sentence)
{
    sample s, before;
    memset(&s, 0x5a, sizeof s);
    s.list.count = 0;
    before = s;
    oasis_message message = {""};
    oasis_status status = oasis_option_set(rows, &s, name, text, &message);
    if (status != OASIS_E_ARGUMENT)
        fail_msg("--%s %s was accepted", name, text ? text : "(none)");
    assert_string_equal(message.text, sentence);
    assert_memory_equal(&s, &before, sizeof s);
    assert_int_equal(oasis_option_set(rows, &s, name, text, NULL), OASIS_E_ARGUMENT);
}

/* Refused with `found "TEXT", expected WHAT`. */
static void refused_as(const char *name, const char *text, const char *what)
{
    char sentence[256];
    snprintf(sentence, sizeof sentence, "option --%s: found \"%s\", expected %s", name, text, what);
    refused(name, text, sentence);
}

static void test_find(void **state)
{
    (void)state;
    assert_ptr_equal(oasis_option_find(rows, "text"), &rows[4]);
    assert_ptr_equal(oasis_option_find(rows, "t:x"), &rows[4]);
    assert_null(oasis_option_find(rows, "t"));
    assert_null(oasis_option_find(rows, "tex"));
    assert_null(oasis_option_find(rows, ""));
    assert_null(oasis_option_find(rows, NULL));
    refused("nothing", "1", "unknown option --nothing");
    refused("integer", NULL, "option --integer: found no value, expected V");
}

static void test_flag(void **state)
{
    (void)state;
    assert_true(set("flag", NULL).flag);
    assert_true(set("flag", "true").flag);
    assert_false(set("flag", "false").flag);
    refused_as("flag", "yes", "true or false");
    refused_as("flag", "", "true or false");
}

static void test_integers(void **state)
{
    (void)state;
    assert_int_equal(set("integer", "10").integer, 10);
    assert_int_equal(set("integer", "-5").integer, -5);
    assert_int_equal(set("integer", "+7").integer, 7);
    assert_int_equal(set("integer", "007").integer, 7);
    assert_int_equal(set("free-integer", "-2147483648").free_integer, INT32_MIN);
    assert_true(set("wide", "9223372036854775807").wide == INT64_MAX);
    static const char *const bad[] = {"11",        "-6", "",    "x",   "1x",  "1.0", "1e1",
                                      " 1",        "1 ", "0x1", "--1", "+-1", "1,0", "99999999999999999999",
                                      "4294967297"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused_as("integer", bad[i], "a whole number from -5 to 10");
    refused_as("free-integer", "2147483648", "a whole number");
    refused_as("wide", "9223372036854775808", "a whole number");
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } good[] = {{"1", 1},
                {"8", 8},
                {"2.5", 2.5},
                {"1.", 1},
                {"+3.25", 3.25},
                {"0.2e1", 2},
                {"40E-1", 4},
                {"2.0000", 2},
                {"1.3333333333333333", 1.3333333333333333},
                {"000000000000000000000000000002", 2},
                {"3.14159265358979323846264338327950288", 3.14159265358979323846}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(fabs(set("number", good[i].text).number - good[i].value) <= 4 * 0x1p-52);
    assert_true(set("free-number", ".5").free_number == 0.5);
    assert_true(set("free-number", "-0.1").free_number == -0.1); /* the same double as the compiler's */
    assert_true(set("free-number", "18.7").free_number == 18.7);
    assert_true(set("free-number", "1e22").free_number == 1e22);
    assert_true(set("free-number", "0e999").free_number == 0);
    assert_true(set("free-number", "123456789012345678901234567890").free_number > 1.234567890123e29);
    static const char *const bad[] = {"0.99",  "8.01", "",    ".",   "-",  "e1", "2e", "2e+",    "2,5",
                                      "1.2.3", "nan",  "inf", "0x2", " 2", "2 ", "-2", "2e99999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused_as("number", bad[i], "a number from 1 to 8");
    refused_as("free-number", "1e400", "a number");
    refused_as("free-number", "infinity", "a number");
}

/* A decimal point is one in a locale with a decimal comma too. */
static void test_locale(void **state)
{
    (void)state;
    if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "fr_FR.UTF-8"))
        skip();
    double value = set("number", "2.5").number;
    refused_as("number", "2,5", "a number from 1 to 8");
    setlocale(LC_ALL, "C");
    assert_true(value == 2.5);
}

static void test_text_and_choice(void **state)
{
    (void)state;
    static const char text[] = "a b.mp4";
    assert_ptr_equal(set("text", text).text, text);
    assert_ptr_equal(set("t:x", text).text, text);
    assert_int_equal(set("choice", "auto").choice, 0);
    assert_int_equal(set("choice", "fp32").choice, 1);
    assert_int_equal(set("choice", "bf16").choice, 2);
    static const char *const bad[] = {"", "fp", "fp32x", "auto|fp32", "|", "AUTO", "1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused_as("choice", bad[i], "one of auto|fp32|bf16");
}

static void test_size(void **state)
{
    (void)state;
    sample s = set("size", "1280x720");
    assert_int_equal(s.size[0], 1280);
    assert_int_equal(s.size[1], 720);
    static const char *const bad[] = {"1280",    "1280x",          "x720", "1280X720", "1280x720x1", "1280 x720", "1x2",
                                      "2x32769", "4294968576x720", "-2x2", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused_as("size", bad[i], "WIDTHxHEIGHT with both from 2 to 32768");
}

static void test_bytes(void **state)
{
    (void)state;
    assert_true(set("bytes", "0").bytes == 0);
    assert_true(set("bytes", "1500M").bytes == INT64_C(1500) << 20);
    assert_true(set("bytes", "2G").bytes == INT64_C(2) << 30);
    assert_true(set("bytes", "1.5k").bytes == 1536);
    assert_true(set("bytes", "1T").bytes == INT64_C(1) << 40);
    assert_true(set("bytes", "123").bytes == 123);
    static const char *const bad[] = {"", "G", "2GB", "2P", "-1", "2 G", "1e30", "2000T"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused_as("bytes", bad[i], "a size such as 1500M or 2G, in bytes from 0 to 1.12589990684262e+15");
    refused_as("free-bytes", "9000000T", "a size such as 1500M or 2G, in bytes");
    refused_as("free-bytes", "-1K", "a size such as 1500M or 2G, in bytes");
}

static void test_time(void **state)
{
    (void)state;
    assert_true(set("time", "12.5").time == 12.5);
    assert_true(set("time", "90").time == 90);
    assert_true(set("time", "1:30").time == 90);
    assert_true(set("time", "01:02:03.250").time == 3723.25);
    assert_true(set("time", "100:00:00").time == 360000);
    static const char *const bad[] = {"",   ":",    "1:",    ":1",     "1:60", "1:60:00", "1:2:3:4",
                                      "-1", "1:-1", "-1:00", "1.5:00", "1:2x", "12s"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused_as("time", bad[i], "seconds or HH:MM:SS from 0 to 1000000000");
}

static void test_list(void **state)
{
    (void)state;
    sample s;
    memset(&s, 0, sizeof s);
    oasis_message message;
    for (int i = 0; i < OASIS_MAX_LIST; i++)
        assert_int_equal(oasis_option_set(rows, &s, "list", i % 2 ? "a=1" : "b=2", &message), OASIS_OK);
    assert_int_equal(s.list.count, OASIS_MAX_LIST);
    assert_string_equal(s.list.text[0], "b=2");
    assert_string_equal(s.list.text[OASIS_MAX_LIST - 1], "a=1");
    assert_int_equal(oasis_option_set(rows, &s, "list", "c=3", &message), OASIS_E_ARGUMENT);
    assert_string_equal(message.text, "option --list: found more than 64 values, expected at most that many");
    assert_int_equal(s.list.count, OASIS_MAX_LIST);
}

/* Each default in the table is what oasis_options_init sets, and setting it changes nothing else. */
static void test_upscale_table_matches_struct(void **state)
{
    (void)state;
    oasis_options defaults, o;
    memset(&defaults, 0, sizeof defaults); /* the padding too, as it is compared */
    oasis_options_init(&defaults);
    assert_true(defaults.size == sizeof(oasis_options));
    int rows_seen = 0;
    for (const oasis_option *row = oasis_upscale_options(); row->name; row++, rows_seen++) {
        assert_non_null(row->help);
        assert_non_null(row->group);
        assert_true(row->help[strlen(row->help) - 1] != '.');
        assert_true((row->type == OASIS_OPTION_FLAG) == !row->value);
        assert_true((row->type == OASIS_OPTION_CHOICE) == !!row->choices);
        assert_true(row->offset >= sizeof(size_t) && row->offset < sizeof(oasis_options));
        if (!row->default_text)
            continue;
        o = defaults;
        assert_int_equal(oasis_option_set(oasis_upscale_options(), &o, row->name, row->default_text, NULL), OASIS_OK);
        assert_memory_equal(&o, &defaults, sizeof o);
    }
    assert_int_equal(rows_seen, 12);
}

/* Every row writes its own field: a value that differs from the default shows up there. */
static void test_upscale_fields(void **state)
{
    (void)state;
    oasis_options o;
    oasis_options_init(&o);
    static const char *const values[][2] = {{"scale", "2.5"},       {"size", "640x360"},    {"resolution", "720"},
                                            {"strength", "0.25"},   {"color-fix", "adain"}, {"dtype", "bf16"},
                                            {"threads", "3"},       {"mem", "2G"},          {"window-frames", "17"},
                                            {"window-size", "256"}, {"scene-cuts", "false"}};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        assert_int_equal(oasis_option_set(oasis_upscale_options(), &o, values[i][0], values[i][1], NULL), OASIS_OK);
    assert_true(o.scale == 2.5 && o.width == 640 && o.height == 360 && o.short_side == 720 && o.strength == 0.25);
    assert_true(o.color_fix == OASIS_COLOR_FIX_ADAIN && o.dtype == OASIS_DTYPE_BF16 && o.threads == 3);
    assert_true(o.memory == INT64_C(2) << 30 && o.window_frames == 17 && o.window_size == 256 && !o.scene_cuts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),           cmocka_unit_test(test_flag),
        cmocka_unit_test(test_integers),       cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_locale),         cmocka_unit_test(test_text_and_choice),
        cmocka_unit_test(test_size),           cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_time),           cmocka_unit_test(test_list),
        cmocka_unit_test(test_upscale_fields), cmocka_unit_test(test_upscale_table_matches_struct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
