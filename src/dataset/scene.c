/* Filming a picture: every frame is painted from back to front. */
#include "dataset/scene.h"

#include "base/memory.h"
#include "dataset/part.h"
#include "dataset/pattern.h"

#include <math.h>

enum { MOST_LAYERS = 5, CHANNELS = 4 };

static const double TWO_PI = 6.283185307179586;
static const double MOST_SCALE = 2;     /* pixels of the canvas to one of a frame */
static const double CUBIC_BELOW = 1.25; /* of that scale: one cubic sample in place of four linear ones */
static const double MARGIN = 24, MARGIN_PER_FRAME = 4, FASTEST = 8; /* pixels of a frame; pixels per frame */

/* The picture, or the part of it that a camera may see. */
typedef struct canvas {
    int width, height;
    double scale; /* its pixels to one of a frame */
    float *rgbx;  /* [height][width][4] */
} canvas;

/* What is drawn for a moving thing; speeds are per frame. */
typedef struct path {
    double x, y, pan[2], shake[2], phase[2], pace, angle, turn, zoom;
} path;

typedef enum shape_kind { SHAPE_ALL, SHAPE_BELOW, SHAPE_ELLIPSE, SHAPE_BOX } shape_kind;
typedef enum fill_kind { FILL_PICTURE, FILL_PATTERN, FILL_COLOUR } fill_kind;

typedef struct layer {
    path path;
    shape_kind shape;
    fill_kind fill;
    double rx, ry;         /* half the size of an ellipse or a box */
    double wave[3];        /* of SHAPE_BELOW: height, length, phase */
    double from_x, from_y; /* where in the canvas its centre is cut from */
    pattern pattern;
    float colour[3];
} layer;

/* ---- drawing lots -------------------------------------------------------------------------------------------------- */

static path draw_path(oas_rng *rng, double x, double y, double fastest)
{
    path p = {.x = x, .y = y, .pace = oas_rng_between(rng, 0.5, 2), .zoom = 1};
    double calm = oas_rng_uniform(rng), way = oas_rng_between(rng, 0, TWO_PI), speed = oas_rng_uniform(rng);
    double fast = oas_rng_uniform(rng), turn = oas_rng_normal(rng), zoom = oas_rng_normal(rng);
    speed = calm < 0.3   ? 0
            : fast < 0.2 ? fastest * speed
                         : 3 * speed; /* a third stand on a tripod, a few are in a hurry */
    p.pan[0] = speed * cos(way);
    p.pan[1] = speed * sin(way);
    for (int i = 0; i < 2; i++) {
        p.shake[i] = calm < 0.3 ? 0 : 0.7 * oas_rng_uniform(rng);
        p.phase[i] = oas_rng_between(rng, 0, TWO_PI);
    }
    if (calm >= 0.5) {
        p.turn = 0.008 * fmax(-3, fmin(3, turn));
        p.zoom = 1 + 0.006 * fmax(-3, fmin(3, zoom));
    }
    return p;
}

static void draw_fill(layer *l, const canvas *c, oas_rng *rng)
{
    double kind = oas_rng_uniform(rng);
    l->fill = c && kind < 0.75 ? FILL_PICTURE : kind < 0.88 ? FILL_PATTERN : FILL_COLOUR;
    l->from_x = oas_rng_between(rng, 0.2, 0.8) * (c ? c->width : 1);
    l->from_y = oas_rng_between(rng, 0.2, 0.8) * (c ? c->height : 1);
    l->pattern = oas_pattern_draw(rng);
    for (int i = 0; i < 3; i++)
        l->colour[i] = (float)oas_rng_uniform(rng);
}

static int draw_layers(layer *layers, const canvas *c, const scene_chances *chances, int width, int height,
                       oas_rng *rng)
{
    layer behind = {.path = draw_path(rng, width / 2., height / 2., FASTEST), .fill = c ? FILL_PICTURE : FILL_PATTERN};
    int n = 0;
    behind.pattern = oas_pattern_draw(rng);
    behind.from_x = c ? c->width / 2. : 0;
    behind.from_y = c ? c->height / 2. : 0;
    layers[n++] = behind;
    if (oas_rng_uniform(rng) < chances->parallax) {
        layer front = {.shape = SHAPE_BELOW};
        front.path = draw_path(rng, width / 2., oas_rng_between(rng, 0.35, 0.75) * height, FASTEST);
        for (int i = 0; i < 2; i++)
            front.path.pan[i] += oas_rng_between(rng, 1.2, 2.5) * behind.path.pan[i]; /* nearer: faster */
        front.wave[0] = oas_rng_between(rng, 0, 0.12) * height;
        front.wave[1] = oas_rng_between(rng, 0.15, 1) * width;
        front.wave[2] = oas_rng_between(rng, 0, TWO_PI);
        front.path.angle = 0.3 * oas_rng_normal(rng);
        draw_fill(&front, c, rng);
        layers[n++] = front;
    }
    int cutouts = oas_rng_uniform(rng) < chances->cutouts ? 1 + oas_rng_below(rng, 3) : 0;
    for (int i = 0; i < cutouts; i++) {
        layer l = {.shape = oas_rng_uniform(rng) < 0.6 ? SHAPE_ELLIPSE : SHAPE_BOX};
        double size = oas_rng_between(rng, 0.06, 0.25);
        l.path = draw_path(rng, oas_rng_between(rng, 0.1, 0.9) * width, oas_rng_between(rng, 0.1, 0.9) * height,
                           2 * FASTEST);
        l.path.angle = oas_rng_uniform(rng) < 0.3 ? 0 : oas_rng_between(rng, 0, TWO_PI);
        l.rx = size * width * oas_rng_between(rng, 0.4, 1);
        l.ry = size * height * oas_rng_between(rng, 0.4, 1);
        draw_fill(&l, c, rng);
        layers[n++] = l;
    }
    return n;
}

