/*
 * What clips are made from: decoded frames, 8 bits a channel, kept while there is room.  Pictures and short videos are
 * decoded once and kept whole; of long videos the stretch that is wanted is decoded every time.
 *
 * Any number of threads may take and release at the same time; what they get does not depend on what is kept.
 */
#ifndef OAS_DATASET_STORE_H
#define OAS_DATASET_STORE_H

#include "base/rng.h"

#include <oasis/train.h>

enum { OAS_SHORT_VIDEO = 64 }; /* frames up to which a video is kept whole */

typedef struct oas_store oas_store;

/* Frames of one file, one after the other, cropped as the options say. */
typedef struct material {
    int frames, width, height;
    unsigned char *rgb; /* [frames][height][width][3] */
} material;

typedef struct taken {
    material *m; /* not to be changed */
    int first;   /* the frame to begin with; where fewer follow than were asked for, the last one is to be repeated */
    int file;    /* -1: only this one holds it */
} taken;

/*
 * Lists what options->data names (oasis/dataset.h).  options must stay valid; data, crop and cache are used.
 */
oasis_status oas_store_new(oas_store **store, const oasis_train_options *options, oasis_message *message);
void oas_store_free(oas_store **store);

/* How many pictures and videos there are. */
int oas_store_pictures(const oas_store *store);
int oas_store_videos(const oas_store *store);

/*
 * A picture, or `frames` frames of a video from a place drawn from rng; to be released.  `number` counts the pictures, or
 * the videos, in the order of their names.  Fails with a sentence that names the file.
 */
oasis_status oas_store_take(oas_store *store, bool picture, int number, int frames, oas_rng *rng, taken *t,
                            oasis_message *message);
void oas_store_release(oas_store *store, taken *t);

#endif
