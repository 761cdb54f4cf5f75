/* oasis degrade as a user runs it: the same bits from the same seed, and one sentence when it cannot. */
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

static void test_pair(void **state)
{
    (void)state;
    write_y4m("in.y4m", 96, 64, 5);
    succeed("degrade in.y4m a.mkv -q --seed 3 --params a.json");
    succeed("degrade -i in.y4m -o b.mkv -q --seed 3 -j 3 --params b.json");
    succeed("degrade in.y4m c.mkv -q --seed 4 --temporal-step 1 -s 2");
    expect_contents("a.mkv", 24, 16, 5);
    expect_contents("c.mkv", 48, 32, 5);
    assert_true(same_bytes("a.mkv", "b.mkv"));
    assert_true(same_bytes("a.json", "b.json"));
    assert_false(same_bytes("a.mkv", "c.mkv"));
    char *text = read_all("a.json", NULL);
    json_t *params = json_loads(text, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(params, "seed")), 3);
    json_decref(params);
    free(text);

    /* Pictures hold exactly what the lossless video holds. */
    succeed("degrade in.y4m p%02d.png -q --seed 3");
    assert_true(read_contents("a.mkv").mean == read_contents("p%02d.png").mean);

    result r = run("degrade in.y4m d.mkv --seed 3 --json");
    expect_code(&r, 0, "degrade --json");
    json_t *report = json_loads(r.out, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(report, "command")), "degrade");
    assert_int_equal(json_array_size(json_object_get(json_object_get(report, "params"), "stages")), 12);
    json_decref(report);
    result_free(&r);
}

static void test_refusals(void **state)
{
    (void)state;
    write_y4m("in.y4m", 32, 32, 2);
    write_all("out.mkv", "kept", 4);
    refused(2, "which input and output?", "degrade in.y4m");
    refused(2, "option --scale", "degrade in.y4m b.mkv -s 17");
    refused(2, "standard output can take one", "degrade in.y4m - --json");
    refused(3, "cannot open 'missing.mp4'", "degrade missing.mp4 b.mkv");
    refused(1, "out.mkv", "degrade in.y4m out.mkv");
    refused(1, "cannot write what was drawn", "degrade in.y4m b.mkv -q --params nowhere/p.json");
    size_t size;
    char *text = read_all("out.mkv", &size);
    assert_true(size == 4 && !memcmp(text, "kept", 4));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pair, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_refusals, enter_folder, leave_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
