/* Checkpoints: whose tensors are whose, and that none is missing or left over. */
#include "base/filemap.h"
#include "base/sha256.h"
#include "convert.h"
#include "format/names.h"
#include "net/wan_vae.h"

#include <string.h>

enum { PUBLISHED_HEAD_DIM = 128, PROMPT_ROWS = 512, MOST_LAYERS = OAS_ROUTING_MAX_LAYERS };

typedef mapped_name map_fn(const char *name);

/* The tensor of the file that stands for an original name, or NULL; for sizes, before the accounting. */
static const stored *find_original(const weight_file *file, map_fn *map, const char *original)
{
    for (size_t i = 0; i < oas_weight_file_count(file); i++) {
        const stored *t = oas_weight_file_at(file, i);
        mapped_name name = map(t->name);
        if ((name.kind == OAS_NAME_TENSOR || name.kind == OAS_NAME_HEAD_MODULATION) && strcmp(name.text, original) == 0)
            return t;
    }
    return NULL;
}

static oasis_status need_rank(const weight_file *file, map_fn *map, const char *name, int rank, const stored **found,
                              oasis_message *message)
{
    *found = find_original(file, map, name);
    if (!*found)
        return oas_fail(message, OASIS_E_FORMAT, "%s: has no tensor %s, in neither layout: not a checkpoint of this network",
                        oas_weight_file_path(file), name);
    if ((*found)->rank != rank)
        return oas_fail(message, OASIS_E_FORMAT, "%s: %s is %s, expected %d sizes", oas_weight_file_path(file), name,
                        oas_stored_shape((*found)->rank, (*found)->size).text, rank);
    for (int i = 0; i < rank; i++)
        if ((*found)->size[i] < 1 || (*found)->size[i] > 1 << 20)
            return oas_fail(message, OASIS_E_FORMAT, "%s: %s is %s, which no network has", oas_weight_file_path(file), name,
                            oas_stored_shape(rank, (*found)->size).text);
    return OASIS_OK;
}

static int index_in(const parameter_set *network, const char *name)
{
    for (int i = 0; i < network->count; i++)
        if (strcmp(network->items[i]->name, name) == 0)
            return i;
    return -1;
}

/* Sizes of one apart, which some files leave out, the shapes are equal. */
static bool same_shape(const stored *t, const shape *s, bool flat)
{
    int64_t count = 1;
    bool equal = t->rank == s->rank;
    for (int i = 0; i < t->rank; i++) {
        count *= t->size[i];
        equal = equal && t->size[i] == s->size[i];
    }
    return equal || (flat && count == oas_count(s));
}

static oasis_status account_for(checkpoint *c, const stored *t, map_fn *map, oasis_message *message)
{
    const char *path = oas_weight_file_path(c->file);
    mapped_name name = map(t->name);
    if (name.kind == OAS_NAME_IMAGE)
        return oas_fail(message, OASIS_E_UNSUPPORTED, "%s: the tensor %s belongs to an image-to-video model; only "
                        "text-to-video ones can be converted", path, t->name);
    if (name.kind == OAS_NAME_HEAD_IDENTITY)
        return OASIS_OK;
    int i = name.kind == OAS_NAME_UNKNOWN ? -1 : index_in(&c->network, name.text);
    if (i < 0)
        return oas_fail(message, OASIS_E_FORMAT, "%s: the tensor %s %s is left over: this network has none of that name",
                        path, t->name, oas_stored_shape(t->rank, t->size).text);
    if (c->found[i])
        return oas_fail(message, OASIS_E_FORMAT, "%s: the tensors %s and %s are the same one", path, c->found[i]->name,
                        t->name);
    const shape *s = &c->network.items[i]->tensor.shape;
    if (!same_shape(t, s, name.kind == OAS_NAME_HEAD_MODULATION))
        return oas_fail(message, OASIS_E_FORMAT, "%s: the tensor %s is %s, expected %s", path, t->name,
                        oas_stored_shape(t->rank, t->size).text, oas_shape_text(s).text);
    if (t->dtype > OAS_STORED_F8_E5M2 && t->dtype != OAS_STORED_Q8_0)
        return oas_fail(message, OASIS_E_FORMAT, "%s: the tensor %s has the type %s, expected floats", path, t->name,
                        oas_stored_dtype_name(t->dtype));
    c->found[i] = t;
    return OASIS_OK;
}

static oasis_status account(checkpoint *c, map_fn *map, oasis_message *message)
{
    c->found = oas_alloc((size_t)c->network.count, sizeof *c->found);
    if (!c->found)
        return oas_fail_memory(message, (size_t)c->network.count * sizeof *c->found, "a checkpoint's list");
    for (size_t i = 0; i < oas_weight_file_count(c->file); i++)
        OAS_TRY(account_for(c, oas_weight_file_at(c->file, i), map, message));
    for (int i = 0; i < c->network.count; i++)
        if (!c->found[i] && strncmp(c->network.items[i]->name, "prompt", 6) != 0)
            return oas_fail(message, OASIS_E_FORMAT, "%s: the tensor %s %s is missing", oas_weight_file_path(c->file),
                            c->network.items[i]->name, oas_shape_text(&c->network.items[i]->tensor.shape).text);
    return OASIS_OK;
}

