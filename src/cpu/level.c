/* Which kernels this machine can run, and which of them to use. */
#include "cpu/level.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

static const char *const level_names[OAS_LEVELS] = {"ref", "avx2", "avx512", "avx512bf16", "amx"};

#if defined(__x86_64__) && defined(__GNUC__)
/* gcc 12 and clang 14 do not know these names: leaf 7, tiles and their products of bf16. */
static bool has_tiles(void)
{
    enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_BF16) && (d & AMX_TILE);
}

/* The state of tiles is large, so Linux saves it for processes that have asked; asking again changes nothing. */
static bool may_use_tiles(void)
{
#ifdef __linux__
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}
#endif

oas_cpu_level oas_cpu_detect(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    /* Every processor with AVX2 has F16C, for which clang 14 cannot ask. */
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return OAS_LEVEL_C;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
        return OAS_LEVEL_AVX2;
    if (!__builtin_cpu_supports("avx512bf16"))
        return OAS_LEVEL_AVX512;
    return has_tiles() && may_use_tiles() ? OAS_LEVEL_AMX : OAS_LEVEL_AVX512BF16;
#else
    return OAS_LEVEL_C;
#endif
}

oasis_status oas_cpu_choose(oas_cpu_level *level, oasis_message *message)
{
    oas_cpu_level best = oas_cpu_detect();
    const char *wanted = getenv("OASIS_CPU");
    *level = best;
    if (!wanted || !*wanted)
        return OASIS_OK;
    for (int i = 0; i < OAS_LEVELS; i++)
        if (strcmp(wanted, level_names[i]) == 0) {
            *level = (oas_cpu_level)i < best ? (oas_cpu_level)i : best;
            return OASIS_OK;
        }
    return oas_fail(message, OASIS_E_ARGUMENT,
                    "OASIS_CPU is \"%s\", which is no level; use ref, avx2, avx512, avx512bf16 or amx, or unset it",
                    wanted);
}

const char *oas_cpu_level_name(oas_cpu_level level)
{
    return level_names[level];
}
