/* Cutting a length into overlapping windows. */
#include "plan/cut.h"

static int round_up(int value, int step)
{
    return (value + step - 1) / step * step;
}

cut oas_cut(int length, int most, int overlap, int step)
{
    cut c = {.length = length, .window = length, .count = 1, .step = step};
    most -= most % step;
    if (most < 3 * overlap || most < step)
        most = round_up(overlap > 0 ? 3 * overlap : 1, step);
    if (length <= most)
        return c;
    c.count = (length - overlap + most - overlap - 1) / (most - overlap);
    c.window = round_up((length + (c.count - 1) * overlap + c.count - 1) / c.count, step);
    if (c.window > most)
        c.window = most;
    /* Rounding starts down to steps may eat into the overlap; one more window restores it. */
    for (int i = 0; i + 1 < c.count; i++) {
        if (oas_cut_start(&c, i) + c.window - oas_cut_start(&c, i + 1) < overlap) {
            c.window < most ? (c.window += step) : c.count++;
            i = -1;
        }
    }
    return c;
}

int oas_cut_start(const cut *c, int i)
{
    if (i <= 0)
        return 0;
    if (i >= c->count - 1)
        return c->length - c->window;
    int64_t start = (int64_t)i * (c->length - c->window) / (c->count - 1);
    return (int)(start - start % c->step);
}

/* The weight of the later of two windows that share first .. end-1. */
static float rising(int position, int first, int end)
{
    if (position >= end)
        return 1.f;
    return position <= first ? 0.f : (float)(position - first) / (float)(end - first);
}

float oas_cut_weight(const cut *c, int i, int position)
{
    int start = oas_cut_start(c, i);
    if (position < start || position >= start + c->window)
        return 0.f;
    float weight = 1.f;
    if (i > 0)
        weight = rising(position, start, oas_cut_start(c, i - 1) + c->window);
    if (i < c->count - 1) {
        int next = oas_cut_start(c, i + 1);
        weight -= position >= next ? rising(position, next, start + c->window) : 0.f;
    }
    return weight;
}
