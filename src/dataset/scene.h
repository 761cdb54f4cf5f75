/*
 * A clip made from one picture, or from none: a camera moves over it, and things move in front.
 *
 *     behind   the picture, or a pattern      (x, y) of frame t -> c + R(angle t) zoom^t ((x, y) - c) + pan t + shake(t)
 *     parallax a nearer layer, cut along a wavy line, with a camera of its own
 *     cut-outs ellipses and boxes of picture, pattern or colour, which move and turn
 *
 * Places in the picture are seen through pixels up to twice as large as its own (two by two samples each), so that a clip
 * that moves by parts of a pixel stays sharp.
 */
#ifndef OAS_DATASET_SCENE_H
#define OAS_DATASET_SCENE_H

#include "base/rng.h"
#include "base/status.h"
#include "dataset/store.h"

#include <oasis/oasis.h>

/* Chances of what is drawn, 0 to 1. */
typedef struct scene_chances {
    double parallax, cutouts;
} scene_chances;

/*
 * Fills n frames (allocated, all of one size).
 *   still  the picture (its first frame); NULL: a pattern takes its place
 * Fails with OASIS_E_MEMORY.
 */
oasis_status oas_scene_film(const material *still, const scene_chances *chances, oasis_frame *frames, int n,
                            oas_rng *rng, oasis_message *message);

#endif
