/* SqueezeNet forward: pictures with their channels innermost, two pixels by sixteen channels in registers. */
#include "metrics/squeezenet.h"

#include "base/memory.h"

#include <string.h>

enum { LANES = 16, PIXELS = 2 };

/* So many channels side by side; gcc and clang split it into the registers that the machine has. */
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

/* Activations, with `border` zeros around when a 3x3 convolution follows. */
struct map {
    int width, height, channels, border;
    float *data; /* [height + 2 border][width + 2 border][channels] */
};

static oasis_status map_new(struct map *m, int width, int height, int channels, int border, oasis_message *message)
{
    size_t n = ((size_t)width + 2 * (size_t)border) * ((size_t)height + 2 * (size_t)border);
    *m = (struct map){width, height, channels, border, oas_alloc(n, (size_t)channels * sizeof(float))};
    return m->data ? OASIS_OK : oas_fail_memory(message, n * (size_t)channels * sizeof(float), "SqueezeNet");
}

static void map_free(struct map *m)
{
    oas_free(m->data);
    m->data = NULL;
}

/* The first channel of pixel (x, y); x and y may reach into the border. */
static float *map_at(const struct map *m, int x, int y)
{
    size_t wide = (size_t)m->width + 2 * (size_t)m->border;
    return m->data + ((size_t)(y + m->border) * wide + (size_t)(x + m->border)) * (size_t)m->channels;
}

/* ---- convolution and relu ---------------------------------------------------------------------------------------- */

struct conv_task {
    const squeezenet_conv *conv;
    const struct map *in, *out;
    int stride, reach; /* reach: of the window to the left and up of the pixel it stands for */
    int first;         /* channel of `out` to begin with */
};

/* LANES channels from `lane` on, of PIXELS pixels whose windows begin at in[0] and in[1]. */
static void conv_block(const squeezenet_conv *c, size_t row, int lane, const float *const in[PIXELS],
                       float *const out[PIXELS])
{
    lanes sum[PIXELS];
    for (int p = 0; p < PIXELS; p++)
        memcpy(&sum[p], c->bias + lane, sizeof sum[p]);
    const float *weight = c->weight + lane;
    for (int k = 0; k < c->side * c->side; k++) {
        size_t offset = (size_t)(k / c->side) * row + (size_t)(k % c->side) * (size_t)c->in;
        for (int i = 0; i < c->in; i++, weight += c->out) {
            lanes w;
            memcpy(&w, weight, sizeof w);
            for (int p = 0; p < PIXELS; p++)
                sum[p] += in[p][offset + (size_t)i] * w;
        }
    }
    for (int p = 0; p < PIXELS; p++)
        for (int l = 0; l < LANES; l++)
            out[p][l] = sum[p][l] > 0 ? sum[p][l] : 0;
}

static void conv_row(void *task, int64_t y, int worker)
{
    (void)worker;
    const struct conv_task *t = task;
    size_t row = ((size_t)t->in->width + 2 * (size_t)t->in->border) * (size_t)t->in->channels;
    for (int x = 0; x < t->out->width; x += PIXELS) {
        const float *in[PIXELS];
        float *out[PIXELS];
        for (int p = 0; p < PIXELS; p++) {
            int at = x + p < t->out->width ? x + p : x; /* an odd one out is computed twice */
            in[p] = map_at(t->in, at * t->stride - t->reach, (int)y * t->stride - t->reach);
            out[p] = map_at(t->out, at, (int)y) + t->first;
        }
        for (int lane = 0; lane < t->conv->out; lane += LANES) {
            float *const to[PIXELS] = {out[0] + lane, out[1] + lane};
            conv_block(t->conv, row, lane, in, to);
        }
    }
}

/* ---- maxima ------------------------------------------------------------------------------------------------------ */

