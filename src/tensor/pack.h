/*
 * Prepared forms of a weight: the layout and type a library wants, made at first use and kept with the weight.
 * A model may be used by several threads; the cache has its own lock.
 */
#ifndef OAS_TENSOR_PACK_H
#define OAS_TENSOR_PACK_H

#include "tensor/tensor.h"

enum { OAS_PACK_KEY = 64 };

/* What tells one form from another: whatever the maker puts in; compared byte by byte. */
typedef struct pack_key {
    unsigned char bytes[OAS_PACK_KEY];
} pack_key;

/* Memory that forms lie in, where it is not the process's. */
typedef struct pack_storage {
    void *(*take)(void *owner, size_t bytes); /* NULL: there is not so much */
    void (*give)(void *block);                /* after the owner's life, too */
    void *owner;
} pack_storage;

/* Writes the form into `to`. */
typedef oasis_status pack_fn(void *arg, void *to);

packed *oas_packed_new(void); /* NULL when memory is short */
void oas_packed_free(packed **p);

/*
 * The form with that key, `bytes` long; made by `make` when it is not there yet.  Valid until oas_packed_free.
 * Fails with OASIS_E_MEMORY or what `make` says.
 */
oasis_status oas_packed_get(packed *p, const pack_key *key, size_t bytes, pack_fn *make, void *arg, const void **form);

/* The same in other memory; the key must tell such forms from others. */
oasis_status oas_packed_get_in(packed *p, const pack_storage *in, const pack_key *key, size_t bytes, pack_fn *make,
                               void *arg, const void **form);

/* Bytes of all forms made so far. */
size_t oas_packed_bytes(const packed *p);

#endif
