/*
 * oasis train: a configuration to a model.  Runs the trainer over clips from the configuration's files, tells how it goes,
 * and stops between two steps when a signal comes, with a checkpoint.
 */
#include "cli.h"

#include <oasis/dataset.h>
#include <oasis/train.h>
#include <string.h>

typedef struct settings {
    bool dry_run, json, quiet;
} settings;

static const oasis_option rows[] = {
    {"dry-run", 0, NULL, OASIS_OPTION_FLAG, offsetof(settings, dry_run), 0, 0, NULL, NULL, "false",
     "check everything, print what a step takes, and stop", "Messages"},
    {"json", 0, NULL, OASIS_OPTION_FLAG, offsetof(settings, json), 0, 0, NULL, NULL, "false",
     "print one JSON object on standard output at the end", "Messages"},
    {"quiet", 'q', NULL, OASIS_OPTION_FLAG, offsetof(settings, quiet), 0, 0, NULL, NULL, "false", "print errors only",
     "Messages"},
    {.name = NULL},
};

static const oasis_option *own_options(void)
{
    return rows;
}

/* What one call of the command holds. */
typedef struct run {
    settings s;
    oasis_train_config *config;
    oasis_dataset *dataset;
    oasis_trainer *trainer;
    oasis_train_report report;
    oasis_message message;
} run;

static int code_of(oasis_status status)
{
    if (status == OASIS_E_MODEL)
        return EXIT_MODEL;
    if (status == OASIS_E_MEMORY || status == OASIS_E_DEVICE)
        return EXIT_MACHINE;
    return status == OASIS_E_ARGUMENT || status == OASIS_E_FORMAT || status == OASIS_E_IO ? EXIT_INPUT : EXIT_FAILED;
}

static oasis_status open_all(run *r)
{
    const oasis_train_options *o = oasis_train_config_options(r->config);
    oasis_status s = oasis_dataset_open(&r->dataset, o, &r->message);
    if (s < 0)
        return s;
    s = oasis_trainer_open(&r->trainer, o, oasis_dataset_clip, r->dataset, &r->message);
    if (s < 0 || r->s.quiet)
        return s;
    char text[1024];
    int64_t videos, pictures;
    oasis_trainer_plan(r->trainer, text, sizeof text);
    oasis_dataset_count(r->dataset, &videos, &pictures);
    fprintf(stderr, "%straining data: %lld videos, %lld pictures\nmemory of training data: up to %.0f MiB\n", text,
            (long long)videos, (long long)pictures, (double)oasis_dataset_memory(r->dataset) / (1024. * 1024.));
    return s;
}

static void tell(const run *r)
{
    const oasis_train_report *p = &r->report;
    const oasis_train_options *o = oasis_train_config_options(r->config);
    if (r->s.quiet || (o->log_every > 0 && p->step % o->log_every != 0 && !p->saved))
        return;
    fprintf(stderr, "step %lld of %lld  loss %.5f", (long long)p->step, (long long)p->steps, p->loss);
    for (int i = 0; i < p->n_terms; i++)
        fprintf(stderr, "  %s %.5f", p->term[i], p->value[i]);
    fprintf(stderr, "  norm %.3f  rate %.2e  %.2f clips/s%s", p->norm, p->rate, p->clips_per_second,
            p->saved ? "  saved" : "");
    if (p->skipped > 0)
        fprintf(stderr, "  %lld skipped", (long long)p->skipped);
    fprintf(stderr, "\n");
}

/* Steps until the end, a failure or a signal. */
static oasis_status train(run *r)
{
    oasis_status s = OASIS_OK;
    while (s == OASIS_OK && !cli_signal()) {
        s = oasis_trainer_step(r->trainer, &r->report);
        if (s == OASIS_OK)
            tell(r);
    }
    if (s == OASIS_OK) {
        if (!r->s.quiet)
            fprintf(stderr, "stopped; writing a checkpoint\n");
        s = oasis_trainer_save(r->trainer);
    }
    if (s < 0)
        snprintf(r->message.text, sizeof r->message.text, "%s", oasis_trainer_message(r->trainer));
    return s;
}

static int print_report(const run *r, oasis_status status, int code)
{
    json_t *o = cli_json_new("train");
    if (!o)
        return EXIT_FAILED;
    json_object_set_new(o, "step", json_integer(r->report.step));
    json_object_set_new(o, "steps", json_integer(r->report.steps));
    json_object_set_new(o, "loss", cli_json_number(r->report.loss));
    json_object_set_new(o, "skipped", json_integer(r->report.skipped));
    json_object_set_new(o, "seconds", cli_json_number(r->report.seconds));
    if (status < 0)
        json_object_set_new(o, "error", cli_json_error(status, r->message.text, code));
    int printed = cli_json_print(o);
    return code == EXIT_DONE ? printed : code;
}

static int train_run(int argc, char **argv);

const command cli_command_train = {
    .name = "train",
    .words = "CONFIG.json",
    .max_words = 1,
    .summary = "train a model from videos and pictures",
    .description =
        "Trains what CONFIG.json says: an object whose keys are those listed below as configuration. The output folder "
        "receives checkpoint.safetensors, model.safetensors, log.jsonl and progress.html; a run that was stopped goes on "
        "from its checkpoint when it is started again. Given on the command line, the same keys override the "
        "configuration's.\n\n"
        "Stages: \"autoencoder\", then \"diffusion\" with that one as \"encoder\", then \"one-step\" with both as "
        "\"encoder\" and \"init\"; or \"one-step\" alone.\n\n"
        "A first signal stops after the step under way and writes a checkpoint.",
    .tables = {own_options, oasis_train_option_rows},
    .run = train_run,
};

static int train_run(int argc, char **argv)
{
    run r = {.report = {.step = 0}};
    oasis_train_options given; /* only to find the words: options on the command line override the configuration's */
    void *objects[] = {&r.s, &given};
    word_list words;
    int code;
    oasis_train_options_init(&given);
    if (!cli_parse(&cli_command_train, objects, argc, argv, &words, &code))
        return code;
    if (words.count != 1) {
        cli_error("train: one configuration is needed: oasis train CONFIG.json");
        return EXIT_USAGE;
    }
    cli_catch_signals();
    oasis_status s = oasis_train_config_open(&r.config, words.text[0], &r.message);
    if (s == OASIS_OK) {
        objects[1] = oasis_train_config_options(r.config);
        cli_parse(&cli_command_train, objects, argc, argv, &words, &code);
        s = open_all(&r);
    }
    if (s == OASIS_OK && !r.s.dry_run)
        s = train(&r);
    code = s < 0 ? code_of(s) : EXIT_DONE;
    if (s < 0)
        cli_error("%s", r.message.text);
    if (r.s.json)
        code = print_report(&r, s, code);
    oasis_trainer_close(&r.trainer);
    oasis_dataset_close(&r.dataset);
    oasis_train_config_close(&r.config);
    return code == EXIT_DONE && cli_signal() ? 128 + cli_signal() : code;
}
