/*
 * Norms of rows.  The way back runs over rows first, which gives dx and keeps a few numbers of every row; a second pass sums
 * over rows for the gradients of gains.
 */
#include "cuda/passes_parts.cuh"
#include "cuda/rows.cuh"
#include "cuda/sums.cuh"

enum { ROW_NUMBERS = 2 }; /* floats that the way back keeps of a row */

size_t oas_pass_norm_bytes(oas_cuda *c, int64_t rows, int64_t d)
{
    (void)c;
    oas_sum_plan p = oas_plan_sums(rows, d);
    return oas_partial_bytes(&p, 2) + (size_t)(rows * ROW_NUMBERS) * sizeof(float);
}

/* ---- layer norm ------------------------------------------------------------------------------------------------------ */

struct layer_job {
    cuda_array y, x, gain, shift, dy, dx;
    float *numbers; /* mean and 1/deviation of every row, for the sums */
    float plus, eps;
};

template <int K>
__device__ static void statistics(const oas_lane_row<K> &x, float part, float eps, float *mean, float *r)
{
    float sum = 0.f, square = 0.f, v[OAS_CHUNK];
    OAS_UNROLL
    for (int k = 0; k < x.chunks(); k++) {
        x.get(k, v);
        OAS_UNROLL
        for (int i = 0; i < OAS_CHUNK; i++)
            sum += v[i];
    }
    *mean = oas_group_sum(sum, x.lanes) * part;
    OAS_UNROLL
    for (int k = 0; k < x.chunks(); k++) {
        int n = x.count(k);
        x.get(k, v);
        OAS_UNROLL
        for (int i = 0; i < OAS_CHUNK; i++)
            square += i < n ? (v[i] - *mean) * (v[i] - *mean) : 0.f;
    }
    *r = rsqrtf(oas_group_sum(square, x.lanes) * part + eps);
}

template <int K> static __global__ void OAS_ROW_BOUNDS(K) layer_norm_kernel(oas_row_walk w, layer_job j)
{
    oas_lane_row<K> next;
    next.start(w, j.x, oas_first_item() / w.lanes);
    OAS_FOR_ROWS(w, row)
    {
        oas_lane_row<K> x = next;
        float mean, r, v[OAS_CHUNK], gain[OAS_CHUNK], shift[OAS_CHUNK];
        next.start(w, j.x, row + oas_item_step() / w.lanes);
        statistics(x, w.part, j.eps, &mean, &r);
        OAS_UNROLL
        for (int k = 0; k < x.chunks(); k++) {
            x.get(k, v);
            x.load(k, gain, j.gain, x.column(k));
            x.load(k, shift, j.shift, x.column(k));
            OAS_UNROLL
            for (int i = 0; i < OAS_CHUNK; i++)
                v[i] = (v[i] - mean) * r * (j.plus + gain[i]) + shift[i];
            x.store(k, j.y, v);
        }
    }
}

oasis_status oas_pass_layer_norm(oas_cuda *c, cuda_array y, cuda_array x, const float *gain, const float *shift,
                                 float plus, float eps, int64_t rows, int64_t d)
{
    if (rows < 1 || d < 1)
        return OASIS_OK;
    layer_job j = {y, x, oas_float_array(gain), oas_float_array(shift), OAS_NONE, OAS_NONE, NULL, plus, eps};
    bool wide = oas_is_wide(y, d) && oas_is_wide(x, d) && oas_is_wide(gain, d) && oas_is_wide(shift, d);
    oas_row_walk w = oas_walk_of(rows, d, wide);
    OAS_LAUNCH_ROWS(c, layer_norm_kernel, oas_blocks(c, rows * w.lanes), w, j);
    return oas_launched();
}

