/*
 * From file to file.  Three threads work, connected by short queues; the calling thread tells progress and listens for
 * the wish to stop:
 *
 *     reader --(frames in)--> upscaler --(frames out)--> writer        caller: progress(), ten times a second
 *
 * The first failure wins: it stops the queues and the upscaler, and its sentence is the job's.
 */
#include "video/queue.h"
#include "video/source.h"

#include <errno.h>
#include <libavutil/mem.h>
#include <libavutil/time.h>
#include <string.h>
#include <time.h>

enum {
    PLACES_IN = 4,
    PLACES_OUT_MAX = 4,
    RECENT = 32,      /* frames that the rate "of late" is taken from */
    PROGRESS_MS = 100 /* between two calls */
};
static const int64_t queue_bytes = 256 << 20; /* what frames on their way to the writer may take */

typedef struct job_state {
    const oasis_job *job;
    oasis_reader *reader;
    oasis_writer *writer;
    oasis_upscaler *upscaler;
    oas_queue in, out;
    double read_seconds, write_seconds; /* spent working; by their threads, read when these are done */
    int64_t frames_read;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    oasis_status status; /* the first failure */
    oasis_message message;
    int running; /* threads */
    int64_t frames_done;
    double began; /* when the first frame went in; 0 before */
    double done_at[RECENT];
} job_state;

static double now(void)
{
    return (double)av_gettime_relative() * 1e-6;
}

/* ---- failing ------------------------------------------------------------------------------------------------------ */

/* Notes a failure, when it is the first, and stops everything. */
static void fail(job_state *s, oasis_status status, const char *text)
{
    pthread_mutex_lock(&s->lock);
    if (s->status == OASIS_OK) {
        s->status = status;
        oas_media_fail(&s->message, status, "%s", text);
    }
    pthread_mutex_unlock(&s->lock);
    oas_queue_stop(&s->in);
    oas_queue_stop(&s->out);
    oasis_upscaler_cancel(s->upscaler);
}

/* ---- the three threads -------------------------------------------------------------------------------------------- */

