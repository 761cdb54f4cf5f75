/*
 * Line patterns, computed at every place, so that their edges stay antialiased however they move: stripes, checks, grids,
 * circles around a point, stars.  What they teach is that fine regular lines stay lines.
 */
#ifndef OAS_DATASET_PATTERN_H
#define OAS_DATASET_PATTERN_H

#include "base/rng.h"

typedef enum pattern_kind {
    PATTERN_STRIPES,
    PATTERN_CHECKS,
    PATTERN_GRID,
    PATTERN_CIRCLES,
    PATTERN_STAR,
    PATTERN_KINDS
} pattern_kind;

typedef struct pattern {
    pattern_kind kind;
    double period; /* pixels; of a star, rays around the centre */
    double share;  /* of a period that has the second colour */
    double c, s;   /* cosine and sine of its direction */
    float colour[2][3];
} pattern;

pattern oas_pattern_draw(oas_rng *rng);

/* The colour at (x, y) pixels from the pattern's centre; `footprint` is the size of what one output pixel sees there. */
void oas_pattern_at(const pattern *p, double x, double y, double footprint, float rgb[3]);

#endif
