/* A model that overflows in bf16 alone, for tests of what comes after.  Included behind cmocka.h. */
#ifndef OAS_TESTS_OVERFLOW_H
#define OAS_TESTS_OVERFLOW_H

#include "base/memory.h"
#include "model.h"

static inline parameter *find_parameter(oasis_model *model, const char *name)
{
    for (int i = 0; i < model->parameters.count; i++)
        if (strcmp(model->parameters.items[i]->name, name) == 0)
            return model->parameters.items[i];
    fail_msg("no weight %s", name);
    return NULL;
}

/* A hidden value of a block becomes finite in fp32 and infinite in bf16; what follows multiplies it by 0. */
static inline void make_overflow(oasis_model *model)
{
    parameter *out = find_parameter(model, "blocks.1.ffn.2.weight");
    int64_t n = oas_count(&out->tensor.shape), hidden = out->tensor.shape.size[1];
    float *copy = oas_alloc((size_t)n, sizeof *copy);
    assert_non_null(copy);
    oas_convert(copy, OAS_F32, out->tensor.data, out->tensor.dtype, n);
    for (int64_t i = 0; i < n; i += hidden)
        copy[i] = 0;
    out->tensor.data = out->owned = copy;
    out->tensor.dtype = OAS_F32;
    ((float *)find_parameter(model, "blocks.1.ffn.0.bias")->tensor.data)[0] = 3.4e38f;
}

/* With this nothing helps. */
static inline void make_nan(oasis_model *model)
{
    ((float *)find_parameter(model, "head.head.bias")->tensor.data)[3] = NAN;
}

#endif
