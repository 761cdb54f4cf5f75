/* How far a job is: one line that is redrawn on a terminal, else a plain line every ten seconds.  No escape codes. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const double REDRAW_SECONDS = 0.2, LINE_SECONDS = 10;

text_buffer cli_duration(double seconds)
{
    text_buffer b;
    int64_t s = seconds < 0 ? 0 : (int64_t)(seconds + 0.5);
    if (s < 60 && seconds < 10)
        snprintf(b.text, sizeof b.text, "%.1f s", seconds);
    else if (s < 60)
        snprintf(b.text, sizeof b.text, "%d s", (int)s);
    else if (s < 3600)
        snprintf(b.text, sizeof b.text, "%d:%02d", (int)(s / 60), (int)(s % 60));
    else
        snprintf(b.text, sizeof b.text, "%lld:%02d:%02d", (long long)(s / 3600), (int)(s / 60 % 60), (int)(s % 60));
    return b;
}

text_buffer cli_bytes(int64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    text_buffer b;
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < sizeof units / sizeof *units; unit++)
        value /= 1024;
    snprintf(b.text, sizeof b.text, "%.*f %s", unit && value < 100 ? 1 : 0, value, units[unit]);
    return b;
}

text_buffer cli_count(double count)
{
    static const char *const units[] = {"", " k", " M", " G", " T", " P"};
    text_buffer b;
    size_t unit = 0;
    for (; count >= 999.5 && unit + 1 < sizeof units / sizeof *units; unit++)
        count /= 1000;
    snprintf(b.text, sizeof b.text, "%.3g%s", count, units[unit]);
    return b;
}

static text_buffer describe(const oasis_progress *p)
{
    text_buffer b;
    char of[32] = "", left[64] = "";
    if (p->frames_total > 0)
        snprintf(of, sizeof of, "/%lld", (long long)p->frames_total);
    if (p->seconds_left >= 0)
        snprintf(left, sizeof left, ", %.40s left", cli_duration(p->seconds_left).text);
    snprintf(b.text, sizeof b.text, "%lld%s frames, %.3g frames/s%s", (long long)p->frames_done, of,
             p->frames_per_second, left);
    return b;
}

static int terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* Overwrites the line with the text, and what was longer with blanks. */
static void redraw(progress_line *line, const char *text)
{
    int columns = terminal_columns() - 1;
    int length = (int)strlen(text) < columns ? (int)strlen(text) : columns;
    int blanks = line->drawn > length ? (line->drawn < columns ? line->drawn : columns) - length : 0;
    fprintf(stderr, "\r%.*s%*s", length, text, blanks, "");
    fflush(stderr);
    line->drawn = length;
}

bool cli_progress(void *user, const oasis_progress *progress)
{
    progress_line *line = user;
    if (cli_signal())
        return false;
    if (!line->started) {
        const char *term = getenv("TERM");
        line->started = true;
        line->terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
        line->last = line->terminal ? -REDRAW_SECONDS : 0;
    }
    bool finished = progress->frames_total > 0 && progress->frames_done == progress->frames_total;
    if (line->silent || (progress->seconds - line->last < (line->terminal ? REDRAW_SECONDS : LINE_SECONDS) &&
                         !(finished && line->terminal)))
        return true;
    line->last = progress->seconds;
    text_buffer text = describe(progress);
    if (line->terminal)
        redraw(line, text.text);
    else
        fprintf(stderr, "oasis: %s\n", text.text);
    return true;
}

void cli_progress_end(progress_line *line)
{
    if (line->drawn) {
        redraw(line, "");
        fputc('\r', stderr);
    }
    line->drawn = 0;
}
