/*
 * Pictures: single ones, folders, patterns, bit depths, damage; YUV4MPEG2 through pipes; interlaced video.
 */
#include "clips.h"
#include "through.h"

#include "video/pictures.h"
#include "video/timestamps.h"

#include <oasis/video.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *folder(const char *name)
{
    const char *path = path_of(name);
    assert_int_equal(mkdir(path, 0777), 0);
    return path;
}

static const char *inside(const char *folder, const char *name)
{
    static char paths[16][700];
    static int next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* A picture whose every value is `level` of 255. */
static void make_picture(const char *path, int level, int width, int height)
{
    oasis_writer *w = NULL;
    oasis_frame f;
    oasis_message why = {""};
    if (oasis_writer_open(&w, path, NULL, NULL, width, height, &why) != OASIS_OK)
        fail_msg("%s", why.text);
    assert_int_equal(oasis_frame_new(&f, width, height, false), OASIS_OK);
    for (int i = 0; i < width * height * 3; i++)
        f.rgb[i] = (float)level / 255;
    assert_int_equal(oasis_writer_write(w, &f), OASIS_OK);
    assert_int_equal(oasis_writer_finish(w), OASIS_OK);
    oasis_writer_close(&w);
    oasis_frame_free(&f);
}

static int level_of(const char *path)
{
    oasis_reader *r = NULL;
    oasis_frame f;
    oasis_message why = {""};
    if (oasis_reader_open(&r, path, NULL, &why) != OASIS_OK)
        fail_msg("%s", why.text);
    assert_int_equal(oasis_reader_read(r, &f), OASIS_OK);
    int level = (int)lrintf(f.rgb[0] * 255);
    oasis_frame_free(&f);
    oasis_reader_close(&r);
    return level;
}

static void test_single(void **state)
{
    (void)state;
    const struct {
        const char *name;
        int tolerance; /* lossy kinds: a level of grey */
    } kinds[] = {{"one.png", 0},  {"one.jpg", 1}, {"one.tif", 0}, {"one.bmp", 0},
                 {"one.webp", 2}, {"one.ppm", 0}, {"one.tga", 0}, {"one.TIFF", 0}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *path = path_of(kinds[i].name), *png = path_of("single.png");
        make_picture(path, 100, 33, 21);
        assert_in_range(level_of(path), 100 - kinds[i].tolerance, 100 + kinds[i].tolerance);
        assert_int_equal(pass_through(path, png, &(pass){.scale = 3, .overwrite = true}), 1);
        seen s;
        look(&s, png);
        assert_int_equal(s.frames[0]->width, 99);
        assert_int_equal(s.frames[0]->height, 63);
        look_away(&s);
    }
    oasis_reader *r = NULL;
    oasis_media_info info;
    assert_int_equal(oasis_reader_open(&r, path_of("one.jpg"), NULL, NULL), OASIS_OK);
    oasis_reader_info(r, &info);
    assert_int_equal(info.kind, OASIS_INPUT_PICTURE);
    assert_int_equal(info.frames, 1);
    assert_string_equal(info.codec, "mjpeg");
    oasis_reader_close(&r);
    /* A name that lies about what is in the file. */
    assert_int_equal(rename(path_of("one.png"), path_of("liar.jpg")), 0);
    assert_int_equal(level_of(path_of("liar.jpg")), 100);
}

/* 16 bits in, 16 bits out, every code. */
static void ramp16(AVFrame *f, int k)
{
    (void)k;
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width * 3; x++) {
            unsigned v = (unsigned)(y * f->width * 3 + x) * 7 % 65536;
            f->data[0][y * f->linesize[0] + 2 * x] = (uint8_t)(v >> 8);
            f->data[0][y * f->linesize[0] + 2 * x + 1] = (uint8_t)v;
        }
}

