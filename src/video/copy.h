/*
 * The other streams of an input (sound, subtitles, data, attachments, covers, further videos), its chapters and metadata,
 * copied into an output as they are.
 *
 * The input is opened a second time, so that copying keeps its own pace and the two threads share nothing.
 */
#ifndef OAS_VIDEO_COPY_H
#define OAS_VIDEO_COPY_H

#include "video/source.h"

#include <libavformat/avformat.h>

typedef struct oas_copied oas_copied; /* the state of one stream */

typedef struct oas_copier {
    const oas_source *source;
    AVFormatContext *in, *out;
    oas_copied *streams; /* [in->nb_streams] */
    AVPacket *packet;
    bool pending, ended; /* `packet` waits; nothing more is to be read */
    bool began;          /* covers are written */
    oasis_status failed;
} oas_copier;

/* Whether a container can hold a stream as it is. */
bool oas_container_holds(const AVOutputFormat *container, const AVStream *stream);

/*
 * Opens the input again.  The copier is zeroed first; oas_copier_close works after any failure.
 *   out  the output, whose header is not written yet
 */
oasis_status oas_copier_open(oas_copier *copier, const oas_source *source, AVFormatContext *out,
                             oasis_message *message);

/*
 * Adds stream `index` of the input to the output.  Data streams that the container cannot hold are left out, and named
 * in `note`; any other such stream is refused with OASIS_E_UNSUPPORTED and a container that can hold all.
 *   name  of the output, for the message
 */
oasis_status oas_copier_add(oas_copier *copier, unsigned index, const char *name, char *note, size_t note_size,
                            oasis_message *message);

/* Copies chapters, as far as they lie in the range that is written, and the metadata of the file. */
oasis_status oas_copier_add_chapters(oas_copier *copier, oasis_message *message);
void oas_copy_metadata(AVDictionary **to, const AVDictionary *from, bool reencoded);

/*
 * Writes all packets up to `seconds` of the output's clock.
 *   end  packets from there on are dropped; below 0: none
 * After the header is written only.
 */
oasis_status oas_copier_pump(oas_copier *copier, double seconds, double end, oasis_message *message);
void oas_copier_close(oas_copier *copier);

#endif
