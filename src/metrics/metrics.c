/*
 * A measuring session: chooses the metrics, rounds the frames, keeps the ones before, and takes means.
 */
#include "metrics/metric.h"

#include "base/memory.h"
#include "metrics/flow.h"

#include <math.h>
#include <string.h>

#define OAS_METRIC(name) extern const metric oas_metric_##name;
#include "metrics/metrics.def"
#undef OAS_METRIC

static const metric *const all[] = {
#define OAS_METRIC(name) &oas_metric_##name,
#include "metrics/metrics.def"
#undef OAS_METRIC
};

enum { METRICS = sizeof all / sizeof *all, MAX_SIDE = 32768 };

struct chosen {
    const metric *metric;
    void *state;
    double sum, last;
    int64_t count;
};

struct oasis_metrics {
    oasis_metrics_options options;
    int in_width, in_height; /* of the frames as they come, border included */
    view view;
    measured frames[OAS_CLIPS][2]; /* the one at hand and the one before, by turns */
    flow_field flows[OAS_CLIPS][OAS_FLOWS];
    bool flow_made[OAS_CLIPS][OAS_FLOWS];
    oas_flow *flow;
    struct chosen chosen[METRICS];
    int n;
    oas_pool *pool;
    oasis_status failed;
    oasis_message message;
};

/* ---- options ----------------------------------------------------------------------------------------------------- */

#define FIELD(f) offsetof(oasis_metrics_options, f)

_Static_assert(sizeof(oasis_flow_source) == sizeof(int), "a CHOICE is stored as an int");

static const oasis_option option_rows[] = {
    {"metrics", 'm', NULL, OASIS_OPTION_TEXT, FIELD(names), 0, 0, NULL, "LIST", "all",
     "what to measure, names separated by commas; all = all that can be computed", "Measuring"},
    {"flow", 0, NULL, OASIS_OPTION_CHOICE, FIELD(flow), 0, 0, "gt|self", "SOURCE", "gt",
     "whose motion the warping error follows; self rewards smooth results", "Measuring"},
    {"niqe", 0, NULL, OASIS_OPTION_TEXT, FIELD(niqe), 0, 0, NULL, "FILE", NULL,
     "published parameters of NIQE (.npz) in place of the model that comes with oasis", "Measuring"},
    {"squeezenet", 0, NULL, OASIS_OPTION_TEXT, FIELD(squeezenet), 0, 0, NULL, "FILE", NULL,
     "SqueezeNet 1.1 for the feature distance, ncnn's .param with the .bin beside it", "Measuring"},
    {"lpips", 0, NULL, OASIS_OPTION_TEXT, FIELD(lpips), 0, 0, NULL, "NETWORK,WEIGHTS", NULL,
     "LPIPS v0.1: torchvision's squeezenet1_1, alexnet or vgg16, and the linear weights for it", "Measuring"},
    {"dists", 0, NULL, OASIS_OPTION_TEXT, FIELD(dists), 0, 0, NULL, "NETWORK,WEIGHTS", NULL,
     "DISTS: torchvision's vgg16, and alpha and beta", "Measuring"},
    {"border", 0, NULL, OASIS_OPTION_INT, FIELD(border), 0, 4096, NULL, "N", "0", "pixels to leave out on each side",
     "Measuring"},
    {"threads", 'j', NULL, OASIS_OPTION_INT, FIELD(threads), 0, 1024, NULL, "N", "0",
     "threads that compute; 0 = as many as there are processors; the result does not depend on it", "Measuring"},
    {.name = NULL},
};

const oasis_option *oasis_metrics_option_rows(void)
{
    return option_rows;
}

void oasis_metrics_options_init(oasis_metrics_options *options)
{
    *options = (oasis_metrics_options){.size = sizeof *options};
}

const oasis_metric_info *oasis_metric_at(int i)
{
    return i >= 0 && i < METRICS ? &all[i]->info : NULL;
}

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

