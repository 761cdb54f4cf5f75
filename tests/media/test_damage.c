/*
 * Files that are missing, no media, cut short or damaged: one sentence that names the file and the place, never a video
 * with fewer frames and never a false alarm for a file that is only unusual.
 */
#include "clips.h"
#include "through.h"

#include <oasis/video.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads everything; the number of frames, or -1 with the sentence. */
static int read_all(const char *path, int64_t limit, oasis_message *why)
{
    oasis_reader *r = NULL;
    oasis_reader_options o;
    oasis_reader_options_init(&o);
    o.frames = limit;
    why->text[0] = '\0';
    oasis_status status = oasis_reader_open(&r, path, &o, why);
    int n = 0;
    while (status == OASIS_OK) {
        oasis_frame f;
        status = oasis_reader_read(r, &f);
        n += status == OASIS_OK;
        if (status < 0)
            snprintf(why->text, sizeof why->text, "%s", oasis_reader_message(r));
        oasis_frame_free(&f);
    }
    oasis_reader_close(&r);
    if (status == OASIS_END)
        return n;
    assert_true(status == OASIS_E_FORMAT || status == OASIS_E_IO || status == OASIS_E_UNSUPPORTED);
    assert_non_null(strstr(why->text, path)); /* every sentence names the file */
    return -1;
}

