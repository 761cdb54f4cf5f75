/*
 * oasis train as a user runs it: what a run takes, refusals, kill -9 at any moment, and several processes, under mpirun and
 * for a list of devices.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clip.h"
#include "cuda/cuda.h"
#include "format/weight_file.h"
#include "program.h"

/* Losses in fp32 of two processes against those of one with twice the batch, relative (see tests/train/test_ranks.c). */
static const double TOLERANCE = 1e-5;

#define TINY                                                                                                           \
    "\"stage\": \"one-step\", \"data\": [\"data\"], \"size\": \"32x32\", \"frames\": 5, \"dim\": 32, \"layers\": 2, "  \
    "\"ffn-dim\": 48, \"heads\": 4, \"in-dim\": 16, \"decoder-latent\": 8, \"decoder-8\": 8, \"decoder-4\": 8, "       \
    "\"decoder-2\": 8, \"compute\": \"fp32\", \"threads\": 1, \"warmup\": 2, \"show-every\": 0, \"log-every\": 1, "    \
    "\"consistent-steps\": 3"

static void write_text(const char *path, const char *text)
{
    write_all(path, text, strlen(text));
}

/* A clip to train on and a configuration. */
static void make_run(void)
{
    mkdir("data", 0700);
    write_y4m("data/a.y4m", 80, 64, 12);
    write_text("c.json", "{" TINY ", \"output\": \"out\", \"steps\": 6, \"batch\": 4}");
}

static void test_plan(void **state)
{
    (void)state;
    make_run();
    result r = run("train --dry-run c.json");
    expect_code(&r, 0, "train --dry-run");
    assert_non_null(strstr(r.out, "memory of weights"));
    assert_non_null(strstr(r.out, "time of the run"));
    assert_null(strstr(r.out, "missing"));
    result_free(&r);

    /* The paper's size, far from any file it names: planned all the same. */
    char line[512];
    snprintf(line, sizeof line, "train --dry-run --json %s/configs/one-step-1.3b.json", getenv("OASIS_SOURCE"));
    r = run(line);
    expect_code(&r, 0, line);
    json_t *report = json_loads(r.out, 0, NULL);
    const json_t *plan = json_object_get(report, "plan");
    double parameters = (double)json_integer_value(json_object_get(plan, "trained_parameters"));
    double weights = (double)json_integer_value(json_object_get(plan, "weight_bytes"));
    double total = (double)json_integer_value(json_object_get(plan, "total_bytes"));
    assert_true(parameters > 1e9 && parameters < 1.5e9);
    assert_true(weights >= 4 * parameters && total > 5 * weights);
    assert_true(json_number_value(json_object_get(plan, "seconds_per_step")) > 0);
    assert_true(json_number_value(json_object_get(plan, "flops_per_step")) > 6 * parameters);
    assert_true(json_array_size(json_object_get(report, "missing")) == 2);
    json_decref(report);
    result_free(&r);
    char names[256];
    list_folder(names, sizeof names);
    assert_string_equal(names, "c.json data"); /* nothing was made */
}

static void test_refusals(void **state)
{
    (void)state;
    make_run();
    write_text("unknown.json", "{" TINY ", \"output\": \"out\", \"learning-rate\": 1}");
    refused(3, "there is no key 'learning-rate'", "train unknown.json");
    refused(3, "nowhere", "train c.json --data nowhere -q");
    mkdir("torn", 0700);
    write_text("torn/b.png", "this is no picture");
    write_text("torn.json", "{\"stage\": \"one-step\", \"data\": [\"torn\"], \"output\": \"out\", \"size\": \"32x32\"}");
    refused(3, "torn/b.png", "train torn.json -q");
    succeed("train c.json -q --steps 1");
    refused(4, "checkpoint.safetensors", "train c.json -q --dim 64");
    refused(2, "one configuration", "train");
}

/* All tensors of two files have the same bits. */
static bool same_tensors(const char *a, const char *b)
{
    weight_file *x = NULL, *y = NULL;
    oasis_message why = {""};
    if (oas_weight_file_open(&x, a, &why) < 0 || oas_weight_file_open(&y, b, &why) < 0)
        fail_msg("%s", why.text);
    bool same = oas_weight_file_count(x) == oas_weight_file_count(y);
    for (size_t i = 0; same && i < oas_weight_file_count(x); i++) {
        const stored *s = oas_weight_file_at(x, i), *t = oas_weight_file_find(y, s->name);
        same = t && s->bytes == t->bytes && memcmp(s->data, t->data, s->bytes) == 0;
    }
    oas_weight_file_close(&x);
    oas_weight_file_close(&y);
    return same;
}

