/*
 * One pass: losses, gradients, and the numbers to report.
 *
 * A GPU computes a pass of a small model faster than a host can launch its thousands of kernels.  So where passes of a kind
 * do the same work, it is recorded and launched as one (tensor/replay.h).  What differs from pass to pass are its inputs:
 * clips, and the places that are drawn.  Frames that perceptual losses look at are part of the key.  All else must be the
 * same, and recordable() says where it is not.
 */
#include "train/train.h"

#include <string.h>

/* Each takes memory of the driver's, as much as a pass has kernels. */
enum { MOST_RECORDED = 48, MOST_SEEN_IN_KEY = 24 };

int oas_pass_kind(const objective *o, const pass *p)
{
    return (o->options->stage != OASIS_STAGE_DIFFUSION && p->middle) + 2 * p->judged;
}

/* The losses side by side: one number is waited for instead of many. */
static tensor *gather_numbers(graph *g, const loss_terms *t, pass_result *r)
{
    const tensor *from[OASIS_MAX_TERMS + 1] = {t->total};
    r->n = 0;
    r->name[r->n++] = "loss";
    for (int i = 0; i < t->n; i++) {
        from[r->n] = t->value[i];
        r->name[r->n++] = t->name[i];
    }
    tensor *all = oas_tensor(g, OAS_F32, OAS_SHAPE1(r->n + t->n_aside));
    for (int i = 0; all && !g->planning && i < r->n; i++)
        oas_graph_copy(g, (float *)all->data + i, from[i]->data, sizeof(float));
    if (all && !g->planning && t->n_aside > 0)
        oas_graph_copy(g, (float *)all->data + r->n, t->aside->data, (size_t)t->n_aside * sizeof(float));
    for (int i = 0; i < t->n_aside; i++)
        r->name[r->n++] = t->aside_name[i];
    r->latents = t->latents ? *t->latents : (tensor){.data = NULL};
    return g->status == OASIS_OK ? all : NULL;
}

typedef struct call {
    objective *o;
    const pass *p;
    pass_result *result;
} call;

static tensor *run(graph *g, void *arg)
{
    const call *c = arg;
    loss_terms terms;
    g->recording = true;
    bool ok = oas_objective(g, c->o, c->p, &terms) && oas_backward(g, terms.total, NULL) == OASIS_OK;
    g->recording = false;
    return ok ? gather_numbers(g, &terms, c->result) : NULL;
}

/* Passes with this key differ in inputs alone. */
static bool recordable(const objective *o, const pass *p, pack_key *key)
{
    *key = (pack_key){"pass"};
    key->bytes[8] = (unsigned char)oas_pass_kind(o, p);
    key->bytes[9] = (unsigned char)p->n_seen;
    for (int i = 0; i < p->n_seen && i < MOST_SEEN_IN_KEY; i++) {
        key->bytes[10 + 2 * i] = (unsigned char)(p->seen[i] & 0xff);
        key->bytes[11 + 2 * i] = (unsigned char)(p->seen[i] >> 8);
    }
    /* Diffusion draws noise and a timestep, r1 noise; what a discriminator says has a weight that grows at first. */
    bool draws = o->options->stage == OASIS_STAGE_DIFFUSION || (p->judged && o->options->r1 > 0);
    bool grows = p->judged && p->adversarial < 1;
    return !draws && !grows && p->n_seen <= MOST_SEEN_IN_KEY;
}

tensor *oas_pass_run(graph *g, replays *r, objective *o, const pass *p, pass_result *results)
{
    pack_key key;
    call c = {o, p, &results[oas_pass_kind(o, p)]};
    r->most = MOST_RECORDED;
    return recordable(o, p, &key) ? oas_replay(g, r, &key, run, &c) : run(g, &c);
}

bool oas_pass_as_one(const graph *g, const replays *r, const objective *o, const pass *p)
{
    pack_key key;
    return g->backend == OAS_CUDA && !g->timed && !r->off && r->refused == 0 && recordable(o, p, &key);
}
