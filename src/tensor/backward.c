/*
 * Backward: walks the tape from its end, and has every node add to the gradients of its inputs.
 *
 * A result is used only by nodes behind its own on the tape.  So when the walk reaches the node that made it, its
 * gradient is complete; and once that node is done, the storage of that gradient is free for another.  A residual takes
 * it over as it is, instead of zeros to which it is added.
 */
#include "tensor/graph.h"

#include "tensor/offload.h"

#include <string.h>

struct spare {
    void *data;
    size_t bytes;
    spare *next;
};

/* Takes the smallest spare block that fits and wastes little of it, else new storage. */
static void *take_storage(graph *g, size_t bytes)
{
    spare **best = NULL;
    for (spare **s = &g->spares; *s; s = &(*s)->next)
        if ((*s)->bytes >= bytes && (*s)->bytes / 4 <= bytes && (!best || (*s)->bytes < (*best)->bytes))
            best = s;
    if (!best)
        return oas_scratch(g, bytes);
    void *data = (*best)->data;
    *best = (*best)->next;
    return data;
}

static void give_storage(graph *g, tensor *gradient)
{
    spare *s = oas_graph_small(g, sizeof *s);
    if (!s)
        return;
    *s = (spare){gradient->data, oas_bytes(gradient), g->spares};
    g->spares = s;
}

tensor *oas_gradient(graph *g, tensor *t)
{
    if (g->status != OASIS_OK || t->grad)
        return t->grad;
    tensor *shared = t->origin ? oas_gradient(g, t->origin) : NULL;
    tensor *made = oas_tensor_header(g);
    if (!made || (t->origin && !shared))
        return NULL;
    made->shape = t->shape;
    made->dtype = OAS_F32;
    made->place = g->backend == OAS_CUDA ? OAS_DEVICE : OAS_HOST;
    made->data = shared ? shared->data : take_storage(g, oas_bytes(made));
    if (g->status != OASIS_OK)
        return NULL;
    if (!shared && oas_graph_zero(g, made->data, oas_bytes(made)) < 0)
        return NULL;
    return t->grad = made;
}

/* Runs the definition, which sees floats only. */
static oasis_status run_reference(graph *g, const node *n)
{
    node copy = *n;
    tensor stand_in[OAS_MAX_INPUTS + 1];
    for (int i = 0; i <= OAS_MAX_INPUTS; i++) {
        tensor *t = i < OAS_MAX_INPUTS ? n->in[i] : n->out;
        if (!t || t->dtype == OAS_F32)
            continue;
        stand_in[i] = *t;
        stand_in[i].dtype = OAS_F32;
        stand_in[i].data = oas_scratch(g, oas_bytes(&stand_in[i]));
        if (g->status != OASIS_OK)
            return g->status;
        if (!g->planning)
            oas_convert(stand_in[i].data, OAS_F32, t->data, t->dtype, oas_count(&t->shape));
        if (i < OAS_MAX_INPUTS)
            copy.in[i] = &stand_in[i];
        else
            copy.out = &stand_in[i];
    }
    return n->op->backward[OAS_REF](g, &copy);
}

/* Reads the inputs and the result's gradient; sets the inputs' gradients to zero, and adds to them, but for `heir`. */
static double bytes_moved(const node *n, const tensor *heir)
{
    double floats = (double)oas_count(&n->out->shape), bytes = 0;
    for (int i = 0; i < n->op->n_in; i++)
        if (n->in[i] && n->in[i] != heir) {
            bytes += (double)oas_bytes(n->in[i]);
            floats += n->in[i]->needs_grad ? 3 * (double)oas_count(&n->in[i]->shape) : 0;
        }
    return bytes + floats * sizeof(float);
}

/* The input that takes over the gradient of the result, or NULL. */
static tensor *heir_of(const node *n)
{
    tensor *heir = n->op->passes_on > 0 ? n->in[n->op->passes_on - 1] : NULL;
    if (!heir || !heir->needs_grad || heir->grad || oas_root(heir)->grad || n->out->origin)
        return NULL;
    for (int i = 0; i < n->op->n_in; i++)
        if (i != n->op->passes_on - 1 && n->in[i] && oas_root(n->in[i]) == oas_root(heir))
            return NULL;
    return heir;
}

