#include "program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ARGUMENTS = 64 };

static char folder[64];

int enter_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/oasis-e2e-XXXXXX");
    setenv("XDG_DATA_HOME", "/nonexistent", 1);
    unsetenv("OASIS_MODEL_DIR");
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static void remove_all(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        char name[512];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (unlink(name) != 0)
            remove_all(name);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

int leave_folder(void **state)
{
    (void)state;
    if (chdir("/") != 0)
        return -1;
    remove_all(folder);
    return 0;
}

void result_free(result *r)
{
    free(r->out);
    free(r->err);
    r->out = r->err = NULL;
}

char *read_all(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s: %s", path, strerror(errno));
    size_t capacity = 1 << 16, n = 0;
    char *bytes = malloc(capacity);
    for (size_t got; (got = fread(bytes + n, 1, capacity - 1 - n, file)) > 0;) {
        n += got;
        if (n == capacity - 1)
            bytes = realloc(bytes, capacity *= 2);
    }
    fclose(file);
    bytes[n] = 0;
    if (size)
        *size = n;
    return bytes;
}

void write_all(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

bool same_bytes(const char *a, const char *b)
{
    size_t n, m;
    char *x = read_all(a, &n), *y = read_all(b, &m);
    bool same = n == m && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}

/* Splits the line in place; argv[0] is the program. */
static void split(char *line, char **argv)
{
    int n = 0;
    argv[n++] = getenv("OASIS_PROGRAM");
    for (char *word = strtok(line, " "); word && n < MAX_ARGUMENTS - 1; word = strtok(NULL, " "))
        argv[n++] = word;
    argv[n] = NULL;
    if (!argv[0])
        fail_msg("OASIS_PROGRAM is not set; run this test through ctest");
}

/* In the child: standard streams from and to files, then the program. */
static void become(char **argv, const char *input, const char *out, const char *err)
{
    int in = open(input ? input : "/dev/null", O_RDONLY);
    int to = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600), messages = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (in < 0 || to < 0 || messages < 0 || dup2(in, 0) < 0 || dup2(to, 1) < 0 || dup2(messages, 2) < 0)
        _exit(126);
    execv(argv[0], argv);
    _exit(127);
}

int wait_for(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* Beside the folder, so that the test's folder holds only what the program puts there. */
static void stream_path(char *path, size_t size, const char *name)
{
    snprintf(path, size, "%s.%s", folder, name);
}

static result run_arguments(char **argv, const char *input)
{
    char out[96], err[96];
    stream_path(out, sizeof out, "out");
    stream_path(err, sizeof err, "err");
    pid_t pid = fork();
    if (pid == 0)
        become(argv, input, out, err);
    result r = {.code = wait_for(pid)};
    r.out = read_all(out, &r.out_size);
    r.err = read_all(err, &r.err_size);
    unlink(out);
    unlink(err);
    return r;
}

result run_with_input(const char *input, const char *line)
{
    char copy[2048];
    char *argv[MAX_ARGUMENTS];
    snprintf(copy, sizeof copy, "%s", line);
    split(copy, argv);
    return run_arguments(argv, input);
}

result run_shell(const char *line)
{
    char copy[2048];
    snprintf(copy, sizeof copy, "%s", line);
    char shell[] = "/bin/sh", option[] = "-c";
    char *argv[] = {shell, option, copy, NULL};
    return run_arguments(argv, NULL);
}

result run(const char *line)
{
    return run_with_input(NULL, line);
}

pid_t start(const char *line, const char *err)
{
    char copy[2048];
    char *argv[MAX_ARGUMENTS];
    snprintf(copy, sizeof copy, "%s", line);
    split(copy, argv);
    pid_t pid = fork();
    if (pid == 0)
        become(argv, NULL, "/dev/null", err);
    return pid;
}

result run_on_terminal(const char *typed, const char *line)
{
    char copy[2048];
    char *argv[MAX_ARGUMENTS];
    int terminal;
    struct winsize size = {.ws_row = 24, .ws_col = 60};
    snprintf(copy, sizeof copy, "%s", line);
    split(copy, argv);
    pid_t pid = forkpty(&terminal, NULL, NULL, &size);
    if (pid == 0) {
        execv(argv[0], argv);
        _exit(127);
    }
    assert_true(pid > 0);
    result r = {.err = calloc(1, 1 << 16)};
    if (typed && write(terminal, typed, strlen(typed)) < 0)
        fail_msg("writing to the terminal: %s", strerror(errno));
    for (ssize_t n; (n = read(terminal, r.err + r.err_size, (1 << 16) - 1 - r.err_size)) > 0;)
        r.err_size += (size_t)n;
    close(terminal);
    r.code = wait_for(pid);
    return r;
}

void expect_code(const result *r, int code, const char *line)
{
    if (r->code != code)
        fail_msg("oasis %s: ended with %d, expected %d; said: %s", line, r->code, code, r->err);
}

void succeed(const char *line)
{
    result r = run(line);
    expect_code(&r, 0, line);
    result_free(&r);
}

void refused(int code, const char *words, const char *line)
{
    result r = run(line);
    expect_code(&r, code, line);
    if (!strstr(r.err, words))
        fail_msg("oasis %s: said \"%s\", expected words \"%s\"", line, r.err, words);
    /* One sentence on one line, and nothing on standard output. */
    char *end = strchr(r.err, '\n');
    if (strncmp(r.err, "oasis: ", 7) != 0 || !end || end[1] != 0)
        fail_msg("oasis %s: expected one line \"oasis: ...\", found \"%s\"", line, r.err);
    assert_int_equal(r.out_size, 0);
    result_free(&r);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void list_folder(char *text, size_t size)
{
    char *names[256];
    int n = 0;
    DIR *dir = opendir(".");
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL && n < 256;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            names[n++] = strdup(e->d_name);
    closedir(dir);
    qsort(names, (size_t)n, sizeof *names, by_name);
    text[0] = 0;
    for (int i = 0; i < n; i++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s", i ? " " : "", names[i]);
        free(names[i]);
    }
}
