#include "clip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <oasis/video.h>
#include <stdio.h>
#include <stdlib.h>

/* Brightness at a place: a slope with a disc on it. */
static int brightness(int x, int y, int frame, int width, int height)
{
    int cx = (3 * frame + width / 3) % width, cy = height / 2, r = height / 4 + 1;
    int slope = 60 + 80 * x / width + 20 * y / height;
    return (x - cx) * (x - cx) + (y - cy) * (y - cy) < r * r ? 210 : slope;
}

void write_y4m(const char *path, int width, int height, int frames)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fprintf(file, "YUV4MPEG2 W%d H%d F25:1 Ip A1:1 C420jpeg\n", width, height);
    for (int i = 0; i < frames; i++) {
        fputs("FRAME\n", file);
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
                fputc(brightness(x, y, i, width, height), file);
        for (int n = 2 * ((width + 1) / 2) * ((height + 1) / 2); n > 0; n--)
            fputc(128, file);
    }
    assert_int_equal(fclose(file), 0);
}

void write_picture(const char *path, int width, int height)
{
    oasis_message message = {""};
    oasis_frame frame;
    oasis_writer *writer = NULL;
    oasis_writer_options options;
    oasis_writer_options_init(&options);
    assert_int_equal(oasis_frame_new(&frame, width, height, false), OASIS_OK);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                frame.rgb[(y * width + x) * 3 + c] = (float)(brightness(x, y, 0, width, height) / 255.);
    if (oasis_writer_open(&writer, path, &options, NULL, width, height, &message) != OASIS_OK)
        fail_msg("%s: %s", path, message.text);
    assert_int_equal(oasis_writer_write(writer, &frame), OASIS_OK);
    assert_int_equal(oasis_writer_finish(writer), OASIS_OK);
    oasis_writer_close(&writer);
    oasis_frame_free(&frame);
}

contents read_contents(const char *path)
{
    contents c = {0};
    oasis_message message = {""};
    oasis_reader *reader = NULL;
    oasis_reader_options options;
    oasis_media_info info;
    oasis_frame frame;
    oasis_status status;
    oasis_reader_options_init(&options);
    if (oasis_reader_open(&reader, path, &options, &message) != OASIS_OK)
        fail_msg("%s: %s", path, message.text);
    oasis_reader_info(reader, &info);
    c.audio = info.n_audio;
    while ((status = oasis_reader_read(reader, &frame)) == OASIS_OK) {
        c.width = frame.width;
        c.height = frame.height;
        double sum = 0;
        size_t n = (size_t)frame.width * (size_t)frame.height * 3;
        for (size_t i = 0; i < n; i++)
            sum += (double)frame.rgb[i];
        c.mean += sum / (double)n;
        c.frames++;
        oasis_frame_free(&frame);
    }
    if (status != OASIS_END)
        fail_msg("%s: %s", path, oasis_reader_message(reader));
    oasis_reader_close(&reader);
    if (c.frames)
        c.mean /= (double)c.frames;
    return c;
}

void expect_contents(const char *path, int width, int height, int frames)
{
    contents c = read_contents(path);
    if (c.width != width || c.height != height || c.frames != frames)
        fail_msg("%s: found %d frames of %dx%d, expected %d of %dx%d", path, (int)c.frames, c.width, c.height, frames,
                 width, height);
}
