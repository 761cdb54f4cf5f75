/*
 * oasis eval: measures a clip, against the truth where it is given.  Both are read frame by frame; the result is a
 * table or one JSON object.
 */
#include "cli.h"

#include <oasis/metrics.h>

#include <math.h>
#include <string.h>
#include <time.h>

typedef struct settings {
    const char *input, *reference;
    double start;
    int64_t frames;
    oasis_metrics_options measure;
    bool json, quiet, progress;
} settings;

#define OWN(f) offsetof(settings, f)

static const oasis_option file_rows[] = {
    {"input", 'i', NULL, OASIS_OPTION_TEXT, OWN(input), 0, 0, NULL, "CLIP", NULL, "in place of the word CLIP", "Files"},
    {"ref", 'r', "reference", OASIS_OPTION_TEXT, OWN(reference), 0, 0, NULL, "REF", NULL,
     "the truth: what CLIP should look like; in place of the word REF", "Files"},
    {"start", 0, "ss", OASIS_OPTION_TIME, OWN(start), 0, 1e9, NULL, "TIME", "0", "leave out what comes before, in both",
     "Files"},
    {"frames", 0, "frames:v", OASIS_OPTION_INT64, OWN(frames), 0, 0x1p53, NULL, "N", "0",
     "measure at most N frames; 0 = all", "Files"},
    {.name = NULL},
};

static const oasis_option message_rows[] = {
    {"json", 0, NULL, OASIS_OPTION_FLAG, OWN(json), 0, 0, NULL, NULL, "false", "print one JSON object", "Messages"},
    {"quiet", 'q', NULL, OASIS_OPTION_FLAG, OWN(quiet), 0, 0, NULL, NULL, "false", "print the table and errors only",
     "Messages"},
    {"progress", 0, NULL, OASIS_OPTION_FLAG, OWN(progress), 0, 0, NULL, NULL, "true", "show how far the work is",
     "Messages"},
    {.name = NULL},
};

static const oasis_option *file_options(void)
{
    return file_rows;
}

static const oasis_option *message_options(void)
{
    return message_rows;
}

enum { CLIP, REFERENCE, CLIPS };

/* Everything that one call of the command holds. */
typedef struct run {
    settings s;
    oasis_reader *reader[CLIPS];
    oasis_metrics *metrics;
    int64_t frames, total;
    int width, height;
    bool longer[CLIPS]; /* has frames that the other one has not */
    struct timespec began;
    progress_line line;
    bool input_failed;
    oasis_message message;
} run;

static oasis_status say(run *r, oasis_status status, const char *text)
{
    snprintf(r->message.text, sizeof r->message.text, "%s", text);
    return status;
}

static bool check_usage(settings *s, const word_list *words)
{
    int next = 0;
    const char *wrong = NULL;
    if (!s->input && next < words->count)
        s->input = words->text[next++];
    if (!s->reference && next < words->count)
        s->reference = words->text[next++];
    if (next < words->count)
        wrong = "clip and reference are given twice, by options and by words";
    else if (!s->input)
        wrong = "which clip? usage: oasis eval [OPTIONS] CLIP [REF]";
    else if (s->reference && strcmp(s->input, "-") == 0 && strcmp(s->reference, "-") == 0)
        wrong = "standard input cannot be both clip and reference";
    if (wrong)
        cli_error("%s", wrong);
    return !wrong;
}

static oasis_status open_readers(run *r)
{
    const settings *s = &r->s;
    const char *paths[CLIPS] = {s->input, s->reference};
    for (int c = 0; c < CLIPS && paths[c]; c++) {
        oasis_reader_options options;
        oasis_media_info info;
        oasis_reader_options_init(&options);
        options.start = s->start;
        options.frames = s->frames;
        oasis_status status = oasis_reader_open(&r->reader[c], paths[c], &options, &r->message);
        if (status < 0) {
            r->input_failed = true;
            return status;
        }
        oasis_reader_info(r->reader[c], &info);
        if (c == CLIP)
            r->total = s->frames > 0 && (info.frames == 0 || info.frames > s->frames) ? s->frames : info.frames;
    }
    return OASIS_OK;
}

