#include "image/pictures.h"

#include <math.h>
#include <stdlib.h>

uint32_t next_random(uint32_t *state)
{
    uint32_t x = *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

float next_uniform(uint32_t *state)
{
    return (float)(next_random(state) >> 8) * 0x1p-24f;
}

int next_between(uint32_t *state, int first, int last)
{
    return first + (int)(next_random(state) % (uint32_t)(last - first + 1));
}

float *random_picture(uint32_t *state, size_t n)
{
    float *p = malloc(n * sizeof *p);
    for (size_t i = 0; p && i < n; i++)
        p[i] = next_uniform(state);
    return p;
}

double largest_difference(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= worst))
            worst = isfinite(d) ? d : INFINITY;
    }
    return worst;
}