/* Steps that the checkpoint of a folder has; 0 where there is none. */
static long long saved_steps(const char *path)
{
    weight_file *x = NULL;
    oasis_message why = {""};
    if (access(path, F_OK) != 0)
        return 0;
    if (oas_weight_file_open(&x, path, &why) < 0)
        fail_msg("after kill -9: %s", why.text);
    json_t *saved = json_loads(oas_weight_file_note(x, "state"), 0, NULL);
    long long steps = json_integer_value(json_object_get(saved, "step"));
    json_decref(saved);
    oas_weight_file_close(&x);
    return steps;
}

/* A checkpoint after every step; killed at moments that nobody chose, the run ends in the bits of one that was left alone. */
static void test_kill(void **state)
{
    (void)state;
    enum { KILLS = 6, STEPS = 40 };
    char line[256];
    long long before = 0;
    int killed = 0;
    make_run();
    snprintf(line, sizeof line, "train c.json -q --steps %d --batch 1 --checkpoint-minutes 1e-6 --output", STEPS);
    char whole[300], parts[300];
    snprintf(whole, sizeof whole, "%s whole", line);
    snprintf(parts, sizeof parts, "%s parts", line);
    succeed(whole);
    for (int i = 0; i < KILLS; i++) {
        pid_t pid = start(parts, "err.txt");
        for (int wait = 0; wait < 500 && saved_steps("parts/checkpoint.safetensors") < before + 2; wait++)
            usleep(20000);
        usleep((useconds_t)(i * 3001 % 10000)); /* somewhere in a step, or in writing */
        kill(pid, SIGKILL);
        killed += wait_for(pid) == 1000 + SIGKILL;
        long long now = saved_steps("parts/checkpoint.safetensors");
        assert_true(now >= before);
        before = now;
    }
    print_message("    killed %d times, at last after %lld of %d steps\n", killed, before, STEPS);
    assert_true(killed >= 2);
    succeed(parts);
    assert_true(saved_steps("parts/checkpoint.safetensors") == STEPS);
    assert_true(same_tensors("whole/checkpoint.safetensors", "parts/checkpoint.safetensors"));
    assert_true(same_bytes("whole/model.safetensors", "parts/model.safetensors"));
}

/* ---- processes --------------------------------------------------------------------------------------------------------- */

/* Leaks inside MPI are none of ours. */
#define MPIRUN "ASAN_OPTIONS=detect_leaks=0 mpirun -q --oversubscribe --allow-run-as-root -n 2 \"$OASIS_PROGRAM\" "

static bool has_mpi(void)
{
    result r = run_shell("command -v mpirun >/dev/null && test -e \"$(dirname \"$OASIS_PROGRAM\")/liboasis-mpi.so.0\"");
    bool has = r.code == 0;
    result_free(&r);
    return has;
}

/* The losses of a log, up to `most`; how many there were. */
static int read_losses(const char *path, double *loss, int most)
{
    char *text = read_all(path, NULL);
    int n = 0;
    for (char *line = strtok(text, "\n"); line && n < most; line = strtok(NULL, "\n")) {
        json_t *o = json_loads(line, 0, NULL);
        loss[n++] = json_number_value(json_object_get(o, "loss"));
        json_decref(o);
    }
    free(text);
    return n;
}

static void test_processes(void **state)
{
    (void)state;
    enum { STEPS = 6 };
    double one[STEPS], two[STEPS], worst = 0;
    if (!has_mpi()) {
        print_message("    skipped: there is no mpirun, or oasis was built without MPI\n");
        skip();
    }
    make_run();
    succeed("train c.json -q --output one");
    result r = run_shell(MPIRUN "train c.json --batch 2 --output two");
    expect_code(&r, 0, "mpirun -n 2 oasis train");
    const char *first = strstr(r.err, "step 1 of 6");
    assert_true(first && !strstr(first + 1, "step 1 of 6")); /* one process speaks */
    result_free(&r);
    assert_int_equal(read_losses("one/log.jsonl", one, STEPS), STEPS);
    assert_int_equal(read_losses("two/log.jsonl", two, STEPS), STEPS);
    for (int i = 0; i < STEPS; i++)
        worst = fmax(worst, fabs(one[i] - two[i]) / fabs(one[i]));
    print_message("    losses of two processes differ by %.1e\n", worst);
    assert_true(worst < TOLERANCE);

    /* The same bits again, whenever the sums come; stopped and resumed. */
    r = run_shell(MPIRUN "train c.json -q --batch 2 --steps 3 --schedule constant --output again");
    expect_code(&r, 0, "mpirun -n 2 oasis train, 3 steps");
    result_free(&r);
    r = run_shell(MPIRUN "train c.json -q --batch 2 --schedule constant --output again");
    expect_code(&r, 0, "mpirun -n 2 oasis train, resumed");
    result_free(&r);
    r = run_shell(MPIRUN "train c.json -q --batch 2 --schedule constant --output once");
    expect_code(&r, 0, "mpirun -n 2 oasis train, at once");
    result_free(&r);
    assert_true(same_tensors("again/checkpoint.safetensors", "once/checkpoint.safetensors"));
}

