/*
 * What the files of the converter share: the checkpoints, accounted for, and the tensors of the file to be written.
 */
#ifndef OAS_CONVERT_H
#define OAS_CONVERT_H

#include "model.h"
#include "net/wan_vae.h"

#include <oasis/convert.h>

/* A checkpoint: where every tensor of a network lies in it. */
typedef struct checkpoint {
    weight_file *file;
    parameter_set network; /* names and shapes of the whole network; no values */
    const stored **found;  /* of each of network.items; `file` owns them */
} checkpoint;

/* A tensor to be written. */
typedef struct convert_item {
    const stored *from; /* a checkpoint's, or NULL */
    float *values;      /* computed, owned, or NULL */
    bool random;
} convert_item;

typedef struct conversion {
    const oasis_convert_options *options;
    oasis_message *message;
    checkpoint transformer, autoencoder, prompt;
    decoder_file decoder;  /* in place of the autoencoder's; file NULL: none */
    dit_config dit;        /* of the checkpoint */
    int base;              /* width of the autoencoder, 0 without one */
    model_config config;   /* of the file to be written */
    routing routing;
    oasis_model model;     /* networks bound to shapes: model.parameters is the list of tensors to be written */
    convert_item *item;    /* one for each */
    stored *entry;
    double explained[OAS_WAN_LATENT]; /* see oasis_convert_report */
    int64_t total, done;   /* values, for progress */
} conversion;

/* ---- checkpoints: convert_checkpoint.c ----------------------------------------------------------------------------------- */

/*
 * Opens the checkpoint of a transformer, reads its sizes off its tensors into *dit, and accounts for every tensor.
 * `heads` 0: width / 128.  The text branch in *dit is that of a prompt.
 */
oasis_status oas_checkpoint_transformer(checkpoint *c, dit_config *dit, const char *path, int heads,
                                        oasis_message *message);

/* The same of an autoencoder; *base is its width at full resolution. */
oasis_status oas_checkpoint_autoencoder(checkpoint *c, int *base, const char *path, oasis_message *message);

/* The tensor of that original name, which the accounting has seen; NULL when the network has none of that name. */
const stored *oas_checkpoint_find(const checkpoint *c, const char *name);

void oas_checkpoint_close(checkpoint *c);

/* SHA-256 of a file, as hexadecimal text. */
oasis_status oas_checkpoint_digest(const char *path, char hex[65], oasis_message *message);

/* ---- values: convert_values.c -------------------------------------------------------------------------------------------- */

/* Computes the tensors that no checkpoint has (the text branch, lq_proj) and says where all others come from. */
oasis_status oas_convert_values(conversion *c);

/* Fits lq_proj, weight [16, 768] and bias [16], to the encoder over the options' clips.  Needs an autoencoder. */
oasis_status oas_convert_fit(conversion *c, float *weight, float *bias);

/* Writes values first .. first+n-1 of random tensor `index`: layers keep the size of what passes. */
void oas_convert_random(const conversion *c, size_t index, int64_t first, int64_t n, float *to);

#endif
