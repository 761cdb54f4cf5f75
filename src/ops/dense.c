/*
 * Dense layer:  y = act(x w^T + b) + residual.
 *
 * The rows are cut into slabs; oneDNN computes each with one thread.
 */
#include "cuda/dense.h"
#include "cpu/dnnl.h"
#include "cpu/slope.h"
#include "cuda/passes.h"
#include "ops/op.h"
#include "tensor/q8.h"
#include "tensor/sampler.h"

#include <stdatomic.h>
#include <string.h>

struct linear_param {
    int32_t act, out;
};

extern const op oas_op_linear;

tensor *oas_linear(graph *g, tensor *x, const linear *layer, oas_activation act, tensor *residual, oas_dtype out)
{
    tensor *in[] = {x, layer->weight, layer->bias, residual};
    struct linear_param p = {(int32_t)act, (int32_t)out};
    return oas_apply(g, &oas_op_linear, in, &p, sizeof p);
}

static bool linear_shape(graph *g, node *n)
{
    const tensor *x = n->in[0], *w = n->in[1], *b = n->in[2], *r = n->in[3];
    int64_t inputs = oas_last(x, 0), outputs = w->shape.size[0];
    if (oas_count(&w->shape) != outputs * inputs)
        return oas_op_refuse(g, "linear: weight %s of %s does not take %lld channels", oas_shape_text(&w->shape).text,
                             w->name ? w->name : "a layer", (long long)inputs);
    if (b && (oas_count(&b->shape) != outputs || b->dtype != OAS_F32))
        return oas_op_refuse(g, "linear: bias %s does not fit %lld outputs", oas_shape_text(&b->shape).text,
                             (long long)outputs);
    n->out->shape = x->shape;
    n->out->shape.size[x->shape.rank - 1] = outputs;
    n->out->dtype = (oas_dtype)OAS_PARAM(struct linear_param, n)->out;
    if (r && (!oas_shape_equal(&r->shape, &n->out->shape) || r->dtype != n->out->dtype))
        return oas_op_refuse(g, "linear: residual %s instead of %s", oas_shape_text(&r->shape).text,
                             oas_shape_text(&n->out->shape).text);
    return true;
}

static double linear_flops(const node *n)
{
    return 2. * (double)oas_count(&n->out->shape) * (double)oas_last(n->in[0], 0);
}

static oasis_status linear_ref(graph *g, const node *n)
{
    (void)g;
    const float *x = oas_f32(n->in[0]), *w = oas_f32(n->in[1]), *b = n->in[2] ? oas_f32(n->in[2]) : NULL;
    const float *r = n->in[3] ? oas_f32(n->in[3]) : NULL;
    float *y = oas_f32(n->out);
    oas_activation act = (oas_activation)OAS_PARAM(struct linear_param, n)->act;
    int64_t rows = oas_rows(n->in[0]), inputs = oas_last(n->in[0], 0), outputs = oas_last(n->out, 0);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t o = 0; o < outputs; o++) {
            double sum = b ? (double)b[o] : 0.;
            for (int64_t k = 0; k < inputs; k++)
                sum += (double)x[i * inputs + k] * (double)w[o * inputs + k];
            y[i * outputs + o] = oas_act(act, (float)sum) + (r ? r[i * outputs + o] : 0.f);
        }
    }
    return OASIS_OK;
}

/*
 * With u = x w^T + b, forward was y = act(u) + residual.  So dresidual += dy, and with du = act'(u) dy:
 *   dx += du w;  dw += du^T x;  db += sum over rows of du
 */
