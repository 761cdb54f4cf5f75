/* oasis train --dry-run: parameters, memory, work and time of a configuration, and what to change where it does not fit. */
#include "train_cost.h"

#include "cli.h"

#include <oasis/dataset.h>
#include <string.h>
#include <unistd.h>

static double gib(int64_t bytes)
{
    return (double)bytes / (1024. * 1024. * 1024.);
}

void cli_cost_line(const oasis_train_cost *c)
{
    fprintf(stderr,
            "memory: %.2f GiB: weights %.2f, gradients %.2f, moments %.2f, average %.2f, a pass %.2f, clips %.2f\n"
            "compute: %s, %d threads, %.1f GFLOP a step\n",
            gib(c->total_bytes), gib(c->weight_bytes), gib(c->gradient_bytes), gib(c->moment_bytes),
            gib(c->average_bytes), gib(c->activation_bytes), gib(c->clip_bytes), c->bf16 ? "bf16" : "fp32", c->threads,
            c->flops * 1e-9);
}

/* A change that needs less memory. */
typedef struct variant {
    const char *change;
    oasis_train_options options;
    oasis_train_cost cost;
} variant;

enum { VARIANTS = 5, FROZEN = VARIANTS - 1 };

static bool fits(const oasis_train_cost *c)
{
    return c->total_bytes <= c->available_bytes;
}

/* As it is; blocks computed twice; clips one at a time; both; and without the transformer's blocks.  Returns how many. */
static int plan_variants(const oasis_train_options *o, variant *v, oasis_status *status, oasis_message *message)
{
    int n = 0;
    *status = OASIS_OK;
    for (int i = 0; i < VARIANTS && *status == OASIS_OK; i++) {
        bool twice = i & 1, single = i & 2, frozen = i == FROZEN;
        if ((twice && o->checkpointing) || (single && o->batch == 1) || (frozen && o->freeze.count == OASIS_MAX_LIST))
            continue;
        static const char *const changes[VARIANTS] = {"as configured", "\"checkpointing\": true", "one clip a pass",
                                                      "one clip a pass, \"checkpointing\": true",
                                                      "\"freeze\": [\"blocks.\"]: projection, head, decoder"};
        v[n] = (variant){changes[i], *o, {0}};
        v[n].options.checkpointing = o->checkpointing || twice;
        if (frozen)
            v[n].options.freeze.text[v[n].options.freeze.count++] = "blocks.";
        if (single) {
            v[n].options.accumulate = o->accumulate * o->batch;
            v[n].options.batch = 1;
        }
        *status = oasis_train_cost_of(&v[n].options, &v[n].cost, message);
        if (v[0].cost.peak > 0)
            v[n].cost.seconds *= v[n].cost.peak / v[0].cost.peak; /* of one measurement, so that they compare */
        n++;
    }
    return n;
}

/* What is not there yet; the plan does without. */
static int list_missing(const oasis_train_options *o, oasis_message *missing)
{
    const char *const files[] = {o->init, o->encoder, o->routing};
    int n = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (files[i] && access(files[i], F_OK) != 0)
            snprintf(missing[n++].text, sizeof missing->text, "%s: not there yet; planned from the other keys",
                     files[i]);
    oasis_dataset *data = NULL;
    if (oasis_dataset_open(&data, o, &missing[n]) < 0)
        n++;
    oasis_dataset_close(&data);
    return n;
}

static void print_duration(const char *name, double seconds)
{
    if (seconds <= 0)
        printf("%-26s not known on a GPU\n", name);
    else if (seconds < 600)
        printf("%-26s %.3g s\n", name, seconds);
    else if (seconds < 48 * 3600.)
        printf("%-26s %.1f hours\n", name, seconds / 3600);
    else
        printf("%-26s %.1f days\n", name, seconds / 86400);
}

