/*
 * Convolution over pixels and, causally, over time:  y = act(conv(x) + b) + residual.
 *
 *     frames      history | x0 x1 x2 ...        kt = 2: frame t sees [t-1, t]
 *     one slab    rows y0 .. y0+n-1 of frame t; reads rows y0-1 .. y0+n of kt frames
 *
 * A slab of one frame (kt = 1) is read where it lies.  With kt > 1 the rows of the kt frames are gathered pixel by
 * pixel into kt*C channels first, in the weight's order of frames, so that one two-dimensional convolution computes the
 * sum over time too.
 */
#include "ops/conv.h"
#include "cpu/dnnl.h"
#include "cpu/slope.h"
#include "tensor/sampler.h"

#include <stdatomic.h>
#include <string.h>

extern const op oas_op_conv;

tensor *oas_conv(graph *g, tensor *x, const conv *layer, tensor *history, oas_activation act, tensor *residual)
{
    tensor *in[] = {x, layer->weight, layer->bias, history, residual};
    struct conv_param p = {(int32_t)act};
    return oas_apply(g, &oas_op_conv, in, &p, sizeof p);
}

static bool conv_shape(graph *g, node *n)
{
    const tensor *x = n->in[0], *w = n->in[1], *b = n->in[2], *h = n->in[3], *r = n->in[4];
    if (x->shape.rank != 5 || w->shape.rank < 4)
        return oas_op_refuse(g, "conv: input %s must have five sizes, weight %s four or five",
                             oas_shape_text(&x->shape).text, oas_shape_text(&w->shape).text);
    int64_t kernel = oas_last(w, 0), frames = oas_conv_frames(x, w), in = oas_last(x, 0);
    if (oas_count(&w->shape) != w->shape.size[0] * in * frames * kernel * kernel || oas_last(w, 1) != kernel ||
        (kernel != 1 && kernel != 3) || frames < 1 || frames > OAS_CONV_MOST_FRAMES)
        return oas_op_refuse(g, "conv: weight %s of %s does not fit input %s", oas_shape_text(&w->shape).text,
                             w->name ? w->name : "a layer", oas_shape_text(&x->shape).text);
    shape past = x->shape;
    past.size[1] = frames - 1;
    if (h && frames > 1 && (!oas_shape_equal(&h->shape, &past) || h->dtype != x->dtype))
        return oas_op_refuse(g, "conv: history %s instead of %s", oas_shape_text(&h->shape).text,
                             oas_shape_text(&past).text);
    if (b && (oas_count(&b->shape) != w->shape.size[0] || b->dtype != OAS_F32))
        return oas_op_refuse(g, "conv: bias %s does not fit %lld outputs", oas_shape_text(&b->shape).text,
                             (long long)w->shape.size[0]);
    n->out->shape = x->shape;
    n->out->shape.size[4] = w->shape.size[0];
    n->out->dtype = g->compute;
    if (r && (!oas_shape_equal(&r->shape, &n->out->shape) || r->dtype != n->out->dtype))
        return oas_op_refuse(g, "conv: residual %s instead of %s", oas_shape_text(&r->shape).text,
                             oas_shape_text(&n->out->shape).text);
    return true;
}

static double conv_flops(const node *n)
{
    const tensor *w = n->in[1];
    return 2. * (double)oas_rows(n->out) * (double)oas_count(&w->shape);
}

const char *oas_conv_frame_at(const tensor *x, const tensor *history, int64_t b, int64_t t)
{
    int64_t frames = x->shape.size[1], past = history ? history->shape.size[1] : 0;
    size_t bytes = (size_t)(oas_last(x, 2) * oas_last(x, 1) * oas_last(x, 0)) * oas_dtype_size(x->dtype);
    if (t >= 0)
        return (const char *)x->data + (size_t)(b * frames + t) * bytes;
    return past + t >= 0 ? (const char *)history->data + (size_t)(b * past + past + t) * bytes : NULL;
}

/* One output value: the sum over frames, taps and channels that exist. */
static double conv_at(const node *n, const float *const *frames, int64_t row, int64_t column, int64_t channel)
{
    const tensor *x = n->in[0], *w = n->in[1];
    int64_t height = x->shape.size[2], width = x->shape.size[3], in = x->shape.size[4];
    int64_t kt = oas_conv_frames(x, w), k = oas_last(w, 0);
    const float *weight = oas_f32(w) + channel * in * kt * k * k;
    double sum = 0;
    for (int64_t t = 0; t < kt; t++) {
        for (int64_t i = 0; i < k; i++) {
            for (int64_t j = 0; j < k; j++) {
                int64_t y = row + i - k / 2, xx = column + j - k / 2;
                if (!frames[t] || y < 0 || y >= height || xx < 0 || xx >= width)
                    continue;
                const float *pixel = frames[t] + (y * width + xx) * in;
                for (int64_t c = 0; c < in; c++) {
                    int64_t slot = oas_conv_stacked(w) ? (kt - 1 - t) * in + c : c * kt + t;
                    sum += (double)pixel[c] * (double)weight[(slot * k + i) * k + j];
                }
            }
        }
    }
    return sum;
}

