/* What a degrader has of a GPU. */
#include "degrade/gpu.h"

#include "base/memory.h"
#include "base/rng.h"

#include <string.h>

oasis_status oas_gpu_new(degrade_gpu **out, int index, oasis_message *message)
{
    degrade_gpu *g = oas_alloc(1, sizeof *g);
    if (!g)
        return oas_fail_memory(message, sizeof *g, "degrading on a GPU");
    oasis_status s = oas_cuda_beside(&g->cuda, index, message);
    if (s < 0)
        oas_gpu_free(&g);
    else
        *out = g;
    return s;
}

void oas_gpu_free(degrade_gpu **out)
{
    degrade_gpu *g = *out;
    if (!g)
        return;
    if (g->cuda) {
        oas_cuda_release(g->cuda, g->mid);
        oas_cuda_release(g->cuda, g->levels);
        for (int i = 0; i < OAS_POISSON_DOMAINS; i++)
            oas_cuda_release(g->cuda, g->poisson_memory[i]);
    }
    oas_cuda_free(&g->cuda);
    oas_free(g);
    *out = NULL;
}

/* ---- memory and work ----------------------------------------------------------------------------------------------- */

size_t oas_gpu_room(size_t n)
{
    return n + n / 2;
}

oasis_status oas_gpu_floats(oas_cuda *cuda, float **block, size_t *capacity, size_t n, oasis_message *message)
{
    if (n <= *capacity)
        return OASIS_OK;
    size_t room = oas_gpu_room(n);
    oas_cuda_release(cuda, *block);
    *capacity = 0;
    *block = oas_cuda_alloc(cuda, room * sizeof **block);
    if (!*block)
        return oas_fail(
            message, OASIS_E_MEMORY,
            "degrade: GPU %d has not the %zu MiB left that a picture needs; free some of its memory, or use "
            "the device 'cpu'",
            cuda->index, room * sizeof **block / 1048576 + 1);
    *capacity = room;
    return OASIS_OK;
}

oasis_status oas_gpu_put(oasis_status status, const char *what, oasis_message *message)
{
    if (status >= 0)
        return status;
    return oas_fail(message, status, "degrade: the GPU did not %s; it has failed, or its memory is full", what);
}

/* ---- Poisson noise ------------------------------------------------------------------------------------------------- */

/* Rows of all scales and levels, and the numbers behind them. */
typedef struct tables {
    cuda_poisson_row rows[OAS_CUDA_POISSON_SCALES * OAS_CUDA_LEVELS];
    double *cumulated;
    size_t n, capacity;
} tables;

static bool add_mean(tables *t, cuda_poisson_row *row, double mean)
{
    oas_poisson p = {0};
    if (!oas_poisson_new(&p, mean))
        return false;
    size_t n = (size_t)p.n;
    if (t->n + n > t->capacity) {
        size_t capacity = 2 * (t->n + n) + 65536;
        double *grown = oas_alloc_unset(capacity, sizeof *grown);
        if (grown && t->n)
            memcpy(grown, t->cumulated, t->n * sizeof *grown);
        oas_free(t->cumulated);
        t->cumulated = grown;
        t->capacity = grown ? capacity : 0;
    }
    if (t->cumulated) {
        memcpy(t->cumulated + t->n, p.cumulated, n * sizeof *p.cumulated);
        *row = (cuda_poisson_row){(int64_t)t->n, p.first, p.n};
        t->n += n;
    }
    oas_poisson_free(&p);
    return t->cumulated != NULL;
}

static oasis_status make_tables(tables *t, double unit, oasis_message *message)
{
    for (int k = 0; k < OAS_CUDA_POISSON_SCALES; k++)
        for (int l = 0; l < OAS_CUDA_LEVELS; l++)
            if (!add_mean(t, &t->rows[k * OAS_CUDA_LEVELS + l], l * unit * (double)(1 << k)))
                return oas_fail_memory(message, t->capacity * sizeof *t->cumulated, "Poisson noise");
    return OASIS_OK;
}

static oasis_status upload_tables(degrade_gpu *g, const tables *t, void **memory, cuda_poisson *p,
                                  oasis_message *message)
{
    size_t rows = sizeof t->rows, bytes = t->n * sizeof *t->cumulated;
    char *block = *memory = oas_cuda_alloc(g->cuda, rows + bytes);
    if (!block || (!g->levels && !(g->levels = oas_cuda_alloc(g->cuda, OAS_CUDA_LEVELS_BYTES))))
        return oas_fail(message, OASIS_E_MEMORY, "degrade: GPU %d has no memory left for the tables of Poisson noise",
                        g->cuda->index);
    OAS_TRY(oas_gpu_put(oas_cuda_upload(g->cuda, block, t->rows, rows), "take tables", message));
    OAS_TRY(oas_gpu_put(oas_cuda_upload(g->cuda, block + rows, t->cumulated, bytes), "take tables", message));
    p->rows = (const cuda_poisson_row *)(void *)block;
    p->cumulated = (const double *)(void *)(block + rows);
    return oas_cuda_wait(g->cuda, message);
}

oasis_status oas_gpu_poisson(degrade_gpu *gpu, oasis_poisson_domain domain, const cuda_poisson **out,
                             oasis_message *message)
{
    cuda_poisson *p = &gpu->poisson[domain];
    *out = p;
    if (p->rows)
        return OASIS_OK;
    bool bytes = domain == OASIS_POISSON_BYTE;
    p->unit = bytes ? 1 : 1. / 255;
    p->back = bytes ? 1. / 255 : 1;
    tables *t = oas_alloc(1, sizeof *t);
    if (!t)
        return oas_fail_memory(message, sizeof *t, "Poisson noise");
    oasis_status s = make_tables(t, p->unit, message);
    if (s >= 0)
        s = upload_tables(gpu, t, &gpu->poisson_memory[domain], p, message);
    oas_free(t->cumulated);
    oas_free(t);
    return s;
}