static void print_table(const oasis_train_options *o, const variant *v, int n, const oasis_message *missing,
                        int n_missing)
{
    const oasis_train_cost *c = &v[0].cost;
    printf("%-26s %.2f M, of these trained %.2f M\n", "parameters", (double)c->parameters * 1e-6,
           (double)c->trained * 1e-6);
    printf("%-26s %d of %d frames, %dx%d pixels\n", "clips of a pass", o->batch, o->frames, o->width, o->height);
    const struct {
        const char *name;
        int64_t bytes;
    } rows[] = {{"memory of weights", c->weight_bytes}, {"    gradients", c->gradient_bytes},
                {"    moments", c->moment_bytes},       {"    average", c->average_bytes},
                {"    a pass", c->activation_bytes},    {"    clips", c->clip_bytes},
                {"    in all", c->total_bytes},         {"    free here", c->available_bytes}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        printf("%-26s %.2f GiB\n", rows[i].name, gib(rows[i].bytes));
    printf("%-26s %.1f GFLOP: dense %.1f, convolutions %.1f, attention %.1f; and %.2f GB moved\n", "work of a step",
           c->flops * 1e-9, c->dense * 1e-9, c->conv * 1e-9, c->attention * 1e-9, c->moved * 1e-9);
    printf("%-26s %s, %d threads, %.0f GFLOP/s at most\n", "this machine", c->bf16 ? "bf16" : "fp32", c->threads,
           c->peak * 1e-9);
    print_duration("time of a step, about", c->seconds);
    printf("%-26s %lld\n", "steps", (long long)o->steps);
    print_duration("time of the run, about", c->seconds * (double)o->steps);
    printf("\nfits                                                    memory   time of a step\n");
    for (int i = 0; i < n; i++)
        printf("%-4s %-44s %8.2f GiB %12.4g s\n", fits(&v[i].cost) ? "yes" : "no", v[i].change,
               gib(v[i].cost.total_bytes), v[i].cost.seconds);
    bool any = false;
    for (int i = 0; i < n; i++)
        any = any || fits(&v[i].cost);
    if (!any)
        printf("nothing of this fits here: fewer \"layers\", smaller clips, or a machine with more memory\n");
    for (int i = 0; i < n_missing; i++)
        printf("missing: %s\n", missing[i].text);
}

static json_t *cost_json(const oasis_train_cost *c)
{
    json_t *o = json_object();
    const struct {
        const char *name;
        int64_t value;
    } counts[] = {{"parameters", c->parameters},
                  {"trained_parameters", c->trained},
                  {"weight_bytes", c->weight_bytes},
                  {"gradient_bytes", c->gradient_bytes},
                  {"moment_bytes", c->moment_bytes},
                  {"average_bytes", c->average_bytes},
                  {"activation_bytes", c->activation_bytes},
                  {"clip_bytes", c->clip_bytes},
                  {"total_bytes", c->total_bytes},
                  {"available_bytes", c->available_bytes},
                  {"threads", c->threads}};
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"flops_per_step", c->flops},      {"dense_flops", c->dense}, {"conv_flops", c->conv},
                   {"attention_flops", c->attention}, {"bytes_moved", c->moved}, {"peak_flops_per_second", c->peak},
                   {"seconds_per_step", c->seconds}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(o, counts[i].name, json_integer(counts[i].value));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        json_object_set_new(o, numbers[i].name, cli_json_number(numbers[i].value));
    json_object_set_new(o, "type", json_string(c->bf16 ? "bf16" : "fp32"));
    json_object_set_new(o, "fits", json_boolean(fits(c)));
    return o;
}

static oasis_status print_json(const oasis_train_options *o, const variant *v, int n, const oasis_message *missing,
                               int n_missing)
{
    json_t *report = cli_json_new("train"), *plan = cost_json(&v[0].cost), *others = json_array(), *list = json_array();
    json_object_set_new(plan, "steps", json_integer(o->steps));
    json_object_set_new(plan, "seconds", cli_json_number(v[0].cost.seconds * (double)o->steps));
    for (int i = 1; i < n; i++) {
        json_t *other = cost_json(&v[i].cost);
        json_object_set_new(other, "change", json_string(v[i].change));
        json_array_append_new(others, other);
    }
    for (int i = 0; i < n_missing; i++)
        json_array_append_new(list, json_string(missing[i].text));
    json_object_set_new(report, "plan", plan);
    json_object_set_new(report, "variants", others);
    json_object_set_new(report, "missing", list);
    return cli_json_print(report) == EXIT_DONE ? OASIS_OK : OASIS_E_IO;
}

oasis_status cli_cost_print(const oasis_train_options *o, bool json, oasis_message *message)
{
    variant v[VARIANTS];
    oasis_message missing[4];
    oasis_status s;
    int n = plan_variants(o, v, &s, message);
    if (s < 0)
        return s;
    int n_missing = list_missing(o, missing);
    if (json)
        return print_json(o, v, n, missing, n_missing);
    print_table(o, v, n, missing, n_missing);
    return OASIS_OK;
}
