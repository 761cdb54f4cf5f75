/* Small inputs for the program, and what is in its outputs. */
#ifndef TESTS_E2E_CLIP_H
#define TESTS_E2E_CLIP_H

#include <stdint.h>

/* Writes a YUV4MPEG2 file, 4:2:0, 25 frames a second: a bright disc that wanders over a slope. */
void write_y4m(const char *path, int width, int height, int frames);

/* Writes one picture of it through liboasis-media. */
void write_picture(const char *path, int width, int height);

typedef struct contents {
    int width, height;
    int64_t frames; /* read, not as the container says */
    int audio;      /* streams */
    double mean;    /* of all values of all frames, 0 to 1 */
} contents;

/* Reads a file in full through liboasis-media; fails the test when it cannot. */
contents read_contents(const char *path);

/* Fails the test unless the file has this size and number of frames. */
void expect_contents(const char *path, int width, int height, int frames);

#endif
