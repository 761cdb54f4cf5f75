/* Ctrl-C and messages: how the program stops and what it says then. */
#include "cli.h"

#include <signal.h>
#include <stdarg.h>
#include <string.h>

static volatile sig_atomic_t caught; /* the only thing a handler may write to */

static void note(int number)
{
    caught = number;
}

void cli_catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = note;
    action.sa_flags = (int)(SA_RESETHAND | SA_RESTART); /* the second one has its usual effect */
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) /* ignored: nohup */
            sigaction(numbers[i], &action, NULL);
    /* A reader of our standard output that goes away, and a file that may not grow further, are failed writes with a
     * sentence and cleaning up. */
    action.sa_handler = SIG_IGN;
    action.sa_flags = 0;
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL);
}

int cli_signal(void)
{
    return caught;
}

void cli_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("oasis: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

int cli_exit_code(oasis_status status)
{
    switch (status) {
    case OASIS_OK:
    case OASIS_AGAIN:
    case OASIS_END: return EXIT_DONE;
    case OASIS_E_MEMORY:
    case OASIS_E_DEVICE: return EXIT_MACHINE;
    case OASIS_E_IO:
    case OASIS_E_UNSUPPORTED: return EXIT_FAILED;
    case OASIS_E_FORMAT: return EXIT_INPUT;
    case OASIS_E_ARGUMENT: return EXIT_USAGE;
    case OASIS_E_CANCELLED: return caught ? 128 + caught : EXIT_FAILED;
    case OASIS_E_MODEL: return EXIT_MODEL;
    }
    return EXIT_FAILED;
}
