/*
 * Which attention head sees which keys, as text: one per model, also stored in the model file (doc/formats.md).
 *
 *     oasis-routing 1
 *     model wan2.1-t2v-1.3b
 *     layers 30 heads 12
 *     window 3 5 5 border truncate
 *     timestep 400
 *     mode ratio 4 4 4
 *     clips 16 queries 256 sha256 <64 hexadecimal digits>
 *     route 0 gwwiggwiiwgi
 *     stat 0 0 <D_I> <D_W> <sd_I> <sd_W>
 *
 * `layers` and `window` come before the first `route`, and every layer has one route: a letter per head, g (all keys),
 * i (keys of the query's frame), w (keys of the window around the query).  The other lines are optional.
 */
#ifndef OAS_FORMAT_ROUTING_H
#define OAS_FORMAT_ROUTING_H

#include "tensor/ops.h"

enum {
    OAS_ROUTING_MAX_LAYERS = 256,
    OAS_ROUTING_MAX_WINDOW = 255, /* each size, odd */
    OAS_ROUTING_MAX_BYTES = 8 << 20,
    OAS_ROUTING_NAME = 128
};

typedef enum routing_mode {
    OAS_ROUTING_FIXED,     /* given by hand; no numbers */
    OAS_ROUTING_RATIO,     /* counts of global, intra, window heads in each layer */
    OAS_ROUTING_BUDGET,    /* the same over all layers together */
    OAS_ROUTING_THRESHOLD, /* least mean mass of window and of intra, 0 to 1 */
    OAS_ROUTING_MODES
} routing_mode;

/* What profiling measured for one head: D_S = mean over queries and clips of ln(1 / mass of the keys in S), and its
 * standard deviation over clips; S is the own frame (intra) or the window.  Natural logarithms, >= 0. */
typedef struct route_stat {
    bool known;
    double intra, window, sd_intra, sd_window;
} route_stat;

typedef struct routing {
    int layers, heads;
    int window[3];                /* frames, rows, columns; odd */
    route_layer *layer;           /* [layers] */
    route_stat *stat;             /* [layers * heads]; NULL when no head has one */
    char model[OAS_ROUTING_NAME]; /* "" = not said */
    double timestep;              /* below 0 = not said */
    routing_mode mode;
    double mode_value[3]; /* as the mode says; 0 beyond */
    int clips, queries;   /* profiled; 0 = not said */
    char digest[65];      /* of the list of clips; "" = not said */
} routing;

/*
 * Reads `size` bytes.  `where` names the text in messages ("FILE: routing").  On OASIS_OK the routing is freed with
 * oas_routing_free.  Fails with OASIS_E_FORMAT (the sentence names the line), OASIS_E_UNSUPPORTED (another version, a
 * border this program cannot compute), OASIS_E_MEMORY.
 */
oasis_status oas_routing_read(routing *r, const char *text, size_t size, const char *where, oasis_message *message);
void oas_routing_free(routing *r);

/*
 * Reads the text file at `path`, for a transformer of that many layers and heads; another number of them is
 * OASIS_E_FORMAT.  Further fails as oas_routing_read, and with OASIS_E_IO.
 */
oasis_status oas_routing_open(routing *r, const char *path, int layers, int heads, oasis_message *message);

/* The text of a routing, freed with oas_free, or NULL when memory is short.  Reading it gives the same routing. */
char *oas_routing_text(const routing *r);

/* Numbers of heads of each kind in all layers: global, intra, window. */
void oas_routing_count(const routing *r, int64_t count[3]);

#endif
