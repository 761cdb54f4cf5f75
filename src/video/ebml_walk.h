/*
 * The chain of elements of a Matroska or WebM file, followed while the file is read.  FFmpeg's demuxer skips places where
 * the chain is broken and goes on behind them, without a word about the frames that are lost.
 */
#ifndef OAS_VIDEO_EBML_WALK_H
#define OAS_VIDEO_EBML_WALK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct oas_ebml_walk {
    FILE *file;   /* NULL: not a Matroska file, nothing is checked */
    int64_t at;   /* where the next element begins */
    int64_t size; /* of the file, or where its segment ends */
} oas_ebml_walk;

/* Begins at the first element of a file. */
void oas_ebml_walk_open(oas_ebml_walk *walk, const char *path);
void oas_ebml_walk_close(oas_ebml_walk *walk);

/* Goes on to the element that holds byte `position` (INT64_MAX: to the end of the file); false where the chain is broken,
 * at walk->at. */
bool oas_ebml_walk_to(oas_ebml_walk *walk, int64_t position);

/*
 * An element's identifier, or a size (-1: unknown), at *position of a file; moves *position behind it.  False when
 * there is none.
 */
bool oas_ebml_number(FILE *file, int64_t *position, bool identifier, int64_t *value);

enum { OAS_EBML_SEGMENT = 0x18538067, OAS_EBML_CLUSTER = 0x1F43B675, OAS_EBML_BLOCK_GROUP = 0xA0 };

#endif
