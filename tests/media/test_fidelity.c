/*
 * Pixels and their description through whole files: bit depth, colour tags, range, transparency, HDR data.
 * At scale 1 with a lossless encoder and without subsampling, code values must come back unchanged.
 */
#include "clips.h"
#include "through.h"

#include <oasis/video.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <libavutil/imgutils.h>
#include <libavutil/mastering_display_metadata.h>
#include <libavutil/pixdesc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Greatest difference of a component's codes between two frames of one format. */
static int difference(const AVFrame *a, const AVFrame *b, int component)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(a->format);
    bool chroma = (component == 1 || component == 2) && !(d->flags & AV_PIX_FMT_FLAG_RGB);
    int w = chroma ? AV_CEIL_RSHIFT(a->width, d->log2_chroma_w) : a->width;
    int h = chroma ? AV_CEIL_RSHIFT(a->height, d->log2_chroma_h) : a->height, worst = 0;
    for (int y = 0; y < h; y++) {
        uint16_t p[256], q[256];
        av_read_image_line2(p, (const uint8_t **)(const void *)a->data, a->linesize, d, 0, y, component, w, 0, 2);
        av_read_image_line2(q, (const uint8_t **)(const void *)b->data, b->linesize, d, 0, y, component, w, 0, 2);
        for (int x = 0; x < w; x++)
            worst = abs(p[x] - q[x]) > worst ? abs(p[x] - q[x]) : worst;
    }
    return worst;
}

static void test_codes_unchanged(void **state)
{
    (void)state;
    const enum AVPixelFormat formats[] = {
        AV_PIX_FMT_YUV444P, AV_PIX_FMT_YUV444P10, AV_PIX_FMT_YUV444P12, AV_PIX_FMT_YUV444P16,  AV_PIX_FMT_GRAY8,
        AV_PIX_FMT_GRAY10,  AV_PIX_FMT_GBRP10,    AV_PIX_FMT_YUVA444P,  AV_PIX_FMT_YUVA444P10, AV_PIX_FMT_BGR0,
        AV_PIX_FMT_YUV420P, AV_PIX_FMT_YUV422P10, AV_PIX_FMT_YUV440P};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        clip c = {.path = path_of("codes.mkv"), .format = formats[i], .frames = 2};
        const char *out = path_of("codes-out.mkv");
        const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(formats[i]);
        make_clip(&c);
        pass_through(c.path, out, &(pass){.scale = 1, .codec = "ffv1", .overwrite = true});
        seen s;
        look(&s, out);
        assert_int_equal(s.n_frames, 2);
        for (int k = 0; k < 2; k++) {
            AVFrame *original = clip_picture(&c, k);
            assert_int_equal(s.frames[k]->format, formats[i]);
            for (int n = 0; n < d->nb_components; n++) {
                bool subsampled = d->log2_chroma_w + d->log2_chroma_h > 0 && (n == 1 || n == 2);
                int worst = difference(original, s.frames[k], n);
                if (worst && !subsampled)
                    fail_msg("%s, component %d: codes differ by %d", d->name, n, worst);
            }
            av_frame_free(&original);
        }
        look_away(&s);
    }
}

/* What lossy encoders may change luma of 10 bits by, on the average; as 8 bits, codes would be four times too small. */
static const double TEN_BIT_LOSS = 20;

static double mean_difference(const AVFrame *a, const AVFrame *b)
{
    double sum = 0;
    for (int y = 0; y < a->height; y++)
        for (int x = 0; x < a->width; x++)
            sum += abs(((const uint16_t *)(const void *)(a->data[0] + y * a->linesize[0]))[x] -
                       ((const uint16_t *)(const void *)(b->data[0] + y * b->linesize[0]))[x]);
    return sum / (a->width * a->height);
}

