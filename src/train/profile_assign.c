/* Log-sum-exps of a query, and the rules that turn distances into kinds. */
#include "train/profile.h"

#include <math.h>
#include <string.h>

/* Adds exp(s) to a sum kept as (largest, sum of exp(s - largest)). */
typedef struct running {
    double top, sum;
} running;

static void add(running *r, double s)
{
    if (s > r->top) {
        r->sum *= exp(r->top - s);
        r->top = s;
    }
    r->sum += exp(s - r->top);
}

query_sums oas_query_sums(const float *q, const float *k, int64_t hd, int64_t stride, const token_grid *grid, int64_t query,
                          const int window[3])
{
    running all = {-INFINITY, 0}, intra = all, near = all;
    int64_t tokens = grid->frames * grid->height * grid->width;
    for (int64_t j = 0; j < tokens; j++) {
        double s = 0;
        for (int64_t c = 0; c < hd; c++)
            s += (double)(q[c] * k[j * stride + c]);
        s /= sqrt((double)hd);
        add(&all, s);
        if (oas_route_sees(OAS_HEAD_INTRA, window, grid, query, j))
            add(&intra, s);
        if (oas_route_sees(OAS_HEAD_WINDOW, window, grid, query, j))
            add(&near, s);
    }
    return (query_sums){all.top + log(all.sum), intra.top + log(intra.sum), near.top + log(near.sum)};
}

/* Gives `kind` to the `count` heads of first .. first+n-1 that are still global and have the smallest distance. */
static void give(const head_distance *d, char *kind, int first, int n, int count, char which)
{
    for (; count > 0; count--) {
        int best = -1;
        for (int i = first; i < first + n; i++) {
            double value = which == OAS_HEAD_WINDOW ? d[i].window : d[i].intra;
            if (kind[i] != OAS_HEAD_GLOBAL)
                continue;
            if (best < 0 || value < (which == OAS_HEAD_WINDOW ? d[best].window : d[best].intra))
                best = i;
        }
        if (best < 0)
            return;
        kind[best] = which;
    }
}

void oas_assign_heads(const oasis_profile_options *o, const head_distance *d, int layers, int heads, char *kind)
{
    int n = layers * heads;
    memset(kind, OAS_HEAD_GLOBAL, (size_t)n);
    if (o->mode == 2) {
        for (int i = 0; i < n; i++)
            kind[i] = exp(-d[i].window) >= o->window ? OAS_HEAD_WINDOW
                      : exp(-d[i].intra) >= o->intra ? OAS_HEAD_INTRA
                                                     : OAS_HEAD_GLOBAL;
        return;
    }
    int group = o->mode == 0 ? heads : n;
    int windows = (int)lround(o->window * group), intras = (int)lround(o->intra * group);
    for (int first = 0; first < n; first += group) {
        give(d, kind, first, group, windows, OAS_HEAD_WINDOW);
        give(d, kind, first, group, intras, OAS_HEAD_INTRA);
    }
}
