/* oasis: the list of commands, and which one is meant. */
#include "cli.h"

#include <string.h>

/* One line per command, in the order of the help; a hidden one works without being listed. */
#define COMMANDS(X)                                                                                                    \
    X(upscale)                                                                                                         \
    X(degrade)                                                                                                         \
    X(eval)                                                                                                            \
    X(bench)                                                                                                           \
    X(convert)                                                                                                         \
    X(train)                                                                                                           \
    X(profile)                                                                                                         \
    X(info)                                                                                                            \
    X(version)                                                                                                         \
    X(help)                                                                                                            \
    X(completion)                                                                                                      \
    X(man)

#define DECLARE(name) extern const command cli_command_##name;
#define ENTRY(name)   &cli_command_##name,
COMMANDS(DECLARE)
const command *const cli_commands[] = {COMMANDS(ENTRY) NULL};

const command *cli_find_command(const char *name)
{
    for (const command *const *c = cli_commands; *c; c++)
        if (strcmp((*c)->name, name) == 0)
            return *c;
    return NULL;
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        cli_print_overview(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        word = "help";
    else if (strcmp(word, "--version") == 0)
        word = "version";
    const command *c = cli_find_command(word);
    if (c)
        return c->run(argc - 2, argv + 2);
    return cli_is_mistyped_command(word) ? EXIT_USAGE : cli_commands[0]->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    oasis_media_set_quiet(true);
    int code = dispatch(argc, argv);
    return fflush(stdout) != 0 && code == EXIT_DONE ? EXIT_FAILED : code;
}
