/*
 * oasis upscale: one input to one output.  Finds the model, looks at the input, asks before replacing anything, hands
 * the job to liboasis-media, and says what was done.
 */
#include "cli.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SIZE = 4096 };

typedef struct settings {
    oasis_job job;
    const char *model, *model_dir, *decoder;
    bool keep, json, quiet, verbose, dry_run, progress;
} settings;

#define OWN(f) offsetof(settings, f)

static const oasis_option file_rows[] = {
    {"overwrite", 'y', NULL, OASIS_OPTION_FLAG, OWN(job.write.overwrite), 0, 0, NULL, NULL, "false",
     "replace OUT without asking", "Files"},
    {"keep", 'n', NULL, OASIS_OPTION_FLAG, OWN(keep), 0, 0, NULL, NULL, "false", "never replace OUT, and do not ask",
     "Files"},
    {"model", 'm', NULL, OASIS_OPTION_TEXT, OWN(model), 0, 0, NULL, "NAME|PATH", CLI_DEFAULT_MODEL,
     "model, by file or by name", "Files"},
    {"decoder", 0, NULL, OASIS_OPTION_TEXT, OWN(decoder), 0, 0, NULL, "NAME|PATH", NULL,
     "take the decoder of this file in place of the model's: a model, a decoder, or a Wan2.1 or TAEHV checkpoint",
     "Files"},
    {"model-dir", 0, NULL, OASIS_OPTION_TEXT, OWN(model_dir), 0, 0, NULL, "DIR", NULL,
     "look for models by name in this folder first", "Files"},
    {.name = NULL},
};

static const oasis_option message_rows[] = {
    {"dry-run", 0, NULL, OASIS_OPTION_FLAG, OWN(dry_run), 0, 0, NULL, NULL, "false",
     "print what would be done, how long and with how much memory; write nothing", "Messages"},
    {"json", 0, NULL, OASIS_OPTION_FLAG, OWN(json), 0, 0, NULL, NULL, "false",
     "print one JSON object on standard output at the end", "Messages"},
    {"quiet", 'q', NULL, OASIS_OPTION_FLAG, OWN(quiet), 0, 0, NULL, NULL, "false", "print errors only", "Messages"},
    {"verbose", 'v', NULL, OASIS_OPTION_FLAG, OWN(verbose), 0, 0, NULL, NULL, "false",
     "print the plan, and at the end the time of each stage", "Messages"},
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
    oasis_model *model;
    char model_path[PATH_SIZE];
    int width, height; /* of the input; 0 while it is unknown */
    int64_t frames;    /* expected, 0 where unknown */
    json_t *report;    /* NULL without --json */
    oasis_status status;
    oasis_message message;
    int code;
} run;

/* Notes a failure; the message is there already.  Returns false. */
static bool failed(run *r, oasis_status status, int code)
{
    r->status = status;
    r->code = status == OASIS_E_MEMORY || status == OASIS_E_DEVICE ? EXIT_MACHINE : code;
    return false;
}

static bool is_stream(const char *path)
{
    return path && strcmp(path, "-") == 0;
}

/* Fills input and output from the words where options did not, and checks what can be without looking at files. */
static bool check_usage(run *r, const word_list *words)
{
    settings *s = &r->s;
    int next = 0;
    const char *wrong = NULL;
    if (!s->job.input && next < words->count)
        s->job.input = words->text[next++];
    if (!s->job.output && next < words->count)
        s->job.output = words->text[next++];
    if (next < words->count)
        wrong = "input and output are given twice, by options and by words";
    else if (!s->job.input)
        wrong = "which input? usage: oasis upscale [OPTIONS] IN OUT";
    else if (!s->job.output && !s->dry_run)
        wrong = "which output? usage: oasis upscale [OPTIONS] IN OUT";
    else if (s->job.write.overwrite && s->keep)
        wrong = "-y and -n exclude each other";
    else if (s->quiet && s->verbose)
        wrong = "-q and -v exclude each other";
    else if (s->json && is_stream(s->job.output) && !s->dry_run)
        wrong = "--json needs standard output, where the video would go; name a file as output";
    if (wrong)
        cli_error("%s", wrong);
    return !wrong;
}

