/*
 * Names of tensors in Wan2.1 checkpoints.  Our files and networks use the names of the original checkpoints; the
 * diffusers layout names the same tensors otherwise.  Tables and exceptions: doc/formats.md.
 */
#ifndef OAS_FORMAT_NAMES_H
#define OAS_FORMAT_NAMES_H

#include "format/stored.h"

typedef enum name_kind {
    OAS_NAME_UNKNOWN,         /* no tensor of the network */
    OAS_NAME_TENSOR,          /* `name` is its original name */
    OAS_NAME_HEAD_MODULATION, /* newer diffusers: norm_out.linear.bias [2 dim] is head.modulation [1, 2, dim] */
    OAS_NAME_HEAD_IDENTITY,   /* newer diffusers: norm_out.linear.weight [2 dim, dim], two identities; not needed */
    OAS_NAME_IMAGE            /* only image-to-video transformers have it: not supported */
} name_kind;

typedef struct mapped_name {
    name_kind kind;
    int block;                          /* number of a transformer block, -1 elsewhere */
    char text[OAS_STORED_MAX_NAME + 1]; /* original name where kind is TENSOR or HEAD_MODULATION, else "" */
} mapped_name;

/*
 * What a name in a file stands for, in the transformer and in the autoencoder.  Both layouts are understood, with or
 * without the prefixes "model.diffusion_model." and "diffusion_model." (transformer).  Block and layer numbers are not
 * checked against any size.
 */
mapped_name oas_name_of_transformer(const char *name);
mapped_name oas_name_of_autoencoder(const char *name);

/* The diffusers name of an original name, for messages and tests; false when it is none. */
bool oas_name_in_diffusers(const char *original, char text[OAS_STORED_MAX_NAME + 1]);

#endif
