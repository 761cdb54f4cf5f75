/* Where a graph's values lie: the arena, tensors of their own, copies, tables of fixed values. */
#include "tensor/graph.h"

#include <string.h>

enum {
    HEADER_BYTES = 64 << 20
}; /* address space: a step's nodes and headers; pages cost nothing until they are used */

static bool on_device(const graph *g)
{
    return g->backend == OAS_CUDA;
}

bool oas_graph_open(graph *g, size_t bytes)
{
    if (!on_device(g))
        return oas_arena_new(&g->memory, bytes);
    g->memory = (arena){.size = bytes, .base = oas_cuda_alloc(g->cuda, bytes)};
    if (g->memory.base && oas_arena_new(&g->headers, HEADER_BYTES))
        return true;
    oas_graph_close(g);
    return false;
}

void oas_graph_close(graph *g)
{
    if (on_device(g)) {
        oas_cuda_release(g->cuda, g->memory.base);
        g->memory = (arena){0};
    }
    oas_arena_free(&g->memory);
    oas_arena_free(&g->headers);
}

bool oas_graph_own(graph *g, tensor *t)
{
    t->place = on_device(g) ? OAS_DEVICE : OAS_HOST;
    t->data = on_device(g) ? oas_cuda_alloc(g->cuda, oas_bytes(t)) : oas_alloc_large(oas_bytes(t));
    if (t->data && !on_device(g))
        oas_device_zero(g->device, t->data, oas_bytes(t)); /* by all threads, as its pages are made meanwhile */
    return t->data != NULL;
}

void oas_tensor_disown(tensor *t)
{
    if (t->place == OAS_DEVICE)
        oas_cuda_release(NULL, t->data);
    else
        oas_free(t->data);
    t->data = NULL;
}

/* ---- copies ------------------------------------------------------------------------------------------------------------ */

static oasis_status checked(graph *g, oasis_status s)
{
    if (s < 0)
        oas_graph_fail(g, s, "a copy on the GPU failed: %s", oasis_status_name(s));
    return g->status;
}

static bool idle(const graph *g)
{
    return g->planning || g->status < 0;
}

oasis_status oas_graph_upload_part(graph *g, tensor *t, size_t offset, const void *host, size_t bytes)
{
    if (idle(g) || !t || bytes == 0)
        return g->status;
    if (t->place == OAS_DEVICE)
        return checked(g, oas_cuda_upload(g->cuda, (char *)t->data + offset, host, bytes));
    memcpy((char *)t->data + offset, host, bytes);
    return g->status;
}

oasis_status oas_graph_download_part(graph *g, void *host, const tensor *t, size_t offset, size_t bytes)
{
    if (idle(g) || !t || bytes == 0)
        return g->status;
    if (t->place == OAS_DEVICE)
        return checked(g, oas_cuda_download(g->cuda, host, (const char *)t->data + offset, bytes));
    memcpy(host, (const char *)t->data + offset, bytes);
    return g->status;
}

oasis_status oas_graph_upload(graph *g, tensor *t, const void *host)
{
    return t ? oas_graph_upload_part(g, t, 0, host, oas_bytes(t)) : g->status;
}

oasis_status oas_graph_download(graph *g, void *host, const tensor *t)
{
    return t ? oas_graph_download_part(g, host, t, 0, oas_bytes(t)) : g->status;
}

/* The GPU's copies may not overlap: in pieces of the distance, in the order in which none overwrites what is to come. */
static oasis_status copy_on_device(graph *g, char *to, const char *from, size_t bytes)
{
    bool down = to < from;
    size_t distance = down ? (size_t)(from - to) : (size_t)(to - from);
    if (distance == 0)
        return g->status;
    size_t piece = distance < bytes ? distance : bytes;
    for (size_t done = 0; done < bytes && g->status == OASIS_OK; done += piece) {
        size_t n = bytes - done < piece ? bytes - done : piece, at = down ? done : bytes - done - n;
        checked(g, oas_cuda_copy(g->cuda, to + at, from + at, n));
    }
    return g->status;
}

oasis_status oas_graph_copy(graph *g, void *to, const void *from, size_t bytes)
{
    if (idle(g) || bytes == 0)
        return g->status;
    if (on_device(g))
        return copy_on_device(g, to, from, bytes);
    uintptr_t a = (uintptr_t)to, b = (uintptr_t)from;
    if (a < b + bytes && b < a + bytes)
        memmove(to, from, bytes);
    else
        oas_device_copy(g->device, to, from, bytes);
    return g->status;
}

