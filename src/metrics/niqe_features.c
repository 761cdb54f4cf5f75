/* Statistics of the blocks of a picture. */
#include "base/memory.h"
#include "metrics/niqe.h"

#include <math.h>
#include <string.h>

enum { TAPS = 7, REACH = 3, SCALE_FEATURES = 18, HALF_TAPS = 8 };

/* A picture at one scale, normalised. */
struct scale {
    int width, height, block;
    const float *luma;
    float *normal, *deviation;
    double weight[TAPS];
    double *columns; /* [workers][2][width + 2 REACH]: sums down the window of x and x^2, the border replicated */
};

struct task {
    const struct scale *scale[2];
    const double *shapes; /* the ratio of moments for alpha = 0.2, 0.201, .. 10 */
    niqe_blocks *blocks;
    int across; /* blocks in a row */
};

/* ---- normalising ------------------------------------------------------------------------------------------------- */

static int clamped(int i, int n)
{
    return i < 0 ? 0 : i < n ? i : n - 1;
}

static void normal_row(void *task, int64_t y, int worker)
{
    const struct scale *s = task;
    size_t w = (size_t)s->width, wide = w + 2 * REACH;
    double *sum = s->columns + (size_t)worker * 2 * wide, *squares = sum + wide;
    memset(sum, 0, 2 * wide * sizeof *sum);
    for (int j = 0; j < TAPS; j++) {
        const float *row = s->luma + (size_t)clamped((int)y + j - REACH, s->height) * w;
        for (size_t x = 0; x < w; x++) {
            sum[x + REACH] += s->weight[j] * (double)row[x];
            squares[x + REACH] += s->weight[j] * ((double)row[x] * (double)row[x]);
        }
    }
    for (size_t x = 0; x < REACH; x++) {
        sum[x] = sum[REACH];
        squares[x] = squares[REACH];
        sum[w + REACH + x] = sum[w + REACH - 1];
        squares[w + REACH + x] = squares[w + REACH - 1];
    }
    for (size_t x = 0; x < w; x++) {
        double mean = 0, square = 0;
        for (int i = 0; i < TAPS; i++) {
            mean += s->weight[i] * sum[x + (size_t)i];
            square += s->weight[i] * squares[x + (size_t)i];
        }
        double deviation = sqrt(fabs(square - mean * mean));
        size_t at = (size_t)y * w + x;
        s->normal[at] = (float)(((double)s->luma[at] - mean) / (deviation + 1));
        s->deviation[at] = (float)deviation;
    }
}

static oasis_status normalise(struct scale *s, oas_pool *pool, oasis_message *message)
{
    double sum = 0, sigma = 7. / 6;
    for (int i = 0; i < TAPS; i++)
        sum += s->weight[i] = exp(-(i - REACH) * (i - REACH) / (2 * sigma * sigma));
    for (int i = 0; i < TAPS; i++)
        s->weight[i] /= sum;
    size_t n = (size_t)s->width * (size_t)s->height;
    s->normal = oas_alloc(n, sizeof(float));
    s->deviation = oas_alloc(n, sizeof(float));
    s->columns = oas_alloc((size_t)oas_pool_workers(pool) * 2, ((size_t)s->width + 2 * REACH) * sizeof(double));
    if (!s->normal || !s->deviation || !s->columns)
        return oas_fail_memory(message, n * 2 * sizeof(float), "NIQE");
    oas_pool_run(pool, s->height, normal_row, s);
    return OASIS_OK;
}

static void scale_free(struct scale *s)
{
    oas_free(s->normal);
    oas_free(s->deviation);
    oas_free(s->columns);
}

/* ---- half the size ----------------------------------------------------------------------------------------------- */

