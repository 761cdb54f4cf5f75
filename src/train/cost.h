/* What an update takes: the figures of oasis_train_cost, from planned passes. */
#ifndef OAS_TRAIN_COST_H
#define OAS_TRAIN_COST_H

#include "train/train.h"

/* Adds what the graph has counted, `times` over. */
void oas_cost_add_work(oasis_train_cost *cost, const graph *g, double times);

/* Weights with gradients, moments and average, and what an update of them moves. */
void oas_cost_add_weights(oasis_train_cost *cost, const parameter_set *set, const weights *w, oas_dtype compute);

/* A pass of `pass_bytes` and the clips; then the total is known. */
void oas_cost_add_buffers(oasis_train_cost *cost, const oasis_train_options *o, size_t pass_bytes, int more_clips);

/* Measures the machine for half a second and estimates the time. */
void oas_cost_estimate(oasis_train_cost *cost, const device *d, oas_dtype compute);

#endif
