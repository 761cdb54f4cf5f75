/* Sums of gradients on GPUs or in host memory. */
#include "train/carrier.h"

#include "base/memory.h"
#include "cuda/peers.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MOST_PENDING = 128, WORDS = 320 };

/* A sum in host memory of values on a GPU. */
typedef struct visit {
    float *there, *here;
    size_t n;
} visit;

struct carrier {
    const oasis_ranks *ranks;
    oas_cuda *cuda;    /* NULL: the values are on the host */
    cuda_peers *peers; /* NULL: sums are made on the host */
    float *staging;    /* [floats], of values on a GPU that are added on the host */
    size_t floats, used;
    visit pending[MOST_PENDING];
    int n_pending;
    char words[WORDS];
};

oasis_status oas_ranks_lost(oasis_message *message)
{
    return oas_fail(message, OASIS_E_DEVICE, "the connection to the other ranks failed");
}

/* ---- who is where ---------------------------------------------------------------------------------------------------- */

/* 53 bits of FNV-1a, so that a double carries it; never 0. */
static double identity(const char *text)
{
    uint64_t h = 14695981039346656037u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211u;
    return (double)(h >> 11 | 1);
}

/* This machine, until it starts again. */
static double machine(void)
{
    char text[320] = "";
    gethostname(text, 255);
    size_t n = strlen(text);
    FILE *f =
        fopen("/proc/sys/kernel/random/boot_id", "r"); /* containers on one machine share it, and may share a name */
    if (f) {
        n += fread(text + n, 1, 40, f);
        text[n] = 0;
        fclose(f);
    }
    return identity(text);
}

/* The values of all ranks, each of which brings `mine`; false after a failure. */
static bool gather(const oasis_ranks *k, double mine, double all[OAS_MOST_RANKS])
{
    memset(all, 0, OAS_MOST_RANKS * sizeof *all);
    all[k->rank] = mine;
    return k->sum(k->user, all, (size_t)k->count);
}

oasis_status oas_carrier_device(const oasis_ranks *k, const char *name, device_name *where, oasis_message *message)
{
    bool automatic = !name || strcmp(name, "auto") == 0;
    snprintf(where->text, sizeof where->text, "%s", name ? name : "auto");
    double all[OAS_MOST_RANKS];
    OAS_TRY(oasis_ranks_agree(k, OASIS_OK, message)); /* there are not too many */
    if (!gather(k, machine(), all))
        return oas_ranks_lost(message);
    int before = 0, gpus = oas_cuda_count();
    for (int i = 0; i < k->rank; i++)
        before += all[i] == all[k->rank];
    if (gpus > 0 && (automatic ? oas_cuda_usual() >= 0 : strcmp(name, "cuda") == 0))
        snprintf(where->text, sizeof where->text, "cuda:%d", before % gpus);
    return OASIS_OK;
}

/* ---- which way ------------------------------------------------------------------------------------------------------- */

/* What a rank brings to the choice: 0 = values on the host, else its GPU; below 0 where the library is not there. */
static double gpu_of(const carrier *c)
{
    char text[64];
    if (!c->cuda)
        return 0;
    snprintf(text, sizeof text, "%llx", (unsigned long long)oas_cuda_identity(c->cuda));
    return c->peers ? identity(text) : -identity(text);
}

/* Why not on GPUs: NULL = nothing is against it.  The same on all ranks. */
static const char *objection(const oasis_ranks *k, const double *gpu, char *text, size_t size)
{
    for (int i = 0; i < k->count; i++) {
        for (int j = 0; j < i; j++)
            if (gpu[i] != 0 && (gpu[j] == gpu[i] || gpu[j] == -gpu[i])) {
                snprintf(text, size, "ranks %d and %d share a GPU", j, i);
                return text;
            }
        if (gpu[i] == 0) {
            snprintf(text, size, "rank %d has no GPU", i);
            return text;
        }
        if (gpu[i] < 0) {
            snprintf(text, size,
                     "rank %d cannot load NCCL (libnccl.so.2): it is not installed, or in no folder of "
                     "LD_LIBRARY_PATH, or this oasis was built without CUDA",
                     i);
            return text;
        }
    }
    return NULL;
}

