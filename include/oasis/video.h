/*
 * Video and picture files to frames and back, through FFmpeg's libraries (liboasis-media, an optional part).
 *
 * The reader gives frames as liboasis wants them (RGB float); the writer takes frames and the reader they came from, and
 * makes a file that keeps everything else of the input: other streams, chapters, attachments, metadata, time stamps,
 * colour description, rotation and pixel shape.
 *
 * Inputs and outputs are named by a path: a media file; a folder of pictures; a printf pattern ("shot-%04d.png"); one
 * picture; or "-", YUV4MPEG2 on standard input or output.
 */
#ifndef OASIS_VIDEO_H
#define OASIS_VIDEO_H

#include <oasis/oasis.h>
#include <oasis/options.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- reading ------------------------------------------------------------------------------------------------------ */

typedef struct oasis_reader oasis_reader;

typedef struct oasis_reader_options {
    size_t size;      /* set by oasis_reader_options_init */
    double start;     /* seconds; frames shown before this are left out; default 0 */
    int64_t frames;   /* at most so many; 0 = all */
    bool deinterlace; /* bwdif, one frame out per frame in; default false: interlaced input is refused */
    double fps;       /* frame rate of a folder or pattern of pictures; default 24 */
    /* "cuda" or "cuda:N": that GPU decodes H.264, HEVC, VP8, VP9 and AV1 as far as it can, with the same frames as the
     * processor, which goes on wherever it cannot; "off": never; NULL and "auto": the GPU that a job computes on, without
     * a job none.  A GPU hides damage inside of pictures that the processor would report. */
    const char *hwdec;
} oasis_reader_options;

OASIS_API void oasis_reader_options_init(oasis_reader_options *options);

typedef enum oasis_input_kind { OASIS_INPUT_VIDEO, OASIS_INPUT_PICTURES, OASIS_INPUT_PICTURE } oasis_input_kind;

/* What an input is.  Texts are valid until the reader is closed; names are FFmpeg's ("bt709"), "unknown" where untagged. */
typedef struct oasis_media_info {
    oasis_input_kind kind;
    int width, height;           /* as stored, before rotation and pixel shape */
    int rotation;                /* degrees clockwise that a player turns the picture: 0, 90, 180, 270 */
    int sar_num, sar_den;        /* pixel shape; 1:1 where unknown */
    double fps;                  /* average; 0 where unknown */
    int64_t frames;              /* estimate; 0 where unknown */
    double duration;             /* seconds; 0 where unknown */
    bool variable_rate;          /* time stamps are not evenly spaced, as far as the container says */
    bool interlaced;
    int bit_depth;               /* of a component */
    bool alpha;
    const char *container, *codec, *pixel_format;
    const char *color_space, *color_range, *color_primaries, *color_transfer, *chroma_location; /* tags as found */
    const char *color_note;      /* what was assumed for missing tags, in words; "" when nothing */
    int n_video, n_audio, n_subtitle, n_data, n_attachment, n_chapters;
} oasis_media_info;

/*
 * Opens an input.  Fails with OASIS_E_IO (missing, unreadable), OASIS_E_FORMAT (no video in it, damaged),
 * OASIS_E_UNSUPPORTED (interlaced without `deinterlace`, no decoder), OASIS_E_MEMORY.
 */
OASIS_API oasis_status oasis_reader_open(oasis_reader **reader, const char *path, const oasis_reader_options *options,
                                         oasis_message *message);
OASIS_API void oasis_reader_info(const oasis_reader *reader, oasis_media_info *info);

/*
 * The next frame, in order of presentation; the caller frees it.  pts and duration are in the reader's time base; the
 * writer knows it.  OASIS_END after the last; OASIS_E_FORMAT names the place where the file is damaged or truncated.
 */
OASIS_API oasis_status oasis_reader_read(oasis_reader *reader, oasis_frame *frame);
OASIS_API const char *oasis_reader_message(const oasis_reader *reader);
OASIS_API void oasis_reader_close(oasis_reader **reader);

/* ---- writing ------------------------------------------------------------------------------------------------------ */

typedef struct oasis_writer oasis_writer;

typedef struct oasis_writer_options {
    size_t size;             /* set by oasis_writer_options_init */
    const char *codec;       /* FFmpeg's encoder name; NULL = libx264, or what the container needs */
    double crf;              /* constant quality; below 0 = a high one of the encoder (14 for libx264, 16 libx265, 20 AV1) */
    const char *preset;      /* NULL = the encoder's default */
    const char *pixel_format;/* NULL = yuv420p, 10-bit when the source is, rgb for pictures */
    oasis_text_list extra;   /* "key=value" handed to the encoder */
    bool audio;              /* copy the other streams, chapters, attachments; default true */
    bool overwrite;          /* replace an existing file; default false: refused */
    int threads;             /* of the encoder; default 1: with more, x264 was seen to give other bytes now and then */
} oasis_writer_options;

