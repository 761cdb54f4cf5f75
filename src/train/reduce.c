/* Sums over ranks: of gradients, bucket by bucket, and of what they must agree on. */
#include "train/reduce.h"

#include "base/memory.h"

/* Floats of a bucket: large enough that starting a sum costs nothing, and few of them for large models. */
enum { LEAST_BUCKET = 1 << 18, MOST_BUCKETS = 64 };

typedef struct bucket {
    int64_t begin, count;
    int ready[OAS_PASS_KINDS]; /* the node of the walk, from 1 on, after which it is complete; 0 = none adds to it */
} bucket;

struct reducer {
    weights *weights;
    carrier *carrier;
    bucket *buckets;
    int n;
    int *bucket_of;             /* [weights->n] */
    int *order[OAS_PASS_KINDS]; /* [n]: by `ready` */
    int kind, node, begun;      /* of the walk under way */
    bool failed;
};

/* Cuts the block; a bucket ends with a weight. */
static void cut(reducer *r)
{
    const weights *w = r->weights;
    int64_t least = w->count / MOST_BUCKETS > LEAST_BUCKET ? w->count / MOST_BUCKETS : LEAST_BUCKET;
    for (int i = 0; i < w->n; i++) {
        if (r->n == 0 || r->buckets[r->n - 1].count >= least)
            r->buckets[r->n++] = (bucket){.begin = w->segments[i].begin};
        bucket *b = &r->buckets[r->n - 1];
        int64_t end = i + 1 < w->n ? w->segments[i + 1].begin : w->count;
        b->count = end - b->begin;
        r->bucket_of[i] = r->n - 1;
    }
}

oasis_status oas_reducer_new(reducer **out, weights *w, carrier *c, oasis_message *message)
{
    reducer *r = oas_alloc(1, sizeof *r);
    size_t n = (size_t)w->n;
    if (!r)
        return oas_fail_memory(message, sizeof *r, "the sums over ranks");
    r->weights = w;
    r->carrier = c;
    r->buckets = oas_alloc(n, sizeof *r->buckets);
    r->bucket_of = oas_alloc(n, sizeof *r->bucket_of);
    bool ok = r->buckets && r->bucket_of;
    for (int k = 0; k < OAS_PASS_KINDS; k++)
        ok = (r->order[k] = oas_alloc(n, sizeof *r->order[k])) && ok;
    if (!ok) {
        oas_reducer_free(&r);
        return oas_fail_memory(message, n * sizeof(bucket), "the sums over ranks");
    }
    cut(r);
    for (int k = 0; k < OAS_PASS_KINDS; k++)
        for (int i = 0; i < r->n; i++)
            r->order[k][i] = i;
    *out = r;
    return OASIS_OK;
}

void oas_reducer_free(reducer **out)
{
    reducer *r = *out;
    if (!r)
        return;
    oas_free(r->buckets);
    oas_free(r->bucket_of);
    for (int k = 0; k < OAS_PASS_KINDS; k++)
        oas_free(r->order[k]);
    oas_free(r);
    *out = NULL;
}

/* The bucket of the gradient that an input of a node adds to, or NULL. */
static bucket *bucket_of(const reducer *r, tensor *t)
{
    if (!t)
        return NULL;
    const tensor *grad = oas_root(t)->grad, *all = r->weights->gradients;
    bool ours = grad && grad >= all && grad < all + r->weights->n;
    return ours ? &r->buckets[r->bucket_of[grad - all]] : NULL;
}

/* Puts a bucket in its place among those before it. */
static void move_behind_earlier(reducer *r, int kind, int at)
{
    int *order = r->order[kind], moved = order[at];
    for (; at > 0 && r->buckets[order[at - 1]].ready[kind] > r->buckets[moved].ready[kind]; at--)
        order[at] = order[at - 1];
    order[at] = moved;
}

static void note_node(void *user, graph *g, const node *n)
{
    (void)g;
    reducer *r = user;
    r->node++;
    for (int i = 0; i < OAS_MAX_INPUTS; i++) {
        bucket *b = bucket_of(r, n->in[i]);
        if (b)
            b->ready[r->kind] = r->node;
    }
}

/* Begins the sums of all buckets that are complete after the node. */
static void begin_sums(reducer *r, int walked)
{
    for (; r->begun < r->n && !r->failed; r->begun++) {
        const bucket *b = &r->buckets[r->order[r->kind][r->begun]];
        if (b->ready[r->kind] > walked)
            break;
        r->failed = !oas_carrier_begin(r->carrier, r->weights->gradient + b->begin, (size_t)b->count);
    }
    if (r->begun > 0 && !r->failed)
        r->failed = !oas_carrier_advance(r->carrier);
}

static void sum_node(void *user, graph *g, const node *n)
{
    reducer *r = user;
    r->node++;
    for (int i = 0; i < OAS_MAX_INPUTS; i++) {
        const bucket *b = bucket_of(r, n->in[i]);
        if (b && b->ready[r->kind] < r->node)
            oas_graph_fail(g, OASIS_E_ARGUMENT,
                           "a gradient grows at node %d of the walk, and was complete at %d when planned", r->node,
                           b->ready[r->kind]);
    }
    if (g->status == OASIS_OK)
        begin_sums(r, r->node);
}

static void start(reducer *r, int kind, graph *g, void (*watch)(void *, graph *, const node *))
{
    r->kind = kind;
    r->node = r->begun = 0;
    g->walked = watch;
    g->walked_user = r;
}

void oas_reducer_learn(reducer *r, int kind, graph *g)
{
    start(r, kind, g, note_node);
}

void oas_reducer_watch(reducer *r, int kind, graph *g)
{
    for (int i = 0; i < r->n; i++)
        move_behind_earlier(r, kind, i);
    start(r, kind, g, sum_node);
}

oasis_status oas_reducer_finish(reducer *r, int kind, graph *g, weights *other, oasis_message *message)
{
    if (g->walked != sum_node)
        oas_reducer_watch(r, kind, g); /* the last pass was not watched, or a failure came before it */
    g->walked = NULL;
    begin_sums(r, INT32_MAX);
    if (other && !r->failed)
        r->failed = !oas_carrier_begin(r->carrier, other->gradient, (size_t)other->count);
    if (!r->failed)
        r->failed = !oas_carrier_finish(r->carrier);
    return r->failed ? oas_ranks_lost(message) : OASIS_OK;
}

/* ---- agreement ------------------------------------------------------------------------------------------------------- */

oasis_status oasis_ranks_agree(const oasis_ranks *k, oasis_status mine, oasis_message *message)
{
    oasis_message unheard = {""};
    double status[OAS_MOST_RANKS] = {0};
    int first = 0;
    if (!k || k->count < 2)
        return mine;
    message = message ? message : &unheard;
    if (k->count > OAS_MOST_RANKS)
        return oas_fail(message, OASIS_E_UNSUPPORTED, "%d ranks; at most %d are possible", k->count, OAS_MOST_RANKS);
    status[k->rank] = (double)mine;
    bool ok = k->sum(k->user, status, (size_t)k->count);
    while (first < k->count && (oasis_status)status[first] == OASIS_OK)
        first++;
    oasis_status s = first < k->count ? (oasis_status)status[first] : OASIS_OK;
    if (ok && s < 0)
        ok = k->broadcast(k->user, message, sizeof *message, first);
    return ok ? s : oas_ranks_lost(message);
}
