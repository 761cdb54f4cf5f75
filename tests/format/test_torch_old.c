/* PyTorch's files from before version 1.6, as LPIPS and DISTS are published: read exactly, refused with a sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "archive.h"

#include <stdio.h>
#include <string.h>

static const int64_t two_three[2] = {2, 3}, rows[2] = {3, 1}, two[1] = {2}, one[1] = {1};
static const unsigned char values[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* What may be wrong with a file. */
typedef struct plan {
    int version;
    bool big_endian, python2, twice, unknown_key, no_list;
    const char *view; /* the instruction for "no view" */
    int64_t count;    /* of the second storage, as the file says in front of it */
} plan;

static const plan good = {.version = 1001, .view = "N", .count = 8};

static void add_text(bytes *b, const plan *p, const char *text)
{
    if (!p->python2) {
        pickle_text(b, text);
        return;
    }
    bytes_text(b, "U"); /* SHORT_BINSTRING */
    bytes_u(b, strlen(text), 1);
    bytes_text(b, text);
}

static void add_tensor(bytes *b, const plan *p, const char *name, const char *type, const char *key, int64_t count,
                       int64_t offset, int rank, const int64_t *size, const int64_t *stride)
{
    bytes_text(b, p->python2 ? "](" : "");
    add_text(b, p, name);
    pickle_global(b, "torch._utils", "_rebuild_tensor_v2");
    bytes_text(b, "((");
    add_text(b, p, "storage");
    pickle_global(b, "torch", type);
    add_text(b, p, key);
    add_text(b, p, "cuda:0");
    pickle_number(b, count);
    bytes_text(b, p->view);
    bytes_text(b, "tQ");
    pickle_number(b, offset);
    pickle_tuple(b, rank, size);
    pickle_tuple(b, rank, stride);
    bytes_text(b, "\x89");
    pickle_global(b, "collections", "OrderedDict");
    bytes_text(b, p->python2 ? "]\x85RtRe" : ")RtR");
}

/* Two storages, of 8 halves and 4 floats; tensors a [2,3] from the second half on, b [2]. */
static bytes file_of(const plan *p)
{
    bytes b = {0};
    bytes_text(&b, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02");
    pickle_number(&b, p->version);
    bytes_text(&b, ".\x80\x02}(");
    pickle_text(&b, "protocol_version");
    pickle_number(&b, 1001);
    pickle_text(&b, "little_endian");
    bytes_text(&b, p->big_endian ? "\x89u." : "\x88u.");
    bytes_text(&b, "\x80\x02");
    pickle_global(&b, "collections", "OrderedDict");
    bytes_text(&b, p->python2 ? "](" : ")R(");
    add_tensor(&b, p, "a", "HalfStorage", "77", 8, 2, 2, two_three, rows);
    add_tensor(&b, p, "b", "FloatStorage", "5", 4, 1, 1, two, one);
    bytes_text(&b, p->python2 ? "e\x85R." : "u.");
    bytes_text(&b, p->no_list ? "\x80\x02}." : "\x80\x02](");
    if (!p->no_list) {
        pickle_text(&b, "5");
        pickle_text(&b, p->unknown_key ? "6" : p->twice ? "5" : "77");
        bytes_text(&b, "e.");
    }
    bytes_u(&b, 4, 8);
    bytes_add(&b, values, 16);
    bytes_u(&b, (uint64_t)p->count, 8);
    bytes_add(&b, values, 16);
    return b;
}

static void expect_good(const plan *p)
{
    bytes file = file_of(p);
    guarded g = guarded_copy(file.data, file.size);
    weight_file *w = NULL;
    oasis_message why = {""};
    if (oas_weight_file_read(&w, &oas_read_torch_old, g.data, g.size, "f", &why) != OASIS_OK)
        fail_msg("%s", why.text);
    assert_int_equal(oas_weight_file_count(w), 2);
    const stored *a = oas_weight_file_find(w, "a"), *b = oas_weight_file_find(w, "b");
    assert_true(a && b && a->dtype == OAS_STORED_F16 && b->dtype == OAS_STORED_F32);
    assert_true(a->rank == 2 && a->size[0] == 2 && a->size[1] == 3 && b->rank == 1 && b->size[0] == 2);
    assert_memory_equal(a->data, values + 4, 12);
    assert_memory_equal(b->data, values + 4, 8);
    oas_weight_file_close(&w);
    guarded_free(&g);
    bytes_free(&file);
}

static void reads(void **state)
{
    (void)state;
    expect_good(&good);
    plan p = good;
    p.python2 = true;
    expect_good(&p);
}

static void expect(const char *name, const plan *p, oasis_status status, const char *fragment)
{
    bytes file = file_of(p);
    expect_refused(&oas_read_torch_old, name, &file, status, fragment);
    bytes_free(&file);
}

static void refuses(void **state)
{
    (void)state;
    plan p = good;
    p.version = 1000;
    expect("another version", &p, OASIS_E_UNSUPPORTED, "other than 1001");
    p = good;
    p.big_endian = true;
    expect("big endian", &p, OASIS_E_UNSUPPORTED, "little-endian");
    p = good;
    p.view = "K\1";
    expect("a view", &p, OASIS_E_FORMAT, "no tuple of five");
    p = good;
    p.no_list = true;
    expect("no list", &p, OASIS_E_FORMAT, "no list of storages");
    p = good;
    p.unknown_key = true;
    expect("unknown key", &p, OASIS_E_FORMAT, "entry 1 of the list of storages is no storage");
    p = good;
    p.twice = true;
    expect("twice", &p, OASIS_E_FORMAT, "there twice");
    p = good;
    p.count = 7;
    expect("another count", &p, OASIS_E_FORMAT, "storage 77 begins with 7 values");
    bytes file = file_of(&good);
    file.size -= 1;
    expect_refused(&oas_read_torch_old, "cut off", &file, OASIS_E_FORMAT, "15 bytes follow");
    file.data[3] ^= 1;
    expect_refused(&oas_read_torch_old, "another number", &file, OASIS_E_FORMAT, "old format");
    bytes_free(&file);
}

/* Cut at any length, and with any byte changed: an answer, and no access beyond the file (guarded, and sanitizers). */
static void survives_damage(void **state)
{
    (void)state;
    bytes file = file_of(&good);
    for (size_t i = 0; i < 2 * file.size; i++) {
        size_t at = i % file.size;
        guarded g = guarded_copy(file.data, i < file.size ? at : file.size);
        if (i >= file.size) {
            guarded_writable(&g);
            g.data[at] ^= 0xff;
        }
        weight_file *w = NULL;
        oasis_message why = {""};
        oasis_status status = oas_weight_file_read(&w, &oas_read_torch_old, g.data, g.size, "f", &why);
        assert_true((status == OASIS_OK) == (w != NULL) && (status == OASIS_OK || strlen(why.text) > 10));
        oas_weight_file_close(&w);
        guarded_free(&g);
    }
    bytes_free(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads), cmocka_unit_test(refuses),
                                       cmocka_unit_test(survives_damage)};
    return cmocka_run_group_tests_name("format/torch_old", tests, NULL, NULL);
}
