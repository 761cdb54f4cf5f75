/*
 * Metrics of motion, all with our own flow.
 *
 *   ewarp  the warping error of Lai et al. (oas_warp_error) of neighbouring frames, times 1000.  The flow is the
 *          reference's where there is one (or the clip's own on request), so that a result is not rewarded for moving
 *          less; small is good, but a blurred clip wins: read it beside sharpness.
 *   tof    the mean over pixels of |du| + |dv| between the flow of the clip and that of the reference (TecoGAN, 2020),
 *          in pixels
 */
#include "base/memory.h"
#include "metrics/flow.h"

#include <math.h>

/* ---- warping error ----------------------------------------------------------------------------------------------- */

struct warp {
    int width, height;
    const float *a, *b;
    const flow_field *forward, *backward;
    double *counted; /* [height]: pixels of the row that count */
};

static bool seen(const struct warp *t, int x, int y, float *to_x, float *to_y)
{
    int w = t->width, h = t->height;
    size_t i = (size_t)y * (size_t)w + (size_t)x;
    float u = t->forward->u[i], v = t->forward->v[i];
    float px = (float)x + u, py = (float)y + v;
    *to_x = px;
    *to_y = py;
    if (!(px >= 0 && py >= 0 && px <= (float)(w - 1) && py <= (float)(h - 1)))
        return false;
    float bu = oas_bilinear(t->backward->u, w, h, 1, 0, px, py), bv = oas_bilinear(t->backward->v, w, h, 1, 0, px, py);
    float length = u * u + v * v;
    if ((bu + u) * (bu + u) + (bv + v) * (bv + v) > 0.01f * (bu * bu + bv * bv + length) + 0.5f)
        return false;
    float ux = x + 1 < w ? t->forward->u[i + 1] - u : 0, vx = x + 1 < w ? t->forward->v[i + 1] - v : 0;
    float uy = y + 1 < h ? t->forward->u[i + (size_t)w] - u : 0, vy = y + 1 < h ? t->forward->v[i + (size_t)w] - v : 0;
    return ux * ux + uy * uy + vx * vx + vy * vy <= 0.01f * length + 0.002f;
}

static double warp_row(void *task, int y, int worker)
{
    (void)worker;
    struct warp *t = task;
    double sum = 0;
    int counted = 0;
    for (int x = 0; x < t->width; x++) {
        float px, py;
        if (!seen(t, x, y, &px, &py))
            continue;
        counted++;
        for (int c = 0; c < 3; c++) {
            double e = (double)oas_bilinear(t->b, t->width, t->height, 3, c, px, py) -
                       (double)t->a[((size_t)y * (size_t)t->width + (size_t)x) * 3 + (size_t)c];
            sum += e * e;
        }
    }
    t->counted[y] = counted;
    return sum;
}

oasis_status oas_warp_error(oas_pool *pool, int width, int height, const float *a, const float *b,
                            const flow_field *forward, const flow_field *backward, double *error,
                            oasis_message *message)
{
    double sum = 0, counted = 0;
    struct warp t = {width, height, a, b, forward, backward, oas_alloc((size_t)height, sizeof(double))};
    oasis_status status = t.counted ? oas_sum_rows(pool, height, warp_row, &t, &sum, message)
                                    : oas_fail_memory(message, (size_t)height * sizeof(double), "the warping error");
    for (int y = 0; y < height && status >= 0; y++)
        counted += t.counted[y];
    oas_free(t.counted);
    *error = counted > 0 ? sum / (3 * counted) : 0;
    return status;
}

static oasis_status measure_ewarp(void *state, const view *v, double *value, oasis_message *message)
{
    (void)state;
    const flow_field *forward, *backward;
    int clip = v->has_reference && v->options->flow == OASIS_FLOW_GT ? OAS_REFERENCE : OAS_CLIP;
    OAS_TRY(oas_view_flow(v, clip, OAS_FLOW_FORWARD, &forward, message));
    OAS_TRY(oas_view_flow(v, clip, OAS_FLOW_BACKWARD, &backward, message));
    OAS_TRY(oas_warp_error(v->pool, v->width, v->height, v->past[OAS_CLIP]->rgb, v->now[OAS_CLIP]->rgb, forward,
                           backward, value, message));
    *value *= 1000;
    return OASIS_OK;
}

/* ---- difference of motion ---------------------------------------------------------------------------------------- */

struct two_flows {
    const flow_field *a, *b;
    int width;
};

static double motion_row(void *task, int y, int worker)
{
    (void)worker;
    const struct two_flows *t = task;
    double sum = 0;
    for (size_t i = (size_t)y * (size_t)t->width; i < ((size_t)y + 1) * (size_t)t->width; i++)
        sum += fabs((double)t->a->u[i] - (double)t->b->u[i]) + fabs((double)t->a->v[i] - (double)t->b->v[i]);
    return sum;
}

static oasis_status measure_tof(void *state, const view *v, double *value, oasis_message *message)
{
    (void)state;
    struct two_flows t = {.width = v->width};
    double sum;
    OAS_TRY(oas_view_flow(v, OAS_CLIP, OAS_FLOW_FORWARD, &t.a, message));
    OAS_TRY(oas_view_flow(v, OAS_REFERENCE, OAS_FLOW_FORWARD, &t.b, message));
    OAS_TRY(oas_sum_rows(v->pool, v->height, motion_row, &t, &sum, message));
    *value = sum / ((double)v->width * v->height);
    return OASIS_OK;
}

const metric oas_metric_ewarp = {
    .info = {"ewarp", "E_warp x 1000 (own flow)", "", -1, false, true},
    .note = "own flow: not the published number",
    .least_side = 16,
    .measure = measure_ewarp,
};
const metric oas_metric_tof = {
    .info = {"tof", "tOF (own flow)", "px", -1, true, true},
    .note = "own flow: not the published number",
    .least_side = 16,
    .measure = measure_tof,
};
