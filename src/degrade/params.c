/* What was drawn, as JSON. */
#include "degrade/degrade.h"

#include "base/json.h"
#include "base/memory.h"

static void add_name(text_buffer *t, const char *name)
{
    oas_text_add(t, ", ");
    oas_json_add_text(t, name);
    oas_text_add(t, ": ");
}

static void add_walk(text_buffer *t, const walk *w)
{
    add_name(t, w->name);
    if (!(w->step > 0)) {
        oas_json_add_number(t, w->value);
        return;
    }
    oas_text_add(t, "[");
    for (int64_t i = 0; i < w->n; i++) {
        oas_text_add(t, i ? ", " : "");
        oas_json_add_number(t, w->past[i]);
    }
    oas_text_add(t, "]");
}

static void add_stage(text_buffer *t, const stage *s)
{
    static const char *const places[OAS_PLACES] = {"first", "second", "last"};
    oas_text_add(t, "    {\"stage\": ");
    oas_json_add_text(t, s->kind->name);
    add_name(t, "order");
    oas_json_add_text(t, places[s->place]);
    oas_text_add(t, ", \"applied\": %s", s->active ? "true" : "false");
    for (int i = 0; i < s->n_notes && s->active; i++) {
        add_name(t, s->notes[i].name);
        if (s->notes[i].text)
            oas_json_add_text(t, s->notes[i].text);
        else
            oas_json_add_number(t, s->notes[i].number);
    }
    for (int i = 0; i < s->n_walks && s->active; i++)
        add_walk(t, &s->walks[i]);
    oas_text_add(t, "}");
}

char *oasis_degrader_params(const oasis_degrader *degrader)
{
    const oasis_degrade_options *o = &degrader->options;
    text_buffer t = {0};
    oas_text_add(&t, "{\n  \"schema\": 1, \"version\": ");
    oas_json_add_text(&t, oasis_version());
    oas_text_add(&t, ", \"seed\": %lld, \"scale\": ", (long long)o->seed);
    oas_json_add_number(&t, o->scale);
    add_name(&t, "temporal_step");
    oas_json_add_number(&t, o->temporal_step);
    oas_text_add(&t, ",\n  \"video\": %s, \"poisson\": \"%s\", \"x264_preset\": \"%s\"", o->video ? "true" : "false",
                 o->poisson == OASIS_POISSON_BYTE ? "byte" : "unit", o->fast_video ? "veryfast" : "medium");
    oas_text_add(&t, ",\n  \"frames\": %lld, \"in_px\": [%d, %d], \"out_px\": [%d, %d],\n  \"stages\": [\n",
                 (long long)degrader->frames, degrader->width, degrader->height, degrader->out_width,
                 degrader->out_height);
    for (int i = 0; i < degrader->n_stages; i++) {
        add_stage(&t, &degrader->stages[i]);
        oas_text_add(&t, i + 1 < degrader->n_stages ? ",\n" : "\n");
    }
    oas_text_add(&t, "  ]\n}\n");
    if (t.failed)
        oas_text_free(&t);
    return t.data;
}

void oasis_degrader_text_free(char *text)
{
    oas_free(text);
}
