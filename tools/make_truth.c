/*
 * A truth for evaluation: a few frames, sharp for their size, without further loss.
 *
 *     make_truth IN OUT.mkv FRAMES START
 *
 * A video is taken from START seconds on.  Frames more than three times as wide as high hold a depth map on the right and
 * are cut to their left half.  Then their area is halved (sides / sqrt 2, to multiples of 4), so that what web coding left
 * of the detail is spread over fewer pixels.
 *
 * Over a picture a camera moves, the same for all pictures: a slow pan, a turn, a zoom and a shaking hand, seen through
 * pixels 3/2 as large as the picture's.  Formulas and numbers here must not change: figures hang on them.
 */
#include "image/resize.h"

#include <math.h>
#include <oasis/video.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP = 4, PICTURE_WIDTH = 640, PICTURE_HEIGHT = 384, TAPS = 3 };

static const double PICTURE_PIXEL = 1.5, ROOT_HALF = 0.70710678118654752;

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "make_truth: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

static bool is_picture(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot && (strcmp(dot, ".jpg") == 0 || strcmp(dot, ".png") == 0 || strcmp(dot, ".webp") == 0);
}

/* The left part of a frame, its area halved. */
static oasis_status halve(const oasis_frame *in, oasis_frame *out, oasis_message *message)
{
    int width = in->width > 3 * in->height ? in->width / 2 : in->width;
    oas_resize_spec spec = {.in_width = width, .in_height = in->height, .channels = 3, .filter = OAS_FILTER_AREA};
    spec.out_width = (int)(width * ROOT_HALF) / STEP * STEP;
    spec.out_height = (int)(in->height * ROOT_HALF) / STEP * STEP;
    oas_resizer *r = NULL;
    oasis_frame left = {0};
    oasis_status s = oasis_frame_new(&left, width, in->height, false);
    if (s == OASIS_OK)
        s = oasis_frame_new(out, spec.out_width, spec.out_height, false);
    if (s == OASIS_OK)
        s = oas_resizer_new(&r, &spec, message);
    if (s == OASIS_OK) {
        for (int y = 0; y < in->height; y++)
            memcpy(left.rgb + (size_t)y * (size_t)width * 3, in->rgb + (size_t)y * (size_t)in->width * 3,
                   (size_t)width * 3 * sizeof(float));
        oas_resize(r, NULL, left.rgb, out->rgb, 1, 0);
    }
    oas_resizer_free(&r);
    oasis_frame_free(&left);
    return s;
}

/* The picture at (x, y) between its pixels. */
static void between(const oasis_frame *p, double x, double y, float rgb[3])
{
    int x0 = (int)floor(x), y0 = (int)floor(y);
    for (int k = 0; k < 4; k++) {
        int px = x0 + k % 2, py = y0 + k / 2;
        double w = (k % 2 ? x - x0 : 1 - x + x0) * (k / 2 ? y - y0 : 1 - y + y0);
        px = px < 0 ? 0 : px >= p->width ? p->width - 1 : px;
        py = py < 0 ? 0 : py >= p->height ? p->height - 1 : py;
        for (int c = 0; c < 3; c++)
            rgb[c] += (float)w * p->rgb[((size_t)py * (size_t)p->width + (size_t)px) * 3 + (size_t)c];
    }
}

/* Frame t of the camera: every pixel is the mean of TAPS x TAPS places in it. */
static void film(const oasis_frame *picture, int t, oasis_frame *out)
{
    double zoom = PICTURE_PIXEL * pow(1.002, t), angle = 0.0025 * t;
    double xx = zoom * cos(angle), xy = -zoom * sin(angle);
    double cx = picture->width / 2. + 1.7 * t + 0.9 * sin(1.1 * t),
           cy = picture->height / 2. + 0.8 * t + 0.7 * sin(1.7 * t);
    for (int y = 0; y < out->height; y++)
        for (int x = 0; x < out->width; x++) {
            float sum[3] = {0, 0, 0}, *to = out->rgb + ((size_t)y * (size_t)out->width + (size_t)x) * 3;
            for (int k = 0; k < TAPS * TAPS; k++) {
                double dx = x + (k % TAPS - 1) / (double)TAPS - (out->width - 1) / 2.;
                double dy = y + (double)((k / TAPS) - 1) / TAPS - (out->height - 1) / 2.;
                between(picture, cx + xx * dx + xy * dy, cy - xy * dx + xx * dy, sum);
            }
            for (int c = 0; c < 3; c++)
                to[c] = sum[c] / (TAPS * TAPS);
        }
}

/* Makes frame t of the truth from what the reader gives. */
static oasis_status make_frame(oasis_reader *reader, bool picture, oasis_frame *still, int t, oasis_frame *out,
                               oasis_message *message)
{
    if (!picture) {
        oasis_frame whole = {0};
        oasis_status s = oasis_reader_read(reader, &whole);
        if (s == OASIS_OK)
            s = halve(&whole, out, message);
        oasis_frame_free(&whole);
        return s;
    }
    oasis_status s = t == 0 ? oasis_reader_read(reader, still) : OASIS_OK;
    if (s == OASIS_OK)
        s = oasis_frame_new(out, PICTURE_WIDTH, PICTURE_HEIGHT, false);
    if (s == OASIS_OK)
        film(still, t, out);
    return s;
}

static oasis_status run(char **argv, oasis_reader *reader, oasis_writer **writer, oasis_message *message)
{
    oasis_writer_options options;
    oasis_frame still = {0};
    oasis_status s = OASIS_OK;
    int frames = atoi(argv[3]);
    oasis_writer_options_init(&options);
    options.overwrite = true;
    options.codec = "libx264rgb";
    options.crf = 0;
    for (int t = 0; t < frames && s == OASIS_OK; t++) {
        oasis_frame frame = {0};
        s = make_frame(reader, is_picture(argv[1]), &still, t, &frame, message);
        if (s == OASIS_END)
            snprintf(message->text, sizeof message->text, "it has %d frames, %d are wanted", t, frames);
        if (s == OASIS_OK && !*writer)
            s = oasis_writer_open(writer, argv[2], &options, NULL, frame.width, frame.height, message);
        frame.pts = t; /* without a source the writer counts frames, 24 a second */
        frame.duration = 1;
        if (s == OASIS_OK)
            s = oasis_writer_write(*writer, &frame);
        oasis_frame_free(&frame);
    }
    oasis_frame_free(&still);
    return s == OASIS_OK ? oasis_writer_finish(*writer) : s;
}

int main(int argc, char **argv)
{
    oasis_message message = {""};
    oasis_reader *reader = NULL;
    oasis_writer *writer = NULL;
    oasis_reader_options options;
    if (argc != 5)
        return fail("usage", "make_truth IN OUT.mkv FRAMES START");
    oasis_media_set_quiet(true);
    oasis_reader_options_init(&options);
    options.start = is_picture(argv[1]) ? 0 : atof(argv[4]);
    oasis_status s = oasis_reader_open(&reader, argv[1], &options, &message);
    if (s == OASIS_OK)
        s = run(argv, reader, &writer, &message);
    const char *why = message.text[0] ? message.text : writer ? oasis_writer_message(writer) : "it cannot be read";
    int code = s == OASIS_OK ? EXIT_SUCCESS : fail(argv[1], why);
    oasis_writer_close(&writer);
    oasis_reader_close(&reader);
    return code;
}
