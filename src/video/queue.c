/* The queue between two threads. */
#include "video/queue.h"

void oas_queue_init(oas_queue *q, int places)
{
    *q = (oas_queue){.places = places < 1 ? 1 : places > OAS_QUEUE_MAX ? OAS_QUEUE_MAX : places};
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->changed, NULL);
}

void oas_queue_free(oas_queue *q)
{
    for (int i = 0; i < q->count; i++)
        oasis_frame_free(&q->frames[(q->first + i) % OAS_QUEUE_MAX]);
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
}

bool oas_queue_put(oas_queue *q, oasis_frame *frame)
{
    pthread_mutex_lock(&q->lock);
    while (!q->stopped && q->count == q->places)
        pthread_cond_wait(&q->changed, &q->lock);
    bool put = !q->stopped;
    if (put) {
        q->frames[(q->first + q->count++) % OAS_QUEUE_MAX] = *frame;
        *frame = (oasis_frame){0};
        pthread_cond_broadcast(&q->changed);
    }
    pthread_mutex_unlock(&q->lock);
    return put;
}

void oas_queue_end(oas_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->ended = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}

oasis_status oas_queue_take(oas_queue *q, oasis_frame *frame)
{
    pthread_mutex_lock(&q->lock);
    while (!q->stopped && !q->ended && q->count == 0)
        pthread_cond_wait(&q->changed, &q->lock);
    oasis_status status = q->stopped ? OASIS_E_CANCELLED : q->count == 0 ? OASIS_END : OASIS_OK;
    if (status == OASIS_OK) {
        *frame = q->frames[q->first];
        q->first = (q->first + 1) % OAS_QUEUE_MAX;
        q->count--;
        pthread_cond_broadcast(&q->changed);
    }
    pthread_mutex_unlock(&q->lock);
    return status;
}

void oas_queue_stop(oas_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->stopped = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}
