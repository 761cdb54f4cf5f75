/* convert: published checkpoints to a model file. */
#include "cli.h"

#include <oasis/convert.h>

typedef struct settings {
    bool json, quiet;
    oasis_text_list clips;
} settings;

static const oasis_option rows[] = {
    {"clip", 0, NULL, OASIS_OPTION_LIST, offsetof(settings, clips), 0, 0, NULL, "FILE", NULL,
     "good video whose first 17 frames help to fit the first layer to the encoder; may be given again and again", "Input"},
    {"json", 0, NULL, OASIS_OPTION_FLAG, offsetof(settings, json), 0, 0, NULL, NULL, "false", "print one JSON object",
     "Messages"},
    {"quiet", 'q', NULL, OASIS_OPTION_FLAG, offsetof(settings, quiet), 0, 0, NULL, NULL, "false", "no progress",
     "Messages"},
    {.name = NULL},
};

static const oasis_option *own_options(void)
{
    return rows;
}

typedef struct watcher {
    const oasis_text_list *clips;
    bool quiet;
    int shown; /* percent */
} watcher;

static bool show(void *user, double done)
{
    watcher *w = user;
    int percent = (int)(100 * done);
    if (!w->quiet && percent != w->shown)
        fprintf(stderr, "\rwriting: %3d %%%s", percent, percent == 100 ? "\n" : "");
    w->shown = percent;
    return cli_signal() == 0;
}

/* Reads the beginning of clip `index`. */
static oasis_status read_clip(void *user, int index, oasis_frame *frames, int *count, oasis_message *message)
{
    const watcher *w = user;
    oasis_reader *reader = NULL;
    *count = 0;
    if (index >= w->clips->count)
        return OASIS_OK;
    if (cli_signal())
        return OASIS_E_CANCELLED;
    oasis_status status = oasis_reader_open(&reader, w->clips->text[index], NULL, message);
    while (status == OASIS_OK && *count < OASIS_CLIP_FRAMES) {
        status = oasis_reader_read(reader, &frames[*count]);
        if (status == OASIS_OK)
            ++*count;
    }
    if (reader && status < 0)
        snprintf(message->text, sizeof message->text, "%s", oasis_reader_message(reader));
    oasis_reader_close(&reader);
    return status < 0 ? status : OASIS_OK;
}

static json_t *report_json(const oasis_convert_report *r, const char *path)
{
    json_t *j = cli_json_new("convert");
    json_object_set_new(j, "path", cli_json_text(path));
    json_object_set_new(j, "parameters", json_integer(r->parameters));
    json_object_set_new(j, "bytes", json_integer(r->bytes));
    json_object_set_new(j, "tensors", json_integer(r->tensors));
    json_object_set_new(j, "num_layers", json_integer(r->num_layers));
    json_object_set_new(j, "num_heads", json_integer(r->num_heads));
    json_object_set_new(j, "dim", json_integer(r->dim));
    json_object_set_new(j, "ffn_dim", json_integer(r->ffn_dim));
    json_object_set_new(j, "text", cli_json_text(r->text));
    json_t *explained = json_array();
    for (int i = 0; i < 16; i++)
        json_array_append_new(explained, cli_json_number(r->explained[i]));
    json_object_set_new(j, "explained", explained);
    return j;
}

static int run_convert(int argc, char **argv)
{
    settings s = {.json = false};
    oasis_convert_options options;
    oasis_convert_report report;
    oasis_message message = {""};
    oasis_convert_options_init(&options);
    void *objects[] = {&options, &s};
    word_list words;
    int code;
    const command *c = cli_find_command("convert");
    if (!cli_parse(c, objects, argc, argv, &words, &code))
        return code;
    if (words.count < 1) {
        cli_error("which file is to be written? usage: oasis convert %s", c->words);
        return EXIT_USAGE;
    }
    watcher w = {.clips = &s.clips, .quiet = s.quiet || s.json, .shown = -1};
    options.progress = show;
    options.user = &w;
    if (s.clips.count > 0)
        options.clip = read_clip;
    cli_catch_signals();
    oasis_status status = oasis_convert(words.text[0], &options, &report, &message);
    if (status < 0) {
        cli_error("%s", message.text);
        code = status == OASIS_E_ARGUMENT  ? EXIT_USAGE
               : status == OASIS_E_FORMAT || status == OASIS_E_UNSUPPORTED ? EXIT_MODEL
                                                                           : cli_exit_code(status);
        if (cli_signal())
            code = 128 + cli_signal();
        if (s.json) {
            json_t *j = cli_json_new("convert");
            json_object_set_new(j, "error", cli_json_error(status, message.text, code));
            cli_json_print(j);
        }
        return code;
    }
    if (s.json)
        return cli_json_print(report_json(&report, words.text[0]));
    printf("%s: %d tensors, %s parameters, %s; %d layers of width %d in %d heads, text: %s\n", words.text[0],
           report.tensors, cli_count((double)report.parameters).text, cli_bytes(report.bytes).text, report.num_layers,
           report.dim, report.num_heads, report.text);
    for (int i = 0; i < 16 && s.clips.count > 0; i++)
        printf("%s%.2f%s", i ? " " : "variance of the latents that the first layer explains: ", report.explained[i],
               i == 15 ? "\n" : "");
    return EXIT_DONE;
}

const command cli_command_convert = {
    .name = "convert",
    .words = "OUT",
    .max_words = 1,
    .summary = "make a model file of Wan2.1 checkpoints",
    .description =
        "Reads a Wan2.1 text-to-video transformer and the video autoencoder, in the original layout or that of diffusers, "
        "from safetensors (single or sharded), PyTorch .pth or GGUF files, and writes the model file OUT.\n\n"
        "Every tensor must be accounted for: one that is missing, left over or of another shape is named. The text branch "
        "becomes what an empty prompt makes of it, one constant vector per block, or cross-attention to a fixed --prompt. "
        "The new file restores nothing yet: its first layer has never seen a picture. Train it, or measure with it.",
    .tables = {oasis_convert_option_rows, own_options},
    .run = run_convert,
};
