/* oasis profile: measures the heads of a model on clips, deals them out, and writes the model with its routing. */
#include "cli.h"

#include <oasis/train.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 4096 };

typedef struct settings {
    oasis_profile_options profile;
    const char *output, *routing, *plot;
    oasis_text_list clips;
    int frames;
    double scale;
    bool json;
} settings;

#define OWN(f) offsetof(settings, f)

static const oasis_option rows[] = {
    {"output", 'o', NULL, OASIS_OPTION_TEXT, OWN(output), 0, 0, NULL, "FILE", NULL, "write the model with the new routing",
     "Files"},
    {"routing", 0, NULL, OASIS_OPTION_TEXT, OWN(routing), 0, 0, NULL, "FILE", NULL,
     "write the new routing alone, as text for train and convert", "Files"},
    {"plot", 0, NULL, OASIS_OPTION_TEXT, OWN(plot), 0, 0, NULL, "FILE.svg", NULL, "draw heads by layers", "Files"},
    {"clip", 'i', NULL, OASIS_OPTION_LIST, OWN(clips), 0, 0, NULL, "PATH", NULL,
     "another clip; may be given more than once", "Files"},
    {"frames", 0, NULL, OASIS_OPTION_INT, OWN(frames), 1, 1025, NULL, "N", "17", "frames of a clip", "Measuring"},
    {"scale", 's', NULL, OASIS_OPTION_NUMBER, OWN(scale), 1, 16, NULL, "X", "4", "how much clips are enlarged", "Measuring"},
    {"json", 0, NULL, OASIS_OPTION_FLAG, OWN(json), 0, 0, NULL, NULL, "false", "print one JSON object", "Messages"},
    {.name = NULL},
};

static const oasis_option *own_options(void)
{
    return rows;
}

/* Reads up to n frames; returns how many, or -1 after saying why not. */
static int read_clip(const char *path, oasis_frame *frames, int n)
{
    oasis_reader_options o;
    oasis_reader *r = NULL;
    oasis_message why;
    oasis_reader_options_init(&o);
    o.deinterlace = true;
    if (oasis_reader_open(&r, path, &o, &why) < 0) {
        cli_error("%s", why.text);
        return -1;
    }
    int count = 0;
    oasis_status s = OASIS_OK;
    while (count < n && (s = oasis_reader_read(r, &frames[count])) == OASIS_OK)
        count++;
    if (s < 0 || count == 0) {
        cli_error("%s: %s", path, s < 0 ? oasis_reader_message(r) : "no frames");
        while (count > 0)
            oasis_frame_free(&frames[--count]);
        count = -1;
    }
    oasis_reader_close(&r);
    return count;
}

static int add_clip(oasis_profiler *p, const settings *s, const char *path)
{
    oasis_message why;
    oasis_frame *frames = calloc((size_t)s->frames, sizeof *frames);
    int n = frames ? read_clip(path, frames, s->frames) : -1, code = EXIT_DONE;
    if (n < 0)
        code = frames ? EXIT_INPUT : EXIT_MACHINE;
    else if (oasis_profiler_add(p, frames, n, s->scale, &why) < 0) {
        cli_error("%s: %s", path, why.text);
        code = EXIT_INPUT;
    }
    for (int i = 0; i < n; i++)
        oasis_frame_free(&frames[i]);
    free(frames);
    return code;
}

static int print_json(const oasis_head_profile *heads, int layers, int per_layer, double stability)
{
    json_t *o = cli_json_new("profile"), *list = json_array();
    if (!o)
        return EXIT_FAILED;
    for (int i = 0; i < layers * per_layer; i++) {
        const char kind[2] = {heads[i].kind, 0};
        json_array_append_new(list, json_pack("{s:i, s:i, s:s, s:f, s:f, s:f, s:f}", "layer", i / per_layer, "head",
                                              i % per_layer, "kind", kind, "intra", heads[i].intra, "window",
                                              heads[i].window, "sd_intra", heads[i].sd_intra, "sd_window",
                                              heads[i].sd_window));
    }
    json_object_set_new(o, "heads", list);
    json_object_set_new(o, "stability", stability < 0 ? json_null() : json_real(stability));
    return cli_json_print(o);
}