static void leave(job_state *s)
{
    pthread_mutex_lock(&s->lock);
    s->running--;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void *read_all(void *arg)
{
    job_state *s = arg;
    for (;;) {
        oasis_frame frame;
        double start = now();
        oasis_status status = oasis_reader_read(s->reader, &frame);
        s->read_seconds += now() - start;
        if (status != OASIS_OK) {
            if (status < 0)
                fail(s, status, oasis_reader_message(s->reader));
            break;
        }
        s->frames_read++;
        if (!oas_queue_put(&s->in, &frame)) {
            oasis_frame_free(&frame);
            break;
        }
    }
    oas_queue_end(&s->in);
    leave(s);
    return NULL;
}

/* Gives the upscaler its next frame, or the end.  False when the job is to stop. */
static bool send_next(job_state *s)
{
    oasis_frame frame;
    oasis_status status = oas_queue_take(&s->in, &frame);
    if (status == OASIS_E_CANCELLED)
        return false;
    if (status == OASIS_OK) {
        pthread_mutex_lock(&s->lock);
        if (s->began == 0)
            s->began = now();
        pthread_mutex_unlock(&s->lock);
    }
    bool end = status == OASIS_END;
    status = oasis_upscaler_send(s->upscaler, end ? NULL : &frame);
    if (status != OASIS_OK) {
        if (!end)
            oasis_frame_free(&frame);
        fail(s, status < 0 ? status : OASIS_E_ARGUMENT, oasis_upscaler_message(s->upscaler));
    }
    return status == OASIS_OK;
}

static void *upscale_all(void *arg)
{
    job_state *s = arg;
    for (;;) {
        oasis_frame frame;
        oasis_status status = oasis_upscaler_receive(s->upscaler, &frame);
        if (status == OASIS_AGAIN && send_next(s))
            continue;
        if (status == OASIS_OK && oas_queue_put(&s->out, &frame))
            continue;
        if (status == OASIS_OK)
            oasis_frame_free(&frame);
        if (status < 0)
            fail(s, status, oasis_upscaler_message(s->upscaler));
        break;
    }
    oas_queue_end(&s->out);
    leave(s);
    return NULL;
}

static void count_frame(job_state *s)
{
    pthread_mutex_lock(&s->lock);
    s->done_at[s->frames_done++ % RECENT] = now();
    pthread_mutex_unlock(&s->lock);
}

static void *write_all(void *arg)
{
    job_state *s = arg;
    for (;;) {
        oasis_frame frame;
        oasis_status status = oas_queue_take(&s->out, &frame);
        if (status != OASIS_OK)
            break;
        double start = now();
        status = oasis_writer_write(s->writer, &frame);
        s->write_seconds += now() - start;
        oasis_frame_free(&frame);
        if (status != OASIS_OK) {
            fail(s, status, oasis_writer_message(s->writer));
            break;
        }
        count_frame(s);
    }
    leave(s);
    return NULL;
}

/* ---- progress ----------------------------------------------------------------------------------------------------- */

/* Frames done, rate of late, time left; under the lock. */
static oasis_progress describe(const job_state *s, double time)
{
    int64_t total = oas_reader_source(s->reader)->frames;
    oasis_progress p = {.frames_done = s->frames_done, .frames_total = total, .seconds_left = -1};
    if (s->began > 0)
        p.seconds = time - s->began;
    int64_t recent = s->frames_done < RECENT ? s->frames_done : RECENT;
    if (recent > 1) {
        double since = s->done_at[(s->frames_done - recent) % RECENT];
        double until = s->done_at[(s->frames_done - 1) % RECENT];
        if (until > since)
            p.frames_per_second = (double)(recent - 1) / (until - since);
    } else if (recent == 1 && p.seconds > 0) {
        p.frames_per_second = 1 / p.seconds;
    }
    if (total > 0 && p.frames_per_second > 0)
        p.seconds_left = s->frames_done < total ? (double)(total - s->frames_done) / p.frames_per_second : 0;
    return p;
}

/* Waits until the threads are done, telling progress meanwhile. */
static void wait_and_tell(job_state *s, oasis_progress_fn *progress, void *user)
{
    pthread_mutex_lock(&s->lock);
    while (s->running > 0) {
        if (!progress) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += PROGRESS_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        int code = 0;
        while (s->running > 0 && code != ETIMEDOUT)
            code = pthread_cond_timedwait(&s->changed, &s->lock, &until);
        oasis_progress p = describe(s, now());
        bool failed = s->status != OASIS_OK;
        pthread_mutex_unlock(&s->lock);
        if (!progress(user, &p) && !failed)
            fail(s, OASIS_E_CANCELLED, "stopped on request; nothing was written");
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- running ------------------------------------------------------------------------------------------------------ */

/* Frames between the upscaler and the writer, for frames of that size. */
static int places_out(int width, int height)
{
    int64_t places = queue_bytes / ((int64_t)width * height * 3 * (int64_t)sizeof(float));
    return places < 1 ? 1 : places > PLACES_OUT_MAX ? PLACES_OUT_MAX : (int)places;
}

/*
 * What reading and writing take: the queues, the decoder's and the encoder's pictures, the libraries themselves.  An
 * encoder that looks ahead holds some fifty pictures; libx264's medium preset was measured at 200 bytes a pixel, half of
 * that with an encoder that codes each picture alone.
 */
static int64_t media_bytes(const oasis_job *job, int width, int height, int out_width, int out_height)
{
    enum { LIBRARIES = 30 << 20, FRAME = 3 * sizeof(float), DECODER = 24, ALONE = 30, AHEAD = 200, AHEAD_LONG = 400 };
    const char *codec = job->write.codec ? job->write.codec : "libx264";
    int64_t each = strcmp(codec, "libx264") == 0                                      ? AHEAD
                   : strcmp(codec, "libx265") == 0 || strcmp(codec, "libsvtav1") == 0 ? AHEAD_LONG
                                                                                      : ALONE;
    int64_t in = (int64_t)width * height, out = (int64_t)out_width * out_height;
    return LIBRARIES + in * (DECODER + FRAME * (PLACES_IN + 2)) +
           out * (each + FRAME * (places_out(out_width, out_height) + 2));
}

static oasis_status open_upscaler(oasis_upscaler **upscaler, oasis_model *model, const oasis_job *job, int width,
                                  int height, oasis_message *message)
{
    oasis_options options = job->upscale;
    int out_width, out_height;
    OAS_TRY(oasis_output_size(&options, width, height, &out_width, &out_height, message));
    options.memory_reserved += media_bytes(job, width, height, out_width, out_height);
    return oasis_upscaler_open(upscaler, model, &options, width, height, message);
}

/* Where nothing else was asked for, the GPU that computes decodes, too. */
static void choose_decoder(job_state *s, const oasis_plan *plan)
{
    const char *hwdec = s->job->read.hwdec;
    int gpu;
    if ((!hwdec || strcmp(hwdec, "auto") == 0) && oas_hardware_index(plan->device, &gpu))
        oas_reader_use(s->reader, &oas_hardware_cuda, gpu);
}

static oasis_status open_all(job_state *s, oasis_model *model, oasis_plan *plan, oasis_message *message)
{
    const oasis_job *job = s->job;
    oasis_media_info info;
    if (!job->input || !job->output)
        return oas_media_fail(message, OASIS_E_ARGUMENT, "no %s was named", job->input ? "output" : "input");
    OAS_TRY(oasis_reader_open(&s->reader, job->input, &job->read, message));
    oasis_reader_info(s->reader, &info);
    OAS_TRY(open_upscaler(&s->upscaler, model, job, info.width, info.height, message));
    oasis_upscaler_plan(s->upscaler, plan);
    choose_decoder(s, plan);
    return oasis_writer_open(&s->writer, job->output, &job->write, s->reader, plan->width, plan->height, message);
}

/* Starts the threads, waits, joins them. */
static void run(job_state *s, oasis_progress_fn *progress, void *user)
{
    void *(*const work[])(void *) = {read_all, upscale_all, write_all};
    enum { THREADS = sizeof work / sizeof *work };
    pthread_t threads[THREADS];
    int started = 0;
    s->running = THREADS;
    while (started < THREADS && pthread_create(&threads[started], NULL, work[started], s) == 0)
        started++;
    for (int i = started; i < THREADS; i++)
        leave(s);
    if (started < THREADS)
        fail(s, OASIS_E_MEMORY, "cannot start the threads that read and write");
    wait_and_tell(s, progress, user);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}

static void add_stage(oasis_statistics *statistics, const char *name, double seconds)
{
    if (statistics->n_stages < OASIS_MAX_STAGES)
        statistics->stages[statistics->n_stages++] = (oasis_stage_time){.name = name, .seconds = seconds};
}

/* Ends the output: the last of the work, counted as writing. */
static oasis_status finish(job_state *s, oasis_message *message)
{
    if (s->status != OASIS_OK) {
        oas_media_fail(message, s->status, "%s", s->message.text);
        return s->status;
    }
    if (s->frames_done != s->frames_read)
        return oas_media_fail(message, OASIS_E_IO, "%lld frames came out for %lld of '%s'; nothing was written",
                              (long long)s->frames_done, (long long)s->frames_read, s->job->input);
    double start = now();
    oasis_status status = oasis_writer_finish(s->writer);
    s->write_seconds += now() - start;
    if (status != OASIS_OK)
        oas_media_fail(message, status, "%s", oasis_writer_message(s->writer));
    return status;
}

static void fill_result(const job_state *s, double start, oasis_job_result *result)
{
    oasis_upscaler_statistics(s->upscaler, &result->statistics);
    bool by_hardware = oas_reader_is_on_hardware(s->reader);
    int gpu;
    add_stage(&result->statistics, by_hardware ? "read by GPU" : "read", s->read_seconds);
    add_stage(&result->statistics, "write", s->write_seconds);
    result->seconds = now() - start;
    const char *note = oasis_writer_note(s->writer);
    bool missed = !by_hardware && oas_hardware_index(s->job->read.hwdec, &gpu);
    oas_media_fail(&result->note, OASIS_OK, "%s%s%s", note, *note && missed ? "; " : "",
                   missed ? "the GPU did not decode (all of) the video, the processor did" : "");
}

static oasis_status work(job_state *s, oasis_model *model, oasis_progress_fn *progress, void *user,
                         oasis_job_result *result, oasis_message *message)
{
    double start = now();
    OAS_TRY(open_all(s, model, &result->plan, message));
    oas_queue_init(&s->in, PLACES_IN);
    oas_queue_init(&s->out, places_out(result->plan.width, result->plan.height));
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    run(s, progress, user);
    oasis_status status = finish(s, message);
    fill_result(s, start, result);
    if (status == OASIS_OK && progress) {
        oasis_progress p = describe(s, now());
        p.frames_total = p.frames_done;
        p.seconds_left = 0;
        progress(user, &p);
    }
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    oas_queue_free(&s->out);
    oas_queue_free(&s->in);
    return status;
}

oasis_status oasis_upscale_file(oasis_model *model, const oasis_job *job, oasis_progress_fn *progress, void *user,
                                oasis_job_result *result, oasis_message *message)
{
    oasis_job_result unwanted = {.seconds = 0};
    if (!result)
        result = &unwanted;
    *result = (oasis_job_result){.seconds = 0};
    job_state *s = av_mallocz(sizeof *s);
    if (!s)
        return oas_media_fail_memory(message, "a job");
    s->job = job;
    oasis_status status = work(s, model, progress, user, result, message);
    oasis_writer_close(&s->writer);
    oasis_upscaler_close(&s->upscaler);
    oasis_reader_close(&s->reader);
    av_free(s);
    return status;
}

oasis_status oasis_plan_file(oasis_model *model, const oasis_job *job, oasis_plan *plan, oasis_message *message)
{
    oasis_reader *reader = NULL;
    oasis_upscaler *upscaler = NULL;
    oasis_media_info info;
    if (!job->input)
        return oas_media_fail(message, OASIS_E_ARGUMENT, "no input was named");
    OAS_TRY(oasis_reader_open(&reader, job->input, &job->read, message));
    oasis_reader_info(reader, &info);
    oasis_status status = open_upscaler(&upscaler, model, job, info.width, info.height, message);
    if (status == OASIS_OK) {
        oasis_upscaler_calibrate(upscaler);
        oasis_upscaler_plan(upscaler, plan);
    }
    oasis_upscaler_close(&upscaler);
    oasis_reader_close(&reader);
    return status;
}
