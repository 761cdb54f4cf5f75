#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "helpers.h"

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

void bytes_add(bytes *b, const void *data, size_t size)
{
    if (b->size + size > b->room) {
        b->room = 2 * (b->size + size);
        b->data = realloc(b->data, b->room);
        assert_non_null(b->data);
    }
    if (size)
        memcpy(b->data + b->size, data, size);
    b->size += size;
}

void bytes_text(bytes *b, const char *text)
{
    bytes_add(b, text, strlen(text));
}

void bytes_u(bytes *b, uint64_t value, int n)
{
    for (int i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)(value >> 8 * i);
        bytes_add(b, &byte, 1);
    }
}

void bytes_free(bytes *b)
{
    free(b->data);
    *b = (bytes){0};
}

bytes safetensors_bytes(const char *header, size_t data)
{
    bytes b = {0};
    bytes_u(&b, strlen(header), 8);
    bytes_text(&b, header);
    for (size_t i = 0; i < data; i++)
        bytes_u(&b, i, 1);
    return b;
}

guarded guarded_copy(const void *data, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    guarded g = {.size = size, .length = (size + page - 1) / page * page + page};
    g.pages = mmap(NULL, g.length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.pages != MAP_FAILED);
    g.data = g.pages + g.length - page - size;
    if (size)
        memcpy(g.data, data, size);
    mprotect(g.pages, g.length - page, PROT_READ);
    mprotect(g.pages + g.length - page, page, PROT_NONE);
    return g;
}

void guarded_writable(guarded *g)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    assert_int_equal(mprotect(g->pages, g->length - page, PROT_READ | PROT_WRITE), 0);
}

void guarded_free(guarded *g)
{
    munmap(g->pages, g->length);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

enum { MAX_SENTENCES = 512 };
static char *sentences[MAX_SENTENCES];
static const char *sentence_names[MAX_SENTENCES];
static size_t n_sentences;

void note_sentence(const char *name, const char *sentence)
{
    assert_true(n_sentences < MAX_SENTENCES);
    sentences[n_sentences] = strdup(sentence);
    sentence_names[n_sentences++] = name;
}

void expect_refused(const weight_reader *reader, const char *name, const bytes *file, oasis_status status,
                    const char *fragment)
{
    guarded g = guarded_copy(file->data, file->size);
    oasis_message why = {""};
    weight_file *w = NULL;
    oasis_status got = oas_weight_file_read(&w, reader, g.data, g.size, "file.bin", &why);
    if (got != status)
        fail_msg("%s: status %d (%s), expected %d; \"%s\"", name, got, oasis_status_name(got), status, why.text);
    assert_null(w);
    if (!strstr(why.text, fragment) || strncmp(why.text, "file.bin", 8) != 0)
        fail_msg("%s: \"%s\", expected the file's name and \"%s\"", name, why.text, fragment);
    note_sentence(name, why.text);
    guarded_free(&g);
}

void expect_distinct_sentences(size_t at_least)
{
    assert_true(n_sentences >= at_least);
    for (size_t i = 0; i < n_sentences; i++) {
        for (size_t j = 0; j < i; j++)
            if (strcmp(sentences[i], sentences[j]) == 0)
                fail_msg("%s and %s are refused with the same sentence: %s", sentence_names[i], sentence_names[j],
                         sentences[i]);
    }
    for (size_t i = 0; i < n_sentences; i++)
        free(sentences[i]);
    n_sentences = 0;
}

/* ---- failing allocations ----------------------------------------------------------------------------------------- */

static long allocations_left = -1;
static bool was_failed, was_json;

static bool fails_now(void)
{
    if (allocations_left < 0 || allocations_left-- > 0)
        return false;
    was_failed = true;
    return true;
}

/* Stands before the C library's: this is what oas_alloc calls. */
void *aligned_alloc(size_t alignment, size_t size)
{
    void *block = NULL;
    return fails_now() || posix_memalign(&block, alignment, size) != 0 ? NULL : block;
}

static void *json_malloc(size_t size)
{
    if (!fails_now())
        return malloc(size);
    was_json = true;
    return NULL;
}

void fail_allocation(long n)
{
    allocations_left = n;
    was_failed = was_json = false;
    json_set_alloc_funcs(json_malloc, free);
}

bool allocation_failed(void)
{
    return was_failed;
}

void expect_allocation_status(oasis_status status, const char *sentence)
{
    bool right = was_json || status == (was_failed ? OASIS_E_MEMORY : OASIS_OK);
    if (!right || (status != OASIS_OK && !sentence[0]))
        fail_msg("an allocation %s: status %d, \"%s\"", was_failed ? "failed" : "did not fail", status, sentence);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static char folder[64];

static void remove_folder(void)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[400];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        unlink(path);
    }
    if (d)
        closedir(d);
    rmdir(folder);
}

const char *temp_path(const char *name)
{
    static char path[300];
    if (!folder[0]) {
        strcpy(folder, "/tmp/oasis-test-XXXXXX");
        assert_non_null(mkdtemp(folder));
        atexit(remove_folder);
    }
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

int temp_files(void)
{
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

bytes read_whole(const char *path)
{
    bytes b = {0};
    unsigned char piece[65536];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;)
        bytes_add(&b, piece, n);
    fclose(f);
    return b;
}

void write_whole(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}
