/*
 * Making model files of published checkpoints: Wan2.1's text-to-video transformer and video autoencoder, in the original
 * layout or that of diffusers, from safetensors (single or sharded), PyTorch .pth or GGUF.
 *
 *     oasis_convert_options o;
 *     oasis_convert_options_init(&o);
 *     o.transformer = "wan2.1-t2v-1.3b/diffusion_pytorch_model.safetensors.index.json";
 *     o.autoencoder = "Wan2.1_VAE.pth";
 *     oasis_convert("wan.safetensors", &o, NULL, &why);
 */
#ifndef OASIS_CONVERT_H
#define OASIS_CONVERT_H

#include <oasis/options.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * How matrices are stored; vectors, tables, the timestep's part and the head stay floats.
 *   q8_0  32 values share a half-float scale and have 8 bits each: half the memory of bf16, at file and at run time; of
 *         the transformer, while the decoder's convolutions become bf16
 */
typedef enum oasis_weight_type { OASIS_WEIGHTS_BF16, OASIS_WEIGHTS_FP32, OASIS_WEIGHTS_Q8_0 } oasis_weight_type;

enum { OASIS_CLIP_FRAMES = 17 };

typedef struct oasis_convert_options {
    size_t size;             /* of this struct: set by oasis_convert_options_init */
    const char *transformer; /* checkpoint; NULL with `random` */
    const char *autoencoder; /* checkpoint of the decoder; NULL: the file gets no decoder (with `random`: a random one) */
    const char *random;      /* "wan2.1-1.3b" or "wan2.1-14b": random weights of that size, for measuring; else NULL */
    int64_t seed;            /* of random weights */
    const char *prompt;      /* file with one tensor [rows, width], a prompt's embedding without its padding; NULL: no
                              * prompt, which is a constant vector per block */
    const char *routing;     /* routing text file; NULL: `heads` */
    const char *heads;       /* "4,4,4": global, own frame and window heads of every layer; NULL: all global */
    int dtype;               /* oasis_weight_type */
    int num_heads;           /* 0: width / 128, as all published ones have */
    double timestep;         /* 0 to 1000; sigma is a thousandth of it */
    const char *name;        /* of the model, or NULL: made of the checkpoint's size */
    const char *license;     /* or NULL: "Apache-2.0", that of Wan2.1's weights; for random weights "CC0-1.0" */
    /*
     * Clips of good pictures, from which lq_proj is fitted to the autoencoder's encoder: gives clip `index` as up to
     * OASIS_CLIP_FRAMES frames of one size (4n+1 of them are used), which the converter frees; *count 0 ends the list.
     * NULL: lq_proj is random.
     */
    oasis_status (*clip)(void *user, int index, oasis_frame *frames, int *count, oasis_message *message);
    bool (*progress)(void *user, double done); /* 0 to 1; false stops with OASIS_E_CANCELLED; may be NULL */
    void *user;
    int layers;              /* with `random`: blocks in place of the size's own number, to try things; 0 = that number */
    const char *decoder;     /* file whose decoder is taken in place of the autoencoder's, as oasis_model_set_decoder */
} oasis_convert_options;

OASIS_API void oasis_convert_options_init(oasis_convert_options *options);

/* The rows for oasis_convert_options. */
OASIS_API const oasis_option *oasis_convert_option_rows(void);

/* What was written. */
typedef struct oasis_convert_report {
    int64_t parameters, bytes;
    int tensors;
    int num_layers, num_heads, dim, ffn_dim;
    char text[16]; /* "constant" or "prompt" */
    double explained[16]; /* with clips: the share of each latent channel's variance that lq_proj explains */
} oasis_convert_report;

/*
 * Writes the model file; it appears under its name when it is complete, or not at all.  Every tensor of the checkpoints is
 * accounted for: one that is missing, left over or of another shape is named.  Values are never held all at once.
 *   report  may be NULL
 * Fails with OASIS_E_ARGUMENT (options), OASIS_E_IO, OASIS_E_FORMAT (a damaged checkpoint, or one whose tensors do not
 * make up the network), OASIS_E_UNSUPPORTED (image-to-video and other variants), OASIS_E_MEMORY, OASIS_E_CANCELLED.
 */
OASIS_API oasis_status oasis_convert(const char *output, const oasis_convert_options *options,
                                     oasis_convert_report *report, oasis_message *message);

/*
 * Compares the SHA-256 in a model file with its bytes.  Fails with OASIS_E_FORMAT (damaged), OASIS_E_UNSUPPORTED (the file
 * carries no digest), OASIS_E_IO, OASIS_E_MEMORY.
 */
OASIS_API oasis_status oasis_model_verify(const char *path, oasis_message *message);

#ifdef __cplusplus
}
#endif
#endif
