/*
 * What base/rng.h and degradations on a GPU compute alike, in the common subset of C and C++: words by counting, and
 * numbers made of them.  Private to base/rng.c and to kernels, which define OAS_RNG_FUNCTION and OAS_RNG_UNROLL first,
 * and compile it without fused multiply-adds: the same bits everywhere.
 */
#ifndef OAS_BASE_RNG_WORDS_H
#define OAS_BASE_RNG_WORDS_H

#include <math.h>
#include <stdint.h>

#ifndef OAS_RNG_FUNCTION
#define OAS_RNG_FUNCTION static inline /* what stands before each function */
#define OAS_RNG_UNROLL                 /* before loops over arrays that must stay in registers */
#endif

enum { OAS_RNG_WORDS = 4 /* of a block */ };

/* Philox4x32-10; words may be counter. */
OAS_RNG_FUNCTION void oas_rng_block(const uint32_t counter[4], const uint32_t key[2], uint32_t words[4])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k[2] = {key[0], key[1]};
    OAS_RNG_UNROLL
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        c[0] = (uint32_t)(b >> 32) ^ c[1] ^ k[0];
        c[2] = (uint32_t)(a >> 32) ^ c[3] ^ k[1];
        c[1] = (uint32_t)b;
        c[3] = (uint32_t)a;
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    OAS_RNG_UNROLL
    for (int i = 0; i < OAS_RNG_WORDS; i++)
        words[i] = c[i];
}

/* A word in (0, 1): (word + 1/2) / 2^32. */
OAS_RNG_FUNCTION double oas_rng_unit(uint32_t word)
{
    return (word + 0.5) * (1 / 4294967296.);
}

/* ln x for x in (0, 1), to 1e-15: x = 2^e m with m in [0.7, 1.4), ln m = 2 artanh((m - 1) / (m + 1)) as a series. */
OAS_RNG_FUNCTION double oas_rng_log(double x)
{
    int e;
    double m = frexp(x, &e);
    if (m < 0.70710678118654752) {
        m *= 2;
        e--;
    }
    double t = (m - 1) / (m + 1), t2 = t * t, sum = 0;
    OAS_RNG_UNROLL
    for (int k = 21; k >= 1; k -= 2)
        sum = sum * t2 + 1.0 / k;
    return e * 0.69314718055994531 + 2 * t * sum;
}

/* The standard normal number of a word: Wichura, Algorithm AS 241, PPND7 (Applied Statistics 37, 1988). */
OAS_RNG_FUNCTION double oas_rng_normal_of(uint32_t word)
{
    double p = oas_rng_unit(word), q = p - 0.5;
    if ((q < 0 ? -q : q) <= 0.425) {
        double r = 0.180625 - q * q;
        return q * (((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179) /
               (((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1);
    }
    /* p >= 2^-33: below the 5 where a third formula begins. */
    double r = sqrt(-oas_rng_log(q < 0 ? p : 1 - p)) - 1.6;
    double x = (((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777) /
               ((0.12021132975 * r + 0.73700164250) * r + 1);
    return q < 0 ? -x : x;
}

/* Of cumulated likelihoods the first that reaches u, known to lie at low..high. */
OAS_RNG_FUNCTION int oas_rng_reach(const double *cumulated, int low, int high, double u)
{
    while (low < high) {
        int middle = (low + high) / 2;
        if (cumulated[middle] >= u)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

#endif
