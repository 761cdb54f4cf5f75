/* Philox4x32-10 and the distributions made from it. */
#include "base/rng.h"

#include "base/memory.h"
#include "base/rng_words.h"

void oas_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t block[4])
{
    oas_rng_block(counter, key, block);
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
    return oas_rng_unit(oas_rng_word(rng));
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

double oas_rng_normal(oas_rng *rng)
{
    return oas_rng_normal_of(oas_rng_word(rng));
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
    return p->first + oas_rng_reach(p->cumulated, low, high, u); /* the first that reaches u lies within */
}
