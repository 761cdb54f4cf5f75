/*
 * Adversarial training: in a pass, first the discriminator's own step (truth against detached results, on a tape of its
 * own), then what it says about the results, as losses of the network.
 *
 *   hinge         D: mean max(0, 1 - D(truth)) + mean max(0, 1 + D(y));           G: -mean D(y)
 *   relativistic  D: mean softplus(D(y) - D(truth)), patch by patch;              G: mean softplus(D(truth) - D(y))
 *                 (Huang et al. 2024, "R3GAN")
 *   r1            mean (D(x) - D(x + noise))^2 for x = truth and x = y, in place of the squared gradients of R1 and R2
 *                 (as SeedVR2 and Seaweed-APT approximate them)
 *   matching      differences of D's features of y and truth
 */
#include "base/memory.h"
#include "train/train.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FIRST_ITERATIONS = 50 };

/* The features' loss is |difference|, quadratic below this. */
static const float MATCHING_EPS = 1e-3f;

/* ---- weights and their norms ----------------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

static bool is_learnt(const parameter *p, const oasis_train_options *o)
{
    (void)o;
    return !ends_with(p->name, ".u") && !ends_with(p->name, ".v");
}

/* Brings to length 1. */
static void normalise(float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    float factor = (float)(1 / (sqrt(sum) + 1e-12));
    for (int64_t i = 0; i < n; i++)
        x[i] *= factor;
}

/* One power iteration:  v = w^T u / |w^T u|;  u = w v / |w v|. */
static void iterate(const normed_layer *l, const float *w)
{
    int64_t rows = oas_count(&l->u->shape), columns = oas_count(&l->v->shape);
    float *u = l->u->data, *v = l->v->data;
    memset(v, 0, (size_t)columns * sizeof *v);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            v[c] += w[r * columns + c] * u[r];
    normalise(v, columns);
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t c = 0; c < columns; c++)
            sum += (double)w[r * columns + c] * (double)v[c];
        u[r] = (float)sum;
    }
    normalise(u, rows);
}

oasis_status oas_adversary_new(adversary *a, const oasis_train_options *o, oasis_message *message)
{
    a->parameters.create = true;
    a->parameters.path = "the discriminator";
    oas_discriminator_bind(&a->net, o->discriminator_width, &a->parameters);
    if (a->parameters.status < 0)
        return oas_fail(message, a->parameters.status, "%s", a->parameters.message.text);
    for (int i = 0; i < OAS_DISCRIMINATOR_LAYERS; i++) {
        const normed_layer *l = &a->net.layer[i];
        oas_weights_draw(l->weight, l->weight->name, o->seed);
        oas_rng rng = oas_rng_at((uint64_t)o->seed, OAS_STREAM_WEIGHTS, 1, (uint32_t)i);
        for (int64_t k = 0; k < oas_count(&l->u->shape); k++)
            ((float *)l->u->data)[k] = (float)oas_rng_normal(&rng);
        for (int k = 0; k < FIRST_ITERATIONS; k++)
            iterate(l, l->weight->data);
    }
    return oas_weights_new(&a->weights, &a->parameters, o, is_learnt, message);
}

void oas_adversary_free(adversary *a)
{
    oas_weights_free(&a->weights);
    oas_parameters_free(&a->parameters);
}

oasis_status oas_adversary_to_gpu(adversary *a, oas_cuda *cuda, oasis_message *message)
{
    for (int i = 0; i < OAS_DISCRIMINATOR_LAYERS; i++) { /* they change in every step: no copies of them are kept */
        oas_packed_free(&a->net.layer[i].u->packed);
        oas_packed_free(&a->net.layer[i].v->packed);
    }
    return oas_weights_to_gpu(&a->weights, cuda, message);
}

oasis_status oas_adversary_update(adversary *a, oas_pool *pool, const oasis_train_options *o, double rate,
                                  double factor)
{
    OAS_TRY(oas_weights_update(&a->weights, pool, o, rate, factor));
    oasis_status s = OASIS_OK;
    for (int i = 0; i < OAS_DISCRIMINATOR_LAYERS && s == OASIS_OK; i++) {
        const normed_layer *l = &a->net.layer[i];
        float *copy = a->weights.cuda ? oas_alloc_unset(oas_bytes(l->weight), 1) : NULL;
        if (a->weights.cuda)
            s = copy ? oas_cuda_download(a->weights.cuda, copy, l->weight->data, oas_bytes(l->weight)) : OASIS_E_MEMORY;
        if (s == OASIS_OK)
            iterate(l, copy ? copy : l->weight->data);
        oas_free(copy);
    }
    return s;
}

/* ---- losses ---------------------------------------------------------------------------------------------------------- */

static tensor *copied(graph *g, tensor *vector)
{
    tensor *t = g->backend == OAS_CUDA ? oas_tensor(g, OAS_F32, vector->shape) : vector;
    if (t != vector)
        oas_graph_upload(g, t, vector->data);
    return t;
}

