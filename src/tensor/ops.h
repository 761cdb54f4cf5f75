/*
 * The operations that networks are made of.  Each builder checks its inputs, computes (or plans, or records) and returns
 * the output, or NULL when the graph has failed.  Types: "compute" means g->compute; residual streams are float.
 *
 * One file of ops/ holds a family: builder, shape, forward, backward, samples, descriptor.
 */
#ifndef OAS_TENSOR_OPS_H
#define OAS_TENSOR_OPS_H

#include "tensor/graph.h"

typedef enum oas_activation { OAS_LINEAR, OAS_GELU_TANH, OAS_SILU, OAS_RELU, OAS_ACTIVATIONS } oas_activation;

/* A grid of tokens: N = batch * frames * height * width, index ((b*frames + f)*height + y)*width + x. */
typedef struct token_grid {
    int64_t batch, frames, height, width;
} token_grid;

static inline int64_t oas_grid_tokens(const token_grid *t)
{
    return t->batch * t->frames * t->height * t->width;
}

/* ---- dense: ops/dense.c -------------------------------------------------------------------------------------------- */

typedef struct linear {
    tensor *weight; /* [out, in], any float type */
    tensor *bias;   /* [out] float, or NULL */
} linear;

/*
 * y = act(x w^T + b) + residual:  x [..., in] -> [..., out] of type `out`.
 *   residual  [..., out] of type `out`, or NULL; may be overwritten when the graph does not record
 */
tensor *oas_linear(graph *g, tensor *x, const linear *layer, oas_activation act, tensor *residual, oas_dtype out);

/* ---- convolution: ops/conv.c --------------------------------------------------------------------------------------- */

/* A convolution of 1x1 or 3x3 pixels and kt frames, stride 1, zeros beyond the picture, causal in time. */
typedef struct conv {
    tensor *weight; /* [out,in,kt,k,k], the oldest frame first, or [out,kt*in,k,k], the newest first; k = 1 or 3 */
    tensor *bias;   /* [out] float, or NULL */
} conv;

/*
 * y = act(conv(x) + b) + residual:  x [B,T,H,W,in] -> [B,T,H,W,out], compute type.
 *   history   [B,kt-1,H,W,in] the frames before x, or NULL = zeros; ignored when kt = 1
 *   residual  [B,T,H,W,out] added after the activation, or NULL; may be overwritten when the graph does not record
 */
tensor *oas_conv(graph *g, tensor *x, const conv *layer, tensor *history, oas_activation act, tensor *residual);

/* ---- norms: ops/norm.c --------------------------------------------------------------------------------------------- */

/*
 * Layer norm without weights, then a modulation:  y = LN(x) * (1 + m[scale]) + m[shift], statistics in float.
 *   x [N,d] float;  m [rows,d] float, rows `shift` and `scale`;  y [N,d] compute type
 */
tensor *oas_norm_modulate(graph *g, tensor *x, tensor *m, int shift, int scale, float eps);

/*
 * RMS norm over all channels of a token (all heads together), gain, then rotation of adjacent pairs in each head:
 *   u = x / sqrt(mean(x^2) + eps) * gain;  (a,b) -> (a cos - b sin, a sin + b cos)
 *   x [N,d] compute type;  gain [d] float;  rope [n, head_dim] float, (cos, sin) per pair, n tokens of one sample;
 *   token i uses row i mod n;  y [N,d] compute type
 */
tensor *oas_rms_norm_rope(graph *g, tensor *x, tensor *gain, tensor *rope, float eps);

/*
 * RMS norm over the channels of a pixel, then an activation:  y = act(x / max(|x|, 1e-12) * sqrt(C) * gamma)
 *   x [...,C];  gamma of C values, float;  y like x, in its storage with `in_place` when the graph does not record
 * ops/channel_norm.c
 */
tensor *oas_channel_norm(graph *g, tensor *x, tensor *gamma, oas_activation act, bool in_place);

/* ---- attention: ops/attention.c ------------------------------------------------------------------------------------ */

enum { OAS_MAX_HEADS = 64 };

typedef enum oas_head_kind { OAS_HEAD_GLOBAL = 'g', OAS_HEAD_INTRA = 'i', OAS_HEAD_WINDOW = 'w' } oas_head_kind;

/* Which keys each head of a layer sees. */
typedef struct route_layer {
    int heads;
    char kind[OAS_MAX_HEADS]; /* oas_head_kind */
    int window[3];            /* frames, rows, columns; odd */
} route_layer;

/* The definition: does a head of that kind let `query` see `key`?  Indices are token indices of one sample's grid.
 * Borders are truncated: keys outside the grid do not exist. */
bool oas_route_sees(oas_head_kind kind, const int window[3], const token_grid *grid, int64_t query, int64_t key);

