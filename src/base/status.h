/*
 * Failing with a sentence.  A function that can fail returns oasis_status and takes an oasis_message; it writes the
 * message where the failure is found and hands the status up with OAS_TRY.
 */
#ifndef OAS_BASE_STATUS_H
#define OAS_BASE_STATUS_H

#include <oasis/oasis.h>

#if defined(__GNUC__)
#define OAS_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define OAS_PRINTF(text, first)
#endif

/* Hands a failure (a negative status) up to the caller. */
#define OAS_TRY(expression)                                                                                            \
    do {                                                                                                               \
        oasis_status oas_try_status = (expression);                                                                    \
        if (oas_try_status < 0)                                                                                        \
            return oas_try_status;                                                                                     \
    } while (0)

/* Writes the sentence into *message (NULL: dropped) and returns `status`, so that failing is one line.  A sentence too
 * long for the message ends in "...". */
oasis_status oas_fail(oasis_message *message, oasis_status status, const char *format, ...) OAS_PRINTF(3, 4);

/* "out of memory: BYTES bytes for WHAT". */
oasis_status oas_fail_memory(oasis_message *message, size_t bytes, const char *what);

#endif
