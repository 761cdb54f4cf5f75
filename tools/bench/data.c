/*
 * How fast training clips are made, and whether they are the same for any number of threads.
 *
 *     bench_data CLIPS FRAMES SIZE THREADS PATH... [KEY=VALUE...]
 *
 * Prints processor time per clip (in the second half most files are decoded already), clips per second, and a checksum
 * over all clips.  KEY=VALUE sets what a configuration
 * of `oasis train` may set.
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

static bool read_options(int argc, char **argv, oasis_train_options *o, oasis_message *message)
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
        fine = oasis_option_set(oasis_train_option_rows(), o, equals ? argv[i] : "data", equals ? equals + 1 : argv[i],
                                message) == OASIS_OK;
    }
    return fine;
}

int main(int argc, char **argv)
{
    oasis_message message = {""};
    oasis_train_options o;
    oasis_dataset *dataset = NULL;
    feed *f = NULL;
    if (argc < 6)
        return fail("usage: bench_data CLIPS FRAMES WxH THREADS PATH... [KEY=VALUE...]");
    if (!read_options(argc, argv, &o, &message) || oasis_dataset_open(&dataset, &o, &message) < 0)
        return fail(message.text);
    uint64_t sum = 0;
    int clips = atoi(argv[1]);
    double half = 0, wall = seconds(CLOCK_MONOTONIC), processor = seconds(CLOCK_PROCESS_CPUTIME_ID);
    oasis_status s = oas_feed_new(&f, &o, oasis_dataset_clip, dataset, 0, &message);
    for (int i = 0; i < clips && s == OASIS_OK; i++) {
        clip c;
        if (i == clips / 2)
            half = seconds(CLOCK_PROCESS_CPUTIME_ID);
        s = oas_feed_next(f, &c, &message);
        if (s == OASIS_OK)
            sum = checksum(checksum(sum, c.low, oas_clip_floats(&o)), c.truth, oas_clip_floats(&o));
    }
    wall = seconds(CLOCK_MONOTONIC) - wall;
    oas_feed_free(&f); /* clips under way are finished, and counted */
    processor = seconds(CLOCK_PROCESS_CPUTIME_ID) - processor;
    half = (seconds(CLOCK_PROCESS_CPUTIME_ID) - half) / (clips - clips / 2);
    if (s == OASIS_OK)
        printf("%d clips: %.2f ms of processor time each (%.2f in the second half), %.1f clips/s, checksum %016llx\n",
               clips, 1e3 * processor / clips, 1e3 * half, clips / wall, (unsigned long long)sum);
    oasis_dataset_close(&dataset);
    return s == OASIS_OK ? EXIT_SUCCESS : fail(message.text);
}
