/* Statuses and messages. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *oasis_status_name(oasis_status status)
{
    switch (status) {
    case OASIS_OK: return "ok";
    case OASIS_AGAIN: return "more input needed";
    case OASIS_END: return "end of stream";
    case OASIS_E_MEMORY: return "out of memory";
    case OASIS_E_IO: return "input or output failed";
    case OASIS_E_FORMAT: return "damaged or unknown format";
    case OASIS_E_UNSUPPORTED: return "not supported";
    case OASIS_E_ARGUMENT: return "argument out of range";
    case OASIS_E_DEVICE: return "device failed";
    case OASIS_E_CANCELLED: return "cancelled";
    case OASIS_E_MODEL: return "model missing or unusable";
    }
    return "unknown status";
}

oasis_status oas_fail(oasis_message *message, oasis_status status, const char *format, ...)
{
    if (message) {
        va_list args;
        va_start(args, format);
        int n = vsnprintf(message->text, sizeof message->text, format, args);
        va_end(args);
        if (n >= (int)sizeof message->text)
            memcpy(message->text + sizeof message->text - 4, "...", 4);
        /* Names from files are quoted in sentences: they must not steer a terminal. */
        for (char *s = message->text; *s; s++)
            if ((unsigned char)*s < 0x20 || *s == 0x7f)
                *s = '?';
    }
    return status;
}

oasis_status oas_fail_memory(oasis_message *message, size_t bytes, const char *what)
{
    return oas_fail(message, OASIS_E_MEMORY, "out of memory: %zu bytes for %s", bytes, what);
}
