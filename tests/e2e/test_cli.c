/* The command line: what it refuses and with which code, what it leaves behind, what it prints and where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clip.h"
#include "program.h"

static void expect_files(const char *expected)
{
    char names[1024];
    list_folder(names, sizeof names);
    assert_string_equal(names, expected);
}

static void test_usage(void **state)
{
    (void)state;
    write_y4m("in.y4m", 16, 16, 1);
    refused(2, "did you mean --scale?", "--scael 2 in.y4m out.mp4");
    refused(2, "unknown option -x", "-x in.y4m out.mp4");
    refused(2, "unknown option --no-scale", "--no-scale in.y4m out.mp4");
    refused(2, "option --scale: found \"9\", expected a number from 1 to 8", "in.y4m out.mp4 --scale 9");
    refused(2, "option --scale: found \"2,5\"", "in.y4m out.mp4 -s2,5");
    refused(2, "option --dtype: found \"fp16\", expected one of auto|fp32|bf16", "--dtype=fp16 in.y4m out.mp4");
    refused(2, "option --size: found \"640\"", "--size 640 in.y4m out.mp4");
    refused(2, "found no value", "in.y4m out.mp4 --scale");
    refused(2, "takes no value", "in.y4m out.mp4 --no-scene-cuts=true");
    refused(2, "which output?", "in.y4m");
    refused(2, "which input?", "-s 2");
    refused(2, "unexpected \"c\"", "upscale a b c");
    refused(2, "twice", "-i in.y4m -o out.mp4 more.mp4");
    refused(2, "-y and -n exclude", "-yn in.y4m out.mp4");
    refused(2, "the same file", "-y in.y4m ./in.y4m");
    refused(2, "(did you mean \"upscale\"?)", "upscal in.y4m out.mp4");
    refused(2, "neither a command nor a file", "nothing");
    refused(2, "for which shell?", "completion tcsh");
    refused(2, "which file?", "info");
    refused(2, "--json needs standard output", "--json in.y4m -");
    expect_files("in.y4m");
}

/* Every spelling of an option sets the same thing. */
static void test_spellings(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "in.y4m %s -s 2 -q -c ffv1", "-s2 -qc ffv1 in.y4m %s", "-q --scale=2 -c:v ffv1 -- in.y4m %s",
        "upscale -i in.y4m -o %s -q -scale 2 --codec=ffv1", "-o %s in.y4m -s 2 -q -codec ffv1"};
    write_y4m("in.y4m", 16, 16, 2);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char name[32], line[256];
        snprintf(name, sizeof name, "out%d.mkv", (int)i);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(line, sizeof line, lines[i], name);
#pragma GCC diagnostic pop
        succeed(line);
        assert_true(same_bytes("out0.mkv", name));
    }
}

static void test_help(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "--help",       "-h",        "help",     "help upscale",    "help bench",     "help info",
        "help version", "help help", "help man", "help completion", "upscale --help", "info -h",
        "--version",    "version",   "man",      "completion bash", "completion zsh", "completion fish"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        result r = run(lines[i]);
        expect_code(&r, 0, lines[i]);
        assert_true(r.out_size > 40);
        assert_null(strstr(r.out, "(null)"));
        assert_int_equal(r.err_size, 0);
        result_free(&r);
    }
    result r = run("");
    expect_code(&r, 2, "");
    assert_int_equal(r.out_size, 0);
    result_free(&r);
    r = run("help upscale");
    static const char *const names[] = {"--scale",           "--crf",  "--start", "--model",
                                        "--[no-]scene-cuts", "--json", "--mem"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strstr(r.out, names[i]))
            fail_msg("help does not mention %s", names[i]);
    result_free(&r);
}

