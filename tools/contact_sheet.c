/*
 * A contact sheet: crops of several versions of a clip side by side, at one pixel for one pixel, with labels; and slices
 * through time, where what flickers is seen as combs.
 *
 *     contact_sheet OUT.png < LIST
 *
 * Lines of the list, in order (positions are in pixels of the row's largest version; smaller ones are enlarged by
 * repeating pixels):
 *     size WIDTH HEIGHT        of the crops that follow
 *     row FRAME X Y TITLE      begins a row; X -1: where the last version has most detail
 *     strip X Y TITLE          begins a row of slices: WIDTH pixels of line Y, a frame below the other, each 8 pixels high
 *     cell LABEL PATH          one version; LABEL without spaces
 */
#include "base/memory.h"
#include "dataset/text.h"

#include <math.h>
#include <oasis/video.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 64, MOST_CELLS = 12, TEXT_ROOM = 1024, GAP = 6, LABEL = 16, SLICE = 8, SEARCH_STEP = 16 };

typedef struct cell {
    char label[64], path[TEXT_ROOM];
} cell;

typedef struct row {
    bool strip;
    int width, height, frame, x, y, n, top;
    char title[128];
    cell cells[MOST_CELLS];
} row;

/* What one call holds. */
typedef struct sheet {
    row rows[MOST_ROWS];
    int n, width, height;
    float *pixels; /* [height][width][3] */
} sheet;

static bool fail(const char *what, const char *why)
{
    fprintf(stderr, "contact_sheet: %s: %s\n", what, why);
    return false;
}

/* ---- the list ------------------------------------------------------------------------------------------------------ */

static bool read_line(sheet *s, const char *line, int *width, int *height)
{
    row *last = s->n > 0 ? &s->rows[s->n - 1] : NULL, r = {.width = *width, .height = *height};
    if (sscanf(line, "size %d %d", width, height) == 2)
        return *width > 0 && *height > 0 && *width <= 4096 && *height <= 4096;
    r.strip = strncmp(line, "strip ", 6) == 0;
    if ((r.strip && sscanf(line, "strip %d %d %127[^\n]", &r.x, &r.y, r.title) >= 2) ||
        (!r.strip && sscanf(line, "row %d %d %d %127[^\n]", &r.frame, &r.x, &r.y, r.title) >= 3)) {
        if (s->n == MOST_ROWS)
            return fail("list", "too many rows");
        s->rows[s->n++] = r;
        return true;
    }
    if (!last || last->n == MOST_CELLS)
        return fail(line, "a cell without a row, or too many");
    cell *c = &last->cells[last->n];
    if (sscanf(line, "cell %63s %1023[^\n]", c->label, c->path) != 2)
        return fail(line, "not understood");
    last->n++;
    return true;
}

static bool read_list(sheet *s)
{
    char line[2 * TEXT_ROOM];
    int width = 256, height = 192;
    while (fgets(line, sizeof line, stdin))
        if (line[0] != '\n' && line[0] != '#' && !read_line(s, line, &width, &height))
            return fail("list", line);
    for (int i = 0; i < s->n; i++) {
        row *r = &s->rows[i];
        int across = r->n * (r->width + GAP) + GAP;
        r->top = s->height;
        s->width = across > s->width ? across : s->width;
        s->height += 2 * LABEL + r->height + GAP;
    }
    return s->n > 0 || fail("list", "it names no rows");
}

/* ---- pixels -------------------------------------------------------------------------------------------------------- */

static void label(sheet *s, const char *text, int x, int y)
{
    static const oas_text_style style = {.weight = 0.16, .width = 0.8, .spacing = 0.26};
    const oas_affine map = {10, 0, 0, -10, x + 2, y + 12}; /* capitals 10 pixels high */
    float *cover = oas_alloc((size_t)s->width * (size_t)s->height, sizeof *cover);
    if (!cover)
        return;
    oas_text_draw(text, &style, &map, cover, s->width, s->height);
    for (size_t i = 0; i < (size_t)s->width * (size_t)s->height * 3; i++)
        s->pixels[i] *= 1 - cover[i / 3];
    oas_free(cover);
}

/* The crop of WIDTH x HEIGHT with the greatest sum of differences between neighbours. */
static void find_detail(const oasis_frame *f, int width, int height, int *best_x, int *best_y)
{
    double most = -1;
    *best_x = *best_y = 0;
    for (int y0 = 0; y0 + height <= f->height; y0 += SEARCH_STEP)
        for (int x0 = 0; x0 + width <= f->width; x0 += SEARCH_STEP) {
            double sum = 0;
            for (int y = y0; y < y0 + height; y += 2)
                for (int x = x0; x + 1 < x0 + width; x++) {
                    const float *p = f->rgb + ((size_t)y * (size_t)f->width + (size_t)x) * 3;
                    sum += fabs((double)p[4] - (double)p[1]);
                }
            if (sum > most) {
                most = sum;
                *best_x = x0;
                *best_y = y0;
            }
        }
}