static void inherit(const node *n, tensor *heir)
{
    tensor *root = oas_root(heir);
    root->grad = n->out->grad;
    root->grad->shape = root->shape;
    n->out->grad = NULL;
}

static oasis_status run_host(graph *g, const node *n)
{
    const op *o = n->op;
    bool (*accepts)(const graph *, const node *) = o->accepts_backward ? o->accepts_backward : o->accepts;
    op_fn *fast = g->backend == OAS_CPU && (!accepts || accepts(g, n)) ? o->backward[OAS_CPU] : NULL;
    return fast ? fast(g, n) : run_reference(g, n);
}

static oasis_status run_cuda(graph *g, const node *n)
{
    op_fn *fn = n->op->backward[OAS_CUDA];
    if (!fn || (n->op->accepts_cuda && !n->op->accepts_cuda(g, n)))
        return oas_backward_on_host(g, n, run_host);
    device_node on_device;
    OAS_TRY(oas_node_to_device(g, n, &on_device));
    return fn(g, &on_device.node);
}

static oasis_status run(graph *g, const node *n)
{
    const op *o = n->op;
    if (!o->backward[OAS_REF] && !o->backward[OAS_CPU]) {
        oas_graph_fail(g, OASIS_E_UNSUPPORTED, "%s: no gradient passes through this op", o->name);
        return g->status;
    }
    tensor *heir = heir_of(n);
    for (int i = 0; i < o->n_in; i++)
        if (n->in[i] && n->in[i] != heir && n->in[i]->needs_grad && !(o->constant >> i & 1) &&
            !oas_gradient(g, n->in[i]))
            return g->status;
    size_t mark = g->memory.used;
    double start = g->planning ? 0 : oas_now();
    oasis_status s = g->backend == OAS_CUDA ? run_cuda(g, n) : run_host(g, n);
    oas_arena_release(&g->memory, mark);
    if (s == OASIS_OK)
        s = g->status;
    if (s == OASIS_OK && g->timed && g->backend == OAS_CUDA && !g->planning)
        s = oas_cuda_wait(g->cuda, &g->message);
    double flops = o->flops ? 2 * o->flops(n) : 0; /* for the input's gradient, and for the weight's */
    stage_time *stage = o->stage ? oas_graph_stage(g, o->stage) : NULL;
    if (stage) {
        stage->flops += flops;
        stage->bytes += bytes_moved(n, heir);
        stage->seconds += g->planning ? 0 : oas_now() - start;
    }
    g->flops += flops;
    if (s < 0)
        oas_graph_fail(g, s, "%s backward failed: %s", o->name, oasis_status_name(s));
    else if (heir)
        inherit(n, heir);
    return s;
}

static oasis_status walk(graph *g)
{
    bool recording = g->recording;
    g->recording = false;
    for (node *n = g->tape; n && g->status == OASIS_OK; n = n->previous) {
        if (g->cancel && *g->cancel)
            oas_graph_fail(g, OASIS_E_CANCELLED, "cancelled");
        if (!n->out->grad || run(g, n) < 0)
            continue;
        if (g->walked)
            g->walked(g->walked_user, g, n);
        if (n->out->grad)
            give_storage(g, n->out->grad);
        n->out->grad = NULL;
    }
    g->recording = recording;
    g->tape = NULL;
    return g->status;
}

/* Adds the cotangent to a gradient, which is zero where it is new. */
static oasis_status seed_gradient(graph *g, tensor *seed, bool is_new, const tensor *cotangent)
{
    const float one = 1;
    if (is_new && !cotangent && oas_count(&seed->shape) == 1)
        return oas_graph_upload(g, seed, &one); /* a GPU need not be waited for */
    return oas_add_on_host(g, seed, cotangent);
}

oasis_status oas_backward(graph *g, tensor *out, const tensor *cotangent)
{
    if (g->status != OASIS_OK)
        return g->status;
    if (!g->tape || !out->needs_grad) {
        oas_graph_fail(g, OASIS_E_ARGUMENT, "backward: the result depends on nothing that wants a gradient");
        return g->status;
    }
    bool is_new = !oas_root(out)->grad && !out->grad;
    tensor *seed = oas_gradient(g, out);
    if (!seed)
        return g->status;
    if (cotangent && !oas_shape_equal(&cotangent->shape, &out->shape)) {
        oas_graph_fail(g, OASIS_E_ARGUMENT, "backward: cotangent %s instead of %s",
                       oas_shape_text(&cotangent->shape).text, oas_shape_text(&out->shape).text);
        return g->status;
    }
    if (seed_gradient(g, seed, is_new, cotangent) < 0)
        return g->status;
    return walk(g);
}