static void test_bad_inputs(void **state)
{
    (void)state;
    size_t n;
    write_all("garbage.mp4", "this is no video at all, only words", 35);
    write_all("empty.mp4", "", 0);
    refused(3, "missing.mp4", "missing.mp4 out.mp4");
    refused(3, "garbage.mp4", "garbage.mp4 out.mp4");
    refused(3, "empty.mp4", "empty.mp4 out.mp4");
    refused(3, "missing.mp4", "info missing.mp4");
    refused(3, "garbage.mp4", "info garbage.mp4");
    write_y4m("whole.y4m", 32, 16, 9);
    succeed("-q -s 1 whole.y4m -c ffv1 whole.mkv");
    char *bytes = read_all("whole.mkv", &n);
    write_all("cut.mkv", bytes, n * 6 / 10);
    free(bytes);
    refused(3, "cut.mkv", "-q -s 1 cut.mkv out.mp4");
    bytes = read_all("whole.y4m", &n);
    write_all("cut.y4m", bytes, n - 200);
    free(bytes);
    refused(3, "cut.y4m", "-q -s 1 cut.y4m out.mp4");
    expect_files("cut.mkv cut.y4m empty.mp4 garbage.mp4 whole.mkv whole.y4m");
}

static void test_bad_models(void **state)
{
    (void)state;
    write_y4m("in.y4m", 16, 16, 1);
    write_all("bad.safetensors", "\x10\0\0\0\0\0\0\0{\"a\": oh no}   ", 24);
    refused(4, "no model \"nope\"", "-m nope in.y4m out.mp4");
    refused(4, "bad.safetensors", "-m bad.safetensors in.y4m out.mp4");
    refused(4, "nowhere.safetensors", "-m ./nowhere.safetensors in.y4m out.mp4");
    refused(4, "bad.safetensors", "info bad.safetensors");
    expect_files("bad.safetensors in.y4m");
}

static void test_failures_at_run_time(void **state)
{
    (void)state;
    write_y4m("in.y4m", 32, 16, 9);
    refused(1, "nowhere/out.mp4", "-q in.y4m nowhere/out.mp4");
    refused(1, "nosuchcodec", "-q -c nosuchcodec in.y4m out.mp4");
    refused(5, "--mem", "-q --mem 1M in.y4m out.mp4");
    expect_files("in.y4m");
}

/* A shell line whose program must fail at run time with a sentence that contains `words`. */
static void shell_refused(const char *words, const char *line)
{
    result r = run_shell(line);
    expect_code(&r, 1, line);
    if (strncmp(r.err, "oasis: ", 7) != 0 || !strstr(r.err, words))
        fail_msg("%s: said \"%s\", expected words \"%s\"", line, r.err, words);
    result_free(&r);
}

/* A full disk, a file that may not grow, a reader that goes away: said, and nothing is left. */
static void test_failing_writes(void **state)
{
    (void)state;
    write_y4m("in.y4m", 64, 64, 40);
    shell_refused("No space left", "\"$OASIS_PROGRAM\" -q -s 1 in.y4m - > /dev/full");
    shell_refused("out.mkv", "ulimit -f 20; \"$OASIS_PROGRAM\" -q -s 1 -c ffv1 in.y4m out.mkv");
    shell_refused("Broken pipe", "{ \"$OASIS_PROGRAM\" -q -s 2 in.y4m -; echo $? > code; } | head -c 10 > /dev/null; "
                                 "read code < code; rm code; exit $code");
    expect_files("in.y4m");
}

/* Nothing that exists is replaced unasked; -y replaces; a failed run leaves the old file. */
static void test_existing_output(void **state)
{
    (void)state;
    write_y4m("in.y4m", 16, 16, 2);
    write_all("out.mp4", "precious", 8);
    refused(1, "out.mp4 exists", "in.y4m out.mp4");
    refused(1, "out.mp4 exists", "-n in.y4m out.mp4");
    refused(1, "nosuchcodec", "-yq -c nosuchcodec in.y4m out.mp4");
    size_t n;
    char *bytes = read_all("out.mp4", &n);
    assert_int_equal(n, 8);
    assert_string_equal(bytes, "precious");
    free(bytes);
    expect_files("in.y4m out.mp4");
    succeed("-y -q -s 1 in.y4m out.mp4");
    expect_contents("out.mp4", 16, 16, 2);
    expect_files("in.y4m out.mp4");
}