static bool go_on(run *r)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = (double)(now.tv_sec - r->began.tv_sec) + (double)(now.tv_nsec - r->began.tv_nsec) * 1e-9;
    oasis_progress p = {.frames_done = r->frames, .frames_total = r->total, .seconds = seconds};
    p.frames_per_second = seconds > 0 ? (double)r->frames / seconds : 0;
    p.seconds_left =
        p.frames_per_second > 0 && r->total > 0 ? (double)(r->total - r->frames) / p.frames_per_second : -1;
    return cli_progress(&r->line, &p);
}

static oasis_status measure_frame(run *r, const oasis_frame frame[CLIPS])
{
    bool reference = r->reader[REFERENCE] != NULL;
    if (reference && (frame[CLIP].width != frame[REFERENCE].width || frame[CLIP].height != frame[REFERENCE].height)) {
        snprintf(r->message.text, sizeof r->message.text,
                 "%s has frames of %dx%d, %s of %dx%d; only clips of one size can be compared", r->s.input,
                 frame[CLIP].width, frame[CLIP].height, r->s.reference, frame[REFERENCE].width,
                 frame[REFERENCE].height);
        return OASIS_E_ARGUMENT;
    }
    if (!r->metrics) {
        r->width = frame[CLIP].width;
        r->height = frame[CLIP].height;
        oasis_status status =
            oasis_metrics_open(&r->metrics, &r->s.measure, r->width, r->height, reference, &r->message);
        if (status < 0)
            return status;
    }
    oasis_status status = oasis_metrics_push(r->metrics, &frame[CLIP], reference ? &frame[REFERENCE] : NULL);
    if (status < 0)
        return say(r, status, oasis_metrics_message(r->metrics));
    r->frames++;
    return go_on(r) ? OASIS_OK : say(r, OASIS_E_CANCELLED, "stopped");
}

/* Reads a frame of each and measures; OASIS_END when one of them is at its end. */
static oasis_status next_frame(run *r)
{
    oasis_frame frame[CLIPS] = {{0}, {0}};
    oasis_status read[CLIPS] = {OASIS_END, OASIS_END}, status = OASIS_OK;
    for (int c = 0; c < CLIPS && r->reader[c] && status >= 0; c++) {
        read[c] = oasis_reader_read(r->reader[c], &frame[c]);
        if (read[c] < 0) {
            r->input_failed = true;
            status = say(r, read[c], oasis_reader_message(r->reader[c]));
        }
    }
    if (status >= 0) {
        bool both = r->reader[REFERENCE] != NULL;
        r->longer[CLIP] = both && read[CLIP] == OASIS_OK && read[REFERENCE] == OASIS_END;
        r->longer[REFERENCE] = read[REFERENCE] == OASIS_OK && read[CLIP] == OASIS_END;
        status = read[CLIP] == OASIS_OK && (!both || read[REFERENCE] == OASIS_OK) ? measure_frame(r, frame) : OASIS_END;
    }
    for (int c = 0; c < CLIPS; c++)
        if (read[c] == OASIS_OK)
            oasis_frame_free(&frame[c]);
    return status;
}

