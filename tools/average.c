/*
 * A model between two: every weight is (1 - share) a + share b, in the types of a.  The description (configuration,
 * routing, licence) is a's.  What it is for: weights after adversarial training, averaged with those from before, keep
 * most of the sharpness and lose most of the flicker (doc/experiments.md).
 *
 *     average A B SHARE OUT
 *
 * The two must have the same tensors, of float types.
 */
#include "base/memory.h"
#include "format/safetensors.h"
#include "tensor/tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The entry of a with new values in a block of its own, which lives as long as the program. */
static oasis_status blend(const stored *a, const stored *b, float share, stored *out, oasis_message *message)
{
    size_t n = (size_t)oas_stored_count(a);
    float *x = oas_alloc(n + 1, sizeof *x), *y = oas_alloc(n + 1, sizeof *y);
    if (!x || !y)
        return oas_fail_memory(message, n * sizeof *x, "a tensor");
    oas_stored_floats(a, 0, (int64_t)n, x);
    oas_stored_floats(b, 0, (int64_t)n, y);
    for (size_t i = 0; i < n; i++)
        x[i] = (1.f - share) * x[i] + share * y[i];
    *out = *a;
    out->data = x;
    if (a->dtype == OAS_STORED_BF16) {
        oas_convert(y, OAS_BF16, x, OAS_F32, (int64_t)n);
        out->data = y;
    }
    return OASIS_OK;
}

static oasis_status average(const weight_file *a, const weight_file *b, float share, const char *path,
                            oasis_message *message)
{
    size_t count = oas_weight_file_count(a);
    stored *entries = oas_alloc(count + 1, sizeof *entries);
    if (!entries)
        return oas_fail_memory(message, count * sizeof *entries, "a list of tensors");
    if (oas_weight_file_count(b) != count)
        return oas_fail(message, OASIS_E_MODEL, "%s has %zu tensors, %s has %zu", oas_weight_file_path(a), count,
                        oas_weight_file_path(b), oas_weight_file_count(b));
    for (size_t i = 0; i < count; i++) {
        const stored *x = oas_weight_file_at(a, i), *y = oas_weight_file_find(b, x->name);
        if (!y || y->rank != x->rank || memcmp(y->size, x->size, sizeof x->size) != 0)
            return oas_fail(message, OASIS_E_MODEL, "%s: '%s' is not there in the shape of %s", oas_weight_file_path(b),
                            x->name, oas_weight_file_path(a));
        if (x->dtype != OAS_STORED_F32 && x->dtype != OAS_STORED_BF16)
            return oas_fail(message, OASIS_E_UNSUPPORTED, "%s: '%s' is %s; F32 and BF16 can be averaged",
                            oas_weight_file_path(a), x->name, oas_stored_dtype_name(x->dtype));
        OAS_TRY(blend(x, y, share, &entries[i], message));
    }
    safetensors_file file = {.entry = entries, .count = count};
    file.notes = oas_weight_file_notes(a, &file.note);
    return oas_safetensors_write(path, &file, message);
}

int main(int argc, char **argv)
{
    oasis_message why = {""};
    weight_file *a = NULL, *b = NULL;
    char *end = NULL;
    double share = argc == 5 ? strtod(argv[3], &end) : -1;
    if (argc != 5 || *end || !(share >= 0 && share <= 1)) {
        fputs("usage: average A B SHARE OUT    SHARE of B, from 0 to 1\n", stderr);
        return 2;
    }
    oasis_status s = oas_weight_file_open(&a, argv[1], &why);
    if (s == OASIS_OK)
        s = oas_weight_file_open(&b, argv[2], &why);
    if (s == OASIS_OK)
        s = average(a, b, (float)share, argv[4], &why);
    if (s < 0)
        fprintf(stderr, "average: %s\n", why.text);
    oas_weight_file_close(&b);
    oas_weight_file_close(&a);
    return s < 0;
}
