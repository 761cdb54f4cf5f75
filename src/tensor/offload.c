/* Copies to the GPU, and back to the host for what only the CPU can compute. */
#include "tensor/offload.h"

#include <string.h>

/* ---- weights on the device ------------------------------------------------------------------------------------------ */

struct upload {
    graph *g;
    const tensor *from;
};

/* Weights in blocks are unpacked on the way: there, bf16 is what products take. */
static oasis_status upload_blocks(void *arg, void *to)
{
    const struct upload *u = arg;
    int64_t n = oas_count(&u->from->shape);
    uint16_t *values = oas_alloc_unset((size_t)n, sizeof *values);
    if (!values)
        return OASIS_E_MEMORY;
    oas_convert(values, OAS_BF16, u->from->data, u->from->dtype, n);
    oasis_status s = oas_cuda_upload(u->g->cuda, to, values, (size_t)n * sizeof *values);
    oas_free(values);
    return s;
}

static oasis_status upload_weight(void *arg, void *to)
{
    const struct upload *u = arg;
    return oas_cuda_upload(u->g->cuda, to, u->from->data, oas_bytes(u->from));
}

static oasis_status stand_in_for(graph *g, const tensor *t, tensor *there)
{
    *there = *t;
    there->place = OAS_DEVICE;
    there->data = NULL;
    if (t->dtype == OAS_Q8_0) {
        const pack_key key = {"unpacked"};
        struct upload u = {g, t};
        there->dtype = OAS_BF16;
        if (t->packed)
            return oas_cuda_form(g, t, &key, oas_bytes(there), upload_blocks, &u, &there->data);
        there->data = oas_scratch(g, oas_bytes(there));
        return g->planning || g->status < 0 ? g->status : upload_blocks(&u, there->data);
    }
    if (t->packed && !t->needs_grad) {
        const pack_key key = {"as it is"};
        return oas_cuda_form(g, t, &key, oas_bytes(t), upload_weight, &(struct upload){g, t}, &there->data);
    }
    there->data = oas_scratch(g, oas_bytes(t));
    return oas_graph_upload(g, there, t->data);
}

oasis_status oas_node_to_device(graph *g, const node *n, device_node *d)
{
    d->node = *n;
    for (int i = 0; i < OAS_MAX_INPUTS; i++) {
        if (!n->in[i] || n->in[i]->place == OAS_DEVICE)
            continue;
        OAS_TRY(stand_in_for(g, n->in[i], &d->stand_in[i]));
        d->node.in[i] = &d->stand_in[i];
    }
    return OASIS_OK;
}

/* ---- nodes on the host ------------------------------------------------------------------------------------------------ */

/* A node whose tensors lie on the host. */
typedef struct host_node {
    graph g;
    node node;
    tensor in[OAS_MAX_INPUTS], out, gradient[OAS_MAX_INPUTS], out_gradient;
    void *blocks[2 * OAS_MAX_INPUTS + 4]; /* owned */
    int n_blocks;
} host_node;

static void *take(host_node *h, size_t bytes)
{
    void *block = oas_alloc_unset(bytes ? bytes : 1, 1);
    if (block)
        h->blocks[h->n_blocks++] = block;
    return block;
}

static void free_host_node(host_node *h)
{
    for (int i = 0; i < h->n_blocks; i++)
        oas_free(h->blocks[i]);
    oas_arena_free(&h->g.memory);
    oas_arena_free(&h->g.headers);
}

/* A copy of t on the host in `to`. */
static oasis_status fetch(host_node *h, graph *g, const tensor *t, tensor *to)
{
    *to = *t;
    if (t->place == OAS_HOST)
        return OASIS_OK;
    to->place = OAS_HOST;
    to->packed = NULL;
    to->data = take(h, oas_bytes(t));
    return to->data ? oas_graph_download(g, to->data, t) : OASIS_E_MEMORY;
}

/* The gradients of inputs; those that share storage share it on the host, too. */
static oasis_status fetch_gradients(host_node *h, graph *g, const node *n)
{
    for (int i = 0; i < OAS_MAX_INPUTS; i++) {
        const tensor *grad = n->in[i] ? n->in[i]->grad : NULL;
        h->in[i].grad = NULL;
        if (!grad || grad->place == OAS_HOST) {
            h->in[i].grad = n->in[i] ? n->in[i]->grad : NULL;
            continue;
        }
        int same = 0;
        while (same < i && !(n->in[same] && n->in[same]->grad && n->in[same]->grad->data == grad->data))
            same++;
        h->gradient[i] = *grad;
        h->gradient[i].place = OAS_HOST;
        if (same < i)
            h->gradient[i].data = h->gradient[same].data;
        else
            OAS_TRY(fetch(h, g, grad, &h->gradient[i]));
        h->in[i].grad = &h->gradient[i];
    }
    return fetch(h, g, n->out->grad, &h->out_gradient);
}

