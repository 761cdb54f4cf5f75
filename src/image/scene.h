/*
 * Finding hard cuts while frames stream by: says of each frame whether a new shot begins with it.  No look-ahead.
 *
 * A cut is a frame that cannot be explained by the one before, whatever moved.  Each frame becomes a thumbnail; its
 * blocks are searched for in the previous thumbnail with their mean taken out, so that camera shake, pans, noise,
 * flicker and fades are explained and other pictures are not.  What stays unexplained, together with the change of the
 * colour distribution, is compared with what the frames just before showed.
 *
 * It rather splits too often (a false cut costs nothing measurable, a missed one several dB on the next frame), but not
 * at every frame of a fade.  A gradual transition need not be found at all: the network's memory follows it.
 */
#ifndef OAS_IMAGE_SCENE_H
#define OAS_IMAGE_SCENE_H

#include "base/status.h"
#include "base/threads.h"

typedef struct oas_scene oas_scene;

/* Makes a detector for frames of width x height.  Fails with OASIS_E_ARGUMENT or OASIS_E_MEMORY. */
oasis_status oas_scene_new(oas_scene **scene, int width, int height, oasis_message *message);
void oas_scene_free(oas_scene **scene);

/* What a detector holds, bytes. */
size_t oas_scene_bytes(int width, int height);

/*
 * Whether this frame, [height][width][3] in [0, 1], begins a shot.  The first one does.  The same bits for any number of
 * threads (pool NULL: this one).
 */
bool oas_scene_push(oas_scene *scene, oas_pool *pool, const float *rgb);

/* The figures behind the last answer, for tests and for people. */
typedef struct oas_scene_figures {
    double residual; /* of the block search, in parts of the picture's own contrast: 0 same, about 0.7 unrelated */
    double colour;   /* mean distance between the colour distributions, in [0, 1] */
    double score;    /* the two together; a cut lies above `threshold` */
    double threshold;
} oas_scene_figures;
oas_scene_figures oas_scene_last(const oas_scene *scene);

#endif
