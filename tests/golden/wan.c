/* Golden files of Wan's networks: loading, comparing, and the transformer. */
#include "golden/wan.h"

#include "format/names.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

tensor *wan_channels_last(graph *g, const weight_file *file, const char *name)
{
    const stored *s = oas_weight_file_find(file, name);
    if (!s || s->rank != 4)
        return NULL;
    int64_t channels = s->size[0], rest = s->size[1] * s->size[2] * s->size[3];
    tensor *t = oas_tensor(g, OAS_F32, OAS_SHAPE5(1, s->size[1], s->size[2], s->size[3], channels));
    float *from = malloc((size_t)(channels * rest) * sizeof *from);
    if (t && from) {
        oas_stored_floats(s, 0, channels * rest, from);
        for (int64_t c = 0; c < channels; c++)
            for (int64_t i = 0; i < rest; i++)
                ((float *)t->data)[i * channels + c] = from[c * rest + i];
    }
    free(from);
    return t;
}

/* Norm of the difference over norm of what is expected, which may have its channels first. */
static double relative_error(const float *got, const float *expected, int64_t n, int64_t channels, bool channels_first)
{
    double difference = 0, norm = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        double e = (double)expected[channels_first ? i % channels * (n / channels) + i / channels : i];
        difference += ((double)got[i] - e) * ((double)got[i] - e);
        norm += e * e;
    }
    return sqrt(difference / norm);
}

void wan_compare(const weight_file *file, const char *name, const tensor *t, bool channels_first, wan_run *run)
{
    const stored *s = oas_weight_file_find(file, name);
    if (!s || !t)
        return;
    int64_t n = oas_count(&t->shape);
    double error = INFINITY;
    float *expected = malloc((size_t)n * sizeof *expected), *got = malloc((size_t)n * sizeof *got);
    if (expected && got && oas_stored_count(s) == n) {
        oas_stored_floats(s, 0, n, expected);
        oas_convert(got, OAS_F32, t->data, t->dtype, n);
        error = relative_error(got, expected, n, oas_last(t, 0), channels_first);
    }
    free(expected);
    free(got);
    if (!run->quiet)
        printf("    %-32s %.2e\n", name, error);
    run->stages++;
    if (!(error <= run->worst)) /* NaN is worse than anything */
        run->worst = error;
}

static bool refuse(wan_run *run, const char *text)
{
    snprintf(run->message, sizeof run->message, "%s", text);
    return false;
}

/* Names of either layout become original ones; false: a tensor that is not needed. */
static bool original_name(const char *given, bool transformer, char name[OAS_STORED_MAX_NAME + 1])
{
    mapped_name m = transformer ? oas_name_of_transformer(given) : oas_name_of_autoencoder(given);
    bool known = m.kind == OAS_NAME_TENSOR || m.kind == OAS_NAME_HEAD_MODULATION;
    strcpy(name, known ? m.text : given);
    return m.kind != OAS_NAME_HEAD_IDENTITY;
}

/* ---- the transformer ------------------------------------------------------------------------------------------------- */

static int number(const weight_file *file, const char *key)
{
    const char *text = oas_weight_file_note(file, key);
    return text ? atoi(text) : 0;
}

/* "giww wwig iwgw", or "all global". */
static bool read_routes(const weight_file *file, const dit_config *c, route_layer *routes)
{
    const char *text = oas_weight_file_note(file, "route"), *window = oas_weight_file_note(file, "window");
    bool global = !text || strcmp(text, "all global") == 0;
    int w[3] = {3, 5, 5};
    if (window && sscanf(window, "%d %d %d", &w[0], &w[1], &w[2]) != 3)
        return false;
    for (int i = 0; i < c->layers; i++) {
        routes[i] = (route_layer){.heads = c->heads, .window = {w[0], w[1], w[2]}};
        for (int h = 0; h < c->heads; h++) {
            while (!global && *text == ' ')
                text++;
            if (!global && !strchr("giw", *text))
                return false;
            routes[i].kind[h] = global ? 'g' : *text++;
        }
    }
    return true;
}

/* The prompt with one row for the padding, as the weights `prompt` and `prompt_bias`. */
static bool add_prompt(const weight_file *file, parameter_set *weights)
{
    const stored *context = oas_weight_file_find(file, "test.context");
    int rows = number(file, "prompt_rows"), length = number(file, "text_len"), width = number(file, "text_dim");
    if (!context || rows > length || context->rank != 2 || context->size[1] != width || context->size[0] < rows)
        return false;
    int kept = rows < length ? rows + 1 : rows;
    tensor *prompt = oas_parameters_add(weights, "prompt", OAS_F32, OAS_SHAPE2(kept, width), NULL);
    tensor *bias = oas_parameters_add(weights, "prompt_bias", OAS_F32, OAS_SHAPE1(kept), NULL);
    if (!prompt || !bias)
        return false;
    oas_stored_floats(context, 0, (int64_t)rows * width, prompt->data);
    if (kept > rows)
        ((float *)bias->data)[rows] = (float)log(length - rows);
    return true;
}

