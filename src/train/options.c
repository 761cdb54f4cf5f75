/* What training can be told: the table, and configurations in JSON. */
#include "base/filemap.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/threads.h"
#include "cuda/cuda.h"

#include <oasis/train.h>
#include <stdio.h>
#include <string.h>

#define FIELD(name) offsetof(oasis_train_options, name)
#define INT(name, field, low, high, text, help, group)                                                                 \
    {name, 0, NULL, OASIS_OPTION_INT, FIELD(field), low, high, NULL, "N", text, help, group}
#define COUNT(name, field, high, text, help, group)                                                                    \
    {name, 0, NULL, OASIS_OPTION_INT64, FIELD(field), 0, high, NULL, "N", text, help, group}
#define NUMBER(name, field, low, high, text, help, group)                                                              \
    {name, 0, NULL, OASIS_OPTION_NUMBER, FIELD(field), low, high, NULL, "X", text, help, group}
#define TEXT(name, field, value, text, help, group)                                                                    \
    {name, 0, NULL, OASIS_OPTION_TEXT, FIELD(field), 0, 0, NULL, value, text, help, group}
#define CHOICE(name, field, choices, text, help, group)                                                                \
    {name, 0, NULL, OASIS_OPTION_CHOICE, FIELD(field), 0, 0, choices, "KIND", text, help, group}
#define FLAG(name, field, text, help, group)                                                                           \
    {name, 0, NULL, OASIS_OPTION_FLAG, FIELD(field), 0, 0, NULL, NULL, text, help, group}
#define LIST(name, field, value, help, group)                                                                          \
    {name, 0, NULL, OASIS_OPTION_LIST, FIELD(field), 0, 0, NULL, value, NULL, help, group}

