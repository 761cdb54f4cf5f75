/* The cache of prepared weights: a short list per weight, under a lock. */
#include "tensor/pack.h"

#include <pthread.h>
#include <string.h>

struct form {
    pack_key key;
    void *data;
    void (*give)(void *block);
    struct form *next;
};

struct packed {
    pthread_mutex_t lock;
    struct form *forms;
    size_t bytes;
};

packed *oas_packed_new(void)
{
    packed *p = oas_alloc(1, sizeof *p);
    if (p)
        pthread_mutex_init(&p->lock, NULL);
    return p;
}

void oas_packed_free(packed **p)
{
    if (!*p)
        return;
    for (struct form *f = (*p)->forms, *next; f; f = next) {
        next = f->next;
        f->give(f->data);
        oas_free(f);
    }
    pthread_mutex_destroy(&(*p)->lock);
    oas_free(*p);
    *p = NULL;
}

static void *take_plain(void *owner, size_t bytes)
{
    (void)owner;
    return oas_alloc(bytes, 1);
}

static const pack_storage plain = {take_plain, oas_free, NULL};

static oasis_status add_form(packed *p, const pack_storage *in, const pack_key *key, size_t bytes, pack_fn *make,
                             void *arg, struct form **out)
{
    struct form *f = oas_alloc(1, sizeof *f);
    if (!f)
        return OASIS_E_MEMORY;
    f->key = *key;
    f->give = in->give;
    f->data = in->take(in->owner, bytes);
    oasis_status s = f->data ? make(arg, f->data) : OASIS_E_MEMORY;
    if (s < 0) {
        if (f->data)
            f->give(f->data);
        oas_free(f);
        return s;
    }
    f->next = p->forms;
    p->forms = f;
    p->bytes += bytes;
    *out = f;
    return OASIS_OK;
}

oasis_status oas_packed_get(packed *p, const pack_key *key, size_t bytes, pack_fn *make, void *arg, const void **form)
{
    return oas_packed_get_in(p, &plain, key, bytes, make, arg, form);
}

oasis_status oas_packed_get_in(packed *p, const pack_storage *in, const pack_key *key, size_t bytes, pack_fn *make,
                               void *arg, const void **form)
{
    oasis_status s = OASIS_OK;
    pthread_mutex_lock(&p->lock);
    struct form *f = p->forms;
    while (f && memcmp(&f->key, key, sizeof *key) != 0)
        f = f->next;
    if (!f)
        s = add_form(p, in, key, bytes, make, arg, &f);
    pthread_mutex_unlock(&p->lock);
    if (s == OASIS_OK)
        *form = f->data;
    return s;
}

size_t oas_packed_bytes(const packed *p)
{
    return p ? p->bytes : 0;
}
