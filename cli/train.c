/*
 * oasis train: a configuration to a model.  Runs the trainer over clips from the configuration's files, tells how it goes,
 * and stops between two steps when a signal comes, with a checkpoint.
 */
#include "cli.h"
#include "launch.h"
#include "train_cost.h"

#include <oasis/dataset.h>
#include <oasis/train.h>
#include <string.h>

typedef struct settings {
    bool dry_run, json, quiet;
} settings;

static const oasis_option rows[] = {
    {"dry-run", 0, NULL, OASIS_OPTION_FLAG, offsetof(settings, dry_run), 0, 0, NULL, NULL, "false",
     "print parameters, memory, work and time, what would fit, and stop; files need not be there yet", "Messages"},
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
    cli_ranks ranks;
    device_list devices;
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

/* One of several processes speaks for all. */
static bool is_silent(const run *r)
{
    return r->s.quiet || r->ranks.ranks.rank > 0;
}

static oasis_status open_all(run *r)
{
    const oasis_train_options *o = oasis_train_config_options(r->config);
    oasis_status s = oasis_ranks_agree(&r->ranks.ranks, oasis_dataset_open(&r->dataset, o, &r->message), &r->message);
    if (s < 0)
        return s;
    s = oasis_trainer_open(&r->trainer, o, oasis_dataset_clip, r->dataset, &r->message);
    if (s < 0 || is_silent(r))
        return s;
    oasis_train_cost cost;
    int64_t videos, pictures;
    oasis_trainer_cost(r->trainer, &cost);
    oasis_dataset_count(r->dataset, &videos, &pictures);
    fprintf(stderr, "trained weights: %lld\n", (long long)cost.trained);
    cli_cost_line(&cost);
    if (r->ranks.ranks.count > 1)
        fprintf(stderr, "processes: %d; the figures are those of one; gradients are added %s\n", r->ranks.ranks.count,
                oasis_trainer_ranks(r->trainer));
    fprintf(stderr, "training data: %lld videos, %lld pictures\nmemory of training data: up to %.0f MiB\n",
            (long long)videos, (long long)pictures, (double)oasis_dataset_memory(r->dataset) / (1024. * 1024.));
    return s;
}

static void tell(const run *r)
{
    const oasis_train_report *p = &r->report;
    const oasis_train_options *o = oasis_train_config_options(r->config);
    if (is_silent(r) || (o->log_every > 0 && p->step % o->log_every != 0 && !p->saved))
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

/* Takes the trainer's sentence. */
static oasis_status failure(run *r, oasis_status s)
{
    snprintf(r->message.text, sizeof r->message.text, "%s", oasis_trainer_message(r->trainer));
    return s;
}

/* Steps until the end, a failure or a signal. */
static oasis_status train(run *r)
{
    const oasis_ranks *ranks = &r->ranks.ranks;
    oasis_status s = OASIS_OK;
    while (s == OASIS_OK) {
        s = oasis_ranks_agree(ranks, cli_signal() ? OASIS_E_CANCELLED : OASIS_OK, &r->message);
        if (s < 0)
            break;
        s = oasis_trainer_step(r->trainer, &r->report);
        if (s == OASIS_OK)
            tell(r);
        s = oasis_ranks_agree(ranks, s < 0 ? failure(r, s) : s, &r->message);
    }
    if (s != OASIS_E_CANCELLED)
        return s;
    if (!is_silent(r))
        fprintf(stderr, "stopped; writing a checkpoint\n");
    s = oasis_trainer_save(r->trainer);
    return s < 0 ? failure(r, s) : s;
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
        "A first signal stops after the step under way and writes a checkpoint.\n\n"
        "Several processes: `mpirun -n 4 oasis train CONFIG.json` trains as one process with four times the batch; \"batch\" "
        "is that of each, and each has a share of the clips. Process 0 alone writes. On GPUs each process of a machine takes "
        "one of its own. On one machine `--device cuda:0,1` starts a process for each device of the list itself, without "
        "MPI.",
    .tables = {own_options, oasis_train_option_rows},
    .run = train_run,
};

/* A process for each device of a list.  OASIS_END in the process that has started them, when they have ended. */
static oasis_status launch(run *r, int *code)
{
    oasis_train_options *o = oasis_train_config_options(r->config);
    oasis_status s = cli_devices(&r->devices, o->device, &r->message);
    if (s < 0 || r->devices.count == 0)
        return s;
    o->device = r->devices.name[0];
    if (r->s.dry_run)
        return OASIS_OK;
    if (r->ranks.ranks.count > 1) {
        snprintf(r->message.text, sizeof r->message.text,
                 "several processes were started, which take a GPU each: say \"device\": \"cuda\", not a list");
        return OASIS_E_ARGUMENT;
    }
    s = cli_launch(&r->ranks, &r->devices, code, &r->message);
    o->device = r->devices.name[r->ranks.ranks.rank];
    if (o->threads == 0)
        o->threads = cli_launch_threads(r->devices.count);
    return s;
}

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
    oasis_status s = cli_ranks_open(&r.ranks, &r.message);
    if (s == OASIS_OK)
        s = oasis_ranks_agree(&r.ranks.ranks, oasis_train_config_open(&r.config, words.text[0], &r.message), &r.message);
    if (s == OASIS_OK) {
        objects[1] = oasis_train_config_options(r.config);
        oasis_train_config_options(r.config)->ranks = &r.ranks.ranks;
        cli_parse(&cli_command_train, objects, argc, argv, &words, &code);
        s = launch(&r, &code);
    }
    if (s == OASIS_END) {
        oasis_train_config_close(&r.config);
        return code;
    }
    bool plans = s == OASIS_OK && r.s.dry_run;
    if (plans)
        s = cli_cost_print(oasis_train_config_options(r.config), r.s.json, &r.message);
    else if (s == OASIS_OK)
        s = open_all(&r);
    if (s == OASIS_OK && !plans)
        s = train(&r);
    code = s < 0 ? code_of(s) : EXIT_DONE;
    if (s < 0 && r.ranks.ranks.rank == 0)
        cli_error("%s", r.message.text);
    if (r.s.json && r.ranks.ranks.rank == 0 && !(plans && s == OASIS_OK))
        code = print_report(&r, s, code);
    oasis_trainer_close(&r.trainer);
    oasis_dataset_close(&r.dataset);
    oasis_train_config_close(&r.config);
    cli_ranks_close(&r.ranks);
    return code == EXIT_DONE && cli_signal() ? 128 + cli_signal() : code;
}
