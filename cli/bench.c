/* Measures the machine and the parts of oasis on it. */
#include "bench_train.h"
#include "cli.h"

#include <oasis/bench.h>

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct settings {
    bool json, train;
    int threads;
    const char *stage, *device, *model, *model_dir, *decoder;
} settings;

static const oasis_option rows[] = {
    {"stage", 0, NULL, OASIS_OPTION_TEXT, offsetof(settings, stage), 0, 0, NULL, "NAME", NULL,
     "measure only this: peak, dense, conv, decoder, attention, block, model, transformer, step or upscale", "Options"},
    {"device", 0, NULL, OASIS_OPTION_TEXT, offsetof(settings, device), 0, 0, NULL, "DEVICE", "auto",
     "what is measured: cpu, cuda, cuda:N (GPU N, from 0 on), or auto: a GPU if there is one", "Options"},
    {"train", 0, NULL, OASIS_OPTION_FLAG, offsetof(settings, train), 0, 0, NULL, NULL, "false",
     "measure training instead: clips per second, and what making clips takes of it", "Options"},
    {"threads", 'j', NULL, OASIS_OPTION_INT, offsetof(settings, threads), 0, 1024, NULL, "N", "0",
     "compute threads; 0 = as many as the process may use", "Options"},
    {"model", 'm', NULL, OASIS_OPTION_TEXT, offsetof(settings, model), 0, 0, NULL, "NAME|PATH", CLI_DEFAULT_MODEL,
     "the model to measure", "Options"},
    {"decoder", 0, NULL, OASIS_OPTION_TEXT, offsetof(settings, decoder), 0, 0, NULL, "NAME|PATH", NULL,
     "measure the decoder of this file in place of the model's", "Options"},
    {"model-dir", 0, NULL, OASIS_OPTION_TEXT, offsetof(settings, model_dir), 0, 0, NULL, "DIR", NULL,
     "look for models by name in this folder first", "Options"},
    {"json", 0, NULL, OASIS_OPTION_FLAG, offsetof(settings, json), 0, 0, NULL, NULL, "false", "print one JSON object",
     "Options"},
    {.name = NULL},
};

static const oasis_option *own_options(void)
{
    return rows;
}

static bool show(void *user, const oasis_bench_row *row)
{
    json_t *list = user;
    if (list) {
        json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:f}", "stage", row->stage, "name", row->name, "detail",
                              row->detail, "type", row->dtype, "unit", row->unit, "value", row->value);
        if (row->gflops > 0)
            json_object_set_new(o, "gflops", json_real(row->gflops));
        json_array_append_new(list, o);
    } else {
        char rate[32] = "";
        if (row->gflops > 0)
            snprintf(rate, sizeof rate, "%.0f GFLOP/s", row->gflops);
        printf("%-28s %-5s %10.4g %-9s %14s  %s\n", row->name, row->dtype, row->value, row->unit, rate, row->detail);
        fflush(stdout);
    }
    return cli_signal() == 0;
}

/* Writes a short noisy clip, for measuring a whole job. */
static oasis_status write_clip(const char *path, oasis_message *message)
{
    enum { WIDTH = 320, HEIGHT = 180, FRAMES = 65 };
    oasis_writer_options o;
    oasis_writer *writer = NULL;
    oasis_frame frame;
    oasis_writer_options_init(&o);
    o.overwrite = true;
    oasis_status s = oasis_writer_open(&writer, path, &o, NULL, WIDTH, HEIGHT, message);
    if (s < 0)
        return s;
    s = oasis_frame_new(&frame, WIDTH, HEIGHT, false);
    for (int i = 0; s == OASIS_OK && i < FRAMES; i++) {
        for (int k = 0; k < WIDTH * HEIGHT * 3; k++)
            frame.rgb[k] = (float)((k / 3 + i + k / 3 / WIDTH * 7) % 97) / 96.f;
        frame.pts = i;
        frame.duration = 1;
        s = oasis_writer_write(writer, &frame);
    }
    if (s == OASIS_OK)
        s = oasis_writer_finish(writer);
    if (s < 0)
        snprintf(message->text, sizeof message->text, "%s", oasis_writer_message(writer));
    oasis_frame_free(&frame);
    oasis_writer_close(&writer);
    return s;
}

