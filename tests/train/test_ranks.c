/*
 * Two ranks as two threads of this process: together they have the losses of one trainer with twice the batch, one's
 * failure ends both with one sentence, and a sum that is not made shows.  On CPUs; on two GPUs, whose gradients NCCL adds;
 * and on one that both share, by way of host memory.
 */
#include "cuda/cuda.h"

#include <math.h>
#include <oasis/train.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RANKS = 2, STEPS = 4, MOST_SUMS = 64, SIDE = 32 };

/*
 * Losses in fp32 of two ranks against those of one process, relative (issue: 1e-5).  The sums differ in their order alone,
 * 1e-7; steps of AdamW in directions where the gradient is all rounding add to that.
 */
static const double TOLERANCE = 1e-5;

/* ---- ranks over threads ---------------------------------------------------------------------------------------------- */

typedef struct meeting {
    pthread_barrier_t barrier;
    float *values[RANKS][MOST_SUMS];
    size_t n[MOST_SUMS];
    int begun[RANKS];
    double *doubles[RANKS];
    void *bytes[RANKS];
    bool forgets; /* sums nothing */
    int sums;     /* of floats, begun before finish was called */
} meeting;

typedef struct member {
    meeting *meeting;
    int rank;
} member;

static bool begin_sum(void *user, float *values, size_t n)
{
    const member *m = user;
    meeting *t = m->meeting;
    assert_true(t->begun[m->rank] < MOST_SUMS);
    t->n[t->begun[m->rank]] = n; /* the same of all */
    t->values[m->rank][t->begun[m->rank]++] = values;
    return true;
}

static bool advance(void *user)
{
    (void)user;
    return true;
}

static bool finish(void *user)
{
    const member *m = user;
    meeting *t = m->meeting;
    pthread_barrier_wait(&t->barrier);
    if (m->rank == 0 && !t->forgets)
        for (int i = 0; i < t->begun[0]; i++, t->sums++)
            for (size_t k = 0; k < t->n[i]; k++)
                t->values[0][i][k] = t->values[1][i][k] = t->values[0][i][k] + t->values[1][i][k];
    pthread_barrier_wait(&t->barrier);
    t->begun[m->rank] = 0;
    return true;
}

static bool sum(void *user, double *values, size_t n)
{
    const member *m = user;
    meeting *t = m->meeting;
    t->doubles[m->rank] = values;
    pthread_barrier_wait(&t->barrier);
    if (m->rank == 0)
        for (size_t k = 0; k < n; k++)
            t->doubles[0][k] = t->doubles[1][k] = t->doubles[0][k] + t->doubles[1][k];
    pthread_barrier_wait(&t->barrier);
    return true;
}

static bool broadcast(void *user, void *bytes, size_t n, int from)
{
    const member *m = user;
    meeting *t = m->meeting;
    t->bytes[m->rank] = bytes;
    pthread_barrier_wait(&t->barrier);
    if (m->rank != from)
        memcpy(bytes, t->bytes[from], n);
    pthread_barrier_wait(&t->barrier);
    return true;
}

/* ---- training -------------------------------------------------------------------------------------------------------- */

enum { NEVER = -1 };

/* A clip of its index; clip *user of the run cannot be had. */
static oasis_status make_clip(void *user, const oasis_clip_request *r, oasis_frame *truth, oasis_frame *low,
                              oasis_message *message)
{
    if (r->prepare)
        return OASIS_OK;
    if (!r->validation && (int)r->index == *(const int *)user) {
        snprintf(message->text, sizeof message->text, "clip %d is torn", (int)r->index);
        return OASIS_E_IO;
    }
    for (int f = 0; f < r->frames; f++) {
        if (oasis_frame_new(&truth[f], r->width, r->height, false) < 0 ||
            oasis_frame_new(&low[f], r->width, r->height, false) < 0)
            return OASIS_E_MEMORY;
        for (int i = 0; i < r->width * r->height * 3; i++) {
            int x = i / 3 % r->width, y = i / 3 / r->width;
            double coarse = 0.5 + 0.3 * sin(0.3 * (x + f) + (double)r->index) * cos(0.2 * y);
            truth[f].rgb[i] = (float)(coarse + 0.15 * sin(1.5 * x + y + i % 3));
            low[f].rgb[i] = (float)coarse;
        }
    }
    return OASIS_OK;
}

static char folder[] = "/tmp/oasis-ranks-XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* What a trainer did. */
typedef struct course {
    oasis_train_options options;
    oasis_ranks ranks;
    member member;
    int torn; /* index of a clip that cannot be had */
    char output[64];
    double loss[STEPS], norm[STEPS];
    char words[256]; /* how gradients are added */
    bool apart;      /* passes on a GPU are not one launch */
    int64_t as_one;  /* passes that were */
    oasis_status status;
    oasis_message message;
} course;

