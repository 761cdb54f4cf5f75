/*
 * oasis degrade: one input to a smaller and worse output, for training pairs and for tests of which the truth is known.
 * Reads, degrades and writes frame by frame; says on request what was drawn.
 */
#include "cli.h"

#include <oasis/degrade.h>

#include <errno.h>
#include <string.h>
#include <time.h>

typedef struct settings {
    const char *input, *output, *params;
    oasis_reader_options read;
    oasis_writer_options write;
    oasis_degrade_options degrade;
    bool json, quiet, progress;
} settings;

#define OWN(f) offsetof(settings, f)

static const oasis_option file_rows[] = {
    {"input", 'i', NULL, OASIS_OPTION_TEXT, OWN(input), 0, 0, NULL, "IN", NULL, "in place of the word IN", "Files"},
    {"output", 'o', NULL, OASIS_OPTION_TEXT, OWN(output), 0, 0, NULL, "OUT", NULL, "in place of the word OUT", "Files"},
    {"params", 0, NULL, OASIS_OPTION_TEXT, OWN(params), 0, 0, NULL, "FILE", NULL,
     "write what was drawn as JSON; - = standard output", "Files"},
    {"overwrite", 'y', NULL, OASIS_OPTION_FLAG, OWN(write.overwrite), 0, 0, NULL, NULL, "false", "replace OUT",
     "Files"},
    {"start", 0, "ss", OASIS_OPTION_TIME, OWN(read.start), 0, 1e9, NULL, "TIME", "0", "leave out what comes before",
     "Files"},
    {"frames", 0, "frames:v", OASIS_OPTION_INT64, OWN(read.frames), 0, 0x1p53, NULL, "N", "0",
     "degrade at most N frames; 0 = all", "Files"},
    {"fps", 'r', NULL, OASIS_OPTION_NUMBER, OWN(read.fps), 0.001, 1000, NULL, "RATE", "24",
     "frame rate of a folder or pattern of pictures", "Files"},
    {"codec", 'c', "c:v", OASIS_OPTION_TEXT, OWN(write.codec), 0, 0, NULL, "NAME", NULL,
     "encoder of OUT; without it mp4, mov and mkv get lossless RGB", "Files"},
    {"crf", 0, NULL, OASIS_OPTION_NUMBER, OWN(write.crf), 0, 63, NULL, "Q", NULL, "quality of that encoder, 0 = best",
     "Files"},
    {.name = NULL},
};

static const oasis_option message_rows[] = {
    {"json", 0, NULL, OASIS_OPTION_FLAG, OWN(json), 0, 0, NULL, NULL, "false",
     "print one JSON object on standard output at the end", "Messages"},
    {"quiet", 'q', NULL, OASIS_OPTION_FLAG, OWN(quiet), 0, 0, NULL, NULL, "false", "print errors only", "Messages"},
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

/* Everything that one call of the command holds. */
typedef struct run {
    settings s;
    oasis_reader *reader;
    oasis_degrader *degrader;
    oasis_writer *writer;
    int64_t frames_total, frames_done;
    int width, height;
    struct timespec began;
    progress_line line;
    bool input_failed; /* it was the input that could not be read */
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
    if (!s->output && next < words->count)
        s->output = words->text[next++];
    if (next < words->count)
        wrong = "input and output are given twice, by options and by words";
    else if (!s->input || !s->output)
        wrong = "which input and output? usage: oasis degrade [OPTIONS] IN OUT";
    else if (s->json + (strcmp(s->output, "-") == 0) + (s->params && strcmp(s->params, "-") == 0) > 1)
        wrong = "standard output can take one of the video, --json and --params -";
    if (wrong)
        cli_error("%s", wrong);
    return !wrong;
}

/* A codec would add its own loss to what was drawn. */
static void choose_lossless(settings *s)
{
    static const char *const endings[] = {".mp4", ".mov", ".mkv"};
    const char *dot = strrchr(s->output, '.');
    for (int i = 0; i < 3 && !s->write.codec && dot; i++)
        if (strcmp(dot, endings[i]) == 0) {
            s->write.codec = "libx264rgb";
            if (s->write.crf < 0)
                s->write.crf = 0;
        }
}

/* Opens the degrader and the writer for frames like the first one. */
static oasis_status open_both(run *r, const oasis_frame *first)
{
    settings *s = &r->s;
    oasis_status status = oasis_degrader_open(&r->degrader, &s->degrade, first->width, first->height, &r->message);
    if (status < 0)
        return status;
    oasis_degrader_size(r->degrader, &r->width, &r->height);
    choose_lossless(s);
    return oasis_writer_open(&r->writer, s->output, &s->write, r->reader, r->width, r->height, &r->message);
}

static bool go_on(run *r)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = (double)(now.tv_sec - r->began.tv_sec) + (double)(now.tv_nsec - r->began.tv_nsec) * 1e-9;
    oasis_progress p = {.frames_done = r->frames_done, .frames_total = r->frames_total, .seconds = seconds};
    p.frames_per_second = seconds > 0 ? (double)r->frames_done / seconds : 0;
    p.seconds_left = p.frames_per_second > 0 && r->frames_total > 0
                         ? (double)(r->frames_total - r->frames_done) / p.frames_per_second
                         : -1;
    return cli_progress(&r->line, &p);
}

