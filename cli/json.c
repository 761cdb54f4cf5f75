/* What the program prints with --json: one object, keys in snake_case with their unit, null for what is unknown. */
#include "cli.h"

#include <math.h>
#include <string.h>

json_t *cli_json_text(const char *text)
{
    char copy[4096];
    if (!text)
        return json_null();
    json_t *value = json_string(text);
    if (value)
        return value;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *p = copy; *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    return json_string(copy);
}

json_t *cli_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *cli_json_new(const char *command_name)
{
    return json_pack("{s:i, s:s, s:s}", "schema", CLI_JSON_SCHEMA, "command", command_name, "version", oasis_version());
}

/* A count, or null for 0 where that means unknown. */
static json_t *known(int64_t value)
{
    return value > 0 ? json_integer(value) : json_null();
}

json_t *cli_json_media(const oasis_media_info *m)
{
    static const char *const kinds[] = {"video", "pictures", "picture"};
    json_t *color = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "space", cli_json_text(m->color_space), "range",
                              cli_json_text(m->color_range), "primaries", cli_json_text(m->color_primaries), "transfer",
                              cli_json_text(m->color_transfer), "chroma_location", cli_json_text(m->chroma_location),
                              "assumed", cli_json_text(m->color_note));
    json_t *streams =
        json_pack("{s:i, s:i, s:i, s:i, s:i, s:i}", "video", m->n_video, "audio", m->n_audio, "subtitle", m->n_subtitle,
                  "data", m->n_data, "attachment", m->n_attachment, "chapters", m->n_chapters);
    json_t *o = json_pack("{s:s, s:i, s:i, s:i, s:[ii], s:o, s:o, s:o, s:b, s:b, s:i, s:b}", "kind", kinds[m->kind],
                          "width_px", m->width, "height_px", m->height, "rotation_degrees", m->rotation,
                          "sample_aspect_ratio", m->sar_num, m->sar_den, "frames_per_second",
                          m->fps > 0 ? cli_json_number(m->fps) : json_null(), "frames", known(m->frames), "duration_ms",
                          m->duration > 0 ? cli_json_number(m->duration * 1000) : json_null(), "variable_rate",
                          m->variable_rate, "interlaced", m->interlaced, "bit_depth", m->bit_depth, "alpha", m->alpha);
    json_object_set_new(o, "container", cli_json_text(m->container));
    json_object_set_new(o, "codec", cli_json_text(m->codec));
    json_object_set_new(o, "pixel_format", cli_json_text(m->pixel_format));
    json_object_set_new(o, "color", color);
    json_object_set_new(o, "streams", streams);
    return o;
}

/* "route L letters" lines as an array of the letters, by layer. */
static json_t *routes(const char *text)
{
    json_t *array = json_array();
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char letters[256];
        if (sscanf(line, "route %*d %255s", letters) == 1)
            json_array_append_new(array, cli_json_text(letters));
    }
    return array;
}

json_t *cli_json_model(const oasis_model_info *m, const char *path)
{
    json_t *o = json_pack("{s:o, s:o, s:o, s:o, s:I, s:I}", "path", cli_json_text(path), "name", cli_json_text(m->name),
                          "license", cli_json_text(m->license), "decoder", cli_json_text(m->decoder), "parameters",
                          (json_int_t)m->parameters, "decoder_parameters", (json_int_t)m->decoder_parameters);
    json_t *sizes = json_pack("{s:i, s:i, s:i, s:i, s:i}", "layers", m->num_layers, "heads", m->num_heads, "dim",
                              m->dim, "ffn_dim", m->ffn_dim, "latent_channels", m->latent_channels);
    json_object_set_new(o, "transformer", sizes);
    json_object_set_new(o, "weights", cli_json_text(m->weights));
    json_object_set_new(o, "weight_bytes", json_integer(m->weight_bytes));
    json_object_set_new(o, "sigma", cli_json_number(round((double)m->sigma * 1e6) / 1e6));
    json_object_set_new(o, "trained_frames", known(m->trained_frames));
    json_object_set_new(o, "trained_height_px", known(m->trained_height));
    json_object_set_new(o, "trained_width_px", known(m->trained_width));
    json_object_set_new(o, "routes", routes(m->routing));
    return o;
}

json_t *cli_json_plan(const oasis_plan *p)
{
    json_t *window = json_pack("{s:i, s:i, s:i}", "frames", p->window_frames, "height_px", p->window_height, "width_px",
                               p->window_width);
    return json_pack("{s:i, s:i, s:o, s:i, s:i, s:i, s:s, s:i, s:I, s:I, s:I, s:o, s:o}", "width_px", p->width,
                     "height_px", p->height, "window", window, "windows_per_frame", p->windows, "decoder_tiles",
                     p->tiles, "delay_frames", p->delay, "dtype", p->bf16 ? "bf16" : "fp32", "threads", p->threads,
                     "weight_bytes", (json_int_t)p->weight_bytes, "mem_peak_bytes", (json_int_t)p->peak_bytes,
                     "mem_limit_bytes", (json_int_t)p->limit_bytes, "flops_per_frame",
                     cli_json_number(p->flops_per_frame), "ms_per_frame", cli_json_number(p->seconds_per_frame * 1000));
}

json_t *cli_json_statistics(const oasis_statistics *s)
{
    json_t *stages = json_array();
    for (int i = 0; i < s->n_stages; i++)
        json_array_append_new(stages, json_pack("{s:o, s:o, s:o}", "name", cli_json_text(s->stages[i].name),
                                                "elapsed_ms", cli_json_number(s->stages[i].seconds * 1000), "flops",
                                                cli_json_number(s->stages[i].flops)));
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:o, s:o, s:o}", "frames_in",
                     (json_int_t)s->frames_in, "frames_out", (json_int_t)s->frames_out, "shots", (json_int_t)s->shots,
                     "windows", (json_int_t)s->windows, "windows_recomputed", (json_int_t)s->windows_recomputed,
                     "network_calls", (json_int_t)s->network_calls, "network_launches", (json_int_t)s->network_launches,
                     "networks_uncaptured", s->networks_uncaptured, "mem_peak_bytes", (json_int_t)s->peak_bytes,
                     "transformer_ms", cli_json_number(s->transformer_seconds * 1000), "decoder_ms",
                     cli_json_number(s->decoder_seconds * 1000), "stages", stages);
}

json_t *cli_json_error(oasis_status status, const char *message, int exit_code)
{
    return json_pack("{s:s, s:o, s:i}", "status", oasis_status_name(status), "message", cli_json_text(message),
                     "exit_code", exit_code);
}

int cli_json_print(json_t *object)
{
    bool written = object && json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0 &&
                   fputc('\n', stdout) != EOF && fflush(stdout) == 0;
    if (!written)
        cli_error("cannot write the JSON result to standard output");
    json_decref(object);
    return written ? EXIT_DONE : EXIT_FAILED;
}