static oasis_status evaluate(run *r)
{
    oasis_status status = open_readers(r);
    clock_gettime(CLOCK_MONOTONIC, &r->began);
    while (status == OASIS_OK)
        status = next_frame(r);
    cli_progress_end(&r->line);
    if (status >= 0 && r->frames == 0) {
        r->input_failed = true;
        return say(r, OASIS_E_FORMAT, "there are no frames to measure");
    }
    return status;
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static void print_table(const run *r)
{
    printf("%lld frames of %dx%d, rounded to 8 bits; means over frames\n", (long long)r->frames, r->width, r->height);
    for (int i = 0; i < oasis_metrics_count(r->metrics); i++) {
        oasis_metric_result m;
        static const char *const better[] = {"less is better", "", "more is better"};
        oasis_metrics_result(r->metrics, i, &m);
        printf("%-12s %-30s ", m.info->name, m.info->label);
        if (isfinite(m.mean))
            printf("%10.4f %-3s", m.mean, m.info->unit);
        else
            printf("%10s %-3s", "-", "");
        printf(" %s%s%s\n", better[m.info->better + 1], better[m.info->better + 1][0] && m.note[0] ? "; " : "", m.note);
    }
}

static json_t *results_json(const run *r)
{
    json_t *all = json_object();
    for (int i = 0; i < oasis_metrics_count(r->metrics); i++) {
        oasis_metric_result m;
        oasis_metrics_result(r->metrics, i, &m);
        json_object_set_new(all, m.info->name,
                            json_pack("{s:s, s:o, s:s, s:i, s:I, s:s}", "label", m.info->label, "mean",
                                      cli_json_number(m.mean), "unit", m.info->unit, "better", m.info->better, "count",
                                      (json_int_t)m.count, "note", m.note));
    }
    return all;
}

static int finish(run *r, oasis_status status)
{
    int code = status >= 0 ? EXIT_DONE : cli_exit_code(status);
    if (r->input_failed && code != EXIT_MACHINE)
        code = EXIT_INPUT;
    if (status < 0)
        cli_error("%s", r->message.text);
    else if ((r->longer[CLIP] || r->longer[REFERENCE]) && !r->s.quiet)
        fprintf(stderr, "oasis: %s has more frames than %s; the rest was left out\n",
                r->longer[CLIP] ? r->s.input : r->s.reference, r->longer[CLIP] ? r->s.reference : r->s.input);
    if (r->s.json) {
        json_t *report = cli_json_new("eval");
        if (status < 0) {
            json_object_set_new(report, "error", cli_json_error(status, r->message.text, code));
        } else {
            json_object_set_new(report, "input", cli_json_text(r->s.input));
            json_object_set_new(report, "reference", cli_json_text(r->s.reference));
            json_object_set_new(report, "frames", json_integer(r->frames));
            json_object_set_new(report, "width_px", json_integer(r->width));
            json_object_set_new(report, "height_px", json_integer(r->height));
            json_object_set_new(report, "same_length", json_boolean(!r->longer[CLIP] && !r->longer[REFERENCE]));
            json_object_set_new(report, "metrics", results_json(r));
        }
        if (cli_json_print(report) != EXIT_DONE && code == EXIT_DONE)
            code = EXIT_FAILED;
    } else if (status >= 0) {
        print_table(r);
    }
    oasis_metrics_close(&r->metrics);
    for (int c = 0; c < CLIPS; c++)
        oasis_reader_close(&r->reader[c]);
    return code;
}

static int run_eval(int argc, char **argv)
{
    run r = {.s = {.progress = true}};
    word_list words;
    int code;
    oasis_metrics_options_init(&r.s.measure);
    void *objects[] = {&r.s.measure, &r.s, &r.s}; /* in the order of the command's tables */
    if (!cli_parse(cli_find_command("eval"), objects, argc, argv, &words, &code))
        return code;
    if (!check_usage(&r.s, &words))
        return EXIT_USAGE;
    cli_catch_signals();
    r.line.silent = r.s.quiet || !r.s.progress;
    return finish(&r, evaluate(&r));
}

const command cli_command_eval = {
    .name = "eval",
    .words = "CLIP REF",
    .max_words = 2,
    .summary = "measure how good a video is, with the truth or without",
    .description =
        "Measures CLIP against REF, the truth, frame by frame: PSNR in three colour spaces, SSIM, MS-SSIM, the warping "
        "error and the difference of motion, and others; without REF what needs none. Frames are rounded to 8 bits "
        "first. REF must have the size of CLIP.\n"
        "Measure lossless files or pictures: what a codec loses is in the numbers. Motion is found by our own optical "
        "flow, so its figures compare clips measured here, and not with published tables.",
    .tables = {oasis_metrics_option_rows, file_options, message_options},
    .run = run_eval,
};