static oasis_status conv_ref(graph *g, const node *n)
{
    (void)g;
    const tensor *x = n->in[0];
    const float *bias = n->in[2] ? oas_f32(n->in[2]) : NULL, *residual = n->in[4] ? oas_f32(n->in[4]) : NULL;
    oas_activation act = (oas_activation)OAS_PARAM(struct conv_param, n)->act;
    int64_t frames = x->shape.size[1], pixels = x->shape.size[2] * x->shape.size[3], outputs = n->out->shape.size[4];
    int64_t kt = oas_conv_frames(x, n->in[1]);
    float *y = oas_f32(n->out);
    for (int64_t f = 0; f < x->shape.size[0] * frames; f++) {
        const float *seen[OAS_CONV_MOST_FRAMES];
        for (int64_t t = 0; t < kt; t++)
            seen[t] = (const float *)(const void *)oas_conv_frame_at(x, n->in[3], f / frames, f % frames + t - kt + 1);
        for (int64_t p = 0; p < pixels; p++) {
            for (int64_t o = 0; o < outputs; o++) {
                int64_t i = (f * pixels + p) * outputs + o;
                double sum =
                    conv_at(n, seen, p / x->shape.size[3], p % x->shape.size[3], o) + (bias ? (double)bias[o] : 0.);
                y[i] = oas_act(act, (float)sum) + (residual ? residual[i] : 0.f);
            }
        }
    }
    return OASIS_OK;
}

/* dx += du w and dw += du x over the taps that conv_at sums; `frames` are where seen frames lie, or NULL. */
static void conv_at_backward(const node *n, const float *const *frames, int64_t row, int64_t column, int64_t channel,
                             float du, float *const *dframes, float *dweight)
{
    const tensor *x = n->in[0], *w = n->in[1];
    int64_t height = x->shape.size[2], width = x->shape.size[3], in = x->shape.size[4];
    int64_t kt = oas_conv_frames(x, w), k = oas_last(w, 0), first = channel * in * kt * k * k;
    const float *weight = oas_f32(w) + first;
    for (int64_t t = 0; t < kt; t++) {
        for (int64_t i = 0; i < k * k; i++) {
            int64_t y = row + i / k - k / 2, xx = column + i % k - k / 2;
            if (!frames[t] || y < 0 || y >= height || xx < 0 || xx >= width)
                continue;
            int64_t pixel = (y * width + xx) * in;
            for (int64_t c = 0; c < in; c++) {
                int64_t slot = oas_conv_stacked(w) ? (kt - 1 - t) * in + c : c * kt + t;
                if (dweight)
                    dweight[first + slot * k * k + i] += du * frames[t][pixel + c];
                if (dframes[t])
                    dframes[t][pixel + c] += du * weight[slot * k * k + i];
            }
        }
    }
}

/* The gradient of the frame that oas_conv_frame_at finds; NULL = zeros, or a gradient that nobody wants. */
static float *frame_gradient(const tensor *x, const tensor *history, int64_t b, int64_t t)
{
    tensor none = {.shape = x->shape}, dx = x->grad ? *x->grad : none;
    tensor past = history && history->grad ? *history->grad : (tensor){.shape = {.rank = 5}};
    if ((t >= 0 && !dx.data) || (t < 0 && !past.data))
        return NULL;
    return (float *)(uintptr_t)oas_conv_frame_at(&dx, &past, b, t);
}

/*
 * With u = conv(x) + b, forward was y = act(u) + residual.  So dresidual += dy, and with du = act'(u) dy every tap adds
 * du w to the gradient of the pixel it read, and du x to that of its weight;  db += sum of du.
 */
