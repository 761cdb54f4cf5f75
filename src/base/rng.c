/* Philox4x32-10 and the distributions made from it. */
#include "base/rng.h"

#include "base/memory.h"

#include <math.h>

void oas_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t block[4])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k[2] = {key[0], key[1]};
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ k[1],
                            (uint32_t)a};
        for (int i = 0; i < 4; i++)
            c[i] = next[i];
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    for (int i = 0; i < 4; i++)
        block[i] = c[i];
}

oas_rng oas_rng_at(uint64_t seed, uint32_t stream, uint32_t frame, uint32_t lane)
{
    return (oas_rng){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)}, .counter = {0, lane, frame, stream}};
}

uint32_t oas_rng_word(oas_rng *rng)
{
    if (rng->left == 0) {
        oas_philox(rng->counter, rng->key, rng->block);
        rng->counter[0]++;
        rng->left = 4;
    }
    return rng->block[4 - rng->left--];
}

double oas_rng_uniform(oas_rng *rng)
{
    return (oas_rng_word(rng) + 0.5) * 0x1p-32;
}

double oas_rng_between(oas_rng *rng, double low, double high)
{
    return low + (high - low) * oas_rng_uniform(rng);
}

int oas_rng_below(oas_rng *rng, int n)
{
    return (int)(((uint64_t)oas_rng_word(rng) * (uint64_t)n) >> 32);
}

int oas_rng_choice(oas_rng *rng, const double *weights, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += weights[i];
    double left = oas_rng_uniform(rng) * sum;
    int last = 0;
    for (int i = 0; i < n; i++) {
        if (weights[i] > 0)
            last = i;
        if (left < weights[i])
            return i;
        left -= weights[i];
    }
    return last; /* rounding ate the last bit of the sum */
}

uint64_t oas_rng_derive(uint64_t seed, uint64_t part)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)part, (uint32_t)(part >> 32), 0x64657269,
                                 0xFFFFFFFF}; /* a stream of its own */
    uint32_t block[4];
    oas_philox(counter, key, block);
    return block[0] | (uint64_t)block[1] << 32;
}

/* ---- normal ------------------------------------------------------------------------------------------------------ */

/* ln x for x in (0, 1), to 1e-15: x = 2^e m with m in [0.7, 1.4), ln m = 2 artanh((m - 1) / (m + 1)) as a series. */
static double natural_log(double x)
{
    int e;
    double m = frexp(x, &e);
    if (m < 0.70710678118654752) {
        m *= 2;
        e--;
    }
    double t = (m - 1) / (m + 1), t2 = t * t, sum = 0;
    for (int k = 21; k >= 1; k -= 2)
        sum = sum * t2 + 1.0 / k;
    return e * 0.69314718055994531 + 2 * t * sum;
}

/* Wichura, Algorithm AS 241, PPND7 (Applied Statistics 37, 1988). */
double oas_rng_normal(oas_rng *rng)
{
    double p = oas_rng_uniform(rng), q = p - 0.5;
    if (fabs(q) <= 0.425) {
        double r = 0.180625 - q * q;
        return q * (((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179) /
               (((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1);
    }
    double r = sqrt(-natural_log(q < 0 ? p : 1 - p)) - 1.6; /* p >= 2^-33: below the 5 where a third formula begins */
    double x = (((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777) /
               ((0.12021132975 * r + 0.73700164250) * r + 1);
    return q < 0 ? -x : x;
}

/* ---- Poisson ----------------------------------------------------------------------------------------------------- */

static const double UNLIKELY = 1e-14;

bool oas_poisson_new(oas_poisson *p, double mean)
{
    int mode = (int)mean, first = mode, last = mode;
    /* Likelihoods relative to the most likely value, outwards from it: p(k+1) = p(k) mean / (k+1). */
    for (double w = 1; first > 0 && w > UNLIKELY; first--)
        w *= first / mean;
    for (double w = 1; w > UNLIKELY; last++)
        w *= mean / (last + 1);
    p->first = first;
    p->n = last - first + 1;
    p->cumulated = oas_alloc((size_t)p->n, sizeof *p->cumulated);
    if (!p->cumulated)
        return false;
    p->cumulated[mode - first] = 1;
    for (int k = mode; k > first; k--)
        p->cumulated[k - 1 - first] = p->cumulated[k - first] * k / mean;
    for (int k = mode; k < last; k++)
        p->cumulated[k + 1 - first] = p->cumulated[k - first] * mean / (k + 1);
    double sum = 0;
    for (int i = 0; i < p->n; i++)
        p->cumulated[i] = sum += p->cumulated[i];
    for (int i = 0; i < p->n; i++)
        p->cumulated[i] /= sum;
    for (int i = 0, k = 0; i <= OAS_POISSON_GUIDE; i++) {
        while (k < p->n - 1 && p->cumulated[k] < (double)i / OAS_POISSON_GUIDE)
            k++;
        p->guide[i] = k;
    }
    return true;
}

void oas_poisson_free(oas_poisson *p)
{
    oas_free(p->cumulated);
    *p = (oas_poisson){0};
}

int oas_poisson_draw(const oas_poisson *p, oas_rng *rng)
{
    double u = oas_rng_uniform(rng);
    int part = (int)(u * OAS_POISSON_GUIDE), low = p->guide[part], high = p->guide[part + 1];
    /* The first entry that reaches u lies within. */
    while (low < high) {
        int middle = (low + high) / 2;
        if (p->cumulated[middle] >= u)
            high = middle;
        else
            low = middle + 1;
    }
    return p->first + low;
}