/* On a terminal it asks, and shows progress without escape codes, within the terminal's 60 columns. */
static void test_terminal(void **state)
{
    (void)state;
    size_t n;
    write_y4m("in.y4m", 16, 16, 2);
    write_all("out.mp4", "precious", 8);
    setenv("NO_COLOR", "1", 1);
    setenv("TERM", "xterm", 1);
    result r = run_on_terminal("n\n", "-s 1 in.y4m out.mp4");
    expect_code(&r, 1, "n");
    assert_non_null(strstr(r.err, "out.mp4 exists. Replace it? [y/N]"));
    result_free(&r);
    char *bytes = read_all("out.mp4", &n);
    assert_string_equal(bytes, "precious");
    free(bytes);
    r = run_on_terminal("y\n", "-s 1 in.y4m out.mp4");
    expect_code(&r, 0, "y");
    assert_non_null(strstr(r.err, "frames/s"));
    assert_null(strchr(r.err, '\033'));
    for (char *line = strtok(r.err, "\r\n"); line; line = strtok(NULL, "\r\n"))
        assert_true(strlen(line) < 60 || strstr(line, "out.mp4: "));
    result_free(&r);
    expect_contents("out.mp4", 16, 16, 2);
}

static void test_quiet_and_verbose(void **state)
{
    (void)state;
    write_y4m("in.y4m", 16, 16, 2);
    result r = run("-q -s 1 in.y4m a.mp4");
    expect_code(&r, 0, "-q");
    assert_int_equal(r.err_size + r.out_size, 0);
    result_free(&r);
    r = run("-s 1 in.y4m b.mp4");
    assert_int_equal(r.out_size, 0);
    assert_non_null(strstr(r.err, "b.mp4: 2 frames of 16x16 in "));
    assert_null(strchr(r.err, '\r')); /* no terminal: plain lines */
    result_free(&r);
    r = run("-v -s 1 in.y4m c.mp4");
    assert_int_equal(r.out_size, 0);
    assert_non_null(strstr(r.err, "memory:"));
    assert_non_null(strstr(r.err, "GFLOP/s"));
    result_free(&r);
    assert_true(same_bytes("a.mp4", "c.mp4"));
}

/* ---- JSON ---------------------------------------------------------------------------------------------------------- */

/* Parses all of standard output as one object. */
static json_t *parse(const result *r)
{
    json_error_t error;
    json_t *o = json_loads(r->out, JSON_REJECT_DUPLICATES, &error);
    if (!o)
        fail_msg("standard output is not one JSON object: %s in %s", error.text, r->out);
    assert_int_equal(json_integer_value(json_object_get(o, "schema")), 1);
    return o;
}

/* The integer at "a.b.c". */
static json_int_t integer_at(json_t *o, const char *path)
{
    char copy[128];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *key = strtok(copy, "."); key; key = strtok(NULL, "."))
        o = json_object_get(o, key);
    if (!json_is_integer(o))
        fail_msg("no integer at %s", path);
    return json_integer_value(o);
}

static void test_json(void **state)
{
    (void)state;
    write_y4m("in.y4m", 32, 16, 3);
    result r = run("--json -q -s 2 in.y4m out.mp4");
    expect_code(&r, 0, "--json");
    json_t *o = parse(&r);
    assert_int_equal(integer_at(o, "result.frames_in"), 3);
    assert_int_equal(integer_at(o, "result.frames_out"), 3);
    assert_int_equal(integer_at(o, "output.width_px"), 64);
    assert_int_equal(integer_at(o, "input.height_px"), 16);
    assert_true(integer_at(o, "plan.mem_peak_bytes") > 0);
    assert_true(json_number_value(json_object_get(o, "elapsed_ms")) > 0);
    json_decref(o);
    result_free(&r);

    r = run("--json missing.mp4 out2.mp4");
    expect_code(&r, 3, "--json missing.mp4");
    o = parse(&r);
    assert_int_equal(integer_at(o, "error.exit_code"), 3);
    assert_true(json_string_length(json_object_get(json_object_get(o, "error"), "message")) > 0);
    json_decref(o);
    result_free(&r);
    expect_files("in.y4m out.mp4");
}

