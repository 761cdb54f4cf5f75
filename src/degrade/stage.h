/*
 * What the degradations share: a stage of the pipeline, the numbers it draws, and the pictures between stages.
 *
 * A degradation is one file that defines one `degradation` and a line in degradations.def.  The pipeline (degrade.c)
 * is a list of stages, each a degradation with the ranges of its place (first order, second order, last).
 *
 * Numbers are of two kinds.  Choices (kind of kernel, its size, filter, codec) are drawn once for a clip.  Walks start
 * somewhere in their range and are used; after every frame they move by U(-step, step) times the temporal step K of the
 * clip and are held inside the range.  K = 0 leaves them where they are: a degradation that is consistent over time.
 */
#ifndef OAS_DEGRADE_STAGE_H
#define OAS_DEGRADE_STAGE_H

#include "base/rng.h"
#include "base/threads.h"

#include <oasis/degrade.h>

/*
 * A picture between stages: RGB float, 0 to 1 when nothing exceeds it; the memory is reused.  With a GPU (`cuda`, set
 * before the first size) it may lie there: then `device` has the values, and what is in `rgb` is of no meaning.
 */
typedef struct picture {
    int width, height;
    float *rgb;      /* [height][width][3]; pinned with a GPU */
    size_t capacity; /* floats */
    struct oas_cuda *cuda;
    float *device;
    size_t device_capacity;
    bool on_device;
} picture;

/* Makes room for width x height, on the host or on the GPU; the contents are not kept.  Fails with OASIS_E_MEMORY. */
oasis_status oas_picture_size(picture *p, int width, int height, oasis_message *message);
oasis_status oas_picture_size_on_gpu(picture *p, int width, int height, oasis_message *message);

/* Brings the values to the GPU, or back from it; nothing where they are there. */
oasis_status oas_picture_bring(picture *p, bool to_gpu, oasis_message *message);
void oas_picture_free(picture *p);

typedef struct walk {
    const char *name;
    double value, low, high, step; /* step is already multiplied by K */
    double *past;                  /* values used, frame by frame; NULL while step is 0 */
    int64_t n, capacity;
} walk;

/* A choice, for the record. */
typedef struct note {
    const char *name, *text; /* text NULL: `number` */
    double number;
} note;

/* The place of a stage: which ranges it takes. */
enum { OAS_FIRST, OAS_SECOND, OAS_LAST, OAS_PLACES };

enum { MAX_WALKS = 5, MAX_NOTES = 5 };

typedef struct stage stage;

typedef struct degradation {
    const char *name;

    /* Draws choices and walks.  May set s->active = false: this clip is spared.  May fill s->state. */
    oasis_status (*draw)(stage *s, oasis_message *message);

    /* out = degraded(in), any size. */
    oasis_status (*apply)(stage *s, const picture *in, picture *out, oasis_message *message);

    /* The same with both on the GPU of s->gpu: work on its stream.  NULL: there is only the other. */
    oasis_status (*apply_gpu)(stage *s, const picture *in, picture *out, oasis_message *message);

    /* In place of apply, for what needs later frames: takes a picture (NULL after the last), and gives back what is
     * ready: OASIS_OK, OASIS_AGAIN when it wants more, OASIS_END after the last. */
    oasis_status (*push)(stage *s, const picture *in, oasis_message *message);
    oasis_status (*pull)(stage *s, picture *out, oasis_message *message);

    void (*close)(stage *s); /* frees s->state; NULL where there is none */
} degradation;

struct stage {
    const degradation *kind;
    int place;
    bool active;
    uint32_t id;   /* in the pipeline: part of the address of its random numbers */
    int64_t frame; /* frames done */
    walk walks[MAX_WALKS];
    int n_walks;
    note notes[MAX_NOTES];
    int n_notes;
    oas_rng rng;     /* of choices and starting values */
    picture scratch; /* for the stage's own use */
    void *state;
    const oasis_degrade_options *options;
    oas_pool *pool;
    struct degrade_gpu *gpu;   /* degrade/gpu.h; NULL: the CPU alone */
    int in_width, in_height;   /* of the clip */
    int out_width, out_height; /* of what the pipeline makes of it */
};

/* Adds a walk, its start drawn from [low, high]; returns its index.  `step` is that of K = 1. */
int oas_stage_walk(stage *s, const char *name, double low, double high, double step);

/* Adds a walk that starts at `value`. */
int oas_stage_walk_from(stage *s, const char *name, double value, double low, double high, double step);

void oas_stage_note_text(stage *s, const char *name, const char *text);
void oas_stage_note_number(stage *s, const char *name, double number);

/* Random numbers of this stage, frame and row. */
oas_rng oas_stage_rng(const stage *s, int row);

/* Ends a frame: records the walks' values and moves them. */
oasis_status oas_stage_step(stage *s, oasis_message *message);

void oas_stage_free(stage *s);

/* 0 to 255, rounded; below and above, and what is no number, at the ends (no number: 0). */
static inline unsigned char oas_to_byte(float x)
{
    float v = x * 255.f + 0.5f;
    return (unsigned char)(v > 0 ? v < 255.f ? v : 255.f : 0);
}

#endif
