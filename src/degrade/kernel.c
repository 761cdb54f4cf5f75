/* Blur kernels and filtering with them. */
#include "degrade/kernel.h"

#include <math.h>
#include <string.h>

enum { SIDE = OAS_KERNEL_SIDE, ROWS_PER_SLAB = 8, BLOCK = 16 };

static const double PI = 3.14159265358979323846;

/* ---- the window -------------------------------------------------------------------------------------------------- */

static double kernel_value(const kernel_shape *k, double x, double y)
{
    if (k->kind == KERNEL_SINC) {
        double r = sqrt(x * x + y * y);
        return r > 0 ? k->omega * j1(k->omega * r) / (2 * PI * r) : k->omega * k->omega / (4 * PI);
    }
    bool iso = k->kind == KERNEL_ISO || k->kind == KERNEL_GENERALISED_ISO || k->kind == KERNEL_PLATEAU_ISO;
    double angle = iso ? 0 : k->angle, sigma_y = iso ? k->sigma_x : k->sigma_y;
    double u = (cos(angle) * x + sin(angle) * y) / k->sigma_x, v = (cos(angle) * y - sin(angle) * x) / sigma_y;
    double q = u * u + v * v;
    switch (k->kind) {
    case KERNEL_GENERALISED_ISO:
    case KERNEL_GENERALISED_ANISO: return exp(-0.5 * pow(q, k->beta));
    case KERNEL_PLATEAU_ISO:
    case KERNEL_PLATEAU_ANISO: return 1 / (1 + pow(q, k->beta));
    case KERNEL_ISO:
    case KERNEL_ANISO:
    case KERNEL_SINC:
    case KERNEL_KINDS: break;
    }
    return exp(-0.5 * q);
}

void oas_kernel_window(const kernel_shape *shape, double *weight)
{
    int side = shape->side, centre = side / 2;
    double sum = 0;
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            sum += weight[y * side + x] = kernel_value(shape, x - centre, y - centre);
    for (int i = 0; i < side * side; i++)
        weight[i] /= sum;
}

/* The absolute sum of the outermost ring of what lies `cut` from the edge. */
static double ring(const double *weight, int side, int cut)
{
    double sum = 0;
    for (int y = cut; y < side - cut; y++)
        for (int x = cut; x < side - cut; x++)
            if (y == cut || x == cut || y == side - 1 - cut || x == side - 1 - cut)
                sum += fabs(weight[y * side + x]);
    return sum;
}

void oas_kernel_make(blur_kernel *kernel, const kernel_shape *shape)
{
    static const double NEGLIGIBLE = 1e-5, PRODUCT = 1e-9;
    double window[SIDE * SIDE], sum = 0, lost = 0;
    int side = shape->side, cut = 0;
    oas_kernel_window(shape, window);
    while (side - 2 * cut > 1 && lost + ring(window, side, cut) < NEGLIGIBLE)
        lost += ring(window, side, cut++);
    int n = side - 2 * cut;
    for (int y = 0; y < n; y++)
        for (int x = 0; x < n; x++)
            sum += window[(y + cut) * side + x + cut];
    kernel->side = n;
    for (int y = 0; y < n; y++)
        for (int x = 0; x < n; x++)
            kernel->weight[y * n + x] = (float)(window[(y + cut) * side + x + cut] / sum);
    /* w[y][x] = w[y][c] w[c][x] / w[c][c] when it is a product; symmetric, so one line of it tells all. */
    const double *middle = window + side / 2 * side;
    double centre = middle[side / 2];
    kernel->separable = centre > 0;
    for (int y = 0; y < side && kernel->separable; y++)
        for (int x = 0; x < side; x++)
            if (fabs(window[y * side + x] * centre - middle[y] * middle[x]) > PRODUCT * centre)
                kernel->separable = false;
    for (int x = 0; x < n && kernel->separable; x++)
        kernel->across[x] = (float)(middle[x + cut] / sqrt(centre * sum));
}

/* ---- filtering --------------------------------------------------------------------------------------------------- */

