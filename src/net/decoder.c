/* The list of decoders, and the memory of causal convolutions. */
#include "net/decoder.h"

#include <string.h>

extern const decoder_kind oas_decoder_tiny_conditional;

static const decoder_kind *const kinds[] = {&oas_decoder_tiny_conditional};

const decoder_kind *oas_decoder_find(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    return NULL;
}

const char *oas_decoder_names(void)
{
    return "tiny-conditional";
}

/* Storage of the memory, made at its first use. */
static bool make_memory(graph *g, decoder_state *state, int i, const tensor *x, shape s)
{
    tensor *m = &state->memory[i];
    if (m->shape.rank != 0 && oas_shape_equal(&m->shape, &s) && m->dtype == x->dtype)
        return true;
    oas_free(m->data);
    *m = (tensor){.shape = s, .dtype = x->dtype};
    state->bytes += oas_bytes(m);
    if (i >= state->count)
        state->count = i + 1;
    if (g->planning)
        return true;
    m->data = oas_alloc(oas_bytes(m), 1);
    if (!m->data)
        oas_graph_fail(g, OASIS_E_MEMORY, "out of memory: %zu bytes for the decoder's memory", oas_bytes(m));
    return m->data != NULL;
}

tensor *oas_state_exchange(graph *g, decoder_state *state, int i, tensor *x, int frames)
{
    if (!state || !x || g->status < 0)
        return NULL;
    shape s = x->shape;
    int64_t given = s.size[1];
    s.size[1] = frames;
    tensor *last = NULL;
    size_t frame = oas_bytes(x) / (size_t)(s.size[0] * given);
    if (state->started) {
        last = oas_tensor(g, x->dtype, s);
        if (last && !g->planning)
            memcpy(last->data, state->memory[i].data, oas_bytes(last));
    }
    if (!make_memory(g, state, i, x, s) || g->planning)
        return last;
    for (int64_t b = 0; b < s.size[0]; b++) {
        char *memory = (char *)state->memory[i].data + (size_t)(b * frames) * frame;
        for (int64_t f = 0; f < frames; f++) {
            int64_t from = given - frames + f; /* below 0: an older frame that moves up, or none at the start */
            if (from >= 0)
                memcpy(memory + (size_t)f * frame, (char *)x->data + (size_t)(b * given + from) * frame, frame);
            else if (last)
                memcpy(memory + (size_t)f * frame,
                       (char *)last->data + (size_t)(b * frames + frames + from) * frame, frame);
            else
                memset(memory + (size_t)f * frame, 0, frame);
        }
    }
    return last;
}

void oas_state_restart(decoder_state *state)
{
    state->started = false;
}

void oas_state_free(decoder_state *state)
{
    for (int i = 0; i < state->count; i++)
        oas_free(state->memory[i].data);
    *state = (decoder_state){0};
}
