/* The diffusion transformer. */
#include "net/dit.h"

#include <math.h>
#include <string.h>

static linear bind_linear(parameter_set *w, int out, int in, const char *prefix, int layer, const char *name)
{
    linear l;
    l.weight = oas_parameter(w, OAS_MATRIX, OAS_SHAPE2(out, in), "%s.%d.%s.weight", prefix, layer, name);
    l.bias = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(out), "%s.%d.%s.bias", prefix, layer, name);
    return l;
}

static void bind_block(dit_block *b, const dit_config *c, int i, parameter_set *w)
{
    b->modulation = oas_parameter(w, OAS_VECTOR, OAS_SHAPE3(1, 6, c->dim), "blocks.%d.modulation", i);
    b->q = bind_linear(w, c->dim, c->dim, "blocks", i, "self_attn.q");
    b->k = bind_linear(w, c->dim, c->dim, "blocks", i, "self_attn.k");
    b->v = bind_linear(w, c->dim, c->dim, "blocks", i, "self_attn.v");
    b->o = bind_linear(w, c->dim, c->dim, "blocks", i, "self_attn.o");
    b->norm_q = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(c->dim), "blocks.%d.self_attn.norm_q.weight", i);
    b->norm_k = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(c->dim), "blocks.%d.self_attn.norm_k.weight", i);
    oas_prompt_bind_block(&b->text, &c->text, c->dim, i, w);
    b->ffn_in = bind_linear(w, c->ffn_dim, c->dim, "blocks", i, "ffn.0");
    b->ffn_out = bind_linear(w, c->dim, c->ffn_dim, "blocks", i, "ffn.2");
}

oasis_status oas_dit_bind(dit *d, const dit_config *c, const route_layer *routes, parameter_set *w)
{
    *d = (dit){.config = *c, .routes = routes, .blocks = oas_alloc((size_t)c->layers, sizeof *d->blocks)};
    d->tables = oas_packed_new();
    if (!d->blocks || !d->tables) {
        oas_dit_free(d);
        return w->status = oas_fail_memory(&w->message, (size_t)c->layers * sizeof *d->blocks, "the transformer");
    }
    d->patch.weight = oas_parameter(w, OAS_MATRIX, OAS_SHAPE5(c->dim, c->in_dim, 1, 2, 2), "patch_embedding.weight");
    d->patch.bias = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(c->dim), "patch_embedding.bias");
    if (c->frequencies > 0)
        oas_time_embedding_bind(&d->time, c->frequencies, c->dim, w);
    oas_prompt_bind(&d->text, &c->text, c->dim, w);
    for (int i = 0; i < c->layers; i++)
        bind_block(&d->blocks[i], c, i, w);
    d->head_modulation = oas_parameter(w, OAS_VECTOR, OAS_SHAPE3(1, 2, c->dim), "head.modulation");
    d->head.weight = oas_parameter(w, OAS_MATRIX, OAS_SHAPE2(4 * c->latent_channels, c->dim), "head.head.weight");
    d->head.bias = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(4 * c->latent_channels), "head.head.bias");
    if (w->status < 0)
        oas_dit_free(d);
    return w->status;
}

void oas_dit_detect(dit_config *c, parameter_set *w)
{
    const tensor *time = oas_parameters_find(w, "time_embedding.0.weight"), *prompt = oas_parameters_find(w, "prompt");
    const tensor *stored = oas_parameters_find(w, "blocks.0.cross_attn.stored_k");
    c->frequencies = time ? (int)oas_last(time, 0) : 0;
    c->text = (text_config){OAS_PROMPT_NONE, 0, 0};
    if (stored)
        c->text = (text_config){OAS_PROMPT_STORED, (int)stored->shape.size[0], 0};
    else if (prompt)
        c->text = (text_config){OAS_PROMPT_CONTEXT, (int)prompt->shape.size[0], (int)oas_last(prompt, 0)};
    else if (oas_parameters_find(w, "blocks.0.cross_const"))
        c->text.kind = OAS_PROMPT_CONSTANT;
}

void oas_dit_free(dit *d)
{
    oas_free(d->blocks);
    oas_packed_free(&d->tables);
    *d = (dit){0};
}

struct rope_key {
    token_grid grid;
    int32_t head_dim;
    float theta;
};

static oasis_status make_rope(void *arg, void *to)
{
    const struct rope_key *r = arg;
    const token_grid *grid = &r->grid;
    int64_t pairs = r->head_dim / 2, space = pairs / 3, time = pairs - 2 * space;
    int64_t n = grid->frames * grid->height * grid->width;
    float *out = to;
    for (int64_t i = 0; i < n; i++) {
        int64_t place[3] = {i / (grid->height * grid->width), i / grid->width % grid->height, i % grid->width};
        for (int64_t p = 0; p < pairs; p++) {
            int axis = p < time ? 0 : p < time + space ? 1 : 2;
            int64_t of_axis = axis == 0 ? time : space, j = axis == 0 ? p : (p - time) % space;
            double angle = (double)place[axis] * pow((double)r->theta, -(double)j / (double)of_axis);
            *out++ = (float)cos(angle);
            *out++ = (float)sin(angle);
        }
    }
    return OASIS_OK;
}

