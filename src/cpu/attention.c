/*
 * Attention: chooses the kernel, lays out what it packs, cuts the work into slabs and runs them: first the keys and
 * values of as many dense heads as fit in the memory for packed heads are packed, then the queries are attended.
 * Window heads pack what a slab needs while they attend.
 * Also holds the kernel in plain C.
 */
#include "cpu/attention.h"

#include "base/memory.h"
#include "cpu/attention_kernel.h"
#include "cpu/vector_c.h"

#include <math.h>

/* ---- the kernel in plain C -------------------------------------------------------------------------------------- */

#define KERNEL        oas_attention_c
#define KEYS_PER_UNIT 1
#define ROWS          4
#define PANELS        1
#define WINDOW_STEP   4
#define WINDOW_BLOCKS 1

#include "cpu/attention_template.h"

/* ---- layout ----------------------------------------------------------------------------------------------------- */

enum {
    PACKED_BYTES = 16 << 20, /* of keys and values: more heads are done in turn, a single larger head is not cut */
    SLAB_TILES = 12,         /* dense tiles that share a block of keys while it is in the second cache */
    SLAB_WINDOW_TILES = 200, /* at least, so that the rows packed for two slabs are few */
    SLAB_WINDOW_BYTES = 512 << 10, /* of packed keys at most, to stay in the second cache ... */
    SLAB_WINDOW_ROWS = 4           /* ... but not fewer rows of tiles than these */
};

static const attention_kernel *kernel_for(oas_cpu_level level, oas_dtype dtype)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (level >= OAS_LEVEL_AMX && dtype == OAS_BF16)
        return &oas_attention_amx;
    if (level >= OAS_LEVEL_AVX512BF16 && dtype == OAS_BF16)
        return &oas_attention_avx512bf16;
    if (level >= OAS_LEVEL_AVX512)
        return &oas_attention_avx512;
    if (level >= OAS_LEVEL_AVX2)
        return &oas_attention_avx2;
#endif
    (void)level;
    (void)dtype;
    return &oas_attention_c;
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static void lay_out_dense(attention_layout *l)
{
    const attention_kernel *k = l->kernel;
    int64_t groups = l->job->groups;
    l->padded = ceil_div(l->tokens, KEY_STEP) * KEY_STEP;
    l->key_floats = (size_t)(groups * l->padded * l->units);
    l->value_floats = (size_t)(groups * l->padded / k->keys_per_unit * l->panels * LANES);
    l->pack_slabs = groups * ceil_div(l->padded, KEY_BLOCK);
    l->tiles = ceil_div(l->tokens, k->rows);
    l->group_slabs = ceil_div(l->tiles, SLAB_TILES);
    l->slab_tiles = ceil_div(l->tiles, l->group_slabs);
    l->attend_slabs = groups * l->group_slabs;
    /* per tile: queries, sums, totals, tops (padded to 16); once: scores and factors */
    l->worker_floats =
        (size_t)(l->slab_tiles * ((l->lines + l->panels + 1) * k->rows + ceil_div(k->rows, LANES)) * LANES +
                 (KEY_BLOCK / LANES * k->rows + 1) * LANES);
}

static void lay_out_window(attention_layout *l)
{
    const attention_job *job = l->job;
    for (int i = 0; i < 3; i++)
        l->radius[i] = job->window[i] / 2;
    for (int i = 0; i < 2; i++)
        l->before[i] = (l->radius[i + 1] + 1) / 2 * 2;
    l->high = (TILE_HIGH + l->before[0] + l->radius[1] + TILE_HIGH - 1) / TILE_HIGH;
    l->wide = (TILE_WIDE + l->before[1] + l->radius[2] + BLOCK_WIDE - 1) / BLOCK_WIDE;
    l->ring = (BLOCK_WIDE / TILE_WIDE) * (l->wide - 1) + 1;
    int frames = job->window[0] < job->frames ? job->window[0] : (int)job->frames;
    l->vectors = frames * l->high * l->wide + WINDOW_SPARE;
    l->block_floats = (l->units + LANES / l->kernel->keys_per_unit * l->panels) * LANES;
    l->tile_rows = ceil_div(job->height, TILE_HIGH);
    l->tile_columns = ceil_div(job->width, TILE_WIDE);
    int64_t row_bytes = job->frames * l->ring * l->block_floats * (int64_t)sizeof(float);
    int64_t most = SLAB_WINDOW_BYTES / row_bytes - (l->high - 1);
    int64_t least = ceil_div(SLAB_WINDOW_TILES, l->tile_columns * job->frames);
    most = most > SLAB_WINDOW_ROWS ? most : SLAB_WINDOW_ROWS;
    l->slab_rows = least < most ? least : most;
    l->group_slabs = ceil_div(l->tile_rows, l->slab_rows);
    l->slab_rows = ceil_div(l->tile_rows, l->group_slabs);
    l->block_rows = l->slab_rows + l->high - 1;
    l->attend_slabs = job->groups * l->group_slabs;
    /* a column of packed blocks; queries, sums, scores, totals; per vector a pointer and 2x8 masks */
    l->worker_floats = (size_t)(job->frames * l->block_rows * l->ring * l->block_floats +
                                (l->lines + l->panels + l->vectors + 1) * WINDOW_ROWS * LANES + l->vectors * LANES);
}

