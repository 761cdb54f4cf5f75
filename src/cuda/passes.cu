/* The elementwise passes, and the table of all passes. */
#include "cuda/passes_parts.cuh"
#include "cuda/values.cuh"

/* ---- y = x + factor b gate + constant -------------------------------------------------------------------------------- */

/* Absent x and constant count 0; absent b, gate and scalar count 1. */
struct combine_job {
    cuda_array y, x, b, gate, constant;
    const float *scalar; /* on the GPU */
    float factor;
    int64_t n, b_period, gate_period; /* how long b is, and gate and constant: they repeat */
    bool wide, wide_b, wide_gate;
};

static __global__ void combine_kernel(combine_job j)
{
    float factor = j.scalar ? j.factor * *j.scalar : j.factor;
    for (int64_t i = oas_first_item() * OAS_CHUNK; i < j.n; i += oas_item_step() * OAS_CHUNK) {
        int n = oas_in_chunk(i, j.n);
        float y[OAS_CHUNK], b[OAS_CHUNK], gate[OAS_CHUNK];
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            y[k] = 0.f, b[k] = 1.f, gate[k] = factor;
        if (j.b.data && j.x.data && j.b_period == j.n) {
            oas_load8_both(y, j.x, b, j.b, i, n, j.wide && j.wide_b);
        } else {
            if (j.b.data)
                oas_load8_repeated(b, j.b, i, j.b_period, n, j.wide_b);
            if (j.x.data)
                oas_load8(y, j.x, i, n, j.wide);
        }
        if (j.gate.data) {
            oas_load8_repeated(gate, j.gate, i, j.gate_period, n, j.wide_gate);
            OAS_UNROLL
            for (int k = 0; k < OAS_CHUNK; k++)
                gate[k] *= factor;
        }
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            y[k] += b[k] * gate[k];
        if (j.constant.data) {
            oas_load8_repeated(gate, j.constant, i, j.gate_period, n, j.wide_gate);
            OAS_UNROLL
            for (int k = 0; k < OAS_CHUNK; k++)
                y[k] += gate[k];
        }
        oas_store8(j.y, i, y, n, j.wide);
    }
}

static oasis_status run_combine(oas_cuda *c, combine_job j)
{
    if (j.n < 1)
        return OASIS_OK;
    j.wide = oas_is_wide(j.y, 0) && oas_is_wide(j.x, 0);
    j.wide_b = oas_is_wide(j.b, j.b_period == j.n ? 0 : j.b_period);
    j.wide_gate = oas_is_wide(j.gate, j.gate_period) && oas_is_wide(j.constant, j.gate_period);
    OAS_LAUNCH(c, combine_kernel, oas_blocks(c, (j.n + OAS_CHUNK - 1) / OAS_CHUNK), OAS_BLOCK, 0, j);
    return oas_launched();
}

static combine_job simple_job(cuda_array y, cuda_array x, float factor, cuda_array b, int64_t n)
{
    combine_job j = {y, x, b, OAS_NONE, OAS_NONE, NULL, factor, n, n, n, false, false, false};
    return j;
}

static oasis_status add_gated(oas_cuda *c, cuda_array y, cuda_array x, cuda_array b, const float *gate,
                              const float *constant, int64_t rows, int64_t d)
{
    combine_job j = simple_job(y, x, 1.f, b, rows * d);
    j.gate = oas_float_array(gate);
    j.constant = oas_float_array(constant);
    j.gate_period = d;
    return run_combine(c, j);
}

static oasis_status add_times_gate(oas_cuda *c, float *to, cuda_array from, const float *gate, int64_t rows, int64_t d)
{
    return add_gated(c, oas_float_array(to), oas_float_array(to), from, gate, NULL, rows, d);
}

static oasis_status combine(oas_cuda *c, cuda_array y, cuda_array x, float a, cuda_array b, int64_t n)
{
    return run_combine(c, simple_job(y, x, a, b, n));
}

static oasis_status axpy(oas_cuda *c, float *y, const float *x, float a, const float *b, int64_t n)
{
    return run_combine(c, simple_job(oas_float_array(y), oas_float_array(x), a, oas_float_array(b), n));
}

static oasis_status add(oas_cuda *c, float *to, cuda_array from, int64_t n)
{
    return run_combine(c, simple_job(oas_float_array(to), oas_float_array(to), 1.f, from, n));
}

static oasis_status add_times(oas_cuda *c, float *to, float a, const float *factor, const float *from, int64_t n)
{
    combine_job j = simple_job(oas_float_array(to), oas_float_array(to), a, oas_float_array(from), n);
    j.scalar = factor;
    return run_combine(c, j);
}

