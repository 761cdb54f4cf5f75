/* Blur kernels against their formulas, filtering against the sum written out. */
#include "degrade/kernel.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const double PI = 3.14159265358979323846;

/* Sums of up to 441 products in float, of values below 1 with weights that sum to 1 (sinc: to about 1.5 in absolute
 * terms), and edges cut off that weigh 1e-5 at most. */
static const double TOLERANCE = 2e-5;
/* What a border repeated instead of mirrored, or a kernel turned by a quarter, changes at least. */
static const double MUTATION = 1e-3;

static double at(const kernel_shape *k, int x, int y)
{
    double weight[OAS_KERNEL_SIDE * OAS_KERNEL_SIDE];
    oas_kernel_window(k, weight);
    return weight[(y + k->side / 2) * k->side + x + k->side / 2];
}

/* Ratios to the centre, worked out by hand from the formulas. */
static void test_formulas(void **unused)
{
    (void)unused;
    kernel_shape k = {.kind = KERNEL_ISO, .side = 7, .sigma_x = 2, .sigma_y = 9, .angle = 1};
    assert_true(fabs(at(&k, 2, 0) / at(&k, 0, 0) - exp(-0.5)) < 1e-12);
    assert_true(fabs(at(&k, 1, -2) / at(&k, 0, 0) - exp(-5. / 8)) < 1e-12);
    k = (kernel_shape){.kind = KERNEL_ANISO, .side = 7, .sigma_x = 2, .sigma_y = 1, .angle = PI / 6};
    /* (2, 1) turned back by 30 degrees */
    double u = 2 * cos(PI / 6) + sin(PI / 6), v = cos(PI / 6) - 2 * sin(PI / 6);
    assert_true(fabs(at(&k, 2, 1) / at(&k, 0, 0) - exp(-0.5 * (u * u / 4 + v * v))) < 1e-12);
    k = (kernel_shape){.kind = KERNEL_GENERALISED_ISO, .side = 7, .sigma_x = 2, .beta = 3};
    assert_true(fabs(at(&k, 0, 3) / at(&k, 0, 0) - exp(-0.5 * pow(2.25, 3))) < 1e-12);
    k.kind = KERNEL_PLATEAU_ISO;
    assert_true(fabs(at(&k, 0, 3) / at(&k, 0, 0) - 1 / (1 + pow(2.25, 3))) < 1e-12);
    k = (kernel_shape){.kind = KERNEL_SINC, .side = 7, .omega = 2};
    assert_true(fabs(at(&k, 0, 3) / at(&k, 0, 0) - 2 * j1(6) / (6 * PI) / (4 / (4 * PI))) < 1e-12);
    assert_true(at(&k, 0, 3) < 0);
}

static void test_sums(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < KERNEL_KINDS; kind++)
        for (int side = 7; side <= OAS_KERNEL_SIDE; side += 2) {
            kernel_shape k = {(kernel_kind)kind, side, 0.2 + side / 10., 1.15, 0.7, 1.4, 1.9};
            double weight[OAS_KERNEL_SIDE * OAS_KERNEL_SIDE], sum = 0, kept = 0;
            oas_kernel_window(&k, weight);
            for (int i = 0; i < side * side; i++) {
                sum += weight[i];
                assert_true(fabs(weight[i] - weight[side * side - 1 - i]) < 1e-15); /* symmetric about the centre */
            }
            assert_true(fabs(sum - 1) < 1e-12);
            blur_kernel made;
            oas_kernel_make(&made, &k);
            assert_true(made.side <= side && made.side % 2 == 1);
            assert_int_equal(made.separable, kind == KERNEL_ISO);
            for (int i = 0; i < made.side * made.side; i++)
                kept += (double)made.weight[i];
            assert_true(fabs(kept - 1) < 1e-5);
            if (made.separable)
                for (int i = 0; i < made.side * made.side; i++)
                    assert_true(fabs((double)made.across[i / made.side] * (double)made.across[i % made.side] -
                                     (double)made.weight[i]) < 1e-7);
        }
}

/* ---- filtering --------------------------------------------------------------------------------------------------- */

static int mirror(int i, int n)
{
    while (n > 1 && (i < 0 || i >= n))
        i = i < 0 ? -i : 2 * (n - 1) - i;
    return n > 1 ? i : 0;
}

static int repeat(int i, int n)
{
    return i < 0 ? 0 : i < n ? i : n - 1;
}

static double worst(const kernel_shape *k, const picture *in, const picture *out, int (*border)(int, int), bool turned)
{
    double weight[OAS_KERNEL_SIDE * OAS_KERNEL_SIDE], most = 0;
    oas_kernel_window(k, weight);
    int r = k->side / 2;
    for (int y = 0; y < in->height; y++)
        for (int x = 0; x < in->width; x++)
            for (int c = 0; c < 3; c++) {
                double sum = 0;
                for (int j = -r; j <= r; j++)
                    for (int i = -r; i <= r; i++) {
                        size_t from = (size_t)(border(y + j, in->height) * in->width + border(x + i, in->width));
                        int row = turned ? i : j, column = turned ? j : i;
                        sum += weight[(row + r) * k->side + column + r] * (double)in->rgb[from * 3 + (size_t)c];
                    }
                most = fmax(most, fabs(sum - (double)out->rgb[(y * in->width + x) * 3 + c]));
            }
    return most;
}

static picture random_picture(int width, int height)
{
    picture p = {0};
    assert_int_equal(oas_picture_size(&p, width, height, NULL), OASIS_OK);
    oas_rng rng = oas_rng_at(3, 0, 0, 0);
    for (int i = 0; i < width * height * 3; i++)
        p.rgb[i] = (float)oas_rng_uniform(&rng);
    return p;
}

static void test_filter(void **unused)
{
    (void)unused;
    static const int sizes[][2] = {{1, 1}, {2, 3}, {5, 1}, {9, 26}, {33, 17}};
    oas_pool *pool = NULL;
    assert_int_equal(oas_pool_new(&pool, 3, NULL), OASIS_OK);
    for (int kind = 0; kind < KERNEL_KINDS; kind++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            kernel_shape k = {(kernel_kind)kind, kind % 2 ? 21 : 9, 2.1, 0.6, 0.5, 1.3, 2};
            blur_kernel kernel;
            oas_kernel_make(&kernel, &k);
            picture in = random_picture(sizes[i][0], sizes[i][1]), padded = {0}, out = {0}, again = {0};
            assert_int_equal(oas_picture_size(&out, in.width, in.height, NULL), OASIS_OK);
            assert_int_equal(oas_picture_size(&again, in.width, in.height, NULL), OASIS_OK);
            assert_int_equal(oas_filter(&kernel, NULL, &in, &padded, &out, NULL), OASIS_OK);
            assert_int_equal(oas_filter(&kernel, pool, &in, &padded, &again, NULL), OASIS_OK);
            assert_memory_equal(out.rgb, again.rgb, (size_t)(in.width * in.height * 3) * sizeof *out.rgb);
            assert_true(worst(&k, &in, &out, mirror, false) <= TOLERANCE);
            if (in.width > 8) {
                assert_true(worst(&k, &in, &out, repeat, false) > MUTATION);
                if (kind == KERNEL_ANISO)
                    assert_true(worst(&k, &in, &out, mirror, true) > MUTATION);
            }
            oas_picture_free(&in);
            oas_picture_free(&padded);
            oas_picture_free(&out);
            oas_picture_free(&again);
        }
    oas_pool_free(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formulas),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_filter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
