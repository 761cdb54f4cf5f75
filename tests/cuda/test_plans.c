/* Plans of libraries: made once per key, told apart by every number of it, given back with what a failed one took. */
#include "cuda/plans.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { KEYS = 1000 }; /* more than there are lists */

typedef struct library {
    int made;
    int64_t refused; /* the first number of a key that there is no way for */
} library;

typedef struct plan {
    cuda_plan base;
    int number; /* of those made, from 1 on */
} plan;

static int cleared;

static bool make(void *arg, void *to)
{
    library *l = arg;
    plan *p = to;
    assert_int_equal(p->number, 0);
    p->number = ++l->made;
    return p->base.key.number[0] != l->refused;
}

static void clear(void *arg)
{
    const plan *p = arg;
    assert_true(p->number > 0);
    cleared++;
}

static void test_plans(void **state)
{
    (void)state;
    cuda_plans plans = {.bytes = sizeof(plan), .make = make, .clear = clear};
    library l = {.refused = -1};
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < KEYS; i++) {
            cuda_plan_key key = {{0}};
            key.number[i % OAS_PLAN_NUMBERS] = 1 + i / OAS_PLAN_NUMBERS;
            const plan *p = oas_cuda_plan(&plans, &key, &l);
            assert_non_null(p);
            assert_int_equal(p->number, i + 1);
        }
    }
    assert_int_equal(l.made, KEYS);
    oas_cuda_plans_free(&plans);
    assert_int_equal(cleared, KEYS);
}

static void test_failure(void **state)
{
    (void)state;
    cuda_plans plans = {.bytes = sizeof(plan), .make = make, .clear = clear};
    library l = {.refused = 7};
    cleared = 0;
    for (int i = 1; i <= 2; i++) { /* it is asked for again, not kept as failed */
        assert_null(oas_cuda_plan(&plans, &(cuda_plan_key){{7}}, &l));
        assert_int_equal(cleared, i);
    }
    assert_non_null(oas_cuda_plan(&plans, &(cuda_plan_key){{8}}, &l));
    oas_cuda_plans_free(&plans);
    assert_int_equal(cleared, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plans), cmocka_unit_test(test_failure)};
    return cmocka_run_group_tests_name("cuda/plans", tests, NULL, NULL);
}
