/*
 * Running ops: shape, storage, compute, record.
 *
 * The arena holds, in order of creation, tensor headers, their data and recorded nodes.  While an op runs, its scratch
 * lies above its output and is given back when it returns.
 */
#include "tensor/graph.h"

#include "tensor/offload.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

tensor *oas_graph_fail(graph *g, oasis_status status, const char *format, ...)
{
    if (g->status == OASIS_OK) {
        g->status = status;
        va_list args;
        va_start(args, format);
        vsnprintf(g->message.text, sizeof g->message.text, format, args);
        va_end(args);
    }
    return NULL;
}

static tensor *out_of_memory(graph *g, size_t bytes)
{
    return oas_graph_fail(g, OASIS_E_MEMORY, "the plan's %zu bytes do not suffice: %zu more were asked for",
                          g->memory.size, bytes);
}

/* A counting arena has no memory, and that of a GPU is not for headers and nodes: they lie in `headers` then. */
void *oas_graph_small(graph *g, size_t bytes)
{
    bool apart = g->memory.counting || g->backend == OAS_CUDA;
    void *block = oas_arena_take(apart ? &g->headers : &g->memory, bytes);
    if (g->backend != OAS_CUDA && g->memory.counting)
        oas_arena_take(&g->memory, bytes);
    if (!block)
        out_of_memory(g, bytes);
    return block;
}

tensor *oas_tensor_header(graph *g)
{
    tensor *t = oas_graph_small(g, sizeof *t);
    if (t)
        memset(t, 0, sizeof *t);
    return t;
}

static bool new_data(graph *g, tensor *t)
{
    size_t bytes = oas_bytes(t);
    t->place = g->backend == OAS_CUDA ? OAS_DEVICE : OAS_HOST;
    t->data = oas_arena_take(&g->memory, bytes);
    if (g->memory.failed)
        out_of_memory(g, bytes);
    return !g->memory.failed;
}

tensor *oas_tensor(graph *g, oas_dtype dtype, shape s)
{
    if (g->status != OASIS_OK)
        return NULL;
    tensor *t = oas_tensor_header(g);
    if (!t)
        return NULL;
    t->dtype = dtype;
    t->shape = s;
    return new_data(g, t) ? t : NULL;
}

void *oas_scratch(graph *g, size_t bytes)
{
    void *block = oas_arena_take(&g->memory, bytes);
    if (g->memory.failed)
        out_of_memory(g, bytes);
    return block;
}

tensor *oas_view(graph *g, tensor *t, shape s)
{
    if (g->status != OASIS_OK || !t)
        return NULL;
    if (oas_count(&t->shape) != oas_count(&s))
        return oas_graph_fail(g, OASIS_E_ARGUMENT, "view: %s has not as many values as %s",
                              oas_shape_text(&t->shape).text, oas_shape_text(&s).text);
    tensor *v = oas_tensor_header(g);
    if (!v)
        return NULL;
    *v = *t;
    v->shape = s;
    v->origin = oas_root(t);
    v->grad = NULL;
    return v;
}

stage_time *oas_graph_stage(graph *g, const char *name)
{
    for (int i = 0; i < OAS_MAX_STAGES; i++) {
        stage_time *s = &g->stages[i];
        if (!s->name)
            s->name = name;
        if (strcmp(s->name, name) == 0)
            return s;
    }
    return &g->stages[OAS_MAX_STAGES - 1];
}

/* Runs the definition, which sees floats only: other types are converted before and after. */
static oasis_status run_reference(graph *g, node *n)
{
    node copy = *n;
    tensor stand_in[OAS_MAX_INPUTS + 1];
    for (int i = 0; i < OAS_MAX_INPUTS; i++) {
        tensor *t = n->in[i];
        if (!t || t->dtype == OAS_F32)
            continue;
        stand_in[i] = *t;
        stand_in[i].dtype = OAS_F32;
        stand_in[i].data = oas_scratch(g, oas_bytes(&stand_in[i]));
        if (g->status != OASIS_OK)
            return g->status;
        if (!g->planning)
            oas_convert(stand_in[i].data, OAS_F32, t->data, t->dtype, oas_count(&t->shape));
        copy.in[i] = &stand_in[i];
    }
    if (n->out->dtype != OAS_F32) {
        tensor *out = &stand_in[OAS_MAX_INPUTS];
        *out = *n->out;
        out->dtype = OAS_F32;
        out->data = oas_scratch(g, oas_bytes(out));
        if (g->status != OASIS_OK)
            return g->status;
        copy.out = out;
    }
    if (g->planning)
        return OASIS_OK;
    OAS_TRY(n->op->forward[OAS_REF](g, &copy));
    if (copy.out != n->out)
        oas_convert(n->out->data, n->out->dtype, copy.out->data, OAS_F32, oas_count(&n->out->shape));
    return OASIS_OK;
}

static double bytes_moved(const node *n)
{
    double bytes = (double)oas_bytes(n->out);
    for (int i = 0; i < n->op->n_in; i++)
        bytes += n->in[i] ? (double)oas_bytes(n->in[i]) : 0;
    return bytes;
}

