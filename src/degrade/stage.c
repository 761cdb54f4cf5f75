/* Walks and notes: what all degradations need. */
#include "degrade/stage.h"

#include "base/memory.h"

#include <string.h>

/* ---- drawing ----------------------------------------------------------------------------------------------------- */

/* Streams of a stage: its draws, its walks, and the noise of its pictures. */
enum { STREAM_WALK = 0x100, STREAM_PIXELS = 0x200 };

int oas_stage_walk_from(stage *s, const char *name, double value, double low, double high, double step)
{
    s->walks[s->n_walks] =
        (walk){.name = name, .value = value, .low = low, .high = high, .step = step * s->options->temporal_step};
    return s->n_walks++;
}

int oas_stage_walk(stage *s, const char *name, double low, double high, double step)
{
    return oas_stage_walk_from(s, name, oas_rng_between(&s->rng, low, high), low, high, step);
}

void oas_stage_note_text(stage *s, const char *name, const char *text)
{
    s->notes[s->n_notes++] = (note){.name = name, .text = text};
}

void oas_stage_note_number(stage *s, const char *name, double number)
{
    s->notes[s->n_notes++] = (note){.name = name, .number = number};
}

oas_rng oas_stage_rng(const stage *s, int row)
{
    return oas_rng_at((uint64_t)s->options->seed, s->id | STREAM_PIXELS, (uint32_t)s->frame, (uint32_t)row);
}

/* ---- walking ----------------------------------------------------------------------------------------------------- */

static oasis_status record(walk *w, oasis_message *message)
{
    if (w->n == w->capacity) {
        size_t capacity = w->capacity ? (size_t)w->capacity * 2 : 32;
        double *past = oas_alloc(capacity, sizeof *past);
        if (!past)
            return oas_fail_memory(message, capacity * sizeof *past, "the record of a degradation");
        if (w->n)
            memcpy(past, w->past, (size_t)w->n * sizeof *past);
        oas_free(w->past);
        w->past = past;
        w->capacity = (int64_t)capacity;
    }
    w->past[w->n++] = w->value;
    return OASIS_OK;
}

oasis_status oas_stage_step(stage *s, oasis_message *message)
{
    oas_rng rng = oas_rng_at((uint64_t)s->options->seed, s->id | STREAM_WALK, (uint32_t)s->frame, 0);
    s->frame++;
    for (int i = 0; i < s->n_walks; i++) {
        walk *w = &s->walks[i];
        if (!(w->step > 0))
            continue;
        OAS_TRY(record(w, message));
        double next = w->value + oas_rng_between(&rng, -w->step, w->step);
        w->value = next < w->low ? w->low : next > w->high ? w->high : next;
    }
    return OASIS_OK;
}

void oas_stage_free(stage *s)
{
    if (s->kind && s->kind->close)
        s->kind->close(s);
    for (int i = 0; i < s->n_walks; i++)
        oas_free(s->walks[i].past);
    oas_picture_free(&s->scratch);
    *s = (stage){0};
}