/*
 * out_i = sum_j softmax_j(q_i . k_j / sqrt(hd)) v_j over the keys j that the head sees; heads in their original order.
 *   q, k, v [N, heads*hd] compute type;  out the same.  Samples of the batch do not see each other.
 */
tensor *oas_attention(graph *g, tensor *q, tensor *k, tensor *v, const token_grid *grid, const route_layer *route);

/*
 * Attention to keys given apart, the same for all queries of a group:
 *   out_i = sum_j softmax_j(q_i . k_j / sqrt(hd) + bias_j) v_j
 *   q [groups*N, heads*hd], k and v [groups*M, heads*hd] compute type;  bias [M] float (ln n: the key stands for n equal
 *   ones) or NULL;  out like q.  ops/attend.c
 */
tensor *oas_attend(graph *g, tensor *q, tensor *k, tensor *v, tensor *bias, int64_t groups, int heads);

/* ---- elementwise: ops/elementwise.c ------------------------------------------------------------------------------- */

/*
 * y = x + b * m[row] + constant  (m NULL: 1, constant NULL: 0).  x [N,d] float, works in place;  b [N,d] any type;  m
 * [rows,d] float;  constant: d floats.
 */
tensor *oas_add_gated(graph *g, tensor *x, tensor *b, tensor *m, int row, tensor *constant);

/* y = x + a*b, float.  Shapes equal. */
tensor *oas_axpy(graph *g, tensor *x, float a, tensor *b);

/* y = act(x), type of x, in place. */
tensor *oas_activate(graph *g, tensor *x, oas_activation act);

/* y = x in another type. */
tensor *oas_cast(graph *g, tensor *x, oas_dtype dtype);

/* ---- channels: ops/affine.c ------------------------------------------------------------------------------------------ */

/* Layer norm with weights:  y = LN(x) * gain + bias.  x [N,d] float;  gain, bias [d] float;  y [N,d] compute type. */
tensor *oas_norm_affine(graph *g, tensor *x, tensor *gain, tensor *bias, float eps);

/* y = x + b, b repeated until it is as long as x; float, in place. */
tensor *oas_add_repeated(graph *g, tensor *x, tensor *b);

/* y = (x + scale[0]) * scale[1], channel by channel; x [...,C] float, scale [2,C] takes no gradient.  ops/scale.c */
tensor *oas_scale_channels(graph *g, tensor *x, tensor *scale);

/* y = limit tanh(x / limit), type of x. */
tensor *oas_soft_clamp(graph *g, tensor *x, float limit);

/* ---- layout: ops/layout.c ------------------------------------------------------------------------------------------ */

typedef struct block_factor {
    int t, h, w; /* a block of t frames, h rows, w columns becomes channels */
} block_factor;

typedef enum oas_channel_order {
    OAS_CHANNEL_SLOW, /* channel ((c*t + i)*h + j)*w + k: PyTorch's pixel_(un)shuffle */
    OAS_CHANNEL_FAST  /* channel ((i*h + j)*w + k)*C + c */
} oas_channel_order;

/*
 * x [B,T,H,W,C] -> [B,F,H/h,W/w,C*t*h*w] of type `out`, with `front` copies of frame 0 put before the first:
 * F = (T+front)/t.  Fails when something does not divide.
 */
tensor *oas_space_to_depth(graph *g, tensor *x, block_factor f, oas_channel_order order, int front, oas_dtype out);

/*
 * The inverse: x [B,F,h,w,C*t*h*w] -> [B,F*t-drop,...,C], leaving out the first `drop` frames; `add` (or NULL), of the
 * output's shape, is added.
 */
tensor *oas_depth_to_space(graph *g, tensor *x, block_factor f, oas_channel_order order, int drop, tensor *add,
                           oas_dtype out);

/* Channels begin .. begin+count-1 of x [..., C], as `out`. */
tensor *oas_channels(graph *g, tensor *x, int64_t begin, int64_t count, oas_dtype out);

/* x [B,T,...] frames begin .. begin+count-1, a copy. */
tensor *oas_frames(graph *g, tensor *x, int64_t begin, int64_t count);

/* ---- losses: ops/loss.c -------------------------------------------------------------------------------------------- */

/*
 * Weight times a mean, [1] float, of y against its truth t, both float of one shape; t takes no gradient.
 * shift: a place (y, x), [2] float, whole numbers, read when the op runs; inside the picture; NULL = (0, 0).
 *   charbonnier  sqrt((y-t)^2 + eps^2)
 *   mse          (y-t)^2; t NULL: y^2
 *   motion       |(y' - y) - (t' - t)|, neighbouring frames; [B,T,H,W,C]; 0 for one frame
 *   spectrum     | |F y| - |F t| |, blocks of `block` (a power of two up to 32) pixels from `shift` on, whole ones only;
 *                shift them from step to step, or their grid becomes visible
 *   gradient     |neighbours' difference of y-t|, the mean over `levels` resolutions, each half of the one before
 */
