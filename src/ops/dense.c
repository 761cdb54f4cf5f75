/*
 * Dense layer:  y = act(x w^T + b) + residual.
 *
 * The rows are cut into slabs; oneDNN computes each with one thread.
 */
#include "cpu/dnnl.h"
#include "ops/op.h"
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

enum { DENSE_LEAST_ROWS = 128, DENSE_MOST_ROWS = 1024 };

/* The job of the whole slabs (NULL when there is none) and that of the last one. */
struct dense_jobs {
    int64_t slab, slabs;
    const dnnl_job *whole, *last;
    size_t scratch_each;      /* bytes per worker */
    size_t weight_bytes;      /* of weights packed for this call alone, 0 where they are cached */
};

static bool dense_prepare(graph *g, const node *n, struct dense_jobs *j)
{
    int64_t rows = oas_rows(n->in[0]);
    dnnl_spec spec = {.act = OAS_PARAM(struct linear_param, n)->act,
                      .in_type = (int32_t)n->in[0]->dtype,
                      .out_type = (int32_t)n->out->dtype,
                      .bias = n->in[2] != NULL,
                      .residual = n->in[3] != NULL,
                      .in = oas_last(n->in[0], 0),
                      .out = oas_last(n->out, 0)};
    *j = (struct dense_jobs){.slab = oas_slab_rows(rows, DENSE_LEAST_ROWS, DENSE_MOST_ROWS)};
    j->slabs = (rows + j->slab - 1) / j->slab;
    spec.rows = rows - (j->slabs - 1) * j->slab;
    j->last = oas_dnnl_job(g->device->dnnl, &spec, g);
    spec.rows = j->slab;
    j->whole = j->slabs > 1 ? oas_dnnl_job(g->device->dnnl, &spec, g) : j->last;
    if (!j->last || !j->whole)
        return false;
    size_t a = oas_dnnl_scratch_bytes(j->whole), b = oas_dnnl_scratch_bytes(j->last);
    j->scratch_each = ((a > b ? a : b) + OAS_ALIGN - 1) / OAS_ALIGN * OAS_ALIGN;
    if (!n->in[1]->packed || n->in[1]->needs_grad) {
        a = oas_dnnl_weight_bytes(j->whole), b = oas_dnnl_weight_bytes(j->last);
        j->weight_bytes = ((a > b ? a : b) + OAS_ALIGN - 1) / OAS_ALIGN * OAS_ALIGN;
    }
    return true;
}

static size_t linear_scratch(graph *g, const node *n)
{
    struct dense_jobs j;
    if (!dense_prepare(g, n, &j))
        return 0;
    return j.scratch_each * (size_t)oas_pool_workers(g->device->pool) + 2 * j.weight_bytes;
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
    oasis_status s = oas_dnnl_run(t->g->device->dnnl, last ? t->jobs.last : t->jobs.whole, worker, x + row * x_row,
                                  last ? t->last_weights : t->whole_weights, n->in[2] ? n->in[2]->data : NULL,
                                  y + row * y_row, t->scratch + (size_t)worker * t->jobs.scratch_each);
    if (s < 0)
        atomic_store(&t->status, (int)s);
}

static oasis_status linear_cpu(graph *g, const node *n)
{
    struct dense_task t = {.g = g, .n = n};
    if (!dense_prepare(g, n, &t.jobs))
        return OASIS_E_DEVICE;
    void *own_whole = t.jobs.weight_bytes ? oas_scratch(g, t.jobs.weight_bytes) : NULL;
    void *own_last = t.jobs.weight_bytes ? oas_scratch(g, t.jobs.weight_bytes) : NULL;
    t.scratch = oas_scratch(g, t.jobs.scratch_each * (size_t)oas_pool_workers(g->device->pool));
    if (g->status < 0)
        return g->status;
    OAS_TRY(oas_dnnl_weights(g->device->dnnl, t.jobs.whole, n->in[1], 0, own_whole, &t.whole_weights));
    OAS_TRY(oas_dnnl_weights(g->device->dnnl, t.jobs.last, n->in[1], 0, own_last, &t.last_weights));
    if (n->in[3] && n->in[3]->data != n->out->data)
        memcpy(n->out->data, n->in[3]->data, oas_bytes(n->out));
    oas_pool_run(g->device->pool, t.jobs.slabs, dense_slab, &t);
    return (oasis_status)atomic_load(&t.status);
}

static bool linear_sample(sampler *s, int i, node *n)
{
    /* Rows, inputs, outputs: one row, odd sizes, several slabs with a short last one, wide layers. */
    static const int64_t sizes[][3] = {{1, 8, 8}, {7, 33, 5}, {130, 64, 48}, {1100, 96, 17}, {65, 512, 256}, {5, 1, 1}};
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
    .forward = {[OAS_REF] = linear_ref, [OAS_CPU] = linear_cpu},
    .backward = {[OAS_REF] = linear_ref_backward},
    .sample = linear_sample,
    .tolerance = 2e-6f, /* float sums of a few thousand terms against double */
    .tolerance_bf16 = 1e-3f, /* results that lie near the middle of two bf16 values round either way */
};
