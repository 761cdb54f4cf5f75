/*
 * Gradients of several ranks become one while backward still runs.
 *
 * The block of all gradients is cut into buckets, ranges of whole weights.  A plan of the pass tells after which node of
 * the backward walk a bucket's last gradient is complete; then its sum over the ranks begins.  Borders, order and number
 * of the sums depend on the model and the kind of pass alone, which are the same on all ranks and in every run; what
 * depends on time is only when a sum ends, so the bits are the same again (given oasis_ranks' own promise).
 */
#ifndef OAS_TRAIN_REDUCE_H
#define OAS_TRAIN_REDUCE_H

#include "train/carrier.h"
#include "train/train.h"

typedef struct reducer reducer;

/* For the weights' gradients; weights and carrier must live longer. */
oasis_status oas_reducer_new(reducer **r, weights *w, carrier *c, oasis_message *message);
void oas_reducer_free(reducer **r);

/* Has it watch the backward walk of a graph that plans, to learn when the buckets of a kind of pass are complete. */
void oas_reducer_learn(reducer *r, int kind, graph *g);

/* Has it watch the walk of a step's last pass: sums begin.  A walk unlike the planned one fails the graph. */
void oas_reducer_watch(reducer *r, int kind, graph *g);

/*
 * Ends what oas_reducer_watch began, or does all of it where nobody watched: every rank must call it in every step.
 * Afterwards all ranks have the same gradients.  OASIS_E_DEVICE: the ranks' connection failed.
 *   other  weights whose gradients have been complete before the walk, or NULL
 */
oasis_status oas_reducer_finish(reducer *r, int kind, graph *g, weights *other, oasis_message *message);

#endif
