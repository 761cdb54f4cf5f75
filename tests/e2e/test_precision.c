/* The sample clip in bf16 against fp32: the difference must not be seen. */
#include <oasis/video.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Of the promise to users (README): 45 dB over RGB, peak 1. */
static const double LEAST_PSNR_DB = 45;

enum { FRAMES = 9 };

/* The first frames of the clip, upscaled: [FRAMES][height][width][3], to be freed. */
static float *upscale(oasis_dtype_choice dtype, size_t *values, bool *bf16)
{
    oasis_message why = {""};
    oasis_model *model = NULL;
    oasis_reader *reader = NULL;
    oasis_upscaler *up = NULL;
    oasis_reader_options read;
    oasis_options options;
    oasis_media_info info;
    oasis_plan plan;
    oasis_frame frame;
    oasis_reader_options_init(&read);
    read.frames = FRAMES;
    oasis_options_init(&options);
    options.dtype = dtype;
    options.scale = 2;
    if (oasis_model_open(&model, OASIS_SOURCE_DIR "/models/oasis-nano.safetensors", &why) < 0 ||
        oasis_reader_open(&reader, OASIS_SOURCE_DIR "/samples/sample.mp4", &read, &why) < 0)
        fail_msg("%s", why.text);
    oasis_reader_info(reader, &info);
    if (oasis_upscaler_open(&up, model, &options, info.width, info.height, &why) < 0)
        fail_msg("%s", why.text);
    oasis_upscaler_plan(up, &plan);
    *bf16 = plan.bf16;
    size_t each = (size_t)plan.width * (size_t)plan.height * 3;
    float *all = malloc(FRAMES * each * sizeof *all);
    assert_non_null(all);
    int got = 0;
    for (oasis_status s = OASIS_OK; s != OASIS_END;) {
        s = oasis_upscaler_receive(up, &frame);
        assert_true(s >= 0);
        if (s == OASIS_OK) {
            assert_true(got < FRAMES);
            memcpy(all + (size_t)got++ * each, frame.rgb, each * sizeof *all);
            oasis_frame_free(&frame);
        } else if (s == OASIS_AGAIN) {
            bool more = oasis_reader_read(reader, &frame) == OASIS_OK;
            assert_true(oasis_upscaler_send(up, more ? &frame : NULL) >= 0);
        }
    }
    assert_int_equal(got, FRAMES);
    oasis_upscaler_close(&up);
    oasis_reader_close(&reader);
    oasis_model_close(&model);
    *values = FRAMES * each;
    return all;
}

static void test_bf16_is_near_fp32(void **state)
{
    (void)state;
    size_t n, m;
    bool exact, rounded;
    float *a = upscale(OASIS_DTYPE_FP32, &n, &exact), *b = upscale(OASIS_DTYPE_AUTO, &m, &rounded);
    double error = 0;
    assert_int_equal(n, m);
    assert_false(exact);
    for (size_t i = 0; i < n; i++)
        error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    double psnr = 10 * log10((double)n / (error + 1e-12));
    print_message("    %s against fp32: %.1f dB\n", rounded ? "bf16" : "fp32 (this CPU has no bf16)", psnr);
    assert_true(psnr >= LEAST_PSNR_DB);
    assert_true(!rounded || psnr < 120); /* it did compute something else */
    free(a);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bf16_is_near_fp32)};
    return cmocka_run_group_tests_name("e2e/precision", tests, NULL, NULL);
}