struct pass {
    const blur_kernel *kernel;
    const picture *in, *padded;
    picture *out;
};

/* i mirrored into 0..n-1 without repeating the edges. */
static int mirrored(int i, int n)
{
    if (n == 1)
        return 0;
    int period = 2 * (n - 1);
    i %= period;
    i = i < 0 ? i + period : i;
    return i < n ? i : period - i;
}

/* out[i] = sum of weight[k] * tap[k][i], blocks of pixels in registers.  `out` may be tap[0]: no tap lies before it. */
static void weigh(size_t n, int taps, const float *weight, const float *const *tap, float *out)
{
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        float sum[BLOCK] = {0};
        for (int k = 0; k < taps; k++) {
            float w = weight[k];
            const float *from = tap[k] + i;
            for (int b = 0; b < BLOCK; b++)
                sum[b] += w * from[b];
        }
        memcpy(out + i, sum, sizeof sum);
    }
    for (; i < n; i++) {
        float sum = 0;
        for (int k = 0; k < taps; k++)
            sum += weight[k] * tap[k][i];
        out[i] = sum;
    }
}

/* Rows of the padded picture; for a separable kernel already filtered across, and as wide as the picture. */
static void pad_slab(void *task, int64_t slab, int worker)
{
    (void)worker;
    const struct pass *p = task;
    int r = p->kernel->side / 2, width = p->in->width, wide = width + 2 * r;
    for (int64_t y = slab * ROWS_PER_SLAB; y < (slab + 1) * ROWS_PER_SLAB && y < p->padded->height; y++) {
        const float *from = p->in->rgb + (size_t)mirrored((int)y - r, p->in->height) * (size_t)width * 3;
        float *to = p->padded->rgb + (size_t)y * (size_t)wide * 3;
        memcpy(to + 3 * r, from, (size_t)width * 3 * sizeof *to);
        for (int x = 0; x < r; x++) {
            memcpy(to + 3 * x, from + 3 * mirrored(x - r, width), 3 * sizeof *to);
            memcpy(to + 3 * (width + r + x), from + 3 * mirrored(width + x, width), 3 * sizeof *to);
        }
        if (!p->kernel->separable)
            continue;
        const float *tap[SIDE];
        for (int k = 0; k < p->kernel->side; k++)
            tap[k] = to + 3 * k;
        weigh((size_t)width * 3, p->kernel->side, p->kernel->across, tap, to);
    }
}

static void filter_slab(void *task, int64_t slab, int worker)
{
    (void)worker;
    const struct pass *p = task;
    const blur_kernel *k = p->kernel;
    int side = k->side;
    size_t wide = (size_t)(p->in->width + 2 * (side / 2)) * 3, n = (size_t)p->out->width * 3;
    for (int64_t y = slab * ROWS_PER_SLAB; y < (slab + 1) * ROWS_PER_SLAB && y < p->out->height; y++) {
        const float *tap[SIDE * SIDE];
        for (int j = 0; j < side; j++)
            for (int i = 0; i < (k->separable ? 1 : side); i++)
                tap[k->separable ? j : j * side + i] = p->padded->rgb + (size_t)(y + j) * wide + 3 * i;
        weigh(n, k->separable ? side : side * side, k->separable ? k->across : k->weight, tap,
              p->out->rgb + (size_t)y * n);
    }
}

oasis_status oas_filter(const blur_kernel *kernel, oas_pool *pool, const picture *in, picture *padded, picture *out,
                        oasis_message *message)
{
    int r = kernel->side / 2;
    OAS_TRY(oas_picture_size(padded, in->width + 2 * r, in->height + 2 * r, message));
    struct pass p = {kernel, in, padded, out};
    oas_pool_run(pool, (padded->height + ROWS_PER_SLAB - 1) / ROWS_PER_SLAB, pad_slab, &p);
    oas_pool_run(pool, (out->height + ROWS_PER_SLAB - 1) / ROWS_PER_SLAB, filter_slab, &p);
    return OASIS_OK;
}
