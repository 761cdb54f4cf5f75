/*
 * Text over a clip: one block of lines, from labels to pages, in strokes of any weight (dataset/text.h), which stays,
 * scrolls, or moves with a hand.
 */
#ifndef OAS_DATASET_CAPTION_H
#define OAS_DATASET_CAPTION_H

#include "base/rng.h"
#include "base/status.h"

#include <oasis/oasis.h>

/* Draws a text and writes it over n frames of one size.  Fails with OASIS_E_MEMORY. */
oasis_status oas_caption(oasis_frame *frames, int n, oas_rng *rng, oasis_message *message);

#endif