static oasis_status linear_ref_backward(graph *g, const node *n)
{
    const float *x = oas_f32(n->in[0]), *w = oas_f32(n->in[1]), *b = n->in[2] ? oas_f32(n->in[2]) : NULL;
    const float *dy = oas_gradient_of(n->out);
    float *dx = oas_gradient_of(n->in[0]), *dw = oas_gradient_of(n->in[1]), *db = oas_gradient_of(n->in[2]);
    float *dr = oas_gradient_of(n->in[3]);
    oas_activation act = (oas_activation)OAS_PARAM(struct linear_param, n)->act;
    int64_t rows = oas_rows(n->in[0]), inputs = oas_last(n->in[0], 0), outputs = oas_last(n->out, 0);
    for (int64_t i = 0; i < rows && !g->planning; i++) {
        for (int64_t o = 0; o < outputs; o++) {
            double u = b ? (double)b[o] : 0.;
            for (int64_t k = 0; k < inputs && act != OAS_LINEAR; k++)
                u += (double)x[i * inputs + k] * (double)w[o * inputs + k];
            float du = dy[i * outputs + o] * oas_act_slope(act, (float)u);
            if (dr)
                dr[i * outputs + o] += dy[i * outputs + o];
            if (db)
                db[o] += du;
            for (int64_t k = 0; dx && k < inputs; k++)
                dx[i * inputs + k] += du * w[o * inputs + k];
            for (int64_t k = 0; dw && k < inputs; k++)
                dw[o * inputs + k] += du * x[i * inputs + k];
        }
    }
    return OASIS_OK;
}

/* Every slab reads the whole weight; one that does not fit into a core's cache wants longer slabs. */
enum { DENSE_LEAST_ROWS = 128, DENSE_LEAST_ROWS_LARGE = 512, DENSE_MOST_ROWS = 1024, LARGE_WEIGHT = 4 << 20 };

/* The job of the whole slabs (NULL when there is none) and that of the last one. */
struct dense_jobs {
    int64_t slab, slabs;
    const dnnl_job *whole, *last;
    oas_activation act;    /* that follows the product, OAS_LINEAR where oneDNN has done it */
    size_t float_bytes;    /* per worker: the slab before `act`; 0 when it may lie in the output */
    size_t scratch_each;   /* bytes per worker */
    size_t weight_bytes;   /* of weights packed for this call alone, 0 where they are cached */
    size_t unpacked_bytes; /* of weights in blocks, as plain values for this call alone; 0 of others */
    bool alike;            /* both jobs want the same packed weights */
};

static bool dense_prepare(graph *g, const node *n, struct dense_jobs *j)
{
    int64_t rows = oas_rows(n->in[0]);
    int64_t least = oas_count(&n->in[1]->shape) > LARGE_WEIGHT ? DENSE_LEAST_ROWS_LARGE : DENSE_LEAST_ROWS;
    *j = (struct dense_jobs){.slab = oas_slab_rows(rows, least, DENSE_MOST_ROWS)};
    int64_t slab_values = (j->slab < rows ? j->slab : rows) * oas_last(n->out, 0);
    oas_activation act = (oas_activation)OAS_PARAM(struct linear_param, n)->act;
    bool ours = oas_activates_itself(act, n->in[3], slab_values);
    if (ours)
        j->act = act;
    if (ours && n->out->dtype != OAS_F32)
        j->float_bytes = oas_aligned((size_t)slab_values * sizeof(float));
    dnnl_spec spec = {.act = (int32_t)(ours ? OAS_LINEAR : act),
                      .in_type = (int32_t)n->in[0]->dtype,
                      .out_type = (int32_t)(ours ? OAS_F32 : n->out->dtype),
                      .bias = n->in[2] != NULL,
                      .residual = n->in[3] != NULL,
                      .in = oas_last(n->in[0], 0),
                      .out = oas_last(n->out, 0)};
    j->slabs = (rows + j->slab - 1) / j->slab;
    spec.rows = rows - (j->slabs - 1) * j->slab;
    j->last = oas_dnnl_job(g->device->dnnl, &spec, g);
    spec.rows = j->slab;
    j->whole = j->slabs > 1 ? oas_dnnl_job(g->device->dnnl, &spec, g) : j->last;
    if (!j->last || !j->whole)
        return false;
    size_t a = oas_dnnl_scratch_bytes(j->whole), b = oas_dnnl_scratch_bytes(j->last);
    j->scratch_each = j->float_bytes + oas_aligned(a > b ? a : b);
    const tensor *w = n->in[1];
    bool blocks = w->dtype == OAS_Q8_0;
    if (blocks)
        j->unpacked_bytes = (size_t)oas_count(&w->shape) * oas_dtype_size(n->in[0]->dtype);
    j->alike = oas_dnnl_weights_alike(j->whole, j->last);
    if (!w->packed || w->needs_grad || blocks) {
        a = oas_dnnl_weight_bytes(j->whole), b = oas_dnnl_weight_bytes(j->last);
        j->weight_bytes = oas_aligned(a > b ? a : b);
    }
    return true;
}

