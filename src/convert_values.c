/*
 * Tensors of a model file that no checkpoint has.
 *
 *   lq_proj       fitted to clips (convert_fit.c), or 16 orthonormal rows, scaled so that latents of natural pictures
 *                 have about unit variance
 *   text branch   without a prompt one constant vector per block, o(v(c)), c = second(GELU(bias of first));
 *                 with one, keys and values of its rows and of one row of padding, which stands for the rest
 */
#include "base/rng.h"
#include "convert.h"
#include "cpu/device.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BLOCK = 3 * OAS_LATENT_FRAMES * OAS_LATENT_PIXELS * OAS_LATENT_PIXELS, PROMPT_LENGTH = 512 };
enum { STREAM_PROJECTION = 1, STREAM_WEIGHTS = 2 };

/* Standard deviation of natural pictures' values in [-1, 1], about. */
static const double PIXEL_DEVIATION = 0.5;

static convert_item *item_of(conversion *c, const char *name)
{
    for (int i = 0; i < c->model.parameters.count; i++)
        if (strcmp(c->model.parameters.items[i]->name, name) == 0)
            return &c->item[i];
    return NULL;
}

/* Gives the tensor of that name zeroed values of its size. */
static float *make_values(conversion *c, const char *name)
{
    convert_item *item = item_of(c, name);
    if (!item)
        return NULL;
    const shape *s = &c->model.parameters.items[item - c->item]->tensor.shape;
    item->values = oas_alloc((size_t)oas_count(s), sizeof *item->values);
    return item->values;
}

/* ---- the projection ------------------------------------------------------------------------------------------------------ */

/* Random rows, each made orthogonal to those before it (Gram-Schmidt). */
static bool make_projection(conversion *c)
{
    float *w = make_values(c, "lq_proj.weight"), *bias = make_values(c, "lq_proj.bias");
    if (!w || !bias)
        return false;
    for (int row = 0; row < c->config.in_dim; row++) {
        oas_rng rng = oas_rng_at((uint64_t)c->options->seed, STREAM_PROJECTION, 0, (uint32_t)row);
        double norm = 0;
        float *v = w + (size_t)row * BLOCK;
        for (int i = 0; i < BLOCK; i++)
            v[i] = (float)oas_rng_normal(&rng);
        for (int other = 0; other < row; other++) {
            const float *u = w + (size_t)other * BLOCK;
            double along = 0, length = 0;
            for (int i = 0; i < BLOCK; i++) {
                along += (double)u[i] * (double)v[i];
                length += (double)u[i] * (double)u[i];
            }
            for (int i = 0; i < BLOCK; i++)
                v[i] -= (float)(along / length) * u[i];
        }
        for (int i = 0; i < BLOCK; i++)
            norm += (double)v[i] * (double)v[i];
        for (int i = 0; i < BLOCK; i++)
            v[i] *= (float)(1 / (PIXEL_DEVIATION * sqrt(norm)));
    }
    return true;
}

/* ---- the text branch ----------------------------------------------------------------------------------------------------- */

/* A graph of floats for a few rows at a time. */
typedef struct bench {
    conversion *c;
    graph g;
    device *device;
} bench;

/* A weight of the checkpoint as floats in the arena. */
static tensor *weight_of(bench *b, const char *name)
{
    const stored *from = oas_checkpoint_find(&b->c->transformer, name);
    if (!from || from->rank > OAS_MAX_RANK)
        return oas_graph_fail(&b->g, OASIS_E_FORMAT, "the tensor %s is missing", name);
    shape s = {.rank = from->rank};
    memcpy(s.size, from->size, (size_t)from->rank * sizeof *s.size);
    tensor *t = oas_tensor(&b->g, OAS_F32, s);
    if (t)
        oas_stored_floats(from, 0, oas_count(&s), t->data);
    return t;
}

static linear layer_of(bench *b, const char *prefix, const char *name)
{
    char full[OAS_PARAMETER_NAME];
    linear l;
    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    l.weight = weight_of(b, full);
    snprintf(full, sizeof full, "%s%s.bias", prefix, name);
    l.bias = weight_of(b, full);
    return l;
}

/* The prompt's rows, with one of zeros at the end for the padding: [rows, width]. */
static tensor *prompt_rows(bench *b)
{
    int rows = b->c->config.text == OAS_TEXT_CONSTANT ? 1 : b->c->dit.text.rows;
    tensor *t = oas_tensor(&b->g, OAS_F32, OAS_SHAPE2(rows, b->c->dit.text.width));
    if (!t)
        return NULL;
    memset(t->data, 0, oas_bytes(t));
    if (b->c->config.text == OAS_TEXT_PROMPT) {
        const stored *given = oas_weight_file_at(b->c->prompt.file, 0);
        oas_stored_floats(given, 0, oas_stored_count(given), t->data);
    }
    return t;
}

static bool keep(bench *b, int layer, const char *name, const tensor *t)
{
    char full[OAS_PARAMETER_NAME];
    snprintf(full, sizeof full, "blocks.%d.%s", layer, name);
    float *values = t ? make_values(b->c, full) : NULL;
    if (values)
        memcpy(values, t->data, oas_bytes(t));
    return values != NULL;
}