static oasis_status add_repeated(oas_cuda *c, cuda_array y, cuda_array x, cuda_array b, int64_t period, int64_t n)
{
    combine_job j = simple_job(y, x, 1.f, b, n);
    j.b_period = period;
    return run_combine(c, j);
}

static oasis_status cast(oas_cuda *c, cuda_array to, cuda_array from, int64_t n)
{
    return run_combine(c, simple_job(to, OAS_NONE, 1.f, from, n));
}

static oasis_status fill(oas_cuda *c, float *x, float value, int64_t n)
{
    return run_combine(c, simple_job(oas_float_array(x), OAS_NONE, value, OAS_NONE, n));
}

/* ---- y = act(x + bias) + residual ------------------------------------------------------------------------------------ */

/* One of two ways: forward, y as above; backward, y = act'(x + bias) dy, or that added to y, and dr += dy. */
struct act_job {
    cuda_array y, x, bias, residual, dy, dr;
    int64_t n, columns;
    int32_t act;
    bool add, wide, wide_bias;
};

/* u + bias of a chunk. */
__device__ static inline void add_bias(const act_job &j, int64_t i, int n, float u[OAS_CHUNK])
{
    if (!j.bias.data)
        return;
    float bias[OAS_CHUNK];
    oas_load8_repeated(bias, j.bias, i, j.columns, n, j.wide_bias);
    OAS_UNROLL
    for (int k = 0; k < OAS_CHUNK; k++)
        u[k] += bias[k];
}

static __global__ void act_kernel(act_job j)
{
    for (int64_t i = oas_first_item() * OAS_CHUNK; i < j.n; i += oas_item_step() * OAS_CHUNK) {
        int n = oas_in_chunk(i, j.n);
        float u[OAS_CHUNK], residual[OAS_CHUNK] = {0.f};
        if (j.residual.data)
            oas_load8_both(u, j.x, residual, j.residual, i, n, j.wide);
        else
            oas_load8(u, j.x, i, n, j.wide);
        add_bias(j, i, n, u);
        OAS_UNROLL
        for (int k = 0; k < OAS_CHUNK; k++)
            u[k] = oas_cuda_act_in(j.y.dtype, j.act, u[k]) + residual[k];
        oas_store8(j.y, i, u, n, j.wide);
    }
}

static __global__ void slope_kernel(act_job j)
{
    for (int64_t i = oas_first_item() * OAS_CHUNK; i < j.n; i += oas_item_step() * OAS_CHUNK) {
        int n = oas_in_chunk(i, j.n);
        float u[OAS_CHUNK], dy[OAS_CHUNK];
        if (j.act == OAS_CUDA_LINEAR)
            oas_load8(dy, j.dy, i, n, j.wide);
        else
            oas_load8_both(u, j.x, dy, j.dy, i, n, j.wide);
        if (j.dr.data)
            oas_add8(j.dr, i, dy, n, j.wide);
        if (j.act != OAS_CUDA_LINEAR) {
            add_bias(j, i, n, u);
            OAS_UNROLL
            for (int k = 0; k < OAS_CHUNK; k++)
                dy[k] *= oas_cuda_slope(j.act, u[k]);
        }
        if (j.add)
            oas_add8(j.y, i, dy, n, j.wide);
        else
            oas_store8(j.y, i, dy, n, j.wide);
    }
}

static oasis_status run_act(oas_cuda *c, act_job j)
{
    if (j.n < 1)
        return OASIS_OK;
    j.wide = oas_is_wide(j.y, 0) && oas_is_wide(j.x, 0) && oas_is_wide(j.residual, 0) && oas_is_wide(j.dy, 0) &&
             oas_is_wide(j.dr, 0);
    j.wide_bias = oas_is_wide(j.bias, j.columns);
    unsigned blocks = oas_blocks(c, (j.n + OAS_CHUNK - 1) / OAS_CHUNK);
    if (j.dy.data)
        OAS_LAUNCH(c, slope_kernel, blocks, OAS_BLOCK, 0, j);
    else
        OAS_LAUNCH(c, act_kernel, blocks, OAS_BLOCK, 0, j);
    return oas_launched();
}

static oasis_status bias_act_residual(oas_cuda *c, cuda_array y, cuda_array x, const float *bias, cuda_array residual,
                                      int32_t act, int64_t rows, int64_t columns)
{
    act_job j = {y,     x,    oas_float_array(bias), residual, OAS_NONE, OAS_NONE, rows * columns, columns, act, false,
                 false, false};
    return run_act(c, j);
}

static oasis_status act_slope(oas_cuda *c, cuda_array e, cuda_array u, const float *bias, const float *dy, float *dr,
                              int32_t act, int64_t rows, int64_t columns)
{
    act_job j = {e,
                 u,
                 oas_float_array(bias),
                 OAS_NONE,
                 oas_float_array(dy),
                 oas_float_array(dr),
                 rows * columns,
                 columns,
                 act,
                 false,
                 false,
                 false};
    return run_act(c, j);
}

