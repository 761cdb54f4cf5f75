/*
 * Interlaced pictures to progressive ones, as many out as in: bwdif of libavfilter.
 */
#ifndef OAS_VIDEO_DEINTERLACE_H
#define OAS_VIDEO_DEINTERLACE_H

#include "video/media.h"

typedef struct oas_deinterlacer oas_deinterlacer;

/*
 * For pictures like `first`.
 *   all  every picture is taken as interlaced; false: those marked so
 * Fails with OASIS_E_UNSUPPORTED (smaller than 3x4), OASIS_E_MEMORY.
 */
oasis_status oas_deinterlacer_new(oas_deinterlacer **deinterlacer, const AVFrame *first, bool all,
                                  oasis_message *message);
void oas_deinterlacer_free(oas_deinterlacer **deinterlacer);

/* Gives it a picture (unreferenced on success) or NULL after the last. */
oasis_status oas_deinterlacer_send(oas_deinterlacer *deinterlacer, AVFrame *frame, oasis_message *message);

/* Takes the next picture with its own time stamps; OASIS_AGAIN: send first; OASIS_END. */
oasis_status oas_deinterlacer_receive(oas_deinterlacer *deinterlacer, AVFrame *frame, oasis_message *message);

#endif
