/* What a file is: a model (sizes, routing, licence) or a video or picture (everything that matters for upscaling). */
#include "cli.h"

#include <oasis/convert.h>

#include <string.h>

enum { PATH_SIZE = 4096 };

typedef struct settings {
    bool json, verify;
    const char *model_dir, *decoder;
} settings;

static const oasis_option rows[] = {
    {"json", 0, NULL, OASIS_OPTION_FLAG, offsetof(settings, json), 0, 0, NULL, NULL, "false", "print one JSON object",
     "Options"},
    {"verify", 0, NULL, OASIS_OPTION_FLAG, offsetof(settings, verify), 0, 0, NULL, NULL, "false",
     "compare a model with the digest that it carries", "Options"},
    {"decoder", 0, NULL, OASIS_OPTION_TEXT, offsetof(settings, decoder), 0, 0, NULL, "NAME|PATH", NULL,
     "describe the model with the decoder of this file", "Options"},
    {"model-dir", 0, NULL, OASIS_OPTION_TEXT, offsetof(settings, model_dir), 0, 0, NULL, "DIR", NULL,
     "look for models by name in this folder first", "Options"},
    {.name = NULL},
};

static const oasis_option *own_options(void)
{
    return rows;
}

/* safetensors begin with the length of a JSON header, 8 bytes, and the header.  FILE may be the name of a model too. */
static bool is_model(const char *path)
{
    unsigned char head[9] = {0};
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(head, 1, sizeof head, file) : 0;
    if (file)
        fclose(file);
    else
        return !strpbrk(path, "/.%") && strcmp(path, "-") != 0;
    size_t length = strlen(path);
    return (n == sizeof head && head[8] == '{' && head[5] == 0 && head[6] == 0 && head[7] == 0) ||
           (length > 12 && strcmp(path + length - 12, ".safetensors") == 0);
}

/* One row per layer, one letter per head. */
static void print_routing(const char *text)
{
    static const struct {
        char letter;
        const char *meaning;
    } kinds[] = {{'g', "global"}, {'i', "own frame"}, {'w', "window"}};
    int counts[3] = {0, 0, 0}, heads = 0;
    printf("routing:          layer  heads (g = global, i = own frame, w = window)\n");
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        int layer;
        char letters[256];
        if (sscanf(line, "route %d %255s", &layer, letters) != 2)
            continue;
        printf("                  %5d  %s\n", layer, letters);
        for (const char *p = letters; *p; p++, heads++)
            for (int k = 0; k < 3; k++)
                counts[k] += *p == kinds[k].letter;
    }
    printf("                  of %d heads", heads);
    for (int k = 0; k < 3; k++)
        printf("%s %d %s", k ? "," : "", counts[k], kinds[k].meaning);
    printf("\n");
}

static void print_model(const oasis_model_info *m, const char *path)
{
    printf("model:            %s\n", m->name[0] ? m->name : "(no name)");
    printf("file:             %s\n", path);
    printf("licence:          %s\n", m->license[0] ? m->license : "not stated");
    printf("parameters:       %s, of these %s in the decoder\n", cli_count((double)m->parameters).text,
           cli_count((double)m->decoder_parameters).text);
    printf("weights:          %s, mostly %s\n", cli_bytes(m->weight_bytes).text, m->weights);
    printf("transformer:      %d layers, %d heads, width %d, feed-forward %d, %d latent channels\n", m->num_layers,
           m->num_heads, m->dim, m->ffn_dim, m->latent_channels);
    printf("step:             one, sigma %g\n", (double)m->sigma);
    printf("decoder:          %s\n", m->decoder);
    if (m->trained_frames)
        printf("trained on:       %d frames of %dx%d pixels\n", m->trained_frames, m->trained_width, m->trained_height);
    print_routing(m->routing);
}

static void print_media(const oasis_media_info *m, const char *path)
{
    static const char *const kinds[] = {"video", "sequence of pictures", "picture"};
    printf("file:             %s\n", path);
    printf("kind:             %s, %s, %s\n", kinds[m->kind], m->container, m->codec);
    printf("size:             %dx%d", m->width, m->height);
    if (m->rotation)
        printf(", shown turned by %d degrees", m->rotation);
    if (m->sar_num != m->sar_den)
        printf(", pixels %d:%d", m->sar_num, m->sar_den);
    printf("%s\n", m->interlaced ? ", interlaced" : "");
    printf("pixels:           %s, %d bits%s\n", m->pixel_format, m->bit_depth, m->alpha ? ", with alpha" : "");
    printf("colour:           matrix %s, range %s, primaries %s, transfer %s, chroma %s\n", m->color_space,
           m->color_range, m->color_primaries, m->color_transfer, m->chroma_location);
    if (m->color_note[0])
        printf("assumed:          %s\n", m->color_note);
    if (m->kind != OASIS_INPUT_PICTURE) {
        printf("length:           ");
        if (m->frames)
            printf("about %lld frames", (long long)m->frames);
        else
            printf("unknown number of frames");
        if (m->duration > 0)
            printf(", %s", cli_duration(m->duration).text);
        if (m->fps > 0)
            printf(", %.6g frames/s%s", m->fps, m->variable_rate ? " on average, variable" : "");
        printf("\n");
    }
    printf("streams:          %d video, %d audio, %d subtitle, %d data, %d attachments, %d chapters\n", m->n_video,
           m->n_audio, m->n_subtitle, m->n_data, m->n_attachment, m->n_chapters);
}

