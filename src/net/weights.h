/*
 * The named weights of a model.  Networks ask for what they need by name and shape; the set knows where it comes from.
 * So the list of a network's weights exists once, in the code that uses it, for loading, making and saving alike.
 */
#ifndef OAS_NET_WEIGHTS_H
#define OAS_NET_WEIGHTS_H

#include "tensor/tensor.h"

enum { OAS_WEIGHT_NAME = 96 };

typedef enum oas_weight_kind {
    OAS_WEIGHT_MATRIX, /* keeps the type it has; prepared forms are cached with it */
    OAS_WEIGHT_VECTOR  /* biases, gains, modulation: always float */
} oas_weight_kind;

typedef struct weight {
    tensor tensor;
    char name[OAS_WEIGHT_NAME];
    bool used;   /* a network asked for it */
    void *owned; /* storage of its own, or NULL: a view of the file */
} weight;

typedef struct weight_set {
    weight *items;
    int count, capacity;
    bool create;          /* make what is missing, zeroed and float, instead of refusing */
    const char *path;     /* for messages */
    oasis_status status;  /* first failure, sticky */
    oasis_message message;
} weight_set;

/*
 * Adds a tensor that lies in `data`, which must stay valid and is not freed, or with data NULL one of the set's own,
 * zeroed.  Returns NULL (and fails the set) when memory is short.
 */
tensor *oas_weights_add(weight_set *w, const char *name, oas_dtype dtype, shape s, const void *data);

/* Room for `count` weights in all.  Tensors handed out stay valid only while no more than that are added. */
bool oas_weights_reserve(weight_set *w, int count);

/*
 * The weight of that name, which must have that shape; NULL after failing the set.  `optional`: missing is no failure.
 */
tensor *oas_weight(weight_set *w, oas_weight_kind kind, shape s, const char *format, ...) OAS_PRINTF(4, 5);
tensor *oas_weight_optional(weight_set *w, oas_weight_kind kind, shape s, const char *format, ...) OAS_PRINTF(4, 5);

/* The first weight that no network asked for, or NULL. */
const char *oas_weights_unused(const weight_set *w);

/* Bytes of prepared forms made so far. */
size_t oas_weights_packed_bytes(const weight_set *w);

void oas_weights_free(weight_set *w);

#endif