/* With u = (x - mean) r and e = dy (plus + gain):  dx += r (e - mean(e) - u mean(e u)). */
template <int K> static __global__ void layer_norm_backward_kernel(oas_row_walk w, layer_job j)
{
    OAS_FOR_ROWS(w, row)
    {
        oas_lane_row<K> x, dy;
        float mean, r, sum = 0.f, along = 0.f, v[OAS_CHUNK], e[OAS_CHUNK], gain[OAS_CHUNK];
        x.start(w, j.x, row);
        dy.start(w, j.dy, row);
        statistics(x, w.part, j.eps, &mean, &r);
        OAS_UNROLL
        for (int k = 0; k < x.chunks(); k++) {
            x.get(k, v);
            dy.get(k, e);
            x.load(k, gain, j.gain, x.column(k));
            OAS_UNROLL
            for (int i = 0; i < OAS_CHUNK; i++) {
                e[i] *= j.plus + gain[i];
                sum += e[i];
                along += e[i] * (v[i] - mean) * r;
            }
        }
        sum = oas_group_sum(sum, x.lanes) * w.part;
        along = oas_group_sum(along, x.lanes) * w.part;
        if (x.there && x.lane == 0) {
            j.numbers[ROW_NUMBERS * row] = mean;
            j.numbers[ROW_NUMBERS * row + 1] = r;
        }
        OAS_UNROLL
        for (int k = 0; j.dx.data && k < x.chunks(); k++) {
            x.get(k, v);
            dy.get(k, e);
            x.load(k, gain, j.gain, x.column(k));
            OAS_UNROLL
            for (int i = 0; i < OAS_CHUNK; i++)
                v[i] = r * (e[i] * (j.plus + gain[i]) - sum - (v[i] - mean) * r * along);
            x.add(k, j.dx, v);
        }
    }
}

/* dy u for the gain, and dy for the shift. */
struct layer_values {
    enum { SUMS = 2 };
    cuda_array x, dy;
    const float *numbers;
    int64_t d;
    bool wide;

    __device__ void values(int64_t row, int64_t column, int n, float v[SUMS][OAS_CHUNK]) const
    {
        float mean = numbers[ROW_NUMBERS * row], r = numbers[ROW_NUMBERS * row + 1];
        oas_load8_both(v[0], x, v[1], dy, row * d + column, n, wide);
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            v[0][k] = v[1][k] * (v[0][k] - mean) * r;
    }
};

oasis_status oas_pass_layer_norm_backward(oas_cuda *c, float *dx, float *dgain, float *dshift, cuda_array x,
                                          const float *gain, const float *dy, float plus, float eps, int64_t rows,
                                          int64_t d, void *partial)
{
    if (rows < 1 || d < 1)
        return OASIS_OK;
    float *numbers = (float *)partial, *sums = numbers + ROW_NUMBERS * rows, *gradients[] = {dgain, dshift};
    bool wide = oas_is_wide(x, d) && oas_is_wide(dx, d) && oas_is_wide(gain, d) && oas_is_wide(dy, d);
    layer_job j = {OAS_NONE, x,  oas_float_array(gain), OAS_NONE, oas_float_array(dy), oas_float_array(dx), numbers,
                   plus,     eps};
    oas_row_walk w = oas_walk_of(rows, d, wide);
    OAS_LAUNCH_ROWS(c, layer_norm_backward_kernel, oas_blocks(c, rows * w.lanes), w, j);
    layer_values f = {x, oas_float_array(dy), numbers, d, wide};
    oas_sum_plan p = oas_plan_sums(rows, d);
    return dgain || dshift ? oas_sum_rows(c, f, &p, gradients, sums) : oas_launched();
}

/* ---- RMS norm and rotation ------------------------------------------------------------------------------------------- */

struct rope_job {
    cuda_array y, x, gain, rope, dy, dx;
    float *numbers;
    int64_t period, head;
    float eps;
    bool wide_rope;
};

/* A row's token: the table of angles repeats. */
__device__ static inline int64_t token_of(int64_t row, int64_t period)
{
    int64_t token;
    oas_divide(row, period, &token);
    return token;
}

/* The angles (cos, sin, cos, sin ...) of a token for the columns from `column` on. */
__device__ static inline void load_rope(const cuda_array &rope, int64_t token, int64_t head, int64_t column, int n,
                                        bool wide, float v[OAS_CHUNK])
{
    cuda_array of_token = rope;
    of_token.data = (float *)rope.data + token * head;
    oas_load8_repeated(v, of_token, (int64_t)((uint32_t)column % (uint32_t)head), head, n, wide);
}

