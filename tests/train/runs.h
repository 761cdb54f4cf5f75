/* Runs of the trainer on a tiny model and one moving pattern, in a folder of the test's own. */
#ifndef TESTS_TRAIN_RUNS_H
#define TESTS_TRAIN_RUNS_H

#include <oasis/train.h>

struct source {
    uint64_t bad_from, bad_until; /* clips that are not numbers */
    bool one;                     /* the same clip every time */
};

extern struct source honest; /* no bad clips */

/* Makes and removes `folder`. */
extern char folder[];
int setup(void **state);
int teardown(void **state);

/* A path in the test's folder; four at a time. */
const char *in_folder(const char *name);

/* A oasis_clip_fn of a struct source. */
oasis_status make_clip(void *user, const oasis_clip_request *request, oasis_frame *truth, oasis_frame *low,
                       oasis_message *message);

/* Six steps of two clips of 5x32x32, one thread, fp32. */
oasis_train_options tiny_options(int stage, const char *output);

/* Fails the test when it cannot be opened. */
oasis_trainer *open_trainer(const oasis_train_options *o, struct source *s);

enum { SOME_STEPS = 8 };

/* Runs all steps; returns the last report, its loss the mean of the last SOME_STEPS, and that of the first ones. */
oasis_train_report run(const oasis_train_options *o, struct source *s, double *first);

/* All tensors of two files have the same bits. */
bool same_tensors(const char *a, const char *b);

/* The trainer does not open, and says why with these words. */
void expect_refusal(const oasis_train_options *o, const char *part);

#endif
