/* Running the program as a user does, in a folder of its own, and looking at what it leaves. */
#ifndef TESTS_E2E_PROGRAM_H
#define TESTS_E2E_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What a run of the program left; freed by result_free. */
typedef struct result {
    int code;        /* exit code; 1000 + the signal's number when one ended it */
    char *out, *err; /* standard output and error, with a zero behind */
    size_t out_size, err_size;
} result;

void result_free(result *r);

/* Makes an empty folder and goes there; removes it with all in it. */
int enter_folder(void **state);
int leave_folder(void **state);

/*
 * Runs $OASIS_PROGRAM with the words of `line` (separated by blanks).
 *   input   file for standard input, or NULL: empty
 * The default model is found, whatever the user's environment says.
 */
result run_with_input(const char *input, const char *line);
result run(const char *line);

/* Runs a line of the shell, in which the program is "$OASIS_PROGRAM"; standard output and exit code are the shell's. */
result run_shell(const char *line);

/* The same on a terminal of its own, standard input, output and error; `typed` is what the user types. */
result run_on_terminal(const char *typed, const char *line);

/* Starts it in the background, with standard error to `err`; its process id. */
pid_t start(const char *line, const char *err);

/* Waits for it to end; the code as in `result`. */
int wait_for(pid_t pid);

/* Fails the test when the exit code is another, and shows what the program said. */
void expect_code(const result *r, int code, const char *line);

/* Runs, and fails the test unless it succeeds. */
void succeed(const char *line);

/* Runs, and fails the test unless it ends with `code`, says something that contains `words`, and only that. */
void refused(int code, const char *words, const char *line);

/* The names in the current folder, sorted, separated by blanks. */
void list_folder(char *text, size_t size);

/* A file's bytes, with a zero behind; freed by the caller. */
char *read_all(const char *path, size_t *size);
void write_all(const char *path, const void *bytes, size_t size);
bool same_bytes(const char *a, const char *b);

#endif