/* ---- sampling ------------------------------------------------------------------------------------------------------ */

static int held(int i, int n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

/* Adds weight * canvas(x, y), between four pixels; the border is repeated. */
static inline void add_linear(const canvas *c, float x, float y, float weight, float sum[CHANNELS])
{
    int x0 = (int)x - (x < 0), y0 = (int)y - (y < 0);
    float fx = x - (float)x0, fy = y - (float)y0;
    size_t left = CHANNELS * (size_t)held(x0, c->width), right = CHANNELS * (size_t)held(x0 + 1, c->width);
    const float *up = c->rgbx + (size_t)held(y0, c->height) * (size_t)c->width * CHANNELS;
    const float *down = c->rgbx + (size_t)held(y0 + 1, c->height) * (size_t)c->width * CHANNELS;
    float w00 = weight * (1 - fx) * (1 - fy), w01 = weight * fx * (1 - fy), w10 = weight * (1 - fx) * fy,
          w11 = weight * fx * fy;
    for (int k = 0; k < CHANNELS; k++)
        sum[k] += w00 * up[left + (size_t)k] + w01 * up[right + (size_t)k] + w10 * down[left + (size_t)k] +
                  w11 * down[right + (size_t)k];
}

static void cubic(float f, float w[4])
{
    float g = 1 - f;
    w[0] = -0.5f * f * g * g;
    w[1] = 1 + f * f * (1.5f * f - 2.5f);
    w[2] = 1 + g * g * (1.5f * g - 2.5f);
    w[3] = -0.5f * g * f * f;
}

/* The canvas at (x, y) by Keys' kernel with a = -1/2. */
static inline void add_cubic(const canvas *c, float x, float y, float sum[CHANNELS])
{
    int x0 = (int)floorf(x), y0 = (int)floorf(y);
    float wx[4], wy[4];
    cubic(x - (float)x0, wx);
    cubic(y - (float)y0, wy);
    for (int j = 0; j < 4; j++) {
        const float *row = c->rgbx + (size_t)held(y0 - 1 + j, c->height) * (size_t)c->width * CHANNELS;
        for (int i = 0; i < 4; i++) {
            const float *pixel = row + CHANNELS * (size_t)held(x0 - 1 + i, c->width);
            for (int k = 0; k < CHANNELS; k++)
                sum[k] += wy[j] * wx[i] * pixel[k];
        }
    }
}

/* ---- painting ------------------------------------------------------------------------------------------------------ */

/* A layer at one time: from a frame's pixel to the layer's own plane, (u, v) around its centre, in pixels of the frame. */
typedef struct placed {
    const layer *l;
    const canvas *c;
    double x, y, uu, uv; /* centre; u = uu dx + uv dy, v = uu dy - uv dx */
} placed;

static placed place(const layer *l, const canvas *c, double t)
{
    const path *p = &l->path;
    double angle = p->angle + p->turn * t, scale = pow(p->zoom, t);
    placed at = {.l = l, .c = c, .uu = scale * cos(angle), .uv = scale * sin(angle)};
    at.x = p->x + p->pan[0] * t + p->shake[0] * sin(p->pace * t + p->phase[0]);
    at.y = p->y + p->pan[1] * t + p->shake[1] * sin(1.3 * p->pace * t + p->phase[1]);
    return at;
}

/* How much of the pixel at (u, v) the layer covers: the distance to its edge, cut to a pixel. */
static double cover(const layer *l, double u, double v)
{
    double inside = 1;
    if (l->shape == SHAPE_BELOW)
        inside = v - l->wave[0] * sin(u * TWO_PI / l->wave[1] + l->wave[2]);
    else if (l->shape == SHAPE_BOX)
        inside = fmin(l->rx - fabs(u), l->ry - fabs(v));
    else if (l->shape == SHAPE_ELLIPSE)
        inside = (1 - sqrt(u * u / (l->rx * l->rx) + v * v / (l->ry * l->ry))) * fmin(l->rx, l->ry);
    return fmax(0, fmin(1, inside + 0.5));
}

static inline void fill_at(const placed *at, double u, double v, float rgb[CHANNELS])
{
    const layer *l = at->l;
    const canvas *c = at->c;
    if (l->fill == FILL_COLOUR) {
        for (int k = 0; k < 3; k++)
            rgb[k] = l->colour[k];
    } else if (l->fill == FILL_PATTERN) {
        oas_pattern_at(&l->pattern, u, v, 1, rgb);
    } else {
        float x = (float)(l->from_x + u * c->scale - 0.5), y = (float)(l->from_y + v * c->scale - 0.5),
              d = (float)c->scale / 4;
        rgb[0] = rgb[1] = rgb[2] = rgb[3] = 0;
        if (c->scale < CUBIC_BELOW) {
            add_cubic(c, x, y, rgb);
        } else {
            add_linear(c, x - d, y - d, 0.25f, rgb);
            add_linear(c, x + d, y - d, 0.25f, rgb);
            add_linear(c, x - d, y + d, 0.25f, rgb);
            add_linear(c, x + d, y + d, 0.25f, rgb);
        }
        for (int k = 0; k < 3; k++)
            rgb[k] = rgb[k] < 0 ? 0 : rgb[k] > 1 ? 1 : rgb[k];
    }
}

static void paint(const placed *at, oasis_frame *out)
{
    const layer *l = at->l;
    int x0 = 0, y0 = 0, x1 = out->width - 1, y1 = out->height - 1;
    if (l->shape == SHAPE_ELLIPSE || l->shape == SHAPE_BOX) {
        double reach = hypot(l->rx, l->ry) / hypot(at->uu, at->uv) + 2;
        x0 = (int)fmax(x0, floor(at->x - reach)), x1 = (int)fmin(x1, ceil(at->x + reach));
        y0 = (int)fmax(y0, floor(at->y - reach)), y1 = (int)fmin(y1, ceil(at->y + reach));
    }
    for (int y = y0; y <= y1; y++)
        for (int x = x0; x <= x1; x++) {
            double dx = x + 0.5 - at->x, dy = y + 0.5 - at->y, u = at->uu * dx + at->uv * dy,
                   v = at->uu * dy - at->uv * dx;
            float share = l->shape == SHAPE_ALL ? 1 : (float)cover(l, u, v), rgb[CHANNELS];
            if (share <= 0)
                continue;
            float *to = out->rgb + ((size_t)y * (size_t)out->width + (size_t)x) * 3;
            fill_at(at, u, v, rgb);
            for (int k = 0; k < 3; k++)
                to[k] += share * (rgb[k] - to[k]);
        }
}

/* What the camera may see of the picture, at up to MOST_SCALE times the frames' resolution. */
static oasis_status make_canvas(canvas *c, const material *still, int width, int height, int n, oas_rng *rng,
                                oasis_message *message)
{
    int margin = (int)(MARGIN + MARGIN_PER_FRAME * n), w = width + 2 * margin, h = height + 2 * margin;
    part p = oas_part_draw(rng, still->width, still->height, w, h, 1);
    c->scale = fmax(1, fmin(MOST_SCALE, fmin((double)p.w / w, (double)p.h / h)));
    c->width = (int)(w * c->scale);
    c->height = (int)(h * c->scale);
    c->rgbx = oas_alloc((size_t)c->width * (size_t)c->height, CHANNELS * sizeof *c->rgbx);
    if (!c->rgbx)
        return oas_fail_memory(message, (size_t)c->width * (size_t)c->height * CHANNELS * 4, "a picture");
    return oas_part_read(still, 0, 1, &p, &c->rgbx, c->width, c->height, CHANNELS, message);
}

oasis_status oas_scene_film(const material *still, const scene_chances *chances, oasis_frame *frames, int n,
                            oas_rng *rng, oasis_message *message)
{
    canvas c = {0};
    layer layers[MOST_LAYERS];
    oasis_status s = still ? make_canvas(&c, still, frames[0].width, frames[0].height, n, rng, message) : OASIS_OK;
    if (s == OASIS_OK) {
        int count = draw_layers(layers, still ? &c : NULL, chances, frames[0].width, frames[0].height, rng);
        for (int f = 0; f < n; f++)
            for (int i = 0; i < count; i++) {
                placed at = place(&layers[i], &c, f - (n - 1) / 2.);
                paint(&at, &frames[f]);
            }
    }
    oas_free(c.rgbx);
    return s;
}
