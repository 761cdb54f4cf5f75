/*
 * oasis_upscale_file with the default model: reading, upscaling and writing at the same time, progress, stopping, failures
 * in each of the three, and the options of a job.
 */
#include "clips.h"

#include <oasis/video.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static oasis_model *model;

static int set_up(void **state)
{
    (void)state;
    char path[1024];
    oasis_message why = {""};
    const char *source = getenv("OASIS_SOURCE");
    snprintf(path, sizeof path, "%s/models/oasis-nano.safetensors", source ? source : ".");
    if (oasis_model_open(&model, path, &why) != OASIS_OK)
        fail_msg("%s", why.text);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    oasis_model_close(&model);
    path_of(NULL);
    return 0;
}

typedef struct told {
    int calls, stop_at; /* stop_at: the call that says stop; 0 = never */
    oasis_progress last;
    bool backwards;
} told;

static bool listen(void *user, const oasis_progress *p)
{
    told *t = user;
    t->backwards |= p->frames_done < t->last.frames_done;
    t->last = *p;
    return ++t->calls != t->stop_at;
}

static oasis_job job_of(const char *in, const char *out)
{
    oasis_job job;
    oasis_job_init(&job);
    job.input = in;
    job.output = out;
    job.upscale.scale = 2;
    job.upscale.threads = 2;
    return job;
}

static void test_whole_job(void **state)
{
    (void)state;
    static const int64_t uneven[] = {0, 40, 81, 200, 201, 350, 390, 1000};
    const char *in = path_of("in.mkv"), *out = path_of("out.mkv");
    make_clip(&(clip){.path = in,
                      .codec = "libx264",
                      .frames = 8,
                      .pts = uneven,
                      .time_base = {1, 1000},
                      .audio = 2,
                      .subtitles = true,
                      .chapters = true});
    oasis_job job = job_of(in, out);
    oasis_job_result result;
    oasis_message why = {""};
    told t = {.stop_at = 0};
    if (oasis_upscale_file(model, &job, listen, &t, &result, &why) != OASIS_OK)
        fail_msg("%s", why.text);
    assert_true(t.calls >= 1 && !t.backwards);
    assert_int_equal(t.last.frames_done, 8);
    assert_int_equal(t.last.frames_total, 8);
    assert_true(t.last.seconds_left == 0);
    assert_int_equal(result.plan.width, 128);
    assert_int_equal(result.plan.height, 96);
    assert_int_equal(result.statistics.frames_in, 8);
    assert_int_equal(result.statistics.frames_out, 8);
    int stages = 0;
    for (int i = 0; i < result.statistics.n_stages; i++)
        stages += strcmp(result.statistics.stages[i].name, "read") == 0 ||
                  strcmp(result.statistics.stages[i].name, "write") == 0;
    assert_int_equal(stages, 2);
    assert_true(result.seconds > 0);
    seen s;
    look(&s, out);
    assert_int_equal(s.n_frames, 8);
    for (int i = 0; i < 8; i++)
        assert_int_equal(s.frames[i]->best_effort_timestamp, uneven[i]);
    assert_int_equal(s.format->nb_streams, 4);
    assert_int_equal(s.format->nb_chapters, 2);
    look_away(&s);
    /* The same bytes for another number of threads. */
    const char *again = path_of("again.mkv");
    job.output = again;
    job.upscale.threads = 1;
    assert_int_equal(oasis_upscale_file(model, &job, NULL, NULL, NULL, NULL), OASIS_OK);
    FILE *a = fopen(out, "rb"), *b = fopen(again, "rb");
    for (int c; (c = fgetc(a)) != EOF;)
        assert_int_equal(c, fgetc(b));
    assert_int_equal(fgetc(b), EOF);
    fclose(a);
    fclose(b);
}

static void test_lengths(void **state)
{
    (void)state;
    for (int n = 1; n <= 6; n++) {
        const char *in = path_of("length.mkv"), *out = path_of("length-out.mp4");
        make_clip(&(clip){.path = in, .frames = n, .width = 33, .height = 17, .format = AV_PIX_FMT_YUV444P});
        oasis_job job = job_of(in, out);
        oasis_message why = {""};
        job.upscale.scale = 1;
        job.write.overwrite = true;
        if (oasis_upscale_file(model, &job, NULL, NULL, NULL, &why) != OASIS_OK)
            fail_msg("%d frames: %s", n, why.text);
        seen s;
        look(&s, out);
        assert_int_equal(s.n_frames, n);
        assert_int_equal(s.frames[0]->width, 33);
        look_away(&s);
    }
}

static void test_note(void **state)
{
    (void)state;
    oasis_job job = job_of(path_of("note.mkv"), path_of("note.mp4"));
    oasis_job_result result;
    make_clip(&(clip){.path = job.input, .frames = 1, .width = 31, .height = 17, .format = AV_PIX_FMT_YUV444P});
    job.upscale.scale = 1;
    assert_int_equal(oasis_upscale_file(model, &job, NULL, NULL, &result, NULL), OASIS_OK);
    assert_non_null(strstr(result.note.text, "yuv444p"));
}

/* A folder for one test, to see that nothing is left in it. */
static const char *folder(const char *name)
{
    const char *path = path_of(name);
    assert_int_equal(mkdir(path, 0777), 0);
    return path;
}

