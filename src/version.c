/* What this library is and what it runs on. */
#include "cpu/dnnl.h"
#include "cpu/level.h"

#include <jansson.h>
#include <stdio.h>

const char *oasis_version(void)
{
    return OASIS_VERSION;
}

size_t oasis_build_info(char *text, size_t size)
{
    oasis_message why = {""};
    oas_cpu_level level = OAS_LEVEL_C;
    const char *chosen = oas_cpu_choose(&level, &why) < 0 ? why.text : oas_cpu_level_name(level);
#if defined(__clang__)
    const char *compiler = "clang " __clang_version__;
#elif defined(__GNUC__)
    const char *compiler = "gcc " __VERSION__;
#else
    const char *compiler = "unknown";
#endif
    int n = snprintf(text, size,
                     "liboasis: %s\ncompiler: %s\ncpu kernels: %s (machine has %s)\nthreads: %d\noneDNN: %s\n"
                     "jansson: %s\n",
                     OASIS_VERSION, compiler, chosen, oas_cpu_level_name(oas_cpu_detect()), oas_cpu_count(),
                     oas_dnnl_version(), JANSSON_VERSION);
    return n < 0 ? 0 : (size_t)n;
}
