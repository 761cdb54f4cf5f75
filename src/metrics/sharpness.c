/*
 * Sharpness: the mean length of the gradient of luma (0..255), by differences to the right and down.  No measure of
 * quality (noise is sharp too); it stands beside the warping error, which a blurred clip wins.
 */
#include "metrics/metric.h"

#include <math.h>

static double row_gradient(void *task, int y, int worker)
{
    (void)worker;
    const view *v = task;
    const float *a = v->now[OAS_CLIP]->luma + (size_t)y * (size_t)v->width, *b = a + v->width;
    double sum = 0;
    for (int x = 0; x + 1 < v->width; x++) {
        double dx = (double)a[x + 1] - (double)a[x], dy = (double)b[x] - (double)a[x];
        sum += sqrt(dx * dx + dy * dy);
    }
    return sum;
}

static oasis_status measure(void *state, const view *v, double *value, oasis_message *message)
{
    (void)state;
    view task = *v;
    double sum;
    OAS_TRY(oas_sum_rows(v->pool, v->height - 1, row_gradient, &task, &sum, message));
    *value = sum / ((double)(v->width - 1) * (v->height - 1));
    return OASIS_OK;
}

const metric oas_metric_sharpness = {
    .info = {"sharpness", "sharpness (mean gradient)", "", 0, false, false},
    .least_side = 2,
    .measure = measure,
};
