/* Patterns are sums of edges: the share of a pixel on either side of an edge is the distance to it, cut to a pixel. */
#include "dataset/pattern.h"

#include <math.h>

static const double TWO_PI = 6.283185307179586;

pattern oas_pattern_draw(oas_rng *rng)
{
    pattern p = {.kind = (pattern_kind)oas_rng_below(rng, PATTERN_KINDS)};
    double way = oas_rng_uniform(rng) < 0.4 ? 0 : oas_rng_between(rng, 0, TWO_PI);
    p.period = 3 * exp(oas_rng_between(rng, 0, 2.8)); /* 3 to 50 pixels */
    if (p.kind == PATTERN_STAR)
        p.period = 4 + oas_rng_below(rng, 44);
    p.share = oas_rng_between(rng, 0.15, 0.85);
    p.c = cos(way);
    p.s = sin(way);
    bool grey = oas_rng_uniform(rng) < 0.5;
    for (int k = 0; k < 2; k++)
        for (int c = 0; c < 3; c++)
            p.colour[k][c] = grey && c > 0 ? p.colour[k][0] : (float)oas_rng_uniform(rng);
    return p;
}

/* How much of [x - f/2, x + f/2] lies in the parts of every period from 0 to share, for x in periods: the difference of
 * the integral of the square wave. */
static double wave(double x, double share, double f)
{
    double a = x - f / 2, b = x + f / 2, ra = a - floor(a), rb = b - floor(b);
    double ia = floor(a) * share + fmin(ra, share), ib = floor(b) * share + fmin(rb, share);
    return (ib - ia) / f;
}

void oas_pattern_at(const pattern *p, double x, double y, double footprint, float rgb[3])
{
    double u = p->c * x + p->s * y, v = p->c * y - p->s * x, f = footprint / p->period, m = 0;
    switch (p->kind) {
    case PATTERN_CHECKS: {
        double a = wave(u / p->period, 0.5, f), b = wave(v / p->period, 0.5, f);
        m = a + b - 2 * a * b;
        break;
    }
    case PATTERN_GRID: {
        double a = wave(u / p->period, 0.3 * p->share, f), b = wave(v / p->period, 0.3 * p->share, f);
        m = a + b - a * b;
        break;
    }
    case PATTERN_CIRCLES: m = wave(hypot(u, v) / p->period, p->share, f); break;
    case PATTERN_STAR: {
        double r = hypot(u, v), turn = p->period / TWO_PI; /* periods of a radian */
        m = wave(atan2(v, u) * turn, p->share, fmin(1, footprint * turn / fmax(r, 1e-3)));
        break;
    }
    case PATTERN_STRIPES:
    case PATTERN_KINDS: m = wave(u / p->period, p->share, f); break;
    }
    for (int c = 0; c < 3; c++)
        rgb[c] = p->colour[0][c] + (float)m * (p->colour[1][c] - p->colour[0][c]);
}