/* The same for chunk k of a row. */
template <int K>
__device__ static void load_angles(const rope_job &j, const oas_lane_row<K> &x, int k, int64_t token,
                                   float v[OAS_CHUNK])
{
    if constexpr (K > 0)
        x.load(k, v, j.rope, token * j.head + (uint32_t)x.column(k) % (uint32_t)j.head);
    else
        load_rope(j.rope, token, j.head, x.column(k), x.count(k), j.wide_rope, v);
}

/* Turns pairs by the angles, or back. */
__device__ static inline void turn(float v[OAS_CHUNK], const float angle[OAS_CHUNK], float sign)
{
    OAS_UNROLL
    for (int i = 0; i < OAS_CHUNK; i += 2) {
        float a = v[i], b = v[i + 1], c = angle[i], s = sign * angle[i + 1];
        v[i] = a * c - b * s;
        v[i + 1] = a * s + b * c;
    }
}

template <int K> __device__ static float square_sum(const oas_lane_row<K> &x)
{
    float square = 0.f, v[OAS_CHUNK];
    OAS_UNROLL
    for (int k = 0; k < x.chunks(); k++) {
        x.get(k, v);
        OAS_UNROLL
        for (int i = 0; i < OAS_CHUNK; i++)
            square += v[i] * v[i];
    }
    return oas_group_sum(square, x.lanes);
}

template <int K> static __global__ void OAS_ROW_BOUNDS(K) rope_kernel(oas_row_walk w, rope_job j)
{
    oas_lane_row<K> next;
    next.start(w, j.x, oas_first_item() / w.lanes);
    OAS_FOR_ROWS(w, row)
    {
        oas_lane_row<K> x = next;
        float v[OAS_CHUNK], gain[OAS_CHUNK], angle[OAS_CHUNK];
        next.start(w, j.x, row + oas_item_step() / w.lanes);
        int64_t token = token_of(row, j.period);
        float r = rsqrtf(square_sum(x) * w.part + j.eps);
        OAS_UNROLL
        for (int k = 0; k < x.chunks(); k++) {
            x.get(k, v);
            x.load(k, gain, j.gain, x.column(k));
            load_angles(j, x, k, token, angle);
            OAS_UNROLL
            for (int i = 0; i < OAS_CHUNK; i++)
                v[i] *= r * gain[i];
            turn(v, angle, 1.f);
            x.store(k, j.y, v);
        }
    }
}

oasis_status oas_pass_rms_norm_rope(oas_cuda *c, cuda_array y, cuda_array x, const float *gain, const float *rope,
                                    int64_t period, int64_t head, float eps, int64_t rows, int64_t d)
{
    if (rows < 1 || d < 1)
        return OASIS_OK;
    rope_job j = {y,    x,   oas_float_array(gain),  oas_float_array(rope), OAS_NONE, OAS_NONE, NULL, period,
                  head, eps, oas_is_wide(rope, head)};
    bool wide = oas_is_wide(y, d) && oas_is_wide(x, d) && oas_is_wide(gain, d);
    oas_row_walk w = oas_walk_of(rows, d, wide && j.wide_rope);
    OAS_LAUNCH_ROWS(c, rope_kernel, oas_blocks(c, rows * w.lanes), w, j);
    return oas_launched();
}

/* With du = dy turned back:  dx += r du gain - x r^3 / d sum(du gain x). */
template <int K> static __global__ void rope_backward_kernel(oas_row_walk w, rope_job j)
{
    OAS_FOR_ROWS(w, row)
    {
        oas_lane_row<K> x, dy;
        float v[OAS_CHUNK], du[OAS_CHUNK], gain[OAS_CHUNK], angle[OAS_CHUNK], along = 0.f;
        x.start(w, j.x, row);
        dy.start(w, j.dy, row);
        int64_t token = token_of(row, j.period);
        float r = rsqrtf(square_sum(x) * w.part + j.eps);
        OAS_UNROLL
        for (int k = 0; k < x.chunks(); k++) {
            x.get(k, v);
            dy.get(k, du);
            x.load(k, gain, j.gain, x.column(k));
            load_angles(j, x, k, token, angle);
            turn(du, angle, -1.f);
            OAS_UNROLL
            for (int i = 0; i < OAS_CHUNK; i++)
                along += du[i] * gain[i] * v[i];
        }
        float back = oas_group_sum(along, x.lanes) * w.part * r * r * r;
        if (x.there && x.lane == 0)
            j.numbers[row] = r;
        OAS_UNROLL
        for (int k = 0; j.dx.data && k < x.chunks(); k++) {
            x.get(k, v);
            dy.get(k, du);
            x.load(k, gain, j.gain, x.column(k));
            load_angles(j, x, k, token, angle);
            turn(du, angle, -1.f);
            OAS_UNROLL
            for (int i = 0; i < OAS_CHUNK; i++)
                v[i] = r * du[i] * gain[i] - v[i] * back;
            x.add(k, j.dx, v);
        }
    }
}

