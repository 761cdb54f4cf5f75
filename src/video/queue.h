/*
 * A queue of frames between two threads, of few places: who is faster waits.
 */
#ifndef OAS_VIDEO_QUEUE_H
#define OAS_VIDEO_QUEUE_H

#include "video/media.h"

#include <pthread.h>

enum { OAS_QUEUE_MAX = 8 };

typedef struct oas_queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    oasis_frame frames[OAS_QUEUE_MAX];
    int places, first, count;
    bool ended;   /* nothing more will be put in */
    bool stopped; /* nobody is to wait any longer */
} oas_queue;

void oas_queue_init(oas_queue *queue, int places);
void oas_queue_free(oas_queue *queue); /* frees the frames in it, too; no thread may use it any more */

/* Puts a frame in and clears *frame; waits for a place.  False when stopped: the caller keeps the frame. */
bool oas_queue_put(oas_queue *queue, oasis_frame *frame);

/* No frame will follow. */
void oas_queue_end(oas_queue *queue);

/* Takes a frame out; waits for one.  OASIS_END after the last, OASIS_E_CANCELLED when stopped. */
oasis_status oas_queue_take(oas_queue *queue, oasis_frame *frame);

/* Wakes everybody. */
void oas_queue_stop(oas_queue *queue);

#endif