static bool go_on(void *user, const oasis_progress *progress)
{
    (void)user;
    (void)progress;
    return cli_signal() == 0;
}

/* From file to file: reading, network and encoding together. */
static oasis_status bench_upscale(oasis_model *model, const settings *set, json_t *list, oasis_message *message)
{
    char folder[] = "/tmp/oasis-bench-XXXXXX", in[64], out[64];
    if (!mkdtemp(folder)) {
        snprintf(message->text, sizeof message->text, "cannot make a folder under /tmp for the measured clip");
        return OASIS_E_IO;
    }
    snprintf(in, sizeof in, "%s/in.mp4", folder);
    snprintf(out, sizeof out, "%s/out.mp4", folder);
    oasis_job job;
    oasis_job_result result;
    oasis_job_init(&job);
    job.input = in;
    job.output = out;
    job.upscale.threads = set->threads;
    job.upscale.device = set->device;
    oasis_status s = write_clip(in, message);
    if (s == OASIS_OK)
        s = oasis_upscale_file(model, &job, go_on, NULL, &result, message);
    if (s == OASIS_OK) {
        struct rusage usage;
        const char *type = result.plan.bf16 ? "bf16" : "fp32";
        getrusage(RUSAGE_SELF, &usage);
        show(list, &(oasis_bench_row){"upscale", "upscale_720p_fps", "320 x 180 to 1280 x 720, from file to file", type,
                                      "frames/s", (double)result.statistics.frames_out / result.seconds, 0});
        show(list, &(oasis_bench_row){"upscale", "mem_peak_bytes", "of the whole process", type, "bytes",
                                      (double)usage.ru_maxrss * 1024, 0});
        show(list, &(oasis_bench_row){"upscale", "mem_predicted_over_measured", "planned peak of the upscaler", type, "times",
                                      (double)result.plan.peak_bytes / ((double)usage.ru_maxrss * 1024), 0});
    }
    unlink(in);
    unlink(out);
    rmdir(folder);
    return s;
}

static int run_bench(int argc, char **argv)
{
    settings s = {.threads = 0};
    void *objects[] = {&s};
    word_list words;
    char path[4096];
    int code;
    oasis_message message = {""};
    oasis_model *model = NULL;
    if (!cli_parse(cli_find_command("bench"), objects, argc, argv, &words, &code))
        return code;
    cli_catch_signals();
    oasis_media_set_quiet(true);
    path[0] = 0;
    if (!s.train && (cli_open_model(&model, s.model, s.model_dir, path, sizeof path, &message) < 0 ||
                     cli_set_decoder(model, s.decoder, s.model_dir, &message) < 0)) {
        cli_error("%s", message.text);
        oasis_model_close(&model);
        return EXIT_MODEL;
    }
    json_t *report = s.json ? cli_json_new("bench") : NULL, *list = s.json ? json_array() : NULL;
    bool files = !s.train && (!s.stage || strcmp(s.stage, "upscale") == 0);
    oasis_status status = s.train ? cli_bench_train(s.device, s.threads, show, list, &message) : OASIS_OK;
    /* First, so that the peak of the process is that of a job and not of what else is measured. */
    if (files)
        status = bench_upscale(model, &s, list, &message);
    if (status == OASIS_OK && !s.train && (!s.stage || !files))
        status = oasis_bench(model, s.stage, s.device, s.threads, show, list, &message);
    oasis_model_close(&model);
    if (status < 0)
        cli_error("%s", message.text);
    code = cli_signal() ? 128 + cli_signal() : status < 0 ? cli_exit_code(status) : EXIT_DONE;
    if (report) {
        if (!s.train)
            json_object_set_new(report, "model", json_string(path));
        json_object_set_new(report, "figures", list);
        if (cli_json_print(report) != EXIT_DONE && code == EXIT_DONE)
            code = EXIT_FAILED;
    }
    return code;
}

const command cli_command_bench = {
    .name = "bench",
    .summary = "measure this machine, and how near oasis comes to it",
    .description = "Measures the machine's own peak and then every part of oasis against it: dense products, convolutions, "
                   "attention, one block of the 1.3B model, the whole network and a whole job. Takes some minutes; nothing "
                   "else should run meanwhile. Fractions are of the peak measured in the same run.",
    .tables = {own_options},
    .run = run_bench,
};
