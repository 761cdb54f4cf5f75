/* What an update takes: memory, work, time. */
#include "train/cost.h"

#include "cpu/peak.h"
#include "train/train.h"

#include <string.h>

void oas_cost_add_work(oasis_train_cost *c, const graph *g, double times)
{
    for (int i = 0; i < OAS_MAX_STAGES && g->stages[i].name; i++) {
        const stage_time *s = &g->stages[i];
        c->flops += times * s->flops;
        if (strcmp(s->name, "dense") == 0)
            c->dense += times * s->flops;
        else if (strcmp(s->name, "conv") == 0)
            c->conv += times * s->flops;
        else if (strcmp(s->name, "attention") == 0)
            c->attention += times * s->flops;
        else
            c->moved += times * s->bytes;
    }
}

void oas_cost_add_weights(oasis_train_cost *c, const parameter_set *set, const weights *w, oas_dtype compute)
{
    const int64_t block = w->count * (int64_t)sizeof(float);
    for (int i = 0; i < set->count; i++) {
        const tensor *t = &set->items[i]->tensor;
        const int64_t n = oas_count(&t->shape);
        c->parameters += n;
        /* Those trained lie in the block of masters alone; matrices that stay are also kept as products read them. */
        if (!t->needs_grad)
            c->weight_bytes += (int64_t)oas_bytes(t) + (t->shape.rank > 1 ? n * (int64_t)oas_dtype_size(compute) : 0);
    }
    c->weight_bytes += block;
    c->trained += w->trained;
    c->gradient_bytes += block;
    c->moment_bytes += 2 * block;
    c->average_bytes += block;
    c->moved += 10. * (double)block; /* the update reads five blocks and writes four, and gradients are set to zero */
}

void oas_cost_add_buffers(oasis_train_cost *c, const oasis_train_options *o, size_t pass_bytes, int more_clips)
{
    c->activation_bytes = (int64_t)pass_bytes;
    c->clip_bytes = (int64_t)(oas_clip_floats(o) * sizeof(float)) * 2 * (oas_feed_clips(o) + o->batch + more_clips);
    c->total_bytes =
        c->weight_bytes + c->gradient_bytes + c->moment_bytes + c->average_bytes + c->activation_bytes + c->clip_bytes;
}

void oas_cost_estimate(oasis_train_cost *c, const device *d, oas_dtype compute)
{
    /*
     * What training reaches, measured at small sizes (doc/speed.md, "Training"): of the peak of products, and of that of
     * plain vectors, by which attention's way back and everything that moves memory go.
     */
    const double of_dense = 0.25, of_conv = 0.32, of_attention = 0.21, bytes_per_flop = 0.03;
    c->bf16 = compute == OAS_BF16;
    c->threads = oas_pool_workers(d->pool);
    if (d->cuda)
        return; /* nothing is known about its time */
    double peak = oas_peak(d->level, compute, d->pool), plain = oas_peak(d->level, OAS_F32, d->pool);
    c->peak = peak;
    c->seconds = (c->dense / of_dense + c->conv / of_conv) / peak +
                 (c->attention / of_attention + c->moved / bytes_per_flop) / plain;
}
