/*
 * Means over clips of what `oasis eval --json` wrote, as a table in Markdown and as one JSON object.
 *
 *     figures OUT.json < LIST          lines of the list: GROUP MODEL CLIP FILE, without spaces in the first three; of
 *                                      several files of a clip each adds what it has
 *
 * OUT.json: {GROUP: {MODEL: {"clips": {CLIP: {METRIC: mean}}, "mean": {METRIC: mean}}}}
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct column {
    const char *name, *head, *format;
} column;

static const column columns[] = {
    {"psnr_rgb", "PSNR RGB", "%.2f"},
    {"psnr_luma", "PSNR luma", "%.2f"},
    {"ssim", "SSIM", "%.4f"},
    {"ms_ssim", "MS-SSIM", "%.4f"},
    {"squeezenet", "features", "%.3f"},
    {"ewarp", "E_warp", "%.2f"},
    {"tof", "tOF", "%.3f"},
    {"sharpness", "sharpness", "%.2f"},
    {"niqe", "NIQE", "%.2f"},
    {"niqe_own", "NIQE (own)", "%.2f"},
    {"grid_2", "grid 2", "%.3f"},
    {"grid_4", "grid 4", "%.3f"},
    {"grid_8", "grid 8", "%.3f"},
    {"grid_16", "grid 16", "%.3f"},
};

enum { COLUMNS = sizeof columns / sizeof *columns };

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "figures: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

/* The object under `key`, made when it is missing. */
static json_t *inside(json_t *object, const char *key)
{
    json_t *found = json_object_get(object, key);
    if (!found && json_object_set_new(object, key, json_object()) == 0)
        found = json_object_get(object, key);
    return found;
}

static bool add_file(json_t *all, const char *group, const char *model, const char *clip, const char *path)
{
    json_error_t error;
    json_t *report = json_load_file(path, 0, &error);
    const json_t *metrics = json_object_get(report, "metrics");
    json_t *to = inside(inside(inside(inside(all, group), model), "clips"), clip);
    for (int i = 0; i < COLUMNS; i++) {
        json_t *mean = json_object_get(json_object_get(metrics, columns[i].name), "mean");
        if (json_is_number(mean))
            json_object_set(to, columns[i].name, mean);
    }
    bool fine = metrics != NULL;
    json_decref(report);
    return fine;
}

/* Sets "mean" of a model; columns that a clip lacks are left out. */
static void add_means(json_t *model)
{
    json_t *clips = json_object_get(model, "clips"), *mean = inside(model, "mean"), *clip;
    for (int i = 0; i < COLUMNS; i++) {
        double sum = 0;
        size_t n = 0;
        const char *name;
        json_object_foreach(clips, name, clip)
        {
            const json_t *value = json_object_get(clip, columns[i].name);
            sum += json_number_value(value);
            n += json_is_number(value);
        }
        if (n > 0 && n == json_object_size(clips))
            json_object_set_new(mean, columns[i].name, json_real(sum / (double)n));
    }
}

/* Whether any of the models has it. */
static bool is_measured(json_t *models, const char *metric)
{
    const char *name;
    json_t *model;
    json_object_foreach(models, name, model) if (json_object_get(json_object_get(model, "mean"), metric)) return true;
    return false;
}

static void print_group(const char *group, json_t *models)
{
    const char *name;
    json_t *model;
    json_object_foreach(models, name, model) add_means(model);
    printf("\n%s\n\n| |", group);
    for (int i = 0; i < COLUMNS; i++)
        if (is_measured(models, columns[i].name))
            printf(" %s |", columns[i].head);
    printf("\n|---|");
    for (int i = 0; i < COLUMNS; i++)
        if (is_measured(models, columns[i].name))
            printf("---|");
    printf("\n");
    json_object_foreach(models, name, model)
    {
        printf("| %s |", name);
        for (int i = 0; i < COLUMNS; i++) {
            const json_t *value = json_object_get(json_object_get(model, "mean"), columns[i].name);
            char text[32] = "";
            if (value)
                snprintf(text, sizeof text, columns[i].format, json_number_value(value));
            if (is_measured(models, columns[i].name))
                printf(" %s |", text);
        }
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    char group[64], model[64], clip[256], path[1024];
    const char *name;
    json_t *all = json_object(), *models;
    if (argc != 2 || !all)
        return fail("usage", "figures OUT.json < LIST");
    while (scanf("%63s %63s %255s %1023[^\n]", group, model, clip, path) == 4)
        if (!add_file(all, group, model, clip, path)) {
            json_decref(all);
            return fail(path, "is no report of `oasis eval --json`");
        }
    json_object_foreach(all, name, models) print_group(name, models);
    int failed = json_dump_file(all, argv[1], JSON_INDENT(2));
    json_decref(all);
    return failed ? fail(argv[1], "cannot be written") : EXIT_SUCCESS;
}
