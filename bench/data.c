/*
 * How fast training clips are made, and whether they are the same for any number of threads.
 *
 *     bench_data CLIPS FRAMES SIZE THREADS PATH... [KEY=VALUE...]
 *
 * Prints processor time per clip (in the second half most files are decoded already), clips and bases per second, and a
 * checksum over all clips.  KEY=VALUE sets what a configuration of `oasis train` may set; device=NAME, which may be given
 * several times, has clips degraded there: a row for each, cpu when there is none.
 */
#include "train/train.h"

#include <oasis/dataset.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t checksum(uint64_t sum, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        sum = (sum ^ bits) * 0x9E3779B97F4A7C15u;
    }
    return sum;
}

static int fail(const char *why)
{
    fprintf(stderr, "bench_data: %s\n", why);
    return EXIT_FAILURE;
}

enum { MOST_DEVICES = 8 };

typedef struct devices {
    const char *name[MOST_DEVICES];
    int count;
} devices;

static bool read_options(int argc, char **argv, oasis_train_options *o, devices *on, oasis_message *message)
{
    oasis_train_options_init(o);
    o->batch = 1;
    bool fine = oasis_option_set(oasis_train_option_rows(), o, "frames", argv[2], message) == OASIS_OK &&
                oasis_option_set(oasis_train_option_rows(), o, "size", argv[3], message) == OASIS_OK &&
                oasis_option_set(oasis_train_option_rows(), o, "data-threads", argv[4], message) == OASIS_OK;
    for (int i = 5; i < argc && fine; i++) {
        char *equals = strchr(argv[i], '=');
        if (equals)
            *equals = 0;
        if (equals && strcmp(argv[i], "device") == 0) {
            if (on->count < MOST_DEVICES)
                on->name[on->count++] = equals + 1;
            continue;
        }
        fine = oasis_option_set(oasis_train_option_rows(), o, equals ? argv[i] : "data", equals ? equals + 1 : argv[i],
                                message) == OASIS_OK;
    }
    return fine;
}

/* One row: clips with everything read anew, on the device that o names. */
static bool measure(const oasis_train_options *o, int clips, oasis_message *message)
{
    oasis_dataset *dataset = NULL;
    feed *f = NULL;
    if (oasis_dataset_open(&dataset, o, message) < 0)
        return false;
    uint64_t sum = 0;
    double half = 0, wall = seconds(CLOCK_MONOTONIC), processor = seconds(CLOCK_PROCESS_CPUTIME_ID);
    oasis_status s = oas_feed_new(&f, o, oasis_dataset_clip, dataset, 0, message);
    for (int i = 0; i < clips && s == OASIS_OK; i++) {
        clip c;
        if (i == clips / 2)
            half = seconds(CLOCK_PROCESS_CPUTIME_ID);
        s = oas_feed_next(f, &c, message);
        if (s == OASIS_OK)
            sum = checksum(checksum(sum, c.low, oas_clip_floats(o)), c.truth, oas_clip_floats(o));
    }
    wall = seconds(CLOCK_MONOTONIC) - wall;
    oas_feed_free(&f); /* clips under way are finished, and counted */
    processor = seconds(CLOCK_PROCESS_CPUTIME_ID) - processor;
    half = (seconds(CLOCK_PROCESS_CPUTIME_ID) - half) / (clips - clips / 2);
    if (s == OASIS_OK)
        printf("%-6s %d clips: %.2f ms of processor time each (%.2f in the second half), %.1f clips/s, %.1f bases/s, "
               "checksum %016llx\n",
               o->device, clips, 1e3 * processor / clips, 1e3 * half, clips / wall, clips / wall / o->reuse,
               (unsigned long long)sum);
    fflush(stdout);
    oasis_dataset_close(&dataset);
    return s == OASIS_OK;
}

int main(int argc, char **argv)
{
    oasis_message message = {""};
    oasis_train_options o;
    devices on = {.count = 0};
    if (argc < 6)
        return fail("usage: bench_data CLIPS FRAMES WxH THREADS PATH... [KEY=VALUE...]");
    if (!read_options(argc, argv, &o, &on, &message))
        return fail(message.text);
    if (on.count == 0)
        on.name[on.count++] = "cpu";
    for (int i = 0; i < on.count; i++) {
        o.device = on.name[i];
        if (!measure(&o, atoi(argv[1]), &message))
            return fail(message.text);
    }
    return EXIT_SUCCESS;
}
