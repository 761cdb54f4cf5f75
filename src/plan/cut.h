/*
 * Cutting a length into overlapping windows, and how windows are blended.
 *
 *     0                                                length
 *     |---- window 0 ----|                             all windows are equally long; neighbours share at least
 *                   |---- window 1 ----|               `overlap`; starts and lengths are multiples of `step`
 *                                 |---- window 2 ----|
 *
 * In a shared part the weight of the later window rises linearly from 0 at its first position, and the weight of the
 * earlier is what is missing to 1 (doc/decisions.md 12).
 */
#ifndef OAS_PLAN_CUT_H
#define OAS_PLAN_CUT_H

#include <stdint.h>

typedef struct cut {
    int length, window, count, step;
} cut;

/*
 * Cuts `length` (a multiple of step) into the fewest windows of at most `most` that share at least `overlap`; most is
 * raised to 3*overlap where it is less, so that no more than two windows meet anywhere.
 */
cut oas_cut(int length, int most, int overlap, int step);

/* Where window i begins. */
int oas_cut_start(const cut *c, int i);

/* The weight of window i at `position` of the whole length; 0 outside it.  Weights at a position sum to 1. */
float oas_cut_weight(const cut *c, int i, int position);

#endif