tensor *oas_loss_charbonnier(graph *g, tensor *y, tensor *t, float eps, float weight);
tensor *oas_loss_mse(graph *g, tensor *y, tensor *t, float weight);
tensor *oas_loss_motion(graph *g, tensor *y, tensor *t, float weight);
tensor *oas_loss_spectrum(graph *g, tensor *y, tensor *t, int block, tensor *shift, float weight);
tensor *oas_loss_gradient(graph *g, tensor *y, tensor *t, int levels, float weight);

/* Every pixel of x [B,T,H,W,C] four times: [B,T,2H,2W,C], type of x.  ops/video.c */
tensor *oas_repeat_pixels(graph *g, tensor *x);

/*
 * The last `frames` frames side by side: x [B,T,H,W,C] -> [B,T,H,W,C*frames], the oldest first within a channel, so that
 * oas_linear with a weight [out,C,frames,1,1] is a causal convolution over time.
 *   history  [B,frames-1,H,W,C] the frames before x, or NULL = zeros
 */
tensor *oas_stack_frames(graph *g, tensor *x, tensor *history, int frames);

/* The frames of b [B,T2,H,W,C] after those of a [B,T1,H,W,C]; types equal. */
tensor *oas_join_frames(graph *g, tensor *a, tensor *b);

/* The channels of b [..., Cb] after those of a [..., Ca]; types equal. */
tensor *oas_join_channels(graph *g, tensor *a, tensor *b);

/* ---- adversarial training: ops/adversarial.c ----------------------------------------------------------------------- */

/*
 * Weight times the mean of f(sign (a - b)), [1] float; a, b of one shape, float, b NULL: 0.  It falls as sign (a - b)
 * grows.  Both take gradients.
 */
typedef enum oas_score_loss {
    OAS_SCORE_LINEAR,   /* f(t) = -t */
    OAS_SCORE_HINGE,    /* max(0, 1 - t) */
    OAS_SCORE_SOFTPLUS, /* ln(1 + e^-t) */
    OAS_SCORE_LOSSES
} oas_score_loss;
tensor *oas_loss_score(graph *g, tensor *a, tensor *b, oas_score_loss kind, float sign, float weight);

/*
 * A weight brought to largest singular value 1 (Miyato et al. 2018):  y = w / (u^T w v), w as [out, all else].
 *   w [out,...];  u [out], v [all else]: about its first singular vectors, which take no gradient;  all float
 */
tensor *oas_spectral_norm(graph *g, tensor *w, tensor *u, tensor *v);

/* ---- windows: ops/window.c ----------------------------------------------------------------------------------------- */

/*
 * height x width pixels of every frame of x [B,T,H,W,C], type of x, from `place` (y, x) on: [2] float, whole numbers, read
 * when the op runs; the rectangle must lie inside.
 */
tensor *oas_crop(graph *g, tensor *x, tensor *place, int height, int width);

/*
 * Windows of side x side pixels, `stride` apart, zeros `pad` wide around the picture: x [B,T,H,W,C] -> [B,T,h,w,C*side^2],
 * channel (c*side + row)*side + column, type of x.  oas_linear with a weight [out,C,side,side] after it is a convolution.
 */
tensor *oas_unfold(graph *g, tensor *x, int side, int stride, int pad);

/* The maximum of windows like that, without pad; ceil: the last ones may reach over the edge.  Type of x. */
tensor *oas_max_pool(graph *g, tensor *x, int side, int stride, bool ceil);

/* sqrt(h * x^2 + 1e-12) at every second pixel, h the 3x3 Hann window of sum 1, zeros around.  Type of x. */
tensor *oas_l2_pool(graph *g, tensor *x);

/* ---- distances of features: ops/perceptual.c ----------------------------------------------------------------------- */

/*
 * Weight times the mean over rows of  sum_c w_c (a_c/(|a|+1e-10) - b_c/(|b|+1e-10))^2,  [1] float.
 *   a, b [...,C] float;  channel_weights: C values, float, or NULL = ones;  only a takes a gradient
 */
tensor *oas_loss_features(graph *g, tensor *a, tensor *b, tensor *channel_weights, float weight);

/*
 * Weight times the mean over frames of  sum_c alpha_c (1 - l_c) + beta_c (1 - s_c),  [1] float: DISTS of one map of
 * features (Ding et al. 2020), l and s comparing means and structure over the pixels of a frame.
 *   a, b [B,T,H,W,C] float;  alpha_beta: C alphas, then C betas, float;  only a takes a gradient
 */
tensor *oas_loss_dists(graph *g, tensor *a, tensor *b, tensor *alpha_beta, float weight);

/* ---- the list ------------------------------------------------------------------------------------------------------ */

/* All ops, ended by NULL (ops/ops.def). */
extern const op *const oas_ops[];

#endif