static oasis_status conv_ref_backward(graph *g, const node *n)
{
    const tensor *x = n->in[0];
    const float *bias = n->in[2] ? oas_f32(n->in[2]) : NULL, *dy = oas_gradient_of(n->out);
    oas_activation act = (oas_activation)OAS_PARAM(struct conv_param, n)->act;
    int64_t frames = x->shape.size[1], width = x->shape.size[3], pixels = x->shape.size[2] * width;
    int64_t outputs = n->out->shape.size[4], kt = oas_conv_frames(x, n->in[1]);
    float *dw = oas_gradient_of(n->in[1]), *db = oas_gradient_of(n->in[2]), *dr = oas_gradient_of(n->in[4]);
    for (int64_t f = 0; f < x->shape.size[0] * frames && !g->planning; f++) {
        const float *seen[OAS_CONV_MOST_FRAMES];
        float *dseen[OAS_CONV_MOST_FRAMES];
        for (int64_t t = 0; t < kt; t++) {
            seen[t] = (const float *)(const void *)oas_conv_frame_at(x, n->in[3], f / frames, f % frames + t - kt + 1);
            dseen[t] = frame_gradient(x, n->in[3], f / frames, f % frames + t - kt + 1);
        }
        for (int64_t i = 0; i < pixels * outputs; i++) {
            int64_t p = i / outputs, o = i % outputs, at = f * pixels * outputs + i;
            float slope = 1.f;
            if (act != OAS_LINEAR)
                slope = oas_act_slope(
                    act, (float)(conv_at(n, seen, p / width, p % width, o) + (bias ? (double)bias[o] : 0.)));
            conv_at_backward(n, seen, p / width, p % width, o, slope * dy[at], dseen, dw);
            if (db)
                db[o] += slope * dy[at];
            if (dr)
                dr[at] += dy[at];
        }
    }
    return OASIS_OK;
}

/* How the frames are cut: strips of `strip` rows, the last one shorter. */
struct conv_jobs {
    int64_t strip, strips;
    const dnnl_job *first, *middle, *last; /* by which borders they touch; first = the only one when strips = 1 */
    size_t gather_bytes;                   /* per worker; 0 when kt = 1 */
    oas_activation act;                    /* that follows the product, OAS_LINEAR where oneDNN has done it */
    size_t float_bytes;                    /* per worker: the strip before `act`; 0 when it may lie in the output */
    size_t scratch_each, weight_bytes;
};

/* A strip's gathered input should stay in a core's second-level cache. */
enum { STRIP_BYTES = 512 * 1024, LEAST_STRIP = 8, LEAST_STRIPS = 4 };

static int64_t strip_rows(const node *n)
{
    const tensor *x = n->in[0];
    int64_t height = x->shape.size[2];
    int64_t row_bytes =
        x->shape.size[3] * x->shape.size[4] * oas_conv_frames(x, n->in[1]) * (int64_t)oas_dtype_size(x->dtype);
    int64_t rows = STRIP_BYTES / row_bytes, most = (height + LEAST_STRIPS - 1) / LEAST_STRIPS;
    if (rows > most)
        rows = most;
    if (rows < LEAST_STRIP)
        rows = LEAST_STRIP;
    return rows < height ? rows : height;
}

static size_t most_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

static bool conv_prepare(graph *g, const node *n, struct conv_jobs *j)
{
    const tensor *x = n->in[0], *w = n->in[1];
    int64_t height = x->shape.size[2], kt = oas_conv_frames(x, w);
    *j = (struct conv_jobs){.strip = strip_rows(n)};
    j->strips = (height + j->strip - 1) / j->strip;
    int64_t strip_values = j->strip * x->shape.size[3] * w->shape.size[0];
    oas_activation act = (oas_activation)OAS_PARAM(struct conv_param, n)->act;
    bool ours = oas_activates_itself(act, n->in[4], strip_values);
    if (ours)
        j->act = act;
    if (ours && n->out->dtype != OAS_F32)
        j->float_bytes = oas_aligned((size_t)strip_values * sizeof(float));
    dnnl_spec spec = {.kernel = 3,
                      .act = (int32_t)(ours ? OAS_LINEAR : act),
                      .in_type = (int32_t)x->dtype,
                      .out_type = (int32_t)(ours ? OAS_F32 : n->out->dtype),
                      .bias = n->in[2] != NULL,
                      .residual = n->in[4] != NULL,
                      .pad_top = 1,
                      .pad_bottom = j->strips == 1,
                      .rows = j->strip + (j->strips > 1),
                      .width = x->shape.size[3],
                      .in = x->shape.size[4] * kt,
                      .out = w->shape.size[0]};
    j->first = j->middle = j->last = oas_dnnl_job(g->device->dnnl, &spec, g);
    if (j->strips > 1) {
        spec.pad_top = 0, spec.pad_bottom = 1;
        spec.rows = height - (j->strips - 1) * j->strip + 1;
        j->last = oas_dnnl_job(g->device->dnnl, &spec, g);
    }
    if (j->strips > 2) {
        spec.pad_bottom = 0;
        spec.rows = j->strip + 2;
        j->middle = oas_dnnl_job(g->device->dnnl, &spec, g);
    }
    if (!j->first || !j->middle || !j->last)
        return false;
    size_t scratch = most_of(oas_dnnl_scratch_bytes(j->first), oas_dnnl_scratch_bytes(j->middle));
    scratch = oas_aligned(most_of(scratch, oas_dnnl_scratch_bytes(j->last)));
    if (kt > 1)
        j->gather_bytes = (size_t)((j->strip + 2) * spec.width * spec.in) * oas_dtype_size(x->dtype);
    j->gather_bytes = oas_aligned(j->gather_bytes);
    j->scratch_each = scratch + j->gather_bytes + j->float_bytes;
    if (!w->packed || w->needs_grad)
        j->weight_bytes = oas_aligned(most_of(most_of(oas_dnnl_weight_bytes(j->first), oas_dnnl_weight_bytes(j->last)),
                                              oas_dnnl_weight_bytes(j->middle)));
    return true;
}