static oasis_status info_of_model(const settings *s, const char *name, json_t *report, oasis_message *message)
{
    oasis_model *model = NULL;
    oasis_model_info info;
    char path[PATH_SIZE];
    oasis_status status = cli_open_model(&model, name, s->model_dir, path, sizeof path, message);
    if (status == OASIS_OK)
        status = cli_set_decoder(model, s->decoder, s->model_dir, message);
    if (status < 0) {
        oasis_model_close(&model);
        return status;
    }
    oasis_model_describe(model, &info);
    if (s->verify && (status = oasis_model_verify(path, message)) < 0) {
        oasis_model_close(&model);
        return status;
    }
    if (s->verify && report)
        json_object_set_new(report, "verified", json_true());
    else if (s->verify)
        printf("verified:         the file is as it was written\n");
    if (report)
        json_object_set_new(report, "model", cli_json_model(&info, path));
    else
        print_model(&info, path);
    oasis_model_close(&model);
    return OASIS_OK;
}

/* Whether the file is a decoder and nothing else. */
static bool is_decoder(const char *path, oasis_decoder_info *info)
{
    oasis_message unheard;
    return oasis_decoder_describe(path, info, &unheard) == OASIS_OK && info->alone;
}

static oasis_status info_of_decoder(const settings *s, const char *path, const oasis_decoder_info *d, json_t *report,
                                    oasis_message *message)
{
    oasis_status status = s->verify ? oasis_model_verify(path, message) : OASIS_OK;
    if (status < 0)
        return status;
    if (report) {
        json_t *o = json_pack("{s:o, s:o, s:o, s:o, s:I, s:I, s:i}", "path", cli_json_text(path), "name",
                              cli_json_text(d->name), "license", cli_json_text(d->license), "decoder",
                              cli_json_text(d->kind), "parameters", (json_int_t)d->parameters, "weight_bytes",
                              (json_int_t)d->bytes, "latent_channels", d->latent_channels);
        json_object_set_new(report, "decoder", o);
        if (s->verify)
            json_object_set_new(report, "verified", json_true());
        return OASIS_OK;
    }
    if (s->verify)
        printf("verified:         the file is as it was written\n");
    printf("decoder:          %s, for --decoder\n", d->kind);
    printf("file:             %s\n", path);
    printf("name:             %s\n", d->name[0] ? d->name : "(no name)");
    printf("licence:          %s\n", d->license[0] ? d->license : "not stated");
    printf("parameters:       %s, %s\n", cli_count((double)d->parameters).text, cli_bytes(d->bytes).text);
    printf("latents:          %d channels, %s\n", d->latent_channels,
           d->normalised ? "with known mean and deviation" : "taken as they come");
    return OASIS_OK;
}

static oasis_status info_of_media(const char *path, json_t *report, oasis_message *message)
{
    oasis_reader *reader = NULL;
    oasis_media_info info;
    oasis_reader_options options;
    oasis_reader_options_init(&options);
    options.deinterlace = true; /* so that interlaced input can be described too */
    oasis_status status = oasis_reader_open(&reader, path, &options, message);
    if (status < 0)
        return status;
    oasis_reader_info(reader, &info);
    if (report) {
        json_t *media = cli_json_media(&info);
        json_object_set_new(media, "path", cli_json_text(path));
        json_object_set_new(report, "media", media);
    } else {
        print_media(&info, path);
    }
    oasis_reader_close(&reader);
    return OASIS_OK;
}

static int run_info(int argc, char **argv)
{
    settings s = {.json = false};
    void *objects[] = {&s};
    word_list words;
    int code;
    const command *c = cli_find_command("info");
    if (!cli_parse(c, objects, argc, argv, &words, &code))
        return code;
    if (words.count < 1) {
        cli_error("which file? usage: oasis info %s", c->words);
        return EXIT_USAGE;
    }
    const char *file = words.text[0];
    oasis_decoder_info d;
    bool decoder = is_decoder(file, &d), model = decoder || is_model(file);
    json_t *report = s.json ? cli_json_new("info") : NULL;
    oasis_message message = {""};
    oasis_status status = decoder ? info_of_decoder(&s, file, &d, report, &message)
                          : model ? info_of_model(&s, file, report, &message)
                                  : info_of_media(file, report, &message);
    code = status >= 0 ? EXIT_DONE : status == OASIS_E_MEMORY ? EXIT_MACHINE : model ? EXIT_MODEL : EXIT_INPUT;
    if (status < 0) {
        cli_error("%s", message.text);
        if (report)
            json_object_set_new(report, "error", cli_json_error(status, message.text, code));
    }
    if (s.json && cli_json_print(report) != EXIT_DONE && code == EXIT_DONE)
        return EXIT_FAILED;
    return code;
}

const command cli_command_info = {
    .name = "info",
    .words = "FILE",
    .max_words = 1,
    .summary = "describe a model, a decoder, a video or a picture",
    .description = "Describes FILE: a model (by path or by name) with its sizes, routing and licence, a decoder, or a video, a "
                   "folder of pictures or a picture with all that matters for upscaling it.",
    .tables = {own_options},
    .run = run_info,
};