/* Watches the stages go by. */
typedef struct watcher {
    const weight_file *file;
    const dit *dit;
    wan_run *run;
    int gates;
} watcher;

static void watch(void *user, const node *n)
{
    watcher *w = user;
    char name[64];
    if (strcmp(n->op->name, "add_gated") == 0 && n->in[2] && ++w->gates % 2 == 0) {
        snprintf(name, sizeof name, "test.stage.block%d", w->gates / 2 - 1);
        wan_compare(w->file, name, n->out, false, w->run);
    }
    if (strcmp(n->op->name, "linear") != 0)
        return;
    if (n->in[1] == w->dit->patch.weight)
        wan_compare(w->file, "test.stage.patch_embedding", n->out, false, w->run);
    if (n->in[1] == w->dit->time.projection.weight)
        wan_compare(w->file, "test.stage.time_projection", n->out, false, w->run);
    if (n->in[1] == w->dit->head.weight)
        wan_compare(w->file, "test.stage.head", n->out, false, w->run);
    for (int i = 0; i < w->dit->config.layers; i++) {
        snprintf(name, sizeof name, "test.stage.block%d.self_attn", i);
        if (n->in[1] == w->dit->blocks[i].o.weight)
            wan_compare(w->file, name, n->out, false, w->run);
    }
}

/* Turns a text branch with a context into the other forms, which must give the same. */
static void reduce_text(graph *g, dit *d, const wan_run *run)
{
    const token_grid origin = {1, 1, 1, 1};
    text_place at = {.heads = d->config.heads, .eps = d->config.eps, .context = oas_prompt_context(g, &d->text)};
    at.no_rope = oas_rope_table(g, NULL, &origin, d->config.dim / d->config.heads, d->config.rope_theta);
    for (int i = 0; i < d->config.layers; i++) {
        text_block *b = &d->blocks[i].text;
        if (run->constant)
            b->constant = oas_prompt_constant(g, b, at.context);
        if (b->constant) /* of a context of several rows the first, which then is not right */
            b->constant->shape = OAS_SHAPE1(d->config.dim);
        b->stored_k = oas_prompt_keys(g, b, &at);
        b->stored_v = oas_prompt_values(g, b, &at);
    }
    d->text.kind = run->constant ? OAS_PROMPT_CONSTANT : OAS_PROMPT_STORED;
}

/* The norm of a stored tensor. */
static double norm_of(const stored *s)
{
    double sum = 0;
    for (int64_t i = 0, n = oas_stored_count(s); i < n; i++) {
        float value;
        oas_stored_floats(s, i, 1, &value);
        sum += (double)value * (double)value;
    }
    return sqrt(sum);
}

static const char GRADIENT[] = "test.grad.";

/*
 * Gradients that are zero but for rounding (the keys' of a prompt whose rows are all alike) cannot be compared with
 * themselves: the file's gradients below this part of the largest are left out.
 */
static const double LEAST_GRADIENT = 1e-5;

static void compare_gradients(const weight_file *file, parameter_set *weights, const tensor *input, wan_run *run)
{
    const size_t prefix = sizeof GRADIENT - 1;
    double largest = 0;
    for (size_t i = 0; i < oas_weight_file_count(file); i++) {
        const stored *s = oas_weight_file_at(file, i);
        if (strncmp(s->name, GRADIENT, prefix) == 0 && norm_of(s) > largest)
            largest = norm_of(s);
    }
    for (size_t i = 0; i < oas_weight_file_count(file); i++) {
        const stored *s = oas_weight_file_at(file, i);
        if (strncmp(s->name, GRADIENT, prefix) != 0 || norm_of(s) < LEAST_GRADIENT * largest)
            continue;
        bool of_input = strcmp(s->name + prefix, "input_latent") == 0;
        char name[OAS_STORED_MAX_NAME + 1];
        original_name(s->name + prefix, true, name);
        const tensor *t = of_input ? input : oas_parameters_find(weights, name);
        if (t && t->grad)
            wan_compare(file, s->name, t->grad, of_input, run);
        else
            run->worst = INFINITY;
    }
}

/* Records the run, so that backward can follow: every weight and the input want a gradient. */
static void want_gradients(graph *g, parameter_set *weights, tensor *input)
{
    g->recording = true;
    input->needs_grad = true;
    for (int i = 0; i < weights->count; i++)
        weights->items[i]->tensor.needs_grad = true;
}

