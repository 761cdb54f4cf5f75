/* oasis bench --train: clips per second, with clips at hand and in the making; work, memory, where time goes. */
#include "bench_train.h"

#include "cli.h"

#include <ftw.h>
#include <math.h>
#include <oasis/dataset.h>
#include <oasis/train.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 6, GPU_BATCH = 24, FRAMES = 5, SIDE = 192, READY = 4, PICTURES = 6, VIDEOS = 3, VIDEO_FRAMES = 48 };
enum { WARM = 2, GPU_WARM = 8 }; /* steps that are not counted */

static const double LEAST_SECONDS = 12; /* of a measurement */

typedef struct measured {
    oasis_train_cost cost;
    double clips_per_second, steps;
    double processor; /* seconds of a processor that a clip takes, all threads added */
    double memory;    /* bytes that the process has grown by */
    int stages;
    oasis_stage_time stage[OASIS_MAX_STAGES];
    oasis_train_launches launches;
} measured;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double most_memory(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss * 1024;
}

/* ---- clips ----------------------------------------------------------------------------------------------------------- */

/* Something with edges and texture that moves with `t`. */
static void draw(oasis_frame *f, int seed, double t)
{
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++)
            for (int c = 0; c < 3; c++) {
                double u = x + 3 * t, v = y - 2 * t;
                double stripes = sin(0.11 * (seed + 1) * u) * cos(0.07 * v + c),
                       fine = sin(1.7 * u + 0.9 * v * (1 + seed % 3));
                double box = fmod(fabs(u) / 37, 2) < 1 && fmod(fabs(v) / 29, 2) < 1 ? 0.2 : 0;
                f->rgb[((size_t)y * (size_t)f->width + (size_t)x) * 3 + (size_t)c] =
                    (float)(0.4 + 0.25 * stripes + 0.1 * fine + box);
            }
}

/* Clips that lie ready. */
typedef struct shelf {
    oasis_frame frame[READY][2 * FRAMES + 6]; /* of a clip as asked for, at most */
} shelf;

static oasis_status take_ready(void *user, const oasis_clip_request *r, oasis_frame *truth, oasis_frame *low,
                               oasis_message *message)
{
    if (r->prepare)
        return OASIS_OK;
    shelf *s = user;
    size_t bytes = (size_t)r->width * (size_t)r->height * 3 * sizeof(float);
    for (int i = 0; i < r->frames; i++) {
        oasis_frame *ready = &s->frame[r->index % READY][i];
        if ((!ready->rgb && oasis_frame_new(ready, r->width, r->height, false) < 0) ||
            oasis_frame_new(&truth[i], r->width, r->height, false) < 0 ||
            oasis_frame_new(&low[i], r->width, r->height, false) < 0) {
            snprintf(message->text, sizeof message->text, "no memory for a clip");
            return OASIS_E_MEMORY;
        }
        if (ready->pts == 0) {
            draw(ready, (int)(r->index % READY), i);
            ready->pts = 1;
        }
        memcpy(truth[i].rgb, ready->rgb, bytes);
        memcpy(low[i].rgb, ready->rgb, bytes);
    }
    return OASIS_OK;
}

/* A picture, or a short video. */
static oasis_status write_file(const char *path, int seed, int width, int height, int frames, oasis_message *message)
{
    oasis_writer_options o;
    oasis_writer *w = NULL;
    oasis_frame frame = {0};
    oasis_writer_options_init(&o);
    o.overwrite = true;
    oasis_status s = oasis_writer_open(&w, path, &o, NULL, width, height, message);
    if (s < 0)
        return s;
    s = oasis_frame_new(&frame, width, height, false);
    for (int i = 0; s == OASIS_OK && i < frames; i++) {
        draw(&frame, seed, i);
        frame.pts = i;
        frame.duration = 1;
        s = oasis_writer_write(w, &frame);
    }
    if (s == OASIS_OK)
        s = oasis_writer_finish(w);
    if (s < 0)
        snprintf(message->text, sizeof message->text, "%s", oasis_writer_message(w));
    oasis_frame_free(&frame);
    oasis_writer_close(&w);
    return s;
}