static bool open_model(run *r)
{
    oasis_status status =
        cli_open_model(&r->model, r->s.model, r->s.model_dir, r->model_path, sizeof r->model_path, &r->message);
    if (status == OASIS_OK)
        status = cli_set_decoder(r->model, r->s.decoder, r->s.model_dir, &r->message);
    if (status < 0)
        return failed(r, status, status == OASIS_E_IO || status == OASIS_E_FORMAT ? EXIT_MODEL : cli_exit_code(status));
    oasis_model_info info;
    oasis_model_describe(r->model, &info);
    if (r->report)
        json_object_set_new(r->report, "model", cli_json_model(&info, r->model_path));
    return true;
}

/* How many frames of the input the job will see, as far as the container says. */
static int64_t expected_frames(const oasis_media_info *info, const oasis_reader_options *read)
{
    int64_t frames = info->frames;
    if (frames > 0 && read->start > 0)
        frames -= (int64_t)(read->start * info->fps);
    if (read->frames > 0 && (frames > read->frames || info->frames == 0))
        frames = read->frames;
    return frames > 0 ? frames : 0;
}

/* Opens the input to learn what it is.  Standard input can be read only once: only a dry run looks. */
static bool look_at_input(run *r)
{
    const oasis_job *job = &r->s.job;
    oasis_reader *reader = NULL;
    oasis_media_info info;
    if (is_stream(job->input) && !r->s.dry_run)
        return true;
    oasis_status status = oasis_reader_open(&reader, job->input, &job->read, &r->message);
    if (status < 0)
        return failed(r, status, status == OASIS_E_ARGUMENT ? EXIT_USAGE : EXIT_INPUT);
    oasis_reader_info(reader, &info);
    r->width = info.width;
    r->height = info.height;
    r->frames = expected_frames(&info, &job->read);
    if (r->report) {
        json_t *media = cli_json_media(&info);
        json_object_set_new(media, "path", cli_json_text(job->input));
        json_object_set_new(r->report, "input", media);
    } else if (r->s.dry_run || r->s.verbose) {
        FILE *to = r->s.dry_run ? stdout : stderr;
        fprintf(to, "input:    %s: %s, %dx%d, %s, %.6g frames/s", job->input, info.codec, info.width, info.height,
                info.pixel_format, info.fps);
        if (r->frames)
            fprintf(to, ", %lld frames\n", (long long)r->frames);
        else
            fprintf(to, ", length unknown\n");
    }
    oasis_reader_close(&reader);
    return true;
}

/* Asks on the terminal; anything but y or yes is no. */
static bool ask(const char *path)
{
    char answer[16] = "";
    fprintf(stderr, "%s exists. Replace it? [y/N] ", path);
    fflush(stderr);
    if (!fgets(answer, sizeof answer, stdin))
        fputc('\n', stderr);
    return answer[0] == 'y' || answer[0] == 'Y';
}

