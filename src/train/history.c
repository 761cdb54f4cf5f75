/* The log of a run, and the page that shows it. */
#include "base/json.h"
#include "base/memory.h"
#include "base/newfile.h"
#include "train/train.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PATH_ROOM = 4096, LINE_ROOM = 8192 };

typedef struct point {
    double step, loss, rate, speed;
} point;

struct history {
    char log[PATH_ROOM], page[PATH_ROOM];
    point *points;
    size_t count, capacity;
};

static bool add_point(history *h, point p)
{
    if (h->count == h->capacity) {
        size_t capacity = h->capacity ? 2 * h->capacity : 256;
        point *points = oas_alloc(capacity, sizeof *points);
        if (!points)
            return false;
        if (h->count)
            memcpy(points, h->points, h->count * sizeof *points);
        oas_free(h->points);
        h->points = points;
        h->capacity = capacity;
    }
    h->points[h->count++] = p;
    return true;
}

/* Copies the lines of the old log up to `step`; a torn last line is dropped with those behind it. */
static oasis_status keep_lines(history *h, FILE *from, newfile *to, int64_t step, oasis_message *message)
{
    char line[LINE_ROOM];
    while (fgets(line, sizeof line, from)) {
        json_t *json = json_loads(line, 0, NULL);
        if (!json)
            break;
        point p = {json_number_value(json_object_get(json, "step")), json_number_value(json_object_get(json, "loss")),
                   json_number_value(json_object_get(json, "rate")),
                   json_number_value(json_object_get(json, "clips_per_second"))};
        json_decref(json);
        if (p.step > (double)step)
            break;
        if (!add_point(h, p))
            return oas_fail_memory(message, sizeof p, "the log");
        OAS_TRY(oas_newfile_write(to, line, strlen(line), message));
    }
    return oas_newfile_finish(to, message);
}

oasis_status oas_history_new(history **out, const char *folder, int64_t step, oasis_message *message)
{
    history *h = oas_alloc(1, sizeof *h);
    if (!h)
        return oas_fail_memory(message, sizeof *h, "the log");
    snprintf(h->log, sizeof h->log, "%s/log.jsonl", folder);
    snprintf(h->page, sizeof h->page, "%s/progress.html", folder);
    FILE *old = step > 0 ? fopen(h->log, "r") : NULL;
    newfile *new_log = NULL;
    oasis_status s = oas_newfile_open(&new_log, h->log, message);
    if (s == OASIS_OK)
        s = old ? keep_lines(h, old, new_log, step, message) : oas_newfile_finish(new_log, message);
    oas_newfile_close(&new_log);
    if (old)
        fclose(old);
    if (s < 0)
        oas_history_free(&h);
    else
        *out = h;
    return s;
}

void oas_history_free(history **h)
{
    if (!*h)
        return;
    oas_free((*h)->points);
    oas_free(*h);
    *h = NULL;
}

oasis_status oas_history_add(history *h, const oasis_train_report *r, oasis_message *message)
{
    text_buffer text = {0};
    oas_text_add(&text, "{\"step\": %lld, \"loss\": ", (long long)r->step);
    oas_json_add_number(&text, r->loss);
    for (int i = 0; i < r->n_terms; i++) {
        oas_text_add(&text, ", \"%s\": ", r->term[i]);
        oas_json_add_number(&text, r->value[i]);
    }
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"rate", r->rate},           {"norm", r->norm},
                   {"seconds", r->seconds},     {"clips_per_second", r->clips_per_second},
                   {"skipped", (double)r->skipped}, {"temporal_step", r->temporal_step}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        oas_text_add(&text, ", \"%s\": ", numbers[i].name);
        oas_json_add_number(&text, numbers[i].value);
    }
    oas_text_add(&text, "}\n");
    oasis_status s = OASIS_OK;
    FILE *file = text.failed ? NULL : fopen(h->log, "a");
    if (text.failed || !add_point(h, (point){(double)r->step, r->loss, r->rate, r->clips_per_second}))
        s = oas_fail_memory(message, text.length, "the log");
    else if (!file || fwrite(text.data, 1, text.length, file) != text.length)
        s = oas_fail(message, OASIS_E_IO, "%s: cannot write: %s", h->log, strerror(errno));
    if (file && fclose(file) != 0 && s == OASIS_OK)
        s = oas_fail(message, OASIS_E_IO, "%s: cannot write: %s", h->log, strerror(errno));
    oas_text_free(&text);
    return s;
}

/* ---- the page ------------------------------------------------------------------------------------------------------ */

enum { CURVE_WIDTH = 640, CURVE_HEIGHT = 200, MOST_POINTS = 600 };

static double value_of(const point *p, int which)
{
    return which == 0 ? p->loss : which == 1 ? p->rate : p->speed;
}

