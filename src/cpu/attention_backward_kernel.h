/* The row of cpu/attention_backward.h; included by one file per level, which defines WEIGH_BACK. */
#include "cpu/attention_backward.h"
#include "cpu/vectorizable.h"

#define ROW(name, type, store)                                                                                         \
    static void name(const weigh_back *w, const float *restrict s, const float *restrict dp, type *restrict p,          \
                     type *restrict e, int64_t n)                                                                      \
    {                                                                                                                  \
        const float *mask = w->mask, scale = w->scale, lse = w->lse, t = w->t;                                         \
        for (int64_t j = 0; j < n; j++) {                                                                              \
            float weight = exp_of(s[j] * scale - lse) * (mask ? mask[j] : 1.f);                                        \
            p[j] = store(weight);                                                                                      \
            e[j] = store(scale * weight * (dp[j] - t));                                                                \
        }                                                                                                              \
    }

ROW(row_f32, float, (float))
ROW(row_bf16, uint16_t, round_bf16)

void WEIGH_BACK(const weigh_back *w, const float *s, const float *dp, void *p, void *e, oas_dtype type, int64_t n)
{
    if (type == OAS_BF16)
        row_bf16(w, s, dp, p, e, n);
    else
        row_f32(w, s, dp, p, e, n);
}
