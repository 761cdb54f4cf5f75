/*
 * Moving pixels, positions and channels on the GPU: what ops/layout.c and ops/video.c define.  Arrays may be of either type;
 * with `add` the result is added to what `to` has, which is how gradients come back.
 */
#ifndef OAS_CUDA_LAYOUT_H
#define OAS_CUDA_LAYOUT_H

#include "cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Pixels [B,T,H,W,C] and positions [B,(T+front)/t,H/h,W/w,C*t*h*w] whose channels are blocks of t x h x w pixels.  The first
 * `front` frames of the positions are copies of frame 0 of the pixels (`copies`), or belong to none.
 */
typedef struct cuda_blocks {
    int64_t batch, frames, height, width, channels; /* of the pixels */
    int32_t t, h, w, front;
    int32_t channel_fast; /* order of a block's channels: oas_channel_order */
    bool copies;
} cuda_blocks;

/*
 * Windows of side x side pixels, `stride` apart, over pictures [frames, height, width, channels] with zeros `pad` wide around:
 * down x across of them in a frame.
 */
typedef struct cuda_windows {
    int64_t frames, height, width, channels, down, across;
    int32_t side, stride, pad;
} cuda_windows;

struct cuda_layout {
    /* Positions from pixels; those of a frame that belongs to none become 0. */
    oasis_status (*space_to_depth)(oas_cuda *c, cuda_array positions, cuda_array pixels, const cuda_blocks *b,
                                   bool add);
    /* Pixels from positions, plus `more` (absent: 0) of the pixels' shape; frame 0 sums up its copies. */
    oasis_status (*depth_to_space)(oas_cuda *c, cuda_array pixels, cuda_array positions, cuda_array more,
                                   const cuda_blocks *b, bool add);
    /* Values begin .. begin+count-1 of every row of `width`, and the way back. */
    oasis_status (*channels)(oas_cuda *c, cuda_array to, cuda_array x, int64_t rows, int64_t width, int64_t begin,
                             int64_t count);
    oasis_status (*channels_backward)(oas_cuda *c, float *dx, const float *dy, int64_t rows, int64_t width,
                                      int64_t begin, int64_t count);
    /*
     * to [batch, to_frames, n] from frame to_begin on  (+)=  `count` frames of from [batch, from_frames, n] from from_begin
     * on.  `from` absent: zeros.
     */
    oasis_status (*frames)(oas_cuda *c, cuda_array to, int64_t to_frames, int64_t to_begin, cuda_array from,
                           int64_t from_frames, int64_t from_begin, int64_t count, int64_t batch, int64_t n, bool add);
    /* Every pixel of x [rows of pixels, width, channels] four times; and the sums of those four. */
    oasis_status (*repeat_pixels)(oas_cuda *c, cuda_array y, cuda_array x, int64_t rows, int64_t width,
                                  int64_t channels);
    oasis_status (*repeat_pixels_backward)(oas_cuda *c, float *dx, const float *dy, int64_t rows, int64_t width,
                                           int64_t channels);
    /*
     * y [batch, frames, n*kt] of x [batch, frames, n] and history [batch, kt-1, n] (absent: zeros): value i of the k-th of
     * the last kt frames, the oldest first, at i*kt + k.
     */
    oasis_status (*stack_frames)(oas_cuda *c, cuda_array y, cuda_array x, cuda_array history, int64_t batch,
                                 int64_t frames, int64_t n, int64_t kt);
    oasis_status (*stack_frames_backward)(oas_cuda *c, float *dx, float *dhistory, const float *dy, int64_t batch,
                                          int64_t frames, int64_t n, int64_t kt);
    /* x [frames, height, width, channels], of it the rectangle [out_height, out_width] from place (y, x) of the GPU on. */
    oasis_status (*crop)(oas_cuda *c, cuda_array y, cuda_array x, const int64_t size[4], const float *place,
                         const int64_t rectangle[2]);
    oasis_status (*crop_backward)(oas_cuda *c, float *dx, const float *dy, const int64_t size[4], const float *place,
                                  const int64_t rectangle[2]);
    /* y [frames, down, across, channels * side^2]: value (c*side + row)*side + column of a window. */
    oasis_status (*unfold)(oas_cuda *c, cuda_array y, cuda_array x, const cuda_windows *w);
    oasis_status (*unfold_backward)(oas_cuda *c, float *dx, const float *dy, const cuda_windows *w);
    /* Maxima; place (or NULL) keeps the pixel of the window that each was. */
    oasis_status (*max_pool)(oas_cuda *c, cuda_array y, uint8_t *place, cuda_array x, const cuda_windows *w);
    oasis_status (*max_pool_backward)(oas_cuda *c, float *dx, const uint8_t *place, const float *dy,
                                      const cuda_windows *w);
    /* sqrt(h x^2 + 1e-12), h the 3x3 Hann window of sum 1. */
    oasis_status (*l2_pool)(oas_cuda *c, cuda_array y, cuda_array x, const cuda_windows *w);
    oasis_status (*l2_pool_backward)(oas_cuda *c, float *dx, cuda_array y, cuda_array x, const float *dy,
                                     const cuda_windows *w);
};

extern const struct cuda_layout oas_cuda_layout;

#ifdef __cplusplus
}
#endif
#endif
