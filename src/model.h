/*
 * A model: its configuration, its weights, and the forward functions that inference and training share.
 *
 *     pixels [B,T,H,W,3] --project--> c [B,F,h8,w8,in_dim] --restore--> z_high [B,F,h8,w8,latent] --decode--> frames
 *
 * Projection works on the latent grid of a whole shot, restoration on a window of that grid, decoding on the stitched
 * latents in order (doc/decisions.md 4, 12).
 */
#ifndef OAS_MODEL_H
#define OAS_MODEL_H

#include "decoder_file.h"
#include "format/model_file.h"
#include "net/decoder.h"
#include "net/dit.h"
#include "net/parameters.h"

enum {
    OAS_LATENT_FRAMES = 4, /* frames of a latent but the first of a shot */
    OAS_LATENT_PIXELS = 8, /* rows or columns of a latent */
    OAS_PIXEL_STEP = 16    /* pictures are padded to multiples of a patch: 2 latents */
};

struct oasis_model {
    model_file file; /* configuration, routing, mapped tensors */
    parameter_set parameters;
    linear projection; /* lq_proj: 768 -> in_dim; its first latent_channels outputs are z_L */
    dit dit;
    decoder decoder;
    /* Of oasis_model_set_decoder, else zeroed. */
    decoder_file decoder_file;
    parameter_set decoder_parameters;
    struct latent_change *change; /* from the transformer's latents to the decoder's; NULL: they are the same */
};

/*
 * Binds the networks of a configuration to the parameters of model->parameters (made when its `create` is set).  The
 * configuration and routing in model->file must be set.
 */
oasis_status oas_model_bind(oasis_model *model, oasis_message *message);

/* The decoder of a configuration, with weights of the set.  Freed with decoder->kind->free. */
oasis_status oas_decoder_bind(decoder *decoder, const model_config *config, parameter_set *weights, oasis_message *message);

/* The tensors of a decoder's file as parameters: views of the file where that is possible. */
oasis_status oas_parameters_of_decoder(parameter_set *weights, const decoder_file *file, oasis_message *message);
void oas_model_free_decoder(oasis_model *model);

/* z as the decoder wants it; z itself unless the decoder is another file's that normalises otherwise. */
tensor *oas_change_latents(graph *g, const oasis_model *model, tensor *z);

/* Bytes that weights take once they have been used: prepared forms, and what stays in use of the file. */
size_t oas_model_prepared_bytes(const oasis_model *model, oas_dtype compute, bool packs);

/* Bytes of prepared forms made so far. */
size_t oas_model_packed_bytes(const oasis_model *model);

/*
 * Frames to the latent grid.  At the start of a shot T = 1 + 4n and frame 0 stands for four, later T = 4n.
 *   pixels [B,T,H,W,3] float in [-1,1], H and W multiples of 16;  result [B,F,H/8,W/8,in_dim] float
 */
tensor *oas_project(graph *g, const oasis_model *model, tensor *pixels, bool start);

/* The one step: z_H = z_L - sigma v.  c [B,F,h8,w8,in_dim] -> [B,F,h8,w8,latent_channels], float. */
tensor *oas_restore(graph *g, const oasis_model *model, tensor *c);

/* Latents to frames, see net/decoder.h.  state NULL: a whole shot. */
tensor *oas_decode(graph *g, const oasis_model *model, decoder_state *state, tensor *z, tensor *pixels);

/*
 * The same for a tile: of what oas_decode_begin gives of the whole frame, which is z itself unless a part of the decoder
 * sees the whole frame.  `state` is that of the whole frame for the one, that of the tile for the other.
 */
tensor *oas_decode_begin(graph *g, const oasis_model *model, decoder_state *state, tensor *z);
tensor *oas_decode_tile(graph *g, const oasis_model *model, decoder_state *state, tensor *x, tensor *pixels);

#endif