static oasis_status choose(oasis_metrics *m, const metric *k, bool by_name, oasis_message *message)
{
    const view *v = &m->view;
    const char *why = NULL;
    if (k->info.reference && !v->has_reference)
        why = "needs a reference";
    else if (k->possible && !k->possible(&m->options))
        why = "needs a file that is not given";
    else if (v->width < k->least_side || v->height < k->least_side)
        why = "needs larger frames";
    if (why && by_name)
        return oas_fail(message, OASIS_E_ARGUMENT, "metrics: %s %s (frames are %dx%d after the border, it takes %d)",
                        k->info.name, why, v->width, v->height, k->least_side);
    if (why)
        return OASIS_OK;
    for (int i = 0; i < m->n; i++)
        if (m->chosen[i].metric == k)
            return OASIS_OK;
    struct chosen *c = &m->chosen[m->n++];
    c->metric = k;
    c->last = NAN;
    return k->open ? k->open(&c->state, v, message) : OASIS_OK;
}

static oasis_status choose_named(oasis_metrics *m, const char *names, oasis_message *message)
{
    for (const char *p = names; *p;) {
        size_t length = strcspn(p, ",");
        const metric *found = NULL;
        for (int i = 0; i < METRICS && !found; i++)
            if (strlen(all[i]->info.name) == length && strncmp(all[i]->info.name, p, length) == 0)
                found = all[i];
        if (!found) {
            char known[640] = "";
            size_t used = 0;
            for (int i = 0; i < METRICS && used + 40 < sizeof known; i++) {
                size_t n = strlen(all[i]->info.name);
                memcpy(known + used, ", ", 2);
                memcpy(known + used + 2, all[i]->info.name, n + 1);
                used += n + 2;
            }
            return oas_fail(message, OASIS_E_ARGUMENT, "metrics: there is no metric \"%.*s\"; there are %s",
                            (int)length, p, known + 2);
        }
        OAS_TRY(choose(m, found, true, message));
        p += length + (p[length] == ',');
    }
    return OASIS_OK;
}

