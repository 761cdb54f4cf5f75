/*
 * Elementwise ops.
 *   add_gated   y = x + b * m[row] + constant      the residual stream of a block
 *   axpy        y = x + a b                        the one step: z_H = z_L - sigma v
 *   activate    y = act(x)
 *   cast        y = x in another type
 */
#include "cuda/passes.h"
#include "ops/op.h"
#include "tensor/sampler.h"

#include <string.h>

extern const op oas_op_add_gated, oas_op_axpy, oas_op_activate, oas_op_cast;

/* ---- gated residual ------------------------------------------------------------------------------------------------ */

struct gate_param {
    int32_t row;
};

tensor *oas_add_gated(graph *g, tensor *x, tensor *b, tensor *m, int row, tensor *constant)
{
    tensor *in[] = {x, b, m, constant};
    struct gate_param p = {row};
    return oas_apply(g, &oas_op_add_gated, in, &p, sizeof p);
}

static bool gate_shape(graph *g, node *n)
{
    const tensor *x = n->in[0], *b = n->in[1], *m = n->in[2], *constant = n->in[3];
    int32_t row = OAS_PARAM(struct gate_param, n)->row;
    if (x->dtype != OAS_F32 || !oas_shape_equal(&x->shape, &b->shape))
        return oas_op_refuse(g, "add_gated: %s and %s differ", oas_shape_text(&x->shape).text,
                             oas_shape_text(&b->shape).text);
    if (m && (m->dtype != OAS_F32 || oas_last(m, 0) != oas_last(x, 0) || row >= oas_rows(m)))
        return oas_op_refuse(g, "add_gated: table %s has no row %d for %s", oas_shape_text(&m->shape).text, row,
                             oas_shape_text(&x->shape).text);
    if (constant && (constant->dtype != OAS_F32 || oas_count(&constant->shape) != oas_last(x, 0)))
        return oas_op_refuse(g, "add_gated: the constant is %s, not a row of %s", oas_shape_text(&constant->shape).text,
                             oas_shape_text(&x->shape).text);
    n->out->shape = x->shape;
    n->out->dtype = OAS_F32;
    return true;
}

static const float *gate_of(const node *n)
{
    const tensor *m = n->in[2];
    return m ? oas_f32(m) + OAS_PARAM(struct gate_param, n)->row * oas_last(n->out, 0) : NULL;
}

static const float *constant_of(const node *n)
{
    return n->in[3] ? oas_f32(n->in[3]) : NULL;
}

static oasis_status gate_ref(graph *g, const node *n)
{
    (void)g;
    int64_t d = oas_last(n->in[0], 0), rows = oas_rows(n->in[0]);
    const float *x = oas_f32(n->in[0]), *b = oas_f32(n->in[1]);
    const float *gate = gate_of(n), *constant = constant_of(n);
    float *y = oas_f32(n->out);
    for (int64_t i = 0; i < rows * d; i++)
        y[i] = x[i] + b[i] * (gate ? gate[i % d] : 1.f) + (constant ? constant[i % d] : 0.f);
    return OASIS_OK;
}

enum { SUM_LEAST_ROWS = 16, SUM_MOST_ROWS = 4096 }; /* of a slab in backward */

/* A task that goes over rows; `sums` are of columns. */
struct rows_task {
    const node *n;
    column_sums sums;
    float *scratch; /* one row per worker */
};

static bool rows_task_start(graph *g, const node *n, int64_t columns, struct rows_task *t)
{
    *t = (struct rows_task){.n = n};
    t->scratch =
        oas_scratch(g, (size_t)oas_pool_workers(oas_graph_pool(g)) * (size_t)oas_last(n->out, 0) * sizeof(float));
    return oas_column_sums(g, &t->sums, oas_rows(n->out), columns, SUM_LEAST_ROWS, SUM_MOST_ROWS);
}

static void gate_backward_slab(void *arg, int64_t slab, int worker)
{
    const struct rows_task *t = arg;
    const node *n = t->n;
    const tensor *m = n->in[2];
    int64_t d = oas_last(n->out, 0), rows = oas_rows(n->out), begin = slab * t->sums.slab;
    int64_t end = begin + t->sums.slab < rows ? begin + t->sums.slab : rows;
    float *dx = oas_gradient_of(n->in[0]), *db = oas_gradient_of(n->in[1]);
    float *sum = t->sums.partial + slab * t->sums.columns;
    float *whole = oas_gradient_of(n->in[3]) ? sum + d : NULL;
    const float *dy = oas_gradient_of(n->out), *gate = gate_of(n);
    for (int64_t i = begin * d; i < end * d; i += d) {
        const float *b = oas_gradient_of(m) ? oas_floats(n->in[1], i, d, t->scratch + worker * d) : NULL;
        for (int64_t c = 0; dx && c < d; c++)
            dx[i + c] += dy[i + c];
        for (int64_t c = 0; db && c < d; c++)
            db[i + c] += dy[i + c] * (gate ? gate[c] : 1.f);
        for (int64_t c = 0; b && c < d; c++)
            sum[c] += dy[i + c] * b[c];
        for (int64_t c = 0; whole && c < d; c++)
            whole[c] += dy[i + c];
    }
}