static void *train(void *arg)
{
    course *c = arg;
    oasis_trainer *t = NULL;
    oasis_train_report r;
    const oasis_ranks *ranks = c->options.ranks;
    c->status = oasis_trainer_open(&t, &c->options, make_clip, &c->torn, &c->message);
    snprintf(c->words, sizeof c->words, "%s", c->status == OASIS_OK ? oasis_trainer_ranks(t) : "");
    if (c->apart && c->status == OASIS_OK)
        oasis_trainer_launch_apart(t, true);
    for (int i = 0; i < STEPS && c->status == OASIS_OK; i++) {
        c->status = oasis_trainer_step(t, &r);
        if (c->status < 0)
            snprintf(c->message.text, sizeof c->message.text, "%s", oasis_trainer_message(t));
        c->status = oasis_ranks_agree(ranks, c->status, &c->message);
        c->loss[i] = r.loss;
        c->norm[i] = r.norm;
        c->as_one = oasis_trainer_launches(t).as_one;
    }
    oasis_trainer_close(&t);
    return NULL;
}

static course course_of(int stage, const char *name, int batch)
{
    course c = {.torn = NEVER};
    oasis_train_options *o = &c.options;
    oasis_train_options_init(o);
    snprintf(c.output, sizeof c.output, "%s/%s", folder, name);
    o->stage = stage;
    o->dim = 32, o->layers = 2, o->heads = 4, o->ffn_dim = 48;
    o->latent_channels = 4, o->in_dim = 8;
    o->decoder_latent = o->decoder_8 = o->decoder_4 = o->decoder_2 = 8;
    o->frames = 5, o->width = o->height = SIDE;
    o->steps = STEPS, o->threads = 1, o->compute = 1;
    o->device = "cpu";
    o->rate = 2e-3, o->warmup = 2;
    o->checkpoint_minutes = 0, o->log_every = 1, o->show_every = 0;
    o->resume = false;
    o->batch = batch;
    return c;
}

/* Both ranks, each in a thread; returns how many sums of gradients there were. */
static int train_both(course c[RANKS], bool forgets)
{
    meeting m = {.forgets = forgets};
    pthread_t thread;
    assert_int_equal(pthread_barrier_init(&m.barrier, NULL, RANKS), 0);
    for (int i = 0; i < RANKS; i++) {
        c[i].member = (member){&m, i};
        c[i].ranks = (oasis_ranks){i, RANKS, &c[i].member, begin_sum, advance, finish, sum, broadcast};
        c[i].options.ranks = &c[i].ranks;
        c[i].options.output = c[i].output;
    }
    assert_int_equal(pthread_create(&thread, NULL, train, &c[1]), 0);
    train(&c[0]);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&m.barrier);
    return m.sums;
}

static double relative(double a, double b)
{
    return fabs(a - b) / fabs(a);
}

/* One trainer with the batch of both, and two ranks. */
static double worst_difference(course *one, course *two, bool forgets)
{
    double worst = 0;
    one->options.output = one->output;
    train(one);
    if (one->status < 0)
        fail_msg("%s", one->message.text);
    train_both(two, forgets);
    for (int i = 0; i < RANKS; i++) {
        if (two[i].status < 0)
            fail_msg("%s", two[i].message.text);
        for (int k = 0; k < STEPS; k++) {
            worst = fmax(worst, relative(one->loss[k], two[i].loss[k]));
            assert_true(two[i].loss[k] == two[0].loss[k] && two[i].norm[k] == two[0].norm[k]);
        }
    }
    return worst;
}

/*
 * The stages from `first` on, on a device, with `batch` clips of a rank; `words` are said of how gradients are added.  The encoder is that of the last
 * call with the stage autoencoder.
 */
static void compare_stages(int first, const char *where, int batch, const char *words)
{
    static char coder[96];
    for (int stage = first; stage <= OASIS_STAGE_ONE_STEP; stage++) {
        static const char *const names[] = {"coder", "noise", "final"};
        course one = course_of(stage, names[stage], RANKS * batch);
        course two[RANKS] = {course_of(stage, "two", batch), course_of(stage, "two", batch)};
        for (int i = 0; i <= RANKS; i++) {
            oasis_train_options *o = i < RANKS ? &two[i].options : &one.options;
            o->device = where;
            if (stage == OASIS_STAGE_AUTOENCODER)
                o->accumulate = 2;
            else
                o->encoder = coder;
            if (stage == OASIS_STAGE_ONE_STEP) { /* everything that draws numbers, and walks of every kind */
                o->latent = 0.1;
                o->checkpointing = true;
                o->adversarial = o->feature_matching = 0.1;
                o->adversarial_start = 2;
                o->adversarial_ramp = 1;
                o->r1 = 1;
            }
        }
        double worst = worst_difference(&one, two, false);
        print_message("    %-6s losses differ by %.1e; added %s\n", names[stage], worst, two[0].words);
        assert_true(worst < TOLERANCE);
        assert_non_null(strstr(two[0].words, words));
        assert_string_equal(two[0].words, two[1].words);
        assert_string_equal(one.words, "");
        snprintf(coder, sizeof coder, "%s/coder/checkpoint.safetensors", folder);
    }
}