static void pool_row(void *task, int64_t y, int worker)
{
    (void)worker;
    const struct conv_task *t = task;
    for (int x = 0; x < t->out->width; x++) {
        float *out = map_at(t->out, x, (int)y);
        memcpy(out, map_at(t->in, 2 * x, 2 * (int)y), (size_t)t->out->channels * sizeof *out);
        for (int k = 1; k < 9; k++) {
            int i = 2 * x + k % 3, j = 2 * (int)y + k / 3;
            if (i >= t->in->width || j >= t->in->height)
                continue;
            const float *in = map_at(t->in, i, j);
            for (int c = 0; c < t->out->channels; c++)
                out[c] = out[c] > in[c] ? out[c] : in[c];
        }
    }
}

/* Replaces the map by its maxima. */
static oasis_status pool(oas_pool *threads, struct map *m, oasis_message *message)
{
    struct map out;
    OAS_TRY(map_new(&out, (m->width - 2) / 2 + 1, (m->height - 2) / 2 + 1, m->channels, 0, message));
    struct conv_task t = {.in = m, .out = &out};
    oas_pool_run(threads, out.height, pool_row, &t);
    map_free(m);
    *m = out;
    return OASIS_OK;
}

/* Replaces the map by what a fire module makes of it; conv: its three convolutions. */
static oasis_status fire(oas_pool *threads, const squeezenet_conv *conv, struct map *m, oasis_message *message)
{
    struct map narrow, out;
    OAS_TRY(map_new(&narrow, m->width, m->height, conv[0].out, 1, message));
    struct conv_task t = {&conv[0], m, &narrow, 1, 0, 0};
    oas_pool_run(threads, m->height, conv_row, &t);
    map_free(m);
    oasis_status status = map_new(&out, narrow.width, narrow.height, conv[1].out + conv[2].out, 0, message);
    if (status >= 0) {
        t = (struct conv_task){&conv[1], &narrow, &out, 1, 0, 0};
        oas_pool_run(threads, out.height, conv_row, &t);
        t = (struct conv_task){&conv[2], &narrow, &out, 1, 1, conv[1].out};
        oas_pool_run(threads, out.height, conv_row, &t);
        *m = out;
    }
    map_free(&narrow);
    return status;
}

/* ---- the network ------------------------------------------------------------------------------------------------- */

static oasis_status run(const squeezenet *net, oas_pool *threads, struct map *m, oas_tap_fn *tap, void *user,
                        oasis_message *message)
{
    static const bool pooled[8] = {true, false, true, false, true, false, false, false}; /* before fire2 .. fire9 */
    static const int tap_after[8] = {-1, 1, -1, 2, 3, 4, 5, 6};
    struct map first;
    OAS_TRY(map_new(&first, (m->width - 3) / 2 + 1, (m->height - 3) / 2 + 1, net->conv[0].out, 0, message));
    struct conv_task t = {&net->conv[0], m, &first, 2, 0, 0};
    oas_pool_run(threads, first.height, conv_row, &t);
    map_free(m);
    *m = first;
    OAS_TRY(tap(user, 0, m->width, m->height, m->channels, m->data, message));
    for (int f = 0; f < 8; f++) {
        if (pooled[f])
            OAS_TRY(pool(threads, m, message));
        OAS_TRY(fire(threads, &net->conv[1 + 3 * f], m, message));
        if (tap_after[f] > 0)
            OAS_TRY(tap(user, tap_after[f], m->width, m->height, m->channels, m->data, message));
    }
    return OASIS_OK;
}

oasis_status oas_squeezenet_run(const squeezenet *net, oas_pool *pool, const float *rgb, int width, int height,
                                oas_tap_fn *tap, void *user, oasis_message *message)
{
    static const float mean[3] = {104, 117, 123};
    struct map m;
    OAS_TRY(map_new(&m, width, height, 3, 0, message));
    for (size_t i = 0; i < (size_t)width * (size_t)height; i++)
        for (size_t c = 0; c < 3; c++)
            m.data[3 * i + c] = 255 * rgb[3 * i + 2 - c] - mean[c];
    oasis_status status = run(net, pool, &m, tap, user, message);
    map_free(&m);
    return status;
}
