/* Helpers of the picture tests: random numbers, made-up pictures, comparison. */
#ifndef TESTS_IMAGE_PICTURES_H
#define TESTS_IMAGE_PICTURES_H

#include <stddef.h>
#include <stdint.h>

/* A small generator (xorshift), state not 0. */
uint32_t next_random(uint32_t *state);
/* In [0, 1). */
float next_uniform(uint32_t *state);
/* From first to last inclusive. */
int next_between(uint32_t *state, int first, int last);

/* n values in [0, 1), to be freed with free(). */
float *random_picture(uint32_t *state, size_t n);

/* The largest absolute difference; infinite where either is not a number. */
double largest_difference(const float *a, const float *b, size_t n);

#endif
