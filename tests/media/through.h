/*
 * A file through oasis_reader and oasis_writer, enlarged by repeating pixels in place of a network.
 */
#ifndef TEST_MEDIA_THROUGH_H
#define TEST_MEDIA_THROUGH_H

#include <oasis/video.h>

typedef struct pass {
    int scale; /* 0: width and height are given */
    int width, height;
    const char *codec, *preset, *pixel_format;
    const char *extra; /* one key=value */
    double start;
    int64_t frames;
    bool no_audio, overwrite, deinterlace;
    char *note;     /* receives oasis_writer_note, 500 bytes, or NULL */
    bool lose_last; /* close without finishing */
} pass;

/* How it ended; the message of the call that failed. */
oasis_status try_through(const char *in, const char *out, const pass *p, oasis_message *why);

/* Must end well; the number of frames. */
int pass_through(const char *in, const char *out, const pass *p);

#endif
