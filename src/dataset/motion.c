/* A camera that moves over a picture: one affine map per frame, sampled with Keys' cubic kernel (a = -1/2). */
#include "dataset/motion.h"

#include <math.h>

/* From a frame's pixel to the picture's. */
typedef struct affine {
    double xx, xy, yx, yy, x0, y0;
} affine;

/* What is drawn for a clip; speeds are per frame. */
typedef struct camera {
    double angle, zoom, pan[2], shake[2], phase[2], pace;
} camera;

static camera draw_camera(oas_rng *rng)
{
    camera c = {.pace = oas_rng_between(rng, 0.5, 2)};
    double calm = oas_rng_uniform(rng); /* a third of the cameras stand on a tripod */
    double speed = calm < 0.33 ? 0 : oas_rng_uniform(rng);
    double way = oas_rng_between(rng, 0, 6.2831853);
    c.pan[0] = 3 * speed * cos(way);
    c.pan[1] = 3 * speed * sin(way);
    c.angle = calm < 0.5 ? 0 : 0.008 * oas_rng_normal(rng);
    c.zoom = calm < 0.5 ? 1 : 1 + 0.006 * oas_rng_normal(rng);
    for (int i = 0; i < 2; i++) {
        c.shake[i] = calm < 0.33 ? 0 : 0.7 * oas_rng_uniform(rng);
        c.phase[i] = oas_rng_between(rng, 0, 6.2831853);
    }
    return c;
}

/* The map at frame t, so that the frame's centre lies at (cx, cy) of the picture when t is the middle. */
static affine at_time(const camera *c, double t, double width, double height, double cx, double cy)
{
    double scale = pow(c->zoom, t), s = sin(c->angle * t), k = cos(c->angle * t);
    affine a = {scale * k, -scale * s, scale * s, scale * k, 0, 0};
    a.x0 = cx - a.xx * width / 2 - a.xy * height / 2 + c->pan[0] * t + c->shake[0] * sin(c->pace * t + c->phase[0]);
    a.y0 = cy - a.yx * width / 2 - a.yy * height / 2 + c->pan[1] * t + c->shake[1] * sin(1.3 * c->pace * t + c->phase[1]);
    return a;
}

static void cubic(double f, float w[4])
{
    double g = 1 - f;
    w[0] = (float)(-0.5 * f * g * g);
    w[1] = (float)(1 + f * f * (1.5 * f - 2.5));
    w[2] = (float)(1 + g * g * (1.5 * g - 2.5));
    w[3] = (float)(-0.5 * g * f * f);
}

static int held(int i, int n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

/* The picture at (x, y), pixel centres at whole numbers; the border is repeated. */
static void sample(const oasis_frame *p, double x, double y, float rgb[3])
{
    int x0 = (int)floor(x), y0 = (int)floor(y);
    float wx[4], wy[4];
    cubic(x - x0, wx);
    cubic(y - y0, wy);
    rgb[0] = rgb[1] = rgb[2] = 0;
    for (int j = 0; j < 4; j++) {
        const float *row = p->rgb + (size_t)held(y0 - 1 + j, p->height) * (size_t)p->width * 3;
        for (int i = 0; i < 4; i++) {
            const float *pixel = row + 3 * (size_t)held(x0 - 1 + i, p->width);
            for (int c = 0; c < 3; c++)
                rgb[c] += wy[j] * wx[i] * pixel[c];
        }
    }
    for (int c = 0; c < 3; c++)
        rgb[c] = rgb[c] < 0 ? 0 : rgb[c] > 1 ? 1 : rgb[c];
}

/* An ellipse in front: where it is at the middle frame, how it moves, and from where in the picture it is cut. */
typedef struct cutout {
    double x, y, rx, ry, vx, vy, from_x, from_y;
} cutout;

static cutout draw_cutout(oas_rng *rng, int width, int height)
{
    cutout c = {.x = oas_rng_between(rng, 0.2, 0.8) * width, .y = oas_rng_between(rng, 0.2, 0.8) * height};
    double size = oas_rng_uniform(rng) < 0.5 ? oas_rng_between(rng, 0.08, 0.3) : 0; /* half of the clips have one */
    c.rx = size * width * oas_rng_between(rng, 0.5, 1);
    c.ry = size * height * oas_rng_between(rng, 0.5, 1);
    c.vx = 3 * oas_rng_normal(rng);
    c.vy = 2 * oas_rng_normal(rng);
    c.from_x = oas_rng_between(rng, 0.2, 0.8) * width;
    c.from_y = oas_rng_between(rng, 0.2, 0.8) * height;
    return c;
}

/* How much of the cut-out covers (x, y), offset from its centre: 1 inside, 0 outside, about two pixels between. */
static double cover(const cutout *c, double x, double y)
{
    if (c->rx <= 1 || c->ry <= 1)
        return 0;
    double r = sqrt(x * x / (c->rx * c->rx) + y * y / (c->ry * c->ry));
    double inside = (1 - r) * (c->rx < c->ry ? c->rx : c->ry) / 2 + 0.5;
    return inside < 0 ? 0 : inside > 1 ? 1 : inside;
}

void oas_move_camera(const oasis_frame *picture, oasis_frame *frames, int n, oas_rng *rng)
{
    camera cam = draw_camera(rng);
    cutout front = draw_cutout(rng, frames[0].width, frames[0].height);
    for (int f = 0; f < n; f++) {
        oasis_frame *out = &frames[f];
        double t = f - (n - 1) / 2.;
        affine a = at_time(&cam, t, out->width, out->height, picture->width / 2., picture->height / 2.);
        for (int y = 0; y < out->height; y++)
            for (int x = 0; x < out->width; x++) {
                float *to = out->rgb + ((size_t)y * (size_t)out->width + (size_t)x) * 3, over[3];
                sample(picture, a.xx * x + a.xy * y + a.x0, a.yx * x + a.yy * y + a.y0, to);
                double dx = x - front.x - front.vx * t, dy = y - front.y - front.vy * t, share = cover(&front, dx, dy);
                if (share <= 0)
                    continue;
                sample(picture, front.from_x + dx, front.from_y + dy, over);
                for (int c = 0; c < 3; c++)
                    to[c] += (float)share * (over[c] - to[c]);
            }
    }
}
