/*
 * LPIPS and DISTS, on the graph that training uses, in fp32: exactly the published networks and weights, which the user
 * brings (metrics/perceptual_file.h).  Frames are not resized.
 */
#include "base/memory.h"
#include "cpu/device.h"
#include "metrics/metric.h"
#include "metrics/perceptual_file.h"

struct perceptual {
    judge_file file;
    device *device;
    graph graph;
};

static void perceptual_close(void *state)
{
    struct perceptual *p = state;
    if (!p)
        return;
    oas_judge_close(&p->file);
    oas_arena_free(&p->graph.memory);
    oas_device_free(&p->device);
    oas_free(p);
}

/* A frame in [-1,1]; without values while planning. */
static tensor *frame_of(graph *g, const view *v, int clip)
{
    tensor *x = oas_tensor(g, OAS_F32, OAS_SHAPE5(1, 1, v->height, v->width, 3));
    for (int64_t i = 0; x && !g->planning && i < oas_count(&x->shape); i++)
        ((float *)x->data)[i] = 2.f * v->now[clip]->rgb[i] - 1.f;
    return x;
}

static const tensor *distance(graph *g, const struct perceptual *p, const view *v)
{
    tensor *y = frame_of(g, v, OAS_CLIP), *t = frame_of(g, v, OAS_REFERENCE);
    return y && t ? oas_judge(g, &p->file.judge, y, t, 1) : NULL;
}

enum { HEADER_BYTES = 1 << 20 };

static oasis_status plan(struct perceptual *p, const view *v, oasis_message *message)
{
    graph g = {.device = p->device, .backend = OAS_CPU, .compute = OAS_F32, .planning = true};
    oas_arena_count(&g.memory);
    if (!oas_arena_new(&g.headers, HEADER_BYTES))
        return oas_fail_memory(message, HEADER_BYTES, "measuring");
    distance(&g, p, v);
    oas_arena_free(&g.headers);
    if (g.status < 0)
        return oas_fail(message, g.status, "metrics: %s", g.message.text);
    if (!oas_arena_new(&p->graph.memory, g.memory.peak))
        return oas_fail_memory(message, g.memory.peak, "the networks that measure");
    return OASIS_OK;
}

static oasis_status perceptual_open(void **state, const view *v, judgement kind, const char *files,
                                    oasis_message *message)
{
    struct perceptual *p = oas_alloc(1, sizeof *p);
    *state = p;
    if (!p)
        return oas_fail_memory(message, sizeof *p, "measuring");
    OAS_TRY(oas_judge_open(&p->file, kind, files, message));
    OAS_TRY(oas_device_new(&p->device, v->options->threads, message));
    p->graph.device = p->device;
    p->graph.backend = OAS_CPU;
    p->graph.compute = OAS_F32;
    return plan(p, v, message);
}

static oasis_status perceptual_measure(void *state, const view *v, double *value, oasis_message *message)
{
    struct perceptual *p = state;
    oas_graph_reset(&p->graph);
    const tensor *d = distance(&p->graph, p, v);
    if (!d)
        return oas_fail(message, p->graph.status, "metrics: %s", p->graph.message.text);
    *value = (double)*(const float *)d->data;
    return OASIS_OK;
}

static const char *backbone_note(const void *state)
{
    return oas_backbone_name(((const struct perceptual *)state)->file.judge.backbone);
}

static oasis_status lpips_open(void **state, const view *v, oasis_message *message)
{
    return perceptual_open(state, v, OAS_JUDGE_LPIPS, v->options->lpips, message);
}

static bool with_lpips(const oasis_metrics_options *options)
{
    return options->lpips != NULL;
}

enum { LEAST_SIDE = 32 }; /* below it, the last maps would be empty */

const metric oas_metric_lpips = {
    .info = {"lpips", "LPIPS", "", -1, true, false},
    .note_of = backbone_note,
    .least_side = LEAST_SIDE,
    .possible = with_lpips,
    .open = lpips_open,
    .close = perceptual_close,
    .measure = perceptual_measure,
};

static oasis_status dists_open(void **state, const view *v, oasis_message *message)
{
    return perceptual_open(state, v, OAS_JUDGE_DISTS, v->options->dists, message);
}

static bool with_dists(const oasis_metrics_options *options)
{
    return options->dists != NULL;
}

const metric oas_metric_dists = {
    .info = {"dists", "DISTS", "", -1, true, false},
    .note = "not resized",
    .least_side = LEAST_SIDE,
    .possible = with_dists,
    .open = dists_open,
    .close = perceptual_close,
    .measure = perceptual_measure,
};
