/*
 * Decoding by hardware: the frames must be those of software, wherever and however hardware fails.  A stand-in that decodes
 * in software and fails on demand is everywhere; NVDEC itself where there is a GPU, else the same files show that nothing
 * is lost without one.
 */
#include "clips.h"
#include "through.h"
#include "video/hardware.h"
#include "video/source.h"

#include <oasis/video.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <libavutil/pixdesc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a stand-in --------------------------------------------------------------------------------------------------- */

static int good_pictures; /* how many the stand-in decodes before it fails; below 0: there is no device */
static int fetched;

static const AVCodec *stand_in_decoder(enum AVCodecID id)
{
    return avcodec_find_decoder(id);
}

static int stand_in_attach(AVCodecContext *decoder, int index)
{
    assert_int_equal(index, 3);
    (void)decoder;
    return good_pictures < 0 ? AVERROR(ENODEV) : 0;
}

static int stand_in_fetch(const AVCodecContext *decoder, AVFrame *frame)
{
    (void)decoder;
    (void)frame;
    return fetched++ < good_pictures ? 0 : AVERROR(EIO);
}

static const oas_hardware stand_in = {stand_in_decoder, stand_in_attach, stand_in_fetch};

/* ---- comparing ---------------------------------------------------------------------------------------------------- */

static oasis_reader *open_on(const char *path, const oasis_reader_options *options, const oas_hardware *hardware)
{
    oasis_reader *r = NULL;
    oasis_message why = {""};
    if (oasis_reader_open(&r, path, options, &why) != OASIS_OK)
        fail_msg("%s", why.text);
    if (hardware)
        oas_reader_use(r, hardware, 3);
    return r;
}

/* Reads both to their ends; the number of frames.  Ends in the same way, too. */
static int assert_same(oasis_reader *a, oasis_reader *b)
{
    for (int n = 0;; n++) {
        oasis_frame f, g;
        oasis_status status = oasis_reader_read(a, &f);
        assert_int_equal(oasis_reader_read(b, &g), status);
        if (status != OASIS_OK) {
            if (status != OASIS_END)
                assert_string_equal(oasis_reader_message(a), oasis_reader_message(b));
            return n;
        }
        assert_int_equal(f.pts, g.pts);
        assert_int_equal(f.duration, g.duration);
        assert_int_equal(f.width, g.width);
        assert_int_equal(f.height, g.height);
        assert_memory_equal(f.rgb, g.rgb, sizeof(float) * 3 * (size_t)f.width * (size_t)f.height);
        oasis_frame_free(&f);
        oasis_frame_free(&g);
    }
}

/* By software and by the stand-in that fails after `good` pictures. */
static int compare(const char *path, const oasis_reader_options *options, int good, bool *on)
{
    good_pictures = good;
    fetched = 0;
    oasis_reader *a = open_on(path, options, NULL), *b = open_on(path, options, &stand_in);
    int n = assert_same(a, b);
    *on = oas_reader_is_on_hardware(b);
    oasis_reader_close(&a);
    oasis_reader_close(&b);
    return n;
}

/* ---- tests -------------------------------------------------------------------------------------------------------- */

enum { FRAMES = 14 };

static void test_failing_anywhere(void **state)
{
    (void)state;
    static const char *const names[] = {"any.mkv", "any.mp4", "any.ts"};
    static const int64_t uneven[FRAMES] = {0, 3, 4, 9, 10, 11, 20, 21, 22, 23, 30, 31, 40, 41};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        clip c = {.path = path_of(names[i]), .codec = "libx264", .settings = "g=5:bf=2", .frames = FRAMES};
        c.pts = i < 2 ? uneven : NULL;
        make_clip(&c);
        for (int good = -1; good <= FRAMES + 1; good++) {
            bool on;
            assert_int_equal(compare(c.path, NULL, good, &on), FRAMES);
            assert_int_equal(on, good >= FRAMES);
        }
    }
}

