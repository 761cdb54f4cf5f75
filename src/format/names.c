/*
 * Names as pairs of patterns, original and diffusers.  In a pattern, # stands for a number and * for "weight" or
 * "bias"; a pattern without a partner has the same name in both.
 */
#include "format/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct name_pair {
    const char *original, *diffusers;
} name_pair;

static const name_pair transformer[] = {
    {"patch_embedding.*", "patch_embedding.*"},
    {"text_embedding.0.*", "condition_embedder.text_embedder.linear_1.*"},
    {"text_embedding.2.*", "condition_embedder.text_embedder.linear_2.*"},
    {"time_embedding.0.*", "condition_embedder.time_embedder.linear_1.*"},
    {"time_embedding.2.*", "condition_embedder.time_embedder.linear_2.*"},
    {"time_projection.1.*", "condition_embedder.time_proj.*"},
    {"blocks.#.modulation", "blocks.#.scale_shift_table"},
    {"blocks.#.self_attn.q.*", "blocks.#.attn1.to_q.*"},
    {"blocks.#.self_attn.k.*", "blocks.#.attn1.to_k.*"},
    {"blocks.#.self_attn.v.*", "blocks.#.attn1.to_v.*"},
    {"blocks.#.self_attn.o.*", "blocks.#.attn1.to_out.0.*"},
    {"blocks.#.self_attn.norm_q.weight", "blocks.#.attn1.norm_q.weight"},
    {"blocks.#.self_attn.norm_k.weight", "blocks.#.attn1.norm_k.weight"},
    {"blocks.#.cross_attn.q.*", "blocks.#.attn2.to_q.*"},
    {"blocks.#.cross_attn.k.*", "blocks.#.attn2.to_k.*"},
    {"blocks.#.cross_attn.v.*", "blocks.#.attn2.to_v.*"},
    {"blocks.#.cross_attn.o.*", "blocks.#.attn2.to_out.0.*"},
    {"blocks.#.cross_attn.norm_q.weight", "blocks.#.attn2.norm_q.weight"},
    {"blocks.#.cross_attn.norm_k.weight", "blocks.#.attn2.norm_k.weight"},
    {"blocks.#.norm3.*", "blocks.#.norm2.*"}, /* diffusers counts norms by position: 2 is before cross-attention */
    {"blocks.#.ffn.0.*", "blocks.#.ffn.net.0.proj.*"},
    {"blocks.#.ffn.2.*", "blocks.#.ffn.net.2.*"},
    {"head.modulation", "scale_shift_table"},
    {"head.head.*", "proj_out.*"},
};

static const name_pair image_only[] = {
    {"img_emb.", "condition_embedder.image_embedder."},
    {"blocks.#.cross_attn.k_img.", "blocks.#.attn2.add_k_proj."},
    {"blocks.#.cross_attn.v_img.", "blocks.#.attn2.add_v_proj."},
    {"blocks.#.cross_attn.norm_k_img.", "blocks.#.attn2.norm_added_k."},
};

static const char head_modulation[] = "head.modulation";
static const char *const prefixes[] = {"model.diffusion_model.", "diffusion_model."};

/* Parts of the autoencoder: a part's own names follow the part. */
static const name_pair residual[] = {
    {"residual.0.gamma", "norm1.gamma"}, {"residual.2.*", "conv1.*"},       {"residual.3.gamma", "norm2.gamma"},
    {"residual.6.*", "conv2.*"},         {"shortcut.*", "conv_shortcut.*"},
};
static const name_pair resample[] = {{"resample.1.*", "resample.1.*"}, {"time_conv.*", "time_conv.*"}};
static const name_pair attention[] = {{"norm.gamma", "norm.gamma"}, {"to_qkv.*", "to_qkv.*"}, {"proj.*", "proj.*"}};
static const name_pair whole[] = {{"", ""}};

#define PART(original, diffusers, inside)                                                                              \
    {                                                                                                                  \
        {original, diffusers}, inside, sizeof(inside) / sizeof((inside)[0])                                            \
    }
/* Each level of the decoder has three residual blocks, and a resampling but for the last. */
#define LEVEL(a, b, c, up)                                                                                             \
    PART("decoder.upsamples." a ".", "decoder.up_blocks." up ".resnets.0.", residual),                                 \
        PART("decoder.upsamples." b ".", "decoder.up_blocks." up ".resnets.1.", residual),                             \
        PART("decoder.upsamples." c ".", "decoder.up_blocks." up ".resnets.2.", residual)
#define BOTH(side)                                                                                                     \
    PART(side ".conv1.*", side ".conv_in.*", whole), PART(side ".head.0.gamma", side ".norm_out.gamma", whole),        \
        PART(side ".head.2.*", side ".conv_out.*", whole),                                                             \
        PART(side ".middle.0.", side ".mid_block.resnets.0.", residual),                                               \
        PART(side ".middle.2.", side ".mid_block.resnets.1.", residual),                                               \
        PART(side ".middle.1.", side ".mid_block.attentions.0.", attention)