static double cubic(double x)
{
    x = fabs(x);
    return x <= 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

static int mirrored(int i, int n)
{
    i = i < 0 ? -1 - i : i;
    return i < n ? i : 2 * n - 1 - i;
}

/* Both sides are even.  Output i lies between the inputs 2i and 2i + 1; the kernel is stretched to twice its width. */
static bool halve(const float *in, int width, int height, float *out)
{
    double weight[HALF_TAPS], sum = 0;
    for (int k = 0; k < HALF_TAPS; k++)
        sum += weight[k] = cubic((k - 3.5) / 2);
    for (int k = 0; k < HALF_TAPS; k++)
        weight[k] /= sum;
    double *down = oas_alloc((size_t)width, sizeof *down);
    for (int y = 0; y < height / 2 && down; y++) {
        memset(down, 0, (size_t)width * sizeof *down);
        for (int k = 0; k < HALF_TAPS; k++) {
            const float *row = in + (size_t)mirrored(2 * y + k - 3, height) * (size_t)width;
            for (int x = 0; x < width; x++)
                down[x] += weight[k] * (double)row[x];
        }
        for (int x = 0; x < width / 2; x++) {
            double value = 0;
            for (int k = 0; k < HALF_TAPS; k++)
                value += weight[k] * down[mirrored(2 * x + k - 3, width)];
            out[(size_t)y * (size_t)(width / 2) + (size_t)x] = (float)value;
        }
    }
    oas_free(down);
    return down != NULL;
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

struct shape {
    double alpha, left, right;
};

/* Fits an asymmetric generalised Gaussian by its moments (Lasmar, Stitou, Berthoumieu 2009). */
static struct shape fit_shape(const double *shapes, const double *values, int n)
{
    double left = 0, right = 0, absolute = 0;
    int n_left = 0, n_right = 0;
    for (int i = 0; i < n; i++) {
        double v = values[i];
        absolute += fabs(v);
        left += v < 0 ? v * v : 0;
        right += v > 0 ? v * v : 0;
        n_left += v < 0;
        n_right += v > 0;
    }
    double square = (left + right) / n, mean = absolute / n;
    left = sqrt(left / n_left); /* not a number when there are none */
    right = sqrt(right / n_right);
    double g = left / right, ratio = mean * mean / square;
    ratio *= (g * g * g + 1) * (g + 1) / ((g * g + 1) * (g * g + 1));
    if (!isfinite(ratio))
        return (struct shape){NAN, NAN, NAN};
    int low = 0, high = OAS_NIQE_SHAPES - 1; /* the last one below `ratio`, and the one behind it */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (shapes[middle] < ratio)
            low = middle;
        else
            high = middle;
    }
    int best = fabs(shapes[low] - ratio) <= fabs(shapes[high] - ratio) ? low : high;
    double alpha = 0.2 + 0.001 * best, spread = sqrt(tgamma(1 / alpha) / tgamma(3 / alpha));
    return (struct shape){alpha, left * spread, right * spread};
}

static void scale_features(const struct scale *s, const double *shapes, int bx, int by, double *f)
{
    static const int shift[4][2] = {{0, 1}, {1, 0}, {1, 1}, {1, -1}};
    int b = s->block;
    double value[OAS_NIQE_BLOCK * OAS_NIQE_BLOCK], product[OAS_NIQE_BLOCK * OAS_NIQE_BLOCK];
    for (int y = 0; y < b; y++)
        for (int x = 0; x < b; x++)
            value[y * b + x] = (double)s->normal[(size_t)(by * b + y) * (size_t)s->width + (size_t)(bx * b + x)];
    struct shape own = fit_shape(shapes, value, b * b);
    f[0] = own.alpha;
    f[1] = (own.left + own.right) / 2;
    for (int k = 0; k < 4; k++) {
        for (int y = 0; y < b; y++)
            for (int x = 0; x < b; x++)
                product[y * b + x] =
                    value[y * b + x] * value[(y + b - shift[k][0]) % b * b + (x + b - shift[k][1]) % b];
        struct shape p = fit_shape(shapes, product, b * b);
        f[2 + 4 * k] = p.alpha;
        f[3 + 4 * k] = (p.right - p.left) * tgamma(2 / p.alpha) / tgamma(1 / p.alpha);
        f[4 + 4 * k] = p.left;
        f[5 + 4 * k] = p.right;
    }
}

static void block_slab(void *task, int64_t i, int worker)
{
    (void)worker;
    const struct task *t = task;
    int bx = (int)i % t->across, by = (int)i / t->across;
    const struct scale *s = t->scale[0];
    for (int k = 0; k < 2; k++)
        scale_features(t->scale[k], t->shapes, bx, by, t->blocks->features[i] + k * SCALE_FEATURES);
    double sum = 0;
    for (int y = 0; y < s->block; y++)
        for (int x = 0; x < s->block; x++)
            sum += (double)s->deviation[(size_t)(by * s->block + y) * (size_t)s->width + (size_t)(bx * s->block + x)];
    t->blocks->sharpness[i] = sum / (s->block * s->block);
}

static bool make_shapes(double **shapes)
{
    double *s = *shapes = oas_alloc(OAS_NIQE_SHAPES, sizeof *s);
    for (int i = 0; s && i < OAS_NIQE_SHAPES; i++) {
        double a = 0.2 + 0.001 * i, two = tgamma(2 / a);
        s[i] = two * two / (tgamma(1 / a) * tgamma(3 / a));
    }
    return s != NULL;
}

/* Cuts the picture to whole blocks, and makes the one of half the size behind it. */
static float *cut(const float *luma, int width, int w, int h)
{
    size_t n = (size_t)w * (size_t)h;
    float *out = oas_alloc(n + n / 4, sizeof *out);
    for (int y = 0; y < h && out; y++)
        memcpy(out + (size_t)y * (size_t)w, luma + (size_t)y * (size_t)width, (size_t)w * sizeof *out);
    if (out && !halve(out, w, h, out + n)) {
        oas_free(out);
        out = NULL;
    }
    return out;
}

oasis_status oas_niqe_blocks_new(niqe_blocks *blocks, oas_pool *pool, const float *luma, int width, int height,
                                 oasis_message *message)
{
    int across = width / OAS_NIQE_BLOCK, down = height / OAS_NIQE_BLOCK, w = across * OAS_NIQE_BLOCK;
    int h = down * OAS_NIQE_BLOCK, n = across * down;
    float *pictures = cut(luma, width, w, h);
    double *shapes = NULL;
    *blocks = (niqe_blocks){.n = n};
    blocks->features = oas_alloc((size_t)n, sizeof *blocks->features);
    blocks->sharpness = oas_alloc((size_t)n, sizeof *blocks->sharpness);
    struct scale full = {.width = w, .height = h, .block = OAS_NIQE_BLOCK, .luma = pictures};
    struct scale half = {.width = w / 2, .height = h / 2, .block = OAS_NIQE_BLOCK / 2};
    struct task t = {{&full, &half}, NULL, blocks, across};
    oasis_status status = OASIS_OK;
    if (!pictures || !blocks->features || !blocks->sharpness || !make_shapes(&shapes)) {
        status = oas_fail_memory(message, (size_t)w * (size_t)h * sizeof(float), "NIQE");
    } else {
        half.luma = pictures + (size_t)w * (size_t)h;
        status = normalise(&full, pool, message);
        if (status >= 0)
            status = normalise(&half, pool, message);
        t.shapes = shapes;
        if (status >= 0)
            oas_pool_run(pool, n, block_slab, &t);
    }
    scale_free(&full);
    scale_free(&half);
    oas_free(shapes);
    oas_free(pictures);
    if (status < 0)
        oas_niqe_blocks_free(blocks);
    return status;
}

void oas_niqe_blocks_free(niqe_blocks *blocks)
{
    oas_free(blocks->features);
    oas_free(blocks->sharpness);
    *blocks = (niqe_blocks){0};
}
