/*
 * Several safetensors files with an index: *.safetensors.index.json maps each tensor's name to the file that holds it,
 * in the same folder.  Every tensor of the index must be in its file, and every tensor of the files in the index.
 */
#include "base/json.h"
#include "format/safetensors.h"
#include "format/weight_file_build.h"

#include <stdio.h>
#include <string.h>

enum { MAX_INDEX = 64 << 20, MAX_FILE_NAME = 255, MAX_SHARDS = 1024 };

typedef struct shard {
    const char *name; /* in the index */
    weight_file *file;
} shard;

typedef struct shard_index {
    weight_file *w;
    const weight_source *file;
    shard shard[MAX_SHARDS];
    int shards;
    oasis_message *message;
} shard_index;

/* A name of a file beside the index, and of nothing else. */
static oasis_status check_file_name(const shard_index *x, const char *tensor, const char *name)
{
    static const char ending[] = ".safetensors";
    size_t n = strlen(name);
    if (strpbrk(name, "/\\:"))
        return oas_fail(x->message, OASIS_E_FORMAT,
                        "%s: tensor %.80s is said to be in \"%.120s\", expected a file in the index's own folder",
                        x->file->path, tensor, name);
    if (n > MAX_FILE_NAME || n < sizeof ending || name[0] == '.' || strcmp(name + n - (sizeof ending - 1), ending) != 0)
        return oas_fail(x->message, OASIS_E_FORMAT, "%s: tensor %.80s is said to be in \"%.120s\", expected NAME%s",
                        x->file->path, tensor, name, ending);
    return OASIS_OK;
}

/* The shard of that name, opened when it is new. */
static oasis_status open_shard(shard_index *x, const char *name, shard **found)
{
    for (int i = 0; i < x->shards; i++)
        if (strcmp(x->shard[i].name, name) == 0) {
            *found = &x->shard[i];
            return OASIS_OK;
        }
    if (x->shards == MAX_SHARDS)
        return oas_fail(x->message, OASIS_E_FORMAT, "%s: more than %d files", x->file->path, MAX_SHARDS);
    const char *slash = strrchr(x->file->path, '/');
    size_t folder = slash ? (size_t)(slash - x->file->path) + 1 : 0, room = folder + strlen(name) + 1;
    char *path = oas_alloc(room, 1);
    if (!path)
        return oas_fail_memory(x->message, room, "a file name");
    memcpy(path, x->file->path, folder);
    strcpy(path + folder, name);
    shard *s = &x->shard[x->shards];
    oasis_status status = oas_safetensors_open(&s->file, path, x->message);
    oas_free(path);
    OAS_TRY(status);
    OAS_TRY(oas_weight_file_adopt(x->w, s->file, x->message));
    s->name = name;
    x->shards++;
    *found = s;
    return OASIS_OK;
}

static oasis_status read_map(shard_index *x, json_t *map)
{
    const char *tensor;
    json_t *value;
    size_t expected = 0;
    OAS_TRY(oas_weight_file_reserve(x->w, json_object_size(map), 0, x->message));
    json_object_foreach(map, tensor, value)
    {
        shard *s = NULL;
        if (!json_is_string(value))
            return oas_fail(x->message, OASIS_E_FORMAT,
                            "%s: tensor %.80s is mapped to a value of type %s, expected a file", x->file->path, tensor,
                            oas_json_type_name(value));
        OAS_TRY(check_file_name(x, tensor, json_string_value(value)));
        OAS_TRY(open_shard(x, json_string_value(value), &s));
        const stored *t = oas_weight_file_find(s->file, tensor);
        if (!t)
            return oas_fail(x->message, OASIS_E_FORMAT, "%s: tensor %.80s is not in %s, where it is said to be",
                            x->file->path, tensor, s->name);
        oas_weight_file_add(x->w, t);
    }
    for (int i = 0; i < x->shards; i++)
        expected += oas_weight_file_count(x->shard[i].file);
    for (int i = 0; i < x->shards && expected != oas_weight_file_count(x->w); i++)
        for (size_t j = 0; j < oas_weight_file_count(x->shard[i].file); j++) {
            const char *name = oas_weight_file_at(x->shard[i].file, j)->name, *file = x->shard[i].name;
            const char *mapped = json_string_value(json_object_get(map, name));
            if (!mapped || strcmp(mapped, file) != 0)
                return oas_fail(x->message, OASIS_E_FORMAT, "%s: tensor %s is in %s, but the index does not say so",
                                x->file->path, name, file);
        }
    return OASIS_OK;
}

/* White space and a brace: JSON.  A safetensors file is asked first. */
static bool probe(const weight_source *file)
{
    size_t at = 0;
    while (at < file->size && strchr(" \t\r\n", file->data[at]) && file->data[at])
        at++;
    return at < file->size && file->data[at] == '{';
}

static oasis_status read_file(weight_file *w, const weight_source *file, oasis_message *message)
{
    json_t *json;
    if (file->size > MAX_INDEX)
        return oas_fail(message, OASIS_E_FORMAT, "%s: an index of %zu bytes, expected at most %d", file->path,
                        file->size, MAX_INDEX);
    OAS_TRY(oas_json_read(&json, (const char *)file->data, file->size, file->path, message));
    json_t *map = json_object_get(json, "weight_map");
    shard_index *x = oas_alloc(1, sizeof *x);
    oasis_status status = OASIS_OK;
    if (!x)
        status = oas_fail_memory(message, sizeof *x, "an index");
    else if (!map)
        status = oas_fail(message, OASIS_E_FORMAT, "%s: JSON without \"weight_map\": not an index of safetensors files",
                          file->path);
    else if (!json_is_object(map))
        status = oas_fail(message, OASIS_E_FORMAT, "%s: weight_map is of type %s, expected an object", file->path,
                          oas_json_type_name(map));
    else {
        *x = (shard_index){.w = w, .file = file, .message = message};
        status = read_map(x, map);
    }
    oas_free(x);
    json_decref(json);
    return status;
}

const weight_reader oas_read_shards = {.name = "safetensors, sharded", .probe = probe, .read = read_file};