static size_t linear_scratch(graph *g, const node *n)
{
    struct dense_jobs j;
    if (!dense_prepare(g, n, &j))
        return 0;
    return j.scratch_each * (size_t)oas_pool_workers(g->device->pool) + (j.alike ? 1 : 2) * j.weight_bytes +
           oas_aligned(j.unpacked_bytes);
}

struct dense_task {
    graph *g;
    const node *n;
    struct dense_jobs jobs;
    const void *whole_weights, *last_weights;
    unsigned char *scratch;
    atomic_int status;
};

static void dense_slab(void *arg, int64_t slab, int worker)
{
    struct dense_task *t = arg;
    const node *n = t->n;
    bool last = slab == t->jobs.slabs - 1;
    size_t row = (size_t)(slab * t->jobs.slab);
    const char *x = n->in[0]->data;
    char *y = n->out->data;
    size_t x_row = (size_t)oas_last(n->in[0], 0) * oas_dtype_size(n->in[0]->dtype);
    size_t y_row = (size_t)oas_last(n->out, 0) * oas_dtype_size(n->out->dtype);
    unsigned char *scratch = t->scratch + (size_t)worker * t->jobs.scratch_each;
    void *before = t->jobs.float_bytes ? (void *)scratch : y + row * y_row;
    oasis_status s = oas_dnnl_run(t->g->device->dnnl, last ? t->jobs.last : t->jobs.whole, worker, x + row * x_row,
                                  last ? t->last_weights : t->whole_weights, n->in[2] ? n->in[2]->data : NULL, before,
                                  scratch + t->jobs.float_bytes);
    int64_t left = oas_rows(n->in[0]) - (int64_t)row, rows = left < t->jobs.slab ? left : t->jobs.slab;
    if (t->jobs.act != OAS_LINEAR)
        oas_apply_activation(t->g, t->jobs.act, y + row * y_row, n->out->dtype, before, OAS_F32,
                             rows * oas_last(n->out, 0));
    if (s < 0)
        atomic_store(&t->status, (int)s);
}

/* ---- weights in blocks: plain values in scratch, for one call ------------------------------------------------------- */

struct unpack_task {
    const tensor *from, *to;
};

enum { UNPACK_VALUES = 1 << 16 }; /* of a slab: a whole number of blocks */

static void unpack_slab(void *arg, int64_t slab, int worker)
{
    const struct unpack_task *t = arg;
    int64_t begin = slab * UNPACK_VALUES, n = oas_count(&t->to->shape) - begin;
    (void)worker;
    oas_convert((char *)t->to->data + (size_t)begin * oas_dtype_size(t->to->dtype), t->to->dtype,
                (const char *)t->from->data + (size_t)(begin / OAS_Q8_BLOCK) * OAS_Q8_BYTES, OAS_Q8_0,
                n < UNPACK_VALUES ? n : UNPACK_VALUES);
}

