/*
 * Every allocation of the library fails once: opening the model, opening an upscaler, sending and receiving each give a
 * status with a sentence, leak nothing (under the address sanitizer) and leave nothing that a second try stumbles over.
 *
 * oas_alloc rests on aligned_alloc, which this program replaces by one that fails at the n-th call.
 */
#include <oasis/oasis.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static long calls_left = -1; /* calls that succeed before one fails; below 0: none fails */
static long calls;

void *aligned_alloc(size_t alignment, size_t size)
{
    calls++;
    if (calls_left >= 0 && calls_left-- == 0)
        return NULL;
    void *block = NULL;
    return posix_memalign(&block, alignment, size) == 0 ? block : NULL;
}

enum { WIDTH = 12, HEIGHT = 10, FRAMES = 3 };

/* The whole way of FRAMES frames; *got counts what came out. */
static oasis_status upscale(oasis_message *why, int *got)
{
    oasis_model *model = NULL;
    oasis_upscaler *up = NULL;
    oasis_options o;
    oasis_options_init(&o);
    o.scale = 1.5;
    o.threads = 2;
    o.color_fix = OASIS_COLOR_FIX_WAVELET;
    *got = 0;
    oasis_status s = oasis_model_open(&model, OASIS_SOURCE_DIR "/models/oasis-nano.safetensors", why);
    if (s == OASIS_OK)
        s = oasis_upscaler_open(&up, model, &o, WIDTH, HEIGHT, why);
    for (int sent = 0; s == OASIS_OK;) {
        oasis_frame frame = {0};
        s = oasis_upscaler_receive(up, &frame);
        if (s == OASIS_OK) {
            (*got)++;
            oasis_frame_free(&frame);
        } else if (s == OASIS_AGAIN && sent < FRAMES) {
            s = oasis_frame_new(&frame, WIDTH, HEIGHT, true);
            if (s < 0)
                snprintf(why->text, sizeof why->text, "out of memory in the caller");
            else
                s = oasis_upscaler_send(up, &frame);
            oasis_frame_free(&frame);
            sent++;
        } else if (s == OASIS_AGAIN) {
            s = oasis_upscaler_send(up, NULL);
        } else if (s < 0) {
            snprintf(why->text, sizeof why->text, "%s", oasis_upscaler_message(up));
        }
    }
    oasis_upscaler_close(&up);
    oasis_model_close(&model);
    return s;
}

static void test_every_allocation(void **state)
{
    (void)state;
    oasis_message why = {""};
    int got;
    calls = 0;
    assert_int_equal(upscale(&why, &got), OASIS_END);
    assert_int_equal(got, FRAMES);
    long all = calls, step = all > 400 ? all / 400 : 1;
    assert_true(all > 50);
    for (long n = 0; n < all; n += step) {
        calls_left = n;
        why.text[0] = 0;
        oasis_status s = upscale(&why, &got);
        bool failed = calls_left < 0;
        calls_left = -1;
        assert_true(failed);
        if (s != OASIS_E_MEMORY)
            fail_msg("allocation %ld of %ld: status %d (%s): %s", n, all, (int)s, oasis_status_name(s), why.text);
        if (strlen(why.text) < 15)
            fail_msg("allocation %ld of %ld: no sentence, '%s'", n, all, why.text);
    }
    assert_int_equal(upscale(&why, &got), OASIS_END);
    assert_int_equal(got, FRAMES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation)};
    return cmocka_run_group_tests_name("faults/allocation", tests, NULL, NULL);
}