/*
 * Forward was y = x + b m[row] + constant.  So dx += dy;  db += dy m[row];  dm[row] += sum over rows of dy b;  dconstant +=
 * sum over rows of dy.
 */
static oasis_status gate_backward(graph *g, const node *n)
{
    struct rows_task t;
    int64_t d = oas_last(n->out, 0);
    if (!rows_task_start(g, n, n->in[3] ? 2 * d : d, &t))
        return g->status;
    oas_pool_run(oas_graph_pool(g), t.sums.slabs, gate_backward_slab, &t);
    float *dm = oas_gradient_of(n->in[2]);
    oas_column_add(&t.sums, 0, d, dm ? dm + OAS_PARAM(struct gate_param, n)->row * d : NULL);
    oas_column_add(&t.sums, d, d, oas_gradient_of(n->in[3]));
    return OASIS_OK;
}

static void gate_stretch(const graph *g, const node *n, int64_t begin, int64_t end)
{
    const oas_passes *pass = oas_graph_passes(g);
    int64_t d = oas_last(n->in[0], 0);
    const tensor *b = n->in[1];
    for (int64_t i = begin; i < end; i++)
        pass->add_gated(oas_f32(n->out) + i * d, oas_f32(n->in[0]) + i * d,
                        (const char *)b->data + i * d * (int64_t)oas_dtype_size(b->dtype), b->dtype, gate_of(n),
                        constant_of(n), d);
}

static oasis_status gate_cpu(graph *g, const node *n)
{
    oas_for_stretches(g, n, oas_rows(n->in[0]), (size_t)oas_last(n->in[0], 0) * 12, gate_stretch);
    return OASIS_OK;
}

static oasis_status gate_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    int64_t d = oas_last(n->out, 0);
    if (g->planning)
        return OASIS_OK;
    return c->tables.passes->add_gated(c, oas_array(n->out), oas_array(n->in[0]), oas_array(n->in[1]), gate_of(n),
                                       constant_of(n), oas_rows(n->out), d);
}

static oasis_status gate_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const struct cuda_passes *passes = c->tables.passes;
    const tensor *m = n->in[2], *constant = n->in[3];
    int64_t d = oas_last(n->out, 0), rows = oas_rows(n->out), at = OAS_PARAM(struct gate_param, n)->row * d;
    bool of_m = m && m->grad, of_constant = constant && constant->grad;
    void *partial = of_m || of_constant ? oas_scratch(g, passes->column_sum_bytes(c, rows, d)) : NULL;
    if (g->planning || g->status < 0)
        return g->status;
    cuda_array dy = oas_array(n->out->grad);
    if (n->in[0]->grad)
        OAS_TRY(passes->add(c, oas_gradient_of(n->in[0]), dy, rows * d));
    if (n->in[1]->grad)
        OAS_TRY(passes->add_times_gate(c, oas_gradient_of(n->in[1]), dy, gate_of(n), rows, d));
    if (of_constant)
        OAS_TRY(passes->column_sum(c, oas_gradient_of(constant), dy, rows, d, partial));
    if (!of_m)
        return OASIS_OK;
    return passes->column_product_sum(c, oas_gradient_of(m) + at, dy, oas_array(n->in[1]), rows, d, partial);
}

static bool gate_sample(sampler *s, int i, node *n)
{
    if (i >= 4)
        return false;
    int64_t rows = oas_sample_size(s, 1, 30), d = oas_sample_size(s, 1, 100);
    *(struct gate_param *)(void *)n->param = (struct gate_param){i};
    n->in[0] = oas_sample_floats(s, OAS_SHAPE2(rows, d), 1);
    n->in[1] = oas_sample_activation(s, OAS_SHAPE2(rows, d), 1);
    n->in[2] = i % 2 ? oas_sample_floats(s, OAS_SHAPE2(6, d), 1) : NULL;
    n->in[3] = i / 2 ? oas_sample_floats(s, OAS_SHAPE3(1, 1, d), 1) : NULL;
    return true;
}

