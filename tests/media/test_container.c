/*
 * What a file keeps on its way through reader and writer: time stamps, number of frames, other streams, descriptions.
 * The frames are enlarged by repeating pixels, in place of a network.
 */
#include "clips.h"
#include "through.h"

#include <oasis/video.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <libavutil/display.h>
#include <libavutil/mastering_display_metadata.h>
#include <libavutil/mathematics.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Uneven steps, in milliseconds, that no frame rate makes. */
static const int64_t uneven[] = {0, 40, 81, 200, 201, 350, 390, 1000};
enum { UNEVEN = sizeof uneven / sizeof *uneven };

/* Whether the presentation times of the frames of two files are the same numbers, shifted by `shift` seconds. */
static void assert_same_times(const seen *a, const seen *b, double shift)
{
    AVRational p = a->format->streams[a->video]->time_base, q = b->format->streams[b->video]->time_base;
    assert_int_equal(a->n_frames, b->n_frames);
    for (int i = 0; i < a->n_frames; i++) {
        double s = (double)a->frames[i]->best_effort_timestamp * av_q2d(p) + shift;
        double t = (double)b->frames[i]->best_effort_timestamp * av_q2d(q);
        if (fabs(s - t) > 1e-7)
            fail_msg("frame %d: %.6f s became %.6f s", i, s, t);
    }
}

static void check_times(const clip *c, const char *out_name, const char *codec, double shift)
{
    const char *out = path_of(out_name);
    seen a, b;
    make_clip(c);
    pass_through(c->path, out, &(pass){.codec = codec, .scale = 2, .overwrite = true});
    look(&a, c->path);
    look(&b, out);
    assert_int_equal(a.n_frames, c->frames ? c->frames : 5);
    assert_same_times(&a, &b, shift);
    look_away(&a);
    look_away(&b);
}

static void test_variable_rate(void **state)
{
    (void)state;
    const char *const codecs[] = {"libx264", "libx265", "ffv1"};
    for (int i = 0; i < 3; i++) {
        check_times(&(clip){.path = path_of("vfr.mkv"), .pts = uneven, .frames = UNEVEN, .time_base = {1, 1000}},
                    "vfr-out.mkv", codecs[i], 0);
        if (i < 2)
            check_times(&(clip){.path = path_of("vfr.mp4"),
                                .pts = uneven,
                                .frames = UNEVEN,
                                .time_base = {1, 1000},
                                .codec = "libx264"},
                        "vfr-out.mp4", codecs[i], 0);
    }
    /* Steps of 1001/30000 s: exact in MP4, also with a late start and from a clock no encoder counts in. */
    static const int64_t late[] = {2002, 3003, 5005, 6006, 11011};
    check_times(&(clip){.path = path_of("ntsc.mp4"),
                        .pts = late,
                        .frames = 5,
                        .time_base = {1, 30000},
                        .codec = "libx264",
                        .last_duration = 1001},
                "ntsc-out.mp4", "libx264", 0);
    static const int64_t fine[] = {0, 33367, 66733, 100101, 300000};
    check_times(&(clip){.path = path_of("fine.mp4"),
                        .pts = fine,
                        .frames = 5,
                        .time_base = {1, 1000000},
                        .codec = "libx264",
                        .last_duration = 33367},
                "fine-out.mov", "libx264", 0);
}

