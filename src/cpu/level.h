/*
 * Which instructions this machine has.  Levels are ordered: a higher one has everything of the lower ones.
 */
#ifndef OAS_CPU_LEVEL_H
#define OAS_CPU_LEVEL_H

#include "base/status.h"

typedef enum oas_cpu_level {
    OAS_LEVEL_C,          /* plain C, any machine */
    OAS_LEVEL_AVX2,       /* AVX2, FMA, F16C */
    OAS_LEVEL_AVX512,     /* AVX-512 F, BW, VL, DQ */
    OAS_LEVEL_AVX512BF16, /* and bf16 dot products */
    OAS_LEVEL_AMX,        /* and tiles: matrix products of bf16 */
    OAS_LEVELS
} oas_cpu_level;

/*
 * What the machine has, whatever OASIS_CPU says.  Where it has tiles, this asks the system to let the process use them;
 * where that is refused, they count as not there.
 */
oas_cpu_level oas_cpu_detect(void);

/*
 * The level to use: the machine's, capped by the environment variable OASIS_CPU (ref, avx2, avx512, avx512bf16, amx).
 * Fails with OASIS_E_ARGUMENT when OASIS_CPU names no level.
 */
oasis_status oas_cpu_choose(oas_cpu_level *level, oasis_message *message);

/* "ref", "avx2", "avx512", "avx512bf16", "amx". */
const char *oas_cpu_level_name(oas_cpu_level level);

#endif
