/*
 * Training clips from videos and pictures (part of liboasis-media): read or filmed, written over, degraded, cropped.
 *
 *     picture   a camera moves over it: pan, zoom, rotation, hand shake; a nearer layer and cut-outs move in front
 *     video     a stretch of it, at its own scale or smaller
 *     pattern   stripes, checks, grids, circles and stars under the same camera, without a file
 *     all       with text over some of them; degraded (oasis/degrade.h) and enlarged again, then cropped, mirrored,
 *               turned back in time
 *
 * A clip depends on its number and the seed alone.  Decoded pictures and short videos are kept in memory while there is
 * room (options->cache).
 */
#ifndef OASIS_DATASET_H
#define OASIS_DATASET_H

#include <oasis/train.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oasis_dataset oasis_dataset;

/*
 * Lists the files that options->data names: videos, pictures, printf patterns, and folders of videos and pictures, looked
 * through to any depth.  Nothing is read yet.
 *   options  must stay valid; the ones of the group "Data" are used
 * Fails with OASIS_E_IO (missing), OASIS_E_FORMAT (nothing usable in it), OASIS_E_MEMORY.
 */
OASIS_API oasis_status oasis_dataset_open(oasis_dataset **dataset, const oasis_train_options *options,
                                          oasis_message *message);

/* How many videos and pictures there are. */
OASIS_API void oasis_dataset_count(const oasis_dataset *dataset, int64_t *videos, int64_t *pictures);

/* Bytes that it holds at most, for clips as the options ask for them: bases, and what the cache may keep. */
OASIS_API size_t oasis_dataset_memory(const oasis_dataset *dataset);

/*
 * An oasis_clip_fn; `dataset` is an oasis_dataset.  Low frames have the size of the true ones.  Fails with a sentence that
 * names the file that cannot be read, or the crop that does not fit.  May be called from several threads.
 */
OASIS_API oasis_status oasis_dataset_clip(void *dataset, const oasis_clip_request *request, oasis_frame *truth,
                                          oasis_frame *low, oasis_message *message);
OASIS_API void oasis_dataset_close(oasis_dataset **dataset);

#ifdef __cplusplus
}
#endif
#endif