static const oasis_option rows[] = {
    CHOICE("stage", stage, "autoencoder|diffusion|one-step|decoder", "one-step", "what is trained", "Run"),
    TEXT("init", init, "FILE", NULL, "start from the weights of this model or checkpoint", "Run"),
    TEXT("encoder", encoder, "FILE", NULL, "checkpoint of an autoencoder, whose encoder makes latent targets", "Run"),
    TEXT("teacher", teacher, "FILE", NULL, "checkpoint of Wan2.1's autoencoder, whose latents a decoder learns to decode, or one-step to make", "Run"),
    TEXT("routing", routing, "FILE", NULL, "which heads see what, as 'oasis profile --routing' writes it; in place of the init's or of route", "Run"),
    TEXT("output", output, "DIR", NULL, "folder for checkpoint, model, log and page", "Run"),
    TEXT("name", name, "NAME", "oasis", "name that the model file says", "Run"),
    TEXT("license", license, "NAME", "Apache-2.0", "licence that the model file says", "Run"),
    FLAG("resume", resume, "true", "go on from the checkpoint in the output folder", "Run"),

    INT("dim", dim, 1, 16384, "256", "width of the transformer", "Architecture, without init"),
    INT("layers", layers, 1, 256, "8", "blocks of the transformer", "Architecture, without init"),
    INT("heads", heads, 1, 64, "4", "attention heads of a block", "Architecture, without init"),
    INT("ffn-dim", ffn_dim, 1, 65536, "1024", "width of the feed-forward layers", "Architecture, without init"),
    INT("latent-channels", latent_channels, 1, 64, "16", "channels of a latent", "Architecture, without init"),
    INT("in-dim", in_dim, 1, 4096, "64", "channels of the projected pixels", "Architecture, without init"),
    INT("decoder-latent", decoder_latent, 1, 4096, "128", "decoder's channels at the latent grid", "Architecture, without init"),
    INT("decoder-8", decoder_8, 1, 4096, "64", "decoder's channels at 1/8", "Architecture, without init"),
    INT("decoder-4", decoder_4, 1, 4096, "48", "decoder's channels at 1/4", "Architecture, without init"),
    INT("decoder-2", decoder_2, 0, 4096, "24", "decoder's channels at 1/2; 0 = the decoder that ends at 1/4", "Architecture, without init"),
    TEXT("route", route, "LETTERS", "giww", "kinds of the heads of every layer, repeated: g, i, w", "Architecture, without init"),
    FLAG("time-embedding", time_embedding, "false", "with Wan's time embedding, as diffusion needs it", "Architecture, without init"),
    NUMBER("sigma", sigma, 0, 1, "0.4", "size of the one step", "Architecture, without init"),
    NUMBER("timestep", timestep, 0, 1000, "400", "timestep of the one step", "Architecture, without init"),

    COUNT("seed", seed, 9e15, "1", "of weights, clips and noise", "Steps"),
    COUNT("steps", steps, 1e12, "1000", "updates in all", "Steps"),
    INT("batch", batch, 1, 4096, "6", "clips of a pass", "Steps"),
    INT("accumulate", accumulate, 1, 4096, "1", "passes of an update", "Steps"),
    INT("frames", frames, 1, 1025, "5", "frames of a clip, 4n+1", "Steps"),
    {"size", 0, NULL, OASIS_OPTION_SIZE, FIELD(width), 16, 4096, NULL, "WxH", "192x192", "of a clip, multiples of 16", "Steps"},
    NUMBER("middle", middle, 0, 1, "0.5", "share of clips from the middle of a shot", "Steps"),
    CHOICE("compute", compute, "auto|fp32|bf16", "auto", "number format of products", "Steps"),
    INT("threads", threads, 0, 1024, "0", "compute threads; 0 = as many as the process may use", "Steps"),
    TEXT("device", device, "DEVICE", "auto",
         "cpu, cuda, cuda:N (GPU N, from 0 on), or auto: a GPU if there is one; several, as cuda:0,1: a process for each", "Steps"),
    FLAG("checkpointing", checkpointing, "false", "compute blocks twice to save memory", "Steps"),
    LIST("freeze", freeze, "PREFIX", "weights whose names begin so stay as they are", "Steps"),

    NUMBER("rate", rate, 0, 1, "2e-4", "learning rate", "Optimiser"),
    NUMBER("final-rate", final_rate, 0, 1, "1e-5", "at the end of a cosine", "Optimiser"),
    NUMBER("projection-rate", projection_rate, 0, 1000, "1", "factor of the rate for lq_proj", "Optimiser"),
    COUNT("warmup", warmup, 1e9, "100", "steps in which the rate rises from 0", "Optimiser"),
    CHOICE("schedule", schedule, "constant|cosine", "cosine", "of the rate after that", "Optimiser"),
    NUMBER("beta1", beta1, 0, 0.9999, "0.9", "AdamW", "Optimiser"),
    NUMBER("beta2", beta2, 0, 0.99999, "0.99", "AdamW", "Optimiser"),
    NUMBER("epsilon", epsilon, 0, 1, "1e-8", "AdamW", "Optimiser"),
    NUMBER("weight-decay", weight_decay, 0, 10, "1e-4", "AdamW, of matrices", "Optimiser"),
    NUMBER("clip", clip, 0, 1e9, "1", "largest norm of the gradient; 0 = any", "Optimiser"),
    NUMBER("ema", ema, 0, 0.999999, "0.999", "of the averaged weights", "Optimiser"),

    NUMBER("charbonnier", charbonnier, 0, 1e6, "1", "weight of the Charbonnier loss", "Losses"),
    NUMBER("charbonnier-eps", charbonnier_eps, 1e-6, 1, "1e-3", "below which it is quadratic", "Losses"),
    NUMBER("mse", mse, 0, 1e6, "0", "weight of the mean square", "Losses"),
    NUMBER("spectrum", spectrum, 0, 1e6, "0.02", "weight of the differences of Fourier amplitudes", "Losses"),
    INT("spectrum-block", spectrum_block, 2, 32, "16", "its blocks, a power of two", "Losses"),
    NUMBER("motion", motion, 0, 1e6, "0.2", "weight of the differences of frame differences", "Losses"),
    NUMBER("gradient", gradient, 0, 1e6, "0", "weight of the differences of pixel differences", "Losses"),
    INT("gradient-levels", gradient_levels, 1, 6, "3", "its resolutions", "Losses"),
    NUMBER("latent", latent, 0, 1e6, "0", "weight of the mean square of latents; needs an encoder", "Losses"),
    NUMBER("teacher-share", teacher_share, 0, 1, "0", "share that the teacher's pictures have in a decoder's target; the rest is the truth", "Losses"),
    NUMBER("prior", prior, 0, 1e6, "1e-4", "weight of the mean square of an autoencoder's latents", "Losses"),

    NUMBER("features", features, 0, 1e6, "0", "weight of the differences of SqueezeNet's features; needs squeezenet", "Perceptual losses"),
    TEXT("squeezenet", squeezenet, "FILE", NULL, "SqueezeNet 1.1, ncnn's .param with the .bin beside it", "Perceptual losses"),
    NUMBER("lpips", lpips, 0, 1e6, "0", "weight of LPIPS; needs lpips-files", "Perceptual losses"),
    TEXT("lpips-files", lpips_files, "NETWORK,WEIGHTS", NULL, "torchvision's squeezenet1_1, alexnet or vgg16, and LPIPS v0.1's for it", "Perceptual losses"),
    NUMBER("dists", dists, 0, 1e6, "0", "weight of DISTS; needs dists-files", "Perceptual losses"),
    TEXT("dists-files", dists_files, "NETWORK,WEIGHTS", NULL, "torchvision's vgg16, and alpha and beta", "Perceptual losses"),
    INT("perceptual-frames", perceptual_frames, 0, 1025, "2", "frames of a clip that these three see, drawn for each pass; 0 = all", "Perceptual losses"),
    NUMBER("encoder-features", encoder_features, 0, 1e6, "0", "weight of the differences of the encoder's features and latents; needs an encoder", "Perceptual losses"),

    NUMBER("adversarial", adversarial, 0, 1e6, "0", "weight of the adversarial loss of one-step; 0 = no discriminator", "Adversary"),
    CHOICE("adversarial-kind", adversarial_kind, "hinge|relativistic", "relativistic", "what scores are compared with: a margin, or the truth's", "Adversary"),
    COUNT("adversarial-start", adversarial_start, 1e12, "0", "step from which the discriminator learns", "Adversary"),
    COUNT("adversarial-ramp", adversarial_ramp, 1e12, "500", "steps after that in which its weights grow from 0", "Adversary"),
    NUMBER("feature-matching", feature_matching, 0, 1e6, "0", "weight of the differences of the discriminator's features", "Adversary"),
    NUMBER("r1", r1, 0, 1e6, "1", "weight of the discriminator's mean square change when noise is added", "Adversary"),
    NUMBER("r1-noise", r1_noise, 1e-6, 1, "0.1", "deviation of that noise; pictures are -1 to 1", "Adversary"),
    NUMBER("discriminator-rate", discriminator_rate, 0, 1, "2e-4", "learning rate of the discriminator, scheduled like rate", "Adversary"),
    INT("discriminator-width", discriminator_width, 8, 1024, "16", "channels of its first layer", "Adversary"),

    COUNT("consistent-steps", consistent_steps, 1e12, "500", "steps with degradations that stay the same over a clip", "Degradations"),
    COUNT("ramp-steps", ramp_steps, 1e12, "0", "steps in which their changes over time grow", "Degradations"),
    NUMBER("temporal-step", temporal_step, 0, 100, "1", "how much they change after that; 1 = RealBasicVSR's", "Degradations"),
    LIST("data", data, "PATH", "video, picture or folder of such", "Data"),
    LIST("crop", crop, "TEXT=WxH+X+Y", "use this part alone of files whose path contains TEXT", "Data"),
    NUMBER("video-share", video_share, 0, 1, "0.4", "share of clips from videos, where there are pictures too", "Data"),
    NUMBER("video-shrink", video_shrink, 1, 16, "1", "make videos at least so many times smaller: coded ones are not sharp", "Data"),
    NUMBER("patterns", patterns, 0, 1, "0.04", "share of clips that show lines, checks and circles alone", "Data"),
    NUMBER("text", text, 0, 1, "0.15", "share of clips with text written over them", "Data"),
    NUMBER("parallax", parallax, 0, 1, "0.25", "share of pictures' clips with a nearer layer", "Data"),
    NUMBER("cutouts", cutouts, 0, 1, "0.5", "share of pictures' clips with things that move in front", "Data"),
    NUMBER("scale", scale, 0, 16, "0", "factor of degradation; 0 = drawn: 4 (60 %), 1.5 to 3.5 (30 %), 1 (10 %)", "Data"),
    INT("reuse", reuse, 1, 1000, "4", "clips cut from one that was read and degraded", "Data"),
    INT("mix", mix, 0, 1000, "4", "how far apart they are, in such bases; all are kept in memory", "Data"),
    INT("data-threads", data_threads, 0, 1024, "0", "threads that make clips; 0 = 1, or beside a GPU all processors but one; which clips does not depend on it", "Data"),
    CHOICE("data-device", data_device, "auto|cpu", "auto", "where clips are degraded: on the device that trains, or the CPU; codecs always on the CPU", "Data"),
    NUMBER("cache", cache, 0, 1e6, "512", "MiB of decoded pictures and short videos that are kept", "Data"),

    NUMBER("checkpoint-minutes", checkpoint_minutes, 0, 1e6, "10", "minutes between checkpoints", "Files"),
    COUNT("log-every", log_every, 1e9, "10", "steps between lines of the log", "Files"),
    COUNT("show-every", show_every, 1e9, "200", "steps between pictures on the page; 0 = never", "Files"),
    INT("most-bad", most_bad, 1, 1000000, "20", "steps in a row without a finite loss before giving up", "Files"),
    {.name = NULL},
};