static oasis_status run(graph *g, node *n);

static oasis_status run_cuda(graph *g, node *n)
{
    op_fn *fn = n->op->forward[OAS_CUDA];
    if (!fn || (n->op->accepts_cuda && !n->op->accepts_cuda(g, n)))
        return oas_forward_on_host(g, n, run);
    device_node on_device;
    OAS_TRY(oas_node_to_device(g, n, &on_device));
    return fn(g, &on_device.node);
}

static oasis_status run(graph *g, node *n)
{
    op_fn *fast = n->op->forward[OAS_CPU];
    bool use_fast = g->backend == OAS_CPU && fast && (!n->op->accepts || n->op->accepts(g, n));
    size_t mark = g->memory.used;
    double start = g->planning ? 0 : oas_now();
    oasis_status s = OASIS_OK;
    if (g->backend == OAS_CUDA)
        s = run_cuda(g, n);
    else if (!use_fast)
        s = run_reference(g, n);
    else if (!g->planning)
        s = fast(g, n);
    else if (n->op->scratch)
        oas_scratch(g, n->op->scratch(g, n));
    if (s == OASIS_OK)
        s = g->status;
    if (s == OASIS_OK && g->timed && g->backend == OAS_CUDA && !g->planning)
        s = oas_cuda_wait(g->cuda, &g->message);
    double flops = n->op->flops ? n->op->flops(n) : 0;
    stage_time *stage = oas_graph_stage(g, n->op->stage);
    stage->flops += flops;
    stage->bytes += bytes_moved(n);
    stage->seconds += g->planning ? 0 : oas_now() - start;
    g->flops += flops;
    oas_arena_release(&g->memory, mark);
    if (s < 0)
        oas_graph_fail(g, s, "the operation %s failed: %s", n->op->name, oasis_status_name(s));
    return s;
}

/* The output's storage: that of an input where the op may work in place. */
static bool place_output(graph *g, node *n)
{
    const tensor *x = n->op->in_place ? n->in[n->op->in_place - 1] : NULL;
    if (x && !g->recording && x->dtype == n->out->dtype && oas_shape_equal(&x->shape, &n->out->shape)) {
        n->out->data = x->data;
        n->out->place = x->place;
        return true;
    }
    return new_data(g, n->out);
}

tensor *oas_apply(graph *g, const op *o, tensor *const *in, const void *param, size_t param_bytes)
{
    if (g->status != OASIS_OK)
        return NULL;
    if (g->cancel && atomic_load_explicit(g->cancel, memory_order_relaxed))
        return oas_graph_fail(g, OASIS_E_CANCELLED, "cancelled");
    node local = {.op = o};
    for (int i = 0; i < o->n_in; i++) {
        if (!in[i] && !(o->optional >> i & 1))
            return oas_graph_fail(g, OASIS_E_ARGUMENT, "%s: input %d is missing", o->name, i);
        local.in[i] = in[i];
        if (in[i] && in[i]->needs_grad)
            local.needs_grad = true;
    }
    memcpy(local.param, param, param_bytes);
    local.out = oas_tensor_header(g);
    if (!local.out || !o->shape(g, &local) || !place_output(g, &local))
        return NULL;
    bool record = g->recording && local.needs_grad;
    if (record && o->keep) {
        local.keep = oas_arena_take(&g->memory, o->keep(&local));
        if (g->memory.failed)
            return out_of_memory(g, o->keep(&local));
    }
    local.out->needs_grad = record;
    if (run(g, &local) < 0)
        return NULL;
    if (record) {
        node *kept = oas_graph_small(g, sizeof *kept);
        if (!kept)
            return NULL;
        *kept = local;
        kept->previous = g->tape;
        g->tape = kept;
    }
    if (g->watch && !g->planning)
        g->watch(g->watch_user, &local);
    return local.out;
}

size_t oas_graph_mark(const graph *g)
{
    return oas_arena_mark(&g->memory);
}

void oas_graph_release(graph *g, size_t mark)
{
    if (!g->recording)
        oas_arena_release(&g->memory, mark);
}

tensor *oas_graph_keep(graph *g, tensor *t, size_t mark)
{
    if (g->recording || !t)
        return t;
    tensor copy = *t;
    oas_arena_release(&g->memory, mark);
    tensor *kept = oas_tensor_header(g);
    if (kept)
        *kept = copy;
    return kept;
}

tensor *oas_graph_sink(graph *g, tensor *t, size_t mark)
{
    if (g->recording || !t)
        return t;
    tensor copy = *t;
    oas_arena_release(&g->memory, mark);
    tensor *kept = oas_tensor(g, copy.dtype, copy.shape);
    if (kept && oas_graph_copy(g, kept->data, copy.data, oas_bytes(kept)) < 0)
        return NULL;
    return kept;
}

void oas_graph_reset(graph *g)
{
    if (g->cuda)
        oas_cuda_use(g->cuda);
    g->memory.used = 0;
    g->memory.failed = false;
    g->headers.used = 0;
    g->tape = NULL;
    g->spares = NULL;
    g->status = OASIS_OK;
    g->message.text[0] = 0;
}