static void test_sixteen_bits(void **state)
{
    (void)state;
    const char *in = path_of("deep.png");
    clip c = {.path = path_of("deep.mkv"), .codec = "png", .format = AV_PIX_FMT_RGB48BE, .frames = 1, .fill = ramp16};
    make_clip(&c);
    pass_through(c.path, in, &(pass){.scale = 1, .frames = 1});
    const char *const outs[] = {"deep-out.png", "deep-out.tif"};
    for (int i = 0; i < 2; i++) {
        const char *out = path_of(outs[i]);
        assert_int_equal(pass_through(in, out, &(pass){.scale = 1}), 1);
        AVFrame *frame = av_frame_alloc(), *original = clip_picture(&c, 0);
        assert_int_equal(oas_picture_decode(out, frame, NULL, NULL), OASIS_OK);
        assert_int_equal(frame->format, i == 0 ? AV_PIX_FMT_RGB48BE : AV_PIX_FMT_RGB48LE);
        for (int y = 0; y < 48; y++)
            for (int x = 0; x < 64 * 3; x++) {
                const uint8_t *p = original->data[0] + y * original->linesize[0] + 2 * x;
                const uint8_t *q = frame->data[0] + y * frame->linesize[0] + 2 * x;
                assert_int_equal(p[0] << 8 | p[1], i == 0 ? q[0] << 8 | q[1] : q[1] << 8 | q[0]);
            }
        av_frame_free(&frame);
        av_frame_free(&original);
    }
}