const oasis_option *oasis_train_option_rows(void)
{
    return rows;
}

void oasis_train_options_init(oasis_train_options *options)
{
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
    for (const oasis_option *o = rows; o->name; o++)
        if (o->default_text)
            oasis_option_set(rows, options, o->name, o->default_text, NULL);
}

struct oasis_train_config {
    oasis_train_options options;
    json_t *json; /* holds the texts */
};

/* A value of the object as the text that oasis_option_set reads. */
static oasis_status set_value(oasis_train_config *c, const char *path, const char *key, const json_t *value,
                              oasis_message *message)
{
    char number[64];
    const char *text = number;
    const oasis_option *o = oasis_option_find(rows, key);
    bool keeps = o && (o->type == OASIS_OPTION_TEXT || o->type == OASIS_OPTION_LIST);
    if (json_is_string(value))
        text = json_string_value(value);
    else if (keeps || json_is_object(value) || json_is_array(value) || json_is_null(value))
        return oas_fail(message, OASIS_E_ARGUMENT, "%s: the key '%s' has %s %s, which it does not take", path, key,
                        strchr("aio", oas_json_type_name(value)[0]) ? "an" : "a", oas_json_type_name(value));
    else if (json_is_boolean(value))
        text = json_is_true(value) ? "true" : "false";
    else if (json_is_integer(value))
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
    else
        snprintf(number, sizeof number, "%.17g", json_real_value(value));
    oasis_message why;
    if (oasis_option_set(rows, &c->options, key, text, &why) < 0)
        return oas_fail(message, OASIS_E_ARGUMENT, "%s: the value of '%s' cannot be used: %.800s", path, key, why.text);
    return OASIS_OK;
}