/* Frames that lie closer than the container can count keep their order and their number. */
static void test_coarser_clock(void **state)
{
    (void)state;
    static const int64_t close[] = {0, 100, 200, 300, 90000};
    const char *in = path_of("close.mp4"), *out = path_of("close-out.mkv");
    make_clip(&(clip){
        .path = in, .pts = close, .frames = 5, .time_base = {1, 1000000}, .codec = "libx264", .last_duration = 1000});
    pass_through(in, out, &(pass){.scale = 1});
    seen s;
    look(&s, out);
    const int64_t expected[] = {0, 1, 2, 3, 90};
    assert_int_equal(s.n_frames, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(s.frames[i]->best_effort_timestamp, expected[i]);
    look_away(&s);
}

/* AVI counts frames: even ones arrive evenly, also from a clock of milliseconds; uneven ones are refused. */
static void test_counting_container(void **state)
{
    (void)state;
    static const int64_t ntsc[] = {0, 33, 67, 100, 133, 167, 200, 234};
    const char *in = path_of("ntsc.mkv"), *out = path_of("ntsc.avi");
    make_clip(
        &(clip){.path = in, .pts = ntsc, .frames = 8, .time_base = {1, 1000}, .last_duration = 33, .codec = "mpeg4"});
    pass_through(in, out, &(pass){.scale = 1});
    seen s;
    look(&s, out);
    assert_int_equal(s.n_frames, 8);
    for (int i = 0; i < 8; i++) /* one packet for a frame, and no empty ones between */
        assert_true(packet_of(&s, s.video, i)->size > 0 && packet_of(&s, s.video, i)->dts == i);
    look_away(&s);
    static const int64_t steps[] = {0, 40, 81, 200, 201, 350, 390, 1000, 1040, 1080, 1200, 1300};
    oasis_message why;
    make_clip(
        &(clip){.path = path_of("uneven.mp4"), .pts = steps, .frames = 12, .time_base = {1, 1000}, .codec = "libx264"});
    assert_int_equal(try_through(path_of("uneven.mp4"), path_of("uneven.avi"), &(pass){.scale = 1}, &why),
                     OASIS_E_UNSUPPORTED);
    assert_non_null(strstr(why.text, "uneven times"));
}

/* As many out as in, for every length at the start, with reordering encoders and decoders. */
static void test_every_length(void **state)
{
    (void)state;
    const char *const codecs[] = {"libx264", "libx265", "ffv1", "libvpx-vp9", "mpeg4"};
    for (int n = 1; n <= 5; n++) {
        const char *in = path_of("length.mkv"), *out = path_of("length-out.mkv");
        make_clip(&(clip){.path = in, .codec = "libx264", .settings = "bf=3:b_strategy=0", .frames = n});
        for (size_t k = 0; k < sizeof codecs / sizeof *codecs; k++) {
            assert_int_equal(pass_through(in, out, &(pass){.codec = codecs[k], .scale = 1, .overwrite = true}), n);
            seen s;
            look(&s, out);
            assert_int_equal(s.n_frames, n);
            for (int i = 0; i < n; i++)
                assert_int_equal(s.frames[i]->best_effort_timestamp, 40 * i);
            look_away(&s);
        }
    }
    /* Longer than any look-ahead. */
    const char *in = path_of("long.mkv"), *out = path_of("long-out.mp4");
    make_clip(&(clip){
        .path = in, .codec = "libx264", .settings = "preset=ultrafast", .frames = 300, .width = 16, .height = 16});
    assert_int_equal(pass_through(in, out, &(pass){.scale = 1, .preset = "ultrafast"}), 300);
    seen s;
    look(&s, out);
    assert_int_equal(s.n_frames, 300);
    look_away(&s);
}

/* All packets of a stream: the same bytes at the same times, moved by `shift` seconds. */
static void assert_same_stream(const seen *a, int i, const seen *b, int j, double shift, double tolerance)
{
    int n = 0;
    for (;; n++) {
        const seen_packet *p = packet_of(a, i, n), *q = packet_of(b, j, n);
        assert_int_equal(p == NULL, q == NULL);
        if (!p)
            break;
        assert_int_equal(p->size, q->size);
        assert_int_equal(p->sum, q->sum);
        double s = (double)p->pts * av_q2d(a->format->streams[i]->time_base) + shift;
        double t = (double)q->pts * av_q2d(b->format->streams[j]->time_base);
        if (fabs(s - t) > tolerance)
            fail_msg("stream %d packet %d: %.6f s became %.6f s", i, n, s, t);
    }
    assert_true(n > 0);
}

static const char *tag(const AVDictionary *d, const char *key)
{
    const AVDictionaryEntry *e = av_dict_get(d, key, NULL, 0);
    return e ? e->value : "";
}

static void assert_chapters(const seen *s)
{
    assert_int_equal(s->format->nb_chapters, 2);
    for (unsigned i = 0; i < 2; i++) {
        const AVChapter *ch = s->format->chapters[i];
        assert_string_equal(tag(ch->metadata, "title"), i == 0 ? "One" : "Two");
        assert_int_equal(av_rescale_q(ch->start, ch->time_base, (AVRational){1, 1000}), i * 80);
        assert_int_equal(av_rescale_q(ch->end, ch->time_base, (AVRational){1, 1000}), i == 0 ? 80 : 200);
    }
}

static void test_everything_copied_mkv(void **state)
{
    (void)state;
    const char *in = path_of("full.mkv"), *out = path_of("full-out.mkv");
    make_clip(&(clip){.path = in,
                      .codec = "libx264",
                      .audio = 2,
                      .subtitles = true,
                      .chapters = true,
                      .attachment = true,
                      .cover = true});
    pass_through(in, out, &(pass){.scale = 2});
    seen a, b;
    look(&a, in);
    look(&b, out);
    assert_int_equal(a.format->nb_streams, 6);
    assert_int_equal(b.format->nb_streams, 6);
    for (unsigned i = 0; i < 6; i++) {
        const AVStream *p = a.format->streams[i], *q = b.format->streams[i];
        assert_int_equal(p->codecpar->codec_type, q->codecpar->codec_type);
        assert_int_equal(p->disposition, q->disposition);
        assert_string_equal(tag(p->metadata, "language"), tag(q->metadata, "language"));
        assert_string_equal(tag(p->metadata, "title"), tag(q->metadata, "title"));
        assert_string_equal(tag(p->metadata, "filename"), tag(q->metadata, "filename"));
        assert_string_equal(tag(p->metadata, "mimetype"), tag(q->metadata, "mimetype"));
        if ((int)i != a.video)
            assert_int_equal(p->codecpar->codec_id, q->codecpar->codec_id);
        assert_int_equal((int)i == a.video || p->codecpar->extradata_size == q->codecpar->extradata_size, 1);
        if (p->codecpar->codec_type == AVMEDIA_TYPE_AUDIO || p->codecpar->codec_type == AVMEDIA_TYPE_SUBTITLE)
            assert_same_stream(&a, (int)i, &b, (int)i, 0, 0);
    }
    const AVStream *font = stream_of(&b, AVMEDIA_TYPE_ATTACHMENT, 0);
    assert_memory_equal(font->codecpar->extradata, "not really a font", 17);
    const AVStream *cover = stream_of(&b, AVMEDIA_TYPE_VIDEO, 1), *original = stream_of(&a, AVMEDIA_TYPE_VIDEO, 1);
    assert_true(cover->disposition & AV_DISPOSITION_ATTACHED_PIC);
    assert_int_equal(cover->attached_pic.size, original->attached_pic.size);
    assert_memory_equal(cover->attached_pic.data, original->attached_pic.data, (size_t)cover->attached_pic.size);
    assert_chapters(&b);
    assert_string_equal(tag(b.format->metadata, "title"), "A small clip");
    assert_string_equal(tag(b.format->metadata, "comment"), "made by a test");
    look_away(&a);
    look_away(&b);
}

static void test_everything_copied_mp4(void **state)
{
    (void)state;
    const char *in = path_of("full.mp4"), *out = path_of("full-out.mp4");
    make_clip(&(clip){.path = in,
                      .codec = "libx264",
                      .audio = 2,
                      .audio_codec = "aac",
                      .subtitles = true,
                      .chapters = true,
                      .cover = true,
                      .frames = 12});
    pass_through(in, out, &(pass){.scale = 2});
    seen a, b;
    look(&a, in);
    look(&b, out);
    assert_int_equal(a.format->nb_streams, b.format->nb_streams);
    assert_same_times(&a, &b, 0);
    for (int i = 0; i < 2; i++) {
        const AVStream *p = stream_of(&a, AVMEDIA_TYPE_AUDIO, i), *q = stream_of(&b, AVMEDIA_TYPE_AUDIO, i);
        assert_string_equal(tag(p->metadata, "language"), tag(q->metadata, "language"));
        assert_int_equal(p->disposition, q->disposition);
        assert_same_stream(&a, p->index, &b, q->index, 0, 1e-9);
    }
    const AVStream *p = stream_of(&a, AVMEDIA_TYPE_SUBTITLE, 0), *q = stream_of(&b, AVMEDIA_TYPE_SUBTITLE, 0);
    assert_same_stream(&a, p->index, &b, q->index, 0, 1e-9);
    assert_string_equal(tag(q->metadata, "language"), "fra");
    const AVStream *cover = stream_of(&b, AVMEDIA_TYPE_VIDEO, 1);
    assert_true(cover->disposition & AV_DISPOSITION_ATTACHED_PIC);
    assert_chapters(&b);
    assert_string_equal(tag(b.format->metadata, "title"), "A small clip");
    look_away(&a);
    look_away(&b);
}

/*
 * Sound of MP4 begins with a packet before 0 that only prepares the decoder.  Matroska has no time before 0: that packet
 * is left out, and no other, nor any frame, moves.
 */
static void test_sound_before_zero(void **state)
{
    (void)state;
    const char *in = path_of("priming.mp4"), *out = path_of("priming-out.mkv");
    make_clip(&(clip){.path = in, .codec = "libx264", .audio = 1, .audio_codec = "aac", .frames = 12});
    pass_through(in, out, &(pass){.scale = 1});
    seen a, b;
    look(&a, in);
    look(&b, out);
    assert_same_times(&a, &b, 0);
    const AVStream *p = stream_of(&a, AVMEDIA_TYPE_AUDIO, 0), *q = stream_of(&b, AVMEDIA_TYPE_AUDIO, 0);
    assert_true(packet_of(&a, p->index, 0)->pts < 0);
    int n = 1;
    for (; packet_of(&a, p->index, n); n++) {
        const seen_packet *from = packet_of(&a, p->index, n), *to = packet_of(&b, q->index, n - 1);
        assert_int_equal(from->sum, to->sum);
        assert_true(fabs((double)from->pts * av_q2d(p->time_base) - (double)to->pts * av_q2d(q->time_base)) <=
                    0.0005001);
    }
    assert_null(packet_of(&b, q->index, n - 1));
    look_away(&a);
    look_away(&b);
}

static void test_refused_streams(void **state)
{
    (void)state;
    const char *in = path_of("srt.mkv"), *out = path_of("srt-out.mp4");
    make_clip(&(clip){.path = in, .codec = "libx264", .audio = 1, .audio_codec = "aac", .subtitles = true});
    oasis_message why = {""};
    assert_int_equal(try_through(in, out, &(pass){.scale = 1}, &why), OASIS_E_UNSUPPORTED);
    assert_non_null(strstr(why.text, "subrip"));
    assert_non_null(strstr(why.text, ".mkv"));
    assert_non_null(strstr(why.text, "stream 2"));
    assert_false(exists(out));
    assert_int_equal(try_through(in, out, &(pass){.scale = 1, .no_audio = true}, &why), OASIS_OK);
    seen s;
    look(&s, out);
    assert_int_equal(s.format->nb_streams, 1);
    look_away(&s);
    /* Video that the container cannot hold. */
    assert_int_equal(try_through(in, path_of("ffv1.mp4"), &(pass){.scale = 1, .codec = "ffv1", .no_audio = true}, &why),
                     OASIS_E_UNSUPPORTED);
    assert_non_null(strstr(why.text, "ffv1"));
}

static void test_rotation(void **state)
{
    (void)state;
    for (int turn = 90; turn <= 270; turn += 90) {
        const char *in = path_of("turned.mp4"), *out = path_of("turned-out.mp4");
        make_clip(&(clip){.path = in, .codec = "libx264", .rotation = turn});
        oasis_reader *r = NULL;
        oasis_media_info info;
        assert_int_equal(oasis_reader_open(&r, in, NULL, NULL), OASIS_OK);
        oasis_reader_info(r, &info);
        assert_int_equal(info.rotation, turn);
        oasis_reader_close(&r);
        pass_through(in, out, &(pass){.scale = 2, .overwrite = true});
        seen s;
        look(&s, out);
        assert_int_equal(s.frames[0]->width, 128);
        const int32_t *m = (const int32_t *)(const void *)av_stream_get_side_data(s.format->streams[s.video],
                                                                                  AV_PKT_DATA_DISPLAYMATRIX, NULL);
        assert_non_null(m);
        assert_int_equal((lrint(-av_display_rotation_get(m)) + 360) % 360, turn);
        assert_int_equal(m[6], turn == 90 ? 96 << 16 : turn == 180 ? 128 << 16 : 0); /* moved by the new size */
        look_away(&s);
    }
}

/* One bright quadrant, that a turn moves. */
static void top_left_bright(AVFrame *f, int k)
{
    (void)k;
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++)
            f->data[0][y * f->linesize[0] + x] = x < f->width / 2 && y < f->height / 2 ? 200 : 50;
    for (int p = 1; p < 3; p++)
        for (int y = 0; y < f->height / 2; y++)
            memset(f->data[p] + y * f->linesize[p], 128, (size_t)f->width / 2);
}

