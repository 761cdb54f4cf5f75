/* The pipeline inside a degrader: shared by degrade.c, which runs it, and params.c, which writes it down. */
#ifndef OAS_DEGRADE_DEGRADE_H
#define OAS_DEGRADE_DEGRADE_H

#include "degrade/gpu.h"
#include "degrade/stage.h"

enum { MAX_STAGES = 12 };

/* A frame on its way: its time stamps wait here for its pixels. */
typedef struct passenger {
    oasis_frame frame;
    bool ready;
    struct passenger *next;
} passenger;

struct oasis_degrader {
    oasis_degrade_options options;
    int width, height, out_width, out_height;
    oas_pool *pool;
    int device;       /* the GPU's number, -1: the CPU */
    degrade_gpu *gpu; /* NULL on the CPU */
    stage stages[MAX_STAGES];
    int n_stages;
    picture now, next;               /* the picture between two stages */
    passenger *first, *last, *empty; /* in order of arrival; `empty` is the first one that waits for pixels */
    int64_t frames;                  /* sent */
    bool ended;
    oasis_status failed;
    oasis_message message;
};

#endif
