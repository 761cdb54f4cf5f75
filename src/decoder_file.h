/*
 * A decoder in a file: that of a model of ours, one on its own ("oasis-decoder-1", which training writes), a checkpoint of
 * Wan2.1's video autoencoder in either layout of names, or one in TAEHV's layout.
 */
#ifndef OAS_DECODER_FILE_H
#define OAS_DECODER_FILE_H

#include "format/model_file.h"
#include "net/parameters.h"

#define OAS_DECODER_FORMAT "oasis-decoder-1"

typedef struct decoder_tensor {
    char name[OAS_PARAMETER_NAME]; /* as the network asks for it */
    const stored *from;
} decoder_tensor;

typedef struct decoder_file {
    weight_file *file;
    model_config config; /* latent_channels, decoder, decoder_channels, decoder_widths, normalised, latent_mean/std */
    const char *name, *license; /* "" where the file says nothing */
    bool alone;                 /* no model, and no part of one */
    decoder_tensor *tensor;
    int count;
} decoder_file;

/*
 * Opens a file and finds the decoder in it.  Checkpoints say nothing of latents: theirs are Wan2.1's.  On failure *d is
 * zeroed.  Fails with OASIS_E_IO, OASIS_E_FORMAT (damaged, or there is no decoder in it), OASIS_E_UNSUPPORTED,
 * OASIS_E_MEMORY.
 */
oasis_status oas_decoder_file_open(decoder_file *d, const char *path, oasis_message *message);
void oas_decoder_file_close(decoder_file *d);

const stored *oas_decoder_file_find(const decoder_file *d, const char *name);

#endif