const op oas_op_add_gated = {
    .name = "add_gated",
    .stage = "passes",
    .n_in = 4,
    .optional = 1u << 2 | 1u << 3,
    .in_place = 1,
    .shape = gate_shape,
    .forward = {[OAS_REF] = gate_ref, [OAS_CPU] = gate_cpu, [OAS_CUDA] = gate_cuda},
    .backward = {[OAS_REF] = gate_backward, [OAS_CPU] = gate_backward, [OAS_CUDA] = gate_cuda_backward},
    .passes_on = 1,
    .sample = gate_sample,
    .tolerance = 1e-6f,
    .tolerance_bf16 = 1e-6f,
};

/* ---- x + a b ------------------------------------------------------------------------------------------------------- */

struct axpy_param {
    float a;
};

tensor *oas_axpy(graph *g, tensor *x, float a, tensor *b)
{
    tensor *in[] = {x, b};
    struct axpy_param p = {a};
    return oas_apply(g, &oas_op_axpy, in, &p, sizeof p);
}

static bool axpy_shape(graph *g, node *n)
{
    const tensor *x = n->in[0], *b = n->in[1];
    if (!oas_shape_equal(&x->shape, &b->shape))
        return oas_op_refuse(g, "axpy: %s and %s differ", oas_shape_text(&x->shape).text,
                             oas_shape_text(&b->shape).text);
    n->out->shape = x->shape;
    n->out->dtype = OAS_F32;
    return true;
}

static oasis_status axpy_ref(graph *g, const node *n)
{
    (void)g;
    const float *x = oas_f32(n->in[0]), *b = oas_f32(n->in[1]);
    float *y = oas_f32(n->out), a = OAS_PARAM(struct axpy_param, n)->a;
    for (int64_t i = 0, count = oas_count(&n->out->shape); i < count; i++)
        y[i] = x[i] + a * b[i];
    return OASIS_OK;
}

/* Adds factor * from into `to`, slab by slab. */
struct add_task {
    float *to;
    const float *from;
    float factor;
    int64_t count;
};

enum { ADD_SLAB = 1 << 16 };

static void add_slab(void *arg, int64_t slab, int worker)
{
    (void)worker;
    const struct add_task *t = arg;
    int64_t begin = slab * ADD_SLAB, end = begin + ADD_SLAB < t->count ? begin + ADD_SLAB : t->count;
    for (int64_t i = begin; i < end; i++)
        t->to[i] += t->factor * t->from[i];
}

static void add_scaled(graph *g, float *to, float factor, const tensor *from)
{
    struct add_task t = {to, from->data, factor, oas_count(&from->shape)};
    if (to)
        oas_pool_run(oas_graph_pool(g), (t.count + ADD_SLAB - 1) / ADD_SLAB, add_slab, &t);
}

/* Forward was y = x + a b.  So dx += dy;  db += a dy. */
static oasis_status axpy_backward(graph *g, const node *n)
{
    if (g->planning)
        return OASIS_OK;
    add_scaled(g, oas_gradient_of(n->in[0]), 1.f, n->out->grad);
    add_scaled(g, oas_gradient_of(n->in[1]), OAS_PARAM(struct axpy_param, n)->a, n->out->grad);
    return OASIS_OK;
}

static void axpy_stretch(const graph *g, const node *n, int64_t begin, int64_t end)
{
    oas_graph_passes(g)->axpy(oas_f32(n->out) + begin, oas_f32(n->in[0]) + begin, OAS_PARAM(struct axpy_param, n)->a,
                              oas_f32(n->in[1]) + begin, end - begin);
}

static oasis_status axpy_cpu(graph *g, const node *n)
{
    oas_for_stretches(g, n, oas_count(&n->out->shape), 12, axpy_stretch);
    return OASIS_OK;
}

static oasis_status axpy_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning)
        return OASIS_OK;
    return c->tables.passes->combine(c, oas_array(n->out), oas_array(n->in[0]), OAS_PARAM(struct axpy_param, n)->a,
                                     oas_array(n->in[1]), oas_count(&n->out->shape));
}

static oasis_status axpy_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning)
        return OASIS_OK;
    for (int i = 0; i < 2; i++) {
        cuda_array dx = oas_array(n->in[i]->grad);
        if (dx.data)
            OAS_TRY(c->tables.passes->combine(c, dx, dx, i ? OAS_PARAM(struct axpy_param, n)->a : 1.f,
                                              oas_array(n->out->grad), oas_count(&n->out->shape)));
    }
    return OASIS_OK;
}

