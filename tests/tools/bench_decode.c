/*
 * Compares and times decoding in software and on an NVIDIA GPU:
 *   build/tests/bench_decode FILE...
 * For each file: whether all frames are the same bits, and milliseconds a frame both ways, conversion to RGB and the start
 * of the decoder not counted.  Fails when frames differ.
 */
#include "video/video_stream.h"

#include <libavutil/imgutils.h>
#include <libavutil/md5.h>
#include <libavutil/mem.h>
#include <libavutil/time.h>
#include <stdio.h>
#include <string.h>

typedef struct outcome {
    bool good, by_gpu;
    int64_t frames;
    double start, seconds;
    uint8_t md5[16];
} outcome;

static void add(struct AVMD5 *sum, const AVFrame *f)
{
    int size = av_image_get_buffer_size(f->format, f->width, f->height, 1);
    uint8_t *all = av_malloc((size_t)size);
    av_image_copy_to_buffer(all, size, (const uint8_t *const *)(const void *)f->data, f->linesize, f->format, f->width,
                            f->height, 1);
    int64_t about[] = {f->best_effort_timestamp, f->format, f->width, f->height, f->colorspace, f->color_range};
    av_md5_update(sum, (const uint8_t *)(const void *)about, sizeof about);
    av_md5_update(sum, all, (size_t)size);
    av_free(all);
}

/* Sums count for nothing in the time: two passes, one that sums and one that is timed. */
static outcome decode(const char *path, bool gpu, bool summing)
{
    outcome o = {.good = true};
    oas_video v;
    oasis_message why = {""};
    struct AVMD5 *sum = av_md5_alloc();
    AVFrame *f = av_frame_alloc();
    av_md5_init(sum);
    double begin = (double)av_gettime_relative() * 1e-6;
    oasis_status status = oas_video_open(&v, path, true, &why);
    if (status == OASIS_OK && gpu)
        oas_video_switch(&v, &oas_hardware_cuda, 0, NULL);
    double started = (double)av_gettime_relative() * 1e-6;
    while (status == OASIS_OK && (status = oas_video_next(&v, f, &why)) == OASIS_OK) {
        if (summing)
            add(sum, f);
        av_frame_unref(f);
    }
    o.seconds = (double)av_gettime_relative() * 1e-6 - started;
    o.start = started - begin;
    o.frames = v.frames;
    o.by_gpu = v.hardware != NULL;
    if (status != OASIS_END) {
        printf("%s\n", why.text);
        o.good = false;
    }
    av_md5_final(sum, o.md5);
    oas_video_close(&v);
    av_frame_free(&f);
    av_free(sum);
    return o;
}

int main(int argc, char **argv)
{
    oasis_media_set_quiet(true);
    int failed = argc < 2;
    for (int i = 1; i < argc; i++) {
        outcome a = decode(argv[i], false, true), b = decode(argv[i], true, true);
        bool same = a.good && b.good && a.frames == b.frames && memcmp(a.md5, b.md5, sizeof a.md5) == 0;
        failed |= !same;
        a = decode(argv[i], false, false);
        b = decode(argv[i], true, false);
        double n = a.frames > 0 ? (double)a.frames : 1;
        printf("%s: %lld frames, %s; software %.2f ms a frame (start %.0f ms), %s %.2f (%.0f)\n", argv[i],
               (long long)a.frames, same ? "the same" : "DIFFERENT", a.seconds * 1000 / n, a.start * 1000,
               b.by_gpu ? "NVDEC" : "no NVDEC, software", b.seconds * 1000 / n, b.start * 1000);
    }
    return failed;
}