/* The weight as oneDNN can read it, in x's type where it was in blocks. */
static tensor plain_weight(graph *g, const node *n, const struct dense_jobs *jobs)
{
    tensor plain = *n->in[1];
    if (jobs->unpacked_bytes == 0)
        return plain;
    struct unpack_task t = {n->in[1], &plain};
    plain.dtype = n->in[0]->dtype;
    plain.packed = NULL;
    plain.mapped = false;
    plain.data = oas_scratch(g, jobs->unpacked_bytes);
    if (g->status == OASIS_OK)
        oas_pool_run(g->device->pool, (oas_count(&plain.shape) + UNPACK_VALUES - 1) / UNPACK_VALUES, unpack_slab, &t);
    return plain;
}

static oasis_status linear_cpu(graph *g, const node *n)
{
    struct dense_task t = {.g = g, .n = n};
    if (!dense_prepare(g, n, &t.jobs))
        return OASIS_E_DEVICE;
    void *own_whole = t.jobs.weight_bytes ? oas_scratch(g, t.jobs.weight_bytes) : NULL;
    void *own_last = t.jobs.weight_bytes && !t.jobs.alike ? oas_scratch(g, t.jobs.weight_bytes) : NULL;
    t.scratch = oas_scratch(g, t.jobs.scratch_each * (size_t)oas_pool_workers(g->device->pool));
    tensor weight = plain_weight(g, n, &t.jobs);
    if (g->status < 0)
        return g->status;
    OAS_TRY(oas_dnnl_weights(g->device->dnnl, t.jobs.whole, &weight, 0, own_whole, &t.whole_weights));
    t.last_weights = t.whole_weights;
    if (!t.jobs.alike)
        OAS_TRY(oas_dnnl_weights(g->device->dnnl, t.jobs.last, &weight, 0, own_last, &t.last_weights));
    if (n->in[3] && n->in[3]->data != n->out->data)
        oas_pool_copy(g->device->pool, n->out->data, n->in[3]->data, oas_bytes(n->out));
    oas_pool_run(g->device->pool, t.jobs.slabs, dense_slab, &t);
    return (oasis_status)atomic_load(&t.status);
}

/* ---- backward by oneDNN -------------------------------------------------------------------------------------------- */

/* A job for all slabs but the last, one for the last, and their weights. */
struct slab_jobs {
    const dnnl_job *job[2];
    const void *weights[2];
};

/*
 * First, slab by slab of rows: u again where the activation wants it, e = act'(u) dy, and dx += e w.  Then dw = e^T x:
 * the rows are cut into few groups and the outputs into blocks, so that there is work for all threads; more than one
 * group needs sums of its own, which are added in order.
 */
struct dense_back {
    graph *g;
    const node *n;
    oas_activation act;
    column_sums bias; /* its slabs are those of the first part */
    struct slab_jobs again, to_input;
    size_t scratch_each, u_bytes;
    unsigned char *scratch;
    unsigned char *e; /* [rows, outputs] of x's type: dy itself where it may be */
    int64_t groups, group, blocks, block;
    const dnnl_job *to_weight[2][2]; /* [last group][last block] */
    float *partial;                  /* [groups, outputs, inputs], NULL with one group */
    atomic_int status;
};

enum { GROUP_ROWS = 4096, MOST_GROUPS = 8, LEAST_BLOCK = 64 };

static int64_t least_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Makes the jobs of both slab sizes and packs their weights. */
static oasis_status make_slab_jobs(struct dense_back *t, dnnl_spec spec, int permute, struct slab_jobs *jobs)
{
    graph *g = t->g;
    int64_t rows = oas_rows(t->n->in[0]);
    for (int last = 0; last < 2; last++) {
        spec.rows = last ? rows - (t->bias.slabs - 1) * t->bias.slab : least_of(t->bias.slab, rows);
        jobs->job[last] = oas_dnnl_job(g->device->dnnl, &spec, g);
        if (!jobs->job[last])
            return g->status < 0 ? g->status : OASIS_E_DEVICE;
        size_t scratch = oas_aligned(oas_dnnl_scratch_bytes(jobs->job[last]));
        t->scratch_each = scratch > t->scratch_each ? scratch : t->scratch_each;
        if (last && oas_dnnl_weights_alike(jobs->job[0], jobs->job[1])) {
            jobs->weights[1] = jobs->weights[0];
            break;
        }
        const tensor *w = t->n->in[1];
        void *own = w->packed && !w->needs_grad ? NULL : oas_scratch(g, oas_dnnl_weight_bytes(jobs->job[last]));
        if (g->status < 0)
            return g->status;
        if (!g->planning)
            OAS_TRY(oas_dnnl_weights(g->device->dnnl, jobs->job[last], w, permute, own, &jobs->weights[last]));
    }
    return OASIS_OK;
}