/* Luma of what the default encoder makes of 10 bits, and its format, is that of 10 bits. */
static void test_ten_bits(void **state)
{
    (void)state;
    const struct {
        const char *codec;
        enum AVPixelFormat format;
    } cases[] = {{NULL, AV_PIX_FMT_YUV420P10},        {"libx265", AV_PIX_FMT_YUV420P10},
                 {"libsvtav1", AV_PIX_FMT_YUV420P10}, {"prores_ks", AV_PIX_FMT_YUV422P10},
                 {"ffv1", AV_PIX_FMT_YUV420P10},      {"mpeg4", AV_PIX_FMT_YUV420P}};
    clip c = {.path = path_of("ten.mkv"), .format = AV_PIX_FMT_YUV420P10, .frames = 3};
    make_clip(&c);
    oasis_reader *r = NULL;
    oasis_media_info info;
    assert_int_equal(oasis_reader_open(&r, c.path, NULL, NULL), OASIS_OK);
    oasis_reader_info(r, &info);
    assert_int_equal(info.bit_depth, 10);
    assert_string_equal(info.pixel_format, "yuv420p10le");
    oasis_reader_close(&r);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *out = path_of("ten-out.mkv");
        bool small = i != 2; /* SVT-AV1 wants 64 rows at least */
        pass_through(c.path, out, &(pass){.scale = small ? 1 : 2, .codec = cases[i].codec, .overwrite = true});
        seen s;
        look(&s, out);
        assert_int_equal(s.frames[0]->format, cases[i].format);
        AVFrame *original = clip_picture(&c, 1);
        if (small &&
            cases[i].format == AV_PIX_FMT_YUV420P10) /* lossy coding; the scale of the codes is what is looked at */
            assert_true(mean_difference(original, s.frames[1]) < TEN_BIT_LOSS);
        av_frame_free(&original);
        look_away(&s);
    }
    /* 8 bits stay 8 bits. */
    clip eight = {.path = path_of("eight.mkv"), .frames = 1};
    make_clip(&eight);
    const char *out = path_of("eight-out.mp4");
    pass_through(eight.path, out, &(pass){.scale = 1});
    seen s;
    look(&s, out);
    assert_int_equal(s.frames[0]->format, AV_PIX_FMT_YUV420P);
    look_away(&s);
}

static void assert_tags(const char *path, enum AVColorSpace matrix, enum AVColorRange range,
                        enum AVColorPrimaries primaries, enum AVColorTransferCharacteristic transfer,
                        enum AVChromaLocation location)
{
    seen s;
    look(&s, path);
    const AVFrame *f = s.frames[0];
    assert_int_equal(f->colorspace, matrix);
    assert_int_equal(f->color_range, range);
    assert_int_equal(f->color_primaries, primaries);
    assert_int_equal(f->color_trc, transfer);
    if (location != AVCHROMA_LOC_UNSPECIFIED)
        assert_int_equal(f->chroma_location, location);
    look_away(&s);
}

