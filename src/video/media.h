/*
 * What the files of liboasis-media share: failing with a sentence, and FFmpeg's headers.
 *
 * liboasis-media calls only public functions of liboasis, so it has its own way to write a message; OAS_TRY (a macro)
 * is liboasis's.  It logs nothing and sets nothing global in FFmpeg.
 */
#ifndef OAS_VIDEO_MEDIA_H
#define OAS_VIDEO_MEDIA_H

#include "base/status.h"

#include <oasis/video.h>

#include <libavutil/frame.h>
#include <libavutil/rational.h>

/* Writes the sentence into *message (NULL: dropped) and returns `status`. */
oasis_status oas_media_fail(oasis_message *message, oasis_status status, const char *format, ...) OAS_PRINTF(3, 4);

/* The same for a failure of FFmpeg's: appends ": " and its reason, and derives the status from its code (ENOMEM: memory,
 * invalid data or an early end: format, no such encoder, decoder, ...: unsupported, else io). */
oasis_status oas_media_fail_av(oasis_message *message, int code, const char *format, ...) OAS_PRINTF(3, 4);

oasis_status oas_media_fail_memory(oasis_message *message, const char *what);

/* "0:01:02.345" for people.  Returns `text`. */
const char *oas_media_time_text(char text[32], double seconds);

/* The text after the last '.' of the last part of a path, or "". */
const char *oas_media_extension(const char *path);

/* The last part of a path. */
const char *oas_media_base_name(const char *path);

/* A frame rate as a fraction: the exact 1000/1001 form where `fps` is within 0.001 of one. */
AVRational oas_media_rate(double fps);

#endif