static bool text_of_block(bench *b, int layer, text_place *at)
{
    char prefix[40], name[OAS_PARAMETER_NAME];
    size_t mark = oas_graph_mark(&b->g);
    snprintf(prefix, sizeof prefix, "blocks.%d.cross_attn.", layer);
    text_block block = {.v = layer_of(b, prefix, "v")};
    bool ok;
    if (b->c->config.text == OAS_TEXT_CONSTANT) {
        block.o = layer_of(b, prefix, "o");
        ok = b->g.status == OASIS_OK && keep(b, layer, "cross_const", oas_prompt_constant(&b->g, &block, at->context));
    } else {
        block.k = layer_of(b, prefix, "k");
        snprintf(name, sizeof name, "%snorm_k.weight", prefix);
        block.norm_k = weight_of(b, name);
        ok = b->g.status == OASIS_OK && keep(b, layer, "cross_attn.stored_k", oas_prompt_keys(&b->g, &block, at)) &&
             keep(b, layer, "cross_attn.stored_v", oas_prompt_values(&b->g, &block, at));
    }
    oas_graph_release(&b->g, mark);
    return ok;
}

static bool text_of_all(bench *b)
{
    const dit_config *d = &b->c->dit;
    const token_grid origin = {1, 1, 1, 1};
    text_branch t = {.kind = OAS_PROMPT_CONTEXT, .prompt = prompt_rows(b)};
    t.first = layer_of(b, "text_embedding.", "0");
    t.second = layer_of(b, "text_embedding.", "2");
    if (b->g.status < 0)
        return false;
    text_place at = {.heads = d->heads, .eps = d->eps, .context = oas_prompt_context(&b->g, &t)};
    at.no_rope = oas_rope_table(&b->g, NULL, &origin, d->dim / d->heads, d->rope_theta);
    for (int i = 0; i < d->layers; i++)
        if (!text_of_block(b, i, &at))
            return false;
    float *bias = b->c->config.text == OAS_TEXT_PROMPT ? make_values(b->c, "prompt_bias") : NULL;
    int64_t real = bias ? oas_weight_file_at(b->c->prompt.file, 0)->size[0] : 0;
    if (bias && real < PROMPT_LENGTH)
        bias[real] = (float)log((double)(PROMPT_LENGTH - real));
    return bias || b->c->config.text == OAS_TEXT_CONSTANT;
}

static oasis_status make_text(conversion *c)
{
    bench b = {.c = c};
    const dit_config *d = &c->dit;
    size_t matrices = (size_t)d->dim * (size_t)(d->text.width + 3 * d->dim);
    size_t rows = (size_t)d->text.rows * (size_t)(d->text.width + 8 * d->dim);
    OAS_TRY(oas_device_new(&b.device, 0, c->message));
    b.g = (graph){.device = b.device, .backend = OAS_CPU, .compute = OAS_F32};
    bool ok = oas_arena_new(&b.g.memory, 4 * (2 * matrices + rows) + ((size_t)16 << 20)) && text_of_all(&b);
    oasis_status s = OASIS_OK;
    if (!ok)
        s = b.g.status < 0 ? oas_fail(c->message, b.g.status, "%s", b.g.message.text)
                           : oas_fail_memory(c->message, 8 * matrices, "the text branch");
    oas_arena_free(&b.g.memory);
    oas_device_free(&b.device);
    return s;
}

/* ---- all of them --------------------------------------------------------------------------------------------------------- */

oasis_status oas_convert_values(conversion *c)
{
    bool random = c->options->random != NULL;
    if (!make_projection(c))
        return oas_fail_memory(c->message, BLOCK * sizeof(float), "the projection");
    if (c->options->clip && (random || !c->base))
        return oas_fail(c->message, OASIS_E_ARGUMENT, "clips can be used only with an autoencoder's checkpoint");
    if (c->options->clip)
        OAS_TRY(oas_convert_fit(c, item_of(c, "lq_proj.weight")->values, item_of(c, "lq_proj.bias")->values));
    if (!random)
        OAS_TRY(make_text(c));
    for (int i = 0; i < c->model.parameters.count; i++) {
        const char *name = c->model.parameters.items[i]->name;
        if (c->item[i].values)
            continue;
        c->item[i].from = c->decoder.file ? oas_decoder_file_find(&c->decoder, name) : NULL;
        if (c->item[i].from)
            continue;
        c->item[i].random = random;
        if (random)
            continue;
        c->item[i].from = oas_checkpoint_find(&c->transformer, name);
        if (!c->item[i].from)
            c->item[i].from = oas_checkpoint_find(&c->autoencoder, name);
        if (!c->item[i].from)
            return oas_fail(c->message, OASIS_E_FORMAT, "no checkpoint has the tensor %s", name);
    }
    return OASIS_OK;
}

/* Gains are 1; vectors and tables small; matrices uniform with 1/inputs of variance, so that layers keep the size. */
void oas_convert_random(const conversion *c, size_t index, int64_t first, int64_t n, float *to)
{
    const parameter *p = c->model.parameters.items[index];
    int64_t inputs = oas_count(&p->tensor.shape) / p->tensor.shape.size[0];
    const char *end = strrchr(p->name, '.');
    bool gain = strcmp(end ? end : "", ".gamma") == 0 || strstr(p->name, "norm");
    bool matrix = !gain && end && strcmp(end, ".weight") == 0 && inputs > 1;
    float middle = gain ? 1.f : 0.f, width = matrix ? sqrtf(3.f / (float)inputs) : gain ? 0.1f : 0.02f;
    uint32_t key[2] = {(uint32_t)c->options->seed, (uint32_t)((uint64_t)c->options->seed >> 32)}, words[4];
    for (int64_t i = first; i < first + n; i++) {
        uint32_t counter[4] = {(uint32_t)(i / 4), (uint32_t)(i / 4 >> 32), (uint32_t)index, STREAM_WEIGHTS};
        if (i == first || i % 4 == 0)
            oas_philox(counter, key, words);
        *to++ = middle + width * ((float)(words[i % 4] >> 8) / 8388608.f - 1.f);
    }
}