/* du x r for the gain. */
struct rope_values {
    enum { SUMS = 1 };
    cuda_array x, dy, rope;
    const float *numbers;
    int64_t d, period, head;
    bool wide, wide_rope;

    __device__ void values(int64_t row, int64_t column, int n, float v[SUMS][OAS_CHUNK]) const
    {
        float r = numbers[row], angle[OAS_CHUNK], of_x[OAS_CHUNK];
        oas_load8_both(of_x, x, v[0], dy, row * d + column, n, wide);
        load_rope(rope, token_of(row, period), head, column, n, wide_rope, angle);
        turn(v[0], angle, -1.f);
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            v[0][k] *= of_x[k] * r;
    }
};

oasis_status oas_pass_rms_norm_rope_backward(oas_cuda *c, float *dx, float *dgain, cuda_array x, const float *gain,
                                             const float *rope, const float *dy, int64_t period, int64_t head,
                                             float eps, int64_t rows, int64_t d, void *partial)
{
    if (rows < 1 || d < 1)
        return OASIS_OK;
    float *numbers = (float *)partial, *sums = numbers + ROW_NUMBERS * rows;
    bool wide = oas_is_wide(x, d) && oas_is_wide(dx, d) && oas_is_wide(gain, d) && oas_is_wide(dy, d);
    rope_job j = {OAS_NONE,
                  x,
                  oas_float_array(gain),
                  oas_float_array(rope),
                  oas_float_array(dy),
                  oas_float_array(dx),
                  numbers,
                  period,
                  head,
                  eps,
                  oas_is_wide(rope, head)};
    oas_row_walk w = oas_walk_of(rows, d, wide && j.wide_rope);
    OAS_LAUNCH_ROWS(c, rope_backward_kernel, oas_blocks(c, rows * w.lanes), w, j);
    rope_values f = {x, oas_float_array(dy), oas_float_array(rope), numbers, d, period, head, wide, j.wide_rope};
    oas_sum_plan p = oas_plan_sums(rows, d);
    return dgain ? oas_sum_rows(c, f, &p, &dgain, sums) : oas_launched();
}

/* ---- norm of a pixel's channels -------------------------------------------------------------------------------------- */

struct channel_job {
    cuda_array y, x, gamma, dy, dx;
    float *numbers;
    int32_t act;
};

/* |x| counts at least this much (ops/channel_norm.c). */
#define LEAST_LENGTH 1e-12f

template <int K> static __global__ void channel_norm_kernel(oas_row_walk w, channel_job j)
{
    OAS_FOR_ROWS(w, row)
    {
        oas_lane_row<K> x;
        float v[OAS_CHUNK], gamma[OAS_CHUNK];
        x.start(w, j.x, row);
        float r = sqrtf((float)w.d) * rsqrtf(fmaxf(square_sum(x), LEAST_LENGTH * LEAST_LENGTH));
        OAS_UNROLL
        for (int k = 0; k < x.chunks(); k++) {
            x.get(k, v);
            x.load(k, gamma, j.gamma, x.column(k));
            OAS_UNROLL
            for (int i = 0; i < OAS_CHUNK; i++)
                v[i] = oas_cuda_act_in(j.y.dtype, j.act, v[i] * r * gamma[i]);
            x.store(k, j.y, v);
        }
    }
}