static void test_stop(void **state)
{
    (void)state;
    const char *in = path_of("stop.mkv"), *dir = folder("stopped");
    char out[700];
    snprintf(out, sizeof out, "%s/out.mkv", dir);
    make_clip(&(clip){.path = in, .frames = 200, .width = 160, .height = 128, .codec = "libx264"});
    for (int at = 1; at <= 4; at++) {
        oasis_job job = job_of(in, out);
        oasis_message why = {""};
        told t = {.stop_at = at};
        assert_int_equal(oasis_upscale_file(model, &job, listen, &t, NULL, &why), OASIS_E_CANCELLED);
        assert_true(why.text[0] != '\0');
        assert_true(t.last.frames_done < 200);
        assert_int_equal(files_in(dir), 0);
    }
}

static void test_failures(void **state)
{
    (void)state;
    const char *in = path_of("fail.mkv"), *cut = path_of("fail-cut.mkv"), *dir = folder("failed");
    char out[700];
    oasis_message why;
    snprintf(out, sizeof out, "%s/out.mkv", dir);
    make_clip(&(clip){.path = in, .frames = 30, .mux_settings = "live=1"});
    /* Reading: the end is missing, which shows only there. */
    copy_part(in, cut, size_of(in) * 2 / 3);
    oasis_job job = job_of(cut, out);
    assert_int_equal(oasis_upscale_file(model, &job, NULL, NULL, NULL, &why), OASIS_E_FORMAT);
    assert_non_null(strstr(why.text, cut));
    assert_non_null(strstr(why.text, "frame"));
    assert_int_equal(files_in(dir), 0);
    /* Writing: the disk is full after some frames. */
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, limit;
    getrlimit(RLIMIT_FSIZE, &old);
    limit = old;
    limit.rlim_cur = 60000;
    setrlimit(RLIMIT_FSIZE, &limit);
    job = job_of(in, out);
    job.write.codec = "ffv1";
    oasis_status status = oasis_upscale_file(model, &job, NULL, NULL, NULL, &why);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(status, OASIS_E_IO);
    assert_non_null(strstr(why.text, "File too large"));
    assert_int_equal(files_in(dir), 0);
    /* Before anything begins. */
    job = job_of(in, out);
    job.upscale.scale = 100;
    assert_int_equal(oasis_upscale_file(model, &job, NULL, NULL, NULL, &why), OASIS_E_ARGUMENT);
    job = job_of(path_of("missing.mkv"), out);
    assert_int_equal(oasis_upscale_file(model, &job, NULL, NULL, NULL, &why), OASIS_E_IO);
    job = job_of(in, in);
    job.write.overwrite = true;
    assert_int_equal(oasis_upscale_file(model, &job, NULL, NULL, NULL, &why), OASIS_E_ARGUMENT);
    job = job_of(NULL, out);
    assert_int_equal(oasis_upscale_file(model, &job, NULL, NULL, NULL, &why), OASIS_E_ARGUMENT);
    assert_int_equal(files_in(dir), 0);
}

static void test_options(void **state)
{
    (void)state;
    oasis_job job;
    oasis_job_init(&job);
    const oasis_option *rows = oasis_job_options();
    const char *const set[][2] = {
        {"input", "a.mkv"},         {"output", "b.mkv"},    {"scale", "2.5"},           {"size", "640x480"},
        {"start", "00:01:02.5"},    {"ss", "62.5"},         {"frames", "10"},           {"deinterlace", NULL},
        {"fps", "29.97"},           {"codec", "ffv1"},      {"c:v", "libx265"},         {"crf", "18.5"},
        {"preset", "slow"},         {"pix-fmt", "yuv444p"}, {"pix_fmt", "yuv420p10le"}, {"encoder-option", "g=1"},
        {"encoder-option", "bf=2"}, {"audio", "false"},     {"encoder-threads", "4"}};
    oasis_message why = {""};
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        if (oasis_option_set(rows, &job, set[i][0], set[i][1], &why) != OASIS_OK)
            fail_msg("%s: %s", set[i][0], why.text);
    assert_string_equal(job.input, "a.mkv");
    assert_true(job.upscale.scale == 2.5 && job.upscale.width == 640 && job.upscale.height == 480);
    assert_true(job.read.start == 62.5 && job.read.frames == 10 && job.read.deinterlace && job.read.fps == 29.97);
    assert_string_equal(job.write.codec, "libx265");
    assert_true(job.write.crf == 18.5 && !job.write.audio && job.write.threads == 4);
    assert_string_equal(job.write.pixel_format, "yuv420p10le");
    assert_int_equal(job.write.extra.count, 2);
    assert_string_equal(job.write.extra.text[1], "bf=2");
    assert_int_equal(oasis_option_set(rows, &job, "crf", "64", &why), OASIS_E_ARGUMENT);
    assert_int_equal(oasis_option_set(rows, &job, "frames", "-1", &why), OASIS_E_ARGUMENT);
    assert_int_equal(oasis_option_set(rows, &job, "start", "-1", &why), OASIS_E_ARGUMENT);
    for (const oasis_option *a = rows; a->name; a++) { /* no name, alias or letter twice; every row explains itself */
        assert_true(a->help && a->group && a->help[0]);
        for (const oasis_option *b = a + 1; b->name; b++) {
            assert_string_not_equal(a->name, b->name);
            assert_true(!a->letter || a->letter != b->letter);
            assert_true(!a->alias ||
                        (strcmp(a->alias, b->name) != 0 && (!b->alias || strcmp(a->alias, b->alias) != 0)));
        }
    }
    assert_ptr_equal(rows, oasis_job_options());
    char text[2000];
    size_t length = oasis_media_build_info(text, sizeof text);
    assert_int_equal(length, strlen(text));
    assert_non_null(strstr(text, "libavcodec: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_job), cmocka_unit_test(test_lengths),  cmocka_unit_test(test_note),
        cmocka_unit_test(test_stop),      cmocka_unit_test(test_failures), cmocka_unit_test(test_options),
    };
    oasis_media_set_quiet(true);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
