/*
 * Convolution by cuDNN, channels last.  One frame seen (kt = 1): pictures; more: volumes.  How a convolution is best
 * computed is asked once per shape, and kept; only ways whose sums have a fixed order are taken.
 */
#include "cuda/conv.h"

#include "cuda/dnn.h"

enum { WORKSPACE = 512 << 20, MOST_WAYS = 10 };

typedef enum direction { FORWARD, TO_INPUT, TO_WEIGHT } direction;

typedef struct plan {
    cuda_plan base;
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv;
    int algorithm;
} plan;

/* What a plan depends on; in a key, in this order. */
enum { BATCH, FRAMES, HEIGHT, WIDTH, IN, OUT, KT, K, TYPE, DIRECTION };

static void clear_plan(void *q)
{
    plan *p = q;
    if (p->x)
        cudnnDestroyTensorDescriptor(p->x);
    if (p->y)
        cudnnDestroyTensorDescriptor(p->y);
    if (p->w)
        cudnnDestroyFilterDescriptor(p->w);
    if (p->conv)
        cudnnDestroyConvolutionDescriptor(p->conv);
}

static bool make_plan(void *library, void *q);

static dnn_state *state_of(oas_cuda *c)
{
    return oas_dnn_state(c, &c->conv, WORKSPACE,
                         (cuda_plans){.bytes = sizeof(plan), .make = make_plan, .clear = clear_plan});
}

void oas_cuda_conv_free(oas_cuda *c)
{
    oas_dnn_free(c, &c->conv);
}

/* Sizes in the library's order (N, C, [D,] H, W) of an array that lies as [batch, frames, height, width, channels]. */
static bool describe_frames(cudnnTensorDescriptor_t *d, cudnnDataType_t type, const cuda_convolution *s, int64_t frames,
                            int64_t channels)
{
    int c = (int)channels, h = (int)s->height, w = (int)s->width, f = (int)frames, b = (int)s->batch;
    if (cudnnCreateTensorDescriptor(d) != CUDNN_STATUS_SUCCESS)
        return false;
    if (s->kt == 1) {
        const int size[4] = {b * f, c, h, w}, stride[4] = {h * w * c, 1, w * c, c};
        return cudnnSetTensorNdDescriptor(*d, type, 4, size, stride) == CUDNN_STATUS_SUCCESS;
    }
    const int size[5] = {b, c, f, h, w}, stride[5] = {f * h * w * c, 1, h * w * c, w * c, c};
    return cudnnSetTensorNdDescriptor(*d, type, 5, size, stride) == CUDNN_STATUS_SUCCESS;
}

static bool describe_weight(cudnnFilterDescriptor_t *d, cudnnDataType_t type, const cuda_convolution *s)
{
    const int flat[4] = {(int)s->out, (int)s->in, s->k, s->k}, deep[5] = {(int)s->out, (int)s->in, s->kt, s->k, s->k};
    return cudnnCreateFilterDescriptor(d) == CUDNN_STATUS_SUCCESS &&
           cudnnSetFilterNdDescriptor(*d, type, CUDNN_TENSOR_NHWC, s->kt == 1 ? 4 : 5, s->kt == 1 ? flat : deep) ==
               CUDNN_STATUS_SUCCESS;
}

static bool describe(plan *p)
{
    const int64_t *key = p->base.key.number;
    const cuda_convolution size = {.batch = key[BATCH],
                                   .frames = key[FRAMES],
                                   .height = key[HEIGHT],
                                   .width = key[WIDTH],
                                   .in = key[IN],
                                   .out = key[OUT],
                                   .kt = (int32_t)key[KT],
                                   .k = (int32_t)key[K],
                                   .type = (int32_t)key[TYPE]},
                           *s = &size;
    cudnnDataType_t type = s->type == 0 ? CUDNN_DATA_FLOAT : CUDNN_DATA_BFLOAT16;
    const int border = s->k / 2, flat_pad[2] = {border, border}, deep_pad[3] = {0, border, border}, ones[3] = {1, 1, 1};
    int n = s->kt == 1 ? 2 : 3;
    return describe_frames(&p->x, type, s, s->frames + s->kt - 1, s->in) &&
           describe_frames(&p->y, type, s, s->frames, s->out) && describe_weight(&p->w, type, s) &&
           cudnnCreateConvolutionDescriptor(&p->conv) == CUDNN_STATUS_SUCCESS &&
           cudnnSetConvolutionNdDescriptor(p->conv, n, n == 2 ? flat_pad : deep_pad, ones, ones,
                                           CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT) == CUDNN_STATUS_SUCCESS &&
           cudnnSetConvolutionMathType(p->conv, s->type == 0 ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH) ==
               CUDNN_STATUS_SUCCESS;
}