static bool axpy_accepts(const graph *g, const node *n)
{
    (void)g;
    return n->in[0]->dtype == OAS_F32 && n->in[1]->dtype == OAS_F32;
}

static bool axpy_sample(sampler *s, int i, node *n)
{
    if (i >= 2)
        return false;
    shape size = OAS_SHAPE3(oas_sample_size(s, 1, 5), oas_sample_size(s, 1, 9), oas_sample_size(s, 1, 33));
    *(struct axpy_param *)(void *)n->param = (struct axpy_param){-0.4f};
    n->in[0] = oas_sample_floats(s, size, 1);
    n->in[1] = oas_sample_floats(s, size, 1);
    return true;
}

const op oas_op_axpy = {
    .name = "axpy",
    .stage = "passes",
    .n_in = 2,
    .shape = axpy_shape,
    .accepts = axpy_accepts,
    .forward = {[OAS_REF] = axpy_ref, [OAS_CPU] = axpy_cpu, [OAS_CUDA] = axpy_cuda},
    .backward = {[OAS_REF] = axpy_backward, [OAS_CPU] = axpy_backward, [OAS_CUDA] = axpy_cuda_backward},
    .passes_on = 1,
    .sample = axpy_sample,
    .tolerance = 1e-6f,
    .tolerance_bf16 = 1e-6f,
};

/* ---- activation ---------------------------------------------------------------------------------------------------- */

struct activate_param {
    int32_t act;
};

tensor *oas_activate(graph *g, tensor *x, oas_activation act)
{
    struct activate_param p = {(int32_t)act};
    return oas_apply(g, &oas_op_activate, &x, &p, sizeof p);
}

static bool same_shape(graph *g, node *n)
{
    (void)g;
    n->out->shape = n->in[0]->shape;
    n->out->dtype = n->in[0]->dtype;
    return true;
}

static oasis_status activate_ref(graph *g, const node *n)
{
    (void)g;
    oas_activation act = (oas_activation)OAS_PARAM(struct activate_param, n)->act;
    const float *x = oas_f32(n->in[0]);
    float *y = oas_f32(n->out);
    for (int64_t i = 0, count = oas_count(&n->out->shape); i < count; i++)
        y[i] = oas_act(act, x[i]);
    return OASIS_OK;
}

static void activate_backward_slab(void *arg, int64_t slab, int worker)
{
    const struct rows_task *t = arg;
    const node *n = t->n;
    oas_activation act = (oas_activation)OAS_PARAM(struct activate_param, n)->act;
    int64_t d = oas_last(n->out, 0), rows = oas_rows(n->out), begin = slab * t->sums.slab;
    int64_t end = begin + t->sums.slab < rows ? begin + t->sums.slab : rows;
    float *dx = oas_gradient_of(n->in[0]);
    const float *dy = oas_gradient_of(n->out);
    for (int64_t i = begin * d; i < end * d; i += d) {
        const float *x = oas_floats(n->in[0], i, d, t->scratch + worker * d);
        for (int64_t c = 0; c < d; c++)
            dx[i + c] += dy[i + c] * oas_act_slope(act, x[c]);
    }
}

/* Forward was y = act(x).  So dx += act'(x) dy. */
static oasis_status activate_backward(graph *g, const node *n)
{
    struct rows_task t;
    if (!rows_task_start(g, n, 0, &t))
        return g->status;
    oas_pool_run(oas_graph_pool(g), t.sums.slabs, activate_backward_slab, &t);
    return OASIS_OK;
}

static void activate_stretch(const graph *g, const node *n, int64_t begin, int64_t end)
{
    int32_t act = OAS_PARAM(struct activate_param, n)->act;
    oas_dtype type = n->in[0]->dtype;
    size_t offset = (size_t)begin * oas_dtype_size(type);
    char *y = (char *)n->out->data + offset;
    const char *x = (const char *)n->in[0]->data + offset;
    oas_apply_activation(g, (oas_activation)act, y, type, x, type, end - begin);
}

static oasis_status activate_cpu(graph *g, const node *n)
{
    oas_for_stretches(g, n, oas_count(&n->out->shape), 2 * oas_dtype_size(n->out->dtype), activate_stretch);
    return OASIS_OK;
}

static oasis_status activate_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning)
        return OASIS_OK;
    return c->tables.passes->bias_act_residual(c, oas_array(n->out), oas_array(n->in[0]), NULL, oas_array(NULL),
                                               OAS_PARAM(struct activate_param, n)->act, oas_rows(n->out),
                                               oas_last(n->out, 0));
}

