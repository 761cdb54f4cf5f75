/*
 * The way back through an activation:  e = act'(u) dy, rounded to the type that products want.
 */
#ifndef OAS_CPU_SLOPE_H
#define OAS_CPU_SLOPE_H

#include "cpu/level.h"
#include "tensor/ops.h"

/*
 * n values of e, of type `type`, from dy and (for OAS_LINEAR not read, may be NULL) u.  exp is good to 3e-7 relative.
 * The bits do not depend on how the values are cut into calls.
 */
void oas_slope(oas_cpu_level level, oas_activation act, const float *u, const float *dy, void *e, oas_dtype type,
               int64_t n);

/* What a level's file offers. */
typedef void slope_fn(oas_activation act, const float *u, const float *dy, void *e, oas_dtype type, int64_t n);
extern slope_fn oas_slope_avx2, oas_slope_avx512;

#endif
