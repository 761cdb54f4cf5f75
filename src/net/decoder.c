/* The list of decoders, and the memory of causal convolutions. */
#include "net/decoder.h"

#include <string.h>

extern const decoder_kind oas_decoder_tiny_conditional, oas_decoder_quarter_conditional, oas_decoder_wan_vae,
    oas_decoder_taehv;

/* ---- no decoder: a transformer on its own ------------------------------------------------------------------------------ */

static void *none_bind(const decoder_config *config, parameter_set *p)
{
    (void)config;
    void *net = p->status < 0 ? NULL : oas_alloc(1, 1);
    if (!net && p->status == OASIS_OK)
        p->status = oas_fail_memory(&p->message, 1, "the decoder");
    return net;
}

static tensor *none_decode(graph *g, const void *net, decoder_state *state, tensor *z, tensor *pixels)
{
    (void)net;
    (void)state;
    (void)z;
    (void)pixels;
    return oas_graph_fail(g, OASIS_E_MODEL, "the model has no decoder; convert it together with an autoencoder");
}

static const decoder_kind no_decoder = {.name = "none", .bind = none_bind, .free = oas_free, .decode = none_decode};

/* ---- the list ------------------------------------------------------------------------------------------------------------ */

static const decoder_kind *const kinds[] = {&no_decoder, &oas_decoder_tiny_conditional,
                                            &oas_decoder_quarter_conditional, &oas_decoder_wan_vae, &oas_decoder_taehv};

const decoder_kind *oas_decoder_find(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    return NULL;
}

const char *oas_decoder_names(void)
{
    return "tiny-conditional, quarter-conditional, wan-vae, taehv";
}

/* Storage of the memory, made at its first use. */
static bool make_memory(graph *g, decoder_state *state, int i, const tensor *x, shape s)
{
    tensor *m = &state->memory[i];
    if (m->shape.rank != 0 && oas_shape_equal(&m->shape, &s) && m->dtype == x->dtype)
        return true;
    oas_tensor_disown(m);
    *m = (tensor){.shape = s, .dtype = x->dtype};
    state->bytes += oas_bytes(m);
    if (i >= state->count)
        state->count = i + 1;
    if (g->planning)
        return true;
    if (!oas_graph_own(g, m))
        oas_graph_fail(g, OASIS_E_MEMORY, "out of memory: %zu bytes for the decoder's memory", oas_bytes(m));
    return m->data != NULL;
}

/* The memory's frames become the last of the old ones and of x's. */
static void remember(graph *g, decoder_state *state, int i, const tensor *x, int frames)
{
    int64_t given = x->shape.size[1];
    size_t frame = oas_bytes(x) / (size_t)(x->shape.size[0] * given);
    for (int64_t b = 0; b < x->shape.size[0]; b++) {
        char *memory = (char *)state->memory[i].data + (size_t)(b * frames) * frame;
        for (int64_t f = 0; f < frames; f++) {
            int64_t from = given - frames + f; /* below 0: an older frame that moves up, or none at the start */
            if (from >= 0)
                oas_graph_copy(g, memory + (size_t)f * frame, (const char *)x->data + (size_t)(b * given + from) * frame, frame);
            else if (state->started)
                oas_graph_copy(g, memory + (size_t)f * frame, memory + (size_t)(frames + from) * frame, frame);
            else
                oas_graph_zero(g, memory + (size_t)f * frame, frame);
        }
    }
}

static shape memory_shape(const tensor *x, int frames)
{
    shape s = x->shape;
    s.size[1] = frames;
    return s;
}

tensor *oas_state_history(graph *g, decoder_state *state, int i, const tensor *x, int frames)
{
    if (!state || !x || g->status < 0 || !state->started || !make_memory(g, state, i, x, memory_shape(x, frames)))
        return NULL;
    tensor *history = oas_tensor_header(g);
    if (history)
        *history = state->memory[i];
    return history;
}

void oas_state_remember(graph *g, decoder_state *state, int i, const tensor *x, int frames)
{
    if (!state || !x || g->status < 0 || !make_memory(g, state, i, x, memory_shape(x, frames)) || g->planning)
        return;
    remember(g, state, i, x, frames);
}

void oas_state_clear(graph *g, decoder_state *state, int i, const tensor *x, int frames)
{
    if (!state || !x || g->status < 0 || !make_memory(g, state, i, x, memory_shape(x, frames)) || g->planning)
        return;
    oas_graph_zero(g, state->memory[i].data, oas_bytes(&state->memory[i]));
}

tensor *oas_state_exchange(graph *g, decoder_state *state, int i, tensor *x, int frames)
{
    if (!state || !x || g->status < 0)
        return NULL;
    tensor *last = NULL;
    if (state->started) {
        last = oas_tensor(g, x->dtype, memory_shape(x, frames));
        if (last)
            oas_graph_copy(g, last->data, state->memory[i].data, oas_bytes(last));
    }
    oas_state_remember(g, state, i, x, frames);
    return last;
}

tensor *oas_state_residual(graph *g, const residual *r, decoder_state *state, int i, tensor *x)
{
    return oas_residual(g, r, oas_state_exchange(g, state, i, x, 1), x);
}

tensor *oas_unshuffle(graph *g, tensor *pixels, int factor)
{
    return oas_space_to_depth(g, pixels, (block_factor){1, factor, factor}, OAS_CHANNEL_SLOW, 0, g->compute);
}

tensor *oas_enlarge_twice(graph *g, tensor *x, const linear *up)
{
    return oas_depth_to_space(g, oas_linear(g, x, up, OAS_LINEAR, NULL, g->compute), (block_factor){1, 2, 2},
                              OAS_CHANNEL_SLOW, 0, NULL, g->compute);
}

void oas_state_restart(decoder_state *state)
{
    state->started = false;
}

void oas_state_free(decoder_state *state)
{
    for (int i = 0; i < state->count; i++)
        oas_tensor_disown(&state->memory[i]);
    *state = (decoder_state){0};
}
