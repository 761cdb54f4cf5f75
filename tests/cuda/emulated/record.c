/* Recordings of the emulated GPU: lists of work. */
#include "cuda/emulated/record.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct step {
    void (*work)(void *arg);
    void *arg; /* owned */
    struct step *next;
} step;

struct cuda_recording {
    step *first, **end;
    bool failed;
};

static void *taken(size_t bytes)
{
    void *block = oas_alloc(bytes ? bytes : 1, 1);
    if (block)
        return block;
    fprintf(stderr, "emulated CUDA: no memory for a recording\n");
    abort();
}

void oas_emulated_put(oas_cuda *c, void (*work)(void *arg), void *arg, size_t bytes)
{
    cuda_recording *r = c->recording;
    if (!r) {
        work(arg);
        return;
    }
    step *s = taken(sizeof *s);
    *s = (step){work, taken(bytes), NULL};
    memcpy(s->arg, arg, bytes);
    *r->end = s;
    r->end = &s->next;
}

bool oas_emulated_refused(oas_cuda *c)
{
    if (c->recording)
        c->recording->failed = true;
    return c->recording != NULL;
}

oasis_status oas_cuda_record(oas_cuda *c)
{
    c->recording = taken(sizeof *c->recording);
    c->recording->end = &c->recording->first;
    return OASIS_OK;
}

cuda_recording *oas_cuda_recorded(oas_cuda *c)
{
    cuda_recording *r = c->recording;
    c->recording = NULL;
    if (r && r->failed)
        oas_cuda_forget(c, &r);
    return r;
}

oasis_status oas_cuda_replay(oas_cuda *c, cuda_recording *r)
{
    (void)c;
    for (step *s = r->first; s; s = s->next)
        s->work(s->arg);
    return OASIS_OK;
}

void oas_cuda_forget(oas_cuda *c, cuda_recording **r)
{
    (void)c;
    if (!*r)
        return;
    for (step *s = (*r)->first, *next; s; s = next) {
        next = s->next;
        oas_free(s->arg);
        oas_free(s);
    }
    oas_free(*r);
    *r = NULL;
}