/* One process of several cannot read a file: one sentence for all. */
static void expect_one_sentence(result r)
{
    assert_int_equal(r.code, 3);
    const char *said = strstr(r.err, "oasis: ");
    assert_true(said && strstr(said, "b.png") && !strstr(said + 1, "oasis: "));
    result_free(&r);
}

static void test_failing_process(void **state)
{
    (void)state;
    if (!has_mpi())
        skip();
    make_run();
    write_text("data/b.png", "this is no picture");
    expect_one_sentence(run_shell(MPIRUN "train c.json -q --batch 2 --steps 100"));
}

/* ---- a list of devices --------------------------------------------------------------------------------------------------- */

/* Two GPUs where they are, NCCL between them; else the CPU twice. */
static const char *two_devices(void)
{
    return oas_cuda_count() >= 2 ? "cuda:0,1" : "cpu,cpu";
}

static void train_on(const char *devices, const char *more)
{
    char line[256];
    snprintf(line, sizeof line, "train c.json -q --device %s %s", devices, more);
    succeed(line);
}

static void test_devices(void **state)
{
    (void)state;
    enum { STEPS = 6 };
    double one[STEPS], two[STEPS], worst = 0;
    make_run();
    train_on(oas_cuda_count() >= 2 ? "cuda" : "cpu", "--output one");
    train_on(two_devices(), "--batch 2 --output two");
    assert_int_equal(read_losses("one/log.jsonl", one, STEPS), STEPS);
    assert_int_equal(read_losses("two/log.jsonl", two, STEPS), STEPS);
    for (int i = 0; i < STEPS; i++)
        worst = fmax(worst, fabs(one[i] - two[i]) / fabs(one[i]));
    print_message("    losses of %s differ by %.1e\n", two_devices(), worst);
    assert_true(worst < TOLERANCE);

    train_on(two_devices(), "--batch 2 --steps 3 --schedule constant --output again");
    train_on(two_devices(), "--batch 2 --schedule constant --output again");
    train_on(two_devices(), "--batch 2 --schedule constant --output once");
    assert_true(same_tensors("again/checkpoint.safetensors", "once/checkpoint.safetensors"));
}

/* The processes that a process has started; how many there are. */
static int children_of(pid_t parent, pid_t *child, int most)
{
    char command[64];
    int n = 0;
    snprintf(command, sizeof command, "pgrep -P %d", (int)parent);
    result r = run_shell(command);
    for (char *word = strtok(r.out, "\n"); word && n < most; word = strtok(NULL, "\n"))
        child[n++] = (pid_t)atoi(word);
    result_free(&r);
    return n;
}

/* Waits until a log has a line. */
static void wait_for_step(const char *path)
{
    struct stat s = {.st_size = 0};
    for (int wait = 0; wait < 1000 && s.st_size == 0; wait++) {
        usleep(20000);
        if (stat(path, &s) != 0)
            s.st_size = 0;
    }
    assert_true(s.st_size > 0);
}

static void test_failing_device(void **state)
{
    (void)state;
    char line[128];
    make_run();
    refused(3, "are no list", "train c.json -q --device cuda:0,");
    refused(5, "99", "train c.json -q --device cuda:99,98");

    /* A process that is killed ends all, and one that is asked to stop stops all, with a checkpoint. */
    snprintf(line, sizeof line, "train c.json -q --batch 2 --steps 100000 --device %s", two_devices());
    pid_t child[4] = {0}, pid = start(line, "err.txt");
    wait_for_step("out/log.jsonl");
    assert_int_equal(children_of(pid, child, 4), 2);
    kill(child[1], SIGKILL);
    assert_int_equal(wait_for(pid), 5);
    char *said = read_all("err.txt", NULL);
    assert_non_null(strstr(said, "was ended by signal 9"));
    free(said);
    remove("out/log.jsonl");
    pid = start(line, "err.txt");
    wait_for_step("out/log.jsonl");
    kill(pid, SIGTERM);
    assert_int_equal(wait_for(pid), 128 + SIGTERM);
    assert_true(saved_steps("out/checkpoint.safetensors") > 0);

    write_text("data/b.png", "this is no picture");
    snprintf(line, sizeof line, "train c.json -q --batch 2 --steps 100 --output new --device %s", two_devices());
    expect_one_sentence(run(line));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plan, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_refusals, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_kill, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_processes, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_failing_process, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_devices, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_failing_device, enter_folder, leave_folder),
    };
    return cmocka_run_group_tests_name("e2e/train", tests, NULL, NULL);
}
