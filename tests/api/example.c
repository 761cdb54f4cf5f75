/*
 * The library in one page: a short clip, made up here, is enlarged by a model.
 *
 *     cc example.c $(pkg-config --cflags --libs oasis) -o example && ./example oasis-nano.safetensors
 */
#include <oasis/oasis.h>

#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 24, HEIGHT = 16, FRAMES = 6 };

/* Makes frame `index` of the clip: a bright bar that moves to the right.  False after the last one. */
static bool next_frame(oasis_frame *frame, int index)
{
    if (index >= FRAMES || oasis_frame_new(frame, WIDTH, HEIGHT, false) != OASIS_OK)
        return false;
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int c = 0; c < 3; c++)
                frame->rgb[(y * WIDTH + x) * 3 + c] = x >= 4 + 2 * index && x < 8 + 2 * index ? 0.9f : 0.2f;
    frame->pts = index;
    return true;
}

/* Sends frames as long as the upscaler wants them, and prints the size and mean of each that comes back. */
static oasis_status run(oasis_upscaler *upscaler)
{
    for (int sent = 0;;) {
        oasis_frame frame;
        oasis_status status = oasis_upscaler_receive(upscaler, &frame);
        if (status == OASIS_AGAIN) {
            bool more = next_frame(&frame, sent++);
            status = oasis_upscaler_send(upscaler, more ? &frame : NULL);
            if (more && status != OASIS_OK)
                oasis_frame_free(&frame); /* not taken: still ours */
        } else if (status == OASIS_OK) {
            double sum = 0;
            size_t values = (size_t)frame.width * (size_t)frame.height * 3;
            for (size_t i = 0; i < values; i++)
                sum += (double)frame.rgb[i];
            printf("frame %d: %dx%d, mean %.3f\n", (int)frame.pts, frame.width, frame.height, sum / (double)values);
            oasis_frame_free(&frame);
        }
        if (status != OASIS_OK)
            return status; /* OASIS_END after the last frame */
    }
}

int main(int argc, char **argv)
{
    oasis_message why = {""};
    oasis_model *model = NULL;
    oasis_upscaler *upscaler = NULL;
    oasis_options options;
    if (argc != 2) {
        fprintf(stderr, "usage: example MODEL.safetensors\n");
        return EXIT_FAILURE;
    }
    oasis_options_init(&options);
    options.scale = 2;
    oasis_status status = oasis_model_open(&model, argv[1], &why);
    if (status == OASIS_OK)
        status = oasis_upscaler_open(&upscaler, model, &options, WIDTH, HEIGHT, &why);
    if (status != OASIS_OK) {
        fprintf(stderr, "example: %s\n", why.text);
    } else {
        status = run(upscaler);
        if (status != OASIS_END)
            fprintf(stderr, "example: %s\n", oasis_upscaler_message(upscaler));
    }
    oasis_upscaler_close(&upscaler);
    oasis_model_close(&model);
    return status == OASIS_END ? EXIT_SUCCESS : EXIT_FAILURE;
}
