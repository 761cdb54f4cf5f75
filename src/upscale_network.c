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
    }
    return NULL;
}

tensor *oas_run_network(oasis_upscaler *u, network_call call)
{
    pack_key key = {"network"};
    if (call.state)
        call.start = !call.state->started;
    const int32_t which[] = {(int32_t)call.kind, call.part, call.start};
    memcpy(key.bytes + 8, which, sizeof which);
    struct stretch s = {u->model, call};
    tensor *result = oas_replay(&u->graph, &u->replays, &key, call_network, &s);
    if (call.state && result)
        call.state->started = true;
    return result;
}