static oasis_status activate_backward(oas_cuda *c, float *dx, cuda_array x, const float *dy, int32_t act, int64_t n)
{
    act_job j = {
        oas_float_array(dx), x, OAS_NONE, OAS_NONE, oas_float_array(dy), OAS_NONE, n, n, act, true, false, false};
    return run_act(c, j);
}

/* ---- soft clamp, channels -------------------------------------------------------------------------------------------- */

/* y = limit tanh(x / limit), or with dy: y += dy (1 - (x / limit)^2), where x is forward's result. */
static __global__ void clamp_kernel(cuda_array y, cuda_array x, cuda_array dy, float limit, int64_t count, bool wide)
{
    for (int64_t i = oas_first_item() * OAS_CHUNK; i < count; i += oas_item_step() * OAS_CHUNK) {
        int n = oas_in_chunk(i, count);
        float v[OAS_CHUNK], slope[OAS_CHUNK];
        oas_load8(v, x, i, n, wide);
        if (dy.data) {
            oas_load8(slope, dy, i, n, wide);
            OAS_UNROLL
            for (int k = 0; k < OAS_CHUNK; k++)
                slope[k] *= 1.f - v[k] / limit * (v[k] / limit);
            oas_add8(y, i, slope, n, wide);
        } else {
            OAS_UNROLL
            for (int k = 0; k < OAS_CHUNK; k++)
                v[k] = limit * tanhf(v[k] / limit);
            oas_store8(y, i, v, n, wide);
        }
    }
}

static oasis_status run_clamp(oas_cuda *c, cuda_array y, cuda_array x, cuda_array dy, float limit, int64_t n)
{
    if (n < 1)
        return OASIS_OK;
    bool wide = oas_is_wide(y, 0) && oas_is_wide(x, 0) && oas_is_wide(dy, 0);
    OAS_LAUNCH(c, clamp_kernel, oas_blocks(c, (n + OAS_CHUNK - 1) / OAS_CHUNK), OAS_BLOCK, 0, y, x, dy, limit, n, wide);
    return oas_launched();
}

static oasis_status soft_clamp(oas_cuda *c, cuda_array y, cuda_array x, float limit, int64_t n)
{
    return run_clamp(c, y, x, OAS_NONE, limit, n);
}

static oasis_status soft_clamp_backward(oas_cuda *c, float *dx, cuda_array y, const float *dy, float limit, int64_t n)
{
    return run_clamp(c, oas_float_array(dx), y, oas_float_array(dy), limit, n);
}

static __global__ void scale_channels_kernel(float *y, const float *x, const float *add, const float *scale, int64_t n,
                                             int64_t channels)
{
    for (int64_t i = oas_first_item(); i < n; i += oas_item_step()) {
        int64_t k;
        oas_divide(i, channels, &k);
        y[i] = (x[i] + add[k]) * scale[k];
    }
}

static oasis_status scale_channels(oas_cuda *c, float *y, const float *x, const float *add, const float *scale,
                                   int64_t rows, int64_t channels)
{
    int64_t n = rows * channels;
    if (n < 1)
        return OASIS_OK;
    OAS_LAUNCH(c, scale_channels_kernel, oas_blocks(c, n), OAS_BLOCK, 0, y, x, add, scale, n, channels);
    return oas_launched();
}

const struct cuda_passes oas_cuda_passes = {
    add_gated,
    add_times_gate,
    combine,
    axpy,
    add,
    add_times,
    add_repeated,
    cast,
    fill,
    scale_channels,
    soft_clamp,
    soft_clamp_backward,
    bias_act_residual,
    act_slope,
    activate_backward,
    oas_pass_column_sum_bytes,
    oas_pass_column_sum,
    oas_pass_column_product_sum,
    oas_pass_norm_bytes,
    oas_pass_layer_norm,
    oas_pass_layer_norm_backward,
    oas_pass_rms_norm_rope,
    oas_pass_rms_norm_rope_backward,
    oas_pass_channel_norm,
    oas_pass_channel_norm_backward,
    oas_pass_spectral_bytes,
    oas_pass_spectral_norm,
    oas_pass_spectral_norm_backward,
    oas_pass_adamw,
    oas_pass_adamw_all,
    oas_pass_sum_squares_bytes,
    oas_pass_sum_squares,
    oas_pass_not_finite,
    oas_pass_copy_rows,
    oas_pass_join_history,
    oas_pass_split_history,
    oas_pass_conv_weights,
    oas_pass_conv_weights_back,
    oas_pass_transpose,
    oas_pass_resize,
    oas_pass_finish,
};
