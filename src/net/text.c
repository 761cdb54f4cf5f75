/* The text branch of a transformer. */
#include "net/text.h"

#include <stdio.h>

static linear bind_linear(parameter_set *w, int out, int in, const char *prefix, const char *name)
{
    linear l;
    l.weight = oas_parameter(w, OAS_MATRIX, OAS_SHAPE2(out, in), "%s%s.weight", prefix, name);
    l.bias = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(out), "%s%s.bias", prefix, name);
    return l;
}

void oas_prompt_bind(text_branch *t, const text_config *c, int dim, parameter_set *w)
{
    *t = (text_branch){.kind = c->kind};
    if (c->kind == OAS_PROMPT_STORED || c->kind == OAS_PROMPT_CONTEXT)
        t->bias = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(c->rows), "prompt_bias");
    if (c->kind != OAS_PROMPT_CONTEXT)
        return;
    t->first = bind_linear(w, dim, c->width, "text_embedding.", "0");
    t->second = bind_linear(w, dim, dim, "text_embedding.", "2");
    t->prompt = oas_parameter(w, OAS_VECTOR, OAS_SHAPE2(c->rows, c->width), "prompt");
}

void oas_prompt_bind_block(text_block *b, const text_config *c, int dim, int i, parameter_set *w)
{
    char prefix[40];
    *b = (text_block){0};
    if (c->kind == OAS_PROMPT_CONSTANT)
        b->constant = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(dim), "blocks.%d.cross_const", i);
    if (c->kind != OAS_PROMPT_STORED && c->kind != OAS_PROMPT_CONTEXT)
        return;
    snprintf(prefix, sizeof prefix, "blocks.%d.cross_attn.", i);
    b->norm3_weight = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(dim), "blocks.%d.norm3.weight", i);
    b->norm3_bias = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(dim), "blocks.%d.norm3.bias", i);
    b->q = bind_linear(w, dim, dim, prefix, "q");
    b->o = bind_linear(w, dim, dim, prefix, "o");
    b->norm_q = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(dim), "%snorm_q.weight", prefix);
    if (c->kind == OAS_PROMPT_CONTEXT) {
        b->k = bind_linear(w, dim, dim, prefix, "k");
        b->v = bind_linear(w, dim, dim, prefix, "v");
        b->norm_k = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(dim), "%snorm_k.weight", prefix);
    } else {
        b->stored_k = oas_parameter(w, OAS_VECTOR, OAS_SHAPE2(c->rows, dim), "%sstored_k", prefix);
        b->stored_v = oas_parameter(w, OAS_VECTOR, OAS_SHAPE2(c->rows, dim), "%sstored_v", prefix);
    }
}

tensor *oas_prompt_context(graph *g, const text_branch *t)
{
    if (t->kind != OAS_PROMPT_CONTEXT)
        return NULL;
    tensor *hidden = oas_linear(g, oas_cast(g, t->prompt, g->compute), &t->first, OAS_GELU_TANH, NULL, g->compute);
    return oas_linear(g, hidden, &t->second, OAS_LINEAR, NULL, g->compute);
}

tensor *oas_prompt_constant(graph *g, const text_block *b, tensor *context)
{
    tensor *v = oas_linear(g, context, &b->v, OAS_LINEAR, NULL, OAS_F32);
    return oas_linear(g, v, &b->o, OAS_LINEAR, NULL, OAS_F32);
}

tensor *oas_prompt_keys(graph *g, const text_block *b, const text_place *at)
{
    tensor *k = oas_linear(g, at->context, &b->k, OAS_LINEAR, NULL, g->compute);
    return oas_rms_norm_rope(g, k, b->norm_k, at->no_rope, at->eps);
}

tensor *oas_prompt_values(graph *g, const text_block *b, const text_place *at)
{
    return oas_linear(g, at->context, &b->v, OAS_LINEAR, NULL, g->compute);
}

tensor *oas_prompt_fixed(const text_branch *t, const text_block *b)
{
    return t->kind == OAS_PROMPT_CONSTANT ? b->constant : NULL;
}

tensor *oas_prompt_add(graph *g, const text_branch *t, const text_block *b, const text_place *at, tensor *x)
{
    oas_dtype type = g->compute;
    if (t->kind == OAS_PROMPT_NONE || t->kind == OAS_PROMPT_CONSTANT)
        return x;
    tensor *u = oas_norm_affine(g, x, b->norm3_weight, b->norm3_bias, at->eps);
    tensor *q = oas_linear(g, u, &b->q, OAS_LINEAR, NULL, type);
    q = oas_rms_norm_rope(g, q, b->norm_q, at->no_rope, at->eps);
    bool stored = t->kind == OAS_PROMPT_STORED;
    tensor *k = stored ? oas_cast(g, b->stored_k, type) : oas_prompt_keys(g, b, at);
    tensor *v = stored ? oas_cast(g, b->stored_v, type) : oas_prompt_values(g, b, at);
    tensor *seen = oas_attend(g, q, k, v, t->bias, 1, at->heads);
    return oas_add_gated(g, x, oas_linear(g, seen, &b->o, OAS_LINEAR, NULL, type), NULL, 0, NULL);
}
