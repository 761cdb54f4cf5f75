/*
 * Our model file: safetensors whose metadata says what the network is (doc/formats.md).
 *
 * Everything in model_config is checked against the ranges beside it before it is given out.  Keys of the config that
 * this program does not know are ignored, so that later versions can add some; a change that old programs must not
 * ignore gets another "format".
 */
#ifndef OAS_FORMAT_MODEL_FILE_H
#define OAS_FORMAT_MODEL_FILE_H

#include "format/routing.h"
#include "format/weight_file.h"

enum { OAS_MODEL_MAX_LATENT = 64, OAS_MODEL_MAX_WIDTHS = 4 };

/* What takes the place of the prompt: spec of the text branch, doc/formats.md. */
typedef enum model_text {
    OAS_TEXT_NONE,     /* no cross-attention at all */
    OAS_TEXT_CONSTANT, /* blocks.N.cross_const [dim], added where cross-attention was */
    OAS_TEXT_PROMPT,   /* cross-attention to the stored keys and values of one prompt */
    OAS_TEXT_MODES
} model_text;

typedef enum model_decoder {
    OAS_DECODER_NONE,                /* none in the file: one must be given */
    OAS_DECODER_TINY_CONDITIONAL,    /* ours, sees the upscaled frames; 4 widths: latent, 1/8, 1/4, 1/2 */
    OAS_DECODER_TAEHV,               /* 4 widths, from the latent's resolution to the frame's */
    OAS_DECODER_WAN_VAE,             /* 1 width: that at full resolution (96) */
    OAS_DECODER_QUARTER_CONDITIONAL, /* ours, sees the upscaled frames; 3 widths: latent, 1/8, 1/4 */
    OAS_DECODERS
} model_decoder;

/* How frames are brought to the output size before the network. */
typedef enum model_upscale { OAS_UPSCALE_BICUBIC, /* a = -0.75 */ OAS_UPSCALE_BILINEAR, OAS_UPSCALES } model_upscale;

typedef struct model_config {
    int latent_channels; /* 1 .. 64 */
    int in_dim;          /* channels of lq_proj: latent_channels .. 4096 */
    int dim;             /* 1 .. 16384, a multiple of num_heads */
    int num_heads;       /* 1 .. OAS_MAX_HEADS; dim / num_heads is even and at most 512 */
    int num_layers;      /* 1 .. OAS_ROUTING_MAX_LAYERS */
    int ffn_dim;         /* 1 .. 65536 */
    int patch_size[3];   /* frames, rows, columns: 1, 2, 2 */
    int unshuffle[3];    /* 4, 8, 8 */
    double eps;          /* of the norms: above 0, at most 0.01; default 1e-6 */
    double rope_theta;   /* 1 .. 1e9; default 10000 */
    double sigma;        /* z_H = z_L - sigma v: 0 .. 1; default 0.4 */
    double timestep;     /* 0 .. 1000; default 400 */
    model_text text;     /* default none */
    model_decoder decoder;
    int decoder_channels[OAS_MODEL_MAX_WIDTHS]; /* 1 .. 4096 each */
    int decoder_widths;                         /* how many of them */
    model_upscale upscale;                      /* default bicubic */
    int trained_window[3];                      /* frames 4n+1, rows, columns, multiples of 16; 0, 0, 0 = not said */
    bool normalised;                            /* latents are (z - mean) / std of the decoder's */
    float latent_mean[OAS_MODEL_MAX_LATENT];    /* 0 unless normalised */
    float latent_std[OAS_MODEL_MAX_LATENT];     /* above 0; 1 unless normalised */
} model_config;

/* The words that the config uses: "none", "tiny-conditional", "bicubic". */
const char *oas_model_text_name(model_text text);
const char *oas_model_decoder_name(model_decoder decoder);
const char *oas_model_upscale_name(model_upscale upscale);

typedef struct model_file {
    weight_file *weights;
    model_config config;
    routing routing;     /* layers and heads are those of the config */
    const char *name;    /* "" when the file does not say */
    const char *license; /* likewise */
} model_file;

/*
 * Opens and checks a model file.  On OASIS_OK it is closed with oas_model_file_close; on failure it is zeroed.
 * Fails with OASIS_E_IO, OASIS_E_FORMAT, OASIS_E_UNSUPPORTED (another format version, unknown decoder, text mode or
 * upscale kernel, by name), OASIS_E_MEMORY.
 */
oasis_status oas_model_file_open(model_file *file, const char *path, oasis_message *message);

/* The same of bytes that the caller keeps for as long as the file is open; `path` is only for messages. */
oasis_status oas_model_file_read(model_file *file, const void *data, size_t size, const char *path,
                                 oasis_message *message);
void oas_model_file_close(model_file *file);

/* Checks and reads a config on its own.  `where` names it in messages. */
oasis_status oas_model_config_read(model_config *config, const char *text, size_t size, const char *where,
                                   oasis_message *message);

/*
 * The same of a decoder on its own: latent_channels, decoder and decoder_channels, latent_mean and latent_std; the rest of
 * *config is zeroed.
 */
oasis_status oas_decoder_config_read(model_config *config, const char *text, size_t size, const char *where,
                                     oasis_message *message);
char *oas_decoder_config_text(const model_config *config);

/* The JSON of a config, freed with oas_free, or NULL when memory is short.  Reading it gives the same config. */
char *oas_model_config_text(const model_config *config);

#endif