oasis_status oas_pass_channel_norm(oas_cuda *c, cuda_array y, cuda_array x, const float *gamma, int32_t act,
                                   int64_t rows, int64_t d)
{
    if (rows < 1 || d < 1)
        return OASIS_OK;
    channel_job j = {y, x, oas_float_array(gamma), OAS_NONE, OAS_NONE, NULL, act};
    oas_row_walk w = oas_walk_of(rows, d, oas_is_wide(y, d) && oas_is_wide(x, d) && oas_is_wide(gamma, d));
    OAS_LAUNCH_ROWS(c, channel_norm_kernel, oas_blocks(c, rows * w.lanes), w, j);
    return oas_launched();
}

/* With u = x r and dv = act'(u gamma) dy:  dx += r (dv gamma - u mean(dv gamma u)), without the mean at the least length. */
template <int K> static __global__ void channel_norm_backward_kernel(oas_row_walk w, channel_job j)
{
    OAS_FOR_ROWS(w, row)
    {
        oas_lane_row<K> x, dy;
        float v[OAS_CHUNK], e[OAS_CHUNK], gamma[OAS_CHUNK], mean = 0.f;
        x.start(w, j.x, row);
        dy.start(w, j.dy, row);
        float length = sqrtf(square_sum(x)), r = sqrtf((float)w.d) / fmaxf(length, LEAST_LENGTH);
        OAS_UNROLL
        for (int k = 0; k < x.chunks(); k++) {
            x.get(k, v);
            dy.get(k, e);
            x.load(k, gamma, j.gamma, x.column(k));
            OAS_UNROLL
            for (int i = 0; i < OAS_CHUNK; i++) {
                float u = v[i] * r;
                mean += e[i] * oas_cuda_slope(j.act, u * gamma[i]) * gamma[i] * u;
            }
        }
        mean = oas_group_sum(mean, x.lanes) * w.part;
        mean = length > LEAST_LENGTH ? mean : 0.f;
        if (x.there && x.lane == 0)
            j.numbers[row] = r;
        OAS_UNROLL
        for (int k = 0; j.dx.data && k < x.chunks(); k++) {
            x.get(k, v);
            dy.get(k, e);
            x.load(k, gamma, j.gamma, x.column(k));
            OAS_UNROLL
            for (int i = 0; i < OAS_CHUNK; i++) {
                float u = v[i] * r;
                v[i] = r * (e[i] * oas_cuda_slope(j.act, u * gamma[i]) * gamma[i] - u * mean);
            }
            x.add(k, j.dx, v);
        }
    }
}

/* dv u for gamma. */
struct channel_values {
    enum { SUMS = 1 };
    cuda_array x, dy, gamma;
    const float *numbers;
    int64_t d;
    int32_t act;
    bool wide;

    __device__ void values(int64_t row, int64_t column, int n, float v[SUMS][OAS_CHUNK]) const
    {
        float r = numbers[row], of_x[OAS_CHUNK], g[OAS_CHUNK];
        oas_load8_both(of_x, x, v[0], dy, row * d + column, n, wide);
        oas_load8(g, gamma, column, n, wide);
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            v[0][k] *= oas_cuda_slope(act, of_x[k] * r * g[k]) * of_x[k] * r;
    }
};

oasis_status oas_pass_channel_norm_backward(oas_cuda *c, float *dx, float *dgamma, cuda_array x, const float *gamma,
                                            const float *dy, int32_t act, int64_t rows, int64_t d, void *partial)
{
    if (rows < 1 || d < 1)
        return OASIS_OK;
    float *numbers = (float *)partial, *sums = numbers + ROW_NUMBERS * rows;
    bool wide = oas_is_wide(x, d) && oas_is_wide(dx, d) && oas_is_wide(gamma, d) && oas_is_wide(dy, d);
    channel_job j = {OAS_NONE, x, oas_float_array(gamma), oas_float_array(dy), oas_float_array(dx), numbers, act};
    oas_row_walk w = oas_walk_of(rows, d, wide);
    OAS_LAUNCH_ROWS(c, channel_norm_backward_kernel, oas_blocks(c, rows * w.lanes), w, j);
    channel_values f = {x, oas_float_array(dy), oas_float_array(gamma), numbers, d, act, wide};
    oas_sum_plan p = oas_plan_sums(rows, d);
    return dgamma ? oas_sum_rows(c, f, &p, &dgamma, sums) : oas_launched();
}
