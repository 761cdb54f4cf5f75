/*
 * Fits the NIQE model that comes with oasis and prints src/metrics/niqe_model.c.
 *   build/fit_niqe PICTURE... > src/metrics/niqe_model.c
 *
 * The pictures should be photographs made smaller by half or more, so that they are sharp to the pixel.  Of each those
 * blocks count that are at least 3/4 as sharp as its sharpest one, as in the paper.
 */
#include "metrics/niqe.h"

#include <oasis/video.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double SHARP = 0.75;

static double (*features)[OAS_NIQE_FEATURES];
static int count, capacity;

static void fail(const char *what)
{
    fprintf(stderr, "fit_niqe: %s\n", what);
    exit(1);
}

static float *luma_of(const oasis_frame *f)
{
    size_t n = (size_t)f->width * (size_t)f->height;
    float *luma = malloc(n * sizeof *luma);
    if (!luma)
        fail("out of memory");
    for (size_t i = 0; i < n; i++) {
        const float *p = f->rgb + 3 * i;
        luma[i] = (float)(int)(255 * (0.299 * (double)p[0] + 0.587 * (double)p[1] + 0.114 * (double)p[2]) + 0.5);
    }
    return luma;
}

static void add_picture(const char *path)
{
    oasis_message why;
    oasis_reader *reader = NULL;
    oasis_frame frame;
    niqe_blocks blocks;
    if (oasis_reader_open(&reader, path, NULL, &why) < 0)
        fail(why.text);
    if (oasis_reader_read(reader, &frame) != OASIS_OK)
        fail(oasis_reader_message(reader));
    float *luma = luma_of(&frame);
    if (frame.width >= OAS_NIQE_BLOCK && frame.height >= OAS_NIQE_BLOCK) {
        if (oas_niqe_blocks_new(&blocks, NULL, luma, frame.width, frame.height, &why) < 0)
            fail(why.text);
        double sharpest = 0;
        for (int i = 0; i < blocks.n; i++)
            sharpest = blocks.sharpness[i] > sharpest ? blocks.sharpness[i] : sharpest;
        for (int i = 0; i < blocks.n; i++)
            if (blocks.sharpness[i] >= SHARP * sharpest) {
                if (count == capacity) {
                    capacity = capacity ? 2 * capacity : 1024;
                    features = realloc(features, (size_t)capacity * sizeof *features);
                    if (!features)
                        fail("out of memory");
                }
                memcpy(features[count++], blocks.features[i], sizeof *features);
            }
        oas_niqe_blocks_free(&blocks);
    }
    free(luma);
    oasis_frame_free(&frame);
    oasis_reader_close(&reader);
}

int main(int argc, char **argv)
{
    niqe_model m;
    for (int i = 1; i < argc; i++)
        add_picture(argv[i]);
    if (!oas_niqe_fit(&m, (const double(*)[OAS_NIQE_FEATURES])features, NULL, count))
        fail("no pictures");
    printf(
        "/*\n * The NIQE model of oasis: mean and covariance (upper triangle, row by row) of the features of %d sharp\n"
        " * blocks of %d freely licensed photographs.  Made by tools/fit_niqe.c.\n */\n"
        "#include \"metrics/niqe.h\"\n\nenum { N = OAS_NIQE_FEATURES };\n\n"
        "static const double mean[N] = {\n",
        count, argc - 1);
    for (int i = 0; i < OAS_NIQE_FEATURES; i++)
        printf("%s%.9g,%s", i % 6 ? " " : "    ", m.mean[i], i % 6 == 5 ? "\n" : "");
    printf("};\n\nstatic const double covariance[N * (N + 1) / 2] = {\n");
    int k = 0;
    for (int i = 0; i < OAS_NIQE_FEATURES; i++)
        for (int j = i; j < OAS_NIQE_FEATURES; j++, k++)
            printf("%s%.9g,%s", k % 6 ? " " : "    ", m.covariance[i][j], k % 6 == 5 ? "\n" : "");
    printf("};\n\nvoid oas_niqe_own_model(niqe_model *model)\n{\n    const double *next = covariance;\n"
           "    for (int i = 0; i < N; i++) {\n        model->mean[i] = mean[i];\n"
           "        for (int j = i; j < N; j++)\n"
           "            model->covariance[i][j] = model->covariance[j][i] = *next++;\n    }\n}\n");
    free(features);
    return 0;
}
