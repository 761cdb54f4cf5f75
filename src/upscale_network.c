/* Running the networks of an upscaler: on a GPU as one launch each. */
#include "upscale.h"

#include <string.h>

struct stretch {
    const oasis_model *model;
    network_call call;
};

static tensor *call_network(graph *g, void *arg)
{
    const struct stretch *s = arg;
    const network_call *c = &s->call;
    if (c->state)
        c->state->started = !c->start; /* it may be called twice: a recording that failed has not decoded anything */
    switch (c->kind) {
    case NETWORK_PROJECT: return oas_project(g, s->model, c->pixels, c->start);
    case NETWORK_RESTORE: return oas_restore(g, s->model, c->x);
    case NETWORK_DECODE: return oas_decode(g, s->model, c->state, c->x, c->pixels);
    case NETWORK_BEGIN: return oas_decode_begin(g, s->model, c->state, c->x);
    case NETWORK_TILE: return oas_decode_tile(g, s->model, c->state, c->x, c->pixels);
    case NETWORKS: break;
    }
    return NULL;
}

tensor *oas_run_network(oasis_upscaler *u, network_call call)
{
    pack_key key = {"network"};
    if (call.state)
        call.start = !call.state->started;
    const int32_t which[] = {(int32_t)call.kind, call.part, call.windows, call.start};
    memcpy(key.bytes + 8, which, sizeof which);
    struct stretch s = {u->model, call};
    graph *g = &u->graph;
    double flops = g->flops;
    if (g->cuda)
        oas_cuda_clock_begin(g->cuda, &u->clocks[call.kind]);
    tensor *result = oas_replay(g, &u->replays, &key, call_network, &s);
    if (g->cuda)
        oas_cuda_clock_end(g->cuda, &u->clocks[call.kind]);
    u->flops[call.kind] += g->flops - flops;
    if (call.state && result)
        call.state->started = true;
    return result;
}

void oas_network_times(const oasis_upscaler *u, oasis_statistics *statistics)
{
    static const char *const names[NETWORKS] = {"project", "restore", "decode", "decode: whole frames",
                                                "decode: tiles"};
    double seconds[NETWORKS];
    for (int i = 0; i < NETWORKS; i++) {
        seconds[i] = oas_cuda_clock_seconds(u->device->cuda, &u->clocks[i]);
        if (u->flops[i] > 0)
            oas_add_stage(statistics, names[i], seconds[i], u->flops[i]);
    }
    statistics->transformer_seconds = seconds[NETWORK_RESTORE];
    statistics->decoder_seconds = seconds[NETWORK_DECODE] + seconds[NETWORK_BEGIN] + seconds[NETWORK_TILE];
}
