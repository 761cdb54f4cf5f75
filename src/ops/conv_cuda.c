/*
 * The convolution on the GPU: frames with those before them in one block, the weight in the library's order, the product,
 * and one pass for bias, activation and residual.
 */
#include "cuda/conv.h"
#include "cuda/passes.h"
#include "ops/conv.h"

bool oas_conv_accepts_cuda(const graph *g, const node *n)
{
    (void)g;
    return n->in[0]->dtype == n->out->dtype;
}

/* What both ways share; pointers are NULL while planning. */
struct prepared {
    cuda_convolution size;
    bool narrow; /* our own kernel takes it, whole */
    bool stacked;
    int64_t frame;    /* values of a frame of x */
    const void *x;    /* [batch, kt - 1 + frames, ...] */
    void *joined;     /* scratch for it, or NULL where x serves */
    void *weight;     /* in the library's order */
    void *own_weight; /* scratch that it is to be written to, or NULL */
};

struct weight_form {
    oas_cuda *c;
    const tensor *weight;
    const struct prepared *p;
};

static oasis_status write_weight(void *arg, void *to)
{
    const struct weight_form *f = arg;
    const cuda_convolution *s = &f->p->size;
    return f->c->tables.passes->conv_weights(f->c, (cuda_array){to, s->type}, oas_array(f->weight), f->p->stacked,
                                             s->out, s->in, s->kt, s->k);
}

/* joins: frames and those before them are wanted in one block. */
static oasis_status prepare(graph *g, const node *n, struct prepared *p, bool joins)
{
    oas_cuda *c = oas_graph_cuda(g);
    tensor *x = n->in[0], *w = n->in[1], *history = n->in[3];
    const int64_t *size = x->shape.size;
    *p = (struct prepared){.stacked = oas_conv_stacked(w), .frame = size[2] * size[3] * size[4], .x = x->data};
    p->size = (cuda_convolution){.batch = size[0],
                                 .frames = size[1],
                                 .height = size[2],
                                 .width = size[3],
                                 .in = size[4],
                                 .out = w->shape.size[0],
                                 .kt = (int32_t)oas_conv_frames(x, w),
                                 .k = (int32_t)oas_last(w, 0),
                                 .type = (int32_t)x->dtype};
    p->narrow = c->tables.narrow->accepts(c, &p->size);
    int64_t before = joins || !p->narrow ? p->size.kt - 1 : 0;
    if (before > 0)
        p->joined = oas_scratch(g, (size_t)(size[0] * (size[1] + before) * p->frame) * oas_dtype_size(x->dtype));
    struct weight_form form = {c, w, p};
    size_t bytes = (size_t)oas_count(&w->shape) * oas_dtype_size(x->dtype);
    if (w->packed && !w->needs_grad) {
        pack_key key = {{'c', 'o', 'n', 'v', (unsigned char)x->dtype}};
        OAS_TRY(oas_cuda_form(g, w, &key, bytes, write_weight, &form, &p->weight));
    } else {
        p->weight = p->own_weight = oas_scratch(g, bytes);
    }
    if (g->planning || g->status < 0)
        return g->status;
    if (p->own_weight)
        OAS_TRY(write_weight(&form, p->own_weight));
    if (before == 0)
        return OASIS_OK;
    p->x = p->joined;
    return c->tables.passes->join_history(c, (cuda_array){p->joined, p->size.type}, oas_array(x), oas_array(history),
                                          size[0], size[1], before, p->frame);
}

/* The sums alone. */
static cuda_narrow narrow_sums(const node *n, const struct prepared *p, void *u)
{
    const tensor *history = n->in[3];
    return (cuda_narrow){.size = p->size,
                         .y = u,
                         .x = n->in[0]->data,
                         .history = history && p->size.kt > 1 ? history->data : NULL,
                         .w = p->weight,
                         .act = OAS_LINEAR};
}

/* act(sums + bias) + residual by our own kernel. */
static oasis_status run_narrow(graph *g, const node *n, const struct prepared *p)
{
    oas_cuda *c = oas_graph_cuda(g);
    const tensor *bias = n->in[2], *residual = n->in[4];
    if (g->planning || g->status < 0)
        return g->status;
    cuda_narrow whole = narrow_sums(n, p, n->out->data);
    whole.bias = bias ? oas_f32(bias) : NULL;
    whole.residual = residual ? residual->data : NULL;
    whole.act = OAS_PARAM(struct conv_param, n)->act;
    return c->tables.narrow->run(c, &whole);
}

