/*
 * SqueezeNet feature distance: at each of seven taps the features of both pictures are brought to length 1 along the
 * channels, and the squared difference is summed over channels and averaged over pixels; the mean over taps.  LPIPS
 * without its learnt weights, and with Caffe's weights instead of torchvision's: never to be called LPIPS.
 */
#include "base/memory.h"
#include "metrics/metric.h"
#include "metrics/squeezenet.h"

#include <math.h>
#include <string.h>

struct features {
    squeezenet net;
    float *kept[OAS_SQUEEZENET_TAPS]; /* of the reference */
    size_t room[OAS_SQUEEZENET_TAPS];
    oas_pool *pool;
    double sum;
};

static void features_close(void *state)
{
    struct features *f = state;
    if (!f)
        return;
    for (int t = 0; t < OAS_SQUEEZENET_TAPS; t++)
        oas_free(f->kept[t]);
    oas_squeezenet_free(&f->net);
    oas_free(f);
}

static oasis_status features_open(void **state, const view *v, oasis_message *message)
{
    struct features *f = oas_alloc(1, sizeof *f);
    *state = f;
    if (!f)
        return oas_fail_memory(message, sizeof *f, "SqueezeNet");
    f->pool = v->pool;
    return oas_squeezenet_read(&f->net, v->options->squeezenet, message);
}

static oasis_status keep(void *user, int tap, int width, int height, int channels, const float *features,
                         oasis_message *message)
{
    struct features *f = user;
    size_t n = (size_t)width * (size_t)height * (size_t)channels;
    if (f->room[tap] < n) {
        oas_free(f->kept[tap]);
        f->kept[tap] = oas_alloc(n, sizeof(float));
        f->room[tap] = f->kept[tap] ? n : 0;
    }
    if (!f->kept[tap])
        return oas_fail_memory(message, n * sizeof(float), "SqueezeNet");
    memcpy(f->kept[tap], features, n * sizeof(float));
    return OASIS_OK;
}

struct two {
    const float *a, *b;
    int width, channels;
};

static double compare_row(void *task, int y, int worker)
{
    (void)worker;
    const struct two *t = task;
    double sum = 0;
    for (int x = 0; x < t->width; x++) {
        size_t at = ((size_t)y * (size_t)t->width + (size_t)x) * (size_t)t->channels;
        const float *a = t->a + at, *b = t->b + at;
        double aa = 0, bb = 0;
        for (int c = 0; c < t->channels; c++) {
            aa += (double)a[c] * (double)a[c];
            bb += (double)b[c] * (double)b[c];
        }
        aa = 1 / (sqrt(aa) + 1e-10);
        bb = 1 / (sqrt(bb) + 1e-10);
        for (int c = 0; c < t->channels; c++) {
            double d = (double)a[c] * aa - (double)b[c] * bb;
            sum += d * d;
        }
    }
    return sum;
}

static oasis_status compare(void *user, int tap, int width, int height, int channels, const float *features,
                            oasis_message *message)
{
    struct features *f = user;
    struct two t = {features, f->kept[tap], width, channels};
    double sum;
    OAS_TRY(oas_sum_rows(f->pool, height, compare_row, &t, &sum, message));
    f->sum += sum / ((double)width * height) / OAS_SQUEEZENET_TAPS;
    return OASIS_OK;
}

static oasis_status features_measure(void *state, const view *v, double *value, oasis_message *message)
{
    struct features *f = state;
    f->sum = 0;
    OAS_TRY(oas_squeezenet_run(&f->net, v->pool, v->now[OAS_REFERENCE]->rgb, v->width, v->height, keep, f, message));
    OAS_TRY(oas_squeezenet_run(&f->net, v->pool, v->now[OAS_CLIP]->rgb, v->width, v->height, compare, f, message));
    *value = f->sum;
    return OASIS_OK;
}

static bool with_file(const oasis_metrics_options *options)
{
    return options->squeezenet != NULL;
}

const metric oas_metric_squeezenet = {
    .info = {"squeezenet", "SqueezeNet feature distance", "", -1, true, false},
    .note = "not LPIPS",
    .least_side = OAS_SQUEEZENET_LEAST_SIDE,
    .possible = with_file,
    .open = features_open,
    .close = features_close,
    .measure = features_measure,
};
