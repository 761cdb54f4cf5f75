/* Any name: what maps to an original name is its own original, and has one in diffusers that maps back. */
#include "format/names.h"
#include "fuzz.h"

static void check(const char *name, mapped_name (*of)(const char *))
{
    mapped_name m = of(name);
    MUST((m.text[0] != '\0') == (m.kind == OAS_NAME_TENSOR || m.kind == OAS_NAME_HEAD_MODULATION));
    if (m.kind != OAS_NAME_TENSOR)
        return;
    char other[OAS_STORED_MAX_NAME + 1];
    MUST(strcmp(of(m.text).text, m.text) == 0);
    MUST(oas_name_in_diffusers(m.text, other));
    MUST(strcmp(of(other).text, m.text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[OAS_STORED_MAX_NAME + 1] = "";
    if (size > OAS_STORED_MAX_NAME)
        return 0;
    if (size)
        memcpy(name, data, size);
    check(name, oas_name_of_transformer);
    check(name, oas_name_of_autoencoder);
    return 0;
}