/* The first of the three jobs that reads packed weights as job i does: they are packed once. */
static int packed_with(const struct conv_jobs *j, int i)
{
    const dnnl_job *jobs[3] = {j->first, j->middle, j->last};
    int same = 0;
    while (!oas_dnnl_weights_alike(jobs[same], jobs[i]))
        same++;
    return same;
}

static size_t conv_scratch(graph *g, const node *n)
{
    struct conv_jobs j;
    if (oas_conv_is_direct(g, n))
        return oas_conv_direct_scratch(g, n);
    if (!conv_prepare(g, n, &j))
        return 0;
    size_t packs = 1u + (packed_with(&j, 1) == 1 ? 1 : 0) + (packed_with(&j, 2) == 2 ? 1 : 0);
    return j.scratch_each * (size_t)oas_pool_workers(g->device->pool) + packs * j.weight_bytes;
}

struct conv_task {
    graph *g;
    const node *n;
    bool later; /* the frames from t on instead of those up to t: the way back */
    struct conv_jobs jobs;
    const void *weights[3]; /* of first, middle, last */
    unsigned char *scratch;
    atomic_int status;
};

/* Rows y0 .. y0+rows-1 of the kt frames up to t (or from t on), pixel by pixel: [rows*width, kt, C] in the weight's order
 * of frames. */
static void gather(const node *n, bool later, int64_t b, int64_t t, int64_t y0, int64_t rows, unsigned char *to)
{
    const tensor *x = n->in[0];
    int64_t kt = oas_conv_frames(x, n->in[1]), width = x->shape.size[3];
    size_t pixel = (size_t)x->shape.size[4] * oas_dtype_size(x->dtype);
    for (int64_t k = 0; k < kt; k++) {
        const char *from = NULL;
        if (later)
            from = t + k < x->shape.size[1] ? oas_conv_frame_at(x, NULL, b, t + k) : NULL;
        else
            from = oas_conv_frame_at(x, n->in[3], b, oas_conv_stacked(n->in[1]) ? t - k : t + k - kt + 1);
        unsigned char *out = to + (size_t)k * pixel;
        if (from)
            from += (size_t)(y0 * width) * pixel;
        for (int64_t i = 0; i < rows * width; i++, out += (size_t)kt * pixel) {
            if (from)
                memcpy(out, from + (size_t)i * pixel, pixel);
            else
                memset(out, 0, pixel);
        }
    }
}

/* Strip `slab` of the output, written to y. */
static void conv_strip(struct conv_task *task, int64_t slab, int worker, void *y)
{
    const node *n = task->n;
    const tensor *x = n->in[0];
    const struct conv_jobs *j = &task->jobs;
    int64_t frame = slab / j->strips, strip = slab % j->strips, frames = x->shape.size[1];
    int64_t height = x->shape.size[2], width = x->shape.size[3], y0 = strip * j->strip;
    int64_t y1 = y0 + j->strip < height ? y0 + j->strip : height;
    int64_t in0 = y0 > 0 ? y0 - 1 : 0, in1 = y1 < height ? y1 + 1 : height;
    int which = strip == 0 ? 0 : strip == j->strips - 1 ? 2 : 1;
    const dnnl_job *job = which == 0 ? j->first : which == 2 ? j->last : j->middle;
    unsigned char *scratch = task->scratch + (size_t)worker * j->scratch_each;
    const void *input = scratch;
    if (j->gather_bytes)
        gather(n, task->later, frame / frames, frame % frames, in0, in1 - in0, scratch);
    else
        input = (const char *)x->data +
                (size_t)((frame * height + in0) * width * x->shape.size[4]) * oas_dtype_size(x->dtype);
    void *before = j->float_bytes ? scratch + j->gather_bytes : y;
    oasis_status s = oas_dnnl_run(task->g->device->dnnl, job, worker, input, task->weights[which],
                                  n->in[2] ? n->in[2]->data : NULL, before, scratch + j->gather_bytes + j->float_bytes);
    if (j->act != OAS_LINEAR)
        oas_apply_activation(task->g, j->act, y, n->out->dtype, before, OAS_F32,
                             (y1 - y0) * width * n->out->shape.size[4]);
    if (s < 0)
        atomic_store(&task->status, (int)s);
}

