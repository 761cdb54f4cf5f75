/* Training clips: the same for any number of threads, order and cache; refusals. */
#include "train/train.h"

#include <math.h>
#include <oasis/dataset.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { CLIPS = 24, FRAMES = 5, SIDE = 32, THREADS = 6 };

static char picture[1024], video[1024];

/* Small clips from a picture and a video of the repository. */
static oasis_train_options options(void)
{
    oasis_train_options o;
    oasis_train_options_init(&o);
    snprintf(picture, sizeof picture, "%s/doc/demo.jpg", getenv("OASIS_SOURCE"));
    snprintf(video, sizeof video, "%s/samples/sample.mp4", getenv("OASIS_SOURCE"));
    o.batch = 2;
    o.frames = FRAMES;
    o.width = o.height = SIDE;
    o.middle = 0;
    o.reuse = 3;
    o.mix = 2;
    o.text = 0.5;
    o.patterns = 0.2;
    o.consistent_steps = 2;
    o.ramp_steps = 4;
    oasis_option_set(oasis_train_option_rows(), &o, "data", picture, NULL);
    oasis_option_set(oasis_train_option_rows(), &o, "data", video, NULL);
    return o;
}

/* All clips of a feed, one after the other. */
static float *all_clips(const oasis_train_options *o)
{
    oasis_message message = {""};
    oasis_dataset *d = NULL;
    feed *f = NULL;
    size_t floats = oas_clip_floats(o);
    float *all = calloc(2 * CLIPS * floats, sizeof *all);
    assert_int_equal(oasis_dataset_open(&d, o, &message), OASIS_OK);
    assert_int_equal(oas_feed_new(&f, o, oasis_dataset_clip, d, 0, &message), OASIS_OK);
    for (size_t i = 0; i < CLIPS; i++) {
        clip c;
        assert_int_equal(oas_feed_next(f, &c, &message), OASIS_OK);
        memcpy(all + 2 * i * floats, c.low, floats * sizeof *all);
        memcpy(all + (2 * i + 1) * floats, c.truth, floats * sizeof *all);
    }
    oas_feed_free(&f);
    oasis_dataset_close(&d);
    return all;
}

static void threads_and_cache_change_nothing(void **state)
{
    (void)state;
    oasis_train_options o = options();
    size_t bytes = 2 * CLIPS * oas_clip_floats(&o) * sizeof(float);
    float *one = all_clips(&o);
    o.data_threads = 5;
    float *five = all_clips(&o);
    o.cache = 0;
    float *bare = all_clips(&o);
    assert_memory_equal(one, five, bytes);
    assert_memory_equal(one, bare, bytes);
    for (size_t i = 0; i < bytes / sizeof *one; i++)
        assert_true(isfinite(one[i]) && fabsf(one[i]) < 2); /* bicubic overshoots, but not by that much */
    o.seed++;
    float *other = all_clips(&o);
    assert_memory_not_equal(one, other, bytes);
    free(one);
    free(five);
    free(bare);
    free(other);
}

static void order_changes_nothing(void **state)
{
    (void)state;
    oasis_train_options o = options();
    oasis_message message = {""};
    float *all = all_clips(&o);
    size_t floats = oas_clip_floats(&o);
    oasis_dataset *d = NULL;
    assert_int_equal(oasis_dataset_open(&d, &o, &message), OASIS_OK);
    float *block = calloc(2 * floats, sizeof *block);
    static const uint64_t order[] = {17, 3, 22, 3, 0};
    for (size_t k = 0; k < sizeof order / sizeof *order; k++) {
        oasis_clip_request r = {
            .index = order[k], .seed = (uint64_t)o.seed, .frames = FRAMES, .width = SIDE, .height = SIDE};
        r.temporal_step = oas_temporal_step(&o, (int64_t)(oasis_clip_base(&o, order[k]) * 3 / 2));
        const clip to = {block, block + floats};
        assert_int_equal(oas_clip_make(&o, oasis_dataset_clip, d, &r, &to, &message), OASIS_OK);
        assert_memory_equal(block, all + 2 * order[k] * floats, 2 * floats * sizeof *block);
    }
    oasis_dataset_close(&d);
    free(block);
    free(all);
}

/* Every base serves `reuse` clips in the long run, and neighbours come from different ones. */
static void bases_are_spread(void **state)
{
    (void)state;
    oasis_train_options o = options();
    int uses[200] = {0};
    for (uint64_t i = 0; i < 600; i++) {
        uint64_t base = oasis_clip_base(&o, i);
        assert_true(base <= i / 3);
        uses[base]++;
        if (i >= 12)
            assert_int_not_equal(base, oasis_clip_base(&o, i - 1));
    }
    for (int b = 4; b < 196; b++)
        assert_int_equal(uses[b], o.reuse);
}

/* A source whose bases are ready only when as many as there are threads are being made at the same time. */
typedef struct together {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int inside, most;
} together;