static void test_failing_in_a_part(void **state)
{
    (void)state;
    const char *path = path_of("part.mkv");
    make_clip(&(clip){.path = path, .codec = "libx264", .settings = "g=5:bf=2", .frames = FRAMES});
    for (int start = 0; start < FRAMES; start += 3) {
        oasis_reader_options o;
        oasis_reader_options_init(&o);
        o.start = start / 25.;
        o.frames = 4;
        for (int good = -1; good < 9; good++) {
            bool on;
            int expected = FRAMES - start < 4 ? FRAMES - start : 4;
            assert_int_equal(compare(path, &o, good, &on), expected);
        }
    }
    const char *fields = path_of("fields.mkv");
    make_clip(&(clip){.path = fields, .codec = "libx264", .frames = 6, .top_field_first = true});
    oasis_reader_options o;
    oasis_reader_options_init(&o);
    o.deinterlace = true;
    for (int good = -1; good < 8; good++) {
        bool on;
        assert_int_equal(compare(fields, &o, good, &on), 6);
    }
}

/* Software decides what is damaged, and says it in its own words. */
static void test_damaged(void **state)
{
    (void)state;
    const char *path = path_of("whole.mkv"), *cut = path_of("cut.mkv");
    make_clip(&(clip){.path = path, .codec = "libx264", .settings = "g=5:bf=2", .frames = FRAMES});
    copy_part(path, cut, size_of(path) * 2 / 3);
    oasis_reader_options o;
    oasis_reader_options_init(&o);
    o.frames = 1000; /* a part may be cut short; reading stops with an error at the place */
    for (int good = -1; good < FRAMES; good++) {
        bool on;
        int n = compare(cut, &o, good, &on);
        assert_true(n > 0 && n < FRAMES && !on);
    }
}

/* What the writer holds on to lives on when the file is opened again. */
static void test_writing_on(void **state)
{
    (void)state;
    const char *in = path_of("in.mkv"), *out[2] = {path_of("plain.mkv"), path_of("switched.mkv")};
    make_clip(&(clip){.path = in,
                      .codec = "libx264",
                      .frames = FRAMES,
                      .audio = 1,
                      .subtitles = true,
                      .chapters = true,
                      .attachment = true,
                      .mastering = true});
    oasis_message why = {""};
    for (int i = 0; i < 2; i++) {
        good_pictures = FRAMES / 2;
        fetched = 0;
        oasis_reader *r = open_on(in, NULL, i ? &stand_in : NULL);
        oasis_writer *w = NULL;
        oasis_writer_options o;
        oasis_writer_options_init(&o);
        o.codec = "ffv1";
        if (oasis_writer_open(&w, out[i], &o, r, 64, 48, &why) != OASIS_OK)
            fail_msg("%s", why.text);
        oasis_frame f;
        while (oasis_reader_read(r, &f) == OASIS_OK) {
            assert_int_equal(oasis_writer_write(w, &f), OASIS_OK);
            oasis_frame_free(&f);
        }
        assert_int_equal(oasis_writer_finish(w), OASIS_OK);
        oasis_writer_close(&w);
        oasis_reader_close(&r);
    }
    seen s, t;
    look(&s, out[0]);
    look(&t, out[1]);
    assert_int_equal(s.format->nb_streams, t.format->nb_streams);
    assert_int_equal(s.format->nb_chapters, t.format->nb_chapters);
    assert_int_equal(s.n_packets, t.n_packets);
    for (int i = 0; i < s.n_packets; i++) {
        assert_int_equal(s.packets[i].stream, t.packets[i].stream);
        assert_int_equal(s.packets[i].pts, t.packets[i].pts);
        assert_int_equal(s.packets[i].duration, t.packets[i].duration);
        assert_int_equal(s.packets[i].sum, t.packets[i].sum);
    }
    look_away(&s);
    look_away(&t);
}

static AVFrame *picture(enum AVPixelFormat format)
{
    AVFrame *f = av_frame_alloc();
    f->format = format;
    f->width = 35;
    f->height = 17;
    assert_int_equal(av_frame_get_buffer(f, 0), 0);
    return f;
}

/* Sample x of row y of a component, as the GPU stores it. */
static int code(int component, int x, int y, int depth)
{
    return (component * 71 + x * 13 + y * 57) & ((1 << depth) - 1);
}