static void conv_slab(void *arg, int64_t slab, int worker)
{
    struct conv_task *task = arg;
    const tensor *out = task->n->out;
    int64_t row = out->shape.size[3] * out->shape.size[4];
    int64_t first = slab / task->jobs.strips * out->shape.size[2] + slab % task->jobs.strips * task->jobs.strip;
    conv_strip(task, slab, worker, (char *)out->data + (size_t)(first * row) * oas_dtype_size(out->dtype));
}

/* Makes the jobs, packs the weights, takes the scratch; while planning only the last. */
static oasis_status conv_start(struct conv_task *t)
{
    graph *g = t->g;
    const tensor *x = t->n->in[0], *w = t->n->in[1];
    if (!conv_prepare(g, t->n, &t->jobs))
        return g->status < 0 ? g->status : OASIS_E_DEVICE;
    int permute = oas_conv_stacked(w) ? 0 : (int)oas_conv_frames(x, w);
    const dnnl_job *jobs[3] = {t->jobs.first, t->jobs.middle, t->jobs.last};
    for (int i = 0; i < 3; i++) {
        int same = packed_with(&t->jobs, i);
        if (same < i) {
            t->weights[i] = t->weights[same];
            continue;
        }
        void *own = t->jobs.weight_bytes ? oas_scratch(g, t->jobs.weight_bytes) : NULL;
        if (g->status < 0)
            return g->status;
        if (!g->planning)
            OAS_TRY(oas_dnnl_weights(g->device->dnnl, jobs[i], w, permute, own, &t->weights[i]));
    }
    t->scratch = oas_scratch(g, t->jobs.scratch_each * (size_t)oas_pool_workers(g->device->pool));
    return g->status;
}

/* Starts and runs all strips. */
static oasis_status conv_run(struct conv_task *t)
{
    const tensor *x = t->n->in[0];
    OAS_TRY(conv_start(t));
    if (!t->g->planning)
        oas_pool_run(t->g->device->pool, x->shape.size[0] * x->shape.size[1] * t->jobs.strips, conv_slab, t);
    return (oasis_status)atomic_load(&t->status);
}

static oasis_status conv_cpu(graph *g, const node *n)
{
    struct conv_task t = {.g = g, .n = n};
    if (oas_conv_is_direct(g, n))
        return oas_conv_direct(g, n);
    if (n->in[4] && n->in[4]->data != n->out->data)
        oas_pool_copy(g->device->pool, n->out->data, n->in[4]->data, oas_bytes(n->out));
    return conv_run(&t);
}

/* ---- backward by oneDNN -------------------------------------------------------------------------------------------- */

/*
 * With u = conv(x) + b, y = act(u) + residual:  e = act'(u) dy, strip by strip, u computed again where it is wanted.
 */
struct slope_task {
    struct conv_task again; /* makes u; its strips are used in any case */
    oas_activation act;
    column_sums bias; /* a row per strip */
    float *u;         /* a strip per worker */
    int64_t u_values;
    tensor e; /* [B,T,H,W,out] of x's type */
};

static void slope_slab(void *arg, int64_t slab, int worker)
{
    struct slope_task *t = arg;
    const node *n = t->again.n;
    const struct conv_jobs *j = &t->again.jobs;
    int64_t height = t->e.shape.size[2], outputs = t->e.shape.size[4], row = t->e.shape.size[3] * outputs;
    int64_t y0 = slab % j->strips * j->strip, y1 = y0 + j->strip < height ? y0 + j->strip : height;
    int64_t first = (slab / j->strips * height + y0) * row, count = (y1 - y0) * row;
    float *u = t->u + worker * t->u_values, *dr = oas_gradient_of(n->in[4]), *sums = t->bias.partial + slab * outputs;
    const float *dy = oas_gradient_of(n->out) + first;
    if (t->act != OAS_LINEAR)
        conv_strip(&t->again, slab, worker, u);
    char *e = (char *)t->e.data + (size_t)first * oas_dtype_size(t->e.dtype);
    oas_slope(t->again.g->device->level, t->act, u, dy, e, t->e.dtype, count);
    for (int64_t i = 0; dr && i < count; i++)
        dr[first + i] += dy[i];
    for (int64_t i = 0; t->bias.columns > 0 && i < count; i += outputs) {
        const float *values = oas_floats(&t->e, first + i, outputs, u);
        for (int64_t o = 0; o < outputs; o++)
            sums[o] += values[o];
    }
}

