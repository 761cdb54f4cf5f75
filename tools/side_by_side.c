/*
 * Two pictures next to each other: the first frame of one input and a frame of another, of the same height.
 *
 *     side_by_side LEFT RIGHT SECONDS OUT.png      RIGHT is taken at SECONDS, LEFT at its start
 */
#include <oasis/video.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GAP = 8 }; /* white columns between the two */

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "side_by_side: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

/* Reads the frame at `seconds`; the caller frees it. */
static bool read_frame(const char *path, double seconds, oasis_frame *frame)
{
    oasis_message message = {""};
    oasis_reader *reader = NULL;
    oasis_reader_options options;
    oasis_reader_options_init(&options);
    options.start = seconds;
    options.frames = 1;
    bool fine = oasis_reader_open(&reader, path, &options, &message) == OASIS_OK;
    if (!fine)
        fail(path, message.text);
    else if (oasis_reader_read(reader, frame) != OASIS_OK) {
        fail(path, oasis_reader_message(reader));
        fine = false;
    }
    oasis_reader_close(&reader);
    return fine;
}

static void copy_into(oasis_frame *to, const oasis_frame *from, int column)
{
    for (int y = 0; y < from->height && y < to->height; y++)
        memcpy(to->rgb + ((size_t)y * (size_t)to->width + (size_t)column) * 3,
               from->rgb + (size_t)y * (size_t)from->width * 3, (size_t)from->width * 3 * sizeof(float));
}

static int write_picture(const char *path, const oasis_frame *frame)
{
    oasis_message message = {""};
    oasis_writer *writer = NULL;
    oasis_writer_options options;
    oasis_writer_options_init(&options);
    options.overwrite = true;
    int code = EXIT_SUCCESS;
    if (oasis_writer_open(&writer, path, &options, NULL, frame->width, frame->height, &message) != OASIS_OK)
        code = fail(path, message.text);
    else if (oasis_writer_write(writer, frame) != OASIS_OK || oasis_writer_finish(writer) != OASIS_OK)
        code = fail(path, oasis_writer_message(writer));
    oasis_writer_close(&writer);
    return code;
}

int main(int argc, char **argv)
{
    oasis_frame left = {0}, right = {0}, both = {0};
    int code = EXIT_FAILURE;
    if (argc != 5)
        return fail("usage", "side_by_side LEFT RIGHT SECONDS OUT.png");
    if (read_frame(argv[1], 0, &left) && read_frame(argv[2], atof(argv[3]), &right)) {
        if (oasis_frame_new(&both, left.width + GAP + right.width, left.height, false) != OASIS_OK) {
            fail(argv[4], "out of memory");
        } else {
            for (size_t i = 0; i < (size_t)both.width * (size_t)both.height * 3; i++)
                both.rgb[i] = 1;
            copy_into(&both, &left, 0);
            copy_into(&both, &right, left.width + GAP);
            code = write_picture(argv[4], &both);
        }
    }
    oasis_frame_free(&left);
    oasis_frame_free(&right);
    oasis_frame_free(&both);
    return code;
}
