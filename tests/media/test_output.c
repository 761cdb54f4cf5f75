/*
 * Files appear whole or not at all: existing files, full disks, stopping in the middle, links, devices.
 */
#include "clips.h"
#include "through.h"

#include <oasis/video.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *clip_path(void)
{
    const char *path = path_of("in.mkv");
    if (!exists(path))
        make_clip(&(clip){.path = path, .frames = 8, .width = 128, .height = 96});
    return path;
}

/* A folder of its own, so that nothing else is counted. */
static const char *folder(const char *name)
{
    const char *path = path_of(name);
    assert_int_equal(mkdir(path, 0777), 0);
    return path;
}

static const char *inside(const char *folder, const char *name)
{
    static char paths[8][700];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void test_existing(void **state)
{
    (void)state;
    const char *in = clip_path(), *dir = folder("existing"), *out = inside(dir, "out.mkv");
    oasis_message why;
    FILE *f = fopen(out, "wb");
    fputs("precious", f);
    fclose(f);
    assert_int_equal(try_through(in, out, &(pass){.scale = 1}, &why), OASIS_E_IO);
    assert_non_null(strstr(why.text, out));
    assert_non_null(strstr(why.text, "exists"));
    assert_int_equal(size_of(out), 8);
    /* Stopped in the middle: what was there stays, nothing else does. */
    assert_int_equal(try_through(in, out, &(pass){.scale = 1, .overwrite = true, .lose_last = true}, &why), OASIS_OK);
    assert_int_equal(size_of(out), 8);
    assert_int_equal(files_in(dir), 1);
    assert_int_equal(try_through(in, out, &(pass){.scale = 1, .overwrite = true}, &why), OASIS_OK);
    assert_true(size_of(out) > 100);
    assert_int_equal(files_in(dir), 1);
    /* It appeared while the writer was at work. */
    const char *late = inside(dir, "late.mkv");
    oasis_writer *w = NULL;
    oasis_frame frame;
    assert_int_equal(oasis_writer_open(&w, late, NULL, NULL, 64, 48, &why), OASIS_OK);
    assert_int_equal(oasis_frame_new(&frame, 64, 48, false), OASIS_OK);
    assert_int_equal(oasis_writer_write(w, &frame), OASIS_OK);
    f = fopen(late, "wb");
    fputs("new", f);
    fclose(f);
    assert_int_equal(oasis_writer_finish(w), OASIS_E_IO);
    oasis_writer_close(&w);
    oasis_frame_free(&frame);
    assert_int_equal(size_of(late), 3);
    assert_int_equal(files_in(dir), 2);
}

static void test_visible_at_the_end_only(void **state)
{
    (void)state;
    const char *dir = folder("visible"), *out = inside(dir, "out.mp4");
    oasis_writer *w = NULL;
    oasis_frame frame;
    assert_int_equal(oasis_writer_open(&w, out, NULL, NULL, 64, 48, NULL), OASIS_OK);
    assert_int_equal(oasis_frame_new(&frame, 64, 48, false), OASIS_OK);
    for (frame.pts = 0; frame.pts < 60; frame.pts++)
        assert_int_equal(oasis_writer_write(w, &frame), OASIS_OK);
    assert_false(exists(out));
    assert_int_equal(files_in(dir), 1); /* the temporary one */
    assert_int_equal(oasis_writer_finish(w), OASIS_OK);
    assert_true(exists(out));
    assert_int_equal(files_in(dir), 1);
    assert_int_equal(oasis_writer_finish(w), OASIS_E_ARGUMENT);
    assert_int_equal(oasis_writer_write(w, &frame), OASIS_E_ARGUMENT);
    oasis_writer_close(&w);
    oasis_frame_free(&frame);
    assert_true(exists(out));
    struct stat s;
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(stat(out, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0666 & ~mask);
    seen v; /* without a source: 24 frames a second, BT.709 */
    look(&v, out);
    assert_int_equal(v.n_frames, 60);
    assert_int_equal(v.frames[0]->colorspace, AVCOL_SPC_BT709);
    assert_int_equal(av_cmp_q(v.format->streams[0]->avg_frame_rate, (AVRational){24, 1}), 0);
    look_away(&v);
    oasis_writer_close(&w);
}

static void test_frames_in_order(void **state)
{
    (void)state;
    oasis_writer *w = NULL;
    oasis_frame frame, small;
    oasis_message why;
    const char *out = path_of("order.mkv");
    assert_int_equal(oasis_writer_open(&w, out, NULL, NULL, 64, 48, NULL), OASIS_OK);
    assert_int_equal(oasis_frame_new(&frame, 64, 48, false), OASIS_OK);
    assert_int_equal(oasis_frame_new(&small, 63, 48, false), OASIS_OK);
    assert_int_equal(oasis_writer_write(w, &frame), OASIS_OK);
    assert_int_equal(oasis_writer_write(w, &frame), OASIS_E_ARGUMENT); /* the same time stamp */
    assert_non_null(strstr(oasis_writer_message(w), "must increase"));
    oasis_writer_close(&w);
    assert_int_equal(oasis_writer_open(&w, out, NULL, NULL, 64, 48, NULL), OASIS_OK);
    assert_int_equal(oasis_writer_write(w, &small), OASIS_E_ARGUMENT);
    assert_non_null(strstr(oasis_writer_message(w), "63x48"));
    oasis_writer_close(&w);
    assert_int_equal(oasis_writer_open(&w, out, NULL, NULL, 64, 48, NULL), OASIS_OK);
    assert_int_equal(oasis_writer_finish(w), OASIS_E_ARGUMENT); /* no frame */
    oasis_writer_close(&w);
    assert_false(exists(out));
    assert_int_equal(oasis_writer_open(&w, out, NULL, NULL, 0, 48, &why), OASIS_E_ARGUMENT);
    assert_int_equal(oasis_writer_open(&w, path_of("no-ending"), NULL, NULL, 64, 48, &why), OASIS_E_UNSUPPORTED);
    assert_non_null(strstr(why.text, ".mkv"));
    oasis_frame_free(&frame);
    oasis_frame_free(&small);
}

static void test_input_is_output(void **state)
{
    (void)state;
    const char *in = clip_path(), *dir = folder("same"), *link_path = inside(dir, "link.mkv");
    int64_t size = size_of(in);
    oasis_message why;
    assert_int_equal(symlink(in, link_path), 0);
    for (int i = 0; i < 4; i++) {
        const char *out = i % 2 ? link_path : in;
        assert_int_equal(try_through(in, out, &(pass){.scale = 1, .overwrite = i >= 2}, &why), OASIS_E_ARGUMENT);
        assert_non_null(strstr(why.text, "input itself"));
    }
    assert_int_equal(size_of(in), size);
}

/* A link is followed: the file that it leads to is replaced. */
static void test_link(void **state)
{
    (void)state;
    const char *dir = folder("links"), *real = inside(dir, "real.mkv"), *name = inside(dir, "name.mkv");
    FILE *f = fopen(real, "wb");
    fputs("old", f);
    fclose(f);
    assert_int_equal(symlink("real.mkv", name), 0);
    oasis_message why;
    assert_int_equal(try_through(clip_path(), name, &(pass){.scale = 1, .overwrite = true}, &why), OASIS_OK);
    struct stat s;
    assert_int_equal(lstat(name, &s), 0);
    assert_true(S_ISLNK(s.st_mode));
    assert_true(size_of(real) > 100);
    assert_int_equal(files_in(dir), 2);
}

static void test_cannot_create(void **state)
{
    (void)state;
    oasis_message why;
    const char *in = clip_path(), *dir = folder("folder.mkv");
    assert_int_equal(try_through(in, path_of("no/such/folder/out.mkv"), &(pass){.scale = 1}, &why), OASIS_E_IO);
    assert_non_null(strstr(why.text, "No such file"));
    assert_int_equal(try_through(in, inside(in, "out.mkv"), &(pass){.scale = 1}, &why), OASIS_E_IO);
    (void)dir;
}

/* /dev/full fails every write with ENOSPC; a limit on the size of files, with EFBIG in the middle. */
static void test_full_disk(void **state)
{
    (void)state;
    const char *in = clip_path(), *dir = folder("full");
    oasis_message why;
    const char *const names[] = {"full.mkv", "full.y4m", "full.png"};
    for (int i = 0; i < 3; i++) {
        const char *out = inside(dir, names[i]);
        assert_int_equal(symlink("/dev/full", out), 0);
        if (try_through(in, out, &(pass){.scale = 2, .frames = i == 2 ? 1 : 0}, &why) != OASIS_E_IO)
            fail_msg("%s: %s", names[i], why.text);
        assert_non_null(strstr(why.text, "No space left"));
        assert_non_null(strstr(why.text, names[i]));
        unlink(out);
    }
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, limit;
    getrlimit(RLIMIT_FSIZE, &old);
    limit = old;
    limit.rlim_cur = 20000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    const char *const limited[] = {"limit.mkv", "limit.mov", "limit.y4m", "limit-%02d.png", "pictures/", "limit.png"};
    oasis_status status[6];
    char text[6][1024];
    for (int i = 0; i < 6; i++) {
        status[i] = try_through(in, inside(dir, limited[i]),
                                &(pass){.scale = 4,
                                        .codec = i < 2 ? "ffv1" : NULL,
                                        .frames = i == 5 ? 1 : 0,
                                        .extra = i < 2 ? "slices=4" : NULL},
                                &why);
        snprintf(text[i], sizeof text[i], "%s", why.text);
    }
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    for (int i = 0; i < 6; i++) {
        if (i == 1) /* a MOV of ffv1 is refused by nobody, or fails alike */
            assert_true(status[i] == OASIS_E_IO || status[i] == OASIS_E_UNSUPPORTED);
        else
            assert_int_equal(status[i], OASIS_E_IO);
        if (status[i] == OASIS_E_IO)
            assert_non_null(strstr(text[i], "File too large"));
    }
    assert_int_equal(files_in(dir), 0);
}

static void test_device(void **state)
{
    (void)state;
    const char *dir = folder("device"), *out = inside(dir, "null.mkv");
    oasis_message why;
    assert_int_equal(symlink("/dev/null", out), 0);
    assert_int_equal(try_through(clip_path(), out, &(pass){.scale = 1}, &why), OASIS_OK);
    const char *mp4 = inside(dir, "null.mp4");
    assert_int_equal(symlink("/dev/null", mp4), 0);
    assert_int_equal(try_through(clip_path(), mp4, &(pass){.scale = 1}, &why), OASIS_E_UNSUPPORTED);
    assert_non_null(strstr(why.text, ".mkv"));
    struct stat s;
    assert_int_equal(stat("/dev/null", &s), 0);
    assert_true(S_ISCHR(s.st_mode));
}

static int tear_down(void **state)
{
    (void)state;
    path_of(NULL);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_existing),
        cmocka_unit_test(test_visible_at_the_end_only),
        cmocka_unit_test(test_frames_in_order),
        cmocka_unit_test(test_input_is_output),
        cmocka_unit_test(test_link),
        cmocka_unit_test(test_cannot_create),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_device),
    };
    oasis_media_set_quiet(true);
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