/* Makes e. */
static oasis_status conv_slopes(struct slope_task *t, const node *n)
{
    graph *g = t->again.g;
    node plain = *n; /* makes u: no activation, no residual */
    tensor u = *n->out;
    u.dtype = OAS_F32;
    plain.out = &u;
    plain.in[4] = NULL;
    *(struct conv_param *)(void *)plain.param = (struct conv_param){OAS_LINEAR};
    t->act = (oas_activation)OAS_PARAM(struct conv_param, n)->act;
    t->e = (tensor){.shape = n->out->shape, .dtype = n->in[0]->dtype};
    t->e.data = oas_scratch(g, oas_bytes(&t->e));
    size_t mark = oas_arena_mark(&g->memory);
    t->again.n = &plain;
    OAS_TRY(conv_start(&t->again));
    t->again.n = n; /* the same inputs, and the gradients */
    const struct conv_jobs *j = &t->again.jobs;
    int64_t slabs = n->out->shape.size[0] * n->out->shape.size[1] * j->strips;
    t->u_values = j->strip * n->out->shape.size[3] * n->out->shape.size[4];
    t->u = oas_scratch(g, (size_t)t->u_values * sizeof(float) * (size_t)oas_pool_workers(g->device->pool));
    if (oas_column_sums_of(g, &t->bias, slabs, n->in[2] && n->in[2]->grad ? n->out->shape.size[4] : 0)) {
        oas_pool_run(g->device->pool, slabs, slope_slab, t);
        oas_column_add(&t->bias, 0, t->bias.columns, oas_gradient_of(n->in[2]));
    }
    oas_arena_release(&g->memory, mark);
    return g->status < 0 ? g->status : (oasis_status)atomic_load(&t->again.status);
}

/* The weights of the way back: [in, kt*out, 3, 3], turned by half a turn, the newest frame first. */
static void turn_weights(const tensor *w, int64_t kt, tensor *to)
{
    int64_t in = to->shape.size[0], out = w->shape.size[0];
    size_t size = oas_dtype_size(w->dtype);
    char *data = to->data;
    for (int64_t i = 0; i < in; i++)
        for (int64_t k = 0; k < kt; k++)
            for (int64_t o = 0; o < out; o++) {
                int64_t slot = oas_conv_stacked(w) ? (o * kt + k) * in + i : (o * in + i) * kt + kt - 1 - k;
                for (int64_t tap = 0; tap < 9; tap++, data += size)
                    memcpy(data, (const char *)w->data + (size_t)(slot * 9 + 8 - tap) * size, size);
            }
}

/* dx += the convolution of e, from frame t on, with the turned weights. */
static oasis_status conv_to_input(graph *g, const node *n, tensor *e)
{
    const tensor *w = n->in[1];
    int64_t kt = oas_conv_frames(n->in[0], w);
    tensor turned = {.shape = OAS_SHAPE4(oas_last(n->in[0], 0), kt * w->shape.size[0], 3, 3), .dtype = w->dtype};
    node back = {.op = n->op, .in = {e, &turned, NULL, NULL, n->in[0]->grad}, .out = n->in[0]->grad};
    struct conv_task t = {.g = g, .n = &back, .later = true};
    turned.data = oas_scratch(g, oas_bytes(&turned));
    if (g->status < 0)
        return g->status;
    if (!g->planning)
        turn_weights(w, kt, &turned);
    return conv_run(&t);
}

/*
 * The gradient of the weights.  The strips, as high as the cache allows, are dealt in order to a few groups; every group
 * adds those of its strips, and the groups are added in order.
 */
struct weight_task {
    graph *g;
    const node *n;
    const tensor *e;
    int64_t strip, strips, groups, group; /* strips of a frame; strips of a group */
    const dnnl_job *job[3];               /* first, middle, last strip */
    int kinds;                            /* 1 when all jobs write in one order, else 3 */
    size_t scratch_each, gather_bytes, floats;
    unsigned char *scratch;
    float *sums; /* [groups, kinds, floats] */
    atomic_int status;
};

enum { WEIGHT_GROUPS = 8 };

static void weight_strip(struct weight_task *t, int64_t slab, int worker, float *sums)
{
    const tensor *x = t->n->in[0];
    int64_t frame = slab / t->strips, strip = slab % t->strips, height = x->shape.size[2], width = x->shape.size[3];
    int64_t y0 = strip * t->strip, y1 = y0 + t->strip < height ? y0 + t->strip : height;
    int64_t in0 = y0 > 0 ? y0 - 1 : 0, in1 = y1 < height ? y1 + 1 : height;
    int which = strip == 0 ? 0 : strip == t->strips - 1 ? 2 : 1;
    size_t size = oas_dtype_size(x->dtype);
    unsigned char *scratch = t->scratch + (size_t)worker * t->scratch_each;
    float *partial = (float *)(void *)(scratch + t->gather_bytes);
    const void *input = scratch;
    if (t->gather_bytes)
        gather(t->n, false, frame / x->shape.size[1], frame % x->shape.size[1], in0, in1 - in0, scratch);
    else
        input = (const char *)x->data + (size_t)((frame * height + in0) * width * x->shape.size[4]) * size;
    const char *e = (const char *)t->e->data + (size_t)((frame * height + y0) * width * t->e->shape.size[4]) * size;
    oasis_status s =
        oas_dnnl_run(t->g->device->dnnl, t->job[which], worker, input, e, NULL, partial, partial + t->floats);
    if (s < 0)
        atomic_store(&t->status, (int)s);
    sums += t->kinds == 1 ? 0 : (size_t)which * t->floats;
    for (size_t i = 0; i < t->floats; i++)
        sums[i] += partial[i];
}