static void test_layouts(void **state)
{
    (void)state;
    static const struct {
        enum AVPixelFormat gpu, software;
        int depth, words; /* words of how many bits; 0: refused */
    } cases[] = {{AV_PIX_FMT_NV12, AV_PIX_FMT_YUV420P, 8, 8},          {AV_PIX_FMT_NV12, AV_PIX_FMT_YUVJ420P, 8, 8},
                 {AV_PIX_FMT_P010, AV_PIX_FMT_YUV420P10, 10, 16},      {AV_PIX_FMT_P016, AV_PIX_FMT_YUV420P12, 12, 16},
                 {AV_PIX_FMT_P016, AV_PIX_FMT_YUV420P10, 10, 16},      {AV_PIX_FMT_YUV444P, AV_PIX_FMT_YUV444P, 8, 8},
                 {AV_PIX_FMT_YUV444P16, AV_PIX_FMT_YUV444P10, 10, 16}, {AV_PIX_FMT_NV12, AV_PIX_FMT_GRAY8, 8, 0},
                 {AV_PIX_FMT_NV12, AV_PIX_FMT_YUV444P, 8, 0},          {AV_PIX_FMT_NV12, AV_PIX_FMT_YUV420P10, 8, 0},
                 {AV_PIX_FMT_P010, AV_PIX_FMT_YUV420P12, 12, 0},       {AV_PIX_FMT_P010, AV_PIX_FMT_YUV420P, 8, 0},
                 {AV_PIX_FMT_CUDA, AV_PIX_FMT_YUV420P, 8, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool real = cases[i].gpu != AV_PIX_FMT_CUDA;
        AVFrame *in = real ? picture(cases[i].gpu) : av_frame_alloc(), *out = picture(cases[i].software);
        if (!real)
            in->format = cases[i].gpu;
        const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(cases[i].gpu), *e = av_pix_fmt_desc_get(cases[i].software);
        bool deep = cases[i].words == 16;
        for (int c = 0; real && c < 3; c++)
            for (int y = 0; y < (c ? AV_CEIL_RSHIFT(17, d->log2_chroma_h) : 17); y++)
                for (int x = 0; x < (c ? AV_CEIL_RSHIFT(35, d->log2_chroma_w) : 35); x++) {
                    uint8_t *p = in->data[d->comp[c].plane] + y * in->linesize[d->comp[c].plane] + x * d->comp[c].step +
                                 d->comp[c].step / 2 * (c == 2 && d->comp[1].plane == d->comp[2].plane);
                    int v = code(c, x, y, cases[i].depth);
                    if (deep)
                        *(uint16_t *)(void *)p = (uint16_t)(v << (16 - cases[i].depth));
                    else
                        *p = (uint8_t)v;
                }
        assert_int_equal(oas_hardware_unpack(out, in), cases[i].words != 0);
        for (int c = 0; cases[i].words && c < 3; c++)
            for (int y = 0; y < (c ? AV_CEIL_RSHIFT(17, e->log2_chroma_h) : 17); y++)
                for (int x = 0; x < (c ? AV_CEIL_RSHIFT(35, e->log2_chroma_w) : 35); x++) {
                    const uint8_t *p = out->data[c] + y * out->linesize[c] + x * (deep ? 2 : 1);
                    assert_int_equal(deep ? *(const uint16_t *)(const void *)p : *p, code(c, x, y, cases[i].depth));
                }
        av_frame_free(&in);
        av_frame_free(&out);
    }
}

static void test_names(void **state)
{
    (void)state;
    int index = -1;
    assert_true(oas_hardware_index("cuda", &index) && index == 0);
    assert_true(oas_hardware_index("cuda:12", &index) && index == 12);
    const char *const others[] = {"cuda:", "cuda:-1", "cuda:x", "cuda:1x", "cuda1", "cpu", "auto", "off", "", NULL};
    for (int i = 0; others[i]; i++)
        assert_false(oas_hardware_index(others[i], &index));
    assert_false(oas_hardware_index(NULL, &index));
    const char *path = path_of("names.mkv");
    make_clip(&(clip){.path = path});
    for (int i = 0; i < 9; i++) {
        oasis_reader_options o;
        oasis_reader_options_init(&o);
        o.hwdec = others[i];
        oasis_reader *r = NULL;
        oasis_message why = {""};
        bool known = strcmp(others[i], "auto") == 0 || strcmp(others[i], "off") == 0;
        assert_int_equal(oasis_reader_open(&r, path, &o, &why), known ? OASIS_OK : OASIS_E_ARGUMENT);
        if (!known)
            assert_non_null(strstr(why.text, "cuda:N"));
        oasis_reader_close(&r);
    }
}

/* NVDEC where there is one: the same frames; without: the same frames. */
static void test_cuda(void **state)
{
    (void)state;
    const clip cases[] = {
        {.codec = "libx264", .settings = "g=5:bf=2"},
        {.codec = "libx264", .settings = "g=5:bf=2", .width = 322, .height = 182},
        {.codec = "libx264", .settings = "bf=3:x264-params=interlaced=1", .top_field_first = true},
        {.codec = "libx264", .settings = "bf=2", .range = AVCOL_RANGE_JPEG},
        {.codec = "libx264", .format = AV_PIX_FMT_YUV420P10},
        {.codec = "libx264", .format = AV_PIX_FMT_YUV444P},
        {.codec = "libx265", .settings = "x265-params=log-level=none"},
        {.codec = "libx265", .settings = "x265-params=log-level=none", .format = AV_PIX_FMT_YUV420P10},
        {.codec = "libx265", .settings = "x265-params=log-level=none", .format = AV_PIX_FMT_YUV444P10},
        {.codec = "libvpx-vp9"},
        {.codec = "libvpx-vp9", .format = AV_PIX_FMT_YUV420P10},
        {.codec = "libvpx"},
        {.codec = "libsvtav1", .width = 128, .height = 96},
        {.codec = "mpeg4"},
    };
    oasis_reader_options o;
    oasis_reader_options_init(&o);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        clip c = cases[i];
        if (!avcodec_find_encoder_by_name(c.codec))
            continue;
        c.path = path_of("cuda.mkv");
        c.width = c.width ? c.width : 256;
        c.height = c.height ? c.height : 144;
        c.frames = FRAMES;
        make_clip(&c);
        o.deinterlace = c.top_field_first;
        o.hwdec = "off";
        oasis_reader *a = open_on(c.path, &o, NULL);
        o.hwdec = "cuda";
        oasis_reader *b = open_on(c.path, &o, NULL);
        assert_int_equal(assert_same(a, b), FRAMES);
        print_message("%s %s: %s\n", c.codec, av_get_pix_fmt_name(c.format),
                      oas_reader_is_on_hardware(b) ? "NVDEC" : "software");
        if (strcmp(c.codec, "mpeg4") == 0) /* not exact by its standard */
            assert_false(oas_reader_is_on_hardware(b));
        oasis_reader_close(&a);
        oasis_reader_close(&b);
    }
}

