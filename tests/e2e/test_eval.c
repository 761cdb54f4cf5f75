/* oasis eval as a user runs it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "clip.h"
#include "program.h"

static json_t *report_of(const char *line)
{
    result r = run(line);
    expect_code(&r, 0, line);
    json_t *report = json_loads(r.out, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(report);
    result_free(&r);
    return report;
}

static json_t *metric_of(json_t *report, const char *name, const char *field)
{
    return json_object_get(json_object_get(json_object_get(report, "metrics"), name), field);
}

static void test_eval(void **state)
{
    (void)state;
    write_y4m("a.y4m", 192, 176, 3);
    write_y4m("longer.y4m", 192, 176, 5);
    json_t *same = report_of("eval a.y4m a.y4m --json -q");
    assert_int_equal(json_integer_value(json_object_get(same, "frames")), 3);
    assert_true(json_number_value(metric_of(same, "psnr_rgb", "mean")) > 79.99);
    assert_true(json_number_value(metric_of(same, "ms_ssim", "mean")) > 0.9999);
    assert_int_equal(json_integer_value(metric_of(same, "ewarp", "count")), 2);
    assert_non_null(strstr(json_string_value(metric_of(same, "tof", "note")), "own flow"));
    json_decref(same);

    /* Coarser coding is worse, and what has no partner is left out and said. */
    succeed("degrade a.y4m bad.mkv -q -s 1 --seed 2");
    json_t *bad = report_of("eval -i bad.mkv --ref longer.y4m --json");
    assert_true(json_is_false(json_object_get(bad, "same_length")));
    assert_true(json_number_value(metric_of(bad, "psnr_rgb", "mean")) < 40);
    json_decref(bad);
    json_t *alone = report_of("eval bad.mkv --json --frames 2");
    assert_int_equal(json_integer_value(json_object_get(alone, "frames")), 2);
    assert_null(metric_of(alone, "psnr_rgb", "mean"));
    assert_non_null(metric_of(alone, "sharpness", "mean"));
    json_decref(alone);

    result r = run("eval bad.mkv longer.y4m -m psnr_rgb,ssim");
    expect_code(&r, 0, "eval");
    assert_non_null(strstr(r.out, "3 frames of 192x176"));
    assert_non_null(strstr(r.out, "PSNR (RGB)"));
    assert_null(strstr(r.out, "MS-SSIM"));
    assert_non_null(strstr(r.err, "longer.y4m has more frames than bad.mkv"));
    result_free(&r);
}

static void test_refusals(void **state)
{
    (void)state;
    write_y4m("a.y4m", 32, 32, 2);
    write_y4m("b.y4m", 64, 32, 2);
    refused(2, "which clip?", "eval");
    refused(2, "there is no metric \"vmaf\"", "eval a.y4m -m vmaf");
    refused(2, "psnr_rgb needs a reference", "eval a.y4m -m psnr_rgb");
    refused(2, "only clips of one size", "eval a.y4m b.y4m");
    refused(3, "missing.mp4", "eval a.y4m missing.mp4");
    refused(3, "has no frame at or after", "eval a.y4m --start 100");
    refused(2, "twice", "eval -i a.y4m --ref a.y4m b.y4m");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_eval, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_refusals, enter_folder, leave_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