static void weight_slab(void *arg, int64_t group, int worker)
{
    struct weight_task *t = arg;
    const int64_t *s = t->n->in[0]->shape.size;
    int64_t all = s[0] * s[1] * t->strips, end = (group + 1) * t->group;
    float *sums = t->sums + (size_t)group * (size_t)t->kinds * t->floats;
    memset(sums, 0, (size_t)t->kinds * t->floats * sizeof *sums);
    for (int64_t slab = group * t->group; slab < end && slab < all; slab++)
        weight_strip(t, slab, worker, sums);
}

static oasis_status weight_prepare(struct weight_task *t)
{
    graph *g = t->g;
    const tensor *x = t->n->in[0];
    int64_t height = x->shape.size[2], kt = oas_conv_frames(x, t->n->in[1]);
    dnnl_spec spec = {.kernel = 3, .product = OAS_WEIGHT_GRADIENT, .in_type = (int32_t)x->dtype, .out_type = OAS_F32};
    spec.width = x->shape.size[3], spec.in = kt * x->shape.size[4], spec.out = t->e->shape.size[4];
    int64_t rows = STRIP_BYTES / (spec.width * spec.in * (int64_t)oas_dtype_size(x->dtype));
    t->strip = rows < LEAST_STRIP ? LEAST_STRIP : rows;
    t->strip = t->strip < height ? t->strip : height;
    t->strips = (height + t->strip - 1) / t->strip;
    size_t scratch = 0;
    for (int i = 0; i < 3; i++) {
        bool first = i == 0, last = t->strips == 1 || i == 2;
        spec.pad_top = first, spec.pad_bottom = last;
        spec.rows = (last ? height - (t->strips - 1) * t->strip : t->strip) + !first + !last;
        bool there = first || (i == 2 && t->strips > 1) || t->strips > 2;
        t->job[i] = there ? oas_dnnl_job(g->device->dnnl, &spec, g) : t->job[0];
        if (!t->job[i])
            return g->status < 0 ? g->status : OASIS_E_DEVICE;
        scratch = most_of(scratch, oas_dnnl_scratch_bytes(t->job[i]));
        t->floats = most_of(t->floats, (oas_dnnl_gradient_floats(t->job[i]) + 15) / 16 * 16);
    }
    bool alike = oas_dnnl_gradients_alike(t->job[0], t->job[1]) && oas_dnnl_gradients_alike(t->job[0], t->job[2]);
    t->kinds = alike ? 1 : 3;
    if (kt > 1)
        t->gather_bytes = (size_t)((t->strip + 2) * spec.width * spec.in) * oas_dtype_size(x->dtype);
    t->gather_bytes = oas_aligned(t->gather_bytes);
    t->scratch_each = t->gather_bytes + t->floats * sizeof(float) + oas_aligned(scratch);
    t->group = (x->shape.size[0] * x->shape.size[1] * t->strips + WEIGHT_GROUPS - 1) / WEIGHT_GROUPS;
    t->groups = (x->shape.size[0] * x->shape.size[1] * t->strips + t->group - 1) / t->group;
    t->scratch = oas_scratch(g, t->scratch_each * (size_t)oas_pool_workers(g->device->pool));
    t->sums = oas_scratch(g, (size_t)t->groups * (size_t)t->kinds * t->floats * sizeof(float));
    return g->status;
}

/* Adds plain [out, kt, in, 9] in the order of gathered frames to the weight's own order. */
static void add_weights(const tensor *w, int64_t kt, const float *plain, float *dw)
{
    int64_t out = w->shape.size[0], in = oas_count(&w->shape) / (out * kt * 9);
    for (int64_t o = 0; o < out; o++)
        for (int64_t k = 0; k < kt; k++)
            for (int64_t i = 0; i < in; i++) {
                float *to = dw + (oas_conv_stacked(w) ? (o * kt + k) * in + i : (o * in + i) * kt + k) * 9;
                for (int64_t tap = 0; tap < 9; tap++)
                    to[tap] += *plain++;
            }
}