void oas_adversary_inputs(graph *g, const objective *o, pass *p)
{
    p->in.judge = o->adversary->net;
    for (int i = 0; i < OAS_DISCRIMINATOR_LAYERS; i++) {
        normed_layer *l = &p->in.judge.layer[i];
        l->u = copied(g, l->u);
        l->v = copied(g, l->v);
    }
}

/* x + noise, the same noise for the same pass. */
static tensor *disturbed(graph *g, const oasis_train_options *o, const pass *p, tensor *x)
{
    tensor *noise = x ? oas_tensor(g, OAS_F32, x->shape) : NULL;
    if (!noise)
        return NULL;
    int64_t n = oas_count(&x->shape), each = n / p->clips;
    float *values = g->planning ? NULL : oas_alloc_unset((size_t)n, sizeof *values);
    if (!values && !g->planning)
        return oas_graph_fail(g, OASIS_E_MEMORY, "out of memory: %lld values of noise", (long long)n);
    for (int i = 0; values && i < p->clips; i++) {
        oas_rng rng = oas_rng_at((uint64_t)o->seed, OAS_STREAM_R1, p->number, (uint32_t)(p->before + i));
        for (int64_t k = 0; k < each; k++)
            values[i * each + k] = (float)oas_rng_normal(&rng);
    }
    oas_graph_upload(g, noise, values);
    oas_free(values);
    return oas_axpy(g, x, (float)o->r1_noise, noise);
}

/* The mean square change of the scores of x under noise. */
static tensor *flatness(graph *g, const oasis_train_options *o, const pass *p, const normed_discriminator *d, tensor *x,
                        tensor *low, tensor *score)
{
    tensor *other = oas_discriminate(g, d, disturbed(g, o, p, x), low, NULL);
    return oas_loss_mse(g, oas_axpy(g, other, -1, score), NULL, (float)o->r1);
}

/* The discriminator's gradients, and its losses [1] or, with r1, [2]. */
static tensor *learn(graph *g, const objective *o, const pass *p, tensor *y, tensor *truth, tensor *low)
{
    const oasis_train_options *w = o->options;
    const normed_discriminator d = oas_discriminator_norm(g, &p->in.judge, true);
    tensor *made = oas_detach(g, y);
    tensor *of_truth = oas_discriminate(g, &d, truth, low, NULL), *of_made = oas_discriminate(g, &d, made, low, NULL);
    tensor *loss;
    if (w->adversarial_kind == 0)
        loss = oas_axpy(g, oas_loss_score(g, of_truth, NULL, OAS_SCORE_HINGE, 1, 1), 1,
                        oas_loss_score(g, of_made, NULL, OAS_SCORE_HINGE, -1, 1));
    else
        loss = oas_loss_score(g, of_truth, of_made, OAS_SCORE_SOFTPLUS, 1, 1);
    tensor *total = loss, *flat = NULL;
    if (w->r1 > 0) {
        flat = oas_axpy(g, flatness(g, w, p, &d, truth, low, of_truth), 1, flatness(g, w, p, &d, made, low, of_made));
        total = oas_axpy(g, loss, 1, flat);
    }
    if (g->status < 0 || oas_backward(g, total, NULL) < 0)
        return NULL;
    g->recording = false; /* only for the report */
    tensor *both = flat ? oas_join_channels(g, loss, flat) : loss;
    g->recording = true;
    return both;
}

void oas_adversary_judge(graph *g, const objective *o, const pass *p, tensor *y, tensor *truth, tensor *low,
                         loss_terms *t)
{
    const oasis_train_options *w = o->options;
    if (!y || !truth || !low)
        return;
    const aside a = oas_aside_begin(g);
    t->aside = oas_aside_end(g, &a, learn(g, o, p, y, truth, low));
    t->aside_name[0] = "discriminator";
    t->aside_name[1] = "discriminator-r1";
    t->n_aside = w->r1 > 0 ? 2 : 1;
    const normed_discriminator d = oas_discriminator_norm(g, &p->in.judge, false);
    tensor *of_y[OAS_DISCRIMINATOR_CONVS], *of_truth[OAS_DISCRIMINATOR_CONVS], *truth_score = NULL;
    bool relative = w->adversarial_kind != 0;
    if (relative || w->feature_matching > 0)
        truth_score = oas_discriminate(g, &d, truth, low, of_truth);
    tensor *score = oas_discriminate(g, &d, y, low, of_y);
    oas_add_term(g, t, "adversarial",
                 oas_loss_score(g, score, relative ? truth_score : NULL,
                                relative ? OAS_SCORE_SOFTPLUS : OAS_SCORE_LINEAR, 1,
                                (float)(w->adversarial * p->adversarial)));
    tensor *matching = NULL;
    for (int i = 0; i < OAS_DISCRIMINATOR_CONVS && w->feature_matching > 0; i++) {
        tensor *loss =
            oas_loss_charbonnier(g, oas_cast(g, of_y[i], OAS_F32), oas_cast(g, of_truth[i], OAS_F32), MATCHING_EPS,
                                 (float)(w->feature_matching * p->adversarial / OAS_DISCRIMINATOR_CONVS));
        matching = matching ? oas_axpy(g, matching, 1, loss) : loss;
    }
    if (matching)
        oas_add_term(g, t, "feature-matching", matching);
}
