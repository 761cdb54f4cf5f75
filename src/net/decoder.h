/*
 * Decoders: latents to frames, causally, one or more latents at a time.
 *
 *     z       [B,F,h8,w8,C]   latents, float, normalised
 *     pixels  [B,T,H,W,3]     the upscaled input in [-1,1], float; for decoders that are conditioned on it
 *     result  [B,T,H,W,3]     RGB in about [-1,1], float
 *
 * At the start of a shot F latents make T = 4F-3 frames (latent 0 is one frame), after that T = 4F.  What a decoder
 * remembers between calls is its state; without one (training) a call is a whole shot.
 *
 * Adding a decoder: one file with a descriptor, one line in decoder.c.
 */
#ifndef OAS_NET_DECODER_H
#define OAS_NET_DECODER_H

#include "net/residual.h"

enum { OAS_MAX_MEMORIES = 40, OAS_MAX_DECODER_WIDTHS = 8 };

/* The last frames of inputs of causal convolutions, from one call to the next. */
typedef struct decoder_state {
    bool started;
    int count;
    tensor memory[OAS_MAX_MEMORIES]; /* owned */
    size_t bytes;                    /* of all memories, counted while planning too */
} decoder_state;

typedef struct decoder_config {
    int latent_channels;
    int widths[OAS_MAX_DECODER_WIDTHS]; /* as the model file has them */
    int n_widths;
    const float *latent_mean, *latent_std; /* of latent_channels, or NULL: what is usual for the kind */
} decoder_config;

typedef struct decoder_kind decoder_kind;

typedef struct decoder {
    const decoder_kind *kind;
    void *net; /* the kind's own struct of weights */
} decoder;

struct decoder_kind {
    const char *name;
    /* Makes the struct of weights from the set, names starting with "decoder."; NULL after failing the set. */
    void *(*bind)(const decoder_config *config, parameter_set *p);
    void (*free)(void *net);
    tensor *(*decode)(graph *g, const void *net, decoder_state *state, tensor *z, tensor *pixels);
    /*
     * Where a first part of the network sees the whole frame: decode(z) is rest(begin(z)), and only the rest can be
     * computed in tiles, which are cut from what begin gives, [B,F,h8,w8,any].  Both share a state when the frame is
     * whole; apart, each has its own, and who calls begin sets state->started.  NULL: decode can be computed in tiles.
     */
    tensor *(*begin)(graph *g, const void *net, decoder_state *state, tensor *z);
    tensor *(*rest)(graph *g, const void *net, decoder_state *state, tensor *x, tensor *pixels);
    /* How many latent rows or columns beyond a tile its result depends on. */
    int halo;
};

/* The descriptor of that name, or NULL. */
const decoder_kind *oas_decoder_find(const char *name);

/* The names of all decoders, for messages: "a, b". */
const char *oas_decoder_names(void);

/* ---- for decoders ---------------------------------------------------------------------------------------------------- */

/*
 * The frames that memory `i` kept from the last call, or NULL at the start of a shot or without a state; then remembers
 * the last `frames` frames of x for the next call.  x may be overwritten afterwards.
 */
tensor *oas_state_exchange(graph *g, decoder_state *state, int i, tensor *x, int frames);

/*
 * The same in two steps without a copy: the frames that memory `i` kept, seen where they lie, or NULL; and, after their
 * last use, remembering those of x.  `clear` remembers frames of zeros, of x's size.
 */
tensor *oas_state_history(graph *g, decoder_state *state, int i, const tensor *x, int frames);
void oas_state_remember(graph *g, decoder_state *state, int i, const tensor *x, int frames);
void oas_state_clear(graph *g, decoder_state *state, int i, const tensor *x, int frames);

/* Mem of net/residual.h, whose frame before x is memory `i` of the state. */
tensor *oas_state_residual(graph *g, const residual *r, decoder_state *state, int i, tensor *x);

/* Blocks of factor x factor pixels as channels (PyTorch's order), compute type. */
tensor *oas_unshuffle(graph *g, tensor *pixels, int factor);

/* Twice as wide and high: a product to 4 times the channels, and a pixel shuffle. */
tensor *oas_enlarge_twice(graph *g, tensor *x, const linear *up);

/* ---- for their users -------------------------------------------------------------------------------------------------- */

/* Forgets everything: the next call starts a shot. */
void oas_state_restart(decoder_state *state);
void oas_state_free(decoder_state *state);

#endif
