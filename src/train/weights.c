/* Master weights and the optimiser. */
#include "base/memory.h"
#include "cuda/passes.h"
#include "train/train.h"

#include <math.h>
#include <string.h>

static bool is_frozen(const char *name, const oasis_text_list *freeze)
{
    for (int i = 0; i < freeze->count; i++)
        if (strncmp(name, freeze->text[i], strlen(freeze->text[i])) == 0)
            return true;
    return false;
}

bool oas_is_trained(const parameter *p, const oasis_train_options *o)
{
    bool of_encoder = strncmp(p->name, "encoder.", 8) == 0, of_decoder = strncmp(p->name, "decoder.", 8) == 0;
    if (!p->used || is_frozen(p->name, &o->freeze))
        return false;
    if (o->stage == OASIS_STAGE_AUTOENCODER)
        return of_encoder || of_decoder;
    return !of_encoder && !(o->stage == OASIS_STAGE_DIFFUSION && (of_decoder || strncmp(p->name, "lq_proj.", 8) == 0));
}

/* Moves a parameter's values into the block of masters; its own are given back, so that there is never more than one. */
static void move_in(weights *w, int i, parameter *p)
{
    const segment *s = &w->segments[i];
    tensor *t = s->tensor;
    w->gradients[i] = (tensor){.shape = t->shape};
    if (w->master) {
        oas_convert(w->master + s->begin, OAS_F32, t->data, t->dtype, s->count);
        oas_free(p->owned);
        p->owned = NULL;
        t->data = w->master + s->begin;
    }
    t->dtype = OAS_F32;
    t->grad = &w->gradients[i];
    t->needs_grad = true;
}

static oasis_status make_blocks(weights *w, oasis_message *message)
{
    float **blocks[] = {&w->average, &w->gradient, &w->moment1, &w->moment2};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        *blocks[i] = oas_alloc((size_t)w->count, sizeof(float));
        if (!*blocks[i])
            return oas_fail_memory(message, (size_t)w->count * sizeof(float), "weights and their moments");
    }
    memcpy(w->average, w->master, (size_t)w->count * sizeof(float));
    for (int i = 0; i < w->n; i++)
        w->gradients[i].data = w->gradient + w->segments[i].begin;
    return OASIS_OK;
}

oasis_status oas_weights_new(weights *w, parameter_set *set, const oasis_train_options *o, oas_trained_fn *trained,
                             oasis_message *message)
{
    *w = (weights){.set = set};
    w->segments = oas_alloc((size_t)set->count + 1, sizeof *w->segments);
    if (!w->segments)
        return oas_fail_memory(message, (size_t)set->count * sizeof *w->segments, "the list of weights");
    for (int i = 0; i < set->count; i++) {
        parameter *p = set->items[i];
        if (!trained(p, o))
            continue;
        segment *s = &w->segments[w->n++];
        *s = (segment){.tensor = &p->tensor, .begin = w->count, .count = oas_count(&p->tensor.shape)};
        s->rate = strncmp(p->name, "lq_proj.", 8) == 0 ? (float)o->projection_rate : 1.f;
        s->decay = p->tensor.shape.rank > 1 && !strstr(p->name, "modulation") ? 1.f : 0.f;
        w->trained += s->count;
        w->count += (s->count + 15) / 16 * 16; /* a cache line each */
    }
    if (w->n == 0)
        return oas_fail(message, OASIS_E_ARGUMENT, "nothing is left to train: all weights of the stage are frozen");
    w->gradients = oas_alloc((size_t)w->n, sizeof *w->gradients);
    if (!set->shapes_only)
        w->master = oas_alloc((size_t)w->count, sizeof *w->master);
    if (!w->gradients || (!w->master && !set->shapes_only))
        return oas_fail_memory(message, (size_t)w->count * sizeof *w->master, "weights");
    for (int i = 0, n = 0; n < w->n; i++)
        if (w->segments[n].tensor == &set->items[i]->tensor)
            move_in(w, n++, set->items[i]);
    return set->shapes_only ? OASIS_OK : make_blocks(w, message);
}

