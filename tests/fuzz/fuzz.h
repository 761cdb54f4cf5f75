/*
 * A fuzz target: takes any bytes, must neither crash nor leak nor read beyond them, and checks what must hold whenever
 * they are accepted.  Ends the program with a message when it does not.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "format/weight_file_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                             \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* What holds for every table of tensors that a reader gives out, and that all of its bytes can be read. */
static inline void check_weights(const weight_file *w)
{
    unsigned sum = 0;
    for (size_t i = 0; i < oas_weight_file_count(w); i++) {
        const stored *t = oas_weight_file_at(w, i);
        int64_t values = 0;
        size_t bytes = 0;
        MUST(t->rank >= 0 && t->rank <= OAS_STORED_MAX_RANK && t->dtype < OAS_STORED_DTYPES);
        MUST(oas_stored_extent(t, &values, &bytes) && bytes == t->bytes && values == oas_stored_count(t));
        MUST(strlen(t->name) > 0 && strlen(t->name) <= OAS_STORED_MAX_NAME);
        MUST(oas_weight_file_find(w, t->name) == t);
        MUST((t->data == NULL) == (t->bytes == 0));
        for (size_t b = 0; b < t->bytes; b++)
            sum += ((const unsigned char *)t->data)[b];
        float ends[2] = {0, 0};
        if (values > 0) {
            oas_stored_floats(t, 0, 1, &ends[0]);
            oas_stored_floats(t, values - 1, 1, &ends[1]);
        }
    }
    const stored_note *note;
    for (size_t i = 0; i < oas_weight_file_notes(w, &note); i++)
        sum += (unsigned)(strlen(note[i].key) + strlen(note[i].value));
    volatile unsigned keep = sum;
    (void)keep;
}

/* One input through one reader. */
static inline int fuzz_reader(const weight_reader *reader, const uint8_t *data, size_t size)
{
    weight_file *w = NULL;
    oasis_message why = {""};
    weight_source file = {.path = "input", .data = data, .size = size};
    (void)reader->probe(&file);
    oasis_status status = oas_weight_file_read(&w, reader, data, size, "input", &why);
    MUST((status == OASIS_OK) == (w != NULL));
    MUST((status == OASIS_OK) == (why.text[0] == '\0'));
    if (w)
        check_weights(w);
    oas_weight_file_close(&w);
    return 0;
}

#endif
