/* Measures what the machine can do at most, and holds the loop in plain C. */
#include "cpu/peak.h"

#define KERNEL           oas_peak_c
#define PEAK_VECTOR      float
#define PEAK_SET(x)      (x)
#define PEAK_MAC(acc, a) ((acc) + (a) * (a))
#define PEAK_FLOPS       2
#include "cpu/peak_kernel.h"

enum { RUNS = 8, RUN_MILLISECONDS = 20, MOST_WORKERS = 256 };

typedef struct measurement {
    oas_peak_fn *fn;
    int64_t rounds;
    double done[MOST_WORKERS];
} measurement;

static void run_slab(void *arg, int64_t slab, int worker)
{
    (void)worker;
    measurement *m = arg;
    float sink = 1e-3f;
    m->done[slab] = m->fn(m->rounds, &sink);
}

static oas_peak_fn *peak_for(oas_cpu_level level, oas_dtype dtype)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (level >= OAS_LEVEL_AMX && dtype == OAS_BF16)
        return oas_peak_amx;
    if (level >= OAS_LEVEL_AVX512BF16 && dtype == OAS_BF16)
        return oas_peak_avx512bf16;
    if (level >= OAS_LEVEL_AVX512)
        return oas_peak_avx512;
    if (level >= OAS_LEVEL_AVX2)
        return oas_peak_avx2;
#endif
    (void)level;
    (void)dtype;
    return oas_peak_c;
}

double oas_peak(oas_cpu_level level, oas_dtype dtype, oas_pool *pool)
{
    measurement m = {.fn = peak_for(level, dtype), .rounds = 1 << 16};
    int slabs = oas_pool_workers(pool) < MOST_WORKERS ? oas_pool_workers(pool) : MOST_WORKERS;
    double best = 0;
    for (int run = 0; run < RUNS; run++) {
        double start = oas_now(), operations = 0;
        oas_pool_run(pool, slabs, run_slab, &m);
        double seconds = oas_now() - start;
        for (int i = 0; i < slabs; i++)
            operations += m.done[i];
        if (operations / seconds > best)
            best = operations / seconds;
        if (seconds < RUN_MILLISECONDS * 1e-3) /* long enough that waking the threads does not count */
            m.rounds = (int64_t)((double)m.rounds * RUN_MILLISECONDS * 1.5e-3 / (seconds + 1e-6));
    }
    return best;
}
