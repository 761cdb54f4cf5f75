/*
 * PSNR = 10 log10(1 / (MSE + 1e-8)) of a frame, so 80 dB at most; three spaces, which give different numbers.
 *
 *   psnr_rgb   MSE over all pixels and the three channels
 *   psnr_y601  Y = (65.481 R + 128.553 G + 24.966 B + 16) / 255: limited range against a peak of 255, as MATLAB and
 *              BasicSR have it; 1.3 dB more than the next on average
 *   psnr_luma  Y = 0.299 R + 0.587 G + 0.114 B, full range
 */
#include "metrics/metric.h"

#include <math.h>

static const double EPSILON = 1e-8;

struct difference {
    const float *a, *b;
    int width;
    double weight[3]; /* of the channels in a luma; all 0: each channel for itself */
};

static double row_error(void *task, int y, int worker)
{
    (void)worker;
    const struct difference *d = task;
    const float *a = d->a + (size_t)y * (size_t)d->width * 3, *b = d->b + (size_t)y * (size_t)d->width * 3;
    double sum = 0;
    for (int x = 0; x < d->width; x++) {
        double e[3];
        for (int c = 0; c < 3; c++)
            e[c] = (double)a[3 * x + c] - (double)b[3 * x + c];
        double luma = d->weight[0] * e[0] + d->weight[1] * e[1] + d->weight[2] * e[2];
        sum += d->weight[0] > 0 ? luma * luma : (e[0] * e[0] + e[1] * e[1] + e[2] * e[2]) / 3;
    }
    return sum;
}

static oasis_status psnr(const view *v, double red, double green, double blue, double *value, oasis_message *message)
{
    struct difference d = {v->now[OAS_CLIP]->rgb, v->now[OAS_REFERENCE]->rgb, v->width, {red, green, blue}};
    double sum;
    OAS_TRY(oas_sum_rows(v->pool, v->height, row_error, &d, &sum, message));
    *value = -10 * log10(sum / ((double)v->width * v->height) + EPSILON);
    return OASIS_OK;
}

static oasis_status measure_rgb(void *state, const view *v, double *value, oasis_message *message)
{
    (void)state;
    return psnr(v, 0, 0, 0, value, message);
}

static oasis_status measure_y601(void *state, const view *v, double *value, oasis_message *message)
{
    (void)state;
    return psnr(v, 65.481 / 255, 128.553 / 255, 24.966 / 255, value, message);
}

static oasis_status measure_luma(void *state, const view *v, double *value, oasis_message *message)
{
    (void)state;
    return psnr(v, 0.299, 0.587, 0.114, value, message);
}

const metric oas_metric_psnr_rgb = {
    .info = {"psnr_rgb", "PSNR (RGB)", "dB", 1, true, false},
    .measure = measure_rgb,
};
const metric oas_metric_psnr_y601 = {
    .info = {"psnr_y601", "PSNR (Y, BT.601 limited)", "dB", 1, true, false},
    .measure = measure_y601,
};
const metric oas_metric_psnr_luma = {
    .info = {"psnr_luma", "PSNR (luma, full range)", "dB", 1, true, false},
    .measure = measure_luma,
};
