/* oasis upscale from file to file: sizes, lengths, kinds of input and output, same bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clip.h"
#include "program.h"

/* The broad brightness survives: the network changes detail, H.264 and 8 bits round; a wrong range (16-235 taken for
 * 0-255) or matrix shifts the mean by 0.03 or more. */
static const double MEAN_TOLERANCE = 0.02;

static void expect_mean(const char *in, const char *out)
{
    double a = read_contents(in).mean, b = read_contents(out).mean;
    if (!(fabs(a - b) <= MEAN_TOLERANCE))
        fail_msg("%s: mean %.3f, but %s has %.3f", out, b, in, a);
}

/* As many frames out as in, for lengths around the borders of latents (1 + 4n) and windows. */
static void test_lengths(void **state)
{
    (void)state;
    static const int lengths[] = {1, 2, 4, 5, 6, 19};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        write_y4m("in.y4m", 32, 16, lengths[i]);
        succeed("-y -q -s 2 in.y4m out.mp4");
        expect_contents("out.mp4", 64, 32, lengths[i]);
        expect_mean("in.y4m", "out.mp4");
    }
}

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        int width, height;
        const char *option;
        int out_width, out_height;
    } sizes[] = {
        {32, 16, "-s 4", 128, 64},
        {32, 16, "-s 1", 32, 16},
        {32, 16, "--scale 1.25", 40, 20},
        {33, 17, "-s 2", 66, 34},
        {31, 19, "-s 3", 93, 57},
        {17, 33, "-s 1.3", 22, 43},
        {32, 16, "--size 50x41", 50, 41},
        {32, 16, "--resolution 40", 80, 40},
        {1, 1, "-s 2", 2, 2},
        {2, 40, "-s 1.5", 3, 60},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char line[128];
        write_y4m("in.y4m", sizes[i].width, sizes[i].height, 2);
        snprintf(line, sizeof line, "-y -q %s in.y4m -c ffv1 out.mkv", sizes[i].option);
        succeed(line);
        expect_contents("out.mkv", sizes[i].out_width, sizes[i].out_height, 2);
    }
}

/* Odd sizes with the default encoder, whose usual pixel format has chroma for every other pixel. */
static void test_odd_size_with_default_encoder(void **state)
{
    (void)state;
    write_y4m("in.y4m", 21, 15, 3);
    succeed("-y -q -s 1 in.y4m out.mp4");
    expect_contents("out.mp4", 21, 15, 3);
    expect_mean("in.y4m", "out.mp4");
}

static void test_pipe(void **state)
{
    (void)state;
    write_y4m("in.y4m", 32, 16, 6);
    result r = run_with_input("in.y4m", "-q -s 2 - -");
    expect_code(&r, 0, "- -");
    write_all("out.y4m", r.out, r.out_size);
    assert_int_equal(strncmp(r.out, "YUV4MPEG2 W64 H32 ", 18), 0);
    assert_int_equal(r.err_size, 0);
    result_free(&r);
    expect_contents("out.y4m", 64, 32, 6);
    expect_mean("in.y4m", "out.y4m");
    /* The same frames as from file to file. */
    succeed("-q -s 2 in.y4m file.y4m");
    assert_true(same_bytes("out.y4m", "file.y4m"));
}

static void test_pictures(void **state)
{
    (void)state;
    char names[512];
    write_picture("in.png", 32, 16);
    succeed("-q -s 2 in.png out.png");
    expect_contents("out.png", 64, 32, 1);
    expect_mean("in.png", "out.png");
    write_y4m("in.y4m", 32, 16, 3);
    succeed("-q -s 2 in.y4m shot-%03d.png");
    list_folder(names, sizeof names);
    assert_string_equal(names, "in.png in.y4m out.png shot-001.png shot-002.png shot-003.png");
    succeed("-q -s 1 shot-%03d.png back.mp4");
    expect_contents("back.mp4", 64, 32, 3);
    expect_mean("in.y4m", "back.mp4");
}

static void test_part(void **state)
{
    (void)state;
    write_y4m("in.y4m", 32, 16, 20);
    succeed("-q -s 1 --start 0.2 --frames 7 in.y4m -c ffv1 out.mkv");
    expect_contents("out.mkv", 32, 16, 7);
    succeed("-y -q -s 1 --start 0.72 in.y4m -c ffv1 out.mkv"); /* frames 18 and 19 */
    expect_contents("out.mkv", 32, 16, 2);
}

/* Same input, options and machine: same bytes, whatever the number of threads; another strength: other bytes. */
static void test_same_bytes(void **state)
{
    (void)state;
    write_y4m("in.y4m", 48, 32, 9);
    succeed("-q -s 2 -j 1 in.y4m one.mp4");
    succeed("-q -s 2 -j 2 in.y4m two.mp4");
    succeed("-q -s 2 -j 5 in.y4m five.mp4");
    succeed("-q -s 2 --strength 0.5 in.y4m other.mp4");
    assert_true(same_bytes("one.mp4", "two.mp4"));
    assert_true(same_bytes("one.mp4", "five.mp4"));
    assert_false(same_bytes("one.mp4", "other.mp4"));
}

/* Memory that nobody wrote has no say: the same bytes whatever a new block is filled with (glibc; elsewhere no effect). */
static void test_fresh_memory(void **state)
{
    (void)state;
    write_y4m("in.y4m", 48, 32, 9);
    setenv("MALLOC_PERTURB_", "85", 1);
    succeed("-q -s 2 -j 1 in.y4m one.mp4");
    setenv("MALLOC_PERTURB_", "170", 1);
    succeed("-q -s 2 -j 1 in.y4m two.mp4");
    unsetenv("MALLOC_PERTURB_");
    assert_true(same_bytes("one.mp4", "two.mp4"));
}

/* A real file with sound: the start of the sample clip. */
static void test_sample(void **state)
{
    (void)state;
    char line[512];
    const char *source = getenv("OASIS_SOURCE");
    assert_non_null(source);
    snprintf(line, sizeof line, "-q -s 1.5 --frames 5 %s/samples/sample.mp4 out.mp4", source);
    succeed(line);
    expect_contents("out.mp4", 360, 204, 5);
    assert_int_equal(read_contents("out.mp4").audio, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lengths),    TEST(sizes),        TEST(odd_size_with_default_encoder),
        TEST(pipe),       TEST(pictures),     TEST(part),
        TEST(same_bytes), TEST(fresh_memory), TEST(sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
