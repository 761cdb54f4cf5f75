/* A whole model file; and what is accepted is printed and read again, the same. */
#include "format/model_file.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    model_file m;
    oasis_message why = {""};
    oasis_status status = oas_model_file_read(&m, data, size, "input", &why);
    MUST((status == OASIS_OK) == (m.weights != NULL));
    MUST((status == OASIS_OK) == (why.text[0] == '\0'));
    if (status != OASIS_OK)
        return 0;
    check_weights(m.weights);
    MUST(m.routing.layers == m.config.num_layers && m.routing.heads == m.config.num_heads);
    char *text = oas_model_config_text(&m.config);
    MUST(text != NULL);
    model_config again;
    MUST(oas_model_config_read(&again, text, strlen(text), "again", &why) == OASIS_OK);
    char *same = oas_model_config_text(&again);
    MUST(same != NULL && strcmp(text, same) == 0);
    oas_free(text);
    oas_free(same);
    oas_model_file_close(&m);
    return 0;
}
