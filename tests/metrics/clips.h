/* Made-up frames for the tests of metrics. */
#ifndef TESTS_METRICS_CLIPS_H
#define TESTS_METRICS_CLIPS_H

#include <oasis/oasis.h>

/* A random number in [0, 1). */
double next_uniform(uint32_t *state);

/* A smooth, textured picture in [0.1, 0.9] seen from (x, y) pixels further on, as real numbers. */
double texture(double x, double y, int c);

/* A frame of it, its values rounded to 8 bits. */
oasis_frame textured(int width, int height, double dx, double dy);

/* A frame of random bytes. */
oasis_frame random_frame(int width, int height, uint32_t seed);

#endif