static oasis_status activate_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning || !n->in[0]->grad)
        return OASIS_OK;
    return c->tables.passes->activate_backward(c, oas_gradient_of(n->in[0]), oas_array(n->in[0]),
                                               oas_gradient_of(n->out), OAS_PARAM(struct activate_param, n)->act,
                                               oas_count(&n->out->shape));
}

static bool activate_sample(sampler *s, int i, node *n)
{
    if (i >= OAS_ACTIVATIONS)
        return false;
    *(struct activate_param *)(void *)n->param = (struct activate_param){i};
    n->in[0] = oas_sample_activation(s, OAS_SHAPE2(oas_sample_size(s, 1, 20), oas_sample_size(s, 1, 70)), 8);
    return true;
}

const op oas_op_activate = {
    .name = "activate",
    .stage = "passes",
    .n_in = 1,
    .in_place = 1,
    .shape = same_shape,
    .forward = {[OAS_REF] = activate_ref, [OAS_CPU] = activate_cpu, [OAS_CUDA] = activate_cuda},
    .backward = {[OAS_REF] = activate_backward, [OAS_CPU] = activate_backward, [OAS_CUDA] = activate_cuda_backward},
    .sample = activate_sample,
    .tolerance = 1e-6f,
    .tolerance_bf16 = 4e-3f,
};

/* ---- type ---------------------------------------------------------------------------------------------------------- */

struct cast_param {
    int32_t dtype;
};

tensor *oas_cast(graph *g, tensor *x, oas_dtype dtype)
{
    struct cast_param p = {(int32_t)dtype};
    if (x && x->dtype == dtype)
        return x;
    return oas_apply(g, &oas_op_cast, &x, &p, sizeof p);
}

static bool cast_shape(graph *g, node *n)
{
    (void)g;
    n->out->shape = n->in[0]->shape;
    n->out->dtype = (oas_dtype)OAS_PARAM(struct cast_param, n)->dtype;
    return true;
}

static oasis_status cast_ref(graph *g, const node *n)
{
    (void)g;
    memcpy(n->out->data, n->in[0]->data, oas_bytes(n->out));
    return OASIS_OK;
}

static void cast_stretch(const graph *g, const node *n, int64_t begin, int64_t end)
{
    oas_dtype to = n->out->dtype, from = n->in[0]->dtype;
    const char *x = (const char *)n->in[0]->data + (size_t)begin * oas_dtype_size(from);
    oas_graph_passes(g)->convert((char *)n->out->data + (size_t)begin * oas_dtype_size(to), to, x, from, end - begin);
}

static oasis_status cast_cpu(graph *g, const node *n)
{
    oas_for_stretches(g, n, oas_count(&n->out->shape), 6, cast_stretch);
    return OASIS_OK;
}

/* Forward was y = x.  So dx += dy: rounding counts as the identity. */
static oasis_status cast_backward(graph *g, const node *n)
{
    if (!g->planning)
        add_scaled(g, oas_gradient_of(n->in[0]), 1.f, n->out->grad);
    return OASIS_OK;
}

static oasis_status cast_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning)
        return OASIS_OK;
    return c->tables.passes->cast(c, oas_array(n->out), oas_array(n->in[0]), oas_count(&n->out->shape));
}

static oasis_status cast_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    if (g->planning || !n->in[0]->grad)
        return OASIS_OK;
    return c->tables.passes->add(c, oas_gradient_of(n->in[0]), oas_array(n->out->grad), oas_count(&n->out->shape));
}

static bool cast_sample(sampler *s, int i, node *n)
{
    if (i >= 2)
        return false;
    *(struct cast_param *)(void *)n->param = (struct cast_param){(int32_t)s->activation};
    n->in[0] = i ? oas_sample_activation(s, OAS_SHAPE1(77), 1) : oas_sample_floats(s, OAS_SHAPE1(77), 1);
    return true;
}

const op oas_op_cast = {
    .name = "cast",
    .stage = "passes",
    .n_in = 1,
    .shape = cast_shape,
    .forward = {[OAS_REF] = cast_ref, [OAS_CPU] = cast_cpu, [OAS_CUDA] = cast_cuda},
    .backward = {[OAS_REF] = cast_backward, [OAS_CPU] = cast_backward, [OAS_CUDA] = cast_cuda_backward},
    .sample = cast_sample,
    .tolerance = 1e-7f,
    .tolerance_bf16 = 3e-3f,
};
