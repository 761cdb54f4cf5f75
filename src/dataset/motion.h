/*
 * A camera that moves over a picture.
 *
 *     (x, y) of frame t  ->  c + R(angle t) zoom^t ((x, y) - c) + pan t + shake(t)        in pixels of the picture
 *
 * and with a chance of one half, a soft-edged ellipse cut from elsewhere in the picture moves in front at another speed.
 */
#ifndef OAS_DATASET_MOTION_H
#define OAS_DATASET_MOTION_H

#include "base/rng.h"

#include <oasis/oasis.h>

enum { OAS_MOTION_MARGIN = 32 }; /* pixels of the picture beyond the frames on every side */

/*
 * Fills n frames (allocated, all of one size) from a picture that is 2 * OAS_MOTION_MARGIN larger.  Draws from rng.
 */
void oas_move_camera(const oasis_frame *picture, oasis_frame *frames, int n, oas_rng *rng);

#endif
