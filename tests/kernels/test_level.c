/* OASIS_CPU caps the level, and names that are none are refused. */
#include "cpu/level.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void every_name_caps(void **unused)
{
    (void)unused;
    for (int i = 0; i < OAS_LEVELS; i++) {
        oas_cpu_level level;
        oas_cpu_level wanted = (oas_cpu_level)i, best = oas_cpu_detect();
        assert_int_equal(setenv("OASIS_CPU", oas_cpu_level_name(wanted), 1), 0);
        assert_int_equal(oas_cpu_choose(&level, NULL), OASIS_OK);
        assert_int_equal(level, wanted < best ? wanted : best);
    }
}

static void without_a_name_the_machine_decides(void **unused)
{
    (void)unused;
    oas_cpu_level level;
    assert_int_equal(unsetenv("OASIS_CPU"), 0);
    assert_int_equal(oas_cpu_choose(&level, NULL), OASIS_OK);
    assert_int_equal(level, oas_cpu_detect());
    assert_int_equal(setenv("OASIS_CPU", "", 1), 0);
    assert_int_equal(oas_cpu_choose(&level, NULL), OASIS_OK);
    assert_int_equal(level, oas_cpu_detect());
}

static void another_name_is_refused(void **unused)
{
    (void)unused;
    oas_cpu_level level;
    oasis_message message = {""};
    assert_int_equal(setenv("OASIS_CPU", "avx1024", 1), 0);
    assert_int_equal(oas_cpu_choose(&level, &message), OASIS_E_ARGUMENT);
    assert_non_null(strstr(message.text, "avx1024"));
    assert_int_equal(unsetenv("OASIS_CPU"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_caps),
        cmocka_unit_test(without_a_name_the_machine_decides),
        cmocka_unit_test(another_name_is_refused),
    };
    return cmocka_run_group_tests_name("kernels/level", tests, NULL, NULL);
}