static void write_text(const char *path, const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void test_no_media(void **state)
{
    (void)state;
    oasis_message why;
    assert_int_equal(read_all(path_of("missing.mp4"), 0, &why), -1);
    assert_non_null(strstr(why.text, "No such file"));
    const char *empty = path_of("empty.mp4"), *garbage = path_of("garbage.mkv"), *text = path_of("text.avi");
    write_text(empty, "", 0);
    assert_int_equal(read_all(empty, 0, &why), -1);
    assert_non_null(strstr(why.text, "empty"));
    char bytes[5000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * i * 31 + i / 7);
    write_text(garbage, bytes, sizeof bytes);
    assert_int_equal(read_all(garbage, 0, &why), -1);
    write_text(text, "Dear Sir or Madam,\n", 19);
    assert_int_equal(read_all(text, 0, &why), -1);
    write_text(path_of("a.png"), bytes, sizeof bytes);
    assert_int_equal(read_all(path_of("a.png"), 0, &why), -1);
    assert_int_equal(read_all("/proc", 0, &why), -1); /* a folder without pictures */
    assert_non_null(strstr(why.text, "no pictures"));
    /* A wave file: sound, no video. */
    char wave[44 + 800] =
        "RIFF\x44\x03\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\x20\x03\0\0";
    const char *sound = path_of("sound.wav");
    write_text(sound, wave, sizeof wave);
    assert_int_equal(read_all(sound, 0, &why), -1);
    assert_non_null(strstr(why.text, "no video"));
}

typedef struct container {
    const char *name, *codec, *settings, *mux_settings;
    int audio;
    const char *audio_codec;
} container;

static const container containers[] = {
    {"cut.mp4", "libx264", "g=6:bf=2", NULL, 1, "aac"},
    {"front.mp4", "libx264", "g=6:bf=2", "movflags=+faststart", 1, "aac"},
    {"pieces.mp4", "libx264", "g=6", "movflags=+frag_keyframe+empty_moov", 0, NULL},
    {"cut.mov", "prores_ks", NULL, NULL, 1, NULL},
    {"cut.mkv", "libx264", "g=6:bf=2", NULL, 1, NULL},
    {"live.mkv", "libx264", "g=6", "live=1", 1, NULL},
    {"cut.webm", "libvpx-vp9", "lag-in-frames=0", NULL, 0, NULL},
    {"cut.avi", "mpeg4", NULL, NULL, 1, NULL},
    {"cut.y4m", "wrapped_avframe", NULL, NULL, 0, NULL},
};
enum { CONTAINERS = sizeof containers / sizeof *containers, FRAMES = 24 };

static void make(const container *c, const char *path)
{
    make_clip(&(clip){.path = path,
                      .codec = c->codec,
                      .settings = c->settings,
                      .mux_settings = c->mux_settings,
                      .frames = FRAMES,
                      .audio = c->audio,
                      .audio_codec = c->audio_codec,
                      .format = strcmp(c->codec, "prores_ks") == 0 ? AV_PIX_FMT_YUV422P10 : AV_PIX_FMT_YUV420P});
}

/* Whole files raise no alarm; cut anywhere, they do, or all frames are there. */
static void test_cut_short(void **state)
{
    (void)state;
    for (int i = 0; i < CONTAINERS; i++) {
        const char *whole = path_of(containers[i].name);
        char name[40];
        oasis_message why;
        make(&containers[i], whole);
        if (read_all(whole, 0, &why) != FRAMES)
            fail_msg("%s is whole, but: %s", whole, why.text);
        snprintf(name, sizeof name, "short-%s", containers[i].name);
        const char *cut = path_of(name);
        int64_t size = size_of(whole);
        int noticed = 0;
        for (int64_t n = size - 1; n > 0; n -= 1 + size / 29) {
            copy_part(whole, cut, n);
            int frames = read_all(cut, 0, &why);
            if (frames >= 0 && frames != FRAMES)
                fail_msg("%s cut to %lld of %lld bytes gave %d frames without a word", whole, (long long)n,
                         (long long)size, frames);
            noticed += frames < 0;
        }
        assert_true(noticed >= 20); /* of 29: only the index or sound behind the last frame may be missed */
    }
}

/* What is there of a cut file can be had by asking for less. */
static void test_part_of_cut(void **state)
{
    (void)state;
    const char *whole = path_of("part.mp4"), *cut = path_of("part-cut.mp4"), *out = path_of("part-out.mkv");
    oasis_message why;
    make(&containers[1], whole);
    copy_part(whole, cut, size_of(whole) * 3 / 4);
    assert_int_equal(read_all(cut, 0, &why), -1);
    assert_non_null(strstr(why.text, "cut short"));
    assert_int_equal(read_all(cut, 6, &why), 6);
    assert_int_equal(read_all(cut, FRAMES, &why), -1);
    assert_int_equal(try_through(cut, out, &(pass){.scale = 1, .frames = FRAMES}, &why), OASIS_E_FORMAT);
    assert_false(exists(out));
}

/* Zeros over the middle of the pictures' data: every decoder's way to go on in silence is noticed. */
static void test_hole(void **state)
{
    (void)state;
    const struct {
        const char *codec, *settings;
        enum AVPixelFormat format;
    } cases[] = {{"libx264", "g=6:bf=2", AV_PIX_FMT_YUV420P},
                 {"libx265", "g=6:x265-params=log-level=none", AV_PIX_FMT_YUV420P},
                 {"mpeg4", "g=6:b=2000000", AV_PIX_FMT_YUV420P},
                 {"mpeg2video", "g=6:b=2000000", AV_PIX_FMT_YUV420P},
                 {"libvpx-vp9", "lag-in-frames=0:b=2000000", AV_PIX_FMT_YUV420P},
                 {"prores_ks", NULL, AV_PIX_FMT_YUV422P10}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *whole = path_of("hole.mkv"), *bad = path_of("hole-bad.mkv");
        oasis_message why;
        make_clip(&(clip){.path = whole,
                          .codec = cases[i].codec,
                          .settings = cases[i].settings,
                          .frames = FRAMES,
                          .format = cases[i].format,
                          .width = 128,
                          .height = 96,
                          .mux_settings = "write_crc32=0"});
        assert_int_equal(read_all(whole, 0, &why), FRAMES);
        copy_part(whole, bad, size_of(whole));
        FILE *f = fopen(bad, "r+b");
        fseek(f, (long)(size_of(whole) * 2 / 3), SEEK_SET);
        for (int64_t k = 0; k < size_of(whole) / 8; k++)
            fputc(0, f);
        fclose(f);
        int n = read_all(bad, 0, &why);
        if (n >= 0)
            fail_msg("%s with a hole gave %d frames without a word", cases[i].codec, n);
        if (!strstr(why.text, "damaged at frame") || !strstr(why.text, "--start"))
            fail_msg("%s: %s", cases[i].codec, why.text);
    }
}

/* Unusual, but nothing is missing. */
static void test_no_false_alarm(void **state)
{
    (void)state;
    oasis_message why;
    /* A late start, an edit list, a start before 0 by B-frames. */
    static const int64_t late[] = {50, 51, 52, 53, 54, 55};
    const char *path = path_of("late.mp4");
    make_clip(&(clip){.path = path,
                      .codec = "libx264",
                      .settings = "bf=2",
                      .frames = 6,
                      .pts = late,
                      .audio = 1,
                      .audio_codec = "aac"});
    assert_int_equal(read_all(path, 0, &why), 6);
    /* Something behind the end, as some cameras and downloads leave it. */
    FILE *f = fopen(path, "ab");
    fputs("some bytes that are no box of MP4 at all", f);
    fclose(f);
    assert_int_equal(read_all(path, 0, &why), 6);
    const char *mkv = path_of("behind.mkv");
    make(&containers[4], mkv);
    f = fopen(mkv, "ab");
    for (int i = 0; i < 100; i++)
        fputc(0, f);
    fclose(f);
    assert_int_equal(read_all(mkv, 0, &why), FRAMES);
    /* MPEG-TS, also cut between two packets and begun in the middle. */
    const char *ts = path_of("a.ts"), *piece = path_of("piece.ts");
    make_clip(&(clip){
        .path = ts, .codec = "libx264", .settings = "g=6:bf=0", .frames = 20, .audio = 1, .audio_codec = "mp2"});
    assert_int_equal(read_all(ts, 0, &why), 20);
    FILE *in = fopen(ts, "rb");
    int64_t size = size_of(ts), skip = size / 188 / 3 * 188;
    char *bytes = malloc((size_t)size);
    assert_int_equal(fread(bytes, 1, (size_t)size, in), size);
    fclose(in);
    write_text(piece, bytes + skip, (size_t)(size - skip));
    free(bytes);
    int n = read_all(piece, 0, &why);
    assert_true(n > 5 && n < 20);
    /* FLV, AVI with packed B-frames, raw H.264: no index, or one that counts otherwise. */
    const struct {
        const char *name, *codec, *settings;
    } others[] = {{"a.flv", "libx264", "bf=2"},
                  {"b.avi", "mpeg4", NULL},
                  {"a.h264", "libx264", "bf=2"},
                  {"a.mpg", "mpeg2video", "bf=2"},
                  {"c.avi", "mpeg4", "bf=2"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        path = path_of(others[i].name);
        make_clip(&(clip){.path = path, .codec = others[i].codec, .settings = others[i].settings, .frames = 20});
        n = read_all(path, 0, &why);
        if (n != 20)
            fail_msg("%s: %d frames of 20: %s", path, n, why.text);
    }
}

/* The picture's size changes on the way. */
static void test_size_changes(void **state)
{
    (void)state;
    oasis_message why;
    const char *a = path_of("a.h264"), *b = path_of("b.h264"), *both = path_of("both.h264");
    make_clip(&(clip){.path = a, .codec = "libx264", .frames = 4});
    make_clip(&(clip){.path = b, .codec = "libx264", .frames = 4, .width = 96});
    char command[1200];
    snprintf(command, sizeof command, "cat '%s' '%s' > '%s'", a, b, both);
    assert_int_equal(system(command), 0);
    assert_int_equal(read_all(both, 0, &why), -1);
    assert_non_null(strstr(why.text, "96x48"));
    assert_non_null(strstr(why.text, "frame 5"));
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
        cmocka_unit_test(test_no_media), cmocka_unit_test(test_cut_short),      cmocka_unit_test(test_part_of_cut),
        cmocka_unit_test(test_hole),     cmocka_unit_test(test_no_false_alarm), cmocka_unit_test(test_size_changes),
    };
    oasis_media_set_quiet(true);
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