static void test_folder(void **state)
{
    (void)state;
    const char *dir = folder("shots"), *out = path_of("shots-out");
    /* Natural order: 2 before 10; other files and hidden ones are no pictures. */
    const char *const names[] = {"a1.png", "a2.png", "a10.png", "b.png"};
    for (int i = 0; i < 4; i++)
        make_picture(inside(dir, names[i]), 10 * (i + 1), 16, 12);
    make_picture(inside(dir, ".hidden.png"), 99, 16, 12);
    FILE *f = fopen(inside(dir, "Thumbs.db"), "wb");
    fputs("no picture", f);
    fclose(f);
    assert_int_equal(pass_through(dir, out, &(pass){.scale = 2}), 4);
    assert_int_equal(files_in(out), 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(level_of(inside(out, names[i])), 10 * (i + 1));
    /* Again: refused, what is there stays; with overwrite it is replaced, other files stay. */
    oasis_message why;
    make_picture(inside(out, "other.png"), 7, 16, 12);
    assert_int_equal(try_through(dir, out, &(pass){.scale = 1}, &why), OASIS_E_IO);
    assert_non_null(strstr(why.text, "a1.png"));
    assert_int_equal(files_in(out), 5);
    assert_int_equal(pass_through(dir, out, &(pass){.scale = 1, .overwrite = true}), 4);
    assert_int_equal(files_in(out), 5);
    assert_int_equal(level_of(inside(out, "other.png")), 7);
    /* Part of it, to a video at 24 frames a second, and to JPEG. */
    const char *video = path_of("shots.mkv"), *jpeg = path_of("jpegs/");
    assert_int_equal(pass_through(dir, video, &(pass){.scale = 2, .start = 1.0 / 24, .frames = 2, .codec = "ffv1"}), 2);
    seen s;
    look(&s, video);
    assert_int_equal(s.n_frames, 2);
    assert_int_equal(s.frames[0]->best_effort_timestamp, 0);
    assert_int_equal(s.frames[1]->best_effort_timestamp, 42);
    look_away(&s);
    assert_int_equal(pass_through(dir, jpeg, &(pass){.scale = 1, .start = 1.0 / 24, .codec = "mjpeg"}), 3);
    assert_in_range(level_of(inside(jpeg, "a2.jpg")), 19, 21);
    assert_int_equal(files_in(jpeg), 3);
    /* One of another size. */
    make_picture(inside(dir, "a3.png"), 1, 18, 12);
    assert_int_equal(try_through(dir, path_of("never/"), &(pass){.scale = 1}, &why), OASIS_E_UNSUPPORTED);
    assert_non_null(strstr(why.text, "a3.png"));
    assert_false(exists(path_of("never")));
}

static void test_pattern(void **state)
{
    (void)state;
    const char *dir = folder("pattern"), *in = inside(dir, "in-%03d.png"), *out = inside(dir, "out-%02d.png");
    char name[40];
    for (int i = 7; i < 12; i++) {
        snprintf(name, sizeof name, "in-%03d.png", i);
        make_picture(inside(dir, name), 3 * i, 16, 12);
    }
    make_picture(inside(dir, "in-1.png"), 1, 16, 12);    /* not of three digits */
    make_picture(inside(dir, "in-0005.png"), 1, 16, 12); /* neither */
    assert_int_equal(pass_through(in, out, &(pass){.scale = 1}), 5);
    assert_int_equal(level_of(inside(dir, "out-07.png")), 21);
    assert_int_equal(level_of(inside(dir, "out-11.png")), 33);
    assert_int_equal(files_in(dir), 5 + 2 + 5);
    oasis_message why;
    assert_int_equal(try_through(in, out, &(pass){.scale = 1}, &why), OASIS_E_IO);
    assert_non_null(strstr(why.text, "out-07.png"));
    unlink(inside(dir, "in-009.png"));
    assert_int_equal(try_through(in, out, &(pass){.scale = 1, .overwrite = true}, &why), OASIS_E_IO);
    assert_non_null(strstr(why.text, "in-009.png"));
    assert_int_equal(try_through(inside(dir, "none-%d.png"), out, &(pass){.scale = 1}, &why), OASIS_E_IO);
    /* From a video, numbered from 1; one name for many frames is refused before any work. */
    const char *video = path_of("video.mkv"), *shots = inside(dir, "v%d.tif");
    make_clip(&(clip){.path = video, .frames = 3});
    assert_int_equal(pass_through(video, shots, &(pass){.scale = 1}), 3);
    assert_true(exists(inside(dir, "v1.tif")) && exists(inside(dir, "v3.tif")) && !exists(inside(dir, "v0.tif")));
    assert_int_equal(try_through(video, inside(dir, "one.png"), &(pass){.scale = 1}, &why), OASIS_E_ARGUMENT);
    assert_non_null(strstr(why.text, "--frames 1"));
    const char *bad[] = {"%s.png", "%d-%d.png", "%5d.png", "%n.png", "%.png", "%04ld.png", "%099d.png"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(oas_is_pattern(bad[i]));
    char *path = oas_pattern_path("100%%-%03d%%.png", 7);
    assert_string_equal(path, "100%-007%.png");
    av_free(path);
}

static void test_damaged_pictures(void **state)
{
    (void)state;
    const char *const names[] = {"whole.png", "whole.jpg", "whole.tif", "whole.bmp"};
    for (int i = 0; i < 4; i++) {
        const char *whole = path_of(names[i]);
        char name[40];
        snprintf(name, sizeof name, "cut-%s", names[i]);
        const char *cut = path_of(name);
        make_picture(whole, 77, 61, 47); /* a TIFF ends with the place of a next one, which may be missing */
        for (int64_t n = size_of(whole) - 8; n >= 0; n -= 1 + size_of(whole) / 13) {
            oasis_reader *r = NULL;
            oasis_message why = {""};
            copy_part(whole, cut, n);
            oasis_status status = oasis_reader_open(&r, cut, NULL, &why);
            if (status >= 0)
                fail_msg("%s, %lld of %lld bytes, is read", names[i], (long long)n, (long long)size_of(whole));
            assert_non_null(strstr(why.text, cut));
        }
    }
}

/* ---- pipes -------------------------------------------------------------------------------------------------------- */

/* Runs a pass in a child whose standard input and output are files; nothing but the video may come out. */
static int piped(const char *in, const char *out, const pass *p)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int from = open(in ? in : "/dev/null", O_RDONLY),
            to = open(out ? out : "/dev/null", O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (dup2(from, 0) < 0 || dup2(to, 1) < 0)
            _exit(99);
        oasis_message why;
        oasis_status status =
            try_through(in ? "-" : path_of("piped.mkv"), out ? "-" : path_of("piped-out.mkv"), p, &why);
        if (status != OASIS_OK)
            fprintf(stderr, "%s\n", why.text);
        _exit(status == OASIS_OK ? 0 : -(int)status);
    }
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    return WIFEXITED(result) ? WEXITSTATUS(result) : -1;
}

static void test_pipes(void **state)
{
    (void)state;
    clip c = {.path = path_of("piped.mkv"), .format = AV_PIX_FMT_YUV444P10, .frames = 4, .audio = 1};
    make_clip(&c);
    const char *y4m = path_of("a.y4m"), *again = path_of("b.y4m");
    assert_int_equal(piped(NULL, y4m, &(pass){.scale = 1, .pixel_format = "yuv444p10le"}), 0);
    assert_int_equal(piped(y4m, again, &(pass){.scale = 1, .pixel_format = "yuv444p10le"}), 0);
    seen s;
    look(&s, again);
    assert_int_equal(s.n_frames, 4);
    for (int k = 0; k < 4; k++) {
        AVFrame *original = clip_picture(&c, k);
        assert_int_equal(s.frames[k]->format, AV_PIX_FMT_YUV444P10);
        for (int n = 0; n < 3; n++)
            for (int y = 0; y < 48; y++)
                assert_memory_equal(original->data[n] + y * original->linesize[n],
                                    s.frames[k]->data[n] + y * s.frames[k]->linesize[n], 128);
        av_frame_free(&original);
    }
    look_away(&s);
    assert_int_equal(piped(again, NULL, &(pass){.scale = 2}), 0);
    look(&s, path_of("piped-out.mkv"));
    assert_int_equal(s.n_frames, 4);
    look_away(&s);
    /* Cut short, empty, something else. */
    const char *cut = path_of("cut.y4m");
    copy_part(again, cut, size_of(again) - 5000);
    assert_int_equal(piped(cut, NULL, &(pass){.scale = 1, .overwrite = true}), -OASIS_E_FORMAT);
    assert_int_not_equal(piped("/dev/null", NULL, &(pass){.scale = 1, .overwrite = true}), 0);
    assert_int_not_equal(piped(c.path, NULL, &(pass){.scale = 1, .overwrite = true}), 0);
    assert_int_equal(piped(y4m, "/dev/full", &(pass){.scale = 1}), -OASIS_E_IO);
}

/* ---- interlaced --------------------------------------------------------------------------------------------------- */

/* Even lines show a bar 8 columns behind the odd ones. */
static void combed(AVFrame *f, int k)
{
    for (int p = 0; p < 3; p++)
        for (int y = 0; y < (p ? f->height / 2 : f->height); y++)
            for (int x = 0; x < (p ? f->width / 2 : f->width); x++)
                f->data[p][y * f->linesize[p] + x] = p ? 128 : (x + 4 * k + 8 * (y % 2)) % 32 < 16 ? 200 : 40;
}

/* How much neighbouring lines differ, on the average. */
static double combing(const AVFrame *f)
{
    double sum = 0;
    for (int y = 8; y < f->height - 8; y++)
        for (int x = 0; x < f->width; x++)
            sum += abs(f->data[0][y * f->linesize[0] + x] - f->data[0][(y + 1) * f->linesize[0] + x]);
    return sum / (f->width * (f->height - 16));
}

static void test_interlaced(void **state)
{
    (void)state;
    for (int frames = 1; frames <= 9; frames += 4) {
        const char *in = path_of("interlaced.mkv"), *out = path_of("whole.mkv");
        oasis_message why;
        make_clip(&(clip){.path = in,
                          .codec = "mpeg2video",
                          .settings = "b=4000000:bf=2",
                          .frames = frames,
                          .top_field_first = true,
                          .fill = combed});
        assert_int_equal(try_through(in, out, &(pass){.scale = 1, .overwrite = true}, &why), OASIS_E_UNSUPPORTED);
        assert_non_null(strstr(why.text, "--deinterlace"));
        assert_int_equal(
            pass_through(in, out, &(pass){.scale = 1, .overwrite = true, .deinterlace = true, .codec = "ffv1"}),
            frames);
        seen a, b;
        look(&a, in);
        look(&b, out);
        assert_int_equal(b.n_frames, frames);
        for (int i = 0; i < frames; i++) {
            assert_int_equal(b.frames[i]->best_effort_timestamp, a.frames[i]->best_effort_timestamp);
            assert_false(b.frames[i]->interlaced_frame);
        }
        if (frames > 2) /* bwdif leaves nothing of the comb but edges */
            assert_true(combing(b.frames[1]) < combing(a.frames[1]) / 3);
        look_away(&a);
        look_away(&b);
    }
    /* Only the container says it; and nobody does, but --deinterlace is given. */
    for (int said = 1; said >= 0; said--) {
        const char *in = path_of("raw.mkv"), *out = path_of("raw-out.mkv");
        oasis_message why;
        make_clip(&(clip){.path = in, .codec = "ffv1", .frames = 4, .top_field_first = said, .fill = combed});
        assert_int_equal(try_through(in, out, &(pass){.scale = 1, .overwrite = true}, &why),
                         said ? OASIS_E_UNSUPPORTED : OASIS_OK);
        assert_int_equal(
            pass_through(in, out, &(pass){.scale = 1, .overwrite = true, .deinterlace = true, .codec = "ffv1"}), 4);
        seen b;
        look(&b, out);
        assert_true(combing(b.frames[1]) < 40);
        look_away(&b);
    }
}

/* ---- time stamps -------------------------------------------------------------------------------------------------- */

static void test_repair(void **state)
{
    (void)state;
    const int64_t none = AV_NOPTS_VALUE;
    const struct {
        int64_t in[6], out[6];
    } cases[] = {
        {{0, 40, 80, 120, 160, 200}, {0, 40, 80, 120, 160, 200}},             /* nothing to do */
        {{5, 6, 900, 901, 5000, 5001}, {5, 6, 900, 901, 5000, 5001}},         /* uneven, but rising */
        {{none, none, none, none, none, none}, {0, 40, 80, 120, 160, 200}},   /* none at all */
        {{100, none, 180, none, 260, 300}, {100, 140, 180, 220, 260, 300}},   /* some missing */
        {{0, 40, 40, 80, 120, 160}, {0, 40, 41, 80, 120, 160}},               /* the same twice */
        {{0, 40, 20, 80, 120, 160}, {0, 40, 41, 80, 120, 160}},               /* back by half a frame */
        {{7000, 7040, 0, 40, 80, 120}, {7000, 7040, 7080, 7120, 7160, 7200}}, /* a new clock */
        {{-80, -40, 0, 40, 80, 120}, {-80, -40, 0, 40, 80, 120}},             /* before 0 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oas_timestamps t;
        oas_timestamps_init(&t, (AVRational){25, 1}, (AVRational){1, 1000});
        for (int k = 0; k < 6; k++)
            assert_int_equal(oas_timestamps_next(&t, cases[i].in[k]), cases[i].out[k]);
    }
}

/* Time stamps that go back in a real file: as many frames out, in order. */
static void test_broken_times(void **state)
{
    (void)state;
    const char *a = path_of("one.ts"), *both = path_of("both.ts"), *out = path_of("both.mkv");
    make_clip(&(clip){.path = a, .codec = "libx264", .settings = "bf=2", .frames = 10});
    char command[1200];
    snprintf(command, sizeof command, "cat '%s' '%s' > '%s'", a, a, both);
    assert_int_equal(system(command), 0);
    int n = pass_through(both, out, &(pass){.scale = 1});
    assert_int_equal(n, 20);
    seen s;
    look(&s, out);
    assert_int_equal(s.n_frames, 20);
    assert_int_equal(s.frames[0]->best_effort_timestamp, 0);
    for (int i = 1; i < 20; i++)
        assert_int_equal(s.frames[i]->best_effort_timestamp - s.frames[i - 1]->best_effort_timestamp, 40);
    look_away(&s);
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
        cmocka_unit_test(test_single),     cmocka_unit_test(test_sixteen_bits),     cmocka_unit_test(test_folder),
        cmocka_unit_test(test_pattern),    cmocka_unit_test(test_damaged_pictures), cmocka_unit_test(test_pipes),
        cmocka_unit_test(test_interlaced), cmocka_unit_test(test_repair),           cmocka_unit_test(test_broken_times),
    };
    oasis_media_set_quiet(true);
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