/* Containers without a display matrix get upright pixels. */
static void test_rotation_without_matrix(void **state)
{
    (void)state;
    for (int turn = 90; turn <= 270; turn += 90) {
        const char *in = path_of("upright.mp4"), *out = path_of("upright-out.mkv");
        make_clip(&(clip){.path = in, .codec = "libx264", .rotation = turn, .fill = top_left_bright, .sar = {4, 3}});
        char note[500];
        pass_through(in, out, &(pass){.scale = 1, .overwrite = true, .note = note});
        assert_non_null(strstr(note, "upright"));
        seen s;
        look(&s, out);
        const AVFrame *f = s.frames[0];
        assert_int_equal(f->width, turn == 180 ? 64 : 48);
        assert_int_equal(f->height, turn == 180 ? 48 : 64);
        assert_int_equal(f->sample_aspect_ratio.num, turn == 180 ? 4 : 3);
        for (int q = 0; q < 4; q++) { /* clockwise: the top left goes to the top right, bottom right, bottom left */
            int x = f->width / 4 + (q == 1 || q == 2) * f->width / 2, y = f->height / 4 + (q >= 2) * f->height / 2;
            assert_int_equal(f->data[0][y * f->linesize[0] + x] > 125, q == turn / 90);
        }
        look_away(&s);
    }
}