static bool run_dit(const weight_file *file, graph *g, parameter_set *weights, dit *d, wan_run *run)
{
    watcher w = {.file = file, .dit = d, .run = run};
    if (run->constant || run->stored)
        reduce_text(g, d, run);
    tensor *input = wan_channels_last(g, file, "test.input_latent");
    if (input && run->gradients)
        want_gradients(g, weights, input);
    g->watch = watch;
    g->watch_user = &w;
    tensor *v = oas_dit(g, d, input);
    g->watch = NULL;
    if (g->status < 0 || !v)
        return refuse(run, g->status < 0 ? g->message.text : "the file has no test.input_latent [C,F,h,w]");
    wan_compare(file, "test.output", v, true, run);
    if (run->gradients) {
        const tensor *cotangent = wan_channels_last(g, file, "test.output_cotangent");
        if (!cotangent || oas_backward(g, v, cotangent) < 0)
            return refuse(run, cotangent ? g->message.text : "the file has no test.output_cotangent");
        compare_gradients(file, weights, input, run);
    }
    return true;
}

bool wan_golden_dit(const weight_file *file, graph *g, parameter_set *weights, wan_run *run)
{
    const stored *patch = oas_weight_file_find(file, "patch_embedding.weight");
    const tensor *head = oas_parameters_find(weights, "head.head.weight");
    dit_config c = {.dim = number(file, "dim"),
                    .ffn_dim = number(file, "ffn_dim"),
                    .heads = number(file, "num_heads"),
                    .layers = number(file, "num_layers"),
                    .timestep = number(file, "timestep"),
                    .eps = 1e-6f,
                    .rope_theta = 10000};
    if (!patch || !head || c.layers < 1 || c.layers > 64 || c.heads < 1 || c.heads > OAS_MAX_HEADS)
        return refuse(run, "the metadata describe no transformer");
    c.in_dim = (int)patch->size[1];
    c.latent_channels = (int)(head->shape.size[0] / 4);
    static route_layer routes[64];
    if (!read_routes(file, &c, routes))
        return refuse(run, "route or window are not as described");
    oas_dit_detect(&c, weights);
    dit d;
    if (oas_dit_bind(&d, &c, routes, weights) < 0)
        return refuse(run, weights->message.text);
    if (oas_parameters_unused(weights)) {
        oas_dit_free(&d);
        return refuse(run, oas_parameters_unused(weights));
    }
    bool ok = run_dit(file, g, weights, &d, run);
    oas_dit_free(&d);
    return ok;
}

/* ---- either ------------------------------------------------------------------------------------------------------------ */

static bool add_weights(const weight_file *file, parameter_set *weights)
{
    bool transformer = oas_weight_file_find(file, "patch_embedding.weight") != NULL;
    for (size_t i = 0; i < oas_weight_file_count(file); i++) {
        const stored *t = oas_weight_file_at(file, i);
        shape s = {.rank = t->rank};
        char name[OAS_STORED_MAX_NAME + 1];
        if (strncmp(t->name, "test.", 5) == 0 || !original_name(t->name, transformer, name))
            continue;
        memcpy(s.size, t->size, sizeof s.size);
        if (strcmp(name, "head.modulation") == 0 && oas_stored_count(t) % 2 == 0)
            s = OAS_SHAPE3(1, 2, oas_stored_count(t) / 2);
        tensor *made =
            t->rank > 0 && t->rank <= OAS_MAX_RANK ? oas_parameters_add(weights, name, OAS_F32, s, NULL) : NULL;
        if (!made)
            return false;
        oas_stored_floats(t, 0, oas_count(&s), made->data);
    }
    return true;
}

bool wan_golden(const weight_file *file, wan_run *run)
{
    parameter_set weights = {.path = oas_weight_file_path(file)};
    graph g = {.device = run->device, .backend = run->device ? OAS_CPU : OAS_REF, .compute = run->compute};
    bool ok = oas_arena_new(&g.memory, (size_t)1 << 30) && add_weights(file, &weights);
    run->worst = 0;
    run->stages = 0;
    if (ok && oas_weight_file_find(file, "test.context"))
        ok = add_prompt(file, &weights) || refuse(run, "test.context is not as the metadata say");
    if (ok && run->mutate)
        run->mutate(&weights, run->user);
    if (ok && oas_weight_file_find(file, "patch_embedding.weight"))
        ok = wan_golden_dit(file, &g, &weights, run);
    else
        ok = ok && wan_golden_vae(file, &g, &weights, run);
    if (ok && run->stages == 0)
        ok = refuse(run, "the file has nothing to compare with");
    oas_arena_free(&g.memory);
    oas_parameters_free(&weights);
    return ok;
}