void oas_weights_free(weights *w)
{
    oas_weights_free_gpu(w);
    oas_free(w->segments);
    oas_free(w->master);
    oas_free(w->gradient);
    oas_free(w->moment1);
    oas_free(w->moment2);
    oas_free(w->average);
    oas_free(w->gradients);
    *w = (weights){0};
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

/* Branches begin at zero, so that at first a network is its skips. */
static bool starts_at_zero(const char *name)
{
    return ends_with(name, "self_attn.o.weight") || ends_with(name, "ffn.2.weight") ||
           ends_with(name, "conv2.weight") || ends_with(name, "conv2.bias") ||
           strncmp(name, "decoder.conv_out.", 17) == 0;
}

void oas_weights_draw(tensor *t, const char *name, int64_t seed)
{
    int64_t n = oas_count(&t->shape), rows = t->shape.size[0];
    float *values = t->data;
    memset(values, 0, (size_t)n * sizeof *values);
    if (starts_at_zero(name))
        return;
    if (strstr(name, "norm_") || strstr(name, "modulation")) {
        /* Gains are 1; of [1,6,d] the rows 2 and 5 are gates. */
        int64_t d = oas_last(t, 0);
        for (int64_t i = 0; i < n; i++)
            values[i] = strstr(name, "norm_") || (n == 6 * d && i / d % 3 == 2) ? 1.f : 0.f;
        return;
    }
    uint32_t lane = 2166136261u; /* FNV-1a of the name */
    for (const char *c = name; *c; c++)
        lane = (lane ^ (unsigned char)*c) * 16777619u;
    oas_rng rng = oas_rng_at((uint64_t)seed, OAS_STREAM_WEIGHTS, 0, lane);
    double bound = t->shape.rank > 1 ? 1 / sqrt((double)(n / rows)) : 0;
    for (int64_t i = 0; i < n && bound > 0; i++)
        values[i] = (float)oas_rng_between(&rng, -bound, bound);
}

/* ---- the step ------------------------------------------------------------------------------------------------------ */

enum { PIECE = 1 << 15 };

struct norm_task {
    const weights *w;
    double *sums;
};

static void norm_slab(void *arg, int64_t slab, int worker)
{
    (void)worker;
    const struct norm_task *t = arg;
    int64_t begin = slab * PIECE, end = begin + PIECE < t->w->count ? begin + PIECE : t->w->count;
    double sum = 0;
    for (int64_t i = begin; i < end; i++)
        sum += (double)t->w->gradient[i] * (double)t->w->gradient[i];
    t->sums[slab] = sum;
}

oasis_status oas_weights_zero(weights *w, oas_pool *pool)
{
    size_t bytes = (size_t)w->count * sizeof *w->gradient;
    if (w->cuda)
        return oas_cuda_zero(w->cuda, w->gradient, bytes);
    oas_pool_zero(pool, w->gradient, bytes);
    return OASIS_OK;
}

double oas_gradient_norm(const weights *w, oas_pool *pool)
{
    if (w->cuda)
        return oas_weights_norm_gpu(w);
    int64_t slabs = (w->count + PIECE - 1) / PIECE;
    struct norm_task t = {w, oas_alloc((size_t)slabs, sizeof(double))};
    if (!t.sums)
        return NAN;
    oas_pool_run(pool, slabs, norm_slab, &t);
    double sum = 0;
    for (int64_t i = 0; i < slabs; i++)
        sum += t.sums[i];
    oas_free(t.sums);
    return sqrt(sum);
}

struct update_task {
    weights *w;
    cuda_adamw how; /* the numbers are the same everywhere */
};

static void update_slab(void *arg, int64_t slab, int worker)
{
    (void)worker;
    const struct update_task *task = arg;
    const cuda_adamw *t = &task->how;
    weights *w = task->w;
    const segment *s = &w->segments[slab];
    float *x = w->master + s->begin, *m = w->moment1 + s->begin, *v = w->moment2 + s->begin;
    float *a = w->average + s->begin, rate = t->rate * s->rate, decay = rate * t->decay * s->decay;
    const float *g = w->gradient + s->begin;
    for (int64_t i = 0; i < s->count; i++) {
        float d = g[i] * t->factor;
        m[i] = t->beta1 * m[i] + (1.f - t->beta1) * d;
        v[i] = t->beta2 * v[i] + (1.f - t->beta2) * d * d;
        x[i] -= decay * x[i] + rate * (m[i] * t->correct1) / (sqrtf(v[i] * t->correct2) + t->epsilon);
        a[i] = t->ema * a[i] + (1.f - t->ema) * x[i];
    }
}

oasis_status oas_weights_update(weights *w, oas_pool *pool, const oasis_train_options *o, double rate, double factor)
{
    double n = (double)++w->updates, ema = (1 + n) / (10 + n); /* at first the average follows faster */
    cuda_adamw how = {.beta1 = (float)o->beta1, .beta2 = (float)o->beta2, .epsilon = (float)o->epsilon};
    how.rate = (float)rate;
    how.decay = (float)o->weight_decay;
    how.factor = (float)factor;
    how.correct1 = (float)(1 / (1 - pow(o->beta1, n)));
    how.correct2 = (float)(1 / (1 - pow(o->beta2, n)));
    how.ema = (float)(ema < o->ema ? ema : o->ema);
    if (w->cuda)
        return oas_weights_update_gpu(w, &how);
    struct update_task t = {w, how};
    oas_pool_run(pool, w->n, update_slab, &t);
    return OASIS_OK;
}

void oas_weights_use_average(weights *w, bool average)
{
    for (int i = 0; i < w->n; i++)
        w->segments[i].tensor->data = (average ? w->average : w->master) + w->segments[i].begin;
}

double oas_learning_rate(const oasis_train_options *o, int64_t step)
{
    if (step < o->warmup)
        return o->rate * (double)(step + 1) / (double)o->warmup;
    if (o->schedule == 0 || o->steps <= o->warmup)
        return o->rate;
    double done = (double)(step - o->warmup) / (double)(o->steps - o->warmup);
    return o->final_rate + (o->rate - o->final_rate) * 0.5 * (1 + cos(3.14159265358979 * (done < 1 ? done : 1)));
}
