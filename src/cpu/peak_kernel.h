/*
 * The loop that measures a peak.  The file that includes it defines KERNEL (its name), PEAK_VECTOR (a vector type),
 * PEAK_SET(x) (all lanes), PEAK_MAC(acc, a) (acc + a*a) and PEAK_FLOPS (of one PEAK_MAC).  Twelve chains hide the
 * latency of a multiply-add.
 */
#ifndef OAS_CPU_PEAK_KERNEL_H
#define OAS_CPU_PEAK_KERNEL_H

#include <stdint.h>
#include <string.h>

/* Runs `rounds` rounds and adds something of the result to *sink; returns the operations done. */
typedef double oas_peak_fn(int64_t rounds, float *sink);

oas_peak_fn oas_peak_c, oas_peak_avx2, oas_peak_avx512, oas_peak_avx512bf16, oas_peak_amx;

#ifdef KERNEL
#define PEAK_ALL(X)    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define PEAK_DEFINE(i) PEAK_VECTOR chain##i = PEAK_SET((float)i);
#define PEAK_STEP(i)   chain##i = PEAK_MAC(chain##i, factor);
#define PEAK_STORE(i)  memcpy(values[i], &chain##i, sizeof chain##i);

double KERNEL(int64_t rounds, float *sink)
{
    PEAK_ALL(PEAK_DEFINE)
    PEAK_VECTOR factor = PEAK_SET(*sink); /* unknown to the compiler */
    for (int64_t i = 0; i < rounds; i++) {
        PEAK_ALL(PEAK_STEP)
    }
    float values[12][sizeof factor / sizeof(float)];
    PEAK_ALL(PEAK_STORE)
    for (int i = 0; i < 12; i++)
        *sink += values[i][0] * 1e-30f;
    return 12. * PEAK_FLOPS * (double)rounds;
}
#endif

#endif
