/*
 * The passes between products on the GPU: norms, elementwise, sums over rows, the optimiser.  Each reads and writes memory
 * about once.
 *
 * Arrays are [rows, d] or [rows, columns] with the last index contiguous, or n values.  A cuda_array may be of either type,
 * floats are floats; all of it is memory of the GPU, aligned to the size of its values: nothing more, though what is aligned
 * to 16 bytes and has rows of a multiple of 8 values is several times as fast.  An absent array is NULL, or {NULL, 0}.  What
 * is written may be what is read by the same name of a position (y may be x), if the types are equal.  `dx` and its like are
 * gradients, added to; those that are NULL are not wanted.  `act` is an oas_activation.
 *
 * `partial` is scratch of as many bytes as the function's *_bytes says; that depends on the sizes alone.
 */
#ifndef OAS_CUDA_PASSES_H
#define OAS_CUDA_PASSES_H

#include "cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Numbers of the optimiser: as update_slab of train/weights.c. */
typedef struct cuda_adamw {
    float beta1, beta2, epsilon, rate, decay, factor, correct1, correct2, ema;
} cuda_adamw;

/* A stretch of the weights and what its rate and decay are multiplied by.  Both ends are multiples of 8. */
typedef struct cuda_segment {
    int64_t begin, count;
    float rate, decay;
} cuda_segment;

/* Enlarging pictures: as oas_resize_spec of image/resize.h, bicubic. */
typedef struct cuda_resize {
    int32_t in_width, in_height, out_width, out_height, padded_width, padded_height;
    double a;
    float scale, offset;
} cuda_resize;

struct cuda_passes {
    /* ---- elementwise ------------------------------------------------------------------------------------------------- */

    /* y = x + b * gate + constant (gate [d], or NULL = 1; constant [d], or NULL = 0). */
    oasis_status (*add_gated)(oas_cuda *c, cuda_array y, cuda_array x, cuda_array b, const float *gate,
                              const float *constant, int64_t rows, int64_t d);
    /* to += from * gate. */
    oasis_status (*add_times_gate)(oas_cuda *c, float *to, cuda_array from, const float *gate, int64_t rows, int64_t d);
    /* y = x + a * b. */
    oasis_status (*combine)(oas_cuda *c, cuda_array y, cuda_array x, float a, cuda_array b, int64_t n);
    oasis_status (*axpy)(oas_cuda *c, float *y, const float *x, float a, const float *b, int64_t n);
    /* to += from. */
    oasis_status (*add)(oas_cuda *c, float *to, cuda_array from, int64_t n);
    /* to += a * *factor * from; `factor` lies on the GPU. */
    oasis_status (*add_times)(oas_cuda *c, float *to, float a, const float *factor, const float *from, int64_t n);
    /* y = x + b, b repeated after `period` values. */
    oasis_status (*add_repeated)(oas_cuda *c, cuda_array y, cuda_array x, cuda_array b, int64_t period, int64_t n);
    /* Types convert, rounding to nearest even. */
    oasis_status (*cast)(oas_cuda *c, cuda_array to, cuda_array from, int64_t n);
    oasis_status (*fill)(oas_cuda *c, float *x, float value, int64_t n);
    /* y = (x + add[k]) * scale[k], k the channel. */
    oasis_status (*scale_channels)(oas_cuda *c, float *y, const float *x, const float *add, const float *scale,
                                   int64_t rows, int64_t channels);
    /* y = limit tanh(x / limit);  dx += dy (1 - (y/limit)^2). */
    oasis_status (*soft_clamp)(oas_cuda *c, cuda_array y, cuda_array x, float limit, int64_t n);
    oasis_status (*soft_clamp_backward)(oas_cuda *c, float *dx, cuda_array y, const float *dy, float limit, int64_t n);
    /* y = act(x + bias) + residual; bias [columns] or NULL, residual may be absent. */
    oasis_status (*bias_act_residual)(oas_cuda *c, cuda_array y, cuda_array x, const float *bias, cuda_array residual,
                                      int32_t act, int64_t rows, int64_t columns);
    /* e = act'(u + bias) * dy, and dr += dy; u may be absent when act is linear. */
    oasis_status (*act_slope)(oas_cuda *c, cuda_array e, cuda_array u, const float *bias, const float *dy, float *dr,
                              int32_t act, int64_t rows, int64_t columns);
    /* dx += act'(x) * dy. */
    oasis_status (*activate_backward)(oas_cuda *c, float *dx, cuda_array x, const float *dy, int32_t act, int64_t n);

    /* ---- sums over rows ---------------------------------------------------------------------------------------------- */

    /* sum[column] += the sum over rows of x, or of x times b. */
    size_t (*column_sum_bytes)(oas_cuda *c, int64_t rows, int64_t columns);
    oasis_status (*column_sum)(oas_cuda *c, float *sum, cuda_array x, int64_t rows, int64_t columns, void *partial);
    oasis_status (*column_product_sum)(oas_cuda *c, float *sum, cuda_array x, cuda_array b, int64_t rows,
                                       int64_t columns, void *partial);

    /* ---- norms ------------------------------------------------------------------------------------------------------- */

    /* Scratch of each *_backward here. */
    size_t (*norm_bytes)(oas_cuda *c, int64_t rows, int64_t d);

    /* y = (x - mean) / sqrt(variance + eps) * (plus + gain) + shift; gain, shift [d]. */
    oasis_status (*layer_norm)(oas_cuda *c, cuda_array y, cuda_array x, const float *gain, const float *shift,
                               float plus, float eps, int64_t rows, int64_t d);
    oasis_status (*layer_norm_backward)(oas_cuda *c, float *dx, float *dgain, float *dshift, cuda_array x,
                                        const float *gain, const float *dy, float plus, float eps, int64_t rows,
                                        int64_t d, void *partial);