static oasis_status prepare_weight_gradient(struct dense_back *t)
{
    graph *g = t->g;
    int64_t rows = oas_rows(t->n->in[0]), inputs = oas_last(t->n->in[0], 0), outputs = oas_last(t->n->out, 0);
    t->groups = least_of(rows / GROUP_ROWS < 1 ? 1 : rows / GROUP_ROWS, MOST_GROUPS);
    t->group = (rows + t->groups - 1) / t->groups;
    t->blocks = least_of(MOST_GROUPS / t->groups, outputs / LEAST_BLOCK < 1 ? 1 : outputs / LEAST_BLOCK);
    t->block = (outputs + t->blocks - 1) / t->blocks;
    t->blocks = (outputs + t->block - 1) / t->block;
    for (int i = 0; i < 4; i++) {
        dnnl_spec spec = {.product = OAS_WEIGHT_GRADIENT, .in_type = (int32_t)t->n->in[0]->dtype, .out_type = OAS_F32};
        spec.residual = t->groups == 1;
        spec.rows = i & 1 ? rows - (t->groups - 1) * t->group : t->group;
        spec.out = i & 2 ? outputs - (t->blocks - 1) * t->block : t->block;
        spec.in = inputs;
        spec.width = outputs;
        const dnnl_job *job = t->to_weight[i & 1][i >> 1] = oas_dnnl_job(g->device->dnnl, &spec, g);
        if (!job)
            return g->status < 0 ? g->status : OASIS_E_DEVICE;
        size_t scratch = oas_aligned(oas_dnnl_scratch_bytes(job));
        t->scratch_each = scratch > t->scratch_each ? scratch : t->scratch_each;
    }
    if (t->groups > 1)
        t->partial = oas_scratch(g, (size_t)(t->groups * outputs * inputs) * sizeof(float));
    return g->status;
}

static void dense_back_slab(void *arg, int64_t slab, int worker)
{
    struct dense_back *t = arg;
    const node *n = t->n;
    const tensor *x = n->in[0];
    int64_t inputs = oas_last(x, 0), outputs = oas_last(n->out, 0), begin = slab * t->bias.slab;
    int64_t rows = least_of(t->bias.slab, oas_rows(x) - begin), values = rows * outputs;
    bool last = slab == t->bias.slabs - 1;
    unsigned char *scratch = t->scratch + (size_t)worker * (t->scratch_each + t->u_bytes);
    float *u = (float *)(void *)(scratch + t->scratch_each);
    const float *dy = oas_gradient_of(n->out) + begin * outputs;
    unsigned char *e = t->e + (size_t)(begin * outputs) * oas_dtype_size(x->dtype);
    float *dx = oas_gradient_of(n->in[0]), *dr = oas_gradient_of(n->in[3]), *sums = t->bias.partial + slab * outputs;
    oasis_status s = OASIS_OK;
    if (t->act != OAS_LINEAR)
        s = oas_dnnl_run(t->g->device->dnnl, t->again.job[last], worker,
                         (char *)x->data + (size_t)(begin * inputs) * oas_dtype_size(x->dtype), t->again.weights[last],
                         n->in[2] ? n->in[2]->data : NULL, u, scratch);
    if (t->e != n->out->grad->data)
        oas_slope(t->g->device->level, t->act, u, dy, e, x->dtype, values);
    for (int64_t i = 0; dr && i < values; i++)
        dr[begin * outputs + i] += dy[i];
    if (t->bias.columns > 0) {
        for (int64_t i = 0; i < rows; i++) {
            const float *row = t->act == OAS_LINEAR ? dy + i * outputs : u;
            if (t->act != OAS_LINEAR)
                oas_convert(u, OAS_F32, e + (size_t)(i * outputs) * oas_dtype_size(x->dtype), x->dtype, outputs);
            for (int64_t o = 0; o < outputs; o++)
                sums[o] += row[o];
        }
    }
    if (s == OASIS_OK && dx)
        s = oas_dnnl_run(t->g->device->dnnl, t->to_input.job[last], worker, e, t->to_input.weights[last], NULL,
                         dx + begin * inputs, scratch);
    if (s < 0)
        atomic_store(&t->status, (int)s);
}

