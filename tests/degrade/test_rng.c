/* The generator against published blocks, the distributions against their moments and tails. */
#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* The vectors that come with the paper's own code (Random123, kat_vectors, philox4x32 10). */
static void test_known_blocks(void **unused)
{
    (void)unused;
    static const struct {
        uint32_t counter[4], key[2], block[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t block[4];
        oas_philox(known[i].counter, known[i].key, block);
        assert_memory_equal(block, known[i].block, sizeof block);
    }
}

/* Every part of the address changes the numbers, and the same address gives them again. */
static void test_addresses(void **unused)
{
    (void)unused;
    const oas_rng at[] = {oas_rng_at(5, 0, 0, 0), oas_rng_at(6, 0, 0, 0), oas_rng_at(5ull << 32, 0, 0, 0),
                          oas_rng_at(5, 1, 0, 0), oas_rng_at(5, 0, 1, 0), oas_rng_at(5, 0, 0, 1)};
    uint32_t first[6];
    for (int i = 0; i < 6; i++) {
        oas_rng a = at[i], b = at[i];
        first[i] = oas_rng_word(&a);
        assert_int_equal(oas_rng_word(&b), first[i]);
        for (int k = 0; k < 9; k++)
            assert_int_equal(oas_rng_word(&a), oas_rng_word(&b));
        for (int j = 0; j < i; j++)
            assert_int_not_equal(first[i], first[j]);
    }
    assert_true(oas_rng_derive(5, 0) != oas_rng_derive(5, 1));
    assert_true(oas_rng_derive(5, 0) != oas_rng_derive(6, 0));
    assert_true(oas_rng_derive(5, 0) == oas_rng_derive(5, 0));
}

enum { DRAWS = 200000 };

/* Moments of DRAWS samples deviate by 1/sqrt(DRAWS) = 0.0022 of the spread; 5 of these is once in two million, and the
 * seeds are fixed. */
static const double SPREADS = 5 * 0.0022;

static void test_uniform(void **unused)
{
    (void)unused;
    oas_rng r = oas_rng_at(1, 2, 3, 4);
    double sum = 0, squares = 0, least = 1, most = 0;
    int counts[7] = {0}, chosen[4] = {0};
    static const double weights[4] = {0.5, 0, 0.3, 0.2};
    for (int i = 0; i < DRAWS; i++) {
        double u = oas_rng_uniform(&r);
        sum += u;
        squares += u * u;
        least = fmin(least, u);
        most = fmax(most, u);
        counts[oas_rng_below(&r, 7)]++;
        chosen[oas_rng_choice(&r, weights, 4)]++;
    }
    assert_true(least > 0 && most < 1 && least < 1e-4 && most > 1 - 1e-4);
    assert_true(fabs(sum / DRAWS - 0.5) < SPREADS * sqrt(1. / 12));
    assert_true(fabs(squares / DRAWS - 1. / 3) < SPREADS * 0.3);
    for (int k = 0; k < 7; k++)
        assert_true(fabs((double)counts[k] / DRAWS - 1. / 7) < SPREADS * 0.35);
    assert_int_equal(chosen[1], 0);
    for (int k = 0; k < 4; k++)
        assert_true(fabs((double)chosen[k] / DRAWS - weights[k]) < SPREADS * 0.5);
}

static void test_normal(void **unused)
{
    (void)unused;
    oas_rng r = oas_rng_at(77, 0, 0, 0);
    static const double limits[5] = {-1.959963985, -0.674489750, 0, 1, 2.326347874};
    static const double below[5] = {0.025, 0.25, 0.5, 0.841344746, 0.99};
    double moment[5] = {0};
    int counts[5] = {0};
    for (int i = 0; i < DRAWS; i++) {
        double x = oas_rng_normal(&r), power = 1;
        for (int k = 1; k < 5; k++)
            moment[k] += power *= x;
        for (int k = 0; k < 5; k++)
            counts[k] += x < limits[k];
    }
    static const double want[5] = {0, 0, 1, 0, 3}, spread[5] = {0, 1, 1.42, 3.9, 9.8};
    for (int k = 1; k < 5; k++)
        assert_true(fabs(moment[k] / DRAWS - want[k]) < SPREADS * spread[k]);
    for (int k = 0; k < 5; k++)
        assert_true(fabs((double)counts[k] / DRAWS - below[k]) < SPREADS * 0.5);
}

static void test_poisson(void **unused)
{
    (void)unused;
    static const double means[] = {0, 0.01, 0.7, 3, 12.5, 100, 256, 65000};
    for (size_t m = 0; m < sizeof means / sizeof *means; m++) {
        oas_poisson p;
        assert_true(oas_poisson_new(&p, means[m]));
        assert_true(p.cumulated[p.n - 1] > 1 - 1e-12);
        oas_rng r = oas_rng_at(9, (uint32_t)m, 0, 0);
        double sum = 0, squares = 0, zeros = 0;
        for (int i = 0; i < DRAWS; i++) {
            double k = oas_poisson_draw(&p, &r);
            sum += k;
            squares += (k - means[m]) * (k - means[m]);
            zeros += k <= 0;
        }
        double spread = sqrt(means[m]); /* the fourth moment gives the spread of the variance */
        assert_true(fabs(sum / DRAWS - means[m]) <= SPREADS * spread);
        assert_true(fabs(squares / DRAWS - means[m]) <= SPREADS * sqrt(means[m] + 2 * means[m] * means[m]));
        assert_true(fabs(zeros / DRAWS - exp(-means[m])) <= SPREADS * 0.5);
        oas_poisson_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_blocks), cmocka_unit_test(test_addresses), cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_normal),       cmocka_unit_test(test_poisson),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