static void test_stages(void **state)
{
    (void)state;
    compare_stages(OASIS_STAGE_AUTOENCODER, "cpu", 2, "in host memory");
}

static void test_gpus(void **state)
{
    (void)state;
    if (oas_cuda_count() < RANKS) {
        print_message("    skipped: %d GPUs\n", oas_cuda_count());
        skip();
    }
    compare_stages(OASIS_STAGE_AUTOENCODER, "cuda", 1, "NCCL");
}

/* Sums that begin after a pass that is one launch have the bits of those that begin within. */
static void test_as_one(void **state)
{
    (void)state;
    if (oas_cuda_count() < RANKS)
        skip();
    course as_one[RANKS], apart[RANKS];
    for (int i = 0; i < RANKS; i++) {
        as_one[i] = course_of(OASIS_STAGE_AUTOENCODER, "as-one", 1);
        as_one[i].options.device = "cuda";
        as_one[i].options.middle = 0;
        apart[i] = as_one[i];
        apart[i].apart = true;
    }
    train_both(as_one, false);
    train_both(apart, false);
    for (int i = 0; i < RANKS; i++) {
        assert_int_equal(as_one[i].as_one, STEPS - 1);
        assert_int_equal(apart[i].as_one, 0);
        for (int k = 0; k < STEPS; k++)
            assert_true(as_one[i].loss[k] == apart[i].loss[k] && as_one[i].norm[k] == apart[i].norm[k]);
    }
}

static void test_shared_gpu(void **state)
{
    (void)state;
    if (oas_cuda_count() == 0)
        skip();
    compare_stages(OASIS_STAGE_ONE_STEP, "cuda:0", 1, "ranks 0 and 1 share a GPU");
}

/* The same bits in a second run. */
static void test_again(void **state)
{
    (void)state;
    course first[RANKS], again[RANKS];
    const char *where = oas_cuda_count() < RANKS ? "cpu" : "cuda";
    for (int i = 0; i < RANKS; i++) {
        first[i] = again[i] = course_of(OASIS_STAGE_ONE_STEP, "first", 1);
        first[i].options.device = again[i].options.device = where;
    }
    train_both(first, false);
    train_both(again, false);
    for (int k = 0; k < STEPS; k++)
        assert_true(first[0].loss[k] == again[0].loss[k] && first[0].norm[k] == again[0].norm[k]);
}

/* Without the sums each rank trains alone: that must show. */
static void test_forgotten_sum(void **state)
{
    (void)state;
    course one = course_of(OASIS_STAGE_ONE_STEP, "one", 4);
    course two[RANKS] = {course_of(OASIS_STAGE_ONE_STEP, "two", 2), course_of(OASIS_STAGE_ONE_STEP, "two", 2)};
    one.options.output = one.output;
    train(&one);
    train_both(two, true);
    assert_true(relative(one.loss[STEPS - 1], two[0].loss[STEPS - 1]) > TOLERANCE);
}

/* A large model's gradients are more than one sum. */
static void test_buckets(void **state)
{
    (void)state;
    course two[RANKS];
    for (int i = 0; i < RANKS; i++) {
        two[i] = course_of(OASIS_STAGE_ONE_STEP, "large", 1);
        two[i].options.dim = 128, two[i].options.ffn_dim = 1024, two[i].options.layers = 3;
    }
    int sums = train_both(two, false);
    assert_int_equal(two[0].status, OASIS_OK);
    print_message("    %d sums of gradients in %d steps\n", sums, STEPS);
    assert_true(sums >= 3 * STEPS);
}

/* Both ranks end with the sentence of the one that cannot have a clip. */
static void fail_both(const char *where, int torn)
{
    course two[RANKS];
    char words[32];
    snprintf(words, sizeof words, "clip %d is torn", torn);
    for (int i = 0; i < RANKS; i++) {
        two[i] = course_of(OASIS_STAGE_ONE_STEP, "torn", 2);
        two[i].options.device = where;
        two[i].torn = torn;
    }
    train_both(two, false);
    for (int i = 0; i < RANKS; i++) {
        assert_int_equal(two[i].status, OASIS_E_IO);
        assert_string_equal(two[i].message.text, words);
    }
}

/* Of 4 clips a step, 0 is the first of all, 6 the second rank's in the second step, 9 the first rank's in the third. */
static void test_failure(void **state)
{
    (void)state;
    static const int torn[] = {0, 6, 9};
    for (size_t k = 0; k < sizeof torn / sizeof *torn; k++)
        fail_both("cpu", torn[k]);
    if (oas_cuda_count() >= RANKS)
        fail_both("cuda", 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stages),  cmocka_unit_test(test_gpus),
                                       cmocka_unit_test(test_as_one),  cmocka_unit_test(test_shared_gpu),
                                       cmocka_unit_test(test_again),   cmocka_unit_test(test_forgotten_sum),
                                       cmocka_unit_test(test_buckets), cmocka_unit_test(test_failure)};
    return cmocka_run_group_tests_name("train/ranks", tests, setup, teardown);
}
