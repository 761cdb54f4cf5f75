/* Cutting parts out of material: to float first, then resampled; the mean over areas when it shrinks. */
#include "dataset/part.h"

#include "base/memory.h"
#include "image/resize.h"

#include <math.h>
#include <string.h>

static const double BICUBIC_A = -0.75;

part oas_part_draw(oas_rng *rng, int w, int h, int width, int height, double shrink)
{
    double least = fmax((double)width / w, (double)height / h), most = fmax(least, 1 / shrink);
    double factor = least + (most - least) * oas_rng_uniform(rng);
    part p = {.w = (int)fmin(w, floor(width / factor + 0.5)), .h = (int)fmin(h, floor(height / factor + 0.5))};
    p.x = oas_rng_below(rng, w - p.w + 1);
    p.y = oas_rng_below(rng, h - p.h + 1);
    return p;
}

static void to_float(const material *m, int frame, const part *p, int channels, float *to)
{
    const unsigned char *from = m->rgb + (size_t)frame * (size_t)m->width * (size_t)m->height * 3;
    for (int y = 0; y < p->h; y++) {
        const unsigned char *row = from + ((size_t)(p->y + y) * (size_t)m->width + (size_t)p->x) * 3;
        for (int x = 0; x < p->w; x++, to += channels)
            for (int c = 0; c < 3; c++)
                to[c] = (float)row[3 * x + c] * (1.f / 255.f);
    }
}

oasis_status oas_part_read(const material *m, int first, int n, const part *p, float *const *to, int width, int height,
                           int channels, oasis_message *message)
{
    oas_resize_spec spec = {.in_width = p->w, .in_height = p->h, .out_width = width, .out_height = height};
    spec.channels = channels;
    spec.filter = p->w >= width ? OAS_FILTER_AREA : OAS_FILTER_BICUBIC;
    spec.a = BICUBIC_A;
    bool same = p->w == width && p->h == height;
    size_t floats = (size_t)p->w * (size_t)p->h * (size_t)channels,
           out = (size_t)width * (size_t)height * (size_t)channels;
    oas_resizer *r = NULL;
    float *cut = same ? NULL : oas_alloc(floats, sizeof *cut);
    if (!same && !cut)
        return oas_fail_memory(message, floats * sizeof *cut, "a part of a picture");
    oasis_status s = same ? OASIS_OK : oas_resizer_new(&r, &spec, message);
    for (int i = 0; i < n && s == OASIS_OK; i++) {
        if (i > 0 && first + i >= m->frames) {
            memcpy(to[i], to[i - 1], out * sizeof **to);
            continue;
        }
        to_float(m, first + i < m->frames ? first + i : m->frames - 1, p, channels, same ? to[i] : cut);
        if (!same)
            oas_resize(r, NULL, cut, to[i], 1, 0);
    }
    oas_resizer_free(&r);
    oas_free(cut);
    return s;
}