static oasis_status conv_to_weight(graph *g, const node *n, const tensor *e)
{
    struct weight_task t = {.g = g, .n = n, .e = e};
    const tensor *w = n->in[1];
    OAS_TRY(weight_prepare(&t));
    float *plain = oas_scratch(g, (size_t)oas_count(&w->shape) * sizeof *plain);
    if (g->status < 0 || g->planning)
        return g->status;
    oas_pool_run(g->device->pool, t.groups, weight_slab, &t);
    for (int64_t group = 1; group < t.groups; group++)
        for (size_t i = 0; i < (size_t)t.kinds * t.floats; i++)
            t.sums[i] += t.sums[(size_t)group * (size_t)t.kinds * t.floats + i];
    for (int k = 0; k < t.kinds; k++) {
        OAS_TRY(oas_dnnl_plain_gradient(g->device->dnnl, t.job[k], t.sums + (size_t)k * t.floats, plain));
        add_weights(w, oas_conv_frames(n->in[0], w), plain, oas_gradient_of(w));
    }
    return (oasis_status)atomic_load(&t.status);
}

static oasis_status conv_cpu_backward(graph *g, const node *n)
{
    struct slope_task slopes = {.again = {.g = g}};
    OAS_TRY(conv_slopes(&slopes, n));
    size_t mark = oas_arena_mark(&g->memory);
    if (n->in[1]->grad)
        OAS_TRY(conv_to_weight(g, n, &slopes.e));
    oas_arena_release(&g->memory, mark);
    return n->in[0]->grad ? conv_to_input(g, n, &slopes.e) : OASIS_OK;
}

/* Of a history that wants a gradient only the definition knows. */
static bool conv_accepts_backward(const graph *g, const node *n)
{
    (void)g;
    return oas_last(n->in[1], 0) == 3 && !(n->in[3] && n->in[3]->needs_grad);
}

static bool conv_accepts(const graph *g, const node *n)
{
    (void)g;
    return oas_last(n->in[1], 0) == 3;
}

static bool conv_sample(sampler *s, int i, node *n)
{
    /* Frames, rows, columns, inputs, outputs, frames seen: strips of one, two, many; history; both orders of frames. */
    static const int64_t sizes[][6] = {{1, 1, 1, 3, 5, 1},    {2, 9, 7, 8, 12, 1},     {1, 40, 5, 16, 8, 1},
                                       {3, 17, 6, 8, 16, 2},  {2, 35, 9, 5, 7, 2},     {2, 10, 8, 4, 6, 3},
                                       {1, 9, 70, 32, 64, 1}, {2, 10, 131, 64, 32, 3}, {1, 2, 13, 48, 48, 2},
                                       {2, 9, 40, 12, 24, 1}, {1, 9, 45, 24, 12, 1},   {1, 1, 9, 64, 64, 1},
                                       {1, 3, 9, 16, 32, 1}};
    if (i >= 2 * (int)(sizeof sizes / sizeof *sizes))
        return false;
    const int64_t *z = sizes[i / 2];
    bool stack = i % 2;
    *(struct conv_param *)(void *)n->param = (struct conv_param){i % OAS_ACTIVATIONS};
    n->in[0] = oas_sample_activation(s, OAS_SHAPE5(1, z[0], z[1], z[2], z[3]), 1);
    n->in[1] = oas_sample_activation(
        s, stack ? OAS_SHAPE4(z[4], z[5] * z[3], 3, 3) : OAS_SHAPE5(z[4], z[3], z[5], 3, 3), 0.3f);
    n->in[2] = i % 3 ? oas_sample_floats(s, OAS_SHAPE1(z[4]), 1) : NULL;
    n->in[3] = z[5] > 1 && i % 4 ? oas_sample_activation(s, OAS_SHAPE5(1, z[5] - 1, z[1], z[2], z[3]), 1) : NULL;
    n->in[4] = i % 5 > 2 ? oas_sample_activation(s, OAS_SHAPE5(1, z[0], z[1], z[2], z[4]), 1) : NULL;
    return true;
}

const op oas_op_conv = {
    .name = "conv",
    .stage = "conv",
    .n_in = 5,
    .optional = 1u << 2 | 1u << 3 | 1u << 4,
    .in_place = 5,
    .shape = conv_shape,
    .flops = conv_flops,
    .accepts = conv_accepts,
    .scratch = conv_scratch,
    .forward = {[OAS_REF] = conv_ref, [OAS_CPU] = conv_cpu, [OAS_CUDA] = oas_conv_cuda},
    .backward = {[OAS_REF] = conv_ref_backward, [OAS_CPU] = conv_cpu_backward, [OAS_CUDA] = oas_conv_cuda_backward},
    .accepts_backward = conv_accepts_backward,
    .accepts_cuda = oas_conv_accepts_cuda,
    .passes_on = 5,
    .sample = conv_sample,
    .tolerance = 2e-6f,      /* float sums of a few thousand terms against double */
    .tolerance_bf16 = 1e-3f, /* results that lie near the middle of two bf16 values round either way */
};
