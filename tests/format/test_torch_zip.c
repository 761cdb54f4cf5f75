/* PyTorch's .pth: archives and pickles, good ones read exactly, wrong ones refused with a sentence of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "archive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int64_t two_three[2] = {2, 3}, rows[2] = {3, 1}, columns[2] = {1, 2};
static const unsigned char sixteen[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* An archive of one storage "0" of 16 bytes and this pickle, which is freed. */
static archive_plan plan_of(bytes *pickle)
{
    archive_plan plan = {0};
    plan_add(&plan, "archive/data.pkl", pickle->data, pickle->size);
    plan_add(&plan, "archive/byteorder", "little", 6);
    plan_add(&plan, "archive/data/0", sixteen, 16);
    plan_add(&plan, "archive/version", "3\n", 2);
    bytes_free(pickle);
    return plan;
}

static bytes good_pickle(void)
{
    bytes p = {0};
    pickle_begin(&p);
    pickle_tensor(&p, "a", "HalfStorage", "0", 8, 2, 2, two_three, rows);
    pickle_end(&p);
    return p;
}

static void expect_plan(const char *name, archive_plan *plan, oasis_status status, const char *fragment)
{
    bytes file = plan_zip(plan);
    expect_refused(&oas_read_torch_zip, name, &file, status, fragment);
    bytes_free(&file);
    plan_free(plan);
}

static void expect_pickle(const char *name, bytes *pickle, oasis_status status, const char *fragment)
{
    archive_plan plan = plan_of(pickle);
    expect_plan(name, &plan, status, fragment);
}

/* ---- archives ---------------------------------------------------------------------------------------------------- */

static archive_plan good_plan(void)
{
    bytes p = good_pickle();
    return plan_of(&p);
}

static void refuses_archives(void **state)
{
    (void)state;
    archive_plan plan = good_plan();
    plan.part[2].method = 8;
    expect_plan("compressed", &plan, OASIS_E_UNSUPPORTED, "archive/data/0 is compressed by method 8");
    plan = good_plan();
    plan.part[2].flags = 1;
    expect_plan("encrypted", &plan, OASIS_E_UNSUPPORTED, "archive/data/0 is encrypted");
    plan = good_plan();
    plan.part[2].packed_more = 1;
    expect_plan("two sizes", &plan, OASIS_E_FORMAT, "has 17 bytes of 16 in the archive");
    plan = good_plan();
    plan.part[3].size_more = 1;
    expect_plan("into the directory", &plan, OASIS_E_FORMAT, "archive/version has 3 bytes from byte");
    plan = good_plan();
    plan.part[3].size_more = 1u << 31;
    expect_plan("beyond the file", &plan, OASIS_E_FORMAT, "archive/version has 2147483650 bytes");
    plan = good_plan();
    plan.part[2].size_more = 100;
    expect_plan("overlapping entries", &plan, OASIS_E_FORMAT, "archive/data/0 and archive/version overlap");
    plan = good_plan();
    plan.part[2].local_more = 1;
    expect_plan("no local header", &plan, OASIS_E_FORMAT, "archive/data/0 has no header at byte");
    plan = good_plan();
    plan.part[2].local_more = 0xf0000000;
    expect_plan("local header beyond the file", &plan, OASIS_E_FORMAT, "has no header at byte 40");
    plan = good_plan();
    plan.part[2].local = "archive/data/1";
    expect_plan("two names", &plan, OASIS_E_FORMAT, "archive/data/0 has another name at byte");
    plan = good_plan();
    plan_add(&plan, "archive/data/0", "x", 1);
    expect_plan("name twice", &plan, OASIS_E_FORMAT, "archive/data/0 occurs twice");
    plan = good_plan();
    plan.directory_more = 1;
    expect_plan("directory shifted", &plan, OASIS_E_FORMAT, "the zip directory has");
    plan = good_plan();
    plan.entries_more = 1;
    expect_plan("more entries than there are", &plan, OASIS_E_FORMAT, "entry 4 of the zip directory is damaged");
    plan = good_plan();
    plan.entries_more = 60000;
    expect_plan("many more entries", &plan, OASIS_E_FORMAT, "cannot hold 60004 entries");
    plan = good_plan();
    plan.zip64 = true;
    plan.entries_more = (size_t)1 << 40;
    expect_plan("2^40 entries", &plan, OASIS_E_FORMAT, "a zip archive of 1099511627780 entries");
    plan = good_plan();
    plan.zip64 = true;
    plan.directory_more = SIZE_MAX / 2;
    expect_plan("zip64 directory beyond the file", &plan, OASIS_E_FORMAT, "bytes from byte 922337203685477");
    plan = good_plan();
    plan.zip64 = true;
    plan.part[2].local_more = SIZE_MAX / 2;
    expect_plan("zip64 local header beyond the file", &plan, OASIS_E_FORMAT, "has no header at byte 92233720368547");
    plan = good_plan();
    plan.part[2].name[0] = '\0';
    expect_plan("entry without a name", &plan, OASIS_E_FORMAT, "entry 2 of the zip directory has a name of 0 bytes");
    plan = good_plan();
    memset(plan.part[2].name, 'n', sizeof plan.part[2].name - 1);
    expect_plan("long name", &plan, OASIS_E_FORMAT, "a name of 1199 bytes");
    plan = good_plan();
    strcpy(plan.part[0].name, "archive/data_pkl");
    expect_plan("no pickle", &plan, OASIS_E_FORMAT, "without data.pkl");
    plan = good_plan();
    plan_add(&plan, "other/data.pkl", "x", 1);
    expect_plan("two pickles", &plan, OASIS_E_FORMAT, "two entries are named data.pkl: archive/data.pkl and other");
    plan = good_plan();
    plan_add(&plan, "archive/constants.pkl", "x", 1);
    expect_plan("TorchScript", &plan, OASIS_E_UNSUPPORTED, "a TorchScript program");
    plan = good_plan();
    memcpy(plan.part[1].data.data, "bigbig", 6);
    expect_plan("big-endian", &plan, OASIS_E_UNSUPPORTED, "byte order \"bigbig\"");
    plan = good_plan();
    plan.part[1].data.size = 0;
    expect_plan("empty byte order", &plan, OASIS_E_UNSUPPORTED, "byte order \"\"");
}

