/* Captions: what is written, how it looks and how it moves are drawn once; each frame then places the same lines anew. */
#include "dataset/caption.h"

#include "base/memory.h"
#include "dataset/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_LINES = 24, LINE_ROOM = 64 };

typedef struct caption {
    char line[MOST_LINES][LINE_ROOM];
    int lines;
    oas_text_style style;
    double size, gap, angle, x,
        y;                /* of a capital and between lines, pixels; the first line's start in the middle frame */
    double dx, dy, shake; /* pixels per frame; pixels */
    float ink[3], ground[3];
    float opacity;       /* of the ground */
    double box, outline; /* of the ground around the text, and of the outline: capitals' heights, 0 = none */
    bool page;           /* the ground is everywhere */
} caption;

/* clang-format off */
static const char *const words[] = {
    "the", "of", "and", "to", "in", "is", "you", "that", "it", "he", "was", "for", "on", "are", "as", "with", "his",
    "they", "at", "be", "this", "have", "from", "or", "one", "had", "by", "word", "but", "not", "what", "all", "were",
    "we", "when", "your", "can", "said", "there", "use", "an", "each", "which", "she", "do", "how", "their", "if",
    "will", "up", "other", "about", "out", "many", "then", "them", "these", "so", "some", "her", "would", "make",
    "like", "him", "into", "time", "has", "look", "two", "more", "write", "go", "see", "number", "no", "way", "could",
    "people", "my", "than", "first", "water", "been", "call", "who", "oil", "its", "now", "find", "long", "down",
    "day", "did", "get", "come", "made", "may", "part", "EXIT", "STOP", "OPEN", "NEWS", "LIVE", "SALE", "Hotel",
    "Street", "Cafe", "Museum", "quick", "jumps", "over", "lazy", "zebra", "vexed", "box", "quiz", "Bank", "No.",
    "Tel.", "km/h",
};
/* clang-format on */

static void add_word(char *line, oas_rng *rng)
{
    char word[16];
    double kind = oas_rng_uniform(rng);
    snprintf(word, sizeof word, "%s", words[oas_rng_below(rng, (int)(sizeof words / sizeof *words))]);
    if (kind < 0.15)
        snprintf(word, sizeof word, "%d", oas_rng_below(rng, 10000));
    else if (kind < 0.25)
        for (int i = 0, n = 2 + oas_rng_below(rng, 7); i < n; i++) {
            word[i] = (char)(33 + oas_rng_below(rng, 94));
            word[i + 1] = 0;
        }
    else if (kind < 0.4 && word[0] >= 'a' && word[0] <= 'z')
        word[0] = (char)(word[0] - 'a' + 'A');
    size_t length = strlen(line);
    snprintf(line + length, LINE_ROOM - length, "%s%s", length ? " " : "", word);
}

static void draw_colours(caption *c, oas_rng *rng)
{
    bool grey = oas_rng_uniform(rng) < 0.6, light = oas_rng_uniform(rng) < 0.5;
    double far = oas_rng_between(rng, 0.6, 1), near = oas_rng_between(rng, 0, 0.35);
    for (int i = 0; i < 3; i++) {
        double ink = grey ? (light ? far : near) : oas_rng_uniform(rng),
               ground = grey ? (light ? near : far) : oas_rng_uniform(rng);
        c->ink[i] = (float)ink;
        c->ground[i] = (float)ground;
    }
}

static void draw_motion(caption *c, oas_rng *rng)
{
    double kind = oas_rng_uniform(rng), speed = 4 * oas_rng_uniform(rng), way = oas_rng_between(rng, 0, 6.2831853);
    if (kind < 0.4) /* subtitles, pages: they stay */
        return;
    if (kind < 0.55) { /* tickers and credits: level or upright */
        c->dx = kind < 0.48 ? -speed : 0;
        c->dy = kind < 0.48 ? 0 : -speed;
        return;
    }
    c->dx = speed * cos(way);
    c->dy = speed * sin(way);
    c->shake = 0.6 * oas_rng_uniform(rng);
    c->angle = 0.25 * oas_rng_normal(rng);
}