static bool check_output(run *r)
{
    oasis_job *job = &r->s.job;
    struct stat in, out;
    if (is_stream(job->output) || stat(job->output, &out) != 0)
        return true;
    if (stat(job->input, &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino) {
        snprintf(r->message.text, sizeof r->message.text, "%s: input and output are the same file; name another output",
                 job->output);
        return failed(r, OASIS_E_ARGUMENT, EXIT_USAGE);
    }
    if (job->write.overwrite || !S_ISREG(out.st_mode))
        return true;
    bool can_ask = !r->s.keep && !r->s.quiet && isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    if (can_ask && ask(job->output)) {
        job->write.overwrite = true;
        return true;
    }
    snprintf(r->message.text, sizeof r->message.text, "%s exists and was left as it is; %s", job->output,
             can_ask ? "the answer was no" : "-y replaces it");
    return failed(r, OASIS_E_IO, EXIT_FAILED);
}

/* What a clip of that many frames takes, the preparing of weights included. */
static double whole_seconds(const oasis_plan *p, int64_t frames, double *flops)
{
    double seconds;
    oasis_plan_shot(p, frames, flops, &seconds);
    return seconds + p->prepare_seconds;
}

static void print_plan(const oasis_plan *p, int64_t frames, FILE *to)
{
    fprintf(to, "output:   %dx%d\n", p->width, p->height);
    fprintf(to, "windows:  %d per frame, of %d frames of %dx%d pixels; the first frame comes after %d\n", p->windows,
            p->window_frames, p->window_width, p->window_height, p->delay);
    fprintf(to, "decoder:  %d %s\n", p->tiles, p->tiles == 1 ? "tile: whole frames" : "tiles per frame");
    fprintf(to, "compute:  %s, %d threads, %sFLOP per frame\n", p->bf16 ? "bf16" : "fp32", p->threads,
            cli_count(p->flops_per_frame).text);
    fprintf(to, "memory:   %s at the peak, of these %s weights, %s for reading and writing; limit %s\n",
            cli_bytes(p->peak_bytes).text, cli_bytes(p->weight_bytes).text, cli_bytes(p->reserved_bytes).text,
            cli_bytes(p->limit_bytes).text);
    double flops, seconds = whole_seconds(p, frames, &flops);
    fprintf(to, "time:     about %s per frame", cli_duration(p->seconds_per_frame).text);
    if (frames > 0)
        fprintf(to, ", %s for %lld frames (%sFLOP)", cli_duration(seconds).text, (long long)frames,
                cli_count(flops).text);
    fputc('\n', to);
}

static oasis_status make_plan(run *r, oasis_plan *plan)
{
    oasis_job *job = &r->s.job;
    if (!is_stream(job->input))
        return oasis_plan_file(r->model, job, plan, &r->message);
    oasis_upscaler *upscaler = NULL; /* standard input cannot be opened again; its size is known */
    oasis_status status = oasis_upscaler_open(&upscaler, r->model, &job->upscale, r->width, r->height, &r->message);
    if (status == OASIS_OK)
        oasis_upscaler_plan(upscaler, plan);
    oasis_upscaler_close(&upscaler);
    return status;
}

static bool plan_only(run *r)
{
    oasis_plan plan;
    oasis_status status = make_plan(r, &plan);
    if (status < 0)
        return failed(r, status, cli_exit_code(status));
    if (!r->report) {
        print_plan(&plan, r->frames, stdout);
        return true;
    }
    double flops, seconds = whole_seconds(&plan, r->frames, &flops);
    json_object_set_new(r->report, "dry_run", json_true());
    json_object_set_new(r->report, "plan", cli_json_plan(&plan));
    json_object_set_new(r->report, "frames", r->frames ? json_integer(r->frames) : json_null());
    json_object_set_new(r->report, "flops", r->frames ? cli_json_number(flops) : json_null());
    json_object_set_new(r->report, "elapsed_ms", r->frames ? cli_json_number(seconds * 1000) : json_null());
    return true;
}

static void print_stages(const oasis_statistics *s, double seconds)
{
    fprintf(stderr, "%-24s %10s %6s %12s\n", "stage", "seconds", "%", "GFLOP/s");
    for (int i = 0; i < s->n_stages; i++) {
        const oasis_stage_time *t = &s->stages[i];
        fprintf(stderr, "%-24s %10.3f %6.1f", t->name, t->seconds, seconds > 0 ? 100 * t->seconds / seconds : 0);
        if (t->flops > 0 && t->seconds > 0)
            fprintf(stderr, " %12.1f", t->flops / t->seconds * 1e-9);
        fputc('\n', stderr);
    }
    fprintf(stderr, "of these, transformer %.1f s, decoder %.1f s\n", s->transformer_seconds, s->decoder_seconds);
    fprintf(stderr, "memory at the peak: %s; shots: %lld; windows: %lld\n", cli_bytes(s->peak_bytes).text,
            (long long)s->shots, (long long)s->windows);
    if (s->network_calls > 0)
        fprintf(stderr, "GPU: %lld of %lld calls of networks as one launch\n", (long long)s->network_launches,
                (long long)s->network_calls);
    if (s->networks_uncaptured > 0)
        fprintf(stderr, "GPU: %d networks cannot be launched at once, since the CPU computes a part of them\n",
                s->networks_uncaptured);
}

static void print_result(const run *r, const oasis_job_result *result)
{
    const oasis_statistics *s = &result->statistics;
    if (r->s.quiet)
        return;
    if (result->note.text[0])
        fprintf(stderr, "oasis: %s\n", result->note.text);
    if (s->windows_recomputed > 0)
        fprintf(stderr,
                "oasis: %lld of %lld windows had values that were not finite, and were computed again in fp32\n",
                (long long)s->windows_recomputed, (long long)s->windows);
    if (r->s.verbose) {
        print_plan(&result->plan, s->frames_out, stderr);
        print_stages(s, result->seconds);
    }
    fprintf(stderr, "%s: %lld frames of %dx%d in %s (%.3g frames/s)\n", r->s.job.output, (long long)s->frames_out,
            result->plan.width, result->plan.height, cli_duration(result->seconds).text,
            result->seconds > 0 ? (double)s->frames_out / result->seconds : 0);
}

static bool upscale(run *r)
{
    progress_line line = {.silent = r->s.quiet || !r->s.progress};
    oasis_job_result result;
    memset(&result, 0, sizeof result);
    oasis_status status = oasis_upscale_file(r->model, &r->s.job, cli_progress, &line, &result, &r->message);
    cli_progress_end(&line);
    if (status < 0) {
        if (status == OASIS_E_CANCELLED)
            snprintf(r->message.text, sizeof r->message.text, "stopped; nothing was written to %s", r->s.job.output);
        return failed(r, status, cli_exit_code(status));
    }
    print_result(r, &result);
    if (r->report) {
        json_t *output = json_pack("{s:o, s:i, s:i}", "path", cli_json_text(r->s.job.output), "width_px",
                                   result.plan.width, "height_px", result.plan.height);
        json_object_set_new(r->report, "output", output);
        json_object_set_new(r->report, "plan", cli_json_plan(&result.plan));
        json_object_set_new(r->report, "result", cli_json_statistics(&result.statistics));
        json_object_set_new(r->report, "elapsed_ms", cli_json_number(result.seconds * 1000));
    }
    return true;
}

static int finish(run *r)
{
    if (r->status < 0) {
        cli_error("%s", r->message.text);
        if (r->report)
            json_object_set_new(r->report, "error", cli_json_error(r->status, r->message.text, r->code));
    }
    oasis_model_close(&r->model);
    if (r->s.json && cli_json_print(r->report) != EXIT_DONE && r->code == EXIT_DONE)
        r->code = EXIT_FAILED;
    return r->code;
}

static int run_upscale(int argc, char **argv)
{
    run r = {.code = EXIT_DONE};
    word_list words;
    int code;
    oasis_job_init(&r.s.job);
    r.s.progress = true;
    void *objects[] = {&r.s.job, &r.s, &r.s}; /* in the order of the command's tables */
    if (!cli_parse(cli_find_command("upscale"), objects, argc, argv, &words, &code))
        return code;
    if (!check_usage(&r, &words))
        return EXIT_USAGE;
    cli_catch_signals();
    if (r.s.json)
        r.report = cli_json_new("upscale");
    if (open_model(&r) && look_at_input(&r)) {
        if (r.s.dry_run)
            plan_only(&r);
        else if (check_output(&r))
            upscale(&r);
    }
    return finish(&r);
}

const command cli_command_upscale = {
    .name = "upscale",
    .words = "IN OUT",
    .max_words = 2,
    .summary = "enlarge and clean a video (the default command)",
    .description =
        "Reads IN, enlarges and cleans it, and writes OUT, with the sound, the subtitles and everything else of IN. "
        "IN and OUT are video files, pictures, folders or numbered patterns (shot-%04d.png) of pictures, or - for "
        "YUV4MPEG2 on standard input and output.\n"
        "OUT appears under its name only when it is complete.",
    .tables = {oasis_job_options, file_options, message_options},
    .run = run_upscale,
};