static void refuses_ends(void **state)
{
    (void)state;
    archive_plan plan = good_plan();
    bytes file = plan_zip(&plan), cut = {.data = file.data, .size = file.size - 1};
    expect_refused(&oas_read_torch_zip, "cut off", &cut, OASIS_E_FORMAT, "without its directory");
    file.data[file.size - 22 + 4] = 1;
    expect_refused(&oas_read_torch_zip, "second of two parts", &file, OASIS_E_UNSUPPORTED, "in several parts");
    bytes_free(&file);

    file = plan_zip(&plan);
    memset(file.data + file.size - 22 + 16, 0xff, 4);
    expect_refused(&oas_read_torch_zip, "zip64 records missing", &file, OASIS_E_FORMAT, "needs zip64 records");
    bytes_free(&file);

    plan.zip64 = true;
    file = plan_zip(&plan);
    file.data[file.size - 22 - 20 + 8] ^= 1;
    expect_refused(&oas_read_torch_zip, "zip64 locator wrong", &file, OASIS_E_FORMAT, "where the zip locator says");
    bytes_free(&file);

    file = plan_zip(&plan); /* the last entry's zip64 field, whose length is made 8 too small */
    size_t field = file.size - 22 - 20 - 56 - 24 - 2;
    assert_int_equal(file.data[field], 24);
    file.data[field] = 16;
    expect_refused(&oas_read_torch_zip, "zip64 field too short", &file, OASIS_E_FORMAT, "damaged zip64 field");
    bytes_free(&file);
    plan_free(&plan);

    bytes old = {0};
    bytes_text(&old, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.");
    expect_refused(&oas_read_torch_old, "only the magic", &old, OASIS_E_FORMAT, "ends without");
    old.data[5] = 0;
    expect_refused(&oas_read_torch_zip, "bare pickle", &old, OASIS_E_UNSUPPORTED, "a bare pickle");
    old.data[0] = 'x';
    expect_refused(&oas_read_torch_zip, "anything", &old, OASIS_E_FORMAT, "does not begin like a zip archive");
    bytes_free(&old);
}

/* ---- pickles ----------------------------------------------------------------------------------------------------- */

/* Everything between the protocol and the end is given as bytes. */
static void refuses_instructions(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *code;
        size_t length;
        const char *fragment;
        oasis_status status;
    } cases[] = {
#define CODE(text) text, sizeof(text) - 1
        {"empty pickle", CODE(""), "byte 0: ends without", OASIS_E_FORMAT},
        {"no STOP", CODE("\x80\x02}"), "byte 3: ends without", OASIS_E_FORMAT},
        {"nothing left", CODE("\x80\x02."), "stands for 0 values", OASIS_E_FORMAT},
        {"two values left", CODE("\x80\x02}}."), "stands for 2 values", OASIS_E_FORMAT},
        {"protocol 6", CODE("\x80\x06}."), "pickle protocol 6", OASIS_E_UNSUPPORTED},
        {"protocol 0", CODE("(dp0\n."), "instruction 0x64", OASIS_E_UNSUPPORTED},
        {"os.system",
         CODE("\x80\x02"
              "cos\nsystem\nX\x04\0\0\0true\x85R."),
         "asks for os.system", OASIS_E_UNSUPPORTED},
        {"builtins.eval",
         CODE("\x80\x04\x8c\x08"
              "builtins\x8c\x04"
              "eval\x93."),
         "asks for builtins.eval", OASIS_E_UNSUPPORTED},
        {"half a name",
         CODE("\x80\x02"
              "ctorch._utils\n_rebuild_tensor\n."),
         "torch._utils._rebuild_tensor,", OASIS_E_UNSUPPORTED},
        {"name with an escape",
         CODE("\x80\x02"
              "cos\n\x1b[2J\n."),
         "os.?[2J", OASIS_E_UNSUPPORTED},
        {"INST", CODE("\x80\x02(ios\nsystem\n."), "instruction 0x69", OASIS_E_UNSUPPORTED},
        {"OBJ", CODE("\x80\x02(o."), "instruction 0x6f", OASIS_E_UNSUPPORTED},
        {"NEWOBJ", CODE("\x80\x02))\x81."), "instruction 0x81", OASIS_E_UNSUPPORTED},
        {"EXT1", CODE("\x80\x02\x82\x01."), "instruction 0x82", OASIS_E_UNSUPPORTED},
        {"PERSID", CODE("\x80\x02P0\n."), "instruction 0x50", OASIS_E_UNSUPPORTED},
        {"unfinished name",
         CODE("\x80\x02"
              "ctorch\nFloat"),
         "a name that goes beyond the end", OASIS_E_FORMAT},
        {"unfinished text",
         CODE("\x80\x02X\xff\xff\xff\xff"
              "abc"),
         "byte 2: a text that goes beyond", OASIS_E_FORMAT},
        {"text of 2^64-1 bytes",
         CODE("\x80\x02}\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
              "abc"),
         "byte 3: a text that goes beyond", OASIS_E_FORMAT},
        {"unfinished number", CODE("\x80\x02J\x01"), "byte 2: an instruction that goes beyond", OASIS_E_FORMAT},
        {"unfinished float", CODE("\x80\x02}G\x01"), "byte 3: an instruction that goes beyond", OASIS_E_FORMAT},
        {"number of 72 bits",
         CODE("\x80\x02\x8a\x09"
              "123456789."),
         "more than 64 bits", OASIS_E_FORMAT},
        {"POP of nothing",
         CODE("\x80\x02"
              "0."),
         "takes a value from an empty stack", OASIS_E_FORMAT},
        {"POP through a mark", CODE("\x80\x02}(0."), "byte 4: takes a value from an empty", OASIS_E_FORMAT},
        {"TUPLE2 of one", CODE("\x80\x02N\x86."), "byte 3: takes a value from an empty", OASIS_E_FORMAT},
        {"TUPLE without a mark", CODE("\x80\x02Nt."), "a mark that was never set", OASIS_E_FORMAT},
        {"mark left over", CODE("\x80\x02(N."), "stands for 1 values", OASIS_E_FORMAT},
        {"memo never written", CODE("\x80\x02h\x07."), "recalls a value that was never kept", OASIS_E_FORMAT},
        {"memo far away", CODE("\x80\x02Nr\xff\xff\xff\x7f."), "a place beyond 2^20", OASIS_E_FORMAT},
        {"memo of nothing", CODE("\x80\x02q\x01."), "keeps a value of an empty stack", OASIS_E_FORMAT},
        {"STACK_GLOBAL of numbers", CODE("\x80\x04K\x01K\x02\x93."), "a name that is no text", OASIS_E_FORMAT},
        {"calls a number", CODE("\x80\x02K\x01)R."), "calls something that is no function", OASIS_E_FORMAT},
        {"calls a storage type",
         CODE("\x80\x02"
              "ctorch\nFloatStorage\n)R."),
         "byte 23: calls something", OASIS_E_FORMAT},
        {"calls with a list",
         CODE("\x80\x02"
              "ccollections\nOrderedDict\n]R."),
         "something else than a tuple", OASIS_E_FORMAT},
        {"OrderedDict of a text",
         CODE("\x80\x02"
              "ccollections\nOrderedDict\nX\1\0\0\0a\x85R."),
         "dictionary made from something else", OASIS_E_FORMAT},
        {"OrderedDict of one value",
         CODE("\x80\x02"
              "ccollections\nOrderedDict\n](]Nae\x85R."),
         "a pair of an ordered dictionary", OASIS_E_FORMAT},
        {"BUILD on a list", CODE("\x80\x02]}b."), "sets attributes of something else", OASIS_E_FORMAT},
        {"SETITEM on a list", CODE("\x80\x02]NNs."), "sets an item of something else", OASIS_E_FORMAT},
        {"SETITEMS on a list", CODE("\x80\x02](NNu."), "sets items of something else", OASIS_E_FORMAT},
        {"SETITEMS of three", CODE("\x80\x02}(NNNu."), "a key without a value", OASIS_E_FORMAT},
        {"APPEND to a dictionary", CODE("\x80\x02}Na."), "appends one to something else", OASIS_E_FORMAT},
        {"APPENDS to a dictionary", CODE("\x80\x02}(Ne."), "appends to something else", OASIS_E_FORMAT},
        {"reference of a text", CODE("\x80\x02X\1\0\0\0aQ."), "a reference that is no tuple", OASIS_E_FORMAT},
        {"reference to a module", CODE("\x80\x02(X\6\0\0\0moduleNNNNtQ."), "something else than a storage",
         OASIS_E_FORMAT},
        {"storage of a function", CODE("\x80\x02(X\7\0\0\0storagectorch._utils\n_rebuild_parameter\nNNNtQ."),
         "a storage whose type is none", OASIS_E_FORMAT},
        {"storage without a key", CODE("\x80\x02(X\7\0\0\0storagectorch\nIntStorage\nNNNtQ."), "whose key is no text",
         OASIS_E_FORMAT},
        {"storage of -1 values",
         CODE("\x80\x02(X\7\0\0\0storagectorch\nIntStorage\nX\1\0\0\0"
              "0NJ\xff\xff\xff\xfftQ."),
         "whose number of values is none", OASIS_E_FORMAT},
        {"tensor of two values",
         CODE("\x80\x02"
              "ctorch._utils\n_rebuild_tensor_v2\nNN\x86R."),
         "a wrong number of values", OASIS_E_FORMAT},
        {"tensor of a text",
         CODE("\x80\x02"
              "ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtR."),
         "something else than a storage", OASIS_E_FORMAT},
        {"parameter of nothing",
         CODE("\x80\x02"
              "ctorch._utils\n_rebuild_parameter\n)R."),
         "a parameter made from something else", OASIS_E_FORMAT},
        {"a list", CODE("\x80\x02]."), "something else than a dictionary of tensors", OASIS_E_FORMAT},
        {"an empty dictionary", CODE("\x80\x02}."), "a dictionary without tensors", OASIS_E_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes p = {0};
        bytes_add(&p, cases[i].code, cases[i].length);
        expect_pickle(cases[i].name, &p, cases[i].status, cases[i].fragment);
    }
}

static void refuses_tensors(void **state)
{
    (void)state;
    static const struct {
        const char *name, *tensor, *type, *key;
        int64_t values, offset;
        int rank;
        int64_t size[9], stride[9];
        const char *fragment;
    } cases[] = {
        {"missing storage", "a", "HalfStorage", "1", 8, 0, 1, {8}, {1}, "its storage archive/data/1 is not in the"},
        {"storage elsewhere", "a", "HalfStorage", "../version", 1, 0, 1, {1}, {1}, "archive/data/../version is not"},
        {"storage too short", "a", "FloatStorage", "0", 8, 0, 1, {8}, {1}, "has 16 bytes, expected 8 values of F32"},
        {"storage too long", "a", "HalfStorage", "0", 7, 0, 1, {7}, {1}, "has 16 bytes, expected 7 values of F16"},
        {"storage overflows",
         "a",
         "DoubleStorage",
         "0",
         INT64_C(0x2000000000000002),
         0,
         1,
         {2},
         {1},
         "expected 2305843009213693954 values of F64"},
        {"beyond the storage", "a", "HalfStorage", "0", 8, 0, 1, {9}, {1}, "sizes [9] at strides [1] from value 0 go"},
        {"offset beyond", "a", "HalfStorage", "0", 8, 3, 2, {2, 3}, {3, 1}, "from value 3 go beyond the storage's 8"},
        {"offset far beyond", "a", "HalfStorage", "0", 8, INT64_MAX, 1, {2}, {1}, "from value 9223372036854775807 go"},
        {"stride beyond", "a", "HalfStorage", "0", 8, 0, 2, {2, 3}, {8, 1}, "at strides [8, 1]"},
        {"stride overflows", "a", "HalfStorage", "0", 8, 0, 2, {3, 3}, {INT64_MAX, 1}, "[9223372036854775807, 1]"},
        {"sizes overflow",
         "a",
         "HalfStorage",
         "0",
         8,
         0,
         2,
         {INT64_C(1) << 32, INT64_C(1) << 32},
         {0, 0},
         "[4294967296, 4294967296] have more values"},
        {"a value repeated", "a", "HalfStorage", "0", 8, 0, 1, {1000000}, {0}, "views of storages take more than"},
        {"negative size", "a", "HalfStorage", "0", 8, 0, 1, {-1}, {1}, "sizes holds something else"},
        {"negative stride", "a", "HalfStorage", "0", 8, 7, 1, {8}, {-1}, "strides holds something else"},
        {"nine dimensions",
         "a",
         "HalfStorage",
         "0",
         8,
         0,
         9,
         {1, 1, 1, 1, 1, 1, 1, 1, 1},
         {0},
         "sizes of 9 dimensions"},
        {"empty name", "", "HalfStorage", "0", 8, 0, 1, {8}, {1}, "empty name"},
        {"escape in a name", "a\x1b", "HalfStorage", "0", 8, 0, 1, {8}, {1}, "control character 0x1b"},
        {"name not UTF-8", "\xe9t\xe9", "HalfStorage", "0", 8, 0, 1, {8}, {1}, "not UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes p = {0};
        pickle_begin(&p);
        pickle_tensor(&p, cases[i].tensor, cases[i].type, cases[i].key, cases[i].values, cases[i].offset, cases[i].rank,
                      cases[i].size, cases[i].stride);
        pickle_end(&p);
        expect_pickle(cases[i].name, &p, OASIS_E_FORMAT, cases[i].fragment);
    }
    bytes p = {0};
    pickle_begin(&p);
    for (int i = 0; i < 2; i++)
        pickle_tensor(&p, "same", "HalfStorage", "0", 8, 0, 1, two_three, columns);
    pickle_end(&p);
    expect_pickle("name twice", &p, OASIS_E_FORMAT, "tensor same occurs twice");
}

/* Ones that would take memory out of proportion if nobody counted. */
static void refuses_floods(void **state)
{
    (void)state;
    static const struct {
        const char *name, *again, *fragment;
    } cases[] = {
        {"values", "N0", "more than 2^20 values"},
        {"stack", "h\1", "a stack of more than 2^20 values"},
        {"marks", "(", "more than 2^20 marks"},
        {"items", "2", "instruction 0x32"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes p = {0};
        bytes_text(&p, "\x80\x02]q\1");
        for (int n = 0; n < OAS_STORED_MAX_COUNT * 16 + 2; n++)
            bytes_text(&p, cases[i].again);
        expect_pickle(cases[i].name, &p, i == 3 ? OASIS_E_UNSUPPORTED : OASIS_E_FORMAT, cases[i].fragment);
    }
    bytes p = {0}; /* one list, appended to itself again and again */
    bytes_text(&p, "\x80\x02]q\1");
    for (int n = 0; n < 16 * OAS_STORED_MAX_COUNT * 5; n++)
        bytes_text(&p, "h\1a");
    bytes_text(&p, ".");
    expect_pickle("items", &p, OASIS_E_FORMAT, "containers of more than 2^22 items");
    expect_distinct_sentences(95);
}

/* ---- good files -------------------------------------------------------------------------------------------------- */

static weight_file *open_plan(archive_plan *plan, guarded *g)
{
    bytes file = plan_zip(plan);
    *g = guarded_copy(file.data, file.size);
    bytes_free(&file);
    plan_free(plan);
    oasis_message why = {""};
    weight_file *w = NULL;
    if (oas_weight_file_read(&w, &oas_read_torch_zip, g->data, g->size, "f", &why) != OASIS_OK)
        fail_msg("%s", why.text);
    return w;
}

static void expect_good(archive_plan plan)
{
    guarded g;
    weight_file *w = open_plan(&plan, &g);
    assert_int_equal(oas_weight_file_count(w), 1);
    const stored *t = oas_weight_file_find(w, "a");
    assert_int_equal(t->dtype, OAS_STORED_F16);
    assert_int_equal(t->rank, 2);
    assert_true(t->size[0] == 2 && t->size[1] == 3);
    assert_memory_equal(t->data, sixteen + 4, 12);
    oas_weight_file_close(&w);
    guarded_free(&g);
}

static void reads_archives(void **state)
{
    (void)state;
    expect_good(good_plan());
    archive_plan plan = good_plan();
    plan.zip64 = true;
    expect_good(plan);
    plan = good_plan();
    plan.comment = "a comment PK\5\6 that looks like an end";
    expect_good(plan);
    plan = good_plan();
    plan.part[2].align = 0;
    plan.part[2].local = NULL;
    expect_good(plan);
    plan = good_plan();
    bytes_free(&plan.part[1].data);
    plan.part[1] = plan.part[3]; /* no byteorder, as before PyTorch 2.1 */
    plan.parts = 3;
    expect_good(plan);
}

/* A pickle as protocol 4 writes it: frames, memo by number, short texts. */
static void reads_protocol_4(void **state)
{
    (void)state;
    bytes p = {0};
    bytes_text(&p, "\x80\x04\x95");
    bytes_u(&p, 200, 8);
    bytes_text(&p, "}\x94(\x8c\1a\x94\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_tensor_v2\x94\x93\x94(");
    bytes_text(&p, "(\x8c\7storage\x94\x8c\5torch\x94\x8c\x0bHalfStorage\x94\x93\x94\x8c\1"
                   "0\x94\x8c\3cpu\x94K\x08t\x94Q");
    bytes_text(&p, "K\2K\2K\3\x86\x94K\3K\1\x86\x94\x89\x8c\x0b"
                   "collections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94t\x94R\x94");
    bytes_text(&p, "\x8c\5other\x94M\1\1\x8c\1g\x94G");
    bytes_u(&p, 0, 8);
    bytes_text(&p, "\x8c\1n\x94N\x8c\1l\x94](\x88\x8a\1\xff"
                   "euX\1");
    bytes_u(&p, 0, 3);
    bytes_text(&p, "z]K\1as.");
    expect_good(plan_of(&p));
}

static void reads_wrapped_dictionaries(void **state)
{
    (void)state;
    static const char *const wrappers[] = {"state_dict", "model"};
    for (int i = 0; i < 2; i++) {
        bytes p = {0}, inner = good_pickle();
        bytes_text(&p, "\x80\x02}(");
        pickle_text(&p, "epoch");
        pickle_number(&p, 1000000);
        pickle_text(&p, wrappers[i]);
        bytes_add(&p, inner.data + 2, inner.size - 3);
        bytes_text(&p, "}");
        pickle_text(&p, "_metadata");
        bytes_text(&p, "}sbu."); /* BUILD sets _metadata on the inner dictionary */
        bytes_free(&inner);
        expect_good(plan_of(&p));
    }
}

/* A parameter, an empty tensor, a scalar, a transposed view, and one with a size of 1 and an odd stride. */
static void reads_views(void **state)
{
    (void)state;
    const int64_t none[2] = {0, 5}, none_stride[2] = {5, 1}, one[3] = {2, 1, 3}, one_stride[3] = {3, 77, 1};
    bytes p = {0};
    pickle_begin(&p);
    pickle_text(&p, "parameter");
    pickle_global(&p, "torch._utils", "_rebuild_parameter");
    bytes tensor = {0};
    pickle_tensor(&tensor, "", "ByteStorage", "0", 16, 4, 2, two_three, rows);
    bytes_text(&p, "(");
    bytes_add(&p, tensor.data + 5, tensor.size - 5);
    bytes_text(&p, "\x88}tR");
    bytes_free(&tensor);
    pickle_tensor(&p, "transposed", "ShortStorage", "0", 8, 1, 2, two_three, columns);
    pickle_tensor(&p, "none", "ShortStorage", "0", 8, 8, 2, none, none_stride);
    pickle_tensor(&p, "scalar", "LongStorage", "0", 2, 1, 0, none, none);
    pickle_tensor(&p, "one", "BFloat16Storage", "0", 8, 0, 3, one, one_stride);
    pickle_end(&p);
    archive_plan plan = plan_of(&p);
    guarded g;
    weight_file *w = open_plan(&plan, &g);
    assert_int_equal(oas_weight_file_count(w), 5);
    const stored *t = oas_weight_file_find(w, "parameter");
    assert_int_equal(t->dtype, OAS_STORED_U8);
    assert_memory_equal(t->data, sixteen + 4, 6);
    t = oas_weight_file_find(w, "transposed");
    const unsigned char expected[12] = {2, 3, 6, 7, 10, 11, 4, 5, 8, 9, 12, 13}; /* values 1 3 5, 2 4 6 */
    assert_int_equal(t->bytes, 12);
    assert_memory_equal(t->data, expected, 12);
    t = oas_weight_file_find(w, "none");
    assert_true(t->bytes == 0 && t->data == NULL && t->rank == 2);
    t = oas_weight_file_find(w, "scalar");
    assert_true(t->rank == 0 && t->bytes == 8);
    assert_memory_equal(t->data, sixteen + 8, 8);
    t = oas_weight_file_find(w, "one");
    assert_memory_equal(t->data, sixteen, 12);
    oas_weight_file_close(&w);
    guarded_free(&g);
}

static void opens_by_content(void **state)
{
    (void)state;
    archive_plan plan = good_plan();
    bytes file = plan_zip(&plan);
    const char *path = temp_path("weights.pth");
    write_whole(path, file.data, file.size);
    oasis_message why;
    weight_file *w;
    assert_int_equal(oas_weight_file_open(&w, path, &why), OASIS_OK);
    assert_string_equal(oas_weight_file_format(w), "PyTorch zip");
    assert_string_equal(oas_weight_file_path(w), path);
    oas_weight_file_close(&w);
    unlink(path);
    bytes_free(&file);
    plan_free(&plan);
}

static void survives_damage(void **state)
{
    (void)state;
    archive_plan plan = good_plan();
    bytes file = plan_zip(&plan);
    guarded g = guarded_copy(file.data, file.size);
    guarded_writable(&g);
    oasis_message why;
    weight_file *w;
    for (size_t at = 0; at < file.size; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            g.data[at] = (unsigned char)(file.data[at] ^ 1u << bit);
            oasis_status status = oas_weight_file_read(&w, &oas_read_torch_zip, g.data, g.size, "f", &why);
            assert_true(status == OASIS_OK || status == OASIS_E_FORMAT || status == OASIS_E_UNSUPPORTED);
            oas_weight_file_close(&w);
            g.data[at] = file.data[at];
        }
    guarded_free(&g);
    bytes_free(&file);
    plan_free(&plan);
}

static void survives_any_failed_allocation(void **state)
{
    (void)state;
    bytes p = {0};
    pickle_begin(&p);
    pickle_tensor(&p, "a", "HalfStorage", "0", 8, 2, 2, two_three, columns);
    pickle_end(&p);
    archive_plan plan = plan_of(&p);
    bytes file = plan_zip(&plan);
    long n = 0;
    for (bool failed = true; failed; n++) {
        oasis_message why = {""};
        weight_file *w = NULL;
        fail_allocation(n);
        oasis_status status = oas_weight_file_read(&w, &oas_read_torch_zip, file.data, file.size, "f", &why);
        failed = allocation_failed();
        expect_allocation_status(status, why.text);
        fail_allocation(-1);
        assert_true((status == OASIS_OK) == (w != NULL));
        oas_weight_file_close(&w);
    }
    assert_true(n > 15);
    bytes_free(&file);
    plan_free(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_archives),     cmocka_unit_test(refuses_ends),
        cmocka_unit_test(refuses_instructions), cmocka_unit_test(refuses_tensors),
        cmocka_unit_test(refuses_floods),       cmocka_unit_test(reads_archives),
        cmocka_unit_test(reads_protocol_4),     cmocka_unit_test(reads_wrapped_dictionaries),
        cmocka_unit_test(reads_views),          cmocka_unit_test(opens_by_content),
        cmocka_unit_test(survives_damage),      cmocka_unit_test(survives_any_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
