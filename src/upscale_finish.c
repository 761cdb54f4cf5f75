/*
 * Frames to the network and from it: enlarging, cropping, colour, strength, alpha.
 *
 * On a GPU frames go up and down beside the computation, in blocks that are used in turns:
 *
 *     up       | frame 0..3 | 4..7 |  ...                      from the caller's frame by way of pinned memory
 *     compute         | project | project |  restore  | decode 0 | decode 1 | decode 2 | ...
 *     down                                                       | frame 0..3 | 4..7 |
 *     the host                                                                | takes 0..3 | 4..7 |
 *
 * so the frames of a latent are taken while the next one's are computed.
 */
#include "cuda/passes.h"
#include "upscale.h"

#include <math.h>

static size_t source_floats(const upscale_sizes *s)
{
    return (size_t)s->in_width * (size_t)s->in_height * 3;
}

static size_t result_floats(const upscale_sizes *s)
{
    return (size_t)s->out_width * (size_t)s->out_height * 3;
}

oasis_status oas_graph_status(oasis_upscaler *u, const graph *g)
{
    return g->status < 0 ? oas_fail(&u->message, g->status, "%s", g->message.text) : OASIS_OK;
}

/* ---- on the way --------------------------------------------------------------------------------------------------------- */

int oas_transfers(const upscale_sizes *s)
{
    return 2 * OAS_LATENT_FRAMES * s->latents_at_once;
}

oasis_status oas_open_transfers(oasis_upscaler *u, oasis_message *message)
{
    const upscale_sizes *s = &u->sizes;
    size_t up = source_floats(s) * sizeof(float), down = result_floats(s) * (s->looks_back ? 2 : 1) * sizeof(float);
    size_t n = (size_t)oas_transfers(s), marks = (size_t)s->rows.count * (size_t)s->columns.count * sizeof(int32_t);
    u->up = oas_alloc(n, sizeof *u->up);
    u->down = oas_alloc(n, sizeof *u->down);
    u->coming = oas_alloc(n, sizeof *u->coming);
    bool ok = u->up && u->down && u->coming && oas_cuda_block_open(u->device->cuda, &u->marks, marks) == OASIS_OK;
    for (size_t i = 0; ok && i < n; i++, u->transfers++)
        ok = oas_cuda_block_open(u->device->cuda, &u->up[i], up) == OASIS_OK &&
             oas_cuda_block_open(u->device->cuda, &u->down[i], down) == OASIS_OK;
    return ok ? OASIS_OK : oas_fail_memory(message, (up + down) * n, "frames on their way to the GPU and back");
}

void oas_close_transfers(oasis_upscaler *u)
{
    oas_cuda *c = u->device ? u->device->cuda : NULL;
    for (int64_t i = 0; i < u->coming_count; i++)
        oasis_frame_free(&u->coming[(u->coming_first + i) % u->transfers]);
    /* The one that could not be opened is closed, too. */
    for (int i = 0; c && u->up && u->down && i < oas_transfers(&u->sizes); i++) {
        oas_cuda_block_close(c, &u->up[i]);
        oas_cuda_block_close(c, &u->down[i]);
    }
    if (c)
        oas_cuda_block_close(c, &u->marks);
    for (int i = 0; c && i < NETWORKS; i++)
        oas_cuda_clock_close(c, &u->clocks[i]);
    oas_free(u->up);
    oas_free(u->down);
    oas_free(u->coming);
}

void oas_enlarge_on_gpu(oasis_upscaler *u, const float *from, float *to)
{
    const upscale_sizes *s = &u->sizes;
    graph *g = &u->graph;
    oas_cuda *c = g->cuda;
    const cuda_resize how = {.in_width = s->in_width,
                             .in_height = s->in_height,
                             .out_width = s->out_width,
                             .out_height = s->out_height,
                             .padded_width = s->padded_width,
                             .padded_height = s->padded_height,
                             .a = u->resize_spec.a,
                             .scale = 2.f,
                             .offset = -1.f};
    cuda_block *b = &u->up[u->sent++ % u->transfers];
    oasis_status status = g->status < 0 ? g->status : oas_cuda_block_wait(c, b, &g->message);
    if (status == OASIS_OK) {
        oas_pool_copy(u->device->pool, b->host, from, b->bytes);
        status = oas_cuda_block_up(c, b);
    }
    if (status == OASIS_OK)
        status = c->tables.passes->resize(c, (cuda_array){to, OAS_F32}, (cuda_array){b->device, OAS_F32}, 1, &how);
    if (status == OASIS_OK)
        status = oas_cuda_block_used(c, b);
    if (status < 0)
        oas_graph_fail(g, status, "enlarging a frame on the GPU failed");
}

bool oas_frame_due(oasis_upscaler *u, bool end)
{
    if (u->coming_count == 0)
        return false;
    return end || u->coming_count > u->transfers / 2 ||
           oas_cuda_block_done(u->device->cuda, &u->down[u->coming_first % u->transfers]);
}