static oasis_status write_ready(run *r)
{
    oasis_frame frame;
    oasis_status status;
    while ((status = oasis_degrader_receive(r->degrader, &frame)) == OASIS_OK) {
        status = oasis_writer_write(r->writer, &frame);
        oasis_frame_free(&frame);
        if (status < 0)
            return say(r, status, oasis_writer_message(r->writer));
        r->frames_done++;
        if (!go_on(r))
            return say(r, OASIS_E_CANCELLED, "stopped; nothing was written");
    }
    return status < 0 ? say(r, status, oasis_degrader_message(r->degrader)) : OASIS_OK;
}

static oasis_status copy_frames(run *r)
{
    oasis_status read = OASIS_OK;
    while (read == OASIS_OK) {
        oasis_frame frame;
        read = oasis_reader_read(r->reader, &frame);
        r->input_failed = read < 0 || (read == OASIS_END && !r->degrader);
        if (read < 0)
            return say(r, read, oasis_reader_message(r->reader));
        if (read == OASIS_OK && !r->degrader) {
            oasis_status status = open_both(r, &frame);
            if (status < 0) {
                oasis_frame_free(&frame);
                return status;
            }
        }
        if (!r->degrader)
            return say(r, OASIS_E_FORMAT, "the input has no frames");
        oasis_status status = oasis_degrader_send(r->degrader, read == OASIS_OK ? &frame : NULL);
        if (read == OASIS_OK)
            oasis_frame_free(&frame);
        if (status < 0)
            return say(r, status, oasis_degrader_message(r->degrader));
        status = write_ready(r);
        if (status < 0)
            return status;
    }
    oasis_status status = oasis_writer_finish(r->writer);
    return status < 0 ? say(r, status, oasis_writer_message(r->writer)) : OASIS_OK;
}

static oasis_status write_params(run *r, const char *text)
{
    const char *path = r->s.params;
    bool to_screen = strcmp(path, "-") == 0;
    FILE *file = to_screen ? stdout : fopen(path, "w");
    bool ok = file && text && fputs(text, file) >= 0;
    if (file)
        ok = (to_screen ? fflush(file) : fclose(file)) == 0 && ok;
    if (ok)
        return OASIS_OK;
    snprintf(r->message.text, sizeof r->message.text, "%s: cannot write what was drawn: %s", path, strerror(errno));
    return OASIS_E_IO;
}

static oasis_status degrade(run *r)
{
    settings *s = &r->s;
    oasis_media_info info;
    oasis_status status = oasis_reader_open(&r->reader, s->input, &s->read, &r->message);
    r->input_failed = status < 0;
    if (status < 0)
        return status;
    oasis_reader_info(r->reader, &info);
    if (info.kind == OASIS_INPUT_PICTURE)
        s->degrade.video = false;
    r->frames_total =
        s->read.frames > 0 && (info.frames == 0 || info.frames > s->read.frames) ? s->read.frames : info.frames;
    clock_gettime(CLOCK_MONOTONIC, &r->began);
    status = copy_frames(r);
    cli_progress_end(&r->line);
    return status;
}

static int finish(run *r, oasis_status status)
{
    int code = cli_exit_code(status);
    if (r->input_failed && code != EXIT_MACHINE)
        code = EXIT_INPUT;
    char *params = status >= 0 ? oasis_degrader_params(r->degrader) : NULL;
    if (status >= 0 && r->s.params) {
        status = write_params(r, params);
        code = status >= 0 ? EXIT_DONE : EXIT_FAILED;
    }
    if (status < 0)
        cli_error("%s", r->message.text);
    else if (!r->s.quiet)
        fprintf(stderr, "%s: %lld frames of %dx%d\n", r->s.output, (long long)r->frames_done, r->width, r->height);
    if (r->s.json) {
        json_t *report = cli_json_new("degrade");
        if (status < 0)
            json_object_set_new(report, "error", cli_json_error(status, r->message.text, code));
        else {
            json_object_set_new(report, "output", cli_json_text(r->s.output));
            json_object_set_new(report, "params", params ? json_loads(params, 0, NULL) : json_null());
        }
        if (cli_json_print(report) != EXIT_DONE && code == EXIT_DONE)
            code = EXIT_FAILED;
    }
    oasis_degrader_text_free(params);
    oasis_writer_close(&r->writer);
    oasis_degrader_close(&r->degrader);
    oasis_reader_close(&r->reader);
    return code;
}

static int run_degrade(int argc, char **argv)
{
    run r = {.s = {.progress = true}};
    word_list words;
    int code;
    oasis_reader_options_init(&r.s.read);
    oasis_writer_options_init(&r.s.write);
    oasis_degrade_options_init(&r.s.degrade);
    void *objects[] = {&r.s.degrade, &r.s, &r.s}; /* in the order of the command's tables */
    if (!cli_parse(cli_find_command("degrade"), objects, argc, argv, &words, &code))
        return code;
    if (!check_usage(&r.s, &words))
        return EXIT_USAGE;
    cli_catch_signals();
    r.line.silent = r.s.quiet || !r.s.progress;
    return finish(&r, degrade(&r));
}

const command cli_command_degrade = {
    .name = "degrade",
    .words = "IN OUT",
    .max_words = 2,
    .summary = "make a video small and bad, as the world does",
    .description =
        "Blurs, shrinks, adds noise and compresses IN twice over, with everything drawn at random from the seed, and "
        "writes OUT: input for tests and for training, of which the truth is known. Single pictures are spared the "
        "video "
        "codecs.\n"
        "OUT is lossless RGB unless a codec is named. For a pair that fits, the sides of IN should be multiples of the "
        "scale.",
    .tables = {oasis_degrade_option_rows, file_options, message_options},
    .run = run_degrade,
};
