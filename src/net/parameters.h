/*
 * The named weights of a model.  Networks ask for what they need by name and shape; the set knows where it comes from.
 * So the list of a network's weights exists once, in the code that uses it, for loading, making and saving alike.
 */
#ifndef OAS_NET_PARAMETERS_H
#define OAS_NET_PARAMETERS_H

#include "tensor/tensor.h"

enum { OAS_PARAMETER_NAME = 96 };

typedef enum parameter_kind {
    OAS_MATRIX, /* keeps the type it has; prepared forms are cached with it */
    OAS_VECTOR  /* biases, gains, modulation: always float */
} parameter_kind;

typedef struct parameter {
    tensor tensor;
    char name[OAS_PARAMETER_NAME];
    bool used;   /* a network asked for it */
    void *owned; /* storage of its own, or NULL: a view of the file */
} parameter;

typedef struct parameter_set {
    parameter **items; /* each stays where it is */
    int count, capacity;
    bool create;          /* make what is missing, zeroed and float, instead of refusing */
    bool shapes_only;     /* what is made has no values: to count weights, or to list them */
    const char *path;     /* for messages */
    oasis_status status;  /* first failure, sticky */
    oasis_message message;
} parameter_set;

/*
 * Adds a tensor that lies in `data`, which must stay valid and is not freed, or with data NULL one of the set's own,
 * zeroed.  Returns NULL (and fails the set) when memory is short.
 */
tensor *oas_parameters_add(parameter_set *w, const char *name, oas_dtype dtype, shape s, const void *data);

/*
 * The weight of that name, which must have that shape; NULL after failing the set.  `optional`: missing is no failure.
 */
tensor *oas_parameter(parameter_set *w, parameter_kind kind, shape s, const char *format, ...) OAS_PRINTF(4, 5);
tensor *oas_parameter_optional(parameter_set *w, parameter_kind kind, shape s, const char *format, ...) OAS_PRINTF(4, 5);

/* The weight of that name as it is, or NULL; it does not count as used. */
const tensor *oas_parameters_find(parameter_set *w, const char *name);

/* Removes and frees all weights whose names begin so; nobody may use them any more. */
void oas_parameters_remove(parameter_set *w, const char *prefix);

/* The first weight that no network asked for, or NULL. */
const char *oas_parameters_unused(const parameter_set *w);

/* Bytes of prepared forms made so far. */
size_t oas_parameters_packed_bytes(const parameter_set *w);

void oas_parameters_free(parameter_set *w);

#endif