static void test_pixel_shape(void **state)
{
    (void)state;
    const struct {
        AVRational in;
        int width, height;
        AVRational out;
    } cases[] = {
        {{16, 11}, 128, 96, {16, 11}},                            /* enlarged evenly */
        {{16, 11}, 96, 72, {16, 11}},  {{0, 1}, 128, 96, {0, 1}}, /* unknown stays unknown: read as 0:1 */
        {{1, 1}, 64, 96, {2, 1}},                                 /* --size: shown in the shape it had */
        {{16, 11}, 96, 96, {64, 33}},  {{0, 1}, 128, 48, {1, 2}},
        {{1, 1}, 85, 64, {1, 1}}, /* 85.33 rounded to whole pixels is even enlargement */
    };
    const char *const endings[] = {"mkv", "mp4"};
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        char in_name[40], out_name[40];
        snprintf(in_name, sizeof in_name, "sar.%s", endings[i % 2]);
        snprintf(out_name, sizeof out_name, "sar-out.%s", endings[i % 2]);
        const char *in = path_of(in_name), *out = path_of(out_name);
        make_clip(&(clip){.path = in, .codec = "libx264", .frames = 1, .sar = cases[i / 2].in});
        pass_through(in, out, &(pass){.width = cases[i / 2].width, .height = cases[i / 2].height, .overwrite = true});
        seen s;
        look(&s, out);
        AVRational sar = av_guess_sample_aspect_ratio(s.format, s.format->streams[s.video], s.frames[0]);
        AVRational expected = cases[i / 2].out;
        if (expected.num == 0)
            assert_true(sar.num == 0 || av_cmp_q(sar, (AVRational){1, 1}) == 0);
        else
            assert_int_equal(av_cmp_q(sar, expected), 0);
        assert_int_equal(s.frames[0]->width, cases[i / 2].width);
        look_away(&s);
    }
}

