/* Parts of decoded material, resampled. */
#ifndef OAS_DATASET_PART_H
#define OAS_DATASET_PART_H

#include "base/rng.h"
#include "base/status.h"
#include "dataset/store.h"

/* A rectangle of a frame. */
typedef struct part {
    int x, y, w, h;
} part;

/*
 * A part of a w x h frame that becomes width x height: at its own scale divided by at least `shrink`, or smaller; enlarged
 * only where it must be.
 */
part oas_part_draw(oas_rng *rng, int w, int h, int width, int height, double shrink);

/*
 * The part of frames first .. first+n-1 (the last one repeated where they end), each to [height][width][channels] float
 * in 0..1; channels 3, or 4 of which the last is not to be used.  Fails with OASIS_E_MEMORY.
 */
oasis_status oas_part_read(const material *m, int first, int n, const part *p, float *const *to, int width, int height,
                           int channels, oasis_message *message);

#endif
