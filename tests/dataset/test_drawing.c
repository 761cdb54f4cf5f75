/* What is drawn into clips: strokes, letters and patterns have the areas that geometry gives them. */
#include "dataset/pattern.h"
#include "dataset/text.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { WIDTH = 96, HEIGHT = 64, GUARD = 32 };

/* Antialiasing by distance is exact for straight edges on the grid, and nearly so for others: 2 % of an area. */
static const double AREA_ERROR = 0.02;

static float cover[GUARD + WIDTH * HEIGHT + GUARD];

static double area_of(void)
{
    double sum = 0;
    for (int i = 0; i < WIDTH * HEIGHT; i++)
        sum += (double)cover[GUARD + i];
    return sum;
}

static void clear(void)
{
    for (size_t i = 0; i < sizeof cover / sizeof *cover; i++)
        cover[i] = i < GUARD || i >= GUARD + WIDTH * HEIGHT ? -7.f : 0;
}

static void check_guards(void)
{
    for (int i = 0; i < GUARD; i++) {
        assert_true(cover[i] == -7.f);
        assert_true(cover[GUARD + WIDTH * HEIGHT + i] == -7.f);
    }
}

static void strokes_have_their_area(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        double way = 0.31 * i, radius = 1 + 0.2 * i, length = 30, pi = 3.14159265358979;
        double a[2] = {40.3 + 0.07 * i, 30.9}, b[2] = {a[0] + length * cos(way) * 0.8, a[1] + length * sin(way) * 0.8};
        clear();
        oas_stroke_draw(a, b, radius, cover + GUARD, WIDTH, HEIGHT);
        double wanted = 2 * radius * length * 0.8 + pi * radius * radius;
        assert_true(fabs(area_of() - wanted) < AREA_ERROR * wanted);
        check_guards();
    }
}

/* A letter covers as much wherever it stands, and no two letters look alike. */
static void letters_move_smoothly_and_differ(void **state)
{
    (void)state;
    static float seen[94][WIDTH * HEIGHT];
    static const oas_text_style style = {.weight = 0.16, .width = 1, .spacing = 0.25};
    for (int k = 0; k < 94; k++) {
        const char text[2] = {(char)(33 + k), 0};
        double first = 0;
        for (int i = 0; i < 4; i++) {
            const oas_affine map = {30, 0, 0, -30, 20 + 0.25 * i, 45 + 0.4 * i};
            clear();
            oas_text_draw(text, &style, &map, cover + GUARD, WIDTH, HEIGHT);
            first = i == 0 ? area_of() : first;
            assert_true(first > 15); /* a dot has 18 pixels */
            assert_true(fabs(area_of() - first) < 2 * AREA_ERROR * first);
            if (i == 0)
                memcpy(seen[k], cover + GUARD, sizeof seen[k]);
        }
        for (int j = 0; j < k; j++)
            assert_memory_not_equal(seen[j], seen[k], sizeof seen[k]);
    }
}

static void text_beyond_the_picture_is_cut(void **state)
{
    (void)state;
    static const oas_text_style style = {.weight = 0.2, .width = 1, .spacing = 0.25, .serif = 0.3, .contrast = 0.5};
    for (int i = 0; i < 50; i++) {
        const oas_affine map = {20 * cos(0.2 * i),  20 * sin(0.2 * i), 20 * sin(0.2 * i),
                                -20 * cos(0.2 * i), 4. * i - 60,       3. * i - 40};
        clear();
        oas_text_draw("Words that \x01 reach {far}", &style, &map, cover + GUARD, WIDTH, HEIGHT);
        check_guards();
    }
    clear();
    const oas_affine away = {20, 0, 0, -20, 1e7, 1e7};
    oas_text_draw("far", &style, &away, cover + GUARD, WIDTH, HEIGHT);
    assert_true(area_of() == 0);
}

/* Over whole periods a pattern has as much of either colour as it says; so has a pixel that sees many periods. */
static void patterns_keep_their_shares(void **state)
{
    (void)state;
    pattern p = {.kind = PATTERN_STRIPES, .period = 7.3, .share = 0.37, .c = 1, .colour = {{0, 0, 0}, {1, 1, 1}}};
    double sum = 0;
    float rgb[3];
    for (int i = 0; i < 73; i++) {
        oas_pattern_at(&p, i, 5, 1, rgb);
        sum += (double)rgb[0];
    }
    assert_true(fabs(sum / 73 - p.share) < 1e-5); /* ten whole periods: rounding of float only */
    oas_pattern_at(&p, 3.3, 1, 7.3 * 4, rgb);
    assert_true(fabs((double)rgb[1] - p.share) < 1e-5);
    for (int kind = 0; kind < PATTERN_KINDS; kind++) {
        p.kind = (pattern_kind)kind;
        for (int i = 0; i < 1000; i++) {
            oas_pattern_at(&p, 0.37 * i - 99, 0.91 * i - 300, 1, rgb);
            assert_true(rgb[0] >= -1e-5f && rgb[0] <= 1 + 1e-5f);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strokes_have_their_area),
        cmocka_unit_test(letters_move_smoothly_and_differ),
        cmocka_unit_test(text_beyond_the_picture_is_cut),
        cmocka_unit_test(patterns_keep_their_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