static oasis_status choose_all(oasis_metrics *m, oasis_message *message)
{
    const char *names = m->options.names;
    if (names && strcmp(names, "all") != 0)
        return choose_named(m, names, message);
    for (int i = 0; i < METRICS; i++)
        OAS_TRY(choose(m, all[i], false, message));
    return OASIS_OK;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static bool has_motion(const oasis_metrics *m)
{
    for (int i = 0; i < m->n; i++)
        if (m->chosen[i].metric->info.motion)
            return true;
    return false;
}

static oasis_status make_room(oasis_metrics *m, oasis_message *message)
{
    size_t n = (size_t)m->view.width * (size_t)m->view.height;
    bool motion = has_motion(m), ok = true;
    for (int c = 0; c <= m->view.has_reference; c++) {
        for (int k = 0; k < 2; k++) {
            m->frames[c][k].rgb = oas_alloc(n, 3 * sizeof(float));
            m->frames[c][k].luma = oas_alloc(n, sizeof(float));
            ok = ok && m->frames[c][k].rgb && m->frames[c][k].luma;
        }
        for (int k = 0; k < OAS_FLOWS && motion; k++) {
            m->flows[c][k].u = oas_alloc(n, sizeof(float));
            m->flows[c][k].v = oas_alloc(n, sizeof(float));
            ok = ok && m->flows[c][k].u && m->flows[c][k].v;
        }
    }
    if (!ok)
        return oas_fail_memory(message, n * 4 * sizeof(float), "frames to be measured");
    return motion ? oas_flow_new(&m->flow, m->view.width, m->view.height, message) : OASIS_OK;
}

static oasis_status open_session(oasis_metrics *m, oasis_message *message)
{
    const oasis_metrics_options *o = &m->options;
    view *v = &m->view;
    if (m->in_width < 1 || m->in_height < 1 || m->in_width > MAX_SIDE || m->in_height > MAX_SIDE || o->border < 0 ||
        o->border > MAX_SIDE || v->width < 1 || v->height < 1)
        return oas_fail(message, OASIS_E_ARGUMENT,
                        "metrics: frames of %dx%d with a border of %d leave nothing to measure", m->in_width,
                        m->in_height, o->border);
    OAS_TRY(oas_pool_new(&m->pool, o->threads, message));
    v->pool = m->pool;
    OAS_TRY(choose_all(m, message));
    return make_room(m, message);
}

oasis_status oasis_metrics_open(oasis_metrics **metrics, const oasis_metrics_options *options, int width, int height,
                                bool reference, oasis_message *message)
{
    oasis_metrics *m = oas_alloc(1, sizeof *m);
    if (!m)
        return oas_fail_memory(message, sizeof *m, "measuring");
    if (options)
        m->options = *options;
    else
        oasis_metrics_options_init(&m->options);
    m->in_width = width;
    m->in_height = height;
    oasis_status status = OASIS_OK;
    if (m->options.size != sizeof m->options)
        status = oas_fail(message, OASIS_E_ARGUMENT,
                          "metrics: options of %zu bytes, expected %zu; fill them with oasis_metrics_options_init",
                          m->options.size, sizeof m->options);
    int border = m->options.border > 0 && m->options.border <= MAX_SIDE ? m->options.border : 0;
    m->view = (view){.width = width - 2 * border,
                     .height = height - 2 * border,
                     .has_reference = reference,
                     .frame = -1,
                     .options = &m->options,
                     .session = m};
    if (status >= 0)
        status = open_session(m, message);
    if (status < 0)
        oasis_metrics_close(&m);
    else
        *metrics = m;
    return status;
}

void oasis_metrics_close(oasis_metrics **metrics)
{
    oasis_metrics *m = *metrics;
    if (!m)
        return;
    for (int i = 0; i < m->n; i++)
        if (m->chosen[i].metric->close)
            m->chosen[i].metric->close(m->chosen[i].state);
    for (int c = 0; c < OAS_CLIPS; c++)
        for (int k = 0; k < 2; k++) {
            oas_free(m->frames[c][k].rgb);
            oas_free(m->frames[c][k].luma);
            oas_free(m->flows[c][k].u);
            oas_free(m->flows[c][k].v);
        }
    oas_flow_free(&m->flow);
    oas_pool_free(&m->pool);
    oas_free(m);
    *metrics = NULL;
}

/* ---- frames ------------------------------------------------------------------------------------------------------ */

static void take(const oasis_frame *frame, int border, int width, int height, measured *out)
{
    for (int y = 0; y < height; y++) {
        const float *in = frame->rgb + ((size_t)(y + border) * (size_t)frame->width + (size_t)border) * 3;
        float *rgb = out->rgb + (size_t)y * (size_t)width * 3, *luma = out->luma + (size_t)y * (size_t)width;
        for (int x = 0; x < width; x++) {
            float byte[3];
            for (int c = 0; c < 3; c++) {
                float b = in[3 * x + c] * 255.f + 0.5f;
                byte[c] = (float)(int)(b > 0 ? b < 255 ? b : 255 : 0);
                rgb[3 * x + c] = byte[c] / 255.f;
            }
            luma[x] = (float)(int)(0.299 * (double)byte[0] + 0.587 * (double)byte[1] + 0.114 * (double)byte[2] + 0.5);
        }
    }
}

static oasis_status measure(oasis_metrics *m)
{
    view *v = &m->view;
    for (int i = 0; i < m->n; i++) {
        struct chosen *c = &m->chosen[i];
        if (c->metric->info.motion && v->frame == 0)
            continue;
        double value = NAN;
        OAS_TRY(c->metric->measure(c->state, v, &value, &m->message));
        c->last = value;
        if (isfinite(value)) {
            c->sum += value;
            c->count++;
        }
    }
    return OASIS_OK;
}

static oasis_status push(oasis_metrics *m, const oasis_frame *const frame[OAS_CLIPS])
{
    view *v = &m->view;
    if (v->has_reference != (frame[OAS_REFERENCE] != NULL))
        return oas_fail(&m->message, OASIS_E_ARGUMENT, "metrics: a frame %s a reference, opened %s one",
                        frame[OAS_REFERENCE] ? "with" : "without", v->has_reference ? "with" : "without");
    for (int c = 0; c <= v->has_reference; c++)
        if (frame[c]->width != m->in_width || frame[c]->height != m->in_height || !frame[c]->rgb)
            return oas_fail(&m->message, OASIS_E_ARGUMENT, "metrics: a %s of %dx%d, expected %dx%d",
                            c == OAS_CLIP ? "frame" : "reference", frame[c]->width, frame[c]->height, m->in_width,
                            m->in_height);
    v->frame++;
    memset(m->flow_made, 0, sizeof m->flow_made);
    for (int c = 0; c <= v->has_reference; c++) {
        measured *now = &m->frames[c][v->frame % 2];
        take(frame[c], m->options.border, v->width, v->height, now);
        v->now[c] = now;
        v->past[c] = v->frame > 0 ? &m->frames[c][(v->frame + 1) % 2] : NULL;
    }
    return measure(m);
}

oasis_status oasis_metrics_push(oasis_metrics *metrics, const oasis_frame *frame, const oasis_frame *reference)
{
    OAS_TRY(metrics->failed);
    const oasis_frame *const both[OAS_CLIPS] = {frame, reference};
    return metrics->failed = push(metrics, both);
}

const char *oasis_metrics_message(const oasis_metrics *metrics)
{
    return metrics->message.text;
}

int oasis_metrics_count(const oasis_metrics *metrics)
{
    return metrics->n;
}

void oasis_metrics_result(const oasis_metrics *metrics, int i, oasis_metric_result *result)
{
    const struct chosen *c = &metrics->chosen[i];
    *result = (oasis_metric_result){
        .info = &c->metric->info,
        .note = c->metric->note_of ? c->metric->note_of(c->state) : c->metric->note ? c->metric->note : "",
        .mean = c->count ? c->sum / (double)c->count : NAN,
        .last = c->last,
        .count = c->count,
    };
}

/* ---- what metrics share ------------------------------------------------------------------------------------------ */

oasis_status oas_view_flow(const view *v, int clip, int direction, const flow_field **flow, oasis_message *message)
{
    oasis_metrics *m = v->session;
    flow_field *f = &m->flows[clip][direction];
    if (!m->flow_made[clip][direction]) {
        const float *from = direction == OAS_FLOW_FORWARD ? v->past[clip]->luma : v->now[clip]->luma;
        const float *to = direction == OAS_FLOW_FORWARD ? v->now[clip]->luma : v->past[clip]->luma;
        OAS_TRY(oas_flow_run(m->flow, v->pool, from, to, f, message));
        m->flow_made[clip][direction] = true;
    }
    *flow = f;
    return OASIS_OK;
}

struct rows {
    row_fn *fn;
    void *task;
    double *sums;
};

static void row_slab(void *task, int64_t y, int worker)
{
    struct rows *r = task;
    r->sums[y] = r->fn(r->task, (int)y, worker);
}

oasis_status oas_sum_rows(oas_pool *pool, int height, row_fn *fn, void *task, double *sum, oasis_message *message)
{
    struct rows r = {fn, task, oas_alloc((size_t)height, sizeof(double))};
    if (!r.sums)
        return oas_fail_memory(message, (size_t)height * sizeof(double), "measuring");
    oas_pool_run(pool, height, row_slab, &r);
    *sum = 0;
    for (int y = 0; y < height; y++)
        *sum += r.sums[y];
    oas_free(r.sums);
    return OASIS_OK;
}
