/* The machine's own limit, measured: multiply-adds on registers only. */
#ifndef OAS_CPU_PEAK_H
#define OAS_CPU_PEAK_H

#include "base/threads.h"
#include "cpu/level.h"
#include "tensor/tensor.h"

/*
 * Operations per second (a multiply-add counts two) of all threads of a pool, with products in dtype and sums in float:
 * the best of several short runs, about 0.2 s in all.  Without bf16 products at that level, those of float count.
 */
double oas_peak(oas_cpu_level level, oas_dtype dtype, oas_pool *pool);

#endif