static oasis_status set_values(oasis_train_config *c, const char *path, oasis_message *message)
{
    const char *key;
    json_t *value;
    json_object_foreach(c->json, key, value)
    {
        const oasis_option *o = oasis_option_find(rows, key);
        if (!o)
            return oas_fail(message, OASIS_E_ARGUMENT,
                            "%s: there is no key '%s'; `oasis help train` lists those there are", path, key);
        if (o->type != OASIS_OPTION_LIST || !json_is_array(value)) {
            OAS_TRY(set_value(c, path, key, value, message));
            continue;
        }
        for (size_t i = 0; i < json_array_size(value); i++)
            OAS_TRY(set_value(c, path, key, json_array_get(value, i), message));
    }
    return OASIS_OK;
}

oasis_status oasis_train_config_open(oasis_train_config **out, const char *path, oasis_message *message)
{
    filemap file;
    OAS_TRY(oas_filemap_open(&file, path, message));
    oasis_train_config *c = oas_alloc(1, sizeof *c);
    oasis_status s = c ? OASIS_OK : oas_fail_memory(message, sizeof *c, "a configuration");
    if (c) {
        oasis_train_options_init(&c->options);
        s = oas_json_read(&c->json, (const char *)file.data, file.size, path, message);
        if (s == OASIS_OK)
            s = set_values(c, path, message);
    }
    oas_filemap_close(&file);
    if (s < 0)
        oasis_train_config_close(&c);
    else
        *out = c;
    return s;
}

int oasis_train_data_threads(const oasis_train_options *o)
{
    int gpu = -1;
    oas_cuda_named(o->device, &gpu, NULL); /* a wrong name is for who opens it to tell */
    int processors = o->threads > 0 ? o->threads : oas_cpu_count();
    if (o->data_threads > 0)
        return o->data_threads;
    return gpu >= 0 && processors > 1 ? processors - 1 : 1;
}

oasis_train_options *oasis_train_config_options(oasis_train_config *config)
{
    return &config->options;
}

void oasis_train_config_close(oasis_train_config **config)
{
    if (!*config)
        return;
    json_decref((*config)->json);
    oas_free(*config);
    *config = NULL;
}