static void weight_gradient_slab(void *arg, int64_t slab, int worker)
{
    struct dense_back *t = arg;
    const node *n = t->n;
    int64_t inputs = oas_last(n->in[0], 0), outputs = oas_last(n->out, 0), group = slab / t->blocks;
    int64_t block = slab % t->blocks, row = group * t->group;
    size_t size = oas_dtype_size(n->in[0]->dtype);
    float *y = t->partial ? t->partial + group * outputs * inputs : oas_gradient_of(n->in[1]);
    oasis_status s =
        oas_dnnl_run(t->g->device->dnnl, t->to_weight[group == t->groups - 1][block == t->blocks - 1], worker,
                     t->e + (size_t)(row * outputs + block * t->block) * size,
                     (char *)n->in[0]->data + (size_t)(row * inputs) * size, NULL, y + block * t->block * inputs,
                     t->scratch + (size_t)worker * (t->scratch_each + t->u_bytes));
    if (s < 0)
        atomic_store(&t->status, (int)s);
}

/* Everything that is taken from the arena and from oneDNN. */
static oasis_status dense_back_prepare(graph *g, struct dense_back *t)
{
    const node *n = t->n;
    const tensor *x = n->in[0];
    int64_t rows = oas_rows(x), outputs = oas_last(n->out, 0);
    dnnl_spec spec = {.in_type = (int32_t)x->dtype, .out_type = OAS_F32};
    oas_column_sums(g, &t->bias, rows, n->in[2] && n->in[2]->grad ? outputs : 0, DENSE_LEAST_ROWS, DENSE_MOST_ROWS);
    if (t->act != OAS_LINEAR) {
        spec.bias = n->in[2] != NULL;
        spec.in = oas_last(x, 0), spec.out = outputs;
        OAS_TRY(make_slab_jobs(t, spec, 0, &t->again));
        t->u_bytes = oas_aligned((size_t)(least_of(t->bias.slab, rows) * outputs) * sizeof(float));
    }
    if (n->in[0]->grad) {
        spec.bias = 0, spec.residual = 1;
        spec.in = outputs, spec.out = oas_last(x, 0);
        OAS_TRY(make_slab_jobs(t, spec, OAS_DNNL_TRANSPOSED, &t->to_input));
    }
    if (n->in[1]->grad)
        OAS_TRY(prepare_weight_gradient(t));
    t->e = n->out->grad->data;
    if (t->act != OAS_LINEAR || x->dtype != OAS_F32)
        t->e = oas_scratch(g, (size_t)(rows * outputs) * oas_dtype_size(x->dtype));
    t->scratch = oas_scratch(g, (t->scratch_each + t->u_bytes) * (size_t)oas_pool_workers(g->device->pool));
    return g->status;
}

