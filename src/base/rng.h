/*
 * Random numbers by counting: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011).  A block of four words is a function
 * of a key and a counter, so any number can be had without those before it, and the result does not depend on who
 * draws when.  The key is the seed; the counter is (index, lane, frame, stream):
 *
 *     stream  what the numbers are for: one number per use
 *     frame   of the clip, or any other count
 *     lane    row of the picture, so that rows can be drawn by different threads
 *     index   counts up by itself
 *
 * Nothing here depends on the C library's mathematics: the same bits on every machine with IEEE arithmetic.
 */
#ifndef OAS_BASE_RNG_H
#define OAS_BASE_RNG_H

#include <stdbool.h>
#include <stdint.h>

typedef struct oas_rng {
    uint32_t key[2], counter[4];
    uint32_t block[4];
    int left; /* words of the block not yet given out */
} oas_rng;

/* One block of the bare function. */
void oas_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t block[4]);

oas_rng oas_rng_at(uint64_t seed, uint32_t stream, uint32_t frame, uint32_t lane);

uint32_t oas_rng_word(oas_rng *rng);

/* In (0, 1): (word + 1/2) / 2^32. */
double oas_rng_uniform(oas_rng *rng);

/* In (low, high). */
double oas_rng_between(oas_rng *rng, double low, double high);

/* 0 to n-1, each alike to 2^-32; n >= 1. */
int oas_rng_below(oas_rng *rng, int n);

/* The index of one of n weights, drawn in proportion; weights >= 0 with a sum above 0. */
int oas_rng_choice(oas_rng *rng, const double *weights, int n);

/* Mean 0, deviation 1: the inverse distribution function by Wichura's rational approximations (AS 241, 1e-7 relative),
 * one word a number, so that |x| < 6.4. */
double oas_rng_normal(oas_rng *rng);

/* Another seed, for a part of a whole (a clip of a training run): no two parts of one seed are alike. */
uint64_t oas_rng_derive(uint64_t seed, uint64_t part);

enum { OAS_POISSON_GUIDE = 64 };

/*
 * Poisson numbers of one mean, 0 to 1e6, by a table of the cumulated distribution over all values more likely than
 * 1e-14 of the most likely one.
 */
typedef struct oas_poisson {
    int first, n;      /* the table is for first .. first+n-1 */
    double *cumulated; /* [n], the last one is 1 */
    int guide[OAS_POISSON_GUIDE +
              1]; /* where the table reaches i / OAS_POISSON_GUIDE: a draw looks between two of them */
} oas_poisson;

/* false when memory is short. */
bool oas_poisson_new(oas_poisson *p, double mean);
void oas_poisson_free(oas_poisson *p);
int oas_poisson_draw(const oas_poisson *p, oas_rng *rng);

#endif