static const struct {
    name_pair part;
    const name_pair *inside;
    size_t count;
} autoencoder[] = {
    PART("conv1.*", "quant_conv.*", whole),
    PART("conv2.*", "post_quant_conv.*", whole),
    BOTH("encoder"),
    BOTH("decoder"),
    PART("encoder.downsamples.#.", "encoder.down_blocks.#.", residual),
    PART("encoder.downsamples.#.", "encoder.down_blocks.#.", resample),
    LEVEL("0", "1", "2", "0"),
    LEVEL("4", "5", "6", "1"),
    LEVEL("8", "9", "10", "2"),
    LEVEL("12", "13", "14", "3"),
    PART("decoder.upsamples.3.", "decoder.up_blocks.0.upsamplers.0.", resample),
    PART("decoder.upsamples.7.", "decoder.up_blocks.1.upsamplers.0.", resample),
    PART("decoder.upsamples.11.", "decoder.up_blocks.2.upsamplers.0.", resample),
};

enum { PATTERN = 160 };

/* What the # and the * of a pattern stood for. */
typedef struct match {
    int number; /* -1: no # */
    const char *word;
} match;

/* Whether a name is one of the pattern; `open`: whether more may follow. */
static bool matches(const char *pattern, const char *name, bool open, match *m)
{
    *m = (match){.number = -1, .word = ""};
    for (; *pattern; pattern++) {
        if (*pattern == '#') {
            size_t digits = strspn(name, "0123456789");
            if (digits == 0 || digits > 4 || (digits > 1 && name[0] == '0'))
                return false;
            m->number = (int)strtol(name, NULL, 10);
            name += digits;
        } else if (*pattern == '*') {
            m->word = strncmp(name, "weight", 6) == 0 ? "weight" : "bias";
            if (strncmp(name, m->word, strlen(m->word)) != 0)
                return false;
            name += strlen(m->word);
        } else if (*name++ != *pattern) {
            return false;
        }
    }
    return open || *name == '\0';
}

static void fill(const char *pattern, const match *m, char text[OAS_STORED_MAX_NAME + 1])
{
    size_t at = 0;
    const size_t room = OAS_STORED_MAX_NAME + 1;
    for (; *pattern; pattern++) {
        if (*pattern == '#')
            at += (size_t)snprintf(text + at, room - at, "%d", m->number);
        else if (*pattern == '*')
            at += (size_t)snprintf(text + at, room - at, "%s", m->word);
        else
            text[at++] = *pattern;
    }
    text[at] = '\0';
}

/* Tries a pair in either layout; on success writes the name in the layout asked for. */
static bool try_pair(const char *original, const char *diffusers, const char *name, bool to_diffusers, mapped_name *out)
{
    match m;
    if (!matches(original, name, false, &m) && (to_diffusers || !matches(diffusers, name, false, &m)))
        return false;
    out->kind = OAS_NAME_TENSOR;
    out->block = m.number;
    fill(to_diffusers ? diffusers : original, &m, out->text);
    return true;
}

static bool find_transformer(const char *name, bool to_diffusers, mapped_name *out)
{
    for (size_t i = 0; i < sizeof transformer / sizeof transformer[0]; i++)
        if (try_pair(transformer[i].original, transformer[i].diffusers, name, to_diffusers, out))
            return true;
    return false;
}

static bool find_autoencoder(const char *name, bool to_diffusers, mapped_name *out)
{
    match m;
    for (size_t i = 0; i < sizeof autoencoder / sizeof autoencoder[0]; i++) {
        const name_pair *part = &autoencoder[i].part;
        if (!matches(part->original, name, true, &m) && !matches(part->diffusers, name, true, &m))
            continue;
        for (size_t j = 0; j < autoencoder[i].count; j++) {
            char original[PATTERN], diffusers[PATTERN];
            snprintf(original, sizeof original, "%s%s", part->original, autoencoder[i].inside[j].original);
            snprintf(diffusers, sizeof diffusers, "%s%s", part->diffusers, autoencoder[i].inside[j].diffusers);
            if (try_pair(original, diffusers, name, to_diffusers, out)) {
                out->block = -1;
                return true;
            }
        }
    }
    return false;
}

mapped_name oas_name_of_transformer(const char *name)
{
    mapped_name out = {.kind = OAS_NAME_UNKNOWN, .block = -1};
    match m;
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) {
            name += strlen(prefixes[i]);
            break;
        }
    if (find_transformer(name, false, &out))
        return out;
    if (strcmp(name, "norm_out.linear.bias") == 0) {
        out.kind = OAS_NAME_HEAD_MODULATION;
        memcpy(out.text, head_modulation, sizeof head_modulation);
    } else if (strcmp(name, "norm_out.linear.weight") == 0) {
        out.kind = OAS_NAME_HEAD_IDENTITY;
    }
    for (size_t i = 0; i < sizeof image_only / sizeof image_only[0]; i++)
        if (matches(image_only[i].original, name, true, &m) || matches(image_only[i].diffusers, name, true, &m))
            out.kind = OAS_NAME_IMAGE;
    return out;
}

mapped_name oas_name_of_autoencoder(const char *name)
{
    mapped_name out = {.kind = OAS_NAME_UNKNOWN, .block = -1};
    find_autoencoder(name, false, &out);
    return out;
}

bool oas_name_in_diffusers(const char *original, char text[OAS_STORED_MAX_NAME + 1])
{
    mapped_name out = {.kind = OAS_NAME_UNKNOWN, .block = -1};
    if (!find_transformer(original, true, &out) && !find_autoencoder(original, true, &out))
        return false;
    memcpy(text, out.text, sizeof out.text);
    return true;
}
