/* An index of shards, in a folder that cannot exist: so every file it names is missing, and none of ours is read. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    weight_file *w = NULL;
    oasis_message why = {""};
    oasis_status status = oas_weight_file_read(&w, &oas_read_shards, data, size, "/dev/null/index.json", &why);
    MUST((status == OASIS_OK) == (w != NULL));
    if (w)
        check_weights(w);
    oas_weight_file_close(&w);
    return 0;
}
