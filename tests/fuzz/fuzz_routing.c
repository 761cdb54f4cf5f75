/* A routing; and what is accepted is printed and read again, the same. */
#include "format/routing.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    routing r, again;
    oasis_message why = {""};
    oasis_status status = oas_routing_read(&r, (const char *)data, size, "input", &why);
    MUST((status == OASIS_OK) == (why.text[0] == '\0'));
    if (status != OASIS_OK)
        return 0;
    int64_t count[3];
    oas_routing_count(&r, count);
    MUST(count[0] + count[1] + count[2] == (int64_t)r.layers * r.heads);
    char *text = oas_routing_text(&r);
    MUST(text != NULL);
    MUST(oas_routing_read(&again, text, strlen(text), "again", &why) == OASIS_OK);
    char *same = oas_routing_text(&again);
    MUST(same != NULL && strcmp(text, same) == 0);
    oas_free(text);
    oas_free(same);
    oas_routing_free(&again);
    oas_routing_free(&r);
    return 0;
}