static caption draw_caption(oas_rng *rng, int width, int height)
{
    caption c = {.lines = 1};
    c.size = 4.5 * exp(oas_rng_between(rng, 0, 2.3)); /* 4.5 to 45 pixels */
    c.style.weight = oas_rng_between(rng, 0.08, 0.24);
    c.style.contrast = oas_rng_uniform(rng) < 0.4 ? oas_rng_between(rng, 0.2, 0.7) : 0;
    c.style.slant = oas_rng_uniform(rng) < 0.2 ? 0.22 : 0;
    c.style.width = oas_rng_between(rng, 0.65, 1.1);
    c.style.spacing = oas_rng_between(rng, 0.18, 0.34) + c.style.weight / 2;
    c.style.serif = oas_rng_uniform(rng) < 0.35 ? oas_rng_between(rng, 0.15, 0.35) : 0;
    c.gap = c.size * oas_rng_between(rng, 1.5, 2.3);
    double kind = oas_rng_uniform(rng);
    c.page = kind < 0.2;
    c.box = kind < 0.5 ? oas_rng_between(rng, 0.3, 1) : 0;
    c.opacity = kind < 0.5 ? (kind < 0.35 ? 1 : 0.6f) : 0;
    c.outline = kind > 0.75 ? oas_rng_between(rng, 0.06, 0.16) : 0;
    int room = (int)(height / c.gap) + 2;
    c.lines = c.page ? room : 1 + oas_rng_below(rng, room);
    c.lines = c.lines < MOST_LINES ? c.lines : MOST_LINES;
    double long_enough = width / c.size * (c.page ? 1.2 : oas_rng_between(rng, 0.2, 1));
    for (int i = 0; i < c.lines; i++)
        for (int k = 0; k < LINE_ROOM && oas_text_length(c.line[i], &c.style) < long_enough; k++)
            add_word(c.line[i], rng);
    c.x = c.page ? 0 : oas_rng_between(rng, -0.05, 0.6) * width;
    c.y = c.page ? c.gap : oas_rng_between(rng, 0.05, 0.95) * height - (c.lines - 1) * c.gap * oas_rng_uniform(rng);
    draw_colours(&c, rng);
    draw_motion(&c, rng);
    return c;
}

/* Lays `colour` over the frame where `cover` says. */
static void blend(oasis_frame *f, const float *cover, const float colour[3], float opacity)
{
    for (size_t i = 0; i < (size_t)f->width * (size_t)f->height; i++)
        if (cover[i] > 0)
            for (int c = 0; c < 3; c++)
                f->rgb[3 * i + (size_t)c] += opacity * cover[i] * (colour[c] - f->rgb[3 * i + (size_t)c]);
}

/* From the letters' plane of line `i` to the frame at time t. */
static oas_affine place(const caption *c, int i, double t)
{
    double k = cos(c->angle), s = sin(c->angle);
    oas_affine a = {c->size * k, c->size * s, c->size * s, -c->size * k, 0, 0};
    a.x0 = c->x + c->dx * t + c->shake * sin(1.3 * t) - s * c->gap * i;
    a.y0 = c->y + c->dy * t + c->shake * sin(2.1 * t) + k * c->gap * i;
    return a;
}

/* The ground behind a line: a stroke as thick as the line is high. */
static void ground_line(const caption *c, int i, double t, float *cover, int width, int height)
{
    oas_affine a = place(c, i, t);
    double length = oas_text_length(c->line[i], &c->style), ends[2][2];
    for (int e = 0; e < 2; e++) {
        double x = e ? length : 0, y = 0.45;
        ends[e][0] = a.xx * x + a.xy * y + a.x0;
        ends[e][1] = a.yx * x + a.yy * y + a.y0;
    }
    oas_stroke_draw(ends[0], ends[1], c->size * (0.5 + c->box), cover, width, height);
}

static void write_frame(const caption *c, double t, float *cover, oasis_frame *f)
{
    size_t bytes = (size_t)f->width * (size_t)f->height * sizeof *cover;
    if (c->opacity > 0) {
        memset(cover, 0, bytes);
        for (size_t i = 0; c->page && i < bytes / sizeof *cover; i++)
            cover[i] = 1;
        for (int i = 0; i < c->lines && !c->page; i++)
            ground_line(c, i, t, cover, f->width, f->height);
        blend(f, cover, c->ground, c->opacity);
    }
    for (int pass = c->outline > 0 ? 0 : 1; pass < 2; pass++) {
        oas_text_style style = c->style;
        style.weight += pass == 0 ? 2 * c->outline : 0;
        memset(cover, 0, bytes);
        for (int i = 0; i < c->lines; i++) {
            oas_affine a = place(c, i, t);
            oas_text_draw(c->line[i], &style, &a, cover, f->width, f->height);
        }
        blend(f, cover, pass == 0 ? c->ground : c->ink, 1);
    }
}

oasis_status oas_caption(oasis_frame *frames, int n, oas_rng *rng, oasis_message *message)
{
    size_t pixels = (size_t)frames[0].width * (size_t)frames[0].height;
    caption *c = oas_alloc(1, sizeof *c);
    float *cover = oas_alloc(pixels, sizeof *cover);
    if (c && cover) {
        *c = draw_caption(rng, frames[0].width, frames[0].height);
        for (int i = 0; i < n; i++)
            write_frame(c, i - (n - 1) / 2., cover, &frames[i]);
    }
    bool fine = c && cover;
    oas_free(cover);
    oas_free(c);
    return fine ? OASIS_OK : oas_fail_memory(message, pixels * sizeof *cover, "the text of a clip");
}
