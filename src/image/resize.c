/*
 * Resampling in two passes: every input row to the output's width, then every output row from rows of that.
 *
 *     in [ih][iw][c] --across--> mid [ih][pw][c] --down--> out [ph][pw][c]
 *
 * Padding costs no code: the tables of the padded columns and rows repeat the last one of the picture.
 */
#include "image/resize.h"

#include "base/memory.h"

#include <math.h>

enum { MAX_SIDE = 32768, MAX_CHANNELS = 16, ROWS_PER_SLAB = 16 };

/* How one axis is resampled: output i = sum over k of weight[i*taps + k] * input[index[i*taps + k]]. */
struct axis {
    int taps;
    int *index; /* within the input, clamped */
    float *weight;
};

struct oas_resizer {
    oas_resize_spec spec;
    struct axis across, down;
    float *mid; /* [in_height][padded_width][channels] */
};

/* ---- tables ------------------------------------------------------------------------------------------------------ */

static double cubic(double x, double a)
{
    x = fabs(x);
    if (x <= 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((x - 5) * x + 8) * x * a - 4 * a : 0;
}

static int axis_taps(oas_filter filter, int in, int out)
{
    switch (filter) {
    case OAS_FILTER_BICUBIC: return 4;
    case OAS_FILTER_BILINEAR: return 2;
    case OAS_FILTER_AREA: break;
    }
    return in / out + 2; /* a stretch of in/out pixels touches at most so many */
}

/* The part of output pixel i, counted in outputs, that input pixel j covers; in units where an input is `out` long and
 * an output `in` long, so that all borders are whole numbers. */
static double area_weight(int i, int j, int in, int out)
{
    int64_t left = (int64_t)i * in, right = left + in;
    int64_t a = (int64_t)j * out, b = a + out;
    int64_t covered = (b < right ? b : right) - (a > left ? a : left);
    return covered > 0 ? (double)covered / in : 0;
}

static void axis_fill(struct axis *axis, const oas_resize_spec *s, int in, int out, int padded)
{
    int taps = axis->taps;
    for (int i = 0; i < padded; i++) {
        int o = i < out ? i : out - 1;
        double x = (o + 0.5) * in / out - 0.5;
        int first = s->filter == OAS_FILTER_AREA ? (int)((int64_t)o * in / out)
                                                 : (int)floor(x) - (s->filter == OAS_FILTER_BICUBIC);
        for (int k = 0; k < taps; k++) {
            int j = first + k;
            double w = s->filter == OAS_FILTER_AREA      ? area_weight(o, j, in, out)
                       : s->filter == OAS_FILTER_BICUBIC ? cubic(x - j, s->a)
                                                         : 1 - fabs(x - j);
            axis->index[i * taps + k] = j < 0 ? 0 : j < in ? j : in - 1;
            axis->weight[i * taps + k] = (float)w;
        }
    }
}

static bool axis_new(struct axis *axis, const oas_resize_spec *s, int in, int out, int padded)
{
    axis->taps = axis_taps(s->filter, in, out);
    size_t n = (size_t)axis->taps * (size_t)padded; /* at most (32768 + 2) * 32768 */
    axis->index = oas_alloc(n, sizeof *axis->index);
    axis->weight = oas_alloc(n, sizeof *axis->weight);
    if (!axis->index || !axis->weight)
        return false;
    axis_fill(axis, s, in, out, padded);
    return true;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

/* Replaces "no padding" by the sizes; false when something is out of range. */
static bool spec_complete(oas_resize_spec *s)
{
    if (!s->padded_width)
        s->padded_width = s->out_width;
    if (!s->padded_height)
        s->padded_height = s->out_height;
    const int sides[] = {s->in_width, s->in_height, s->out_width, s->out_height, s->padded_width, s->padded_height};
    for (int i = 0; i < 6; i++)
        if (sides[i] < 1 || sides[i] > MAX_SIDE)
            return false;
    return s->padded_width >= s->out_width && s->padded_height >= s->out_height && s->channels >= 1 &&
           s->channels <= MAX_CHANNELS && s->filter >= OAS_FILTER_BICUBIC && s->filter <= OAS_FILTER_AREA &&
           (s->filter != OAS_FILTER_BICUBIC || (s->a >= -2 && s->a <= 0));
}

size_t oas_resizer_bytes(const oas_resize_spec *spec)
{
    oas_resize_spec s = *spec;
    if (!spec_complete(&s))
        return 0;
    size_t across = (size_t)s.padded_width * (size_t)axis_taps(s.filter, s.in_width, s.out_width);
    size_t down = (size_t)s.padded_height * (size_t)axis_taps(s.filter, s.in_height, s.out_height);
    size_t mid = (size_t)s.in_height * (size_t)s.padded_width * (size_t)s.channels;
    return sizeof(oas_resizer) + (across + down) * (sizeof(int) + sizeof(float)) + mid * sizeof(float);
}

oasis_status oas_resizer_new(oas_resizer **resizer, const oas_resize_spec *spec, oasis_message *message)
{
    oas_resize_spec s = *spec;
    if (!spec_complete(&s))
        return oas_fail(
            message, OASIS_E_ARGUMENT,
            "resize: cannot make %dx%d (padded to %dx%d) from %dx%d with %d channels, filter %d, a %g; sides "
            "are 1 to %d, the padded size is at least the picture's, channels 1 to %d, a is -2 to 0",
            s.out_width, s.out_height, s.padded_width, s.padded_height, s.in_width, s.in_height, s.channels,
            (int)s.filter, s.a, MAX_SIDE, MAX_CHANNELS);
    oas_resizer *r = oas_alloc(1, sizeof *r);
    if (r) {
        r->spec = s;
        r->mid = oas_alloc((size_t)s.in_height * (size_t)s.padded_width, (size_t)s.channels * sizeof(float));
        if (r->mid && axis_new(&r->across, &s, s.in_width, s.out_width, s.padded_width) &&
            axis_new(&r->down, &s, s.in_height, s.out_height, s.padded_height)) {
            *resizer = r;
            return OASIS_OK;
        }
    }
    oas_resizer_free(&r);
    return oas_fail_memory(message, oas_resizer_bytes(spec), "resampling a picture");
}

void oas_resizer_free(oas_resizer **resizer)
{
    oas_resizer *r = *resizer;
    if (!r)
        return;
    oas_free(r->across.index);
    oas_free(r->across.weight);
    oas_free(r->down.index);
    oas_free(r->down.weight);
    oas_free(r->mid);
    oas_free(r);
    *resizer = NULL;
}

/* ---- a frame ----------------------------------------------------------------------------------------------------- */

struct pass {
    const oas_resizer *r;
    const float *in;
    float *out;
    float scale, offset;
};

/* One row to the new width.  Called with constant taps and channels where it matters, for the compiler to unroll. */
static inline void row_across(const struct axis *axis, int width, int taps, int channels, const float *restrict in,
                              float *restrict out)
{
    for (int i = 0; i < width; i++) {
        const int *index = axis->index + (size_t)i * (size_t)taps;
        const float *weight = axis->weight + (size_t)i * (size_t)taps;
        for (int c = 0; c < channels; c++) {
            float sum = 0;
            for (int k = 0; k < taps; k++)
                sum += weight[k] * in[(size_t)index[k] * (size_t)channels + (size_t)c];
            out[(size_t)i * (size_t)channels + (size_t)c] = sum;
        }
    }
}

static void slab_across(void *task, int64_t slab, int worker)
{
    (void)worker;
    const struct pass *p = task;
    const oas_resize_spec *s = &p->r->spec;
    const struct axis *axis = &p->r->across;
    int64_t first = slab * ROWS_PER_SLAB, end = first + ROWS_PER_SLAB;
    for (int64_t y = first; y < end && y < s->in_height; y++) {
        const float *in = p->in + y * s->in_width * s->channels;
        float *out = p->r->mid + y * s->padded_width * s->channels;
        if (axis->taps == 4 && s->channels == 3)
            row_across(axis, s->padded_width, 4, 3, in, out);
        else if (axis->taps == 2 && s->channels == 3)
            row_across(axis, s->padded_width, 2, 3, in, out);
        else
            row_across(axis, s->padded_width, axis->taps, s->channels, in, out);
    }
}

/* out = offset + sum of w[k] * row k, over n values; four rows at a time. */
static void row_down4(size_t n, const float *const row[4], const float w[4], float offset, float *restrict out)
{
    const float *r0 = row[0], *r1 = row[1], *r2 = row[2], *r3 = row[3];
    for (size_t i = 0; i < n; i++)
        out[i] = w[0] * r0[i] + w[1] * r1[i] + w[2] * r2[i] + w[3] * r3[i] + offset;
}

static void row_add(size_t n, const float *restrict row, float w, float *restrict out)
{
    for (size_t i = 0; i < n; i++)
        out[i] += w * row[i];
}

static void slab_down(void *task, int64_t slab, int worker)
{
    (void)worker;
    const struct pass *p = task;
    const oas_resize_spec *s = &p->r->spec;
    const struct axis *axis = &p->r->down;
    size_t n = (size_t)s->padded_width * (size_t)s->channels;
    int64_t first = slab * ROWS_PER_SLAB, end = first + ROWS_PER_SLAB;
    for (int64_t y = first; y < end && y < s->padded_height; y++) {
        const int *index = axis->index + y * axis->taps;
        const float *weight = axis->weight + y * axis->taps;
        float *out = p->out + (size_t)y * n;
        const float *row[4];
        float w[4];
        for (int k = 0; k < 4; k++) {
            int t = k < axis->taps ? k : axis->taps - 1; /* fewer taps: a row of weight 0 that is there to be read */
            row[k] = p->r->mid + (size_t)index[t] * n;
            w[k] = k < axis->taps ? weight[k] * p->scale : 0;
        }
        row_down4(n, row, w, p->offset, out);
        for (int k = 4; k < axis->taps; k++)
            row_add(n, p->r->mid + (size_t)index[k] * n, weight[k] * p->scale, out);
    }
}

void oas_resize(oas_resizer *resizer, oas_pool *pool, const float *in, float *out, float scale, float offset)
{
    struct pass p = {resizer, in, out, scale, offset};
    oas_pool_run(pool, (resizer->spec.in_height + ROWS_PER_SLAB - 1) / ROWS_PER_SLAB, slab_across, &p);
    oas_pool_run(pool, (resizer->spec.padded_height + ROWS_PER_SLAB - 1) / ROWS_PER_SLAB, slab_down, &p);
}