/* --start and --frames: the frames in the range, everything moved to begin at 0, sound and subtitles cut alike. */
static void test_range(void **state)
{
    (void)state;
    const char *in = path_of("range.mkv"), *out = path_of("range-out.mkv");
    make_clip(&(clip){.path = in,
                      .codec = "libx264",
                      .settings = "g=12:bf=2",
                      .frames = 50,
                      .audio = 1,
                      .subtitles = true,
                      .chapters = true});
    seen a, b;
    look(&a, in);
    pass_through(in, out, &(pass){.scale = 1, .start = 0.1, .frames = 20});
    look(&b, out);
    assert_int_equal(b.n_frames, 20);
    for (int i = 0; i < 20; i++) /* the first at or after 0.1 s is number 3, at 0.12 s */
        assert_int_equal(b.frames[i]->best_effort_timestamp, 40 * i);
    const AVStream *q = stream_of(&b, AVMEDIA_TYPE_AUDIO, 0);
    int first = 0, n = 0;
    while (packet_of(&a, q->index, first)->pts < 120)
        first++;
    while (packet_of(&b, q->index, n))
        n++;
    for (int i = 0; i < n; i++) {
        const seen_packet *p = packet_of(&a, q->index, first + i), *r = packet_of(&b, q->index, i);
        assert_int_equal(p->sum, r->sum);
        assert_true(llabs(p->pts - 120 - r->pts) <= 1);
    }
    const seen_packet *next = packet_of(&a, q->index, first + n), *last = packet_of(&b, q->index, n - 1);
    assert_true(next->pts - 120 >= 800 && last->pts < 800);                        /* 20 frames of 40 ms */
    assert_null(packet_of(&b, stream_of(&b, AVMEDIA_TYPE_SUBTITLE, 0)->index, 0)); /* both begin before */
    assert_int_equal(b.format->nb_chapters, 1);
    assert_string_equal(tag(b.format->chapters[0]->metadata, "title"), "Two");
    assert_int_equal(b.format->chapters[0]->start, 0);
    assert_int_equal(av_rescale_q(b.format->chapters[0]->end, b.format->chapters[0]->time_base, (AVRational){1, 1000}),
                     80);
    look_away(&b);
    /* The same pictures as without the cut, wherever the key frames lie. */
    for (int start = 1; start < 49; start += 8) {
        oasis_reader *r = NULL;
        oasis_reader_options o;
        oasis_reader_options_init(&o);
        o.start = start * 0.04;
        assert_int_equal(oasis_reader_open(&r, in, &o, NULL), OASIS_OK);
        oasis_frame f;
        for (int k = start; k < 50; k++) {
            assert_int_equal(oasis_reader_read(r, &f), OASIS_OK);
            assert_int_equal(f.pts, 40 * k);
            oasis_frame_free(&f);
        }
        assert_int_equal(oasis_reader_read(r, &f), OASIS_END);
        assert_int_equal(oasis_reader_read(r, &f), OASIS_END);
        oasis_reader_close(&r);
    }
    oasis_message why;
    assert_int_equal(try_through(in, path_of("never.mkv"), &(pass){.scale = 1, .start = 100}, &why), OASIS_E_ARGUMENT);
    assert_non_null(strstr(why.text, "--start"));
    look_away(&a);
}

