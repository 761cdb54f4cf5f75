/* Routing texts: refusals by line, each with its own sentence; printing and reading again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/routing.h"
#include "helpers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOP    "oasis-routing 1\nlayers 2 heads 4\nwindow 3 5 5 border truncate\n"
#define ROUTES "route 0 giww\nroute 1 wwig\n"
#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct {
    const char *name, *text, *fragment;
    oasis_status status;
} malformed[] = {
    {"empty", "", "is empty", OASIS_E_FORMAT},
    {"not a routing", "routing\n", "line 1: not a routing", OASIS_E_FORMAT},
    {"empty first line", "\n" TOP ROUTES, "line 1: \"\" is not a routing", OASIS_E_FORMAT},
    {"version 2", "oasis-routing 2\n", "version \"2\"", OASIS_E_UNSUPPORTED},
    {"only the first line", "oasis-routing 1\n", "has no \"layers\" line", OASIS_E_FORMAT},
    {"unknown word", TOP "routes 0 giww\n", "line 4: unknown word \"routes\"", OASIS_E_FORMAT},
    {"carriage return", "oasis-routing 1\r\n", "line 1: byte 0x0d", OASIS_E_FORMAT},
    {"tab", TOP "route\t0 giww\n", "line 4: byte 0x09", OASIS_E_FORMAT},
    {"eleven words", TOP "a b c d e f g h i j k\n", "more than 10 words", OASIS_E_FORMAT},
    {"no model name", "oasis-routing 1\nmodel\n", "expected \"model NAME\"", OASIS_E_FORMAT},
    {"layers without heads", "oasis-routing 1\nlayers 2\n", "expected \"layers N heads N\"", OASIS_E_FORMAT},
    {"no layers", "oasis-routing 1\nlayers 0 heads 4\n", "the number of layers is \"0\"", OASIS_E_FORMAT},
    {"257 layers", "oasis-routing 1\nlayers 257 heads 4\n", "\"257\", expected a whole number from 1 to 256",
     OASIS_E_FORMAT},
    {"65 heads", "oasis-routing 1\nlayers 2 heads 65\n", "the number of heads is \"65\"", OASIS_E_FORMAT},
    {"negative heads", "oasis-routing 1\nlayers 2 heads -4\n", "\"-4\"", OASIS_E_FORMAT},
    {"heads wrap around", "oasis-routing 1\nlayers 2 heads 4294967300\n", "\"4294967300\"", OASIS_E_FORMAT},
    {"fractional heads", "oasis-routing 1\nlayers 2 heads 4.0\n", "\"4.0\"", OASIS_E_FORMAT},
    {"layers twice", TOP "layers 2 heads 4\n", "a second \"layers\" line", OASIS_E_FORMAT},
    {"window without border", "oasis-routing 1\nwindow 3 5 5\n", "expected \"window T H W border", OASIS_E_FORMAT},
    {"shifted border", "oasis-routing 1\nwindow 3 5 5 border shift\n", "border \"shift\"", OASIS_E_UNSUPPORTED},
    {"even window", "oasis-routing 1\nwindow 3 4 5 border truncate\n", "rows of the window are 4", OASIS_E_FORMAT},
    {"huge window", "oasis-routing 1\nwindow 3 5 257 border truncate\n", "columns of the window is \"257\"",
     OASIS_E_FORMAT},
    {"window twice", TOP "window 3 5 5 border truncate\n", "a second \"window\" line", OASIS_E_FORMAT},
    {"timestep is a word", TOP "timestep soon\n", "the timestep is \"soon\"", OASIS_E_FORMAT},
    {"timestep beyond 1000", TOP "timestep 1000.5\n", "the timestep is \"1000.5\"", OASIS_E_FORMAT},
    {"timestep is nan", TOP "timestep nan\n", "the timestep is \"nan\"", OASIS_E_FORMAT},
    {"timestep overflows", TOP "timestep 1e999\n", "the timestep is \"1e999\"", OASIS_E_FORMAT},
    {"no mode", TOP "mode\n", "unknown mode \"\"", OASIS_E_FORMAT},
    {"unknown mode", TOP "mode guess\n", "unknown mode \"guess\"", OASIS_E_FORMAT},
    {"ratio of two", TOP "mode ratio 4 4\n", "expected \"mode ratio|budget G I W\"", OASIS_E_FORMAT},
    {"fixed with a number", TOP "mode fixed 1\n", "expected \"mode fixed\"", OASIS_E_FORMAT},
    {"threshold above 1", TOP "mode threshold 0.5 1.5\n", "a number of the mode is \"1.5\"", OASIS_E_FORMAT},
    {"clips without digest", TOP "clips 16 queries 256\n", "expected \"clips N queries N", OASIS_E_FORMAT},
    {"short digest", TOP "clips 16 queries 256 sha256 0123\n", "sha256 \"0123\"", OASIS_E_FORMAT},
    {"route before layers", "oasis-routing 1\nroute 0 giww\n", "a route before the \"layers\"", OASIS_E_FORMAT},
    {"route before window", "oasis-routing 1\nlayers 2 heads 4\nroute 0 giww\n", "a route before the \"window\"",
     OASIS_E_FORMAT},
    {"route without letters", TOP "route 0\n", "expected \"route LAYER LETTERS\"", OASIS_E_FORMAT},
    {"route of layer 2", TOP "route 2 giww\n", "the layer of a route is \"2\"", OASIS_E_FORMAT},
    {"route twice", TOP "route 1 giww\nroute 1 giww\n", "line 5: a second route for layer 1", OASIS_E_FORMAT},
    {"three letters", TOP "route 1 giw\n", "layer 1 has 3 letters", OASIS_E_FORMAT},
    {"five letters", TOP "route 1 giwww\n", "layer 1 has 5 letters", OASIS_E_FORMAT},
    {"unknown letter", TOP "route 1 gixw\n", "layer 1, head 2 has the letter 0x78", OASIS_E_FORMAT},
    {"upper case", TOP "route 1 gIww\n", "layer 1, head 1 has the letter 0x49", OASIS_E_FORMAT},
    {"missing route", TOP "route 1 giww\n", "no route for layer 0 of 2", OASIS_E_FORMAT},
    {"missing last route", TOP "route 0 giww\n", "no route for layer 1 of 2", OASIS_E_FORMAT},
    {"stat before layers", "oasis-routing 1\nstat 0 0 1 1 1 1\n", "a stat before the \"layers\"", OASIS_E_FORMAT},
    {"short stat", TOP ROUTES "stat 0 0 1 1\n", "expected \"stat LAYER HEAD", OASIS_E_FORMAT},
    {"stat of head 4", TOP ROUTES "stat 0 4 1 1 1 1\n", "the head of a stat is \"4\"", OASIS_E_FORMAT},
    {"stat twice", TOP ROUTES "stat 0 3 1 1 1 1\nstat 0 3 1 1 1 1\n", "a second stat for layer 0, head 3",
     OASIS_E_FORMAT},
    {"negative divergence", TOP ROUTES "stat 0 3 -1 1 1 1\n", "D_I is \"-1\"", OASIS_E_FORMAT},
    {"infinite divergence", TOP ROUTES "stat 0 3 1 inf 1 1\n", "D_W is \"inf\"", OASIS_E_FORMAT},
};

static void expect_text_refused(const char *name, const char *text, size_t size, oasis_status status,
                                const char *fragment)
{
    guarded g = guarded_copy(text, size);
    oasis_message why = {""};
    routing r;
    oasis_status got = oas_routing_read(&r, (const char *)g.data, g.size, "f: routing", &why);
    if (got != status || !strstr(why.text, fragment) || strncmp(why.text, "f: routing", 10) != 0)
        fail_msg("%s: status %d, \"%s\", expected %d and \"%s\"", name, got, why.text, status, fragment);
    assert_null(r.layer);
    assert_null(r.stat);
    note_sentence(name, why.text);
    guarded_free(&g);
}

static void refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++)
        expect_text_refused(malformed[i].name, malformed[i].text, strlen(malformed[i].text), malformed[i].status,
                            malformed[i].fragment);
    bytes long_line = {0};
    bytes_text(&long_line, "oasis-routing 1\nmodel ");
    for (int i = 0; i < 200; i++)
        bytes_text(&long_line, "x");
    expect_text_refused("long name", (char *)long_line.data, long_line.size, OASIS_E_FORMAT,
                        "a model name of 200 bytes");
    for (int i = 0; i < 400; i++)
        bytes_text(&long_line, "x");
    expect_text_refused("long line", (char *)long_line.data, long_line.size, OASIS_E_FORMAT, "line 2: 606 bytes");
    bytes_free(&long_line);
    char *huge = calloc(1, OAS_ROUTING_MAX_BYTES + 1);
    assert_non_null(huge);
    expect_text_refused("huge text", huge, OAS_ROUTING_MAX_BYTES + 1, OASIS_E_FORMAT, "8388609 bytes");
    expect_text_refused("NUL", TOP, sizeof TOP, OASIS_E_FORMAT, "line 4: byte 0x00");
    free(huge);
    expect_distinct_sentences(sizeof malformed / sizeof malformed[0] + 4);
}

static void expect_same(const routing *a, const routing *b)
{
    assert_int_equal(a->layers, b->layers);
    assert_int_equal(a->heads, b->heads);
    assert_memory_equal(a->window, b->window, sizeof a->window);
    for (int i = 0; i < a->layers; i++) {
        assert_int_equal(a->layer[i].heads, b->layer[i].heads);
        assert_memory_equal(a->layer[i].kind, b->layer[i].kind, (size_t)a->heads);
        assert_memory_equal(a->layer[i].window, b->layer[i].window, sizeof a->window);
    }
    assert_string_equal(a->model, b->model);
    assert_true(a->timestep == b->timestep && a->mode == b->mode);
    assert_memory_equal(a->mode_value, b->mode_value, sizeof a->mode_value);
    assert_int_equal(a->clips, b->clips);
    assert_int_equal(a->queries, b->queries);
    assert_string_equal(a->digest, b->digest);
    assert_true((a->stat == NULL) == (b->stat == NULL));
    for (int i = 0; a->stat && i < a->layers * a->heads; i++) {
        assert_true(a->stat[i].known == b->stat[i].known && a->stat[i].intra == b->stat[i].intra);
        assert_true(a->stat[i].window == b->stat[i].window && a->stat[i].sd_intra == b->stat[i].sd_intra);
        assert_true(a->stat[i].sd_window == b->stat[i].sd_window);
    }
}

static const char complete[] =
    "oasis-routing 1\nmodel wan2.1-t2v-1.3b\nlayers 2 heads 4\nwindow 3 5 7 border truncate\n"
    "timestep 399.5\nmode threshold 0.5 0.25\nclips 16 queries 256 sha256 " DIGEST "\n"
    "route 0 giww\nroute 1 wwig\nstat 0 0 2.1972245773362196 6.19 0.125 0.1\n"
    "stat 1 3 0 1e-07 0 3\n";

static void reads_and_prints(void **state)
{
    (void)state;
    oasis_message why = {""};
    routing r, again;
    assert_int_equal(oas_routing_read(&r, complete, strlen(complete), "f", &why), OASIS_OK);
    assert_int_equal(r.layers, 2);
    assert_int_equal(r.heads, 4);
    assert_true(r.window[0] == 3 && r.window[1] == 5 && r.window[2] == 7);
    assert_int_equal(r.layer[1].kind[2], OAS_HEAD_INTRA);
    assert_int_equal(r.layer[0].kind[0], OAS_HEAD_GLOBAL);
    assert_int_equal(r.layer[1].window[2], 7);
    assert_true(r.timestep == 399.5 && r.mode == OAS_ROUTING_THRESHOLD && r.mode_value[1] == 0.25);
    assert_true(r.stat[0].known && !r.stat[1].known && r.stat[0].sd_intra == 0.125 && r.stat[7].window == 1e-7);
    assert_string_equal(r.digest, DIGEST);
    int64_t count[3];
    oas_routing_count(&r, count);
    assert_true(count[0] == 2 && count[1] == 2 && count[2] == 4);
    char *text = oas_routing_text(&r);
    assert_string_equal(text, complete);
    assert_int_equal(oas_routing_read(&again, text, strlen(text), "g", &why), OASIS_OK);
    expect_same(&r, &again);
    oas_free(text);
    oas_routing_free(&again);
    oas_routing_free(&r);
}

/* Lines of a text that says nothing more than it must, without an end of line at the end. */
static void reads_the_least(void **state)
{
    (void)state;
    const char text[] = "oasis-routing 1\n\nwindow 1 1 1 border truncate\nlayers 1 heads 1\n  route  0   w";
    oasis_message why = {""};
    routing r, again;
    assert_int_equal(oas_routing_read(&r, text, strlen(text), "f", &why), OASIS_OK);
    assert_true(r.timestep < 0 && r.mode == OAS_ROUTING_FIXED && r.clips == 0 && !r.stat);
    char *printed = oas_routing_text(&r);
    assert_int_equal(oas_routing_read(&again, printed, strlen(printed), "g", &why), OASIS_OK);
    expect_same(&r, &again);
    oas_free(printed);
    oas_routing_free(&again);
    oas_routing_free(&r);
}

static void survives_any_failed_allocation(void **state)
{
    (void)state;
    long n = 0;
    for (bool failed = true; failed; n++) {
        oasis_message why = {""};
        routing r;
        fail_allocation(n);
        oasis_status status = oas_routing_read(&r, complete, strlen(complete), "f", &why);
        failed = allocation_failed();
        expect_allocation_status(status, why.text);
        fail_allocation(-1);
        oas_routing_free(&r);
    }
    assert_true(n > 2);
    routing r;
    oasis_message why;
    assert_int_equal(oas_routing_read(&r, complete, strlen(complete), "f", &why), OASIS_OK);
    for (n = 0;; n++) {
        fail_allocation(n);
        char *text = oas_routing_text(&r);
        bool failed = allocation_failed();
        fail_allocation(-1);
        assert_true(failed == (text == NULL));
        oas_free(text);
        if (!failed)
            break;
    }
    oas_routing_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses),
        cmocka_unit_test(reads_and_prints),
        cmocka_unit_test(reads_the_least),
        cmocka_unit_test(survives_any_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
