/* The functions of struct cuda_passes, by the file that has them; described in cuda/passes.h. */
#ifndef OAS_CUDA_PASSES_PARTS_CUH
#define OAS_CUDA_PASSES_PARTS_CUH

#include "cuda/passes.h"

/* passes_sums.cu */
size_t oas_pass_column_sum_bytes(oas_cuda *c, int64_t rows, int64_t columns);
oasis_status oas_pass_column_sum(oas_cuda *c, float *sum, cuda_array x, int64_t rows, int64_t columns, void *partial);
oasis_status oas_pass_column_product_sum(oas_cuda *c, float *sum, cuda_array x, cuda_array b, int64_t rows,
                                         int64_t columns, void *partial);

/* passes_norms.cu */
size_t oas_pass_norm_bytes(oas_cuda *c, int64_t rows, int64_t d);
oasis_status oas_pass_layer_norm(oas_cuda *c, cuda_array y, cuda_array x, const float *gain, const float *shift,
                                 float plus, float eps, int64_t rows, int64_t d);
oasis_status oas_pass_layer_norm_backward(oas_cuda *c, float *dx, float *dgain, float *dshift, cuda_array x,
                                          const float *gain, const float *dy, float plus, float eps, int64_t rows,
                                          int64_t d, void *partial);
oasis_status oas_pass_rms_norm_rope(oas_cuda *c, cuda_array y, cuda_array x, const float *gain, const float *rope,
                                    int64_t period, int64_t head, float eps, int64_t rows, int64_t d);
oasis_status oas_pass_rms_norm_rope_backward(oas_cuda *c, float *dx, float *dgain, cuda_array x, const float *gain,
                                             const float *rope, const float *dy, int64_t period, int64_t head,
                                             float eps, int64_t rows, int64_t d, void *partial);
oasis_status oas_pass_channel_norm(oas_cuda *c, cuda_array y, cuda_array x, const float *gamma, int32_t act,
                                   int64_t rows, int64_t d);
oasis_status oas_pass_channel_norm_backward(oas_cuda *c, float *dx, float *dgamma, cuda_array x, const float *gamma,
                                            const float *dy, int32_t act, int64_t rows, int64_t d, void *partial);

/* passes_spectral.cu */
size_t oas_pass_spectral_bytes(oas_cuda *c, int64_t rows, int64_t columns);
oasis_status oas_pass_spectral_norm(oas_cuda *c, float *y, const float *w, const float *u, const float *v, int64_t rows,
                                    int64_t columns, void *partial);
oasis_status oas_pass_spectral_norm_backward(oas_cuda *c, float *dw, const float *y, const float *w, const float *u,
                                             const float *v, const float *dy, int64_t rows, int64_t columns,
                                             void *partial);

/* passes_optimiser.cu */
oasis_status oas_pass_adamw(oas_cuda *c, float *x, float *m, float *v, float *average, const float *gradient, int64_t n,
                            const cuda_adamw *how);
oasis_status oas_pass_adamw_all(oas_cuda *c, float *x, float *m, float *v, float *average, uint16_t *rounded,
                                const float *gradient, const cuda_segment *segments, int64_t count, int64_t n,
                                const cuda_adamw *how);
size_t oas_pass_sum_squares_bytes(oas_cuda *c, int64_t n);
oasis_status oas_pass_sum_squares(oas_cuda *c, double *result, const float *x, int64_t n, void *partial);
oasis_status oas_pass_not_finite(oas_cuda *c, int32_t *count, const float *x, int64_t n);

/* passes_moves.cu */
oasis_status oas_pass_copy_rows(oas_cuda *c, float *to, int64_t to_stride, const float *from, int64_t from_stride,
                                int64_t run, int64_t rows);
oasis_status oas_pass_join_history(oas_cuda *c, cuda_array to, cuda_array x, cuda_array history, int64_t batch,
                                   int64_t frames, int64_t before, int64_t n);
oasis_status oas_pass_split_history(oas_cuda *c, float *dx, float *dhistory, cuda_array from, int64_t batch,
                                    int64_t frames, int64_t before, int64_t n);
oasis_status oas_pass_conv_weights(oas_cuda *c, cuda_array to, cuda_array w, int32_t stacked, int64_t out, int64_t in,
                                   int64_t kt, int64_t k);
oasis_status oas_pass_conv_weights_back(oas_cuda *c, float *dw, cuda_array from, int32_t stacked, int64_t out,
                                        int64_t in, int64_t kt, int64_t k);
oasis_status oas_pass_transpose(oas_cuda *c, cuda_array to, cuda_array from, int64_t rows, int64_t columns);
oasis_status oas_pass_resize(oas_cuda *c, cuda_array to, cuda_array from, int64_t frames, const cuda_resize *how);
oasis_status oas_pass_finish(oas_cuda *c, cuda_array out, cuda_array decoded, int64_t frames, int64_t height,
                             int64_t width, int64_t out_height, int64_t out_width);

/*
 * Rows of `run` values, those of `to` and `from` so many values apart: to = from (absent: zeros), or to += from.  Types may
 * differ.
 */
oasis_status oas_move_rows(oas_cuda *c, cuda_array to, int64_t to_stride, cuda_array from, int64_t from_stride,
                           int64_t run, int64_t rows, bool add);

#endif