static void test_odd_sizes(void **state)
{
    (void)state;
    const int sizes[][2] = {{65, 48}, {64, 49}, {33, 31}, {1, 1}, {2, 3}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const char *in = path_of("odd.mkv"), *out = path_of("odd-out.mp4");
        char note[500];
        make_clip(&(clip){
            .path = in, .width = sizes[i][0], .height = sizes[i][1], .frames = 2, .format = AV_PIX_FMT_YUV444P});
        pass_through(in, out, &(pass){.scale = 1, .overwrite = true, .note = note});
        seen s;
        look(&s, out);
        assert_int_equal(s.frames[0]->width, sizes[i][0]);
        assert_int_equal(s.frames[0]->height, sizes[i][1]);
        assert_int_equal(s.frames[0]->format, AV_PIX_FMT_YUV444P);
        assert_non_null(strstr(note, "yuv444p"));
        look_away(&s);
        oasis_message why;
        assert_int_equal(try_through(in, out, &(pass){.scale = 1, .overwrite = true, .pixel_format = "yuv420p"}, &why),
                         OASIS_E_UNSUPPORTED);
        assert_non_null(strstr(why.text, "even"));
    }
}

/* Two runs, and other numbers of processors do not matter: the same bytes. */
static void test_same_bytes(void **state)
{
    (void)state;
    const char *in = path_of("same.mkv");
    make_clip(&(clip){.path = in,
                      .codec = "libx264",
                      .frames = 12,
                      .audio = 2,
                      .subtitles = true,
                      .chapters = true,
                      .attachment = true});
    const char *const endings[] = {"mkv", "mov"};
    const char *const codecs[] = {"libx264", "libx265", "ffv1", "libsvtav1", "prores_ks"};
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        char name[2][40];
        const char *path[2];
        for (int k = 0; k < 2; k++) {
            snprintf(name[k], sizeof name[k], "same-%zu-%d.%s", i, k, endings[i == 4]);
            path[k] = path_of(name[k]);
            pass_through(in, path[k], &(pass){.scale = 2, .codec = codecs[i], .no_audio = i == 4});
        }
        assert_int_equal(size_of(path[0]), size_of(path[1]));
        FILE *a = fopen(path[0], "rb"), *b = fopen(path[1], "rb");
        for (int c; (c = fgetc(a)) != EOF;)
            assert_int_equal(c, fgetc(b));
        fclose(a);
        fclose(b);
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
        cmocka_unit_test(test_variable_rate),
        cmocka_unit_test(test_coarser_clock),
        cmocka_unit_test(test_counting_container),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_everything_copied_mkv),
        cmocka_unit_test(test_everything_copied_mp4),
        cmocka_unit_test(test_sound_before_zero),
        cmocka_unit_test(test_refused_streams),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_rotation_without_matrix),
        cmocka_unit_test(test_pixel_shape),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_odd_sizes),
        cmocka_unit_test(test_same_bytes),
    };
    oasis_media_set_quiet(true);
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
