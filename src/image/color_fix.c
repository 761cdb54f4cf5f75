/*
 * Colour correction of one frame.  Blurs are linear, and the details of x are x - low(x); so the wavelet correction is
 *     x - low(x) + low(y)  =  x + low(y - x)
 * and only the difference is blurred.
 */
#include "image/color_fix.h"

#include <math.h>
#include <string.h>

enum { ROWS_PER_SLAB = 16 };

static int64_t slabs_of(int height)
{
    return (height + ROWS_PER_SLAB - 1) / ROWS_PER_SLAB;
}

size_t oas_color_fix_scratch(oasis_color_fix kind, int width, int height, const oas_pool *pool)
{
    size_t row = (size_t)width * 3;
    switch (kind) {
    case OASIS_COLOR_FIX_NONE: return 0;
    case OASIS_COLOR_FIX_WAVELET: return row * (2 * (size_t)height + (size_t)oas_pool_workers(pool));
    case OASIS_COLOR_FIX_ADAIN: break;
    }
    return (size_t)slabs_of(height) * 12 * (sizeof(double) / sizeof(float));
}

/* ---- wavelet ----------------------------------------------------------------------------------------------------- */

struct wavelet {
    int width, height, distance; /* of the taps, pixels */
    const float *in;
    float *out;
    float *rows; /* [workers][width*3] */
    float *rgb;  /* set at the last level: the blurred row is added here */
};

/* out = (in shifted left + 2 in + in shifted right) / 4, shifts clamped at the ends of the row. */
static void blur_row(int width, int distance, const float *restrict in, float *restrict out)
{
    int n = width * 3, d = distance * 3;
    int left = d < n ? d : n, right = n - d > left ? n - d : left;
    for (int i = 0; i < left; i++)
        out[i] = 0.25f * (in[i % 3] + 2 * in[i] + in[i + d < n ? i + d : n - 3 + i % 3]);
    for (int i = left; i < right; i++)
        out[i] = 0.25f * (in[i - d] + 2 * in[i] + in[i + d]);
    for (int i = right; i < n; i++)
        out[i] = 0.25f * (in[i - d] + 2 * in[i] + in[n - 3 + i % 3]);
}

static void wavelet_slab(void *task, int64_t slab, int worker)
{
    const struct wavelet *w = task;
    size_t n = (size_t)w->width * 3;
    float *row = w->rows + (size_t)worker * n;
    int first = (int)slab * ROWS_PER_SLAB, end = first + ROWS_PER_SLAB < w->height ? first + ROWS_PER_SLAB : w->height;
    for (int y = first; y < end; y++) {
        int up = y > w->distance ? y - w->distance : 0;
        int down = y + w->distance < w->height ? y + w->distance : w->height - 1;
        const float *a = w->in + (size_t)up * n, *b = w->in + (size_t)y * n, *c = w->in + (size_t)down * n;
        for (size_t i = 0; i < n; i++)
            row[i] = 0.25f * (a[i] + 2 * b[i] + c[i]);
        float *out = w->out + (size_t)y * n;
        blur_row(w->width, w->distance, row, out);
        if (w->rgb)
            for (size_t i = 0; i < n; i++)
                w->rgb[(size_t)y * n + i] += out[i];
    }
}

static void fix_wavelet(oas_pool *pool, int width, int height, float *rgb, const float *reference, float *scratch)
{
    size_t n = (size_t)width * (size_t)height * 3;
    float *a = scratch, *b = a + n;
    for (size_t i = 0; i < n; i++)
        a[i] = reference[i] - rgb[i];
    struct wavelet w = {.width = width, .height = height, .rows = b + n};
    for (int level = 0; level < OAS_COLOR_FIX_LEVELS; level++) {
        w.distance = 1 << level;
        w.in = level % 2 ? b : a;
        w.out = level % 2 ? a : b;
        w.rgb = level == OAS_COLOR_FIX_LEVELS - 1 ? rgb : NULL;
        oas_pool_run(pool, slabs_of(height), wavelet_slab, &w);
    }
}

/* ---- AdaIN ------------------------------------------------------------------------------------------------------- */

struct adain {
    int width, height;
    float *rgb;
    const float *reference;
    double *sums; /* [slabs][12]: of x, x*x, y, y*y, three channels each */
    double gain[3], shift[3];
};

static void sum_slab(void *task, int64_t slab, int worker)
{
    (void)worker;
    const struct adain *a = task;
    int64_t first = slab * ROWS_PER_SLAB * a->width;
    int64_t end = first + (int64_t)ROWS_PER_SLAB * a->width, all = (int64_t)a->width * a->height;
    double sum[12] = {0};
    for (int64_t i = first; i < end && i < all; i++)
        for (int c = 0; c < 3; c++) {
            double x = (double)a->rgb[i * 3 + c], y = (double)a->reference[i * 3 + c];
            sum[c] += x;
            sum[3 + c] += x * x;
            sum[6 + c] += y;
            sum[9 + c] += y * y;
        }
    memcpy(a->sums + slab * 12, sum, sizeof sum);
}

static void adain_slab(void *task, int64_t slab, int worker)
{
    (void)worker;
    const struct adain *a = task;
    int64_t first = slab * ROWS_PER_SLAB * a->width;
    int64_t end = first + (int64_t)ROWS_PER_SLAB * a->width, all = (int64_t)a->width * a->height;
    for (int64_t i = first; i < end && i < all; i++)
        for (int c = 0; c < 3; c++)
            a->rgb[i * 3 + c] = (float)((double)a->rgb[i * 3 + c] * a->gain[c] + a->shift[c]);
}

static double deviation(double sum, double squares, double n)
{
    double mean = sum / n, variance = squares / n - mean * mean;
    return sqrt((variance > 0 ? variance : 0) + 1e-5);
}

static void fix_adain(oas_pool *pool, int width, int height, float *rgb, const float *reference, float *scratch)
{
    int64_t slabs = slabs_of(height);
    struct adain a = {.width = width, .height = height, .rgb = rgb, .reference = reference};
    a.sums = (double *)(void *)scratch; /* scratch memory is aligned like every block of oas_alloc or an arena */
    oas_pool_run(pool, slabs, sum_slab, &a);
    double sum[12] = {0}, n = (double)width * height;
    for (int64_t s = 0; s < slabs; s++)
        for (int k = 0; k < 12; k++)
            sum[k] += a.sums[s * 12 + k];
    for (int c = 0; c < 3; c++) {
        a.gain[c] = deviation(sum[6 + c], sum[9 + c], n) / deviation(sum[c], sum[3 + c], n);
        a.shift[c] = sum[6 + c] / n - sum[c] / n * a.gain[c];
    }
    oas_pool_run(pool, slabs, adain_slab, &a);
}

void oas_color_fix(oasis_color_fix kind, oas_pool *pool, int width, int height, float *rgb, const float *reference,
                   float *scratch)
{
    switch (kind) {
    case OASIS_COLOR_FIX_NONE: return;
    case OASIS_COLOR_FIX_WAVELET: fix_wavelet(pool, width, height, rgb, reference, scratch); return;
    case OASIS_COLOR_FIX_ADAIN: fix_adain(pool, width, height, rgb, reference, scratch); return;
    }
}