/* NVENC where there is one; without, a sentence that says what it wants. */
static void test_nvenc(void **state)
{
    (void)state;
    static const char *const codecs[] = {"h264_nvenc", "hevc_nvenc", "av1_nvenc"};
    for (size_t i = 0; i < 2 * sizeof codecs / sizeof *codecs; i++) {
        const char *codec = codecs[i / 2], *in = path_of("nvenc-in.mkv"), *out = path_of("nvenc.mkv");
        bool deep = i % 2;
        if (!avcodec_find_encoder_by_name(codec))
            continue;
        make_clip(&(clip){.path = in,
                          .format = deep ? AV_PIX_FMT_YUV420P10 : AV_PIX_FMT_YUV420P,
                          .width = 256,
                          .height = 144,
                          .frames = FRAMES});
        oasis_message why = {""};
        pass p = {.scale = 1, .codec = codec, .overwrite = true};
        oasis_status status = try_through(in, out, &p, &why);
        if (status == OASIS_OK) {
            seen s;
            look(&s, out);
            assert_int_equal(s.n_frames, FRAMES);
            assert_int_equal(av_pix_fmt_desc_get(s.frames[0]->format)->comp[0].depth,
                             deep && strcmp(codec, "h264_nvenc") != 0 ? 10 : 8);
            look_away(&s);
        } else {
            assert_int_equal(status, OASIS_E_UNSUPPORTED);
            assert_non_null(strstr(why.text, "NVIDIA GPU"));
        }
        print_message("%s, %d bits: %s\n", codec, deep ? 10 : 8, status == OASIS_OK ? "NVENC" : why.text);
    }
}

int main(void)
{
    oasis_media_set_quiet(true);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failing_anywhere),
        cmocka_unit_test(test_failing_in_a_part),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_writing_on),
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_cuda),
        cmocka_unit_test(test_nvenc),
    };
    int failed = cmocka_run_group_tests_name("media/hardware", tests, NULL, NULL);
    path_of(NULL);
    return failed;
}