OASIS_API void oasis_writer_options_init(oasis_writer_options *options);

/*
 * Opens an output for frames of width x height pixels.  `source` (may be NULL: 24 frames a second, BT.709) lends its
 * streams and descriptions and must stay open until the writer is closed.  The file appears under its name only when
 * oasis_writer_finish succeeds; until then it has a temporary name beside it.
 *
 * Sound, subtitles, further videos, attachments and covers are copied byte by byte; one that the container cannot hold is
 * refused, never converted.  Left out with a note: data streams the container cannot hold, and all of these where the
 * output is pictures or YUV4MPEG2.  Rotation is written where the container knows it (MP4, MOV), else done to the pixels.
 * Fails with OASIS_E_IO (exists, cannot be written), OASIS_E_ARGUMENT (an encoder setting), OASIS_E_UNSUPPORTED (no such
 * encoder, a stream that this container cannot hold: the sentence names it and a container that can).
 */
OASIS_API oasis_status oasis_writer_open(oasis_writer **writer, const char *path, const oasis_writer_options *options,
                                         oasis_reader *source, int width, int height, oasis_message *message);

/* Encodes a frame.  The frame stays the caller's.  Time stamps must increase. */
OASIS_API oasis_status oasis_writer_write(oasis_writer *writer, const oasis_frame *frame);

/* Flushes, writes the rest of the streams, syncs to disk, renames.  Nothing may be written after. */
OASIS_API oasis_status oasis_writer_finish(oasis_writer *writer);
OASIS_API const char *oasis_writer_message(const oasis_writer *writer);

/* What is done otherwise than a user may expect, in words for people ("pixel format yuv444p, since yuv420p cannot hold an
 * odd size"); "" when nothing.  Known once the writer is open; valid until it is closed. */
OASIS_API const char *oasis_writer_note(const oasis_writer *writer);

/* Without a successful finish the temporary file is removed. */
OASIS_API void oasis_writer_close(oasis_writer **writer);

/* ---- from file to file -------------------------------------------------------------------------------------------- */

/* Everything `oasis upscale` can be told. */
typedef struct oasis_job {
    size_t size; /* set by oasis_job_init */
    const char *input, *output;
    oasis_options upscale;
    oasis_reader_options read;
    oasis_writer_options write;
} oasis_job;

OASIS_API void oasis_job_init(oasis_job *job);

/* The rows for oasis_job: those of oasis_upscale_options() and all that concerns reading and writing. */
OASIS_API const oasis_option *oasis_job_options(void);

typedef struct oasis_progress {
    int64_t frames_done;
    int64_t frames_total;     /* 0 where unknown */
    double seconds;           /* since the first frame went in */
    double frames_per_second; /* of late */
    double seconds_left;      /* below 0 where unknown */
} oasis_progress;

/* Called about ten times a second while a job runs, and once at its end, from the calling thread.  Returning false asks the
 * job to stop: within a second, also in the middle of a frame. */
typedef bool oasis_progress_fn(void *user, const oasis_progress *progress);

typedef struct oasis_job_result {
    oasis_plan plan;
    oasis_statistics statistics; /* stages of reading and writing included */
    double seconds;
    oasis_message note; /* oasis_writer_note; "" when there is nothing to say */
} oasis_job_result;

/*
 * What oasis_upscale_file would do, without writing anything: opens the input, plans, measures the machine for a quarter
 * of a second.  The plan's memory includes what decoding and encoding take.
 */
OASIS_API oasis_status oasis_plan_file(oasis_model *model, const oasis_job *job, oasis_plan *plan,
                                       oasis_message *message);

/*
 * Reads, upscales and writes; the three overlap.  On any failure, or when `progress` says stop, no output appears and
 * what was under its name before is untouched.
 *   progress, result, message  may be NULL
 */
OASIS_API oasis_status oasis_upscale_file(oasis_model *model, const oasis_job *job, oasis_progress_fn *progress, void *user,
                                          oasis_job_result *result, oasis_message *message);

/*
 * Whether FFmpeg's libraries and encoders may write on standard error.  liboasis-media itself never prints and changes
 * nothing global; this one call does, for programs: FFmpeg's log level is of the whole process.
 */
OASIS_API void oasis_media_set_quiet(bool quiet);

/* Versions of FFmpeg's libraries as "name: value" lines, like oasis_build_info. */
OASIS_API size_t oasis_media_build_info(char *text, size_t size);

#ifdef __cplusplus
}
#endif
#endif