/* A line of a crop: `width` pixels from (x, y) of the picture enlarged by `factor`. */
static void copy_line(sheet *s, const oasis_frame *f, double factor, int x, int y, int width, int to_x, int to_y)
{
    int sy = (int)((y + 0.5) / factor);
    for (int i = 0; i < width; i++) {
        int sx = (int)((x + i + 0.5) / factor);
        if (sx < 0 || sy < 0 || sx >= f->width || sy >= f->height)
            continue;
        memcpy(s->pixels + ((size_t)to_y * (size_t)s->width + (size_t)(to_x + i)) * 3,
               f->rgb + ((size_t)sy * (size_t)f->width + (size_t)sx) * 3, 3 * sizeof(float));
    }
}

/* Reads frames first .. first+n-1; those before are skipped.  Returns how many there were. */
static int read_frames(const char *path, int first, int n, oasis_frame *frames)
{
    oasis_message message = {""};
    oasis_reader *reader = NULL;
    oasis_reader_options options;
    oasis_reader_options_init(&options);
    options.frames = first + n;
    int got = 0;
    if (oasis_reader_open(&reader, path, &options, &message) != OASIS_OK) {
        fail(path, message.text);
        return 0;
    }
    for (int i = 0; i < first + n; i++) {
        oasis_frame frame = {0};
        if (oasis_reader_read(reader, &frame) != OASIS_OK)
            break;
        if (i < first)
            oasis_frame_free(&frame);
        else
            frames[got++] = frame;
    }
    if (got == 0)
        fail(path, "it has not as many frames");
    oasis_reader_close(&reader);
    return got;
}

/* ---- a row --------------------------------------------------------------------------------------------------------- */

static void draw_cell(sheet *s, const row *r, int index, const oasis_frame *frames, int n, int largest)
{
    int left = GAP + index * (r->width + GAP), top = r->top + 2 * LABEL;
    label(s, r->cells[index].label, left, r->top + LABEL);
    for (int i = 0; i < r->height; i++) {
        int frame = r->strip ? i / SLICE : 0;
        if (frame < n)
            copy_line(s, &frames[frame], (double)largest / frames[0].width, r->x, r->strip ? r->y : r->y + i, r->width,
                      left, top + i);
    }
}

static bool draw_row(sheet *s, row *r)
{
    int wanted = r->strip ? (r->height + SLICE - 1) / SLICE : 1, largest = 0, got[MOST_CELLS] = {0};
    oasis_frame *frames = oas_alloc((size_t)(wanted * MOST_CELLS), sizeof *frames);
    bool fine = frames != NULL;
    for (int c = 0; c < r->n && fine; c++) {
        got[c] = read_frames(r->cells[c].path, r->strip ? 0 : r->frame, wanted, frames + c * wanted);
        fine = got[c] > 0;
        if (fine && frames[c * wanted].width > largest)
            largest = frames[c * wanted].width;
    }
    if (fine && r->x < 0 && r->n > 0)
        find_detail(&frames[(r->n - 1) * wanted], r->width, r->strip ? 1 : r->height, &r->x, &r->y);
    if (fine)
        label(s, r->title, GAP, r->top);
    for (int c = 0; c < r->n && fine; c++)
        draw_cell(s, r, c, frames + c * wanted, got[c], largest);
    for (int i = 0; frames && i < wanted * MOST_CELLS; i++)
        oasis_frame_free(&frames[i]);
    oas_free(frames);
    return fine;
}

static bool write_picture(const char *path, const oasis_frame *frame)
{
    oasis_message message = {""};
    oasis_writer *writer = NULL;
    oasis_writer_options options;
    oasis_writer_options_init(&options);
    options.overwrite = true;
    bool fine = true;
    if (oasis_writer_open(&writer, path, &options, NULL, frame->width, frame->height, &message) != OASIS_OK)
        fine = fail(path, message.text);
    else if (oasis_writer_write(writer, frame) != OASIS_OK || oasis_writer_finish(writer) != OASIS_OK)
        fine = fail(path, oasis_writer_message(writer));
    oasis_writer_close(&writer);
    return fine;
}

int main(int argc, char **argv)
{
    sheet *s = calloc(1, sizeof *s);
    oasis_frame page = {0};
    oasis_media_set_quiet(true);
    if (argc != 2)
        fail("usage", "contact_sheet OUT.png < LIST");
    bool fine = argc == 2 && s && read_list(s);
    if (fine && oasis_frame_new(&page, s->width, s->height, false) != OASIS_OK)
        fine = fail(argv[1], "out of memory");
    if (fine) {
        s->pixels = page.rgb;
        for (size_t i = 0; i < (size_t)page.width * (size_t)page.height * 3; i++)
            page.rgb[i] = 1;
        for (int i = 0; i < s->n && fine; i++)
            fine = draw_row(s, &s->rows[i]);
        fine = fine && write_picture(argv[1], &page);
    }
    oasis_frame_free(&page);
    free(s);
    return fine ? EXIT_SUCCESS : EXIT_FAILURE;
}