static void test_tags_kept(void **state)
{
    (void)state;
    const struct {
        enum AVColorSpace matrix;
        enum AVColorRange range;
        enum AVColorPrimaries primaries;
        enum AVColorTransferCharacteristic transfer;
        enum AVChromaLocation location;
    } cases[] = {
        {AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, AVCOL_PRI_BT709, AVCOL_TRC_BT709, AVCHROMA_LOC_LEFT},
        {AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG, AVCOL_PRI_SMPTE170M, AVCOL_TRC_SMPTE170M, AVCHROMA_LOC_LEFT},
        {AVCOL_SPC_BT470BG, AVCOL_RANGE_JPEG, AVCOL_PRI_BT470BG, AVCOL_TRC_GAMMA28, AVCHROMA_LOC_CENTER},
        {AVCOL_SPC_BT2020_NCL, AVCOL_RANGE_MPEG, AVCOL_PRI_BT2020, AVCOL_TRC_SMPTE2084, AVCHROMA_LOC_TOPLEFT},
        {AVCOL_SPC_BT2020_NCL, AVCOL_RANGE_MPEG, AVCOL_PRI_BT2020, AVCOL_TRC_ARIB_STD_B67, AVCHROMA_LOC_TOPLEFT},
        {AVCOL_SPC_SMPTE240M, AVCOL_RANGE_MPEG, AVCOL_PRI_SMPTE240M, AVCOL_TRC_SMPTE240M, AVCHROMA_LOC_LEFT},
        {AVCOL_SPC_FCC, AVCOL_RANGE_MPEG, AVCOL_PRI_BT470M, AVCOL_TRC_GAMMA22, AVCHROMA_LOC_LEFT},
    };
    const char *const outputs[][2] = {{"tags-out.mkv", "libx264"},
                                      {"tags-out.mp4", "libx264"},
                                      {"tags-out.mkv", "libx265"},
                                      {"tags-out.mkv", "ffv1"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *in = path_of("tags.mkv");
        make_clip(&(clip){.path = in,
                          .codec = "libx264",
                          .frames = 1,
                          .matrix = cases[i].matrix,
                          .range = cases[i].range,
                          .primaries = cases[i].primaries,
                          .transfer = cases[i].transfer,
                          .location = cases[i].location});
        for (size_t k = 0; k < sizeof outputs / sizeof *outputs; k++) {
            const char *out = path_of(outputs[k][0]);
            pass_through(in, out, &(pass){.scale = 2, .codec = outputs[k][1], .overwrite = true});
            assert_tags(out, cases[i].matrix, cases[i].range, cases[i].primaries, cases[i].transfer, cases[i].location);
        }
    }
}

static void test_untagged(void **state)
{
    (void)state;
    const struct {
        int height;
        enum AVColorSpace matrix;
        enum AVColorPrimaries primaries;
        enum AVColorTransferCharacteristic transfer;
    } cases[] = {{48, AVCOL_SPC_SMPTE170M, AVCOL_PRI_SMPTE170M, AVCOL_TRC_SMPTE170M},
                 {576, AVCOL_SPC_BT470BG, AVCOL_PRI_BT470BG, AVCOL_TRC_SMPTE170M},
                 {720, AVCOL_SPC_BT709, AVCOL_PRI_BT709, AVCOL_TRC_BT709}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *in = path_of("untagged.mkv"), *out = path_of("untagged-out.mkv");
        make_clip(&(clip){.path = in, .frames = 1, .height = cases[i].height});
        oasis_reader *r = NULL;
        oasis_media_info info;
        assert_int_equal(oasis_reader_open(&r, in, NULL, NULL), OASIS_OK);
        oasis_reader_info(r, &info);
        assert_string_equal(info.color_space, "unknown");
        assert_non_null(strstr(info.color_note, i == 2 ? "BT.709" : "BT.601"));
        oasis_reader_close(&r);
        pass_through(in, out, &(pass){.scale = 2, .overwrite = true}); /* 48 rows become 96, 720 become 1440 */
        assert_tags(out, cases[i].matrix, AVCOL_RANGE_MPEG, cases[i].primaries, cases[i].transfer,
                    AVCHROMA_LOC_UNSPECIFIED);
    }
}

/* Pure red of BT.601, limited range; and of whatever these codes are in BT.709. */
static void red_601(AVFrame *f, int k)
{
    (void)k;
    const int codes[] = {81, 90, 240};
    for (int p = 0; p < 3; p++)
        for (int y = 0; y < (p ? f->height / 2 : f->height); y++)
            memset(f->data[p] + y * f->linesize[p], codes[p], (size_t)(p ? f->width / 2 : f->width));
}

static void test_red_to_pictures(void **state)
{
    (void)state;
    const struct {
        enum AVColorSpace matrix;
        int r, g, b; /* by the formula, rounded: BT.709 gives 277 -> 255, 24.3, -4.6 -> 0 */
    } cases[] = {{AVCOL_SPC_SMPTE170M, 254, 0, 0}, {AVCOL_SPC_UNSPECIFIED, 254, 0, 0}, {AVCOL_SPC_BT709, 255, 24, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *in = path_of("red.mkv"), *out = path_of("red.png");
        make_clip(&(clip){.path = in, .frames = 1, .matrix = cases[i].matrix, .fill = red_601});
        pass_through(in, out, &(pass){.scale = 1, .frames = 1, .overwrite = true});
        seen s;
        look(&s, out);
        assert_int_equal(s.frames[0]->format, AV_PIX_FMT_RGB24);
        const uint8_t *p = s.frames[0]->data[0] + 20 * s.frames[0]->linesize[0] + 3 * 20;
        assert_int_equal(p[0], cases[i].r);
        assert_int_equal(p[1], cases[i].g);
        assert_int_equal(p[2], cases[i].b);
        look_away(&s);
        /* And back to video: RGB pictures become BT.709, tagged; its red is 63 102 240. */
        const char *again = path_of("red-again.mkv");
        pass_through(out, again, &(pass){.scale = 1, .codec = "ffv1", .pixel_format = "yuv420p", .overwrite = true});
        look(&s, again);
        assert_int_equal(s.frames[0]->colorspace, AVCOL_SPC_BT709);
        assert_int_equal(s.frames[0]->color_range, AVCOL_RANGE_MPEG);
        if (i < 2) {
            assert_in_range(s.frames[0]->data[0][10], 62, 63);
            assert_in_range(s.frames[0]->data[1][10], 102, 103);
            assert_in_range(s.frames[0]->data[2][10], 239, 240);
        }
        look_away(&s);
    }
}

static void test_transparency(void **state)
{
    (void)state;
    clip c = {.path = path_of("alpha.mkv"), .format = AV_PIX_FMT_YUVA444P, .frames = 2};
    make_clip(&c);
    const struct {
        const char *out, *codec;
        enum AVPixelFormat format;
    } cases[] = {{"alpha-out.mov", "prores_ks", AV_PIX_FMT_YUVA444P10},
                 {"alpha-out.mkv", "ffv1", AV_PIX_FMT_YUVA444P},
                 {"alpha-out.mkv", NULL, AV_PIX_FMT_YUV420P}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *out = path_of(cases[i].out);
        char note[500];
        pass_through(c.path, out, &(pass){.scale = 1, .codec = cases[i].codec, .overwrite = true, .note = note});
        assert_int_equal(strstr(note, "transparency") != NULL, i == 2);
        seen s;
        look(&s, out);
        if (i < 2) /* FFmpeg 5.1 reads ProRes 4444 with 10 or 12 bits */
            assert_true(av_pix_fmt_desc_get(s.frames[0]->format)->flags & AV_PIX_FMT_FLAG_ALPHA);
        else
            assert_int_equal(s.frames[0]->format, cases[i].format);
        look_away(&s);
    }
    /* Transparent pixels of a frame are those of the file. */
    oasis_reader *r = NULL;
    oasis_frame f;
    assert_int_equal(oasis_reader_open(&r, c.path, NULL, NULL), OASIS_OK);
    assert_int_equal(oasis_reader_read(r, &f), OASIS_OK);
    AVFrame *original = clip_picture(&c, 0);
    assert_non_null(f.alpha);
    for (int i = 0; i < 64; i++)
        assert_true(fabsf(f.alpha[i] - (float)original->data[3][i] / 255) < 1e-6f);
    av_frame_free(&original);
    oasis_frame_free(&f);
    oasis_reader_close(&r);
}

static void test_hdr(void **state)
{
    (void)state;
    const char *const names[] = {"hdr.mkv", "hdr.mp4"}, *const outs[] = {"hdr-out.mkv", "hdr-out.mp4"};
    const char *const codecs[] = {"libx264", "libx265", "libsvtav1"};
    for (int i = 0; i < 6; i++) {
        const char *in = path_of(names[i % 2]), *out = path_of(outs[i % 2]);
        make_clip(&(clip){.path = in,
                          .codec = "libx265",
                          .settings = "x265-params=log-level=none",
                          .frames = 2,
                          .mastering = true,
                          .format = AV_PIX_FMT_YUV420P10,
                          .matrix = AVCOL_SPC_BT2020_NCL,
                          .primaries = AVCOL_PRI_BT2020,
                          .transfer = AVCOL_TRC_SMPTE2084,
                          .range = AVCOL_RANGE_MPEG});
        pass_through(in, out, &(pass){.scale = 2, .codec = codecs[i / 2], .overwrite = true});
        seen s;
        look(&s, out);
        const AVStream *st = s.format->streams[s.video];
        const AVMasteringDisplayMetadata *m =
            (const void *)av_stream_get_side_data(st, AV_PKT_DATA_MASTERING_DISPLAY_METADATA, NULL);
        const AVContentLightMetadata *l =
            (const void *)av_stream_get_side_data(st, AV_PKT_DATA_CONTENT_LIGHT_LEVEL, NULL);
        assert_non_null(m);
        assert_non_null(l);
        assert_true(fabs(av_q2d(m->max_luminance) - 1000) < 1e-3 && fabs(av_q2d(m->min_luminance) - 0.005) < 1e-6);
        assert_true(fabs(av_q2d(m->display_primaries[1][1]) - 0.797) < 1e-5);
        assert_int_equal(l->MaxCLL, 1000);
        assert_int_equal(l->MaxFALL, 400);
        assert_int_equal(s.frames[0]->color_trc, AVCOL_TRC_SMPTE2084);
        assert_int_equal(s.frames[0]->format, AV_PIX_FMT_YUV420P10);
        look_away(&s);
    }
}

static void test_encoder_settings(void **state)
{
    (void)state;
    const char *in = path_of("settings.mkv");
    make_clip(&(clip){.path = in, .frames = 3});
    const struct {
        pass p;
        oasis_status status;
        const char *says;
    } cases[] = {
        {{.extra = "g=2"}, OASIS_OK, ""},
        {{.extra = "aq-mode=0"}, OASIS_OK, ""},
        {{.extra = "no_such_key=1"}, OASIS_E_ARGUMENT, "no_such_key"},
        {{.extra = "nothing"}, OASIS_E_ARGUMENT, "key=value"},
        {{.extra = "=1"}, OASIS_E_ARGUMENT, "key=value"},
        {{.preset = "fast"}, OASIS_OK, ""},
        {{.preset = "no-such-preset"}, OASIS_E_UNSUPPORTED, "no-such-preset"},
        {{.codec = "ffv1", .preset = "fast"}, OASIS_E_ARGUMENT, "preset"},
        {{.codec = "no_such_encoder"}, OASIS_E_UNSUPPORTED, "no_such_encoder"},
        {{.codec = "aac"}, OASIS_E_UNSUPPORTED, "aac"},
        {{.pixel_format = "no_such_format"}, OASIS_E_ARGUMENT, "no_such_format"},
        {{.pixel_format = "gbrp"}, OASIS_E_ARGUMENT, "yuv420p"},
        {{.pixel_format = "yuv444p"}, OASIS_OK, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oasis_message why;
        pass p = cases[i].p;
        p.scale = 2;
        p.overwrite = true;
        const char *out = path_of("settings-out.mkv");
        oasis_status status = try_through(in, out, &p, &why);
        if (status != cases[i].status || !strstr(why.text, cases[i].says))
            fail_msg("case %zu: %s: %s", i, oasis_status_name(status), why.text);
    }
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
        cmocka_unit_test(test_codes_unchanged),
        cmocka_unit_test(test_ten_bits),
        cmocka_unit_test(test_tags_kept),
        cmocka_unit_test(test_untagged),
        cmocka_unit_test(test_red_to_pictures),
        cmocka_unit_test(test_transparency),
        cmocka_unit_test(test_hdr),
        cmocka_unit_test(test_encoder_settings),
    };
    oasis_media_set_quiet(true);
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
