/*
 * Convolutions by our own kernel (cpu/conv.h), where the processor has tiles and channels and outputs fill them.
 *
 *     slab      8 rows by 64 columns of a frame, which read their pixels, and one beyond, where they lie
 *     at sides  a slab that touches the left or right side of its frame reads a copy with zeros around
 *
 * A slab goes through the weights once, 32 outputs at a time, so that neither its pixels nor these weights leave the
 * second cache.  Only forward, without activation; everything else is in conv.c.
 */
#include "base/filemap.h"
#include "cpu/conv.h"
#include "ops/conv.h"

#include <string.h>

enum { SLAB_ROWS = 8, SLAB_COLUMNS = 2 * OAS_CONV_PIXELS };

bool oas_conv_is_direct(const graph *g, const node *n)
{
    const tensor *x = n->in[0], *w = n->in[1], *y = n->out;
    return oas_conv_kernel(g->device->level) && x->dtype == OAS_BF16 && y->dtype == OAS_BF16 && !w->needs_grad &&
           OAS_PARAM(struct conv_param, n)->act == OAS_LINEAR && oas_last(w, 0) == 3 &&
           x->shape.size[4] % OAS_CONV_CHANNELS == 0 && y->shape.size[4] % OAS_CONV_OUTPUTS == 0;
}

/* Bytes of the copy that a slab at a side reads: kt frames of rows with their border. */
static size_t copy_bytes(const node *n)
{
    const tensor *x = n->in[0];
    int64_t pixels = oas_conv_frames(x, n->in[1]) * (SLAB_ROWS + 2) * (SLAB_COLUMNS + 2);
    return oas_aligned((size_t)(pixels * x->shape.size[4]) * sizeof(uint16_t));
}

static size_t weight_bytes(const node *n)
{
    return oas_aligned((size_t)oas_count(&n->in[1]->shape) * sizeof(uint16_t));
}

size_t oas_conv_direct_scratch(const graph *g, const node *n)
{
    return copy_bytes(n) * (size_t)oas_pool_workers(g->device->pool) + (n->in[1]->packed ? 0 : weight_bytes(n));
}

/* ---- weights --------------------------------------------------------------------------------------------------------- */

/* Weights in the kernel's order; w is [out, kt*C, 3, 3] with the newest frame first, or [out, C, kt, 3, 3]. */
static oasis_status pack(void *arg, void *to)
{
    const node *n = arg;
    const tensor *w = n->in[1];
    int64_t channels = oas_last(n->in[0], 0), kt = oas_conv_frames(n->in[0], w), outputs = w->shape.size[0];
    uint16_t *value = to;
    for (int64_t o = 0; o < outputs; o += OAS_CONV_OUTPUTS)
        for (int64_t tap = 0; tap < kt * 9; tap++)
            for (int64_t c = 0; c < channels; c += OAS_CONV_CHANNELS)
                for (int64_t i = 0; i < 2 * OAS_CONV_TILE; i++) {
                    int64_t half = i / OAS_CONV_TILE, pair = i % OAS_CONV_TILE / 32, column = i % 32 / 2;
                    int64_t channel = c + 2 * pair + i % 2, frame = tap / 9;
                    int64_t slot = oas_conv_stacked(w) ? (kt - 1 - frame) * channels + channel : channel * kt + frame;
                    int64_t at = ((o + half * 16 + column) * kt * channels + slot) * 9 + tap % 9;
                    *value++ = w->dtype == OAS_BF16 ? ((const uint16_t *)w->data)[at] : oas_to_bf16(oas_f32(w)[at]);
                }
    if (w->mapped)
        oas_filemap_drop(w->data, oas_bytes(w));
    return OASIS_OK;
}

static oasis_status packed_weights(graph *g, const node *n, const void **weights)
{
    static const pack_key key = {"conv 32x32"};
    if (n->in[1]->packed)
        return oas_packed_get(n->in[1]->packed, &key, weight_bytes(n), pack, (void *)(uintptr_t)n, weights);
    void *own = oas_scratch(g, weight_bytes(n));
    *weights = own;
    return own ? pack((void *)(uintptr_t)n, own) : g->status;
}

/* ---- slabs ----------------------------------------------------------------------------------------------------------- */

typedef struct direct_task {
    const node *n;
    const conv_kernel *kernel;
    const uint16_t *weights;
    unsigned char *scratch;
    int64_t down, across; /* slabs of a frame */
} direct_task;

/* A slab, and where the rows lie that it sees. */
typedef struct slab {
    int64_t sample, frame, row, column, rows, columns;
    const char *seen[OAS_CONV_MOST_FRAMES][SLAB_ROWS + 2]; /* the pixel left of the slab's first; NULL = zeros */
} slab;

