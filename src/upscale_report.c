/* What an upscaler says about itself: its plan, and what it has done. */
#include "upscale.h"

/* Bytes a second of upscaling twice and finishing, as upscale_work counts them. */
static void measure_pictures(oasis_upscaler *u)
{
    const upscale_sizes *s = &u->sizes;
    enum { RUNS = 3 };
    size_t source = (size_t)s->in_width * (size_t)s->in_height * 3;
    float *from = oas_alloc(source, sizeof(float));
    oas_graph_reset(&u->graph);
    tensor *pixels = oas_tensor(&u->graph, OAS_F32, OAS_SHAPE5(1, 1, s->padded_height, s->padded_width, 3));
    tensor *frame = oas_tensor(&u->graph, OAS_F32, OAS_SHAPE5(1, 1, s->out_height, s->out_width, 3));
    double best = 0;
    for (int i = 0; from && frame && i < RUNS; i++) {
        double start = oas_now();
        oas_resize(u->resizer, u->device->pool, from, (float *)pixels->data, 2.f, -1.f);
        double resized = oas_now();
        oas_crop_frame(&u->graph, s, pixels->data, frame->data);
        double seconds = 2 * (resized - start) + oas_now() - resized;
        if (best <= 0 || seconds < best)
            best = seconds;
    }
    if (best > 0)
        u->rates.picture_bytes = u->work.picture_bytes / best;
    oas_free(from);
    oas_graph_reset(&u->graph);
}

void oasis_upscaler_calibrate(oasis_upscaler *u)
{
    if (u->device->cuda) {
        oas_try_on_gpu(u);
        return;
    }
    measure_pictures(u);
    oas_measure_rates(&u->sizes, &u->work, u->model, u->device, &u->graph.memory, &u->rates);
}

/* ---- what it says about itself -------------------------------------------------------------------------------------------- */

int oas_delay(const oasis_upscaler *u)
{
    /* Nobody waits for frames that a GPU works at before it gets more to do. */
    int on_way = u->device->cuda ? oas_step_frames(&u->sizes) : 0;
    return oas_window_frames(&u->sizes) + 1 + on_way;
}

void oasis_upscaler_plan(const oasis_upscaler *u, oasis_plan *plan)
{
    const upscale_sizes *s = &u->sizes;
    *plan = (oasis_plan){.width = s->out_width,
                         .height = s->out_height,
                         .window_frames = oas_window_frames(s),
                         .window_height = s->rows.window * OAS_LATENT_PIXELS,
                         .window_width = s->columns.window * OAS_LATENT_PIXELS,
                         .windows = s->rows.count * s->columns.count,
                         .tiles = s->tile_rows * s->tile_columns,
                         .delay = oas_delay(u),
                         .bf16 = s->compute == OAS_BF16,
                         .threads = oas_pool_workers(u->device->pool),
                         .weight_bytes = (int64_t)u->planned.weights,
                         .peak_bytes = (int64_t)oas_upscale_total(&u->planned) + u->options.memory_reserved,
                         .reserved_bytes = u->options.memory_reserved,
                         .limit_bytes = u->memory_limit,
                         .seconds_per_frame = oas_estimate_seconds(&u->work, &u->rates),
                         .prepare_seconds = (double)u->planned.weights / u->rates.prepared_bytes,
                         .step_frames = oas_step_frames(s),
                         .window_flops = oas_work_flops(&u->work.window),
                         .window_seconds = oas_work_seconds(&u->work.window, &u->rates.restore),
                         .latent_flops = oas_work_flops(&u->work.first),
                         .latent_seconds = oas_work_seconds(&u->work.first, &u->rates.restore),
                         .start_flops = oas_work_flops(&u->work.start_project) + oas_work_flops(&u->work.start_decode),
                         .start_seconds = oas_work_seconds(&u->work.start_project, &u->rates.project) +
                                          oas_work_seconds(&u->work.start_decode, &u->rates.decode)};
    plan->device = u->device_name.text;
    const stage_work *parts[] = {&u->work.project, &u->work.restore, &u->work.decode};
    for (int i = 0; i < 3; i++)
        plan->flops_per_frame += oas_work_flops(parts[i]);
}

void oas_add_stage(oasis_statistics *s, const char *name, double seconds, double flops)
{
    if (s->n_stages < OASIS_MAX_STAGES)
        s->stages[s->n_stages++] = (oasis_stage_time){name, seconds, flops};
}

void oasis_upscaler_statistics(const oasis_upscaler *u, oasis_statistics *statistics)
{
    *statistics = u->statistics;
    statistics->n_stages = 0;
    statistics->network_calls = u->replays.calls;
    statistics->network_launches = u->replays.replayed;
    statistics->networks_uncaptured = u->replays.refused;
    statistics->transformer_seconds = u->seconds_restore;
    statistics->decoder_seconds = u->seconds_decode;
    oas_add_stage(statistics, "resize", u->seconds_resize, 0);
    if (u->device->cuda)
        oas_network_times(u, statistics);
    for (int i = 0; !u->device->cuda && i < OAS_MAX_STAGES && u->graph.stages[i].name; i++) {
        const stage_time *t = &u->graph.stages[i];
        oas_add_stage(statistics, t->name, t->seconds, t->flops);
    }
    oas_add_stage(statistics, "finish", u->seconds_finish, 0);
    statistics->peak_bytes =
        (int64_t)(u->graph.memory.size + u->exact.memory.size + u->planned.grids + u->planned.states +
                  u->planned.frames + u->planned.transfers + oas_model_packed_bytes(u->model));
}