static attention_layout lay_out(oas_cpu_level level, const attention_task *task, int job)
{
    const attention_kernel *k = kernel_for(level, task->dtype);
    attention_layout l = {.kernel = k, .task = task, .job = &task->job[job]};
    l.scale = (float)(1.4426950408889634 / sqrt((double)task->head_dim));
    l.units = (task->head_dim + k->keys_per_unit - 1) / k->keys_per_unit;
    l.units = (l.units + k->unit_step - 1) / k->unit_step * k->unit_step;
    l.lines = (l.units + LANES - 1) / LANES;
    l.panels = (int)ceil_div(ceil_div(task->head_dim, LANES), k->panels) * k->panels;
    l.tokens = l.job->frames * l.job->height * l.job->width;
    if (l.job->window[0] > 0)
        lay_out_window(&l);
    else
        lay_out_dense(&l);
    return l;
}

/* ---- running ---------------------------------------------------------------------------------------------------- */

enum { MOST_TOGETHER = 16 }; /* heads packed at once */

typedef struct needs {
    size_t packed, worker; /* floats */
} needs;

/* The memory for packed heads holds the largest head, and more heads up to PACKED_BYTES. */
static needs needs_of(oas_cpu_level level, const attention_task *task)
{
    size_t largest = 0, all = 0, worker = 0;
    for (int i = 0; i < task->jobs; i++) {
        attention_layout l = lay_out(level, task, i);
        size_t head = l.key_floats + l.value_floats;
        largest = head > largest ? head : largest;
        all += head;
        worker = l.worker_floats > worker ? l.worker_floats : worker;
    }
    size_t some = PACKED_BYTES / sizeof(float);
    some = some < all ? some : all;
    return (needs){.packed = some > largest ? some : largest, .worker = worker};
}

size_t oas_attention_scratch(oas_cpu_level level, const attention_task *task, int workers)
{
    needs n = needs_of(level, task);
    return (n.packed + n.worker * (size_t)workers) * sizeof(float);
}

typedef struct batch {
    int heads;
    attention_layout head[MOST_TOGETHER];
    size_t worker_floats;
    float *scratch; /* worker 0's */
} batch;

static void pack_slab(void *arg, int64_t slab, int worker)
{
    (void)worker;
    const batch *b = arg;
    int i = 0;
    for (; slab >= b->head[i].pack_slabs; i++)
        slab -= b->head[i].pack_slabs;
    b->head[i].kernel->pack(&b->head[i], slab);
}

static void attend_slab(void *arg, int64_t slab, int worker)
{
    const batch *b = arg;
    int i = 0;
    for (; slab >= b->head[i].attend_slabs; i++)
        slab -= b->head[i].attend_slabs;
    b->head[i].kernel->attend(&b->head[i], slab, b->scratch + (size_t)worker * b->worker_floats);
}

/* Work per slab, so that the heavy slabs are claimed first and the light ones fill the end. */
static double weight(const attention_layout *l)
{
    return l->job->window[0] > 0 ? 0 : (double)l->tokens;
}

static void insert(batch *b, const attention_layout *l)
{
    int at = b->heads++;
    for (; at > 0 && weight(&b->head[at - 1]) < weight(l); at--)
        b->head[at] = b->head[at - 1];
    b->head[at] = *l;
}

void oas_attention_run(oas_cpu_level level, const attention_task *task, oas_pool *pool, void *scratch)
{
    needs n = needs_of(level, task);
    float *memory = scratch;
    batch b = {.worker_floats = n.worker, .scratch = memory + n.packed};
    for (int i = 0; i < task->jobs;) {
        size_t used = 0;
        int64_t pack_slabs = 0, attend_slabs = 0;
        for (b.heads = 0; i < task->jobs && b.heads < MOST_TOGETHER; i++) {
            attention_layout l = lay_out(level, task, i);
            if (used + l.key_floats + l.value_floats > n.packed)
                break;
            l.keys = memory + used;
            l.values = l.keys + l.key_floats;
            used += l.key_floats + l.value_floats;
            pack_slabs += l.pack_slabs;
            attend_slabs += l.attend_slabs;
            insert(&b, &l);
        }
        oas_pool_run(pool, pack_slabs, pack_slab, &b);
        oas_pool_run(pool, attend_slabs, attend_slab, &b);
    }
}