/* Copies a row and a border of one, with zeros where the frame ends; `row` is the frame's. */
static void copy_row(const slab *s, const char *row, int64_t width, size_t pixel, char *to)
{
    int64_t first = s->column > 0 ? s->column - 1 : 0, end = s->column + s->columns + 1;
    end = end < width ? end : width;
    size_t before = s->column > 0 ? 0 : pixel, inside = (size_t)(end - first) * pixel;
    memset(to, 0, before);
    memcpy(to + before, row + (size_t)first * pixel, inside);
    memset(to + before + inside, 0, (SLAB_COLUMNS + 2) * pixel - before - inside);
}

static void find_rows(const node *n, slab *s, char *copy)
{
    const tensor *x = n->in[0];
    int64_t kt = oas_conv_frames(x, n->in[1]), height = x->shape.size[2], width = x->shape.size[3];
    size_t pixel = (size_t)x->shape.size[4] * sizeof(uint16_t);
    bool inside = s->column > 0 && s->column + SLAB_COLUMNS < width;
    for (int64_t k = 0; k < kt; k++) {
        const char *frame = oas_conv_frame_at(x, n->in[3], s->sample, s->frame + k - kt + 1);
        for (int64_t i = 0; i < s->rows + 2; i++) {
            int64_t row = s->row - 1 + i;
            const char *at = frame && row >= 0 && row < height ? frame + (size_t)(row * width) * pixel : NULL;
            s->seen[k][i] = at && inside ? at + (size_t)(s->column - 1) * pixel : at;
            if (!at || inside)
                continue;
            copy_row(s, at, width, pixel, copy);
            s->seen[k][i] = copy;
            copy += (SLAB_COLUMNS + 2) * pixel;
        }
    }
}

/* All pixels of a slab for 32 outputs. */
static void run_outputs(const direct_task *task, const slab *s, int64_t first_output)
{
    const node *n = task->n;
    const tensor *x = n->in[0], *y = n->out;
    int64_t kt = oas_conv_frames(x, n->in[1]), channels = x->shape.size[4], outputs = y->shape.size[4];
    const char *rows[3 * OAS_CONV_MOST_FRAMES];
    conv_block b = {.rows = rows, .n_rows = 3 * kt, .channels = channels, .step = outputs};
    b.weights = task->weights + first_output * kt * 9 * channels;
    b.bias = n->in[2] ? oas_f32(n->in[2]) + first_output : NULL;
    for (int64_t row = 0; row < s->rows; row++) {
        int64_t picture = (s->sample * y->shape.size[1] + s->frame) * y->shape.size[2] + s->row + row;
        for (int64_t r = 0; r < 3 * kt; r++)
            rows[r] = s->seen[r / 3][row + r % 3];
        for (int64_t i = 0; i < s->columns; i += OAS_CONV_PIXELS) {
            int64_t to = (picture * y->shape.size[3] + s->column + i) * outputs + first_output;
            b.at = i * channels * (int64_t)sizeof(uint16_t);
            b.pixels = s->columns - i < OAS_CONV_PIXELS ? s->columns - i : OAS_CONV_PIXELS;
            b.residual = n->in[4] ? (const uint16_t *)n->in[4]->data + to : NULL;
            b.out = (uint16_t *)y->data + to;
            task->kernel->block(&b);
        }
    }
}

static void run_slab(void *arg, int64_t index, int worker)
{
    const direct_task *task = arg;
    const int64_t *size = task->n->in[0]->shape.size;
    int64_t picture = index / (task->down * task->across), place = index % (task->down * task->across);
    slab s = {.sample = picture / size[1], .frame = picture % size[1]};
    s.row = place / task->across * SLAB_ROWS;
    s.column = place % task->across * SLAB_COLUMNS;
    s.rows = size[2] - s.row < SLAB_ROWS ? size[2] - s.row : SLAB_ROWS;
    s.columns = size[3] - s.column < SLAB_COLUMNS ? size[3] - s.column : SLAB_COLUMNS;
    find_rows(task->n, &s, (char *)task->scratch + (size_t)worker * copy_bytes(task->n));
    task->kernel->begin();
    for (int64_t o = 0; o < task->n->out->shape.size[4]; o += OAS_CONV_OUTPUTS)
        run_outputs(task, &s, o);
    task->kernel->end();
}

oasis_status oas_conv_direct(graph *g, const node *n)
{
    const int64_t *size = n->in[0]->shape.size;
    direct_task t = {.n = n, .kernel = oas_conv_kernel(g->device->level)};
    const void *weights;
    OAS_TRY(packed_weights(g, n, &weights));
    t.weights = weights;
    t.scratch = oas_scratch(g, copy_bytes(n) * (size_t)oas_pool_workers(g->device->pool));
    if (g->status < 0)
        return g->status;
    t.down = (size[2] + SLAB_ROWS - 1) / SLAB_ROWS;
    t.across = (size[3] + SLAB_COLUMNS - 1) / SLAB_COLUMNS;
    oas_pool_run(g->device->pool, size[0] * size[1] * t.down * t.across, run_slab, &t);
    return OASIS_OK;
}