/* ---- finishing ---------------------------------------------------------------------------------------------------------- */

static oasis_status enlarge_alpha(oasis_upscaler *u, const oasis_frame *source, oasis_frame *out)
{
    if (!u->alpha_resizer) {
        oas_resize_spec spec = u->resize_spec;
        spec.channels = 1;
        spec.padded_width = spec.padded_height = 0;
        OAS_TRY(oas_resizer_new(&u->alpha_resizer, &spec, &u->message));
    }
    oas_resize(u->alpha_resizer, u->device->pool, source->alpha, out->alpha, 1.f, 0.f);
    for (size_t i = 0; i < (size_t)out->width * (size_t)out->height; i++)
        out->alpha[i] = fminf(fmaxf(out->alpha[i], 0.f), 1.f);
    return OASIS_OK;
}

/* The next of the ready list, without pixels yet. */
static oasis_status new_frame(oasis_upscaler *u, const oasis_frame *source, oasis_frame **out)
{
    const upscale_sizes *s = &u->sizes;
    oasis_frame *frame = &u->ready[u->ready_count];
    if (oas_frame_new_unset(frame, s->out_width, s->out_height, source->alpha != NULL) < 0)
        return oas_fail_memory(&u->message, result_floats(s) * sizeof(float), "a finished frame");
    u->ready_count++;
    frame->pts = source->pts;
    frame->duration = source->duration;
    frame->opaque = source->opaque;
    *out = frame;
    return OASIS_OK;
}

/* Corrects a frame by the enlarged input, `before` (NULL: nothing asks for that), and adds alpha. */
static oasis_status correct(oasis_upscaler *u, const oasis_frame *source, oasis_frame *out, const float *before)
{
    const upscale_sizes *s = &u->sizes;
    if (before && u->options.color_fix != OASIS_COLOR_FIX_NONE)
        oas_color_fix(u->options.color_fix, u->device->pool, s->out_width, s->out_height, out->rgb, before,
                      u->correction);
    float strength = (float)u->options.strength;
    for (size_t i = 0; before && i < result_floats(s); i++)
        out->rgb[i] = before[i] + strength * (out->rgb[i] - before[i]);
    return source->alpha ? enlarge_alpha(u, source, out) : OASIS_OK;
}

static oasis_status finish_here(oasis_upscaler *u, const oasis_frame *source, const float *decoded,
                                const float *enlarged)
{
    oasis_frame *out = NULL;
    OAS_TRY(new_frame(u, source, &out));
    oas_crop_frame(&u->graph, &u->sizes, decoded, out->rgb);
    if (u->before)
        oas_crop_frame(&u->graph, &u->sizes, enlarged, u->before);
    return correct(u, source, out, u->before);
}

static oasis_status send_down(oasis_upscaler *u, const float *decoded, const float *enlarged)
{
    graph *g = &u->graph;
    cuda_block *b = &u->down[(u->coming_first + u->coming_count) % u->transfers];
    oas_crop_frame(g, &u->sizes, decoded, b->device);
    if (u->sizes.looks_back)
        oas_crop_frame(g, &u->sizes, enlarged, (float *)b->device + result_floats(&u->sizes));
    OAS_TRY(oas_graph_status(u, g));
    oasis_status s = oas_cuda_block_down(g->cuda, b);
    return s < 0 ? oas_fail(&u->message, s, "a finished frame could not be copied from the GPU") : OASIS_OK;
}

oasis_status oas_finish_frame(oasis_upscaler *u, oasis_frame *source, const float *decoded, const float *enlarged)
{
    double start = oas_now();
    oasis_status s;
    if (u->graph.cuda) {
        s = send_down(u, decoded, enlarged);
        if (s < 0)
            return s;
        u->coming[(u->coming_first + u->coming_count++) % u->transfers] = *source;
        *source = (oasis_frame){0};
    } else {
        s = finish_here(u, source, decoded, enlarged);
        if (s == OASIS_OK)
            oasis_frame_free(source);
    }
    u->seconds_finish += oas_now() - start;
    return s;
}

oasis_status oas_take_frame(oasis_upscaler *u)
{
    int64_t at = u->coming_first % u->transfers;
    cuda_block *b = &u->down[at];
    oasis_frame *source = &u->coming[at], *out = NULL;
    u->ready_first = u->ready_count = 0;
    OAS_TRY(oas_cuda_block_wait(u->device->cuda, b, &u->message));
    double start = oas_now();
    OAS_TRY(new_frame(u, source, &out));
    size_t n = result_floats(&u->sizes);
    oas_pool_copy(u->device->pool, out->rgb, b->host, n * sizeof(float));
    OAS_TRY(correct(u, source, out, u->sizes.looks_back ? (const float *)b->host + n : NULL));
    oasis_frame_free(source);
    u->coming_first++;
    u->coming_count--;
    u->seconds_finish += oas_now() - start;
    return OASIS_OK;
}
