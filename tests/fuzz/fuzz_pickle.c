/* The pickle machine on its own, without the archive around it, which an input would have to get right first. */
#include "format/pickle.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pickle p;
    oasis_message why = {""};
    oasis_status status = oas_pickle_read(&p, data, size, "input", &why);
    MUST((status == OASIS_OK) == (why.text[0] == '\0'));
    MUST(status != OASIS_OK || p.root < p.nodes);
    for (uint32_t i = 0; i < p.nodes; i++) {
        const pickle_node *n = &p.node[i];
        for (uint32_t j = 0; j < n->count; j++)
            MUST(n->item[j] < p.nodes);
        MUST(n->kind != OAS_PICKLE_DICT || n->count % 2 == 0);
        MUST(n->kind != OAS_PICKLE_TENSOR || n->count == 3);
        MUST(!n->text || ((const uint8_t *)n->text >= data && (const uint8_t *)n->text + n->length <= data + size));
    }
    oas_pickle_free(&p);
    return 0;
}
