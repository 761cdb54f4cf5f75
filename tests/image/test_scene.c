/* Scene cuts on made-up films: every hard cut is found, and nothing else is one. */
#include "image/pictures.h"
#include "image/scene.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { W = 161, H = 91, N = W * H * 3, SHOT = 12 };

/* A landscape of smooth bumps of four sizes, seen from (x, y); another seed is another landscape and other colours. */
static float bump(uint32_t seed, double x, double y)
{
    double fx = floor(x), fy = floor(y), u = x - fx, v = y - fy, corner[4];
    u = u * u * (3 - 2 * u);
    v = v * v * (3 - 2 * v);
    for (int k = 0; k < 4; k++) {
        uint32_t h =
            seed * 2654435761u + (uint32_t)(int)(fx + k % 2) * 374761393u + (uint32_t)(int)(fy + k / 2) * 668265263u;
        h = (h ^ (h >> 13)) * 1274126177u;
        corner[k] = (double)((h ^ (h >> 16)) & 0xffff) / 65535;
    }
    return (float)((corner[0] * (1 - u) + corner[1] * u) * (1 - v) + (corner[2] * (1 - u) + corner[3] * u) * v);
}

static void paint(float *rgb, uint32_t seed, double dx, double dy)
{
    uint32_t state = seed * 7919 + 1;
    float tint[3];
    for (int c = 0; c < 3; c++)
        tint[c] = 0.3f + 0.7f * next_uniform(&state);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            float v = 0;
            for (int octave = 0; octave < 4; octave++)
                v += bump(seed + (uint32_t)octave * 77, (x + dx) / (80 >> octave), (y + dy) / (80 >> octave)) / 4;
            v = fminf(fmaxf((v - 0.5f) * 2.5f + 0.5f, 0), 1);
            for (int c = 0; c < 3; c++)
                rgb[(y * W + x) * 3 + c] = v * tint[c];
        }
}

/* What a film does to its pictures. */
struct film {
    double pan, shake, flicker, noise; /* pixels a frame, pixels, parts, standard deviation */
};

static void shoot(const struct film *f, uint32_t *state, uint32_t seed, int frame, float *rgb)
{
    double dx = f->pan * frame + f->shake * (2 * (double)next_uniform(state) - 1);
    double dy = f->shake * (2 * (double)next_uniform(state) - 1);
    float gain = 1 + (float)f->flicker * (2 * next_uniform(state) - 1);
    paint(rgb, seed, dx, dy);
    for (int i = 0; i < N; i++) {
        float sum = -2;
        for (int k = 0; k < 4; k++)
            sum += next_uniform(state);
        rgb[i] = rgb[i] * gain + sum * 1.7f * (float)f->noise;
    }
}

static void test_films(void **unused)
{
    (void)unused;
    static const struct film films[] = {
        {0}, {.pan = 12}, {.pan = -16}, {.shake = 6}, {.flicker = 0.1}, {.noise = 0.1}, {4, 3, 0.05, 0.05},
    };
    float *rgb = malloc(N * sizeof *rgb);
    for (size_t k = 0; k < sizeof films / sizeof *films; k++) {
        oas_scene *scene = NULL;
        assert_int_equal(oas_scene_new(&scene, W, H, NULL), OASIS_OK);
        uint32_t state = 99;
        for (uint32_t shot = 0; shot < 4; shot++)
            for (int i = 0; i < SHOT; i++) {
                shoot(&films[k], &state, shot + 1, i, rgb);
                bool cut = oas_scene_push(scene, NULL, rgb);
                if (cut != (i == 0))
                    fail_msg("film %zu, shot %u, frame %d: %s, score %g, threshold %g", k, shot, i,
                             cut ? "false cut" : "cut missed", oas_scene_last(scene).score,
                             oas_scene_last(scene).threshold);
            }
        oas_scene_free(&scene);
        assert_null(scene);
    }
    free(rgb);
}

/* How many cuts a transition of `frames` frames gives: from picture a (NULL: black) to b. */
static int cuts_of(const float *a, const float *b, int frames)
{
    oas_scene *scene = NULL;
    assert_int_equal(oas_scene_new(&scene, W, H, NULL), OASIS_OK);
    float *rgb = malloc(N * sizeof *rgb);
    int cuts = 0;
    for (int i = -4; i < frames + 4; i++) {
        float t = i < 0 ? 0 : i < frames ? (float)(i + 1) / (float)frames : 1;
        for (int k = 0; k < N; k++)
            rgb[k] = (a ? a[k] * (1 - t) : 0) + (b ? b[k] * t : 0);
        cuts += oas_scene_push(scene, NULL, rgb);
    }
    free(rgb);
    oas_scene_free(&scene);
    return cuts - 1;
}

static void test_transitions(void **unused)
{
    (void)unused;
    float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b);
    paint(a, 5, 0, 0);
    paint(b, 6, 0, 0);
    assert_int_equal(cuts_of(a, b, 1), 1);
    assert_int_equal(cuts_of(a, NULL, 1), 1);
    assert_int_equal(cuts_of(NULL, b, 1), 1);
    assert_int_equal(cuts_of(a, a, 1), 0);
    assert_int_equal(cuts_of(NULL, NULL, 1), 0);
    assert_true(cuts_of(a, b, 16) <= 1);
    assert_true(cuts_of(a, NULL, 16) <= 1);
    assert_true(cuts_of(NULL, b, 16) <= 1);
    free(a);
    free(b);
}

/* The same bits by one thread and by three. */
static void test_threads(void **unused)
{
    (void)unused;
    oas_scene *scene[2] = {NULL, NULL};
    oas_pool *pool[2] = {NULL, NULL};
    float *rgb = malloc(N * sizeof *rgb);
    assert_int_equal(oas_pool_new(&pool[1], 3, NULL), OASIS_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(oas_scene_new(&scene[i], W, H, NULL), OASIS_OK);
    for (int t = 0; t < 12; t++) {
        paint(rgb, t < 7 ? 5 : 6, t, 0);
        for (int i = 0; i < 2; i++)
            assert_int_equal(oas_scene_push(scene[i], pool[i], rgb), t == 0 || t == 7);
        oas_scene_figures one = oas_scene_last(scene[0]), three = oas_scene_last(scene[1]);
        assert_memory_equal(&one, &three, sizeof one);
    }
    for (int i = 0; i < 2; i++)
        oas_scene_free(&scene[i]);
    oas_pool_free(&pool[1]);
    free(rgb);
}

/* Frames of one pixel, of any number, and of no number at all. */
static void test_odd(void **unused)
{
    (void)unused;
    oas_scene *scene = NULL;
    assert_int_equal(oas_scene_new(&scene, 1, 1, NULL), OASIS_OK);
    const float pixels[4][3] = {{0.5f, 0.5f, 0.5f}, {NAN, 1, 0}, {INFINITY, -INFINITY, 2}, {0.5f, 0.5f, 0.5f}};
    for (int i = 0; i < 4; i++) {
        bool cut = oas_scene_push(scene, NULL, pixels[i]);
        assert_true(i > 0 || cut);
        assert_true(isfinite(oas_scene_last(scene).score));
    }
    oas_scene_free(&scene);
    oas_scene_free(&scene);
    oasis_message why;
    assert_int_equal(oas_scene_new(&scene, 0, 5, &why), OASIS_E_ARGUMENT);
    assert_null(scene);
    assert_true(oas_scene_bytes(64, 64) > 64 * 40 * 3 * sizeof(float));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_films),
        cmocka_unit_test(test_transitions),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_odd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