static oasis_status linear_cpu_backward(graph *g, const node *n)
{
    struct dense_back t = {.g = g, .n = n, .act = (oas_activation)OAS_PARAM(struct linear_param, n)->act};
    int64_t weights = oas_count(&n->in[1]->shape);
    float *dw = oas_gradient_of(n->in[1]);
    OAS_TRY(dense_back_prepare(g, &t));
    if (g->planning)
        return OASIS_OK;
    oas_pool_run(g->device->pool, t.bias.slabs, dense_back_slab, &t);
    oas_column_add(&t.bias, 0, t.bias.columns, oas_gradient_of(n->in[2]));
    if (dw)
        oas_pool_run(g->device->pool, t.groups * t.blocks, weight_gradient_slab, &t);
    for (int64_t k = 0; t.partial && k < t.groups; k++)
        for (int64_t i = 0; i < weights; i++)
            dw[i] += t.partial[k * weights + i];
    return (oasis_status)atomic_load(&t.status);
}

/* ---- on the GPU ---------------------------------------------------------------------------------------------------- */

/* Can the product write y? */
static bool writes_itself(const node *n)
{
    return n->out->dtype == OAS_F32 || n->out->dtype == n->in[0]->dtype;
}

static oasis_status linear_cuda(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const tensor *x = n->in[0], *bias = n->in[2], *residual = n->in[3];
    int32_t act = OAS_PARAM(struct linear_param, n)->act;
    cuda_product p = {.a = x->data, .rows = oas_rows(x), .columns = oas_last(n->out, 0), .depth = oas_last(x, 0)};
    bool direct = writes_itself(n) && c->tables.dense->fuses(act) && !(residual && act != OAS_LINEAR);
    oasis_status status = OASIS_OK;
    void *own = NULL;
    p.b = oas_cuda_weight_as(g, n->in[1], x->dtype, &status);
    if (!direct)
        own = oas_scratch(g, (size_t)(p.rows * p.columns) * sizeof(float));
    else if (bias && status == OASIS_OK)
        p.bias = oas_cuda_weight_as(g, bias, n->out->dtype, &status);
    if (g->planning || g->status < 0 || status < 0)
        return g->status < 0 ? g->status : status;
    p.b_turned = true;
    p.type = (int32_t)x->dtype;
    if (!direct) {
        p.y = own;
        OAS_TRY(c->tables.dense->product(c, &p));
        return c->tables.passes->bias_act_residual(c, oas_array(n->out), (cuda_array){own, OAS_F32},
                                                   bias ? oas_f32(bias) : NULL, oas_array(residual), act, p.rows,
                                                   p.columns);
    }
    p.y = n->out->data;
    p.y_type = (int32_t)n->out->dtype;
    p.act = act;
    p.add = residual != NULL;
    if (residual && residual->data != n->out->data)
        OAS_TRY(oas_cuda_copy(c, n->out->data, residual->data, oas_bytes(residual)));
    return c->tables.dense->product(c, &p);
}