/* Number of blocks: one more than the largest that a name tells. */
static int count_blocks(const weight_file *file)
{
    int layers = 0;
    for (size_t i = 0; i < oas_weight_file_count(file); i++) {
        mapped_name name = oas_name_of_transformer(oas_weight_file_at(file, i)->name);
        if (name.kind != OAS_NAME_UNKNOWN && name.block >= layers)
            layers = name.block < MOST_LAYERS ? name.block + 1 : MOST_LAYERS + 1;
    }
    return layers;
}

static oasis_status read_sizes(const weight_file *file, dit_config *d, int heads, oasis_message *message)
{
    const stored *patch, *ffn, *text, *head, *time;
    const char *path = oas_weight_file_path(file);
    OAS_TRY(need_rank(file, oas_name_of_transformer, "patch_embedding.weight", 5, &patch, message));
    OAS_TRY(need_rank(file, oas_name_of_transformer, "blocks.0.ffn.0.weight", 2, &ffn, message));
    OAS_TRY(need_rank(file, oas_name_of_transformer, "text_embedding.0.weight", 2, &text, message));
    OAS_TRY(need_rank(file, oas_name_of_transformer, "time_embedding.0.weight", 2, &time, message));
    OAS_TRY(need_rank(file, oas_name_of_transformer, "head.head.weight", 2, &head, message));
    *d = (dit_config){.in_dim = (int)patch->size[1],
                      .latent_channels = (int)(head->size[0] / 4),
                      .dim = (int)patch->size[0],
                      .ffn_dim = (int)ffn->size[0],
                      .layers = count_blocks(file),
                      .eps = 1e-6f,
                      .rope_theta = 10000,
                      .frequencies = (int)time->size[1],
                      .text = {OAS_PROMPT_CONTEXT, PROMPT_ROWS, (int)text->size[1]}};
    d->heads = heads > 0 ? heads : d->dim / PUBLISHED_HEAD_DIM;
    if (d->in_dim != d->latent_channels)
        return oas_fail(message, OASIS_E_UNSUPPORTED, "%s: takes %d channels and gives %d: an image-to-video model or another "
                        "variant; only text-to-video ones can be converted", path, d->in_dim, d->latent_channels);
    if (d->layers > MOST_LAYERS || d->heads < 1 || d->heads > OAS_MAX_HEADS || d->dim % (2 * d->heads) != 0)
        return oas_fail(message, OASIS_E_UNSUPPORTED, "%s: a transformer of %d layers and width %d in %d heads cannot be "
                        "computed", path, d->layers, d->dim, d->heads);
    return OASIS_OK;
}

oasis_status oas_checkpoint_transformer(checkpoint *c, dit_config *d, const char *path, int heads, oasis_message *message)
{
    dit unused;
    OAS_TRY(oas_weight_file_open(&c->file, path, message));
    OAS_TRY(read_sizes(c->file, d, heads, message));
    c->network = (parameter_set){.create = true, .shapes_only = true, .path = path};
    if (oas_dit_bind(&unused, d, NULL, &c->network) < 0)
        return oas_fail(message, c->network.status, "%s", c->network.message.text);
    oas_dit_free(&unused);
    return account(c, oas_name_of_transformer, message);
}

oasis_status oas_checkpoint_autoencoder(checkpoint *c, int *base, const char *path, oasis_message *message)
{
    const stored *head;
    const decoder_kind *kind = oas_decoder_find("wan-vae");
    OAS_TRY(oas_weight_file_open(&c->file, path, message));
    OAS_TRY(need_rank(c->file, oas_name_of_autoencoder, "decoder.head.0.gamma", 4, &head, message));
    *base = (int)head->size[0];
    c->network = (parameter_set){.create = true, .shapes_only = true, .path = path};
    decoder_config config = {.latent_channels = OAS_WAN_LATENT, .widths = {*base}, .n_widths = 1};
    void *net = kind->bind(&config, &c->network);
    wan_encoder *encoder = net ? oas_wan_encoder_bind(*base, NULL, NULL, &c->network) : NULL;
    if (net)
        kind->free(net);
    if (!encoder)
        return oas_fail(message, c->network.status, "%s", c->network.message.text);
    oas_wan_encoder_free(&encoder);
    return account(c, oas_name_of_autoencoder, message);
}

const stored *oas_checkpoint_find(const checkpoint *c, const char *name)
{
    int i = c->found ? index_in(&c->network, name) : -1;
    return i >= 0 ? c->found[i] : NULL;
}

void oas_checkpoint_close(checkpoint *c)
{
    oas_free((void *)(uintptr_t)c->found);
    oas_parameters_free(&c->network);
    oas_weight_file_close(&c->file);
    *c = (checkpoint){0};
}

oasis_status oas_checkpoint_digest(const char *path, char hex[OAS_SHA256_HEX + 1], oasis_message *message)
{
    filemap map;
    sha256 h;
    OAS_TRY(oas_filemap_open(&map, path, message));
    oas_sha256_begin(&h);
    oas_sha256_add(&h, map.data, map.size);
    oas_sha256_end(&h, hex);
    oas_filemap_close(&map);
    return OASIS_OK;
}
