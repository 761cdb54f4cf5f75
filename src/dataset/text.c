/*
 * The font: every letter is a few strokes on a grid, as text.  A point is two digits, x from 0 and y from 0 to 9, with
 * the foot line at 2, small letters up to 7 and capitals up to 9.  A stroke is a sequence of points joined by straight
 * lines; with '~' in front the points steer a quadratic B-spline that starts and ends at its ends, with 'o' a closed one.
 */
#include "dataset/text.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { FIRST_GLYPH = 33, MOST_POINTS = 16, CURVE_STEPS = 5 };

static const double FOOT = 2, CAPITAL = 7; /* the foot line, and a capital's height above it, on the grid */

/* clang-format off */
static const char *const glyphs[] = {
    /* 33 to 47: marks */
    "0904 0202", "0907 2927", "1219 4249 0464 0767", "~5756070705055454525202 2919 2012", "0269 o06262909 o42626545",
    "~6208294903025264", "0907", "~29070321", "~09272301", "2428 0745 0547", "0565 3238", "1201", "0545", "0202",
    "0149",
    /* 0 to 9 */
    "o02525909", "173932", "~0709595602 0252", "~0809595626 ~2656520203", "42490464", "590906 ~0657520203",
    "~58590904 o02525606", "095922", "o06565909 o02525606", "o05555909 ~57520203",
    /* 58 to 64: marks */
    "0202 0606", "1301 1616", "580552", "0464 0666", "085502", "~07095956 2624 2222", "~46436469090262",
    /* A to Z */
    "023962 1454", "0209 0939 ~39696636 0636 ~36666232 0232", "~676909026264", "0209 0929 ~29696222 0222",
    "62020969 0656", "020969 0656", "~676909026265 6545", "0209 6269 0666", "0929 1912 0222", "4944 ~44420204",
    "0209 6905 2662", "090262", "0209356962", "02096269", "o02626909", "0209 0939 ~39696535 0535", "o02626909 4461",
    "0209 0939 ~39696535 0535 3562", "~6769090665620204", "0969 3932", "0904 ~04026264 6469", "093269", "0922476289",
    "0269 0962", "093569 3532", "09690262",
    /* 91 to 96: marks */
    "29090121", "0941", "09292101", "073957", "0161", "0928",
    /* a to z */
    "o02525707 5752", "0209 o02525707", "~565707025253", "5259 o02525707", "0555 ~555707025253", "~492925 2522 0747",
    "o02525707 5751 ~51500001", "0209 ~04075754 5452", "0207 0909", "2721 ~212000 2929", "0209 4704 2552", "0209",
    "0207 ~04074744 4442 ~44478784 8482", "0207 ~04075754 5452", "o02525707", "0007 o02525707", "5057 o02525707",
    "0207 ~04074746", "~5657070554520203", "2924 ~242242 0747", "0704 ~04025254 5752", "073267", "0722466287",
    "0257 0752", "0732 6720", "07570252",
    /* 123 to 126: marks */
    "~2918061221", "0009", "~0918261201", "~04274366",
};
/* clang-format on */

/* A pen on its way: where the letters stand and what is painted on. */
typedef struct pen {
    const oas_text_style *style;
    const oas_affine *map;
    double x;     /* of the letter's left edge, in capitals' heights */
    double scale; /* pixels of a capital's height */
    float *cover;
    int width, height;
} pen;