/* A curve of means over equal runs of points; the loss on a logarithmic scale. */
static void add_curve(text_buffer *t, const history *h, const char *title, int which)
{
    size_t run = h->count / MOST_POINTS + 1;
    double low = INFINITY, high = -INFINITY, last = h->count ? h->points[h->count - 1].step : 1;
    for (int turn = 0; turn < 2; turn++) {
        if (turn == 1)
            oas_text_add(t, "<h2>%s</h2><svg viewBox='0 0 %d %d' width='%d'><polyline fill='none' stroke='#06c' points='", title,
                         CURVE_WIDTH, CURVE_HEIGHT, CURVE_WIDTH);
        for (size_t i = 0; i < h->count; i += run) {
            double sum = 0;
            size_t n = 0;
            for (size_t k = i; k < h->count && k < i + run; k++, n++)
                sum += value_of(&h->points[k], which);
            double v = sum / (double)n;
            v = which == 0 ? log10(v > 1e-12 ? v : 1e-12) : v;
            if (turn == 0) {
                low = v < low ? v : low;
                high = v > high ? v : high;
            } else {
                oas_text_add(t, "%.1f,%.1f ", CURVE_WIDTH * h->points[i].step / (last > 0 ? last : 1),
                             CURVE_HEIGHT - 4 - (CURVE_HEIGHT - 8) * (high > low ? (v - low) / (high - low) : 0.5));
            }
        }
    }
    oas_text_add(t, "'/></svg><p>from %.4g to %.4g over %.0f steps</p>\n", which == 0 ? pow(10, low) : low,
                 which == 0 ? pow(10, high) : high, last);
}

static void add_base64(text_buffer *t, const unsigned char *data, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char line[4 * 256 + 1];
    for (size_t i = 0; i < n;) {
        size_t used = 0;
        for (; i < n && used + 4 < sizeof line; i += 3) {
            unsigned long v = (unsigned long)data[i] << 16 | (i + 1 < n ? (unsigned long)data[i + 1] << 8 : 0) |
                              (i + 2 < n ? data[i + 2] : 0);
            line[used++] = digits[v >> 18];
            line[used++] = digits[v >> 12 & 63];
            line[used++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
            line[used++] = i + 2 < n ? digits[v & 63] : '=';
        }
        line[used] = 0;
        oas_text_add(t, "%s", line);
    }
}

static void put_le(unsigned char *to, int bytes, size_t value)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (unsigned char)(value >> (8 * i));
}

/* A picture as a BMP in a data URI; [-1,1] to bytes. */
static void add_picture(text_buffer *t, const float *pixels, int width, int height)
{
    enum { HEADER = 54 };
    size_t row = ((size_t)width * 3 + 3) / 4 * 4, bytes = HEADER + row * (size_t)height;
    unsigned char *bmp = pixels ? oas_alloc(bytes, 1) : NULL;
    if (!bmp)
        return;
    memcpy(bmp, "BM", 2);
    put_le(bmp + 2, 4, bytes);
    put_le(bmp + 10, 4, HEADER);
    put_le(bmp + 14, 4, 40);
    put_le(bmp + 18, 4, (size_t)width);
    put_le(bmp + 22, 4, (size_t)height);
    put_le(bmp + 26, 2, 1);
    put_le(bmp + 28, 2, 24);
    for (int y = 0; y < height; y++) {
        unsigned char *to = bmp + HEADER + row * (size_t)(height - 1 - y);
        for (int i = 0; i < width * 3; i++) {
            float v = pixels[(size_t)y * (size_t)width * 3 + (size_t)(i / 3 * 3 + 2 - i % 3)] * 127.5f + 127.5f;
            to[i] = (unsigned char)(v < 0 ? 0 : v > 255 ? 255 : v + 0.5f);
        }
    }
    oas_text_add(t, "<td><img src='data:image/bmp;base64,");
    add_base64(t, bmp, bytes);
    oas_text_add(t, "'></td>");
    oas_free(bmp);
}

oasis_status oas_history_page(history *h, const char *name, const shown *pictures, int n, oasis_message *message)
{
    text_buffer t = {0};
    oas_text_add(&t, "<!DOCTYPE html><meta charset='utf-8'><title>%s</title><style>body{font-family:sans-serif;margin:2em}"
                 "svg{border:1px solid #ccc}img{image-rendering:pixelated}</style><h1>%s</h1>\n", name, name);
    if (h->count) {
        add_curve(&t, h, "Loss (logarithmic)", 0);
        add_curve(&t, h, "Learning rate", 1);
        add_curve(&t, h, "Clips per second", 2);
    }
    if (n > 0)
        oas_text_add(&t, "<h2>Input, result, truth</h2><table>");
    for (int i = 0; i < n; i++) {
        oas_text_add(&t, "<tr>");
        add_picture(&t, pictures[i].low, pictures[i].width, pictures[i].height);
        add_picture(&t, pictures[i].result, pictures[i].width, pictures[i].height);
        add_picture(&t, pictures[i].truth, pictures[i].width, pictures[i].height);
        oas_text_add(&t, "</tr>\n");
    }
    oas_text_add(&t, n > 0 ? "</table>\n" : "\n");
    oasis_status s = t.failed ? oas_fail_memory(message, t.length, "the page")
                              : oas_newfile_put(h->page, t.data, t.length, message);
    oas_text_free(&t);
    return s;
}