/* The first way that succeeds, fits the workspace and gives the same bits each time.  The three results of the library
 * differ in the type of `algo` alone. */
#define FIRST_WAY(ways, n, chosen)                                                                                     \
    for (int i = 0; i < (n) && (chosen) < 0; i++)                                                                      \
        if ((ways)[i].status == CUDNN_STATUS_SUCCESS && (ways)[i].memory <= WORKSPACE &&                               \
            (ways)[i].determinism == CUDNN_DETERMINISTIC)                                                              \
            (chosen) = (int)(ways)[i].algo;

static bool choose(const dnn_state *s, plan *p)
{
    int n = 0;
    const direction way = (direction)p->base.key.number[DIRECTION];
    p->algorithm = -1;
    if (way == FORWARD) {
        cudnnConvolutionFwdAlgoPerf_t ways[MOST_WAYS];
        if (cudnnGetConvolutionForwardAlgorithm_v7(s->library, p->x, p->w, p->conv, p->y, MOST_WAYS, &n, ways) ==
            CUDNN_STATUS_SUCCESS)
            FIRST_WAY(ways, n, p->algorithm)
    } else if (way == TO_INPUT) {
        cudnnConvolutionBwdDataAlgoPerf_t ways[MOST_WAYS];
        if (cudnnGetConvolutionBackwardDataAlgorithm_v7(s->library, p->w, p->y, p->conv, p->x, MOST_WAYS, &n, ways) ==
            CUDNN_STATUS_SUCCESS)
            FIRST_WAY(ways, n, p->algorithm)
    } else {
        cudnnConvolutionBwdFilterAlgoPerf_t ways[MOST_WAYS];
        if (cudnnGetConvolutionBackwardFilterAlgorithm_v7(s->library, p->x, p->y, p->conv, p->w, MOST_WAYS, &n, ways) ==
            CUDNN_STATUS_SUCCESS)
            FIRST_WAY(ways, n, p->algorithm)
    }
    return p->algorithm >= 0;
}

static bool make_plan(void *library, void *q)
{
    return describe(q) && choose(library, q);
}

static plan *find_plan(oas_cuda *c, const cuda_convolution *s, direction way)
{
    const cuda_plan_key key = {{[BATCH] = s->batch,
                                [FRAMES] = s->frames,
                                [HEIGHT] = s->height,
                                [WIDTH] = s->width,
                                [IN] = s->in,
                                [OUT] = s->out,
                                [KT] = s->kt,
                                [K] = s->k,
                                [TYPE] = s->type,
                                [DIRECTION] = way}};
    dnn_state *state = state_of(c);
    return state ? oas_cuda_plan(&state->plans, &key, state) : NULL;
}

static const float one = 1, zero = 0;

static oasis_status forward(oas_cuda *c, const cuda_convolution *s, void *y, const void *x, const void *w)
{
    plan *p = find_plan(c, s, FORWARD);
    if (!p)
        return OASIS_E_DEVICE;
    const dnn_state *t = c->conv;
    return cudnnConvolutionForward(t->library, &one, p->x, x, p->w, w, p->conv, (cudnnConvolutionFwdAlgo_t)p->algorithm,
                                   t->workspace, WORKSPACE, &zero, p->y, y) == CUDNN_STATUS_SUCCESS
               ? OASIS_OK
               : OASIS_E_DEVICE;
}

static oasis_status to_input(oas_cuda *c, const cuda_convolution *s, void *dx, const void *dy, const void *w)
{
    plan *p = find_plan(c, s, TO_INPUT);
    if (!p)
        return OASIS_E_DEVICE;
    const dnn_state *t = c->conv;
    return cudnnConvolutionBackwardData(t->library, &one, p->w, w, p->y, dy, p->conv,
                                        (cudnnConvolutionBwdDataAlgo_t)p->algorithm, t->workspace, WORKSPACE, &zero,
                                        p->x, dx) == CUDNN_STATUS_SUCCESS
               ? OASIS_OK
               : OASIS_E_DEVICE;
}

static oasis_status to_weight(oas_cuda *c, const cuda_convolution *s, void *dw, const void *dy, const void *x)
{
    plan *p = find_plan(c, s, TO_WEIGHT);
    if (!p)
        return OASIS_E_DEVICE;
    const dnn_state *t = c->conv;
    return cudnnConvolutionBackwardFilter(t->library, &one, p->x, x, p->y, dy, p->conv,
                                          (cudnnConvolutionBwdFilterAlgo_t)p->algorithm, t->workspace, WORKSPACE, &zero,
                                          p->w, dw) == CUDNN_STATUS_SUCCESS
               ? OASIS_OK
               : OASIS_E_DEVICE;
}

const struct cuda_conv oas_cuda_conv = {.forward = forward, .to_input = to_input, .to_weight = to_weight};