static oasis_status sums(oas_cuda *c, const node *n, const struct prepared *p, void *u)
{
    const cuda_narrow narrow = narrow_sums(n, p, u);
    return p->narrow ? c->tables.narrow->run(c, &narrow) : c->tables.conv->forward(c, &p->size, u, p->x, p->weight);
}

oasis_status oas_conv_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    struct prepared p;
    int32_t act = OAS_PARAM(struct conv_param, n)->act;
    OAS_TRY(prepare(g, n, &p, false));
    if (p.narrow)
        return run_narrow(g, n, &p);
    void *u = n->in[4] ? oas_scratch(g, oas_bytes(n->out)) : NULL; /* the residual may lie where y does */
    if (g->planning || g->status < 0)
        return g->status;
    u = u ? u : n->out->data;
    OAS_TRY(sums(c, n, &p, u));
    if (!n->in[2] && !n->in[4] && act == OAS_LINEAR)
        return OASIS_OK;
    return c->tables.passes->bias_act_residual(c, oas_array(n->out), (cuda_array){u, p.size.type},
                                               n->in[2] ? oas_f32(n->in[2]) : NULL, oas_array(n->in[4]), act,
                                               oas_rows(n->out), p.size.out);
}

/* e = act'(u) dy in the type of x, u computed again; and what is left for the residual and the bias. */
static oasis_status slope(graph *g, const node *n, const struct prepared *p, void *u, void *e, void *partial)
{
    oas_cuda *c = oas_graph_cuda(g);
    const struct cuda_passes *passes = c->tables.passes;
    int32_t act = OAS_PARAM(struct conv_param, n)->act;
    int64_t rows = oas_rows(n->out);
    if (u)
        OAS_TRY(sums(c, n, p, u));
    OAS_TRY(passes->act_slope(c, (cuda_array){e, p->size.type}, (cuda_array){u, p->size.type},
                              n->in[2] ? oas_f32(n->in[2]) : NULL, oas_gradient_of(n->out), oas_gradient_of(n->in[4]),
                              act, rows, p->size.out));
    if (!partial)
        return OASIS_OK;
    return passes->column_sum(c, oas_gradient_of(n->in[2]), (cuda_array){e, p->size.type}, rows, p->size.out, partial);
}

oasis_status oas_conv_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const struct cuda_passes *passes = c->tables.passes;
    struct prepared p;
    tensor *x = n->in[0], *w = n->in[1], *bias = n->in[2], *history = n->in[3];
    OAS_TRY(prepare(g, n, &p, true));
    const cuda_convolution *s = &p.size;
    int64_t before = s->kt - 1, rows = oas_rows(n->out);
    bool to_x = x->grad || (before > 0 && history && history->grad), to_w = w->grad;
    size_t value = oas_dtype_size(x->dtype);
    void *u = OAS_PARAM(struct conv_param, n)->act != OAS_LINEAR ? oas_scratch(g, oas_bytes(n->out)) : NULL;
    void *e = oas_scratch(g, oas_bytes(n->out));
    void *partial = bias && bias->grad ? oas_scratch(g, passes->column_sum_bytes(c, rows, s->out)) : NULL;
    void *dx = to_x ? oas_scratch(g, (size_t)(s->batch * (s->frames + before) * p.frame) * value) : NULL;
    void *dw = to_w ? oas_scratch(g, (size_t)oas_count(&w->shape) * value) : NULL;
    if (g->planning || g->status < 0)
        return g->status;
    OAS_TRY(slope(g, n, &p, u, e, partial));
    if (dx) {
        OAS_TRY(c->tables.conv->to_input(c, s, dx, e, p.weight));
        OAS_TRY(passes->split_history(c, oas_gradient_of(x), oas_gradient_of(history), (cuda_array){dx, s->type},
                                      s->batch, s->frames, before, p.frame));
    }
    if (!dw)
        return OASIS_OK;
    OAS_TRY(c->tables.conv->to_weight(c, s, dw, e, p.x));
    return passes->conv_weights_back(c, oas_gradient_of(w), (cuda_array){dw, s->type}, p.stacked, s->out, s->in, s->kt,
                                     s->k);
}
