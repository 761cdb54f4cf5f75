/* Messages and small texts of liboasis-media. */
#include "video/media.h"

#include <libavutil/avutil.h>
#include <libavutil/error.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void write_sentence(oasis_message *message, const char *format, va_list args)
{
    int n = vsnprintf(message->text, sizeof message->text, format, args);
    if (n >= (int)sizeof message->text)
        memcpy(message->text + sizeof message->text - 4, "...", 4);
}

oasis_status oas_media_fail(oasis_message *message, oasis_status status, const char *format, ...)
{
    if (message) {
        va_list args;
        va_start(args, format);
        write_sentence(message, format, args);
        va_end(args);
    }
    return status;
}

static oasis_status status_of(int code)
{
    switch (code) {
    case AVERROR(ENOMEM): return OASIS_E_MEMORY;
    case AVERROR_INVALIDDATA:
    case AVERROR_EOF: return OASIS_E_FORMAT;
    case AVERROR_DECODER_NOT_FOUND:
    case AVERROR_ENCODER_NOT_FOUND:
    case AVERROR_DEMUXER_NOT_FOUND:
    case AVERROR_MUXER_NOT_FOUND:
    case AVERROR_PATCHWELCOME:
    case AVERROR(ENOSYS): return OASIS_E_UNSUPPORTED;
    case AVERROR(EINVAL):
    case AVERROR_OPTION_NOT_FOUND: return OASIS_E_ARGUMENT;
    default: return OASIS_E_IO;
    }
}

oasis_status oas_media_fail_av(oasis_message *message, int code, const char *format, ...)
{
    if (message) {
        va_list args;
        va_start(args, format);
        write_sentence(message, format, args);
        va_end(args);
        char reason[AV_ERROR_MAX_STRING_SIZE] = "";
        if (code == AVERROR_INVALIDDATA)
            snprintf(reason, sizeof reason, "the data are damaged or not of this format");
        else
            av_strerror(code, reason, sizeof reason);
        size_t used = strlen(message->text);
        snprintf(message->text + used, sizeof message->text - used, ": %s", reason);
    }
    return status_of(code);
}

oasis_status oas_media_fail_memory(oasis_message *message, const char *what)
{
    return oas_media_fail(message, OASIS_E_MEMORY, "out of memory for %s", what);
}

const char *oas_media_time_text(char text[32], double seconds)
{
    int64_t ms = isfinite(seconds) && fabs(seconds) < 1e12 ? llround(seconds * 1000) : 0;
    const char *sign = ms < 0 ? "-" : "";
    ms = ms < 0 ? -ms : ms;
    snprintf(text, 32, "%s%lld:%02d:%02d.%03d", sign, (long long)(ms / 3600000), (int)(ms / 60000 % 60),
             (int)(ms / 1000 % 60), (int)(ms % 1000));
    return text;
}

const char *oas_media_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const char *oas_media_extension(const char *path)
{
    const char *name = oas_media_base_name(path);
    const char *dot = strrchr(name, '.');
    return dot && dot != name ? dot + 1 : "";
}

AVRational oas_media_rate(double fps)
{
    double whole = round(fps * 1.001);
    if (fabs(whole / 1.001 - fps) < 0.001 && fabs(fps - round(fps)) > 1e-6)
        return av_make_q((int)whole * 1000, 1001);
    return av_d2q(fps, 100000);
}
