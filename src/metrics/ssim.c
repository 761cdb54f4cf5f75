/*
 * Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004) and its multi-scale form (Wang, Simoncelli, Bovik 2003).
 *
 *   window   Gaussian 11x11, sigma 1.5, whole windows only;  C1 = (0.01 * 255)^2, C2 = (0.03 * 255)^2
 *   cs       (2 s_xy + C2) / (s_xx + s_yy + C2), not below 0;  ssim = (2 m_x m_y + C1) / (m_x^2 + m_y^2 + C1) * cs
 *
 *   ssim      of luma on 0..255 rounded to whole numbers, no downscaling; the mean of the map
 *   ssim_rgb  the mean over R, G, B on 0..255
 *   ms_ssim   luma; product over 5 scales of the mean cs, at the last one the mean ssim, to the powers .0448 .2856
 *             .3001 .2363 .1333; between scales the mean of 2x2, odd sides with a zero before the first counted in
 */
#include "metrics/metric.h"

#include "base/memory.h"

#include <math.h>

enum { TAPS = 11, SCALES = 5 };

static const double C1 = 6.5025, C2 = 58.5225;

/* ---- one scale --------------------------------------------------------------------------------------------------- */

struct ssim {
    int width, height, step; /* step: floats from one pixel to the next */
    const float *x, *y;
    double gain; /* to 0..255 */
    double weight[TAPS];
    double *columns; /* [workers][5][width]: sums down the window of x, y, xx, yy, xy */
    double *cs;      /* [height]: sum of cs over a row, beside the row's own sum of ssim */
};

static double ssim_row(void *task, int top, int worker)
{
    struct ssim *s = task;
    size_t w = (size_t)s->width;
    double *sum[5];
    for (int k = 0; k < 5; k++) {
        sum[k] = s->columns + ((size_t)worker * 5 + (size_t)k) * w;
        for (size_t i = 0; i < w; i++)
            sum[k][i] = 0;
    }
    for (int j = 0; j < TAPS; j++) {
        const float *x = s->x + (size_t)(top + j) * w * (size_t)s->step,
                    *y = s->y + (size_t)(top + j) * w * (size_t)s->step;
        for (size_t i = 0; i < w; i++) {
            double a = (double)x[i * (size_t)s->step] * s->gain, b = (double)y[i * (size_t)s->step] * s->gain;
            sum[0][i] += s->weight[j] * a;
            sum[1][i] += s->weight[j] * b;
            sum[2][i] += s->weight[j] * (a * a);
            sum[3][i] += s->weight[j] * (b * b);
            sum[4][i] += s->weight[j] * (a * b);
        }
    }
    double ssim = 0, cs = 0;
    for (size_t i = 0; i + TAPS <= w; i++) {
        double m[5] = {0};
        for (int k = 0; k < 5; k++)
            for (int j = 0; j < TAPS; j++)
                m[k] += s->weight[j] * sum[k][i + (size_t)j];
        double xx = m[2] - m[0] * m[0], yy = m[3] - m[1] * m[1], xy = m[4] - m[0] * m[1];
        double c = fmax((2 * xy + C2) / (xx + yy + C2), 0);
        cs += c;
        ssim += c * (2 * m[0] * m[1] + C1) / (m[0] * m[0] + m[1] * m[1] + C1);
    }
    s->cs[top] = cs;
    return ssim;
}

/* Means over the map of ssim and of cs. */
static oasis_status ssim_of(oas_pool *pool, struct ssim *s, double *ssim, double *cs, oasis_message *message)
{
    double sum = 0;
    for (int j = 0; j < TAPS; j++)
        sum += s->weight[j] = exp(-(j - TAPS / 2) * (j - TAPS / 2) / (2 * 1.5 * 1.5));
    for (int j = 0; j < TAPS; j++)
        s->weight[j] /= sum;
    int rows = s->height - TAPS + 1, columns = s->width - TAPS + 1;
    s->columns = oas_alloc((size_t)oas_pool_workers(pool) * 5, (size_t)s->width * sizeof(double));
    s->cs = oas_alloc((size_t)rows, sizeof(double));
    oasis_status status = s->columns && s->cs ? oas_sum_rows(pool, rows, ssim_row, s, ssim, message)
                                              : oas_fail_memory(message, (size_t)s->width * 40, "SSIM");
    if (status >= 0) {
        *cs = 0;
        for (int y = 0; y < rows; y++)
            *cs += s->cs[y];
        *cs /= (double)rows * columns;
        *ssim /= (double)rows * columns;
    }
    oas_free(s->columns);
    oas_free(s->cs);
    return status;
}