tensor *oas_rope_table(graph *g, packed *cache, const token_grid *grid, int head_dim, float theta)
{
    struct rope_key r = {*grid, head_dim, theta};
    r.grid.batch = 1;
    pack_key key = {"rope"};
    memcpy(key.bytes + 8, &r, sizeof r);
    shape s = OAS_SHAPE2(grid->frames * grid->height * grid->width, head_dim);
    return oas_graph_table(g, cache, &key, s, make_rope, &r);
}

/* What a block knows beside its weights. */
typedef struct block_place {
    const dit_config *config;
    const route_layer *route;
    token_grid grid;
    tensor *rope;
    tensor *time; /* e0, or NULL */
    const text_branch *text;
    text_place text_place;
} block_place;

static tensor *attend(graph *g, const dit_block *b, const block_place *at, tensor *u)
{
    float eps = at->config->eps;
    oas_dtype type = g->compute;
    tensor *q = oas_rms_norm_rope(g, oas_linear(g, u, &b->q, OAS_LINEAR, NULL, type), b->norm_q, at->rope, eps);
    tensor *k = oas_rms_norm_rope(g, oas_linear(g, u, &b->k, OAS_LINEAR, NULL, type), b->norm_k, at->rope, eps);
    tensor *v = oas_linear(g, u, &b->v, OAS_LINEAR, NULL, type);
    return oas_linear(g, oas_attention(g, q, k, v, &at->grid, at->route), &b->o, OAS_LINEAR, NULL, type);
}

static tensor *feed_forward(graph *g, const dit_block *b, tensor *u)
{
    tensor *hidden = oas_linear(g, u, &b->ffn_in, OAS_GELU_TANH, NULL, g->compute);
    return oas_linear(g, hidden, &b->ffn_out, OAS_LINEAR, NULL, g->compute);
}

typedef struct block_call {
    const dit_block *block;
    block_place at;
} block_call;

/* x [N,dim] float -> the same, in place unless recording. */
static tensor *block(graph *g, const void *arg, tensor *x)
{
    const block_call *call = arg;
    const dit_block *b = call->block;
    const block_place *at = &call->at;
    enum { SHIFT_ATTENTION, SCALE_ATTENTION, GATE_ATTENTION, SHIFT_FFN, SCALE_FFN, GATE_FFN };
    float eps = at->config->eps;
    size_t mark = oas_graph_mark(g);
    tensor *m = oas_time_modulate(g, b->modulation, at->time);
    tensor *u = oas_norm_modulate(g, x, m, SHIFT_ATTENTION, SCALE_ATTENTION, eps);
    x = oas_add_gated(g, x, attend(g, b, at, u), m, GATE_ATTENTION, oas_prompt_fixed(at->text, &b->text));
    x = oas_prompt_add(g, at->text, &b->text, &at->text_place, x);
    u = oas_norm_modulate(g, x, m, SHIFT_FFN, SCALE_FFN, eps);
    x = oas_add_gated(g, x, feed_forward(g, b, u), m, GATE_FFN, NULL);
    return oas_graph_keep(g, x, mark);
}

tensor *oas_dit(graph *g, const dit *d, tensor *c)
{
    const dit_config *config = &d->config;
    if (!c)
        return NULL;
    const int64_t *s = c->shape.size;
    const token_grid origin = {1, 1, 1, 1};
    const int head_dim = config->dim / config->heads;
    block_place at = {.config = config, .grid = {s[0], s[1], s[2] / 2, s[3] / 2}, .text = &d->text};
    int64_t tokens = oas_grid_tokens(&at.grid);
    time_values time = oas_time_embed(g, &d->time, config->timestep);
    at.time = time.e0;
    at.rope = oas_rope_table(g, d->tables, &at.grid, head_dim, config->rope_theta);
    at.text_place = (text_place){.heads = config->heads, .eps = config->eps};
    at.text_place.no_rope = oas_rope_table(g, d->tables, &origin, head_dim, config->rope_theta);
    at.text_place.context = oas_prompt_context(g, &d->text);
    tensor *patches = oas_space_to_depth(g, c, (block_factor){1, 2, 2}, OAS_CHANNEL_SLOW, 0, g->compute);
    tensor *x = oas_linear(g, patches, &d->patch, OAS_LINEAR, NULL, OAS_F32);
    x = oas_view(g, x, OAS_SHAPE2(tokens, config->dim));
    for (int i = 0; i < config->layers; i++) {
        at.route = &d->routes[i];
        block_call call = {&d->blocks[i], at};
        x = oas_checkpoint(g, block, &call, sizeof call, (tensor *[]){x, at.time, at.text_place.context}, 3);
    }
    tensor *u = oas_norm_modulate(g, x, oas_time_modulate(g, d->head_modulation, time.e), 0, 1, config->eps);
    tensor *v = oas_linear(g, u, &d->head, OAS_LINEAR, NULL, OAS_F32);
    v = oas_view(g, v, OAS_SHAPE5(s[0], s[1], at.grid.height, at.grid.width, 4 * config->latent_channels));
    return oas_depth_to_space(g, v, (block_factor){1, 2, 2}, OAS_CHANNEL_FAST, 0, NULL, OAS_F32);
}
