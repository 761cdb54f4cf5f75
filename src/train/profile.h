/* Dealing out heads: the rules alone, apart from measuring. */
#ifndef OAS_TRAIN_PROFILE_H
#define OAS_TRAIN_PROFILE_H

#include "format/routing.h"

#include <oasis/train.h>

/* D of one head. */
typedef struct head_distance {
    double intra, window;
} head_distance;

/*
 * kind[layers * heads] from the distances:
 *   ratio      in each layer the heads with the smallest window distance become windows, of the rest those with the smallest
 *              intra distance intra, the others global; ties go to the lower head
 *   budget     the same over all layers together
 *   threshold  window where exp(-D_W) >= options->window, else intra where exp(-D_I) >= options->intra, else global
 * Shares are rounded to whole heads.
 */
void oas_assign_heads(const oasis_profile_options *options, const head_distance *d, int layers, int heads, char *kind);

/* Sums over the keys that each kind of head sees for one query: log-sum-exps of all, own frame, window. */
typedef struct query_sums {
    double all, intra, window;
} query_sums;

/* q: the query's row; k: rows of all keys of its sample; both of `hd` values, keys `stride` apart. */
query_sums oas_query_sums(const float *q, const float *k, int64_t hd, int64_t stride, const token_grid *grid, int64_t query,
                          const int window[3]);

#endif