static oasis_status measure_ssim(void *state, const view *v, double *value, oasis_message *message)
{
    (void)state;
    double cs;
    struct ssim s = {v->width, v->height, 1, v->now[OAS_CLIP]->luma, v->now[OAS_REFERENCE]->luma, 1, {0}, NULL, NULL};
    return ssim_of(v->pool, &s, value, &cs, message);
}

static oasis_status measure_rgb(void *state, const view *v, double *value, oasis_message *message)
{
    (void)state;
    double sum = 0;
    for (int c = 0; c < 3; c++) {
        double one, cs;
        struct ssim s = {v->width, v->height, 3,   v->now[OAS_CLIP]->rgb + c, v->now[OAS_REFERENCE]->rgb + c, 255,
                         {0},      NULL,      NULL};
        OAS_TRY(ssim_of(v->pool, &s, &one, &cs, message));
        sum += one / 3;
    }
    *value = sum;
    return OASIS_OK;
}

/* ---- five scales ------------------------------------------------------------------------------------------------- */

struct pyramid {
    float *x[SCALES], *y[SCALES]; /* from scale 1 on; scale 0 is the frame itself */
    int width[SCALES], height[SCALES];
};

static void pyramid_close(void *state)
{
    struct pyramid *p = state;
    for (int s = 1; p && s < SCALES; s++) {
        oas_free(p->x[s]);
        oas_free(p->y[s]);
    }
    oas_free(p);
}

static oasis_status pyramid_open(void **state, const view *v, oasis_message *message)
{
    struct pyramid *p = oas_alloc(1, sizeof *p);
    *state = p;
    if (!p)
        return oas_fail_memory(message, sizeof *p, "MS-SSIM");
    p->width[0] = v->width;
    p->height[0] = v->height;
    for (int s = 1; s < SCALES; s++) {
        p->width[s] = p->width[s - 1] / 2 + p->width[s - 1] % 2;
        p->height[s] = p->height[s - 1] / 2 + p->height[s - 1] % 2;
        p->x[s] = oas_alloc((size_t)p->width[s] * (size_t)p->height[s], sizeof(float));
        p->y[s] = oas_alloc((size_t)p->width[s] * (size_t)p->height[s], sizeof(float));
        if (!p->x[s] || !p->y[s])
            return oas_fail_memory(message, (size_t)p->width[s] * (size_t)p->height[s] * sizeof(float), "MS-SSIM");
    }
    return OASIS_OK;
}

/* Means of 2x2; on an odd side the first mean takes in a zero before the first pixel. */
static void halve(const float *in, int width, int height, float *out)
{
    int half_width = width / 2 + width % 2, half_height = height / 2 + height % 2;
    for (int y = 0; y < half_height; y++)
        for (int x = 0; x < half_width; x++) {
            float sum = 0;
            for (int k = 0; k < 4; k++) {
                int i = 2 * x + k % 2 - width % 2, j = 2 * y + k / 2 - height % 2;
                if (i >= 0 && j >= 0)
                    sum += in[(size_t)j * (size_t)width + (size_t)i];
            }
            out[(size_t)y * (size_t)half_width + (size_t)x] = sum / 4;
        }
}

static oasis_status measure_ms(void *state, const view *v, double *value, oasis_message *message)
{
    static const double power[SCALES] = {0.0448, 0.2856, 0.3001, 0.2363, 0.1333};
    struct pyramid *p = state;
    double product = 1;
    for (int i = 0; i < SCALES; i++) {
        const float *x = i ? p->x[i] : v->now[OAS_CLIP]->luma, *y = i ? p->y[i] : v->now[OAS_REFERENCE]->luma;
        struct ssim s = {p->width[i], p->height[i], 1, x, y, 1, {0}, NULL, NULL};
        double ssim, cs;
        OAS_TRY(ssim_of(v->pool, &s, &ssim, &cs, message));
        product *= pow(i + 1 < SCALES ? cs : ssim, power[i]);
        if (i + 1 < SCALES) {
            halve(x, p->width[i], p->height[i], p->x[i + 1]);
            halve(y, p->width[i], p->height[i], p->y[i + 1]);
        }
    }
    *value = product;
    return OASIS_OK;
}

const metric oas_metric_ssim = {
    .info = {"ssim", "SSIM (luma)", "", 1, true, false},
    .least_side = TAPS,
    .measure = measure_ssim,
};
const metric oas_metric_ssim_rgb = {
    .info = {"ssim_rgb", "SSIM (mean of R, G, B)", "", 1, true, false},
    .least_side = TAPS,
    .measure = measure_rgb,
};
const metric oas_metric_ms_ssim = {
    .info = {"ms_ssim", "MS-SSIM (luma)", "", 1, true, false},
    .least_side = TAPS << (SCALES - 1),
    .open = pyramid_open,
    .close = pyramid_close,
    .measure = measure_ms,
};
