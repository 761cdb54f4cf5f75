/*
 * The passes with AVX-512.  Rearrangements do not gather: 16 values of the output mostly come from one to four short
 * stretches of the input, and each stretch is two loads and one permutation of their 32 floats or 64 bf16.
 */
#include "cpu/x86/vector_avx512.h"

#define OWN_TABLE
#include "cpu/passes_template.h"

enum { MOST_STRETCHES = 128 };

/* A part of an output vector: lane i of `mask` is value pick[i] of those that begin at `base`. */
typedef struct stretch {
    int32_t base;
    uint16_t mask;
    bool last; /* of its vector */
    union {
        int32_t floats[LANES];
        uint16_t halves[2 * LANES];
    } pick;
} stretch;

typedef struct permutation {
    int64_t reach; /* values from a block's begin that are read */
    int count;
    stretch stretch[MOST_STRETCHES];
} permutation;

/* Cuts the indices into stretches of at most `span` values; false when there would be too many. */
static bool cut(permutation *p, oas_dtype x_type, const int32_t *index, int64_t period)
{
    const int32_t span = x_type == OAS_F32 ? 32 : 64;
    *p = (permutation){0};
    if (period % LANES != 0)
        return false;
    for (int64_t v = 0; v < period; v += LANES) {
        for (unsigned left = 0xffff; left != 0;) {
            if (p->count == MOST_STRETCHES)
                return false;
            stretch *s = &p->stretch[p->count++];
            *s = (stretch){.base = INT32_MAX};
            for (int i = 0; i < LANES; i++)
                if (left >> i & 1 && index[v + i] < s->base)
                    s->base = index[v + i];
            for (int i = 0; i < LANES; i++) {
                int32_t at = index[v + i] - s->base;
                if (!(left >> i & 1) || at >= span)
                    continue;
                s->mask = (uint16_t)(s->mask | 1u << i);
                if (x_type == OAS_F32)
                    s->pick.floats[i] = at;
                else
                    s->pick.halves[i] = (uint16_t)at;
            }
            left &= ~(unsigned)s->mask;
            s->last = left == 0;
            p->reach = s->base + span > p->reach ? s->base + span : p->reach;
        }
    }
    return true;
}

/* The values of a stretch, in its lanes; others are any. */
PASS_INLINE vec pick(const stretch *s, const void *x, const oas_dtype x_type)
{
    if (x_type == OAS_F32) {
        const float *from = (const float *)x + s->base;
        return _mm512_permutex2var_ps(v_load(from), _mm512_loadu_si512(s->pick.floats), v_load(from + LANES));
    }
    const uint16_t *from = (const uint16_t *)x + s->base;
    __m512i halves = _mm512_permutex2var_epi16(_mm512_loadu_si512(from), _mm512_loadu_si512(s->pick.halves),
                                               _mm512_loadu_si512(from + 2 * LANES));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(halves)), 16));
}

PASS_INLINE void permute_block(const permutation *p, void *y, const oas_dtype y_type, const void *x,
                               const oas_dtype x_type, const float *add)
{
    vec t = v_set(0.f);
    int64_t at = 0;
    for (int i = 0; i < p->count; i++) {
        const stretch *s = &p->stretch[i];
        t = v_select(s->mask, pick(s, x, x_type), t);
        if (!s->last)
            continue;
        if (add)
            t = v_add(t, v_load(add + at));
        v_store_values(place_at(y, y_type, at), y_type, t, LANES);
        at += LANES;
    }
}

static void rearrange(void *y, oas_dtype y_type, const void *x, oas_dtype x_type, int64_t size, const float *add,
                      const int32_t *index, int64_t period, int64_t step, int64_t n)
{
    permutation p;
    int64_t done = 0, from = 0;
    if (cut(&p, x_type, index, period))
        for (; done + period <= n && from + p.reach <= size; done += period, from += step) {
            const void *block = value_at(x, x_type, from);
            void *out = place_at(y, y_type, done);
            const float *more = add ? add + done : NULL;
            if (x_type == OAS_BF16 && y_type == OAS_BF16)
                permute_block(&p, out, OAS_BF16, block, OAS_BF16, more);
            else if (x_type == OAS_BF16)
                permute_block(&p, out, OAS_F32, block, OAS_BF16, more);
            else if (y_type == OAS_BF16)
                permute_block(&p, out, OAS_BF16, block, OAS_F32, more);
            else
                permute_block(&p, out, OAS_F32, block, OAS_F32, more);
        }
    gather(place_at(y, y_type, done), y_type, value_at(x, x_type, from), x_type, size - from, add ? add + done : NULL,
           index, period, step, n - done);
}

extern const oas_passes oas_passes_avx512;
const oas_passes oas_passes_avx512 = {convert, norm_modulate, rms_norm_rope, add_gated, axpy, activate, rearrange};
