/*
 * Pictures in files: which files a folder, a printf pattern or a single name stands for, and one file to a decoded
 * picture.
 */
#ifndef OAS_VIDEO_PICTURES_H
#define OAS_VIDEO_PICTURES_H

#include "video/media.h"

#include <libavcodec/avcodec.h>

typedef struct oas_picture_list {
    char **paths; /* in order; owned */
    size_t count;
    int64_t first; /* number of the first one of a pattern, else 1 */
} oas_picture_list;

/* Whether a path ends like a picture ("png", "jpg", "tif", ...); a folder or a pattern does not count. */
bool oas_is_picture_name(const char *path);

/* Whether a path has exactly one printf number (%d, %04d) and no other directive than %%. */
bool oas_is_pattern(const char *path);

/* The file that a pattern names for a number; freed by av_free; NULL when memory is short. */
char *oas_pattern_path(const char *pattern, int64_t number);

/*
 * The pictures of a folder, in natural order (2 before 10), hidden and other files left out.
 * Fails with OASIS_E_IO (cannot be read), OASIS_E_FORMAT (no picture in it), OASIS_E_MEMORY.
 */
oasis_status oas_list_folder(oas_picture_list *list, const char *folder, oasis_message *message);

/* The files of a pattern, from the smallest number there is; a missing number in between is OASIS_E_IO. */
oasis_status oas_list_pattern(oas_picture_list *list, const char *pattern, oasis_message *message);

/* The one file. */
oasis_status oas_list_single(oas_picture_list *list, const char *path, oasis_message *message);

void oas_picture_list_free(oas_picture_list *list);

/*
 * Reads and decodes a picture, known by its first bytes whatever its name.
 *   frame  receives the picture; the caller unreferences it
 *   codec  receives the codec's descriptor name ("png"); may be NULL
 * Fails with OASIS_E_IO, OASIS_E_FORMAT (not a picture, damaged, cut short), OASIS_E_UNSUPPORTED (animated WebP),
 * OASIS_E_MEMORY.
 */
oasis_status oas_picture_decode(const char *path, AVFrame *frame, const char **codec, oasis_message *message);

#endif
