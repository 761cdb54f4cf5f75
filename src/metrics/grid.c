/*
 * Grids: what a picture has at periods of 2, 4, 8 and 16 pixels beyond what it has at frequencies around.  Networks
 * leave such patterns where strides, patches or shuffled channels do not fit together, and no other metric sees them.
 *
 * Rows and columns of luma (0..255) are cut into overlapping pieces, their mean is taken away, and a Hann window is
 * laid over.  Let A(k) be the mean over pieces of the amplitude at k periods a piece.  Of a period P, k goes over its
 * odd harmonics up to half a period a pixel (even ones belong to P / 2), and the value is
 *
 *     sum over k of A(k) - A(k-2)^(1-t) A(k+2)^t,    t = ln(k / (k-2)) / ln((k+2) / (k-2)),
 *
 * in grey levels: 0 for noise and for every spectrum that is a power of frequency, the amplitude for a pattern on plain
 * grey.  Pictures that are regular themselves have something too: compare with the truth's value.
 */
#include "base/memory.h"
#include "metrics/metric.h"

#include <math.h>

enum {
    PIECE = 64,
    HOP = PIECE / 2,
    LINE_STEP = 3, /* every third line: enough, and in turn all lines of a grid */
    APART = 2,     /* the Hann window spreads a pattern to the frequencies beside its own, no further */
    MOST_HARMONICS = 4
};

/* At half a period a pixel amplitudes are real numbers, and noise has there sqrt(8) / pi of its mean elsewhere. */
static const double REAL_AMPLITUDE = 1.1107207345395915;
static const double PI = 3.141592653589793;

typedef struct triple {
    double at, below, above;
} triple;

/* Lines one way, and what was summed over the pieces of each. */
struct lines {
    const float *luma;
    int length;        /* of a line */
    size_t step, next; /* from a pixel to the one after it, from a line to the one that is looked at next */
    int harmonics, period;
    const double *cosine, *window; /* [PIECE] */
    triple (*sums)[MOST_HARMONICS];
};

static double amplitude(const struct lines *l, const double *x, int k)
{
    double re = 0, im = 0;
    for (int i = 0; i < PIECE; i++) {
        re += x[i] * l->cosine[i * k % PIECE];
        im += x[i] * l->cosine[(i * k + PIECE / 4) % PIECE];
    }
    return sqrt(re * re + im * im) * 4 / PIECE; /* the window's sum is PIECE / 2 */
}

static void measure_line(void *task, int64_t line, int worker)
{
    (void)worker;
    const struct lines *l = task;
    const float *from = l->luma + (size_t)line * l->next;
    for (int start = 0; start + PIECE <= l->length; start += HOP) {
        double x[PIECE], mean = 0;
        for (int i = 0; i < PIECE; i++)
            mean += x[i] = (double)from[(size_t)(start + i) * l->step];
        for (int i = 0; i < PIECE; i++)
            x[i] = (x[i] - mean / PIECE) * l->window[i];
        for (int h = 0; h < l->harmonics; h++) {
            int k = (2 * h + 1) * PIECE / l->period;
            triple *sum = &l->sums[line][h];
            sum->at += amplitude(l, x, k) * (2 * k == PIECE ? REAL_AMPLITUDE : 1);
            sum->below += amplitude(l, x, k - APART);
            sum->above += amplitude(l, x, k + APART);
        }
    }
}

/* Adds the lines' sums to `total`, in order; returns how many pieces they were. */
static double add_lines(const view *v, struct lines *l, int count, triple *total)
{
    oas_pool_run(v->pool, count, measure_line, l);
    for (int i = 0; i < count; i++)
        for (int h = 0; h < l->harmonics; h++) {
            total[h].at += l->sums[i][h].at;
            total[h].below += l->sums[i][h].below;
            total[h].above += l->sums[i][h].above;
        }
    return (double)count * ((l->length - PIECE) / HOP + 1);
}

static oasis_status measure(const view *v, int period, double *value, oasis_message *message)
{
    double cosine[PIECE], window[PIECE], pieces = 0;
    triple total[MOST_HARMONICS] = {{0}};
    for (int i = 0; i < PIECE; i++) {
        cosine[i] = cos(2 * PI * i / PIECE);
        window[i] = 0.5 - 0.5 * cosine[i];
    }
    struct lines l = {.luma = v->now[OAS_CLIP]->luma, .period = period, .cosine = cosine, .window = window};
    l.harmonics = period < 4 ? 1 : period / 4;
    for (int down = 0; down < 2; down++) {
        int count = ((down ? v->width : v->height) + LINE_STEP - 1) / LINE_STEP;
        l.length = down ? v->height : v->width;
        l.step = down ? (size_t)v->width : 1;
        l.next = LINE_STEP * (down ? 1 : (size_t)v->width);
        l.sums = oas_alloc((size_t)count, sizeof *l.sums);
        if (!l.sums)
            return oas_fail_memory(message, (size_t)count * sizeof *l.sums, "measuring");
        pieces += add_lines(v, &l, count, total);
        oas_free(l.sums);
    }
    *value = 0;
    for (int h = 0; h < l.harmonics; h++) {
        int k = (2 * h + 1) * PIECE / period;
        double t = log((double)k / (k - APART)) / log((double)(k + APART) / (k - APART));
        *value += (total[h].at - pow(total[h].below, 1 - t) * pow(total[h].above, t)) / pieces;
    }
    return OASIS_OK;
}

#define GRID(period)                                                                                                   \
    static oasis_status measure_##period(void *state, const view *v, double *value, oasis_message *message)            \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        return measure(v, period, value, message);                                                                     \
    }                                                                                                                  \
    const metric oas_metric_grid_##period = {                                                                          \
        .info = {"grid_" #period, "grid of " #period " pixels", "levels", -1, false, false},                           \
        .note = "compare with the truth's",                                                                            \
        .least_side = PIECE,                                                                                           \
        .measure = measure_##period,                                                                                   \
    };

GRID(2)
GRID(4)
GRID(8)
GRID(16)