static const char *glyph_of(char c)
{
    size_t i = (size_t)((unsigned char)c - FIRST_GLYPH);
    return (unsigned char)c >= FIRST_GLYPH && i < sizeof glyphs / sizeof *glyphs ? glyphs[i] : "";
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The next stroke of a glyph: its points, how they are joined, and where the text goes on. */
static const char *next_stroke(const char *at, double point[MOST_POINTS][2], int *n, char *kind)
{
    *n = 0;
    *kind = *at == '~' || *at == 'o' ? *at++ : '-';
    for (; is_digit(at[0]) && is_digit(at[1]) && *n < MOST_POINTS; at += 2, ++*n) {
        point[*n][0] = (at[0] - '0') / CAPITAL;
        point[*n][1] = (at[1] - '0' - FOOT) / CAPITAL;
    }
    while (*at && *at != ' ')
        at++;
    return *at ? at + 1 : at;
}

static double glyph_width(const char *glyph)
{
    double point[MOST_POINTS][2], most = 0;
    char kind;
    for (int n; *glyph;) {
        glyph = next_stroke(glyph, point, &n, &kind);
        for (int i = 0; i < n; i++)
            most = fmax(most, point[i][0]);
    }
    return most;
}

static double advance(char c, const oas_text_style *style)
{
    const char *glyph = glyph_of(c);
    return *glyph ? glyph_width(glyph) * style->width + style->spacing : 0.45 * style->width;
}

double oas_text_length(const char *text, const oas_text_style *style)
{
    double x = 0;
    for (; *text; text++)
        x += advance(*text, style);
    return x;
}

void oas_stroke_draw(const double a[2], const double b[2], double radius, float *cover, int width, int height)
{
    double reach = radius + 1, dx = b[0] - a[0], dy = b[1] - a[1], length = dx * dx + dy * dy;
    int x0 = (int)fmax(0, ceil(fmin(a[0], b[0]) - reach)), x1 = (int)fmin(width - 1, floor(fmax(a[0], b[0]) + reach));
    int y0 = (int)fmax(0, ceil(fmin(a[1], b[1]) - reach)), y1 = (int)fmin(height - 1, floor(fmax(a[1], b[1]) + reach));
    double most = fmin(1, 2 * radius); /* thinner than a pixel: paler */
    for (int y = y0; y <= y1; y++)
        for (int x = x0; x <= x1; x++) {
            double px = x - a[0], py = y - a[1];
            double t = length > 0 ? fmin(1, fmax(0, (px * dx + py * dy) / length)) : 0;
            double inside = radius + 0.5 - hypot(px - t * dx, py - t * dy);
            float share = (float)(most * fmin(1, fmax(0, inside)));
            float *to = &cover[(size_t)y * (size_t)width + (size_t)x];
            *to = share > *to ? share : *to;
        }
}

/* A segment of the letter's plane. */
static void segment(const pen *p, const double a[2], const double b[2])
{
    const double *ends[2] = {a, b};
    double pixel[2][2];
    for (int i = 0; i < 2; i++) {
        double y = ends[i][1], x = p->x + ends[i][0] * p->style->width + p->style->slant * y;
        pixel[i][0] = p->map->xx * x + p->map->xy * y + p->map->x0;
        pixel[i][1] = p->map->yx * x + p->map->yy * y + p->map->y0;
    }
    double dx = b[0] - a[0], dy = b[1] - a[1], length = hypot(dx, dy);
    double level = length > 0 ? fabs(dx) / length : 0;
    double radius = p->style->weight / 2 * p->scale * (1 - p->style->contrast * level);
    oas_stroke_draw(pixel[0], pixel[1], radius, p->cover, p->width, p->height);
}

/* The curve around corner c between the middles of its neighbours (or the ends themselves). */
static void corner(const pen *p, const double from[2], const double c[2], const double to[2])
{
    double last[2] = {from[0], from[1]};
    for (int i = 1; i <= CURVE_STEPS; i++) {
        double t = i / (double)CURVE_STEPS, u = 1 - t, next[2];
        for (int k = 0; k < 2; k++)
            next[k] = u * u * from[k] + 2 * u * t * c[k] + t * t * to[k];
        segment(p, last, next);
        memcpy(last, next, sizeof last);
    }
}

static void curve(const pen *p, double point[MOST_POINTS][2], int n, bool closed)
{
    for (int i = closed ? 0 : 1; i < (closed ? n : n - 1); i++) {
        const double *before = point[(i + n - 1) % n], *c = point[i], *after = point[(i + 1) % n];
        double from[2], to[2];
        for (int k = 0; k < 2; k++) {
            from[k] = !closed && i == 1 ? before[k] : (before[k] + c[k]) / 2;
            to[k] = !closed && i == n - 2 ? after[k] : (c[k] + after[k]) / 2;
        }
        corner(p, from, c, to);
    }
}

/* Feet of an upright stroke's ends. */
static void serifs(const pen *p, const double a[2], const double b[2])
{
    const double *ends[2] = {a, b};
    for (int i = 0; i < 2 && a[0] == b[0] && a[1] != b[1]; i++) {
        double left[2] = {ends[i][0] - p->style->serif / 2, ends[i][1]};
        double right[2] = {ends[i][0] + p->style->serif / 2, ends[i][1]};
        segment(p, left, right);
    }
}

static void glyph_draw(const pen *p, const char *glyph)
{
    double point[MOST_POINTS][2];
    char kind;
    for (int n; *glyph;) {
        glyph = next_stroke(glyph, point, &n, &kind);
        if (kind != '-' && n > 2) {
            curve(p, point, n, kind == 'o');
            continue;
        }
        for (int i = 0; i + 1 < n; i++) {
            segment(p, point[i], point[i + 1]);
            if (p->style->serif > 0)
                serifs(p, point[i], point[i + 1]);
        }
    }
}

void oas_text_draw(const char *text, const oas_text_style *style, const oas_affine *to_pixels, float *cover, int width,
                   int height)
{
    pen p = {.style = style, .map = to_pixels, .cover = cover, .width = width, .height = height};
    p.scale = sqrt(fabs(to_pixels->xx * to_pixels->yy - to_pixels->xy * to_pixels->yx));
    for (; *text; text++) {
        glyph_draw(&p, glyph_of(*text));
        p.x += advance(*text, style);
    }
}