oasis_status oas_graph_zero(graph *g, void *to, size_t bytes)
{
    if (idle(g) || bytes == 0)
        return g->status;
    if (on_device(g))
        return checked(g, oas_cuda_zero(g->cuda, to, bytes));
    oas_device_zero(g->device, to, bytes);
    return g->status;
}

oasis_status oas_graph_copy_rows(graph *g, void *to, size_t to_step, const void *from, size_t from_step, size_t bytes,
                                 size_t rows)
{
    if (idle(g) || bytes == 0)
        return g->status;
    if (on_device(g))
        return checked(g, oas_cuda_copy_rows(g->cuda, to, to_step, from, from_step, bytes, rows));
    for (size_t i = 0; i < rows; i++)
        memcpy((char *)to + i * to_step, (const char *)from + i * from_step, bytes);
    return g->status;
}

/* ---- forms and tables -------------------------------------------------------------------------------------------------- */

static void *take_device(void *owner, size_t bytes)
{
    return oas_cuda_alloc(owner, bytes);
}

static void give_device(void *block)
{
    oas_cuda_release(NULL, block);
}

/* The key with the GPU added, which the caller's keys leave room for. */
static pack_key on_gpu(const graph *g, const pack_key *key)
{
    pack_key k = *key;
    k.bytes[OAS_PACK_KEY - 2] = 'G';
    k.bytes[OAS_PACK_KEY - 1] = (unsigned char)g->cuda->index;
    return k;
}

/* Waits for what makes a form: another user of the weight may work on another stream. */
struct waited {
    graph *g;
    pack_fn *make;
    void *arg;
};

static oasis_status make_and_wait(void *arg, void *to)
{
    const struct waited *w = arg;
    oasis_message why;
    OAS_TRY(w->make(w->arg, to));
    return oas_cuda_wait(w->g->cuda, &why);
}

oasis_status oas_cuda_form(graph *g, const tensor *weight, const pack_key *key, size_t bytes, pack_fn *make, void *arg,
                           void **form)
{
    const void *found = NULL;
    *form = NULL;
    if (idle(g))
        return g->status;
    pack_key k = on_gpu(g, key);
    const pack_storage in = {take_device, give_device, g->cuda};
    struct waited made = {g, make, arg};
    oasis_status s = oas_packed_get_in(weight->packed, &in, &k, bytes, make_and_wait, &made, &found);
    *form = (void *)(uintptr_t)found;
    if (s < 0)
        oas_graph_fail(g, s, "%s: %zu bytes of its form on the GPU: %s", weight->name ? weight->name : "a weight",
                       bytes, oasis_status_name(s));
    return g->status;
}

/* Makes values on the host and uploads them. */
struct made_there {
    graph *g;
    size_t bytes;
    pack_fn *make;
    void *arg;
};

static oasis_status make_there(void *arg, void *to)
{
    const struct made_there *m = arg;
    void *host = oas_alloc(m->bytes, 1);
    oasis_status s = host ? m->make(m->arg, host) : OASIS_E_MEMORY;
    if (s == OASIS_OK)
        s = oas_cuda_upload(m->g->cuda, to, host, m->bytes);
    oas_free(host);
    return s;
}

tensor *oas_graph_table(graph *g, packed *cache, const pack_key *key, shape s, pack_fn *make, void *arg)
{
    tensor *t = cache ? oas_tensor_header(g) : oas_tensor(g, OAS_F32, s);
    if (!t || g->status < 0)
        return NULL;
    t->shape = s;
    t->dtype = OAS_F32;
    t->place = on_device(g) ? OAS_DEVICE : OAS_HOST;
    if (g->planning)
        return t;
    const void *form = NULL;
    struct made_there there = {g, oas_bytes(t), make, arg};
    oasis_status status;
    if (!on_device(g)) {
        status = cache ? oas_packed_get(cache, key, oas_bytes(t), make, arg, &form) : make(arg, t->data);
    } else if (cache) {
        pack_key k = on_gpu(g, key);
        const pack_storage in = {take_device, give_device, g->cuda};
        struct waited made = {g, make_there, &there};
        status = oas_packed_get_in(cache, &in, &k, oas_bytes(t), make_and_wait, &made, &form);
    } else {
        status = make_there(&there, t->data);
    }
    if (cache)
        t->data = (void *)(uintptr_t)form;
    return status < 0 ? oas_graph_fail(g, status, "a table of %zu bytes: %s", oas_bytes(t), oasis_status_name(status))
                      : t;
}