static oasis_status fetch_node(host_node *h, graph *g, const node *n, bool forward)
{
    h->g = (graph){.device = g->device, .backend = g->device ? OAS_CPU : OAS_REF, .compute = g->compute};
    h->node = *n;
    for (int i = 0; i < OAS_MAX_INPUTS; i++) {
        if (!n->in[i])
            continue;
        OAS_TRY(fetch(h, g, n->in[i], &h->in[i]));
        h->node.in[i] = &h->in[i];
    }
    h->out = *n->out;
    h->out.place = OAS_HOST;
    h->node.out = &h->out;
    size_t kept = n->keep && n->op->keep ? n->op->keep(n) : 0;
    if (kept > 0 && !(h->node.keep = take(h, kept)))
        return OASIS_E_MEMORY;
    if (kept > 0 && !forward)
        OAS_TRY(oas_cuda_download(g->cuda, h->node.keep, n->keep, kept));
    h->out.data = take(h, oas_bytes(n->out));
    if (!h->out.data)
        return OASIS_E_MEMORY;
    if (forward)
        return OASIS_OK;
    OAS_TRY(oas_graph_download(g, h->out.data, n->out));
    OAS_TRY(fetch_gradients(h, g, n));
    h->out.grad = &h->out_gradient;
    return OASIS_OK;
}

/* The host graph's arena, as large as a plan says, and for REF functions that no plan asks as op->scratch says. */
static oasis_status open_arena(host_node *h, oasis_status (*run)(host_node *h, void *fn), void *fn)
{
    enum { HEADERS = 1 << 16 };
    oas_arena_count(&h->g.memory);
    if (!oas_arena_new(&h->g.headers, HEADERS))
        return OASIS_E_MEMORY;
    h->g.planning = true;
    oasis_status s = run(h, fn);
    size_t bytes = h->g.memory.peak;
    if (s == OASIS_OK && h->node.op->scratch && h->g.device)
        bytes += h->node.op->scratch(&h->g, &h->node);
    h->g.planning = false;
    h->g.memory = (arena){0};
    if (s == OASIS_OK && !oas_arena_new(&h->g.memory, bytes + OAS_ALIGN))
        s = OASIS_E_MEMORY;
    return s;
}

typedef struct host_call {
    oasis_status (*forward)(graph *host, node *n);
    oasis_status (*backward)(graph *host, const node *n);
} host_call;

static oasis_status call(host_node *h, void *fn)
{
    const host_call *c = fn;
    return c->forward ? c->forward(&h->g, &h->node) : c->backward(&h->g, &h->node);
}

static oasis_status return_node(const host_node *h, graph *g, const node *n, bool forward)
{
    size_t kept = forward && n->keep && n->op->keep ? n->op->keep(n) : 0;
    if (kept > 0)
        OAS_TRY(oas_cuda_upload(g->cuda, n->keep, h->node.keep, kept));
    if (forward)
        return oas_graph_upload(g, n->out, h->out.data);
    for (int i = 0; i < OAS_MAX_INPUTS; i++)
        if (n->in[i] && n->in[i]->grad && n->in[i]->grad->place == OAS_DEVICE)
            OAS_TRY(oas_graph_upload(g, n->in[i]->grad, h->gradient[i].data));
    return OASIS_OK;
}

static oasis_status run_on_host(graph *g, const node *n, host_call *fn)
{
    if (g->planning)
        return OASIS_OK;
    host_node h = {.n_blocks = 0};
    bool forward = fn->forward != NULL;
    oasis_status s = fetch_node(&h, g, n, forward);
    if (s == OASIS_OK)
        s = open_arena(&h, call, fn);
    if (s == OASIS_OK)
        s = call(&h, fn);
    if (s == OASIS_OK)
        s = return_node(&h, g, n, forward);
    if (h.g.status < 0)
        oas_graph_fail(g, h.g.status, "%s", h.g.message.text);
    free_host_node(&h);
    return s;
}

oasis_status oas_forward_on_host(graph *g, const node *n, oasis_status (*run)(graph *host, node *n))
{
    return run_on_host(g, n, &(host_call){.forward = run});
}

oasis_status oas_backward_on_host(graph *g, const node *n, oasis_status (*run)(graph *host, const node *n))
{
    return run_on_host(g, n, &(host_call){.backward = run});
}

oasis_status oas_add_on_host(graph *g, tensor *seed, const tensor *cotangent)
{
    int64_t n = oas_count(&seed->shape);
    bool away = seed->place == OAS_DEVICE;
    if (g->planning)
        return OASIS_OK;
    float *sum = away ? oas_alloc((size_t)n, sizeof *sum) : seed->data;
    float *added = away && cotangent ? oas_alloc((size_t)n, sizeof *added) : cotangent ? cotangent->data : NULL;
    if (!sum || (cotangent && !added))
        oas_graph_fail(g, OASIS_E_MEMORY, "out of memory: %lld values of a gradient", (long long)n);
    else if (away)
        oas_graph_download(g, sum, seed);
    if (away && added)
        oas_graph_download(g, added, cotangent);
    for (int64_t i = 0; i < n && g->status == OASIS_OK; i++)
        sum[i] += cotangent ? added[i] : 1.f;
    if (away) {
        oas_graph_upload(g, seed, sum);
        oas_free(sum);
        oas_free(added);
    }
    return g->status;
}