static void test_dry_run(void **state)
{
    (void)state;
    write_y4m("in.y4m", 32, 16, 30);
    result r = run("--dry-run -s 2 in.y4m out.mp4");
    expect_code(&r, 0, "--dry-run");
    static const char *const words[] = {"64x32", "memory:", "FLOP", "windows:"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strstr(r.out, words[i]))
            fail_msg("a dry run does not say \"%s\": %s", words[i], r.out);
    result_free(&r);
    r = run("--dry-run --json -s 2 --size 60x40 in.y4m");
    expect_code(&r, 0, "--dry-run --json");
    json_t *o = parse(&r);
    assert_int_equal(integer_at(o, "plan.width_px"), 60);
    assert_int_equal(integer_at(o, "plan.height_px"), 40);
    assert_true(json_number_value(json_object_get(json_object_get(o, "plan"), "flops_per_frame")) > 1e6);
    assert_true(json_is_true(json_object_get(o, "dry_run")));
    json_decref(o);
    result_free(&r);
    r = run_with_input("in.y4m", "--dry-run -s 2 -");
    expect_code(&r, 0, "--dry-run -");
    assert_non_null(strstr(r.out, "64x32"));
    result_free(&r);
    write_all("out.mp4", "precious", 8);
    succeed("--dry-run in.y4m out.mp4");
    expect_files("in.y4m out.mp4");
    size_t n;
    free(read_all("out.mp4", &n));
    assert_int_equal(n, 8);
}

static void test_info(void **state)
{
    (void)state;
    write_y4m("in.y4m", 32, 16, 3);
    result r = run("info --json in.y4m");
    expect_code(&r, 0, "info --json");
    json_t *o = parse(&r);
    assert_int_equal(integer_at(o, "media.width_px"), 32);
    assert_int_equal(integer_at(o, "media.streams.video"), 1);
    assert_int_equal(integer_at(o, "media.bit_depth"), 8);
    json_decref(o);
    result_free(&r);
    r = run("info oasis-nano --json");
    expect_code(&r, 0, "info oasis-nano");
    o = parse(&r);
    json_int_t layers = integer_at(o, "model.transformer.layers");
    assert_true(layers > 0);
    assert_int_equal(json_array_size(json_object_get(json_object_get(o, "model"), "routes")), layers);
    json_decref(o);
    result_free(&r);
    r = run("info oasis-nano");
    assert_non_null(strstr(r.out, "Apache-2.0"));
    assert_non_null(strstr(r.out, "heads (g = global, i = own frame, w = window)"));
    result_free(&r);
    r = run("info in.y4m");
    assert_non_null(strstr(r.out, "32x16"));
    result_free(&r);
}

/* ---- stopping ------------------------------------------------------------------------------------------------------ */

static void wait_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

/* Stops a run by a signal once it has begun to write; nothing may be left, the old file least of all touched. */
static void stop_by(int signal_number)
{
    char names[1024];
    write_y4m("in.y4m", 64, 64, 400);
    write_all("out.mp4", "precious", 8);
    pid_t pid = start("-y -s 4 in.y4m out.mp4", "/dev/null");
    for (int i = 0;; i++) {
        list_folder(names, sizeof names);
        if (strcmp(names, "in.y4m out.mp4") != 0)
            break;
        if (i == 6000)
            fail_msg("the run did not begin to write within half a minute");
        wait_a_little();
    }
    assert_int_equal(kill(pid, signal_number), 0);
    assert_int_equal(wait_for(pid), 128 + signal_number);
    expect_files("in.y4m out.mp4");
    size_t n;
    char *bytes = read_all("out.mp4", &n);
    assert_string_equal(bytes, "precious");
    free(bytes);
}

static void test_interrupt(void **state)
{
    (void)state;
    stop_by(SIGINT);
}

static void test_terminate(void **state)
{
    (void)state;
    stop_by(SIGTERM);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(usage),          TEST(spellings),
        TEST(help),           TEST(bad_inputs),
        TEST(bad_models),     TEST(failures_at_run_time),
        TEST(failing_writes), TEST(existing_output),
        TEST(terminal),       TEST(quiet_and_verbose),
        TEST(json),           TEST(dry_run),
        TEST(info),           TEST(interrupt),
        TEST(terminate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
