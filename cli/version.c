/* What this program is made of, in one block that can be pasted into a report. */
#include "cli.h"

static int run_version(int argc, char **argv)
{
    word_list words;
    int code;
    char text[8192];
    if (!cli_parse(cli_find_command("version"), NULL, argc, argv, &words, &code))
        return code;
    printf("oasis %s\n", oasis_version());
    oasis_build_info(text, sizeof text);
    fputs(text, stdout);
    oasis_media_build_info(text, sizeof text);
    fputs(text, stdout);
    return EXIT_DONE;
}

const command cli_command_version = {
    .name = "version",
    .summary = "name the build, the processor's features in use, and the libraries",
    .description = "Names the build, the processor's features in use, and the libraries. Also: oasis --version.",
    .run = run_version,
};
