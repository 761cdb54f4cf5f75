/* Recording stretches of a pass at their second run. */
#include "tensor/replay.h"

#include <string.h>

typedef enum replay_state { NEW, SEEN, RECORDED, REFUSED } replay_state;

struct replay {
    pack_key key;
    size_t begin, end; /* the arena before and after */
    replay_state state;
    cuda_recording *recording;
    tensor result;
    stage_time stages[OAS_MAX_STAGES]; /* what it counts, without times */
    double flops;
    struct replay *next;
};

enum { MOST_REPLAYS = 512 }; /* each takes memory of the driver's */

/* What a run counts with the graph. */
typedef struct counts {
    stage_time stages[OAS_MAX_STAGES];
    double flops;
} counts;

static counts counted(const graph *g)
{
    counts c = {.flops = g->flops};
    memcpy(c.stages, g->stages, sizeof c.stages);
    return c;
}

static void set_counts(graph *g, const counts *c)
{
    memcpy(g->stages, c->stages, sizeof g->stages);
    g->flops = c->flops;
}

static bool cancelled(const graph *g)
{
    return g->cancel && atomic_load_explicit(g->cancel, memory_order_relaxed);
}

/* The stretch's entry, made at its first run; NULL where it is only called. */
static replay *find(const graph *g, replays *r, const pack_key *key)
{
    bool plain = g->backend != OAS_CUDA || g->planning || g->recording || g->timed || g->watch || g->walked || r->off;
    int n = 0, most = r->most > 0 ? r->most : MOST_REPLAYS;
    if (plain || g->status < 0)
        return NULL;
    for (replay *p = r->first; p; p = p->next, n++)
        if (p->begin == g->memory.used && memcmp(&p->key, key, sizeof *key) == 0)
            return p;
    replay *made = n < most ? oas_alloc(1, sizeof *made) : NULL;
    if (!made)
        return NULL;
    made->key = *key;
    made->begin = g->memory.used;
    made->next = r->first;
    return r->first = made;
}

/* Goes through the stretch without doing its work; true: it is recorded.  Leaves the graph as it was. */
static bool record(graph *g, replay *p, oas_replay_fn *stretch, void *arg)
{
    const counts before = counted(g);
    size_t headers = g->headers.used;
    if (oas_cuda_record(g->cuda) < 0)
        return false;
    const tensor *result = stretch(g, arg);
    p->recording = oas_cuda_recorded(g->cuda);
    bool ok = p->recording && result && g->status == OASIS_OK;
    if (ok) {
        p->result = *result;
        p->result.origin = p->result.grad = NULL;
        p->end = g->memory.used;
        memcpy(p->stages, g->stages, sizeof p->stages);
        for (int i = 0; i < OAS_MAX_STAGES; i++) {
            p->stages[i].flops -= before.stages[i].flops;
            p->stages[i].bytes -= before.stages[i].bytes;
        }
        p->flops = g->flops - before.flops;
    } else {
        oas_cuda_forget(g->cuda, &p->recording);
    }
    set_counts(g, &before);
    g->memory.used = p->begin;
    g->memory.failed = false;
    g->headers.used = headers;
    g->tape = NULL; /* of what failed on the way */
    g->spares = NULL;
    g->recording = false;
    g->status = OASIS_OK;
    g->message.text[0] = 0;
    return ok;
}

static tensor *run_recorded(graph *g, replays *r, const replay *p)
{
    if (cancelled(g))
        return oas_graph_fail(g, OASIS_E_CANCELLED, "cancelled");
    if (oas_cuda_replay(g->cuda, p->recording) < 0)
        return oas_graph_fail(g, OASIS_E_DEVICE, "the GPU refused a recorded part of the network");
    for (int i = 0; i < OAS_MAX_STAGES && p->stages[i].name; i++) {
        stage_time *s = oas_graph_stage(g, p->stages[i].name);
        s->flops += p->stages[i].flops;
        s->bytes += p->stages[i].bytes;
    }
    g->flops += p->flops;
    g->memory.used = p->end;
    r->replayed++;
    tensor *result = oas_tensor_header(g);
    if (result)
        *result = p->result;
    return result;
}

tensor *oas_replay(graph *g, replays *r, const pack_key *key, oas_replay_fn *stretch, void *arg)
{
    replay *p = find(g, r, key);
    if (g->backend == OAS_CUDA && !g->planning)
        r->calls++;
    if (!p)
        return stretch(g, arg);
    if (p->state == NEW) {
        tensor *result = stretch(g, arg);
        p->state = result && g->status == OASIS_OK ? SEEN : NEW;
        return result;
    }
    if (p->state == SEEN && !cancelled(g)) {
        p->state = record(g, p, stretch, arg) ? RECORDED : REFUSED;
        *(p->state == RECORDED ? &r->recorded : &r->refused) += 1;
    }
    return p->state == RECORDED ? run_recorded(g, r, p) : stretch(g, arg);
}

void oas_replays_free(graph *g, replays *r)
{
    for (replay *p = r->first, *next; p; p = next) {
        next = p->next;
        oas_cuda_forget(g->cuda, &p->recording);
        oas_free(p);
    }
    *r = (replays){0};
}