/* As linear_ref_backward, with e = du in the type of x. */
static oasis_status linear_cuda_backward(graph *g, const node *n)
{
    oas_cuda *c = oas_graph_cuda(g);
    const struct cuda_passes *passes = c->tables.passes;
    const tensor *x = n->in[0], *bias = n->in[2];
    int32_t act = OAS_PARAM(struct linear_param, n)->act, type = (int32_t)x->dtype;
    int64_t rows = oas_rows(x), in = oas_last(x, 0), out = oas_last(n->out, 0);
    bool own_e = act != OAS_LINEAR || type != OAS_F32, to_bias = bias && bias->grad;
    oasis_status status = OASIS_OK;
    const void *w = oas_cuda_weight_as(g, n->in[1], x->dtype, &status);
    float *dy = oas_gradient_of(n->out), *dr = oas_gradient_of(n->in[3]);
    void *u = act != OAS_LINEAR ? oas_scratch(g, (size_t)(rows * out) * sizeof(float)) : NULL;
    void *e = own_e ? oas_scratch(g, (size_t)(rows * out) * oas_dtype_size(x->dtype)) : dy;
    void *partial = to_bias ? oas_scratch(g, passes->column_sum_bytes(c, rows, out)) : NULL;
    if (g->planning || g->status < 0 || status < 0)
        return g->status < 0 ? g->status : status;
    if (u) {
        const cuda_product again = {
            .a = x->data, .b = w, .y = u, .rows = rows, .columns = out, .depth = in, .type = type, .b_turned = true};
        OAS_TRY(c->tables.dense->product(c, &again));
    }
    if (own_e || dr)
        OAS_TRY(passes->act_slope(c, (cuda_array){e, type}, (cuda_array){u, OAS_F32}, bias ? oas_f32(bias) : NULL, dy,
                                  dr, act, rows, out));
    if (to_bias)
        OAS_TRY(passes->column_sum(c, oas_gradient_of(bias), (cuda_array){e, type}, rows, out, partial));
    const cuda_product to_x = {
        .a = e, .b = w, .y = oas_gradient_of(x), .rows = rows, .columns = in, .depth = out, .type = type, .add = true};
    const cuda_product to_w = {.a = e,
                               .b = x->data,
                               .y = oas_gradient_of(n->in[1]),
                               .rows = out,
                               .columns = in,
                               .depth = rows,
                               .type = type,
                               .a_turned = true,
                               .add = true};
    if (to_x.y)
        OAS_TRY(c->tables.dense->product(c, &to_x));
    return to_w.y ? c->tables.dense->product(c, &to_w) : OASIS_OK;
}

/* Weights in blocks are for inference: their way back is the definition's. */
static bool has_plain_weights(const graph *g, const node *n)
{
    (void)g;
    return n->in[1]->dtype != OAS_Q8_0;
}

static bool linear_sample(sampler *s, int i, node *n)
{
    /* Rows, inputs, outputs: one row, odd sizes, several slabs with a short last one, wide layers. */
    static const int64_t sizes[][3] = {{1, 8, 8},      {7, 33, 5}, {130, 64, 48},  {1100, 96, 17},
                                       {65, 512, 256}, {5, 1, 1},  {8300, 12, 200}};
    if (i >= (int)(sizeof sizes / sizeof *sizes))
        return false;
    int64_t rows = sizes[i][0], in = sizes[i][1], out = sizes[i][2];
    *(struct linear_param *)(void *)n->param = (struct linear_param){i % OAS_ACTIVATIONS, (int32_t)s->activation};
    n->in[0] = oas_sample_activation(s, OAS_SHAPE3(1, rows, in), 1);
    n->in[1] = oas_sample_activation(s, OAS_SHAPE2(out, in), 0.5f);
    n->in[2] = i % 2 ? oas_sample_floats(s, OAS_SHAPE1(out), 1) : NULL;
    n->in[3] = i % 3 ? oas_sample_activation(s, OAS_SHAPE3(1, rows, out), 1) : NULL;
    return true;
}

/* Products are taken in the type of x: a float weight under bf16 activations is rounded when it is packed. */
const op oas_op_linear = {
    .name = "linear",
    .stage = "dense",
    .n_in = 4,
    .optional = 1u << 2 | 1u << 3,
    .in_place = 4,
    .shape = linear_shape,
    .flops = linear_flops,
    .scratch = linear_scratch,
    .accepts_backward = has_plain_weights,
    .forward = {[OAS_REF] = linear_ref, [OAS_CPU] = linear_cpu, [OAS_CUDA] = linear_cuda},
    .backward = {[OAS_REF] = linear_ref_backward, [OAS_CPU] = linear_cpu_backward, [OAS_CUDA] = linear_cuda_backward},
    .passes_on = 4,
    .sample = linear_sample,
    .tolerance = 2e-6f,      /* float sums of a few thousand terms against double */
    .tolerance_bf16 = 1e-3f, /* results that lie near the middle of two bf16 values round either way */
};