static oasis_status wait_for_others(void *user, const oasis_clip_request *r, oasis_frame *truth, oasis_frame *low,
                                    oasis_message *message)
{
    together *t = user;
    snprintf(message->text, sizeof message->text, "as a source may"); /* there is always one */
    if (!r->prepare)
        return oasis_frame_new(truth, r->width, r->height, false) < 0
                   ? OASIS_E_MEMORY
                   : oasis_frame_new(low, r->width, r->height, false);
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 20; /* only when it fails */
    pthread_mutex_lock(&t->lock);
    t->inside++;
    t->most = t->inside > t->most ? t->inside : t->most;
    pthread_cond_broadcast(&t->changed);
    while (t->most < THREADS && pthread_cond_timedwait(&t->changed, &t->lock, &end) == 0)
        ;
    t->inside--;
    pthread_mutex_unlock(&t->lock);
    return OASIS_OK;
}

/* With a ring shorter than the clips of a base, all threads still make bases: in one process, in each of several, and
 * where training goes on in the middle. */
static void check_bases(const oasis_ranks *ranks, uint64_t first)
{
    oasis_train_options o = options();
    o.ranks = ranks;
    o.reuse = 32;
    o.frames = 1;
    o.batch = 1;
    o.middle = 0;
    o.data_threads = THREADS;
    assert_true(oas_feed_clips(&o) < o.reuse);
    together t = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    feed *f = NULL;
    assert_int_equal(oas_feed_new(&f, &o, wait_for_others, &t, first, NULL), OASIS_OK);
    for (int i = 0; i < 2 * o.reuse; i++) {
        clip c;
        assert_int_equal(oas_feed_next(f, &c, NULL), OASIS_OK);
    }
    oas_feed_free(&f);
    assert_int_equal(t.most, THREADS);
}

static void all_threads_make_bases(void **state)
{
    (void)state;
    const oasis_ranks second = {.rank = 1, .count = 2};
    check_bases(NULL, 0);
    check_bases(&second, 0);
    check_bases(NULL, 1000);
}

/* The bases that a feed asks for ahead, and whether its clips come from these alone. */
typedef struct asked {
    const oasis_train_options *options;
    bool ahead[4096];
    int twice, missed;
} asked;

static oasis_status note_base(void *user, const oasis_clip_request *r, oasis_frame *truth, oasis_frame *low,
                              oasis_message *message)
{
    asked *a = user;
    (void)message;
    uint64_t b = oasis_clip_base(a->options, r->index);
    if (r->prepare) {
        a->twice += a->ahead[b];
        a->ahead[b] = true;
        return OASIS_OK;
    }
    a->missed += !a->ahead[b];
    return oasis_frame_new(truth, r->width, r->height, false) < 0 ? OASIS_E_MEMORY
                                                                  : oasis_frame_new(low, r->width, r->height, false);
}

/* Each base is got ready once, before the first clip that is cut from it; by one thread, so that the order is the feed's. */
static void each_base_is_prepared_once(void **state)
{
    (void)state;
    for (int rank = 0; rank < 3; rank++) {
        for (uint64_t first = 0; first < 2000; first += 777) {
            const oasis_ranks ranks = {.rank = rank, .count = 3};
            oasis_train_options o = options();
            o.ranks = &ranks;
            o.reuse = 8, o.mix = 5, o.batch = 3;
            o.frames = 1;
            asked a = {.options = &o};
            feed *f = NULL;
            assert_int_equal(oas_feed_new(&f, &o, note_base, &a, first, NULL), OASIS_OK);
            for (int i = 0; i < 300; i++) {
                clip c;
                assert_int_equal(oas_feed_next(f, &c, NULL), OASIS_OK);
            }
            oas_feed_free(&f);
            assert_int_equal(a.twice, 0);
            assert_int_equal(a.missed, 0);
        }
    }
}

/* Opens, asks for a clip, and looks for a word in the message of the failure. */
static void refuses(oasis_train_options *o, oasis_status expected, const char *word)
{
    oasis_message message = {""};
    oasis_dataset *d = NULL;
    oasis_frame truth[FRAMES] = {{0}}, low[FRAMES] = {{0}};
    oasis_clip_request r = {.seed = 1, .frames = FRAMES, .width = SIDE, .height = SIDE};
    oasis_status s = oasis_dataset_open(&d, o, &message);
    if (s == OASIS_OK)
        s = oasis_dataset_clip(d, &r, truth, low, &message);
    assert_int_equal(s, expected);
    assert_non_null(strstr(message.text, word));
    oasis_dataset_close(&d);
}

static void bad_material_is_refused(void **state)
{
    (void)state;
    oasis_train_options o = options();
    o.patterns = 0;
    o.video_share = 0;
    oasis_option_set(oasis_train_option_rows(), &o, "crop", "demo=99999x10+0+0", NULL);
    refuses(&o, OASIS_E_ARGUMENT, "does not lie within");
    o.crop.text[0] = "demo";
    refuses(&o, OASIS_E_ARGUMENT, "TEXT=WIDTHxHEIGHT");
    o.crop.text[0] = "demo=64x64+10+10"; /* smaller than what the camera wants: enlarged */
    oasis_dataset *d = NULL;
    assert_int_equal(oasis_dataset_open(&d, &o, NULL), OASIS_OK);
    oasis_dataset_close(&d);
    o.data.text[0] = "/nowhere/at/all";
    refuses(&o, OASIS_E_IO, "/nowhere/at/all");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_cache_change_nothing),
        cmocka_unit_test(order_changes_nothing),
        cmocka_unit_test(bases_are_spread),
        cmocka_unit_test(all_threads_make_bases),
        cmocka_unit_test(each_base_is_prepared_once),
        cmocka_unit_test(bad_material_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