/* All ranks meet with an id that the first one made. */
static oasis_status join(carrier *c, oasis_message *message)
{
    const oasis_ranks *k = c->ranks;
    cuda_peers_id id = {{0}};
    oasis_status s = k->rank == 0 ? oas_peers_id(c->peers, &id, message) : OASIS_OK;
    OAS_TRY(oasis_ranks_agree(k, s, message));
    if (!k->broadcast(k->user, &id, sizeof id, 0))
        return oas_ranks_lost(message);
    OAS_TRY(oasis_ranks_agree(k, oas_peers_join(c->peers, &id, k->rank, k->count, message), message));
    int n = snprintf(c->words, sizeof c->words, "on the GPUs by ");
    oas_peers_describe(c->peers, c->words + n, sizeof c->words - (size_t)n);
    return OASIS_OK;
}

static oasis_status choose(carrier *c, oasis_message *message)
{
    const oasis_ranks *k = c->ranks;
    char text[WORDS / 2 + 64];
    double gpu[OAS_MOST_RANKS];
    oasis_message why;
    if (c->cuda)
        oas_peers_load(&c->peers, c->cuda, &why);
    if (!gather(k, gpu_of(c), gpu))
        return oas_ranks_lost(message);
    bool some = false;
    for (int i = 0; i < k->count; i++)
        some = some || gpu[i] != 0;
    const char *against = objection(k, gpu, text, sizeof text);
    if (!against)
        return join(c, message);
    snprintf(c->words, sizeof c->words, some ? "in host memory: %s" : "in host memory", against);
    oas_peers_free(&c->peers);
    if (!c->cuda)
        return OASIS_OK;
    c->staging = oas_cuda_host_alloc(c->cuda, c->floats * sizeof *c->staging);
    return c->staging ? OASIS_OK : oas_fail_memory(message, c->floats * sizeof *c->staging, "sums of gradients");
}

oasis_status oas_carrier_new(carrier **out, const oasis_ranks *ranks, oas_cuda *cuda, size_t floats,
                             oasis_message *message)
{
    carrier *c = oas_alloc(1, sizeof *c);
    oasis_status s = c ? OASIS_OK : oas_fail_memory(message, sizeof *c, "sums over ranks");
    s = oasis_ranks_agree(ranks, s, message);
    if (s == OASIS_OK) {
        *c = (carrier){.ranks = ranks, .cuda = cuda, .floats = floats};
        s = oasis_ranks_agree(ranks, choose(c, message), message);
    }
    if (s < 0)
        oas_carrier_free(&c);
    else
        *out = c;
    return s;
}

void oas_carrier_free(carrier **out)
{
    carrier *c = *out;
    if (!c)
        return;
    oas_peers_free(&c->peers);
    if (c->cuda)
        oas_cuda_host_release(c->cuda, c->staging);
    oas_free(c);
    *out = NULL;
}

const char *oas_carrier_words(const carrier *c)
{
    return c->words;
}

bool oas_carrier_on_gpus(const carrier *c)
{
    return c->peers != NULL;
}

/* ---- sums ------------------------------------------------------------------------------------------------------------ */

static bool begin_visit(carrier *c, float *values, size_t n)
{
    const oasis_ranks *k = c->ranks;
    if ((c->n_pending == MOST_PENDING || n > c->floats - c->used) && !oas_carrier_finish(c))
        return false;
    if (n > c->floats - c->used)
        return false;
    visit v = {values, c->staging + c->used, n};
    if (oas_cuda_download(c->cuda, v.here, values, n * sizeof *values) < 0)
        return false;
    c->used += n;
    c->pending[c->n_pending++] = v;
    return k->begin_sum(k->user, v.here, n);
}

bool oas_carrier_begin(carrier *c, float *values, size_t n)
{
    if (c->peers)
        return oas_peers_sum(c->peers, values, n) == OASIS_OK;
    return c->cuda ? begin_visit(c, values, n) : c->ranks->begin_sum(c->ranks->user, values, n);
}

bool oas_carrier_advance(carrier *c)
{
    return c->peers || c->ranks->advance(c->ranks->user);
}

bool oas_carrier_finish(carrier *c)
{
    if (c->peers)
        return oas_peers_finish(c->peers) == OASIS_OK;
    bool ok = c->ranks->finish(c->ranks->user);
    for (int i = 0; i < c->n_pending && ok; i++) {
        const visit *v = &c->pending[i];
        ok = oas_cuda_upload(c->cuda, v->there, v->here, v->n * sizeof *v->here) == OASIS_OK;
    }
    c->n_pending = 0;
    c->used = 0;
    return ok;
}
