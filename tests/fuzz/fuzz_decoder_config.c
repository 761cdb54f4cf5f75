/* The configuration of a decoder on its own; and what is accepted is printed and read again, the same. */
#include "format/model_file.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    model_config c, again;
    oasis_message why = {""};
    if (oas_decoder_config_read(&c, (const char *)data, size, "input", &why) != OASIS_OK) {
        MUST(why.text[0] != '\0');
        return 0;
    }
    MUST(c.latent_channels >= 1 && c.latent_channels <= OAS_MODEL_MAX_LATENT && c.decoder < OAS_DECODERS);
    char *text = oas_decoder_config_text(&c);
    MUST(text != NULL);
    MUST(oas_decoder_config_read(&again, text, strlen(text), "again", &why) == OASIS_OK);
    char *same = oas_decoder_config_text(&again);
    MUST(same != NULL && strcmp(text, same) == 0);
    oas_free(text);
    oas_free(same);
    return 0;
}
