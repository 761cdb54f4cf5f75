/* Helpers of the op files. */
#include "ops/op.h"

#include "cuda/passes.h"

#include <math.h>
#include <string.h>

typedef struct stretches {
    const graph *g;
    const node *n;
    oas_stretch_fn *fn;
    int64_t count, each;
} stretches;

static void stretch_slab(void *arg, int64_t slab, int worker)
{
    (void)worker;
    const stretches *s = arg;
    int64_t begin = slab * s->each, end = begin + s->each < s->count ? begin + s->each : s->count;
    s->fn(s->g, s->n, begin, end);
}

void oas_for_stretches(graph *g, const node *n, int64_t count, size_t bytes, oas_stretch_fn *fn)
{
    int64_t each = OAS_STRETCH_BYTES / (int64_t)(bytes ? bytes : 1);
    stretches s = {.g = g, .n = n, .fn = fn, .count = count, .each = each > 0 ? each : 1};
    oas_pool_run(oas_graph_pool(g), (count + s.each - 1) / s.each, stretch_slab, &s);
}

int64_t oas_slab_rows(int64_t rows, int64_t least, int64_t most)
{
    int64_t n = (rows / 16 + 15) / 16 * 16;
    return n < least ? least : n > most ? most : n;
}

bool oas_is_place(graph *g, const node *n, const tensor *place)
{
    if (!place || (place->dtype == OAS_F32 && place->shape.rank == 1 && place->shape.size[0] == 2))
        return true;
    return oas_op_refuse(g, "%s: a place is [2] float, not %s", n->op->name, oas_shape_text(&place->shape).text);
}

int64_t oas_place_at(const tensor *place, int i, int64_t most)
{
    float at = place && place->data ? ((const float *)place->data)[i] : 0.f;
    return at >= (float)most ? most : at > 0.f ? (int64_t)at : 0;
}

float oas_act(oas_activation act, float x)
{
    switch (act) {
    case OAS_GELU_TANH: return 0.5f * x * (1.f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    case OAS_SILU: return x / (1.f + expf(-x));
    case OAS_RELU: return x > 0.f ? x : 0.f;
    case OAS_LINEAR:
    case OAS_ACTIVATIONS: break;
    }
    return x;
}

float oas_act_slope(oas_activation act, float x)
{
    switch (act) {
    case OAS_GELU_TANH: {
        float t = tanhf(0.7978845608f * (x + 0.044715f * x * x * x));
        return 0.5f * (1.f + t) + 0.5f * x * (1.f - t * t) * 0.7978845608f * (1.f + 3.f * 0.044715f * x * x);
    }
    case OAS_SILU: {
        float s = 1.f / (1.f + expf(-x));
        return s * (1.f + x * (1.f - s));
    }
    case OAS_RELU: return x > 0.f ? 1.f : 0.f;
    case OAS_LINEAR:
    case OAS_ACTIVATIONS: break;
    }
    return 1.f;
}

const float *oas_floats(const tensor *t, int64_t begin, int64_t n, float *tmp)
{
    if (t->dtype == OAS_F32)
        return (const float *)t->data + begin;
    oas_convert(tmp, OAS_F32, (const uint16_t *)t->data + begin, t->dtype, n);
    return tmp;
}

bool oas_column_sums_of(graph *g, column_sums *c, int64_t slabs, int64_t columns)
{
    *c = (column_sums){.slabs = slabs, .columns = columns};
    size_t bytes = (size_t)(slabs * columns) * sizeof *c->partial;
    c->partial = oas_scratch(g, bytes);
    if (g->status < 0 || g->planning)
        return false;
    memset(c->partial, 0, bytes);
    return true;
}

bool oas_column_sums(graph *g, column_sums *c, int64_t rows, int64_t columns, int64_t least, int64_t most)
{
    int64_t slab = oas_slab_rows(rows, least, most);
    bool ok = oas_column_sums_of(g, c, (rows + slab - 1) / slab, columns);
    c->slab = slab;
    return ok;
}

void oas_column_add(const column_sums *c, int64_t begin, int64_t n, float *gradient)
{
    for (int64_t s = 0; gradient && s < c->slabs; s++)
        for (int64_t i = 0; i < n; i++)
            gradient[i] += c->partial[s * c->columns + begin + i];
}

struct cast_form {
    oas_cuda *c;
    const tensor *weight;
    oas_dtype type;
};

static oasis_status cast_weight(void *arg, void *to)
{
    const struct cast_form *f = arg;
    return f->c->tables.passes->cast(f->c, (cuda_array){to, (int32_t)f->type}, oas_array(f->weight),
                                     oas_count(&f->weight->shape));
}

const void *oas_cuda_weight_as(graph *g, const tensor *w, oas_dtype type, oasis_status *status)
{
    struct cast_form f = {oas_graph_cuda(g), w, type};
    size_t bytes = (size_t)oas_count(&w->shape) * oas_dtype_size(type);
    void *form = w->data;
    if (w->dtype == type)
        return form;
    if (w->packed && !w->needs_grad) {
        const pack_key key = {{'c', 'a', 's', 't', (unsigned char)type}};
        *status = oas_cuda_form(g, w, &key, bytes, cast_weight, &f, &form);
        return form;
    }
    form = oas_scratch(g, bytes);
    if (!g->planning && g->status == OASIS_OK)
        *status = cast_weight(&f, form);
    return form;
}

void oas_apply_activation(const graph *g, oas_activation act, void *y, oas_dtype y_type, const void *x,
                          oas_dtype x_type, int64_t n)
{
    static const oas_pass_function functions[OAS_ACTIVATIONS] = {
        [OAS_GELU_TANH] = OAS_PASS_GELU_TANH, [OAS_SILU] = OAS_PASS_SILU, [OAS_RELU] = OAS_PASS_RELU};
    const oas_passes *pass = oas_graph_passes(g);
    if (act == OAS_LINEAR)
        pass->convert(y, y_type, x, x_type, n);
    else
        pass->activate(y, y_type, x, x_type, functions[act], n);
}