static void print_table(const oasis_head_profile *heads, int layers, int per_layer, double stability, int clips)
{
    int counts[3] = {0, 0, 0};
    printf("layer head kind  D intra (sd)      D window (sd)\n");
    for (int i = 0; i < layers * per_layer; i++) {
        printf("%5d %4d    %c  %7.4f (%.4f)  %7.4f (%.4f)\n", i / per_layer, i % per_layer, heads[i].kind, heads[i].intra,
               heads[i].sd_intra, heads[i].window, heads[i].sd_window);
        counts[heads[i].kind == 'g' ? 0 : heads[i].kind == 'i' ? 1 : 2]++;
    }
    printf("%d heads on %d clips: %d global, %d own frame, %d window\n", layers * per_layer, clips, counts[0], counts[1],
           counts[2]);
    if (stability >= 0)
        printf("stability: both halves of the clips agree on %.0f %% of the heads\n", 100 * stability);
}

static int report(oasis_profiler *p, const settings *s)
{
    int layers, per_layer, clips;
    double stability;
    oasis_message why;
    oasis_profiler_size(p, &layers, &per_layer, &clips);
    oasis_head_profile *heads = calloc((size_t)(layers * per_layer), sizeof *heads);
    if (!heads)
        return EXIT_MACHINE;
    oasis_status status = oasis_profiler_assign(p, heads, &stability, &why);
    if (status == OASIS_OK && s->output)
        status = oasis_profiler_write(p, s->output, &why);
    if (status == OASIS_OK && s->routing)
        status = oasis_profiler_write_routing(p, s->routing, &why);
    if (status == OASIS_OK && s->plot)
        status = oasis_profiler_plot(p, s->plot, &why);
    int code = EXIT_DONE;
    if (status < 0) {
        cli_error("%s", why.text);
        code = cli_exit_code(status);
    } else if (s->json) {
        code = print_json(heads, layers, per_layer, stability);
    } else {
        print_table(heads, layers, per_layer, stability, clips);
    }
    free(heads);
    return code;
}

static int profile_run(int argc, char **argv);

const command cli_command_profile = {
    .name = "profile",
    .words = "MODEL CLIP",
    .max_words = 2,
    .summary = "measure attention heads and deal them out to global, own frame and window",
    .description = "Runs MODEL on CLIP and the clips given with -i, of low quality, and measures for each head how much of "
                   "its attention lies in the query's own frame and in a window around it. Then heads are dealt out, and "
                   "the table is printed. With -o the model is written with the new routing, to be trained "
                   "with that; --routing is for starting from other weights of the same shape.",
    .tables = {own_options, oasis_profile_option_rows},
    .run = profile_run,
};

static int profile_run(int argc, char **argv)
{
    settings s = {.frames = 17, .scale = 4};
    void *const objects[] = {&s, &s.profile};
    word_list words;
    int code;
    oasis_profile_options_init(&s.profile);
    if (!cli_parse(&cli_command_profile, objects, argc, argv, &words, &code))
        return code;
    if (words.count != 2) {
        cli_error("profile: a model and a clip are needed: oasis profile MODEL CLIP");
        return EXIT_USAGE;
    }
    char path[PATH_SIZE];
    oasis_message why;
    oasis_model *model = NULL;
    oasis_status status = cli_open_model(&model, words.text[0], NULL, path, sizeof path, &why);
    oasis_model_close(&model);
    oasis_profiler *p = NULL;
    if (status == OASIS_OK)
        status = oasis_profiler_open(&p, path, &s.profile, &why);
    if (status < 0) {
        cli_error("%s", why.text);
        return status == OASIS_E_ARGUMENT ? EXIT_USAGE : EXIT_MODEL;
    }
    code = add_clip(p, &s, words.text[1]);
    for (int i = 0; i < s.clips.count && code == EXIT_DONE; i++)
        code = add_clip(p, &s, s.clips.text[i]);
    if (code == EXIT_DONE)
        code = report(p, &s);
    oasis_profiler_close(&p);
    return code;
}
