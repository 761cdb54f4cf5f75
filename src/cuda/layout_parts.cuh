/* What layout.cu has from other files. */
#ifndef OAS_CUDA_LAYOUT_PARTS_CUH
#define OAS_CUDA_LAYOUT_PARTS_CUH

#include "cuda/layout.h"

/* layout_windows.cu: functions of struct cuda_layout, described in cuda/layout.h */
oasis_status oas_layout_crop(oas_cuda *c, cuda_array y, cuda_array x, const int64_t size[4], const float *place,
                             const int64_t rectangle[2]);
oasis_status oas_layout_crop_backward(oas_cuda *c, float *dx, const float *dy, const int64_t size[4],
                                      const float *place, const int64_t rectangle[2]);
oasis_status oas_layout_unfold(oas_cuda *c, cuda_array y, cuda_array x, const cuda_windows *w);
oasis_status oas_layout_unfold_backward(oas_cuda *c, float *dx, const float *dy, const cuda_windows *w);
oasis_status oas_layout_max_pool(oas_cuda *c, cuda_array y, uint8_t *place, cuda_array x, const cuda_windows *w);
oasis_status oas_layout_max_pool_backward(oas_cuda *c, float *dx, const uint8_t *place, const float *dy,
                                          const cuda_windows *w);
oasis_status oas_layout_l2_pool(oas_cuda *c, cuda_array y, cuda_array x, const cuda_windows *w);
oasis_status oas_layout_l2_pool_backward(oas_cuda *c, float *dx, cuda_array y, cuda_array x, const float *dy,
                                         const cuda_windows *w);

/*
 * layout_tiles.cu: space_to_depth and depth_to_space of common blocks, at the speed of memory.  OASIS_E_UNSUPPORTED:
 * not of these blocks or arrays, and nothing was done.
 */
oasis_status oas_layout_tiles_to_depth(oas_cuda *c, cuda_array positions, cuda_array pixels, const cuda_blocks *b,
                                       bool add);
oasis_status oas_layout_tiles_to_space(oas_cuda *c, cuda_array pixels, cuda_array positions, cuda_array more,
                                       const cuda_blocks *b, bool add);

#endif