static oasis_status write_data(const char *folder, oasis_message *message)
{
    char path[128];
    oasis_status s = OASIS_OK;
    for (int i = 0; i < PICTURES && s == OASIS_OK; i++) {
        snprintf(path, sizeof path, "%s/picture%d.png", folder, i);
        s = write_file(path, i, 720, 480, 1, message);
    }
    for (int i = 0; i < VIDEOS && s == OASIS_OK; i++) {
        snprintf(path, sizeof path, "%s/video%d.mp4", folder, i);
        s = write_file(path, i, 640, 360, VIDEO_FRAMES, message);
    }
    return s;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

/* ---- measuring ------------------------------------------------------------------------------------------------------- */

/* How a GPU is driven: passes as one launch, a launch for every op, or that with a wait after it. */
typedef enum driving { AS_ONE, APART, WAITED } driving;

/* warm: steps that are not counted; they touch memory and make kernels, and on a GPU record what becomes one launch. */
static oasis_status measure(const oasis_train_options *o, oasis_clip_fn *source, void *user, driving how, int warm,
                            measured *m, oasis_message *message)
{
    oasis_trainer *t = NULL;
    oasis_train_report report = {0};
    double before = most_memory();
    oasis_status s = oasis_trainer_open(&t, o, source, user, message);
    if (s < 0)
        return s;
    oasis_trainer_wait_for_each(t, how == WAITED);
    oasis_trainer_launch_apart(t, how == APART);
    for (int i = 0; i < warm && s == OASIS_OK; i++)
        s = oasis_trainer_step(t, &report);
    oasis_stage_time first[OASIS_MAX_STAGES];
    int known = oasis_trainer_times(t, first);
    double start = now(), seconds = 0, used = processor_seconds();
    for (m->steps = 0; s == OASIS_OK && !cli_signal() && (seconds < LEAST_SECONDS || m->steps < 4); m->steps++) {
        s = oasis_trainer_step(t, &report);
        seconds = now() - start;
    }
    m->clips_per_second = m->steps * o->batch / seconds;
    m->processor = (processor_seconds() - used) / (m->steps * o->batch);
    m->memory = most_memory() - before;
    m->stages = oasis_trainer_times(t, m->stage);
    for (int i = 0; i < known; i++)
        m->stage[i].seconds -= first[i].seconds;
    oasis_trainer_cost(t, &m->cost);
    m->launches = oasis_trainer_launches(t);
    if (s < 0)
        snprintf(message->text, sizeof message->text, "%s", oasis_trainer_message(t));
    oasis_trainer_close(&t);
    return s;
}

/* A configuration that never ends and never writes. */
static oasis_train_options options_of(const char *folder, const char *device, int threads)
{
    oasis_train_options o;
    oasis_train_options_init(&o);
    o.output = folder;
    o.batch = BATCH, o.frames = FRAMES, o.width = o.height = SIDE;
    o.threads = threads;
    o.device = device;
    o.steps = INT64_MAX / GPU_BATCH;
    o.checkpoint_minutes = 0;
    o.log_every = o.show_every = 0;
    o.resume = false;
    o.consistent_steps = 0;
    return o;
}

/* What tell() says, measured on one machine with clips of one number a step. */
typedef struct findings {
    measured ready, real, apart, each; /* each: whose stages are told */
    double peak;
    bool gpu;
    int batch;
} findings;

static void tell_memory(const findings *f, const char *type, oasis_bench_fn *row, void *user)
{
    double planned = (double)f->ready.cost.total_bytes;
    row(user, &(oasis_bench_row){"train", "train_planned_bytes", "memory of a step", type, "bytes", planned, 0});
    if (!f->gpu)
        row(user, &(oasis_bench_row){"train", "train_planned_over_measured",
                                     "of that memory; measured: growth of the process", type, "times",
                                     planned / f->ready.memory, 0});
}

static void tell_stages(const measured *m, const char *type, oasis_bench_fn *row, void *user)
{
    double all = 0;
    for (int i = 0; i < m->stages; i++)
        all += m->stage[i].seconds;
    for (int i = 0; i < m->stages; i++)
        if (m->stage[i].seconds > 0)
            row(user, &(oasis_bench_row){"train", "train_stage_share", m->stage[i].name, type, "of time",
                                         m->stage[i].seconds / all, m->stage[i].flops / m->stage[i].seconds * 1e-9});
}

static void tell_launches(const findings *f, const char *type, oasis_bench_fn *row, void *user)
{
    const oasis_train_launches *l = &f->ready.launches;
    row(user, &(oasis_bench_row){"train", "train_as_one_over_apart", "the same, times that with a launch for every op",
                                 type, "times", f->ready.clips_per_second / f->apart.clips_per_second, 0});
    row(user, &(oasis_bench_row){"train", "train_as_one_share", "passes that were one launch", type, "of 1",
                                 (double)l->as_one / (double)(l->passes > 0 ? l->passes : 1), 0});
}

static void tell(const findings *f, oasis_bench_fn *row, void *user)
{
    const measured *ready = &f->ready, *real = &f->real;
    const char *type = ready->cost.bf16 ? "bf16" : "fp32";
    const char *clips = f->gpu ? "24 clips of 5x192x192 a step: forward, losses, backward, update"
                               : "6 clips of 5x192x192 a step: forward, losses, backward, update";
    double of_clip = ready->cost.flops / f->batch, rate = of_clip * ready->clips_per_second;
    row(user,
        &(oasis_bench_row){"train", "train_clips_per_s", clips, type, "clips/s", ready->clips_per_second, rate * 1e-9});
    row(user, &(oasis_bench_row){"train", "train_fraction", "the same", type, "of peak", rate / f->peak, rate * 1e-9});
    row(user, &(oasis_bench_row){"train", "train_with_data_clips_per_s", "the same, clips read and degraded meanwhile",
                                 type, "clips/s", real->clips_per_second, 0});
    row(user, &(oasis_bench_row){"train", "train_data_share", "of the speed, taken by making clips", type, "of 1",
                                 1 - real->clips_per_second / ready->clips_per_second, 0});
    row(user, &(oasis_bench_row){"train", "train_processor_s", "of all threads, for a clip that lies ready", type, "s",
                                 ready->processor, f->gpu ? 0 : of_clip / ready->processor * 1e-9});
    row(user, &(oasis_bench_row){"train", "train_data_processor_s", "more than that, for making the clip", type, "s",
                                 real->processor - ready->processor, 0});
    if (f->gpu)
        tell_launches(f, type, row, user);
    tell_memory(f, type, row, user);
    tell_stages(f->gpu ? &f->each : ready, type, row, user);
}

static bool take_peak(void *user, const oasis_bench_row *row)
{
    *(double *)user = row->gflops * 1e9; /* bf16 comes last */
    return true;
}

/* All measurements; what the plan says about a GPU is that it has no peak of its own. */
static oasis_status find(findings *f, oasis_train_options *o, shelf *clips, oasis_message *message)
{
    oasis_dataset *set = NULL;
    oasis_train_cost cost = {0};
    oasis_status s = oasis_train_cost_of(o, &cost, message);
    f->gpu = s == OASIS_OK && cost.peak <= 0;
    f->peak = cost.peak;
    f->batch = o->batch = f->gpu ? GPU_BATCH : BATCH;
    const int warm = f->gpu ? GPU_WARM : WARM;
    if (s == OASIS_OK && f->gpu)
        s = oasis_bench(NULL, "peak", o->device, o->threads, take_peak, &f->peak, message);
    if (s == OASIS_OK)
        s = measure(o, take_ready, clips, AS_ONE, warm, &f->ready, message);
    if (s == OASIS_OK && f->gpu && !cli_signal())
        s = measure(o, take_ready, clips, APART, warm, &f->apart, message);
    if (s == OASIS_OK && f->gpu && !cli_signal())
        s = measure(o, take_ready, clips, WAITED, warm, &f->each, message);
    if (s == OASIS_OK)
        s = oasis_dataset_open(&set, o, message);
    if (s == OASIS_OK)
        s = measure(o, oasis_dataset_clip, set, AS_ONE, warm, &f->real, message);
    oasis_dataset_close(&set);
    return s;
}

oasis_status cli_bench_train(const char *device, int threads, oasis_bench_fn *row, void *user, oasis_message *message)
{
    char folder[] = "/tmp/oasis-bench-XXXXXX", data[64], output[64];
    findings found = {.batch = BATCH};
    shelf *clips = calloc(1, sizeof *clips);
    if (!clips || !mkdtemp(folder)) {
        free(clips);
        snprintf(message->text, sizeof message->text, "cannot make a folder under /tmp for the measured clips");
        return OASIS_E_IO;
    }
    snprintf(data, sizeof data, "%s/data", folder);
    snprintf(output, sizeof output, "%s/out", folder);
    oasis_train_options o = options_of(output, device, threads);
    o.data = (oasis_text_list){.count = 1, .text = {data}};
    oasis_status s = mkdir(data, 0700) == 0 ? write_data(data, message) : OASIS_E_IO;
    if (s == OASIS_OK)
        s = find(&found, &o, clips, message);
    if (s == OASIS_OK && !cli_signal())
        tell(&found, row, user);
    for (size_t i = 0; i < sizeof clips->frame / sizeof clips->frame[0][0]; i++)
        oasis_frame_free(&clips->frame[0][0] + i);
    free(clips);
    nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return s;
}
