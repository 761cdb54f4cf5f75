/* The named weights of a model: an array with lookup by name. */
#include "net/parameters.h"

#include "tensor/pack.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool reserve(parameter_set *w, int count)
{
    if (count <= w->capacity)
        return true;
    parameter **items = oas_alloc((size_t)count, sizeof *items);
    if (!items) {
        w->status = oas_fail_memory(&w->message, (size_t)count * sizeof *items, "the list of weights");
        return false;
    }
    if (w->count)
        memcpy(items, w->items, (size_t)w->count * sizeof *items);
    oas_free(w->items);
    w->items = items;
    w->capacity = count;
    return true;
}

static void free_item(parameter *item)
{
    oas_packed_free(&item->tensor.packed);
    oas_free(item->owned);
    oas_free(item);
}

tensor *oas_parameters_add(parameter_set *w, const char *name, oas_dtype dtype, shape s, const void *data)
{
    if (w->status < 0 || (w->count == w->capacity && !reserve(w, w->capacity ? 2 * w->capacity : 256)))
        return NULL;
    parameter *item = oas_alloc(1, sizeof *item);
    if (!item) {
        w->status = oas_fail_memory(&w->message, sizeof *item, name);
        return NULL;
    }
    *item = (parameter){.tensor = {.shape = s, .dtype = dtype}};
    snprintf(item->name, sizeof item->name, "%s", name);
    item->tensor.packed = oas_packed_new();
    item->tensor.data = (void *)(uintptr_t)data;
    if (!data && !w->shapes_only)
        item->tensor.data = item->owned = oas_alloc(oas_bytes(&item->tensor), 1);
    if ((!item->tensor.data && !w->shapes_only) || !item->tensor.packed) {
        w->status = oas_fail_memory(&w->message, oas_bytes(&item->tensor), name);
        free_item(item);
        return NULL;
    }
    w->items[w->count++] = item;
    return &item->tensor;
}

static parameter *find(parameter_set *w, const char *name)
{
    for (int i = 0; i < w->count; i++)
        if (strcmp(w->items[i]->name, name) == 0)
            return w->items[i];
    return NULL;
}

/* Vectors are kept as floats, whatever the file has. */
static bool make_float(parameter_set *w, parameter *item)
{
    tensor *t = &item->tensor;
    if (t->dtype == OAS_F32)
        return true;
    int64_t n = oas_count(&t->shape);
    float *values = oas_alloc((size_t)n, sizeof *values);
    if (!values) {
        w->status = oas_fail_memory(&w->message, (size_t)n * sizeof *values, item->name);
        return false;
    }
    oas_convert(values, OAS_F32, t->data, t->dtype, n);
    oas_free(item->owned);
    t->data = item->owned = values;
    t->dtype = OAS_F32;
    t->mapped = false;
    return true;
}

static tensor *request(parameter_set *w, parameter_kind kind, shape s, const char *name, bool optional)
{
    if (w->status < 0)
        return NULL;
    parameter *item = find(w, name);
    if (!item && w->create && !optional) {
        if (!oas_parameters_add(w, name, OAS_F32, s, NULL))
            return NULL;
        item = w->items[w->count - 1];
    }
    if (!item) {
        if (!optional)
            w->status = oas_fail(&w->message, OASIS_E_MODEL, "%s: the weight '%s' %s is missing", w->path, name,
                                 oas_shape_text(&s).text);
        return NULL;
    }
    if (!oas_shape_equal(&item->tensor.shape, &s)) {
        w->status = oas_fail(&w->message, OASIS_E_MODEL, "%s: the weight '%s' is %s, the configuration says %s", w->path,
                             name, oas_shape_text(&item->tensor.shape).text, oas_shape_text(&s).text);
        return NULL;
    }
    item->used = true;
    item->tensor.name = item->name;
    return kind == OAS_VECTOR && !make_float(w, item) ? NULL : &item->tensor;
}

tensor *oas_parameter(parameter_set *w, parameter_kind kind, shape s, const char *format, ...)
{
    char name[OAS_PARAMETER_NAME];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return request(w, kind, s, name, false);
}

tensor *oas_parameter_optional(parameter_set *w, parameter_kind kind, shape s, const char *format, ...)
{
    char name[OAS_PARAMETER_NAME];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return request(w, kind, s, name, true);
}

const tensor *oas_parameters_find(parameter_set *w, const char *name)
{
    const parameter *item = find(w, name);
    return item ? &item->tensor : NULL;
}

void oas_parameters_remove(parameter_set *w, const char *prefix)
{
    int kept = 0;
    for (int i = 0; i < w->count; i++) {
        if (strncmp(w->items[i]->name, prefix, strlen(prefix)) == 0)
            free_item(w->items[i]);
        else
            w->items[kept++] = w->items[i];
    }
    w->count = kept;
}

const char *oas_parameters_unused(const parameter_set *w)
{
    for (int i = 0; i < w->count; i++)
        if (!w->items[i]->used)
            return w->items[i]->name;
    return NULL;
}

size_t oas_parameters_packed_bytes(const parameter_set *w)
{
    size_t bytes = 0;
    for (int i = 0; i < w->count; i++)
        bytes += oas_packed_bytes(w->items[i]->tensor.packed);
    return bytes;
}

void oas_parameters_free(parameter_set *w)
{
    for (int i = 0; i < w->count; i++)
        free_item(w->items[i]);
    oas_free(w->items);
    *w = (parameter_set){0};
}
