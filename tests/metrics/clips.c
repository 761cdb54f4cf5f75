#include "metrics/clips.h"

#include <math.h>
#include <stdlib.h>

double next_uniform(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (double)(*state >> 8) / 0x1p24;
}

double texture(double x, double y, int c)
{
    double v = sin(0.31 * x + 0.11 * y) + sin(0.23 * y - 0.17 * x + 1) + 0.7 * sin(0.45 * x + 0.4 * y + 2 + c) +
               0.5 * sin(0.05 * x * y / (1 + 0.05 * fabs(x)) + 0.3 * y);
    return 0.5 + 0.4 * v / 3.2;
}

static oasis_frame new_frame(int width, int height)
{
    oasis_frame f;
    if (oasis_frame_new(&f, width, height, false) < 0)
        abort();
    return f;
}

oasis_frame textured(int width, int height, double dx, double dy)
{
    oasis_frame f = new_frame(width, height);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                f.rgb[(y * width + x) * 3 + c] = (float)(round(texture(x + dx, y + dy, c) * 255) / 255);
    return f;
}

oasis_frame random_frame(int width, int height, uint32_t seed)
{
    oasis_frame f = new_frame(width, height);
    uint32_t state = seed;
    for (int i = 0; i < width * height * 3; i++)
        f.rgb[i] = (float)(floor(next_uniform(&state) * 256) / 255);
    return f;
}