    /*
     * u = x / sqrt(mean(x^2) + eps) * gain, then the pairs of every `head` values turned by the angles of row % period:
     * rope [period, head] has (cos, sin) per pair.  head is even and divides d.
     */
    oasis_status (*rms_norm_rope)(oas_cuda *c, cuda_array y, cuda_array x, const float *gain, const float *rope,
                                  int64_t period, int64_t head, float eps, int64_t rows, int64_t d);
    oasis_status (*rms_norm_rope_backward)(oas_cuda *c, float *dx, float *dgain, cuda_array x, const float *gain,
                                           const float *rope, const float *dy, int64_t period, int64_t head, float eps,
                                           int64_t rows, int64_t d, void *partial);

    /* y = act(x sqrt(d) / max(|x|, 1e-12) * gamma). */
    oasis_status (*channel_norm)(oas_cuda *c, cuda_array y, cuda_array x, const float *gamma, int32_t act, int64_t rows,
                                 int64_t d);
    oasis_status (*channel_norm_backward)(oas_cuda *c, float *dx, float *dgamma, cuda_array x, const float *gamma,
                                          const float *dy, int32_t act, int64_t rows, int64_t d, void *partial);

    /* Of a weight w [rows, columns]:  y = w / (u^T w v);  dw += (dy - <dy, y> u v^T) / (u^T w v). */
    size_t (*spectral_bytes)(oas_cuda *c, int64_t rows, int64_t columns);
    oasis_status (*spectral_norm)(oas_cuda *c, float *y, const float *w, const float *u, const float *v, int64_t rows,
                                  int64_t columns, void *partial);
    oasis_status (*spectral_norm_backward)(oas_cuda *c, float *dw, const float *y, const float *w, const float *u,
                                           const float *v, const float *dy, int64_t rows, int64_t columns,
                                           void *partial);

    /* ---- the optimiser ----------------------------------------------------------------------------------------------- */

    /* One stretch: `decay` is rate * decay * the segment's, `rate` includes the segment's. */
    oasis_status (*adamw)(oas_cuda *c, float *x, float *m, float *v, float *average, const float *gradient, int64_t n,
                          const cuda_adamw *how);
    /*
     * All stretches at once; `segments` (of the GPU, ascending, not overlapping) multiply rate and decay: decay is
     * rate * segment.rate * how->decay * segment.decay.  What lies between them stays.  rounded: a bf16 copy of x, or NULL.
     */
    oasis_status (*adamw_all)(oas_cuda *c, float *x, float *m, float *v, float *average, uint16_t *rounded,
                              const float *gradient, const cuda_segment *segments, int64_t count, int64_t n,
                              const cuda_adamw *how);
    /* *result = the sum of squares, in double. */
    size_t (*sum_squares_bytes)(oas_cuda *c, int64_t n);
    oasis_status (*sum_squares)(oas_cuda *c, double *result, const float *x, int64_t n, void *partial);
    /* *count becomes 1 when a value is infinite or not a number, else it stays. */
    oasis_status (*not_finite)(oas_cuda *c, int32_t *count, const float *x, int64_t n);

    /* ---- weights and frames of convolution --------------------------------------------------------------------------- */

    /* to[r*to_stride + i] = from[r*from_stride + i] for i < run, r < rows. */
    oasis_status (*copy_rows)(oas_cuda *c, float *to, int64_t to_stride, const float *from, int64_t from_stride,
                              int64_t run, int64_t rows);
    /* x [batch, frames, n] with `before` frames of history [batch, before, n] (absent: zeros) put before it. */
    oasis_status (*join_history)(oas_cuda *c, cuda_array to, cuda_array x, cuda_array history, int64_t batch,
                                 int64_t frames, int64_t before, int64_t n);
    oasis_status (*split_history)(oas_cuda *c, float *dx, float *dhistory, cuda_array from, int64_t batch,
                                  int64_t frames, int64_t before, int64_t n);
    /*
     * Weights in cuDNN's order [out, kt, k, k, in], the oldest frame first, from ours: stacked [out, kt*in, k, k], the newest
     * frame first, or [out, in, kt, k, k], the oldest first; and the way back, added to a gradient.
     */
    oasis_status (*conv_weights)(oas_cuda *c, cuda_array to, cuda_array w, int32_t stacked, int64_t out, int64_t in,
                                 int64_t kt, int64_t k);
    oasis_status (*conv_weights_back)(oas_cuda *c, float *dw, cuda_array from, int32_t stacked, int64_t out, int64_t in,
                                      int64_t kt, int64_t k);
    /* to [columns, rows] = from [rows, columns], transposed. */
    oasis_status (*transpose)(oas_cuda *c, cuda_array to, cuda_array from, int64_t rows, int64_t columns);

    /* ---- frames ------------------------------------------------------------------------------------------------------ */

    /* to [frames, padded_height, padded_width, 3] = scale * bicubic(from [frames, in_height, in_width, 3]) + offset. */
    oasis_status (*resize)(oas_cuda *c, cuda_array to, cuda_array from, int64_t frames, const cuda_resize *how);
    /* out [frames, out_height, out_width, 3] = (decoded [frames, height, width, 3] + 1) / 2, its upper left part. */
    oasis_status (*finish)(oas_cuda *c, cuda_array out, cuda_array decoded, int64_t frames, int64_t height,
                           int64_t width, int64_t out_height, int64_t out_width);
};

extern const struct cuda_passes oas_cuda_passes;

#ifdef __cplusplus
}
#endif
#endif
