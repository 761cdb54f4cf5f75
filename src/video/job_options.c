/* What a job can be told: defaults, and the rows of its options. */
#include "video/media.h"

#include <libavcodec/avcodec.h>
#include <libavfilter/avfilter.h>
#include <libavformat/avformat.h>
#include <libavutil/log.h>
#include <libswscale/swscale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define JOB(f) offsetof(oasis_job, f)

void oasis_job_init(oasis_job *job)
{
    *job = (oasis_job){.size = sizeof *job};
    oasis_options_init(&job->upscale);
    oasis_reader_options_init(&job->read);
    oasis_writer_options_init(&job->write);
}

static const oasis_option media_rows[] = {
    {"input", 'i', NULL, OASIS_OPTION_TEXT, JOB(input), 0, 0, NULL, "IN", NULL,
     "video, picture, folder of pictures, pattern like shot-%04d.png, or - for YUV4MPEG2 on standard input", "Files"},
    {"output", 'o', NULL, OASIS_OPTION_TEXT, JOB(output), 0, 0, NULL, "OUT", NULL,
     "likewise; the ending chooses the container, a final / a folder of pictures", "Files"},
    {"start", 0, "ss", OASIS_OPTION_TIME, JOB(read.start), 0, 1e9, NULL, "TIME", "0",
     "leave out what comes before this time, in seconds or HH:MM:SS.mmm", "Input"},
    {"frames", 0, "frames:v", OASIS_OPTION_INT64, JOB(read.frames), 0, 0x1p53, NULL, "N", "0",
     "stop after so many frames; 0 = all", "Input"},
    {"deinterlace", 0, NULL, OASIS_OPTION_FLAG, JOB(read.deinterlace), 0, 0, NULL, NULL, "false",
     "turn interlaced pictures into whole ones first, as many out as in", "Input"},
    {"hwdec", 0, NULL, OASIS_OPTION_TEXT, JOB(read.hwdec), 0, 0, NULL, "DEVICE", "auto",
     "GPU that decodes: cuda, cuda:N, off, or auto: the one of --device; where it cannot, the processor does", "Input"},
    {"fps", 'r', NULL, OASIS_OPTION_NUMBER, JOB(read.fps), 0.001, 1000, NULL, "RATE", "24",
     "frame rate of pictures that are read", "Input"},
    {"codec", 'c', "c:v", OASIS_OPTION_TEXT, JOB(write.codec), 0, 0, NULL, "NAME", "libx264",
     "FFmpeg's name of the encoder, such as libx265, libsvtav1, ffv1 or prores_ks", "Output"},
    {"crf", 0, NULL, OASIS_OPTION_NUMBER, JOB(write.crf), 0, 63, NULL, "Q", "14",
     "constant quality of the encoder, less is better; the default is that of libx264", "Output"},
    {"preset", 0, NULL, OASIS_OPTION_TEXT, JOB(write.preset), 0, 0, NULL, "NAME", "medium",
     "how much the encoder tries, such as fast or slow; the default is that of libx264", "Output"},
    {"pix-fmt", 0, "pix_fmt", OASIS_OPTION_TEXT, JOB(write.pixel_format), 0, 0, NULL, "NAME", "yuv420p",
     "pixel format; by default with 10 bits where the input has more than 8, and RGB for pictures", "Output"},
    {"encoder-option", 'e', NULL, OASIS_OPTION_LIST, JOB(write.extra), 0, 0, NULL, "KEY=VALUE", NULL,
     "hand a setting to the encoder or the container; may be given more than once", "Output"},
    {"audio", 0, NULL, OASIS_OPTION_FLAG, JOB(write.audio), 0, 0, NULL, NULL, "true",
     "copy sound, subtitles, chapters, attachments and metadata", "Output"},
    {"encoder-threads", 0, NULL, OASIS_OPTION_INT, JOB(write.threads), 1, 1024, NULL, "N", "2",
     "threads of the encoder; some encoders give other bits for another number", "Output"},
};

enum { MEDIA_ROWS = sizeof media_rows / sizeof *media_rows, UPSCALE_ROWS_MAX = 64 };

/* Both tables in one; made once, when first asked for, and constant from then on. */
static oasis_option job_rows[MEDIA_ROWS + UPSCALE_ROWS_MAX + 1];

static void make_rows(void)
{
    int n = 0;
    for (; n < MEDIA_ROWS; n++)
        job_rows[n] = media_rows[n];
    for (const oasis_option *o = oasis_upscale_options(); o->name && n < MEDIA_ROWS + UPSCALE_ROWS_MAX; o++) {
        job_rows[n] = *o;
        job_rows[n++].offset += JOB(upscale);
    }
}

const oasis_option *oasis_job_options(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_rows);
    return job_rows;
}

/* ---- about FFmpeg ------------------------------------------------------------------------------------------------- */

void oasis_media_set_quiet(bool quiet)
{
    av_log_set_level(quiet ? AV_LOG_QUIET : AV_LOG_INFO);
    if (quiet)
        setenv("SVT_LOG", "1", 0); /* SVT-AV1 writes on standard error by itself: errors only */
}

size_t oasis_media_build_info(char *text, size_t size)
{
    const struct {
        const char *name;
        unsigned version;
    } libraries[] = {
        {"libavformat", avformat_version()}, {"libavcodec", avcodec_version()}, {"libavfilter", avfilter_version()},
        {"libswscale", swscale_version()},   {"libavutil", avutil_version()},
    };
    char all[1024];
    int n = snprintf(all, sizeof all, "ffmpeg: %s, %s\n", av_version_info(), avcodec_license());
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries && n < (int)sizeof all; i++)
        n += snprintf(all + n, sizeof all - (size_t)n, "%s: %u.%u.%u\n", libraries[i].name, libraries[i].version >> 16,
                      libraries[i].version >> 8 & 255, libraries[i].version & 255);
    return (size_t)snprintf(text, size, "%s", all);
}