/* ---- steps inside steps -------------------------------------------------------------------------------------------- */

tensor *oas_detach(graph *g, tensor *t)
{
    tensor *d = t ? oas_tensor_header(g) : NULL;
    if (!d)
        return NULL;
    *d = *t;
    d->grad = d->origin = NULL;
    d->packed = NULL; /* of a weight that moves, prepared forms would be out of date */
    d->needs_grad = false;
    return d;
}

aside oas_aside_begin(graph *g)
{
    const aside a = {g->tape, g->spares, oas_graph_mark(g)};
    g->tape = NULL;
    g->spares = NULL;
    return a;
}

tensor *oas_aside_end(graph *g, const aside *a, tensor *t)
{
    bool recording = g->recording;
    g->recording = false;
    tensor *kept = oas_graph_sink(g, t, a->mark);
    if (!t)
        oas_arena_release(&g->memory, a->mark);
    g->recording = recording;
    g->tape = a->tape;
    g->spares = a->spares;
    return kept;
}

/* ---- checkpoints --------------------------------------------------------------------------------------------------- */

struct checkpoint_param {
    oas_block_fn *block;
    const void *arg; /* a copy in the arena */
};

/* The block again, on an input that shares x's gradient, with a tape of its own. */
static oasis_status checkpoint_backward(graph *g, const node *n)
{
    const struct checkpoint_param *p = OAS_PARAM(struct checkpoint_param, n);
    spare *spares = g->spares;
    tensor x = *n->in[0];
    g->tape = NULL;
    g->spares = NULL;
    g->recording = true;
    tensor *y = p->block(g, p->arg, &x);
    if (!y)
        return g->status;
    oas_root(y)->grad = n->out->grad;
    walk(g);
    g->recording = false;
    g->spares = spares;
    return g->status;
}

/* Without a stage: the ops inside count their own time. */
static const op checkpoint = {
    .name = "checkpoint",
    .n_in = OAS_MAX_INPUTS,
    .backward = {[OAS_REF] = checkpoint_backward, [OAS_CPU] = checkpoint_backward, [OAS_CUDA] = checkpoint_backward},
};

/* A copy of x, on which the block may work in place. */
static tensor *copy_of(graph *g, const tensor *x)
{
    tensor *y = oas_tensor(g, x->dtype, x->shape);
    return y && oas_graph_copy(g, y->data, x->data, oas_bytes(y)) < 0 ? NULL : y;
}

tensor *oas_checkpoint(graph *g, oas_block_fn *block, const void *arg, size_t arg_bytes, tensor *const *in, int n_in)
{
    tensor *x = in[0];
    if (!g->recording || !g->checkpointing || !x)
        return block(g, arg, x);
    void *kept_arg = oas_graph_small(g, arg_bytes);
    node *n = oas_graph_small(g, sizeof *n);
    tensor *y = n ? copy_of(g, x) : NULL;
    if (!y)
        return NULL;
    memcpy(kept_arg, arg, arg_bytes);
    size_t mark = oas_graph_mark(g);
    tensor input = *y;
    g->recording = false;
    tensor *result = block(g, kept_arg, &input);
    g->recording = true;
    if (!result)
        return NULL;
    if (!oas_shape_equal(&result->shape, &x->shape) || result->dtype != x->dtype)
        return oas_graph_fail(g, OASIS_E_ARGUMENT, "checkpoint: the block makes %s of %s",
                              oas_shape_text(&result->shape).text, oas_shape_text(&x->shape).text);
    if (result->data != y->data && oas_graph_copy(g, y->data, result->data, oas_bytes(y)) < 0)
        return NULL;
    oas_arena_release(&g->memory, mark);
    struct checkpoint_param p = {block, kept_arg};
    *n = (node){.op = &checkpoint, .out = y, .previous = g->tape, .needs_grad = true};
    memcpy(n->param, &p, sizeof p);
    memcpy(n->in, in, (size_t)n_in * sizeof *in);
    g->tape = n;
    y->needs_grad = true;
    return y;
}
